from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from aa_core import experiments, records
from aa_core.games.matrix import STATES
from aa_core.llm import settings as llm_settings
from aa_core.selfplay import ALGORITHMS

SIZE = experiments.PROFILES["smoke"]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "DATA", tmp_path)
    return tmp_path


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(experiments, "train", never)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_is_a_tidy_table(algorithm: str) -> None:
    table = experiments.ipd(algorithm, "smoke")
    assert list(table.columns) == ["algorithm", "seed", "player", "step", "metric", "value"]
    assert set(table.algorithm) == {algorithm}
    assert set(table.seed) == set(range(SIZE.seeds))
    assert set(table.player) == {0, 1}
    assert {0, SIZE.updates} <= set(table.step)
    assert set(table.metric) == {*STATES, "reward"}
    assert not table.duplicated(["seed", "player", "step", "metric"]).any()
    assert len(table) == SIZE.seeds * 2 * table.step.nunique() * 6
    assert table[table.metric.isin(STATES)].value.between(0, 1).all()
    assert table[table.metric == "reward"].value.between(-3, 0).all()


def test_a_run_is_trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = experiments.ipd("naive", "smoke")
    with monkeypatch.context() as patch:
        forbid_training(patch)
        pd.testing.assert_frame_equal(experiments.ipd("naive", "smoke"), table)
        with pytest.raises(AssertionError, match="trained again"):
            experiments.ipd("naive", "smoke", fresh=True)
        with pytest.raises(AssertionError, match="trained again"):
            experiments.ipd("loqa", "smoke")
    # made again, the numbers are the same
    pd.testing.assert_frame_equal(experiments.ipd("naive", "smoke", fresh=True), table)


def test_the_record_of_a_run_has_its_settings() -> None:
    experiments.ipd("advantage_alignment", "smoke")
    config = records.record_of("smoke", "ipd/advantage_alignment")["config"]
    expected = {
        "algorithm": "advantage_alignment",
        "updates": SIZE.updates,
        "games": SIZE.games,
        "rounds": SIZE.rounds,
        "seeds": SIZE.seeds,
        "gamma": SIZE.gamma,
        "learning_rate": SIZE.learning_rate,
        "beta": 0.1,
        "game": "prisoners_dilemma",
    }
    assert config | expected == config


def test_the_long_run_is_kept_apart(data: Path) -> None:
    experiments.ipd("loqa", "smoke")
    table = experiments.ipd_long("loqa", "smoke")
    assert table.step.max() == SIZE.long_updates
    assert table.seed.nunique() == SIZE.seeds // 2
    assert experiments.ipd("loqa", "smoke").step.max() == SIZE.updates
    assert (data / "smoke" / "runs" / "ipd_long" / "loqa.csv").is_file()


def test_a_sweep_has_a_row_per_learner() -> None:
    table = experiments.ipd_sweep("0.1", "smoke")
    settings = table.groupby(["beta", "gamma", "learning_rate"])
    assert settings.ngroups == len(SIZE.sweep_betas) * len(SIZE.sweep_gammas)
    assert (settings.size() == 2 * SIZE.sweep_seeds).all()
    assert set(table.player) == {0, 1}
    assert ((table[list(STATES)] >= 0) & (table[list(STATES)] <= 1)).all(axis=None)


def test_learned_policies_are_the_last_rows_of_the_run() -> None:
    policies = experiments.learned_policies("naive", "smoke")
    table = experiments.ipd("naive", "smoke").set_index(["seed", "player", "step", "metric"]).value
    assert policies.shape == (SIZE.seeds, 2, 5)
    for seed in range(SIZE.seeds):
        for player in range(2):
            expected = [table[seed, player, SIZE.updates, state] for state in STATES]
            assert policies[seed, player].tolist() == expected


# --- command line


def test_tables_are_put_together_from_runs(data: Path) -> None:
    experiments.main(["table", "ipd_policy", "--profile", "smoke"])
    table = records.read_table("smoke", "ipd_policy")
    assert {"algorithm", "seed", "state", "probability"} <= set(table.columns)
    assert set(table.algorithm) == set(ALGORITHMS)
    assert set(table.state) == set(STATES)
    assert len(table) == len(ALGORITHMS) * SIZE.seeds * 2 * 5
    assert table.probability.between(0, 1).all()
    sources = json.loads((data / "smoke" / "ipd_policy.json").read_text())["runs"]
    assert {name: record["config"]["algorithm"] for name, record in sources.items()} == {a: a for a in ALGORITHMS}

    experiments.main(["table", "ipd_returns", "--profile", "smoke"])
    returns = records.read_table("smoke", "ipd_returns")
    assert list(returns.columns) == ["algorithm", "seed", "player", "step", "reward"]
    assert set(returns.algorithm) == set(ALGORITHMS)


def test_a_table_does_not_train_what_is_there(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    experiments.main(["table", "ipd_policy", "--profile", "smoke"])
    before = (data / "smoke" / "ipd_policy.csv").read_bytes()
    forbid_training(monkeypatch)
    experiments.main(["run", "ipd", "naive", "--profile", "smoke"])
    experiments.main(["table", "ipd_policy", "--profile", "smoke"])
    assert (data / "smoke" / "ipd_policy.csv").read_bytes() == before


def test_the_profiles_list_runs_that_exist() -> None:
    for profile in experiments.PROFILES:
        runs = experiments.runs(profile)
        assert set(runs) == set(experiments.EXPERIMENTS)
        for experiment in {experiment for sources, _ in experiments.TABLES.values() for experiment in sources}:
            assert runs[experiment]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "ipd", "sarsa"], "advantage_alignment"),
        (["run", "ipd_long", "naive"], "advantage_alignment"),
        (["run", "ipd_sweep", "0.5"], "0.1"),
        (["run", "chess", "naive"], "ipd_tournament"),
        (["run", "ipd", "naive", "--profile", "huge"], "laptop"),
        (["table", "nothing"], "ipd_policy"),
        ([], "table"),
    ],
)
def test_unknown_names_exit_with_the_choices(
    arguments: list[str], named: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = [] if "--profile" in arguments or not arguments else ["--profile", "smoke"]
    with pytest.raises(SystemExit) as exit_info:
        experiments.main([*arguments, *profile])
    assert exit_info.value.code == 2
    assert named in capsys.readouterr().err
    assert not list(data.iterdir())


def test_unknown_names_are_refused_in_python_too() -> None:
    with pytest.raises(ValueError, match=r"^algorithm must be one of .*naive.* got 'sarsa'"):
        experiments.ipd("sarsa", "smoke")
    with pytest.raises(ValueError, match=r"^name must be one of .*ipd_policy.* got 'nothing'"):
        experiments.write_table("nothing", "smoke")
    with pytest.raises(ValueError, match=r"^profile must be one of .*laptop.* got 'huge'"):
        experiments.ipd("naive", "huge")


def test_the_command_line_uses_one_thread() -> None:
    torch.set_num_threads(2)
    try:
        experiments.main(["run", "ipd", "naive", "--profile", "smoke"])
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)


# --- language models


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_runs_need_only_runs_that_exist(profile: str) -> None:
    known = {f"{experiment}/{part}" for experiment, parts in experiments.runs(profile).items() for part in parts}
    for run in known:
        assert set(experiments.needs(*run.split("/"), profile)) <= known
    for name in experiments.TABLES:
        assert {f"{experiment}/{part}" for experiment, part in experiments.table_runs(name, profile)} <= known
    assert {"llm/ipd-advantage_alignment-0", "llm/split-naive-0"} <= known
    assert "llm/ipd-advantage_alignment-0" in experiments.needs("llm", "ipd-naive_vs_aligned-0", profile)


def test_settings_of_profile_paper_are_the_papers() -> None:
    split = llm_settings.training("paper", "split", "advantage_alignment")
    assert (split.games, split.group, split.rounds, split.gamma, split.beta) == (64, 8, 10, 0.9, 1.0)
    assert (split.learning_rate, split.rank, split.reward_scale, split.kl, split.buffer_every) == (
        3e-6, 32, 100.0, 0.001, 10,
    )  # fmt: skip
    ipd = llm_settings.training("paper", "ipd", "advantage_alignment")
    assert (ipd.games, ipd.beta, ipd.entropy, ipd.kl, ipd.reward_scale) == (128, 0.5, 0.01, 0.0, 5.0)
    trust = llm_settings.training("paper", "trust_and_split", "advantage_alignment")
    assert (trust.gamma, trust.beta) == (0.96, 2.0)
    naive = llm_settings.training("paper", "ipd", "naive")
    assert (naive.credit, naive.buffer_every, naive.entropy) == ("naive", None, 0.0)
    with pytest.raises(ValueError, match="variant must be one of"):
        llm_settings.training("paper", "ipd", "greedy")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_profile_paper_says_at_once_that_it_needs_a_gpu() -> None:
    with pytest.raises(RuntimeError, match="laptop"):
        experiments.llm("ipd-naive-0", "paper")


def test_a_language_model_run_is_kept_with_its_adapter(data: Path) -> None:
    table = experiments.llm("ipd-naive_vs_aligned-0", "smoke")
    assert list(table.columns) == ["game", "algorithm", "seed", "update", "metric", "value"]
    assert set(table["update"]) == {0, 1, 2}
    assert {"reward", "reward_other", "cooperation", "errors", "reward_vs_defect", "P(START)"} <= set(table.metric)
    adapter = experiments.adapter_path("ipd-naive_vs_aligned-0", "smoke") / "adapter_model.safetensors"
    written = adapter.stat().st_mtime_ns
    pd.testing.assert_frame_equal(experiments.llm("ipd-naive_vs_aligned-0", "smoke"), table)
    assert adapter.stat().st_mtime_ns == written
    adapter.unlink()  # an adapter that is gone is trained again, to the same numbers
    pd.testing.assert_frame_equal(experiments.llm("ipd-naive_vs_aligned-0", "smoke"), table)
    assert adapter.is_file()


def test_cross_play_has_every_ordered_pair(data: Path) -> None:
    table = experiments.llm_crossplay("split", "smoke")
    agents = {*llm_settings.MAIN, "welfare", "greedy"}
    rewards = table[table.metric == "reward"]
    assert {tuple(pair) for pair in rewards[["row_agent", "column_agent"]].to_numpy()} == {
        (one, two) for one in agents for two in agents
    }
    assert not rewards.duplicated(["row_agent", "column_agent", "row_seed", "column_seed"]).any()
    both = rewards.set_index(["row_agent", "column_agent"]).value
    assert both["welfare", "greedy"] < both["greedy", "welfare"]  # whatever the models do, the scripts are known
    assert both["greedy", "greedy"] < both["welfare", "welfare"]


def test_speed_is_measured_on_one_and_two_threads() -> None:
    torch.set_num_threads(1)
    table = experiments.llm_speed("ipd", "smoke")
    assert torch.get_num_threads() == 1
    wide = table.pivot(index="threads", columns="metric", values="value")
    assert list(wide.index) == [1, 2]
    assert (wide > 0).all(axis=None)
    assert (wide.games_per_second_limit > wide.games_per_second).all()  # nothing beats the arithmetic
    tokens = {len(set(wide.tokens_per_game)), int(wide.tokens_per_game.min() > 100)}
    assert tokens == {1}
