from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scripted_play import play_scripts

from aa_core import games
from aa_core.games import MatrixGame
from aa_core.games.matrix import CLASSIC_PAYOFFS, SCRIPTED, STATES, SWAP, C, D, memory_one

GAME = games.make("chicken")
CELLS = {"CC": (C, C), "CD": (C, D), "DC": (D, C), "DD": (D, D)}
every_game = pytest.mark.parametrize("name", games.matrix_names())
payoff = st.floats(-100, 100, allow_nan=False).map(lambda x: round(x, 3))
payoff_tables = st.tuples(*[st.tuples(payoff, payoff)] * 4)

PAYOFFS = {  # CC, CD, DC, DD, written out again so that a slip in the package shows
    "prisoners_dilemma": [(-1, -1), (-3, 0), (0, -3), (-2, -2)],
    "prisoners_dilemma_3051": [(3, 3), (0, 5), (5, 0), (1, 1)],
    "stag_hunt": [(4, 4), (0, 3), (3, 0), (2, 2)],
    "chicken": [(3, 3), (1, 4), (4, 1), (0, 0)],
    "matching_pennies": [(1, -1), (-1, 1), (-1, 1), (1, -1)],
    "bach_or_stravinsky": [(3, 2), (0, 0), (0, 0), (2, 3)],
}


def test_names_are_those_of_the_table() -> None:
    assert games.matrix_names() == sorted(PAYOFFS)


@pytest.mark.parametrize(("name", "cell"), [(name, cell) for name in PAYOFFS for cell in range(4)])
def test_payoffs_of_every_cell(name: str, cell: int) -> None:
    game = games.make(name)
    state, _ = game.reset(1)
    _, _, rewards, _ = game.step(state, torch.tensor([list(CELLS.values())[cell]]))
    assert tuple(rewards[0].tolist()) == PAYOFFS[name][cell]
    assert tuple(game.payoff_tensor[:, cell].tolist()) == PAYOFFS[name][cell]


@pytest.mark.parametrize(("own", "other"), CELLS.values(), ids=CELLS.keys())
def test_each_player_sees_the_last_round_from_its_own_side(own: int, other: int) -> None:
    game = games.make("chicken")
    state, first = game.reset(1)
    _, seen, _, _ = game.step(state, torch.tensor([[own, other]]))
    letters = "CD"
    assert [STATES[i] for i in first[0].tolist()] == ["START", "START"]
    assert [STATES[i] for i in seen[0].tolist()] == [letters[own] + letters[other], letters[other] + letters[own]]


def test_swap_exchanges_the_two_sides_of_a_state() -> None:
    for index, state in enumerate(STATES[1:], start=1):
        assert STATES[SWAP[index]] == state[::-1]
    assert STATES[SWAP[0]] == "START"


@given(payoff_tables)
def test_swapping_the_seats_twice_changes_nothing(payoffs: tuple[tuple[float, float], ...]) -> None:
    game = MatrixGame(payoffs, horizon=7, name="any")
    assert game.swapped().swapped() == game
    assert game.swapped().horizon == 7


@pytest.mark.parametrize(("own", "other"), CELLS.values(), ids=CELLS.keys())
@every_game
def test_swapped_seats_earn_each_others_rewards(name: str, own: int, other: int) -> None:
    game = games.make(name)
    swapped = game.swapped()
    _, _, rewards, _ = game.step(game.reset(1)[0], torch.tensor([[own, other]]))
    _, _, exchanged, _ = swapped.step(swapped.reset(1)[0], torch.tensor([[other, own]]))
    assert rewards.flip(1).equal(exchanged)


@pytest.mark.parametrize("name", ["prisoners_dilemma", "prisoners_dilemma_3051", "stag_hunt", "chicken"])
def test_symmetric_games_do_not_depend_on_the_seat(name: str) -> None:
    assert games.make(name).swapped() == games.make(name)


def test_games_are_equal_when_every_cell_is() -> None:
    game = games.make("chicken")
    assert game == games.make("chicken")
    for cell in range(4):
        changed = list(CLASSIC_PAYOFFS["chicken"])
        changed[cell] = (9, 9)
        assert MatrixGame(tuple(changed), name="chicken") != game


# --- what makes each game the game it is


def symmetric_payoffs(name: str) -> tuple[float, float, float, float]:
    """R, S, T, P of player 1."""
    return tuple(games.make(name).payoff_tensor[0].tolist())


@pytest.mark.parametrize("name", ["prisoners_dilemma", "prisoners_dilemma_3051"])
def test_prisoners_dilemma_orders_its_payoffs(name: str) -> None:
    R, S, T, P = symmetric_payoffs(name)
    assert T > R > P > S
    assert 2 * R > T + S  # taking turns does not beat mutual cooperation


def test_chicken_orders_its_payoffs() -> None:
    R, S, T, P = symmetric_payoffs("chicken")
    assert T > R > S > P


def test_stag_hunt_orders_its_payoffs() -> None:
    R, S, T, P = symmetric_payoffs("stag_hunt")
    assert R > T >= P > S


def test_matching_pennies_is_zero_sum() -> None:
    assert (games.make("matching_pennies").payoff_tensor.sum(0) == 0).all()


def test_bach_or_stravinsky_rewards_agreement_differently() -> None:
    first, second = games.make("bach_or_stravinsky").payoff_tensor.tolist()
    assert first[0] > first[3] > first[1] == first[2]
    assert second[3] > second[0] > second[1] == second[2]


def test_symmetric_game_takes_axelrods_letters() -> None:
    game = MatrixGame.symmetric(R=3, S=0, T=5, P=1)
    assert game.payoffs == CLASSIC_PAYOFFS["prisoners_dilemma_3051"]


# --- play


def random_actions(steps: int, batch: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, (steps, batch, 2), generator=torch.Generator().manual_seed(seed))


@every_game
def test_a_batch_plays_like_its_games_one_by_one(name: str) -> None:
    game = games.make(name, horizon=5)
    actions = random_actions(5, 6)
    for i in range(6):
        state, observation = game.reset(6)
        alone, observation_alone = game.reset(1)
        for step in range(5):
            state, observation, rewards, done = game.step(state, actions[step])
            alone, observation_alone, rewards_alone, done_alone = game.step(alone, actions[step, i : i + 1])
            assert observation[i].equal(observation_alone[0])
            assert rewards[i].equal(rewards_alone[0])
            assert done[i].equal(done_alone[0])


# --- strategies

MEETINGS = {  # joint actions of the first rounds
    ("tit for tat", "always defect"): "CD DD DD DD",
    ("tit for tat", "tit for tat"): "CC CC CC CC",
    ("grim trigger", "always cooperate"): "CC CC CC CC",
    ("win-stay lose-shift", "always defect"): "CD DD CD DD",
}


@pytest.mark.parametrize("names", MEETINGS, ids=" - ".join)
def test_strategies_play_as_their_names_say(names: tuple[str, str]) -> None:
    game = games.make("prisoners_dilemma", horizon=4)
    rewards = play_scripts(game, [SCRIPTED[name] for name in names], 3, torch.Generator())
    expected = torch.tensor([PAYOFFS["prisoners_dilemma"][list(CELLS).index(cell)] for cell in MEETINGS[names].split()])
    assert rewards.equal(expected.T.float().expand(3, 2, 4))


def test_a_memory_one_player_cooperates_as_often_as_its_table_says() -> None:
    table, batch = [0.1, 0.9, 0.3, 0.6, 0.0], 20_000
    seen = torch.arange(5).repeat_interleave(batch)
    actions = memory_one(table)(games.make("chicken"), seen, torch.Generator().manual_seed(0))
    assert (actions.view(5, batch) == C).float().mean(1).tolist() == pytest.approx(table, abs=0.015)


# --- bad input

FOUR = ((1, 1), (2, 2), (3, 3), (4, 4))


def plays(seen: Any, game: Any = GAME, generator: Any = None) -> torch.Tensor:
    return memory_one([1.0, 1.0, 0.0, 1.0, 0.0])(game, seen, generator)


def test_states_of_any_integer_type_are_seen_alike() -> None:
    for dtype in (torch.uint8, torch.int32, torch.int64):
        assert plays(torch.arange(5).to(dtype)).tolist() == [0, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param(lambda: MatrixGame(FOUR[:3]), "payoffs", id="three cells"),
        pytest.param(lambda: MatrixGame(((1, 2, 3),) * 4), "payoffs", id="three players"),
        pytest.param(lambda: MatrixGame(((1, 2), (1, 2), (1, 2), (1,))), "payoffs", id="ragged"),
        pytest.param(lambda: MatrixGame((*FOUR[:3], (1, float("nan")))), "payoffs", id="NaN"),
        pytest.param(lambda: MatrixGame((*FOUR[:3], (1, float("inf")))), "payoffs", id="infinite"),
        pytest.param(lambda: MatrixGame((*FOUR[:3], ("a", "b"))), "payoffs", id="letters"),
        pytest.param(lambda: memory_one([0.5] * 4), "cooperation", id="no probability for START"),
        pytest.param(lambda: memory_one([0.5] * 4 + [1.5]), "cooperation", id="no probability"),
        pytest.param(lambda: memory_one([0.5] * 4 + [float("nan")]), "cooperation", id="NaN probability"),
        pytest.param(lambda: memory_one(["a"] * 5), "cooperation", id="letters for probabilities"),
        pytest.param(lambda: memory_one([None] * 5), "cooperation", id="nothing for probabilities"),
        pytest.param(lambda: memory_one([[0.5] * 5]), "cooperation", id="two axes"),
        pytest.param(lambda: plays(torch.tensor([0, 5])), "observations", id="a sixth state"),
        pytest.param(lambda: plays(torch.tensor([0, -1])), "observations", id="a state before the first"),
        pytest.param(lambda: plays(torch.tensor([0.0, 1.0])), "observations", id="states as reals"),
        pytest.param(lambda: plays(None), "observations", id="no states"),
        pytest.param(lambda: plays(torch.tensor([0]), generator=3), "generator", id="no generator"),
        pytest.param(lambda: plays(torch.tensor([0]), games.make("coin")), "game", id="another game"),
    ],
)
def test_bad_games_are_refused_by_name(call: Callable[[], MatrixGame], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64])
def test_actions_may_have_any_integer_dtype(dtype: torch.dtype) -> None:
    game = games.make("chicken")
    actions = torch.tensor(list(CELLS.values()))
    state, observations, rewards, _ = game.step(game.reset(4)[0], actions.to(dtype))
    assert observations.tolist() == [[1, 1], [2, 3], [3, 2], [4, 4]]
    assert [tuple(row) for row in rewards.tolist()] == PAYOFFS["chicken"]
    game.step(state, actions.to(dtype))
