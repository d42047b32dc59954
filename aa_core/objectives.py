"""Losses: policy gradient and its clipped form, and DiCE.

Log-probabilities and advantages, which are constants here, are `(..., time)`; every loss is a scalar to minimise, a
mean over the unmasked steps. Tensors of different shapes raise ValueError. Advantage Alignment is either of the two on
the credits of `advantages.aligned_advantages`; with the clipped one it is Proximal Advantage Alignment.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aa_core.checks import check, check_alike, check_shape, check_that


def _check(mask: Tensor | None, **tensors: Tensor) -> None:
    """All must be of one shape and finite where the mask is true."""
    check_alike(**tensors, **({} if mask is None else {"mask": mask}))
    if mask is not None and mask.device.type == "cpu":
        check_that(((mask == 0) | (mask == 1)).all(), "mask", "0 and 1 only", mask.unique().tolist())
    held = {name: x if mask is None else x.detach().masked_fill(mask == 0, 0) for name, x in tensors.items()}
    check_shape((...,), **held)


def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
    return x.mean() if mask is None else _unmasked(x, mask).sum() / mask.sum().clamp(min=1)


def _unmasked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else torch.where(mask.bool(), x, 0.0)


def policy_gradient_loss(log_probs: Tensor, advantages: Tensor, mask: Tensor | None = None) -> Tensor:
    """REINFORCE: -mean_t A_t log pi(a_t|s_t) (Williams 1992)."""
    _check(mask, log_probs=log_probs, advantages=advantages)
    return -_mean(_unmasked(advantages.detach(), mask) * log_probs, mask)


def proximal_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip: float = 0.2, mask: Tensor | None = None
) -> Tensor:
    """Clipped surrogate: -mean_t min(rho A, clip(rho, 1-c, 1+c) A), rho = pi/pi_old (PPO, Schulman et al. 2017)."""
    _check(mask, log_probs=log_probs, advantages=advantages, old_log_probs=old_log_probs)
    check(clip=clip)
    # zero before exp: what padding holds must not overflow, for 0 * inf is NaN in the backward pass
    ratio = _unmasked(log_probs - old_log_probs.detach(), mask).exp()
    advantages = _unmasked(advantages.detach(), mask)
    return -_mean(torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages), mask)


def magic_box(log_probs: Tensor) -> Tensor:
    """DiCE operator: 1 in value, exp(x) d x in every derivative (Foerster et al. 2018, DiCE)."""
    check_shape((...,), log_probs=log_probs)
    return (log_probs - log_probs.detach()).exp()


def dice_objective(log_probs: Tensor, rewards: Tensor, baseline: Tensor, gamma: float) -> Tensor:
    """DiCE estimate of a player's discounted value, `(...)` (Foerster et al. 2018); its derivatives of any order are
    unbiased, and the baseline lowers the variance of second ones too (Mao et al. 2019).

    All `(..., time)`: log pi summed over all players that are differentiated, the player's own rewards, and an estimate
    of its discounted return to go, a constant. `gamma` in [0, 1].
    """
    check(gamma=gamma)
    check_alike(log_probs=log_probs, rewards=rewards, baseline=baseline)
    check(log_probs=log_probs, rewards=rewards, baseline=baseline)
    discounts = gamma ** torch.arange(rewards.shape[-1]).to(rewards)
    past = log_probs.cumsum(-1)
    value = magic_box(past) * rewards
    control = (magic_box(past - log_probs) - magic_box(past)) * baseline.detach()
    return (discounts * (value + control)).sum(-1)
