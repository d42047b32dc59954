"""Check figures, and put what was executed where readers see it: notebooks with outputs, and the README's gallery.

python -m aa_core.publish
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from aa_core import commons_runs, figures, paper_figures, paths, records
from aa_core.games.matrix import STATES
from aa_core.league import summarise
from aa_core.league_runs import AGENTS
from aa_core.llm import results as llm_results

CAPTIONS = {
    "overview": "The idea in one picture: what is learned, and what it earns",
    "naive_basins": "Where naive learning ends, from a grid of starts",
    "naive_trajectories": "Naive learning, every start",
    "lola_basins": "What exact LOLA ends with, by the size of the imagined step",
    "theorem1_angles": "How far real policies are from AA's Theorem 1",
    "aa_fig1a": "AA fig. 1a: the sign table, from the computed product",
    "partition_term": "The partition term that AA drops: cosines along training",
    "exact_outcomes": "Exact ascent: from defection through tit for tat to grim trigger",
    "aa_fig1b": "AA fig. 1b: the learned policy, ours beside the published bars",
    "ipd_learning_curves": "Five rules in self-play, every seed",
    "ipd_long": "Trained on: tit for tat fades into grim trigger",
    "ipd_sweep": "Map of outcomes over beta, gamma and learning rate",
    "nash_stability": "Which Nash equilibria are stable under which rule",
    "ipd_tournament": "Against the Axelrod library, and the worst case",
    "coin_learning_curves": "Coin Game: every seed against itself, a cooperator and a defector",
    "aa_fig2": "AA fig. 2: the Coin Game league, ours beside the published numbers",
    "coin_episode": "A game of two trained agents, and one against always defect, step by step",
    "coin_map": "The map of settings in the Coin Game",
    "shaping_cost": "The price of opponent shaping",
    "negotiation_learning_curves": "Negotiation: every seed against itself, a cooperator and a defector",
    "aa_fig3": "AA fig. 3: the Negotiation league",
    "negotiation_long": "Trained on: cooperation in Negotiation does not last",
    "negotiation_sample": "A sample negotiation, step by step",
    "negotiation_map": "The map of settings in Negotiation",
    "harvest_dilemma": "Commons Harvest: what a patch can give, and what a free rider wins",
    "harvest_learning_curves": "Commons Harvest: the four metrics along training, every seed",
    "harvest_apples": "Commons Harvest: apples alive and eaten along an episode, every seed",
    "harvest_credit": "Commons Harvest: what the credit says of eating an apple, by what the patch loses",
    "aa_fig5": "AA fig. 5: the orchard at three moments, by algorithm",
    "aa_fig4": "AA fig. 4: focal returns beside strangers, ours and published, each on its own scale",
    "harvest_players": "Commons Harvest: two, four and seven players, and one who never cooperates",
    "harvest_published_map": "Commons Harvest on the published map, every seed",
    "harvest_variants": "Commons Harvest: strength, aggregate, past and agent buffer, one change at a time",
    "baseline_variance": "Variance of the policy gradient by baseline and group size",
    "baseline_bias": "Bias of the baselines, and of GAE with a wrong critic",
    "baseline_llm": "The same on the embedded language model",
    "llm_naive": "LLM paper: naive RL on a kind language model, three games (model organism), every seed",
    "llm_naive_claims": "What greed is in the sharing games: claiming what the other values more",
    "llm_naive_exploits": "LLM paper: a naive learner opposite a fixed kind player",
    "llm_credit_terms": "Which way the two terms of the credit push, before and after cooperation has broken down",
    "llm_sharing": "Why cooperation falls first: tables whose states move together, every seed",
    "llm_learning_curves": "LLM paper: Advantage Alignment, naive and sum of rewards in self-play",
    "llm_policy": "LLM paper: P(cooperate) after each joint move, every seed",
    "llm_crossplay": "LLM paper: everybody against everybody",
    "llm_claims": "Claims on what is worth more and less to oneself, by algorithm",
    "llm_ablations": "One change at a time: together, and against greed",
    "llm_naive_vs_aligned": "LLM paper: a naive learner opposite a fixed Advantage Alignment agent",
    "llm_honesty": "Trust-and-Split: who lies, and who claims with the lower hand",
    "llm_lies": "Trust-and-Split: what a true and a false message of the lower hand earn",
    "verdicts": "Every figure of both papers, by verdict",
}


# what the JSON beside a figure must have; `figures.save` writes it
SIDECAR = ("figure", "notebook", "parameters", "data", "seeds", "seconds", "drawn", "git_commit", "packages")


def check_figures(folder: str | Path, notebooks: Sequence[str]) -> None:
    """Refuse a figure without a past.

    Raises:
        ValueError: a picture in `folder` has no JSON beside it, or one that lacks an entry of `SIDECAR` or names a
            notebook which does not exist.
    """
    for picture in sorted(Path(folder).glob("*.png")):
        sidecar = picture.with_suffix(".json")
        if not sidecar.is_file():
            raise ValueError(f"figure {picture.name} has no {sidecar.name}: draw it with aa_core.figures.save")
        record = json.loads(sidecar.read_text(encoding="utf-8"))
        if missing := [key for key in SIDECAR if key not in record]:
            raise ValueError(f"{sidecar.name} lacks {', '.join(missing)}: draw the figure with aa_core.figures.save")
        notebook = record["notebook"]
        if notebook.removesuffix(".ipynb") not in notebooks:
            raise ValueError(f"figure {picture.name} comes from {notebook!r}, which is not one of the notebooks")


def gallery() -> str:
    """Markdown table of all figures, two in a row."""
    cells = []
    for name, caption in CAPTIONS.items():
        record = json.loads((paths.FIGURES / f"{name}.json").read_text(encoding="utf-8"))
        link = f"[{record['notebook'][:2]}](notebooks/{record['notebook']})"
        cells.append(f'<img src="figures/{name}.png" width="400" alt="{caption}"><br>{caption} ({link})')
    rows = [cells[i : i + 2] + [""] * (2 - len(cells[i : i + 2])) for i in range(0, len(cells), 2)]
    return "\n".join(["| | |", "|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def results() -> str:
    """Markdown table of AA fig. 1b: ours with intervals over seeds, beside the published numbers."""
    policies = records.read_table("laptop", "ipd_policy")
    policies = policies[policies.algorithm == "advantage_alignment"]
    published = pd.read_csv(paths.PUBLISHED / "aa_ipd_policy.csv").set_index("state").probability_of_cooperation
    lines = ["| P(cooperate) in state | ours: mean [95% interval] | published |", "|---|---|---|"]
    for state in STATES:
        per_seed = policies[policies.state == state].groupby("seed").probability.mean()
        mean, low, high = figures.interval(per_seed.to_numpy())
        lines.append(f"| {state} | {mean:.2f} [{low:.2f}, {high:.2f}] | {published[state]:.2f} |")
    return "\n".join([*lines, "", f"{policies.seed.nunique()} seeds, two learners each."])


def language_models() -> str:
    """Markdown table of the three algorithms in every game that has runs, with intervals over seeds."""
    table = records.read_table("laptop", "llm_training")
    titles = {"ipd": "prisoner's dilemma", "split": "Split", "trust_and_split": "Trust-and-Split"}
    lines = [
        "| game | algorithm | cooperation or efficiency in self-play | points a round against greed | seeds |",
        "|---|---|---|---|---|",
    ]
    for game in llm_results.games_of(table, "advantage_alignment"):
        metrics = (llm_results.TOGETHER[game], f"reward_vs_{llm_results.SCRIPTS[game][1]}")
        for algorithm in ("naive", "sum_of_rewards", "advantage_alignment"):
            values = [llm_results.final(table, game, algorithm, metric) for metric in metrics]
            cells = [llm_results.show(llm_results.mean_interval(value)) for value in values]
            lines.append(f"| {titles[game]} | {figures.LABELS[algorithm]} | {' | '.join(cells)} | {len(values[0])} |")
    return "\n".join(lines)


def leagues() -> str:
    """Markdown table of both leagues: what each agent earns per step against three partners, with intervals."""
    lines = [
        "| game | agent | against itself | against always cooperate | against always defect | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for game, agents in AGENTS.items():
        table = records.read_table("laptop", f"{game}_league")
        cells = summarise(table).set_index(["row_agent", "column_agent"])
        for agent in (*agents, "always cooperate", "always defect"):
            found = [cells.loc[agent, partner] for partner in (agent, "always cooperate", "always defect")]
            ends = [[round(x, 2) + 0.0 for x in (c.row_reward, c.low, c.high)] for c in found]  # never -0.00
            texts = [f"{mean:.2f} [{low:.2f}, {high:.2f}]" for mean, low, high in ends]
            seeds = table[table.row_agent == agent].row_seed.nunique()
            if agent.startswith("always"):
                texts, seeds = [text.split(" [")[0] for text in texts], "scripted"
            lines.append(f"| {game} | {figures.LABELS.get(agent, agent)} | {' | '.join(texts)} | {seeds} |")
        if game == "coin":
            published = pd.read_csv(paths.PUBLISHED / "aa_coin_game_league.csv").set_index("column_agent").row_reward
            printed = [f"{published[name]:.2f}" for name in ("AdAlign", "Always Cooperate", "Always Defect")]
            lines.append(f"| coin | Advantage Alignment, published | {' | '.join(printed)} | 10 |")
    return "\n".join(lines)


def verdict_table() -> str:
    """Markdown table of every figure of both papers, with its verdict."""
    lines = ["| figure | verdict | ours |", "|---|---|---|"]
    for entry in paper_figures.page("laptop").values():
        figure = entry.figure
        (notebook,) = [path.name for path in (paths.ROOT / "notebooks").glob(f"{figure.notebook}_*.ipynb")] or [""]
        ours = f"[{figure.notebook}](notebooks/{notebook})" if notebook else figure.notebook
        lines.append(f"| {figure.paper}, {figure.title} | {entry.verdict.verdict} | {ours} |")
    return "\n".join(lines)


def commons() -> str:
    """Markdown table of Commons Harvest: the metrics of each algorithm, with Student intervals over seeds."""
    table = records.read_table("laptop", "harvest")
    metrics = {"collective_return": 1, "sustainability": 0, "equality": 2, "apples_at_end": 1, "scenario_peaceful": 2}
    lines = [
        "| agent | apples eaten by all | sustainability | equality | apples alive at the end | "
        "apples of a focal player beside two free harvesters |",
        "|---|---|---|---|---|---|",
    ]
    for algorithm, rows in table.groupby("algorithm", sort=False):
        found = [rows[rows.metric == metric].value.to_numpy() for metric in metrics]
        cells = [
            llm_results.show(llm_results.mean_interval(values), digits)
            for values, digits in zip(found, metrics.values(), strict=True)
        ]
        lines.append(f"| {figures.LABELS[algorithm]} | {' | '.join(cells)} |")
    game, seeds = commons_runs.game_of("laptop"), table.seed.nunique()
    return "\n".join([*lines, "", f"{game.num_players} players, {game.horizon} steps, {seeds} seeds."])


GENERATED = {
    "gallery": gallery,
    "results": results,
    "language_models": language_models,
    "leagues": leagues,
    "commons": commons,
    "verdicts": verdict_table,
}


def fill(text: str) -> str:
    """Replace what stands between `<!-- generated: NAME -->` and `<!-- end -->` in a README."""
    for name, make in GENERATED.items():
        start, end = f"<!-- generated: {name} -->\n", "<!-- end -->\n"
        if text.count(start) != 1 or end not in text.split(start)[1]:
            raise ValueError(f"README must have one part between {start.strip()} and {end.strip()}")
        before, rest = text.split(start)
        text = before + start + make() + "\n" + end + rest.split(end, 1)[1]
    return text


def main() -> None:
    """Copy executed notebooks of profile laptop over their sources and fill the README."""
    for source in sorted((paths.ROOT / "notebooks").glob("*.ipynb")):
        executed = paths.ROOT / "build" / "laptop" / source.name
        if executed.is_file():
            touched = source.stat()
            records.write_atomically(source, executed.read_text(encoding="utf-8"))
            os.utime(source, ns=(touched.st_atime_ns, touched.st_mtime_ns))  # outputs only: nothing to execute again
    readme = paths.ROOT / "README.md"
    records.write_atomically(readme, fill(readme.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
