"""Claims with fresh seeds: what is declared, what is compared, and what would be seeds that somebody has seen."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import made_up
import pandas as pd
import pytest

from experiments import build, fresh, judge, page, paths, readme, records, registry
from experiments.publish import RefusedError
from experiments.run import SEEN, seeds_of

DECLARED = """
import json
from experiments import coin, fresh, paths
from experiments.run import JUDGED
runs = fresh.runs("laptop", "")
seeds = {table.name: sorted({one.seed for one in table.at_home("laptop")}) for table in fresh.tables("")}
print(json.dumps({
    "judged": list(JUDGED), "build": str(paths.BUILD), "seeds": seeds,
    "runs": [[one.experiment, one.seed] for one in runs],
    "batch": [one.settings.seeds for one in runs if one.experiment == "ipd"],
    "met": [seed for one in runs if one.experiment == "llm_crossplay" for _, seed in one.settings.agents],
    "league": [[one.settings.first_seed, list(one.settings.agents.values())] for one in runs if "_league" in one.name],
    "identity": coin.agent_run("laptop", "advantage_alignment", 101).identity,
}))
"""
FIXED = {"ipd", "coin_league", "negotiation_league", "llm_crossplay", "llm_prior"}  # run 0: of all seeds, or for all


def test_every_run_behind_a_claim_is_declared_with_the_seeds_that_were_asked_for() -> None:
    environment = os.environ | {"AA_SEEDS": "100-104", "AA_BUILD": "somewhere"}
    done = subprocess.run([sys.executable, "-c", DECLARED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["judged"] == [100, 101, 102, 103, 104]
    assert said["build"] == str(paths.ROOT / "somewhere" / "seeds" / "100-104")
    assert {"coin_league", "negotiation_curves", "harvest_open", "harvest_beta", "ipd_policy"} <= set(said["seeds"])
    assert said["seeds"]["coin_curves"] == said["judged"]
    for experiment, seed in said["runs"]:
        background = experiment.endswith("_background")  # whom all agents meet; its seeds are 0 and 1 in every profile
        assert seed in (0, 1) if background else seed == 0 if experiment in FIXED else seed in said["judged"]
    assert all(first == 100 and max(counts) == 5 for first, counts in said["league"])
    assert set(said["met"]) == set(said["judged"])
    assert all(set(said["judged"]) <= set(seeds) and min(seeds) == 100 for seeds in said["batch"])
    one = registry.experiments()["coin"].run("laptop", "advantage_alignment", 101)
    assert said["identity"] == one.identity  # the same run as anybody's who asks for seed 101


def test_seeds_that_the_environment_has_wrong_are_refused_in_a_line() -> None:
    command = [sys.executable, "-c", "import experiments"]
    done = subprocess.run(command, env=os.environ | {"AA_SEEDS": "abc"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "AA_SEEDS: seeds must be first and last one, as 100-104, got 'abc'\n"


@pytest.mark.parametrize("text", ["", "100", "104-100", "a-b", "-3-5", "100..104", "１００-１０４"])
def test_seeds_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="seeds must be first and last one, as 100-104, got"):
        seeds_of(text)


@pytest.mark.parametrize("text", ["100-200", "100-999999999"])
def test_more_seeds_than_anybody_waits_for_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="seeds must be 100 at most"):
        seeds_of(text)


@pytest.mark.parametrize("text", ["0-4", "5-9", "14-20"])
def test_seeds_that_were_seen_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"seeds must be from {SEEN} on"):
        seeds_of(text)


def test_figures_are_named_as_they_start() -> None:
    every = fresh.figures()
    assert {"aa_1b", "aa_2", "aa_5_orchard", "llm_curves"} <= set(every)
    assert not {"aa_1a", "aa_3_sample", "llm_other_models", "llm_transcripts"} & set(every)  # no run of ours behind
    assert set(fresh.figures("aa_1b aa_3")) == {"aa_1b", "aa_1b_table", "aa_3"}
    assert set(fresh.figures("llm")) == {name for name in every if name.startswith("llm_")}
    with pytest.raises(ValueError, match=r"figures must be among aa_1b, .*, got aa_1, foo"):
        fresh.figures("aa_1 aa_2 foo")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, pd.DataFrame]:
    """Everything holds with the judged seeds; the tables of Negotiation have been made with fresh ones, too."""
    for name in ("ROOT", "BUILD", "DATA"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    monkeypatch.setattr(records, "git_commit", lambda: "0123abc")
    monkeypatch.setattr(records, "READ", {})
    tables = made_up.world()
    monkeypatch.setattr(page, "reader", lambda profile, stale: made_up.reader(tables))
    for name in ("negotiation_league", "negotiation_curves", "ipd_policy"):
        moved = tables[name].copy()
        for column in {*records.SEED_COLUMNS} & {*moved}:
            moved[column] += 95 * (moved[column] > 0)
        write(name, moved)
    return tables


def write(name: str, table: pd.DataFrame) -> None:
    records.write_table(paths.BUILD / "seeds" / "100-104" / "laptop" / "tables" / f"{name}.csv", table, {})


def change(name: str, how: str, **columns: float) -> None:
    path = paths.BUILD / "seeds" / "100-104" / "laptop" / "tables" / f"{name}.csv"
    table = pd.read_csv(path)
    table.loc[table.eval(how), list(columns)] = list(columns.values())
    write(name, table)


def test_what_holds_with_both_sets_of_seeds_is_said_to_hold(world: dict[str, pd.DataFrame]) -> None:
    table = fresh.judge("laptop", "100-104")
    assert set(table.figure) == {"aa_1b_table", "aa_3"}  # others have not been made
    assert set(table.judged_holds) == set(table.fresh_holds) == {"yes"}
    assert set(table.judged_verdict) == set(table.fresh_verdict) == {"reproduced"}
    assert set(table.fresh_seeds) - {"–"} == {"100–104"}  # of a script against a script none
    assert set(table.judged_seeds) - {"–"} == {"5–9"}
    bars = table.query("figure == 'aa_1b_table' and kind == 'number'")
    assert len(bars) == 5
    assert bars.fresh_value.astype(float).tolist() == pytest.approx(bars.published.tolist(), abs=0.01)
    assert "aa_3, fig. 3: the Negotiation league (our AA met always defect in training):\n  reproduced" in fresh.show(
        table
    )


def test_a_claim_that_fails_with_fresh_seeds_alone_is_said_to_fail(world: dict[str, pd.DataFrame]) -> None:
    change("ipd_policy", "state == 'DC'", probability=0.0)
    table = fresh.judge("laptop", "100-104").query("figure == 'aa_1b_table'")
    failed = table[table.fresh_holds == "no"]
    assert len(failed)
    assert all("DC" in claim for claim in failed.claim)
    assert set(table.judged_holds) == {"yes"}
    assert set(table.fresh_verdict) == {"not reproduced"}
    assert re.search(r"P\(cooperate\): DC .* yes +no$", fresh.show(table), re.MULTILINE)


def test_seeds_beyond_those_asked_for_do_not_count(world: dict[str, pd.DataFrame]) -> None:
    more = world["ipd_policy"].assign(seed=lambda x: x.seed + 100, probability=0.5)  # a batch is of ten
    path = paths.BUILD / "seeds" / "100-104" / "laptop" / "tables" / "ipd_policy.csv"
    write("ipd_policy", pd.concat([pd.read_csv(path), more]))
    assert set(fresh.judge("laptop", "100-104").fresh_holds) == {"yes"}


def test_a_notebook_says_what_holds_with_one_set_of_seeds_alone(
    world: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fresh.about("aa_3") == "", "nothing was run"
    table = fresh.judge("laptop", "100-104")
    lost, won = table.index[table.figure == "aa_3"][:2]
    table.loc[lost, "fresh_holds"], table.loc[won, "judged_holds"] = "no", "no"
    fresh.publish(table, "laptop", "100-104")
    said, count = fresh.about("aa_3", "llm_curves"), (table.figure == "aa_3").sum()
    assert f"{count - 1} of {count} claims hold (with the seeds above {count - 1})" in said
    assert f"Only above: {table.claim[lost]}. Only with these: {table.claim[won]}." in said
    assert said.count("\n- ") == 1, "of the other figure nothing was run"
    assert fresh.about("llm_curves") == ""


def test_tables_of_other_seeds_are_refused(world: dict[str, pd.DataFrame]) -> None:
    write("ipd_policy", world["ipd_policy"])
    with pytest.raises(ValueError, match=r"seeds must be among range\(100, 105\), got \(5, 6, 7, 8, 9\)"):
        fresh.judge("laptop", "100-104")


def test_a_comparison_is_published_and_knows_when_it_is_out_of_date(
    world: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(records.MissingTable, match="make claims SEEDS=100-104"):
        fresh.read()
    table = fresh.judge("laptop", "100-104")
    assert fresh.publish(table, "laptop", "100-104") == paths.DATA / "extended" / "fresh_seeds.csv"
    read = fresh.read()
    assert not read.attrs["stale"]
    assert read.claim.tolist() == table.claim.tolist()
    assert read.fresh_holds.tolist() == table.fresh_holds.tolist()
    count = len(table)
    held = f"Of {count} claims on 2 lines (none of LLM) {count} hold with seeds 100–104, {count} with the seeds above"
    assert f"{held}, {count} with both; verdicts that differ: 0 (12)" in fresh.summary(read)
    assert fresh.summary(read) in readme.verdicts(made_up.reader(world))
    record = records.read_record(paths.DATA / "extended" / "fresh_seeds.json")
    assert record["settings"] == {"seeds": [100, 101, 102, 103, 104]}
    judged = {"claims of aa_1b_table", "claims of aa_3", fresh.RULE}
    assert set(record["made_by"]) == {"ipd_policy", "negotiation_league", "negotiation_curves"} | judged
    with monkeypatch.context() as patch:
        one = next(claim for claim in fresh.CLAIMS if claim.figure == "aa_3" and claim.source not in judge.SHOWN)
        patch.setattr(fresh, "CLAIMS", tuple(claim for claim in fresh.CLAIMS if claim is not one))
        assert fresh.stale(record) == ["claims of aa_3"]
        assert set(fresh.with_published(table[:0], "100-104").figure) == {"aa_1b_table"}
        assert fresh.read().attrs["stale"]
    for change in ({"least": 0.3}, {"span": 0.5}, {"source": judge.CONTROL}):
        with monkeypatch.context() as patch:
            changed = tuple(replace(claim, **change) if claim is one else claim for claim in fresh.CLAIMS)
            patch.setattr(fresh, "CLAIMS", changed)
            assert fresh.stale(record) == ["claims of aa_3"], "margins and kinds are asked, too"
    monkeypatch.setattr(fresh, "made_by", lambda profile: record["made_by"] | {"ipd_policy": "of other code"})
    assert fresh.read().attrs["stale"]
    assert "seeds 100–104 (by earlier code)" in fresh.summary(fresh.read())
    monkeypatch.setattr(registry, "NOTEBOOKS", {})  # here are none
    line = next(line for line in build.status("laptop").splitlines() if "fresh_seeds" in line)
    path = paths.DATA / "extended" / "fresh_seeds.csv"
    assert line == f"stale    {path}: ipd_policy changed; `make claims SEEDS=...` makes it again"
    monkeypatch.setattr(records, "git_commit", lambda: "0123abc-dirty")
    with pytest.raises(RefusedError, match="not committed"):
        fresh.publish(table, "laptop", "100-104")


def test_what_is_judged_follows_the_committed_tables_and_the_fresh_side_stays(
    world: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.renew()  # nothing was published
    path = fresh.publish(fresh.judge("laptop", "100-104"), "laptop", "100-104")
    before, record = fresh.read(), records.read_record(path.with_suffix(".json"))
    policy = world["ipd_policy"]
    policy.loc[policy.algorithm == "advantage_alignment", "probability"] = 0.5
    monkeypatch.setattr(page, "reader", lambda *_, **__: made_up.reader(world))
    fresh.renew()
    after = fresh.read()
    theirs = [column for column in before if not column.startswith("judged_")]
    pd.testing.assert_frame_equal(after[theirs], before[theirs])
    one = after.figure == "aa_1b_table"
    assert "no" in set(after.judged_holds[one])
    assert set(after.judged_verdict[one]) == {"not reproduced"}
    assert set(after.judged_holds[~one]) == {"yes"}
    assert records.read_record(path.with_suffix(".json"))["made_by"] == record["made_by"]


def test_what_is_judged_in_the_published_comparison_is_what_the_page_says() -> None:
    table, load = fresh.read(), page.reader("laptop", stale=True)
    for figure in ("aa_1b_table", "aa_3", "llm_policy"):
        rows = table[table.figure == figure]
        assert set(rows.judged_verdict) == {str(page.entry(figure, load).verdict)}
        for claim in (one for one in fresh.CLAIMS if one.figure == figure and one.source not in judge.SHOWN):
            (row,) = rows[rows.claim == claim.what].to_dict("records")
            told = pytest.approx(claim.compare(load).ours.mean) if row["judged_holds"] != "no run" else ""
            assert row["judged_value"] == told


def test_what_is_published_of_other_figures_stays_while_it_is_true(
    world: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fresh.judge("laptop", "100-104")
    league = whole[whole.figure == "aa_3"]
    assert fresh.with_published(league, "100-104") is league, "nothing was published"
    path = fresh.publish(whole, "laptop", "100-104")
    record = records.read_record(path.with_suffix(".json"))
    both = fresh.with_published(league.assign(fresh_holds="no"), "100-104")
    assert both.figure.tolist() == whole.figure.tolist()
    assert set(both.fresh_holds[both.figure == "aa_3"]) == {"no"}
    assert set(both.fresh_holds[both.figure != "aa_3"]) == {"yes"}
    fresh.publish(both, "laptop", "100-104")
    assert records.read_record(path.with_suffix(".json"))["made_by"] == record["made_by"]
    assert fresh.with_published(league, "200-204") is league
    dropped = whole.drop(whole.index[whole.figure == "aa_1b_table"][0])
    fresh.publish(dropped, "laptop", "100-104")
    assert set(fresh.with_published(league, "100-104").figure) == {"aa_3"}, "a claim of today was not asked"
    fresh.publish(both, "laptop", "100-104")
    monkeypatch.setattr(fresh, "made_by", lambda profile: record["made_by"] | {"ipd_policy": "of other code"})
    assert set(fresh.with_published(league, "100-104").figure) == {"aa_3"}
