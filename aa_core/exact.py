"""Exact values and exact gradient fields of memory-one policies in repeated 2x2 games.

Both players' tables are written from their own side, in the order of `games.matrix.STATES`. `logits` `(..., 5)` are
of cooperation: P(C|s) = sigmoid(logit_s). Any number of batch axes; use float64. The game is infinite and discounted:
V = E sum_t gamma^t r_t with `gamma` in [0, 1), so every quantity is a rational function of the two tables. Since a
state *is* the last joint action, Q_i(s, a, b) = r_i(a, b) + gamma V_i(ab) does not depend on s.

All gradients are of player 1, with respect to its logits `(..., 5)`; for player 2 exchange the two policies and use
`game.swapped()`. AA is arXiv 2406.14662. Another shape, gamma or option raises ValueError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aa_core.checks import check, check_alike, check_choice, check_flags, check_shape, check_that
from aa_core.games.matrix import SWAP, MatrixGame

GradientField = Callable[[Tensor, Tensor], Tensor]  # (logits, co_logits) -> gradient of the first


class Chain(NamedTuple):
    """The Markov chain of two memory-one policies; `ab` runs over CC, CD, DC, DD from player 1's side."""

    joint: Tensor  # (..., 5, 4) pi1(a|s) pi2(b|s)
    values: Tensor  # (..., 2, 5) V_i(s)
    q_values: Tensor  # (..., 2, 4) Q_i(ab)

    @property
    def advantages(self) -> Tensor:
        """A_i(s, ab) = Q_i(ab) - V_i(s), `(..., 2, 5, 4)`."""
        return self.q_values[..., None, :] - self.values[..., :, None]


def action_probabilities(logits: Tensor) -> Tensor:
    """pi(a|s) `(..., 5, 2)` for logits `(..., 5)`."""
    check_shape((..., 5), logits=logits)
    return torch.stack([logits.sigmoid(), (-logits).sigmoid()], -1)


def chain(policy: Tensor, co_player: Tensor, game: MatrixGame, gamma: float) -> Chain:
    """Solve the chain of two action tables pi(a|s) `(..., 5, 2)`, each with rows from its player's own side.

    Rows need not sum to 1: then it is the same polynomial, which differentiating by unconstrained tables needs.
    """
    check_that(isinstance(game, MatrixGame), "game", "a MatrixGame", game)
    check(gamma=gamma)
    check_that(gamma < 1, "gamma", "in [0, 1) for an infinite game", gamma)
    check_shape((..., 5, 2), policy=policy, co_player=co_player)
    axes = zip(policy.shape[-3::-1], co_player.shape[-3::-1], strict=False)
    fits = policy.dtype == co_player.dtype and all(a == b or 1 in (a, b) for a, b in axes)
    expected = f"{policy.dtype} of a shape that broadcasts with policy's, {tuple(policy.shape)}"
    check_that(fits, "co_player", expected, co_player)
    payoffs = game.payoff_tensor.to(policy)
    joint = (policy[..., :, None] * co_player[..., list(SWAP), None, :]).flatten(-2)  # (..., 5, 4)
    system = torch.eye(4).to(policy) - gamma * joint[..., 1:, :]
    after = torch.linalg.solve(system, joint[..., 1:, :] @ payoffs.T).mT  # (..., 2, 4)
    q_values = payoffs + gamma * after
    start = q_values @ joint[..., 0, :, None]  # (..., 2, 1)
    return Chain(joint, torch.cat([start, after], -1), q_values)


def values(policy: Tensor, co_player: Tensor, game: MatrixGame, gamma: float, per_round: bool = False) -> Tensor:
    """Discounted values `(..., 2)` of both from START for P(C|s) tables `(..., 5)`; `per_round`: times 1 - gamma."""
    check_shape((..., 5), policy=policy, co_player=co_player, bounds=(0, 1))
    check_flags(per_round=per_round)
    tables = [torch.stack([table, 1 - table], -1) for table in (policy, co_player)]
    start = chain(*tables, game, gamma).values[..., 0]  # type: ignore[call-arg]
    return (1 - gamma) * start if per_round else start


def visitation(joint: Tensor, gamma: float) -> Tensor:
    """Discounted visits d(s) = sum_t gamma^t Pr(s_t = s), `(..., 5)`, of a `Chain.joint`."""
    check(gamma=gamma)
    check_that(gamma < 1, "gamma", "in [0, 1) for an infinite game", gamma)
    check_shape((..., 5, 4), joint=joint)
    system = torch.eye(4).to(joint) - gamma * joint[..., 1:, :].mT
    after = torch.linalg.solve(system, gamma * joint[..., 0, :, None])[..., 0]
    return torch.cat([torch.ones_like(after[..., :1]), after], -1)


def _average_own_action(x: Tensor, policy: Tensor) -> Tensor:
    """Replace x(s, a, b) `(..., 5, 4)` by its mean over a under `policy` `(..., 5, 2)`, repeated over a."""
    return torch.cat([(policy[..., None] * x.unflatten(-1, (2, 2))).sum(-2)] * 2, -1)


def _check_logits(logits: Tensor, co_logits: Tensor, **flags: object) -> None:
    check_flags(**flags)
    check_shape((..., 5), logits=logits, co_logits=co_logits)
    check_alike(logits=logits, co_logits=co_logits)
    check_that(logits.dtype == co_logits.dtype, "co_logits", f"{logits.dtype} as logits", co_logits)


def _start_values(logits: Tensor, co_logits: Tensor, game: MatrixGame, gamma: float) -> Tensor:
    return chain(action_probabilities(logits), action_probabilities(co_logits), game, gamma).values[..., 0]


def naive_gradient(logits: Tensor, co_logits: Tensor, game: MatrixGame, gamma: float) -> Tensor:
    """grad_1 V1."""
    _check_logits(logits, co_logits)
    own = logits.detach().requires_grad_()
    return torch.autograd.grad(_start_values(own, co_logits.detach(), game, gamma)[..., 0].sum(), own)[0]


def lola_shaping(
    logits: Tensor, co_parameters: Tensor, game: MatrixGame, gamma: float, co_policy: Callable[[Tensor],
    Tensor] = action_probabilities, natural: bool = False,
) -> Tensor:  # fmt: skip
    """First-order shaping term of LOLA for a unit step of the co-player, (grad_2 V1)^T d(step_2)/d(theta_1).

    The co-player's step is its gradient grad_2 V2 (Foerster et al. 2018, LOLA), or with `natural` its natural
    gradient, whose logit entries are Q2(s, C) - Q2(s, D). `co_policy` makes its action table `(..., 5, 2)` of its
    parameters `(..., parameters)`: logits by default, `torch.exp` for a table of log-probabilities, any network.
    """
    check(co_policy=co_policy, co_parameters=co_parameters)
    check_flags(natural=natural)
    check_shape((..., 5), logits=logits)
    default = co_policy is action_probabilities  # the natural step is written in logits
    check_that(default or not natural, "co_policy", "the default with natural=True", co_policy)
    own, other = (x.detach().requires_grad_() for x in (logits, co_parameters))
    policy = action_probabilities(own)
    solved = chain(policy, co_policy(other), game, gamma)
    stake = torch.autograd.grad(solved.values[..., 0, 0].sum(), other, retain_graph=True)[0]
    if natural:
        co_values = _average_own_action(solved.q_values[..., 1, None, :], policy)[..., list(SWAP), :]
        step = co_values[..., 0] - co_values[..., 1]
    else:
        step = torch.autograd.grad(solved.values[..., 1, 0].sum(), other, create_graph=True)[0]
    return torch.autograd.grad((stake.detach() * step).sum(), own)[0]


def lola_alignment_form(
    logits: Tensor, co_logits: Tensor, game: MatrixGame, gamma: float, baseline: bool = False
) -> tuple[Tensor, Tensor]:
    """LOLA's shaping term as a policy gradient, for a co-player with orthonormal scores (AA, Theorem 1).

    If the vectors grad_2 log pi2(b|s) are orthonormal, the inner product in LOLA's term collapses to a sum over (s, b).
    With player 1's stake u(s, b) = d(s) pi2(b|s) Q1(s, b) in what the co-player does, it reads

        E sum_t grad log pi1(a_t|s_t) [gamma^t (sum_{k<=t} u_k) A2_t + sum_{k>t} gamma^k u_k Q2_k].

    The first part aligns the own past with the co-player's present; the second rewards going where the co-player's
    steps help both. Both, each `(..., 5)`, come from linear recurrences, nothing is differentiated; their sum is
    `lola_shaping` with `co_policy=torch.exp`. With `baseline`, advantages stand for Q1(s, b) and Q2(s, b), as AA's
    theorem is written: another direction, since orthonormal scores do not sum to zero as normalised policies' do.
    """
    _check_logits(logits, co_logits, baseline=baseline)
    policy, co_policy = action_probabilities(logits.detach()), action_probabilities(co_logits.detach())
    solved = chain(policy, co_policy, game, gamma)
    visits = visitation(solved.joint, gamma)
    co_probs = torch.cat([co_policy[..., list(SWAP), :]] * 2, -1)  # pi2(b|s) (..., 5, 4)
    q_values = _average_own_action(solved.q_values[..., None, :], policy[..., None, :, :])  # Q_i(s, b) (..., 2, 5, 4)
    own_q, other_q = (q_values - solved.values[..., None] if baseline else q_values).unbind(-3)
    stake = visits[..., None] * co_probs * own_q
    identity, transition = torch.eye(4).to(policy), solved.joint[..., 1:, :]
    # past(s) = sum_t gamma^t E[1{s_t = s} sum_{k<t} u_k]
    inflow = gamma * (visits[..., None] * solved.joint * stake).sum(-2)
    past = torch.linalg.solve(identity - gamma * transition.mT, inflow[..., None])[..., 0]
    past = torch.nn.functional.pad(past, (1, 0))  # nothing comes before START
    # future(s) = E[sum_{k>=0} gamma^k u_k Q2_k | s_0 = s]
    reward = (co_probs * stake * other_q)[..., :2].sum(-1)
    future = torch.linalg.solve(identity - gamma * transition, reward[..., 1:, None])[..., 0]
    aligned = (past[..., None] + visits[..., None] * stake) * solved.advantages[..., 1, :, :]
    visiting = gamma * visits[..., None] * future[..., None, :]
    probability = policy[..., 0]
    score = torch.stack([1 - probability, 1 - probability, -probability, -probability], -1)
    return tuple((solved.joint * part * score).sum(-1) for part in (aligned, visiting))


def lola_gradient(
    logits: Tensor, co_logits: Tensor, game: MatrixGame, gamma: float, step_size: float = 1.0, first_order: bool = False
) -> Tensor:
    """LOLA (Foerster et al. 2018): ascend V1(theta_1, theta_2 + step_size grad_2 V2(theta_1, theta_2)).

    The gradient is taken through the co-player's step, or with `first_order` of the first-order expansion with
    grad_1 grad_2 V1 dropped, as LOLA is usually written: grad_1 V1 + step_size * `lola_shaping`.
    """
    check(step_size=step_size)
    _check_logits(logits, co_logits, first_order=first_order)
    if first_order:
        shaping = lola_shaping(logits, co_logits, game, gamma)
        return naive_gradient(logits, co_logits, game, gamma) + step_size * shaping
    own, other = (x.detach().requires_grad_() for x in (logits, co_logits))
    co_value = _start_values(own, other, game, gamma)[..., 1].sum()
    step = torch.autograd.grad(co_value, other, create_graph=True)[0]
    shaped = _start_values(own, other + step_size * step, game, gamma)[..., 0].sum()
    return torch.autograd.grad(shaped, own)[0]


def alignment_shaping(
    logits: Tensor, co_logits: Tensor, game: MatrixGame, gamma: float, include_current: bool = False,
    softmax: str = "none", marginal: bool = False,
) -> Tensor:  # fmt: skip
    """Expected alignment term, without beta (AA, the policy gradient whose credit is the second part of A*).

    With tuples k drawn by discounted visitation: E sum_k gamma^k A1_k grad_1 [co-player's live value after k], where
    grad_1 of the live value is E sum_{t>k} gamma^(t-k) A2_t grad log pi1(a_t|s_t), times the leading gamma. The
    co-player is taken to act by pi2(b|s) proportional to exp Q2; `softmax` says how much of grad log pi2 is kept:

    - "none": grad Q2(b_k), the partition function dropped (Advantage Alignment);
    - "taken": differentiated in the taken action only, a factor 1 - pi2(b_k|s_k) (LOQA; AA, Theorem 2);
    - "full": grad Q2(b_k) - sum_b pi2(b|s_k) grad Q2(b).

    `include_current` adds t = k (the just-in-time variant, without the leading gamma). `marginal` averages A1 and the
    live value over the own action a_k, which the co-player does not see when it chooses b_k; by default a_k is sampled.
    """
    check_choice("softmax", softmax, ("none", "taken", "full"))
    _check_logits(logits, co_logits, include_current=include_current, marginal=marginal)
    own = logits.detach().requires_grad_()
    live_policy, co_policy = action_probabilities(own), action_probabilities(co_logits.detach())
    live = chain(live_policy, co_policy, game, gamma)
    policy, joint = live_policy.detach(), live.joint.detach()
    visits = visitation(joint, gamma)[..., None] * joint  # (..., 5, 4) d(s) pi1(a|s) pi2(b|s)
    advantages = live.advantages.detach()
    co_value = gamma * live.values[..., 1, None, 1:].expand_as(joint)  # gamma V2(ab)
    if include_current and marginal:
        co_value = live.q_values[..., 1, None, :].expand_as(joint)
    elif include_current:
        log_policy = torch.nn.functional.logsigmoid(torch.stack([own, -own], -1)).repeat_interleave(2, -1)
        co_value = co_value + advantages[..., 1, :, :] * log_policy
    own_advantages = advantages[..., 0, :, :]
    if marginal:
        co_value = _average_own_action(co_value, live_policy if include_current else policy)
        own_advantages = _average_own_action(own_advantages, policy)
    co_probs = torch.cat([co_policy[..., list(SWAP), :]] * 2, -1)  # pi2(b|s) (..., 5, 4)
    if softmax == "taken":
        co_value = (1 - co_probs) * co_value
    elif softmax == "full":
        mean = (co_probs * co_value).unflatten(-1, (2, 2)).sum(-1, keepdim=True)
        co_value = co_value - mean.expand(*mean.shape[:-1], 2).flatten(-2)
    leading = 1.0 if include_current else gamma
    return torch.autograd.grad(leading * (visits * own_advantages * co_value).sum(), own)[0]


def advantage_alignment_gradient(
    logits: Tensor, co_logits: Tensor, game: MatrixGame, gamma: float, beta: float | Tensor = 1.0, **options: Any
) -> Tensor:
    """grad_1 V1 + beta (may broadcast) * `alignment_shaping` (AA), which takes `options`; `softmax="taken"` is LOQA."""
    shaping = alignment_shaping(logits, co_logits, game, gamma, **options)
    if isinstance(beta, Tensor):
        check_shape((...,), beta=beta)
        sizes = zip(beta.shape[::-1], logits.shape[::-1], strict=False)
        fits = beta.dim() <= logits.dim() and all(own in (1, size) for own, size in sizes)
        check_that(fits, "beta", f"a number, or a tensor that broadcasts to {tuple(logits.shape)}", beta)
    else:
        check(beta=beta)
    return naive_gradient(logits, co_logits, game, gamma) + beta * shaping


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine between vectors on the last axis; NaN where either is 0."""
    check(x=x, y=y)
    check_alike(x=x, y=y)
    return (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))


def ascend(
    gradient: GradientField, co_gradient: GradientField, logits: Tensor, co_logits: Tensor, steps: int,
    learning_rate: float, record_every: int = 1,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Simultaneous gradient ascent of both players, each by its own field, from its own side, from logits `(..., 5)`.

    In a symmetric game give the same function twice: then one call does for both, in one batch. Returns both players'
    logits along the way, every `record_every`-th, `(1 + steps // record_every, ..., 5)`. The raw discounted values are
    ascended, so that a fitting `learning_rate` scales with 1 - gamma.
    """
    check(gradient=gradient, co_gradient=co_gradient, learning_rate=learning_rate)
    check(steps=steps, record_every=record_every)
    _check_logits(logits, co_logits)
    path = [(logits, co_logits)]
    for step in range(1, steps + 1):
        if co_gradient is gradient:  # a symmetric game: both in one batch
            updates = gradient(torch.stack([logits, co_logits]), torch.stack([co_logits, logits]))
        else:
            updates = gradient(logits, co_logits), co_gradient(co_logits, logits)
        logits, co_logits = logits + learning_rate * updates[0], co_logits + learning_rate * updates[1]
        if step % record_every == 0:
            path.append((logits, co_logits))
    return tuple(torch.stack(x) for x in zip(*path, strict=True))


def best_response(policy: Tensor, game: MatrixGame, gamma: float) -> tuple[Tensor, Tensor]:
    """What the best co-player takes from a memory-one policy P(C|s) `(..., 5)`, and how it plays.

    Against a fixed policy the game is a Markov decision process on STATES, so one of 32 deterministic tables is best.
    Returns mean rewards per round of (policy, best responder) `(..., 2)` and the responder's table `(..., 5)`; of
    several that are equally good for the responder, the one that is worst for the policy.
    """
    check_shape((..., 5), policy=policy, bounds=(0, 1))
    tables = torch.cartesian_prod(*[torch.tensor([1.0, 0.0], dtype=policy.dtype)] * 5)  # (32, 5)
    policies, tables = torch.broadcast_tensors(policy[..., None, :], tables)
    rewards = values(policies, tables, game, gamma, per_round=True)  # (..., 32, 2)
    best = rewards[..., 1].amax(-1, keepdim=True)
    harm = torch.where(rewards[..., 1] >= best - 1e-9, -rewards[..., 0], -torch.inf)
    index = harm.argmax(-1)[..., None, None]
    return rewards.take_along_dim(index, -2).squeeze(-2), tables.take_along_dim(index, -2).squeeze(-2)
