from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import fields, replace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aa_core.games import harvest
from aa_core.games.base import random_player
from aa_core.games.harvest import (
    BACKWARD,
    CHANNELS,
    COOLDOWN,
    EAST,
    FORWARD,
    LEFT,
    MAPS,
    NOOP,
    NORTH,
    REGROWTH,
    RIGHT,
    SCRIPTED,
    SOUTH,
    TIMEOUT,
    TURN_LEFT,
    TURN_RIGHT,
    WEST,
    ZAP,
    HarvestGame,
    HarvestState,
    collective_return,
    equality,
    free_harvester,
    peace,
    sustainability,
)
from experiments.harvest_picture import render

VECTORS = {NORTH: (-1, 0), EAST: (0, 1), SOUTH: (1, 0), WEST: (0, -1)}
Place = tuple[int, int, int]  # row, column, heading


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def room(players: list[Place], text: str | None = None, batch: int = 1, **options) -> tuple[HarvestGame, HarvestState]:
    """A 7x7 room (or `text`) with one apple cell in the lower right corner, and the players where they are said."""
    text = text or "\n".join(["WWWWWWW", "WPPPPPW", *["W.....W"] * 3, "W....AW", "WWWWWWW"])
    game = HarvestGame(text, num_players=len(players), **options)
    state, _ = game.reset(batch, seeded())
    cell = torch.tensor([[row * game.width + column for row, column, _ in players]]).repeat(batch, 1)
    heading = torch.tensor([[heading for *_, heading in players]]).repeat(batch, 1)
    return game, replace(state, cell=cell, heading=heading)


def place(game: HarvestGame, state: HarvestState, player: int = 0, world: int = 0) -> Place:
    return (*divmod(int(state.cell[world, player]), game.width), int(state.heading[world, player]))


def play(game: HarvestGame, state: HarvestState, *actions: int, generator: torch.Generator | None = None):
    joint = torch.tensor([actions]).repeat(len(state.cell), 1)
    return game.step(state, joint, generator or seeded())


# --- maps


def test_published_map_has_the_published_counts() -> None:
    game = HarvestGame()
    letters = "".join(game.rows)
    assert (game.width, game.height, game.num_players, game.num_actions, game.horizon) == (24, 18, 7, 8, 1000)
    assert (letters.count("A"), letters.count("P"), letters.count("Q")) == (64, 60, 2)
    assert sorted(set((game.spawn_cells // 24).tolist())) == [14, 15, 16]  # the bottom three rows inside the walls


def patches(game: HarvestGame) -> list[int]:
    """Sizes of the connected components of the neighbourhood graph."""
    near, left, sizes = game.neighbours > 0, set(range(len(game.neighbours))), []
    while left:
        patch_cells, edge = set(), {left.pop()}
        while edge:
            patch_cells |= edge
            edge = {j for i in edge for j in near[i].nonzero()[:, 0].tolist()} - patch_cells
        left -= patch_cells
        sizes.append(len(patch_cells))
    return sorted(sizes)


@pytest.mark.parametrize(
    ("name", "sizes", "players"), [("open", [6, 6, 13, 13, 13, 13], 7), ("pond", [13], 2), ("orchard", [13, 13], 4)]
)
def test_patches_of_the_maps_are_separate(name: str, sizes: list[int], players: int) -> None:
    game = HarvestGame(name)
    assert patches(game) == sizes
    assert game.num_players == players
    assert game.neighbours.equal(game.neighbours.T)


def test_an_apple_has_up_to_twelve_neighbours() -> None:
    game = HarvestGame("pond")
    counts = dict(zip(game.apple_cells.tolist(), game.neighbours.sum(1).tolist(), strict=True))
    assert counts[3 * 7 + 3] == 12  # the centre of a diamond sees all of it
    assert counts[1 * 7 + 3] == 4  # a tip: the three next to it, and the centre


def test_players_start_on_distinct_spawn_cells_the_first_two_inside() -> None:
    game = HarvestGame()
    state, _ = game.reset(200, seeded())
    inside = [i for i, letter in enumerate("".join(game.rows)) if letter == "Q"]
    assert (state.cell[:, :2] == torch.tensor(inside)).all()
    assert torch.isin(state.cell[:, 2:], game.spawn_cells).all()
    assert all(len(set(row)) == 7 for row in state.cell.tolist())
    assert state.apples.all()
    assert set(state.heading.flatten().tolist()) == {0, 1, 2, 3}
    assert torch.isin(game.spawn_cells, state.cell).all()  # every spawn cell is used by some world


# --- moving


@pytest.mark.parametrize("heading", VECTORS)
@pytest.mark.parametrize(("action", "turn"), [(FORWARD, 0), (RIGHT, 1), (BACKWARD, 2), (LEFT, 3)])
def test_moves_are_relative_to_the_heading_and_stopped_by_walls(heading: int, action: int, turn: int) -> None:
    row, column = VECTORS[(heading + turn) % 4]
    for steps, moved in ((0, 1), (2, 0)):  # from the middle of the room, and from its edge
        start = (3 + steps * row, 3 + steps * column)
        game, state = room([(*start, heading)])
        state, *_ = play(game, state, action)
        assert place(game, state) == (start[0] + moved * row, start[1] + moved * column, heading)


@pytest.mark.parametrize("heading", VECTORS)
@pytest.mark.parametrize(("action", "turn"), [(TURN_LEFT, -1), (TURN_RIGHT, 1), (NOOP, 0), (ZAP, 0)])
def test_turns_stay_on_the_cell(heading: int, action: int, turn: int) -> None:
    game, state = room([(3, 3, heading)])
    state, *_ = play(game, state, action)
    assert place(game, state) == (3, 3, (heading + turn) % 4)


def test_players_can_neither_swap_nor_push() -> None:
    game, state = room([(3, 2, EAST), (3, 3, WEST)])
    for other in (FORWARD, NOOP, TURN_LEFT, ZAP):  # nor push
        after, *_ = play(game, state, FORWARD, other)
        assert after.cell.equal(state.cell)


def test_a_cell_left_in_this_step_can_be_entered_only_in_the_next() -> None:
    game, state = room([(3, 2, EAST), (3, 3, EAST)])
    state, *_ = play(game, state, FORWARD, FORWARD)
    assert [place(game, state, i)[:2] for i in (0, 1)] == [(3, 2), (3, 4)]
    state, *_ = play(game, state, FORWARD, NOOP)
    assert place(game, state)[:2] == (3, 3)


def test_a_player_out_of_play_does_not_stand_in_the_way() -> None:
    game, state = room([(3, 2, EAST), (3, 3, WEST)], batch=50)
    state, *_ = play(game, replace(state, out=torch.tensor([[0, 3]]).repeat(50, 1)), FORWARD, FORWARD)
    assert (state.cell == 3 * 7 + 3).all()  # whatever the order that was drawn


@pytest.mark.parametrize("rivals", [2, 3, 4])
def test_one_of_several_who_want_a_cell_enters_each_equally_often(rivals: int) -> None:
    batch = 4000
    around = [(4, 3, NORTH), (3, 2, EAST), (2, 3, SOUTH), (3, 4, WEST)][:rivals]
    game, state = room(around, batch=batch, window=(1, 1, 1))
    after, *_ = play(game, state, *[FORWARD] * rivals)
    entered = after.cell == 3 * 7 + 3
    assert (entered.sum(1) == 1).all()
    assert after.cell[~entered].equal(state.cell[~entered])
    error = (1 / rivals * (1 - 1 / rivals) / batch) ** 0.5
    assert (entered.float().mean(0) - 1 / rivals).abs().max() < 4 * error


def test_conflicts_are_drawn_anew_for_every_world_and_step() -> None:
    game, state = room([(3, 2, EAST), (3, 4, WEST)], batch=64, window=(1, 1, 1))
    generator = seeded()
    first, second = (play(game, state, FORWARD, FORWARD, generator=generator)[0].cell for _ in range(2))
    assert not first.equal(second)
    assert len(first.unique(dim=0)) == 2


# --- eating


def test_an_apple_is_eaten_by_who_enters_its_cell() -> None:
    game, state = room([(5, 4, EAST), (1, 1, NORTH)])
    state, observations, rewards, _ = play(game, state, FORWARD, NOOP)
    assert rewards.tolist() == [[1.0, 0.0]]
    assert not state.apples.any()
    assert not observations[:, :, CHANNELS.index("apple")].any()
    state, _, rewards, _ = play(game, state, NOOP, NOOP)  # gone, and not coming back
    assert rewards.sum() == state.apples.sum() == 0


def test_a_player_out_of_play_eats_nothing() -> None:
    game, state = room([(5, 5, EAST), (1, 1, NORTH)])
    state = replace(state, out=torch.tensor([[3, 0]]))
    state, _, rewards, _ = play(game, state, NOOP, NOOP)
    assert rewards.sum() == 0
    assert state.apples.all()


def test_what_regrows_underfoot_is_eaten_in_the_next_step() -> None:
    text = "WWWWW\nWPPPW\nWAAAW\nWWWWW"
    game, state = room([(2, 2, EAST)], text)
    with patch.object(harvest, "REGROWTH", (0.0, 1.0, 1.0, 1.0)):
        state, _, rewards, _ = play(game, state, NOOP)
        assert (rewards.item(), state.apples.all().item()) == (1.0, True)
        assert play(game, state, NOOP)[2].item() == 1.0


# --- regrowth


@pytest.mark.parametrize("live", [0, 1, 2, 3, 4, 8, 12])
def test_regrowth_has_the_published_probability(live: int) -> None:
    batch = 40_000
    game = HarvestGame("pond", num_players=1, window=(1, 1, 1))
    state, _ = game.reset(batch, seeded())
    centre = game.apple_cells.tolist().index(3 * 7 + 3)
    others = torch.tensor([i for i in range(13) if i != centre])
    order = torch.rand(batch, 12, generator=seeded(1)).argsort(1)  # which neighbours live must not matter
    apples = torch.zeros(batch, 13, dtype=torch.bool).scatter_(1, others[order[:, :live]], True)
    state = replace(state, apples=apples, cell=torch.full_like(state.cell, 8))
    after, *_ = play(game, state, NOOP, generator=seeded(live))
    p = (0, 0.0025, 0.005, 0.025)[min(live, 3)]
    grown = after.apples[:, centre].float().mean().item()
    assert abs(grown - p) <= 4 * (p * (1 - p) / batch) ** 0.5
    assert (after.apples & apples).equal(apples)  # live apples stay


def test_distance_2_counts_and_a_knights_move_does_not() -> None:
    text = "WWWWWWW\nWA.A..W\nW.....W\nWA...AW\nWPP...W\nWWWWWWW"
    game = HarvestGame(text, num_players=1)
    near = game.neighbours
    assert near.tolist() == [[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_this_steps_eating_counts_in_this_steps_regrowth() -> None:
    game, state = room([(2, 1, EAST)], "WWWWW\nWPPPW\nW.AAW\nWWWWW")
    state = replace(state, apples=torch.tensor([[True, False]]))
    with patch.object(harvest, "REGROWTH", (0.0, 1.0, 1.0, 1.0)):
        after, *_ = play(game, state, FORWARD)
    assert not after.apples.any()  # the last apple was eaten before anything could grow from it


# --- zapping


def hit(state: HarvestState) -> list[list[bool]]:
    return (state.out == TIMEOUT).tolist()


def swept(game: HarvestGame, state: HarvestState, world: int = 0) -> set[tuple[int, int]]:
    return {divmod(cell, game.width) for cell in state.beams[world].nonzero()[:, 0].tolist()}


@pytest.mark.parametrize("heading", VECTORS)
def test_the_beam_is_three_ahead_and_three_on_either_side(heading: int) -> None:
    game, state = room([(4, 4, heading)], "\n".join(["WWWWWWWWW", "WPPPPPPPW", *["W......AW"] * 6, "WWWWWWWWW"]))
    after, *_ = play(game, state, ZAP)
    (ahead_row, ahead_column), (right_row, right_column) = VECTORS[heading], VECTORS[(heading + 1) % 4]
    beam = [(1, 0), (2, 0), (3, 0), *[(k, side) for k in range(3) for side in (-1, 1)]]
    expected = {(4 + f * ahead_row + r * right_row, 4 + f * ahead_column + r * right_column) for f, r in beam}
    assert swept(game, after) == expected
    assert after.cooldown.item() == COOLDOWN
    assert swept(game, play(game, after, NOOP)[0]) == set()


def test_walls_stop_each_ray() -> None:
    text = "WWWWWWW\nWPPPPAW\nW..W..W\nW....WW\nW..P..W\nWWWWWWW"
    game, state = room([(4, 3, NORTH), (1, 3, NORTH), (2, 4, NORTH)], text)
    after, *_ = play(game, state, ZAP, NOOP, NOOP)
    # straight on one cell to the wall at (2, 3); the left ray is free; the right one reaches the player at (2, 4)
    assert swept(game, after) == {(3, 3), (4, 2), (3, 2), (2, 2), (4, 4), (3, 4), (2, 4)}
    assert hit(after) == [[False, False, True]]


def test_the_first_player_hit_shields_those_behind() -> None:
    game, state = room([(5, 3, NORTH), (4, 3, NORTH), (3, 3, NORTH), (3, 2, NORTH)])
    after, *_ = play(game, state, ZAP, NOOP, NOOP, NOOP)
    assert hit(after) == [[False, True, False, True]]
    assert (2, 3) not in swept(game, after)


def test_players_who_zap_each_other_are_both_hit() -> None:
    game, state = room([(4, 3, NORTH), (2, 3, SOUTH)])
    after, _, rewards, _ = play(game, state, ZAP, ZAP)
    assert hit(after) == [[True, True]]
    assert rewards.sum() == 0
    assert after.cooldown.tolist() == [[COOLDOWN, COOLDOWN]]


def test_beams_are_fired_after_the_moves() -> None:
    game, state = room([(4, 3, NORTH), (2, 1, EAST), (2, 3, EAST)])
    after, *_ = play(game, state, ZAP, FORWARD, FORWARD)
    assert hit(after) == [[False, True, True]]  # one moved into the beam, one only to its other side
    game, state = room([(5, 3, NORTH), (3, 4, EAST)])
    assert hit(play(game, state, ZAP, FORWARD)[0]) == [[False, False]]  # out of it


def test_after_a_zap_the_next_two_steps_are_for_cooling() -> None:
    game, state = room([(4, 3, NORTH)])
    fired, ready = [], []
    for _ in range(7):
        state, observations, *_ = play(game, state, ZAP)
        fired.append(state.beams.any().item())
        ready.append(bool(observations[0, 0, CHANNELS.index("ready")].any()))
    assert COOLDOWN == 2
    assert fired == [True, False, False, True, False, False, True]
    assert ready == [False, False, True, False, False, True, False]


def test_cooling_waits_while_out_of_play() -> None:
    game, state = room([(4, 3, NORTH), (2, 3, SOUTH)])
    state, *_ = play(game, state, ZAP, ZAP)
    for _ in range(TIMEOUT):
        assert state.cooldown.tolist() == [[2, 2]]
        state, *_ = play(game, state, NOOP, NOOP)
    assert play(game, state, NOOP, NOOP)[0].cooldown.tolist() == [[1, 1]]


def test_a_player_who_is_hit_is_out_for_four_steps_and_returns_on_a_spawn_cell() -> None:
    game, state = room([(5, 3, NORTH), (4, 3, EAST)])
    state, observations, *_ = play(game, state, ZAP, NOOP)
    assert hit(state) == [[False, True]]
    for left in range(TIMEOUT, 0, -1):
        assert state.out.tolist() == [[0, left]]
        assert not observations[0, 1].any()
        assert not observations[0, 0, CHANNELS.index("player")].any()
        state, observations, *_ = play(game, state, NOOP, FORWARD)
    assert state.out.tolist() == [[0, 0]]
    assert state.cell[0, 1] in game.spawn_cells
    assert observations[0, 1].any()


def test_players_return_to_free_spawn_cells_uniformly() -> None:
    batch = 3000
    text = "WWWWWW\nWPPPPW\nWP..AW\nWWWWWW"
    game, state = room([(1, 2, NORTH), (2, 2, NORTH), (2, 3, NORTH)], text, batch=batch, window=(1, 1, 1))
    state = replace(state, out=torch.tensor([[0, 1, 1]]).repeat(batch, 1))
    after, *_ = play(game, state, NOOP, NOOP, NOOP)
    assert (after.cell[:, 1] != after.cell[:, 2]).all()
    free = torch.tensor([1 * 6 + 1, 1 * 6 + 3, 1 * 6 + 4, 2 * 6 + 1])
    for player in (1, 2):
        frequency = (after.cell[:, player, None] == free).float().mean(0)
        assert frequency.sum().item() == pytest.approx(1)
        assert (frequency - 0.25).abs().max() < 4 * (0.25 * 0.75 / batch) ** 0.5
        headings = torch.bincount(after.heading[:, player], minlength=4) / batch
        assert (headings - 0.25).abs().max() < 4 * (0.25 * 0.75 / batch) ** 0.5


def test_when_all_are_out_and_spawn_cells_are_as_many_as_players_all_return() -> None:
    game, state = room([(2, 1, NORTH), (2, 2, NORTH)], "WWWWW\nWPP.W\nW..AW\nWWWWW", batch=50)
    after, *_ = play(game, replace(state, out=torch.ones_like(state.out)), NOOP, NOOP)
    assert after.cell.sort(1).values.equal(torch.tensor([[6, 7]]).repeat(50, 1))


# --- an independent, slow world


class SlowWorld:
    """One world with sets and loops, written from the rules alone; the random draws are handed to it."""

    def __init__(self, rows: list[str], state: HarvestState, world: int) -> None:
        cells = {(r, c): letter for r, row in enumerate(rows) for c, letter in enumerate(row)}
        self.walls = {cell for cell, letter in cells.items() if letter == "W"}
        self.orchard = [cell for cell, letter in cells.items() if letter == "A"]
        self.spawn = [cell for cell, letter in cells.items() if letter == "P"]
        width = len(rows[0])
        self.at = [divmod(cell, width) for cell in state.cell[world].tolist()]
        self.heading = state.heading[world].tolist()
        self.out = state.out[world].tolist()
        self.cooldown = state.cooldown[world].tolist()
        self.apples = {cell for cell, live in zip(self.orchard, state.apples[world].tolist(), strict=True) if live}

    def step(self, actions: list[int], order: list[int], growth: list[float]) -> tuple[list[float], set, set[int]]:
        """Returns the rewards, the swept cells and who comes back (placed by the caller)."""
        players = range(len(self.at))
        present = [i for i in players if not self.out[i]]
        before = {self.at[i] for i in present}
        entered = set()
        for i in sorted(present, key=lambda i: -order[i]):
            turn = {FORWARD: 0, RIGHT: 1, BACKWARD: 2, LEFT: 3}.get(actions[i])
            if turn is not None:
                row, column = VECTORS[(self.heading[i] + turn) % 4]
                aim = (self.at[i][0] + row, self.at[i][1] + column)
                if aim not in self.walls | before | entered:
                    entered.add(aim)
                    self.at[i] = aim
            self.heading[i] = (self.heading[i] + {TURN_LEFT: 3, TURN_RIGHT: 1}.get(actions[i], 0)) % 4

        rewards = [0.0 for _ in players]
        for i in present:
            if self.at[i] in self.apples:
                self.apples.remove(self.at[i])
                rewards[i] = 1.0

        swept, struck = set(), set()
        for i in present:
            if actions[i] == ZAP and self.cooldown[i] == 0:
                self.cooldown[i] = 2
                ahead, right = VECTORS[self.heading[i]], VECTORS[(self.heading[i] + 1) % 4]
                for first, side in ((1, 0), (0, -1), (0, 1)):
                    for k in range(first, first + 3):
                        cell = tuple(self.at[i][axis] + k * ahead[axis] + side * right[axis] for axis in (0, 1))
                        if cell in self.walls:
                            break
                        swept.add(cell)
                        found = [j for j in present if self.at[j] == cell]
                        struck.update(found)
                        if found:
                            break
            else:
                self.cooldown[i] = max(self.cooldown[i] - 1, 0)
        back = {i for i in players if self.out[i] == 1}
        self.out = [4 if i in struck else max(self.out[i] - 1, 0) for i in players]

        near = {
            a: sum(b != a and (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 <= 4 for b in self.apples) for a in self.orchard
        }
        chance = {0: 0.0, 1: 0.0025, 2: 0.005}
        self.apples |= {a for a, u in zip(self.orchard, growth, strict=True) if u < chance.get(near[a], 0.025)}
        return rewards, swept, back

    def window(self, player: int, swept: set, ahead: int, behind: int, side: int) -> list[list[list[int]]]:
        """Channels, rows and columns of what a player sees."""
        height, width = max(r for r, _ in self.walls) + 1, max(c for _, c in self.walls) + 1
        others = {self.at[i] for i in range(len(self.at)) if i != player and not self.out[i]}
        channels = [[[0] * (2 * side + 1) for _ in range(ahead + behind + 1)] for _ in range(5)]
        if self.out[player]:
            return channels
        forward, right = VECTORS[self.heading[player]], VECTORS[(self.heading[player] + 1) % 4]
        for row, f in enumerate(range(ahead, -behind - 1, -1)):
            for column, s in enumerate(range(-side, side + 1)):
                r, c = (self.at[player][axis] + f * forward[axis] + s * right[axis] for axis in (0, 1))
                outside = not (0 <= r < height and 0 <= c < width)
                flags = [outside or (r, c) in self.walls, (r, c) in self.apples, (r, c) in others, (r, c) in swept]
                flags.append(f == s == 0 and self.cooldown[player] == 0)
                for channel, flag in enumerate(flags):
                    channels[channel][row][column] = int(flag)
        return channels


def scramble(game: HarvestGame, batch: int, seed: int) -> HarvestState:
    """Random states: players anywhere on the ground, any heading, some out or cooling, half of the apples."""
    generator = seeded(seed)
    state, _ = game.reset(batch, generator)
    ground = torch.tensor([i for i, letter in enumerate("".join(game.rows)) if letter != "W"])
    order = torch.rand(batch, len(ground), generator=generator).argsort(1)[:, : game.num_players]
    shape = state.cell.shape
    out = torch.randint(1, 5, shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.2)
    cooldown = torch.randint(1, 3, shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.3)
    apples = torch.rand(state.apples.shape, generator=generator) < 0.5
    return replace(state, cell=ground[order], out=out, cooldown=cooldown, apples=apples)


@pytest.mark.parametrize(("name", "players"), [("pond", 5), ("orchard", 6), ("open", 7)])
def test_a_step_from_random_states_agrees_with_the_slow_world(name: str, players: int) -> None:
    batch, generator = 60, seeded(5)
    game = HarvestGame(name, num_players=players, window=(4, 2, 3))
    state = scramble(game, batch, 3)
    # half of the actions are zaps or steps ahead, so that conflicts and hits are common
    actions = torch.tensor([1, 1, 1, 7, 7, 7, 0, 2, 3, 4, 5, 6])[
        torch.randint(12, (batch, players), generator=seeded(4))
    ]
    same = torch.Generator()
    same.set_state(generator.get_state())
    after, observations, rewards, _ = game.step(state, actions, generator)

    order = torch.randint(2**40, (batch, players), generator=same)
    returning = int((state.out == 1).any(1).sum())
    torch.rand(returning, len(game.spawn_cells), generator=same)
    torch.randint(4, (returning, players), generator=same)
    growth = torch.rand(state.apples.shape, generator=same)
    for world in range(batch):
        slow = SlowWorld(game.rows, state, world)
        expected, beam, back = slow.step(actions[world].tolist(), order[world].tolist(), growth[world].tolist())
        for i in back:
            taken = {slow.at[j] for j in range(players) if j != i and not slow.out[j] and j not in back}
            slow.at[i] = place(game, after, i, world)[:2]
            slow.heading[i] = place(game, after, i, world)[2]
            assert slow.at[i] in set(slow.spawn) - taken
        assert len({slow.at[i] for i in back}) == len(back)
        assert rewards[world].tolist() == expected
        assert [place(game, after, i, world) for i in range(players)] == [
            (*at, heading) for at, heading in zip(slow.at, slow.heading, strict=True)
        ]
        assert (after.out[world].tolist(), after.cooldown[world].tolist()) == (slow.out, slow.cooldown)
        assert swept(game, after, world) == beam
        apples = {divmod(cell, game.width) for cell in game.apple_cells[after.apples[world]].tolist()}
        assert apples == slow.apples
        for i in range(players):
            assert observations[world, i].tolist() == slow.window(i, beam, 4, 2, 3)


# --- observations and pictures


def test_the_default_window_is_nine_ahead_one_behind_and_five_to_each_side() -> None:
    game, state = room([(3, 3, NORTH), (2, 4, NORTH)])
    seen = game.observe(state)
    assert seen.shape == (1, 2, len(CHANNELS), 11, 11)
    assert (seen.dtype, game.obs_bounds) == (torch.uint8, (0, 1))
    assert seen.max() == 1
    assert seen[0, 0, CHANNELS.index("player")].nonzero().tolist() == [[8, 6]]  # one ahead, one to the right
    assert seen[0, 1, CHANNELS.index("player")].nonzero().tolist() == [[10, 4]]
    assert seen[0, 0, CHANNELS.index("ready")].nonzero().tolist() == [[9, 5]]
    assert seen[0, 0, CHANNELS.index("wall"), :7].all()  # the wall, and what lies beyond the map


@pytest.mark.parametrize(("heading", "row", "column"), [(0, 2, 3), (1, 1, 2), (2, 2, 1), (3, 3, 2)])
def test_windows_turn_with_the_heading(heading: int, row: int, column: int) -> None:
    game, state = room([(3, 3, heading), (3, 4, NORTH)], window=(2, 2, 2))
    assert game.observe(state)[0, 0, CHANNELS.index("player")].nonzero().tolist() == [[row, column]]


def test_a_world_is_drawn_in_colours_that_tell_what_is_where() -> None:
    game = HarvestGame()
    state, _ = game.reset(3, seeded())
    assert (render(game, state).shape, str(render(game, state).dtype)) == ((18 * 16, 24 * 16, 3), "uint8")
    image = torch.tensor(render(game, state, world=1, scale=8))
    tiles = image.unflatten(0, (18, 8)).unflatten(2, (24, 8)).transpose(1, 2).flatten(0, 1)
    looks, kind = tiles.flatten(1).unique(dim=0, return_inverse=True)
    letters = "".join(game.rows)
    wall, apple, ground = (kind[letters.index(letter)] for letter in "WA.")
    assert (kind == wall).equal(torch.tensor([letter == "W" for letter in letters]))
    assert (kind == apple).equal(torch.tensor([letter == "A" for letter in letters]))
    players = (kind != wall) & (kind != apple) & (kind != ground)
    assert players.nonzero()[:, 0].tolist() == sorted(state.cell[1].tolist())
    assert len(looks) == 3 + 7  # every player has a colour of its own


@pytest.mark.parametrize("heading", VECTORS)
def test_arrows_point_where_players_look_and_beams_are_drawn(heading: int) -> None:
    game, state = room([(3, 3, heading), (1, 1, NORTH)], "\n".join(["WWWWWWW", "WPPPPAW", *["W.....W"] * 4, "WWWWWWW"]))
    state = replace(state, out=torch.tensor([[0, 2]]))
    image = torch.tensor(render(game, play(game, state, ZAP, NOOP)[0]).astype(float))
    tiles = image.unflatten(0, (7, 16)).unflatten(2, (7, 16)).transpose(1, 2)
    arrow = (tiles[3, 3] != tiles[1, 1]).any(-1).double()  # who is out of play is not drawn
    front = {NORTH: arrow[:8], EAST: arrow[:, 8:], SOUTH: arrow[8:], WEST: arrow[:, :8]}[heading]
    assert 0 < front.sum() < arrow.sum() / 2  # it is narrow in front, and as wide on its left as on its right
    row, column = VECTORS[heading]
    assert (tiles[3 + row, 3 + column] == tiles[3 + 2 * row, 3 + 2 * column]).all()
    assert (tiles[3 + row, 3 + column] != tiles[1, 1]).any(-1).all()


# --- invariants


@settings(max_examples=12)
@given(st.sampled_from([("pond", 2), ("pond", 9), ("orchard", 4), ("open", 7)]), st.integers(0, 2**31))
def test_invariants_hold_in_random_play(setting: tuple[str, int], seed: int) -> None:
    name, players = setting
    game, generator = HarvestGame(name, num_players=players, window=(1, 1, 1)), seeded(seed)
    state = scramble(game, 6, seed)
    walls = torch.tensor([i for i, letter in enumerate("".join(game.rows)) if letter == "W"])
    for _ in range(15):
        before = state
        state, observations, rewards, _ = game.step(
            state, random_player(game, game.observe(state), generator), generator
        )
        for cells, out in zip(state.cell.tolist(), state.out.tolist(), strict=True):
            live = [cell for cell, left in zip(cells, out, strict=True) if not left]
            assert len(live) == len(set(live))
        assert not torch.isin(state.cell, walls).any()
        grown = state.apples.sum(1) - before.apples.sum(1) + rewards.sum(1)
        assert (grown >= 0).all()
        fertile = before.apples.float() @ game.neighbours > 0
        assert not (state.apples & ~before.apples & ~fertile).any()
        assert not ((before.cooldown > 0) & (state.cooldown > before.cooldown)).any()
        assert not ((before.out > 0) & ((rewards > 0) | (state.cooldown != before.cooldown))).any()
        assert state.out[before.out > 0].equal(before.out[before.out > 0] - 1)
        assert not observations[state.out > 0].any()


@settings(max_examples=6)
@given(st.integers(0, 2**31))
def test_without_regrowth_rewards_are_the_apples_that_went(seed: int) -> None:
    game, generator = HarvestGame("pond", window=(1, 1, 1)), seeded(seed)
    state, observations = game.reset(8, generator)
    total = torch.zeros(8)
    with patch.object(harvest, "REGROWTH", (0.0,) * 4):
        for _ in range(30):
            state, observations, rewards, _ = game.step(state, random_player(game, observations, generator), generator)
            total += rewards.sum(1)
    assert (13 - state.apples.sum(1)).equal(total.long())


# --- batches


def test_a_batch_plays_like_its_worlds_one_by_one() -> None:
    game = HarvestGame("orchard")
    batch = 12
    state = scramble(game, batch, 2)
    state = replace(state, out=state.out * (state.out > 1))  # nobody returns: that place would be drawn
    actions = torch.tensor([NOOP, TURN_LEFT, ZAP])[torch.randint(3, (batch, 4), generator=seeded(1))]
    actions[torch.arange(batch), torch.arange(batch) % 4] = torch.randint(
        1, 5, (batch,), generator=seeded(2)
    )  # a mover
    with patch.object(harvest, "REGROWTH", (0.0, 0.0, 1.0, 1.0)):
        after, seen, rewards, _ = game.step(state, actions, seeded())
        for i in range(batch):
            parts = {f.name: getattr(state, f.name) for f in fields(state)}
            alone = HarvestState(**{k: v[i : i + 1] if isinstance(v, Tensor) else v for k, v in parts.items()})
            alone, seen_alone, rewards_alone, _ = game.step(alone, actions[i : i + 1], seeded(99))
            for name in parts:
                if name != "time":
                    assert getattr(alone, name)[0].equal(getattr(after, name)[i]), name
            assert seen_alone[0].equal(seen[i])
            assert rewards_alone[0].equal(rewards[i])


# --- scripted players


def test_a_free_harvester_walks_to_the_nearest_apple_and_eats_it() -> None:
    text = "\n".join(["WWWWWWWWW", "WP.....AW", *["W.......W"] * 5, "WA......W", "WWWWWWWWW"])
    for heading in VECTORS:
        game, state = room([(2, 4, heading)], text, window=(8, 8, 8))  # four steps from one, eight from the other
        generator, observations = seeded(), game.observe(state)
        for _ in range(4):
            state, observations, rewards, _ = game.step(state, free_harvester(game, observations, generator), generator)
        assert rewards.item() == 1
        assert place(game, state)[:2] == (1, 7)


def test_free_harvesters_zap_whom_the_beam_can_reach_and_pacifists_do_not() -> None:
    for at, zaps in [((2, 3), True), ((2, 4), True), ((4, 2), True), ((5, 3), False), ((3, 1), False)]:
        game, state = room([(4, 3, NORTH), (*at, NORTH)], window=(3, 1, 3))
        assert hit(play(game, state, ZAP, NOOP)[0]) == [[False, zaps]]
        assert (free_harvester(game, game.observe(state), seeded(), zap=True)[0, 0] == ZAP) == zaps
        assert free_harvester(game, game.observe(state), seeded())[0, 0] != ZAP
    cooling = replace(state, cell=torch.tensor([[4 * 7 + 3, 3 * 7 + 3]]), cooldown=torch.tensor([[1, 0]]))
    assert free_harvester(game, game.observe(cooling), seeded(), zap=True)[0, 0] != ZAP


def test_a_harvester_goes_around_a_wall_and_waits_for_what_grew_underfoot() -> None:
    text = "WWWWWW\nWPP..W\nW..WAW\nW....W\nWWWWWW"
    game, state = room([(2, 2, EAST)], text)
    generator, observations, eaten = seeded(), game.observe(state), 0
    for _ in range(40):
        state, observations, rewards, _ = game.step(state, free_harvester(game, observations, generator), generator)
        eaten += rewards.item()
    assert eaten == 1
    _, standing = room([(2, 4, EAST)], text)
    assert free_harvester(game, game.observe(standing), seeded()).item() == NOOP


@pytest.mark.parametrize("name", MAPS)
def test_free_harvesters_exhaust_the_commons(name: str) -> None:
    game, generator = HarvestGame(name), seeded()
    left = {}
    for script in ("free harvester", "random"):
        state, observations = game.reset(8, generator)
        for _ in range(150):
            state, observations, *_ = game.step(state, SCRIPTED[script](game, observations, generator), generator)
        left[script] = state.apples.float().mean().item()
    assert left["free harvester"] < 0.1
    assert left["random"] > 2 * left["free harvester"]


# --- metrics


def test_metrics_of_an_episode_by_hand() -> None:
    rewards = torch.tensor([[[1.0, 0, 1, 0], [0, 0, 0, 1]], [[0, 0, 0, 0], [0, 0, 0, 0]]])
    assert collective_return(rewards).tolist() == [3, 0]
    # player 1 at steps 1 and 3, player 2 at step 4
    assert sustainability(rewards).tolist() == [(2 + 4) / 2, 0]
    # returns 2 and 1: 1 - (1 + 1) / (2 * 2 * 3)
    assert equality(rewards).tolist() == pytest.approx([1 - 2 / 12, 1])
    out = torch.tensor([[[True, True, False, False], [False, True, False, False]]])
    assert peace(out).tolist() == [2 - 3 / 4]


def test_metrics_at_their_extremes() -> None:
    one_takes_all = torch.zeros(5, 10)
    one_takes_all[2] = 1
    assert equality(one_takes_all).item() == pytest.approx(1 / 5)
    assert sustainability(one_takes_all).item() == 5.5  # (time + 1) / 2; those without anything are left out
    assert equality(torch.ones(5, 10)).item() == 1
    assert peace(torch.zeros(7, 10, dtype=torch.bool)).item() == 7
    assert peace(torch.ones(7, 10, dtype=torch.bool)).item() == 0


@given(st.lists(st.integers(0, 9), min_size=2, max_size=6), st.integers(1, 5))
def test_equality_ignores_scale_and_order(returns: list[int], scale: int) -> None:
    rewards = torch.tensor(returns, dtype=torch.float64)[:, None]
    shares = equality(rewards)
    assert torch.allclose(equality(rewards * scale), shares)
    assert torch.allclose(equality(rewards.flip(0)), shares)
    assert 0 <= shares <= 1


# --- bad input

ROOM = "WWWW\nWPAW\nWWWW"


@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param(lambda: HarvestGame("lake"), "map", id="unknown map"),
        pytest.param(lambda: HarvestGame(""), "map", id="empty map"),
        pytest.param(lambda: HarvestGame(None), "map", id="no map"),
        pytest.param(lambda: HarvestGame("WWWW\nWPAW\nWWW"), "map", id="ragged map"),
        pytest.param(lambda: HarvestGame("WWWW\nWPA.\nWWWW"), "map", id="a gap in the wall"),
        pytest.param(lambda: HarvestGame("WWW\nWPW\nWWW"), "map", id="no apple"),
        pytest.param(lambda: HarvestGame(ROOM), "num_players", id="seven players on one spawn cell"),
        pytest.param(lambda: HarvestGame(num_players=-1), "num_players", id="no players"),
        pytest.param(lambda: HarvestGame(num_players=2.5), "num_players", id="half a player"),
        pytest.param(lambda: HarvestGame(window=(9, 1)), "window", id="two numbers"),
        pytest.param(lambda: HarvestGame(window=(9, 0, 5)), "window", id="nothing behind"),
        pytest.param(lambda: render(*room([(1, 1, NORTH)]), world=1), "world", id="world 1 of 1"),
        pytest.param(lambda: render(*room([(1, 1, NORTH)]), scale=0), "scale", id="scale 0"),
        pytest.param(lambda: collective_return(torch.ones(3)), "rewards", id="one axis"),
        pytest.param(lambda: sustainability(torch.ones(2, 3, dtype=torch.long)), "rewards", id="integers"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()


# --- Melting Pot itself, where it can be installed


def test_numbers_are_those_of_melting_pot() -> None:
    pytest.importorskip("meltingpot")
    from meltingpot.configs.substrates import commons_harvest__open as published

    letters = "".join(published.ASCII_MAP.split())
    assert list(REGROWTH) == published.REGROWTH_PROBABILITIES
    assert letters.count("A") == len(HarvestGame().apple_cells)
    assert published.get_config().default_player_roles == ("default",) * HarvestGame().num_players
    assert len(published.ACTION_SET) == HarvestGame.num_actions
    assert [row.replace(" ", ".") for row in published.ASCII_MAP.split("\n") if row] == HarvestGame().rows


WALKS = {  # chances of the eight actions; no player of these looks where it goes
    "idle": [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    "random": [1 / 8] * 8,
    "random, without zapping": [1 / 7] * 7 + [0],
    "mostly forward": [0, 0.8, 0, 0, 0, 0.1, 0.1, 0],
}


@pytest.mark.parametrize("walk", WALKS)
def test_blind_players_earn_what_they_earn_in_melting_pot(walk: str) -> None:
    substrate = pytest.importorskip("meltingpot.substrate")
    steps, theirs = 300, []
    chances = torch.tensor(WALKS[walk], dtype=torch.float)
    with substrate.build("commons_harvest__open", roles=("default",) * 7) as environment:
        for episode in range(40):
            actions = chances.multinomial(7 * steps, True, generator=seeded(episode)).view(steps, 7).tolist()
            environment.reset()
            theirs.append(sum(float(sum(environment.step(joint).reward)) for joint in actions))
    game, generator, ours = HarvestGame(horizon=steps, window=(1, 1, 1)), seeded(), torch.zeros(200)
    state, _ = game.reset(len(ours), generator)
    for _ in range(steps):
        joint = chances.multinomial(7 * len(ours), True, generator=generator).view(-1, 7)
        state, _, rewards, _ = game.step(state, joint, generator)
        ours += rewards.sum(1)
    theirs = torch.tensor(theirs)
    error = (theirs.var() / len(theirs) + ours.var() / len(ours)).sqrt()
    assert (theirs.mean() - ours.mean()).abs() <= 4 * error


def test_apples_regrow_as_often_as_in_melting_pot() -> None:
    substrate = pytest.importorskip("meltingpot.substrate")
    game = HarvestGame()
    row, column = game.apple_cells // game.width, game.apple_cells % game.width
    seen: list[list[list[bytes]]] = []  # what is drawn in each apple cell, step by step while nobody moves
    with substrate.build("commons_harvest__open", roles=("default",) * 7) as environment:
        for episode in range(20):
            first = environment.reset()
            frames = []
            for step in range(600):
                walk = WALKS["mostly forward" if step < 200 else "idle"]
                joint = torch.tensor(walk).multinomial(7, True, generator=seeded(1000 * episode + step))
                picture = environment.step(joint.tolist()).observation[0]["WORLD.RGB"]
                tiles = picture.reshape(game.height, 8, game.width, 8, 3).transpose(0, 2, 1, 3, 4)
                if step >= 200:
                    frames.append([tiles[r, c].tobytes() for r, c in zip(row, column, strict=True)])
            seen.append(frames)
    whole = first.observation[0]["WORLD.RGB"].reshape(game.height, 8, game.width, 8, 3).transpose(0, 2, 1, 3, 4)
    apple = whole[row[0], column[0]].tobytes()
    steps = [pair for frames in seen for pair in itertools.pairwise(frames)]
    empty = {a for before, after in steps for a, b in zip(before, after, strict=True) if b == apple != a}
    counts = torch.zeros(len(REGROWTH), 2)  # by live neighbours: regrown, not
    for before, after in steps:
        alive = torch.tensor([tile == apple for tile in before])
        near = (game.neighbours @ alive.float()).clamp(max=len(REGROWTH) - 1).long()
        for cell, number in enumerate(near.tolist()):
            if before[cell] in empty:  # not an apple, and no player stands there and hides it
                counts[number, int(after[cell] != apple)] += 1
    for number in range(1, len(REGROWTH)):
        tried = counts[number].sum()
        expected = REGROWTH[number] * tried
        assert expected > 10, counts
        assert (counts[number, 0] - expected).abs() <= 4 * (expected * (1 - REGROWTH[number])).sqrt()
