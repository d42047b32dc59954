# runs -> data -> notebooks -> figures. Called by the Makefile; on a cluster: see README, "Beyond one machine".

from glob import glob

from aa_core import commons_runs, league_runs
from aa_core.experiments import needs, table_runs

PROFILE = config.get("profile", "laptop")
FRESH = "--fresh" if str(config.get("fresh", 0)) == "1" else ""
DATA = f"data/{PROFILE}"
BUILD = f"build/{PROFILE}"
FIGURES = "figures" if PROFILE == "laptop" else f"{BUILD}/figures"

# number: name, tables it reads, figures it draws
NOTEBOOKS = {
    "00": ("00_start_here", ["ipd_policy"], ["overview"]),
    "01": ("01_social_dilemmas", [], ["naive_basins", "naive_trajectories"]),
    "02": ("02_opponent_shaping", [], ["lola_basins", "theorem1_angles"]),
    "03": ("03_loqa_and_advantage_alignment", [], ["aa_fig1a", "partition_term", "exact_outcomes"]),
    "04": (
        "04_iterated_prisoners_dilemma",
        ["ipd_policy", "ipd_returns", "ipd_long", "ipd_sweep", "ipd_tournament"],
        ["aa_fig1b", "ipd_learning_curves", "ipd_long", "ipd_sweep", "nash_stability", "ipd_tournament"],
    ),
    # the maps of settings and negotiation_long are not among their tables: half an hour of one core, on demand only
    "05": (
        "05_coin_game_league",
        ["coin_curves", "coin_league", "coin_episode", "shaping_cost", "coin_speed"],
        ["coin_learning_curves", "aa_fig2", "coin_episode", "coin_map", "shaping_cost"],
    ),
    "06": (
        "06_negotiation",
        ["negotiation_curves", "negotiation_league", "negotiation_episode"],
        ["negotiation_learning_curves", "aa_fig3", "negotiation_long", "negotiation_sample", "negotiation_map"],
    ),
    # harvest_variants is not among its tables: dozens of trainings, on demand only
    "07": (
        "07_commons_harvest",
        ["harvest", "harvest_curves", "harvest_episode", "harvest_frames", "harvest_credit"],
        [
            "harvest_dilemma", "harvest_learning_curves", "harvest_apples", "harvest_credit", "aa_fig5", "aa_fig4",
            "harvest_players", "harvest_variants", "harvest_published_map",
        ],
    ),
    "08": ("08_group_baseline", [], ["baseline_variance", "baseline_bias", "baseline_llm"]),
    "09": ("09_llms_under_naive_rl", ["llm_training"], ["llm_naive", "llm_naive_claims", "llm_naive_exploits"]),
    "10": (
        "10_llms_under_advantage_alignment",
        ["llm_training", "llm_policy", "llm_crossplay", "llm_speed"],
        [
            "llm_credit_terms", "llm_sharing", "llm_learning_curves", "llm_policy", "llm_crossplay", "llm_claims", "llm_ablations",
            "llm_naive_vs_aligned",
        ],
    ),
    "11": ("11_trust_and_split", ["llm_training"], ["llm_honesty", "llm_lies"]),
    "12": ("12_every_figure", [], ["verdicts"]),  # after all others: it shows their figures and judges their tables
}
JUDGED = [f"{BUILD}/notebook_{number}.done" for number in NOTEBOOKS if number != "12"]
JUDGED += [*glob("data/published/*.csv"), "aa_core/paper_figures.py", "aa_core/verdicts.py"]

TRAINING = [f"aa_core/{m}.py" for m in ("advantages", "experiments", "games/matrix", "objectives", "policies", "selfplay")]
LANGUAGE_MODELS = [f"aa_core/llm/{m}.py" for m in ("buffer", "models", "players", "rollout", "runs", "settings", "speed", "tiny", "trainer")]
RECURRENT = [
    f"aa_core/{m}.py" for m in ("advantages", "games/coin", "games/negotiation", "league", "league_runs", "objectives", "recurrent")
]
COMMONS = [f"aa_core/{m}.py" for m in ("advantages", "commons", "commons_runs", "games/harvest", "objectives")]
CORE = [f"aa_core/{m}.py" for m in ("exact", "figures", "games/matrix", "llm/results", "policies", "selfplay", "advantages", "objectives")]


def code_of(experiment):
    """Files whose change makes a run out of date."""
    if experiment.startswith("llm"):
        return LANGUAGE_MODELS
    if experiment in commons_runs.EXPERIMENTS:
        return COMMONS
    return RECURRENT if experiment in league_runs.EXPERIMENTS else TRAINING


shell.prefix(f"export AA_FIGURES={workflow.basedir}/{FIGURES} AA_HEADLESS=1 PYTHONDONTWRITEBYTECODE=1; ")


localrules: figures,


rule figures:
    input:
        # named here although the tables need them too: a table that is already there, as in a fresh clone, would do
        # without them, and nothing would be trained
        [
            f"{DATA}/runs/{experiment}/{part}.csv"
            for _, tables, _ in NOTEBOOKS.values()
            for table in tables
            for experiment, part in table_runs(table, PROFILE)
        ],
        expand(f"{BUILD}/notebook_{{number}}.done", number=NOTEBOOKS),
        expand(f"{FIGURES}/{{name}}.png", name=[figure for *_, figures in NOTEBOOKS.values() for figure in figures]),
    run:
        from aa_core.publish import check_figures

        check_figures(FIGURES, [name for name, *_ in NOTEBOOKS.values()])
        print(f"all figures are in {FIGURES}/, the executed notebooks in {BUILD}/")


rule run:
    input:
        lambda wildcards: code_of(wildcards.experiment),
        lambda wildcards: [f"{DATA}/runs/{run}.csv" for run in needs(wildcards.experiment, wildcards.part, PROFILE)],
    output:
        f"{DATA}/runs/{{experiment}}/{{part}}.csv",
    # alone: with the GPU, and where time is measured
    threads: lambda wildcards: workflow.cores if wildcards.experiment in ("llm_speed", "shaping_cost", "coin_speed") or (PROFILE == "paper" and wildcards.experiment.startswith("llm")) else 1
    shell:
        "python -m aa_core.experiments run {wildcards.experiment} {wildcards.part} --profile {PROFILE} {FRESH}"


rule table:
    input:
        lambda wildcards: [f"{DATA}/runs/{run}/{part}.csv" for run, part in table_runs(wildcards.table, PROFILE)],
    output:
        f"{DATA}/{{table}}.csv",
    wildcard_constraints:
        table="[a-z_]+",
    shell:
        "python -m aa_core.experiments table {wildcards.table} --profile {PROFILE}"


for number, (name, tables, figures) in NOTEBOOKS.items():

    rule:
        name:
            f"notebook_{number}"
        input:
            CORE,
            JUDGED if number == "12" else [],
            notebook=f"notebooks/{name}.ipynb",
            tables=[f"{DATA}/{table}.csv" for table in tables],
        output:
            touch(f"{BUILD}/notebook_{number}.done"),
            [f"{FIGURES}/{figure}.{kind}" for figure in figures for kind in ("png", "svg", "json")],
            executed=f"{BUILD}/{name}.ipynb",
        shell:
            "python -m aa_core.execute {input.notebook} {output.executed} --profile {PROFILE}"
