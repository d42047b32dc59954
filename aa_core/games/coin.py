"""The Coin Game of LOLA, with the rules of LOQA's `coin_game.py`.

Two players walk on a torus with one coin on it, which belongs to one of them. Both move at the same time and may stand
on the same cell. Whoever steps on the coin takes it and earns 1, whatever its colour; if it belonged to the other
player, that one loses 2: if both step on it, its owner gets -1 and the other 1. Then a coin of the other colour
appears, uniformly on the cells where nobody stands.

To take any coin is dominant within a step; two players who leave each other's coins alone are better off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Generator, Tensor
from torch.nn.functional import embedding

from aa_core.checks import check, check_fields, check_shape, check_that
from aa_core.games.base import Script, Step, check_step, leading_shape, random_player

MOVES = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # (row, column), in the order of actions


@dataclass(frozen=True)
class CoinState:
    """Where a batch of games stands; cells are numbered row by row, row * width + column."""

    players: Tensor  # (batch, 2) the players' cells
    coin: Tensor  # (batch,) its cell
    owner: Tensor  # (batch,) the player, 0 or 1, of whose colour the coin is
    time: int


@dataclass(frozen=True)
class CoinGame:
    """The Coin Game on a torus; source: LOQA's `coin_game.py` (the AA and LOQA papers play 3 x 3, 50 steps).

    Actions: left 0, right 1, up 2, down 3; there is no staying. Observations: four binary planes `(4, height, width)`,
    each player's own view: own position, other's position, coin of own colour, coin of the other's colour. Settings
    must be positive integers, and give at least 3 cells, so that a coin finds a free one (ValueError).
    """

    height: int = 3
    width: int = 3
    horizon: int = 50
    num_players, num_actions, action_shape, action_bounds = 2, len(MOVES), (), None
    num_observations, obs_bounds = None, (0.0, 1.0)

    def __post_init__(self) -> None:
        check_fields(self)
        check_that(self.height * self.width >= 3, "height and width", "3 cells or more", (self.height, self.width))

    @property
    def obs_shape(self) -> tuple[int, int, int]:
        """`(4, height, width)`."""
        return (4, self.height, self.width)

    @cached_property
    def _moves(self) -> Tensor:
        """`(cells, 4)`: the cell that each move leads to."""
        cells, moves = torch.arange(self.height * self.width)[:, None], torch.tensor(list(MOVES.values()))
        rows, columns = (cells // self.width + moves[:, 0]), (cells % self.width + moves[:, 1])
        return rows % self.height * self.width + columns % self.width

    @cached_property
    def _distances(self) -> Tensor:
        """`(cells, cells, 4)`: torus distance in steps to the second cell after each move from the first."""
        moved, coin = self._moves[:, None], torch.arange(self.height * self.width)[:, None]
        rows = (moved // self.width - coin // self.width).abs()
        columns = (moved % self.width - coin % self.width).abs()
        return torch.minimum(rows, self.height - rows) + torch.minimum(columns, self.width - columns)

    @cached_property
    def _planes(self) -> Tensor:
        """`(cells + 1, cells)`: the plane with a 1 at each cell; last, the empty one. To look up is to write once."""
        return torch.eye(self.height * self.width + 1)[:, :-1].contiguous()

    def reset(self, batch: int, generator: Generator | None = None) -> tuple[CoinState, Tensor]:
        """Start `batch` games: players anywhere, alone or together, a coin of either colour on a free cell."""
        check(batch=batch, generator=generator)
        players = torch.randint(self.height * self.width, (batch, 2), generator=generator)
        owner = torch.randint(2, (batch,), generator=generator)
        state = CoinState(players, self._spawn(players, generator), owner, 0)
        return state, self.observe(state)

    def step(self, state: CoinState, actions: Tensor, generator: Generator | None = None) -> Step:
        """Move both players, see MOVES and `Game.step`.

        The generator, which places new coins, yields one number per game whether or not a coin was taken, so that games
        from the same seed share their random numbers whatever the players do.
        """
        check_step(self, state, actions)
        players = self._moves.take(state.players * self.num_actions + actions)
        takers = players == state.coin[:, None]
        first, second = takers.unbind(1)
        owned_by_second = state.owner.bool()
        # the owner loses 2 when the other player is a taker, alone or not
        losses = torch.stack([second & ~owned_by_second, first & owned_by_second], 1)
        rewards = takers.float() - 2.0 * losses.float()
        taken = first | second
        coin = torch.where(taken, self._spawn(players, generator), state.coin)
        following = CoinState(players, coin, state.owner ^ taken, state.time + 1)
        done = torch.full_like(taken, following.time >= self.horizon)
        return following, self.observe(following), rewards, done

    def observe(self, state: CoinState) -> Tensor:
        """Observations `(batch, 2, 4, height, width)` of a state, float32."""
        check(state=state)
        first, second = state.players.unbind(1)
        nowhere, owned_by_second = self.height * self.width, state.owner.bool()
        coin_1 = state.coin.masked_fill(owned_by_second, nowhere)
        coin_2 = state.coin.masked_fill(~owned_by_second, nowhere)
        cells = torch.stack([first, second, coin_1, coin_2, second, first, coin_2, coin_1], 1)
        return embedding(cells, self._planes).view(-1, 2, *self.obs_shape)

    def _spawn(self, players: Tensor, generator: Generator | None) -> Tensor:
        """A cell `(batch,)` uniform over those where nobody stands: an index among these, moved on past the others."""
        lower, upper = torch.minimum(*players.unbind(1)), torch.maximum(*players.unbind(1))
        apart = lower != upper
        free = self.height * self.width - 1 - apart.float()
        cell = (torch.rand(len(players), generator=generator) * free).long()
        cell += cell >= lower
        cell += (cell >= upper) & apart
        return cell


def pickups(rewards: Tensor) -> tuple[Tensor, Tensor]:
    """Who took which coin, which rewards `(batch, 2)` or `(batch, 2, time)` tell in full; ValueError for other shapes.

    Two boolean tensors of that shape: the player took a coin of its own colour, or of the other's; both may take it.
    """
    check_shape((..., None, None), rewards=rewards)
    fits = rewards.shape[1] == 2 and rewards.dim() <= 3
    check_that(fits, "rewards", "of shape (batch, 2) or (batch, 2, time)", rewards)
    of_the_other = rewards.flip(1)
    own = ((rewards == 1) & (of_the_other == 0)) | (rewards == -1)
    return own, (rewards == 1) & (of_the_other < 0)


def chase(game: CoinGame, observations: Tensor, generator: Generator | None = None, flee: bool = False) -> Tensor:
    """Go for every coin, or with `flee` run away from those of the other's colour.

    A `Script`; the generator breaks ties between equally good moves, uniformly. Source: LOQA's `coin_game.py`, league.
    """
    leading_shape(game, observations)
    planes = observations.flatten(-2)
    # each plane holds at most a single 1, so that a product with the cells' numbers reads its cell, or 0
    own, _, mine, yours = (planes @ torch.arange(planes.shape[-1], dtype=planes.dtype)).long().unbind(-1)
    distances = game._distances[own, mine + yours]
    if flee:
        distances = distances * (1 - 2 * planes[..., 3, :].sum(-1, keepdim=True))
    # distances are whole numbers: noise below 1 decides between equal ones only
    return (distances + torch.rand(distances.shape, generator=generator)).argmin(-1)


_COOPERATE = partial(chase, flee=True)
SCRIPTED: dict[str, Script] = {"always cooperate": _COOPERATE, "always defect": chase, "random": random_player}
