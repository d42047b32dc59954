"""The rule that gives verdicts, in closed cases; what is claimed, turned round; and the page that shows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import judge as verdicts
from experiments import page, paths, records, registry
from experiments.claims import CLAIMS, OURS, Cell, Claim, NoRunError, Quantity, Runs, Sign
from experiments.judge import MARGIN, Number, Ordering, judge
from experiments.page import FIGURES, entry
from experiments.pictures import PICTURES, drawn_by, pictures_of

RIGHT, WRONG, OPEN = (Ordering("A > B", gap) for gap in ((0.3, 0.1, 0.5), (-0.3, -0.5, -0.1), (0.1, -0.1, 0.3)))
SINGLE = Ordering("A > B", (0.3, np.nan, np.nan))
NEAR, FAR = Number("reward", (0.3, 0.2, 0.4), 0.35), Number("reward", (0.3, 0.2, 0.4), 0.6)


# --- the rule


@pytest.mark.parametrize(
    ("numbers", "orderings", "verdict"),
    [
        ([NEAR], [RIGHT], verdicts.REPRODUCED),
        ([NEAR], [], verdicts.REPRODUCED),
        ([NEAR, FAR], [RIGHT, RIGHT], verdicts.OTHER_SCALE),
        ([], [RIGHT], verdicts.NO_NUMBERS),
        ([NEAR], [RIGHT, OPEN], verdicts.NOT_REPRODUCED),
        ([NEAR], [WRONG], verdicts.NOT_REPRODUCED),
        ([FAR], [], verdicts.NOT_REPRODUCED),
        ([], [SINGLE], verdicts.ONE_SEED),
        ([], [SINGLE, WRONG], verdicts.NOT_REPRODUCED),
        ([Number("reward", (0.3, np.nan, np.nan), 0.3)], [], verdicts.ONE_SEED),
        ([], [], verdicts.ILLUSTRATION),
    ],
)
def test_every_line_of_the_rule(numbers: list[Number], orderings: list[Ordering], verdict: str) -> None:
    assert judge(numbers, orderings).verdict == verdict
    assert verdict in verdicts.VERDICTS


def test_what_failed_is_listed_orderings_first() -> None:
    found = judge([NEAR, replace(FAR, what="far")], [RIGHT, replace(OPEN, what="open")])
    assert found.failed == ("open", "far")
    assert judge([NEAR], [RIGHT]).failed == ()


def test_a_number_agrees_up_to_its_margin_outside_the_interval() -> None:
    ours = (0.25, 0.0, 0.5)  # binary fractions: the borders are exact
    for published, margin, agrees in (
        (0.75, 0.25, True),
        (0.76, 0.25, False),
        (-0.25, 0.25, True),
        (-0.26, 0.25, False),
    ):
        assert Number("x", ours, published, margin).agrees is agrees
    assert Number("x", ours, 0.5, 0.0).agrees
    assert not Number("x", ours, 0.25, None).agrees, "other units"
    with pytest.raises(ValueError, match=r"margin must be None or at least 0, got -0\.1"):
        Number("x", ours, 0.25, -0.1)


def test_an_ordering_whose_interval_touches_zero_does_not_hold() -> None:
    assert not Ordering("A > B", (0.1, 0.0, 0.2)).holds
    assert Ordering("A > B", (0.1, 1e-9, 0.2)).holds
    assert not SINGLE.holds


value = st.floats(-2, 2).map(lambda x: round(x, 3))
estimates = st.tuples(value, value, value).map(lambda three: (sorted(three)[1], min(three), max(three)))
numbers = st.lists(st.builds(Number, st.just("n"), estimates, value, st.one_of(st.none(), st.floats(0, 1))), max_size=4)
orderings = st.lists(st.builds(Ordering, st.just("o"), estimates), max_size=4)
RANK = [verdicts.NOT_REPRODUCED, verdicts.OTHER_SCALE, verdicts.REPRODUCED]


@given(numbers, orderings, st.floats(0, 1))
def test_the_rule_does_not_depend_on_order_and_larger_margins_never_harm(
    some: list[Number], others: list[Ordering], more: float
) -> None:
    found = judge(some, others)
    turned = judge(some[::-1], others[::-1])
    assert turned.verdict == found.verdict
    assert sorted(turned.failed) == sorted(found.failed)
    if some:
        wider = [number if number.margin is None else replace(number, margin=number.margin + more) for number in some]
        assert RANK.index(judge(wider, others).verdict) >= RANK.index(found.verdict)


@given(numbers, orderings)
def test_reproduced_means_that_nothing_failed(some: list[Number], others: list[Ordering]) -> None:
    found = judge(some, others)
    failing = [claim.what for claim in others if not claim.holds] + [claim.what for claim in some if not claim.agrees]
    assert (found.verdict == verdicts.REPRODUCED) == bool(some and not failing)
    assert list(found.failed) == failing
    if others and any(claim.gap[2] < 0 for claim in others):
        assert found.verdict == verdicts.NOT_REPRODUCED


# --- the claims, each on a table of its own


def rows_of(quantity: Quantity, level: float, seeds: int = 3) -> pd.DataFrame:
    """Rows of a table in which a quantity is `level`, give or take a bit by seed."""
    if isinstance(quantity, Sign):
        past, present = [2.0 * quantity.past] * 2, [1.0 * quantity.present, 0.5 * quantity.present]
        return pd.DataFrame({"past": past, "present": present, "term": [level, 3 * level]})
    noise = 0.01 * (np.arange(seeds) - (seeds - 1) / 2)
    fixed = dict(quantity.rows)
    if isinstance(quantity, Cell):
        pairs = {"row_agent": quantity.row, "column_agent": quantity.column}
        grid = pd.MultiIndex.from_product([range(seeds)] * 2, names=["row_seed", "column_seed"]).to_frame(index=False)
        return grid.assign(**fixed, **pairs, **{quantity.value: level + noise[grid.row_seed]})
    table = pd.DataFrame({"seed": range(seeds), quantity.column: level + noise}).assign(**fixed)
    return table if quantity.at == "mean" else table.assign(update={"first": 0, "last": 9}[quantity.at])


def world(claim: Claim, left: float, right: float, seeds: int = 3) -> Callable[[str], pd.DataFrame]:
    """Reads a table in which the two sides of a claim are what is given."""
    parts = [rows_of(claim.left, left, seeds)]
    if not isinstance(claim.right, float):
        parts.append(rows_of(claim.right, right, seeds))
        assert claim.right.table == claim.left.table
    other = parts[0].assign(**{parts[0].columns[-1]: "nobody's"})
    table = pd.concat([*parts, other] if isinstance(claim.left, Runs) and claim.left.at == "mean" else parts)
    return {claim.left.table: table.reset_index(drop=True)}.__getitem__


NUMBERS = [claim for claim in CLAIMS if isinstance(claim.right, float)]
ORDERINGS = [claim for claim in CLAIMS if not isinstance(claim.right, float)]


@pytest.mark.parametrize("figure", sorted({claim.figure for claim in ORDERINGS}))
def test_an_ordering_that_is_turned_round_fails(figure: str) -> None:
    for claim in (claim for claim in ORDERINGS if claim.figure == figure):
        turned = replace(claim, left=claim.right, right=claim.left)
        for load, holds in ((world(claim, 2.0, 1.0), True), (world(claim, 1.0, 2.0), False)):
            found, against = claim.compare(load), turned.compare(load)
            assert found.holds is holds, claim.what
            assert against.holds is not holds, claim.what
            assert found.gap[0] == pytest.approx(1.0 if holds else -1.0)
            assert against.gap == pytest.approx((-found.gap[0], -found.gap[2], -found.gap[1]))
            assert judge([], [found]).verdict == (verdicts.NO_NUMBERS if holds else verdicts.NOT_REPRODUCED)


@pytest.mark.parametrize("figure", sorted({claim.figure for claim in NUMBERS}))
def test_a_number_agrees_near_the_printed_one_only(figure: str) -> None:
    for claim in (claim for claim in NUMBERS if claim.figure == figure):
        far = -claim.right if isinstance(claim.left, Sign) else claim.right + 1.0
        near, other = (claim.compare(world(claim, level, 0.0)) for level in (claim.right, far))
        assert near.published == claim.right
        assert near.agrees is (claim.margin is not None), claim.what
        assert not other.agrees, claim.what


def test_one_seed_settles_nothing_and_a_missing_run_is_missing() -> None:
    for claim in CLAIMS:
        if isinstance(claim.left, Sign) or getattr(claim.left, "seeds", "prior") == "":
            continue
        found = claim.compare(world(claim, 2.0, 1.0, seeds=1))
        assert np.isnan((found.ours if isinstance(found, Number) else found.gap)[1]), claim.what
        with pytest.raises(NoRunError, match="no runs with"):
            claim.compare(lambda name, one=claim: world(one, 2.0, 1.0)(name).iloc[:0])


def test_claims_are_different_and_say_what_and_where_from() -> None:
    assert len({(claim.figure, claim.what) for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.source for claim in CLAIMS)
    assert {claim.figure for claim in CLAIMS} <= set(FIGURES)
    assert all(claim.source != OURS for claim in NUMBERS), "what is printed is not ours"
    margins = {claim.left.who: claim.margin for claim in NUMBERS if claim.figure == "aa_1b"}
    assert margins["START"] == MARGIN
    assert margins["CD"] == 0.2, "the printed error bar"


# --- the page


def nothing(name: str) -> pd.DataFrame:
    raise records.MissingTable(name)


def test_without_tables_nothing_is_claimed() -> None:
    for found in page.page(nothing).values():
        assert found.verdict.verdict == found.figure.lacks
        assert not found.numbers + found.orderings


def test_every_figure_with_a_papers_name_is_on_the_page() -> None:
    named = {name for name, picture in PICTURES.items() if re.match(r"AA fig\.|LLM paper", picture.caption)}
    assert named <= {name for name, picture in PICTURES.items() if picture.shows}
    for picture in PICTURES.values():
        assert picture.notebook in registry.NOTEBOOKS
        assert not picture.shows or FIGURES[picture.shows].notebook == picture.notebook


def test_notebooks_draw_the_pictures_of_the_list() -> None:
    for number, notebook in registry.NOTEBOOKS.items():
        sources = [cell.source for cell in nbformat.read(notebook.path, as_version=4).cells]
        drawn = re.findall(r'figures\.save\(\w+, "(\w+)"', "\n".join(sources))
        assert sorted(drawn) == sorted(drawn_by(number)), notebook.name


def test_notebook_shows_and_judges_every_figure() -> None:
    cells = nbformat.read(paths.ROOT / "notebooks" / "12_every_figure.ipynb", as_version=4).cells
    sources = [cell.source for cell in cells]
    for key, figure in FIGURES.items():
        place = sources.index(f'details("{key}")')
        assert figure.title[1:] in sources[place - 1], "the picture stands above its verdict"
        assert re.findall(r"\]\(\.\./figures/(\w+)\.png\)", sources[place - 1]) == pictures_of(key)
    assert sum(source.startswith("details(") for source in sources) == len(FIGURES)


def test_commands_name_runs_and_notebooks_that_exist() -> None:
    llm = registry.experiments()["llm"]
    for figure in FIGURES.values():
        assert figure.notebook in registry.NOTEBOOKS
        for variant in re.findall(r"run llm (\S+) 0 --profile paper", figure.command):
            assert llm.run("paper", variant, 0).gpu
        for number in re.findall(r"make notebooks/(\d\d) PROFILE=paper", figure.command):
            assert number == figure.notebook


def test_other_models_get_a_verdict_as_soon_as_they_have_runs() -> None:
    rows = [
        ("split", "naive_llama", seed, update, "efficiency", start - 0.3 * update + 0.01 * seed * update)
        for (seed, start), update in product(((0, 0.9), (1, 0.8)), (0, 1))
    ]
    table = pd.DataFrame(rows, columns=["game", "algorithm", "seed", "update", "metric", "value"])
    found = entry("llm_other_models", {"llm_training": table}.__getitem__)
    assert found.verdict.verdict == verdicts.NO_NUMBERS
    assert [one.what for one in found.orderings] == ["Split, efficiency: naive_llama at the start > at the end"]
    assert found.orderings[0].gap[0] == pytest.approx(0.295)
    assert found.seeds == 2


def harvest(best: str) -> pd.DataFrame:
    """A table of three seeds in which `best` earns most and the sum of rewards least."""
    level = {"proximal_advantage_alignment": 2.0, "ppo": 1.0, "ppo_sum_of_rewards": 0.0, best: 3.0}
    metrics = ("collective_return", "sustainability", "equality", "scenario_zapping", "scenario_peaceful")
    rows = [
        ("orchard", 7, algorithm, seed, metric, level[algorithm] + 0.01 * seed)
        for algorithm, seed, metric in product(level, range(3), metrics)
    ]
    return pd.DataFrame(rows, columns=["map", "players", "algorithm", "seed", "metric", "value"])


@pytest.mark.parametrize(
    ("best", "scores", "apples"),
    [
        ("proximal_advantage_alignment", verdicts.OTHER_SCALE, verdicts.NO_NUMBERS),
        ("ppo", verdicts.NOT_REPRODUCED, verdicts.NOT_REPRODUCED),
    ],
)
def test_a_figure_of_several_claims_is_judged_by_all_of_them(best: str, scores: str, apples: str) -> None:
    load = {"harvest": harvest(best)}.__getitem__
    found = [entry(key, load) for key in ("aa_4", "aa_5")]
    assert [one.verdict.verdict for one in found] == [scores, apples]
    assert found[0].seeds == 3
    assert (len(found[0].numbers), len(found[0].orderings)) == (6, 6)
    assert not any(number.agrees for number in found[0].numbers), "other units"
    alone = {"harvest": harvest(best).query("seed == 0")}.__getitem__
    assert entry("aa_4", alone).verdict.verdict == verdicts.ONE_SEED


def test_the_reader_reads_first_seeds_and_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def table(name: str, profile: str, stale: bool = False) -> pd.DataFrame:
        read.append((name, profile, stale))
        return pd.DataFrame({"row_seed": [0, 1, 2], "column_seed": [0, 0, 3]})

    runs = [type("Run", (), {"is_made": lambda self: True})()]
    made = type("Table", (), {"runs": lambda self, profile: runs})()
    missing = type("Table", (), {"runs": lambda self, profile: [type("Run", (), {"is_made": lambda self: False})()]})()
    monkeypatch.setattr(registry, "tables", lambda: {"coin_league": made, "nobody_has_made_this": missing})
    monkeypatch.setattr(page.tables, "load", table)
    monkeypatch.setattr(page.tables, "read", table)
    load = page.reader("smoke", seeds=2, stale=True)
    assert len(load("coin_league")) == 2
    assert len(load("coin_league")) == 2
    assert len(load("sign_table")) == 2
    assert read == [("coin_league", "smoke", True), ("sign_table", "smoke", False)]
    with pytest.raises(records.MissingTable):
        load("nobody_has_made_this")


def test_committed_verdicts_are_what_the_committed_tables_say() -> None:
    def load(name: str) -> pd.DataFrame:
        return records.read_table(paths.DATA / "laptop" / f"{name}.csv")[0]

    table, found = load("verdicts").set_index("figure"), page.page(load)
    assert list(table.index) == list(found)
    for key, one in found.items():
        row = table.loc[key]
        assert row.verdict == one.verdict.verdict
        assert (row.agree, row.hold) == (sum(n.agrees for n in one.numbers), sum(o.holds for o in one.orderings))
