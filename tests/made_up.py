"""A made-up world: tables in which everything that the papers state is true, with five seeds and hardly any noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

import numpy as np
import pandas as pd

from experiments.claims import (
    AA,
    AGENTS,
    FREE,
    GREEDY,
    HARVESTERS,
    KIND,
    NAIVE,
    PPO,
    PPO_SUM,
    PRIOR,
    PROXIMAL_AA,
    RANDOM,
    SCENARIOS,
    SCRIPTED,
    SUM,
    printed,
)  # fmt: skip
from experiments.language import TITLES, TOGETHER
from experiments.language_runs import SCRIPTS
from experiments.run import JUDGED

UPDATES = (0, 100, 200, 300)
STATES = {row["state"]: row["probability_of_cooperation"] for row in printed("aa_ipd_policy")}
COIN = {
    (KIND, KIND): 0.35, (KIND, GREEDY): -0.25, (GREEDY, KIND): 0.63, (GREEDY, GREEDY): 0.0, (KIND, RANDOM): 0.05,
    (RANDOM, KIND): 0.12, (GREEDY, RANDOM): 0.53, (RANDOM, GREEDY): -0.53, (RANDOM, RANDOM): 0.0,
}  # fmt: skip
NEGOTIATION = {(KIND, KIND): 0.5, (KIND, GREEDY): 0.25, (GREEDY, KIND): 0.55, (GREEDY, GREEDY): 0.3}
ROLES = {KIND: "cooperator", GREEDY: "defector"}


def noisy(value: float, seed: int) -> float:
    """A number that differs a little between seeds."""
    return value + 0.0005 * (seed - np.mean(JUDGED))


def rows(columns: Iterable[str], *data: tuple) -> pd.DataFrame:
    """Rows of a table of runs: the last number, over all seeds."""
    several = [(*row[:-1], seed, noisy(row[-1], seed)) for row in data for seed in JUDGED]
    return pd.DataFrame(several, columns=[*columns, "seed", "value"])


def along(columns: Iterable[str], *data: tuple) -> pd.DataFrame:
    """Rows of a table along training: the last two numbers are at its start and from its second point on."""
    tables = (rows(columns, *((*row[:-2], row[-1 if update else -2]) for row in data)) for update in UPDATES)
    return pd.concat([table.assign(update=update) for table, update in zip(tables, UPDATES, strict=True)])


def league(cells: dict[tuple[str, str], float]) -> pd.DataFrame:
    """A league of cells; scripts, and the prior, have a single seed."""
    return pd.DataFrame(
        [
            (row, column, i, j, noisy(value, i))
            for (row, column), value in cells.items()
            for i in (JUDGED if row not in (*SCRIPTED, PRIOR) else [0])
            for j in (JUDGED if column not in (*SCRIPTED, PRIOR) else [0])
        ],
        columns=["row_agent", "column_agent", "row_seed", "column_seed", "row_reward"],
    )


def curves(cells: dict[tuple[str, str], float], together: float) -> pd.DataFrame:
    """What learners of a league earn along training; at its start what random players do."""
    data = []
    for (row, column), value in cells.items():
        for agent, other, way in ((row, column, "vs"), (column, row, "of")):
            if agent not in SCRIPTED and (row == column or other in ROLES):
                metric = "reward_self" if row == column else f"reward_{way}_{ROLES[other]}"
                seats = [agent if agent in SCRIPTED else RANDOM for agent in (row, column)]
                data.append((agent, metric, cells.get(tuple(seats), 0.2), value))
    agents = {agent for agent, *_ in data}
    data += [(agent, "together", 0.5, together if agent == AA else 0.6) for agent in agents]
    return along(["agent", "metric"], *dict.fromkeys(data))


def leagues() -> dict[str, pd.DataFrame]:
    """The Coin Game, with both forms of AA, and Negotiation."""
    coin, negotiation = dict(COIN), dict(NEGOTIATION)
    for row in printed("aa_coin_game_league"):
        if row["column_agent"] in ("AdAlign", "LOQA", "Always Cooperate", "Always Defect", "Random"):
            for aligned in (AA, PROXIMAL_AA):
                other = (AGENTS | {"AdAlign": aligned})[row["column_agent"]]
                coin |= {(aligned, other): row["row_reward"], (other, aligned): row["column_reward"]}
    (itself,) = printed("aa_coin_game_league_more")
    coin["loqa", "loqa"] = itself["row_reward"]
    for row in printed("aa_negotiation_league"):
        negotiation[AGENTS[row["row_agent"]], AGENTS[row["column_agent"]]] = row["row_reward"]
    negotiation |= {(KIND, AA): 0.4, (GREEDY, AA): 0.3}
    return {
        "coin_league": league(coin), "coin_curves": curves(coin, 1.0),
        "negotiation_league": league(negotiation), "negotiation_curves": curves(negotiation, 0.9),
    }  # fmt: skip


def commons() -> dict[str, pd.DataFrame]:
    """Commons Harvest on both maps."""
    limits = {row["scenario"]: row for row in printed("aa_commons_harvest_limits")}
    scores = [row for row in printed("aa_commons_harvest_open") if row["agent"] in HARVESTERS]
    among = {PROXIMAL_AA: (200.0, 150.0), PPO: (20.0, 30.0), PPO_SUM: (150.0, 90.0), RANDOM: (210.0, 75.0),
             FREE: (10.0, 27.0)}  # fmt: skip
    metrics = ("sustainability", "collective_return")
    end = [(agent, metric, value) for agent, pair in among.items() for metric, value in zip(metrics, pair, strict=True)]
    for row, (scenario, metric) in product(scores, SCENARIOS.items()):
        low, high = limits[scenario]["low"], limits[scenario]["high"]
        end.append((HARVESTERS[row["agent"]], metric, low + row[scenario] * (high - low)))
    end += [(FREE, metric, 10.0) for metric in SCENARIOS.values()] + [(RANDOM, "zaps", 5.0), (FREE, "zaps", 0.0)]
    trained = [
        (agent, metric, dict(zip(metrics, among[RANDOM], strict=True))[metric], value)
        for agent, metric, value in end
        if agent in (PROXIMAL_AA, PPO, PPO_SUM) and metric in metrics
    ]
    columns = ["algorithm", "metric"]
    made = {place: rows(columns, *end) for place in ("harvest", "harvest_open")}
    made |= {f"{place}_curves": along(columns, *trained) for place in made}
    betas = (("β 0.5", 1.0, 50.0), ("β 1", 9.0, 150.0), ("β 2", 2.0, 250.0))
    pairs = [(beta, *pair) for beta, zaps, kept in betas for pair in (("zaps", zaps), ("sustainability", kept))]
    return made | {"harvest_beta": rows(columns, *pairs)}


def language_models() -> dict[str, pd.DataFrame]:
    """Three text games: from 0, mutual greed, to 1, all to oneself while the other is kind."""
    training, played = [], []
    for game in TITLES:
        kind, greedy = SCRIPTS[game]
        cells = {(kind, kind): 0.7, (kind, greedy): -0.4, (greedy, kind): 1.0, (greedy, greedy): 0.0, (AA, AA): 0.68,
                 (AA, greedy): -0.05, (AA, NAIVE): -0.05, (SUM, greedy): -0.4, (SUM, NAIVE): -0.4, (NAIVE, NAIVE): 0.0,
                 (kind, NAIVE): -0.4, (greedy, NAIVE): 0.0, (PRIOR, PRIOR): 0.6, (PRIOR, NAIVE): -0.3,
                 (NAIVE, PRIOR): 0.8, (PRIOR, greedy): -0.3, (greedy, PRIOR): 0.8}  # fmt: skip
        played.append(league(cells).rename(columns={"row_reward": "value"}).assign(game=game, metric="reward"))
        levels = {  # together, points, points from greed, of the other
            PRIOR: (0.8, 0.6, -0.3), AA: (0.95, 0.68, -0.05), SUM: (1.0, 0.7, -0.4), NAIVE: (0.1, 0.0, 0.0),
            "naive_vs_aligned": (0.9, 0.6, 0.0, 0.6), "naive_vs_kind": (0.3, 0.8, 0.0, -0.3),
        }  # fmt: skip
        metrics = (TOGETHER[game], "reward", f"reward_vs_{greedy}", "reward_other")
        for who, values in levels.items():
            for metric, value in zip(metrics, values, strict=False):
                start = dict(zip(metrics, levels[PRIOR], strict=False)).get(metric, -0.3)
                training.append((game, who, metric, start, value if who != PRIOR else start))
    policies = {PRIOR: (0.9, 0.9, 0.7, 0.9, 0.7), AA: (1.0, 1.0, 0.1, 0.9, 0.05)}
    states = [(who, state, p) for who, five in policies.items() for state, p in zip(STATES, five, strict=True)]
    table = rows(["algorithm", "state"], *states).rename(columns={"value": "probability"}).assign(game="ipd")
    columns = ["game", "algorithm", "metric"]
    return {"llm_training": along(columns, *training), "llm_policy": table, "llm_crossplay": pd.concat(played)}


def world() -> dict[str, pd.DataFrame]:
    """All tables by name."""
    grid = pd.DataFrame(list(product((-2.0, -1.0, 0.0, 1.0, 2.0), repeat=2)), columns=["past", "present"])
    policies = [(AA, state, 0.5, probability) for state, probability in STATES.items()]
    end = rows(["algorithm", "state"], *((who, state, p) for who, state, _, p in policies))
    return {
        "sign_table": grid.assign(term=grid.past * grid.present),
        "ipd_gru_curves": along(["algorithm", "metric"], *policies),
        "ipd_policy": end.rename(columns={"value": "probability"}),
        **leagues(), **commons(), **language_models(),
    }  # fmt: skip


def reader(tables: dict[str, pd.DataFrame]) -> Callable[[str], pd.DataFrame]:
    """Reads tables; FileNotFoundError if there is none of that name."""

    def load(name: str) -> pd.DataFrame:
        if name not in tables:
            raise FileNotFoundError(name)
        return tables[name]

    return load
