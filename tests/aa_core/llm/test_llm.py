"""Language models at the table: rollouts, credits and the trainer, on an untrained model of 0.1 million parameters."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from random import Random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from aa_core.games.text import make_text_game
from aa_core.llm import models, tiny
from aa_core.llm.buffer import AgentBuffer
from aa_core.llm.players import ApiPlayer, ModelPlayer, PersonPlayer, ScriptedPlayer, play
from aa_core.llm.rollout import ChatTokens, Guide
from aa_core.llm.trainer import (
    AdvantageAlignmentConfig,
    AdvantageAlignmentTrainer,
    round_credits,
    token_credits,
)

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
logging.getLogger("transformers").setLevel(logging.ERROR)
GAMES = ["ipd", "split", "trust_and_split"]
SMALL = tiny.WarmUp(
    hidden_size=32, layers=1, heads=2, games=64, rounds=3, batch=16, steps=60, learning_rate=2e-2, ipd_prior=(0.6,) * 5
)
LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return tiny.tokenizer()


@pytest.fixture
def model(words: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    return tiny.untrained(tiny.WarmUp(hidden_size=32, layers=1, heads=2), words).eval()


@pytest.fixture(scope="module")
def warm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few seconds of warm-up: enough to reply with one of the two labels most of the time."""
    folder = tmp_path_factory.mktemp("warm")
    tiny.warm_up(SMALL, folder)
    return folder


@pytest.fixture
def warm(warm_folder: Path) -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM.from_pretrained(warm_folder)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- tokens


def test_tokenizer_knows_every_word_of_the_games_and_survives_saving(
    words: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    words.save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in tiny.example_texts():
        ids = words.encode(text)
        assert words.unk_token_id not in ids
        assert loaded.encode(text) == ids
    assert loaded.chat_template == words.chat_template
    assert loaded.eos_token_id == words.eos_token_id


@pytest.mark.parametrize("game", GAMES)
def test_decoded_replies_can_still_be_read(words: PreTrainedTokenizerFast, game: str) -> None:
    rng = Random(0)
    table = make_text_game(game, 3)
    while not table.done:
        replies = {}
        for player in table.awaited:
            reply = tiny.prior_reply(table, player, rng, tiny.WarmUp(game=game))
            replies[player] = words.decode(words.encode(reply))
            if game != "trust_and_split" or not table.speaking:  # marks of a message gain white space
                assert table.parse(replies[player]) == table.parse(reply)
        table.submit(replies)
    assert table.errors == []


def test_incremental_tokens_are_those_of_the_whole_chat(words: PreTrainedTokenizerFast) -> None:
    template = ChatTokens(words)
    answer = [*words.encode("<A>"), words.eos_token_id]
    grown = [*template.first("Choose <A> or <B>."), *answer]
    grown += template.following("The other player chose <B>. Choose <A> or <B>.", ended=True)
    whole = [
        {"role": "user", "content": "Choose <A> or <B>."},
        {"role": "assistant", "content": "<A>"},
        {"role": "user", "content": "The other player chose <B>. Choose <A> or <B>."},
    ]
    assert grown == words.encode(words.apply_chat_template(whole, tokenize=False, add_generation_prompt=True))


# --- rollouts


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("keep_cache", [True, False])
def test_log_probabilities_are_those_of_a_fresh_pass_over_the_transcript(
    model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast, game: str, keep_cache: bool
) -> None:
    player = ModelPlayer(model, words, max_new_tokens=5, generator=generator(), keep_cache=keep_cache)
    games = [make_text_game(game, seed, rounds=3) for seed in range(3)]
    play(games, [(player, player)] * 3)
    assert len(player.transcripts) == 6
    for chat in player.transcripts:
        ids = torch.tensor([chat.prompt_ids + chat.completion_ids])
        with torch.no_grad():
            log_probs = model(ids).logits.log_softmax(-1)[0, len(chat.prompt_ids) - 1 : -1]
        expected = log_probs.gather(1, torch.tensor(chat.completion_ids)[:, None])[:, 0]
        sampled = torch.tensor(chat.mask).bool()
        assert sampled.sum() >= 3
        torch.testing.assert_close(torch.tensor(chat.log_probs)[sampled], expected[sampled], atol=1e-5, rtol=1e-5)
        assert (torch.tensor(chat.log_probs)[~sampled] == 0).all()


def test_cache_changes_nothing_but_speed(model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast) -> None:
    chats = []
    for keep_cache in (True, False):
        player = ModelPlayer(model, words, max_new_tokens=4, generator=generator(5), keep_cache=keep_cache)
        play([make_text_game("ipd", 0, rounds=4) for _ in range(4)], [(player, player)] * 4)
        chats.append([chat.completion_ids for chat in player.transcripts])
    assert chats[0] == chats[1]


def test_an_engine_samples_in_the_models_stead(model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast) -> None:
    label = [*words.encode("<B>", add_special_tokens=False), words.eos_token_id]
    read: list[list[int]] = []

    def engine(chats: list[list[int]]) -> tuple[list[list[int]], list[list[float]]]:
        read.extend(chats)
        return [label] * len(chats), [[-0.5, -0.25]] * len(chats)

    player = ModelPlayer(model, words, engine=engine)
    game = make_text_game("ipd", 0, rounds=3)
    play([game], [(player, ScriptedPlayer("cooperate"))])
    assert game.actions == [(1, 0)] * 3
    (chat,) = player.transcripts
    whole = chat.prompt_ids + chat.completion_ids
    assert len(read) == 3
    assert all(whole[: len(seen)] == seen for seen in read)  # each turn sees the whole chat so far
    assert [p for p, m in zip(chat.log_probs, chat.mask, strict=True) if m] == [-0.5, -0.25] * 3


@pytest.mark.parametrize("game", GAMES)
def test_guided_replies_can_all_be_read(model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast, game: str) -> None:
    games = [make_text_game(game, seed, rounds=2) for seed in range(2)]
    player = ModelPlayer(model, words, max_new_tokens=600, generator=generator(), guided=True)
    play(games, [(player, player)] * 2)
    assert all(table.errors == [] for table in games)
    with pytest.raises(ValueError, match="guided"):
        ModelPlayer(model, words, guided=True, engine=lambda chats: ([], []))


def test_guided_draws_have_the_renormalised_distribution(words: PreTrainedTokenizerFast) -> None:
    a, b, other = (words.encode(word, add_special_tokens=False)[0] for word in ("<A>", "<B>", "hats"))
    log_probs = torch.full((len(words),), -30.0)
    log_probs[torch.tensor([a, b, other])] = torch.tensor([0.1, 0.3, 0.6]).log()
    guide, source = Guide(words), generator()
    draws = [guide.draw(log_probs, make_text_game("ipd", 0).pattern, [], source) for _ in range(2000)]
    assert set(draws) == {a, b}
    assert abs(draws.count(a) / 2000 - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5
    with pytest.raises(ValueError, match="cannot go on"):
        guide.draw(log_probs, "x", [a], source)


def test_rollouts_are_seeded(model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast) -> None:
    def once(seed: int) -> list[list[int]]:
        torch.rand(7)  # the global generator must not matter
        player = ModelPlayer(model, words, max_new_tokens=4, generator=generator(seed))
        play([make_text_game("ipd", 0, rounds=3)], [(player, player)])
        return [chat.completion_ids for chat in player.transcripts]

    assert once(1) == once(1)
    assert once(1) != once(2)


def test_transcript_masks_texts_and_numbers_rounds(model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast) -> None:
    player = ModelPlayer(model, words, max_new_tokens=3, generator=generator())
    play([make_text_game("ipd", 0, rounds=3)], [(player, ScriptedPlayer("tit_for_tat"))])
    (chat,) = player.transcripts
    assert len(chat.completion_ids) == len(chat.mask) == len(chat.rounds) == len(chat.log_probs)
    assert chat.mask[0] == 1
    assert chat.rounds == sorted(chat.rounds)
    assert set(chat.rounds) == {0, 1, 2}
    credits = token_credits(chat, torch.tensor([1.0, 2.0, 3.0]))
    assert all(credit == (1.0 + r if m else 0.0) for credit, r, m in zip(credits, chat.rounds, chat.mask, strict=True))


# --- players


def test_scripted_players_meet_models_and_each_other(model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast) -> None:
    games = [make_text_game("ipd", seed) for seed in range(2)]
    kind, greedy = ScriptedPlayer("cooperate"), ScriptedPlayer("defect")
    play(games, [(kind, greedy), (greedy, greedy)])
    assert games[0].rewards == [(0, 5)] * 10
    assert games[1].rewards == [(1, 1)] * 10


def test_a_person_is_asked_again_until_the_reply_can_be_read() -> None:
    typed = iter(["what?", "<B>", "<A>"])
    shown = []

    def ask(text: str) -> str:
        shown.append(text)
        return next(typed)

    game = make_text_game("ipd", 0, rounds=2)
    play([game], [(PersonPlayer(ask), ScriptedPlayer("cooperate"))])
    assert game.actions == [(1, 0), (0, 0)]
    assert "<A> or <B>" in shown[1]


def test_wrong_players_are_refused_by_name(
    model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="adapter must be one of"):
        ModelPlayer(model, words, adapter="gone")
    with pytest.raises(ValueError, match="frozen_base"):
        ModelPlayer(model, words, frozen_base=True)
    with pytest.raises(ValueError, match="strategy must be one of"):
        play([make_text_game("split", 0)], [(ScriptedPlayer("cooperate"),) * 2])
    with pytest.raises(ValueError, match="seats"):
        play([make_text_game("ipd", 0)], [])
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises((ImportError, ValueError), match=r"openai|OPENAI_API_KEY"):
        ApiPlayer("any")
    plain = tiny.tokenizer()
    plain.chat_template = None
    with pytest.raises(ValueError, match="chat template"):
        ChatTokens(plain)


def test_adapters_answer_as_themselves_and_leave_the_model_as_it_was(
    model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast
) -> None:
    tuned = get_peft_model(model, LORA, adapter_name="policy")
    buffer = AgentBuffer(tuned, every=1, spare=1)
    buffer.update(1)  # the untrained adapter, which changes nothing
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B.policy" in name:
                parameter.add_(0.5)
    (name,) = buffer.draw(Random(0))
    trainable = {n for n, p in tuned.named_parameters() if p.requires_grad}
    texts = {}
    for label, options in {"policy": {}, "past": {"adapter": name}, "base": {"frozen_base": True}}.items():
        player = ModelPlayer(tuned, words, max_new_tokens=4, generator=generator(), **options)
        play([make_text_game("ipd", 0, rounds=4)], [(player, player)])
        texts[label] = [chat.completion_ids for chat in player.transcripts]
    assert texts["past"] == texts["base"] != texts["policy"]
    assert tuned.active_adapter == "policy"
    assert {n for n, p in tuned.named_parameters() if p.requires_grad} == trainable
    assert all(".policy." in n for n in trainable)


def test_buffer_copies_on_time_and_keeps_the_newest(model: Qwen2ForCausalLM) -> None:
    buffer = AgentBuffer(get_peft_model(model, LORA, adapter_name="policy"), every=3, capacity=2, spare=2)
    assert buffer.draw(Random(0)) == []
    lengths = []
    for step in range(10):
        buffer.update(step)
        lengths.append(len(buffer.past))
    assert lengths == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert len(set(buffer.draw(Random(0)))) == 2
    with pytest.raises(ValueError, match="share"):
        AgentBuffer(buffer.model, share=1.5)


# --- credits


def config(tmp_path: Path, **options: object) -> AdvantageAlignmentConfig:
    defaults = dict(
        output_dir=str(tmp_path), per_device_train_batch_size=8, num_generations=4, max_completion_length=3,
        learning_rate=0.1, max_steps=2, rounds=3, use_cpu=True, bf16=False, activation_checkpointing=False,
        report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=1, seed=3,
    )  # fmt: skip
    return AdvantageAlignmentConfig(**(defaults | options))


def returns_by_hand(rewards: torch.Tensor, gamma: float) -> torch.Tensor:
    rounds = rewards.shape[-1]
    return torch.stack(
        [sum(gamma ** (k - t) * rewards[..., k] for k in range(t, rounds)) for t in range(rounds)], dim=-1
    )


@pytest.mark.parametrize("baseline", ["group", "batch", "none"])
@pytest.mark.parametrize("credit", ["naive", "sum_of_rewards", "advantage_alignment"])
@pytest.mark.parametrize("include_current", [False, True])
def test_round_credits_are_the_formula(tmp_path: Path, baseline: str, credit: str, include_current: bool) -> None:
    settings = config(
        tmp_path, baseline=baseline, credit=credit, include_current=include_current, gamma=0.8, alignment_beta=0.7
    )
    rewards = torch.rand(6, 2, 4, generator=generator(), dtype=torch.float64)
    groups = torch.tensor([5, 5, 5, 2, 2, 9])
    got = round_credits(rewards, groups, settings)
    returns = returns_by_hand(rewards / settings.reward_scale, 0.8)
    advantages = torch.empty_like(returns)
    for g in range(6):
        for seat in range(2):
            same = [h for h in range(6) if h != g and (baseline == "batch" or groups[h] == groups[g])]
            mean = sum(returns[h, seat] for h in same) / len(same) if same and baseline != "none" else 0.0
            advantages[g, seat] = returns[g, seat] - mean
    for g in range(6):
        for seat in range(2):
            own, other = advantages[g, seat], advantages[g, 1 - seat]
            for t in range(4):
                expected = own[t]
                if credit == "sum_of_rewards":
                    expected = own[t] + other[t]
                elif credit == "advantage_alignment":
                    last = t + 1 if include_current else t
                    past = sum(0.8 ** (t - k) * own[k] for k in range(last))
                    expected = own[t] + 0.7 * (1 if include_current else 0.8) * past * other[t]
                assert abs(got[g, seat, t] - expected) < 1e-9


def test_a_baseline_averages_over_one_kind_of_player(tmp_path: Path) -> None:
    rewards = torch.tensor([[[1.0], [0.0]], [[3.0], [0.0]], [[100.0], [0.0]]], dtype=torch.float64)
    kinds = torch.tensor([[0, 0], [0, 0], [1, 0]])
    credits = round_credits(rewards, torch.zeros(3, dtype=torch.long), config(tmp_path, credit="naive"), kinds)
    assert credits[:, 0, 0].tolist() == pytest.approx([-0.4, 0.4, 20.0])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"credit": "greedy"}, "credit"),
        ({"baseline": "mean"}, "baseline"),
        ({"learning_seats": "second"}, "learning_seats"),
        ({"gamma": 1.2}, "gamma"),
        ({"reward_scale": 0}, "reward_scale"),
        ({"alignment_beta": -1}, "alignment_beta"),
    ],
)
def test_bad_settings_are_refused_by_name(tmp_path: Path, options: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        config(tmp_path, **options)


# --- trainer


def trainer(model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast, tmp_path: Path, **options: object):
    names = ("co_player", "buffer_every", "buffer_share")
    players = {name: options.pop(name) for name in names if name in options}
    return AdvantageAlignmentTrainer(model, config(tmp_path, **options), words, peft_config=LORA, **players)


def adapter_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def moved(before: dict[str, torch.Tensor], model: torch.nn.Module) -> bool:
    return any(not torch.equal(before[n], p) for n, p in model.named_parameters() if n in before)


@pytest.mark.parametrize(
    "options",
    [
        {"credit": "naive"},
        {"credit": "sum_of_rewards", "baseline": "batch"},
        {"include_current": True, "baseline": "none"},
        {"game": "split", "reward_scale": 100.0},
        {"game": "trust_and_split", "reward_scale": 100.0, "learning_seats": "first"},
        {"learning_seats": "alternate", "buffer_every": 1},
        {"learning_seats": "alternate", "co_player": ScriptedPlayer("defect")},
        {"beta": 0.1, "entropy_coef": 0.01},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_every_switch_trains_the_adapter_and_nothing_else(
    warm: Qwen2ForCausalLM, words: PreTrainedTokenizerFast, tmp_path: Path, options: dict[str, object]
) -> None:
    learner = trainer(warm, words, tmp_path, **options)
    if options.get("game", "ipd") != "ipd":  # games that this model cannot play: no reply, no difference in rewards
        computed = learner._credits
        learner._credits = lambda *batch: computed(*batch) + torch.randn(batch[0].shape, generator=generator())
    before = adapter_of(learner.model)
    base = {n: p.detach().clone() for n, p in learner.model.named_parameters() if "lora" not in n}
    learner.train()
    assert before
    assert moved(before, learner.model)
    assert all(torch.equal(base[n], p) for n, p in learner.model.named_parameters() if n in base)
    assert [row["update"] for row in learner.history] == [0, 1]
    assert all(0 <= row["errors"] <= 2 for row in learner.history)


def test_warmed_up_model_keeps_the_format_and_the_prior(warm: Qwen2ForCausalLM, words: PreTrainedTokenizerFast) -> None:
    player = ModelPlayer(warm, words, generator=generator())
    games = [make_text_game("ipd", seed, rounds=3) for seed in range(100)]
    play(games, [(player, player)] * 100)
    assert sum(len(game.errors) for game in games) < 30  # of 600 replies
    cooperation = sum(2 - sum(pair) for game in games for pair in game.actions) / 600
    assert 0.45 < cooperation < 0.75


def test_naive_learning_turns_the_model_greedy(
    warm: Qwen2ForCausalLM, words: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    learner = trainer(
        warm, words, tmp_path, credit="naive", per_device_train_batch_size=64, max_steps=12, learning_rate=2e-2
    )
    learner.train()
    assert learner.history[0]["cooperation"] > 0.4
    assert learner.history[-1]["cooperation"] < 0.2


def test_zero_advantage_moves_nothing(
    warm: Qwen2ForCausalLM, words: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = trainer(warm, words, tmp_path)
    monkeypatch.setattr(learner, "_credits", lambda rewards, *_: torch.zeros_like(rewards))
    before = adapter_of(learner.model)
    learner.train()
    assert not moved(before, learner.model)


def test_loss_of_a_batch_is_the_formula_and_masked_tokens_get_no_gradient(
    warm: Qwen2ForCausalLM, words: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    learner = trainer(warm, words, tmp_path, alignment_beta=0.5)
    prompts = [{"prompt": str(seed)} for seed in (4, 4, 4, 4, 7, 7, 7, 7)]
    learner.model.train()
    learner.current_gradient_accumulation_steps = 1
    batch = learner._generate_and_score_completions(prompts)
    loss = learner._compute_loss(learner.model, batch)

    mask = batch["completion_mask"] * batch["tool_mask"]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    width = batch["completion_ids"].shape[1]
    logits = learner.model(input_ids=ids, attention_mask=attention).logits[:, -width - 1 : -1]
    log_probs = logits.log_softmax(-1).gather(-1, batch["completion_ids"][..., None])[..., 0]
    # the ratio to the sampling policy is 1 in value, so its gradient is that of the log-probability
    ratio = (log_probs - log_probs.detach()).exp()
    by_hand = -(ratio * batch["advantages"] * mask).sum() / mask.sum()
    torch.testing.assert_close(loss, by_hand, atol=1e-6, rtol=1e-5)

    names, parameters = zip(*[(n, p) for n, p in learner.model.named_parameters() if p.requires_grad], strict=True)
    ours = torch.autograd.grad(loss, parameters, retain_graph=True)
    expected = torch.autograd.grad(by_hand, parameters)
    for name, one, other in zip(names, ours, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4, msg=name)
    assert (batch["advantages"][mask == 0] == 0).all()
    assert (batch["advantages"][mask == 1] != 0).any()


def test_games_of_a_group_share_what_the_environment_draws(
    model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    learner = trainer(model, words, tmp_path, game="split", learning_seats="first")
    chats = learner.play_batch([11, 11, 12, 12])
    assert chats[0].prompt_ids == chats[1].prompt_ids
    assert chats[0].prompt_ids != chats[2].prompt_ids


def test_learners_in_both_seats_exclude_a_fixed_co_player(
    model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="learning_seats"):
        trainer(model, words, tmp_path, buffer_every=2)


def test_same_seed_same_training(warm_folder: Path, words: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    histories = []
    for _ in range(2):
        learner = trainer(Qwen2ForCausalLM.from_pretrained(warm_folder), words, tmp_path, credit="naive")
        learner.train()
        histories.append(learner.history)
    assert histories[0] == histories[1]


def _share_of_two(rank: int, world: int, port: int, folder: str) -> None:
    """One process of several: credits of its own games, baselines over those of all."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    words = tiny.tokenizer()
    small = tiny.untrained(tiny.WarmUp(hidden_size=16, layers=1, heads=1), words)
    learner = trainer(small, words, Path(folder), baseline="group")
    games = slice(rank * 4, rank * 4 + 4)
    credits = learner._credits(*(x[games] for x in BATCH_OF_TWO))
    torch.save(credits, Path(folder) / f"{rank}.pt")


BATCH_OF_TWO = (
    torch.rand(8, 2, 3, generator=generator(7), dtype=torch.float64),
    torch.tensor([1, 1, 2, 2, 2, 1, 3, 3]),  # groups reach over the border between the processes
    torch.zeros(8, 2, dtype=torch.long),
)


def test_two_processes_have_the_baselines_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_share_of_two, (2, port, str(tmp_path)), nprocs=2)
    both = torch.cat([torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)])
    alone = round_credits(BATCH_OF_TWO[0], BATCH_OF_TWO[1], config(tmp_path, baseline="group"))
    torch.testing.assert_close(both, alone)
    apart = round_credits(BATCH_OF_TWO[0][:4], BATCH_OF_TWO[1][:4], config(tmp_path, baseline="group"))
    assert not torch.allclose(apart, alone[:4])


# --- models by name


def test_missing_models_are_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="hub"):
        models.load("nobody/no-such-model")
    with pytest.raises(ValueError, match="hub"):
        models.load(str(tmp_path))
    with pytest.raises(ValueError, match="game must be one of"):
        models.load("tiny", game="chess")
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="laptop"):
            models.check_gpu(80)


def test_adapters_that_do_not_fit_are_refused(warm_folder: Path, tmp_path: Path) -> None:
    model, _ = models.load(str(warm_folder))
    get_peft_model(model, LORA).save_pretrained(tmp_path / "fits")
    tuned, words = models.load(str(warm_folder), adapter=tmp_path / "fits")
    assert not any(p.requires_grad for p in tuned.parameters())
    other = tiny.untrained(tiny.WarmUp(hidden_size=16, layers=1, heads=1), words)
    other.save_pretrained(tmp_path / "other")
    words.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="does not fit"):
        models.load(str(tmp_path / "other"), adapter=tmp_path / "fits")
    with pytest.raises(ValueError, match="adapter must be a folder"):
        models.load(str(warm_folder), adapter=tmp_path)
