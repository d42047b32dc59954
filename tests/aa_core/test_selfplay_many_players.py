from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator

from aa_core import commons
from aa_core.advantages import gae
from aa_core.commons import Commons, Network, Seen, begin, begin_anew, credits, play_chunk, play_episode, train, update
from aa_core.games.harvest import ZAP, HarvestGame, collective_return, free_harvester, random_player
from aa_core.objectives import entropy

GAME = HarvestGame("orchard", window=(3, 1, 2))
SMALL = Commons(updates=3, worlds=6, chunk=5, lifetime=10, filters=4, hidden=8)


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def network(seed: int = 0, settings: Commons = SMALL) -> Network:
    return Network(GAME, settings.filters, settings.hidden, seeded(seed))


def seen(time: int, rows: int) -> Seen:
    generator = seeded()
    windows = torch.randint(2, (time, rows, *GAME.obs_shape), generator=generator).to(torch.uint8)
    return Seen(windows, torch.randint(8, (time, rows), generator=generator), torch.rand(time, rows))


@torch.no_grad()
def test_network_remembers_step_by_step_what_it_remembers_at_once() -> None:
    mind, looks, hidden = network(), seen(7, 3), torch.randn(3, SMALL.hidden, generator=seeded(1))
    logits, values, last = mind(looks, hidden)
    assert (logits.shape, values.shape, last.shape) == ((7, 3, 8), (7, 3), (3, SMALL.hidden))
    for t in range(7):
        step, value, hidden = mind(Seen(*(x[t : t + 1] for x in looks)), hidden)
        torch.testing.assert_close(step[0], logits[t])
        torch.testing.assert_close(value[0], values[t])
    torch.testing.assert_close(hidden, last)


def test_first_policy_is_nearly_uniform_and_seeded() -> None:
    logits, _, _ = network()(seen(2, 5), torch.zeros(5, SMALL.hidden))
    assert logits.softmax(-1).sub(1 / 8).abs().max() < 0.02
    for same, other, weight in zip(
        network().parameters(), network(1).parameters(), network().parameters(), strict=True
    ):
        assert torch.equal(same, weight)
        assert not torch.equal(other, weight)


@pytest.mark.parametrize("algorithm", commons.ALGORITHMS)
def test_credit_of_each_algorithm(algorithm: str) -> None:
    advantages = torch.randn(3, 4, 6, generator=seeded())
    settings = replace(SMALL, algorithm=algorithm, beta=0.4, gamma=0.9)
    normal = (advantages - advantages.mean()) / advantages.std()
    found = credits(settings, advantages)
    for w, i, t in ((0, 0, 0), (1, 2, 5), (2, 3, 3)):
        expected = normal[w, i, t]
        if algorithm == "proximal_advantage_alignment":
            past = sum(0.9 ** (t - k) * normal[w, i, k] for k in range(t))
            expected = expected + 0.4 * 0.9 * past * sum(normal[w, j, t] for j in range(4) if j != i)
        torch.testing.assert_close(found[w, i, t], torch.as_tensor(expected))


def test_a_chunk_is_what_the_game_says() -> None:
    stage, mind = begin(GAME, SMALL, seeded()), network()
    state, observations = GAME.reset(SMALL.worlds, seeded())
    played = play_chunk(GAME, mind, None, stage, SMALL, seeded(5))
    assert torch.equal(played.seen.windows[0], observations.flatten(0, 1))
    assert not played.seen.actions[0].any()
    assert torch.equal(played.seen.actions[1:], played.actions[:-1])
    assert torch.equal(played.seen.rewards[1:].unflatten(1, (6, 4)).permute(1, 2, 0), played.rewards[..., :-1])
    values = mind(played.seen, played.hidden)[1].detach().unflatten(1, (6, 4)).permute(1, 2, 0)
    torch.testing.assert_close(values, played.values[..., :-1])
    generator = seeded(5)  # the same noise for actions, then for the world
    logits = mind(Seen(*(x[:1] for x in played.seen)), played.hidden)[0]
    assert torch.equal(commons.sample(logits[0], generator), played.actions[0])
    _, after, rewards, _ = GAME.step(state, played.actions[0].view(6, 4), generator)
    assert torch.equal(played.rewards[..., 0], rewards)
    assert torch.equal(played.seen.windows[1], after.flatten(0, 1))


def test_value_after_the_last_step_is_of_what_is_seen_then() -> None:
    stage, mind = begin(GAME, SMALL, seeded()), network()
    first = play_chunk(GAME, mind, None, stage, SMALL, seeded(5))
    second = play_chunk(GAME, mind, None, stage, SMALL, seeded(6))
    torch.testing.assert_close(first.values[..., -1], second.values[..., 0])


def test_worlds_end_in_turn_and_begin_anew() -> None:
    stage, generator = begin(GAME, SMALL, seeded()), seeded()
    assert stage.age.tolist() == [0, 5, 0, 5, 0, 5]
    play_chunk(GAME, network(), None, stage, SMALL, generator)
    stage.state = replace(stage.state, apples=torch.zeros_like(stage.state.apples))
    stage.hidden += 1
    before = stage.state.cell.clone()
    begin_anew(GAME, stage, SMALL.lifetime, generator)
    assert stage.age.tolist() == [5, 0, 5, 0, 5, 0]
    for world in range(6):
        fresh = world % 2 == 1
        assert stage.state.apples[world].all() == fresh
        assert (stage.hidden[world] == 0).all() == fresh
        assert fresh or torch.equal(stage.state.cell[world], before[world])
    again = GAME.observe(stage.state)
    assert torch.equal(again[1::2], stage.observations[1::2])


def test_past_seats_are_played_by_the_past_and_not_trained() -> None:
    settings = replace(SMALL, past_seats=1, free_riders=1)
    mind, past = network(), network(1)
    with torch.no_grad():
        past.policy.bias[ZAP] += 50.0  # a past that only zaps
    stage = begin(GAME, settings, seeded())
    played = play_chunk(GAME, mind, past, stage, settings, seeded())
    assert played.hidden.shape == (6 * 2, settings.hidden)  # two learners
    assert (stage.actions[:, 2] == ZAP).all()
    assert not (stage.actions[:, 3] == ZAP).any()  # free riders of ours never zap
    assert played.rewards.shape == (6, 4, 5)
    assert (stage.hidden[:, 2] != 0).any()


def test_free_riders_harvest_as_their_script() -> None:
    settings = replace(SMALL, free_riders=2, chunk=10)
    stage = begin(GAME, settings, seeded())
    played = play_chunk(GAME, network(), None, stage, settings, seeded())
    eaten = played.rewards.sum((0, 2))
    assert eaten[2:].min() > 2 * eaten[:2].max()  # who goes for apples gets more than who walks at random


def test_update_follows_the_clipped_gradient_of_those_in_play() -> None:
    settings = replace(SMALL, algorithm="ppo", epochs=1, max_gradient_norm=1e9)
    mind, stage = network(), begin(GAME, settings, seeded())
    played = play_chunk(GAME, mind, None, stage, settings, seeded())
    played = played._replace(in_play=torch.rand(played.in_play.shape, generator=seeded()) < 0.5)
    expected = network()
    logits, values, _ = expected(played.seen, played.hidden)
    advantages = gae(played.rewards, played.values, settings.gamma, settings.lam)
    normal = ((advantages - advantages.mean()) / advantages.std()).flatten(0, 1).T
    log_probs = torch.distributions.Categorical(logits=logits).log_prob(played.actions)
    loss = -(normal * log_probs)[played.in_play].mean() - settings.entropy * entropy(logits).mean()
    targets = (advantages + played.values[..., :-1]).flatten(0, 1).T
    (loss + settings.value_weight * torch.nn.functional.huber_loss(values, targets)).backward()
    optimizer = torch.optim.SGD(mind.parameters(), lr=1.0)
    before = [weight.detach().clone() for weight in mind.parameters()]
    update(mind, optimizer, played, settings)
    for old, weight, reference in zip(before, mind.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(old - weight, reference.grad, atol=1e-5, rtol=1e-4)


def test_summed_rewards_make_everybody_want_the_same() -> None:
    settings = replace(SMALL, algorithm="ppo_sum_of_rewards", epochs=1, max_gradient_norm=1e9)
    stage, mind = begin(GAME, settings, seeded()), network()
    played = play_chunk(GAME, mind, None, stage, settings, seeded())
    shared = played._replace(rewards=played.rewards.sum(1, keepdim=True).expand_as(played.rewards))
    minds = (mind, network())
    for one, game, algorithm in zip(minds, (played, shared), ("ppo_sum_of_rewards", "ppo"), strict=True):
        update(one, torch.optim.SGD(one.parameters(), lr=0.1), game, replace(settings, algorithm=algorithm))
    for a, b in zip(*(one.parameters() for one in minds), strict=True):
        torch.testing.assert_close(a, b)


def test_same_seed_same_network_and_other_seed_another() -> None:
    settings = replace(SMALL, past_seats=1, past_every=1)
    runs = [train(GAME, settings, seed, progress=False).state_dict() for seed in (3, 3, 4)]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not all(torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


def test_global_random_state_plays_no_part() -> None:
    torch.manual_seed(0)
    first = train(GAME, SMALL, 0, progress=False).state_dict()
    torch.manual_seed(1)
    second = train(GAME, SMALL, 0, progress=False).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_trained_players_eat_more_than_random_ones() -> None:
    game = HarvestGame("pond", window=(3, 1, 2), horizon=20)
    settings = Commons("ppo", updates=30, worlds=32, chunk=20, lifetime=20, filters=8, hidden=32, learning_rate=3e-3)
    mind = train(game, settings, 0, progress=False)

    def eaten(player: commons.Player) -> float:
        return collective_return(play_episode(game, [player] * 2, 64, seeded()).rewards).mean().item()

    assert eaten(mind) > 1.3 * eaten(random_player)


def test_episode_seats_each_player_where_it_is_told() -> None:
    game = replace(GAME, horizon=15)
    idle = lambda game, observations, generator: torch.zeros(observations.shape[:2], dtype=torch.long)  # noqa: E731
    episode = play_episode(game, [idle, free_harvester, idle, network()], 8, seeded())
    assert (episode.rewards.shape, episode.out.shape, episode.apples.shape) == ((8, 4, 15), (8, 4, 15), (8, 15))
    eaten = episode.rewards.sum((0, 2))
    assert eaten[0] == eaten[2] == 0 < eaten[1]
    apples_at_first = len(game.apple_cells)
    assert (episode.apples[:, 0] <= apples_at_first).all()
    again = play_episode(game, [idle, free_harvester, idle, network()], 8, seeded())
    assert torch.equal(again.rewards, episode.rewards)


def test_steps_can_be_watched() -> None:
    times: list[int] = []
    states = []

    def on_step(step: int, state: commons.HarvestState) -> None:
        times.append(step)
        states.append(state)

    play_episode(replace(GAME, horizon=4), [random_player] * 4, 2, seeded(), on_step)
    assert times == [0, 1, 2, 3] == [state.time for state in states]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "loqa"}, "algorithm must be one of"),
        ({"lifetime": 12}, "lifetime must be a multiple of chunk"),
        ({"worlds": 0}, "worlds must be a positive integer"),
        ({"gamma": 1.5}, "gamma must be"),
        ({"beta": -0.1}, "beta must be a finite number"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
        ({"past_seats": 1.5}, "past_seats must be an integer"),
        ({"free_riders": -1}, "free_riders must be an integer"),
        ({"over": "max"}, "over must be one of"),
        ({"past": "all"}, "past must be one of"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_somebody_must_learn() -> None:
    with pytest.raises(ValueError, match="must leave a seat of 4 to the learner, got 3 and 1"):
        train(GAME, replace(SMALL, past_seats=3, free_riders=1), 0, progress=False)
