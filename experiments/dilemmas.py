"""Is a game a dilemma? What scripted cooperators and defectors earn among each other (notebook 07)."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Generator, Tensor
from torch.nn.functional import conv2d

from aa_core.games.base import Game, Script
from aa_core.games.harvest import CHANNELS, HarvestGame, free_harvester
from aa_core.selfplay import play

DISC = torch.tensor([[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 0, 1, 1], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]).float()


def restrained(game: HarvestGame, observations: Tensor, generator: Generator | None = None, spare: int = 5) -> Tensor:
    """Harvest as a free harvester does, but take an apple with fewer than `spare` live neighbours in sight for a wall.

    A `Script`; one that spares 0 is a free harvester.
    """
    wall, apple = CHANNELS.index("wall"), CHANNELS.index("apple")
    seen, alive = observations.clone(), observations[..., apple, :, :]
    near = conv2d(alive.flatten(0, -3)[:, None].float(), DISC[None, None], padding=2).view(alive.shape)
    spared = ((alive > 0) & (near < spare)).to(torch.uint8)
    seen[..., apple, :, :] -= spared
    seen[..., wall, :, :] |= spared
    return free_harvester(game, seen, generator)


def schelling(
    game: Game, cooperator: Script, defector: Script, games: int, generator: Generator, discount: float = 1.0
) -> pd.DataFrame:
    """What one of either kind earns per game, by how many of the *others* cooperate (Schelling 1978, chapter 7).

    Columns who ("cooperator" or "defector"), others, game, earned: the mean return of those of a kind in a game, of
    which `discount` counts per step (1: the sum). Every
    number of cooperators, from nobody to everybody, is played in so many games; cooperators hold the first seats.
    """
    counts = torch.arange(game.num_players + 1).repeat_interleave(games)  # cooperators of a game; all in one batch
    numbers = torch.arange(games).repeat(game.num_players + 1)
    who = (torch.arange(game.num_players) >= counts[:, None]).long()
    returns = play(game, [cooperator, defector], who, generator).rewards @ discount ** torch.arange(game.horizon)
    parts = []
    for kind, (name, others) in enumerate((("cooperator", counts - 1), ("defector", counts))):
        size = (who == kind).sum(1)
        columns = (others, numbers, (returns * (who == kind)).sum(1) / size)
        others, number, earned = (column[size > 0].numpy() for column in columns)
        parts.append(pd.DataFrame({"who": name, "others": others, "game": number, "earned": earned}))
    return pd.concat(parts, ignore_index=True)
