"""What the figures of both papers claim, as data: numbers and orderings, each with where it can be read.

The PDFs were not at hand. Numbers come from `data/published`, where `claims.md` says what is claimed and where that was
read; what was read in reviews, repositories or on a poster is *second hand*. The second paper's figures are named by
what they show, not by number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aa_core import league
from aa_core.estimates import Statistic, mean_of
from experiments import records
from experiments.judge import BY_RULES, CONTROL, OURS, TENTH, Result, last_third
from experiments.language import OTHER_MODELS, TITLES, TOGETHER
from experiments.language_runs import SCRIPTS

Load = Callable[[str], pd.DataFrame]  # a table of our runs by its name; FileNotFoundError if there is none

AA, PROXIMAL_AA, SUM, NAIVE = "advantage_alignment", "proximal_advantage_alignment", "sum_of_rewards", "naive"
PPO, PPO_SUM, FREE, PRIOR = "ppo", "ppo_sum_of_rewards", "free_harvesters", "prior"
SUMMARY = "public summaries, see claims.md (second hand)"
MEASURED = "public summaries, see claims.md (second hand), by measures of ours"  # of who exploits whom
KIND, GREEDY, RANDOM = "always cooperate", "always defect", "random"
SCRIPTED = (KIND, GREEDY, RANDOM, "cooperate", "defect", "welfare", "greedy")  # nobody trained them
NAMES = {
    AA: "AA", PROXIMAL_AA: "proximal AA", SUM: "sum of rewards", PPO: "PPO", PPO_SUM: "PPO, summed rewards",
    FREE: "free harvesters", "loqa": "LOQA", "naive_vs_kind": "naive opposite the prior",
    "naive_vs_aligned": "naive opposite fixed AA",
    "aa_no_buffer": "AA without buffer", "aa_batch_baseline": "AA with batch baseline",
}  # fmt: skip
LONGER = {  # table -> that of the same runs trained longer, and what AA is called there
    "ipd_gru_curves": ("ipd_gru_long", "longer"), "ipd_policy": ("ipd_long", AA), "coin_curves": ("coin_long", AA),
    "negotiation_curves": ("negotiation_longer", AA), "llm_training": ("llm_side_training", "aa_long"),
    "llm_policy": ("llm_side_policy", "aa_long"),
}  # fmt: skip
REDUCED = ("ipd_policy", "harvest", "harvest_open", "harvest_beta")  # to means over a window, but for SCENARIOS
COLUMNS = {"state": "metric", "probability": "value", "row_reward": "value", "step": "update"}  # by the names used here


class NoRunError(LookupError):
    """A table holds no run of a quantity."""


@dataclass(frozen=True)
class Quantity:
    """What can be read off a table of our runs: one number per seed of an algorithm, or a cell of a league.

    A run that was looked at along training is read in a *window*, the last third of its updates.
    """

    table: str
    of: str  # what is measured, in words
    rows: tuple[tuple[str, Any], ...]  # (column, value) of those that count; the algorithm names a set of seeds
    who: str  # in words
    first: bool = False  # read at the start of training instead
    less: str = ""  # a metric that is taken from it

    def looked_at(self, load: Load) -> pd.DataFrame:
        """The rows that count, with the names of COLUMNS; NoRunError if there are none."""
        table = load(self.table).rename(columns=COLUMNS)
        if self.table == "sign_table":  # nothing was trained: signs, by the signs of past and present
            table = np.sign(table).rename(columns={"term": "value"}).assign(seed=0)
        if ("metric", AVERAGE) in self.rows:
            table = averaged(table)
        for column, value in self.rows:
            table = table[table[column] == value] if column in table else table[:0]
        if table.empty:
            raise NoRunError(f"no runs with {', '.join(f'{column} {value}' for column, value in self.rows)}")
        if "update" in table:
            updates = table["update"]
            late = updates.groupby(table["seed"]).transform(last_third)
            table = table[updates == updates.min() if self.first else late]
        return table

    def measured(self, load: Load, seeds: tuple[int, ...] = ()) -> tuple[Statistic, str]:
        """Mean over (these) seeds, and at which updates it was read; NoRunError if there are no such runs."""
        table, rows = self.looked_at(load), dict(self.rows)
        reduced = self.table in REDUCED and rows["metric"] not in (*SCENARIOS.values(), AVERAGE)
        read = "last third" if reduced else "end"
        if seeds and "seed" in table and table.seed.isin(seeds).any():
            table = table[table.seed.isin(seeds)]
        if "update" in table:
            low, high = table["update"].min(), table["update"].max()
            read = f"{low:g}" if low == high else f"{low:g}–{high:g}"
        if "row_agent" in rows:
            table = table.rename(columns={"value": "row_reward"})
            return league.cell(table, rows["row_agent"], rows["column_agent"], SCRIPTED), read
        samples, population = table.groupby("seed").value.mean(), rows.get("algorithm", rows.get("agent", PRIOR))
        if self.less:
            other = replace(self, rows=tuple((rows | {"metric": self.less}).items()), less="").looked_at(load)
            samples = samples - other.groupby("seed").value.mean().reindex(samples.index)
        return mean_of(samples, population) if population != PRIOR else Statistic(samples.mean()), read  # one model

    def later(self, load: Load) -> Statistic | None:
        """The same of runs that were trained longer, if there are any."""
        table, name = LONGER.get(self.table, ("", AA))
        rows = tuple((column, name if value == AA else value) for column, value in self.rows)
        try:
            return replace(self, table=table, rows=rows).measured(load)[0] if table else None
        except (FileNotFoundError, LookupError):
            return None


def quantity(table: str, of: str, who: str = "", **rows: Any) -> Quantity:
    """A quantity by the columns of its rows."""
    agent = rows.get("algorithm", rows.get("agent", ""))
    return Quantity(table, of, tuple(rows.items()), who or NAMES.get(agent, agent))


@dataclass(frozen=True)
class Claim:
    """`left` is larger than `right`, another quantity; or equals it, a published number."""

    figure: str  # key of `page.FIGURES`
    left: Quantity
    right: Quantity | float
    source: str  # where that can be seen; OURS, BY_RULES or CONTROL
    span: float | tuple[Quantity, Quantity] = 0.0  # what the game offers in a number's cell, or its two ends
    least: float = 0.0  # margin where a tenth of that is less: error bar or rounding of what is printed

    @property
    def sides(self) -> tuple[Quantity, ...]:
        """The quantities of our runs."""
        return (self.left,) if isinstance(self.right, float) else (self.left, self.right)

    @property
    def what(self) -> str:
        """In words."""
        left, *right = self.sides
        texts = [side.who if side.of == left.of else f"{side.of}: {side.who}" for side in right]
        return " > ".join([f"{left.of}: {left.who}", *texts])

    def compare(self, load: Load) -> Result:
        """The claim beside our runs; NoRunError or FileNotFoundError if there are none."""
        ends = [end.measured(load)[0].value for end in self.span] if isinstance(self.span, tuple) else [self.span, 0.0]
        now, read = zip(*(side.measured(load) for side in self.sides), strict=True)
        tenth = TENTH * abs(ends[0] - ends[1])
        margin = max(tenth, self.least)
        published = None if len(now) > 1 else self.right
        ours = _apart(now)
        result = Result(
            self.what, ours.interval(), self.source, published, margin, ours.seeds,  # type: ignore[arg-type]
            "; ".join(dict.fromkeys(read)), tenth=tenth,
        )  # fmt: skip
        later = [side.later(load) for side in self.sides]
        if not any(later):
            return result
        longer = _apart([new or old for new, old in zip(later, now, strict=True)])
        same = _apart([side.measured(load, longer.seeds)[0] for side in self.sides]).interval()
        fewer = set(longer.seeds) < set(ours.seeds)
        return replace(result, longer=longer.interval(), longer_seeds=longer.seeds, same_seeds=same if fewer else None)


def _apart(sides: Sequence[Statistic]) -> Statistic:
    """What a claim is about: its one quantity, or the difference of the two."""
    return sides[0] - sides[1] if len(sides) > 1 else sides[0]


def more(figure: str, source: str, *pairs: tuple[Quantity, Quantity]) -> tuple[Claim, ...]:
    """Claims that the first of each pair is larger."""
    return tuple(Claim(figure, left, right, source) for left, right in pairs)


def printed(name: str) -> list[dict]:
    """Rows of a table of `data/published`."""
    return records.published(name).to_dict("records")


# --- AA, figure 1a, and 1b: the prisoner's dilemma, for the paper's agent and for a table of five numbers

_WORDS = {1: "positive", -1: "negative"}


def _signs() -> Iterator[Claim]:
    """The sign of the alignment term by those of the past and of the present advantage."""
    for past, present in product(_WORDS, _WORDS):
        who = f"past {_WORDS[past]}, present {_WORDS[present]}"
        ours = quantity("sign_table", "sign of the term", who, past=past, present=present)
        yield Claim("aa_1a", ours, float(past * present), "fig. 1a (second hand)", 0.0, 0.0)


def policy(table: str, state: str) -> Quantity:
    """P(cooperate) of AA after a joint move."""
    return quantity(table, "P(cooperate)", state, algorithm=AA, metric=state)


def _prisoners(figure: str, table: str) -> Iterator[Claim]:
    """Every bar, and every pair of bars that are further apart than their error bars."""
    source = "fig. 1b (second hand)"
    bars = [(row["state"], row["probability_of_cooperation"], row["error_bar"]) for row in printed("aa_ipd_policy")]
    for state, height, error in bars:
        yield Claim(figure, policy(table, state), height, f"{source}, read off the bars", 1.0, error)
    for high, low in combinations(sorted(bars, key=lambda bar: -bar[1]), 2):
        if high[1] - low[1] > high[2] + low[2]:
            yield from more(figure, source, (policy(table, high[0]), policy(table, low[0])))


# --- AA, figures 2 and 3: leagues of two players

APART = 0.05  # printed numbers that differ by as much are an ordering
NOT_TRAINED = {"POLA", "M-FOS"}  # by us
ROLES = {KIND: "cooperator", GREEDY: "defector"}  # in curves
AGENTS = {
    "AdAlign": AA, "PPO": PPO, "Always Cooperate": KIND, "Always Defect": GREEDY, "Random": RANDOM, "MFOS": "M-FOS",
    "LOQA": "loqa",
}  # fmt: skip


class Cell(NamedTuple):
    """A printed number: what `row` earns from `column`."""

    row: str
    column: str
    reward: float
    source: str


def readings(game: str, row: str, column: str) -> dict[str, Quantity]:
    """What `row` earns from `column`: in the league of all seeds, at the end; and along training, from its copy."""
    who = f"{NAMES.get(row, row)} from {NAMES.get(column, column)}"
    ways = {"league": quantity(f"{game}_league", "reward, league", who, row_agent=row, column_agent=column)}
    for learner, other, way in ((row, column, "vs"), (column, row, "of")):
        if learner not in (*SCRIPTED, *NOT_TRAINED) and (row == column or other in ROLES):
            metric = "reward_self" if row == column else f"reward_{way}_{ROLES[other]}"
            ways["window"] = quantity(f"{game}_curves", "reward, window", who, agent=learner, metric=metric)
    return ways


def _league(figure: str, game: str, cells: Iterable[Cell]) -> Iterator[Claim]:
    """Every number, and every ordering in a row, in a column, between the two sides of a game, or on the diagonal."""
    cells = list(cells)
    for cell in cells:  # a tenth of what kind and greedy scripts get in the learners' place
        ends = ([agent if agent in SCRIPTED else script for agent in cell[:2]] for script in (KIND, GREEDY))
        span = tuple(readings(game, *end)["league"] for end in ends)
        source = BY_RULES if {*cell[:2]} <= {*SCRIPTED} else cell.source
        for ours in readings(game, *cell[:2]).values():
            yield Claim(figure, ours, cell.reward, source, span, 0.005)  # type: ignore[arg-type]
    for high, low in combinations(sorted(cells, key=lambda cell: -cell.reward), 2):
        diagonal = high.row == high.column and low.row == low.column
        beside = high.row == low.row or high.column == low.column or high[:2] == low[1::-1] or diagonal
        if beside and high.reward - low.reward >= APART and not {*high[:2], *low[:2]} & NOT_TRAINED:
            one, other = readings(game, *high[:2]), readings(game, *low[:2])
            source = BY_RULES if {*high[:2], *low[:2]} <= {*SCRIPTED} else high.source
            yield from more(figure, source, *((one[way], other[way]) for way in one if way in other))


def _coin(aligned: str) -> Iterator[Cell]:
    """The printed league with one of our two forms of AA in it."""
    names = AGENTS | {"AdAlign": aligned}
    poster, reviews = "fig. 2, poster (second hand)", "fig. 2, reviews (second hand)"
    for name, source in (("aa_coin_game_league", poster), ("aa_coin_game_league_more", reviews)):
        for cell in printed(name):
            row, column = (names.get(cell[side], cell[side]) for side in ("row_agent", "column_agent"))
            yield Cell(row, column, cell["row_reward"], source)
            if row != column:
                yield Cell(column, row, cell["column_reward"], source)


def _negotiation() -> Iterator[Claim]:
    source = "fig. 3a, reviews (second hand)"
    rows = printed("aa_negotiation_league")
    cells = [Cell(AGENTS[row["row_agent"]], AGENTS[row["column_agent"]], row["row_reward"], source) for row in rows]
    yield from _league("aa_3", "negotiation", cells)
    lost = readings("negotiation", KIND, GREEDY)["league"]  # .25 by the rules, which no paper prints
    yield from more("aa_3", CONTROL, *((ours, lost) for ours in readings("negotiation", AA, GREEDY).values()))
    kind, greedy = (readings("negotiation", script, AA) for script in (KIND, GREEDY))
    yield from more("aa_3", CONTROL, *((kind[way], greedy[way]) for way in kind))  # to defect does not pay
    end, *others = (quantity("negotiation_curves", "welfare", agent=who, metric="together") for who in (AA, PPO, NAIVE))
    start = replace(end, who="AA at the start", first=True)
    yield from more("aa_appendix", OURS, *((end, other) for other in (start, *others)))


# --- AA, figures 4, 5 and appendix 8: Commons Harvest, on the published map and in the orchard

HARVESTERS = {"adalign": PROXIMAL_AA, "ppo": PPO, "ppo_prosocial": PPO_SUM, "random": RANDOM}
SCENARIOS = {"scenario_0": "scenario_zapping", "scenario_1": "scenario_peaceful"}  # as published, in our tables
AVERAGE = "mean of the scores"  # of both scenarios


def harvest(table: str, algorithm: str, metric: str) -> Quantity:
    """A metric of Commons Harvest; `TABLE_curves` has what learners do among themselves along training."""
    return quantity(table, metric.replace("_", " "), algorithm=algorithm, metric=metric)


def focal_limits() -> dict[str, tuple[float, float]]:
    """Apples that are a published score of 0, and of 1, by scenario."""
    return {row["scenario"]: (row["low"], row["high"]) for row in printed("aa_commons_harvest_limits")}


def averaged(table: pd.DataFrame) -> pd.DataFrame:
    """Mean of the two scenarios' scores, as it is printed, of each seed: rows of the metric AVERAGE."""
    scores = []
    for scenario, (low, high) in focal_limits().items():
        rows = table[table.metric == SCENARIOS[scenario]]
        scores.append(rows.assign(value=(rows.value - low) / (high - low), metric=AVERAGE))
    keys = [column for column in table if column != "value"]
    return pd.concat(scores).groupby(keys, as_index=False).value.mean()


def _scores(figure: str, place: str, numbers: bool) -> Iterator[Claim]:
    """Figure 4 in raw apples of a focal player: printed are (raw - low) / (high - low), and their mean, as it is."""
    limits = focal_limits() | {"average": (0.0, 1.0)}
    for scenario, metric in (SCENARIOS | {"average": AVERAGE}).items():
        low, high = limits[scenario]
        rows = sorted(printed("aa_commons_harvest_open"), key=lambda row: -row[scenario])
        for row in rows if numbers else ():
            ours = harvest(place, HARVESTERS.get(row["agent"], row["agent"]), metric)
            apples = low + row[scenario] * (high - low)
            how = "" if scenario == "average" else ", de-normalised"
            yield Claim(figure, ours, apples, f"fig. 4{how} (second hand)", high - low)
        *agents, floor = (
            harvest(place, HARVESTERS[row["agent"]], metric) for row in rows if row["agent"] in HARVESTERS
        )
        yield from more(figure, "fig. 4 (second hand)", *combinations(agents, 2))
        # random play is the published 0 by construction, so that nobody is ranked by being above it
        yield from more(
            figure, CONTROL, *((agent, floor) for agent in agents), (agents[0], harvest(place, FREE, metric))
        )


def _apples(figure: str, place: str) -> Iterator[Claim]:
    """Figure 5 shows frames; we count what becomes of the apples. That AA keeps more of them is our reading."""
    for metric in ("sustainability", "collective_return"):
        ours, *others = (harvest(f"{place}_curves", agent, metric) for agent in (PROXIMAL_AA, PPO, PPO_SUM))
        yield from more(figure, "fig. 5, by measures of ours", *((ours, other) for other in others))
    yield from more(figure, CONTROL, *((ours, harvest(place, script, metric)) for script in (RANDOM, FREE)))


def _betas() -> Iterator[Claim]:
    """Appendix figure 8: beta .5 eats, 1 guards with the beam, 2 keeps the bushes."""
    zaps = (("zaps", 1, 0.5), ("zaps", 1, 2))
    keeps = (("sustainability", 2, 0.5), ("sustainability", 2, 1), ("sustainability", 1, 0.5))
    for metric, high, low in (*zaps, *keeps):
        one, other = (harvest("harvest_beta", f"β {beta:g}", metric) for beta in (high, low))
        yield from more("aa_8", "appendix fig. 8, as it is described (second hand)", (one, other))


# --- the second paper: language models


def llm(game: str, algorithm: str, metric: str, who: str = "") -> Quantity:
    """A metric of language models."""
    of = f"{TITLES[game]}, {metric.replace('_', ' ')}"
    return quantity("llm_training", of, who, game=game, algorithm=algorithm, metric=metric)


def after(algorithm: str, state: str) -> Quantity:
    """P(cooperate) of language models after a joint move, of the seeds that met it."""
    who = f"{NAMES.get(algorithm, algorithm)} after {state}"
    return quantity("llm_policy", "P(C)", who, game="ipd", algorithm=algorithm, metric=state)


def met(game: str, row: str, column: str) -> Quantity:
    """Points of `row` from `column` in the cross-play of language models."""
    who, agents = f"{NAMES.get(row, row)} from {NAMES.get(column, column)}", {"row_agent": row, "column_agent": column}
    return quantity("llm_crossplay", f"{TITLES[game]}, points", who, game=game, metric="reward", **agents)


def _language_models(game: str) -> Iterator[Claim]:
    run, meet, (kind, greedy) = partial(llm, game), partial(met, game), SCRIPTS[game]
    how, versus, trust = TOGETHER[game], f"reward_vs_{greedy}", game == "trust_and_split"
    pupil, victim = run("naive_vs_kind", "reward"), run("naive_vs_kind", "reward_other", "the prior")
    ahead = [
        replace(run(f"naive_vs_{who}", "reward", name), of=f"{TITLES[game]}, naive ahead of", less="reward_other")
        for who, name in (("kind", "the prior"), ("aligned", "fixed AA"))
    ]
    greeds = (NAIVE, greedy)[: 1 if trust else 2]  # there naive agents stand for greed in the paper
    models = [(replace(run(name, how, f"{name} at first"), first=True), run(name, how)) for name in OTHER_MODELS]
    ablations = ((AA, "aa_no_buffer"), (AA, "aa_batch_baseline"))
    for figure, source, *pairs in (
        ("llm_naive", SUMMARY, (run(PRIOR, how), run(NAIVE, how))),
        ("llm_other_models", SUMMARY, *models),
        ("llm_exploits", OURS, (pupil, victim)),  # the paper's fixed players are closed models
        ("llm_curves", SUMMARY, (run(AA, "reward"), run(NAIVE, "reward"))),
        ("llm_curves", OURS if trust else MEASURED, (run(AA, versus), run(SUM, versus))),
        ("llm_curves", CONTROL, (run(AA, "reward"), run(PRIOR, "reward")), (run(AA, versus), run(PRIOR, versus))),
        ("llm_ablations", OURS, *((run(one, of), run(other, of)) for of in (how, versus) for one, other in ablations)),
        ("llm_teaches", MEASURED if trust else OURS, (run("naive_vs_aligned", how), run(NAIVE, how)), tuple(ahead)),
        ("llm_teaches", CONTROL if trust else OURS, (run("naive_vs_aligned", "reward_other", "fixed AA"), victim)),
        ("llm_crossplay", SUMMARY, (meet(AA, AA), meet(NAIVE, NAIVE))),
        ("llm_crossplay", MEASURED, *((meet(AA, greed), meet(SUM, greed)) for greed in greeds)),
        ("llm_crossplay", CONTROL, (meet(AA, AA), meet(greedy, greedy)), (meet(AA, NAIVE), meet(kind, NAIVE))),
        ("llm_crossplay", CONTROL, *((meet(AA, AA), meet(rival, AA)) for rival in (NAIVE, greedy))),  # greed pays less
    ):
        yield from more(figure, source, *pairs)  # type: ignore[arg-type]


_LOWER = {"of": "Trust-and-Split, claims with the lower hand", "metric": "claim_lower"}
CLAIMS: tuple[Claim, ...] = (
    *_signs(),
    *_prisoners("aa_1b", "ipd_gru_curves"),
    *_prisoners("aa_1b_table", "ipd_policy"),
    *_league("aa_2", "coin", _coin(AA)),
    *_league("aa_2_proximal", "coin", _coin(PROXIMAL_AA)),
    *_negotiation(),
    *_scores("aa_4", "harvest_open", numbers=True),
    *_scores("aa_4_orchard", "harvest", numbers=False),
    *_apples("aa_5", "harvest_open"),
    *_apples("aa_5_orchard", "harvest"),
    *_betas(),
    *(claim for game in TITLES for claim in _language_models(game)),
    *more("llm_policy", SUMMARY, *((after(AA, "CC"), after(AA, state)) for state in ("CD", "DD"))),
    *more("llm_policy", CONTROL, (after(PRIOR, "CD"), after(AA, "CD"))),
    *more("llm_policy", OURS, (after(AA, "DC"), after(AA, "DD"))),  # as tit for tat; grim trigger does not
    *more("llm_transcripts", OURS, tuple(quantity("llm_honesty", algorithm=who, **_LOWER) for who in (NAIVE, AA))),  # type: ignore[arg-type]
)  # fmt: skip
