"""The rule that gives verdicts, in closed cases; what is claimed, turned round; and the page that shows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import made_up
import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aa_core.estimates import Estimate
from experiments import claims, ipd, language, page, paths, records, registry
from experiments.claims import AA, CLAIMS, LONGER, Claim, NoRunError, readings
from experiments.judge import BY_RULES, CONTROL, OURS, SHOWN, Result, Verdict, judge
from experiments.page import FIGURES, Entry, entry, show_seeds
from experiments.pictures import PICTURES, pictures_of

SEEDS, NAN = (5, 6, 7), np.nan


def ordering(low: float, high: float, source: str = "fig.", seeds: tuple[int, ...] = SEEDS) -> Result:
    return Result("A > B", Estimate((low + high) / 2, low, high), source, seeds=seeds)


def number(mean: float, width: float, source: str = "fig.", seeds: tuple[int, ...] = SEEDS) -> Result:
    return Result("reward", Estimate(mean, mean - width, mean + width), source, 0.3, 0.05, seeds)


HOLDS, WRONG, OPEN = ordering(0.1, 0.5), ordering(-0.5, -0.1), ordering(-0.1, 0.3)
AGREES, FAR = number(0.32, 0.01), number(0.5, 0.01)
SINGLE = ordering(NAN, NAN, seeds=(5,))


# --- the rule


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        ([AGREES], Verdict.REPRODUCED),
        ([AGREES, HOLDS], Verdict.REPRODUCED),
        ([AGREES, FAR, HOLDS], Verdict.OTHER_SCALE),
        ([HOLDS], Verdict.NO_NUMBERS),
        ([HOLDS, OPEN, AGREES], Verdict.NOT_REPRODUCED),
        ([WRONG, AGREES], Verdict.NOT_REPRODUCED),
        ([FAR], Verdict.NOT_REPRODUCED),
        ([AGREES, HOLDS, replace(OPEN, source=CONTROL)], Verdict.NOT_REPRODUCED),
        ([AGREES, HOLDS, replace(WRONG, source=OURS)], Verdict.REPRODUCED),
        ([FAR, HOLDS, replace(AGREES, source=BY_RULES)], Verdict.OTHER_SCALE),
        ([replace(AGREES, source=BY_RULES)], Verdict.NOT_STATED),
        ([SINGLE], Verdict.FEW_SEEDS),
        ([ordering(0.1, 0.5, seeds=(5, 6))], Verdict.FEW_SEEDS),
        ([ordering(-0.5, -0.1, seeds=(5, 6))], Verdict.FEW_SEEDS),
        ([number(0.5, 0.01, seeds=(5, 6)), HOLDS], Verdict.FEW_SEEDS),
        ([SINGLE, WRONG], Verdict.NOT_REPRODUCED),
        ([replace(HOLDS, source=OURS)], Verdict.NOT_STATED),
        ([replace(HOLDS, source=CONTROL)], Verdict.NOT_STATED),
        ([], Verdict.ILLUSTRATION),
    ],
)
def test_every_line_of_the_rule(results: list[Result], verdict: Verdict) -> None:
    assert judge(results) == verdict
    assert judge(results[::-1]) == verdict, "the order does not matter"


def test_what_was_never_run_is_not_reproduced_in_full() -> None:
    assert judge([AGREES, HOLDS], missing=1) == Verdict.PARTLY
    assert judge([], missing=1) == Verdict.NO_RUN
    assert judge([WRONG], missing=1) == Verdict.NOT_REPRODUCED


def test_a_number_agrees_within_its_margin_and_with_an_interval_of_twice_that() -> None:
    binary = Result("x", Estimate(0.5, 0.5, 0.5), "fig.", 0.5, 0.25, SEEDS)  # binary fractions: the borders are exact
    for ours, agrees in (
        ((0.75, 0.75, 0.75), True),
        ((0.76, 0.76, 0.76), False),
        ((0.25, 0.0, 0.5), True),
        ((0.25, -0.01, 0.51), False),  # a wide interval is no help
        ((0.5, -10.0, 11.0), False),
        ((0.5, NAN, NAN), False),
    ):
        assert replace(binary, ours=Estimate(*ours)).passes is agrees
    assert replace(binary, margin=0.0).passes


def test_an_ordering_whose_interval_touches_zero_does_not_hold() -> None:
    assert not ordering(0.0, 0.2).passes
    assert ordering(1e-9, 0.2).passes
    assert not SINGLE.passes


value = st.floats(-2, 2).map(lambda x: round(x, 3))
estimates = st.tuples(value, value, value).map(lambda three: Estimate(sorted(three)[1], min(three), max(three)))
sources = st.sampled_from(["fig.", CONTROL, *SHOWN])
numbers = st.builds(Result, st.just("n"), estimates, st.just("fig."), value, st.floats(0, 1), st.just(SEEDS))
orderings = st.builds(Result, st.just("o"), estimates, sources, seeds=st.just(SEEDS))
RANK = [Verdict.NOT_REPRODUCED, Verdict.OTHER_SCALE, Verdict.REPRODUCED]


@given(st.lists(numbers, min_size=1, max_size=4), st.lists(orderings, max_size=4), st.floats(0, 1))
def test_larger_margins_never_harm_and_reproduced_means_that_nothing_failed(
    some: list[Result], others: list[Result], more: float
) -> None:
    found = judge([*some, *others])
    wider = [replace(one, margin=one.margin + more) for one in some]
    assert RANK.index(judge([*wider, *others])) >= RANK.index(found)
    deciding = [one for one in (*some, *others) if one.source not in SHOWN]
    assert (found == Verdict.REPRODUCED) == all(one.passes for one in deciding)


@given(st.lists(numbers, max_size=3), st.lists(orderings, min_size=1, max_size=4), orderings)
def test_one_more_claim_never_makes_a_verdict_better_unless_it_is_the_first_of_its_kind(
    some: list[Result], others: list[Result], more: Result
) -> None:
    others = [replace(others[0], source="fig."), *others[1:]]
    before, after = judge([*some, *others]), judge([*some, *others, more])
    if before == Verdict.NOT_REPRODUCED:
        assert after == before
    if more.source not in SHOWN and not more.passes:
        assert after == Verdict.NOT_REPRODUCED


# --- the claims, in a made-up world and in its mirror


@pytest.fixture(scope="module")
def world() -> dict[str, pd.DataFrame]:
    return made_up.world()


COMPARED = [claim for claim in CLAIMS if claim.source not in SHOWN]


def compare(claim: Claim, load: Callable[[str], pd.DataFrame]) -> Result | None:
    try:
        return claim.compare(load)
    except (FileNotFoundError, NoRunError):
        return None


@pytest.mark.parametrize("figure", sorted({claim.figure for claim in COMPARED}))
def test_a_claim_that_is_turned_round_fails_and_a_number_agrees_near_the_printed_one_only(
    figure: str, world: dict[str, pd.DataFrame]
) -> None:
    load, seen = made_up.reader(world), 0
    for claim in (claim for claim in COMPARED if claim.figure == figure):
        found = compare(claim, load)
        if found is None:
            continue
        seen += 1
        if found.published is not None:
            off = replace(claim, right=claim.right + found.margin + 0.01).compare(load)
            assert (found.passes, off.passes) == (True, False), claim.what
        else:
            turned = replace(claim, left=claim.right, right=claim.left).compare(load)
            assert (found.passes, turned.passes) == (True, False), claim.what
            assert turned.ours == pytest.approx((-found.ours[0], -found.ours[2], -found.ours[1]))
    assert seen or FIGURES[figure].lacks == Verdict.NEEDS_GPU


def test_a_margin_is_a_tenth_of_what_the_game_offers_in_the_cell(world: dict[str, pd.DataFrame]) -> None:
    load, margins = made_up.reader(world), {}
    for claim in CLAIMS:
        if claim.figure in ("aa_2", "aa_3", "aa_1b") and isinstance(claim.right, float):
            one = compare(claim, load)
            margins |= {} if one is None else {(claim.figure, one.what.split(": ")[1]): one.margin}
    assert margins["aa_2", "AA from AA"] == pytest.approx(0.035)  # .35 of two kind, 0 of two greedy players
    assert margins["aa_2", "AA from always defect"] == pytest.approx(0.025)  # -.25 to 0
    assert margins["aa_2", "always defect from AA"] == pytest.approx(0.063)  # .63 from the kind, 0 from the greedy
    assert margins["aa_3", "AA from always defect"] == pytest.approx(0.005)  # .25 to .30: not .05, which is all
    assert margins["aa_3", "AA from AA"] == pytest.approx(0.02)
    assert (margins["aa_1b", "START"], margins["aa_1b", "CD"]) == (0.1, 0.2), "the printed error bar where it is larger"


def test_the_orderings_of_a_printed_table_are_not_a_selection() -> None:
    said = {claim.what for claim in CLAIMS if claim.figure == "aa_2"}
    for way in ("league", "window"):
        assert f"reward, {way}: AA from AA > always defect from AA" in said, "to defect does not pay"
        assert f"reward, {way}: always cooperate from AA > always defect from AA" in said
        assert f"reward, {way}: always defect from AA > AA from always defect" in said
    assert "reward, league: AA from random > AA from always defect" in said
    scores = [claim for claim in CLAIMS if claim.figure == "aa_4" and claim.source != CONTROL]
    numbers = [claim for claim in scores if isinstance(claim.right, float)]
    assert len(numbers) == 3 * 10, "three columns of ten agents"
    assert len(scores) - len(numbers) == 3 * 3, "all pairs of three, in both scenarios and in their mean"
    floor = [claim for claim in CLAIMS if claim.figure == "aa_4" and claim.what.endswith("> random")]
    assert [claim.source for claim in floor] == [CONTROL] * 9, "random play is the published 0 by construction"


def test_what_is_reversed_is_counted_and_what_is_printed_once_counts_once() -> None:
    turned = replace(HOLDS, ours=Estimate(-0.3, -0.4, -0.2))
    unsettled = replace(HOLDS, ours=Estimate(-0.1, -0.3, 0.1))
    assert page.counted([HOLDS, turned, unsettled, replace(turned, seeds=(5, 6))]) == "1 of 4 (−1)"
    assert page.counted([HOLDS]) == "1 of 1"
    assert page.counted([]) == "–"
    league, window = (replace(HOLDS, what=f"reward, {way}: proximal AA > PPO") for way in ("league", "window"))
    twice = page.Entry(page.FIGURES["aa_2"], (), Verdict.REPRODUCED, (league, turned))
    other = page.Entry(page.FIGURES["aa_2"], (), Verdict.REPRODUCED, (replace(window, ours=turned.ours),))
    told = page.once({"aa_2": twice, "aa_2_proximal": other}, numbers=False)
    assert told == {("aa_2", "reward: AA > PPO"): False, ("aa_2", HOLDS.what): False}
    assert page.once({"aa_2": twice}, numbers=True) == {}


def test_numbers_that_nothing_of_ours_is_held_against_are_counted_once() -> None:
    ran = replace(HOLDS, what="reward, league: AA from AA", published=0.3)
    lacks = tuple((f"reward, league: {what}", 0.1) for what in ("AA from AA", "AA from POLA"))
    some = page.Entry(page.FIGURES["aa_2"], (), Verdict.REPRODUCED, (ran,), (*lacks, ("reward, league: A > B", None)))
    other = page.Entry(page.FIGURES["aa_2"], (), Verdict.NO_RUN, (), (("reward, league: proximal AA from POLA", 0.1),))
    assert page.without_run({"aa_2": some, "aa_2_proximal": other}) == {("aa_2", "reward: AA from POLA")}


def test_a_mean_of_scores_is_that_of_each_seed() -> None:
    limits = claims.focal_limits()
    apples = {"scenario_zapping": (0.5, 1.0), "scenario_peaceful": (1.5, 0.0)}  # as scores, of two seeds
    rows = [
        ("ppo", seed, metric, low + score * (high - low))
        for (low, high), (metric, scores) in zip(limits.values(), apples.items(), strict=True)
        for seed, score in enumerate(scores)
    ]
    table = pd.DataFrame([*rows, ("ppo", 0, "zaps", 9.0)], columns=["algorithm", "seed", "metric", "value"])
    assert claims.averaged(table).set_index("seed").value.to_dict() == pytest.approx({0: 1.0, 1: 0.5})


def test_a_verdict_that_hangs_on_wide_error_bars_is_told() -> None:
    near = replace(AGREES, margin=0.2, tenth=0.05)
    found = page.Entry(page.FIGURES["aa_1b"], (), Verdict.REPRODUCED, (near, HOLDS))
    off = replace(near, ours=Estimate(near.published + 0.15, near.published + 0.14, near.published + 0.16))
    assert found.narrow == judge([AGREES, HOLDS])
    assert replace(found, results=(off, HOLDS)).narrow == Verdict.OTHER_SCALE != judge([off, HOLDS])


def test_learners_are_read_in_the_last_third_of_their_updates() -> None:
    table = pd.DataFrame({"update": [0, 30, 59, 60, 75, 90], "value": [9.0, 9, 9, 1, 2, 3]})
    curves = pd.concat([table.assign(agent=AA, metric="reward_self", seed=seed) for seed in SEEDS])
    quantity = readings("coin", AA, AA)["window"]
    load = {"coin_curves": curves}.__getitem__
    for one, mean, read in ((quantity, 2.0, "60–90"), (replace(quantity, first=True), 9.0, "0")):
        assert (one.measured(load)[0].value, one.measured(load)[1]) == (mean, read)
    with pytest.raises(NoRunError, match="no runs with agent advantage_alignment, metric reward_self"):
        quantity.measured(lambda name: curves.iloc[:0])
    with pytest.raises(NoRunError):
        quantity.measured(lambda name: curves.drop(columns="agent"))


def test_everybody_who_reads_the_last_third_reads_the_same(world: dict[str, pd.DataFrame]) -> None:
    updates = np.arange(0, 889, 37)  # the 17th lies on the edge: 592 of 888
    table = pd.DataFrame({"update": updates, "value": updates.astype(float)})
    table = table.assign(game="ipd", algorithm=AA, agent=AA, metric="START", seed=5, map="m", players=7)
    read = {
        "policies": ipd.policies_of(table).probability.item(),
        "claims": replace(readings("coin", AA, AA)["window"], rows=(("agent", AA),)).measured(lambda _: table)[0].value,
        "language": language.final(table, "ipd", AA, "START").item(),
        "harvest": registry.tables()["harvest"].kept(table).value.item(),
    }
    assert set(read.values()) == {updates[updates >= 592].mean()}, read


def test_it_is_said_where_tables_were_read_that_hold_no_updates(world: dict[str, pd.DataFrame]) -> None:
    load, read = made_up.reader(world), {}
    for side in (side for claim in CLAIMS for side in claim.sides if side.table in world):
        with suppress(NoRunError):
            read.setdefault((side.table, "scenario" in side.of), set()).add(side.measured(load)[1])
    for name in ("ipd_policy", "harvest_beta"):
        assert read[name, False] == {"last third"}
    for name in ("harvest", "harvest_open"):
        assert read[name, True] == {"end"}
        assert read[name, False] == {"last third", "end"}, "the mean of both scenarios' scores"
    assert read["coin_league", False] == read["llm_policy", False] == {"end"}


def test_what_longer_training_does_stands_beside_a_claim(world: dict[str, pd.DataFrame]) -> None:
    claim = next(one for one in CLAIMS if one.what == "reward, window: AA from AA" and one.figure == "aa_3")
    assert claim.compare(made_up.reader(world)).longer is None
    curves = world["negotiation_curves"]
    longer = curves[curves.agent == AA].assign(value=lambda table: table.value - 0.2)
    load = made_up.reader(world | {"negotiation_longer": longer})
    found = claim.compare(load)
    assert found.longer.mean == pytest.approx(found.ours.mean - 0.2)
    assert (found.longer_seeds, found.same_seeds) == (found.seeds, None), "as many seeds"
    assert entry("aa_3", load).longer == Verdict.NOT_REPRODUCED
    assert entry("aa_3", made_up.reader(world)).longer == "not run"


def test_what_was_trained_longer_with_fewer_seeds_stands_beside_the_same_seeds(world: dict[str, pd.DataFrame]) -> None:
    curves = world["coin_curves"].copy()
    curves["value"] += 0.01 * curves.seed  # the seeds differ
    few = curves[(curves.agent == AA) & (curves.seed < 7)]
    load = made_up.reader(world | {"coin_curves": curves, "coin_long": few})
    about = [one for one in CLAIMS if one.figure == "aa_2" and one.left.table == "coin_curves"]
    for claim in (one for one in about if AA in dict(one.left.rows).values()):
        found = claim.compare(load)
        assert found.longer_seeds == (5, 6)
        assert found.same_seeds == pytest.approx(found.longer), "the runs are the same, and so are the seeds"
        if found.published is not None:
            assert found.same_seeds.mean < found.ours.mean


def test_two_seeds_trained_longer_tell_nothing() -> None:
    longer = Estimate(0.2, 0.1, 0.3)
    few = Entry(FIGURES["aa_3"], (), Verdict.NO_NUMBERS, (replace(HOLDS, longer=longer, longer_seeds=(5, 6)),))
    assert few.longer == Verdict.FEW_SEEDS
    three = Entry(FIGURES["aa_3"], (), Verdict.NO_NUMBERS, (replace(HOLDS, longer=longer, longer_seeds=SEEDS),))
    assert three.longer == Verdict.NO_NUMBERS


def test_one_metric_less_another_is_taken_seed_by_seed(world: dict[str, pd.DataFrame]) -> None:
    claim = next(one for one in CLAIMS if one.figure == "llm_teaches" and one.left.less)
    load, whole = made_up.reader(world), claim.left
    one, other = (replace(whole, less="", rows=tuple((dict(whole.rows) | {"metric": name}).items()))
                  for name in ("reward", "reward_other"))  # fmt: skip
    for seeds in ((), (5, 6)):
        found, _ = whole.measured(load, seeds)
        assert found.value == pytest.approx(one.measured(load, seeds)[0].value - other.measured(load, seeds)[0].value)
        assert found.seeds == one.measured(load, seeds)[0].seeds


@pytest.mark.parametrize("name", sorted(LONGER))
def test_what_was_trained_longer_differs_in_the_number_of_updates_and_in_names(name: str) -> None:
    def settings(table: str, agent: str) -> str:
        runs = registry.tables()[table].at_home("laptop")
        found = next(run.settings for run in runs if run.variant.split("-")[-1] == agent)
        free = r"(updates|max_steps|evaluate_every|record_every)=\d+|algorithm='\w+'|0x\w+"
        return re.sub(free, "", repr(found))

    longer, agent = LONGER[name]
    assert settings(name, AA) == settings(longer, agent)


def test_one_seed_settles_nothing(world: dict[str, pd.DataFrame]) -> None:
    def one(name: str) -> pd.DataFrame:
        table = made_up.reader(world)(name)
        for column in (column for column in records.SEED_COLUMNS if column in table):
            table = table[table[column].isin([0, 5])]
        return table

    for key in sorted({claim.figure for claim in COMPARED} - {"aa_1a", "llm_other_models"}):
        assert entry(key, one).verdict == Verdict.FEW_SEEDS, key


def test_claims_are_different_and_say_what_and_where_from() -> None:
    assert len({(claim.figure, claim.what, claim.source) for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.source for claim in CLAIMS)
    assert {claim.figure for claim in CLAIMS} <= set(FIGURES)
    printed = [claim for claim in CLAIMS if isinstance(claim.right, float)]
    assert all(claim.source not in (OURS, CONTROL) for claim in printed), "what is printed is not ours"
    league = [claim for claim in printed if claim.figure in ("aa_2", "aa_3")]
    assert all("second hand" in claim.source or claim.source == BY_RULES for claim in league)
    scripts = [claim for claim in CLAIMS if claim.source == BY_RULES]
    assert {side.who for claim in scripts for side in claim.sides} == {"always cooperate from always cooperate"}
    names = " ".join(claim.what for claim in CLAIMS)
    assert "LOQA from AA" in names
    assert "loqa" not in names, "AA with LOQA's factor is not LOQA"


# --- the page


def nothing(name: str) -> pd.DataFrame:
    raise records.MissingTable(name)


def test_without_tables_nothing_is_claimed() -> None:
    for found in page.page(nothing).values():
        assert found.verdict == found.figure.lacks if found.missing else found.verdict
        assert not found.results
        assert found.longer == "not run"


def test_counts_and_seeds_as_text() -> None:
    found = Entry(FIGURES["aa_2"], (), Verdict.PARTLY, (AGREES, FAR, HOLDS), (("x", 0.1), ("y", None)))
    assert (found.passed(numbers=True), found.passed(numbers=False)) == (
        "1 of 2, 1 without run",
        "1 of 1, 1 without run",
    )
    assert found.failed == ("reward",)
    control = replace(HOLDS, what="AA > random", ours=Estimate(-0.1, -0.2, 0.1), source=CONTROL)
    spoilt = replace(found, verdict=Verdict.NOT_REPRODUCED, results=(HOLDS, control), missing=())
    assert (spoilt.passed(numbers=False), spoilt.controls, found.controls) == ("1 of 1", "0 of 1", "–")
    assert spoilt.failed == ("AA > random (control)",)
    assert judge(list(spoilt.results)) == Verdict.NOT_REPRODUCED, "a control can cost a verdict"
    assert spoilt.stated == Verdict.NO_NUMBERS, "and without it the paper's orderings hold"
    assert found.shown_seeds == "5–7"
    game, more = replace(FAR, seeds=(10, 11, 12)), replace(HOLDS, seeds=(5, 6, 7, 8))
    assert replace(found, results=(AGREES, game)).shown_seeds == "5–7; 10–12"
    assert replace(found, results=(AGREES, more)).shown_seeds == "5–8 (5–7)"
    assert replace(found, results=(AGREES, game, more)).shown_seeds == "5–8; 10–12 (5–7)"
    assert replace(found, results=()).shown_seeds == "–"
    assert (show_seeds(()), show_seeds((7,)), show_seeds((5, 7))) == ("–", "7", "5, 7")
    assert (show_seeds((0, 1, 2)), show_seeds((4, 5))) == ("0–2*", "4–5*"), "settings were chosen on 0 to 4"
    assert show_seeds((100, 5, 6, 101, 9)) == "5–6, 9, 100–101"


def test_every_figure_with_a_papers_name_is_on_the_page() -> None:
    named = {name for name, picture in PICTURES.items() if re.match(r"AA fig\.|LLM paper", picture.caption)}
    assert named <= {name for name, picture in PICTURES.items() if picture.shows}
    for picture in PICTURES.values():
        assert picture.notebook in registry.NOTEBOOKS
        assert not picture.shows or FIGURES[picture.shows].notebook == picture.notebook


def test_notebooks_draw_the_pictures_of_the_list() -> None:
    for number, notebook in registry.NOTEBOOKS.items():
        path = paths.ROOT / "notebooks" / f"{notebook.name}.ipynb"
        sources = [cell.source for cell in nbformat.read(path, as_version=4).cells] if path.is_file() else []
        drawn = re.findall(r'figures\.save\(\w+, "(\w+)"', "\n".join(sources))
        listed = [name for name, picture in PICTURES.items() if picture.notebook == number]
        assert sorted(drawn) == sorted(listed), notebook.name


def test_notebook_shows_and_judges_every_figure() -> None:
    cells = nbformat.read(paths.ROOT / "notebooks" / "12_every_figure.ipynb", as_version=4).cells
    sources = [cell.source for cell in cells]
    for key, figure in FIGURES.items():
        place = sources.index(f'details("{key}")')
        assert figure.title[1:] in sources[place - 1], "the picture stands above its verdict"
        assert re.findall(r"\]\(\.\./figures/(\w+)\.png\)", sources[place - 1]) == pictures_of(key)
    assert sum(source.startswith("details(") for source in sources) == len(FIGURES)


def test_other_models_get_a_verdict_as_soon_as_they_have_runs() -> None:
    rows = [
        ("split", "naive_llama", seed, update, "efficiency", 0.9 - 0.3 * update + 0.01 * seed * update)
        for seed in SEEDS
        for update in (0, 1)
    ]
    table = pd.DataFrame(rows, columns=["game", "algorithm", "seed", "update", "metric", "value"])
    found = entry("llm_other_models", {"llm_training": table}.__getitem__)
    assert found.verdict == Verdict.PARTLY
    assert [one.what for one in found.results] == ["Split, efficiency: naive_llama at first > naive_llama"]
    assert found.results[0].ours[0] == pytest.approx(0.24)
    assert len(found.missing) == 8


def test_the_reader_reads_first_seeds_and_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def table(name: str, profile: str, stale: bool, train: bool) -> pd.DataFrame:
        read.append((name, profile, stale, train))
        cells = [(AA, "random", seed, 0) for seed in (5, 6, 7)] + [("random", AA, 0, seed) for seed in (5, 6, 7)]
        return pd.DataFrame(cells, columns=["row_agent", "column_agent", "row_seed", "column_seed"])

    monkeypatch.setattr(page.tables, "load", table)
    load = page.reader("smoke", seeds=2, stale=True)
    assert load("coin_league").row_seed.tolist() == [5, 6, 0, 0], "of every agent, whatever its seeds are"
    assert load("coin_league") is load("coin_league")
    assert len(load("sign_table")) == 4
    assert read == [("coin_league", "smoke", True, False), ("sign_table", "smoke", True, False)]


def test_committed_verdicts_are_what_the_committed_tables_say() -> None:
    def load(name: str) -> pd.DataFrame:
        folder = paths.DATA / "laptop"
        if name in registry.tables():
            folder = paths.DATA / registry.tables()[name].home("laptop")
        return records.read_table(folder / f"{name}.csv")[0]

    table, found = load("verdicts").set_index("figure"), page.page(load)
    assert list(table.index) == list(found)
    for key, one in found.items():
        row = table.loc[key]
        assert row.verdict == one.verdict
        assert (row.numbers, row.orderings) == (one.passed(numbers=True), one.passed(numbers=False))
        assert row.controls == one.controls
