from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import axelrod
import pytest
import torch
from safetensors.torch import load_file

from aa_core.games.matrix import STATES
from experiments import ipd, tournament
from experiments.ipd import (
    ALGORITHMS,
    EXPERIMENTS,
    SIZES,
    Tournament,
    play_ipd,
    play_tournament,
    policies_of,
    returns_of,
)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_saved_tables_are_those_of_the_last_update(algorithm: str, tmp_path: Path) -> None:
    settings = ipd.ipd("smoke", algorithm, 0).settings
    settings = replace(settings, training=replace(settings.training, updates=2, games=4), seeds=(5, 9))
    table = play_ipd(settings, tmp_path)
    saved = load_file(tmp_path / "agent.safetensors")["logits"].sigmoid()
    assert saved.shape == (2, 2, 5)
    last = policies_of(table).pivot(index=["seed", "player"], columns="state", values="probability")[list(STATES)]
    torch.testing.assert_close(torch.tensor(last.to_numpy()).float().view(2, 2, 5), saved)
    assert sorted(last.index.get_level_values("seed").unique()) == [5, 9]
    assert returns_of(table).reward.between(-3, 0).all()


def test_batches_of_seeds_do_not_overlap() -> None:
    first, second = (ipd.ipd("laptop", "naive", batch).settings.seeds for batch in (0, 1))
    assert len(first) == len(second) == SIZES["laptop"].seeds
    assert not set(first) & set(second)


def test_a_sweep_holds_updates_times_learning_rate() -> None:
    runs = EXPERIMENTS[2].runs("laptop")
    assert len({round(run.settings.training.updates * run.settings.training.learning_rate, 9) for run in runs}) == 1


def test_algorithms_differ_by_their_rule_alone() -> None:
    runs = [ipd.ipd("laptop", algorithm, 0) for algorithm in ALGORITHMS]
    assert len({run.identity for run in runs}) == len(runs)
    rules = [run.settings.credit for run in runs]
    assert [rule is None for rule in rules] == [algorithm == "lola_dice" for algorithm in ALGORITHMS]
    same = {replace(run.settings, algorithm="", credit=None, lola_step=None) for run in runs}
    assert len(same) == 1


def test_learned_tables_and_the_classics_enter_the_tournament(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opponents = [axelrod.Cooperator, axelrod.Defector, axelrod.TitForTat]
    monkeypatch.setattr(tournament, "field", lambda: opponents)  # all of them take seconds to list
    settings = ipd.ipd("smoke", "naive", 0).settings
    play_ipd(replace(settings, training=replace(settings.training, updates=1, games=2)), tmp_path)
    learned = play_tournament(Tournament("naive", seeds=2, repetitions=1, field=2), tmp_path, [tmp_path])
    assert learned.groupby(["entry", "seed"]).size().to_dict() == {("naive", 0): 2, ("naive", 1): 2}
    classics = play_tournament(Tournament("classics", seeds=2, repetitions=1, field=2), tmp_path, [])
    assert set(classics.entry) >= {"tit for tat", "always defect"}
    assert ipd.ipd_tournament("smoke", "naive", 0).needs[0].name == "ipd/naive-0"
