from __future__ import annotations

import pickle
import sys
import warnings
from importlib import import_module

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from pettingzoo.test import parallel_api_test, parallel_seed_test

from aa_core import games
from aa_core.games.pettingzoo import TensorGameEnv, parallel_env

every_game = pytest.mark.parametrize("name", games.names())


def play(env: TensorGameEnv, steps: int, seed: int | None = None) -> list:
    """What an environment shows in a game of actions that do not depend on it."""
    shown = [env.reset(seed=seed)]
    actions = {agent: [] for agent in env.agents}
    for i, agent in enumerate(env.agents):
        env.action_space(agent).seed(i)
        actions[agent] = [env.action_space(agent).sample() for _ in range(steps)]
    for time in range(steps):
        shown.append(env.step({agent: actions[agent][time] for agent in env.agents}))
    return shown


@every_game
def test_pettingzoos_own_tests_pass(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(parallel_env(name), num_cycles=60)
        parallel_seed_test(lambda: parallel_env(name), num_cycles=30)


@every_game
def test_it_shows_what_the_tensor_game_does(name: str) -> None:
    env, game, generator = parallel_env(name), games.make(name), torch.Generator().manual_seed(3)
    observations, _ = env.reset(seed=3)
    state, expected = game.reset(1, generator)
    for _ in range(5):
        for i, agent in enumerate(env.agents):
            assert np.array_equal(observations[agent], expected[0, i].numpy())
            assert observations[agent] in env.observation_space(agent)
        actions = {agent: env.action_space(agent).sample() for agent in env.agents}
        observations, rewards, *_ = env.step(actions)
        joint = torch.as_tensor(np.stack(list(actions.values())))[None]
        state, expected, earned, _ = game.step(state, joint, generator)
        assert list(rewards.values()) == earned[0].tolist()


def test_spaces() -> None:
    chicken, coin, negotiation = map(parallel_env, ("chicken", "coin", "negotiation"))
    assert (chicken.observation_space("player_0"), chicken.action_space("player_1")) == (
        spaces.Discrete(5),
        spaces.Discrete(2),
    )
    assert coin.observation_space("player_1") == spaces.Box(0, 1, (4, 3, 3), np.float32)
    assert coin.action_space("player_0") == spaces.Discrete(4)
    assert negotiation.observation_space("player_0") == spaces.Box(0, 0.5, (15,), np.float32)
    assert negotiation.action_space("player_1") == spaces.Box(0, 5, (3,), np.float32)
    assert coin.action_space("player_0") is not coin.action_space("player_1")  # each agent samples on its own
    assert coin.metadata["name"] == "coin"


@every_game
def test_vector_wrappers_find_what_they_ask_for(name: str) -> None:
    """What `supersuit.pettingzoo_env_to_vec_env_v1` and `concat_vec_envs_v1` use, over the ends of games."""
    env = pickle.loads(pickle.dumps(parallel_env(name, horizon=2)))
    assert env.unwrapped is env
    assert env.render_mode is None is env.unwrapped.render_mode
    assert env.metadata["render_modes"] == []
    spaces_of = [(env.observation_space(agent), env.action_space(agent)) for agent in env.possible_agents]
    assert all(pair == spaces_of[0] for pair in spaces_of)
    for _ in range(3):
        env.reset(seed=0)
        for _ in range(2):
            actions = {agent: env.action_space(agent).sample() for agent in env.possible_agents}
            env.step({agent: np.asarray(action) for agent, action in actions.items()})
        assert not env.agents


def test_options_reach_the_game() -> None:
    env = parallel_env("coin", height=2, width=5, horizon=3)
    assert env.observation_space("player_0").shape == (4, 2, 5)
    assert env.game == games.make("coin", height=2, width=5, horizon=3)


@every_game
def test_the_horizon_truncates_every_agent(name: str) -> None:
    env = parallel_env(name, horizon=3)
    ends = []
    for _, _, terminated, truncated, infos in play(env, 3, seed=0)[1:]:
        assert list(terminated) == list(truncated) == list(infos) == env.possible_agents
        assert not any(terminated.values())
        ends.append(list(truncated.values()))
    agents = len(env.possible_agents)
    assert ends == [[False] * agents, [False] * agents, [True] * agents]
    assert env.agents == []
    with pytest.raises(ValueError, match=r"^actions must be taken after a reset"):
        env.step({})
    env.reset()
    assert env.agents == env.possible_agents


def test_the_seed_decides_the_game_and_none_goes_on() -> None:
    env = parallel_env("coin")
    first, second = play(env, 20, seed=np.int64(1)), play(env, 20)
    assert not data_equivalence(first, second)
    again = parallel_env("coin")
    assert data_equivalence(play(again, 20, seed=1), first)
    assert data_equivalence(play(again, 20), second)
    assert not data_equivalence(play(again, 20, seed=2), first)


def test_without_a_seed_two_environments_differ_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    games_played = [play(parallel_env("coin", height=9, width=9), 5) for _ in range(2)]
    assert not data_equivalence(*games_played)
    assert torch.get_rng_state().equal(before)


def test_observations_are_not_overwritten_by_the_next_step() -> None:
    env = parallel_env("coin")
    observations, _ = env.reset(seed=0)
    kept = {agent: seen.copy() for agent, seen in observations.items()}
    for _ in range(5):
        env.step(dict.fromkeys(env.agents, 1))
    assert data_equivalence(observations, kept)


@pytest.mark.parametrize(
    "actions",
    [
        pytest.param({"player_0": 0}, id="one agent"),
        pytest.param({"player_0": 0, "player_2": 0}, id="a stranger"),
        pytest.param({"player_0": 0, "player_1": 0, "player_2": 0}, id="one too many"),
        pytest.param({"player_0": 0, "player_1": 4}, id="too large"),
        pytest.param({"player_0": 0.0, "player_1": 1.0}, id="floats"),
        pytest.param({"player_0": "a", "player_1": "b"}, id="texts"),
        pytest.param({"player_0": None, "player_1": 1}, id="nothing"),
        pytest.param({"player_0": [0, 1], "player_1": 1}, id="two shapes"),
    ],
)
def test_bad_actions_are_refused_by_name(actions: dict) -> None:
    env = parallel_env("coin")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^actions must"):
        env.step(actions)
    assert env.agents == env.possible_agents  # the game can go on


def test_the_order_of_the_keys_does_not_matter() -> None:
    results = []
    for keys in (("player_0", "player_1"), ("player_1", "player_0")):
        env = parallel_env("chicken")
        env.reset(seed=0)
        results.append(env.step({key: int(key[-1]) for key in keys}))
    assert data_equivalence(*results)
    assert results[0][1] == {"player_0": 1.0, "player_1": 4.0}


def test_bad_games_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^name must"):
        parallel_env("checkers")
    with pytest.raises(ValueError, match=r"^horizon must"):
        parallel_env("coin", horizon=0)
    with pytest.raises(ValueError, match=r"^seed must be below 2\^64"):
        parallel_env("coin").reset(seed=2**64)


@pytest.mark.parametrize("missing", ["pettingzoo", "gymnasium"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "aa_core.games.pettingzoo")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"pip install pettingzoo$"):
        import_module("aa_core.games.pettingzoo")
