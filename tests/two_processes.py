"""What each of two processes does for test_trainer_processes.py: `torchrun --nproc-per-node 2 THIS FOLDER`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from accelerate.utils import gather_object
from trainers import adapter_of, any_credit, disturb, slow_loss, trainer, watch

from aa_core.llm import trainer as llm_trainer
from aa_core.llm.trainer import AdvantageAlignmentTrainer
from experiments import language, paths, run, tiny

torch.set_num_threads(1)


def learner_of(folder: Path, **options: object) -> AdvantageAlignmentTrainer:
    tokenizer = tiny.tokenizer_of("ipd")
    model = tiny.untrained(tiny.WarmUp(hidden_size=16, layers=1, heads=1), tokenizer)
    defaults = dict(per_device_train_batch_size=2, gradient_accumulation_steps=2, rounds=2, max_completion_length=4)
    return trainer(model, tokenizer, folder, any_credit, **(defaults | options))


def loss(folder: Path) -> None:
    """One update by plain gradient descent moves the adapter along the gradient of the formula."""
    options = dict(optim="sgd", learning_rate=1.0, max_grad_norm=0.0, beta=0.3, entropy_coef=0.2, max_steps=1)
    learner = learner_of(folder, **options)
    disturb(learner.model)
    before, chats = adapter_of(learner.model), watch(learner)
    learner.train()
    after = adapter_of(learner.accelerator.unwrap_model(learner.model))
    everybody = gather_object(chats)
    assert (len(chats), len(everybody)) == (4, 8)
    other = learner_of(folder / "other").model
    for name, parameter in other.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(before[name])
    slow_loss(other.eval(), everybody, 0.3, 0.2).backward()
    for name, parameter in other.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(before[name] - after[name], parameter.grad, atol=5e-6, rtol=1e-3, msg=name)


def survival(folder: Path) -> None:
    """A training with a buffer that stops after two of four updates ends as the undisturbed one, in both processes."""
    ends, histories = [], []
    for name, stop in (("whole", 4), ("resumed", 2), ("resumed", 4)):
        options = dict(save_strategy="steps", save_steps=1, learning_seats="alternate", buffer_every=1, max_steps=stop)
        learner = learner_of(folder / name, lr_scheduler_type="constant", **options)
        learner.train(resume_from_checkpoint=True)
        ends.append(adapter_of(learner.accelerator.unwrap_model(learner.model)))
        histories.append(learner.history)
    assert all(torch.equal(ends[0][name], tensor) for name, tensor in ends[2].items())
    assert histories[0] == histories[2]
    digests = gather_object([[float(sum(x.double().sum() for x in ends[0].values())), histories[0]]])
    assert digests[0] == digests[1]
    assert len((folder / "whole" / "curve.jsonl").read_text().splitlines()) == 4


def deal(folder: Path) -> None:
    """Past agents and the games in which they sit are those that one process would draw."""
    learner = learner_of(folder, learning_seats="alternate", buffer_every=1, max_steps=2)
    learner.train()
    learner.rng.seed("anything")
    tables = learner._deal([1] * 8, learner._player())
    sat = gather_object([table.players[1 - table.learners[0]].adapters.get(table.game) for table in tables])
    rng = Random("anything")
    rng.sample(range(2), 2)  # which copies they are
    drawn = [rng.choice(["past0", "past1"]) if rng.random() < 0.5 else None for _ in range(16)]
    assert sat == drawn
    assert set(sat) == {"past0", "past1", None}
    lent = [float(p.detach().sum()) for name, p in learner.model.named_parameters() if ".past" in name]
    assert len({tuple(each) for each in gather_object([lent])}) == 1


def runs(folder: Path) -> None:
    """A pupil and its teacher are trained once, on the games of the settings; asked for again they are read."""
    paths.BUILD, played = folder, []
    play = llm_trainer.play
    llm_trainer.play = lambda games, seats: (played.append(len(games)), play(games, seats))
    chats = dict(per_device_train_batch_size=2, gradient_accumulation_steps=4, num_generations=4)
    prior = language.prior_run("smoke", "ipd")
    teacher = language.training_run("smoke", "ipd-advantage_alignment", 5)
    teacher = replace(teacher, settings=replace(teacher.settings, **chats))
    pupil = language.training_run("smoke", "ipd-naive_vs_aligned", 5)
    pupil = replace(pupil, settings=replace(pupil.settings, **chats), needs=(prior, teacher))
    table = run.table_of(run.make(pupil))
    assert sum(gather_object(played)) == pupil.settings.max_steps * (8 + 8)  # one chat a game
    assert sorted(table["update"].unique()) == list(range(pupil.settings.max_steps + 1))
    assert not table.duplicated(["update", "metric"]).any()
    read = run.table_of(run.make(pupil))
    assert read.equals(table)
    assert sum(gather_object(played)) == pupil.settings.max_steps * (8 + 8)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    loss(place / "loss")
    survival(place)
    deal(place / "deal")
    runs(place / "runs")
    (place / f"passed-{os.environ['RANK']}").touch()
