"""A training that is killed at any time ends, started again, as if it had not been."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from experiments import language, language_runs, paths, records, run
from experiments.language_runs import read_log

UPDATES, KILLS = 12, 3


def training_run() -> run.Run:
    """Twelve updates of the embedded model, with a buffer; `watched` after every fifth."""
    settings = replace(
        language.training("smoke", "ipd", "advantage_alignment"),
        max_steps=UPDATES,
        buffer_every=2,
        save_steps=2,
        watch_every=5,
        watch_games=2,
    )
    return run.Run("llm", "killed", 0, settings, language_runs.train, (language.prior_run("smoke", "ipd"),))


def make_in(build: Path) -> None:
    """What the processes do that are killed."""
    torch.set_num_threads(1)
    paths.BUILD = build
    run.make(training_run())


def test_a_training_killed_thrice_ends_bit_for_bit_as_the_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, rng, when = [], Random(os.getpid()), []
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["aa_core.llm.trainer", "experiments.language", "experiments.tiny"])
    for name in ("whole", "killed"):
        monkeypatch.setattr(paths, "BUILD", tmp_path / name)
        wanted = training_run()
        run.make(wanted.needs[0])  # the warm-up: not what is tested
        curve = wanted.folder.with_name(f".{wanted.folder.name}.checkpoints") / "curve.jsonl"
        before = 0
        for _ in range(KILLS if name == "killed" else 0):
            before = rng.randint(before, UPDATES - 1)
            process = processes.Process(target=make_in, args=(tmp_path / name,))
            process.start()
            while process.is_alive() and len(read_log(curve)) <= before:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.1)  # anywhere in an update, or in a checkpoint
            process.kill()
            process.join()
            when.append(len(read_log(curve)))
            assert not wanted.is_made(), f"nothing was killed: {when}"
        if name == "killed":  # in the midst of writing an evaluation
            curve.with_name("watched").mkdir(exist_ok=True)
            (curve.parent / "watched" / ".000005.json.99").write_text("{")
        run.make(wanted)
        assert not curve.exists()
        folders.append(wanted.folder)
    files = [{path.relative_to(f): path.read_bytes() for path in f.rglob("*") if path.is_file()} for f in folders]
    names = [sorted(str(name) for name in each if name.name != "record.json") for each in files]
    assert names[0] == names[1]
    assert {"table.csv", "adapter_model.safetensors", "watched/000005.json", "watched/000010.json"} <= set(names[0])
    same = [name for name in names[0] if name != language_runs.LOG]  # which says how long an update took
    assert all(files[0][Path(name)] == files[1][Path(name)] for name in same), when
    logs = [read_log(folder / language_runs.LOG) for folder in folders]
    assert [row["update"] for row in logs[1]] == [row["update"] for row in logs[0]] == [*range(1, UPDATES + 1)]
    assert [row["grad_norm"] for row in logs[1]] == [row["grad_norm"] for row in logs[0]]
    assert records.read_record(folders[0] / "record.json")["identity"] == wanted.identity
