"""Nobody who has learned nothing passes as Advantage Alignment.

In AA's place stand the untrained policy, the prior of the language models, and each script: in a made-up world in which
everything stated is true, and in the committed tables.
"""

from __future__ import annotations

from functools import cache, partial
from itertools import product

import made_up
import pandas as pd
import pytest

from experiments import dilemmas, harvest, page, paths, records
from experiments.claims import AA, CLAIMS, FREE, GREEDY, KIND, NAIVE, PRIOR, PROXIMAL_AA, RANDOM, Load
from experiments.judge import CONTROL, SHOWN, Verdict
from experiments.language_runs import SCRIPTS
from experiments.page import FIGURES, entry

BETAS, TAUGHT = ("β 0.5", "β 1", "β 2"), "naive_vs_aligned"
ALIGNED = {AA, PROXIMAL_AA, TAUGHT, *BETAS}
ABOUT_AA = sorted(
    {
        claim.figure
        for claim in CLAIMS
        if claim.source not in (*SHOWN, CONTROL) and ALIGNED & {value for side in claim.sides for _, value in side.rows}
    }
)
NULLS = ("untrained", "prior", "kind", "greedy", "random")
# a script that spares apples in thin patches, whoever sits beside it, passes figure 5: notebooks 07 and 12 say so
PASSES = {"aa_5": "published map", "aa_5_orchard": "laptop"}  # -> the setting that it is played in
# what nobody has measured, and those
UNKNOWN = {
    *product(("aa_1b", "aa_1b_table", "aa_2", "aa_2_proximal", "aa_3"), ("prior",)),
    *product(("aa_4", "aa_4_orchard", "aa_5", "aa_5_orchard", "aa_8"), ("prior", "kind")),
    ("llm_crossplay", "random"),
    *product(("llm_curves", "llm_teaches"), ("random",)),
    ("aa_3", "random"),
}  # fmt: skip
# where on our tables a null passes as many claims as our AA does; notebook 12 names them
NO_BETTER = {
    ("aa_4_orchard", "greedy"),
    *product(("aa_5", "aa_5_orchard"), ("untrained", "random")),
    *product(("llm_teaches",), ("untrained", "prior", "kind", "greedy")),
}
PASSING = {Verdict.REPRODUCED, Verdict.PARTLY, Verdict.NO_NUMBERS, Verdict.OTHER_SCALE}


def over_seeds(table: pd.DataFrame, seeds: pd.Series) -> pd.DataFrame:
    """Rows of one seed, for each of these seeds: without noise, so that any difference is one."""
    means = table.drop(columns="seed").groupby(list(table.columns.difference(["seed", "value"])), as_index=False)
    return means.value.mean().merge(pd.DataFrame({"seed": seeds.unique()}), how="cross")


def in_league(table: pd.DataFrame, aligned: str, script: str | None) -> pd.DataFrame:
    """The script's games, under AA's name; None: no games."""
    seeds = table[table.row_agent == aligned].row_seed.unique()
    rest = table[(table.row_agent != aligned) & (table.column_agent != aligned)]
    parts = [rest]
    for row, column in ((True, True), (True, False), (False, True)) if script else ():
        games = rest[(rest.row_agent == script) | (not row)][lambda x, c=column: (x.column_agent == script) | (not c)]
        for name, side in (("row", row), ("column", column)):
            if side:
                games = games.assign(**{f"{name}_agent": aligned}).drop(columns=f"{name}_seed")
                games = games.merge(pd.DataFrame({f"{name}_seed": seeds}), how="cross")
        parts.append(games)
    return pd.concat(parts)


def in_curves(table: pd.DataFrame, aligned: str, script: str | None, games: pd.DataFrame) -> pd.DataFrame:
    """What the script earns in the league, all along training; None: what was learned at update 0."""
    mine = table[table.agent == aligned]
    if script is None:
        start = mine[mine["update"] == 0].drop(columns="update")
        return pd.concat([table[table.agent != aligned], start.merge(mine[["update"]].drop_duplicates(), how="cross")])
    cells = games[games.row_agent.ne(aligned)].groupby(["row_agent", "column_agent"]).row_reward.mean()
    pairs = {
        "reward_self": (script, script), "reward_vs_cooperator": (script, KIND), "reward_of_cooperator": (KIND, script),
        "reward_vs_defector": (script, GREEDY), "reward_of_defector": (GREEDY, script),
    }  # fmt: skip
    values = mine.metric.map({metric: cells[pair] for metric, pair in pairs.items() if pair in cells})
    return pd.concat([table[table.agent != aligned], mine.assign(value=values).dropna()])


def in_place(table: pd.DataFrame, aligned: str, other: pd.DataFrame) -> pd.DataFrame:
    """The rows of another under AA's name, with AA's seeds, and updates where it has some."""
    mine = table[table.algorithm == aligned]
    stranger = over_seeds(other.drop(columns="update", errors="ignore"), mine.seed).assign(algorithm=aligned)
    if "update" in table:
        stranger = stranger.merge(mine[["update"]].drop_duplicates(), how="cross")
    return pd.concat([table[table.algorithm != aligned], stranger])


def harvested(name: str, load: Load, null: str) -> pd.DataFrame:
    table, home = load(name), load("harvest" if name == "harvest_beta" else name.removesuffix("_curves"))
    script = home[home.algorithm == {"greedy": FREE}.get(null, RANDOM)]
    for aligned in (PROXIMAL_AA, *BETAS):
        mine = table[table.algorithm == aligned]
        untrained = null == "untrained" and "update" in table
        other = mine[mine["update"] == 0] if untrained else script[script.metric.isin([*mine.metric, "zaps"])]
        table = in_place(table, aligned, other) if len(mine) else table
    return table


def as_policy(table: pd.DataFrame, null: str) -> pd.DataFrame:
    """AA cooperates with the same probability after every move; or as the prior does."""
    value = "probability" if "probability" in table else "value"
    mine, prior = table.algorithm == AA, table[table.algorithm == PRIOR]
    if null in ("untrained", "prior") and len(prior):
        same = dict(zip(prior.state, prior[value], strict=True))
        return table.assign(**{value: table[value].where(~mine, table.state.map(same))}).dropna()
    level = {"kind": 1.0, "greedy": 0.0}.get(null, 0.5)
    return table.assign(**{value: table[value].where(~mine, level)})


def trained(load: Load, null: str) -> pd.DataFrame:
    """AA's text games are played by its prior or by a script, and a naive learner meets these."""
    table, played, parts = load("llm_training"), load("llm_crossplay"), []
    for game, part in table.groupby("game"):
        games = played[(played.game == game) & (played.metric == "reward")]
        cells = games.groupby(["row_agent", "column_agent"]).value.mean()
        greedy = SCRIPTS[game][1]
        other = part[part.algorithm == PRIOR]
        if null in ("kind", "greedy"):
            script = SCRIPTS[game][null == "greedy"]
            points = {"reward": cells[script, script], f"reward_vs_{greedy}": cells[script, greedy]}
            other = pd.DataFrame({"game": game, "metric": points.keys(), "value": points.values(), "seed": 0})
        part = in_place(part, AA, other.assign(algorithm=AA))
        pupil = part[part.algorithm == (NAIVE if null == "greedy" else "naive_vs_kind")]
        if null == "greedy":  # opposite greed: greed
            pupil = pd.concat([pupil, pupil[pupil.metric == "reward"].assign(metric="reward_other")])
        late = pupil[pupil["update"] == pupil["update"].max()]
        parts.append(in_place(part, TAUGHT, late) if (part.algorithm == TAUGHT).any() else part)
    return pd.concat(parts)


def crossed(table: pd.DataFrame, null: str) -> pd.DataFrame:
    parts = [
        in_league(part, AA, SCRIPTS[game][null == "greedy"] if null in ("kind", "greedy") else PRIOR)
        for (game, _), part in table.groupby(["game", "metric"])
    ]
    return pd.concat(parts)


def with_null(load: Load, null: str) -> Load:
    """Reads tables with a null in AA's place."""
    script = {"kind": KIND, "greedy": GREEDY, "random": RANDOM}.get(null)

    @cache
    def replaced(name: str) -> pd.DataFrame:
        table = load(name)
        if name.startswith("harvest"):
            return harvested(name, load, null)
        if name.startswith("ipd") or name == "llm_policy":
            return as_policy(table, null)
        if name == "llm_training":
            return trained(load, null)
        if name == "llm_crossplay":
            return crossed(table, null)
        for aligned in (AA, PROXIMAL_AA):
            if name.endswith("_league"):  # untrained networks are nearly random, where that has been played
                player = script or RANDOM
                table = in_league(table, aligned, player if player in set(table.row_agent) else None)
            elif name.endswith("_curves") and aligned in set(table.agent):
                table = in_curves(table, aligned, script, load(name.replace("_curves", "_league")))
        return table

    return replaced


@cache
def committed(name: str) -> pd.DataFrame:
    places = (paths.DATA / profile / f"{name}.csv" for profile in ("laptop", "extended"))
    return records.read_table(next((place for place in places if place.is_file()), paths.DATA / f"{name}.csv"))[0]


@pytest.fixture(scope="module")
def world() -> dict[str, pd.DataFrame]:
    return made_up.world()


def test_the_figures_about_advantage_alignment_are_all_there() -> None:
    assert {"aa_1b", "aa_2", "aa_2_proximal", "aa_3", "aa_4", "aa_5", "aa_8", "llm_curves"} <= set(ABOUT_AA)
    assert set(ABOUT_AA) <= set(FIGURES)
    assert {figure for figure, _ in UNKNOWN} <= set(ABOUT_AA)


@pytest.mark.parametrize("figure", ABOUT_AA)
def test_advantage_alignment_passes_where_all_that_is_stated_is_true(
    figure: str, world: dict[str, pd.DataFrame]
) -> None:
    found = entry(figure, made_up.reader(world))
    assert found.verdict in PASSING - {Verdict.OTHER_SCALE}, found.failed
    assert found.failed == ()
    assert found.shown_seeds == "5–9"


@pytest.mark.parametrize(("figure", "null"), [pair for pair in product(ABOUT_AA, NULLS) if pair not in UNKNOWN])
def test_a_null_in_its_place_fails(figure: str, null: str, world: dict[str, pd.DataFrame]) -> None:
    found = entry(figure, with_null(made_up.reader(world), null))
    assert found.verdict == Verdict.NOT_REPRODUCED, (found.verdict, [one for one in found.results if one.passes])


def test_without_controls_the_prior_would_pass(world: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "CLAIMS", [claim for claim in CLAIMS if claim.source != CONTROL])
    for figure in ("llm_curves", "llm_policy"):
        assert entry(figure, with_null(made_up.reader(world), "prior")).verdict in PASSING


def test_a_script_that_answers_nobody_passes_all_that_is_printed_of_negotiation_but_not_the_control(
    world: dict[str, pd.DataFrame],
) -> None:
    claims = {AA: (5.0, 3.5), KIND: (5.0, 0.0), GREEDY: (5.0, 5.0)}  # of what it values more, and less

    def earned(row: str, column: str) -> float:
        (more, less), (other_more, other_less) = claims[row], claims[column]
        return 0.5 * more / max(more + other_less, 5) + 0.1 * less / max(less + other_more, 5)

    cells = made_up.NEGOTIATION | {(row, column): earned(row, column) for row, column in product(claims, claims)}
    assert cells[KIND, GREEDY] == 0.25
    tables = {"negotiation_league": made_up.league(cells), "negotiation_curves": made_up.curves(cells, 0.9)}
    found = entry("aa_3", made_up.reader(world | tables))
    assert found.stated == Verdict.OTHER_SCALE
    assert found.verdict == Verdict.NOT_REPRODUCED
    assert {one.source for one in found.results if one.published is None and not one.passes} == {CONTROL}


@pytest.mark.parametrize("figure", PASSES)
def test_the_one_null_that_passes_is_known(figure: str) -> None:
    setting = harvest.SETTINGS[PASSES[figure]]
    measured = harvest.among_itself(dilemmas.restrained, setting, 2)

    def load(name: str) -> pd.DataFrame:
        table = committed(name)
        mine = table.algorithm == PROXIMAL_AA
        value = table.metric.map(measured).where(mine, table.value)
        return table.assign(value=value)[~mine | table.metric.isin([*measured])]

    found = entry(figure, load)
    assert found.verdict == Verdict.NO_NUMBERS, found.failed
    assert entry(figure, committed).verdict == Verdict.NOT_REPRODUCED


of_null = cache(partial(with_null, committed))


@cache
def judged(figure: str, null: str = "") -> page.Entry:
    """A figure on the committed tables, with one of the nulls in the place of Advantage Alignment."""
    return entry(figure, of_null(null) if null else committed)


@pytest.mark.parametrize("null", NULLS)
def test_no_figure_counts_as_reproduced_by_a_null_on_the_committed_tables(null: str) -> None:
    for figure in ABOUT_AA:
        if (figure, null) not in UNKNOWN:
            assert judged(figure, null).verdict not in PASSING, figure


def test_where_a_null_passes_as_much_as_ours_is_known_and_no_figure_of_these_counts_as_reproduced() -> None:
    def passed(figure: str, null: str = "") -> int:
        return sum(one.passes for one in judged(figure, null).results if one.source not in SHOWN)

    pairs = [pair for pair in product(ABOUT_AA, NULLS) if pair not in UNKNOWN]
    assert {(figure, null) for figure, null in pairs if passed(figure, null) >= passed(figure)} == NO_BETTER
    assert {judged(figure).verdict for figure, _ in NO_BETTER} == {Verdict.NOT_REPRODUCED}
