"""Every judged claim once more, with seeds of the caller's, as fresh as they are: `make claims SEEDS=100-104`.

Where AA_SEEDS is set, all experiments are declared with these seeds in place of `run.JUDGED`, and what is made goes to
build/seeds/. Settings, claims and rule stay as they are, and committed tables are read by nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import page, paths, records, registry, run
from experiments.claims import CLAIMS, Claim, NoRunError
from experiments.identity import reached, settings_as_data, short_hash
from experiments.judge import CONTROL, SHOWN, Verdict
from experiments.page import FIGURES, show_seeds
from experiments.run import place, refuse_changed_code, seeds_of
from experiments.tables import remember

NAME = "fresh_seeds"  # the table in data/extended
RULE = "rule"
SIDES = ("judged", "fresh")


def figures(only: str = "") -> dict[str, set[str]]:
    """Figures that are judged by runs, each with its tables; `only`: names, or how they start, as "llm aa_2".

    Raises:
        ValueError: no such figure.
    """
    read: dict[str, set[str]] = {}
    for claim in CLAIMS:
        if claim.source not in SHOWN and FIGURES[claim.figure].lacks == Verdict.NO_RUN:
            ends = claim.span if isinstance(claim.span, tuple) else ()
            read.setdefault(claim.figure, set()).update(side.table for side in (*claim.sides, *ends))
    read = {figure: names for figure, names in read.items() if names <= set(registry.tables())}
    wanted = only.split()
    if unknown := [word for word in wanted if not any(f"{figure}_".startswith(f"{word}_") for figure in read)]:
        raise ValueError(f"figures must be among {', '.join(read)}, or how these start, got {', '.join(unknown)}")
    chosen = [figure for figure in read if not wanted or any(f"{figure}_".startswith(f"{word}_") for word in wanted)]
    return {figure: read[figure] for figure in chosen}


def tables(only: str) -> list[run.Table]:
    """Tables behind figures."""
    return [registry.tables()[name] for name in sorted(set().union(*figures(only).values()))]


def runs(profile: str, only: str) -> list[run.Run]:
    """Every run behind figures."""
    return run.with_needs([one for table in tables(only) for one in table.at_home(profile)])


def reader(profile: str, seeds: str) -> Any:
    """Reads tables that were made with seeds, and nothing else; a table of ten seeds is cut to those asked for."""

    @cache
    def load(name: str) -> pd.DataFrame:
        home = registry.tables()[name].home(profile) if name in registry.tables() else profile
        table, _ = records.read_table(place(seeds) / home / "tables" / f"{name}.csv")
        for column in (column for column in records.SEED_COLUMNS if column in table):
            table = table[table[column] < seeds_of(seeds).stop]
        return table

    return load


def judge(profile: str, seeds: str, only: str = "") -> pd.DataFrame:
    """Every claim of figures with both sets of seeds, a row each, where the tables have all been made.

    Columns figure, claim, kind and published; for each of SIDES SIDE_value, SIDE_low, SIDE_high, whether it SIDE_holds
    (yes, no, cannot tell, no run), its SIDE_seeds and the figure's SIDE_verdict. What there is not is "".
    """
    loads = {"judged": page.reader(profile, stale=profile != "laptop"), "fresh": reader(profile, seeds)}
    made = [name for name, needed in figures(only).items() if all(_is_there(loads["fresh"], table) for table in needed)]
    if not made:
        raise ValueError(
            f"no table of seeds {seeds} has been made yet: `make claims SEEDS={seeds}{_of(profile)}` makes them"
        )
    verdicts = {(figure, side): str(page.entry(figure, loads[side]).verdict) for figure in made for side in SIDES}
    rows: list[dict[str, Any]] = []
    for claim in (claim for claim in CLAIMS if claim.figure in made and claim.source not in SHOWN):
        row: dict[str, Any] = {"figure": claim.figure, "claim": claim.what, "kind": _kind(claim)}
        row["published"] = claim.right if row["kind"] == "number" else ""
        for side in SIDES:
            row |= _look(claim, side, loads[side], seeds_of(seeds) if side == "fresh" else None)
            row[f"{side}_verdict"] = verdicts[claim.figure, side]
        rows.append(row)
    return _with_gaps(pd.DataFrame(rows))


def _of(profile: str) -> str:
    return "" if profile == "laptop" else f" PROFILE={profile}"


def _kind(claim: Claim) -> str:
    """Of a claim: number, ordering or control."""
    return "number" if isinstance(claim.right, float) else "control" if claim.source == CONTROL else "ordering"


def _with_gaps(table: pd.DataFrame) -> pd.DataFrame:
    """A table in which "" stands for what there is not."""
    return table.astype(object).where(table.notna(), "")


def _is_there(load: Any, table: str) -> bool:
    try:
        return len(load(table)) > 0
    except FileNotFoundError:
        return False


def _look(claim: Any, side: str, load: Any, asked: range | None = None) -> dict[str, Any]:
    """A claim beside one set of runs: columns of that side."""
    columns = [f"{side}_{name}" for name in ("value", "low", "high", "holds", "seeds")]
    try:
        result = claim.compare(load)
    except (FileNotFoundError, NoRunError):
        return dict(zip(columns, ("", "", "", "no run", ""), strict=True))
    if asked is not None and not set(result.seeds) <= set(asked):
        raise ValueError(f"{claim.figure}, {claim.what}: seeds must be among {asked}, got {result.seeds}")
    holds = "cannot tell" if not result.settled else "yes" if result.passes else "no"
    return dict(zip(columns, (*result.ours, holds, show_seeds(result.seeds)), strict=True))


def made_by(profile: str) -> dict[str, str]:
    """What a comparison is made by: table -> hash of its runs as they are declared, "claims of FIGURE" -> of those, and
    RULE -> of the code that judges them.
    """
    runs = {table.name: short_hash([one.identity for one in table.at_home(profile)]) for table in tables("")}
    rule = [reached(("experiments.claims", "Claim")), reached(("experiments.judge", "judge"))]
    return runs | {f"claims of {name}": _claimed(name) for name in figures()} | {RULE: short_hash(rule)}


def _claimed(figure: str, asked: Collection[str] | None = None) -> str:
    """Hash of a figure's claims with all that they say (margins, too), or of those of them that were asked."""
    claims = [claim for claim in CLAIMS if claim.figure == figure and claim.source not in SHOWN]
    return short_hash([settings_as_data(claim) for claim in claims if asked is None or claim.what in asked])


def with_published(table: pd.DataFrame, seeds: str) -> pd.DataFrame:
    """A comparison, and what is published of others, if the same seeds, present code and claims made it."""
    try:
        published = read()
    except records.MissingTable:
        return table
    record = records.read_record(paths.DATA / "extended" / f"{NAME}.json") or {}
    if published.attrs["asked"] != list(seeds_of(seeds)):
        return table
    order, current = list(figures()), set(record["made_by"]) - set(stale(record))
    true = [name for name, needed in figures().items() if needed | {f"claims of {name}", RULE} <= current]
    kept = [name for name in true if name not in set(table.figure)]
    both = pd.concat([table, published[published.figure.isin(kept)]], ignore_index=True)
    return both.sort_values("figure", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)


def publish(table: pd.DataFrame, profile: str, seeds: str) -> Path:
    """Write a comparison: to data/extended in profile laptop, else below build/; returns where.

    Raises:
        RefusedError: code differs from its commit.
    """
    path = paths.BUILD / profile / "tables" / f"{NAME}.csv"
    if profile == "laptop":
        refuse_changed_code([])
        path = paths.DATA / "extended" / f"{NAME}.csv"
    needed = set().union(*(names for figure, names in figures().items() if figure in set(table.figure)))
    declared = {name: identity for name, identity in made_by(profile).items() if name in needed}
    declared |= {f"claims of {name}": _claimed(name, set(rows.claim)) for name, rows in table.groupby("figure")}
    declared[RULE] = made_by(profile)[RULE]
    record = records.provenance({"seeds": list(seeds_of(seeds))}, 0.0)
    records.write_table(path, table, {"table": NAME, "made_by": declared, **record})
    return path


def stale(record: Mapping[str, Any], profile: str = "laptop") -> list[str]:
    """Tables whose runs, and figures whose claims, are others than when a comparison was made.

    DamagedTable for a record that is not one of a comparison.
    """
    now, then, settings = made_by(profile), record.get("made_by", {}), record.get("settings")
    if not isinstance(then, dict) or not isinstance(settings, dict) or not isinstance(settings.get("seeds"), list):
        raise records.DamagedTable(f"{NAME}.json does not say which seeds and code it is of: restore it from git")
    return sorted(name for name, identity in then.items() if now.get(name) != identity)


def read() -> pd.DataFrame:
    """The published comparison, verified; its `attrs["stale"]` says whether runs or claims are others now.

    Raises:
        MissingTable: with the command that makes it.
        DamagedTable: it was cut or altered.
    """
    path = paths.DATA / "extended" / f"{NAME}.csv"
    table, record = records.read_table(path, "`make claims SEEDS=100-104` makes it")
    table = remember(NAME, _with_gaps(table), record | {"stale": bool(stale(record))})
    table.attrs["asked"] = record["settings"]["seeds"]
    return table


def renew() -> None:
    """Judge the other side of the published comparison again, by the tables committed now; the fresh side stays."""
    path = paths.DATA / "extended" / f"{NAME}.csv"
    if not path.is_file():
        return
    table, record = records.read_table(path)
    load = page.reader("laptop", stale=True)
    claims = {(claim.figure, claim.what): claim for claim in CLAIMS if claim.source not in SHOWN}
    verdicts = {figure: str(page.entry(figure, load).verdict) for figure in table.figure.unique()}
    rows = _with_gaps(table).to_dict("records")
    for row in rows:
        if claim := claims.get((row["figure"], row["claim"])):
            row |= _look(claim, SIDES[0], load) | {f"{SIDES[0]}_verdict": verdicts[row["figure"]]}
    records.write_table(path, _with_gaps(pd.DataFrame(rows, columns=table.columns)), record)


def summary(table: pd.DataFrame) -> str:
    """How many claims of a published comparison hold with each set of seeds, and in how many verdicts they differ."""
    ran = table[(table.judged_holds != "no run") & (table.fresh_holds != "no run")]
    judged, again = (ran[f"{side}_holds"] == "yes" for side in SIDES)
    lines = ran.drop_duplicates("figure")
    differ = (lines.judged_verdict != lines.fresh_verdict).sum()
    language = lines.figure.str.startswith("llm").sum() or "none"
    return (
        f"**Fresh seeds.** Of {len(ran)} claims on {len(lines)} lines ({language} of LLM) {again.sum()} hold with "
        f"{_asked(table)}, {judged.sum()} with the seeds above, {(judged & again).sum()} with both; verdicts that "
        f"differ: {differ} (12)."
    )


def _asked(table: pd.DataFrame) -> str:
    asked, old = table.attrs["asked"], " (by earlier code)" if table.attrs["stale"] else ""
    return f"seeds {asked[0]}–{asked[-1]}{old}"


def about(*figures: str) -> str:
    """What fresh seeds say of some figures, in Markdown: which claims hold with one set of seeds alone."""
    try:
        table = read()
    except records.MissingTable:
        return ""
    lines = [f"**Fresh seeds.** The same claims with {_asked(table)}, by which no setting was chosen (notebook 12):\n"]
    for figure in figures:
        rows = table[(table.figure == figure) & (table.fresh_holds != "no run")]
        if rows.empty:
            continue
        judged, again = (rows[f"{side}_holds"] == "yes" for side in SIDES)
        line = f"- {FIGURES[figure].title}: **{rows.fresh_verdict.iloc[0]}**, {again.sum()} of {len(rows)} claims hold"
        line += f" (with the seeds above {judged.sum()})."
        for words, alone in ((" Only above", judged & ~again), (" Only with these", again & ~judged)):
            line += f"{words}: {'; '.join(rows.claim[alone])}." if alone.any() else ""
        lines.append(line)
    return "\n".join(lines) if len(lines) > 1 else ""


def show(table: pd.DataFrame) -> str:
    """A comparison as text: each figure with both verdicts, and its claims."""
    lines = []
    for figure, rows in table.groupby("figure", sort=False):
        ours, new = (f"{rows[f'{side}_verdict'].iloc[0]}, {(rows[f'{side}_holds'] == 'yes').sum()}" for side in SIDES)
        lines += [f"\n{figure}, {FIGURES[figure].title}:", f"  {ours} of {len(rows)} hold | fresh seeds: {new}"]
        told = rows[["claim", "published", "fresh_value", "fresh_low", "fresh_high", "judged_holds", "fresh_holds"]]
        told = told.map(lambda cell: f"{cell:.3g}" if isinstance(cell, float) else cell[:70])
        lines.append(told.to_string(index=False))
    return "\n".join(lines)
