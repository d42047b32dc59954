from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from torch import Tensor

from aa_core.advantages import (
    aligned_advantages,
    discounted_returns,
    discounted_sum,
    gae,
    group_baseline,
    group_relative_advantages,
    naive_advantages,
    shaping_weights,
    summed_advantages,
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


@pytest.mark.parametrize("past", ["averaged", "regularised"])
@pytest.mark.parametrize("include_current", [False, True])
@pytest.mark.parametrize("steps", LENGTHS)
def test_undiscounted_pasts_are_sums_over_the_number_of_steps(steps: int, include_current: bool, past: str) -> None:
    x = normal(2, steps)
    counts = torch.arange(steps).clamp(min=1) if past == "averaged" and not include_current else 1 + torch.arange(steps)
    expected = past_loop(x, 1.0, include_current) / counts
    close(shaping_weights(x, 0.3, include_current, past), expected)  # gamma is not looked at


@every_size
def test_aligned_advantages_are_the_formula_of_the_paper(steps: int, gamma: float) -> None:
    own, other, beta = normal(2, steps), normal(2, steps, seed=1), 0.7
    expected = own + beta * gamma * past_loop(own, gamma, include_current=False) * other
    close(pair(own, other, beta=beta, gamma=gamma), expected)


def pair(own: Tensor, other: Tensor, **options: object) -> Tensor:
    """Aligned advantages of the first of two players."""
    return aligned_advantages(torch.stack([own, other], -2), **options)[..., 0, :]


@dataclass(frozen=True)
class Form:
    """One combination of the options of `aligned_advantages`, without its strength and discount."""

    past: str = "discounted"
    include_current: bool = False
    over: str = "sum"
    loqa: bool = False

    def __call__(self, x: Tensor, probabilities: Tensor, weights: Tensor, beta: float = 0.3, gamma: float = 0.9):
        options = asdict(self) | ({"over": weights} if self.over == "weights" else {})
        return aligned_advantages(x, probabilities, beta=beta, gamma=gamma, **options)

    def past_of(self, own: list[float], t: int, gamma: float) -> float:
        """What the past weighs at step t, with the constant that the formula has before it."""
        steps = range(t + 1) if self.include_current else range(t)
        if self.past == "discounted":
            leading = 1.0 if self.include_current else gamma
            return leading * sum(gamma ** (t - k) * own[k] for k in steps)
        count = t if self.past == "averaged" and not self.include_current else t + 1
        return sum(own[k] for k in steps) / count if count else 0.0

    def literal(self, a: list, pi: list, weights: list, beta: float = 0.3, gamma: float = 0.9) -> list:
        """One game, entry by entry: every pair of players has a past of its own; only a product has not."""
        players = range(len(a))
        credits = [list(row) for row in a]
        for i in players:
            for t in range(len(a[i])):
                if self.over == "product":
                    present = math.prod(a[j][t] for j in players if j != i)
                    credits[i][t] += beta * self.past_of(a[i], t, gamma) * present
                    continue
                for j in players:
                    if j == i:
                        continue
                    own = [a[i][k] * (1 - pi[j][k]) if self.loqa else a[i][k] for k in range(len(a[i]))]
                    care = {"sum": 1.0, "mean": 1 / (len(a) - 1), "weights": weights[i][j]}[self.over]
                    credits[i][t] += beta * care * self.past_of(own, t, gamma) * a[j][t]
        return credits


FORMS = [
    Form(*options)
    for options in product(
        ("discounted", "averaged", "regularised"), (False, True), ("sum", "mean", "product", "weights"), (False, True)
    )
    if options[2:] != ("product", True)  # refused
]
PLAIN, LOQA = [form for form in FORMS if not form.loqa], [form for form in FORMS if form.loqa]
every_form = pytest.mark.parametrize("form", FORMS, ids=str)


@every_form
@pytest.mark.parametrize("players", [2, 3, 5])
def test_every_form_is_the_literal_loop(form: Form, players: int) -> None:
    x, probabilities, weights = normal(2, players, 9), normal(2, players, 9, seed=1).sigmoid(), normal(players, players)
    expected = [form.literal(x[game].tolist(), probabilities[game].tolist(), weights.tolist()) for game in range(2)]
    close(form(x, probabilities, weights), torch.tensor(expected, dtype=torch.float64))


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


# --- credit rules: limits and symmetries


def example(players: int, steps: int = 9, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Advantages and probabilities of two games, and weights of the players for one another."""
    shape = (2, players, steps)
    return normal(*shape, seed=seed), normal(*shape, seed=seed + 1).sigmoid(), normal(players, players, seed=seed + 2)


def test_naive_and_summed_advantages_by_hand() -> None:
    x = torch.tensor([[1.0, -2.0], [0.5, 4.0], [0.0, 1.0]])
    assert naive_advantages(x, None).equal(x)
    assert summed_advantages(x, None).tolist() == [[1.5, 3.0]] * 3


def test_summed_advantages_are_those_of_the_sum_of_rewards() -> None:
    rewards, values = normal(4, 3, 9), normal(4, 3, 10, seed=1)
    together = gae(rewards.sum(1), values.sum(1), 0.9, 0.7)
    close(summed_advantages(gae(rewards, values, 0.9, 0.7)), together[:, None].expand(4, 3, 9))
    together = group_relative_advantages(rewards.sum(1), 0.9)
    separate = torch.stack([group_relative_advantages(rewards[:, i], 0.9) for i in range(3)], 1)
    close(summed_advantages(separate), together[:, None].expand(4, 3, 9))


@given(st.sampled_from(FORMS), st.integers(1, 6), st.integers(0, 100))
def test_without_strength_the_credit_is_the_advantage(form: Form, players: int, seed: int) -> None:
    x, *rest = example(players, seed=seed)
    assert form(x, *rest, beta=0.0).equal(x)


@given(st.sampled_from(FORMS), st.integers(2, 6), st.integers(0, 100))
def test_indifferent_co_players_give_no_shaping(form: Form, players: int, seed: int) -> None:
    x, *rest = example(players, seed=seed)
    x[:, 1:] = 0.0
    assert form(x, *rest, beta=2.0)[:, 0].equal(x[:, 0])


def test_a_good_past_reinforces_what_is_good_for_the_co_player() -> None:
    own, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert pair(own, other, beta=1.0, gamma=0.9)[1] > 0
    assert pair(-own, other, beta=1.0, gamma=0.9)[1] < 0
    assert pair(own, -other, beta=1.0, gamma=0.9)[1] < 0


def test_beta_may_differ_by_game() -> None:
    x, beta = normal(3, 2, 9), torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    rows = [aligned_advantages(x[i], beta=beta[i].item(), gamma=0.9) for i in range(3)]
    close(aligned_advantages(x, beta=beta[:, None, None], gamma=0.9), torch.stack(rows))


@given(st.sampled_from(FORMS), st.permutations(range(5)), st.integers(0, 100))
def test_renaming_the_players_renames_their_credit(form: Form, order: list[int], seed: int) -> None:
    x, probabilities, weights = example(5, seed=seed)
    renamed = form(x[:, order], probabilities[:, order], weights[order][:, order])
    close(renamed, form(x, probabilities, weights)[:, order])


@given(st.sampled_from(FORMS), st.integers(0, 8), st.integers(0, 100))
def test_later_steps_do_not_change_earlier_credit(form: Form, step: int, seed: int) -> None:
    x, probabilities, weights = example(3, seed=seed)
    changed, others, _ = example(3, seed=seed + 7)
    changed[..., : step + 1], others[..., : step + 1] = x[..., : step + 1], probabilities[..., : step + 1]
    before, after = form(x, probabilities, weights), form(changed, others, weights)
    close(after[..., : step + 1], before[..., : step + 1])


@given(st.sampled_from(PLAIN), st.integers(1, 70), st.integers(0, 100))
def test_with_one_co_player_all_aggregates_are_its_advantage(form: Form, steps: int, seed: int) -> None:
    x, probabilities, _ = example(2, steps, seed)
    close(form(x, probabilities, torch.ones(2, 2)), replace(form, over="sum")(x, probabilities, torch.ones(2, 2)))


@given(st.sampled_from(FORMS), st.integers(2, 6), st.integers(0, 100))
def test_equal_weights_are_the_sum_and_the_diagonal_is_ignored(form: Form, players: int, seed: int) -> None:
    x, probabilities, _ = example(players, seed=seed)
    total = replace(form, over="sum")(x, probabilities, None)
    close(replace(form, over="mean")(x, probabilities, None, beta=0.3 * (players - 1)), total)
    weights = torch.ones(players, players) + 7 * torch.eye(players)
    close(replace(form, over="weights")(x, probabilities, weights), total)
    assert weights.equal(torch.ones(players, players) + 7 * torch.eye(players)), "the caller's weights changed"


@given(st.sampled_from([replace(form, loqa=False) for form in LOQA]), st.integers(2, 5), st.integers(0, 100))
def test_loqa_with_equal_probabilities_is_a_smaller_beta(form: Form, players: int, seed: int) -> None:
    x, _, weights = example(players, seed=seed)
    loqa = replace(form, loqa=True)(x, torch.full_like(x, 0.25), weights)
    close(loqa, form(x, None, weights, beta=0.75 * 0.3))


@given(st.sampled_from(LOQA), st.integers(2, 5), st.integers(0, 100))
def test_loqa_forgets_what_a_certain_co_player_did(form: Form, players: int, seed: int) -> None:
    x, _, weights = example(players, seed=seed)
    close(form(x, torch.ones_like(x), weights), x)


def test_a_single_player_has_nobody_to_align_with() -> None:
    x = normal(2, 1, 9)
    for over in ("sum", "mean"):
        close(aligned_advantages(x, beta=0.4, gamma=0.9, over=over), x)


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
        pytest.param(lambda *x: aligned_advantages(torch.stack(x, 1), beta=0.4, gamma=0.9), 3, id="aligned_advantages"),
        pytest.param(
            lambda *x: Form(loqa=True)(torch.stack(x[:3], 1), torch.stack(x[3:], 1).sigmoid(), None), 6, id="loqa"
        ),
        pytest.param(lambda x, y: group_relative_advantages(torch.cat([x, y]), 0.9), 2, id="group_relative"),
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
    (slope,) = torch.autograd.grad(pair(own, other, beta=beta, gamma=0.9).sum(), beta)
    close(slope, (0.9 * shaping_weights(own, 0.9) * other).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("steps", [5, 70])
def test_the_dtype_is_kept(dtype: torch.dtype, steps: int) -> None:
    x = normal(2, steps).to(dtype)
    assert discounted_returns(x, 0.9).dtype == dtype
    for form in FORMS:
        assert form(x, x.sigmoid(), torch.ones(2, 2)).dtype == dtype
    assert group_relative_advantages(x, 0.9).dtype == dtype


# --- bad input

X, NAN = torch.ones(2, 3), torch.tensor([[0.0, float("nan"), 1.0], [0.0, 0.0, 0.0]])
INF = torch.tensor([[float("inf"), -float("inf"), 1.0], [0.0, 0.0, 0.0]])
INTEGERS = torch.ones(2, 3, dtype=torch.long)
STRENGTH = {"beta": 0.1, "gamma": 0.9}


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
        pytest.param(lambda: shaping_weights(X, 0.9, past="all"), "past", id="weights: past"),
        pytest.param(lambda: aligned_advantages(X[0], **STRENGTH), "advantages", id="aligned: no player axis"),
        pytest.param(lambda: aligned_advantages(NAN, **STRENGTH), "advantages", id="aligned: NaN"),
        pytest.param(lambda: aligned_advantages(INTEGERS, **STRENGTH), "advantages", id="aligned: integers"),
        pytest.param(lambda: aligned_advantages(X, beta=0.1, gamma=1.9), "gamma", id="aligned: gamma"),
        pytest.param(lambda: aligned_advantages(X, past="all", **STRENGTH), "past", id="aligned: past"),
        pytest.param(lambda: aligned_advantages(X, over="max", **STRENGTH), "over", id="aligned: over"),
        pytest.param(lambda: aligned_advantages(X, over=torch.ones(3, 3), **STRENGTH), "over", id="aligned: weights"),
        pytest.param(lambda: aligned_advantages(X, loqa=True, **STRENGTH), "probabilities", id="loqa: none"),
        pytest.param(lambda: aligned_advantages(X, NAN, loqa=True, **STRENGTH), "probabilities", id="loqa: NaN"),
        pytest.param(
            lambda: aligned_advantages(X, torch.ones(3), loqa=True, **STRENGTH), "probabilities", id="loqa: axes"
        ),
        pytest.param(
            lambda: aligned_advantages(X, torch.ones(2, 4), loqa=True, **STRENGTH), "probabilities", id="loqa: shape"
        ),
        pytest.param(lambda: aligned_advantages(X, X, loqa=True, over="product", **STRENGTH), "over", id="loqa: over"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], Tensor], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()


def test_large_but_finite_rewards_are_accepted() -> None:
    # their sum overflows float32, which must not be taken for a bad entry
    rewards = torch.full((1, 4), 2e38)
    assert discounted_returns(rewards, 0.0).equal(rewards)
