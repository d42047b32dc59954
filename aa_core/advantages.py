"""Credit: returns, advantages, the group baseline and Advantage Alignment's shaping of them.

Every tensor is time-last, `(..., time)`, with any number of batch axes before; `gamma` is the discount per step.
AA is arXiv 2406.14662, LLM is arXiv 2511.19405. All functions are pure and differentiable, in any float dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aa_core.checks import check_choice, check_same_shape, check_time_series, check_unit_interval

CHUNK = 64  # steps solved by one small triangular matrix; powers of gamma stay in [gamma^63, 1], so none overflows


def discounted_sum(x: Tensor, gamma: float) -> Tensor:
    """Forward recurrence y_t = x_t + gamma y_{t-1}, that is y_t = sum_{k<=t} gamma^(t-k) x_k.

    Time is cut into chunks: inside a chunk a lower-triangular matrix of non-negative powers, between chunks one carry.
    O(T) in time and memory, and exact for any T (no gamma^-t is ever formed).

    Args:
        x: `(..., time)`.
        gamma: discount in [0, 1].

    Returns:
        `(..., time)`.
    """
    check_unit_interval("gamma", gamma)
    steps = x.shape[-1]
    lags = torch.arange(CHUNK, device=x.device)
    lags = lags[:, None] - lags[None, :]
    powers = torch.where(lags >= 0, torch.as_tensor(gamma, dtype=x.dtype, device=x.device) ** lags.clamp(min=0), 0.0)
    if steps <= CHUNK:
        return x @ powers[:steps, :steps].T

    chunks = torch.nn.functional.pad(x, (0, -steps % CHUNK)).unflatten(-1, (-1, CHUNK))  # (..., chunks, CHUNK)
    within = chunks @ powers.T
    carry, carries = torch.zeros_like(within[..., 0, 0]), []
    for last in within[..., -1].unbind(-1):
        carries.append(carry)
        carry = last + gamma**CHUNK * carry
    decay = gamma * powers[:, 0]  # gamma^1 ... gamma^CHUNK
    return (within + torch.stack(carries, -1)[..., None] * decay).flatten(-2)[..., :steps]


def discounted_returns(rewards: Tensor, gamma: float) -> Tensor:
    """Return-to-go G_t = sum_{k>=t} gamma^(k-t) r_k, for rewards `(..., time)`."""
    check_time_series("rewards", rewards)
    return discounted_sum(rewards.flip(-1), gamma).flip(-1)


def gae(rewards: Tensor, values: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16).

    Args:
        rewards: `(..., time)`.
        values: `(..., time + 1)`, the last entry bootstraps the step after the end (0 at a true end).
        gamma: discount in [0, 1].
        lam: trace decay in [0, 1]: 0 gives one-step errors, 1 gives returns minus values.

    Returns:
        Advantages `(..., time)`.
    """
    check_time_series("rewards", rewards)
    check_time_series("values", values)
    check_unit_interval("gamma", gamma)
    check_unit_interval("lam", lam)
    if values.shape != (*rewards.shape[:-1], rewards.shape[-1] + 1):
        expected = (*rewards.shape[:-1], rewards.shape[-1] + 1)
        raise ValueError(f"values must have one step more than rewards, {expected}, got {tuple(values.shape)}")
    errors = rewards + gamma * values[..., 1:] - values[..., :-1]
    return discounted_sum(errors.flip(-1), gamma * lam).flip(-1)


def group_baseline(returns: Tensor, groups: Tensor | None = None) -> Tensor:
    """Leave-one-out mean over the other games of a group at the same time step (LLM, group-relative baseline).

    Args:
        returns: `(batch, time)`.
        groups: integer id per game `(batch,)`; games of one id share their random numbers. None: one group.

    Returns:
        Baselines `(batch, time)`; 0 for a game that is alone in its group.
    """
    check_time_series("returns", returns, min_dims=2)
    if returns.dim() != 2:
        raise ValueError(f"returns must be (batch, time), got shape {tuple(returns.shape)}")
    if groups is None:
        groups = torch.zeros(len(returns), dtype=torch.long, device=returns.device)
    if not isinstance(groups, Tensor) or groups.shape != returns.shape[:1] or groups.is_floating_point():
        came = f"{groups.dtype} {tuple(groups.shape)}" if isinstance(groups, Tensor) else type(groups).__name__
        raise ValueError(f"groups must be an integer tensor of shape ({len(returns)},), got {came}")
    ids, index = groups.unique(return_inverse=True)
    sums = returns.new_zeros(len(ids), returns.shape[1]).index_add(0, index, returns)
    others = index.bincount(minlength=len(ids))[index, None] - 1
    return torch.where(others > 0, (sums[index] - returns) / others.clamp(min=1), 0.0)


def group_relative_advantages(rewards: Tensor, gamma: float, groups: Tensor | None = None) -> Tensor:
    """Discounted returns minus their leave-one-out group baseline, for rewards `(batch, time)` (LLM)."""
    returns = discounted_returns(rewards, gamma)
    return returns - group_baseline(returns, groups)


def shaping_weights(advantages: Tensor, gamma: float, include_current: bool = False) -> Tensor:
    """Discounted past of a player's own advantages, the first factor of the alignment term (AA).

    w_t = sum_{k<t} gamma^(t-k) A_k; with `include_current` the just-in-time variant sum_{k<=t} gamma^(t-k) A_k.

    Args:
        advantages: `(..., time)`.
        gamma: discount in [0, 1].
        include_current: whether the present step counts as past.

    Returns:
        `(..., time)`; w_0 = 0 for the strict past.
    """
    check_time_series("advantages", advantages)
    past = discounted_sum(advantages, gamma)
    if include_current:
        return past
    return gamma * torch.nn.functional.pad(past, (1, 0))[..., :-1]


def aligned_advantages(
    own: Tensor,
    other: Tensor,
    beta: float | Tensor,
    gamma: float,
    include_current: bool = False,
    past_factor: Tensor | None = None,
) -> Tensor:
    """Advantage Alignment's modified advantage for two players (AA, the equation for A*).

    A*_t = A1_t + beta gamma (sum_{k<t} gamma^(t-k) A1_k) A2_t; the just-in-time variant has no leading gamma and
    includes k = t. Sign: an action that is good for the co-player (A2 > 0) is reinforced when the past was good for us.

    Args:
        own: this player's advantages A1 `(..., time)`.
        other: the co-player's advantages A2, same shape.
        beta: strength of shaping, a number or a tensor that broadcasts; 0 is plain policy gradient.
        gamma: discount in [0, 1].
        include_current: see `shaping_weights`.
        past_factor: multiplies A1_k inside the past sum, same shape; 1 - pi2(b_k|s_k) gives LOQA (AA, Theorem 2).

    Returns:
        `(..., time)`.
    """
    check_time_series("own", own)
    check_time_series("other", other)
    check_same_shape("other", other, "own", own)
    past = own
    if past_factor is not None:
        check_time_series("past_factor", past_factor)
        check_same_shape("past_factor", past_factor, "own", own)
        past = own * past_factor
    weights = shaping_weights(past, gamma, include_current)
    return own + beta * (1.0 if include_current else gamma) * weights * other


def aligned_advantages_n(
    advantages: Tensor,
    beta: float | Tensor,
    gamma: float,
    include_current: bool = False,
    past: str = "discounted",
    over: str | Tensor = "sum",
) -> Tensor:
    """`aligned_advantages` for any number of players, `(..., players, time)` in and out.

    Each player's own past multiplies an aggregate of all co-players' present advantages. The defaults are AA's formula
    with the aggregate of its Melting Pot experiments, the sum; they equal the two-player formula for two.

    Args:
        advantages: `(..., players, time)`.
        beta: strength of shaping, a number or a tensor that broadcasts.
        gamma: discount in [0, 1].
        include_current: see `shaping_weights`; for the discounted past only.
        past: "discounted", beta gamma sum_{k<t} gamma^(t-k) A_k, is the formula of the paper; "averaged",
            beta (1/t) sum_{k<t} A_k and 0 at t = 0, that of the authors' training code.
        over: co-players are aggregated by "sum" (the authors' code), "mean" or "product", or by weights
            `(players, players)`, of which entry (i, j) is how much player i cares about j; the diagonal is ignored.

    Raises:
        ValueError: an unknown option, or weights of another shape.
    """
    check_time_series("advantages", advantages, min_dims=2)
    check_choice("past", past, ("averaged", "discounted"))
    players, steps = advantages.shape[-2:]
    itself = torch.eye(players, dtype=torch.bool, device=advantages.device)
    if isinstance(over, Tensor):
        if over.shape != (players, players):
            raise ValueError(f"over must be weights of shape {(players, players)}, got {tuple(over.shape)}")
        others = over.to(advantages).masked_fill(itself, 0.0) @ advantages
    else:
        check_choice("over", over, ("mean", "product", "sum"))
        others = advantages.sum(-2, keepdim=True) - advantages
        if over == "mean":
            others = others / max(players - 1, 1)
        if over == "product":
            others = torch.stack([advantages[..., row, :].prod(-2) for row in ~itself], -2)
    if past == "discounted":
        return aligned_advantages(advantages, others, beta, gamma, include_current)
    if include_current:
        raise ValueError("include_current must be False for the averaged past, got True")
    average = shaping_weights(advantages, 1.0) / torch.arange(steps, device=advantages.device).clamp(min=1)
    return advantages + beta * average * others
