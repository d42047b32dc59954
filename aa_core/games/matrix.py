"""Repeated 2x2 games: any by its payoffs, the classic ones by name.

Actions: C = 0 (the first action), D = 1. A memory-one player sees one of five states, always from its own side:
START before the first round, then CC, CD, DC or DD: the own last action, the other's last action. That order, STATES,
is used everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from aa_core.checks import check, check_fields, check_shape, check_that
from aa_core.games.base import Game, Script, Step, check_step
from aa_core.policies import STRATEGIES

C, D = 0, 1
STATES = ("START", "CC", "CD", "DC", "DD")
SWAP = (0, 1, 3, 2, 4)  # the same joint action seen from the other side
_BOTH_SIDES = torch.tensor([range(5), SWAP]).T.contiguous()  # (states, players)


@dataclass(frozen=True)
class MatrixState:
    """Where a batch of repeated games stands: `joint` `(batch,)` indexes STATES from player 1's side."""

    joint: Tensor
    time: int


@dataclass(frozen=True)
class MatrixGame:
    """A repeated 2x2 game with payoffs (player 1, player 2) for CC, CD, DC, DD; `horizon` rounds, `name` for titles."""

    payoffs: tuple[tuple[float, float], ...]
    horizon: int = 32
    name: str = "matrix"
    num_players, num_actions, action_shape, action_bounds = 2, 2, (), None
    num_observations, obs_shape, obs_bounds = len(STATES), (), None

    def __post_init__(self) -> None:
        try:
            table = torch.as_tensor(self.payoffs, dtype=torch.float64)
        except (TypeError, ValueError):
            table = torch.empty(0)
        fits = table.shape == (4, 2) and table.isfinite().all()
        check_that(fits, "payoffs", "four finite pairs, for CC, CD, DC and DD", self.payoffs)
        check_fields(self)

    @classmethod
    def symmetric(cls, R: float, S: float, T: float, P: float, horizon: int = 32, name: str = "matrix") -> MatrixGame:
        """Payoffs by the names of Axelrod: reward (CC), sucker (CD), temptation (DC), punishment (DD)."""
        return cls(((R, R), (S, T), (T, S), (P, P)), horizon, name)

    @cached_property
    def payoff_tensor(self) -> Tensor:
        """`(players, 4)` in float64: each player's reward for CC, CD, DC, DD as player 1 sees them."""
        return torch.tensor(self.payoffs, dtype=torch.float64).T.contiguous()

    def swapped(self) -> MatrixGame:
        """The same game with the players' seats exchanged."""
        return MatrixGame(tuple(tuple(self.payoffs[j])[::-1] for j in (0, 2, 1, 3)), self.horizon, self.name)  # type: ignore[misc]

    def reset(self, batch: int, generator: Generator | None = None) -> tuple[MatrixState, Tensor]:
        """Start `batch` games; observations are indices into STATES, each player's own, `(batch, 2)`."""
        check(batch=batch, generator=generator)
        joint = torch.zeros(batch, dtype=torch.long)
        return MatrixState(joint, 0), _BOTH_SIDES[joint]

    def step(self, state: MatrixState, actions: Tensor, generator: Generator | None = None) -> Step:
        """Play a round; see `Game.step`. Deterministic, so the generator is not used."""
        check_step(self, state, actions)
        actions = actions.long()  # an index, not a mask, for uint8 too
        cell = 2 * actions[:, 0] + actions[:, 1]
        following = MatrixState(cell + 1, state.time + 1)
        done = torch.full_like(cell, following.time >= self.horizon, dtype=torch.bool)
        return following, _BOTH_SIDES[following.joint], self.payoff_tensor.T[cell].float(), done


def memory_one(cooperation: Sequence[float]) -> Script:
    """The player that cooperates with probability `cooperation` `(5,)` in each of STATES, as it sees them."""
    try:
        table = torch.as_tensor(cooperation, dtype=torch.float32)
    except (RuntimeError, TypeError, ValueError):
        table = torch.empty(0)
    fits = table.shape == (len(STATES),) and ((table >= 0) & (table <= 1)).all()
    check_that(fits, "cooperation", f"a probability for each of {', '.join(STATES)}", cooperation)

    def act(game: Game, observations: Tensor, generator: Generator | None = None) -> Tensor:
        check(game=game, generator=generator)
        check_that(game.num_observations == len(STATES), "game", f"one that shows {', '.join(STATES)}", game)
        check_shape((...,), (0, len(STATES) - 1), True, observations=observations)
        return (torch.rand(observations.shape, generator=generator) >= table[observations.long()]).long()

    return act


SCRIPTED: dict[str, Script] = {name: memory_one(table) for name, table in STRATEGIES.items()}

CLASSIC_PAYOFFS: dict[str, Sequence[tuple[float, float]]] = {
    # LOLA's and LOQA's form, also used for the AA figures
    "prisoners_dilemma": ((-1, -1), (-3, 0), (0, -3), (-2, -2)),
    # Axelrod's tournaments and the LLM paper
    "prisoners_dilemma_3051": ((3, 3), (0, 5), (5, 0), (1, 1)),
    "stag_hunt": ((4, 4), (0, 3), (3, 0), (2, 2)),
    "chicken": ((3, 3), (1, 4), (4, 1), (0, 0)),
    "matching_pennies": ((1, -1), (-1, 1), (-1, 1), (1, -1)),
    "bach_or_stravinsky": ((3, 2), (0, 0), (0, 0), (2, 3)),
}
