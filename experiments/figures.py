"""One visual style, the plots that recur, and saving with provenance.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; an algorithm has the same one in every figure.
Each colour comes with a line style and a hatch of its own, for who sees none and for print in black.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from aa_core.checks import check_choice
from aa_core.estimates import mean_interval
from aa_core.games.matrix import STATES
from experiments import paths, records
from experiments.run import PROFILES

STARTED = time.perf_counter()  # of this process: notebooks import this module in their first cell
STYLE = {
    "naive": ("naive", "#D55E00"),
    "sum_of_rewards": ("sum of rewards", "#E69F00"),
    "lola_dice": ("LOLA-DiCE", "#009E73"),
    "loqa": ("LOQA", "#8B5A2B"),
    "loqa_credit": ("AA with LOQA's factor", "#56B4E9"),
    "advantage_alignment": ("Advantage Alignment", "#0072B2"),
    "ppo": ("PPO", "#CC79A7"),
    "ppo_sum_of_rewards": ("PPO, summed rewards", "#E69F00"),
    "proximal_advantage_alignment": ("Proximal AA", "#000000"),
    "free_harvesters": ("free harvesters", "#009E73"),
    "random": ("random", "#888888"),
}
LABELS = {name: label for name, (label, _) in STYLE.items()}
COLOURS = {name: colour for name, (_, colour) in STYLE.items()} | {"published": "#888888"}
LOOKS: dict[str, tuple[Any, str]] = {  # colour -> line of a mean, hatch of a bar
    "#0072B2": ("-", ""),
    "#D55E00": ((0, (6, 1.5)), "///"),
    "#E69F00": ((0, (3, 1.2)), "..."),
    "#009E73": ((0, (6, 1.2, 1.2, 1.2)), "xx"),
    "#56B4E9": ((0, (1.2, 1)), "\\\\\\"),
    "#CC79A7": ((0, (4, 1.2, 1, 1.2, 1, 1.2)), "++"),
    "#000000": ((0, (9, 1.5)), "--"),
    "#8B5A2B": ((0, (5, 1, 2, 1)), "oo"),
    "#888888": ((0, (1, 1.6)), ""),
    "#BBBBBB": (None, ""),
}
LINES = {colour: line for colour, (line, _) in LOOKS.items() if line}
HATCHES = {colour: hatch for colour, (_, hatch) in LOOKS.items()}
KINDS = ("tit for tat", "grim trigger", "win-stay lose-shift", "always cooperate", "always defect", "other")
KIND_COLOURS = dict(zip(KINDS, ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#BBBBBB"), strict=True))
KIND_LETTERS = dict(zip(KINDS, "TGWCDo", strict=True))


def use_style(profile: str) -> None:
    """Set matplotlib's defaults for all figures of the companion; in a notebook, pictures of 160 dots per inch.

    In profile smoke, whose pictures nobody keeps, half of that, in half of the time. An inherited MPLBACKEND, as
    headless machines have one, would leave a notebook without pictures: it is overruled.
    """
    check_choice("profile", profile, PROFILES)
    dots = 80 if profile == "smoke" else 160
    ipython = sys.modules.get("IPython")  # not imported: not in a notebook
    shell = ipython.get_ipython() if ipython else None
    if hasattr(shell, "kernel"):
        if not any(shown in mpl.get_backend().lower() for shown in ("inline", "ipympl", "widget", "nbagg")):
            shell.run_line_magic("matplotlib", "inline")
        shell.run_line_magic("config", "InlineBackend.figure_formats = ['retina']")  # twice figure.dpi
    plt.style.use("seaborn-v0_8-whitegrid")
    mpl.rcParams.update(
        {
            "figure.dpi": dots / 2,
            "savefig.dpi": dots,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#E6E6E6",
            "legend.handlelength": 2.8,
            "hatch.color": "white",
            "hatch.linewidth": 0.8,
            "axes.prop_cycle": mpl.cycler(color=[*list(COLOURS.values())[:5], "#CC79A7", "#000000"]),  # type: ignore[attr-defined]
            "svg.hashsalt": "aa-companion",  # the same picture is the same file
            "svg.fonttype": "path",
        }
    )


def student(samples: Sequence[float]) -> tuple[float, float]:
    """Ends of Student's interval of a mean: for seaborn's argument `errorbar`."""
    return mean_interval(samples)[1:]


def policy_bars(axes: Axes, bars: Mapping[str, np.ndarray], published: pd.DataFrame | None = None) -> None:
    """P(cooperate) in the five states: of each algorithm's `(seeds, 5)` the mean and its 95% interval over seeds.

    `published`, the paper's table by state, is drawn as grey bars with its printed error bars.
    """
    ours, shown = " (ours)" if published is not None else "", {LABELS[name]: rows for name, rows in bars.items()}
    palette = {LABELS[name] + ours: COLOURS[name] for name in bars} | {"published": COLOURS["published"]}
    parts = [pd.DataFrame(np.asarray(rows), columns=STATES).assign(who=name + ours) for name, rows in shown.items()]
    if published is not None:
        means, errors = (list(published[name]) for name in ("probability_of_cooperation", "error_bar"))
        parts.append(pd.DataFrame([means], columns=STATES).assign(who="published"))
    sns.barplot(
        pd.concat(parts).melt("who", var_name="state"), x="state", y="value", hue="who", palette=palette, saturation=1,
        errorbar=student, err_kws={"linewidth": 1, "color": "black"}, capsize=0.3, ax=axes,
    )  # fmt: skip
    for patch in [*axes.patches, *(handle for handle in axes.legend_.legend_handles if isinstance(handle, Patch))]:
        patch.set_hatch(HATCHES.get(mpl.colors.to_hex(patch.get_facecolor()).upper(), ""))
    axes.legend_.remove()  # the caller places it
    if published is not None:
        middles = [bar.get_x() + bar.get_width() / 2 for bar in axes.containers[-1]]
        axes.errorbar(middles, means, errors, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    axes.set(ylim=(0, 1.15), ylabel="P(cooperate)", xlabel="state (own last move, other's last move)")
    axes.grid(axis="x", visible=False)


def learning_curves(axes: Axes, steps: np.ndarray, curves: np.ndarray, colour: str, label: str) -> None:
    """Every seed as a thin line and the mean as a thick one; `steps` `(K,)`, `curves` `(K, seeds)`.

    The mean has the line style of its colour.
    """
    seeds, few = curves.shape[1], curves.shape[1] <= 10
    points = {"x": np.repeat(np.asarray(steps), seeds), "y": np.asarray(curves).ravel(), "color": colour, "ax": axes}
    every = {"alpha": 0.5 if few else 0.15, "linewidth": 0.9 if few else 0.6}
    sns.lineplot(**points, units=np.tile(np.arange(seeds), len(steps)), estimator=None, legend=False, **every)
    sns.lineplot(
        **points, errorbar=None, linewidth=2, label=label, legend=False, linestyle=LINES.get(colour.upper(), "-")
    )


def heat_map(
    axes: Axes,
    cells: pd.DataFrame,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    limits: tuple[float, float] | None = None,
    cmap: str = "viridis",
) -> QuadMesh:
    """Matrix of what the row's agent earns from the column's, each with half the width of its interval.

    `cells` as of `league.summarise`; `low` and `high` may be missing (published numbers). `rows` are agents in order
    (by default that of the table), `columns` likewise (as `rows`). Returns what a colour bar needs; ValueError if one
    is missing.
    """
    rows = list(dict.fromkeys(cells["row_agent"]) if rows is None else rows)
    columns = rows if columns is None else list(columns)
    pairs = cells.set_index(["row_agent", "column_agent"])
    if missing := [pair for pair in product(rows, columns) if pair not in pairs.index]:
        raise ValueError(f"cells must hold every pair of agents, got none for {missing[0]}")
    halves = (pairs["high"] - pairs["low"]) / 2 if "low" in pairs else 0 * pairs["row_reward"]
    texts = pairs["row_reward"].map(lambda mean: f"{round(mean, 2) + 0.0:.2f}")  # no -0.00
    texts += halves.map(lambda half: ("\n±<.01" if half < 0.005 else f"\n±{half:.2f}") if half > 0 else "")
    means, texts = (x.unstack().loc[rows, columns] for x in (pairs["row_reward"], texts))
    low, high = limits or (None, None)
    sns.heatmap(
        means, vmin=low, vmax=high, cmap=cmap, annot=texts, fmt="", annot_kws={"fontsize": 8},
        square=True, cbar=False, linewidths=0.5, ax=axes,
        xticklabels=[LABELS.get(name, name) for name in columns], yticklabels=[LABELS.get(name, name) for name in rows],
    )  # fmt: skip
    axes.set(xlabel="from", ylabel="who earns")
    plt.setp(axes.get_xticklabels(), rotation=30, ha="right", rotation_mode="anchor")
    return axes.collections[0]  # type: ignore[return-value]


def lighter(png: bytes) -> bytes:
    """The same picture with a palette of 256 colours: a third of the bytes, and no difference that one sees."""
    picture, written = Image.open(BytesIO(png)), BytesIO()
    small = picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(written, "PNG", optimize=True, dpi=picture.info.get("dpi", (160, 160)))
    return min(png, written.getvalue(), key=len)


def save(figure: Figure, name: str, notebook: str, parameters: Mapping[str, Any], data: Sequence[str] = ()) -> None:
    """Write NAME.png, NAME.svg and NAME.json under build/PROFILE/figures: the picture and where it came from.

    Beside what is given here the JSON has `seeds`, by table the number of seeds that were used (null: the table has no
    seeds: it is exact, or draws from one generator); `seconds`, of the runs behind the tables, as `records.seconds_of`
    counts them, and of the notebook, from its import of this module to this call; and `stale`, the tables that other
    settings or other code made. If there are any, the picture says so. `data` names the tables that it was drawn from;
    ValueError if one was not read in this process.
    """
    if not isinstance(parameters, Mapping):
        raise ValueError(f"parameters must be the notebook's, a dict with its profile, got {parameters!r}")
    check_choice("profile", profile := parameters.get("profile"), PROFILES)
    if not isinstance(name, str) or name != Path(name).name or name in ("", ".."):
        raise ValueError(f"name must be that of a file without folders, got {name!r}")
    if missing := [table for table in data if table not in records.READ]:
        raise ValueError(f"data must name tables that were read with experiments.load, read or record, got {missing}")
    sources = {table: records.READ[table] for table in data}
    if stale := [table for table, source in sources.items() if source.get("stale")]:
        warning = f"drawn from tables that other settings or code made: {', '.join(stale)}"
        # above the figure: legends hang below it
        figure.text(0, 1.01, warning, ha="left", va="bottom", color="#D55E00", fontsize=9)
    folder = paths.BUILD / profile / "figures"
    sums: dict[str, str] = {}
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        picture = BytesIO()
        figure.savefig(picture, format=suffix, metadata=metadata, bbox_inches="tight" if stale else None)
        kept = suffix == "png" and profile != "smoke"
        content = lighter(picture.getvalue()) if kept else picture.getvalue()
        records.write_atomically(folder / f"{name}.{suffix}", content)
        sums[suffix] = records.checksum(content)
    counts, most = {table: source.get("seeds") for table, source in sources.items()}, parameters.get("seeds")
    record = {
        "figure": name,
        "notebook": notebook,
        "files": sums,
        "parameters": dict(parameters),
        "data": sources,
        "stale": stale,
        "seeds": {table: min(count, most) if count and most else count for table, count in counts.items()},
        "seconds": {"runs": records.seconds_of(sources.values()), "notebook": round(time.perf_counter() - STARTED, 1)},
        "drawn": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "git_commit": records.git_commit(),
        "packages": records.package_versions(),
    }
    records.write_record(folder / f"{name}.json", records.sealed(record))


def explore(draw: Callable[..., None], **sliders: Any) -> None:
    """Draw as the reader moves sliders, name=(low, high, step, default); once, at their defaults, where nobody can."""
    if paths.HEADLESS:
        draw(**{name: default for name, (*_, default) in sliders.items()})
        return
    import ipywidgets  # only where somebody can move a slider

    controls = {
        name: ipywidgets.FloatSlider(default, min=low, max=high, step=step, continuous_update=False)
        for name, (low, high, step, default) in sliders.items()
    }
    ipywidgets.interact(draw, **controls)
