from __future__ import annotations

from itertools import pairwise

import axelrod as axl
import pandas as pd
import pytest

from aa_core.policies import STRATEGIES
from experiments import tournament

TWINS = [
    ("tit for tat", axl.TitForTat),
    ("always cooperate", axl.Cooperator),
    ("always defect", axl.Defector),
    ("win-stay lose-shift", axl.WinStayLoseShift),
    ("grim trigger", axl.Grudger),
]
DETERMINISTIC = [
    axl.Alternator,
    axl.Cooperator,
    axl.Defector,
    axl.TitForTat,
    axl.TitFor2Tats,
    axl.SuspiciousTitForTat,
    axl.BackStabber,
    axl.CyclerCCD,
    axl.AntiTitForTat,
    axl.FirmButFair,
]
TFT = STRATEGIES["tit for tat"]


def play(first: axl.Player, second: axl.Player, turns: int = 50, seed: int = 1) -> list[tuple[axl.Action, axl.Action]]:
    return axl.Match((first, second), turns=turns, seed=seed).play()


@pytest.mark.parametrize(("name", "twin"), TWINS, ids=[name for name, _ in TWINS])
def test_a_table_plays_like_the_librarys_player(name: str, twin: type[axl.Player]) -> None:
    for opponent in DETERMINISTIC:
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


NOISY, OPPONENTS = (0.5, 0.9, 0.2, 0.7, 0.1), [axl.Random, axl.TitForTat, axl.FirstByJoss]


def test_the_same_seed_gives_the_same_scores() -> None:
    first = tournament.play_field(NOISY, OPPONENTS, seed=4, turns=50, repetitions=2)
    again = tournament.play_field(NOISY, OPPONENTS, seed=4, turns=50, repetitions=2)
    other = tournament.play_field(NOISY, OPPONENTS, seed=5, turns=50, repetitions=2)
    pd.testing.assert_frame_equal(first, again)
    assert (first.score != other.score).any()


def test_repetitions_are_different_matches_and_are_averaged() -> None:
    one = tournament.play_field(NOISY, OPPONENTS, seed=4, turns=50, repetitions=1)
    many = tournament.play_field(NOISY, OPPONENTS, seed=4, turns=50, repetitions=4)
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
