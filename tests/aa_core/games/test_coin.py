from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from scripted_play import play_scripts
from torch import Generator, Tensor

from aa_core.games import Script
from aa_core.games.coin import SCRIPTED, CoinGame, CoinState, pickups

LEFT, RIGHT, UP, DOWN = range(4)
always_cooperate, always_defect = (SCRIPTED[f"always {does}"] for does in ("cooperate", "defect"))
boards = st.tuples(st.integers(1, 5), st.integers(1, 5)).filter(lambda board: board[0] * board[1] >= 3)
seeds = st.integers(0, 10**6)
every_board = pytest.mark.parametrize("board", [(3, 3), (2, 4), (1, 3), (5, 3)], ids=lambda b: f"{b[0]}x{b[1]}")


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def place(first: int, second: int, coin: int, owner: int, batch: int = 1) -> CoinState:
    return CoinState(
        torch.tensor([[first, second]] * batch), torch.tensor([coin] * batch), torch.tensor([owner] * batch), 0
    )


def act(*actions: int) -> Tensor:
    return torch.tensor([actions])


def step_slowly(board: tuple[int, int], players: list[int], coin: int, owner: int, actions: list[int]) -> dict:
    """The rules once more, for one game, with rows and columns and no tensors."""
    height, width = board
    moved = []
    for cell, action in zip(players, actions, strict=True):
        row, column = divmod(cell, width)
        if action == LEFT:
            column = column - 1 if column > 0 else width - 1
        elif action == RIGHT:
            column = column + 1 if column < width - 1 else 0
        elif action == UP:
            row = row - 1 if row > 0 else height - 1
        else:
            row = row + 1 if row < height - 1 else 0
        moved.append(row * width + column)
    rewards, own, others = [0, 0], [False, False], [False, False]
    for i in (0, 1):
        if moved[i] == coin:
            rewards[i] += 1
            if i == owner:
                own[i] = True
            else:
                others[i] = True
                rewards[owner] -= 2
    taken = coin in moved
    return {
        "players": moved, "rewards": rewards, "taken": taken, "owner": 1 - owner if taken else owner,
        "own": own, "others": others,
    }  # fmt: skip


def see_slowly(board: tuple[int, int], players: list[int], coin: int, owner: int, viewer: int) -> list:
    planes = [[[0.0] * board[1] for _ in range(board[0])] for _ in range(4)]
    for plane, cell in ((0, players[viewer]), (1, players[1 - viewer]), (2 if owner == viewer else 3, coin)):
        planes[plane][cell // board[1]][cell % board[1]] = 1.0
    return planes


# --- by hand, on the board   0 1 2
#                             3 4 5
#                             6 7 8


@pytest.mark.parametrize(
    ("start", "action", "end"),
    [
        (4, LEFT, 3), (4, RIGHT, 5), (4, UP, 1), (4, DOWN, 7),
        (0, LEFT, 2), (0, UP, 6), (0, RIGHT, 1), (0, DOWN, 3),
        (8, RIGHT, 6), (8, DOWN, 2), (5, RIGHT, 3), (7, DOWN, 1), (3, LEFT, 5), (1, UP, 7),
    ],
)  # fmt: skip
def test_a_move_leads_to_the_next_cell_and_wraps_around(start: int, action: int, end: int) -> None:
    state, *_ = CoinGame().step(place(start, 4, 0 if end != 0 else 1, 0), act(action, LEFT), seeded())
    assert state.players.tolist() == [[end, 3]]


@pytest.mark.parametrize(
    ("players", "actions", "owner", "rewards"),
    [
        pytest.param((3, 8), (RIGHT, UP), 0, (1, 0), id="first takes own"),
        pytest.param((3, 8), (RIGHT, UP), 1, (1, -2), id="first takes the other's"),
        pytest.param((8, 1), (UP, DOWN), 1, (0, 1), id="second takes own"),
        pytest.param((8, 1), (UP, DOWN), 0, (-2, 1), id="second takes the other's"),
        pytest.param((3, 1), (RIGHT, DOWN), 0, (-1, 1), id="both take the first's"),
        pytest.param((3, 1), (RIGHT, DOWN), 1, (1, -1), id="both take the second's"),
        pytest.param((3, 3), (RIGHT, RIGHT), 1, (1, -1), id="both, from one cell"),
        pytest.param((3, 1), (LEFT, UP), 0, (0, 0), id="nobody"),
    ],
)
def test_rewards_of_the_coin_in_the_middle(
    players: tuple[int, int], actions: tuple[int, int], owner: int, rewards: tuple[int, int]
) -> None:
    state, _, came, _ = CoinGame().step(place(*players, 4, owner), act(*actions), seeded())
    assert came.tolist() == [list(rewards)]
    taken = rewards != (0, 0)
    assert state.owner.item() == (1 - owner if taken else owner)
    assert (state.coin.item() != 4) == taken


def test_an_episode_by_hand() -> None:
    game = CoinGame(horizon=3)
    state, generator = place(0, 8, 2, 0), seeded(1)
    state, observations, rewards, done = game.step(state, act(LEFT, LEFT), generator)  # 0 wraps to 2, the own coin
    assert (rewards.tolist(), done.tolist()) == ([[1.0, 0.0]], [False])
    assert (state.players.tolist(), state.owner.item()) == ([[2, 7]], 1)
    assert state.coin.item() not in (2, 7)
    assert observations[0, 0, 2].sum() == 0  # not of the first player's colour now
    assert observations[0, 1, 2].flatten().argmax() == state.coin.item()

    state = CoinState(state.players, torch.tensor([5]), state.owner, state.time)
    state, _, rewards, done = game.step(state, act(DOWN, UP), generator)  # the first takes the second's coin
    assert (rewards.tolist(), done.tolist()) == ([[1.0, -2.0]], [False])
    assert (state.players.tolist(), state.owner.item()) == ([[5, 4]], 0)

    state = CoinState(state.players, torch.tensor([3]), state.owner, state.time)
    state, _, rewards, done = game.step(state, act(RIGHT, LEFT), generator)  # both, from either side of the torus
    assert (rewards.tolist(), done.tolist()) == ([[-1.0, 1.0]], [True])
    assert (state.players.tolist(), state.owner.item()) == ([[3, 3]], 1)


def test_each_player_sees_the_board_from_its_own_side() -> None:
    observations = CoinGame(2, 3).observe(place(0, 5, 4, 1))[0]
    first = [[[1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1]], [[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0]]]
    assert observations[0].tolist() == first
    assert observations[1].tolist() == [first[1], first[0], first[3], first[2]]


# --- against the slow rules


@given(boards, seeds)
def test_random_play_follows_the_slow_rules(board: tuple[int, int], seed: int) -> None:
    game, generator, batch = CoinGame(*board, horizon=12), seeded(seed), 4
    state, observations = game.reset(batch, generator)
    for time in range(12):
        actions = torch.randint(4, (batch, 2), generator=generator)
        following, seen, rewards, done = game.step(state, actions, generator)
        own, others = pickups(rewards)
        for i in range(batch):
            players, coin, owner = state.players[i].tolist(), state.coin[i].item(), state.owner[i].item()
            for viewer in (0, 1):
                assert observations[i, viewer].tolist() == see_slowly(board, players, coin, owner, viewer)
            expected = step_slowly(board, players, coin, owner, actions[i].tolist())
            assert following.players[i].tolist() == expected["players"]
            assert rewards[i].tolist() == expected["rewards"]
            assert following.owner[i].item() == expected["owner"]
            assert (own[i].tolist(), others[i].tolist()) == (expected["own"], expected["others"])
            new_coin = following.coin[i].item()
            assert new_coin not in expected["players"] if expected["taken"] else new_coin == coin
            assert 0 <= new_coin < board[0] * board[1]
        assert (rewards.abs() <= 2).all()
        assert set(rewards.sum(1).tolist()) <= {-1.0, 0.0, 1.0}
        assert done.tolist() == [time == 11] * batch
        state, observations = following, seen


@given(boards, seeds)
def test_nothing_depends_on_the_seat(board: tuple[int, int], seed: int) -> None:
    game = CoinGame(*board)
    state, observations = game.reset(16, seeded(seed))
    swapped = CoinState(state.players.flip(1), state.coin, 1 - state.owner, state.time)
    assert game.observe(swapped).equal(observations.flip(1))
    here, there = seeded(seed + 1), seeded(seed + 1)
    for _ in range(6):
        actions = torch.randint(4, (16, 2), generator=seeded(seed))
        state, observations, rewards, _ = game.step(state, actions, here)
        swapped, mirrored, exchanged, _ = game.step(swapped, actions.flip(1), there)
        assert mirrored.equal(observations.flip(1))
        assert exchanged.equal(rewards.flip(1))


@every_board
def test_a_batch_plays_like_its_games_one_by_one(board: tuple[int, int]) -> None:
    game, batch = CoinGame(*board), 5
    state, _ = game.reset(batch, seeded())
    alone = [
        CoinState(state.players[i : i + 1], state.coin[i : i + 1], state.owner[i : i + 1], 0) for i in range(batch)
    ]
    together, in_turn = seeded(1), seeded(1)
    for step in range(8):
        actions = torch.randint(4, (batch, 2), generator=seeded(step))
        state, observations, rewards, done = game.step(state, actions, together)
        for i in range(batch):  # in turn, so that each game gets the same random number
            alone[i], seen, earned, ended = game.step(alone[i], actions[i : i + 1], in_turn)
            assert (seen[0].equal(observations[i]), earned[0].equal(rewards[i])) == (True, True)
            assert ended[0].equal(done[i])


# --- randomness


def appearances(first: int, second: int, moves: tuple[int, int], board: tuple[int, int] = (3, 3)) -> Counter[int]:
    """Where a new coin appears after a pick-up by player 1, of 20,000 games."""
    game, batch = CoinGame(*board), 20_000
    target = step_slowly(board, [first, second], -1, 0, list(moves))["players"][0]
    state = place(first, second, target, 0, batch)
    state, *_ = game.step(state, torch.tensor([moves] * batch), seeded(3))
    return Counter(state.coin.tolist())


@pytest.mark.parametrize(
    ("first", "second", "moves", "occupied"),
    [
        pytest.param(0, 8, (RIGHT, LEFT), {1, 7}, id="apart"),
        pytest.param(8, 0, (LEFT, RIGHT), {1, 7}, id="apart, the other way round"),
        pytest.param(3, 5, (RIGHT, LEFT), {4}, id="together"),
        pytest.param(2, 1, (LEFT, LEFT), {0, 1}, id="side by side, first cells"),
        pytest.param(8, 7, (LEFT, RIGHT), {7, 8}, id="side by side, last cells"),
        pytest.param(2, 6, (LEFT, RIGHT), {1, 7}, id="columns"),
    ],
)
def test_coins_appear_uniformly_on_free_cells(
    first: int, second: int, moves: tuple[int, int], occupied: set[int]
) -> None:
    counts = appearances(first, second, moves)
    assert set(counts) == set(range(9)) - occupied
    assert chisquare(list(counts.values())).pvalue > 0.001


def test_the_last_free_cell_gets_the_coin() -> None:
    assert set(appearances(0, 2, (RIGHT, RIGHT), board=(1, 3))) == {2}


def test_first_states_are_uniform_and_the_coin_lies_where_nobody_stands() -> None:
    state, _ = CoinGame().reset(20_000, seeded(5))
    pairs = Counter(map(tuple, state.players.tolist()))
    assert len(pairs) == 81  # overlaps included
    assert chisquare(list(pairs.values())).pvalue > 0.001
    assert chisquare(torch.bincount(state.owner)).pvalue > 0.001
    assert chisquare(torch.bincount(state.coin, minlength=9)).pvalue > 0.001
    assert not (state.players == state.coin[:, None]).any()


def test_a_step_uses_as_many_random_numbers_whatever_is_played() -> None:
    game, state = CoinGame(), place(3, 8, 4, 0, batch=7)
    taken, left = seeded(), seeded()
    game.step(state, act(RIGHT, UP).expand(7, 2), taken)
    game.step(state, act(LEFT, UP).expand(7, 2), left)
    assert taken.get_state().equal(left.get_state())


# --- pick-ups


def test_pickups_keep_the_shape_and_count_the_own_coin_rate() -> None:
    # own, other's, both on the first's, nothing
    rewards = torch.tensor([[[1.0, 1.0, -1.0, 0.0], [0.0, -2.0, 1.0, 0.0]]])
    own, others = pickups(rewards)
    assert own.tolist() == [[[True, False, True, False], [False] * 4]]
    assert others.tolist() == [[[False, True, False, False], [False, False, True, False]]]
    assert [x[..., 2].tolist() for x in (own, others)] == [x.tolist() for x in pickups(rewards[..., 2])]
    assert (own.sum() / (own | others).sum()).item() == 0.5


# --- scripted players


def good_moves(board: tuple[int, int], own: int, coin: int, nearest: bool) -> set[int]:
    height, width = board
    distances = []
    for action in range(4):
        row, column = divmod(step_slowly(board, [own, own], -1, 0, [action, action])["players"][0], width)
        rows, columns = abs(row - coin // width), abs(column - coin % width)
        distances.append(min(rows, height - rows) + min(columns, width - columns))
    best = min(distances) if nearest else max(distances)
    return {action for action in range(4) if distances[action] == best}


@every_board
@pytest.mark.parametrize(("policy", "flees"), [(always_cooperate, True), (always_defect, False)])
def test_scripted_players_draw_from_the_best_moves(policy: Script, flees: bool, board: tuple[int, int]) -> None:
    cells = board[0] * board[1]
    cases = [(own, coin, owner) for own in range(cells) for coin in range(cells) for owner in (0, 1)]
    other = Random(0)
    observations = torch.cat(
        [CoinGame(*board).observe(place(own, other.randrange(cells), coin, owner))[:, 0] for own, coin, owner in cases]
    )
    actions = policy(CoinGame(*board), observations.expand(64, -1, -1, -1, -1), seeded())
    assert actions.shape == (64, len(cases))
    for i, (own, coin, owner) in enumerate(cases):
        # 64 draws miss one of at most four equally good moves once in 25 million cases
        assert set(actions[:, i].tolist()) == good_moves(board, own, coin, nearest=owner == 0 or not flees)


@pytest.mark.parametrize(
    ("policy", "owner", "tied"),
    [
        (always_defect, 1, [LEFT, UP]),
        (always_cooperate, 0, [LEFT, UP]),
        (always_cooperate, 1, [RIGHT, DOWN]),
    ],
)
def test_ties_are_broken_uniformly(policy: Script, owner: int, tied: list[int]) -> None:
    game = CoinGame(5, 5)
    observation = game.observe(place(12, 0, 6, owner))[0, 0]  # the coin lies one up and one to the left
    counts = torch.bincount(policy(game, observation.expand(8000, -1, -1, -1), seeded()), minlength=4)
    assert counts.nonzero().flatten().tolist() == tied
    assert chisquare(counts[counts > 0]).pvalue > 0.001


@pytest.mark.parametrize(
    ("names", "rewards", "own_rate"),
    [
        (("always cooperate", "always cooperate"), (1 / 3, 1 / 3), 1.0),
        (("always cooperate", "always defect"), (-0.26, 0.64), 0.7),
        (("always defect", "always defect"), (0.0, 0.0), 0.5),
    ],
)
def test_league_of_scripted_players(names: tuple[str, str], rewards: tuple[float, float], own_rate: float) -> None:
    # 1/3, 0 and -.26 are the reference values that POLA's plotting script notes; the rest are measured
    earned = play_scripts(CoinGame(), [SCRIPTED[name] for name in names], 1000, seeded())
    assert earned.mean((0, 2)).tolist() == pytest.approx(rewards, abs=0.02)
    own, others = pickups(earned)
    assert (own.sum() / (own | others).sum()).item() == pytest.approx(own_rate, abs=0.02)


# --- types and bad input


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_actions_may_have_any_integer_dtype(dtype: torch.dtype) -> None:
    state, *_ = CoinGame(9, 9).step(place(79, 40, 0, 0), act(RIGHT, DOWN).to(dtype), seeded())
    assert state.players.tolist() == [[80, 49]]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param(lambda: CoinGame(height=0), "height", id="no rows"),
        pytest.param(lambda: CoinGame(width=2.5), "width", id="a fraction"),
        pytest.param(lambda: CoinGame(1, 2), "height and width", id="no free cell"),
        pytest.param(lambda: pickups(torch.zeros(5, 3)), "rewards", id="three players"),
        pytest.param(lambda: pickups(torch.zeros(2)), "rewards", id="one game"),
    ],
)
def test_bad_arguments_are_refused_by_name(call: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
