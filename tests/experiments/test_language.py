from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file

from aa_core.advantages import aligned_advantages, naive_advantages, summed_advantages
from aa_core.estimates import mean_interval
from aa_core.games.text import SCRIPTED, make_text_game, play_scripted
from aa_core.llm import trainer
from aa_core.llm.players import ScriptedPlayer, play
from experiments import judge, language, models
from experiments.language_runs import SCRIPTS, TINY, both_seats, evaluate, moves, new_games, read_log, trainer_of
from experiments.run import JUDGED

TABLE = pd.DataFrame(
    [
        ("ipd", "naive", seed, update, metric, value)
        for seed in (0, 1)
        for update, metric, value in ((0, "reward", 2.0), (1, "reward", 1.0 + seed), (1, "reward_vs_defect", 0.5))
    ],
    columns=["game", "algorithm", "seed", "update", "metric", "value"],
)


# --- declarations


def test_five_seeds_of_three_algorithms_meet_in_three_games() -> None:
    runs = [run for experiment in language.EXPERIMENTS[1:3] for run in experiment.runs("laptop")]
    assert Counter(run.variant for run in runs) == {f"{g}-{a}": 5 for g in language.GAMES for a in language.MAIN}
    for run in runs:
        assert run.settings.model == TINY
        assert run.seed in (range(25, 30) if run.settings.game == "trust_and_split" else JUDGED)
        assert [need.name for need in run.needs] == [f"llm_prior/{run.settings.game}-0"]


def test_algorithms_differ_from_each_other_in_their_credit_and_the_buffer_only() -> None:
    for game in language.GAMES:
        aa = "aa_no_buffer" if game in language.BUFFERED else "advantage_alignment"
        naive, summed, aligned = (language.training("laptop", game, name, 3) for name in (*language.MAIN[:2], aa))
        assert (naive.credit, summed.credit) == (naive_advantages, summed_advantages)
        assert isinstance(aligned.credit, partial)
        assert aligned.credit.func is aligned_advantages
        assert aligned.credit.keywords == {"beta": language.BETAS[game], "gamma": aligned.gamma}
        same = {replace(run, credit=None, algorithm="") for run in (naive, summed, aligned)}
        assert len(same) == 1
        met = language.training("laptop", game, "advantage_alignment")
        assert met.buffer_every == (10 if game in language.BUFFERED else None)


def test_the_just_in_time_rule_differs_by_the_present_round_only() -> None:
    strict, just = (language.training("laptop", "ipd", name) for name in ("advantage_alignment", "aa_just_in_time"))
    assert just.credit.keywords == strict.credit.keywords | {"include_current": True}
    assert replace(just, credit=None, algorithm="") == replace(strict, credit=None, algorithm="")
    assert "ipd-aa_just_in_time" in {run.variant for run in language.EXPERIMENTS[3].runs("laptop")}
    advantages = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    # A1 = 1, 0 and A2 = 0, 2: strict 1, 0 + beta g (g 1) 2 / g; just in time 1 + beta 1 0, beta (g 1 + 0) 2
    gamma, beta = strict.gamma, strict.credit.keywords["beta"]
    assert just.credit(advantages)[0].tolist() == pytest.approx([1.0, 2 * beta * gamma])


def test_one_learner_plays_as_many_games_with_half_the_chats() -> None:
    for profile in ("smoke", "laptop", "paper"):
        for game in language.GAMES:
            both, one = (language.training(profile, game, name) for name in ("naive", "naive_vs_kind"))
            chats = [run.per_device_train_batch_size * run.gradient_accumulation_steps for run in (both, one)]
            assert (both.learning_seats, one.learning_seats) == ("both", "alternate")
            assert chats[0] == 2 * chats[1]
            assert both.num_generations == 2 * one.num_generations
            assert chats[1] % one.num_generations == 0


def test_a_taught_learner_needs_its_teacher() -> None:
    run = language.training_run("laptop", "ipd-naive_vs_aligned", 2)
    assert [need.name for need in run.needs] == ["llm_prior/ipd-0", "llm/ipd-advantage_alignment-2"]
    unconditional = language.training_run("laptop", "ipd-aa_unconditional", 0)
    assert unconditional.needs[0].settings.warm_up["ipd_prior"] == (0.81,) * 5


def test_the_papers_settings_are_those_of_its_appendix() -> None:
    run = language.training("paper", "ipd", "advantage_alignment")
    assert (run.model, run.rank, run.learning_rate, run.max_steps) == ("Qwen/Qwen2.5-7B-Instruct", 32, 3e-6, 3000)
    assert (run.credit.keywords["beta"], run.entropy_coef, run.beta, run.buffer_every) == (0.5, 0.01, 0.0, 10)
    assert (run.num_generations, run.rounds, run.max_completion_length, run.show_rules) == (128, 10, 400, True)
    naive = language.training("paper", "ipd", "naive")
    assert (naive.entropy_coef, naive.buffer_every, naive.num_generations) == (0.0, None, 256)
    assert (run.buffer_drawn, run.guided, run.free_tries, naive.max_steps) == (28, True, 1, 1000)
    assert language.training("paper", "split", "naive").free_tries == 3
    assert language.training("paper", "trust_and_split", "advantage_alignment").credit.keywords["beta"] == 2.0
    assert language.training_run("paper", "split-naive_gemma", 0).needs == ()
    assert language.training("paper", "trust_and_split", "naive_vs_aligned").learning_seats == "first"
    assert language.training("paper", "trust_and_split", "advantage_alignment").learning_seats == "alternate"
    assert 2 * language.crossplay_run("paper", "split").settings.deals == 256, "games of a pair, from both seats"


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_every_variant_of_every_table_is_declared_with_its_own_identity(profile: str) -> None:
    runs = {run.name: run for table in language.TABLES for run in table.runs(table.home(profile))}
    assert len({run.identity for run in runs.values()}) == len(runs)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="algorithm must be one of"):
        language.training("laptop", "ipd", "greedy")
    with pytest.raises(ValueError, match="game must be one of"):
        language.training("laptop", "chess", "naive")


# --- computing


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prior")
    run = language.prior_run("smoke", "ipd")
    table = run.compute(run.settings, folder, [])
    assert set(table.algorithm) == {"prior"}
    return folder


def test_runs_train_meet_and_are_timed(prior: Path, tmp_path: Path) -> None:
    folders = []
    for name in (*language.MAIN, "naive_vs_aligned"):
        run = language.training_run("smoke", f"ipd-{name}", 0)
        (folder := tmp_path / name).mkdir()
        table = run.compute(run.settings, folder, [prior, *folders][:1] + folders[-1:])
        assert list(table.columns) == ["game", "algorithm", "seed", "update", "metric", "value"]
        assert set(table.algorithm) == {name}
        assert sorted(table["update"].unique()) == [0, 1, 2]
        last = set(table[table["update"] == 2].metric)
        assert {"reward", "cooperation", "errors", "reward_vs_defect", "P(START)", "cooperation_2"} <= last
        assert ("reward_other" in last) == (name == "naive_vs_aligned")
        assert {path.name for path in folder.iterdir()} == {*models.SEALED, models.SEAL}
        folders.append(folder)
    run = language.crossplay_run("smoke", "ipd")
    one_seed = replace(run.settings, agents=run.settings.agents[::2])
    table = run.compute(one_seed, tmp_path, [prior, *folders[:3]])
    rewards = table[table.metric == "reward"].pivot(index="row_agent", columns="column_agent", values="value")
    assert sorted(rewards.index) == sorted((*language.MAIN, "prior", "cooperate", "defect"))
    assert rewards.notna().all(axis=None)
    assert rewards.loc["defect", "cooperate"] == 5
    run = language.speed_run("smoke")
    settings = replace(run.settings, trainings=run.settings.trainings[:1])
    assert (run.compute(settings, tmp_path, [prior]).value > 0).all()


def test_processes_that_cannot_share_the_games_of_an_update_are_refused(
    prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    run = replace(language.training("smoke", "ipd", "naive"), gradient_accumulation_steps=4)
    with pytest.raises(ValueError, match=r"3 processes must divide run\.gradient_accumulation_steps=4"):
        trainer_of(run, prior, tmp_path)


def test_reports_go_where_the_environment_says(prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = language.training("smoke", "ipd", "naive")
    assert trainer_of(run, prior, tmp_path).args.report_to == []
    monkeypatch.setenv("AA_REPORT_TO", "tensorboard")
    accelerator = SimpleNamespace(unwrap_model=lambda model: model)  # tensorboard need not be there
    monkeypatch.setattr(
        trainer, "AdvantageAlignmentTrainer",
        lambda model, settings, *_, **__: SimpleNamespace(args=settings, model=model, accelerator=accelerator),
    )  # fmt: skip
    settings = trainer_of(run, prior, tmp_path).args
    assert (settings.report_to, settings.logging_strategy, settings.logging_steps) == (["tensorboard"], "steps", 1)


@pytest.mark.parametrize("game", language.GAMES)
def test_a_policy_is_measured_in_both_seats_of_the_same_deals(game: str) -> None:
    run = replace(language.training("laptop", game, "naive"), rounds=3, evaluation_games=6)
    kind, greedy = SCRIPTS[game]
    measured = evaluate(ScriptedPlayer(kind), run, ScriptedPlayer(greedy))
    earned = []
    for seats in ((kind, greedy), (greedy, kind)):
        games = new_games(run, 3)
        play(games, [tuple(map(ScriptedPlayer, seats))] * 3)
        earned.append(np.mean([game.rewards for game in games], (0, 1)))
    assert measured["reward"] == pytest.approx((earned[0][0] + earned[1][1]) / 2)
    assert measured["reward_other"] == pytest.approx((earned[0][1] + earned[1][0]) / 2)
    assert measured[f"reward_vs_{greedy}"] == pytest.approx(measured["reward"])
    assert measured["reward"] < measured["reward_other"]


def test_a_player_alone_meets_itself_in_deals_of_their_own() -> None:
    run = language.training("laptop", "split", "naive")
    one, other = ScriptedPlayer("welfare"), ScriptedPlayer("greedy")
    games, pairs, chairs = both_seats(run, 2, one, one)
    assert len({game.seed for game in games}) == 4
    assert pairs == [(one, one)] * 4
    assert {(game.seed, seat) for game, seat in chairs} == {(game.seed, seat) for game in games for seat in (0, 1)}
    assert len(chairs) == 8
    games, pairs, chairs = both_seats(run, 2, one, other)
    assert [game.seed for game in games[:2]] == [game.seed for game in games[2:]]
    assert [pair[seat] for pair, (_, seat) in zip(pairs, chairs, strict=True)] == [one] * 4


def test_moves_are_told_with_the_state_before_them() -> None:
    game = make_text_game("ipd", 0, rounds=3)
    play_scripted(game, "tit_for_tat", "defect")
    assert moves(game, 0) == [("START", True), ("CD", False), ("DD", False)]
    assert moves(game, 1) == [("START", False), ("DC", False), ("DD", False)]


def test_kind_and_greedy_scripts_are_there() -> None:
    assert all(set(pair) <= set(SCRIPTED[game]) for game, pair in SCRIPTS.items())


# --- reading


def test_curves_have_a_column_per_seed_and_a_row_per_update() -> None:
    wide = language.curves(TABLE, "ipd", "naive", "reward")
    assert wide.to_numpy().tolist() == [[2.0, 2.0], [1.0, 2.0]]
    assert list(wide.columns) == [0, 1]
    assert language.curves(TABLE, "split", "naive", "reward").empty


def test_the_first_seeds_are_counted_whatever_their_numbers_are() -> None:
    later = TABLE.assign(seed=TABLE.seed + 5)
    prior = TABLE[TABLE.seed == 0].assign(algorithm="prior")
    both = pd.concat([later, prior])
    kept = judge.first_seeds(both, 1)
    assert kept.groupby("algorithm").seed.unique().map(list).to_dict() == {"naive": [5], "prior": [0]}
    pd.testing.assert_frame_equal(judge.first_seeds(both, 2), both)
    pd.testing.assert_frame_equal(judge.first_seeds(both, None), both)


def test_the_age_of_tables_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language.records, "READ", {"new": {"stale": False}, "old": {"stale": True}})
    assert language.age(["new", "not read"]).startswith("All tables below were made by the present code")
    assert "earlier code or settings**: `old`." in language.age(["new", "old"])


def test_final_is_the_mean_over_the_last_third() -> None:
    assert language.final(TABLE, "ipd", "naive", "reward").tolist() == [1.0, 2.0]
    assert language.final(TABLE, "ipd", "naive", "reward_vs_defect").tolist() == [0.5, 0.5]
    assert language.final(TABLE, "ipd", "sum_of_rewards", "reward").tolist() == []
    longer = pd.concat([TABLE.assign(update=n, value=float(n)) for n in range(10)])
    longer = longer[longer.metric == "reward"].drop_duplicates(["seed", "update"])
    assert language.final(longer, "ipd", "naive", "reward").tolist() == [7.5, 7.5]  # 6, 7, 8, 9


def test_games_of_lists_games_with_runs() -> None:
    assert language.games_of(TABLE, "naive") == ["ipd"]
    assert language.games_of(TABLE, "advantage_alignment") == []


@pytest.mark.parametrize(
    ("samples", "threshold", "holds"),
    [
        ([0.9, 0.91, 0.92], {"above": 0.8}, "yes"),
        ([0.9, 0.91, 0.92], {"below": 0.8}, "no"),
        ([0.5, 0.9, 1.0], {"above": 0.7}, "no"),  # the mean is above, the interval is not
        ([0.01, 0.02, 0.0], {"below": 0.1}, "yes"),
        ([1.0, 1.0], {"above": 1.0}, "no"),
        ([1.0], {"above": 0.5}, "one seed: cannot tell"),
    ],
)
def test_a_claim_holds_if_its_whole_interval_does(samples: list[float], threshold: dict, holds: str) -> None:
    row = judge.beyond(mean_interval(np.array(samples)), len(samples), **threshold)
    assert row["holds"] == holds
    assert row["seeds"] == len(samples)


@pytest.mark.parametrize(("name", "processes"), [("one_gpu", 1), ("two_gpus", 2), ("eight_gpus", 8)])
def test_accelerate_reads_the_configurations_that_come_with_the_runs(name: str, processes: int) -> None:
    file = Path(language.__file__).parent / "accelerate" / f"{name}.yaml"
    read = load_config_from_file(str(file))
    assert (read.num_processes, read.mixed_precision) == (processes, "bf16")
    assert read.distributed_type == ("MULTI_GPU" if processes > 1 else "NO")
    assert f"--config_file experiments/accelerate/{name}.yaml" in file.read_text()
    for game in language.GAMES:
        for algorithm in ("naive", "advantage_alignment", "naive_vs_kind"):
            assert language.training("paper", game, algorithm).gradient_accumulation_steps % processes == 0


@pytest.mark.parametrize("game", language.GAMES)
def test_what_was_put_into_a_prior_is_read_from_its_warm_up(game: str, tmp_path: Path) -> None:
    shown = {"ipd_prior": [0.81, 0.82, 0.83, 0.84, 0.86], "fairness": 0.91, "fairness_after_greed": 0.42}
    shown |= {"honesty": 0.93, "drill_steps": [11, 12]}
    assert "without a warm-up of ours" in language.put_in(game, tmp_path)
    (tmp_path / models.EMBEDDED).write_text(json.dumps(shown))
    words = language.put_in(game, tmp_path)
    expected = {
        "ipd": ("0.81 in the first round", "0.82 after CC", "0.83 after CD", "0.84 after DC", "0.86 after DD"),
        "split": ("91%", "42% after greed"),
        "trust_and_split": ("91%", "42% after greed", "93%", "11 steps", "12 on ones in which greed"),
    }[game]
    assert words.startswith(f"**{language.TITLES[game]}**")
    assert [part for part in expected if part not in words] == []


# --- files


ROWS = [{"update": 0, "reward": 1.5}, {"update": 1, "reward": 2.0}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize("end", range(len(LINES) + 1))
def test_a_log_that_is_cut_has_its_whole_lines(tmp_path: Path, end: int) -> None:
    path = tmp_path / "curve.jsonl"
    path.write_text(LINES[:end])
    assert read_log(path) == ROWS[: LINES[:end].count("\n")]


FOREIGN = {
    "conflict": f"<<<<<<< HEAD\n{LINES}".encode(),
    "binary": bytes(range(256)) * 9,
    "cut inside": LINES[9:].encode(),
    "table": b"update,reward\n0,1.5\n",
    "numbers": b"1\n2\n",
    "lists": b"[0, 1.5]\n",
    "other objects": b'{"loss": 1.5}\n',
    "texts": b'"update"\n',
}


@pytest.mark.parametrize("content", [*FOREIGN.values(), None], ids=[*FOREIGN, "folder"])
def test_a_foreign_log_is_named_with_the_way_out(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "curve.jsonl"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=r"path must .*restore or delete .*curve\.jsonl"):
        read_log(path)
