from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Generator, Tensor

from aa_core import selfplay
from aa_core.actor_critic import ActorCritic, Network, Seen, Spaces
from aa_core.advantages import aligned_advantages, naive_advantages, summed_advantages
from aa_core.games.base import Game
from aa_core.games.coin import CoinGame
from aa_core.games.negotiation import NegotiationGame
from aa_core.selfplay import Buffer, SelfPlay, Trajectory, learn, play, seating, train

GAMES = {"coin": CoinGame(horizon=5), "negotiation": NegotiationGame(horizon=5)}
TINY = SelfPlay(Network(8), updates=3, games=16)
SNAPSHOTS = Buffer(share=0.5, drawn=2, every=1)
ALIGNED = partial(aligned_advantages, beta=2.0, gamma=0.9)
every_game = pytest.mark.parametrize("name", GAMES)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def mind_of(game: Game, seed: int = 0, settings: SelfPlay = TINY) -> ActorCritic:
    return ActorCritic(Spaces.of(game), settings.network, seeded(seed))


def minds_of(game: Game, settings: SelfPlay) -> list[ActorCritic]:
    return [mind_of(game, seed, settings) for seed in range(1 + (settings.buffer.drawn if settings.buffer else 0))]


def always(action: int) -> object:
    return lambda game, observations, generator: torch.full((len(observations),), action)


def plain_sgd(mind: ActorCritic) -> torch.optim.SGD:
    return torch.optim.SGD([{"params": part} for part in mind.parts()], lr=1.0)


# --- play


@every_game
def test_a_seat_is_played_by_the_mind_that_holds_it(name: str) -> None:
    # whose mind, seat by seat: the log-probabilities in the record are those that this mind, and no other, gives
    game = GAMES[name]
    minds = [mind_of(game, seed) for seed in range(3)]
    who = torch.tensor([[0, 0], [0, 1], [2, 0], [1, 2], [0, 0]])
    played = play(game, minds, who, seeded())
    assert played.rewards.shape == played.log_probs.shape == (5, 2, 5)
    actions = played.seen.actions[1:]
    for place in range(5):
        for seat in range(2):
            looks = Seen(*(x[:-1, place, seat][:, None] for x in played.seen))
            for index, mind in enumerate(minds):
                log_probs = mind.spaces.log_probs(mind(looks)[0][:, 0], actions[:, place, seat])
                same = torch.allclose(log_probs, played.log_probs[place, seat], rtol=1e-4, atol=1e-5)
                assert same == (index == who[place, seat])


def test_actions_are_drawn_from_the_policy_of_the_seat() -> None:
    minds = [mind_of(GAMES["coin"]) for _ in range(2)]
    with torch.no_grad():
        minds[0].policy.bias[1] += 50
        minds[1].policy.bias[2] += 50
    who = torch.tensor([[0, 1], [1, 0], [1, 1]])
    actions = play(GAMES["coin"], minds, who, seeded()).seen.actions[1:]
    assert (actions == 1 + who).all()


def test_scripts_hold_seats_as_networks_do() -> None:
    game, seats = GAMES["coin"], []

    def watched(game: Game, observations: Tensor, generator: Generator) -> Tensor:
        seats.append(observations.shape)
        return torch.full((len(observations),), 3)

    who = torch.tensor([[1, 0], [2, 1], [0, 2], [0, 0]])
    played = play(game, [mind_of(game), watched, always(2)], who, seeded())
    actions = played.seen.actions[1:].permute(1, 2, 0)
    assert (actions[who == 1] == 3).all()
    assert (actions[who == 2] == 2).all()
    assert actions[who == 0].unique().numel() > 1
    assert seats == [(2, *game.obs_shape)] * game.horizon
    assert not played.log_probs[who > 0].any()
    assert (played.log_probs[who == 0] < 0).all()
    only_scripts = play(game, [always(0), always(1)], torch.tensor([[0, 1]]), seeded())
    assert only_scripts.seen.actions[1:, 0].tolist() == [[0, 1]] * game.horizon


@every_game
def test_a_record_is_what_the_game_says(name: str) -> None:
    game, steps = GAMES[name], []
    played = play(game, [mind_of(game)], torch.zeros(6, 2).long(), seeded(4), lambda *step: steps.append(step))
    _, observations = game.reset(6, seeded(4))
    assert played.seen.observations[0].equal(observations)
    assert not played.seen.actions[0].any()
    assert not played.seen.rewards[0].any()
    for t, (before, actions, rewards, after) in enumerate(steps):
        assert before.time == t
        assert after.time == t + 1
        assert actions.equal(Spaces.of(game).to_game(played.seen.actions[t + 1]))
        assert played.seen.observations[t + 1].equal(game.observe(after))
        assert played.rewards[..., t].equal(rewards)
        assert played.seen.rewards[t + 1].equal(rewards)
    assert len(steps) == game.horizon
    assert played.active is None


def test_play_repeats_itself_and_leaves_the_global_generator() -> None:
    game, who, before = GAMES["coin"], torch.tensor([[0, 1]] * 4), torch.get_rng_state()
    minds = [mind_of(game), mind_of(game, 1)]
    first, again, other = (play(game, minds, who, seeded(seed)) for seed in (1, 1, 2))
    assert torch.get_rng_state().equal(before)
    assert all(x.equal(y) for x, y in zip(first.seen, again.seen, strict=True))
    assert not first.seen.actions.equal(other.seen.actions)


def test_bad_seats_are_named() -> None:
    with pytest.raises(ValueError, match=r"who must be in \[0, 0\], got .*1"):
        play(GAMES["coin"], [mind_of(GAMES["coin"])], torch.tensor([[0, 1]]), seeded())


# --- who is seated where in training


def test_snapshots_and_scripts_take_the_last_seats() -> None:
    game = CoinGame()
    assert not seating(game, TINY).any()
    who = seating(game, replace(TINY, games=8, buffer=SNAPSHOTS))
    assert who.tolist() == [[0, 0]] * 4 + [[0, 1]] * 2 + [[0, 2]] * 2
    assert seating(game, replace(TINY, games=2, scripts=(always(0),))).tolist() == [[0, 1]] * 2
    half = replace(TINY, games=4, scripts=(always(0),), script_share=0.5)
    assert seating(game, half).tolist() == [[0, 1]] * 2 + [[0, 0]] * 2
    three = replace(game)
    object.__setattr__(three, "num_players", 4)
    who = seating(three, replace(TINY, games=3, buffer=Buffer(share=0.7, seats=2, drawn=1), scripts=(always(0),)))
    assert who.tolist() == [[0, 0, 0, 2]] + [[0, 1, 1, 2]] * 2


def test_somebody_must_learn_and_snapshots_must_play() -> None:
    message = "buffer and scripts must be such that the learner has a seat of 2, got"
    with pytest.raises(ValueError, match=message):
        seating(CoinGame(), replace(TINY, buffer=SNAPSHOTS, scripts=(always(0),)))
    with pytest.raises(ValueError, match=r"share must be enough for a game of 16 for each of 8 snapshots, got 0.1"):
        seating(CoinGame(), replace(TINY, buffer=Buffer(share=0.1)))


# --- learning, against the losses as they are written in the papers


def loops(
    played: Trajectory, who: Tensor, minds: Sequence[ActorCritic], settings: SelfPlay, beta: float
) -> tuple[Tensor, Tensor]:
    """Credits by aligned advantages and discounted returns, `(games, players, T)`, one number at a time."""
    games, players, time = played.rewards.shape
    advantages, returns = torch.zeros(games, players, time), torch.zeros(games, players, time)
    for g in range(games):
        for p in range(players):
            critic = minds[who[g, p]]
            value = [*critic(Seen(*(x[:-1, g, p][:, None] for x in played.seen)))[1][:, 0].tolist(), 0.0]
            trace = running = 0.0
            for t in reversed(range(time)):
                reward = played.rewards[g, p, t].item()
                trace = reward + settings.gamma * value[t + 1] - value[t] + settings.gamma * settings.lam * trace
                running = reward + settings.gamma * running
                advantages[g, p, t], returns[g, p, t] = trace, running
    if settings.normalise:
        flat = advantages.flatten()
        deviation = (flat.square().mean() - flat.mean() ** 2).sqrt()
        advantages = (advantages - flat.mean()) / deviation
    credit = torch.zeros_like(advantages)
    for p in range(players):
        other = advantages.sum(1) - advantages[:, p]
        for t in range(time):
            past = sum(0.9 ** (t - k) * advantages[:, p, k] for k in range(t))
            credit[:, p, t] = advantages[:, p, t] + beta * 0.9 * past * other[:, t]
    return credit, returns


def gradients(game: Game, settings: SelfPlay, beta: float = 2.0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What `learn` changes with a learning rate of 1, and minus the gradients of the losses as written."""
    minds, who = minds_of(game, settings), seating(game, settings)
    played = play(game, minds, who, seeded(9))
    learner, expected = deepcopy(minds[0]), deepcopy(minds[0])
    credit = partial(aligned_advantages, beta=beta, gamma=0.9)
    learn([learner, *minds[1:]], who, played, plain_sgd(learner), settings, credit)

    with torch.no_grad():
        credits, returns = loops(played, who, minds, settings, beta)
    looks = Seen(*(x[:-1].flatten(1, 2) for x in played.seen))
    outputs, values = expected(looks)
    log_probs = expected.spaces.log_probs(outputs, played.seen.actions[1:].flatten(1, 2))
    own = (who.flatten() == 0).nonzero()[:, 0].tolist()
    policy = critic = torch.zeros(())
    for row in own:
        for t in range(game.horizon):
            # the first pass of the clipped loss has a ratio of 1, and the gradient of the plain one
            policy = policy - credits.flatten(0, 1)[row, t] * log_probs[t, row]
            error = (values[t, row] - returns.flatten(0, 1)[row, t]).abs()
            critic = critic + (0.5 * error**2 if error < 1 else error - 0.5)
    ((policy + critic) / (len(own) * game.horizon)).backward()
    changed = {name: x - learner.state_dict()[name] for name, x in minds[0].state_dict().items()}
    return changed, {name: x.grad for name, x in expected.named_parameters()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"buffer": SNAPSHOTS},
        {"clip": 0.2},
        {"buffer": SNAPSHOTS, "clip": 0.2, "normalise": True},
        {"network": Network(8, shared=True, feedback=True), "normalise": True},
    ],
    ids=["plain", "snapshots", "clipped", "snapshots, clipped", "shared trunk"],
)
@every_game
def test_an_update_follows_the_gradient_of_the_objectives(name: str, options: dict[str, object]) -> None:
    settings = replace(TINY, games=6, normalise=False, entropy=0.0, max_gradient_norm=1e9)
    ours, expected = gradients(GAMES[name], replace(settings, **options))
    for weight, gradient in expected.items():
        torch.testing.assert_close(ours[weight], gradient, rtol=1e-3, atol=1e-5, msg=lambda m, w=weight: f"{w}: {m}")


def test_snapshots_are_not_trained_but_their_advantages_count() -> None:
    game, settings = GAMES["coin"], replace(TINY, buffer=Buffer(share=1.0, drawn=2), entropy=0.0)
    minds, who = minds_of(game, settings), seating(game, settings)
    played = play(game, minds, who, seeded())
    before = [deepcopy(mind.state_dict()) for mind in minds]
    learn(minds, who, played, plain_sgd(minds[0]), settings, ALIGNED)
    same = [
        all(x.equal(old[name]) for name, x in mind.state_dict().items())
        for mind, old in zip(minds, before, strict=True)
    ]
    assert same == [False, True, True]
    weights = []
    for shift in (0.0, 3.0):  # of what the snapshots' critics say
        others = [mind_of(game, seed) for seed in (0, 1, 2)]
        with torch.no_grad():
            others[1].value.bias += shift
        learn(others, who, played, plain_sgd(others[0]), replace(settings, normalise=False), ALIGNED)
        weights.append(others[0].policy.weight)
    assert not torch.allclose(*weights)


def test_the_credit_gets_normalised_advantages_and_the_probabilities_of_all_seats() -> None:
    game, settings, given = GAMES["coin"], replace(TINY, buffer=SNAPSHOTS), []

    def credit(advantages: Tensor, probabilities: Tensor | None) -> Tensor:
        given.append((advantages, probabilities))
        return advantages

    minds, who = minds_of(game, settings), seating(game, settings)
    played = play(game, minds, who, seeded())
    learn(minds, who, played, plain_sgd(minds[0]), settings, credit)
    (advantages, probabilities), shape = given[0], (16, 2, 5)
    assert advantages.shape == probabilities.shape == shape
    torch.testing.assert_close(advantages.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(advantages.std(correction=0), torch.tensor(1.0))
    assert probabilities.equal(played.log_probs.exp())
    game = GAMES["negotiation"]
    minds = minds_of(game, settings)
    learn(minds, who, play(game, minds, who, seeded()), plain_sgd(minds[0]), settings, credit)
    assert given[1][1] is None  # densities are no probabilities
    with pytest.raises(ValueError, match=r"probabilities must be .* got None"):
        train(game, TINY, partial(ALIGNED, loqa=True), 0)


def test_a_batch_baseline_is_the_mean_return_of_the_other_seats_of_a_mind_whatever_its_critic_says() -> None:
    game, settings = GAMES["coin"], replace(TINY, games=4, buffer=SNAPSHOTS, batch_baseline=True, normalise=False)
    minds, who = minds_of(game, settings), seating(game, settings)
    played, given = play(game, minds, who, seeded()), []
    learn(
        minds, who, played, plain_sgd(minds[0]), settings, lambda advantages, _: given.append(advantages) or advantages
    )
    returns, seats = torch.zeros(4, 2, 5), [(place, seat) for place in range(4) for seat in range(2)]
    for time in range(5):
        for later in range(time, 5):
            returns[..., time] += settings.gamma ** (later - time) * played.rewards[..., later]
    for seat in seats:
        others = [returns[other] for other in seats if other != seat and who[other] == who[seat]]
        expected = returns[seat] - (sum(others) / len(others) if others else 0.0)
        torch.testing.assert_close(given[0][seat], expected, rtol=1e-5, atol=1e-5)


def test_later_epochs_clip_the_ratio_to_the_policy_that_played() -> None:
    game, settings = GAMES["coin"], replace(TINY, entropy=0.0, max_gradient_norm=1e9, clip=0.03, normalise=False)
    who = seating(game, settings)
    played = play(game, [mind_of(game)], who, seeded())
    one, two = (mind_of(game) for _ in range(2))
    learn([one], who, played, plain_sgd(one), settings, naive_advantages)
    learn([two], who, played, plain_sgd(two), replace(settings, epochs=2), naive_advantages)
    reference = deepcopy(one)
    rows = Seen(*(x[:-1].flatten(1, 2) for x in played.seen))
    advantages = naive_advantages(loops(played, who, [mind_of(game)], settings, 0.0)[0]).flatten(0, 1).T
    log_probs = reference.spaces.log_probs(reference(rows)[0], played.seen.actions[1:].flatten(1, 2))
    ratio = (log_probs - played.log_probs.flatten(0, 1).T).exp()
    assert ((ratio - 1).abs() > 0.03).any()  # or nothing is clipped here
    clipped = torch.where(advantages > 0, ratio.clamp(max=1.03), ratio.clamp(min=0.97))
    (-(clipped * advantages).mean()).backward()
    step = one.state_dict()["policy.weight"] - two.state_dict()["policy.weight"]
    torch.testing.assert_close(step, reference.policy.weight.grad, rtol=1e-3, atol=1e-6)


def test_actor_and_critic_are_clipped_apart() -> None:
    game, settings = GAMES["coin"], replace(TINY, max_gradient_norm=1e-3)
    mind, who = mind_of(game), seating(game, settings)
    before = deepcopy(mind)
    learn([mind], who, play(game, [mind], who, seeded()), plain_sgd(mind), settings, naive_advantages)
    for now, old in zip(mind.parts(), before.parts(), strict=True):
        norm = sum((x - y).square().sum() for x, y in zip(now, old, strict=True)).sqrt()
        torch.testing.assert_close(norm, torch.tensor(1e-3), rtol=1e-2, atol=0)


# --- training


def playing(settings: SelfPlay, credit: object = ALIGNED, name: str = "coin", seed: int = 0) -> list[dict[str, Tensor]]:
    """The learner that played each update, and the one at the end."""
    seen = []
    mind = train(GAMES[name], settings, credit, seed, lambda number, mind, _: seen.append(deepcopy(mind.state_dict())))
    return [*seen, mind.state_dict()]


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(x.equal(two[name]) for name, x in one.items())


@pytest.mark.parametrize("options", [{}, {"buffer": SNAPSHOTS, "clip": 0.2, "epochs": 2}, {"scripts": (always(1),)}])
def test_the_same_seed_gives_the_same_agent_and_leaves_the_global_generator(options: dict[str, object]) -> None:
    before = torch.get_rng_state()
    settings = replace(TINY, **options)
    first = playing(settings)
    assert torch.get_rng_state().equal(before)
    torch.rand(10)
    assert all(map(same, first, playing(settings)))
    assert not same(first[-1], playing(settings, seed=1)[-1])
    assert all(x.isfinite().all() for x in first[-1].values())


def test_greedy_updates_have_naive_credit() -> None:
    mixed, greedy = playing(replace(TINY, updates=4, greedy_updates=2)), playing(TINY, naive_advantages)
    assert list(map(same, mixed, greedy)) == [True, True, True, False]
    assert not same(playing(TINY)[2], greedy[2])


def test_the_buffer_holds_past_selves_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    game, past = GAMES["coin"], []
    honest = selfplay.play

    def watched(game: Game, minds: Sequence[ActorCritic], *arguments: object, **options: object) -> Trajectory:
        past.append([deepcopy(mind.state_dict()) for mind in minds])
        return honest(game, minds, *arguments, **options)

    monkeypatch.setattr(selfplay, "play", watched)

    def updates_drawn(**options: object) -> list[set[int]]:
        """At each update, which updates' learners play as snapshots."""
        past.clear()
        train(game, replace(TINY, updates=5, buffer=Buffer(share=1.0, drawn=16, **options)), ALIGNED, 0)
        learners = [minds[0] for minds in past]
        return [{n for n, old in enumerate(learners) for one in minds[1:] if same(one, old)} for minds in past]

    assert updates_drawn(every=1) == [{0}, {0, 1}, {0, 1, 2}, {0, 1, 2, 3}, {0, 1, 2, 3, 4}]
    assert updates_drawn(every=2) == [{0}, {0}, {0, 2}, {0, 2}, {0, 2, 4}]
    assert updates_drawn(every=1, until=2) == [{0}, {0, 1}, {0, 1}, {0, 1}, {0, 1}]
    assert updates_drawn(every=1, capacity=2) == [{0}, {0, 1}, {1, 2}, {2, 3}, {3, 4}]


def test_callbacks_see_what_was_played_and_by_whom() -> None:
    seen = []

    def on_update(number: int, mind: ActorCritic, played: Trajectory) -> None:
        outputs, _ = mind(Seen(*(x[:-1].flatten(1, 2) for x in played.seen)))
        log_probs = mind.spaces.log_probs(outputs, played.seen.actions[1:].flatten(1, 2))
        torch.testing.assert_close(log_probs.T.unflatten(0, (16, 2)), played.log_probs)
        seen.append(number)

    train(GAMES["negotiation"], TINY, naive_advantages, 0, on_update)
    assert seen == [0, 1, 2]


def test_a_little_training_beats_random_play() -> None:
    game = CoinGame(horizon=16)
    settings = SelfPlay(Network(32), updates=60, games=64, learning_rate=1e-2, critic_learning_rate=1e-2, entropy=0.01)
    mind = train(game, settings, naive_advantages, 0)

    def stroll(game: Game, observations: Tensor, generator: Generator) -> Tensor:
        return torch.randint(4, (len(observations),), generator=generator)

    own, other = play(game, [mind, stroll], torch.tensor([[0, 1]] * 500), seeded()).rewards.mean((0, 2))
    assert own > 0.1 > 0 > other


def test_summed_credit_teaches_to_leave_the_others_coins() -> None:
    game = CoinGame(horizon=16)
    settings = SelfPlay(Network(32), updates=60, games=64, learning_rate=1e-2, critic_learning_rate=1e-2, entropy=0.01)
    earned = [
        play(game, [train(game, settings, rule, 0)], torch.zeros(500, 2).long(), seeded()).rewards.mean()
        for rule in (naive_advantages, summed_advantages)
    ]
    assert earned[1] > earned[0] + 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"updates": 0}, "updates must be a positive integer, got 0"),
        ({"epochs": 0}, "epochs must be a positive integer, got 0"),
        ({"chunk": 5}, "network must be of a shared trunk if games live on"),
    ],
)
def test_bad_settings_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelfPlay(**options)


def test_what_is_wrong_with_a_setting_is_said_before_anything_is_learned() -> None:
    for options, message in (
        ({"gamma": 1.5}, r"gamma must be a number in \[0, 1\], got 1.5"),
        ({"lam": -0.1}, r"lam must be a number in \[0, 1\], got -0.1"),
        ({"clip": 0.0}, "clip must be a finite number above 0, got 0.0"),
        ({"games": 0}, "games must be a positive integer, got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be a finite number above 0, got -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            train(GAMES["coin"], replace(TINY, **options), naive_advantages, 0)
    with pytest.raises(ValueError, match="drawn must be a positive integer, got 0"):
        Buffer(drawn=0)
