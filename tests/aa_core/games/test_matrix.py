from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aa_core import games
from aa_core.games import MatrixGame
from aa_core.games.matrix import CLASSIC_PAYOFFS, STATES, SWAP, C, D

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


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_a_game_is_done_at_its_horizon_and_not_before(horizon: int) -> None:
    game = games.make("stag_hunt", horizon=horizon)
    state, _ = game.reset(3)
    ends = []
    for _ in range(horizon):
        state, _, _, done = game.step(state, torch.zeros(3, 2, dtype=torch.long))
        assert done.shape == (3,)
        ends.append(done.all().item())
    assert ends == [False] * (horizon - 1) + [True]


def test_shapes_and_dtypes_of_a_step() -> None:
    game = games.make("chicken")
    state, observations = game.reset(6)
    _, following, rewards, done = game.step(state, torch.zeros(6, 2, dtype=torch.long))
    assert observations.shape == following.shape == rewards.shape == (6, 2)
    assert (observations.dtype, rewards.dtype, done.dtype) == (torch.long, torch.float32, torch.bool)


def random_actions(steps: int, batch: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, (steps, batch, 2), generator=torch.Generator().manual_seed(seed))


@every_game
def test_stepping_twice_from_one_state_gives_the_same_results(name: str) -> None:
    game = games.make(name)
    actions = random_actions(3, 4)
    state, _ = game.step(game.reset(4)[0], actions[0])[:2]
    before = deepcopy(state)
    first, *seen = game.step(state, actions[1])
    game.step(first, actions[2])  # another branch further on
    second, *again = game.step(state, actions[1])
    assert all(x.equal(y) for x, y in zip(seen, again, strict=True))
    assert state.joint.equal(before.joint)
    assert state.time == before.time
    assert first.joint.equal(second.joint)
    assert first.time == second.time == state.time + 1


def test_a_state_cannot_be_changed_in_place() -> None:
    state, _ = games.make("chicken").reset(1)
    with pytest.raises(FrozenInstanceError):
        state.time = 3


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


# --- bad input

FOUR = ((1, 1), (2, 2), (3, 3), (4, 4))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param(lambda: games.make("checkers"), "name", id="unknown game"),
        pytest.param(lambda: games.make("chicken", horizon=0), "horizon", id="horizon 0"),
        pytest.param(lambda: games.make("chicken", horizon=2.5), "horizon", id="horizon a fraction"),
        pytest.param(lambda: MatrixGame(FOUR[:3]), "payoffs", id="three cells"),
        pytest.param(lambda: MatrixGame(((1, 2, 3),) * 4), "payoffs", id="three players"),
        pytest.param(lambda: MatrixGame(((1, 2), (1, 2), (1, 2), (1,))), "payoffs", id="ragged"),
        pytest.param(lambda: MatrixGame((*FOUR[:3], (1, float("nan")))), "payoffs", id="NaN"),
        pytest.param(lambda: MatrixGame((*FOUR[:3], (1, float("inf")))), "payoffs", id="infinite"),
        pytest.param(lambda: MatrixGame((*FOUR[:3], ("a", "b"))), "payoffs", id="letters"),
    ],
)
def test_bad_games_are_refused_by_name(call: Callable[[], MatrixGame], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()


def test_an_unknown_game_is_told_the_names() -> None:
    with pytest.raises(ValueError, match=r"chicken.*stag_hunt.*got 'checkers'"):
        games.make("checkers")


@pytest.mark.parametrize(
    "actions",
    [
        pytest.param(torch.zeros(2, 2), id="floats"),
        pytest.param(torch.zeros(2, dtype=torch.long), id="one player"),
        pytest.param(torch.zeros(3, 2, dtype=torch.long), id="another batch"),
        pytest.param(torch.full((2, 2), 2), id="too large"),
        pytest.param(torch.full((2, 2), -1), id="negative"),
        pytest.param([[0, 0], [0, 0]], id="a list"),
    ],
)
def test_bad_actions_are_refused_by_name(actions: object) -> None:
    game = games.make("chicken")
    with pytest.raises(ValueError, match=r"^actions must"):
        game.step(game.reset(2)[0], actions)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64])
def test_actions_may_have_any_integer_dtype(dtype: torch.dtype) -> None:
    game = games.make("chicken")
    actions = torch.tensor(list(CELLS.values()))
    state, observations, rewards, _ = game.step(game.reset(4)[0], actions.to(dtype))
    assert observations.tolist() == [[1, 1], [2, 3], [3, 2], [4, 4]]
    assert [tuple(row) for row in rewards.tolist()] == PAYOFFS["chicken"]
    game.step(state, actions.to(dtype))
