"""Commons Harvest: Open, a common-pool resource game for any number of players, batched over worlds.

Apples regrow faster the more apples stand near them and never where none is left: whoever eats a patch's last apple
ends it for all. Rules and numbers are those of Melting Pot's substrate `commons_harvest__open` (Leibo et al. 2021,
arXiv 2107.06857; the game is that of Perolat et al. 2017, arXiv 1707.06600), with flat tables in place of its engine.

A step, in this order:

1. **Turns and moves**, relative to the player's heading. A move succeeds if its cell is no wall and no player stood on
   it when the step began; of several who want one cell, the first in an order drawn uniformly anew for every world and
   step enters. So two players can neither swap cells nor push, and no apple is ever reached by two players.
2. **Eating**: a player in play who stands on a live apple eats it, reward 1. There is no other reward.
3. **Zaps**: all beams of a step are fired at once (two players can zap each other). A beam is three rays, three cells
   ahead of the player and three on either side that start beside it; a wall or the first player hit stops a ray. After
   a zap the player cannot zap for `COOLDOWN` steps (not counting steps out of play). A player who is hit is out of play
   for `TIMEOUT` steps: off the map, without effect, with an observation of zeros.
4. **Return** of those whose time is up, on distinct spawn cells free of players, uniformly drawn, with random heading.
5. **Regrowth** of each empty apple cell with probability REGROWTH[live apples within distance 2, at most 3 counted],
   independently, on the apples left by this step's eating; also under a player, who eats it next step if still there.

Kept from Melting Pot: the map, cell by cell, actions, regrowth, beam, cooldown, time-out, window. Ours: simultaneous
moves and zaps (its engine acts player by player in random order), eating what regrows underfoot, symbols in place of
pixels, exactly `horizon` steps (it draws the end after step 1,000), and walls wherever a window reaches beyond the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Generator, Tensor

from aa_core.checks import check, check_fields, check_shape, check_that
from aa_core.games.base import Script, Step, check_step, leading_shape, random_player

NOOP, FORWARD, BACKWARD, LEFT, RIGHT, TURN_LEFT, TURN_RIGHT, ZAP = range(8)
NORTH, EAST, SOUTH, WEST = range(4)
CHANNELS = ("wall", "apple", "player", "beam", "ready")
REGROWTH, REGROWTH_RADIUS = (0.0, 0.0025, 0.005, 0.025), 2  # chance per step with 0, 1, 2, 3 or more live neighbours
BEAM_LENGTH, COOLDOWN, TIMEOUT = 3, 2, 4

# W wall, A apple, P spawn cell, Q where the first players start, . or space for bare ground
MAPS = {
    "open": """
WWWWWWWWWWWWWWWWWWWWWWWW
WAAA....A......A....AAAW
WAA....AAA....AAA....AAW
WA....AAAAA..AAAAA....AW
W......AAA....AAA......W
W.......A......A.......W
W..A................A..W
W.AAA..Q........Q..AAA.W
WAAAAA............AAAAAW
W.AAA..............AAA.W
W..A................A..W
W......................W
W......................W
W......................W
W..PPPPPPPPPPPPPPPPPP..W
W.PPPPPPPPPPPPPPPPPPPP.W
WPPPPPPPPPPPPPPPPPPPPPPW
WWWWWWWWWWWWWWWWWWWWWWWW
""",
    "pond": """
WWWWWWW
WPPAPPW
WPAAAPW
WAAAAAW
WPAAAPW
WPPAPPW
WWWWWWW
""",
    "orchard": """
WWWWWWWWWWW
W..A...PPPW
W.AAA..PPPW
WAAAAA.PPPW
W.AAA.....W
W..A...A..W
W.....AAA.W
WPPP.AAAAAW
WPPP..AAA.W
WPPP...A..W
WWWWWWWWWWW
""",
}
PLAYERS = {"open": 7, "pond": 2, "orchard": 4}

_AHEAD = torch.tensor([[-1, 0], [0, 1], [1, 0], [0, -1]])  # (row, column) step of each heading
_WALL, _APPLE, _PLAYER, _BEAM, _READY = (1 << bit for bit in range(len(CHANNELS)))  # one byte per cell


@dataclass(frozen=True)
class HarvestState:
    """Where a batch of worlds stands; a cell is a flat index, row * width + column."""

    cell: Tensor  # (batch, players) where each player is, or was when it was hit
    heading: Tensor  # (batch, players) 0 to 3, north, east, south, west
    out: Tensor  # (batch, players) steps still to be spent out of play; 0 in play, TIMEOUT when hit in the last step
    cooldown: Tensor  # (batch, players) steps before the player can zap again; 0 ready
    apples: Tensor  # (batch, apple cells) bool, alive, in the order of `HarvestGame.apple_cells`
    beams: Tensor  # (batch, cells + 2) bool, swept by a beam in the last step; the last two are never on the map
    time: int  # steps played, for the end at the horizon only: 0 whenever a loop begins some of the worlds anew


@dataclass(frozen=True)
class HarvestGame:
    """Commons Harvest; the rules stand in the module's docstring. ValueError for settings out of their range."""

    map: str = "open"  # name in MAPS, or rows of equal length in the letters above, walls all around
    num_players: int = 0  # at most as many as spawn cells; 0: the map's own number (7 for a map given as text)
    horizon: int = 1000
    window: tuple[int, int, int] = (9, 1, 5)  # cells seen ahead, behind and to each side of a player, each at least 1
    num_actions, action_shape, action_bounds = 8, (), None
    num_observations, obs_bounds = None, (0, 1)

    def __post_init__(self) -> None:
        rows = self.rows if isinstance(self.map, str) else [""]
        border = set(rows[0] + rows[-1] + "".join(row[:1] + row[-1:] for row in rows))
        letters, widths = set("".join(rows)), {len(row) for row in rows}
        fits = len(widths) == 1 and border == {"W"} and "A" in letters and not letters - set("WAPQ. ")
        expected = "rows of equal length in the letters W, A, P, Q, . and space, with walls all around and an apple"
        check_that(fits, "map", f"one of {', '.join(MAPS)} or {expected}", self.map)
        players, limit = self.num_players or PLAYERS.get(self.map, 7), len(self.spawn_cells)
        fits = isinstance(players, int) and 1 <= players <= limit
        check_that(fits, "num_players", f"1 to {limit}, the spawn cells", players)
        object.__setattr__(self, "num_players", players)
        check_fields(self)
        window = self.window
        fits = isinstance(window, tuple) and len(window) == 3 and all(isinstance(n, int) and n > 0 for n in window)
        check_that(fits, "window", "three positive integers (ahead, behind, side)", window)

    # --- geometry, computed once. Two cells more than the map: beyond the border (a wall), and dark (nothing at all)

    @cached_property
    def rows(self) -> list[str]:
        """The map's rows of letters."""
        return MAPS.get(self.map, self.map).strip("\n").split("\n")

    @property
    def height(self) -> int:
        """Rows of the map."""
        return len(self.rows)

    @property
    def width(self) -> int:
        """Columns of the map."""
        return len(self.rows[0])

    @property
    def obs_shape(self) -> tuple[int, int, int]:
        """`(channels, rows, columns)`, uint8."""
        return (len(CHANNELS), self.window[0] + self.window[1] + 1, 2 * self.window[2] + 1)

    @cached_property
    def apple_cells(self) -> Tensor:
        """`(apple cells,)` flat indices of the cells where apples grow."""
        return self._cells("A")

    @cached_property
    def spawn_cells(self) -> Tensor:
        """`(spawn cells,)` flat indices of the cells where players appear."""
        return self._cells("P")

    @cached_property
    def neighbours(self) -> Tensor:
        """`(apple cells, apple cells)` float32, 1 where two different apple cells are within distance 2."""
        places = torch.stack((self.apple_cells // self.width, self.apple_cells % self.width), 1)
        squares = (places[:, None] - places[None]).pow(2).sum(-1)
        return ((squares > 0) & (squares <= REGROWTH_RADIUS**2)).float()

    def _cells(self, letter: str) -> Tensor:
        return torch.tensor([i for i, here in enumerate("".join(self.rows)) if here == letter], dtype=torch.long)

    @property
    def _dark(self) -> int:
        return self.height * self.width + 1

    @cached_property
    def _is_wall(self) -> Tensor:  # (cells + 2,)
        return torch.tensor([letter == "W" for letter in "".join(self.rows)] + [True, False])

    @cached_property
    def _apple_at(self) -> Tensor:  # index into apple_cells, or the number of apple cells
        index = torch.full((self._dark + 1,), len(self.apple_cells))
        index[self.apple_cells] = torch.arange(len(self.apple_cells))
        return index

    def _around(self, ahead: Tensor, right: Tensor) -> Tensor:
        """`(4 cells + 1, offsets)`: the cell at each offset from (cell, heading) = row // 4, row % 4; last, dark."""
        here = torch.cartesian_prod(torch.arange(self.height), torch.arange(self.width))[:, None, None]
        steps = ahead[:, None] * _AHEAD[:, None] + right[:, None] * _AHEAD.roll(-1, 0)[:, None]  # (4, offsets, 2)
        row, column = (here + steps).unbind(-1)
        inside = (row >= 0) & (row < self.height) & (column >= 0) & (column < self.width)
        cells = torch.where(inside, row * self.width + column, self._dark - 1).flatten(0, 1)
        return torch.nn.functional.pad(cells, (0, 0, 0, 1), value=self._dark)

    @cached_property
    def _moves(self) -> Tensor:  # (4 cells + 1, actions), the cell that a player would enter; its own if that is a wall
        aims = self._around(torch.tensor([0, 1, -1, 0, 0, 0, 0, 0]), torch.tensor([0, 0, 0, -1, 1, 0, 0, 0]))
        return torch.where(self._is_wall[aims], aims[:, :1], aims)

    @cached_property
    def _rays(self) -> Tensor:  # (4 cells + 1, 3 rays, BEAM_LENGTH); dark from a wall on; the last row is no beam
        ahead = torch.arange(BEAM_LENGTH) + torch.tensor([[1], [0], [0]])
        right = torch.tensor([[0], [-1], [1]]).expand_as(ahead)
        rays = self._around(ahead.flatten(), right.flatten()).unflatten(1, (3, BEAM_LENGTH))
        return torch.where(self._is_wall[rays].cumsum(-1) > 0, self._dark, rays)

    @cached_property
    def _windows(self) -> Tensor:  # (4 cells + 1, window cells); the last row, of players out of play, is all dark
        ahead, behind, side = self.window
        rows, columns = torch.arange(ahead, -behind - 1, -1), torch.arange(-side, side + 1)
        return self._around(*torch.cartesian_prod(rows, columns).unbind(1))

    def _standing(self, cell: Tensor, out: Tensor) -> Tensor:
        return torch.where(out > 0, self._dark, cell)

    def reset(self, batch: int, generator: Generator | None = None) -> tuple[HarvestState, Tensor]:
        """Start `batch` worlds: all apples alive, players with random headings on distinct random spawn cells, but the
        first ones on the cells marked Q, in their order.
        """
        check(batch=batch, generator=generator)
        order = torch.rand(batch, len(self.spawn_cells), generator=generator).topk(self.num_players).indices
        cell, inside = self.spawn_cells[order], self._cells("Q")[: self.num_players]
        cell[:, : len(inside)] = inside
        heading, zeros = torch.randint(4, cell.shape, generator=generator), torch.zeros_like(cell)
        apples = torch.ones(batch, len(self.apple_cells), dtype=torch.bool)
        beams = torch.zeros(batch, self._dark + 1, dtype=torch.bool)
        state = HarvestState(cell, heading, zeros, zeros, apples, beams, 0)
        return state, self.observe(state)

    def step(self, state: HarvestState, actions: Tensor, generator: Generator | None = None) -> Step:
        """Play a step; see `Game.step` and the module's docstring. Rewards are apples eaten, float32."""
        check_step(self, state, actions)
        absent = state.out > 0
        actions = actions.long().masked_fill(absent, NOOP)
        cell = self._move(state, actions, generator)  # 1. turns and moves
        heading = (state.heading + (actions == TURN_RIGHT).long() - (actions == TURN_LEFT).long()) & 3
        place = self._standing(cell, state.out)
        number, underfoot = len(self.apple_cells), self._apple_at[place]
        apples = torch.nn.functional.pad(state.apples, (0, 1))  # a dead apple for whoever stands elsewhere
        ate = apples.gather(1, underfoot)  # 2. eating
        apples = apples.scatter(1, underfoot.masked_fill(~ate, number), False)[:, :number]
        fired = (actions == ZAP) & (state.cooldown == 0)  # 3. zaps
        beams = self._beams(place, cell * 4 + heading, fired)
        cooldown = torch.where(fired, COOLDOWN, (state.cooldown - (~absent).long()).clamp_(min=0))
        out = torch.where(beams.gather(1, place), TIMEOUT, (state.out - 1).clamp_(min=0))
        returning = state.out == 1  # 4. return
        cell, heading = self._respawn(cell, heading, self._standing(cell, out + returning), returning, generator)
        live = apples.float()  # 5. regrowth
        chance = torch.tensor(REGROWTH)[(live @ self.neighbours).clamp_(max=len(REGROWTH) - 1).long()]
        apples = apples | (torch.rand(live.shape, generator=generator) < chance)
        following = HarvestState(cell, heading, out, cooldown, apples, beams, state.time + 1)
        done = torch.full((len(cell),), following.time >= self.horizon)
        return following, self.observe(following), ate.float(), done

    def active(self, state: HarvestState) -> Tensor:
        """`(batch, players)` bool: who is in play, so that what it does has an effect."""
        check(state=state)
        return state.out == 0

    def _move(self, state: HarvestState, actions: Tensor, generator: Generator | None) -> Tensor:
        aim = self._moves.flatten()[(state.cell * 4 + state.heading) * self.num_actions + actions]
        standing = self._standing(state.cell, state.out)
        # who is out of play stands nowhere, so that it must not lay claim to the cell where it was hit
        free = (aim != state.cell) & (aim[:, :, None] != standing[:, None, :]).all(-1)
        # distinct priorities: the player's number breaks ties, of probability 2^-40
        order = torch.randint(2**40, aim.shape, generator=generator) * self.num_players + torch.arange(self.num_players)
        rivals = (aim[:, :, None] == aim[:, None, :]) & free[:, None, :]
        beaten = (rivals & (order[:, None, :] > order[:, :, None])).any(-1)
        return torch.where(free & ~beaten, aim, state.cell)

    def _beams(self, place: Tensor, view: Tensor, fired: Tensor) -> Tensor:
        occupied = torch.zeros(len(place), self._dark + 1, dtype=torch.uint8).scatter_(1, place, 1)
        occupied[:, self._dark] = 0
        row = torch.where(fired, view, len(self._rays) - 1)
        rays = self._rays.index_select(0, row.flatten()).view(*row.shape, 3, BEAM_LENGTH)
        struck = occupied.gather(1, rays.flatten(1)).view_as(rays)
        shielded = struck.cumsum(-1) > struck  # a player nearer to the shooter on this ray
        lit = rays.masked_fill(shielded, self._dark).flatten(1)
        beams = torch.zeros(len(place), self._dark + 1, dtype=torch.bool).scatter_(1, lit, True)
        beams[:, self._dark] = False
        return beams

    def _respawn(
        self, cell: Tensor, heading: Tensor, place: Tensor, returning: Tensor, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        worlds = returning.any(1).nonzero()[:, 0]
        if not len(worlds):
            return cell, heading
        back, spawn = returning[worlds], self.spawn_cells
        taken = (place[worlds, :, None] == spawn).any(1)
        # players are no more than spawn cells, so the free ones, which come first, suffice
        order = torch.rand(taken.shape, generator=generator).masked_fill_(taken, -1).topk(self.num_players).indices
        turn = (back.cumsum(1) - 1).clamp_(min=0)
        cell, heading = cell.clone(), heading.clone()
        cell[worlds] = torch.where(back, spawn[order.gather(1, turn)], cell[worlds])
        heading[worlds] = torch.where(back, torch.randint(4, back.shape, generator=generator), heading[worlds])
        return cell, heading

    def observe(self, state: HarvestState) -> Tensor:
        """What each player sees, `(batch, players, *obs_shape)` in uint8, turned so that its heading is up.

        Symbols are 0 or 1: wall, apple, another player, beam of the last step, and `ready` on the own cell when the
        player can zap. The own cell is `window[0]` rows down, in the middle column. Zeros while out of play.
        """
        check(state=state)
        view = torch.where(state.out > 0, len(self._windows) - 1, state.cell * 4 + state.heading)
        index = self._windows.index_select(0, view.flatten()).view(len(view), -1)
        codes = self._is_wall.to(torch.uint8).repeat(len(view), 1)  # (batch, cells + 2)
        codes[:, self.apple_cells] = state.apples.to(torch.uint8) * _APPLE
        codes.add_(state.beams.view(torch.uint8), alpha=_BEAM)
        codes.scatter_add_(1, self._standing(state.cell, state.out), torch.full(view.shape, _PLAYER, dtype=torch.uint8))
        codes[:, self._dark] = 0
        seen = codes.gather(1, index).unflatten(1, (self.num_players, -1))  # (batch, players, window)
        ready = ((state.cooldown == 0) & (state.out == 0)).to(torch.uint8)
        own = self.window[0] * self.obs_shape[2] + self.window[2]  # the cell of the window where the player stands
        seen[:, :, own] = seen[:, :, own] & (_WALL | _APPLE | _BEAM) | _READY * ready
        flags = torch.tensor((_WALL, _APPLE, _PLAYER, _BEAM, _READY), dtype=torch.uint8)
        # whole bytes at a time: many times faster than comparing into bool
        return (seen[:, :, None] & flags[:, None]).clamp_(max=1).unflatten(-1, self.obs_shape[1:])


# --- scripted players
def free_harvester(
    game: HarvestGame, observations: Tensor, generator: Generator | None = None, zap: bool = False
) -> Tensor:
    """Walk to the nearest apple in sight and eat it, whatever is left; our stand-in for a free rider. A `Script`.

    Ties are broken at random, blocked ways are walked around at random, and without an apple in sight it wanders. With
    `zap` it zaps whenever it is ready and another player stands in the beam's reach, walls or not.
    """
    lead, (ahead, behind, side) = leading_shape(game, observations), game.window
    wall, apple, player, _, ready = observations.reshape(-1, *game.obs_shape).bool().unbind(1)
    forward, right = torch.arange(ahead, -behind - 1, -1)[:, None], torch.arange(-side, side + 1)[None]
    # nearest apple by walking distance; the noise only breaks ties
    distance = (forward.abs() + right.abs()) + 0.5 * torch.rand(wall.shape, generator=generator)
    nearest = distance.masked_fill(~apple, torch.inf).flatten(1).argmin(1)
    go_forward, go_right = ahead - nearest // (2 * side + 1), nearest % (2 * side + 1) - side
    blocked = wall | player
    around = [(ahead - 1, side), (ahead + 1, side), (ahead, side - 1), (ahead, side + 1)]  # as actions 1 to 4
    shut = torch.stack([blocked[:, row, column] for row, column in around], 1)
    gain = torch.stack((go_forward, -go_forward, -go_right, go_right), 1).float()
    noise = torch.rand(len(wall), 4, generator=generator)
    toward = (gain + 0.5 * noise).masked_fill(shut | (gain <= 0), -1)
    detour = noise.masked_fill(shut, -1).argmax(1)
    approach = 1 + torch.where(toward.amax(1) > 0, toward.argmax(1), detour)
    approach = torch.where((go_forward == 0) & (go_right == 0), NOOP, approach)  # it grew underfoot: stay and eat
    turn = torch.randint(TURN_LEFT, TURN_RIGHT + 1, (len(wall),), generator=generator)
    wander = torch.where(shut[:, 0] | (torch.rand(len(wall), generator=generator) < 0.1), turn, FORWARD)
    actions = torch.where(apple.flatten(1).any(1), approach, wander)
    if zap:
        start = (right == 0).long()  # of the middle ray, one cell ahead; the others start beside the player
        in_reach = (right.abs() <= 1) & (forward >= start) & (forward < start + BEAM_LENGTH)
        actions = torch.where(ready.flatten(1).any(1) & (player & in_reach).flatten(1).any(1), ZAP, actions)
    return actions.view(lead)


SCRIPTED: dict[str, Script] = {"free harvester": free_harvester, "random": random_player}
SCRIPTED["free harvester with zapping"] = partial(free_harvester, zap=True)


# --- metrics of an episode (Perolat et al. 2017, section 3): rewards (..., players, time), results (...)
def collective_return(rewards: Tensor) -> Tensor:
    """Apples eaten by all: the sum of rewards `(..., players, time)` over players and time."""
    check_shape((..., None, None), rewards=rewards)
    return rewards.sum((-2, -1))


def sustainability(rewards: Tensor) -> Tensor:
    """Mean over players of the mean step, from 1 to `time`, at which they collected rewards; 0 if nobody did.

    Players that collected nothing are left out. A constant rate gives (time + 1) / 2, later means left to grow.
    """
    check_shape((..., None, None), rewards=rewards)
    collected = rewards > 0
    count = collected.sum(-1)
    mean_step = (collected * torch.arange(1, rewards.shape[-1] + 1)).sum(-1) / count.clamp(min=1)
    return mean_step.sum(-1) / (count > 0).sum(-1).clamp(min=1)


def equality(rewards: Tensor) -> Tensor:
    """1 - Gini coefficient of the players' returns: 1 - sum_ij |R_i - R_j| / (2 N sum_i R_i); 1 if nobody has any."""
    check_shape((..., None, None), rewards=rewards)
    returns, total = rewards.sum(-1), rewards.sum((-2, -1))
    differences = (returns[..., :, None] - returns[..., None, :]).abs().sum((-2, -1))
    return 1 - differences / torch.where(total > 0, 2 * returns.shape[-1] * total, 1)


def peace(out: Tensor) -> Tensor:
    """Mean number of players in play, from the steps `out` of play of `HarvestState`, `(..., players, time)`."""
    check_shape((..., None, None), (0, TIMEOUT), True, out=out)
    return (out == 0).sum(-2).float().mean(-1)
