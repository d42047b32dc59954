"""What the figures of both papers claim, as data.

A claim says that one quantity of our runs is larger than another, or equals a number that a paper prints. `source`
says where that can be seen; OURS marks an ordering that no paper states, but that we think a figure shows. The second
paper's figures are named by what they show, not by number: its text was not at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from aa_core import league
from aa_core.estimates import Statistic, mean_of
from experiments import paths
from experiments.judge import MARGIN, Number, Ordering

Load = Callable[[str], pd.DataFrame]  # a table of our runs by its name; FileNotFoundError if there is none

AA, SUM, NAIVE = "advantage_alignment", "sum_of_rewards", "naive"
PPO, PPO_SUM, PROXIMAL_AA = "ppo", "ppo_sum_of_rewards", "proximal_advantage_alignment"
KIND, GREEDY = "always cooperate", "always defect"
SCRIPTS = (KIND, GREEDY, "random", "cooperate", "defect", "welfare", "greedy")  # nobody trained them
NAMES = {
    AA: "AA",
    SUM: "sum of rewards",
    PPO_SUM: "PPO, summed rewards",
    PPO: "PPO",
    "loqa": "LOQA",
    PROXIMAL_AA: "proximal AA",
    "naive_vs_kind": "learner opposite fixed prior",
    "naive_vs_aligned": "naive opposite fixed AA",
    "aa_buffer": "AA with buffer",
    "aa_no_buffer": "AA without buffer",
    "aa_batch_baseline": "AA with batch baseline",
}
OURS = "an ordering of ours"


class NoRunError(LookupError):
    """The table is there, but holds no run of a quantity."""


# --- the vocabulary: what can be read off a table


@dataclass(frozen=True)
class Runs:
    """One number per run: `who`, an algorithm, is measured by `of`.

    Attributes:
        table: that it is read from.
        of: what is measured, in words.
        who: whose runs they are, in words.
        rows: (column, value) of the rows that count.
        column: of the numbers.
        at: which number of a run that has several: their mean, the first or the last one (of training).
        seeds: name of the population of seeds; two quantities of the same one are compared seed by seed. "": a
            constant, measured once.
    """

    table: str
    of: str
    who: str
    rows: tuple[tuple[str, str], ...]
    column: str = "value"
    at: str = "mean"
    seeds: str = ""

    def statistic(self, load: Load) -> Statistic:
        """Mean over seeds; NoRunError if there are no such runs."""
        table = _select(load(self.table), self.rows)
        if "update" in table:
            table = table.sort_values("update", kind="stable")
        samples = getattr(table.groupby("seed")[self.column], self.at)()
        return mean_of(samples, self.seeds) if self.seeds else Statistic(float(samples.mean()))


@dataclass(frozen=True)
class Cell:
    """What `row` earns from `column` in a league, `column` named in `who`; attributes as of `Runs`."""

    table: str
    of: str
    row: str
    column: str
    rows: tuple[tuple[str, str], ...] = ()
    value: str = "row_reward"

    @property
    def who(self) -> str:
        """In words."""
        return f"{NAMES.get(self.row, self.row)} from {NAMES.get(self.column, self.column)}"

    def statistic(self, load: Load) -> Statistic:
        """As `league.cell` has it; NoRunError if there are no such runs."""
        table = _select(load(self.table), self.rows).rename(columns={self.value: "row_reward"})
        both = (("row_agent", self.row), ("column_agent", self.column))
        return league.cell(_select(table, both), self.row, self.column, SCRIPTS)


@dataclass(frozen=True)
class Sign:
    """Mean sign of the alignment term in a quadrant of its table, by the signs of past and present; nothing random."""

    past: int
    present: int
    table: str = "sign_table"
    of: str = "sign of the term"

    @property
    def who(self) -> str:
        """In words."""
        words = {1: "positive", -1: "negative"}
        return f"past {words[self.past]}, present {words[self.present]}"

    def statistic(self, load: Load) -> Statistic:
        """A constant."""
        table = load(self.table)
        quadrant = table[(np.sign(table.past) == self.past) & (np.sign(table.present) == self.present)]
        return Statistic(float(np.sign(quadrant.term).mean()))


Quantity = Runs | Cell | Sign


def _select(table: pd.DataFrame, rows: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    for column, value in rows:
        table = table[table[column] == value]
    if table.empty:
        raise NoRunError(f"no runs with {', '.join(f'{column} {value}' for column, value in rows)}")
    return table


def policy(state: str) -> Runs:
    """P(cooperate) of AA in the prisoner's dilemma after a joint move."""
    return Runs("ipd_policy", "P(cooperate)", state, (("algorithm", AA), ("state", state)), "probability", seeds=AA)


def coin(row: str, column: str) -> Cell:
    """Reward per step in the Coin Game league."""
    return Cell("coin_league", "reward", row, column)


def negotiation(row: str, column: str) -> Cell:
    """Reward per round in the Negotiation league."""
    return Cell("negotiation_league", "reward", row, column)


def curve(agent: str, metric: str, at: str = "last") -> Runs:
    """The first or last point of a learning curve in Negotiation."""
    of = {"together": "welfare", "reward_of_cooperator": f"{KIND} is left"}[metric]
    who = f"{NAMES.get(agent, agent)} at the {'end' if at == 'last' else 'start'}"
    return Runs("negotiation_curves", of, who, (("agent", agent), ("metric", metric)), at=at, seeds=agent)


def harvest(agent: str, metric: str) -> Runs:
    """A metric of Commons Harvest, by the published name of the agent."""
    algorithm = {"adalign": PROXIMAL_AA, "ppo": PPO, "ppo_prosocial": PPO_SUM}[agent]
    of, rows = metric.replace("_", " "), (("algorithm", algorithm), ("metric", metric))
    return Runs("harvest", of, NAMES[algorithm], rows, seeds=algorithm)


@dataclass(frozen=True)
class TextGame:
    """A game of the language models: how well two do together is `together`, the greedy script is `greedy`."""

    title: str
    together: str
    greedy: str


TEXT_GAMES = {
    "ipd": TextGame("Prisoner's dilemma", "cooperation", "defect"),
    "split": TextGame("Split", "efficiency", "greedy"),
    "trust_and_split": TextGame("Trust-and-Split", "efficiency", "greedy"),
}
METRICS = {
    "cooperation": "cooperation",
    "efficiency": "efficiency",
    "reward": "points",
    "reward_other": "points",
    "claim_lower": "claims on what the other values",
    "reward_vs_defect": "points from always defect",
    "reward_vs_greedy": "points from greedy",
}


def llm(game: str, algorithm: str, metric: str, who: str = "", at: str = "last") -> Runs:
    """A metric of language models after training; of the prior, which is one model: a constant."""
    rows = (("game", game), ("algorithm", algorithm), ("metric", metric))
    seeds, of = algorithm if algorithm != "prior" else "", f"{TEXT_GAMES[game].title}, {METRICS[metric]}"
    return Runs("llm_training", of, who or NAMES.get(algorithm, algorithm), rows, at=at, seeds=seeds)


def llm_policy(algorithm: str, state: str) -> Runs:
    """P(cooperate) of language models after a joint move, of the seeds that met it."""
    rows = (("game", "ipd"), ("algorithm", algorithm), ("state", state))
    return Runs("llm_policy", "P(C)", f"{NAMES[algorithm]} after {state}", rows, "probability", seeds=algorithm)


def met(game: str, row: str, column: str) -> Cell:
    """Points in the cross-play of language models."""
    of = f"{TEXT_GAMES[game].title}, points"
    return Cell("llm_crossplay", of, row, column, (("game", game), ("metric", "reward")), "value")


def honesty(algorithm: str) -> Runs:
    """How much is claimed with the lower hand in Trust-and-Split."""
    rows = (("algorithm", algorithm), ("metric", "claim_lower"))
    return Runs("llm_honesty", "Trust-and-Split, claims with the lower hand", NAMES.get(algorithm, algorithm), rows,
                seeds=algorithm)  # fmt: skip


# --- claims


@dataclass(frozen=True)
class Claim:
    """`left` is larger than `right`, another quantity; or equals it, a printed number.

    Attributes:
        figure: key of `page.FIGURES`.
        left: quantity of our runs.
        right: another one, or a number.
        source: where that can be seen.
        margin: of a number; None: the paper's units are not ours.
    """

    figure: str
    left: Quantity
    right: Quantity | float
    source: str
    margin: float | None = MARGIN

    @property
    def what(self) -> str:
        """In words."""
        left, right = self.left, self.right
        if isinstance(right, float):
            return f"{left.of}: {left.who}"
        return f"{left.of}: {left.who} > {'' if right.of == left.of else f'{right.of}: '}{right.who}"

    def compare(self, load: Load) -> Number | Ordering:
        """The claim beside our runs; NoRunError or FileNotFoundError if there are none."""
        if isinstance(self.right, float):
            return Number(self.what, self.left.statistic(load).interval(), self.right, self.margin, self.source)
        return Ordering(self.what, (self.left.statistic(load) - self.right.statistic(load)).interval(), self.source)


def more(figure: str, source: str, *pairs: tuple[Quantity, Quantity]) -> tuple[Claim, ...]:
    """Claims that the first of each pair is larger."""
    return tuple(Claim(figure, left, right, source) for left, right in pairs)


def _printed(name: str) -> list[dict]:
    return pd.read_csv(paths.PUBLISHED / f"{name}.csv").to_dict("records")


_PARTNERS = {"AdAlign": AA, "LOQA": "loqa", "Always Cooperate": KIND, "Always Defect": GREEDY, "Random": "random"}
_COIN = [row | {"other": _PARTNERS[row["column_agent"]]} for row in _printed("aa_coin_game_league")
         if row["column_agent"] in _PARTNERS]  # fmt: skip  # POLA and M-FOS are not in our league
_SCENARIOS = {"scenario_0": "scenario_zapping", "scenario_1": "scenario_peaceful"}
_HARVEST = [row for row in _printed("aa_commons_harvest_open") if row["agent"] in ("adalign", "ppo", "ppo_prosocial")]
_POSTER, _FIG4 = "fig. 2, as printed on the poster", "fig. 4"
_SUMMARY = "public summaries of the paper"

SIGNS = tuple(
    Claim("aa_1a", Sign(past, present), float(past * present), "fig. 1a", margin=0.0)
    for past, present in ((1, 1), (1, -1), (-1, 1), (-1, -1))
)

PRISONERS = (
    *(
        Claim("aa_1b", policy(state), mean, "fig. 1b", max(MARGIN, error_bar))
        for state, mean, error_bar, _ in (row.values() for row in _printed("aa_ipd_policy"))
    ),
    *more(
        "aa_1b", "fig. 1b",
        (policy("CC"), policy("CD")), (policy("DC"), policy("DD")), (policy("START"), policy("CD")),
    ),
)  # fmt: skip

COIN = (
    *(Claim("aa_2", coin(AA, row["other"]), row["row_reward"], _POSTER) for row in _COIN),
    *(Claim("aa_2", coin(row["other"], AA), row["column_reward"], _POSTER) for row in _COIN if row["other"] != AA),
    *more(
        "aa_2", OURS,
        (coin(AA, AA), coin(PPO, PPO)),
        (coin(AA, AA), coin(NAIVE, NAIVE)),
        (coin(AA, GREEDY), coin(KIND, GREEDY)),
        (coin(AA, GREEDY), coin(PPO_SUM, GREEDY)),
        (coin(KIND, AA), coin(KIND, GREEDY)),
    ),
)  # fmt: skip

NEGOTIATION = (
    *more("aa_3", "fig. 3a", (negotiation(AA, AA), negotiation(PPO, PPO))),
    *more(
        "aa_3", OURS,
        (negotiation(AA, AA), negotiation(NAIVE, NAIVE)),
        (negotiation(AA, AA), negotiation(PPO_SUM, PPO_SUM)),
        (negotiation(KIND, AA), negotiation(KIND, PPO)),
        (negotiation(AA, GREEDY), negotiation(PPO_SUM, GREEDY)),
        (negotiation(AA, GREEDY), negotiation(KIND, GREEDY)),
    ),
    *more(
        "aa_appendix", OURS,
        (curve(AA, "together"), curve(AA, "together", "first")),
        (curve(AA, "together"), curve(PPO, "together")),
        (curve(AA, "together"), curve(NAIVE, "together")),
        (curve(AA, "reward_of_cooperator"), curve(PPO, "reward_of_cooperator")),
    ),
)  # fmt: skip

COMMONS = (
    *(  # the published scores are normalised, ours are not
        Claim("aa_4", harvest(row["agent"], metric), row[scenario], _FIG4, margin=None)
        for scenario, metric in _SCENARIOS.items()
        for row in _HARVEST
    ),
    *(
        claim
        for scenario, metric in _SCENARIOS.items()
        for best, other in combinations(sorted(_HARVEST, key=lambda row: -row[scenario]), 2)
        for claim in more("aa_4", _FIG4, (harvest(best["agent"], metric), harvest(other["agent"], metric)))
    ),
    *more(
        "aa_5", "fig. 5",
        (harvest("adalign", "sustainability"), harvest("ppo", "sustainability")),
        (harvest("adalign", "collective_return"), harvest("ppo", "collective_return")),
    ),
)  # fmt: skip


def _language_models(game: str, together: str, against_greed: str) -> tuple[Claim, ...]:
    """Claims of one game; those without runs are left out when they are judged."""
    fixed = "fixed prior"
    return (
        *more("llm_naive", _SUMMARY, (llm(game, "prior", together), llm(game, NAIVE, together))),
        *more(
            "llm_other_models", _SUMMARY,
            *(
                (llm(game, model, together, f"{model} at the start", "first"), llm(game, model, together, "at the end"))
                for model in ("naive_qwen3", "naive_llama", "naive_gemma")
            ),
        ),
        *more(
            "llm_exploits", _SUMMARY,
            (llm(game, "naive_vs_kind", "reward"), llm(game, "naive_vs_kind", "reward_other", fixed)),
        ),
        *more(
            "llm_exploits", OURS,
            (llm(game, "naive_vs_kind", "reward"), llm(game, "prior", "reward", f"{fixed} with its like")),
        ),
        *more(
            "llm_curves", _SUMMARY,
            (llm(game, AA, together), llm(game, NAIVE, together)),
            (llm(game, AA, "reward"), llm(game, NAIVE, "reward")),
        ),
        *more("llm_curves", OURS, (llm(game, SUM, together), llm(game, NAIVE, together))),
        *more(
            "llm_ablations", OURS,  # without a part something is lost, in self-play or against greed
            *(
                (llm(game, whole, metric), llm(game, ablated, metric))
                for metric in (together, against_greed)
                # in profile paper AA itself has the buffer
                for whole, ablated in ((AA, "aa_no_buffer"), ("aa_buffer", AA), (AA, "aa_batch_baseline"))
            ),
        ),
        *more("llm_teaches", OURS, (llm(game, "naive_vs_aligned", together), llm(game, NAIVE, together))),
        *more("llm_crossplay", _SUMMARY, (met(game, AA, AA), met(game, NAIVE, NAIVE))),
        *more(
            "llm_crossplay", OURS,
            (met(game, NAIVE, SUM), met(game, NAIVE, AA)),  # naive gains less from AA
            (met(game, AA, NAIVE), met(game, SUM, NAIVE)),
        ),
    )  # fmt: skip


LANGUAGE_MODELS = (
    *(
        claim
        for name, game in TEXT_GAMES.items()
        for claim in _language_models(name, game.together, f"reward_vs_{game.greedy}")
    ),
    *(
        claim
        for game in ("split", "trust_and_split")
        for claim in more("llm_naive", OURS, (llm(game, NAIVE, "claim_lower"), llm(game, "prior", "claim_lower")))
    ),
    *(  # in Trust-and-Split the paper has no scripted greedy player: naive agents stand in for it
        claim
        for game in ("ipd", "split")
        for script in (TEXT_GAMES[game].greedy,)
        for claim in more("llm_crossplay", OURS, (met(game, AA, script), met(game, SUM, script)))
    ),
    *more(
        "llm_policy", _SUMMARY,
        (llm_policy(AA, "CC"), llm_policy(AA, "CD")),
        (llm_policy(AA, "DC"), llm_policy(AA, "DD")),
    ),
    *more("llm_policy", OURS, (llm_policy(SUM, "CD"), llm_policy(AA, "CD"))),
    *more("llm_transcripts", OURS, (honesty(NAIVE), honesty(AA))),
)  # fmt: skip

CLAIMS: tuple[Claim, ...] = (*SIGNS, *PRISONERS, *COIN, *NEGOTIATION, *COMMONS, *LANGUAGE_MODELS)
