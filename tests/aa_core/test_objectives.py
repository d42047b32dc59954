from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import joint_probability, rewards_of, states_before, trajectories
from torch import Tensor

from aa_core.games.matrix import CLASSIC_PAYOFFS
from aa_core.objectives import (
    dice_objective,
    magic_box,
    policy_gradient_loss,
    proximal_loss,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log_probabilities(*shape: int, seed: int = 0) -> Tensor:
    return -normal(*shape, seed=seed).exp()


# name -> loss of (log_probs, old_log_probs, advantages, mask)
LOSSES: dict[str, Callable[..., Tensor]] = {
    "policy_gradient": lambda new, old, advantages, mask: policy_gradient_loss(new, advantages, mask),
    "proximal": lambda new, old, advantages, mask: proximal_loss(new, old, advantages, 0.2, mask),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def loss_and_gradient(loss: Callable[..., Tensor], new: Tensor, *rest: Tensor | None) -> tuple[Tensor, Tensor]:
    new = new.detach().requires_grad_()
    value = loss(new, *rest)
    return value.detach(), torch.autograd.grad(value, new)[0]


# --- values, by hand


def test_policy_gradient_loss_is_minus_the_mean_of_advantage_times_log_probability() -> None:
    loss = policy_gradient_loss(torch.tensor([[-1.0, -2.0], [-3.0, -4.0]]), torch.tensor([[1.0, 2.0], [-1.0, 0.5]]))
    assert loss.item() == pytest.approx(-(-1 - 4 + 3 - 2) / 4)


def test_policy_gradient_loss_averages_over_unmasked_steps_only() -> None:
    mask = torch.tensor([[True, True], [True, False]])
    loss = policy_gradient_loss(
        torch.tensor([[-1.0, -2.0], [-3.0, -4.0]]), torch.tensor([[1.0, 2.0], [-1.0, 0.5]]), mask
    )
    assert loss.item() == pytest.approx(-(-1 - 4 + 3) / 3)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [  # the pessimistic one of clipped and unclipped
        (1.0, 2.0, -2.0),
        (1.5, 2.0, -2.4),
        (0.5, 2.0, -1.0),
        (1.5, -2.0, 3.0),
        (0.5, -2.0, 1.6),
        (1.1, 2.0, -2.2),
    ],
)
def test_proximal_loss_by_hand(ratio: float, advantage: float, expected: float) -> None:
    old = torch.tensor([-2.0])
    loss = proximal_loss(old + math.log(ratio), old, torch.tensor([advantage]), clip=0.2)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


# --- masks


@every_loss
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.integers(1, 5),
    st.sampled_from([0.0, -1.0, 3.0, -50.0, 1e6, -1e6]),
)
def test_appended_padding_changes_neither_loss_nor_gradient(
    loss: Callable[..., Tensor], lengths: list[int], extra: int, garbage: float
) -> None:
    batch, longest = len(lengths), max(lengths)
    tensors = [log_probabilities(batch, longest), log_probabilities(batch, longest, seed=1)]
    tensors += [normal(batch, longest, seed=2)]
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    value, slope = loss_and_gradient(loss, *tensors, mask)

    # beyond each game's end, within the batch and in extra columns; the three kinds of garbage differ
    padded = []
    for sign, x in zip((1, -1, -0.5), tensors, strict=True):
        x = torch.where(mask, x, sign * garbage)
        padded.append(torch.cat([x, torch.full((batch, extra), sign * garbage, dtype=x.dtype)], 1))
    long_mask = torch.cat([mask, torch.zeros(batch, extra, dtype=torch.bool)], 1)
    long_value, long_slope = loss_and_gradient(loss, *padded, long_mask)

    torch.testing.assert_close(long_value, value)
    torch.testing.assert_close(long_slope[:, :longest], slope)
    assert (long_slope[~long_mask] == 0).all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float64])
def test_masks_of_any_dtype_are_the_same_mask(loss: Callable[..., Tensor], dtype: torch.dtype) -> None:
    tensors = [log_probabilities(2, 3), log_probabilities(2, 3, seed=1), normal(2, 3, seed=2)]
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert loss(*tensors, mask.to(dtype)).item() == pytest.approx(loss(*tensors, mask.bool()).item())


@every_loss
def test_a_mask_of_ones_is_no_mask(loss: Callable[..., Tensor]) -> None:
    tensors = [log_probabilities(2, 3), log_probabilities(2, 3, seed=1), normal(2, 3, seed=2)]
    torch.testing.assert_close(loss(*tensors, torch.ones(2, 3, dtype=torch.bool)), loss(*tensors, None))


@every_loss
def test_a_batch_of_padding_only_has_loss_zero(loss: Callable[..., Tensor]) -> None:
    tensors = [log_probabilities(2, 3), log_probabilities(2, 3, seed=1), normal(2, 3, seed=2)]
    value, slope = loss_and_gradient(loss, *tensors, torch.zeros(2, 3, dtype=torch.bool))
    assert value == 0
    assert (slope == 0).all()


# --- gradients


def test_proximal_gradient_is_the_policy_gradient_while_the_policy_is_the_old_one() -> None:
    new, advantages = log_probabilities(2, 5), normal(2, 5, seed=1)
    (_, plain), (_, proximal) = (loss_and_gradient(loss, new, new, advantages, None) for loss in LOSSES.values())
    torch.testing.assert_close(proximal, plain)


@pytest.mark.parametrize(
    ("ratio", "advantage", "alive"),
    [(1.5, 1.0, False), (0.5, 1.0, True), (1.5, -1.0, True), (0.5, -1.0, False), (1.1, 1.0, True), (0.9, -1.0, True)],
)
def test_clipping_kills_the_gradient_only_of_steps_that_already_went_far_enough(
    ratio: float, advantage: float, alive: bool
) -> None:
    old = torch.tensor([-2.0], dtype=torch.float64)
    new, advantages = old + math.log(ratio), torch.tensor([advantage], dtype=torch.float64)
    _, slope = loss_and_gradient(lambda x: proximal_loss(x, old, advantages, clip=0.2), new)
    assert slope.item() == pytest.approx(-ratio * advantage if alive else 0.0)


@every_loss
def test_no_gradient_flows_through_advantages_and_old_log_probabilities(loss: Callable[..., Tensor]) -> None:
    constants = [log_probabilities(2, 5, seed=1), normal(2, 5, seed=2)]
    new, *leaves = [x.requires_grad_() for x in (log_probabilities(2, 5), *constants)]
    slopes = torch.autograd.grad(loss(new, *leaves, None), [new, *leaves], allow_unused=True)
    assert (slopes[0] != 0).any()
    assert slopes[1:] == (None, None)


@every_loss
def test_losses_have_the_gradients_of_finite_differences(loss: Callable[..., Tensor]) -> None:
    old, advantages = log_probabilities(2, 5, seed=1), normal(2, 5, seed=2)
    new = (old + 0.1 * normal(2, 5)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, old, advantages, None), [new])


# --- DiCE


def test_magic_box_is_one_and_differentiates_like_a_logarithm_under_an_expectation() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.sin(3 * x) - x

    x = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    box = magic_box(function(x))
    (first,) = torch.autograd.grad(box, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    slope, bend = 3 * math.cos(2.1) - 1, -9 * math.sin(2.1)
    assert box.item() == 1.0
    assert first.item() == pytest.approx(slope)
    assert second.item() == pytest.approx(slope**2 + bend)


REWARDS, HORIZON, GAMMA = rewards_of(CLASSIC_PAYOFFS["chicken"]), 3, 0.8
PATHS = list(trajectories(HORIZON))  # all 64 joint trajectories of three rounds


def path_log_probs(first: Tensor, second: Tensor) -> Tensor:
    """log pi1 + log pi2 per step of every trajectory, (64, 3)."""
    rows = [
        [joint_probability(first, second, s, ab) for s, ab in zip(states_before(path), path, strict=True)]
        for path in PATHS
    ]
    return torch.stack([torch.stack(row) for row in rows]).log()


def path_rewards(player: int) -> Tensor:
    return torch.tensor([[REWARDS[ab][player] for ab in path] for path in PATHS], dtype=torch.float64)


def path_baseline() -> Tensor:
    """An arbitrary function of the state and the step."""
    table = {s: value for s, value in zip(("", "CC", "CD", "DC", "DD"), (3.0, -2.0, 5.0, 0.5, -1.0), strict=True)}
    rows = [[table[s] * (t + 1) for t, s in enumerate(states_before(path))] for path in PATHS]
    return torch.tensor(rows, dtype=torch.float64)


def derivatives(objective: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """First derivatives by both tables and the four blocks of second derivatives."""
    tables = (normal(5, seed=4), normal(5, seed=5))
    first = torch.autograd.functional.jacobian(objective, tables)
    second = torch.autograd.functional.hessian(objective, tables)
    return [*first, *(block for row in second for block in row)]


@pytest.mark.parametrize("player", [0, 1])
@pytest.mark.parametrize("with_baseline", [False, True])
def test_dice_derivatives_are_those_of_the_expected_return(player: int, with_baseline: bool) -> None:
    rewards = path_rewards(player)
    baseline = path_baseline() if with_baseline else torch.zeros_like(rewards)
    discounts = GAMMA ** torch.arange(HORIZON, dtype=torch.float64)

    def exact(first: Tensor, second: Tensor) -> Tensor:
        return (path_log_probs(first, second).sum(-1).exp() * (discounts * rewards).sum(-1)).sum()

    def dice(first: Tensor, second: Tensor) -> Tensor:
        log_probs = path_log_probs(first, second)
        estimates = dice_objective(log_probs, rewards, baseline, GAMMA)
        return (log_probs.sum(-1).exp().detach() * estimates).sum()  # the expectation over trajectories

    tables = (normal(5, seed=4), normal(5, seed=5))
    torch.testing.assert_close(dice(*tables), exact(*tables))
    for estimated, expected in zip(derivatives(dice), derivatives(exact), strict=True):
        assert (expected != 0).any()
        torch.testing.assert_close(estimated, expected, rtol=1e-10, atol=1e-10)


def test_a_good_baseline_lowers_the_variance_of_dice_derivatives() -> None:
    first, second, rewards = normal(5, seed=4), normal(5, seed=5), path_rewards(0)
    probability = path_log_probs(first, second).sum(-1).exp()
    to_go = torch.stack(
        [(GAMMA ** torch.arange(HORIZON - t, dtype=torch.float64) * rewards[:, t:]).sum(-1) for t in range(HORIZON)], -1
    )
    states = [[(t, s) for t, s in enumerate(states_before(path))] for path in PATHS]
    baseline = torch.zeros_like(rewards)
    for t in range(HORIZON):
        for state in {row[t] for row in states}:
            here = torch.tensor([row[t] == state for row in states])
            baseline[here, t] = (probability * to_go[:, t])[here].sum() / probability[here].sum()

    def variance(baseline: Tensor) -> float:
        slopes = torch.autograd.functional.jacobian(
            lambda table: dice_objective(path_log_probs(table, second), rewards, baseline, GAMMA), first
        )
        mean = probability @ slopes
        return (probability @ (slopes - mean).square()).sum().item()

    assert variance(baseline) < 0.5 * variance(torch.zeros_like(rewards))


def test_no_gradient_flows_through_the_baseline_of_dice() -> None:
    log_probs, baseline = log_probabilities(2, 3).requires_grad_(), normal(2, 3).requires_grad_()
    value = dice_objective(log_probs, normal(2, 3, seed=1), baseline, 0.9).sum()
    assert torch.autograd.grad(value, baseline, allow_unused=True) == (None,)


# --- bad input

X, Y = torch.zeros(2, 3), torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param(lambda: policy_gradient_loss(X, Y), "advantages", id="advantages"),
        pytest.param(lambda: policy_gradient_loss(X, X[:1]), "advantages", id="no broadcast"),
        pytest.param(lambda: policy_gradient_loss(X, X, torch.ones(3, dtype=torch.bool)), "mask", id="mask"),
        pytest.param(lambda: proximal_loss(X, Y, X), "old_log_probs", id="old"),
        pytest.param(lambda: proximal_loss(X, X, Y), "advantages", id="proximal advantages"),
        pytest.param(lambda: proximal_loss(X, X, X, clip=0.0), "clip", id="clip 0"),
        pytest.param(lambda: proximal_loss(X, X, X, clip=float("nan")), "clip", id="clip NaN"),
        pytest.param(lambda: dice_objective(X, Y, X, 0.9), "rewards", id="dice rewards"),
        pytest.param(lambda: dice_objective(X, X, Y, 0.9), "baseline", id="dice baseline"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], Tensor], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
