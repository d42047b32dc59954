"""The runs behind the figures: what is trained, at which size, and which table its numbers go to.

    python -m aa_core.experiments run ipd advantage_alignment --profile laptop
    python -m aa_core.experiments run llm ipd-advantage_alignment-0 --profile laptop
    python -m aa_core.experiments table ipd_policy --profile laptop

A run is cached by its configuration under data/PROFILE/runs; a table is put together from runs. `Snakefile` calls both.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from aa_core import advantages, commons_runs, games, league_runs, objectives, policies, records, selfplay
from aa_core.checks import check_choice
from aa_core.games.matrix import STATES
from aa_core.llm import settings as llm_settings
from aa_core.policies import STRATEGIES, classify
from aa_core.selfplay import ALGORITHMS, History, SelfPlay, train


@dataclass(frozen=True)
class Profile:
    """Size of every run. `paper` is LOQA's published command for the IPD, whose authors' code AA builds on."""

    seeds: int
    updates: int
    games: int
    rounds: int
    gamma: float
    learning_rate: float
    long_updates: int  # of the run that looks for what comes after tit-for-tat
    sweep_betas: tuple[float, ...]
    sweep_gammas: tuple[float, ...]
    sweep_learning_rates: tuple[float, ...]
    sweep_seeds: int
    tournament_seeds: int
    tournament_repetitions: int
    tournament_field: int | None = None  # first n strategies; None: all


PROFILES = {
    "smoke": Profile(
        seeds=4, updates=20, games=16, rounds=8, gamma=0.9, learning_rate=0.1, long_updates=40,
        sweep_betas=(0.1, 1.0), sweep_gammas=(0.9,), sweep_learning_rates=(0.1,), sweep_seeds=2,
        tournament_seeds=1, tournament_repetitions=1, tournament_field=10,
    ),
    "laptop": Profile(
        seeds=64, updates=300, games=128, rounds=32, gamma=0.9, learning_rate=0.03, long_updates=1200,
        sweep_betas=(0.03, 0.1, 0.2, 0.3, 1.0, 3.0), sweep_gammas=(0.8, 0.9, 0.96),
        sweep_learning_rates=(0.01, 0.03, 0.1), sweep_seeds=8,
        tournament_seeds=8, tournament_repetitions=3,
    ),
    "paper": Profile(
        seeds=10, updates=7000, games=2048, rounds=50, gamma=0.96, learning_rate=0.001, long_updates=28000,
        sweep_betas=(0.01, 0.03, 0.1, 0.2, 0.3, 1.0, 3.0, 10.0), sweep_gammas=(0.5, 0.8, 0.9, 0.96, 0.99),
        sweep_learning_rates=(0.001, 0.003, 0.01), sweep_seeds=10,
        tournament_seeds=10, tournament_repetitions=20,
    ),
}  # fmt: skip

# Strength of shaping, on the scale where the sweep finds tit-for-tat for each algorithm
SHAPING = {
    "naive": {},
    "sum_of_rewards": {},
    "lola_dice": {"inner_learning_rate": 3.0},
    "loqa": {"beta": 0.3},
    "advantage_alignment": {"beta": 0.1},
}


# A cached run is made again when one of these changes
TRAINING_CODE = (advantages, games.matrix, objectives, policies, selfplay)


def _prisoners_dilemma(profile: Profile) -> games.MatrixGame:
    return games.make("prisoners_dilemma", horizon=profile.rounds)


def _tidy(history: History, algorithm: str) -> pd.DataFrame:
    """Rows of (algorithm, seed, player, step, metric, value): P(cooperate) in each state and the mean reward."""
    rows = []
    for step, probabilities, rewards in zip(history.updates, history.logits.sigmoid(), history.rewards, strict=True):
        for seed, player in product(range(rewards.shape[0]), range(2)):
            metrics = dict(zip(STATES, probabilities[seed, player].tolist(), strict=True))
            metrics["reward"] = rewards[seed, player].item()
            rows += [(algorithm, seed, player, int(step), metric, value) for metric, value in metrics.items()]
    return pd.DataFrame(rows, columns=["algorithm", "seed", "player", "step", "metric", "value"])


def ipd(algorithm: str, profile: str, fresh: bool = False, long: bool = False) -> pd.DataFrame:
    """Self-play in the iterated prisoner's dilemma, every seed, along training."""
    check_choice("algorithm", algorithm, ALGORITHMS)
    check_choice("profile", profile, PROFILES)
    size = PROFILES[profile]
    updates = size.long_updates if long else size.updates
    settings = SelfPlay(
        algorithm, updates, size.games, size.learning_rate, size.gamma, record_every=max(1, updates // 30),
        **SHAPING[algorithm],
    )  # fmt: skip
    seeds = max(2, size.seeds // 2) if long else size.seeds
    config = asdict(settings) | {"game": "prisoners_dilemma", "rounds": size.rounds, "seeds": seeds}
    config["code"] = records.code_hash(*TRAINING_CODE)
    name = f"{'ipd_long' if long else 'ipd'}/{algorithm}"

    def compute() -> pd.DataFrame:
        return _tidy(train(_prisoners_dilemma(size), settings, range(seeds)), algorithm)

    return records.recorded(profile, name, config, compute, fresh)


def ipd_long(algorithm: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """`ipd` for longer, on half the seeds."""
    return ipd(algorithm, profile, fresh, long=True)


def ipd_sweep(learning_rate: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """Outcome of Advantage Alignment over beta and gamma at one learning rate (times updates held constant)."""
    size = PROFILES[profile]
    updates = max(1, round(size.updates * size.learning_rate / float(learning_rate)))
    config = {
        "betas": size.sweep_betas, "gammas": size.sweep_gammas, "learning_rate": float(learning_rate),
        "updates": updates, "games": size.games, "rounds": size.rounds, "seeds": size.sweep_seeds,
        "code": records.code_hash(*TRAINING_CODE),
    }  # fmt: skip

    def compute() -> pd.DataFrame:
        rows = []
        for beta, gamma in product(size.sweep_betas, size.sweep_gammas):
            settings = SelfPlay(
                "advantage_alignment", updates, size.games, float(learning_rate), gamma, beta, record_every=updates
            )
            history = train(_prisoners_dilemma(size), settings, range(size.sweep_seeds))
            policies, rewards = history.logits[-1].sigmoid().flatten(0, 1), history.rewards[-1].flatten()
            for index, (policy, reward) in enumerate(zip(policies, rewards, strict=True)):
                kind = classify(policy[None])[0]
                setting = (beta, gamma, float(learning_rate), index // 2, index % 2)
                rows.append((*setting, kind, *policy.tolist(), reward.item()))
        columns = ["beta", "gamma", "learning_rate", "seed", "player", "kind", *STATES, "reward"]
        return pd.DataFrame(rows, columns=columns)

    return records.recorded(profile, f"ipd_sweep/{learning_rate}", config, compute, fresh)


def learned_policies(algorithm: str, profile: str) -> torch.Tensor:
    """P(cooperate) `(seeds, players, 5)` at the end of the `ipd` run."""
    table = ipd(algorithm, profile)
    last = table[(table.step == table.step.max()) & table.metric.isin(STATES)]
    wide = last.pivot(index=["seed", "player"], columns="metric", values="value")[list(STATES)]
    return torch.tensor(wide.to_numpy(), dtype=torch.float64).unflatten(0, (-1, 2))


def ipd_tournament(entry: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """An algorithm's learned policies (or "classics": the scripted strategies) against the Axelrod field."""
    from aa_core import tournament  # here, since importing axelrod takes ten seconds

    size = PROFILES[profile]
    if entry == "classics":
        entries = [(name, 0, table) for name, table in STRATEGIES.items()]
    else:
        policies = learned_policies(entry, profile)[: size.tournament_seeds, 0]
        entries = [(entry, seed, policy.tolist()) for seed, policy in enumerate(policies)]
    config = {
        "entries": [[*e[:2], [round(float(p), 6) for p in e[2]]] for e in entries],
        "repetitions": size.tournament_repetitions, "turns": tournament.TURNS, "field": size.tournament_field,
        "code": records.code_hash(tournament),
    }  # fmt: skip

    def compute() -> pd.DataFrame:
        field = tournament.field()[: size.tournament_field]
        return tournament.play_entries(entries, field, size.tournament_repetitions)

    return records.recorded(profile, f"ipd_tournament/{entry}", config, compute, fresh)


def adapter_path(part: str, profile: str) -> Path:
    """Where the adapter of a language-model run is kept."""
    return records.table_path(profile, f"llm/{part}").with_suffix("")


def _llm_code() -> str:
    from aa_core.games import text
    from aa_core.llm import buffer, models, players, rollout, tiny, trainer
    from aa_core.llm import runs as llm_runs

    return records.code_hash(advantages, text, buffer, models, players, rollout, tiny, trainer, llm_runs)


def _warm_up(game: str) -> dict[str, object]:
    """Settings of the embedded model, as JSON has them."""
    return json.loads(json.dumps(asdict(llm_settings.WARM_UPS[game])))


def llm(part: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """Training and evaluation of one language-model adapter; `part` is GAME-VARIANT-SEED."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # the seams that it warns of are tested
    from aa_core.llm import models
    from aa_core.llm import runs as llm_runs  # here, since importing transformers takes seconds

    game, variant, seed = llm_settings.split_part(part)
    training = llm_settings.training(profile, game, variant)
    if profile == "paper":
        models.check_gpu(80)
    config = asdict(training) | {"seed": seed, "warm_up": _warm_up(game), "code": _llm_code()}
    folder, co_player = adapter_path(part, profile), None
    if training.co_player == "trained":
        teacher = f"{game}-advantage_alignment-{seed}"
        llm(teacher, profile)
        co_player = adapter_path(teacher, profile)
        config["co_player_run"] = (records.record_of(profile, f"llm/{teacher}") or {}).get("table_sha256")

    def compute() -> pd.DataFrame:
        with tempfile.TemporaryDirectory() as scratch:
            table = llm_runs.train(training, seed, folder, Path(scratch), co_player)
        return table.assign(game=game, algorithm=variant, seed=seed)[LLM_COLUMNS]

    if int(os.environ.get("RANK", "0")) > 0:  # of several processes (accelerate launch) the first one writes
        return compute()
    lost = not (folder / "adapter_model.safetensors").is_file()
    return records.recorded(profile, f"llm/{part}", config, compute, fresh or lost)


LLM_COLUMNS = ["game", "algorithm", "seed", "update", "metric", "value"]


def llm_prior(game: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """What the trainings of a game start from: warms the embedded model up, and measures it."""
    from aa_core.llm import models
    from aa_core.llm import runs as llm_runs

    training = llm_settings.training(profile, game, "advantage_alignment")
    if profile == "paper":  # before 15 GB are downloaded
        models.check_gpu(80)

    def compute() -> pd.DataFrame:
        for variant in ("aa_unconditional", "advantage_alignment") if game == "ipd" else ("advantage_alignment",):
            model, words = llm_runs.load_model(llm_settings.training(profile, game, variant))
        found = llm_runs.evaluate(model, words, training, seed=0)
        rows = [(game, "prior", 0, 0, metric, value) for metric, value in found.items()]
        return pd.DataFrame(rows, columns=LLM_COLUMNS)

    config = asdict(training) | {"warm_up": _warm_up(game), "code": _llm_code()}
    return records.recorded(profile, f"llm_prior/{game}", config, compute, fresh)


def llm_crossplay(game: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """Every seed of the three algorithms, and two scripted players, against each other."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from aa_core.llm import runs as llm_runs

    training = llm_settings.training(profile, game, "advantage_alignment")
    main = [part for part in llm_settings.main_parts(profile) if part.startswith(f"{game}-")]
    for part in main:
        llm(part, profile)
    games = max(2, training.evaluation_games // 8)
    config = asdict(training) | {"code": _llm_code(), "games_per_pair": games}
    config["runs"] = [(records.record_of(profile, f"llm/{part}") or {}).get("table_sha256") for part in main]
    adapters = {llm_settings.split_part(part)[1:]: adapter_path(part, profile) for part in main}

    def compute() -> pd.DataFrame:
        table = llm_runs.cross_play(training, adapters, games)
        return table.assign(game=game)[["game", *table.columns]]

    return records.recorded(profile, f"llm_crossplay/{game}", config, compute, fresh)


def llm_speed(game: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """Speed of the embedded model in one game, on one and on two threads (the embedded one in every profile)."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from aa_core.llm import runs as llm_runs
    from aa_core.llm import speed

    training = llm_settings.training("smoke" if profile == "smoke" else "laptop", game, "advantage_alignment")
    games, rounds = (4, 2) if profile == "smoke" else (64, 10)
    config = asdict(training) | {"speed_games": games, "speed_rounds": rounds, "threads": [1, 2]}
    config["code"] = [_llm_code(), records.code_hash(speed)]

    def compute() -> pd.DataFrame:
        model, words = llm_runs.load_model(training)
        rows, before = [], torch.get_num_threads()
        for threads in config["threads"]:
            torch.set_num_threads(threads)
            found = speed.measure(model.eval(), words, training, games, rounds)
            rows += [(game, threads, metric, value) for metric, value in found.items()]
        torch.set_num_threads(before)
        return pd.DataFrame(rows, columns=["game", "threads", "metric", "value"])

    return records.recorded(profile, f"llm_speed/{game}", config, compute, fresh)


def runs(profile: str) -> dict[str, list[str]]:
    """Every run of a profile: experiment -> its parts; of a profile that is not one of PROFILES, the commons only."""
    if profile not in PROFILES:
        return commons_runs.runs(profile)
    return {
        "ipd": list(ALGORITHMS),
        "ipd_long": ["loqa", "advantage_alignment"],
        "ipd_sweep": [str(rate) for rate in PROFILES[profile].sweep_learning_rates],
        "ipd_tournament": [*ALGORITHMS, "classics"],
        "llm_prior": llm_settings.played(profile),
        "llm": llm_settings.parts(profile),
        "llm_crossplay": llm_settings.played(profile),
        "llm_speed": llm_settings.played(profile),
        **league_runs.runs(profile),
        **commons_runs.runs(profile),
    }


def needs(experiment: str, part: str, profile: str) -> list[str]:
    """Runs, as EXPERIMENT/PART, that a run builds on."""
    if experiment == "ipd_tournament" and part != "classics":
        return [f"ipd/{part}"]  # learned policies play the tournament
    if experiment in league_runs.EXPERIMENTS:
        return league_runs.needs(experiment, profile)
    if experiment in commons_runs.EXPERIMENTS:
        return commons_runs.needs(experiment, profile)
    if experiment == "llm_crossplay":
        return [f"llm/{name}" for name in llm_settings.main_parts(profile) if name.startswith(f"{part}-")]
    if experiment == "llm":
        teacher = [f"llm/{part.replace('naive_vs_aligned', 'advantage_alignment')}"] * ("-naive_vs_aligned-" in part)
        return [f"llm_prior/{part.split('-')[0]}", *teacher]
    if experiment == "llm_speed" and profile != "paper":  # plays with the warmed-up model
        return [f"llm_prior/{part}"]
    return []


EXPERIMENTS: dict[str, Callable[..., pd.DataFrame]] = {
    "ipd": ipd,
    "ipd_long": ipd_long,
    "ipd_sweep": ipd_sweep,
    "ipd_tournament": ipd_tournament,
    "llm_prior": llm_prior,
    "llm": llm,
    "llm_crossplay": llm_crossplay,
    "llm_speed": llm_speed,
    **league_runs.EXPERIMENTS,
    **commons_runs.EXPERIMENTS,
}


def _policies_of(table: pd.DataFrame) -> pd.DataFrame:
    """Final P(cooperate) of each learner, one row per state."""
    last = table[(table.step == table.step.max()) & table.metric.isin(STATES)]
    return last.rename(columns={"metric": "state", "value": "probability"}).drop(columns="step")


def _returns_of(table: pd.DataFrame) -> pd.DataFrame:
    """Mean reward per round along training."""
    return table[table.metric == "reward"].rename(columns={"value": "reward"}).drop(columns="metric")


def _llm_policies_of(table: pd.DataFrame) -> pd.DataFrame:
    """P(cooperate) in each state of the prisoner's dilemma after training; states that were never met are left out."""
    final = table[table.metric.str.startswith("P(")]
    state = final.metric.str.removeprefix("P(").str.removesuffix(")")
    return final.assign(state=state, probability=final.value)[["game", "algorithm", "seed", "state", "probability"]]


# table -> (experiments, what is kept of each of their runs)
TABLES: dict[str, tuple[Sequence[str], Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "ipd_policy": (["ipd"], _policies_of),
    "ipd_returns": (["ipd"], _returns_of),
    "ipd_long": (["ipd_long"], lambda table: table),
    "ipd_sweep": (["ipd_sweep"], lambda table: table),
    "ipd_tournament": (["ipd_tournament"], lambda table: table),
    "llm_training": (["llm_prior", "llm"], lambda table: table[~table.metric.str.startswith("P(")]),
    "llm_policy": (["llm_prior", "llm"], _llm_policies_of),
    "llm_crossplay": (["llm_crossplay"], lambda table: table),
    "llm_speed": (["llm_speed"], lambda table: table),
    **league_runs.TABLES,
    **commons_runs.TABLES,
}


def load(name: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """Read a table of data/PROFILE; make it, and the runs that it needs, if it is missing or `fresh`."""
    if fresh or not records.table_path(profile, name).is_file():
        write_table(name, profile, fresh)
    return records.read_table(profile, name)


def table_runs(name: str, profile: str) -> list[tuple[str, str]]:
    """(experiment, part) of every run that a table is put together from."""
    return [(experiment, part) for experiment in TABLES[name][0] for part in runs(profile)[experiment]]


def write_table(name: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """Put a table of data/PROFILE together from the runs of its experiment (which are made if they are missing)."""
    check_choice("name", name, TABLES)
    _, keep = TABLES[name]
    parts = table_runs(name, profile)
    tables = [keep(EXPERIMENTS[experiment](part, profile, fresh)) for experiment, part in parts]
    table = pd.concat([part for part in tables if len(part)], ignore_index=True)
    sources = {part: records.record_of(profile, f"{experiment}/{part}") for experiment, part in parts}
    records.write_table(records.table_path(profile, name), table, {"table": name, "runs": sources})
    return table


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m aa_core.experiments", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="make one run, unless it is cached")
    run.add_argument("experiment", choices=sorted(EXPERIMENTS))
    run.add_argument("part", help="algorithm, learning rate, entry, game, or GAME-VARIANT-SEED")
    run.add_argument("--fresh", action="store_true", help="run again although the result is cached")
    table = commands.add_parser("table", help="put a table together from runs")
    table.add_argument("name", choices=sorted(TABLES))
    for command in (run, table):
        command.add_argument("--profile", choices=sorted({*PROFILES, *commons_runs.SIZES}), default="laptop")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # two runs share two cores; also fixes the order of sums
    started = time.perf_counter()
    if options.command == "run":
        if options.part not in runs(options.profile)[options.experiment]:
            parts = ", ".join(runs(options.profile)[options.experiment])
            parser.error(f"part of {options.experiment} must be one of {parts}, got {options.part!r}")
        EXPERIMENTS[options.experiment](options.part, options.profile, options.fresh)
        records.table_path(options.profile, f"{options.experiment}/{options.part}").touch()  # newer than its inputs
        print(f"run {options.experiment} {options.part}: {time.perf_counter() - started:.0f} s", flush=True)
    else:
        write_table(options.name, options.profile)


if __name__ == "__main__":
    main()
