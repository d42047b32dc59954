"""The rule that gives verdicts, in closed cases; and the list of figures that it is applied to."""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aa_core import experiments, paper_figures, publish, records, verdicts
from aa_core.paper_figures import FIGURES, HARVEST, entry, reader
from aa_core.verdicts import MARGIN, Number, Ordering, judge, widest

ROOT = Path(__file__).parents[1]
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


def test_widest_excludes_zero_exactly_if_the_intervals_do_not_overlap() -> None:
    assert widest((3.0, 2.0, 4.0), (0.5, 0.0, 1.0)) == (2.5, 1.0, 4.0)
    assert widest((3.0, 2.0, 4.0), (2.0, 1.0, 2.5))[1] < 0
    assert np.isnan(widest((3.0, np.nan, np.nan), (0.0, 0.0, 0.0))[1])


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


# --- the list of figures


def test_every_figure_with_a_papers_name_is_on_the_page() -> None:
    shown = {name for figure in FIGURES.values() for name in figure.pictures}
    assert {name for name, caption in publish.CAPTIONS.items() if re.match(r"AA fig\.|LLM paper", caption)} <= shown
    drawn_later = {name for figure in FIGURES.values() if "harvest" in figure.tables for name in figure.pictures}
    assert shown - drawn_later <= set(publish.CAPTIONS)


def test_notebook_shows_and_judges_every_figure() -> None:
    cells = nbformat.read(ROOT / "notebooks" / "12_every_figure.ipynb", as_version=4).cells
    sources = [cell.source for cell in cells]
    for key, figure in FIGURES.items():
        place = sources.index(f'details("{key}")')
        assert figure.title[1:] in sources[place - 1], "the picture stands above its verdict"
        assert re.findall(r"\]\(\.\./figures/(\w+)\.png\)", sources[place - 1]) == list(figure.pictures)
    assert sum(source.startswith("details(") for source in sources) == len(FIGURES)


def test_committed_verdicts_are_what_the_data_say() -> None:
    table = records.read_table("laptop", "verdicts").set_index("figure")
    page = paper_figures.page("laptop")
    assert list(table.index) == list(page)
    for key, found in page.items():
        row = table.loc[key]
        assert row.verdict == found.verdict.verdict
        assert (row.agree, row.hold) == (sum(n.agrees for n in found.numbers), sum(o.holds for o in found.orderings))
        assert f"| {found.figure.paper}, {found.figure.title} | {found.verdict.verdict} |" in publish.verdict_table()


def test_commands_name_runs_and_notebooks_that_exist() -> None:
    runs = experiments.runs("paper")["llm"]
    notebooks = {path.name[:2] for path in (ROOT / "notebooks").glob("*.ipynb")} | {"07"}
    for figure in FIGURES.values():
        assert figure.notebook in notebooks
        for part in re.findall(r"run llm (\S+) --profile paper", figure.command):
            assert part in runs
        for number in re.findall(r"make notebooks/(\d\d) PROFILE=paper", figure.command):
            assert number == figure.notebook
        for program in re.findall(r'python -c "\n(.*)"', figure.command, flags=re.DOTALL):
            compile(program, "command", "exec")
        assert figure.command


def test_without_tables_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "DATA", tmp_path)
    for found in paper_figures.page("smoke").values():
        assert found.verdict.verdict == (found.figure.lacks or verdicts.NO_RUN)
        assert not found.numbers + found.orderings


def test_other_models_get_a_verdict_as_soon_as_they_have_runs() -> None:
    rows = [
        ("split", "naive_llama", seed, update, "efficiency", start - 0.3 * update + 0.01 * seed)
        for (seed, start), update in product(((0, 0.9), (1, 0.8)), (0, 1))
    ]
    table = pd.DataFrame(rows, columns=["game", "algorithm", "seed", "update", "metric", "value"])
    found = entry(FIGURES["llm_other_models"], {"llm_training": table}.__getitem__)
    assert found.verdict.verdict == verdicts.NO_NUMBERS
    assert [ordering.what for ordering in found.orderings] == ["Split, naive_llama: start > end of training"]
    assert found.orderings[0].gap[0] == pytest.approx(0.3)


# --- Commons Harvest, whose table the page bears to be without


def harvest(best: str) -> pd.DataFrame:
    """A table of two maps and three seeds in which `best` earns most and the sum of rewards least."""
    level = {HARVEST["adalign"]: 2.0, HARVEST["ppo"]: 1.0, HARVEST["ppo_prosocial"]: 0.0, best: 3.0}
    metrics = ("collective_return", "sustainability", "equality", "peace", "scenario_zapping", "scenario_peaceful")
    rows = [
        (place, players, algorithm, seed, metric, level[algorithm] + 0.01 * seed)
        for (place, players), algorithm, seed, metric in product((("small", 3), ("open", 7)), level, range(3), metrics)
    ]
    return pd.DataFrame(rows, columns=["map", "players", "algorithm", "seed", "metric", "value"])


@pytest.mark.parametrize(
    ("best", "scores", "apples"),
    [
        (HARVEST["adalign"], verdicts.OTHER_SCALE, verdicts.NO_NUMBERS),
        (HARVEST["ppo"], verdicts.NOT_REPRODUCED, verdicts.NOT_REPRODUCED),
    ],
)
def test_harvest_is_judged_as_soon_as_its_table_is_there(
    best: str, scores: str, apples: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "DATA", tmp_path)
    assert entry(FIGURES["aa_4"], reader("smoke")).verdict.verdict == verdicts.NO_RUN
    records.write_table(records.table_path("smoke", "harvest"), harvest(best), {})
    found = [entry(FIGURES[key], reader("smoke")) for key in ("aa_4", "aa_5")]
    assert [one.verdict.verdict for one in found] == [scores, apples]
    assert found[0].seeds == 3
    assert len(found[0].numbers) == 2 * 2 * 3, "maps, scenarios, agents"
    assert len(found[0].orderings) == 2 * 2 * 3
    assert not any(number.agrees for number in found[0].numbers), "other units"


def test_harvest_of_one_seed_cannot_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "DATA", tmp_path)
    records.write_table(records.table_path("smoke", "harvest"), harvest(HARVEST["adalign"]), {})
    assert entry(FIGURES["aa_4"], reader("smoke", seeds=1)).verdict.verdict == verdicts.ONE_SEED


def test_published_error_bars_widen_the_margin_of_the_policy() -> None:
    numbers, _ = paper_figures.ipd_policy(reader("laptop"))
    margins = {number.what: number.margin for number in numbers}
    assert margins["P(cooperate | START)"] == MARGIN
    assert margins["P(cooperate | CD)"] > MARGIN


def test_a_script_in_a_league_is_no_single_seed() -> None:
    load = paper_figures.reader("laptop")
    numbers, orderings = paper_figures.coin_league(load)
    assert all(np.isfinite(claim).all() for claim in [n.ours for n in numbers] + [o.gap for o in orderings])
    assert any("Random" in number.what for number in numbers)
    single, _ = paper_figures.coin_league(paper_figures.reader("laptop", seeds=1))
    assert all(np.isnan(number.ours[1]) for number in single)
