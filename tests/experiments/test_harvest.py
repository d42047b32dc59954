"""The runs of Commons Harvest, in profile smoke unless settings are all that counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Generator, Tensor

from aa_core.actor_critic import ActorCritic, Seen, load
from aa_core.advantages import naive_advantages
from aa_core.games.harvest import SCRIPTED, TURN_LEFT, ZAP, HarvestGame, HarvestState
from aa_core.selfplay import credits, play
from experiments import harvest, harvest_picture, leagues, paths
from experiments.harvest import Setting
from experiments.harvest_picture import Shown, frame_state, keep_frames
from experiments.paths import ROOT
from experiments.records import read_table
from experiments.run import make, table_of

SETTING = harvest.SETTINGS["smoke"]
POND = SETTING.game
BOUNDS = {
    "collective_return": float("inf"),
    "sustainability": POND.horizon,
    "equality": 1.0,
    "peace": POND.num_players,
    "zaps": POND.horizon,
    "apples_at_end": len(POND.apple_cells),
    "scenario_zapping": POND.horizon,
    "scenario_peaceful": POND.horizon,
}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:  # one for all: tables share their runs
        for name in ("BUILD", "DATA"):
            patch.setattr(paths, name, tmp_path_factory.mktemp(name))
        yield paths.BUILD


def table(name: str) -> pd.DataFrame:
    """A table of profile smoke, put together as the build does it."""
    declared = next(t for t in harvest.TABLES if t.name == name)
    return pd.concat([declared.kept(table_of(make(one))) for one in declared.runs("smoke")], ignore_index=True)


# --- settings


def test_profile_paper_has_the_papers_settings() -> None:
    apples = harvest.agent_run("paper", harvest.AA, 5).settings
    options, rule = apples.setting.self_play, apples.credit.keywords
    assert (options.games, options.chunk, options.gamma, options.lam) == (6, 15, 0.99, 0.95)
    assert (options.learning_rate, options.entropy, options.clip) == (1e-5, 0.1, 0.1)
    assert (rule["beta"], rule["past"], options.network.hidden) == (1.0, "averaged", 192)
    assert (options.buffer.seats, options.buffer.every, options.buffer.capacity) == (2, 20, 4000)
    game = apples.setting.game
    assert (game.map, game.window, game.num_players) == ("open", (9, 1, 5), 7)


@pytest.mark.parametrize("place", ["harvest", "harvest_open"])
@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_algorithms_differ_in_nothing_but_the_credit_and_share_their_strangers(profile: str, place: str) -> None:
    declared = [harvest.agent_run(profile, rule, 5, place) for rule in harvest.RULES]
    assert len({one.settings.credit for one in declared}) == 3
    assert len({one.settings.setting for one in declared}) == 1
    assert all(one.needs == declared[0].needs for one in declared)
    strangers = [need.settings for need in declared[0].needs]
    assert {settings.setting.game for settings in strangers} == {declared[0].settings.setting.game}
    assert [(settings.beam, settings.seed) for settings in strangers] == [(True, 0), (True, 1), (False, 0), (False, 1)]
    assert not {settings.seed for settings in strangers} & set(declared[0].settings.setting.seeds)  # nobody's past


def test_the_published_map_trains_with_past_selves_for_a_thousand_steps_and_by_equation_59() -> None:
    published = harvest.agent_run("laptop", harvest.AA, 5, "harvest_open").settings.setting
    assert (published.game.map, published.game.num_players, published.game.horizon) == ("open", 7, 1000)
    assert (published.self_play.buffer.seats, published.self_play.buffer.share) == (2, 1.0)
    for name, beta in zip(harvest.BETAS, (0.5, 1.0, 2.0), strict=True):
        settings = harvest.agent_run("extended", name, 5, "harvest_beta").settings
        rule = settings.credit.keywords
        assert (rule["beta"], rule["past"], settings.setting) == (beta, "regularised", published)
    orchard = harvest.agent_run("laptop", harvest.AA, 5).settings.setting
    assert (orchard.game.map, orchard.game.num_players, orchard.self_play.buffer) == ("orchard", 7, None)


# --- measuring


def idle(game: HarvestGame, observations: Tensor, generator: Generator) -> Tensor:
    return torch.zeros(len(observations), dtype=torch.long)


def test_only_the_focal_players_of_a_scenario_count() -> None:
    game = HarvestGame("orchard", 4, POND.horizon, POND.window)
    setting = replace(SETTING, game=game, evaluation_worlds=4)
    strangers, generator = [SCRIPTED["free harvester"]] * 2, Generator().manual_seed(0)
    assert harvest.beside(idle, strangers, setting, generator) == 0  # the two strangers eat, the two focal ones do not
    assert harvest.beside(strangers[0], [idle] * 2, setting, generator) > 0
    metrics = harvest.among_itself(idle, setting, 4)
    assert metrics["collective_return"] == metrics["zaps"] == 0
    assert (metrics["apples_at_end"], metrics["peace"]) == (len(game.apple_cells), 4)


def test_apples_at_the_end_are_those_after_the_last_step() -> None:
    nothing = torch.zeros(2, 3, 4)
    apples = torch.tensor([[9, 8, 6, 5], [9, 7, 3, 1]])
    episode = {"rewards": nothing, "out": nothing.bool(), "zaps": nothing.bool(), "apples": apples}
    assert harvest.metrics_of(episode)["apples_at_end"] == 3


def test_strangers_with_the_beam_are_those_of_the_zapping_scenario(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared, greedy = harvest.agent_run("smoke", "free_harvesters", 5), SCRIPTED["free harvester"]
    folders = {tmp_path / f"{one.variant}-{one.seed}": one.settings.beam for one in declared.needs}
    monkeypatch.setattr(harvest, "load", lambda path: idle if folders[path.parent] else greedy)
    content = harvest.train_agent(declared.settings, tmp_path, list(folders))
    earned = content.set_index("metric").value
    for scenario, stranger in (("scenario_zapping", idle), ("scenario_peaceful", greedy)):
        generator = Generator().manual_seed(54321 + 5)
        assert earned[scenario] == harvest.beside(greedy, [stranger] * 2, SETTING, generator)
    assert earned["scenario_zapping"] > earned["scenario_peaceful"]


def test_zaps_are_the_beams_that_were_fired() -> None:
    def shooter(game: HarvestGame, observations: Tensor, generator: Generator) -> Tensor:
        return torch.full((len(observations),), ZAP)

    def spinner(game: HarvestGame, observations: Tensor, generator: Generator) -> Tensor:
        return torch.full((len(observations),), TURN_LEFT)

    alone = HarvestGame("pond", 1, horizon=12)
    fired = harvest.play_episode(alone, [shooter], 3, Generator().manual_seed(0))["zaps"]
    assert fired.shape == (3, 1, 12)
    assert fired[:, 0].int().tolist() == [[1, 0, 0] * 4] * 3  # two steps of cooldown between two beams
    assert not harvest.play_episode(alone, [spinner], 3, Generator().manual_seed(0))["zaps"].any()


def test_a_background_player_without_the_beam_never_zaps() -> None:
    for scenario, fires in (("scenario_zapping", True), ("scenario_peaceful", False)):
        mind = load(make(harvest.background_run("smoke", harvest.SCENARIOS[scenario], 0)) / leagues.AGENT)
        zaps = harvest.play_episode(POND, [mind] * POND.num_players, 16, Generator().manual_seed(0))["zaps"]
        assert bool(zaps.any()) == fires
        assert all(torch.isfinite(weight).all() for weight in mind.parameters())


# --- tables


def test_the_table_has_every_seed_stays_within_bounds_and_is_the_window_of_the_curves() -> None:
    judged, curves = table("harvest"), table("harvest_curves")
    assert list(judged.columns) == ["map", "players", "algorithm", "seed", "metric", "value"]
    expected = {(a, s) for a in (*harvest.RULES, *harvest.REFERENCES) for s in SETTING.seeds}
    assert set(zip(judged.algorithm, judged.seed, strict=True)) == expected
    assert not judged.duplicated(["algorithm", "seed", "metric"]).any()
    assert len(judged) == len(expected) * len(BOUNDS)
    for content in (judged, curves):
        assert (content.value >= 0).all()
        assert (content.value <= content.metric.map(BOUNDS)).all()
    assert set(curves["update"]) == {0, 2, 4}
    late = curves[curves["update"] == 4]  # of four updates, the last third holds one evaluation
    both = late.merge(judged, on=["algorithm", "seed", "metric"])
    assert len(both) == len(harvest.RULES) * len(SETTING.seeds) * len(BOUNDS)
    assert (both.value_x == both.value_y).all()


def test_a_window_is_the_mean_of_its_evaluations() -> None:
    rows = [("pond", 3, "ppo", 5, update, "peace", value) for update, value in ((0, 9.0), (4, 1.0), (5, 2.0), (6, 6.0))]
    columns = ["map", "players", "algorithm", "seed", "update", "metric", "value"]
    assert harvest._window(pd.DataFrame(rows, columns=columns)).value.tolist() == [3.0]


def test_a_harvester_that_is_read_back_plays_as_it_did_and_is_trained_again_to_the_same() -> None:
    declared = harvest.agent_run("smoke", harvest.AA, 101)
    content = table_of(make(declared))
    last = content[content["update"] == 4].set_index("metric").value
    metrics = harvest.among_itself(load(declared.folder / leagues.AGENT), SETTING, SETTING.curve_worlds)
    assert metrics == pytest.approx(last.drop(list(harvest.SCENARIOS)).to_dict(), rel=1e-5)
    pd.testing.assert_frame_equal(table_of(make(declared, fresh=True)), content)


def test_strengths_are_trained_as_their_names_say() -> None:
    content = table("harvest_beta")
    assert set(content.algorithm) == set(harvest.BETAS)
    assert set(content.metric) == set(BOUNDS)


def test_the_film_of_each_strength_is_of_the_seed_whose_players_eat_as_much_as_the_median_seeds() -> None:
    committed = ROOT / "data" / "extended"
    eaten = read_table(committed / "harvest_beta.csv")[0].query("metric == 'collective_return'")
    eaten = eaten.set_index(["algorithm", "seed"]).value
    shown = harvest.filmed("extended")
    assert [run.variant for run in shown] == list(harvest.BETAS)
    assert [eaten[run.variant, run.seed] for run in shown] == [eaten[beta].median() for beta in harvest.BETAS]
    record = read_table(committed / "harvest_beta_frames.csv")[1]
    assert record["runs"]["harvest_beta_frames/all-0"]["needs"] == {run.name: run.identity for run in shown}


def test_frames_give_the_worlds_back(tmp_path: Path) -> None:
    assert set(table("harvest_beta_frames").algorithm) == set(harvest.BETAS)
    trained = [make(harvest.agent_run("smoke", algorithm, SETTING.seeds[0])) for algorithm in harvest.RULES]
    cast = Shown(SETTING, tuple((algorithm, SETTING.seeds[0]) for algorithm in harvest.RULES))
    keep_frames(cast, tmp_path, trained).to_csv(tmp_path / "frames.csv", index=False)
    content = pd.read_csv(tmp_path / "frames.csv")
    assert list(content.columns) == ["algorithm", "step", "apples", "cells", "headings", "out", "beams"]
    assert set(content.algorithm) == set(harvest.RULES)
    assert len(content[content.step == 0].drop(columns="algorithm").drop_duplicates()) == 1  # the same start for all
    for algorithm in harvest.RULES:
        played: list[HarvestState] = []
        mind = load(make(harvest.agent_run("smoke", algorithm, SETTING.seeds[0])) / leagues.AGENT)
        who = torch.zeros(1, POND.num_players, dtype=torch.long)
        play(POND, [mind], who, Generator().manual_seed(1), on_step=lambda state, *_, to=played: to.append(state))
        part = content[content.algorithm == algorithm]
        assert part.step.tolist() == list(range(POND.horizon))
        for state, (_, row) in zip(played, part.iterrows(), strict=True):
            again = frame_state(POND, row)
            assert again.time == state.time
            for name in ("cell", "heading", "out", "apples", "beams"):
                assert torch.equal(getattr(again, name), getattr(state, name))
    assert content.notna().all().all()
    assert (content.beams != "-").any()


def test_a_frame_of_a_single_player_is_read_too() -> None:
    row = {"step": 3, "apples": "A" * 12 + "x", "cells": 8, "headings": 2, "out": 0, "beams": 9}  # as CSV reads it
    state = frame_state(replace(POND, num_players=1), pd.Series(row))
    assert (state.cell.tolist(), state.heading.tolist(), state.apples.sum().item()) == ([[8]], [[2]], 12)
    assert state.beams.nonzero().tolist() == [[0, 9]]


# --- the credit of eating


def literal_eaten(mind: ActorCritic, setting: Setting, seed: int) -> list[tuple[float, ...]]:
    """`harvest_picture._eaten` step by step."""
    game, options, generator = setting.game, setting.self_play, Generator().manual_seed(seed)
    shape = (setting.evaluation_worlds, game.num_players)
    rewards, values, near = [], [], []
    state, observations = game.reset(shape[0], generator)
    last_actions, last_rewards, hidden = torch.zeros(shape).long(), torch.zeros(shape), None
    for step in range(game.horizon + 1):
        seen = Seen(*(x.flatten(0, 1)[None] for x in (observations, last_actions, last_rewards)))
        with torch.no_grad():
            values.append(mind(seen, hidden)[1].view(shape))
            outputs, hidden = mind.act(seen, hidden)
        if step == game.horizon:
            break
        last_actions = mind.spaces.draw(outputs[0], generator).view(shape)
        alive = [dict(zip(game.apple_cells.tolist(), row.tolist(), strict=True)) for row in state.apples]
        state, observations, last_rewards, _ = game.step(state, last_actions, generator)
        rewards.append(last_rewards)
        near.append([[neighbours(game, alive[w], int(state.cell[w, i])) for i in range(shape[1])]
                     for w in range(shape[0])])  # fmt: skip
    own = literal_advantages(rewards, values, options.gamma, options.lam)
    surprises = [r + options.gamma * values[t + 1] - values[t] for t, r in enumerate(rewards)]
    return [row for w in range(shape[0]) for i in range(shape[1])
            for row in literal_credit(own, surprises, rewards, near, (w, i), setting)]  # fmt: skip


def neighbours(game: HarvestGame, alive: dict[int, bool], cell: int) -> int:
    """Live apples within distance 2 of a cell."""
    row, column = divmod(cell, game.width)
    places = [(divmod(other, game.width), lives) for other, lives in alive.items()]
    return sum(lives and 0 < (row - r) ** 2 + (column - c) ** 2 <= 4 for (r, c), lives in places)


def literal_advantages(rewards: list[Tensor], values: list[Tensor], gamma: float, lam: float) -> Tensor:
    """Normalised advantages `(steps, worlds, players)`, backwards step by step."""
    own, ahead = [], torch.zeros_like(values[0])
    for t in reversed(range(len(rewards))):
        ahead = rewards[t] + gamma * values[t + 1] - values[t] + gamma * lam * ahead
        own.insert(0, ahead)
    own = torch.stack(own)
    return (own - own.mean()) / own.std(correction=0)


def literal_credit(
    own: Tensor, surprises: list, rewards: list, near: list, seat: tuple[int, int], setting: Setting
) -> list[tuple]:
    """What the credit says wherever a seat's player eats; `own` is normalised as discounted sums of `surprises` are."""
    rows, (w, i), rule, options = [], seat, setting.aligned.keywords, setting.self_play
    decay, raw = options.gamma * options.lam, [surprises[-1]]
    for surprise in surprises[-2::-1]:
        raw.append(surprise + decay * raw[-1])
    mean, spread = torch.stack(raw).mean().item(), torch.stack(raw).std(correction=0).item()
    for t, reward in enumerate(rewards):
        if reward[w, i] > 0:
            since = t - t % setting.self_play.chunk
            before = [  # advantages as they would be if nothing surprised from this step on
                (sum(decay ** (m - k) * surprises[m][w, i].item() for m in range(k, t)) - mean) / spread
                for k in range(since, t)
            ]
            pasts = []
            for advantages in ([own[k, w, i].item() for k in range(since, t)], before):
                if rule["past"] == "discounted":
                    lags = range(t - since, 0, -1)
                    past = rule["gamma"] * sum(rule["gamma"] ** n * x for n, x in zip(lags, advantages, strict=True))
                else:
                    past = sum(advantages) / (t - since + 1)
                pasts.append(rule["beta"] * past)
            (past, earlier), others = pasts, sum(own[t, w, j].item() for j in range(own.shape[2]) if j != i)
            rows.append((near[t][w][i], own[t, w, i].item(), past, others, past * others, earlier, earlier * others))
    return rows


@pytest.mark.parametrize("past", ["discounted", "regularised"])
def test_credit_of_eating_is_that_of_a_literal_loop(past: str) -> None:
    mind, setting = load(make(harvest.agent_run("smoke", "ppo", 6)) / leagues.AGENT), SETTING
    setting = replace(setting, aligned=harvest.aligned(0.7, past))
    rows = literal_eaten(mind, setting, 3)
    eaten = harvest_picture._eaten(mind, Shown(setting, ()), 3)
    assert len(rows) == len(eaten) > 3
    expected = pd.DataFrame(rows, columns=["neighbours", *harvest_picture.CREDIT])
    pd.testing.assert_frame_equal(eaten, expected, check_dtype=False, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("place", ["laptop", "published map", "paper"])
def test_the_alignment_of_eating_is_what_the_rule_adds_in_training(place: str) -> None:
    mind, rule = load(make(harvest.agent_run("smoke", "ppo", 6)) / leagues.AGENT), harvest.SETTINGS[place].aligned
    setting, who = replace(SETTING, aligned=rule), torch.zeros(SETTING.evaluation_worlds, POND.num_players).long()
    played = play(POND, [mind], who, Generator().manual_seed(3))
    with torch.no_grad():
        values = mind(played.seen.at(slice(None)))[1]

    def by_chunks(advantages: Tensor, probabilities: Tensor) -> Tensor:
        chunks = advantages.unflatten(-1, (-1, setting.self_play.chunk)).transpose(1, 2)  # (worlds, chunks, players, k)
        return rule(chunks).transpose(1, 2).flatten(-2)

    both, options = (by_chunks, naive_advantages), setting.self_play
    credit, own = (credits([mind], who, played, values, options, one)[0] for one in both)
    eaten = harvest_picture._eaten(mind, Shown(setting, ()), 3)
    assert eaten.own.tolist() == pytest.approx(own[played.rewards > 0].tolist(), rel=1e-4)
    assert eaten.alignment.tolist() == pytest.approx((credit - own)[played.rewards > 0].tolist(), rel=1e-3, abs=1e-5)
