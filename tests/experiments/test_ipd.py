from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aa_core.actor_critic import ActorCritic, Network, Seen, Spaces, load
from aa_core.games.base import random_player
from aa_core.games.matrix import STATES, MatrixGame
from aa_core.selfplay import play
from experiments import ipd
from experiments.ipd import (
    ALGORITHMS,
    EXPERIMENTS,
    play_gru,
    play_ipd,
    policies_of,
    returns_of,
)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_policy_is_the_mean_of_the_last_third_of_its_updates(algorithm: str, tmp_path: Path) -> None:
    settings = ipd.ipd("smoke", algorithm, 0).settings
    settings = replace(settings, training=replace(settings.training, updates=3, games=4, record_every=1), seeds=(5, 9))
    table = play_ipd(settings, tmp_path)
    assert sorted(table.step.unique()) == [0, 1, 2, 3]
    policies = policies_of(table)
    assert len(policies) == 2 * 2 * 5
    assert sorted(policies.seed.unique()) == [5, 9]
    late = table[(table.step >= 2) & (table.metric == "DC") & (table.seed == 9) & (table.player == 1)]
    ours = policies[(policies.state == "DC") & (policies.seed == 9) & (policies.player == 1)].probability.item()
    assert ours == pytest.approx(late.value.mean())
    assert returns_of(table).reward.between(-3, 0).all()


def mind_that_answers(table: Sequence[float]) -> ActorCritic:
    """A network that has no memory: P(C) by state."""
    mind = ActorCritic(Spaces((5,), 2, None), Network(8, shared=True))
    with torch.no_grad():
        for weight in mind.parameters():
            weight.zero_()
        mind.actor.dense.weight[:5, :5] = torch.eye(5)  # after relu: one-hot
        mind.actor.memory.weight_ih_l0[16:24, :8] = 20 * torch.eye(8)  # the new gate: tanh(20) = 1 where one-hot
        mind.actor.memory.bias_ih_l0[8:16] = -20  # the update gate is shut: nothing is kept
        mind.policy.weight[0, :5] = torch.tensor(table).logit()
    return mind


@pytest.mark.parametrize("first", ["itself", "random play"])
def test_a_policy_without_memory_is_read_as_its_table(first: str) -> None:
    table = [0.9, 0.8, 0.3, 0.6, 0.1]
    mind = mind_that_answers(table)
    read = ipd.read_policy(mind, random_player if first == "random play" else mind, MatrixGame(ipd.PAYOFFS, 6), 4, 0)
    assert list(read) == list(STATES)
    assert list(read.values()) == pytest.approx(table, abs=1e-5)


def test_the_answer_to_a_forced_move_follows_the_first_part_that_was_played(monkeypatch: pytest.MonkeyPatch) -> None:
    # every observation that the mind is asked about: t rounds of the first part, then one forced joint move
    game, asked = MatrixGame(ipd.PAYOFFS, 4), []
    mind = mind_that_answers([0.5] * 5)

    def act(seen: Seen, hidden: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        before = torch.zeros(len(seen.observations[0]), 0) if hidden is None else hidden
        asked.append(torch.cat([before, seen.observations.T.float()], 1))
        return torch.zeros(1, len(before), 2), asked[-1]

    def defect(game: MatrixGame, observations: torch.Tensor, generator: object) -> torch.Tensor:
        return torch.ones_like(observations)

    monkeypatch.setattr(mind, "act", act)
    ipd.read_policy(mind, defect, game, 1, 0)
    histories = {tuple(row.int().tolist()) for batch in asked for row in batch}
    forced = {(0, *[4] * t, state) for t in range(3) for state in (1, 2, 3, 4)}
    assert histories == {(0,), (0, 4, 4, 4)} | forced


def test_the_gru_is_read_along_training_and_kept(tmp_path: Path) -> None:
    run = ipd.ipd_gru("smoke", "advantage_alignment", 5)
    table = play_gru(run.settings, tmp_path)
    assert table["update"].max() == run.settings.training.updates
    assert set(table.metric) >= {*STATES, "CD after random play", "reward"}
    assert load(tmp_path / "agent.safetensors").network == run.settings.training.network
    assert policies_of(table).columns.tolist() == ["algorithm", "seed", "state", "probability"]
    assert len(policies_of(table)) == 5


def test_the_gru_is_read_after_its_own_play_and_after_random_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ipd.ipd_gru("smoke", "advantage_alignment", 5).settings
    game = MatrixGame(settings.payoffs, settings.rounds)
    mind = mind_that_answers([0.99, 0.99, 0.1, 0.1, 0.1])
    with torch.no_grad():
        mind.actor.memory.bias_ih_l0[8:16] = 0  # the update gate is half open: half of the past is kept

    def trained(game, training, credit, seed, on_update):
        on_update(training.updates - 1, mind, play(game, [mind], torch.zeros(2, 2).long(), torch.Generator()))
        return mind

    monkeypatch.setattr(ipd, "train_network", trained)
    rows = play_gru(settings, tmp_path).set_index("metric").value
    own, after_random = (ipd.read_policy(mind, first, game, settings.games, 5) for first in (mind, random_player))
    assert rows[list(STATES)].to_dict() == own
    assert rows[[f"{state} after random play" for state in STATES]].tolist() == list(after_random.values())
    assert own["CD"] > after_random["CD"] + 0.3


def test_the_map_changes_one_thing_at_a_time_and_is_not_made_of_judged_seeds() -> None:
    plain = ipd.ipd_gru("laptop", "advantage_alignment", 0).settings
    runs = next(table for table in ipd.TABLES if table.name == "ipd_gru_map").runs("laptop")
    assert len({run.identity for run in runs}) == len(runs)
    assert {run.seed for run in runs}.isdisjoint(ipd.SEEDS)
    for run in runs:
        assert replace(run.settings, algorithm="", training=plain.training, credit=plain.credit, seed=0) == replace(
            plain, algorithm=""
        )
    assert ipd.ipd_gru("laptop", "beta-3-gamma-0.9", 0).settings.credit.keywords["beta"] == 3.0
    assert ipd.ipd_gru("laptop", "beta-3-gamma-0.9", 0).settings.training.gamma == 0.9


def test_batches_of_seeds_do_not_overlap() -> None:
    first, second = (ipd.ipd("laptop", "naive", batch).settings.seeds for batch in (0, 1))
    assert first == tuple(range(5, 15))  # settings were chosen on 0 to 4
    assert len(second) == len(first)
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
