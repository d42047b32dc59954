"""The README's generated parts: tables of our numbers beside the published ones, the verdicts, the gallery.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from aa_core import league
from aa_core.estimates import Estimate, show
from aa_core.games.matrix import STATES
from experiments import claims, figures, paths
from experiments.claims import AA, GREEDY, KIND, NAIVE, SUM, TEXT_GAMES, Load
from experiments.page import page, reader
from experiments.pictures import PICTURES


def table(*rows: tuple[object, ...]) -> str:
    """Markdown of a table, header first."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def notebook_link(number: str) -> str:
    """Markdown link to a notebook by its number."""
    (path,) = (paths.ROOT / "notebooks").glob(f"{number}_*.ipynb")
    return f"[{number}](notebooks/{path.name})"


def gallery(_: Load) -> str:
    """All pictures, two in a row."""
    cells = [
        f'<img src="figures/{name}.png" width="400" alt="{picture.caption}"><br>{picture.caption} '
        f"({notebook_link(picture.notebook)})"
        for name, picture in PICTURES.items()
    ]
    cells += [""] * (len(cells) % 2)
    return table(("", ""), *zip(cells[::2], cells[1::2], strict=True))


def results(load: Load) -> str:
    """AA fig. 1b: ours with intervals over seeds, beside the published numbers."""
    published = pd.read_csv(paths.PUBLISHED / "aa_ipd_policy.csv").set_index("state").probability_of_cooperation
    rows = [
        (state, show(claims.policy(state).statistic(load).interval()), f"{published[state]:.2f}") for state in STATES
    ]
    policies = load("ipd_policy")
    seeds = policies[policies.algorithm == AA].seed.nunique()
    header = ("P(cooperate) in state", "ours: mean [95% interval]", "published")
    return f"{table(header, *rows)}\n\n{seeds} seeds, two learners each."


def language_models(load: Load) -> str:
    """The three algorithms in every game that has runs, with intervals over seeds."""
    training = load("llm_training")
    rows = []
    for name, game in TEXT_GAMES.items():
        for algorithm in (NAIVE, SUM, AA):
            runs = training[(training.game == name) & (training.algorithm == algorithm)]
            if len(runs):
                metrics = (game.together, f"reward_vs_{game.greedy}")
                cells = [show(claims.llm(name, algorithm, metric).statistic(load).interval()) for metric in metrics]
                rows.append((game.title, figures.LABELS[algorithm], *cells, runs.seed.nunique()))
    header = ("game", "algorithm", "cooperation or efficiency in self-play", "points a round against greed", "seeds")
    return table(header, *rows)


def leagues(load: Load) -> str:
    """Both leagues: what each agent earns per step from itself and from two scripts, with intervals."""
    rows = []
    for game in ("coin", "negotiation"):
        played = load(f"{game}_league")
        for agent in played.row_agent.unique():
            if agent == "random":
                continue
            cells = [league.cell(played, agent, partner, claims.SCRIPTS) for partner in (agent, KIND, GREEDY)]
            scripted = agent in claims.SCRIPTS
            texts = [f"{cell.value + 0.0:.2f}" if scripted else show(cell.interval()) for cell in cells]
            seeds = "scripted" if scripted else played[played.row_agent == agent].row_seed.nunique()
            rows.append((game, figures.LABELS.get(agent, agent), *texts, seeds))
        if game == "coin":
            printed = pd.read_csv(paths.PUBLISHED / "aa_coin_game_league.csv").set_index("column_agent").row_reward
            partners = ("AdAlign", "Always Cooperate", "Always Defect")
            rows.append((game, "Advantage Alignment, published", *(f"{printed[name]:.2f}" for name in partners), 10))
    header = ("game", "agent", "against itself", f"against {KIND}", f"against {GREEDY}", "seeds")
    return table(header, *rows)


def commons(load: Load) -> str:
    """Commons Harvest: the metrics of each algorithm, with intervals over seeds."""
    measured = load("harvest")
    columns = {
        "collective_return": ("apples eaten by all", 1),
        "sustainability": ("sustainability", 0),
        "equality": ("equality", 2),
        "apples_at_end": ("apples alive at the end", 1),
        "scenario_peaceful": ("apples of a focal player beside two free harvesters", 2),
    }

    def estimate(algorithm: str, metric: str) -> Estimate:
        rows = (("algorithm", algorithm), ("metric", metric))
        return claims.Runs("harvest", metric, algorithm, rows, seeds=algorithm).statistic(load).interval()

    rows = [
        (
            figures.LABELS[algorithm],
            *(show(estimate(algorithm, metric), digits) for metric, (_, digits) in columns.items()),
        )
        for algorithm in measured.algorithm.unique()
    ]
    header = ("agent", *(title for title, _ in columns.values()))
    return f"{table(header, *rows)}\n\n{measured.players.max()} players, {measured.seed.nunique()} seeds."


def verdicts(load: Load) -> str:
    """Every figure of both papers, with its verdict."""
    rows = [
        (f"{found.figure.paper}, {found.figure.title}", found.verdict.verdict, notebook_link(found.figure.notebook))
        for found in page(load).values()
    ]
    return table(("figure", "verdict", "ours"), *rows)


GENERATED: dict[str, Callable[[Load], str]] = {part.__name__: part for part in (verdicts,)}


def update(readme_text: str, profile: str) -> str:
    """The README with its generated parts drawn from the tables of a profile.

    Raises:
        ValueError: a part does not stand in the README exactly once.
    """
    load = reader(profile, stale=True)
    for name, make in GENERATED.items():
        start, end = f"<!-- generated: {name} -->\n", "<!-- end -->\n"
        if readme_text.count(start) != 1 or end not in readme_text.split(start)[1]:
            raise ValueError(f"README must have one part between {start.strip()} and {end.strip()}")
        before, rest = readme_text.split(start)
        readme_text = before + start + make(load) + "\n" + end + rest.split(end, 1)[1]
    return readme_text
