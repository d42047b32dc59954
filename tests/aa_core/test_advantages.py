from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from torch import Tensor

from aa_core.advantages import (
    aligned_advantages,
    aligned_advantages_n,
    discounted_returns,
    discounted_sum,
    gae,
    group_baseline,
    group_relative_advantages,
    shaping_weights,
)

LENGTHS = (1, 2, 3, 8, 63, 64, 65, 130)  # around the chunk length of 64, and more than two chunks
GAMMAS = (0.0, 0.5, 0.9, 1.0)
every_size = pytest.mark.parametrize(("steps", "gamma"), [(T, g) for T in LENGTHS for g in GAMMAS])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loop(x: Tensor, entry: Callable[[list[float], int], float]) -> Tensor:
    """Fill a tensor (batch, time) entry by entry from the row and the step."""
    return torch.tensor([[entry(row, t) for t in range(len(row))] for row in x.tolist()], dtype=torch.float64)


def past_loop(x: Tensor, gamma: float, include_current: bool) -> Tensor:
    return loop(x, lambda row, t: sum(gamma ** (t - k) * row[k] for k in range(t + include_current)))


def close(x: Tensor, y: Tensor) -> None:
    torch.testing.assert_close(x, y, rtol=1e-11, atol=1e-11)


# --- against literal loops


@every_size
def test_discounted_sum_is_the_double_loop(steps: int, gamma: float) -> None:
    x = normal(2, steps)
    close(discounted_sum(x, gamma), past_loop(x, gamma, include_current=True))


@every_size
def test_discounted_returns_are_the_double_loop(steps: int, gamma: float) -> None:
    x = normal(2, steps)
    expected = loop(x, lambda row, t: sum(gamma ** (k - t) * row[k] for k in range(t, steps)))
    close(discounted_returns(x, gamma), expected)


@pytest.mark.parametrize("include_current", [False, True])
@every_size
def test_shaping_weights_are_the_double_loop(steps: int, gamma: float, include_current: bool) -> None:
    x = normal(2, steps)
    close(shaping_weights(x, gamma, include_current), past_loop(x, gamma, include_current))


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
@every_size
def test_gae_is_the_loop_over_errors(steps: int, gamma: float, lam: float) -> None:
    rewards, values = normal(2, steps), normal(2, steps + 1, seed=1)
    for r, v, row in zip(rewards.tolist(), values.tolist(), gae(rewards, values, gamma, lam), strict=True):
        errors = [r[t] + gamma * v[t + 1] - v[t] for t in range(steps)]
        expected = [sum((gamma * lam) ** (k - t) * errors[k] for k in range(t, steps)) for t in range(steps)]
        close(row, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("include_current", [False, True])
@every_size
def test_aligned_advantages_are_the_formula_of_the_paper(steps: int, gamma: float, include_current: bool) -> None:
    own, other, beta = normal(2, steps), normal(2, steps, seed=1), 0.7
    past = past_loop(own, gamma, include_current)
    leading = 1.0 if include_current else gamma
    close(aligned_advantages(own, other, beta, gamma, include_current), own + beta * leading * past * other)


@every_size
def test_aligned_advantages_n_sum_over_co_players(steps: int, gamma: float) -> None:
    advantages, beta = normal(2, 4, steps), 0.3
    expected = advantages.clone()
    for player in range(4):
        past = past_loop(advantages[:, player], gamma, include_current=False)
        for co_player in range(4):
            if co_player != player:
                expected[:, player] += beta * gamma * past * advantages[:, co_player]
    close(aligned_advantages_n(advantages, beta, gamma), expected)


def aggregate_loop(values: list[float], over: str, weights: list[float]) -> float:
    """What co-players' advantages come to, one by one; `weights` are those of one player for the co-players."""
    if over == "weights":
        return sum(w * v for w, v in zip(weights, values, strict=True))
    product = 1.0
    for value in values:
        product *= value
    return {"sum": sum(values), "mean": sum(values) / len(values), "product": product}[over]


@pytest.mark.parametrize("past", ["discounted", "averaged"])
@pytest.mark.parametrize("over", ["sum", "mean", "product", "weights"])
@pytest.mark.parametrize("players", [2, 3, 5])
@pytest.mark.parametrize("steps", [1, 2, 9, 65])
def test_every_form_for_n_players_is_the_literal_loop(steps: int, players: int, over: str, past: str) -> None:
    x, weights, beta, gamma = normal(2, players, steps), normal(players, players, seed=1), 0.3, 0.9
    expected = x.clone()
    for game in range(2):
        a = x[game].tolist()
        for i in range(players):
            apart = [j for j in range(players) if j != i]
            for t in range(steps):
                discounted = gamma * sum(gamma ** (t - k) * a[i][k] for k in range(t))
                before = discounted if past == "discounted" else sum(a[i][:t]) / t if t else 0.0
                others = aggregate_loop([a[j][t] for j in apart], over, [weights[i, j].item() for j in apart])
                expected[game, i, t] += beta * before * others
    close(aligned_advantages_n(x, beta, gamma, past=past, over=weights if over == "weights" else over), expected)


@pytest.mark.parametrize("over", ["sum", "mean", "product"])
def test_the_just_in_time_form_goes_with_every_aggregate(over: str) -> None:
    x = normal(2, 3, 9)
    expected = x.clone()
    for i in range(3):
        others = [x[:, j] for j in range(3) if j != i]
        total = others[0] * others[1] if over == "product" else (others[0] + others[1]) / (2 if over == "mean" else 1)
        expected[:, i] += 0.3 * past_loop(x[:, i], 0.9, include_current=True) * total
    close(aligned_advantages_n(x, 0.3, 0.9, include_current=True, over=over), expected)


@pytest.mark.parametrize("steps", [1, 3, 65])
def test_group_baseline_is_the_mean_of_the_other_games_of_the_group(steps: int) -> None:
    returns, groups = normal(7, steps), [5, -2, 5, 9, -2, 5, 5]
    for i, row in enumerate(group_baseline(returns, torch.tensor(groups))):
        others = [returns[j] for j in range(7) if j != i and groups[j] == groups[i]]
        close(row, torch.stack(others).mean(0) if others else torch.zeros(steps, dtype=torch.float64))


@every_size
def test_group_relative_advantages_are_returns_minus_baseline(steps: int, gamma: float) -> None:
    rewards = normal(3, steps)
    returns = loop(rewards, lambda row, t: sum(gamma ** (k - t) * row[k] for k in range(t, steps)))
    expected = torch.stack([returns[i] - (returns.sum(0) - returns[i]) / 2 for i in range(3)])
    close(group_relative_advantages(rewards, gamma), expected)


# --- shaping weights


@pytest.mark.parametrize("include_current", [False, True])
def test_shaping_weights_stay_exact_for_100_000_steps_in_float32(include_current: bool) -> None:
    x = normal(100_000).float()

    def oracle(y: np.ndarray) -> np.ndarray:
        past = lfilter([1.0], [1.0, -0.9], y)
        return past if include_current else past - y

    weights = shaping_weights(x, 0.9, include_current)
    assert weights.dtype == torch.float32
    assert weights.isfinite().all()
    # relative to the sum of magnitudes: where terms of both signs cancel, a ratio to the result says nothing
    error = np.abs(weights.double().numpy() - oracle(x.double().numpy()))
    assert (error <= 1e-5 * oracle(x.double().abs().numpy())).all()


@given(st.integers(1, 140), st.sampled_from(GAMMAS), st.integers(0, 100))
def test_just_in_time_weights_add_the_present_to_the_strict_past(steps: int, gamma: float, seed: int) -> None:
    x = normal(2, steps, seed=seed)
    close(shaping_weights(x, gamma, include_current=True), shaping_weights(x, gamma) + x)


@pytest.mark.parametrize("steps", LENGTHS)
def test_the_first_step_has_no_strict_past(steps: int) -> None:
    assert (shaping_weights(normal(3, steps), 0.9)[:, 0] == 0).all()


@pytest.mark.parametrize("shape", [(70,), (2, 70), (2, 3, 4, 70)])
def test_any_number_of_batch_axes_gives_the_rows_one_by_one(shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    rows = [shaping_weights(row, 0.9) for row in x.reshape(-1, 70)]
    close(shaping_weights(x, 0.9), torch.stack(rows).reshape(shape))


@pytest.mark.parametrize("steps", [10, 70])
def test_later_advantages_do_not_change_earlier_weights(steps: int) -> None:
    x = normal(steps)
    changed = torch.cat([x[: steps // 2], normal(steps - steps // 2, seed=1)])
    close(shaping_weights(x, 0.9)[: steps // 2 + 1], shaping_weights(changed, 0.9)[: steps // 2 + 1])


# --- aligned advantages: limits and symmetries


@pytest.mark.parametrize("include_current", [False, True])
def test_beta_zero_is_no_shaping(include_current: bool) -> None:
    own = normal(3, 70)
    assert aligned_advantages(own, normal(3, 70, seed=1), 0.0, 0.9, include_current).equal(own)


@pytest.mark.parametrize("include_current", [False, True])
def test_an_indifferent_co_player_gives_no_shaping(include_current: bool) -> None:
    own = normal(3, 70)
    assert aligned_advantages(own, torch.zeros_like(own), 2.0, 0.9, include_current).equal(own)


def test_a_good_past_reinforces_what_is_good_for_the_co_player() -> None:
    own, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert aligned_advantages(own, other, 1.0, 0.9)[1] > 0
    assert aligned_advantages(-own, other, 1.0, 0.9)[1] < 0
    assert aligned_advantages(own, -other, 1.0, 0.9)[1] < 0


@pytest.mark.parametrize("include_current", [False, True])
def test_past_factor_multiplies_the_past_and_nothing_else(include_current: bool) -> None:
    own, other, factor = normal(2, 9), normal(2, 9, seed=1), normal(2, 9, seed=2)
    leading = 1.0 if include_current else 0.8
    expected = own + 0.5 * leading * past_loop(own * factor, 0.8, include_current) * other
    close(aligned_advantages(own, other, 0.5, 0.8, include_current, factor), expected)


def test_beta_may_differ_by_game() -> None:
    own, other, beta = normal(3, 9), normal(3, 9, seed=1), torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    rows = [aligned_advantages(own[i], other[i], beta[i].item(), 0.9) for i in range(3)]
    close(aligned_advantages(own, other, beta[:, None], 0.9), torch.stack(rows))


@given(st.integers(1, 140), st.sampled_from(GAMMAS), st.booleans())
def test_two_players_are_the_two_player_formula(steps: int, gamma: float, include_current: bool) -> None:
    x = normal(3, 2, steps)
    first = aligned_advantages(x[:, 0], x[:, 1], 0.4, gamma, include_current)
    second = aligned_advantages(x[:, 1], x[:, 0], 0.4, gamma, include_current)
    close(aligned_advantages_n(x, 0.4, gamma, include_current), torch.stack([first, second], 1))


@given(st.permutations(range(5)), st.booleans())
def test_renaming_the_players_renames_their_credit(order: list[int], include_current: bool) -> None:
    x = normal(2, 5, 9)
    close(
        aligned_advantages_n(x[:, order], 0.4, 0.9, include_current),
        aligned_advantages_n(x, 0.4, 0.9, include_current)[:, order],
    )


FORMS = [(past, over) for past in ("discounted", "averaged") for over in ("sum", "mean", "product")]


@given(st.permutations(range(5)), st.sampled_from(FORMS), st.integers(0, 100))
def test_renaming_the_players_renames_their_credit_in_every_form(
    order: list[int], form: tuple[str, str], seed: int
) -> None:
    x, (past, over) = normal(2, 5, 9, seed=seed), form
    found = aligned_advantages_n(x[:, order], 0.4, 0.9, past=past, over=over)
    close(found, aligned_advantages_n(x, 0.4, 0.9, past=past, over=over)[:, order])


@given(st.permutations(range(5)), st.integers(0, 100))
def test_weights_are_renamed_with_the_players(order: list[int], seed: int) -> None:
    x, weights = normal(2, 5, 9, seed=seed), normal(5, 5, seed=seed + 1)
    renamed = aligned_advantages_n(x[:, order], 0.4, 0.9, over=weights[order][:, order])
    close(renamed, aligned_advantages_n(x, 0.4, 0.9, over=weights)[:, order])


@given(st.integers(1, 6), st.sampled_from(FORMS), st.integers(0, 100))
def test_without_strength_the_credit_is_the_advantage(players: int, form: tuple[str, str], seed: int) -> None:
    x = normal(2, players, 9, seed=seed)
    assert aligned_advantages_n(x, 0.0, 0.9, past=form[0], over=form[1]).equal(x)
    assert aligned_advantages_n(x, 0.0, 0.9, over=normal(players, players)).equal(x)


@given(st.integers(1, 70), st.sampled_from(GAMMAS), st.integers(0, 100))
def test_with_one_co_player_all_aggregates_are_its_advantage(steps: int, gamma: float, seed: int) -> None:
    x = normal(3, 2, steps, seed=seed)
    pair = torch.stack([aligned_advantages(x[:, i], x[:, 1 - i], 0.4, gamma) for i in range(2)], 1)
    for over in ("sum", "mean", "product", torch.ones(2, 2)):
        close(aligned_advantages_n(x, 0.4, gamma, over=over), pair)


@given(st.integers(2, 6), st.sampled_from(["discounted", "averaged"]), st.integers(0, 100))
def test_equal_weights_are_the_sum_and_the_diagonal_is_ignored(players: int, past: str, seed: int) -> None:
    x = normal(2, players, 9, seed=seed)
    total = aligned_advantages_n(x, 0.4, 0.9, past=past)
    close(aligned_advantages_n(x, 0.4, 0.9, past=past, over=torch.ones(players, players)), total)
    yourself = torch.ones(players, players) + 7 * torch.eye(players)
    close(aligned_advantages_n(x, 0.4, 0.9, past=past, over=yourself), total)
    mean = aligned_advantages_n(x, 0.4 * (players - 1), 0.9, past=past, over="mean")
    close(mean, total)


def test_a_single_player_has_nobody_to_align_with() -> None:
    x = normal(2, 1, 9)
    for over in ("sum", "mean"):
        close(aligned_advantages_n(x, 0.4, 0.9, over=over), x)


# --- group baseline


def test_own_return_does_not_influence_own_baseline() -> None:
    groups = torch.tensor([0, 0, 0, 1, 1, 2])
    jacobian = torch.autograd.functional.jacobian(lambda r: group_baseline(r, groups), normal(6, 2))  # (6, 2, 6, 2)
    influence = jacobian.diagonal(dim1=1, dim2=3).movedim(-1, 0)  # (time, game, game)
    same = (groups[:, None] == groups).double()
    others = (same - torch.eye(6)) / (same.sum(-1, keepdim=True) - 1).clamp(min=1)
    close(influence, others.expand(2, 6, 6))


def test_a_game_alone_in_its_group_has_baseline_zero() -> None:
    baseline = group_baseline(normal(3, 4), torch.tensor([0, 1, 1]))
    assert (baseline[0] == 0).all()
    assert (baseline[1:] != 0).all()
    assert (group_baseline(normal(1, 4)) == 0).all()


@given(st.permutations(range(6)))
def test_reordering_the_games_reorders_the_baselines(order: list[int]) -> None:
    returns, groups = normal(6, 3), torch.tensor([0, 0, 1, 1, 1, 2])
    close(group_baseline(returns[order], groups[order]), group_baseline(returns, groups)[order])


@given(st.lists(st.integers(-(2**60), 2**60), min_size=3, max_size=3, unique=True))
def test_group_ids_are_only_labels(labels: list[int]) -> None:
    returns, groups = normal(6, 3), torch.tensor([0, 0, 1, 1, 1, 2])
    close(group_baseline(returns, torch.tensor(labels)[groups]), group_baseline(returns, groups))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_baselines_have_the_mean_of_their_group(ids: list[int]) -> None:
    returns, groups = normal(len(ids), 3), torch.tensor(ids)
    baselines = group_baseline(returns, groups)
    for group in set(ids):
        member = groups == group
        if member.sum() > 1:
            close(baselines[member].mean(0), returns[member].mean(0))


def test_no_groups_means_one_group() -> None:
    returns = normal(5, 3)
    close(group_baseline(returns), group_baseline(returns, torch.full((5,), 7)))


# --- generalised advantage estimation


def test_gae_with_lambda_one_is_return_minus_value() -> None:
    rewards, values = normal(3, 70), normal(3, 71, seed=1)
    values[:, -1] = 0  # a true end
    close(gae(rewards, values, 0.9, 1.0), discounted_returns(rewards, 0.9) - values[:, :-1])


def test_gae_with_lambda_zero_is_the_one_step_error() -> None:
    rewards, values = normal(3, 70), normal(3, 71, seed=1)
    close(gae(rewards, values, 0.9, 0.0), rewards + 0.9 * values[:, 1:] - values[:, :-1])


def test_gae_bootstraps_from_the_last_value() -> None:
    advantage = gae(torch.zeros(1, 2), torch.tensor([[0.0, 0.0, 1.0]]), 0.5, 1.0)
    torch.testing.assert_close(advantage, torch.tensor([[0.25, 0.5]]))


# --- differentiability


@pytest.mark.parametrize("steps", [5, 70])
@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        pytest.param(lambda x: discounted_sum(x, 0.9), 1, id="discounted_sum"),
        pytest.param(lambda x: discounted_returns(x, 0.9), 1, id="discounted_returns"),
        pytest.param(lambda x: shaping_weights(x, 0.9), 1, id="shaping_weights"),
        pytest.param(lambda x, y: aligned_advantages(x, y, 0.4, 0.9), 2, id="aligned_advantages"),
        pytest.param(lambda x, y, z: aligned_advantages(x, y, 0.4, 0.9, True, z), 3, id="past_factor"),
        pytest.param(lambda x, y: group_relative_advantages(torch.cat([x, y]), 0.9), 2, id="group_relative"),
        pytest.param(lambda x, y: aligned_advantages_n(torch.stack([x, y, x - y], 1), 0.4, 0.9), 2, id="n_players"),
    ],
)
def test_gradients_agree_with_finite_differences(function: Callable[..., Tensor], inputs: int, steps: int) -> None:
    tensors = [normal(1, steps, seed=i).requires_grad_() for i in range(inputs)]
    assert torch.autograd.gradcheck(function, tensors)


@pytest.mark.parametrize("steps", [5, 70])
def test_gradients_of_gae_agree_with_finite_differences(steps: int) -> None:
    rewards, values = normal(1, steps).requires_grad_(), normal(1, steps + 1, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda r, v: gae(r, v, 0.9, 0.7), [rewards, values])


def test_gradient_by_beta_is_the_shaping_term() -> None:
    own, other, beta = normal(6), normal(6, seed=1), torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(aligned_advantages(own, other, beta, 0.9).sum(), beta)
    close(slope, (0.9 * shaping_weights(own, 0.9) * other).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("steps", [5, 70])
def test_the_dtype_is_kept(dtype: torch.dtype, steps: int) -> None:
    x = normal(2, steps).to(dtype)
    assert discounted_returns(x, 0.9).dtype == dtype
    assert aligned_advantages(x, x, 0.1, 0.9).dtype == dtype
    assert group_relative_advantages(x, 0.9).dtype == dtype


# --- bad input

X, NAN = torch.ones(2, 3), torch.tensor([[0.0, float("nan"), 1.0], [0.0, 0.0, 0.0]])
INF = torch.tensor([[float("inf"), -float("inf"), 1.0], [0.0, 0.0, 0.0]])
INTEGERS = torch.ones(2, 3, dtype=torch.long)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param(lambda: discounted_returns(INTEGERS, 0.9), "rewards", id="integer rewards"),
        pytest.param(lambda: discounted_returns([[1.0]], 0.9), "rewards", id="rewards not a tensor"),
        pytest.param(lambda: discounted_returns(torch.tensor(1.0), 0.9), "rewards", id="rewards without time"),
        pytest.param(lambda: discounted_returns(NAN, 0.9), "rewards", id="NaN reward"),
        pytest.param(lambda: discounted_returns(INF, 0.9), "rewards", id="infinite rewards"),
        pytest.param(lambda: discounted_returns(X, 1.1), "gamma", id="gamma above 1"),
        pytest.param(lambda: discounted_returns(X, -0.1), "gamma", id="negative gamma"),
        pytest.param(lambda: discounted_returns(X, float("nan")), "gamma", id="gamma NaN"),
        pytest.param(lambda: discounted_returns(X, "0.9"), "gamma", id="gamma a string"),
        pytest.param(lambda: shaping_weights(X, 1.1), "gamma", id="weights: gamma above 1"),
        pytest.param(lambda: shaping_weights(INTEGERS, 0.9), "advantages", id="integer advantages"),
        pytest.param(lambda: shaping_weights(NAN, 0.9), "advantages", id="NaN advantages"),
        pytest.param(lambda: gae(X, X, 0.9, 0.9), "values", id="gae: no bootstrap value"),
        pytest.param(lambda: gae(X, torch.ones(3, 4), 0.9, 0.9), "values", id="gae: other batch"),
        pytest.param(lambda: gae(X, NAN, 0.9, 0.9), "values", id="gae: NaN value"),
        pytest.param(lambda: gae(NAN, torch.ones(2, 4), 0.9, 0.9), "rewards", id="gae: NaN reward"),
        pytest.param(lambda: gae(X, torch.ones(2, 4), 2.0, 0.9), "gamma", id="gae: gamma"),
        pytest.param(lambda: gae(X, torch.ones(2, 4), 0.9, 1.5), "lam", id="gae: lambda"),
        pytest.param(lambda: group_baseline(torch.ones(3)), "returns", id="baseline: no batch"),
        pytest.param(lambda: group_baseline(torch.ones(2, 2, 3)), "returns", id="baseline: too many axes"),
        pytest.param(lambda: group_baseline(NAN), "returns", id="baseline: NaN"),
        pytest.param(lambda: group_baseline(X, torch.zeros(3, dtype=torch.long)), "groups", id="groups: length"),
        pytest.param(lambda: group_baseline(X, torch.zeros(2)), "groups", id="groups: floats"),
        pytest.param(lambda: group_baseline(X, [0, 1]), "groups", id="groups: a list"),
        pytest.param(lambda: group_relative_advantages(NAN, 0.9), "rewards", id="relative: NaN"),
        pytest.param(lambda: aligned_advantages(X, torch.ones(2, 4), 0.1, 0.9), "other", id="aligned: shape"),
        pytest.param(lambda: aligned_advantages(X, torch.ones(1, 3), 0.1, 0.9), "other", id="aligned: no broadcast"),
        pytest.param(lambda: aligned_advantages(X, NAN, 0.1, 0.9), "other", id="aligned: other NaN"),
        pytest.param(lambda: aligned_advantages(NAN, X, 0.1, 0.9), "own", id="aligned: own NaN"),
        pytest.param(lambda: aligned_advantages(INTEGERS, X, 0.1, 0.9), "own", id="aligned: own integers"),
        pytest.param(
            lambda: aligned_advantages(X, X, 0.1, 0.9, past_factor=torch.ones(3)), "past_factor", id="factor: shape"
        ),
        pytest.param(lambda: aligned_advantages(X, X, 0.1, 0.9, past_factor=NAN), "past_factor", id="factor: NaN"),
        pytest.param(lambda: aligned_advantages(X, X, 0.1, 1.9), "gamma", id="aligned: gamma"),
        pytest.param(lambda: aligned_advantages_n(X[0], 0.1, 0.9), "advantages", id="n players: no player axis"),
        pytest.param(lambda: aligned_advantages_n(X[None], 0.1, 0.9, past="all"), "past", id="n players: past"),
        pytest.param(lambda: aligned_advantages_n(X[None], 0.1, 0.9, over="max"), "over", id="n players: over"),
        pytest.param(
            lambda: aligned_advantages_n(X[None], 0.1, 0.9, over=torch.ones(3, 3)), "over", id="n players: weights"
        ),
        pytest.param(
            lambda: aligned_advantages_n(X[None], 0.1, 0.9, True, past="averaged"),
            "include_current",
            id="n players: averaged just in time",
        ),
        pytest.param(lambda: aligned_advantages_n(NAN[None], 0.1, 0.9), "advantages", id="n players: NaN"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], Tensor], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()


def test_large_but_finite_rewards_are_accepted() -> None:
    # their sum overflows float32, which must not be taken for a bad entry
    rewards = torch.full((1, 4), 2e38)
    assert discounted_returns(rewards, 0.0).equal(rewards)
