"""What figures show of trained harvesters: frames, kept, given back and drawn, and what the credit says of eating."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from aa_core.actor_critic import ActorCritic, load
from aa_core.advantages import gae, shaping_weights, summed_advantages
from aa_core.checks import check
from aa_core.games.harvest import HarvestGame, HarvestState
from aa_core.selfplay import play
from experiments.leagues import AGENT


@dataclass(frozen=True)
class Shown:
    """Trained agents, in the order of what is needed, and where they are looked at."""

    setting: Any  # harvest.Setting
    agents: tuple[tuple[str, int], ...]  # (algorithm, seed)


def render(game: HarvestGame, state: HarvestState, world: int = 0, scale: int = 16) -> np.ndarray:
    """Draw one world of the batch, north up, as an RGB array `(scale height, scale width, 3)` in uint8.

    Players are arrows from blue over purple and red to yellow, `scale` is the pixels per cell.
    """
    if not isinstance(world, int) or not 0 <= world < len(state.cell):
        raise ValueError(f"world must be an index below {len(state.cell)}, got {world!r}")
    check(scale=scale)
    image = np.full((game.height, game.width, scale, scale, 3), (38, 34, 30), np.uint8)
    y, x = np.mgrid[:scale, :scale] * 2 / scale + 1 / scale - 1  # of a cell's pixels, from -1 to 1
    disc, arrow, full = x**2 + y**2 <= 0.6, np.abs(x) <= (y + 1.1) / 2, np.full(x.shape, True)
    walls = [cell for cell, letter in enumerate("".join(game.rows)) if letter == "W"]
    things = [(cell, (110, 110, 110), full) for cell in walls]
    things += [(cell, (90, 200, 60), disc) for cell in game.apple_cells[state.apples[world]].tolist()]
    things += [(cell, (250, 220, 80), full) for cell in state.beams[world].nonzero()[:, 0].tolist()]
    for i in (state.out[world] == 0).nonzero()[:, 0].tolist():
        colour = [255 * part for part in colorsys.hsv_to_rgb((0.6 + 0.6 * i / game.num_players) % 1, 0.75, 0.95)]
        things.append((int(state.cell[world, i]), colour, np.rot90(arrow, -int(state.heading[world, i]))))  # type: ignore[arg-type]
    for cell, colour, shape in things:  # type: ignore[assignment]
        image[divmod(cell, game.width)][shape] = colour
    return image.transpose(0, 2, 1, 3, 4).reshape(scale * game.height, scale * game.width, 3)


FRAME = {"cell": "cells", "heading": "headings", "out": "out"}  # of HarvestState -> columns of `keep_frames`


def keep_frames(settings: Shown, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """One world, seen now and then, of every agent from the same start.

    Columns: algorithm, step, apples (a letter for each of `game.apple_cells`: A alive, x not), and cells, headings and
    out of all players and beams, the cells that they sweep, as numbers with spaces between them ("-": none).
    """
    game, rows = settings.setting.game, []
    every = max(1, game.horizon // 100)
    for (algorithm, _), need in zip(settings.agents, needs, strict=True):

        def watch(state: HarvestState, *_: Any, algorithm: str = algorithm) -> None:
            if state.time % every == 0 or state.time == game.horizon - 1:
                apples = "".join("A" if alive else "x" for alive in state.apples[0])
                things = [*(getattr(state, name)[0] for name in FRAME), state.beams[0].nonzero()[:, 0]]
                rows.append((algorithm, state.time, apples, *(" ".join(map(str, x.tolist())) or "-" for x in things)))

        who = torch.zeros(1, game.num_players, dtype=torch.long)
        play(game, [load(need / AGENT)], who, torch.Generator().manual_seed(1), on_step=watch)
    return pd.DataFrame(rows, columns=["algorithm", "step", "apples", *FRAME.values(), "beams"])


def frame_state(game: HarvestGame, row: pd.Series) -> HarvestState:
    """The world of a row of `keep_frames`, a batch of one; what it does not hold (cooldown) is as at reset."""
    numbers = {name: torch.tensor([[int(x) for x in str(row[column]).split()]]) for name, column in FRAME.items()}
    state, _ = game.reset(1, torch.Generator())
    state.beams[0, [int(cell) for cell in str(row["beams"]).split() if cell != "-"]] = True
    apples = torch.tensor([[letter == "A" for letter in row["apples"]]])
    return replace(state, **numbers, apples=apples, time=int(row["step"]))


NEIGHBOURS = {"0": (0, 0), "1": (1, 1), "2": (2, 2), "3-4": (3, 4), "5-12": (5, 12)}  # live ones when an apple is eaten
CREDIT = ["own", "past", "others", "alignment", "earlier", "alignment_earlier"]


def credit_of_eating(settings: Shown, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """What the credit of Advantage Alignment says of eating an apple, by its live neighbours.

    Means over all apples eaten in whole episodes: the own normalised advantage, the weight of the past (beta c w_t, see
    `aligned_advantages`), the sum of the co-players' advantages, and the alignment term, the product of these two. For
    PPO it is what alignment would add. (Critics of summed rewards foresee another sum.) The advantage of an earlier
    step, as GAE estimates it, contains a share of the present one: `earlier` is the weight of the past without these
    shares, `alignment_earlier` its product.
    """
    rows = []
    for (algorithm, seed), need in zip(settings.agents, needs, strict=True):
        eaten = _eaten(load(need / AGENT), settings, seed)
        for name, (low, high) in NEIGHBOURS.items():
            here = eaten[eaten.neighbours.between(low, high)]
            if len(here):
                rows.append((algorithm, seed, name, len(here), *here.drop(columns="neighbours").mean()))
    return pd.DataFrame(rows, columns=["algorithm", "seed", "neighbours", "apples", *CREDIT])


def _eaten(mind: ActorCritic, settings: Shown, seed: int) -> pd.DataFrame:
    """A row for each apple eaten in whole episodes, with the past summed chunk by chunk as in training."""
    setting, rule = settings.setting, settings.setting.aligned.keywords
    game, options = setting.game, setting.self_play
    near: list[Tensor] = []

    def watch(before: HarvestState, actions: Tensor, rewards: Tensor, after: HarvestState) -> None:
        apple = (after.cell[..., None] == game.apple_cells).int().argmax(-1)
        near.append((before.apples.float() @ game.neighbours).gather(1, apple))

    who = torch.zeros(setting.evaluation_worlds, game.num_players, dtype=torch.long)
    played = play(game, [mind], who, torch.Generator().manual_seed(seed), on_step=watch)
    with torch.no_grad():
        values = mind(played.seen.at(slice(None)))[1].T.unflatten(0, who.shape)
    raw = gae(played.rewards, values, options.gamma, options.lam)
    spread = raw.std(correction=0).clamp(min=1e-6)
    own = (raw - raw.mean()) / spread
    chunks = own.unflatten(-1, (-1, options.chunk))
    leading = rule["gamma"] if rule["past"] == "discounted" else 1.0

    def weigh(advantages: Tensor) -> Tensor:
        return rule["beta"] * leading * shaping_weights(advantages, rule["gamma"], past=rule["past"])

    past, others = weigh(chunks).flatten(-2), summed_advantages(own) - own
    steps = torch.arange(options.chunk)
    shares = (options.gamma * options.lam) ** (steps[:, None] - steps).clamp(min=0)  # of A_t (row) in A_k (column)
    earlier = past - (raw / spread).mul(weigh(shares.to(raw)).diagonal().repeat(game.horizon // options.chunk))
    columns = (torch.stack(near, -1), own, past, others, past * others, earlier, earlier * others)
    return pd.DataFrame({name: x[played.rewards > 0] for name, x in zip(["neighbours", *CREDIT], columns, strict=True)})
