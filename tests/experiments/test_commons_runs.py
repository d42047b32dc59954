from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Generator

from aa_core import commons, commons_runs, experiments, records
from aa_core.advantages import gae
from aa_core.commons import ALGORITHMS, play_episode
from aa_core.games.harvest import HarvestGame, HarvestState, random_player

SIZE = commons_runs.SIZES["smoke"]
GAME = commons_runs.game_of("smoke")
TABLES = ("harvest", "harvest_curves", "harvest_episode", "harvest_frames", "harvest_credit")
BOUNDS = {
    "collective_return": float("inf"),
    "sustainability": GAME.horizon,
    "equality": 1.0,
    "peace": GAME.num_players,
    "apples_at_end": len(GAME.apple_cells),
    "scenario_zapping": GAME.horizon,
    "scenario_peaceful": GAME.horizon,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")  # one for all: tables share their runs


@pytest.fixture(autouse=True)
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "DATA", folder)
    return folder


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(commons, "train", never)


# --- settings


@pytest.mark.parametrize("profile", commons_runs.SIZES)
def test_algorithms_differ_in_nothing_but_the_credit(profile: str) -> None:
    found = [commons_runs.settings_of(algorithm, profile) for algorithm in ALGORITHMS]
    assert [settings.algorithm for settings in found] == list(ALGORITHMS)
    assert len({replace(settings, algorithm="ppo") for settings in found}) == 1
    assert commons_runs.game_of(profile).horizon == found[0].lifetime


def test_paper_has_the_numbers_of_the_authors_code() -> None:
    paper = commons_runs.settings_of("proximal_advantage_alignment", "paper")
    assert (paper.worlds, paper.chunk, paper.gamma, paper.lam, paper.learning_rate) == (6, 15, 0.99, 0.95, 1e-5)
    assert (paper.beta, paper.past, paper.over, paper.entropy, paper.clip) == (1.0, "averaged", "sum", 0.1, 0.1)
    assert (paper.past_seats, paper.past_every, paper.past_capacity) == (2, 20, 4000)
    game = commons_runs.game_of("paper")
    assert (game.map, game.window, game.num_players) == ("open", (9, 1, 5), 7)


# --- one run


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_is_tidy_cached_and_keeps_its_network(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    part = f"{algorithm}-1"
    table = commons_runs.agent_run(part, "smoke")
    assert list(table.columns) == commons_runs.COLUMNS
    assert set(table["update"]) == {0, 2, 4}
    assert not table.duplicated(["update", "metric"]).any()
    last = table[table["update"] == 4]
    assert set(last.metric) == set(BOUNDS)
    assert (set(table["map"]), set(table.players), set(table.seed)) == ({"pond"}, {2}, {1})
    config = records.record_of("smoke", f"harvest/{part}")["config"]
    assert (config["seed"], config["algorithm"]) == (1, algorithm)
    assert {"updates", "beta", "size", "code"} < set(config)
    with monkeypatch.context() as patch:
        forbid_training(patch)
        pd.testing.assert_frame_equal(commons_runs.agent_run(part, "smoke"), table)
        with pytest.raises(AssertionError, match="trained again"):
            commons_runs.agent_run(part, "smoke", fresh=True)
    path = commons_runs._network_path(part, "smoke")
    path.unlink()  # a network that is gone is trained again, to the same numbers
    pd.testing.assert_frame_equal(commons_runs.agent_run(part, "smoke"), table)
    assert path.is_file()


def test_a_network_that_is_read_back_plays_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    part = "proximal_advantage_alignment-0"
    table = commons_runs.agent_run(part, "smoke")
    forbid_training(monkeypatch)
    network = commons_runs.trained("proximal_advantage_alignment", 0, "smoke")
    found = commons_runs.evaluate(GAME, network, SIZE.evaluation_worlds, SIZE.background, 54321)
    last = table[table["update"] == table["update"].max()].set_index("metric").value
    assert found == pytest.approx(last.to_dict(), rel=1e-5)


def test_only_the_focal_players_of_a_scenario_count() -> None:
    idle = lambda game, observations, generator: torch.zeros(observations.shape[:2], dtype=torch.long)  # noqa: E731
    game = HarvestGame("orchard", 4, GAME.horizon, GAME.window)
    found = commons_runs.evaluate(game, idle, 4, 2, 0)  # the two free harvesters eat, the two focal ones do not
    assert found["collective_return"] == found["scenario_zapping"] == found["scenario_peaceful"] == 0
    assert found["apples_at_end"] == len(game.apple_cells)
    assert found["peace"] == 4
    busy = commons_runs.evaluate(game, commons_runs.harvest.SCRIPTED["free harvester"], 4, 2, 0)
    assert busy["scenario_peaceful"] > 0


# --- tables


def test_second_time_nothing_is_trained_or_played(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {name: experiments.write_table(name, "smoke") for name in TABLES}
    forbid_training(monkeypatch)
    monkeypatch.setattr(commons_runs, "play_episode", commons.train)
    for name in TABLES:
        pd.testing.assert_frame_equal(experiments.write_table(name, "smoke"), first[name])
        assert not first[name].isna().any(axis=None)


def test_the_end_of_training_has_every_seed_and_stays_within_bounds() -> None:
    table = experiments.load("harvest", "smoke")
    assert list(table.columns) == ["map", "players", "algorithm", "seed", "metric", "value"]
    expected = {(a, s) for a in (*ALGORITHMS, *commons_runs.REFERENCES) for s in range(SIZE.seeds)}
    assert set(zip(table.algorithm, table.seed, strict=True)) == expected
    assert not table.duplicated(["algorithm", "seed", "metric"]).any()
    assert len(table) == len(expected) * len(BOUNDS)
    assert (table.value >= 0).all()
    assert (table.value <= table.metric.map(BOUNDS)).all()
    assert set(records.record_of("smoke", "harvest")["runs"]) == {
        *commons_runs.parts("smoke"), *commons_runs.REFERENCES
    }  # fmt: skip


def test_curves_lead_to_the_end() -> None:
    curves, end = experiments.load("harvest_curves", "smoke"), experiments.load("harvest", "smoke")
    assert (curves.value <= curves.metric.map(BOUNDS)).all()
    last = curves[curves["update"] == curves["update"].max()].drop(columns="update").reset_index(drop=True)
    trained = end[end.algorithm.isin(ALGORITHMS)].reset_index(drop=True)
    pd.testing.assert_frame_equal(last, trained)


def test_episodes_obey_the_rules() -> None:
    table = experiments.load("harvest_episode", "smoke")
    assert list(table.columns) == ["algorithm", "seed", "step", "apples", "eaten", "in_play"]
    expected = {(a, s) for a in ALGORITHMS for s in range(SIZE.seeds)} | {("random", 0)}
    assert set(zip(table.algorithm, table.seed, strict=True)) == expected
    assert table.apples.between(0, len(GAME.apple_cells)).all()
    assert table.in_play.between(0, GAME.num_players).all()
    for _, part in table.groupby(["algorithm", "seed"]):
        assert part.step.tolist() == list(range(1, GAME.horizon + 1))
        assert part.eaten.is_monotonic_increasing
        assert (part.apples.diff().dropna() >= -part.eaten.diff().dropna() - 1e-4).all()  # gone is what was eaten


def test_frames_give_the_worlds_back() -> None:
    table = experiments.load("harvest_frames", "smoke")
    assert list(table.columns) == ["algorithm", "step", "apples", "cells", "headings", "out"]
    assert set(table.algorithm) == set(ALGORITHMS)
    first = table[table.step == 0]
    assert len(first.drop(columns="algorithm").drop_duplicates()) == 1  # the same start for all
    for algorithm in ALGORITHMS:
        played: dict[int, HarvestState] = {}
        network = commons_runs.trained(algorithm, 0, "smoke")
        seats = [network] * GAME.num_players
        play_episode(GAME, seats, 1, Generator().manual_seed(1), played.__setitem__)
        part = table[table.algorithm == algorithm]
        assert part.step.tolist() == list(range(GAME.horizon))
        for _, row in part.iterrows():
            state = commons_runs.frame_state(GAME, row)
            for name in ("cell", "heading", "out", "apples"):
                assert torch.equal(getattr(state, name), getattr(played[row.step], name))
            assert state.time == row.step
            assert GAME.render(state).shape == (16 * GAME.height, 16 * GAME.width, 3)


def test_a_frame_of_a_single_player_is_read_too() -> None:
    game = replace(GAME, num_players=1)
    row = pd.Series({"step": 3, "apples": "A" * 12 + "x", "cells": 8, "headings": 2, "out": 0})  # as CSV reads it
    state = commons_runs.frame_state(game, row)
    assert (state.cell.tolist(), state.heading.tolist(), state.apples.sum().item()) == ([[8]], [[2]], 12)


# --- variants


def test_every_variant_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(commons_runs.SIZES, "smoke", replace(SIZE, variant_seeds=1))
    table = experiments.write_table("harvest_variants", "smoke")
    assert list(table.columns) == ["question", "cell", "algorithm", "players", "seed", "metric", "value"]
    assert list(dict.fromkeys(zip(table.question, table.cell, strict=True))) == list(commons_runs.VARIANTS)
    assert set(table.seed) == {0}
    assert not table.isna().any(axis=None)
    assert set(table[table.question == "players"].players) == {2, 4, 7}
    riders = table[table.question == "one never cooperates"]
    assert {"return_of_learners", "return_of_free_rider"} < set(riders.metric)
    wide = riders.pivot(index="cell", columns="metric", values="value")
    total = 3 * wide.return_of_learners + wide.return_of_free_rider
    assert total.to_numpy() == pytest.approx(wide.collective_return.to_numpy(), abs=1e-3)
    forbid_training(monkeypatch)
    pd.testing.assert_frame_equal(experiments.write_table("harvest_variants", "smoke"), table)


@pytest.mark.parametrize("profile", commons_runs._VARIANT_BASE)
def test_a_variant_says_what_it_changes(profile: str) -> None:
    base = commons_runs._VARIANT_BASE[profile]
    assert base.algorithm == "proximal_advantage_alignment"
    found = [asdict(replace(base, **{k: v for k, v in cell.items() if k != "players"})) | {"n": cell.get("players", 4)}
             for cell in commons_runs.VARIANTS.values()]  # fmt: skip
    assert all(found.count(settings) == 1 for settings in found)
    assert (torch.tensor(commons_runs.RING).sum(1) == 1).all()


# --- credit of eating


def test_credit_of_eating_is_that_of_a_literal_loop() -> None:
    settings, network = (
        commons_runs.settings_of("proximal_advantage_alignment", "smoke"),
        commons_runs.trained("ppo", 1, "smoke"),
    )
    found = commons_runs._credit_of_eating(network, settings, "smoke", 3)

    generator, rows = Generator().manual_seed(3), []
    stage = commons.begin(GAME, settings, generator)
    chunks = settings.lifetime * 3 // settings.chunk // 2
    places = [(int(cell) // GAME.width, int(cell) % GAME.width) for cell in GAME.apple_cells]
    for chunk in range(chunks):
        start, noise = stage.state, generator.get_state()
        played = commons.play_chunk(GAME, network, None, stage, settings, generator)
        alive = [start.apples]
        if chunk >= chunks * 2 // 3:
            replay, state = Generator(), start
            replay.set_state(noise)
            gained = gae(played.rewards, played.values, settings.gamma, settings.lam)
            own = (gained - gained.mean()) / gained.std()
            for t in range(settings.chunk):
                commons.sample(torch.zeros(settings.worlds * GAME.num_players, GAME.num_actions), replay)
                state, *_ = GAME.step(state, played.actions[t].view(settings.worlds, -1), replay)
                alive.append(state.apples)
                for w, i in torch.nonzero(state.ate).tolist():
                    row, column = divmod(int(state.cell[w, i]), GAME.width)
                    near = sum(
                        bool(live) and 0 < (row - r) ** 2 + (column - c) ** 2 <= 4
                        for (r, c), live in zip(places, alive[t][w], strict=True)
                    )
                    past = sum(settings.gamma ** (t - k) * own[w, i, k].item() for k in range(t))
                    past *= settings.beta * settings.gamma
                    others = sum(own[w, j, t].item() for j in range(GAME.num_players) if j != i)
                    rows.append((near, own[w, i, t].item(), past, others, past * others))
        commons.begin_anew(GAME, stage, settings.lifetime, generator)
    assert len(rows) == len(found) > 3
    columns = ["neighbours", *commons_runs.CREDIT_COLUMNS]
    pd.testing.assert_frame_equal(found, pd.DataFrame(rows, columns=columns), check_dtype=False, atol=1e-4, rtol=1e-3)


# --- registration


def test_every_run_is_registered_with_what_it_needs() -> None:
    trainings = commons_runs.parts("smoke")
    assert len(trainings) == len(ALGORITHMS) * SIZE.seeds
    assert experiments.runs("smoke").items() >= commons_runs.runs("smoke").items()
    for experiment in ("harvest_episode", "harvest_frames", "harvest_credit"):
        assert experiments.needs(experiment, "all", "smoke") == [f"harvest/{part}" for part in trainings]
    for experiment in ("harvest", "harvest_reference", "harvest_variants"):
        assert experiments.needs(experiment, "0", "smoke") == []
    assert len(experiments.runs("laptop")["harvest_variants"]) == len(commons_runs.VARIANTS)
    assert set(experiments.table_runs("harvest", "smoke")) == {
        *(("harvest", part) for part in trainings), *(("harvest_reference", name) for name in commons_runs.REFERENCES)
    }  # fmt: skip


def test_random_players_are_the_reference_of_that_name() -> None:
    table = commons_runs.reference_run("random", "smoke")
    for seed in range(SIZE.seeds):
        found = commons_runs.evaluate(GAME, random_player, SIZE.evaluation_worlds, SIZE.background, seed)
        rows = table[table.seed == seed].set_index("metric").value
        assert found == pytest.approx(rows.to_dict(), rel=1e-5)
