from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import act, dp_values, gradient, joint_probability, other_view, rewards_of, states_before, trajectories
from torch import Generator, Tensor

from aa_core import games
from aa_core.games.matrix import CLASSIC_PAYOFFS
from aa_core.policies import classify, strategy
from aa_core.selfplay import (
    ALGORITHMS,
    SelfPlay,
    _lola_dice_gradient,
    _play,
    _surrogate_gradient,
    credits,
    rollout,
    tabular_log_prob,
    train,
)

TINY = SelfPlay(updates=4, games=8, learning_rate=0.05, record_every=2)
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
SURROGATES = [algorithm for algorithm in ALGORITHMS if algorithm != "lola_dice"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def generators(count: int, first: int = 0) -> list[Generator]:
    return [Generator().manual_seed(first + seed) for seed in range(count)]


def small_game(horizon: int = 6) -> games.MatrixGame:
    return games.make("prisoners_dilemma", horizon=horizon)


# --- random numbers


@every_algorithm
def test_the_same_seeds_give_the_same_numbers(algorithm: str) -> None:
    settings = replace(TINY, algorithm=algorithm)
    torch.manual_seed(1)
    first = train(small_game(), settings, [3, 5], progress=False)
    torch.manual_seed(2)  # somebody else draws from the global generators
    torch.rand(10)
    np.random.seed(7)  # noqa: NPY002
    again = train(small_game(), settings, [3, 5], progress=False)
    assert all(x.equal(y) for x, y in zip(first, again, strict=True))


@every_algorithm
def test_other_seeds_do_not_change_a_seeds_result(algorithm: str) -> None:
    settings = replace(TINY, algorithm=algorithm)
    together = train(small_game(), settings, [3, 5, 9], progress=False)
    for index, seed in enumerate([3, 5, 9]):
        alone = train(small_game(), settings, [seed], progress=False)
        torch.testing.assert_close(together.logits[:, index], alone.logits[:, 0])
        torch.testing.assert_close(together.rewards[:, index], alone.rewards[:, 0])


def test_training_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    train(small_game(), TINY, [0], progress=False)
    assert torch.get_rng_state().equal(before)


def test_different_seeds_give_different_numbers() -> None:
    history = train(small_game(), TINY, [0, 1], progress=False)
    assert not history.logits[:, 0].equal(history.logits[:, 1])


# --- play


def test_rollout_records_what_was_seen_done_and_earned() -> None:
    game = games.make("chicken", horizon=3)
    script = torch.tensor([[[0, 1], [1, 1]], [[1, 0], [0, 0]], [[0, 0], [0, 1]]])  # (time, batch, players)
    played = rollout(game, lambda observation, time: script[time], 2)
    assert played.actions.equal(script.movedim(0, -1))
    assert played.observations.tolist() == [[[0, 2, 3], [0, 3, 2]], [[0, 4, 1], [0, 4, 1]]]
    assert played.rewards.tolist() == [[[1, 4, 3], [4, 1, 3]], [[0, 3, 1], [0, 3, 4]]]


def test_every_seed_and_player_plays_by_its_own_table() -> None:
    tables = torch.randint(2, (3, 2, 5), generator=Generator().manual_seed(0))  # 1: cooperate
    played = _play(small_game(), 200.0 * tables - 100.0, 4, generators(3))
    assert played.actions.shape == (3, 2, 4, 6)
    for seed in range(3):
        for player in range(2):
            seen = played.observations[seed, player]
            assert played.actions[seed, player].equal(1 - tables[seed, player][seen])


def test_actions_are_drawn_with_the_probabilities_of_the_table() -> None:
    logits = normal(2, 2, 5)
    played = _play(small_game(8), logits, 4000, generators(2))
    for seed in range(2):
        for player in range(2):
            for state in range(5):
                drawn = played.actions[seed, player][played.observations[seed, player] == state] == 0
                p = logits[seed, player, state].sigmoid()
                error = (p * (1 - p) / len(drawn)).sqrt()
                assert (drawn.double().mean() - p).abs() < 4 * error


def test_tabular_log_prob_looks_up_the_action_that_was_taken() -> None:
    logits = normal(2, 2, 5)
    played = _play(small_game(), logits, 3, generators(2))
    log_probs = tabular_log_prob(logits, played.observations, played.actions)
    assert log_probs.shape == played.actions.shape
    for index in np.ndindex(*played.actions.shape):
        logit = logits[index[0], index[1], played.observations[index]]
        p = logit.sigmoid() if played.actions[index] == 0 else 1 - logit.sigmoid()
        assert log_probs[index].item() == pytest.approx(p.log().item(), abs=1e-6)


def test_tabular_log_prob_stays_finite_for_certain_policies() -> None:
    logits = torch.tensor([-200.0, 200.0]).repeat(5).view(1, 2, 5).requires_grad_()
    observations = torch.arange(5).repeat(1, 2, 2, 1)
    actions = torch.stack([torch.zeros(5), torch.ones(5)]).long().expand(1, 2, 2, 5)
    log_probs = tabular_log_prob(logits, observations, actions)
    log_probs.sum().backward()
    assert log_probs.isfinite().all()
    assert logits.grad.isfinite().all()


# --- credit


def literal_credit(algorithm: str, own: list, other: list, co_taken: list, beta: float, gamma: float) -> list[float]:
    """Credit of one player in one game, by a double loop over time; the formulas of the module's table."""
    credit = []
    for t in range(len(own)):
        past = 0.0
        for k in range(t):
            past += gamma ** (t - k) * own[k] * ((1 - co_taken[k]) if algorithm == "loqa" else 1.0)
        credit.append(
            {
                "naive": own[t],
                "sum_of_rewards": own[t] + other[t],
                "advantage_alignment": own[t] + beta * gamma * past * other[t],
                "loqa": own[t] + beta * gamma * past * other[t],
            }[algorithm]
        )
    return credit


@pytest.mark.parametrize("algorithm", SURROGATES)
def test_credit_is_the_formula_up_to_scale(algorithm: str) -> None:
    advantages, taken = normal(2, 2, 3, 5).double(), normal(2, 2, 3, 5, seed=1).double().sigmoid()
    settings = SelfPlay(algorithm, beta=0.7, gamma=0.8)
    result = credits(settings, advantages, taken)
    for seed in range(2):
        for player in range(2):
            expected = [
                literal_credit(
                    algorithm,
                    advantages[seed, player, game].tolist(),
                    advantages[seed, 1 - player, game].tolist(),
                    taken[seed, 1 - player, game].tolist(),
                    beta=0.7,
                    gamma=0.8,
                )
                for game in range(3)
            ]
            # one scale per seed and player, that of the spread; the mean is not taken off
            torch.testing.assert_close(result[seed, player], torch.tensor(np.array(expected) / np.std(expected)))


def test_just_in_time_credit_includes_the_present() -> None:
    advantages = normal(1, 2, 3, 5).double()
    settings = SelfPlay("advantage_alignment", beta=0.7, gamma=0.8, include_current=True)
    result = credits(settings, advantages, torch.full_like(advantages, 0.5))
    own, other = advantages[0]
    expected = own.clone()
    for t in range(5):
        expected[:, t] += 0.7 * sum(0.8 ** (t - k) * own[:, k] for k in range(t + 1)) * other[:, t]
    torch.testing.assert_close(result[0, 0], expected / expected.std(correction=0))


def test_a_game_without_differences_has_credit_zero() -> None:
    nothing = torch.zeros(1, 2, 3, 5)
    assert credits(SelfPlay("advantage_alignment"), nothing, nothing + 0.5).equal(nothing)


# --- gradients of sampled games against enumeration

REWARDS, HORIZON, GAMMA, BETA = rewards_of(CLASSIC_PAYOFFS["chicken"]), 3, 0.8, 0.5
PATHS = list(trajectories(HORIZON))


def probability_of_paths(first: Tensor, second: Tensor) -> Tensor:
    rows = [
        [joint_probability(first, second, s, ab) for s, ab in zip(states_before(path), path, strict=True)]
        for path in PATHS
    ]
    return torch.stack([torch.stack(row).prod() for row in rows])


def expected_gradient(algorithm: str, first: Tensor, second: Tensor) -> Tensor:
    """Gradient of player 1's loss, averaged over every trajectory of a game of three rounds."""
    probability = probability_of_paths(first, second)
    rewards = torch.tensor([[REWARDS[ab] for ab in path] for path in PATHS], dtype=torch.float64)  # (64, 3, 2)
    returns = torch.zeros_like(rewards)
    for t in range(HORIZON):
        for k in range(t, HORIZON):
            returns[:, t] += GAMMA ** (k - t) * rewards[:, k]
    advantages = returns - (probability[:, None, None] * returns).sum(0)
    credit, log_probs = [], []
    leaf = first.detach().requires_grad_()
    for path, (own, other) in zip(PATHS, advantages.movedim(-1, 1).tolist(), strict=True):
        states = states_before(path)
        co_taken = [act(second, other_view(s), ab[1]).item() for s, ab in zip(states, path, strict=True)]
        credit.append(literal_credit(algorithm, own, other, co_taken, BETA, GAMMA))
        log_probs.append(torch.stack([act(leaf, s, ab[0]).log() for s, ab in zip(states, path, strict=True)]))
    credit, weights = torch.tensor(credit, dtype=torch.float64), probability[:, None] / HORIZON
    mean = (weights * credit).sum()
    scale = (weights * (credit - mean).square()).sum().sqrt()
    loss = -(weights * credit / scale * torch.stack(log_probs)).sum()
    return torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("algorithm", SURROGATES)
def test_the_sampled_gradient_is_the_enumerated_one_on_average(algorithm: str) -> None:
    replicas = 32
    logits = normal(2, 5, seed=3)
    settings = SelfPlay(algorithm, games=1500, gamma=GAMMA, beta=BETA)
    game = games.make("chicken", horizon=HORIZON)
    sampled, _ = _surrogate_gradient(game, logits.expand(replicas, 2, 5), settings, generators(replicas))
    sampled = sampled.double()
    first, second = logits.double()
    expected = torch.stack(
        [expected_gradient(algorithm, first, second), expected_gradient(algorithm, second, first)]
    )  # chicken is symmetric, so that player 2 sees the same game
    error = sampled.std(0) / replicas**0.5
    assert ((sampled.mean(0) - expected).abs() < 4 * error).all()
    assert (error.norm() < 0.1 * expected.norm()).all()  # else the test above would pass for anything


def test_the_enumerated_gradient_without_discount_is_the_slope_of_the_return() -> None:
    # guards the oracle: with gamma = 1 the policy gradient theorem holds without weights gamma^t
    first, second = normal(2, 5, seed=3).double()
    rewards = torch.tensor([[REWARDS[ab][0] for ab in path] for path in PATHS], dtype=torch.float64)
    slope = gradient(lambda x: (probability_of_paths(x, second) * rewards.sum(-1)).sum(), first)
    by_score = torch.zeros(5, dtype=torch.float64)
    for path, p, reward in zip(PATHS, probability_of_paths(first, second), rewards, strict=True):
        for t, state in enumerate(states_before(path)):
            score = gradient(lambda x, s=state, a=path[t][0]: act(x, s, a).log(), first)
            by_score += p * reward[t:].sum() * score
    torch.testing.assert_close(by_score, slope)


@pytest.mark.parametrize("step_size", [1.0, 3.0])
def test_lola_dice_points_where_exact_lola_points(step_size: float) -> None:
    replicas, horizon = 8, 8
    logits = normal(2, 5, seed=4)
    settings = SelfPlay("lola_dice", games=2000, gamma=GAMMA, inner_learning_rate=step_size)
    game = games.make("chicken", horizon=horizon)
    sampled, _ = _lola_dice_gradient(game, logits.expand(replicas, 2, 5), settings, generators(replicas))
    for player in (0, 1):
        own, other = logits.double()[[player, 1 - player]]

        def shaped(x: Tensor, other: Tensor = other) -> Tensor:
            y = other.detach().requires_grad_()
            step = torch.autograd.grad(dp_values(x, y, REWARDS, GAMMA, horizon)[1], y, create_graph=True)[0]
            return dp_values(x, other + step_size * step, REWARDS, GAMMA, horizon)[0]

        expected = gradient(shaped, own)
        ascent = -sampled[:, player].double().mean(0)
        assert torch.cosine_similarity(ascent, expected, dim=0) > 0.98
        assert ascent.norm().item() == pytest.approx(expected.norm().item(), rel=0.1)
        # the two directions differ, so that the test can tell LOLA from naive learning
        naive = gradient(lambda x, y: dp_values(x, y, REWARDS, GAMMA, horizon)[0], own, other)
        assert torch.cosine_similarity(naive, expected, dim=0) < 0.95


# --- what is learned in a short run; thresholds held for six disjoint sets of seeds with the same margins


def learned(algorithm: str) -> Tensor:
    """P(cooperate) of eight pairs of learners, (16, 5)."""
    settings = SelfPlay(algorithm, updates=200, games=64, learning_rate=0.06, beta=0.1, record_every=200)
    return train(small_game(32), settings, range(8), progress=False).logits[-1].sigmoid().flatten(0, 1)


def test_naive_learners_defect() -> None:
    assert (learned("naive") < 0.4).all()


def test_learners_of_the_sum_of_rewards_cooperate() -> None:
    assert (learned("sum_of_rewards") > 0.6).all()


def test_advantage_alignment_answers_like_with_like() -> None:
    policies = learned("advantage_alignment")
    start, cc, cd, dc, dd = policies.mean(0).tolist()
    assert min(start, cc, dc) > 0.75
    assert max(cd, dd) < 0.25
    assert classify(policies).count("tit for tat") >= 12


# --- history


@pytest.mark.parametrize(
    ("updates", "record_every", "recorded"), [(7, 3, [0, 3, 6, 7]), (6, 3, [0, 3, 6]), (2, 10, [0, 2]), (1, 1, [0, 1])]
)
def test_history_has_the_recorded_updates_and_the_last(updates: int, record_every: int, recorded: list[int]) -> None:
    settings = replace(TINY, updates=updates, record_every=record_every)
    history = train(small_game(), settings, [4, 2], progress=False)
    assert history.updates.tolist() == recorded
    assert history.logits.shape == (len(recorded), 2, 2, 5)
    assert history.rewards.shape == (len(recorded), 2, 2)


@every_algorithm
def test_recording_more_often_does_not_change_the_run(algorithm: str) -> None:
    settings = replace(TINY, algorithm=algorithm)
    often = train(small_game(), replace(settings, record_every=1), [0], progress=False)
    seldom = train(small_game(), replace(settings, record_every=4), [0], progress=False)
    assert often.logits[[0, 4]].equal(seldom.logits)
    assert often.rewards[[0, 4]].equal(seldom.rewards)


def test_recorded_rewards_are_those_of_the_recorded_policies() -> None:
    # tit for tat against always defect: -3 and 0 first, then -2 for both
    certain = torch.stack([strategy("tit for tat"), strategy("always defect")]) * 100 - 50
    history = train(small_game(5), TINY, [0], progress=False, initial=certain[None])
    torch.testing.assert_close(history.logits[0, 0], certain.float())
    assert history.rewards[0, 0].tolist() == pytest.approx([-11 / 5, -8 / 5])


def test_training_does_not_change_the_initial_logits_it_was_given() -> None:
    initial = normal(1, 2, 5)
    before = initial.clone()
    history = train(small_game(), TINY, [0], progress=False, initial=initial)
    assert initial.equal(before)
    assert history.logits[0].equal(before)
    assert not history.logits[-1].equal(before)


@every_algorithm
def test_the_first_step_of_adam_has_the_length_of_the_learning_rate(algorithm: str) -> None:
    settings = replace(TINY, algorithm=algorithm, updates=1, record_every=1, learning_rate=0.02, games=64)
    history = train(small_game(), settings, [0], progress=False)
    step = (history.logits[1] - history.logits[0]).abs()
    torch.testing.assert_close(step, torch.full_like(step, 0.02), rtol=1e-2, atol=0.0)


# --- bad input


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"algorithm": "sarsa"}, "algorithm"),
        ({"gamma": 1.1}, "gamma"),
        ({"gamma": -0.1}, "gamma"),
        ({"updates": 0}, "updates"),
        ({"updates": 2.5}, "updates"),
        ({"games": 0}, "games"),
        ({"record_every": 0}, "record_every"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"inner_learning_rate": -1.0}, "inner_learning_rate"),
        ({"beta": -0.1}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"initial_scale": -0.1}, "initial_scale"),
        ({"initial_scale": float("nan")}, "initial_scale"),
    ],
)
def test_bad_settings_are_refused_by_name(options: dict, named: str) -> None:
    with pytest.raises(ValueError, match=rf"\b{named}\b.* must"):
        SelfPlay(**options)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param(lambda: train(small_game(), TINY, [], progress=False), "seeds", id="no seeds"),
        pytest.param(lambda: train(small_game(), TINY, [1, 1], progress=False), "seeds", id="a seed twice"),
        pytest.param(
            lambda: train(small_game(), TINY, [1], progress=False, initial=torch.zeros(2, 5)), "initial", id="initial"
        ),
    ],
)
def test_bad_arguments_of_train_are_refused_by_name(call: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
