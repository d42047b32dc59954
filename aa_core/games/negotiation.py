"""The Negotiation Game: two players claim shares of three items at the same time, as in the AA paper's league.

Every round is independent: one unit of each of three items; each is worth 5 to one player and 1 to the other, a fair
coin per item says to whom. Both see both values. Each claims an amount from 0 to 5 of every item, and an item is
divided in proportion to the claims: share_i = p_i / max(p_1 + p_2, 5), so that small claims leave some of it to nobody.
The reward is the value of the shares divided by 15, the value of three items of 5.

The two rewards of a round sum to at most 1, which is reached when each item goes to the player who values it more:
their sum is the round's efficiency. In expectation over values, two players who always cooperate get .50 each, two who
always defect .30, and one who defects against a cooperator .55, which gets .25.

Source: `train.py` and `configs/eg_cont.yaml` of the AA repository at commit e99df9c (high-contrast values, one turn).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from aa_core.checks import check, check_fields
from aa_core.games.base import Script, Step, check_step, leading_shape

ITEMS = 3
LOW_VALUE, HIGH_VALUE = 1.0, 5.0
MAX_PROPOSAL = 5.0
_OBSERVATION_SCALE = 10.0


@dataclass(frozen=True)
class NegotiationState:
    """Where a batch of games stands: values of this round, proposals of the last one (0 before the first)."""

    values: Tensor  # (batch, 2, 3) of a unit of each item to each player, 1 or 5
    proposals: Tensor  # (batch, 2, 3)
    time: int


@dataclass(frozen=True)
class NegotiationGame:
    """The Negotiation Game of `horizon` rounds; source: the AA repository, see the module.

    Actions: proposals `(batch, 2, 3)` in [0, 5], how much of each item the player claims. Observations: 15 numbers from
    the player's own side, divided by 10: units of each item (always 1), own values, own last proposals, other's values,
    other's last proposals, three of each.
    """

    horizon: int = 50
    num_players, num_actions, action_shape, action_bounds = 2, None, (ITEMS,), (0.0, MAX_PROPOSAL)
    num_observations, obs_shape, obs_bounds = None, (5 * ITEMS,), (0.0, MAX_PROPOSAL / _OBSERVATION_SCALE)

    def __post_init__(self) -> None:
        check_fields(self)

    def reset(self, batch: int, generator: Generator | None = None) -> tuple[NegotiationState, Tensor]:
        """Start `batch` games with values drawn at random; see `Game.reset`."""
        check(batch=batch, generator=generator)
        state = NegotiationState(_draw_values(batch, generator), torch.zeros(batch, 2, ITEMS), 0)
        return state, self.observe(state)

    def step(self, state: NegotiationState, actions: Tensor, generator: Generator | None = None) -> Step:
        """Divide the items, for rewards in [0, 1], and draw new values by the generator; see `Game.step`."""
        check_step(self, state, actions)
        proposals = actions.float()
        claimed = (proposals[:, :1] + proposals[:, 1:]).clamp_min(MAX_PROPOSAL)
        points = proposals / claimed * state.values
        # a product with ones: a sum over an axis this short is many times slower
        rewards = points @ torch.ones(ITEMS) / (ITEMS * HIGH_VALUE)
        following = NegotiationState(_draw_values(len(proposals), generator), proposals, state.time + 1)
        done = torch.full((len(proposals),), following.time >= self.horizon)
        return following, self.observe(following), rewards, done

    def observe(self, state: NegotiationState) -> Tensor:
        """Observations `(batch, 2, 15)` of a state, float32."""
        check(state=state)
        sides = torch.ones(len(state.values), 2, 5, ITEMS)
        sides[:, :, 1], sides[:, :, 2] = state.values, state.proposals
        sides[:, 0, 3:], sides[:, 1, 3:] = sides[:, 1, 1:3], sides[:, 0, 1:3]
        return sides.div_(_OBSERVATION_SCALE).flatten(2)


def _draw_values(batch: int, generator: Generator | None) -> Tensor:
    """`(batch, 2, 3)`: each item is worth 5 to one player, drawn by a fair coin, and 1 to the other."""
    first = torch.randint(2, (batch, ITEMS), generator=generator)
    return LOW_VALUE + (HIGH_VALUE - LOW_VALUE) * torch.stack([first, 1 - first], 1)


def always_cooperate(game: NegotiationGame, observations: Tensor, generator: Generator | None = None) -> Tensor:
    """Claim 5 of the items worth more to oneself and 0 of the others; source: `league/cont_league.py` of the AA code.

    A `Script`; by the generator, items worth the same to both are claimed with probability 1/2.
    """
    leading_shape(game, observations)
    advantage = observations[..., ITEMS : 2 * ITEMS] - observations[..., 3 * ITEMS : 4 * ITEMS]
    coin = torch.rand(advantage.shape, generator=generator) < 0.5
    return MAX_PROPOSAL * ((advantage > 0) | ((advantage == 0) & coin))


def always_defect(game: NegotiationGame, observations: Tensor, generator: Generator | None = None) -> Tensor:
    """Claim 5 of every item; a `Script` with the source of `always_cooperate`."""
    return torch.full((*leading_shape(game, observations), ITEMS), MAX_PROPOSAL)


SCRIPTED: dict[str, Script] = {"always cooperate": always_cooperate, "always defect": always_defect}
