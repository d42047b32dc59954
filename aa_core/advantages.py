"""Credit: returns, advantages, the group baseline, and the rules that make an algorithm of them.

Every tensor is time-last, `(..., time)`, with any number of batch axes before; `gamma` is the discount per step.
AA is arXiv 2406.14662, LLM is arXiv 2511.19405. All functions are pure and differentiable, in any float dtype.

What makes an algorithm is one function, a `CreditRule`: from the advantages of all players `(..., players, time)` to
the credits that multiply grad log pi, of the same shape. Every trainer takes such a function as its argument `credit`:

| rule | credit of player i at step t |
|---|---|
| `naive_advantages` | A_i,t |
| `summed_advantages` | sum_j A_j,t: that of the sum of all players' rewards |
| `partial(aligned_advantages, beta=, gamma=)` | A_i,t + beta gamma (sum_{k<t} gamma^(t-k) A_i,k) sum_{j != i} A_j,t |
| the same with `loqa=True` | with each A_i,k multiplied by 1 - pi_j(a_k given s_k) (AA, Theorem 2) |
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aa_core.checks import check, check_choice, check_shape, check_that

CHUNK = 64  # steps solved by one small triangular matrix; powers of gamma stay in [gamma^63, 1], so none overflows


def discounted_sum(x: Tensor, gamma: float) -> Tensor:
    """Forward recurrence y_t = x_t + gamma y_{t-1}, that is y_t = sum_{k<=t} gamma^(t-k) x_k.

    Time is cut into chunks: inside a chunk a lower-triangular matrix of non-negative powers, between chunks one carry.
    O(T) in time and memory, and exact for any T (no gamma^-t is ever formed). `(..., time)` in and out.
    """
    check(gamma=gamma, x=x)
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
    check(rewards=rewards)
    return discounted_sum(rewards.flip(-1), gamma).flip(-1)


def gae(rewards: Tensor, values: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16).

    Advantages `(..., time)` from rewards `(..., time)` and values `(..., time + 1)`, of which the last bootstraps the
    step after the end (0 at a true end); `lam` in [0, 1] from one-step errors (0) to returns minus values (1).
    """
    check(rewards=rewards, values=values, gamma=gamma, lam=lam)
    expected = (*rewards.shape[:-1], rewards.shape[-1] + 1)
    check_that(values.shape == expected, "values", f"of one step more than rewards, {expected}", values)
    errors = rewards + gamma * values[..., 1:] - values[..., :-1]
    return discounted_sum(errors.flip(-1), gamma * lam).flip(-1)


def group_baseline(returns: Tensor, groups: Tensor | None = None) -> Tensor:
    """Leave-one-out mean over the other games of a group at the same time step (LLM, group-relative baseline).

    Baselines `(batch, time)` of returns `(batch, time)`; 0 for a game that is alone in its group. `groups` `(batch,)`
    are integers; games of one id share their random numbers. None: all games are one group.
    """
    check_shape((None, None), returns=returns)
    if groups is None:
        groups = torch.zeros(len(returns), dtype=torch.long, device=returns.device)
    fits = isinstance(groups, Tensor) and groups.shape == returns.shape[:1] and not groups.is_floating_point()
    check_that(fits, "groups", f"an integer tensor of shape ({len(returns)},)", groups)
    ids, index = groups.unique(return_inverse=True)
    sums = returns.new_zeros(len(ids), returns.shape[1]).index_add(0, index, returns)
    others = index.bincount(minlength=len(ids))[index, None] - 1
    return torch.where(others > 0, (sums[index] - returns) / others.clamp(min=1), 0.0)


def group_relative_advantages(rewards: Tensor, gamma: float, groups: Tensor | None = None) -> Tensor:
    """Discounted returns minus their leave-one-out group baseline, for rewards `(batch, time)` (LLM)."""
    check_shape((None, None), rewards=rewards)
    returns = discounted_returns(rewards, gamma)
    return returns - group_baseline(returns, groups)


CreditRule = Callable[[Tensor, Tensor | None], Tensor]
"""(advantages, probabilities) -> credits, all `(..., players, time)`; `probabilities` are pi(a_t|s_t) of the actions
that each player took, which most rules do not look at (None where a trainer has none)."""


def naive_advantages(advantages: Tensor, probabilities: Tensor | None = None) -> Tensor:
    """Plain policy gradient: a player's credit is its own advantage; `(..., players, time)` in and out."""
    check_shape((..., None, None), advantages=advantages)
    return advantages


def summed_advantages(advantages: Tensor, probabilities: Tensor | None = None) -> Tensor:
    """Credit is the sum of all players' advantages `(..., players, time)`; GAE is linear: that of summed rewards."""
    check_shape((..., None, None), advantages=advantages)
    return advantages.sum(-2, keepdim=True).expand_as(advantages)


def shaping_weights(
    advantages: Tensor, gamma: float, include_current: bool = False, past: str = "discounted"
) -> Tensor:
    """What the past weighs at each step: the first factor of the alignment term, without beta (AA).

    | past | strict: k < t | `include_current`: k <= t, the just-in-time variant |
    |---|---|---|
    | "discounted" | sum_k gamma^(t-k) A_k, the formula of the paper | the same |
    | "averaged" | (1/t) sum_k A_k and 0 at t = 0, the authors' training code | (1/(1+t)) sum_k A_k |
    | "regularised" | (1/(1+t)) sum_k A_k (AA, eq. 59) | the same |

    `(..., time)` in and out; `gamma` counts for the discounted past only.
    """
    check(advantages=advantages, gamma=gamma)
    check_choice("past", past, ("averaged", "discounted", "regularised"))
    discount = gamma if past == "discounted" else 1.0
    weights = discounted_sum(advantages, discount)
    if not include_current:
        weights = discount * torch.nn.functional.pad(weights, (1, 0))[..., :-1]
    if past == "discounted":
        return weights
    steps = torch.arange(advantages.shape[-1], dtype=advantages.dtype, device=advantages.device)
    return weights / (steps.clamp(min=1) if past == "averaged" and not include_current else steps + 1)


def aligned_advantages(
    advantages: Tensor, probabilities: Tensor | None = None, *, beta: float | Tensor, gamma: float,
    include_current: bool = False, past: str = "discounted", over: str | Tensor = "sum", loqa: bool = False,
) -> Tensor:  # fmt: skip
    """Advantage Alignment's modified advantages of any number of players (AA, the equation for A*; eq. 68 for many).

    A*_i,t = A_i,t + beta c w_i,t sum_{j != i} A_j,t, where w is `shaping_weights` of A_i, and c is the leading gamma
    of the published formula (discounted, strict past), else 1. What is good for others is reinforced after a good past.

    Args:
        advantages: `(..., players, time)`.
        probabilities: pi(a_t|s_t) of the actions taken, same shape; for `loqa` only.
        beta: strength of shaping, a number or a tensor that broadcasts; 0 is plain policy gradient.
        gamma: discount in [0, 1] of the past.
        include_current: see `shaping_weights`.
        past: see `shaping_weights`.
        over: co-players are aggregated by "sum" (the authors' code), "mean", "product" (two players at least), or by
            weights `(players, players)`: entry (i, j) is how much player i cares about j; the diagonal is ignored.
        loqa: multiply each A_i,k of the past by 1 - pi_j(a_k|s_k), for each co-player j (AA, Theorem 2).

    >>> aligned_advantages(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), beta=1.0, gamma=0.9)
    tensor([[1.0000, 0.8100],
            [0.0000, 1.0000]])
    """
    check_shape((..., None, None), advantages=advantages)
    if isinstance(beta, Tensor):
        check_shape((...,), beta=beta)
        sizes = zip(beta.shape[::-1], advantages.shape[::-1], strict=False)
        fits = beta.dim() <= advantages.dim() and all(own in (1, size) for own, size in sizes)
        check_that(fits, "beta", f"a number, or a tensor that broadcasts to {tuple(advantages.shape)}", beta)
    else:
        check(beta=beta)
    leading = gamma if past == "discounted" and not include_current else 1.0
    if not loqa:
        weights = shaping_weights(advantages, gamma, include_current, past)
        return advantages + beta * leading * weights * _co_players(advantages, over)
    check_shape(advantages.shape, probabilities=probabilities)
    if isinstance(over, str):
        check_choice("over", over, ("mean", "sum"))
    # every pair has a past of its own, (..., i, j, time): i's advantages, by how sure j was of its actions
    pasts = advantages[..., :, None, :] * (1 - probabilities)[..., None, :, :]  # type: ignore[index]
    weights = shaping_weights(pasts, gamma, include_current, past)
    caring = _caring(advantages, over)[..., None]
    return advantages + beta * leading * (weights * caring * advantages[..., None, :, :]).sum(-2)


def _caring(advantages: Tensor, over: str | Tensor) -> Tensor:
    """How much player i cares about j, `(players, players)`, with a zero diagonal."""
    players = advantages.shape[-2]
    if not isinstance(over, Tensor):
        check_choice("over", over, ("mean", "product", "sum"))
        over = advantages.new_full((players, players), 1 / max(players - 1, 1) if over == "mean" else 1.0)
    check_shape((players, players), over=over)
    return over.to(advantages).clone().fill_diagonal_(0.0)  # a clone, since the weights are the caller's


def _co_players(advantages: Tensor, over: str | Tensor) -> Tensor:
    """Aggregate `(..., players, time)` of each player's co-players."""
    if isinstance(over, str) and over == "product":
        others = ~torch.eye(advantages.shape[-2], dtype=torch.bool, device=advantages.device)
        return torch.stack([advantages[..., row, :].prod(-2) for row in others], -2)
    return _caring(advantages, over) @ advantages
