"""The league: everybody against everybody, mean rewards per step, and their intervals over seeds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from aa_core.actor_critic import ActorCritic
from aa_core.checks import check, check_that
from aa_core.estimates import Statistic
from aa_core.games.base import Game, Script
from aa_core.selfplay import play

Agent = Sequence[ActorCritic] | Script  # one mind per seed, or a scripted player


def play_pair(game: Game, row: Agent, column: Agent, games: int, generator: Generator) -> Tensor:
    """Every seed of `row` (N minds or a script), in the first seat, against every seed of `column` (M), in one batch.

    Rewards `(N, M, games, 2, time)` of so many games for each pair of seeds.
    """
    check(game=game, games=games, generator=generator)
    check_that(callable(row) or (isinstance(row, list | tuple) and row), "row", "minds or a script", row)
    check_that(callable(column) or (isinstance(column, list | tuple) and column), "column", "minds or a script", column)
    rows, columns = (list(side) if isinstance(side, Sequence) else [side] for side in (row, column))
    pairs = torch.cartesian_prod(torch.arange(len(rows)), len(rows) + torch.arange(len(columns)))
    who = pairs.repeat_interleave(games, 0)
    rewards = play(game, [*rows, *columns], who, generator).rewards
    return rewards.unflatten(0, (len(rows), len(columns), games))


def league(game: Game, agents: Mapping[str, Agent], games: int = 32, seed: int = 0) -> pd.DataFrame:
    """Mean reward per step of every seed of every agent against every seed of every agent.

    Unordered pairs of agents are played, as in LOQA's league, and entered from both sides; the games are symmetric. Of
    an agent's seeds i and j among themselves both orders are played, and their results averaged, so that the table is
    symmetric there too, also for i = j. A pair's games, so many for each two seeds, do not depend on who else plays.
    Columns row_agent, column_agent, row_seed, column_seed (indices), row_reward, column_reward.
    """
    check(game=game, agents=agents, games=games, seed=seed)
    check_that(game.num_players == 2, "game", "one of two players", game.num_players)
    tables = []
    for row, column in combinations_with_replacement(agents, 2):
        generator = torch.Generator().manual_seed(seed)
        means = play_pair(game, agents[row], agents[column], games, generator).mean((2, 4))  # (N, M, 2)
        mirrored = means.transpose(0, 1).flip(-1)
        if row == column:
            tables.append(_table(row, column, (means + mirrored) / 2))
        else:
            tables += [_table(row, column, means), _table(column, row, mirrored)]
    return pd.concat(tables, ignore_index=True)


def _table(row: str, column: str, means: Tensor) -> pd.DataFrame:
    row_seed, column_seed = np.indices(means.shape[:2]).reshape(2, -1)
    own, other = means.flatten(0, 1).double().numpy().T
    names = {"row_agent": row, "column_agent": column, "row_seed": row_seed, "column_seed": column_seed}
    return pd.DataFrame({**names, "row_reward": own, "column_reward": other})


def _check_table(table: pd.DataFrame, scripts: Collection[str]) -> None:
    check(scripts=scripts)
    pair = ["row_agent", "column_agent", "row_seed", "column_seed"]
    fits = isinstance(table, pd.DataFrame) and {*pair, "row_reward"} <= {*table} and len(table)
    fits = fits and not table.isna().to_numpy().any() and not table.duplicated(pair).any()
    fits = fits and table.row_reward.dtype.kind in "iuf" and np.isfinite(table.row_reward).all()
    check_that(fits, "table", "rows of `league`, one at least, each pair of seeds once, finite rewards, no NaN", table)


def cell(table: pd.DataFrame, row: str, column: str, scripts: Collection[str] = ()) -> Statistic:
    """Mean reward of `row` from `column`, over all pairs of their seeds.

    Both agents' seeds are samples, and a seed is in many pairs. So the interval comes from leaving out seeds, not
    pairs: a seed of the row's agent, or of the column's, with all its games; of an agent that meets itself on both
    sides at once. Of `scripts`, agents that nobody trained, there is nothing to leave out: against one this is
    Student's interval over the seeds of the agent. LookupError if the table, as of `league`, has no such pair.
    """
    _check_table(table, scripts)
    pair = table[(table.row_agent == row) & (table.column_agent == column)]
    if pair.empty:
        raise LookupError(f"row and column must have met, there are no games of {row!r} against {column!r}")
    rewards = pair.pivot(index="row_seed", columns="column_seed", values="row_reward")
    whole = not rewards.isna().to_numpy().any() and (row != column or rewards.index.equals(rewards.columns))
    check_that(whole, "table", f"all pairs of seeds of {row!r} and {column!r}", table)

    def without(*axes: int) -> pd.Series:
        seeds = rewards.axes[axes[0]]
        left = (reduce(lambda x, axis: x.drop(seed, axis=axis), axes, rewards).to_numpy() for seed in seeds)
        return pd.Series([rest.mean() if rest.size else np.nan for rest in left], seeds)

    sides = {row: (0, 1)} if row == column else {row: (0,), column: (1,)}
    sampled = {agent: without(*axes) for agent, axes in sides.items() if agent not in scripts}
    return Statistic(float(rewards.to_numpy().mean()), sampled)


def summarise(table: pd.DataFrame, scripts: Collection[str] = ()) -> pd.DataFrame:
    """`cell` with its 95% interval for every ordered pair of agents, in the table's order.

    Columns row_agent, column_agent, row_reward, low, high. What the column's agent earns stands in the swapped row.
    """
    _check_table(table, scripts)
    pairs = table[["row_agent", "column_agent"]].drop_duplicates().itertuples(index=False, name=None)
    rows = [(*pair, *cell(table, *pair, scripts).interval()) for pair in pairs]  # type: ignore[call-arg]
    return pd.DataFrame(rows, columns=["row_agent", "column_agent", "row_reward", "low", "high"])
