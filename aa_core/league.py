"""The league: everybody against everybody, mean rewards per step with intervals over seeds, and the heat map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Polygon
from torch import Generator, Tensor

from aa_core.checks import check_count
from aa_core.games.base import Game
from aa_core.games.coin import pickups
from aa_core.recurrent import Policies, act

Scripted = Callable[[Tensor, Generator | None], Tensor]  # observations (..., *obs_shape) -> actions (...)
Agent = Policies | Scripted  # one network per seed, or a fixed rule


def own_coin_rate(rewards: Tensor) -> Tensor:
    """Share of the picked-up coins that are of the taker's colour, from Coin Game rewards `(batch, 2[, time])`."""
    own, other = pickups(rewards)
    return own.sum() / (own | other).sum()


def welfare(rewards: Tensor) -> Tensor:
    """Mean sum of both players' rewards per step; in the Negotiation Game at most 1, its efficiency."""
    return rewards.sum(1).mean()


@torch.no_grad()
def play_pair(game: Game, row: Agent, column: Agent, games: int, generator: Generator) -> Tensor:
    """Every seed of `row`, in the first seat, against every seed of `column`, all games in one batch.

    Args:
        game: two players.
        row: N networks, or a scripted player (N = 1).
        column: M networks, or a scripted player.
        games: per pair of seeds.
        generator: of games and actions.

    Returns:
        Rewards `(N, M, games, 2, time)`.
    """
    sides = (row, column)
    shape = (*(len(side) if isinstance(side, Policies) else 1 for side in sides), games)
    hidden: list[Tensor | None] = [None, None]
    rewards = torch.empty(game.horizon, *shape, 2)
    state, observations = game.reset(shape[0] * shape[1] * games, generator)
    for t in range(game.horizon):
        actions = []
        for seat, side in enumerate(sides):
            # the column's networks come first in its own view: (M, N games)
            view = observations[:, seat].unflatten(0, shape).transpose(0, seat).flatten(1, 2)
            if isinstance(side, Policies):
                chosen, hidden[seat] = act(side, view, hidden[seat], generator)
            else:
                chosen = side(view, generator)
            back = chosen.unflatten(1, (shape[1 - seat], games)).transpose(0, seat)
            actions.append(back.flatten(0, 2))
        state, observations, reward, _ = game.step(state, torch.stack(actions, 1), generator)
        rewards[t] = reward.unflatten(0, shape)
    return rewards.movedim(0, -1)


def league(game: Game, agents: Mapping[str, Agent], games: int = 32, seed: int = 0) -> pd.DataFrame:
    """Mean reward per step of every seed of every agent against every seed of every agent.

    Unordered pairs of agents are played, as in LOQA's league, and entered from both sides; the games are symmetric. Of
    an agent's seeds i and j among themselves both orders are played, and their results averaged, so that the table is
    symmetric there too. That includes i = j, a seed against itself.

    Args:
        game: two players, the same rules for both seats.
        agents: name -> networks, one per seed, or a scripted player (one seed, 0).
        games: per pair of seeds.
        seed: of games and actions; a pair's games do not depend on who else is in the league.

    Returns:
        Columns row_agent, column_agent, row_seed, column_seed (indices), row_reward, column_reward.

    Raises:
        ValueError: no agents, `games` not a positive integer, or not two players.
    """
    check_count("games", games)
    if not agents:
        raise ValueError("agents must hold at least one agent, got none")
    if game.num_players != 2:
        raise ValueError(f"game must have two players, got {game.num_players}")
    tables = []
    for row, column in combinations_with_replacement(agents, 2):
        generator = torch.Generator().manual_seed(seed)
        means = play_pair(game, agents[row], agents[column], games, generator).mean((2, 4))  # (N, M, 2)
        if row == column:
            means = (means + means.transpose(0, 1).flip(-1)) / 2
        tables.append(_table(row, column, means))
        if row != column:
            tables.append(_table(column, row, means.transpose(0, 1).flip(-1)))
    return pd.concat(tables, ignore_index=True)


def _table(row: str, column: str, means: Tensor) -> pd.DataFrame:
    row_seed, column_seed = np.indices(means.shape[:2]).reshape(2, -1)
    rewards = means.flatten(0, 1).double().numpy()
    return pd.DataFrame(
        {
            "row_agent": row,
            "column_agent": column,
            "row_seed": row_seed,
            "column_seed": column_seed,
            "row_reward": rewards[:, 0],
            "column_reward": rewards[:, 1],
        }
    )


def summarise(table: pd.DataFrame, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Mean row reward of every ordered pair of agents, with a percentile bootstrap interval over seeds.

    The seeds of both agents are resampled, each agent's its own way (stratified), and with them all their games: pairs
    that share a seed are not independent. An agent against itself is one population, so one draw serves both sides.

    Args:
        table: as `league` returns it.
        level: of confidence.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Columns row_agent, column_agent, row_reward, low, high (both the mean for one pair of seeds), seeds (number of
        pairs), in the table's order. What the column's agent earns stands in the swapped row.
    """
    summaries = []
    for (row, column), pair in table.groupby(["row_agent", "column_agent"], sort=False):
        rewards = pair.pivot_table(index="row_seed", columns="column_seed", values="row_reward").to_numpy()
        rng = np.random.default_rng(seed)
        weights = [rng.multinomial(n, [1 / n] * n, resamples) / n for n in rewards.shape]  # (resamples, seeds)
        if row == column:
            weights[1] = weights[0]
        means = np.einsum("bi,ij,bj->b", weights[0], rewards, weights[1])
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
        summaries.append((row, column, rewards.mean(), low, high, rewards.size))
    return pd.DataFrame(summaries, columns=["row_agent", "column_agent", "row_reward", "low", "high", "seeds"])


def heat_map(
    axes: Axes,
    summary: pd.DataFrame,
    agents: Sequence[str] | None = None,
    limits: tuple[float, float] | None = None,
    intervals: bool = True,
    cmap: str = "viridis",
) -> ScalarMappable:
    """Head-to-head matrix with split cells: upper left what the row's agent earns, lower right what the column's does.

    Args:
        axes: to draw on.
        summary: as `summarise` returns it; columns `low` and `high` may be missing (published numbers).
        agents: names in order; None: the order of the table.
        limits: of the colours; None: smallest and largest mean.
        intervals: print half the width of each interval below its mean, where there is more than one pair of seeds.
        cmap: name of the colours.

    Returns:
        What a colour bar needs.

    Raises:
        ValueError: a pair of agents is missing.
    """
    agents = list(agents) if agents is not None else list(dict.fromkeys(summary["row_agent"]))
    cells = summary.set_index(["row_agent", "column_agent"])
    missing = [(row, column) for row in agents for column in agents if (row, column) not in cells.index]
    if missing:
        raise ValueError(f"summary must hold every pair of agents, got none for {missing[0]}")
    shown = [cells["row_reward"][row, column] for row in agents for column in agents]
    colours = ScalarMappable(Normalize(*(limits or (min(shown), max(shown)))), cmap)
    for y, row in enumerate(agents):
        for x, column in enumerate(agents):
            both, notes = [], []
            for pair in ((row, column), (column, row)):
                cell = cells.loc[pair]
                both.append(cell["row_reward"])
                wide = intervals and "low" in cell and cell["low"] < cell["high"]
                notes.append(f"\n±{(cell['high'] - cell['low']) / 2:.2f}" if wide else "")
            split_cell(axes, x, y, both, colours, notes)
    ticks = np.arange(len(agents)) + 0.5
    axes.set(xlim=(0, len(agents)), ylim=(len(agents), 0), aspect="equal")
    axes.set_xticks(ticks, agents, rotation=30, ha="right")
    axes.set_yticks(ticks, agents)
    axes.grid(visible=False)
    return colours


def split_cell(
    axes: Axes, x: int, y: int, rewards: Sequence[float], colours: ScalarMappable, notes: Sequence[str] = ("", "")
) -> None:
    """One cell of the matrix, its upper left corner at (x, y): rewards of the row's and of the column's agent."""
    for reward, note, corner, shift in zip(rewards, notes, ((x, y), (x + 1, y + 1)), (-0.2, 0.2), strict=True):
        colour = colours.to_rgba(reward)
        axes.add_patch(Polygon([corner, (x + 1, y), (x, y + 1)], facecolor=colour, edgecolor="white"))
        dark = np.dot(colour[:3], (0.299, 0.587, 0.114)) < 0.5
        axes.text(
            x + 0.5 + shift, y + 0.5 + shift, f"{round(reward, 2) + 0.0:.2f}{note}", ha="center", va="center",
            fontsize=7, color="white" if dark else "black",
        )  # fmt: skip
