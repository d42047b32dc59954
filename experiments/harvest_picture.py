"""Pictures of Commons Harvest."""

from __future__ import annotations

import colorsys

import numpy as np

from aa_core.checks import check_count
from aa_core.games.harvest import HarvestGame, HarvestState


def render(game: HarvestGame, state: HarvestState, world: int = 0, scale: int = 16) -> np.ndarray:
    """Draw one world of the batch, north up, as an RGB array `(scale height, scale width, 3)` in uint8.

    Players are arrows from blue over purple and red to yellow, `scale` is the pixels per cell.
    """
    if not isinstance(world, int) or not 0 <= world < len(state.cell):
        raise ValueError(f"world must be an index below {len(state.cell)}, got {world!r}")
    check_count("scale", scale)
    image = np.full((game.height, game.width, scale, scale, 3), (38, 34, 30), np.uint8)
    y, x = np.mgrid[:scale, :scale] * 2 / scale + 1 / scale - 1  # of a cell's pixels, from -1 to 1
    disc, arrow, full = x**2 + y**2 <= 0.6, np.abs(x) <= (y + 1.1) / 2, np.full(x.shape, True)
    walls = [cell for cell, letter in enumerate("".join(game.rows)) if letter == "W"]
    things = [(cell, (110, 110, 110), full) for cell in walls]
    things += [(cell, (90, 200, 60), disc) for cell in game.apple_cells[state.apples[world]].tolist()]
    things += [(cell, (250, 220, 80), full) for cell in state.beams[world].nonzero()[:, 0].tolist()]
    for i in (state.out[world] == 0).nonzero()[:, 0].tolist():
        colour = [255 * part for part in colorsys.hsv_to_rgb((0.6 + 0.6 * i / game.num_players) % 1, 0.75, 0.95)]
        things.append((int(state.cell[world, i]), colour, np.rot90(arrow, -int(state.heading[world, i]))))
    for cell, colour, shape in things:
        image[divmod(cell, game.width)][shape] = colour
    return image.transpose(0, 2, 1, 3, 4).reshape(scale * game.height, scale * game.width, 3)
