from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Generator

from aa_core import experiments, games, league_runs, records, recurrent
from aa_core.games.coin import CoinState
from aa_core.recurrent import ALGORITHMS, Recurrent, initial_policies

SIZE = league_runs.SIZES["smoke"]
every_game = pytest.mark.parametrize("game", ["coin", "negotiation"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")  # one for all: leagues share their runs


@pytest.fixture(autouse=True)
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "DATA", folder)
    return folder


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(recurrent, "train", never)


@every_game
def test_settings_are_those_of_the_algorithm_in_every_profile(game: str) -> None:
    for agent in league_runs.AGENTS[game]:
        for profile in league_runs.SIZES:
            settings = league_runs.settings_of(game, agent, profile)
            assert settings.algorithm == agent
            assert settings.algorithm in ALGORITHMS
    paper = league_runs.settings_of("negotiation", "advantage_alignment", "paper")
    assert (paper.games, paper.updates, paper.beta, paper.credit) == (16384, 800, 3.0, "averaged")
    assert (paper.learning_rate, paper.entropy, paper.normalise, paper.past_share) == (1e-3, 0.005, False, 0.0)
    coin = league_runs.settings_of("coin", "loqa", "paper")
    assert (coin.games, coin.hidden, coin.learning_rate, coin.entropy, coin.past_every) == (512, 128, 1e-3, 0.1, 10)
    lola = league_runs.settings_of("coin", "lola_dice", "paper")
    assert (lola.games, lola.updates, lola.learning_rate, lola.past_share) == (2000, 50001, 3e-3, 0.0)


def test_the_coin_league_has_every_way_of_shaping() -> None:
    for agent in ("loqa", "advantage_alignment", "proximal_advantage_alignment", "lola_dice"):
        assert agent in league_runs.AGENTS["coin"]
    plain, proximal = (
        league_runs.settings_of("coin", agent, "laptop")
        for agent in ("advantage_alignment", "proximal_advantage_alignment")
    )
    assert replace(proximal, algorithm="advantage_alignment") == plain  # nothing else differs


def test_evaluation_knows_a_cooperator_from_nobody() -> None:
    policies = initial_policies(games.make("coin"), 8, [Generator().manual_seed(seed) for seed in range(2)])
    found = league_runs.evaluate("coin", policies, 50, 64)
    assert {len(values) for values in found.values()} == {2}
    assert found == league_runs.evaluate("coin", policies, 50, 64)
    for seed in range(2):  # hardly trained walks are random: they take any coin, and always defect robs them
        assert abs(found["measure_self"][seed] - 0.5) < 0.1
        assert found["reward_of_defector"][seed] > 0.3 > 0 > found["reward_vs_defect"][seed]


@every_game
def test_a_run_is_tidy_cached_and_keeps_its_policy(game: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = league_runs.agent_run(game, "advantage_alignment-1", "smoke")
    assert list(table.columns) == ["agent", "seed", "update", "metric", "value"]
    assert set(table["update"]) == {0, 2, 4}
    assert not table.duplicated(["update", "metric"]).any()
    assert table.metric.nunique() == 6
    path = records.table_path("smoke", f"{game}/advantage_alignment-1").with_suffix(".safetensors")
    assert len(recurrent.load(path)) == 1
    config = records.record_of("smoke", f"{game}/advantage_alignment-1")["config"]
    assert (config["seed"], config["algorithm"]) == (1, "advantage_alignment")
    with monkeypatch.context() as patch:
        forbid_training(patch)
        pd.testing.assert_frame_equal(league_runs.agent_run(game, "advantage_alignment-1", "smoke"), table)
    path.unlink()  # a policy that is gone is trained again, to the same numbers
    pd.testing.assert_frame_equal(league_runs.agent_run(game, "advantage_alignment-1", "smoke"), table)
    assert path.is_file()


@every_game
def test_the_league_has_every_pair_of_seeds_in_the_columns_of_the_paper(game: str) -> None:
    table = experiments.load(f"{game}_league", "smoke")
    assert list(table.columns) == [
        "row_agent", "column_agent", "row_seed", "column_seed", "row_reward", "column_reward",
    ]  # fmt: skip
    agents = dict.fromkeys(league_runs.AGENTS[game], SIZE.seeds) | dict.fromkeys(league_runs.SCRIPTED[game], 1)
    assert len(table) == sum(agents.values()) ** 2
    assert not table.duplicated(list(table.columns[:4])).any()
    sources = records.record_of("smoke", f"{game}_league/all")["config"]["runs"]
    assert set(sources) == set(league_runs.parts(game, "smoke"))
    assert all(sources.values())


def test_a_coin_episode_obeys_the_rules() -> None:
    table = experiments.load("coin_episode", "smoke")
    game, fields = games.make("coin", horizon=SIZE.horizon), ["cell_1", "cell_2", "coin", "owner"]
    for _, met in table.groupby(["opponent", "game"]):
        assert met.step.tolist() == list(range(SIZE.horizon))
        for now, after in zip(met[:-1].itertuples(), met[1:].itertuples(), strict=True):
            board = torch.tensor([[now.cell_1, now.cell_2]])
            state = CoinState(board, torch.tensor([now.coin]), torch.tensor([now.owner]), 0)
            # the moves that lead to where both stand next
            moves = [int((game._moves.view(-1, 4)[cell] == to).nonzero()[0]) for cell, to in
                     ((now.cell_1, after.cell_1), (now.cell_2, after.cell_2))]  # fmt: skip
            following, _, rewards, _ = game.step(state, torch.tensor([moves]), Generator().manual_seed(0))
            assert rewards[0].tolist() == [now.reward_1, now.reward_2]
            assert following.owner.item() == after.owner
    assert set(fields) < set(table.columns)


def test_a_negotiation_is_paid_by_its_claims() -> None:
    table = experiments.load("negotiation_episode", "smoke")
    for row in table.itertuples():
        for player, other in ((1, 2), (2, 1)):
            paid = sum(
                getattr(row, f"value_{player}_{item}")
                * getattr(row, f"claim_{player}_{item}")
                / max(getattr(row, f"claim_{player}_{item}") + getattr(row, f"claim_{other}_{item}"), 5)
                for item in (1, 2, 3)
            )
            assert getattr(row, f"reward_{player}") == pytest.approx(paid / 15, abs=1e-4)
    met = table[table.opponent == "always defect"]
    assert (met[["claim_2_1", "claim_2_2", "claim_2_3"]] == 5).all(axis=None)


@every_game
def test_the_map_has_a_row_per_cell_and_seed(game: str) -> None:
    table = experiments.load(f"{game}_map", "smoke")
    assert list(dict.fromkeys(table.cell)) == list(league_runs.MAPS[game])[:2]
    assert (table.groupby("cell").seed.nunique() == SIZE.map_seeds).all()
    assert len(experiments.runs("laptop")[f"{game}_map"]) == len(league_runs.MAPS[game])


@every_game
def test_every_cell_of_the_map_trains(game: str) -> None:
    rules = games.make(game, horizon=4)
    for cell in league_runs.MAPS[game].values():
        settings = league_runs._small(replace(league_runs._MAP_BASE[game], **cell))
        policies = recurrent.train(rules, settings, [0]).policies
        assert all(x.isfinite().all() for x in policies.parameters.values())


def test_the_price_of_lola_is_above_that_of_a_naive_update() -> None:
    game, prices = games.make("coin", horizon=16), {}
    for algorithm in ("naive", "lola_dice"):
        settings = Recurrent(algorithm, games=64, hidden=16)
        prices[algorithm] = league_runs.time_updates(game, settings, 3)
    assert prices["lola_dice"] > prices["naive"] > 0
    table = experiments.load("shaping_cost", "smoke")
    assert set(table.algorithm) == set(league_runs.PRICED)
    assert {(h, 3) for h in SIZE.cost_horizons} <= set(zip(table.horizon, table.grid, strict=True))
    assert set(SIZE.cost_grids) == set(table.grid)
    steps = table.games * table.horizon / table.seconds_per_update
    assert steps.to_numpy() == pytest.approx(table.game_steps_per_second.to_numpy(), rel=1e-3)


def test_speed_is_measured_on_one_and_two_threads_which_are_given_back() -> None:
    before = torch.get_num_threads()
    table = experiments.load("coin_speed", "smoke")
    assert torch.get_num_threads() == before
    assert set(table.threads) == {1, 2}
    assert table.groupby("threads").what.apply(list).map(lambda what: what.count("random play")).eq(1).all()
    updates = table[table.what == "update"]
    assert set(updates.hidden) == set(league_runs.SPEED_WIDTHS)
    assert (table[table.what != "matrix products"].game_steps_per_second > 0).all()
    assert (table[table.what != "random play"].gflop_per_second > 0).all()
    # operations per game step depend on the width only
    per_step = updates.gflop_per_second / updates.game_steps_per_second
    assert per_step.groupby(updates.hidden).agg(lambda x: x.max() / x.min()).to_numpy() == pytest.approx(1, rel=1e-3)
    with pytest.raises(RuntimeError), league_runs.on_threads(2):
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_operations_of_an_update_by_hand() -> None:
    game = games.make("coin", horizon=3)
    learner, update = league_runs.updater(game, Recurrent("advantage_alignment", games=5, hidden=4), seeds=2)
    inputs, hidden, actions = 36, 4, 4
    weights = inputs * hidden + 6 * hidden * hidden + hidden * actions  # dense, GRU, linear
    rows = 2 * 5 * 3 * 2  # seeds, games, steps, seats
    assert league_runs.update_gflop(learner) * 1e9 == pytest.approx(2 * league_runs.PASSES * rows * weights)
    before = learner.policies()
    update()
    assert not torch.equal(before.parameters["actor.head_weight"], learner.policies().parameters["actor.head_weight"])


def test_leagues_need_every_run_of_their_game() -> None:
    assert experiments.needs("coin_league", "all", "smoke") == [f"coin/{p}" for p in league_runs.parts("coin", "smoke")]
    assert experiments.needs("coin", "naive-0", "smoke") == []
    assert experiments.needs("coin_map", "0", "smoke") == []
    assert experiments.needs("coin_speed", "1", "smoke") == []


def test_the_long_run_begins_as_the_leagues_agent() -> None:
    short = league_runs.agent_run("negotiation", "advantage_alignment-0", "smoke")
    long = league_runs.long_run("0", "smoke")
    assert long["update"].max() > short["update"].max()
    common = [table[table["update"] <= 4].reset_index(drop=True) for table in (long, short)]
    pd.testing.assert_frame_equal(*common)
