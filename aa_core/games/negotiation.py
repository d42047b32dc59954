"""The Negotiation Game: two players claim shares of three items at the same time, as in the AA paper's league.

Every round is independent: one unit of each of three items; each is worth 5 to one player and 1 to the other, a fair
coin per item says to whom. Both see both values. Each claims an amount from 0 to 5 of every item, and an item is
divided in proportion to the claims: share_i = p_i / max(p_1 + p_2, 5), so that small claims leave some of it to nobody.
The reward is the value of the shares divided by 15, the value of three items of 5.

The two rewards of a round sum to at most 1, which is reached when each item goes to the player who values it more:
their sum is the round's efficiency. Mean rewards per round of the scripted players, by the expectation over values:

| | always cooperate | always defect |
|---|---|---|
| always cooperate | .50, .50 | .25, .55 |
| always defect | .55, .25 | .30, .30 |

Source: `train.py` and `configs/eg_cont.yaml` of the AA repository at commit e99df9c (high-contrast values, one turn).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from aa_core.checks import check_choice, check_count

ITEMS = 3
LOW_VALUE, HIGH_VALUE = 1.0, 5.0
MAX_PROPOSAL = 5.0
# what the sum of the claims to an item is raised to, if it is below: nothing but 0 / 0 is avoided in `proportion`
SPLITS = {"divide_when_above": MAX_PROPOSAL, "proportion": torch.finfo(torch.float32).tiny}
_OBSERVATION_SCALE = 10.0


@dataclass(frozen=True)
class NegotiationState:
    """Where a batch of games stands: values of this round, proposals of the last one (0 before the first)."""

    values: Tensor  # (batch, 2, 3) of a unit of each item to each player, 1 or 5
    proposals: Tensor  # (batch, 2, 3)
    time: int


@dataclass(frozen=True)
class NegotiationGame:
    """The Negotiation Game with continuous proposals; source: the AA repository, see the module.

    Actions: proposals `(batch, 2, 3)` in [0, 5], how much of each item the player claims. Observations: 15 numbers from
    the player's own side, divided by 10: units of each item (always 1), own values, own last proposals, other's values,
    other's last proposals, three of each.

    Args:
        horizon: rounds per game.
        split: "divide_when_above" (the paper's) or "proportion": share_i = p_i / (p_1 + p_2), nothing to either if
            both claim 0.

    Raises:
        ValueError: `horizon` is not a positive integer or `split` unknown.
    """

    horizon: int = 50
    split: str = "divide_when_above"
    num_players = 2
    num_actions = None
    action_shape = (ITEMS,)
    action_bounds = (0.0, MAX_PROPOSAL)
    obs_shape = (5 * ITEMS,)
    obs_bounds = (0.0, MAX_PROPOSAL / _OBSERVATION_SCALE)

    def __post_init__(self) -> None:
        check_count("horizon", self.horizon)
        check_choice("split", self.split, SPLITS)

    def reset(self, batch: int, generator: Generator | None = None) -> tuple[NegotiationState, Tensor]:
        """Start `batch` games with values drawn at random.

        Returns:
            The state and observations `(batch, 2, 15)`, float32.

        Raises:
            ValueError: `batch` is not a positive integer.
        """
        check_count("batch", batch)
        state = NegotiationState(_draw_values(batch, generator), torch.zeros(batch, 2, ITEMS), 0)
        return state, self.observe(state)

    def step(
        self, state: NegotiationState, actions: Tensor, generator: Generator | None = None
    ) -> tuple[NegotiationState, Tensor, Tensor, Tensor]:
        """Divide the items and draw new values; see `Game.step`.

        Args:
            state: it is not changed.
            actions: `(batch, 2, 3)` reals in [0, 5].
            generator: draws the values of the next round.

        Returns:
            The next state, observations `(batch, 2, 15)`, rewards `(batch, 2)` in [0, 1] (both float32) and `done`
            `(batch,)`.

        Raises:
            ValueError: `actions` has another shape or range, or is not floating point.
        """
        _check_proposals(actions, state.values.shape)
        proposals = actions.float()
        claimed = (proposals[:, :1] + proposals[:, 1:]).clamp_min(SPLITS[self.split])
        points = proposals / claimed * state.values
        # a product with ones: a sum over an axis this short is many times slower
        rewards = points @ torch.ones(ITEMS) / (ITEMS * HIGH_VALUE)
        following = NegotiationState(_draw_values(len(proposals), generator), proposals, state.time + 1)
        done = torch.full((len(proposals),), following.time >= self.horizon)
        return following, self.observe(following), rewards, done

    def observe(self, state: NegotiationState) -> Tensor:
        """Observations `(batch, 2, 15)` of a state, float32."""
        sides = torch.empty(len(state.values), 2, 5, ITEMS)
        sides[:, :, 0] = 1.0
        sides[:, :, 1] = state.values
        sides[:, :, 2] = state.proposals
        sides[:, 0, 3:] = sides[:, 1, 1:3]
        sides[:, 1, 3:] = sides[:, 0, 1:3]
        return sides.div_(_OBSERVATION_SCALE).flatten(2)


def always_cooperate(observations: Tensor, generator: Generator | None = None) -> Tensor:
    """Claim 5 of the items worth more to oneself and 0 of the others.

    Source: `league/cont_league.py` of the AA repository.

    Args:
        observations: `(..., 15)`.
        generator: items worth the same to both are claimed with probability 1/2.

    Returns:
        Proposals `(..., 3)`.

    Raises:
        ValueError: another shape.
    """
    _check_observations(observations)
    advantage = observations[..., ITEMS : 2 * ITEMS] - observations[..., 3 * ITEMS : 4 * ITEMS]
    coin = torch.rand(advantage.shape, generator=generator) < 0.5
    return MAX_PROPOSAL * ((advantage > 0) | ((advantage == 0) & coin))


def always_defect(observations: Tensor, generator: Generator | None = None) -> Tensor:
    """Claim 5 of every item; source, arguments and result as for `always_cooperate`."""
    _check_observations(observations)
    return torch.full((*observations.shape[:-1], ITEMS), MAX_PROPOSAL)


SCRIPTED: dict[str, Callable[[Tensor, Generator | None], Tensor]] = {
    "always cooperate": always_cooperate,
    "always defect": always_defect,
}


def _draw_values(batch: int, generator: Generator | None) -> Tensor:
    """`(batch, 2, 3)`: each item is worth 5 to one player, drawn by a fair coin, and 1 to the other."""
    first = torch.randint(2, (batch, ITEMS), generator=generator)
    return LOW_VALUE + (HIGH_VALUE - LOW_VALUE) * torch.stack([first, 1 - first], 1)


def _check_proposals(actions: Tensor, shape: torch.Size) -> None:
    if not isinstance(actions, Tensor) or actions.shape != shape or not actions.is_floating_point():
        came = f"{actions.dtype} {tuple(actions.shape)}" if isinstance(actions, Tensor) else type(actions).__name__
        raise ValueError(f"actions must be reals of shape {tuple(shape)}, got {came}")
    low, high = torch.aminmax(actions)
    if not (low >= 0 and high <= MAX_PROPOSAL):  # so that NaN is refused too
        raise ValueError(f"actions must lie in [0, {MAX_PROPOSAL:g}], got values from {low:g} to {high:g}")


def _check_observations(observations: Tensor) -> None:
    if observations.dim() < 1 or observations.shape[-1] != 5 * ITEMS:
        raise ValueError(f"observations must have shape (..., {5 * ITEMS}), got {tuple(observations.shape)}")
