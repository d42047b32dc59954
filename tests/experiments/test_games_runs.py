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
from experiments import coin, leagues, negotiation, paths
from experiments.identity import settings_as_data
from experiments.run import Run, make, table_of

GAMES = {"coin": coin, "negotiation": negotiation}
SIZE = coin.SIZES["smoke"]
every_game = pytest.mark.parametrize("game", GAMES)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:  # one for all: leagues and tables share their runs
        for name in ("BUILD", "DATA"):
            patch.setattr(paths, name, tmp_path_factory.mktemp(name))
        yield paths.BUILD


def table(name: str) -> pd.DataFrame:
    """A table of profile smoke, put together as the build does it."""
    declared = next(t for module in (coin, negotiation) for t in module.TABLES if t.name == name)
    return pd.concat([declared.kept(table_of(make(one))) for one in declared.runs("smoke")], ignore_index=True)


def changed(one: SelfPlay, other: SelfPlay) -> set[str]:
    """Names of the settings in which two differ, of those that the second has."""
    return {field.name for field in fields(other) if getattr(one, field.name) != getattr(other, field.name)}


# --- settings


def test_profile_paper_has_the_papers_settings() -> None:
    bargaining = negotiation.agent_run("paper", "advantage_alignment", 0).settings
    options, rule = bargaining.self_play, bargaining.credit.keywords
    assert (options.games, options.updates, rule["beta"], rule["past"]) == (16384, 800, 3.0, "averaged")
    assert (options.learning_rate, options.entropy, options.normalise, options.buffer) == (1e-3, 0.005, False, None)
    walks = coin.agent_run("paper", "advantage_alignment", 0).settings.self_play
    assert (walks.games, walks.network.hidden, walks.learning_rate, walks.critic_learning_rate) == (
        512,
        128,
        1e-3,
        1e-2,
    )
    assert (walks.entropy, walks.buffer.every, walks.buffer.capacity, walks.buffer.until) == (0.1, 10, 10_000, None)
    lola = coin.agent_run("paper", "lola_dice", 0).settings.self_play
    assert (lola.games, lola.updates, lola.learning_rate) == (2000, 50001, 3e-3)


@every_game
def test_algorithms_differ_in_the_credit_and_in_what_their_names_say(game: str) -> None:
    agents = GAMES[game].AGENTS
    assert changed(agents["ppo"][0], agents["naive"][0]) == {"clip", "epochs"}
    assert agents["ppo"][1] is agents["naive"][1]
    if game == "coin":
        plain, proximal = agents["advantage_alignment"], agents["proximal_advantage_alignment"]
        halved = {"learning_rate", "critic_learning_rate"}  # it steps twice per batch
        assert changed(plain[0], proximal[0]) == {"clip", "epochs"} | halved
        assert plain[1] is proximal[1]
        assert agents["loqa_credit"][0] is plain[0]
        assert agents["loqa_credit"][1] is agents["loqa"][1]
        assert changed(agents["loqa"][0], plain[0]) == {"lam", "network"}  # and in what values are made of
        own = {"lam", "normalise", "critic_learning_rate"}
        assert changed(plain[0], agents["naive"][0]) == {"updates", "buffer"} | own


def test_a_cell_of_the_coin_games_map_differs_in_what_it_names() -> None:
    signs = {"greedy": {"greedy_updates"}, "past selves": {"buffer"}, "entropy": {"entropy"}, "board": {"network"},
             "Adam": {"learning_rate"}, "λ": {"lam"}, "updates": {"updates"}, "normalised": {"normalise"}}  # fmt: skip
    for name in coin.MAP:
        settings = coin._MAP.run("extended", name, 0).settings
        rule, former = settings.credit.keywords, name.startswith("normalised, ")
        named = {setting for sign, of in signs.items() if sign in name for setting in of}
        named |= {"critic_learning_rate"} if former else set()
        assert changed(settings.self_play, coin.ALIGNED) == named
        assert (rule == coin.CREDIT.keywords) == ("β" not in name and "γ" not in name)
        assert "β" not in name or f"β {rule['beta']:g}" in name
        assert rule["gamma"] == (coin.GAMMA if "fades with γ" in name else coin.FADE)
        assert "λ" not in name or f"λ {settings.self_play.lam:g}" in name


def test_a_cell_of_negotiations_map_differs_in_what_it_names() -> None:
    signs = {"greedy": ("greedy_updates",), "past": ("buffer",), "not normalised": ("normalise",), "λ": ("lam",),
             "γ": ("gamma",), "defectors": ("scripts", "script_share"), "wide": ("network",),
             "Adam": ("learning_rate", "critic_learning_rate"), "longer": ("updates",)}  # fmt: skip
    for name in negotiation.MAP:
        settings = negotiation._MAP.run("extended", name, 0).settings
        rule, (past, beta, *others) = settings.credit.keywords, name.split(", ")
        assert rule["beta"] == float(beta.removeprefix("β "))
        assert rule.get("past", f"discounted {rule['gamma']:g}") == past
        named = {setting for sign in signs if any(sign in part for part in others) for setting in signs[sign]}
        assert changed(settings.self_play, negotiation.MAP_BASE) == named
        for part in others:
            what, _, value = part.partition(" ")
            if what in "γλ":
                assert getattr(settings.self_play, signs[what][0]) == float(value)
            if what == "defectors":
                assert settings.self_play.script_share == 1 / int(value.removeprefix("1 in "))


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


def test_the_run_that_stops_is_the_long_one_cut_short() -> None:
    stopped, long = (negotiation.long_run("laptop", which, 5).settings for which in ("stopped", "trained on"))
    assert (stopped.stop_above, long.stop_above) == (0.4, None)
    assert replace(stopped, stop_above=None, agent="trained on") == long


# --- leagues and recorded games


@every_game
def test_the_league_is_complete_and_symmetric(game: str) -> None:
    module, content = GAMES[game], table(f"{game}_league")
    names = module.NAMES if game == "coin" else tuple(module.AGENTS)
    agents = dict.fromkeys(names, 2) | dict.fromkeys(module.SCRIPTED, 1)
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
    declared = negotiation.EXPERIMENTS[1].run("smoke")
    agents = [(need.variant, need.seed) for need in declared.needs]
    first, second = negotiation.SEEDS["smoke"]
    assert agents == [(agent, seed) for agent in negotiation.AGENTS for seed in (first, second)]
    content = table("negotiation_league")
    pair = {"row_agent": "advantage_alignment", "column_agent": "always defect", "row_seed": second}
    played = content[(content[list(pair)] == pd.Series(pair)).all(axis=1)].row_reward.item()
    trained = [make(negotiation.agent_run("smoke", negotiation.AA, seed)) for seed in (first, second)]
    minds = [*(load(folder / leagues.AGENT) for folder in trained), negotiation.SCRIPTED["always defect"]]  # fmt: skip
    who = torch.tensor([[0, 2], [1, 2]]).repeat_interleave(SIZE.met[0], 0)
    rewards = play(declared.settings.game, minds, who, Generator().manual_seed(0)).rewards
    assert played == pytest.approx(rewards[SIZE.met[0] :, 0].mean().item(), rel=1e-4)


def test_a_league_takes_its_minds_agent_by_agent_also_where_some_have_fewer_seeds(tmp_path: Path) -> None:
    def folder(agent: str, seed: int) -> Path:
        return make(coin.agent_run("smoke", agent, seed))

    met = leagues.League(CoinGame(horizon=8), {"naive": 1, "ppo": 2}, {}, 3)
    content = leagues.play_league(met, tmp_path, [folder("naive", 5), folder("ppo", 5), folder("ppo", 6)])
    assert content.groupby("row_agent").row_seed.nunique().to_dict() == {"naive": 1, "ppo": 2}
    minds = [load(folder("naive", 5) / leagues.AGENT), load(folder("ppo", 6) / leagues.AGENT)]
    rows = content[(content.row_agent == "naive") & (content.column_agent == "ppo") & (content.column_seed == 6)]
    who = torch.tensor([[0, 2], [0, 1]]).repeat_interleave(3, 0)  # games of a pair of agents are one batch
    minds.append(load(folder("ppo", 5) / leagues.AGENT))
    rewards = play(met.game, minds, who, Generator().manual_seed(0)).rewards[3:]
    assert rows.row_reward.item() == pytest.approx(rewards[:, 0].mean().item(), rel=1e-4)


def test_every_agent_has_five_judged_seeds() -> None:
    seeds = {name: [one.seed for one in coin.agent_runs("laptop", (name,))] for name in coin.NAMES}
    assert all(seeds[name] == [5, 6, 7, 8, 9] for name in coin.NAMES)
    assert {one.seed for one in coin.agent_runs("paper")} == set(range(5, 15))
    assert len(coin.agent_runs("paper")) == 10 * len(coin.NAMES)


@pytest.mark.parametrize("name", coin.AGENTS)
def test_an_aligned_agent_is_looked_at_five_times_in_its_last_third(name: str) -> None:
    settings = coin.agent_run("laptop", name, 5).settings
    updates, every = settings.self_play.updates, settings.evaluate_every
    assert "aligned" not in str(settings.credit) or len(range(-(-2 * updates // 3 // every), updates // every + 1)) >= 5


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
    assert seeds == {cell: [0] for cell in list(cells)[:2]}
    assert list(content.columns[:3]) == ["cell", "seed", "updates"]
    settings = [replace(GAMES[game]._MAP.run("extended", cell, 0).settings, agent="") for cell in cells]
    assert len({str(settings_as_data(one)) for one in settings}) == len(cells)


def test_a_price_is_that_of_whole_updates() -> None:
    content = table("shaping_cost")
    assert set(content.algorithm) == set(coin.PRICED)
    assert set(content.horizon) == {4, 8}
    steps = content.games * content.horizon / content.seconds_per_update
    assert steps.to_numpy() == pytest.approx(content.game_steps_per_second.to_numpy(), rel=1e-3)
