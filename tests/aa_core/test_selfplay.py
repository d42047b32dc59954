from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import AffineTransform, Normal, TanhTransform, TransformedDistribution

from aa_core import games, recurrent
from aa_core.games.coin import CoinGame, random_moves
from aa_core.league import own_coin_rate, play_pair
from aa_core.objectives import (
    advantage_alignment_loss,
    dice_objective,
    policy_gradient_loss,
    proximal_advantage_alignment_loss,
)
from aa_core.recurrent import (
    ALGORITHMS,
    WEIGHTS,
    Learner,
    Policies,
    Recurrent,
    Seats,
    Tape,
    _log_probs,
    _noise,
    _part,
    act,
    credits,
    initial_policies,
    load,
    outputs_of,
    plain_outputs_of,
    play,
    save,
    squash,
    squashed_gaussian_log_prob,
    train,
)

TINY = Recurrent(updates=3, games=16, hidden=8, record_every=1, past_policies=2, past_every=1)
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
every_game = pytest.mark.parametrize("name", ["coin", "negotiation"])


def generators(*seeds: int) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in seeds]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=dtype)


def weights_of(inputs: int, hidden: int, outputs: int, groups: int, dtype: torch.dtype) -> dict[str, Tensor]:
    shapes = [
        (inputs, hidden), (1, hidden), (hidden, 2 * hidden), (hidden, 2 * hidden), (1, 2 * hidden), (hidden, hidden),
        (1, hidden), (hidden, hidden), (1, hidden), (hidden, outputs), (1, outputs),
    ]  # fmt: skip
    return {
        name: (0.5 * normal(groups, *shape, seed=i, dtype=dtype)).requires_grad_()
        for i, (name, shape) in enumerate(zip(WEIGHTS, shapes, strict=True))
    }


# --- networks


def test_a_network_is_a_dense_layer_and_the_gru_of_torch() -> None:
    w, hidden = weights_of(5, 4, 3, 2, torch.float64), 4
    observations = normal(6, 2, 7, 5, dtype=torch.float64)
    outputs = plain_outputs_of(w, observations)
    for group in range(2):
        gru = torch.nn.GRU(hidden, hidden, dtype=torch.float64)
        gates = ("gates", "candidate")
        with torch.no_grad():
            gru.weight_ih_l0.copy_(torch.cat([w[f"{gate}_input"][group] for gate in gates], 1).T)
            gru.weight_hh_l0.copy_(torch.cat([w[f"{gate}_hidden"][group] for gate in gates], 1).T)
            gru.bias_ih_l0.copy_(torch.cat([w[f"{gate}_bias"][group, 0] for gate in gates]))
            gru.bias_hh_l0.zero_()[2 * hidden :] = w["reset_bias"][group, 0]
        encoded = (observations[:, group] @ w["encoder_weight"][group] + w["encoder_bias"][group]).relu()
        expected = gru(encoded)[0] @ w["head_weight"][group] + w["head_bias"][group]
        torch.testing.assert_close(outputs[:, group], expected)


@pytest.mark.parametrize("filled", [False, True])
def test_the_tape_has_the_outputs_and_the_gradients_of_plain_operations(filled: bool) -> None:
    torch.set_default_dtype(torch.float64)  # of the tape's buffers
    try:
        tape = Tape(6, 2, 7, 5, 4, 3)
    finally:
        torch.set_default_dtype(torch.float32)
    w = weights_of(5, 4, 3, 2, torch.float64)
    for attempt in range(2):  # the buffers are used again
        tape.observations.copy_(normal(6, 2, 7, 5, seed=attempt, dtype=torch.float64))
        if filled:
            with torch.no_grad():
                for t in range(6):
                    tape.step(w, t)
        outputs, expected = outputs_of(w, tape, filled), plain_outputs_of(w, tape.observations)
        torch.testing.assert_close(outputs, expected)
        upstream = normal(*outputs.shape, seed=9, dtype=torch.float64)
        grads = torch.autograd.grad((outputs * upstream).sum(), [*w.values()])
        for name, grad, plain in zip(
            w, grads, torch.autograd.grad((expected * upstream).sum(), [*w.values()]), strict=True
        ):
            torch.testing.assert_close(grad, plain, msg=lambda text, name=name: f"{name}: {text}")


# --- actions


def test_log_prob_of_the_squashed_gaussian_is_that_of_torch() -> None:
    mean, log_std = normal(50, 3, dtype=torch.float64), 0.3 * normal(3, seed=1, dtype=torch.float64)
    x = mean + log_std.exp() * normal(50, 3, seed=2, dtype=torch.float64)
    squashed = TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform(), AffineTransform(2.5, 2.5)])
    expected = squashed.log_prob(squash(x, (0.0, 5.0))).sum(-1)
    torch.testing.assert_close(squashed_gaussian_log_prob(x, mean, log_std, (0.0, 5.0)), expected)


def test_the_squashed_gaussian_is_finite_far_out_and_within_bounds() -> None:
    x = torch.tensor([[-60.0, 0.0, 60.0]]).requires_grad_()
    log_prob = squashed_gaussian_log_prob(x, torch.zeros(1, 3), torch.zeros(3), (0.0, 5.0))
    assert log_prob.isfinite().all()
    assert torch.autograd.grad(log_prob.sum(), x)[0].isfinite().all()
    assert squash(x, (0.0, 5.0)).tolist() == [[0.0, 2.5, 5.0]]


def test_gumbel_noise_draws_from_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    drawn = (logits + _noise((40_000, 4), True, Generator().manual_seed(0))).argmax(-1)
    shares = drawn.bincount(minlength=4) / 40_000
    torch.testing.assert_close(shares, logits.softmax(-1), atol=0.01, rtol=0)


@every_game
def test_play_takes_the_actions_that_act_would_take(name: str) -> None:
    # the in-place roll-out against the plain network, step by step, with a snapshot in some second seats
    game = games.make(name, horizon=4)
    policies = initial_policies(game, 8, generators(0, 1))
    past = initial_policies(game, 8, generators(2, 3, 4, 5))  # two snapshots per seed
    seats = Seats(2, 6, past=4)
    tape = Tape(4, 2, seats.rows, *policies.parameters["actor.encoder_weight"].shape[1:], 4 if name == "coin" else 3)
    played = play(game, policies, past, seats, tape, generators(7, 8))
    assert played.rewards.shape == (2, 2, 6, 4)
    assert played.past_observations.shape[:3] == (4, 4, 2)
    outputs = plain_outputs_of(_part(policies.parameters, "actor"), tape.observations)
    torch.testing.assert_close(outputs, tape.outputs)
    if name == "coin":  # both seats see the same coin; the second seat's planes are the first's, swapped
        first, second = seats.to_games(tape.observations[1], played.past_observations[1].view(2, 4, -1)).unbind(1)
        assert first.unflatten(-1, (4, -1))[:, :, [1, 0, 3, 2]].flatten(-2).equal(second)


def test_act_keeps_networks_apart_and_checks_its_arguments() -> None:
    game = games.make("negotiation")
    policies = initial_policies(game, 8, generators(0, 1, 2))
    observations = game.reset(15, Generator().manual_seed(0))[1].flatten(0, 1).unflatten(0, (3, 10))
    actions, hidden = act(policies, observations, None, Generator().manual_seed(1))
    assert actions.shape == (3, 10, 3)
    assert hidden.shape == (3, 10, 8)
    assert ((actions >= 0) & (actions <= 5)).all()
    _, alone = act(policies.select([1]), observations[1:2])
    torch.testing.assert_close(alone[0], hidden[1])
    with pytest.raises(ValueError, match=r"observations must be \(3, rows, 15 numbers in all\), got \(2, 10, 15\)"):
        act(policies, observations[:2])


def test_seats_are_rows_and_rows_are_seats() -> None:
    x = normal(2, 2, 5, 3)
    for seats in (Seats(2, 5), Seats(2, 5, past=2), Seats(2, 5, shared=False)):
        past = x[:, 1, 5 - seats.past :] if seats.past else None
        rows = seats.to_rows(x)
        assert rows.shape == (seats.groups, seats.rows, 3)
        assert seats.to_games(rows, past).equal(x)
        written, written_past = torch.zeros_like(rows), torch.zeros(2, seats.past, 3)
        for seed in range(2):
            seats.write(seed, x[seed].transpose(0, 1), written, written_past if seats.past else None)
        assert written.equal(rows)
        assert past is None or written_past.equal(past)


# --- credit


def test_credit_of_a_batch_is_what_the_objectives_say() -> None:
    advantages, log_probs = normal(1, 2, 4, 6), normal(1, 2, 4, 6, seed=1)
    own, other = advantages, advantages.flip(1)
    plain = replace(TINY, normalise=False, beta=0.7, gamma=0.9)
    for algorithm in ("advantage_alignment", "proximal_advantage_alignment"):
        credit = credits(replace(plain, algorithm=algorithm), advantages)
        expected = advantage_alignment_loss(log_probs, own, other, 0.7, 0.9)
        torch.testing.assert_close(policy_gradient_loss(log_probs, credit), expected)
    assert credits(replace(plain, algorithm="naive"), advantages).equal(advantages)


def test_averaged_credit_divides_the_undiscounted_past_by_its_length() -> None:
    advantages = normal(1, 2, 3, 5)
    settings = replace(TINY, normalise=False, credit="averaged", beta=3.0)
    credit = credits(settings, advantages)
    for player in range(2):
        own, other = advantages[0, player], advantages[0, 1 - player]
        for t in range(5):
            past = own[:, :t].mean(1) if t else torch.zeros(3)
            torch.testing.assert_close(credit[0, player, :, t], own[:, t] + 3.0 * past * other[:, t])


def test_loqa_weighs_the_past_by_the_probability_of_what_was_not_done() -> None:
    advantages, taken = normal(1, 2, 1, 3), torch.full((1, 2, 1, 3), 0.25)
    taken[:, 0] = 1.0  # the first player is certain: the second one has nobody to shape
    credit = credits(replace(TINY, algorithm="loqa", normalise=False, beta=1.0, gamma=1.0), advantages, taken)
    torch.testing.assert_close(credit[0, 1], advantages[0, 1])
    past = 0.75 * advantages[0, 0, 0, :2].sum()
    torch.testing.assert_close(credit[0, 0, 0, 2], advantages[0, 0, 0, 2] + past * advantages[0, 1, 0, 2])
    with pytest.raises(ValueError, match="taken_probabilities must be given for loqa"):
        credits(replace(TINY, algorithm="loqa"), advantages)


def test_normalised_advantages_forget_the_scale_of_rewards() -> None:
    advantages = normal(2, 2, 4, 6)
    scales = torch.tensor([3.0, 0.1]).view(2, 1, 1, 1)
    torch.testing.assert_close(credits(TINY, advantages), credits(TINY, scales * advantages + scales))


def gradients(settings: Recurrent, name: str = "coin") -> tuple[Learner, dict[str, Tensor], dict[str, Tensor]]:
    """A learner, the gradients that `update` computes from its first batch, and those of the losses as written."""
    game, settings = games.make(name, horizon=5), replace(settings, max_gradient_norm=1e9, epochs=1)
    seats = Seats(1, settings.games, settings.past_games)
    policies = initial_policies(game, settings.hidden, generators(3))
    past = initial_policies(game, settings.hidden, generators(4, 5)) if seats.past else None
    learner = Learner(game, settings, policies, seats)
    seen = {}
    learner.step = lambda: seen.update({name: x.grad.clone() for name, x in learner.parameters.items()})
    learner.update(past, generators(6))

    played = play(game, policies, past, seats, learner.tape, generators(6))
    parameters = {name: x.clone().requires_grad_() for name, x in policies.parameters.items()}
    actor, critic = _part(parameters, "actor"), _part(parameters, "critic")
    outputs = plain_outputs_of(actor, learner.tape.observations)
    log_probs = _log_probs(actor, outputs, played.actions, policies.bounds).permute(1, 2, 0)
    values = plain_outputs_of(critic, learner.tape.observations)[..., 0].permute(1, 2, 0)
    with torch.no_grad():
        past_values = None
        if past is not None:
            past_values = plain_outputs_of(_part(past.parameters, "critic"), played.past_observations)[..., 0]
            past_values = past_values.flatten(1).T[None]
        both = seats.to_games(values, past_values)
        deltas = played.rewards + settings.gamma * torch.nn.functional.pad(both[..., 1:], (0, 1)) - both
        advantages = torch.zeros_like(both)
        running = torch.zeros_like(both[..., 0])
        for t in reversed(range(5)):
            running = deltas[..., t] + settings.gamma * settings.lam * running
            advantages[..., t] = running
    own, other = seats.to_rows(advantages), seats.to_rows(advantages.flip(1))
    if settings.algorithm == "proximal_advantage_alignment":
        loss = proximal_advantage_alignment_loss(
            log_probs, log_probs.detach(), own, other, settings.beta, settings.gamma
        )
    else:
        loss = advantage_alignment_loss(log_probs, own, other, settings.beta, settings.gamma)
    returns = torch.zeros_like(values)
    rewards, running = seats.to_rows(played.rewards), 0.0
    for t in reversed(range(5)):
        running = rewards[..., t] + settings.gamma * running
        returns[..., t] = running
    (loss + torch.nn.functional.huber_loss(values, returns)).backward()
    return learner, seen, {name: x.grad for name, x in parameters.items()}


@pytest.mark.parametrize("algorithm", ["advantage_alignment", "proximal_advantage_alignment"])
@pytest.mark.parametrize("past_share", [0.0, 0.5])
@every_game
def test_an_update_follows_the_gradient_of_the_objectives(name: str, past_share: float, algorithm: str) -> None:
    settings = replace(TINY, algorithm=algorithm, normalise=False, entropy=0.0, past_share=past_share, beta=2.0)
    _, ours, expected = gradients(settings, name)
    for weight in expected:
        torch.testing.assert_close(ours[weight], expected[weight], rtol=1e-3, atol=1e-5)


# --- training


@every_algorithm
@every_game
def test_the_same_seeds_give_the_same_numbers_and_leave_the_global_generator(name: str, algorithm: str) -> None:
    game, settings = games.make(name, horizon=4), replace(TINY, algorithm=algorithm)
    if algorithm == "loqa" and name == "negotiation":
        with pytest.raises(ValueError, match="algorithm must not be loqa with continuous actions"):
            train(game, settings, [0])
        return
    before = torch.get_rng_state()
    first = train(game, settings, [3, 5])
    assert torch.get_rng_state().equal(before)
    torch.rand(10)
    again = train(game, settings, [3, 5])
    for weight, tensor in first.policies.parameters.items():
        assert tensor.isfinite().all()
        assert tensor.equal(again.policies.parameters[weight])
        assert not tensor[0].equal(tensor[1]) or not tensor.any()
    assert first.history.rewards.equal(again.history.rewards)
    assert first.history.rewards.shape == (3, 2, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": algorithm} for algorithm in ("naive", "proximal_advantage_alignment", "lola_dice")
    ] + [{"past_share": 0.5}, {"share_parameters": False}, {"algorithm": "loqa", "past_share": 0.5}],
)  # fmt: skip
def test_seeds_together_are_the_seeds_alone(options: dict[str, object]) -> None:
    game, settings = games.make("coin", horizon=4), replace(TINY, **options)
    together = train(game, settings, [3, 5, 9])
    per_seed = 1 if settings.share_parameters else 2
    for index, seed in enumerate([3, 5, 9]):
        alone = train(game, settings, [seed])
        torch.testing.assert_close(together.history.rewards[:, index], alone.history.rewards[:, 0])
        for name, tensor in alone.policies.parameters.items():
            part = together.policies.parameters[name][per_seed * index : per_seed * (index + 1)]
            torch.testing.assert_close(part, tensor, rtol=1e-3, atol=1e-4)


@dataclass(frozen=True)
class Commune(CoinGame):
    """The Coin Game in which both players get the sum of both rewards."""

    def step(self, *args: object) -> tuple[object, Tensor, Tensor, Tensor]:
        state, observations, rewards, done = super().step(*args)
        return state, observations, rewards.sum(1, keepdim=True).expand_as(rewards), done


@pytest.mark.parametrize("own", ["naive", "ppo"])
def test_summed_rewards_are_a_game_of_common_interest(own: str) -> None:
    settings = replace(TINY, algorithm=own)
    common = train(Commune(horizon=4), settings, [0]).policies.parameters
    summed_name = "sum_of_rewards" if own == "naive" else "ppo_sum_of_rewards"
    summed = train(CoinGame(horizon=4), replace(settings, algorithm=summed_name), [0]).policies.parameters
    alone = train(CoinGame(horizon=4), settings, [0]).policies.parameters
    for name, weight in summed.items():
        torch.testing.assert_close(weight, common[name])
    assert not summed["actor.head_weight"].equal(alone["actor.head_weight"])


@pytest.mark.parametrize("inner_learning_rate", [1e-9, 10.0])
@every_game
def test_lola_differentiates_the_value_after_the_co_players_step(name: str, inner_learning_rate: float) -> None:
    game, seats = games.make(name, horizon=4), Seats(1, 16, shared=False)
    settings = replace(
        TINY, algorithm="lola_dice", entropy=0.0, max_gradient_norm=1e9, inner_learning_rate=inner_learning_rate
    )
    policies = initial_policies(game, 8, generators(0))
    learner = Learner(game, settings, policies, Seats(1, 16))
    seen = {}
    learner.step = lambda: seen.update({name: x.grad.clone() for name, x in learner.parameters.items()})
    learner.lola_update(None, generators(1))

    generator = generators(1)
    pair = policies.select([0, 0])
    play(game, pair, None, seats, learner.tape, generator)  # the co-player's games
    played = play(game, pair, None, seats, learner.tape, generator)  # and, with a step of next to nothing, ours
    first = {key: x.clone().requires_grad_() for key, x in policies.parameters.items()}
    both = {key: torch.cat([x, x.detach()]) for key, x in first.items()}
    outputs = plain_outputs_of(_part(both, "actor"), learner.tape.observations)
    log_probs = _log_probs(_part(both, "actor"), outputs, played.actions, policies.bounds).permute(1, 2, 0)
    values = plain_outputs_of(_part(first, "critic"), learner.tape.observations[:, :1])[:, 0, :, 0].T
    value = dice_objective(log_probs.sum(0), played.rewards[0, 0], values, settings.gamma).mean()
    expected = torch.autograd.grad(-value / 4, first["actor.gates_input"])[0]
    same = torch.allclose(seen["actor.gates_input"], expected, rtol=1e-3, atol=1e-7)
    assert same == (inner_learning_rate < 1)


def test_past_snapshots_play_and_are_not_trained() -> None:
    game, settings = games.make("coin", horizon=4), replace(TINY, past_share=0.5)
    assert settings.past_games == 8
    learner = Learner(game, settings, initial_policies(game, 8, generators(0)), Seats(1, 16, 8))
    past = initial_policies(game, 8, generators(1, 2))
    before = {name: x.clone() for name, x in past.parameters.items()}
    live = learner.policies()
    learner.update(past, generators(3))
    assert all(x.equal(before[name]) for name, x in past.parameters.items())
    assert any(not x.equal(live.parameters[name]) for name, x in learner.policies().parameters.items())
    history = train(game, settings, [0]).history
    assert history.past_rewards.isfinite().all()
    assert train(game, TINY, [0]).history.past_rewards.isnan().all()


def test_past_rows_take_no_part_in_the_gradient_but_their_advantages_do() -> None:
    settings = replace(TINY, past_share=1.0, normalise=False, beta=0.0, entropy=0.0)
    assert Seats(1, 16, settings.past_games).rows == 16  # first seats only
    _, without, expected = gradients(settings)
    torch.testing.assert_close(without["actor.head_weight"], expected["actor.head_weight"], rtol=1e-3, atol=1e-5)
    _, shaped, _ = gradients(replace(settings, beta=2.0))
    assert not torch.allclose(shaped["actor.head_weight"], without["actor.head_weight"])


def playing(settings: Recurrent) -> list[Policies]:
    """The policies before every update of a tiny run."""
    seen = []
    train(games.make("coin", horizon=4), settings, [0], lambda number, policies, rewards: seen.append(policies))
    return seen


def same(one: Policies, two: Policies) -> bool:
    return all(x.equal(two.parameters[name]) for name, x in one.parameters.items())


def test_greedy_updates_come_before_alignment() -> None:
    aligned, naive = replace(TINY, beta=2.0, updates=4), replace(TINY, beta=0.0, updates=4)
    mixed = playing(replace(aligned, greedy_updates=2))
    greedy = playing(naive)
    assert [same(one, two) for one, two in zip(mixed, greedy, strict=True)] == [True, True, True, False]
    assert not same(playing(aligned)[2], greedy[2])


def test_after_a_restart_the_learner_begins_anew_with_alignment() -> None:
    settings = replace(TINY, updates=5, greedy_updates=2, restart=True, beta=2.0)
    seen = playing(settings)
    assert same(seen[2], seen[0])
    assert not same(seen[3], seen[1])  # other games, and another beta
    assert not same(seen[4], seen[3])


def test_no_snapshot_is_taken_after_past_until(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    draw = recurrent._draw_past

    def watched(buffer: Sequence[Policies], count: int, generators: Sequence[Generator]) -> Policies:
        sizes.append(len(buffer))
        return draw(buffer, count, generators)

    monkeypatch.setattr(recurrent, "_draw_past", watched)
    playing(replace(TINY, updates=4, past_share=0.5, past_until=2))
    playing(replace(TINY, updates=4, past_share=0.5, past_capacity=3))
    assert sizes == [1, 2, 2, 2, 1, 2, 3, 3]


def test_every_seat_is_its_own_network_without_shared_parameters() -> None:
    trained = train(games.make("coin", horizon=4), replace(TINY, share_parameters=False), [0, 1])
    assert len(trained.policies) == 4
    weights = trained.policies.parameters["actor.gates_input"]
    assert all(not weights[i].equal(weights[j]) for i in range(4) for j in range(i))


def test_gradients_are_clipped_per_network() -> None:
    game = games.make("coin", horizon=4)
    learner = Learner(
        game, replace(TINY, max_gradient_norm=1e-3), initial_policies(game, 8, generators(0, 1)), Seats(2, 16)
    )
    learner.optimizer.step = lambda: norms.extend(
        torch.stack([x.grad.flatten(1).square().sum(1) for x in part.values()]).sum(0).sqrt()
        for part in (learner.critic, learner.actor)
    )
    norms: list[Tensor] = []
    learner.update(None, generators(0, 1))
    for norm in norms:
        torch.testing.assert_close(norm, torch.full((2,), 1e-3))


def test_callbacks_see_what_was_played_and_by_whom() -> None:
    seen = []
    trained = train(
        games.make("negotiation", horizon=4),
        replace(TINY, record_every=2),
        [0, 1],
        lambda number, policies, rewards: seen.append((number, policies, rewards)),
        lambda rewards: rewards.sum(1).mean(),
    )
    assert [number for number, *_ in seen] == [0, 1, 2]
    assert trained.history.updates.tolist() == [0, 2]
    assert seen[0][2].shape == (2, 2, 16, 4)
    torch.testing.assert_close(trained.history.measure[1], seen[2][2].sum(1).mean((1, 2)))
    torch.testing.assert_close(trained.history.rewards[1], seen[2][2].mean((2, 3)))
    assert not seen[0][1].parameters["actor.head_bias"].equal(seen[2][1].parameters["actor.head_bias"])


def test_training_continues_from_given_policies() -> None:
    game = games.make("coin", horizon=4)
    start = initial_policies(game, 8, generators(4))
    seen = []
    train(game, replace(TINY, updates=1), [0], lambda number, policies, rewards: seen.append(policies), initial=start)
    assert all(x.equal(start.parameters[name]) for name, x in seen[0].parameters.items())
    with pytest.raises(ValueError, match="initial must hold 2 networks, got 1"):
        train(game, TINY, [0, 1], initial=start)


@every_game
def test_policies_survive_the_disk(name: str, tmp_path: Path) -> None:
    policies = initial_policies(games.make(name), 8, generators(0, 1))
    save(policies, tmp_path / "policies.safetensors")
    loaded = load(tmp_path / "policies.safetensors")
    assert loaded.bounds == policies.bounds
    assert loaded.parameters.keys() == policies.parameters.keys()
    assert all(x.equal(policies.parameters[key]) for key, x in loaded.parameters.items())


def test_a_little_training_beats_random_play() -> None:
    game = games.make("coin", horizon=16)
    settings = Recurrent("naive", updates=80, games=64, hidden=32, learning_rate=1e-2, critic_learning_rate=1e-2)
    trained = train(game, replace(settings, entropy=0.01), [0], measure=own_coin_rate)
    rewards = play_pair(game, trained.policies, random_moves, 500, Generator().manual_seed(0)).mean((0, 1, 2, 4))
    assert rewards[0] > 0.1 > 0 > rewards[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algorithm": "pola"}, "algorithm must be one of"),
        ({"credit": "squared"}, "credit must be one of averaged, discounted, got 'squared'"),
        ({"gamma": 1.5}, r"gamma must be a number in \[0, 1\], got 1.5"),
        ({"games": 0}, "games must be a positive integer, got 0"),
        ({"beta": -1.0}, "beta must be a finite number of at least 0, got -1.0"),
        ({"clip": 0.0}, "clip must be a finite number above 0, got 0.0"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm must be a number above 0, got 0.0"),
        ({"past_share": 0.5, "share_parameters": False}, "past_share must be 0 without shared parameters"),
        ({"past_share": 0.5, "algorithm": "lola_dice"}, "past_share must be 0 without shared parameters and for lola"),
        ({"past_share": 0.01}, "past_share must give each of 8 past_policies a game, got 0.01 of 512 games"),
        ({"share_parameters": False, "algorithm": "lola_dice"}, "share_parameters must be True for lola_dice"),
        ({"greedy_updates": -1}, "greedy_updates must be an integer of at least 0, got -1"),
        ({"past_until": 0}, "past_until must be a positive integer or None, got 0"),
        ({"restart": True, "algorithm": "lola_dice"}, "restart must be False for lola_dice, got True"),
        ({"include_current": True, "credit": "averaged"}, "include_current must be False for averaged credit"),
    ],
)
def test_bad_settings_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recurrent(**options)


def test_bad_arguments_of_train_are_named() -> None:
    with pytest.raises(ValueError, match=r"seeds must be different integers, at least one, got \[1, 1\]"):
        train(games.make("coin"), TINY, [1, 1])
    with pytest.raises(ValueError, match="game must have two players, got 7"):
        train(games.make("harvest"), TINY, [0])
