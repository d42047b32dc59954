"""The figures of both papers: which picture of ours stands beside which, what is claimed, and what our tables say.

`page` compares all of them by the rule of `aa_core.verdicts`. It only reads tables and trains nothing; a table that is
not there makes its figures "no run yet". The second paper's figures are named by what they show, not by number: its
text was not at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd

from aa_core import figures, paths, records, verdicts
from aa_core.league import summarise
from aa_core.league_runs import AGENTS
from aa_core.llm import results, settings
from aa_core.llm.results import Estimate, difference, final, mean_interval
from aa_core.verdicts import MARGIN, Number, Ordering, Verdict, widest

AA, SUM, NAIVE = "advantage_alignment", "sum_of_rewards", "naive"
PPO, PPO_SUM = "ppo", "ppo_sum_of_rewards"
KIND, GREEDY = "always cooperate", "always defect"

Load = Callable[[str], pd.DataFrame]  # a table of our runs by its name; FileNotFoundError if there is none
Claims = tuple[list[Number], list[Ordering]]


class NoRunError(LookupError):
    """The tables are there, but hold no run of what a figure shows."""


@dataclass(frozen=True)
class PaperFigure:
    """A figure of a paper.

    Attributes:
        paper: AA or LLM.
        title: what it shows, with its number where that is known.
        notebook: number of the one that draws ours.
        pictures: names of ours, in figures/.
        tables: of ours, that the comparison reads.
        compare: makes the claims from the tables; None: an illustration, or (with `lacks`) nothing that we could run.
        command: that makes it in profile `paper`: one of its runs; then all that are missing, and the notebook.
        why: where a difference comes from, as far as the notebook found out; or what was compared instead.
        lacks: verdict of a figure that cannot be made here, unless there are runs of it.
    """

    paper: str
    title: str
    notebook: str
    pictures: tuple[str, ...]
    tables: tuple[str, ...]
    compare: Callable[[Load], Claims] | None
    command: str
    why: str = ""
    lacks: str = ""


@dataclass(frozen=True)
class Entry:
    """A figure with what came out; `seeds` is the largest number of seeds of its tables."""

    figure: PaperFigure
    verdict: Verdict
    numbers: tuple[Number, ...] = ()
    orderings: tuple[Ordering, ...] = ()
    seeds: int = 0


def _published(name: str) -> pd.DataFrame:
    return pd.read_csv(paths.PUBLISHED / f"{name}.csv")


# --- Advantage Alignment


def sign_table(load: Load) -> Claims:
    """AA fig. 1a: the sign of the alignment term, computed on a grid, in each quadrant of the table."""
    table, numbers = load("sign_table"), []
    for past, present in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        cell = table[(np.sign(table.past) == past) & (np.sign(table.present) == present)]
        signs = np.sign(cell.term)
        ours = (float(signs.mean()), float(signs.min()), float(signs.max()))  # the whole quadrant: nothing is random
        words = {1: "positive", -1: "negative"}
        what = f"sign of the term, past {words[past]}, present {words[present]}"
        numbers.append(Number(what, ours, past * present, margin=0.0))
    return numbers, []


def ipd_policy(load: Load) -> Claims:
    """AA fig. 1b: P(cooperate) in five states."""
    table = load("ipd_policy")
    table = table[table.algorithm == AA].groupby(["state", "seed"]).probability.mean().unstack("state")
    numbers = [
        Number(
            f"P(cooperate | {row.state})",
            figures.interval(table[row.state].to_numpy()),
            row.probability_of_cooperation,
            max(MARGIN, row.error_bar),
        )
        for row in _published("aa_ipd_policy").itertuples()
    ]
    orderings = [
        Ordering(f"P(C | {kind}) > P(C | {harsh})", figures.interval((table[kind] - table[harsh]).to_numpy()))
        for kind, harsh in (("CC", "CD"), ("DC", "DD"), ("START", "CD"))
    ]
    return numbers, orderings


def _cells(table: pd.DataFrame) -> Callable[[str, str], Estimate]:
    """What the row's agent earns from the column's; NaN ends where a learned agent has a single seed."""
    cells = summarise(table).set_index(["row_agent", "column_agent"])
    seeds = table.groupby("row_agent").row_seed.nunique()
    learned = {agent for agents in AGENTS.values() for agent in agents}  # the others are scripts, of one "seed"

    def cell(row: str, column: str) -> Estimate:
        found = cells.loc[row, column]
        if any(agent in learned and seeds[agent] == 1 for agent in (row, column)):
            return found.row_reward, np.nan, np.nan
        return found.row_reward, found.low, found.high

    return cell


def coin_league(load: Load) -> Claims:
    """AA fig. 2: what AA and its partners earn per step, beside the printed numbers; who is kinder, who is robbed."""
    cell = _cells(load("coin_league"))
    partners = {"AdAlign": AA, "LOQA": "loqa", "Always Cooperate": KIND, "Always Defect": GREEDY, "Random": "random"}
    numbers = []
    for row in _published("aa_coin_game_league").itertuples():
        if (other := partners.get(row.column_agent)) is None:
            continue  # POLA and M-FOS are not in our league
        numbers.append(Number(f"AA against {row.column_agent}", cell(AA, other), row.row_reward))
        if other != AA:
            numbers.append(Number(f"{row.column_agent} against AA", cell(other, AA), row.column_reward))
    return numbers, [
        Ordering("with its like: AA > PPO", widest(cell(AA, AA), cell(PPO, PPO))),
        Ordering("with its like: AA > naive", widest(cell(AA, AA), cell(NAIVE, NAIVE))),
        Ordering(f"from {GREEDY}: AA > {KIND}", widest(cell(AA, GREEDY), cell(KIND, GREEDY))),
        Ordering(f"from {GREEDY}: AA > summed rewards", widest(cell(AA, GREEDY), cell(PPO_SUM, GREEDY))),
        Ordering(f"{KIND} is left: by AA > by {GREEDY}", widest(cell(KIND, AA), cell(KIND, GREEDY))),
    ]


def negotiation_league(load: Load) -> Claims:
    """AA fig. 3: orderings of the Negotiation league."""
    cell = _cells(load("negotiation_league"))
    return [], [
        Ordering("with its like: AA > naive", widest(cell(AA, AA), cell(NAIVE, NAIVE))),
        Ordering("with its like: AA > PPO", widest(cell(AA, AA), cell(PPO, PPO))),
        Ordering("with its like: AA > summed rewards", widest(cell(AA, AA), cell(PPO_SUM, PPO_SUM))),
        Ordering(f"{KIND} is left: by AA > by PPO", widest(cell(KIND, AA), cell(KIND, PPO))),
        Ordering(f"from {GREEDY}: AA > summed rewards", widest(cell(AA, GREEDY), cell(PPO_SUM, GREEDY))),
        Ordering(f"from {GREEDY}: AA > {KIND}", widest(cell(AA, GREEDY), cell(KIND, GREEDY))),
    ]


def negotiation_curves(load: Load) -> Claims:
    """AA, appendix: what becomes of the learning curves."""
    table = load("negotiation_curves")

    def values(agent: str, metric: str) -> pd.DataFrame:
        rows = table[(table.agent == agent) & (table.metric == metric)]
        return rows.pivot(index="update", columns="seed", values="value").ffill()

    welfare, robbed = values(AA, "measure_self"), "reward_of_cooperator"
    end = {agent: values(agent, "measure_self").iloc[-1].to_numpy() for agent in (AA, PPO, NAIVE)}
    left = {agent: values(agent, robbed).iloc[-1].to_numpy() for agent in (AA, PPO)}
    return [], [
        Ordering("welfare of AA: end > start", mean_interval((welfare.iloc[-1] - welfare.iloc[0]).to_numpy())),
        Ordering("welfare at the end: AA > PPO", difference(end[AA], end[PPO])),
        Ordering("welfare at the end: AA > naive", difference(end[AA], end[NAIVE])),
        Ordering(f"{KIND} is left at the end: by AA > by PPO", difference(left[AA], left[PPO])),
    ]


HARVEST = {"adalign": "proximal_advantage_alignment", "ppo": PPO, "ppo_prosocial": PPO_SUM}


def _harvest(load: Load) -> dict[str, Callable[[str, str], np.ndarray]]:
    """Map -> what gives a metric of an algorithm `(seeds,)`."""
    table = load("harvest")

    def values(rows: pd.DataFrame, algorithm: str, metric: str) -> np.ndarray:
        found = rows[(rows.algorithm == algorithm) & (rows.metric == metric)].value.to_numpy()
        if not len(found):
            raise NoRunError(f"no {metric} of {algorithm}")
        return found

    maps = dict(iter(table.groupby("map", sort=False)))
    return {name: lambda algorithm, metric, rows=rows: values(rows, algorithm, metric) for name, rows in maps.items()}


def harvest_scores(load: Load) -> Claims:
    """AA fig. 4: focal per-capita return in two scenarios; the published scores are normalised, ours are not."""
    published = _published("aa_commons_harvest_open").set_index("agent")
    numbers, orderings = [], []
    for place, values in _harvest(load).items():
        for column, metric in (("scenario_0", "scenario_zapping"), ("scenario_1", "scenario_peaceful")):
            scores = published.loc[list(HARVEST), column].sort_values(ascending=False)
            for agent, score in scores.items():
                numbers.append(
                    Number(f"{place}, {metric}: {agent}", mean_interval(values(HARVEST[agent], metric)), score, None)
                )
            for best, other in combinations(scores.index, 2):
                gap = difference(*(values(HARVEST[agent], metric) for agent in (best, other)))
                orderings.append(Ordering(f"{place}, {metric}: {best} > {other}", gap))
    return numbers, orderings


def harvest_apples(load: Load) -> Claims:
    """AA fig. 5: agents of AA leave apples to grow, PPO harvests them to the ground."""
    orderings = []
    for place, values in _harvest(load).items():
        for metric in ("sustainability", "collective_return"):
            gap = difference(values(HARVEST["adalign"], metric), values(PPO, metric))
            orderings.append(Ordering(f"{place}, {metric.replace('_', ' ')}: AA > PPO", gap))
    return [], orderings


# --- language models


NAMES = {
    AA: "AA",
    SUM: "sum of rewards",
    NAIVE: "naive",
    "prior": "prior",
    "naive_vs_kind": "learner opposite fixed prior",
    "naive_vs_aligned": "naive opposite fixed AA",
    "aa_buffer": "AA with buffer",
    "aa_no_buffer": "AA without buffer",
    "aa_batch_baseline": "AA with batch baseline",
}
METRICS = {
    "cooperation": "cooperation",
    "efficiency": "efficiency",
    "reward": "points",
    "claim_lower": "claims on what the other values",
    "reward_vs_defect": "points from always defect",
    "reward_vs_greedy": "points from greedy",
}


def _gap(table: pd.DataFrame, game: str, metric: str, more: str, less: str) -> list[Ordering]:
    """The ordering of two algorithms in a game; none without runs of both."""
    one, other = (final(table, game, algorithm, metric) for algorithm in (more, less))
    if not len(one) or not len(other):
        return []
    if less == "prior":  # one model, measured once: a constant
        gap = mean_interval(one - other.item())
    elif more == "prior":
        gap = mean_interval(one.item() - other)
    else:
        gap = difference(one, other)
    names = {AA: "AA without buffer"} if "aa_buffer" in (more, less) else {}
    more, less = ((NAMES | names)[name] for name in (more, less))
    return [Ordering(f"{results.TITLES[game]}, {METRICS[metric]}: {more} > {less}", gap)]


def _orderings(found: list[list[Ordering]], what: str) -> Claims:
    orderings = [ordering for part in found for ordering in part]
    if not orderings:
        raise NoRunError(f"no runs of {what}")
    return [], orderings


def _greed(game: str) -> str:
    return f"reward_vs_{results.SCRIPTS[game][1]}"


def naive_turns_greedy(load: Load) -> Claims:
    """Naive self-play ends less cooperative than its prior, and claims more of what the other values."""
    table = load("llm_training")
    return _orderings(
        [
            *(_gap(table, game, results.TOGETHER[game], "prior", NAIVE) for game in results.TITLES),
            *(_gap(table, game, "claim_lower", NAIVE, "prior") for game in results.TITLES if game != "ipd"),
        ],
        "naive learning",
    )


def other_models(load: Load) -> Claims:
    """The same for other models, along training; only profile `paper` has such runs."""
    table, found = load("llm_training"), []
    for variant in settings.OTHER_MODELS:
        for game in results.games_of(table, variant):
            curve = results.curves(table, game, variant, results.TOGETHER[game]).ffill()
            drop = mean_interval((curve.iloc[0] - curve.iloc[-1]).to_numpy())
            found.append([Ordering(f"{results.TITLES[game]}, {variant}: start > end of training", drop)])
    return _orderings(found, "other models")


def naive_exploits(load: Load) -> Claims:
    """A naive learner opposite a fixed player earns more than that player, and more than two such players."""
    table, found = load("llm_training"), []
    for game in results.games_of(table, "naive_vs_kind"):
        learner, other = (final(table, game, "naive_vs_kind", metric) for metric in ("reward", "reward_other"))
        title = results.TITLES[game]
        found.append([Ordering(f"{title}, points: learner > fixed player", mean_interval(learner - other))])
        found.append(_gap(table, game, "reward", "naive_vs_kind", "prior"))
    return _orderings(found, "a naive learner opposite a fixed player")


def aligned_learns(load: Load) -> Claims:
    """In self-play AA and the sum of rewards do better together than naive learning."""
    table, found = load("llm_training"), []
    for game in results.games_of(table, AA):
        found.append(_gap(table, game, results.TOGETHER[game], AA, NAIVE))
        found.append(_gap(table, game, results.TOGETHER[game], SUM, NAIVE))
        found.append(_gap(table, game, "reward", AA, NAIVE))
    return _orderings(found, "Advantage Alignment")


def conditional_policy(load: Load) -> Claims:
    """AA's agents cooperate with who cooperated and not with who did not (tit for tat); the other two do not ask."""
    table = load("llm_policy")
    if not {AA, SUM} <= set(table[table.game == "ipd"].algorithm):
        raise NoRunError("no policies in the prisoner's dilemma")
    tables = {name: rows.pivot(index="seed", columns="state", values="probability") for name, rows in
              table[table.game == "ipd"].groupby("algorithm")}  # fmt: skip

    def met(algorithm: str, state: str) -> np.ndarray:
        """P(C | state) of the seeds that met it `(seeds,)`."""
        return tables[algorithm].get(state, pd.Series(dtype=float)).dropna().to_numpy()

    pairs = [
        ("P(C | CC) > P(C | CD)", (AA, "CC"), (AA, "CD")),
        ("P(C | DC) > P(C | DD)", (AA, "DC"), (AA, "DD")),
        ("P(C | CD): sum of rewards > AA", (SUM, "CD"), (AA, "CD")),
    ]
    samples = [(what, met(*one), met(*other)) for what, one, other in pairs]
    met_ones = [Ordering(what, difference(one, other)) for what, one, other in samples if len(one) and len(other)]
    return _orderings([met_ones], "policies that met these states")


def crossplay(load: Load) -> Claims:
    """Everybody against everybody: samples are seeds of the row's agent, each averaged over the seeds that it meets.

    The paper has scripted greedy players in the prisoner's dilemma and in Split; in Trust-and-Split naive agents stand
    in for them.
    """
    table = load("llm_crossplay")
    table = table[table.metric == "reward"]

    def earned(game: str, row: str, column: str) -> np.ndarray:
        rows = table[(table.game == game) & (table.row_agent == row) & (table.column_agent == column)]
        return rows.groupby("row_seed").value.mean().to_numpy()

    orderings = []
    for game in results.TITLES:
        if not {AA, SUM, NAIVE} <= set(table[table.game == game].row_agent):
            continue
        for what, one, other in (
            ("with its like: AA > naive", (AA, AA), (NAIVE, NAIVE)),
            ("naive gains less from AA than from the sum of rewards", (NAIVE, SUM), (NAIVE, AA)),
            ("from naive: AA > sum of rewards", (AA, NAIVE), (SUM, NAIVE)),
            ("from the greedy script: AA > sum of rewards", *((name, results.SCRIPTS[game][1]) for name in (AA, SUM))),
        )[: 3 if game == "trust_and_split" else 4]:
            gap = difference(earned(game, *one), earned(game, *other))
            orderings.append(Ordering(f"{results.TITLES[game]}, {what}", gap))
    return _orderings([orderings], "cross-play")


def ablations(load: Load) -> Claims:
    """What an ablation is drawn to show: without the part something is lost, in self-play or against greed."""
    table, found = load("llm_training"), []
    buffered = len(final(table, "ipd", "aa_no_buffer", "reward")) > 0  # in profile paper AA itself has the buffer
    for game in results.games_of(table, AA):
        with_buffer, without = (AA, "aa_no_buffer") if buffered else ("aa_buffer", AA)
        for metric in (results.TOGETHER[game], _greed(game)):
            found.append(_gap(table, game, metric, with_buffer, without))
            found.append(_gap(table, game, metric, AA, "aa_batch_baseline"))
    return _orderings(found, "ablations")


def teaches(load: Load) -> Claims:
    """A naive learner opposite a fixed AA agent does better together than with its own copy."""
    table = load("llm_training")
    games = results.games_of(table, "naive_vs_aligned")
    return _orderings(
        [_gap(table, game, results.TOGETHER[game], "naive_vs_aligned", NAIVE) for game in games],
        "a naive learner opposite a fixed Advantage Alignment agent",
    )


def transcripts(load: Load) -> Claims:
    """What can be counted in the transcripts: who stands back with the lower hand."""
    table = load("llm_honesty")
    values = {name: rows.value.to_numpy() for name, rows in table[table.metric == "claim_lower"].groupby("algorithm")}
    if not {AA, NAIVE} <= set(values):
        raise NoRunError("no counts of both algorithms")
    gap = difference(values[NAIVE], values[AA])
    return [], [Ordering("Trust-and-Split, claims with the lower hand: naive > AA", gap)]


# --- the list


def _notebook(number: str) -> str:
    return f"make notebooks/{number} PROFILE=paper"


def _run(number: str, *parts: str) -> str:
    runs = [f"accelerate launch -m aa_core.experiments run llm {part} --profile paper" for part in parts]
    return "\n".join([*runs, _notebook(number)])


# the server's player takes the fixed seat of the run naive_vs_kind; one process, since `trainer_of` starts it
_AGAINST_SERVER = """python -c "
from dataclasses import replace
from pathlib import Path
import pandas
from aa_core.llm import runs, settings
from aa_core.llm.players import ApiPlayer
training = replace(settings.training('paper', 'trust_and_split', 'naive_vs_kind'), updates=500)
trainer = runs.trainer_of(training, 0, Path('build/server'))
trainer.co_player = ApiPlayer('{model}')
trainer.train()
trainer.save_model('build/server')
pandas.DataFrame(trainer.history).to_csv('build/server/curves.csv', index=False)\""""

_ORGANISM = (
    "Ours is a model organism of 0.1 million parameters with a kind prior of our making; orderings are all that it can "
    "share with a large model."
)

FIGURES: Mapping[str, PaperFigure] = {
    "aa_1a": PaperFigure(
        "AA", "fig. 1a: the sign table", "03", ("aa_fig1a",), ("sign_table",), sign_table, _notebook("03"),
    ),
    "aa_1b": PaperFigure(
        "AA", "fig. 1b: the policy learned in the prisoner's dilemma", "04", ("aa_fig1b",), ("ipd_policy",), ipd_policy,
        _notebook("04"),
        "The paper's settings for this figure are not public. Ours retaliates more surely and forgives a bit less; in "
        "CD, DC and DD the two agree only within the printed error bars.",
    ),
    "aa_2": PaperFigure(
        "AA", "fig. 2: the Coin Game league", "05", ("aa_fig2",), ("coin_league",), coin_league, _notebook("05"),
        "POLA and M-FOS are not in our league. Ours trains for a minute, with small networks; in the settings that we "
        "tried, what is harder for a defector is harder for a cooperator too.",
    ),
    "aa_3": PaperFigure(
        "AA", "fig. 3: the Negotiation league", "06", ("aa_fig3",), ("negotiation_league",), negotiation_league,
        _notebook("06"),
        "We have no table of the printed numbers. The values are on the table, so cooperation needs no memory, and "
        "retaliation has little to win.",
    ),
    "aa_3_sample": PaperFigure(
        "AA", "fig. 3: a sample negotiation", "06", ("negotiation_sample",), ("negotiation_episode",), None,
        _notebook("06"),
    ),
    "aa_appendix": PaperFigure(
        "AA", "appendix: learning curves in Negotiation", "06", ("negotiation_learning_curves",),
        ("negotiation_curves",), negotiation_curves, _notebook("06"),
        "We have no numbers of these curves. Training stops in time, as it does by a rule in the paper's code.",
    ),
    "aa_4": PaperFigure(
        "AA", "fig. 4: Commons Harvest, scores in two scenarios", "07", ("aa_fig4",), ("harvest",), harvest_scores,
        _notebook("07"),
        "The published scores are normalised, and of the best of ten seeds; ours are returns, means over seeds: only "
        "their order can be compared. In ours the background players are two scripts, who end the small map whatever "
        "the five others do.",
    ),
    "aa_5": PaperFigure(
        "AA", "fig. 5: Commons Harvest, what becomes of the apples", "07", ("aa_fig5", "harvest_apples"), ("harvest",),
        harvest_apples, _notebook("07"),
        "The paper shows frames of games on the published map; what is compared are counts on a small one.",
    ),
    "llm_naive": PaperFigure(
        "LLM", "naive RL turns greedy", "09", ("llm_naive", "llm_naive_claims"), ("llm_training",), naive_turns_greedy,
        _run("09", "ipd-naive-0"), _ORGANISM,
    ),
    "llm_other_models": PaperFigure(
        "LLM", "naive RL with Qwen3-8B, Llama-3.1-8B and gemma-3-4b", "09", (), ("llm_training",), other_models,
        _run("09", *(f"ipd-{variant}-0" for variant in settings.OTHER_MODELS)),
        "For naive_qwen3, the model's chat template has to be set not to think, by a local copy of the model.",
        verdicts.NEEDS_GPU,
    ),
    "llm_exploits": PaperFigure(
        "LLM", "a naive learner exploits a fixed player", "09", ("llm_naive_exploits",), ("llm_training",),
        naive_exploits, _run("09", "ipd-naive_vs_kind-0"),
        "The paper's fixed player is a stronger model; ours is the untrained prior, which is only a kinder one.",
    ),
    "llm_closed": PaperFigure(
        "LLM", "a naive learner opposite gpt-5-nano and gemini", "09", (), (), None,
        _AGAINST_SERVER.format(model="gpt-5-nano"),
        "The player is a server that speaks OpenAI's protocol: set OPENAI_API_KEY, and OPENAI_BASE_URL for gemini's. "
        "Not tried by us.",
        verdicts.CLOSED_MODEL,
    ),
    "llm_gpt_oss": PaperFigure(
        "LLM", "a naive learner opposite gpt-oss-120b", "09", (), (), None,
        _AGAINST_SERVER.format(model="openai/gpt-oss-120b"),
        "Its weights are open: serve them (`vllm serve openai/gpt-oss-120b`) and set OPENAI_BASE_URL to that server. "
        "Not tried by us.",
        verdicts.NEEDS_GPU,
    ),
    "llm_curves": PaperFigure(
        "LLM", "learning curves of Advantage Alignment, naive and sum of rewards", "10",
        ("llm_learning_curves", "llm_claims"), ("llm_training",), aligned_learns,
        _run("10", "ipd-advantage_alignment-0"), _ORGANISM,
    ),
    "llm_policy": PaperFigure(
        "LLM", "conditional policies in the prisoner's dilemma", "10", ("llm_policy",), ("llm_policy",),
        conditional_policy, _notebook("10"),
        "Retaliation comes in every seed; forgiveness is what seeds differ in: some are tit for tat, others are not.",
    ),
    "llm_crossplay": PaperFigure(
        "LLM", "cross-play matrices", "10", ("llm_crossplay",), ("llm_crossplay",), crossplay, _notebook("10"),
        _ORGANISM + " In Trust-and-Split naive agents stand for greed, as in the paper; against our greedy script AA "
        "is no safer there than the sum of rewards.",
    ),
    "llm_ablations": PaperFigure(
        "LLM", "ablations: no agent buffer, no group baseline", "10", ("llm_ablations",), ("llm_training",), ablations,
        _run("10", "ipd-aa_no_buffer-0"),
        "Training is short here and stops while agents cooperate, which may be too soon for either part to matter.",
    ),
    "llm_teaches": PaperFigure(
        "LLM", "a naive learner opposite a fixed Advantage Alignment agent", "10", ("llm_naive_vs_aligned",),
        ("llm_training",), teaches, _run("10", "ipd-naive_vs_aligned-0"),
        "The paper shows it in Trust-and-Split, we in the prisoner's dilemma and in Split.",
    ),
    "llm_transcripts": PaperFigure(
        "LLM", "transcripts of Trust-and-Split", "11", ("llm_honesty", "llm_lies"), ("llm_honesty",), transcripts,
        _notebook("11"),
        "The transcripts stand in notebook 11; the pictures count what is said and claimed in many games.",
    ),
}  # fmt: skip


def reader(profile: str, seeds: int | None = None) -> Load:
    """Reads tables of a profile, of the first `seeds` seeds; each once."""

    @cache
    def load(name: str) -> pd.DataFrame:
        table = records.read_table(profile, name)
        columns = [column for column in records.SEED_COLUMNS if column in table]
        return table[(table[columns] < seeds).all(axis=1)] if seeds and columns else table

    return load


def entry(figure: PaperFigure, load: Load) -> Entry:
    """Compare one figure."""
    try:
        tables = [load(name) for name in figure.tables]
        numbers, orderings = figure.compare(load) if figure.compare else ([], [])
    except (FileNotFoundError, NoRunError):
        return Entry(figure, Verdict(figure.lacks or verdicts.NO_RUN))
    if figure.lacks and not numbers and not orderings:
        return Entry(figure, Verdict(figure.lacks))
    seeds = max((records.count_seeds(table) or 0 for table in tables), default=0)
    return Entry(figure, verdicts.judge(numbers, orderings), tuple(numbers), tuple(orderings), seeds)


def page(profile: str, seeds: int | None = None) -> dict[str, Entry]:
    """Every figure of both papers, compared with the tables of a profile."""
    load = reader(profile, seeds)
    return {key: entry(figure, load) for key, figure in FIGURES.items()}
