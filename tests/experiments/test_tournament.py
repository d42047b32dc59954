"""axelrod takes many seconds to import: this file alone does, once its tests run, and not when tests are listed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from aa_core.policies import STRATEGIES
from experiments import ipd

if TYPE_CHECKING:
    import axelrod as axl

    from experiments import tournament

TWINS = {
    "tit for tat": "TitForTat",
    "always cooperate": "Cooperator",
    "always defect": "Defector",
    "win-stay lose-shift": "WinStayLoseShift",
    "grim trigger": "Grudger",
}
DETERMINISTIC = (
    "Alternator", "Cooperator", "Defector", "TitForTat", "TitFor2Tats", "SuspiciousTitForTat", "BackStabber",
    "CyclerCCD", "AntiTitForTat", "FirmButFair",
)  # fmt: skip
TFT = STRATEGIES["tit for tat"]


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    global axl, tournament
    import axelrod as axl

    from experiments import tournament


def play(first: axl.Player, second: axl.Player, turns: int = 50, seed: int = 1) -> list[tuple[axl.Action, axl.Action]]:
    return axl.Match((first, second), turns=turns, seed=seed).play()


@pytest.mark.parametrize("name", TWINS)
def test_a_table_plays_like_the_librarys_player(name: str) -> None:
    twin = getattr(axl, TWINS[name])
    for opponent in (getattr(axl, name) for name in DETERMINISTIC):
        table = tournament.Table(STRATEGIES[name])
        assert play(table, opponent()) == play(twin(), opponent())
        # and from the other seat
        assert play(opponent(), tournament.Table(STRATEGIES[name])) == play(opponent(), twin())


@pytest.mark.parametrize("state", range(4))
def test_each_entry_of_a_table_answers_its_own_state(state: int) -> None:
    # cooperates after one kind of round only; the cyclers lead it into each of the four states
    table = [0.0] * 5
    table[1 + state] = 1.0
    for start in (0.0, 1.0):
        table[0] = start
        for opponent in (axl.Cooperator(), axl.Defector(), axl.CyclerCCD()):
            match = play(tournament.Table(table), opponent, turns=20)
            assert match[0][0] == (axl.Action.C if start else axl.Action.D)
            order = {("C", "C"): 0, ("C", "D"): 1, ("D", "C"): 2, ("D", "D"): 3}
            for before, after in pairwise(match):
                answers = order[str(before[0]), str(before[1])] == state
                assert after[0] == (axl.Action.C if answers else axl.Action.D)


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_a_random_start_obeys_its_probability(probability: float) -> None:
    table, games = (probability, 1, 0, 1, 0), 600
    starts = [play(tournament.Table(table), axl.Cooperator(), 1, seed)[0][0] for seed in range(games)]
    error = (probability * (1 - probability) / games) ** 0.5
    assert abs(starts.count(axl.Action.C) / games - probability) < 4 * error


@pytest.mark.parametrize("probability", [0.2, 0.8])
def test_random_answers_obey_their_probability(probability: float) -> None:
    turns = 2000
    match = play(tournament.Table((1, probability, 0, probability, 0)), axl.Cooperator(), turns)
    rate = sum(own == axl.Action.C for own, _ in match[1:]) / (turns - 1)
    assert abs(rate - probability) < 4 * (probability * (1 - probability) / turns) ** 0.5


def test_a_player_can_be_used_again() -> None:
    table = tournament.Table((0.5, 1, 0, 1, 0))
    first = play(table, axl.Alternator(), seed=3)
    assert play(table, axl.Alternator(), seed=3) == first
    assert play(table.clone(), axl.Alternator(), seed=3) == first


@pytest.mark.parametrize(("table", "stochastic"), [(TFT, False), ((0.5, 1, 0, 1, 0), True), ((1, 1, 0, 1, 0.1), True)])
def test_only_tables_with_chances_are_stochastic(table: tuple[float, ...], stochastic: bool) -> None:
    assert axl.Classifiers["stochastic"](tournament.Table(table)) is stochastic


@pytest.mark.parametrize(
    "table", [(1, 1, 0, 1), (1, 1, 0, 1, 0, 0), (1, 1, 0, 1, 1.1), (-0.1, 1, 0, 1, 0), (float("nan"), 1, 0, 1, 0)]
)
def test_bad_tables_are_refused_by_name(table: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"^cooperation must be five probabilities"):
        tournament.Table(table)


@pytest.fixture(scope="module")
def field() -> list[type[axl.Player]]:
    return tournament.field()  # takes seconds


def test_the_field_is_large_and_fair(field: list[type[axl.Player]]) -> None:
    assert len(field) >= 100
    assert len(set(field)) == len(field)
    assert {axl.TitForTat, axl.Cooperator, axl.Defector, axl.Grudger, axl.Random} <= set(field)
    for slow_or_unfair in (axl.Darwin, axl.DBS, axl.MetaMajority, axl.NMWEFiniteMemory):
        assert slow_or_unfair in axl.all_strategies
        assert slow_or_unfair not in field


def test_scores_are_those_of_axelrods_payoffs() -> None:
    rows = tournament.play_field(TFT, [axl.Cooperator, axl.Defector], seed=0, turns=10)
    assert rows.opponent.tolist() == ["Cooperator", "Defector"]
    assert rows.score.tolist() == pytest.approx([3.0, 0.9])  # S once, then P
    assert rows.opponent_score.tolist() == pytest.approx([3.0, 1.4])
    assert rows.cooperation.tolist() == pytest.approx([1.0, 0.1])
    assert rows.opponent_cooperation.tolist() == pytest.approx([1.0, 0.0])


NOISY = (0.5, 0.9, 0.2, 0.7, 0.1)


def opponents() -> list[type[axl.Player]]:
    return [axl.Random, axl.TitForTat, axl.FirstByJoss]


def test_the_same_seed_gives_the_same_scores() -> None:
    first = tournament.play_field(NOISY, opponents(), seed=4, turns=50, repetitions=2)
    again = tournament.play_field(NOISY, opponents(), seed=4, turns=50, repetitions=2)
    other = tournament.play_field(NOISY, opponents(), seed=5, turns=50, repetitions=2)
    pd.testing.assert_frame_equal(first, again)
    assert (first.score != other.score).any()


def test_repetitions_are_different_matches_and_are_averaged() -> None:
    one = tournament.play_field(NOISY, opponents(), seed=4, turns=50, repetitions=1)
    many = tournament.play_field(NOISY, opponents(), seed=4, turns=50, repetitions=4)
    assert len(many) == len(one) == 3
    assert (many.score != one.score).all()


def test_deterministic_pairs_are_played_once(monkeypatch: pytest.MonkeyPatch) -> None:
    matches = []

    class Counted(axl.Match):
        def play(self) -> list[tuple[axl.Action, axl.Action]]:
            matches.append([player.name for player in self.players])
            return super().play()

    monkeypatch.setattr(axl, "Match", Counted)
    tournament.play_field(TFT, [axl.Cooperator, axl.Random], seed=0, turns=5, repetitions=3)
    assert matches == [["Table", "Cooperator"]] + 3 * [["Table", "Random"]]


def test_learned_tables_and_the_classics_enter_the_tournament(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [axl.Cooperator, axl.Defector, axl.TitForTat]
    monkeypatch.setattr(tournament, "field", lambda: few)  # all of them take seconds to list
    settings = ipd.ipd("smoke", "naive", 0).settings
    made = ipd.play_ipd(replace(settings, training=replace(settings.training, updates=1, games=2)), tmp_path)
    made.to_csv(tmp_path / "table.csv", index=False)
    learned = ipd.play_tournament(ipd.Tournament("naive", seeds=2, repetitions=1, field=2), tmp_path, [tmp_path])
    assert learned.groupby(["entry", "seed"]).size().to_dict() == {("naive", 5): 2, ("naive", 6): 2}
    classics = ipd.play_tournament(ipd.Tournament("classics", seeds=2, repetitions=1, field=2), tmp_path, [])
    assert set(classics.entry) >= {"tit for tat", "always defect"}
    assert ipd.ipd_tournament("smoke", "naive", 0).needs[0].name == "ipd/naive-0"
