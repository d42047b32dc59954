"""One visual style, the plots that recur, and saving with provenance.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; an algorithm has the same one in every figure.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import bootstrap

from aa_core import paths, records
from aa_core.games.matrix import STATES

STARTED = time.perf_counter()  # of this process: notebooks import this module in their first cell
LABELS = {
    "naive": "naive",
    "sum_of_rewards": "sum of rewards",
    "lola_dice": "LOLA-DiCE",
    "loqa": "LOQA",
    "advantage_alignment": "Advantage Alignment",
    "ppo": "PPO",
    "ppo_sum_of_rewards": "PPO, summed rewards",
    "proximal_advantage_alignment": "Proximal AA",
    "free_harvesters": "free harvesters",
    "random": "random",
}
COLOURS = {
    "naive": "#D55E00",
    "sum_of_rewards": "#E69F00",
    "lola_dice": "#009E73",
    "loqa": "#56B4E9",
    "advantage_alignment": "#0072B2",
    "published": "#888888",
    "ppo": "#CC79A7",
    "ppo_sum_of_rewards": "#E69F00",
    "proximal_advantage_alignment": "#000000",
    "free_harvesters": "#009E73",
    "random": "#888888",
}
KIND_COLOURS = {
    "tit for tat": "#0072B2",
    "grim trigger": "#56B4E9",
    "win-stay lose-shift": "#009E73",
    "always cooperate": "#E69F00",
    "always defect": "#D55E00",
    "other": "#BBBBBB",
}


def use_style() -> None:
    """Set matplotlib's defaults for all figures of the companion."""
    plt.style.use("seaborn-v0_8-whitegrid")
    mpl.rcParams.update(
        {
            "figure.dpi": 80,
            "savefig.dpi": 160,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#E6E6E6",
            "axes.prop_cycle": mpl.cycler(color=[*list(COLOURS.values())[:5], "#CC79A7", "#000000"]),
            "svg.hashsalt": "aa-companion",  # the same picture is the same file
            "svg.fonttype": "path",
        }
    )


def interval(samples: Sequence[float] | np.ndarray, seed: int = 0, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and percentile bootstrap interval over independent samples (seeds).

    Args:
        samples: one number per seed.
        seed: of the bootstrap.
        level: confidence level.

    Returns:
        (mean, low, high); with a single sample or none that differs, low and high are the mean.
    """
    samples = np.asarray(samples, dtype=float)
    if samples.ndim != 1 or len(samples) == 0:
        raise ValueError(f"samples must be a sequence of numbers, at least one, got shape {samples.shape}")
    mean = float(samples.mean())
    if np.ptp(samples) == 0:
        return mean, mean, mean
    found = bootstrap(
        (samples,),
        np.mean,
        confidence_level=level,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return mean, float(found.low), float(found.high)


def policy_bars(axes: Axes, bars: Mapping[str, np.ndarray], published: Sequence[float] | None = None) -> None:
    """P(cooperate) in the five states, one group of bars per state.

    Args:
        axes: to draw on.
        bars: algorithm -> `(seeds, 5)`; the bar is the mean, the line the 2.5th to 97.5th percentile over seeds.
        published: the paper's numbers `(5,)`, drawn as grey bars.
    """
    names = [*bars, *(["published"] if published is not None else [])]
    ours = " (ours)" if published is not None else ""
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        positions = np.arange(len(STATES)) + (index - (len(names) - 1) / 2) * width
        if name == "published":
            axes.bar(positions, published, width, color=COLOURS[name], label="published")
            continue
        mean = bars[name].mean(0)
        low, high = np.percentile(bars[name], [2.5, 97.5], axis=0)
        axes.bar(positions, mean, width, color=COLOURS[name], label=LABELS[name] + ours)
        # the mean can lie outside the percentiles when one seed is far off
        errors = np.clip([mean - low, high - mean], 0, None)
        axes.errorbar(positions, mean, errors, fmt="none", ecolor="black", elinewidth=1, capsize=2)
    axes.set(xticks=range(len(STATES)), xticklabels=STATES, ylim=(0, 1.05), ylabel="P(cooperate)")
    axes.set_xlabel("state (own last move, other's last move)")
    axes.grid(axis="x", visible=False)


def learning_curves(axes: Axes, steps: np.ndarray, curves: np.ndarray, colour: str, label: str) -> None:
    """Every seed as a thin line and the mean as a thick one; `steps` `(K,)`, `curves` `(K, seeds)`."""
    few = curves.shape[1] <= 10
    axes.plot(steps, curves, color=colour, alpha=0.5 if few else 0.15, linewidth=0.9 if few else 0.6)
    axes.plot(steps, curves.mean(1), color=colour, linewidth=2, label=label)


def save(figure: Figure, name: str, notebook: str, parameters: Mapping[str, Any], data: Sequence[str] = ()) -> None:
    """Write NAME.png, NAME.svg and NAME.json: the picture and where it came from.

    Beside what is given here the JSON has `seeds`, by table the number of seeds that were used (null: the table has no
    seeds: it is exact, or draws from one generator), and `seconds`: of the runs behind the tables, as
    `records.seconds_of` counts them, and of the notebook, from its import of this module to this call.

    Args:
        figure: to save.
        name: of the files, in `paths.FIGURES`.
        notebook: file name of the notebook that draws it.
        parameters: the notebook's parameters, with "profile".
        data: names of the tables that it was drawn from; PROFILE:NAME if not of the notebook's profile.
    """
    paths.FIGURES.mkdir(parents=True, exist_ok=True)
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        temporary = paths.FIGURES / f".{name}.{suffix}"
        figure.savefig(temporary, format=suffix, metadata=metadata)
        os.replace(temporary, paths.FIGURES / f"{name}.{suffix}")
    profile, most = parameters["profile"], parameters.get("seeds")
    places = {table: (table.split(":") if ":" in table else (profile, table)) for table in data}
    sources = {table: records.record_of(*place) for table, place in places.items()}
    counts = {table: records.count_seeds(records.read_table(*place)) for table, place in places.items()}
    record = {
        "figure": name,
        "notebook": notebook,
        "parameters": dict(parameters),
        "data": sources,
        "seeds": {table: min(count, most) if count and most else count for table, count in counts.items()},
        "seconds": {
            "runs": records.seconds_of(sources.values()),
            "notebook": round(time.perf_counter() - STARTED, 1),
        },
        "drawn": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "git_commit": records.git_commit(),
        "packages": records.package_versions(),
    }
    records.write_atomically(paths.FIGURES / f"{name}.json", json.dumps(record, indent=1, sort_keys=True) + "\n")


def explore(draw: Callable[..., None], **sliders: Any) -> None:
    """Let the reader move sliders; draw once, at their defaults, where nobody can (AA_HEADLESS is set).

    Args:
        draw: makes a picture from the sliders' values.
        sliders: name -> (low, high, step, default).
    """
    if paths.HEADLESS:
        draw(**{name: default for name, (*_, default) in sliders.items()})
        return
    import ipywidgets  # only where somebody can move a slider

    controls = {
        name: ipywidgets.FloatSlider(default, min=low, max=high, step=step, continuous_update=False)
        for name, (low, high, step, default) in sliders.items()
    }
    ipywidgets.interact(draw, **controls)
