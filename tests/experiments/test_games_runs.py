"""The runs of the Coin Game and Negotiation, in profile smoke unless settings are all that counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Generator

from aa_core.actor_critic import ActorCritic, Network, Spaces, load
from aa_core.games.coin import CoinGame, CoinState
from aa_core.selfplay import SelfPlay, play
from experiments import coin, leagues, negotiation, run
from experiments.identity import settings_as_data
from experiments.run import Run, make, table_of

GAMES = {"coin": coin, "negotiation": negotiation}
SIZE = coin.SIZES["smoke"]
every_game = pytest.mark.parametrize("game", GAMES)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:  # one for all: leagues and tables share their runs
        for name in ("BUILD", "DATA"):
            patch.setattr(run, name, tmp_path_factory.mktemp(name))
        yield run.BUILD


def table(name: str) -> pd.DataFrame:
    """A table of profile smoke, put together as the build does it."""
    declared = next(t for module in (coin, negotiation) for t in module.TABLES if t.name == name)
    return pd.concat([declared.keep(table_of(make(one))) for one in declared.runs("smoke")], ignore_index=True)


def changed(one: SelfPlay, other: SelfPlay) -> set[str]:
    """Names of the settings in which two differ."""
    return {field.name for field in fields(one) if getattr(one, field.name) != getattr(other, field.name)}


# --- settings


def test_profile_paper_has_the_papers_settings() -> None:
    bargaining = negotiation.agent_run("paper", "advantage_alignment", 0).settings
    options, rule = bargaining.self_play, bargaining.credit.keywords
    assert (options.games, options.updates, rule["beta"], rule["past"]) == (16384, 800, 3.0, "averaged")
    assert (options.learning_rate, options.entropy, options.normalise, options.buffer) == (1e-3, 0.005, False, None)
    loqa = coin.agent_run("paper", "loqa", 0).settings.self_play
    assert (loqa.games, loqa.network.hidden, loqa.learning_rate, loqa.critic_learning_rate) == (512, 128, 1e-3, 1e-2)
    assert (loqa.entropy, loqa.buffer.every, loqa.buffer.capacity, loqa.buffer.until) == (0.1, 10, 10_000, None)
    lola = coin.agent_run("paper", "lola_dice", 0).settings.self_play
    assert (lola.games, lola.updates, lola.learning_rate) == (2000, 50001, 3e-3)


@every_game
def test_algorithms_differ_in_the_credit_and_in_what_their_names_say(game: str) -> None:
    agents = GAMES[game].AGENTS
    assert changed(agents["ppo"][0], agents["naive"][0]) == {"clip", "epochs"}
    assert agents["ppo"][1] is agents["naive"][1]
    if game == "coin":
        plain, proximal = agents["advantage_alignment"], agents["proximal_advantage_alignment"]
        assert changed(plain[0], proximal[0]) == {"clip", "epochs"}
        assert plain[1].keywords == proximal[1].keywords
        assert agents["loqa"][0] == plain[0]


def test_a_cell_of_the_coin_games_map_differs_in_what_it_names() -> None:
    signs = {"greedy": "greedy_updates", "past": "buffer", "last": "buffer", "entropy": "entropy",
             "Adam": "learning_rate"}  # fmt: skip
    shared = {"updates", "critic_learning_rate"}  # time to the end, and Adam of both
    for name in coin.MAP:
        settings = coin.map_run("extended", name, 0).settings
        assert settings.credit.keywords["beta"] == float(name.split(",")[0].removeprefix("β "))
        named = {setting for sign, setting in signs.items() if sign in name}
        assert changed(settings.self_play, coin.MAP_BASE) - shared == named


def test_a_cell_of_negotiations_map_differs_in_what_it_names() -> None:
    signs = {"greedy": "greedy_updates", "past": "buffer", "not normalised": "normalise"}
    for name in negotiation.MAP:
        settings = negotiation.map_run("extended", name, 0).settings
        rule = settings.credit.keywords
        assert rule["beta"] == float(name.split(", ")[1].removeprefix("β "))
        assert rule.get("past", "discounted") == name.split(",")[0]
        named = {setting for sign, setting in signs.items() if sign in name}
        assert changed(settings.self_play, negotiation.NAIVE) - {"updates"} == named


# --- one run


@pytest.mark.parametrize(
    "declared",
    [coin.agent_run("smoke", "advantage_alignment", 101), coin.agent_run("smoke", "lola_dice", 101),
     negotiation.agent_run("smoke", "advantage_alignment", 101)],
    ids=lambda one: one.name,
)  # fmt: skip
def test_a_run_of_any_seed_is_tidy_and_repeatable_and_its_agent_plays_as_it_did(declared: Run) -> None:
    content = table_of(make(declared))
    assert list(content.columns) == ["agent", "seed", "update", "metric", "value"]
    assert set(content["update"]) == {0, 2, 4}
    assert not content.duplicated(["update", "metric"]).any()
    assert (set(content.seed), set(content.agent)) == ({101}, {declared.variant})
    pd.testing.assert_frame_equal(table_of(make(declared, fresh=True)), content)
    last = content[content["update"] == 4].set_index("metric").value.to_dict()
    metrics = leagues.evaluate(load(declared.folder / leagues.AGENT), declared.settings)
    assert metrics == pytest.approx(last, rel=1e-5)
    assert metrics.keys() == {
        "reward_self", "together", "reward_vs_cooperator", "reward_of_cooperator", "reward_vs_defector",
        "reward_of_defector",
    }  # fmt: skip


def test_evaluation_knows_a_cooperator_from_nobody() -> None:
    settings = coin.agent_run("laptop", "naive", 0).settings
    mind = ActorCritic(Spaces.of(settings.game), Network(hidden=8), Generator().manual_seed(0))
    metrics = leagues.evaluate(mind, settings)
    assert abs(metrics["together"] - 0.5) < 0.1  # an untrained walk takes any coin, and always defect robs it
    assert metrics["reward_of_defector"] > 0.3 > 0 > metrics["reward_vs_defector"]


def test_the_long_run_begins_as_the_leagues_agent() -> None:
    short, long = (
        table_of(make(declared("smoke", "advantage_alignment", 0)))
        for declared in (negotiation.agent_run, negotiation.long_run)
    )
    assert long["update"].max() > short["update"].max()
    pd.testing.assert_frame_equal(long[long["update"] <= 4].reset_index(drop=True), short)


# --- leagues and recorded games


@every_game
def test_the_league_is_complete_and_symmetric(game: str) -> None:
    module, content = GAMES[game], table(f"{game}_league")
    names = module.NAMES if game == "coin" else tuple(module.AGENTS)
    agents = dict.fromkeys(names, SIZE.seeds) | dict.fromkeys(module.SCRIPTED, 1)
    keys = ["row_agent", "column_agent", "row_seed", "column_seed"]
    assert list(content.columns) == [*keys, "row_reward", "column_reward"]
    assert len(content) == len(content.drop_duplicates(keys)) == sum(agents.values()) ** 2
    mirror = {f"{a}_{what}": f"{b}_{what}" for a, b in (("row", "column"), ("column", "row"))
              for what in ("agent", "seed", "reward")}  # fmt: skip
    swapped = content.rename(columns=mirror)
    both = content.merge(swapped, on=keys)
    assert len(both) == len(content)
    assert both.row_reward_x.to_numpy() == pytest.approx(both.row_reward_y.to_numpy())


def test_a_league_is_played_by_the_agents_that_it_names() -> None:
    declared = negotiation.league_run("smoke")
    agents = [(need.variant, need.seed) for need in declared.needs]
    assert agents == [(agent, seed) for agent in negotiation.AGENTS for seed in range(SIZE.seeds)]
    content = table("negotiation_league")
    pair = {"row_agent": "advantage_alignment", "column_agent": "always defect", "row_seed": 1}
    played = content[(content[list(pair)] == pd.Series(pair)).all(axis=1)].row_reward.item()
    folder = make(negotiation.agent_run("smoke", "advantage_alignment", 1))
    minds = [load(make(negotiation.agent_run("smoke", "advantage_alignment", 0)) / leagues.AGENT),
             load(folder / leagues.AGENT), negotiation.SCRIPTED["always defect"]]  # fmt: skip
    who = torch.tensor([[0, 2], [1, 2]]).repeat_interleave(SIZE.league_games, 0)
    rewards = play(declared.settings.game, minds, who, Generator().manual_seed(0)).rewards
    assert played == pytest.approx(rewards[SIZE.league_games :, 0].mean().item(), rel=1e-4)


def test_a_coin_episode_obeys_the_rules() -> None:
    content, game = table("coin_episode"), CoinGame(horizon=SIZE.horizon)
    assert set(content.opponent) == {"advantage_alignment", *coin.SCRIPTED}
    for _, met in content.groupby(["opponent", "game"]):
        assert met.step.tolist() == list(range(SIZE.horizon))
        for now, after in zip(met[:-1].itertuples(), met[1:].itertuples(), strict=True):
            state = CoinState(
                torch.tensor([[now.cell_1, now.cell_2]]), torch.tensor([now.coin]), torch.tensor([now.owner]), 0
            )
            # the moves that lead to where both stand next
            moves = [int((game._moves[cell] == to).nonzero()[0]) for cell, to in
                     ((now.cell_1, after.cell_1), (now.cell_2, after.cell_2))]  # fmt: skip
            following, _, rewards, _ = game.step(state, torch.tensor([moves]), Generator().manual_seed(0))
            assert rewards[0].tolist() == [now.reward_1, now.reward_2]
            assert following.owner.item() == after.owner


def test_a_negotiation_is_paid_by_its_claims() -> None:
    content = table("negotiation_episode")
    for player, other in ((1, 2), (2, 1)):
        claims, others, values = (
            content[[f"{what}_{who}_{item}" for item in (1, 2, 3)]].to_numpy()
            for what, who in (("claim", player), ("claim", other), ("value", player))
        )
        paid = (values * claims / (claims + others).clip(min=5)).sum(1) / 15
        assert content[f"reward_{player}"].to_numpy() == pytest.approx(paid, abs=1e-4)
    met = content[content.opponent == "always defect"]
    assert (met[["claim_2_1", "claim_2_2", "claim_2_3"]] == 5).all(axis=None)


# --- side studies


@every_game
def test_the_map_has_a_row_per_cell_and_seed(game: str) -> None:
    content, cells = table(f"{game}_map"), GAMES[game].MAP
    seeds = content.groupby("cell", sort=False).seed.agg(list).to_dict()
    assert seeds == {cell: list(range(SIZE.seeds)) for cell in list(cells)[:2]}
    settings = [replace(GAMES[game].map_run("extended", cell, 0).settings, agent="") for cell in cells]
    assert len({str(settings_as_data(one)) for one in settings}) == len(cells)


def test_a_price_is_that_of_whole_updates() -> None:
    content = table("shaping_cost")
    assert set(content.algorithm) == set(coin.PRICED)
    assert set(zip(content.horizon, content.grid, strict=True)) == {(4, 3), (8, 3), (4, 4)}
    steps = content.games * content.horizon / content.seconds_per_update
    assert steps.to_numpy() == pytest.approx(content.game_steps_per_second.to_numpy(), rel=1e-3)


def test_speed_is_measured_on_one_and_two_threads_which_are_given_back() -> None:
    before = torch.get_num_threads()
    content = table("coin_speed")
    assert torch.get_num_threads() == before
    assert content.threads.tolist() == [1, 1, 2, 2]
    assert content.what.tolist() == ["random play", "update"] * 2
    assert (content.game_steps_per_second > 0).all()
