"""What the two-player games share, in games so small that training takes a moment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Generator, Tensor

from aa_core.actor_critic import Network
from aa_core.advantages import naive_advantages, summed_advantages
from aa_core.games import coin
from aa_core.games.matrix import C, D, MatrixGame
from aa_core.games.negotiation import SCRIPTED, NegotiationGame
from aa_core.league import play_pair
from aa_core.selfplay import SelfPlay, train
from experiments.leagues import AGENT, Cell, Training, evaluate, own_coin_rate, settings_map, train_agent, welfare

TINY = SelfPlay(updates=5, games=8, network=Network(hidden=4))
PARTNERS = {"cooperator": SCRIPTED["always cooperate"], "defector": SCRIPTED["always defect"]}
SETTINGS = Training("naive", NegotiationGame(horizon=3), TINY, naive_advantages, 7, PARTNERS, welfare, 2, 4)
CELLS: dict[str, Cell] = {
    "as it is": (naive_advantages, {}),
    "summed, more": (summed_advantages, {"updates": 6}),
    "curious": (naive_advantages, {"entropy": 0.2}),
}


def training(profile: str, name: str, self_play: SelfPlay, credit: object, seed: int) -> Training:
    return replace(SETTINGS, agent=name, self_play=self_play, credit=credit, seed=seed)


def test_training_is_over_when_both_seats_earn_enough(tmp_path: Path) -> None:
    updates = {}
    for name, threshold in (("never", None), ("at once", 0.0), ("unreachable", 1.0)):
        (tmp_path / name).mkdir()
        table = train_agent(replace(SETTINGS, stop_above=threshold), tmp_path / name, [])
        updates[name] = sorted(set(table["update"]))
        assert not table.duplicated(["update", "metric"]).any()
        assert (tmp_path / name / AGENT).is_file()
    assert updates == {"never": [0, 2, 4, 5], "at once": [0], "unreachable": [0, 2, 4, 5]}


def test_the_agent_that_stops_is_the_one_whose_games_paid_enough(tmp_path: Path) -> None:
    paid: list[float] = []

    def watched(game, settings, credit, seed, on_update):
        def watch(update, mind, played):
            paid.append(min(played.rewards[:, player].mean().item() for player in (0, 1)))
            return on_update(update, mind, played)

        return train(game, settings, credit, seed, on_update=watch)

    train_agent(replace(SETTINGS, train=watched), tmp_path, [])
    best = max(paid)
    first = paid.index(best)
    expected = paid[: first + 1]
    paid.clear()
    table = train_agent(replace(SETTINGS, train=watched, stop_above=best - 1e-6), tmp_path, [])
    assert paid == pytest.approx(expected)
    assert table["update"].max() == first


def cooperate(game: MatrixGame, observations: Tensor, generator: Generator) -> Tensor:
    return torch.full_like(observations, C)


def defect(game: MatrixGame, observations: Tensor, generator: Generator) -> Tensor:
    return torch.full_like(observations, D)


def test_what_a_mind_earns_is_told_from_what_its_partner_earns() -> None:
    game = MatrixGame.symmetric(R=3, S=0, T=5, P=1, horizon=2)
    settings = replace(SETTINGS, game=game, partners={"cooperator": cooperate, "defector": defect})
    assert evaluate(defect, settings) == {
        "reward_self": 1, "together": 2,
        "reward_vs_cooperator": 5, "reward_of_cooperator": 0, "reward_vs_defector": 1, "reward_of_defector": 1,
    }  # fmt: skip
    assert evaluate(cooperate, settings) == {
        "reward_self": 3, "together": 6,
        "reward_vs_cooperator": 3, "reward_of_cooperator": 3, "reward_vs_defector": 0, "reward_of_defector": 5,
    }  # fmt: skip


def test_a_map_has_a_run_per_cell_that_differ_in_what_the_cells_say() -> None:
    study = settings_map("some_map", TINY, CELLS, training, minutes=0.5)
    runs = study.runs("extended")
    assert [(run.variant, run.seed) for run in runs] == [(cell, 0) for cell in CELLS]
    assert [run.settings.self_play for run in runs] == [TINY, replace(TINY, updates=6), replace(TINY, entropy=0.2)]
    assert [run.settings.credit for run in runs] == [naive_advantages, summed_advantages, naive_advantages]
    assert runs[1].minutes == pytest.approx(0.03)
    assert {run.experiment for run in runs} == {"some_map"}
    assert [run.variant for run in study.runs("smoke")] == ["as it is", "summed, more"]


def test_a_row_of_a_map_is_what_the_trained_agent_earns_at_the_end(tmp_path: Path) -> None:
    run = settings_map("some_map", TINY, CELLS, training, minutes=0.5).run("extended", "summed, more", 1)
    row = run.compute(run.settings, tmp_path, [])
    curves = train_agent(run.settings, tmp_path, [])
    last = curves[curves["update"] == 6].set_index("metric").value
    assert list(row.columns) == ["cell", "seed", "updates", *last.index]
    assert row.iloc[0, :3].tolist() == ["summed, more", 1, 6]
    pd.testing.assert_series_equal(row.iloc[0, 3:].astype(float), last, check_names=False)


def test_measures_of_cooperation() -> None:
    game, scripted = coin.CoinGame(), coin.SCRIPTED
    friends, foes = (
        play_pair(game, scripted[name], scripted[name], 200, torch.Generator().manual_seed(0))[0, 0]
        for name in ("always cooperate", "always defect")
    )
    assert own_coin_rate(friends) == 1.0
    assert own_coin_rate(foes) == pytest.approx(0.5, abs=0.02)
    assert welfare(friends) == pytest.approx(2 * 0.349, abs=0.02)
