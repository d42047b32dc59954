"""Profile `paper` from end to end, in the small: its own code and settings, with tiny random models of four families.

`make rehearsal` (AA_REHEARSAL=1) plays every game with every family; `make test` one game with each, Gemma's being the
training that is stopped.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from chat_families import FAMILIES, save
from peft import PeftModel
from transformers import AutoTokenizer

from aa_core.games.text import METRICS
from aa_core.llm.players import play
from aa_core.llm.trainer import AdvantageAlignmentTrainer
from experiments import language, models
from experiments.language_runs import SCRIPTS, CrossPlay, Prior, Training, cross_play, make_prior, train

SHORT = list(zip(FAMILIES, language.GAMES, strict=False))
FULL = [(family, game) for family in FAMILIES for game in language.GAMES]


@pytest.fixture(autouse=True)
def without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "check_gpu", lambda gigabytes: None)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: save(family, tmp_path_factory.mktemp(family.replace(".", "_"))) for family in FAMILIES}


def small(model: Path, game: str, algorithm: str) -> Training:
    """The paper's settings, but for what makes them large."""
    run = language.training("paper", game, algorithm, seed=5)
    changes = dict(
        model=str(model), rounds=2, max_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        num_generations=2, max_completion_length=30, learning_rate=1e-3, evaluation_games=1, watch_every=2,
        watch_games=1, save_steps=1, token_budget=20_000,
    )  # fmt: skip
    if run.buffer_every is not None:
        changes |= dict(buffer_every=1, buffer_drawn=2)
    return replace(run, **changes)


@pytest.mark.parametrize(("family", "game"), FULL if os.environ.get("AA_REHEARSAL") else SHORT)
def test_trainings_of_profile_paper(folders: dict[str, Path], tmp_path: Path, family: str, game: str) -> None:
    run = small(folders[family], game, "advantage_alignment")
    done = make(run, tmp_path / "undisturbed")
    table = done["table"]
    assert set(table["update"]) == {0, 1, 2}
    assert finite(table)
    final = table[table["update"] == 2].set_index("metric").value
    assert {f"reward_vs_{name}" for name in SCRIPTS[game]} <= set(final.index)
    if game != "trust_and_split":  # whose messages may be cut
        assert final["errors"] == 0  # replies are guided in the end
    watched = json.loads((done["folder"] / "watched" / "000002.json").read_text())
    assert all("<" in text for text in watched["transcripts"])

    check_adapter(folders[family], done["folder"], watched["transcripts"][0])


@torch.no_grad()
def check_adapter(model: Path, adapter: Path, text: str) -> None:
    """Plain PEFT loads what we save, and it is not the base any more."""
    base = models.load(model)[0].eval()
    ids = torch.tensor([AutoTokenizer.from_pretrained(model).encode(text)[:100]], device=base.device)
    plain = base(ids).logits
    tuned = PeftModel.from_pretrained(base, adapter).eval()(ids).logits
    assert torch.equal(tuned, models.load(model, adapter=adapter)[0].eval()(ids).logits)
    assert not torch.equal(tuned, plain)


def make(run: Training, folder: Path) -> dict[str, object]:
    """What `experiments.run` does around a computation, in short."""
    folder.mkdir(parents=True)
    return {"table": train(run, folder, []), "folder": folder}


def finite(table: pd.DataFrame) -> bool:
    return bool(table.value.map(lambda value: abs(value) < 1e6).all())


class StoppedError(Exception):
    """Stands for a kill between two updates."""


def test_a_training_that_was_stopped_ends_as_if_it_had_not_been(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small(folders["gemma3"], "ipd", "advantage_alignment")
    done = make(run, tmp_path / "undisturbed")
    played = AdvantageAlignmentTrainer.play_batch

    def stop(trainer: AdvantageAlignmentTrainer, seeds: list[int]) -> list[object]:
        if trainer.state.global_step == 1:
            raise StoppedError
        return played(trainer, seeds)

    with monkeypatch.context() as patch:
        patch.setattr(AdvantageAlignmentTrainer, "play_batch", stop)
        with pytest.raises(StoppedError):
            make(run, tmp_path / "stopped")
    again = {"table": train(run, tmp_path / "stopped", []), "folder": tmp_path / "stopped"}
    pd.testing.assert_frame_equal(again["table"], done["table"])
    name = "adapter_model.safetensors"
    assert (again["folder"] / name).read_bytes() == (done["folder"] / name).read_bytes()
    check_adapter(folders["gemma3"], done["folder"], "Reply with <A> or <B> and nothing else.")


def test_prior_and_cross_play_of_profile_paper(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seated: list[tuple[int, ...]] = []

    def watched(games: list, pairs: list) -> None:
        seated.extend(tuple(map(id, pair)) for pair in pairs)
        play(games, pairs)

    run = small(folders["qwen3"], "split", "naive")
    table = make_prior(Prior(replace(run, max_steps=0), None), tmp_path / "prior", [])
    assert set(table.metric) >= {"reward", "efficiency", "errors"} & set(METRICS)
    needs = [make(run, tmp_path / "naive")["folder"]] * 2
    agents = (("naive", 5), ("naive", 6))
    monkeypatch.setattr("aa_core.llm.players.play", watched)
    crossed = cross_play(CrossPlay(run, agents, 1), tmp_path / "crossed", needs)
    rewards = crossed[crossed.metric == "reward"]
    assert len(rewards) == 5 * 5  # two agents, their prior and two scripts
    assert finite(rewards)
    assert Counter(seated) == Counter(pair[::-1] for pair in seated), "every pair sits both ways"
    earned, (kind, greedy) = rewards.set_index(["row_agent", "column_agent"]).value, SCRIPTS["split"]
    assert earned[greedy, kind].item() > earned[kind, greedy].item()
