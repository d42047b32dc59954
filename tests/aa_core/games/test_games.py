"""What all games have in common."""

from __future__ import annotations

import inspect
from copy import deepcopy
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from scripted_play import play_scripts
from torch import Generator, Tensor

from aa_core import games
from aa_core.games import coin, harvest, matrix, negotiation
from aa_core.games.base import Game, random_player

every_game = pytest.mark.parametrize("name", games.names())
SCRIPTED = {"coin": coin.SCRIPTED, "harvest": harvest.SCRIPTED, "negotiation": negotiation.SCRIPTED}
SCRIPTS = [(name, script) for name in games.names() for script in SCRIPTED.get(name, matrix.SCRIPTED)]


def script_of(name: str, script: str) -> Any:
    return SCRIPTED.get(name, matrix.SCRIPTED)[script]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def make(name: str, horizon: int = 9) -> Game:
    return games.make(name, horizon=horizon, **({"window": (2, 1, 1)} if name == "harvest" else {}))


def random_actions(game: Game, batch: int, seed: int = 0) -> Tensor:
    return random_player(game, torch.zeros(batch, game.num_players, *game.obs_shape), seeded(seed))


def same(a: Any, b: Any) -> bool:
    pairs = [(getattr(a, field.name), getattr(b, field.name)) for field in fields(a)]
    return all(x.equal(y) if isinstance(x, Tensor) else x == y for x, y in pairs)


@every_game
def test_a_game_states_everything_that_the_protocol_asks_for(name: str) -> None:
    game = make(name)
    declared = [member for member in (*Game.__annotations__, *vars(Game)) if not member.startswith("_")]
    assert len(declared) == 10
    assert all(hasattr(game, member) for member in declared)
    discrete, index = game.num_actions is not None, game.num_observations is not None
    assert all(isinstance(number, int) and number > 0 for number in (game.num_players, game.horizon))
    assert (game.action_shape == ()) == (game.action_bounds is None) == discrete
    assert (game.obs_shape == ()) == (game.obs_bounds is None) == index
    for method in ("reset", "step"):
        assert list(inspect.signature(getattr(type(game), method)).parameters) == list(
            inspect.signature(getattr(Game, method)).parameters
        )


@every_game
def test_shapes_types_and_bounds_are_as_declared(name: str) -> None:
    game, generator = make(name), seeded()
    state, observations = game.reset(6, generator)
    for _ in range(game.horizon):
        assert observations.shape == (6, game.num_players, *game.obs_shape)
        low, high = game.obs_bounds or (0, game.num_observations - 1)
        assert low <= observations.min() <= observations.max() <= high
        actions = random_player(game, observations, generator)
        assert actions.shape == (6, game.num_players, *game.action_shape)
        state, observations, rewards, done = game.step(state, actions, generator)
        assert (rewards.shape, rewards.dtype) == ((6, game.num_players), torch.float32)
        assert (done.shape, done.dtype) == ((6,), torch.bool)


@every_game
def test_a_game_is_done_at_its_horizon_and_goes_no_further(name: str) -> None:
    game, generator, ends = make(name, horizon=3), seeded(), []
    state, observations = game.reset(2, generator)
    for _ in range(3):
        state, observations, _, done = game.step(state, random_player(game, observations, generator), generator)
        ends.append(done.tolist())
    assert ends == [[False] * 2, [False] * 2, [True] * 2]
    with pytest.raises(ValueError, match=r"^state must be before the horizon 3"):
        game.step(state, random_player(game, observations, generator), generator)


@every_game
@pytest.mark.parametrize("batch", [0, -1, 2.0, None])
def test_a_batch_that_is_no_positive_integer_is_refused(name: str, batch: object) -> None:
    with pytest.raises(ValueError, match=r"^batch must be a positive integer"):
        make(name).reset(batch, seeded())


@every_game
@pytest.mark.parametrize("horizon", [0, 2.5])
def test_a_horizon_that_is_no_positive_integer_is_refused(name: str, horizon: object) -> None:
    with pytest.raises(ValueError, match=r"^horizon must be a positive integer"):
        games.make(name, horizon=horizon)


def bad_actions(game: Game) -> list[object]:
    """Another type, too few players, another batch, a list, numbers just outside; for reals also NaN and infinity."""
    good, discrete = random_actions(game, 2), game.num_actions is not None
    low, high = game.action_bounds or (0, game.num_actions - 1)
    one = torch.arange(good.numel()).view_as(good) == 1
    outside = [low - 1, high + 1] if discrete else [low - 1e-3, high + 1e-3, torch.nan, torch.inf]
    cases = [good.float() if discrete else good.long(), good[:, :1], good[:1], good[..., 0], good.tolist()]
    return cases + [torch.where(one, number, good) for number in outside]


@every_game
def test_bad_actions_are_refused_by_name(name: str) -> None:
    game = make(name)
    state, _ = game.reset(2, seeded())
    for actions in bad_actions(game):
        with pytest.raises(ValueError, match=r"^actions must"):
            game.step(state, actions, seeded())


@every_game
def test_a_step_leaves_its_state_so_that_a_game_can_be_branched(name: str) -> None:
    game, generator = make(name), seeded()
    state, observations = game.reset(8, generator)
    for _ in range(3):
        state, observations, *_ = game.step(state, random_player(game, observations, generator), generator)
    kept, actions = deepcopy(state), random_actions(game, 8)
    first, *seen = game.step(state, actions, seeded(1))
    first_kept = deepcopy(first)
    game.step(first, actions, seeded(2))  # another branch further on
    second, *again = game.step(state, actions, seeded(1))
    assert same(state, kept)
    assert same(first, first_kept)
    assert same(first, second)
    assert all(x.equal(y) for x, y in zip(seen, again, strict=True))
    with pytest.raises(FrozenInstanceError):
        state.time = 3


@every_game
def test_the_seed_decides_the_game_and_the_global_generator_is_left_alone(name: str) -> None:
    game = make(name)
    before = torch.get_rng_state()

    def play(seed: int) -> Tensor:
        return play_scripts(game, [random_player] * game.num_players, 32, seeded(seed))

    first = play(0)
    for script in SCRIPTED.get(name, matrix.SCRIPTED).values():
        play_scripts(game, [script] * game.num_players, 2, seeded())
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(2)
    assert play(0).equal(first)
    assert not play(1).equal(first)


# --- scripted players


@pytest.mark.parametrize(("name", "script"), SCRIPTS)
def test_a_script_acts_for_any_number_of_seats(name: str, script: str) -> None:
    game, act = make(name), script_of(name, script)
    _, observations = game.reset(4, seeded())
    for seen in (observations, observations[:, 0], observations[0, 0], observations.expand(3, *observations.shape)):
        lead = seen.shape[: seen.dim() - len(game.obs_shape)]
        actions = act(game, seen, seeded())
        assert actions.shape == (*lead, *game.action_shape)
        assert actions.is_floating_point() == (game.num_actions is None)
    assert act(game, observations, seeded()).equal(act(game, observations, seeded()))
    state, _ = game.reset(4, seeded())
    game.step(state, act(game, observations, seeded()), seeded())  # what it does is allowed


@pytest.mark.parametrize(("name", "script"), [pair for pair in SCRIPTS if pair[0] in SCRIPTED])
def test_observations_of_another_game_are_refused_by_name(name: str, script: str) -> None:
    game = make(name)
    for shape in ((2, *game.obs_shape[:-1], game.obs_shape[-1] + 1), game.obs_shape[1:]):
        with pytest.raises(ValueError, match=r"^observations must be \(\.\.\., "):
            script_of(name, script)(game, torch.zeros(shape), seeded())


@every_game
def test_random_players_draw_uniformly(name: str) -> None:
    game = make(name)
    actions = random_actions(game, 4000)
    if game.num_actions is None:
        low, high = game.action_bounds
        actions = ((actions - low) / (high - low) * 10).long()
    assert chisquare(torch.bincount(actions.flatten())).pvalue > 0.001


@pytest.mark.parametrize("name", ["checkers", ""])
def test_an_unknown_game_is_told_the_names(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^name must be one of .*chicken.*stag_hunt.*got '{name}'"):
        games.make(name)
