from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from oracles import act, dp_values, gradient, joint_probability, other_view, rewards_of, states_before, trajectories
from torch import Generator, Tensor

from aa_core.advantages import CreditRule, aligned_advantages, naive_advantages, summed_advantages
from aa_core.games.base import Game
from aa_core.games.matrix import CLASSIC_PAYOFFS, MatrixGame
from aa_core.policies import classify
from aa_core.tabular import (
    History,
    Tabular,
    lola_gradient,
    play_tables,
    rollout,
    tabular_gradient,
    tabular_log_prob,
    tabular_loss,
    train,
    train_lola,
)

TINY = Tabular(updates=4, games=8, learning_rate=0.05, record_every=2)
GAMMA, BETA = 0.8, 0.5
RULES: dict[str, CreditRule] = {
    "naive": naive_advantages,
    "sum_of_rewards": summed_advantages,
    "loqa": partial(aligned_advantages, beta=BETA, gamma=GAMMA, loqa=True),
    "advantage_alignment": partial(aligned_advantages, beta=BETA, gamma=GAMMA),
}
every_rule = pytest.mark.parametrize("rule", RULES)
every_algorithm = pytest.mark.parametrize("algorithm", [*RULES, "lola_dice"])


def run(algorithm: str, settings: Tabular, seeds: list[int]) -> History:
    if algorithm == "lola_dice":
        return train_lola(small_game(), settings, 0.3, seeds, progress=False)
    return train(small_game(), settings, RULES[algorithm], seeds, progress=False)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def generators(count: int, first: int = 0) -> list[Generator]:
    return [Generator().manual_seed(first + seed) for seed in range(count)]


def small_game(horizon: int = 6) -> MatrixGame:
    return MatrixGame(CLASSIC_PAYOFFS["prisoners_dilemma"], horizon)


def chicken(horizon: int) -> Game:
    return MatrixGame(CLASSIC_PAYOFFS["chicken"], horizon)


# --- random numbers


@every_algorithm
def test_the_same_seeds_give_the_same_numbers(algorithm: str) -> None:
    torch.manual_seed(1)
    first = run(algorithm, TINY, [3, 5])
    torch.manual_seed(2)  # somebody else draws from the global generators
    torch.rand(10)
    np.random.seed(7)  # noqa: NPY002
    again = run(algorithm, TINY, [3, 5])
    assert all(x.equal(y) for x, y in zip(first, again, strict=True))


@every_algorithm
def test_other_seeds_do_not_change_a_seeds_result(algorithm: str) -> None:
    together = run(algorithm, TINY, [3, 5, 9])
    for index, seed in enumerate([3, 5, 9]):
        alone = run(algorithm, TINY, [seed])
        torch.testing.assert_close(together.logits[:, index], alone.logits[:, 0])
        torch.testing.assert_close(together.rewards[:, index], alone.rewards[:, 0])


def test_training_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    run("advantage_alignment", TINY, [0])
    assert torch.get_rng_state().equal(before)


def test_different_seeds_give_different_numbers() -> None:
    history = run("naive", TINY, [0, 1])
    assert not history.logits[:, 0].equal(history.logits[:, 1])


# --- play


def test_rollout_records_what_was_seen_done_and_earned() -> None:
    game = chicken(3)
    script = torch.tensor([[[0, 1], [1, 1]], [[1, 0], [0, 0]], [[0, 0], [0, 1]]])  # (time, batch, players)
    played = rollout(game, lambda observation, time: script[time], 2)
    assert played.actions.equal(script.movedim(0, -1))
    assert played.observations.tolist() == [[[0, 2, 3], [0, 3, 2]], [[0, 4, 1], [0, 4, 1]]]
    assert played.rewards.tolist() == [[[1, 4, 3], [4, 1, 3]], [[0, 3, 1], [0, 3, 4]]]


def test_every_seed_and_player_plays_by_its_own_table() -> None:
    tables = torch.randint(2, (3, 2, 5), generator=Generator().manual_seed(0))  # 1: cooperate
    played = play_tables(small_game(), 200.0 * tables - 100.0, 4, generators(3))
    assert played.actions.shape == (3, 2, 4, 6)
    for seed in range(3):
        for player in range(2):
            seen = played.observations[seed, player]
            assert played.actions[seed, player].equal(1 - tables[seed, player][seen])


def test_actions_are_drawn_with_the_probabilities_of_the_table() -> None:
    logits = normal(2, 2, 5)
    played = play_tables(small_game(8), logits, 4000, generators(2))
    for seed in range(2):
        for player in range(2):
            for state in range(5):
                drawn = played.actions[seed, player][played.observations[seed, player] == state] == 0
                p = logits[seed, player, state].sigmoid()
                error = (p * (1 - p) / len(drawn)).sqrt()
                assert (drawn.double().mean() - p).abs() < 4 * error


def test_tabular_log_prob_looks_up_the_action_that_was_taken() -> None:
    logits = normal(2, 2, 5)
    played = play_tables(small_game(), logits, 3, generators(2))
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


def literal_credit(rule: str, own: list, other: list, co_taken: list) -> list[float]:
    """Credit of one player in one game, by a double loop over time."""
    credit = []
    for t in range(len(own)):
        past = 0.0
        for k in range(t):
            past += GAMMA ** (t - k) * own[k] * ((1 - co_taken[k]) if rule == "loqa" else 1.0)
        credit.append(
            {
                "naive": own[t],
                "sum_of_rewards": own[t] + other[t],
                "advantage_alignment": own[t] + BETA * GAMMA * past * other[t],
                "loqa": own[t] + BETA * GAMMA * past * other[t],
            }[rule]
        )
    return credit


def literal_credits(rule: str, advantages: Tensor, taken: Tensor) -> np.ndarray:
    """The same for all seeds, players and games."""
    credits = np.zeros(advantages.shape)
    for seed, player, game in np.ndindex(*advantages.shape[:3]):
        own, other = advantages[seed, [player, 1 - player], game].tolist()
        credits[seed, player, game] = literal_credit(rule, own, other, taken[seed, 1 - player, game].tolist())
    return credits


@every_rule
def test_the_loss_is_minus_the_mean_of_credit_times_log_probability(rule: str) -> None:
    log_probs, advantages = -normal(2, 2, 3, 5, seed=1).double().exp(), normal(2, 2, 3, 5).double()
    expected = literal_credits(rule, advantages, log_probs.exp())
    loss = tabular_loss(log_probs, advantages, RULES[rule], normalise=False)
    assert loss.item() == pytest.approx(-(expected * log_probs.numpy()).sum() / 15)
    # one scale per seed and player, that of the spread; the mean is not taken off
    scaled = expected / expected.std((2, 3), keepdims=True)
    loss = tabular_loss(log_probs, advantages, RULES[rule])
    assert loss.item() == pytest.approx(-(scaled * log_probs.numpy()).sum() / 15)


def test_a_game_without_differences_has_no_slope() -> None:
    log_probs = torch.full((1, 2, 3, 5), -1.0, requires_grad=True)
    loss = tabular_loss(log_probs, torch.zeros(1, 2, 3, 5), RULES["advantage_alignment"])
    assert (torch.autograd.grad(loss, log_probs)[0] == 0).all()


# --- gradients of sampled games against enumeration

REWARDS, HORIZON = rewards_of(CLASSIC_PAYOFFS["chicken"]), 3
PATHS = list(trajectories(HORIZON))


def probability_of_paths(first: Tensor, second: Tensor) -> Tensor:
    rows = [
        [joint_probability(first, second, s, ab) for s, ab in zip(states_before(path), path, strict=True)]
        for path in PATHS
    ]
    return torch.stack([torch.stack(row).prod() for row in rows])


def expected_gradient(rule: str, first: Tensor, second: Tensor) -> Tensor:
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
        credit.append(literal_credit(rule, own, other, co_taken))
        log_probs.append(torch.stack([act(leaf, s, ab[0]).log() for s, ab in zip(states, path, strict=True)]))
    credit, weights = torch.tensor(credit, dtype=torch.float64), probability[:, None] / HORIZON
    mean = (weights * credit).sum()
    scale = (weights * (credit - mean).square()).sum().sqrt()
    loss = -(weights * credit / scale * torch.stack(log_probs)).sum()
    return torch.autograd.grad(loss, leaf)[0]


@every_rule
def test_the_sampled_gradient_is_the_enumerated_one_on_average(rule: str) -> None:
    replicas = 32
    logits = normal(2, 5, seed=3)
    arguments = chicken(HORIZON), logits.expand(replicas, 2, 5), Tabular(games=1500, gamma=GAMMA), generators(replicas)
    sampled = tabular_gradient(*arguments, RULES[rule])[0].double()
    first, second = logits.double()
    expected = torch.stack(
        [expected_gradient(rule, first, second), expected_gradient(rule, second, first)]
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
    settings = Tabular(games=2000, gamma=GAMMA)
    arguments = chicken(horizon), logits.expand(replicas, 2, 5), settings, generators(replicas)
    sampled, _ = lola_gradient(*arguments, step_size)
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


def learned(credit: CreditRule) -> Tensor:
    """P(cooperate) of eight pairs of learners, (16, 5)."""
    settings = Tabular(updates=200, games=64, learning_rate=0.06, record_every=200)
    return train(small_game(32), settings, credit, range(8), progress=False).logits[-1].sigmoid().flatten(0, 1)


def test_naive_learners_defect() -> None:
    assert (learned(naive_advantages) < 0.4).all()


def test_learners_of_the_sum_of_rewards_cooperate() -> None:
    assert (learned(summed_advantages) > 0.6).all()


def test_advantage_alignment_answers_like_with_like() -> None:
    policies = learned(partial(aligned_advantages, beta=0.1, gamma=0.9))
    start, cc, cd, dc, dd = policies.mean(0).tolist()
    assert min(start, cc, dc) > 0.75
    assert max(cd, dd) < 0.25
    assert classify(policies).count("tit for tat") >= 12


# --- history


@pytest.mark.parametrize(
    ("updates", "record_every", "recorded"), [(7, 3, [0, 3, 6, 7]), (6, 3, [0, 3, 6]), (2, 10, [0, 2]), (1, 1, [0, 1])]
)
def test_history_has_the_recorded_updates_and_the_last(updates: int, record_every: int, recorded: list[int]) -> None:
    history = run("naive", replace(TINY, updates=updates, record_every=record_every), [4, 2])
    assert history.updates.tolist() == recorded
    assert history.logits.shape == (len(recorded), 2, 2, 5)
    assert history.rewards.shape == (len(recorded), 2, 2)


@every_algorithm
def test_recording_more_often_does_not_change_the_run(algorithm: str) -> None:
    often = run(algorithm, replace(TINY, record_every=1), [0])
    seldom = run(algorithm, replace(TINY, record_every=4), [0])
    assert often.logits[[0, 4]].equal(seldom.logits)
    assert often.rewards[[0, 4]].equal(seldom.rewards)


def test_recorded_rewards_are_those_of_the_recorded_policies() -> None:
    settings = replace(TINY, games=2000, initial_scale=2.0, record_every=4)
    history = run("naive", settings, [0])
    for logits, rewards in zip(history.logits[:, 0].double(), history.rewards[:, 0].double(), strict=True):
        payoffs = rewards_of(CLASSIC_PAYOFFS["prisoners_dilemma"])
        expected = dp_values(*logits, payoffs, 1.0, 6) / 6
        torch.testing.assert_close(rewards, expected, atol=0.05, rtol=0.0)


@every_algorithm
def test_the_first_step_of_adam_has_the_length_of_the_learning_rate(algorithm: str) -> None:
    history = run(algorithm, replace(TINY, updates=1, record_every=1, learning_rate=0.02, games=64), [0])
    step = (history.logits[1] - history.logits[0]).abs()
    torch.testing.assert_close(step, torch.full_like(step, 0.02), rtol=1e-2, atol=0.0)


# --- bad input


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"gamma": 1.1}, "gamma"),
        ({"gamma": -0.1}, "gamma"),
        ({"updates": 0}, "updates"),
        ({"updates": 2.5}, "updates"),
        ({"games": 0}, "games"),
        ({"record_every": 0}, "record_every"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"initial_scale": -0.1}, "initial_scale"),
        ({"initial_scale": float("nan")}, "initial_scale"),
    ],
)
def test_bad_settings_are_refused_by_name(options: dict, named: str) -> None:
    with pytest.raises(ValueError, match=rf"\b{named}\b.* must"):
        Tabular(**options)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param(lambda: run("naive", TINY, []), "seeds", id="no seeds"),
        pytest.param(lambda: run("naive", TINY, [1, 1]), "seeds", id="a seed twice"),
        pytest.param(lambda: train_lola(small_game(), TINY, -1.0, [1]), "inner_learning_rate", id="step"),
    ],
)
def test_bad_arguments_of_train_are_refused_by_name(call: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
