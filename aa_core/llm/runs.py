"""The language-model runs behind notebooks 09 to 11: who is trained against whom, at which size, and what is measured.

`aa_core.experiments` lists and caches them; `train` and `cross_play` do the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pandas as pd
import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.import_utils import is_vllm_available

from aa_core.games.matrix import STATES
from aa_core.games.text import TextGame, make_text_game
from aa_core.llm import models, tiny
from aa_core.llm.players import ModelPlayer, Player, ScriptedPlayer, play
from aa_core.llm.settings import WARM_UPS, Training
from aa_core.llm.trainer import AdvantageAlignmentConfig, AdvantageAlignmentTrainer
from aa_core.paths import HEADLESS

ADAPTER = "default"  # PEFT's name of the one that is trained
KIND = {"ipd": "cooperate", "split": "welfare", "trust_and_split": "welfare"}
GREEDY = {"ipd": "defect", "split": "greedy", "trust_and_split": "greedy"}
MEASURES = ("cooperation", "claim_higher", "claim_lower", "efficiency")


def load_model(training: Training) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model that a training starts from."""
    if training.model == models.TINY:
        settings = WARM_UPS[training.game]
        if training.unconditional:
            mean = sum(settings.ipd_prior) / len(settings.ipd_prior)
            settings = replace(settings, ipd_prior=(mean,) * len(settings.ipd_prior))
        if training.cold:
            settings = replace(
                settings, hidden_size=32, layers=1, heads=2, games=64, rounds=2, steps=20, drill_steps=(0, 0, 0)
            )
        return tiny.load(settings)
    return models.load(training.model, training.game)


def trainer_of(training: Training, seed: int, folder: Path, trained: Path | None = None) -> AdvantageAlignmentTrainer:
    """The trainer of a run, ready to start.

    Args:
        training: settings.
        seed: of the adapter, the games and the sampling.
        folder: for TRL's files.
        trained: adapter of the co-player, with `co_player="trained"`.
    """
    model, words = load_model(training)
    chats = training.games * (2 if training.both_learn else 1)
    micro = training.micro_batch or chats
    on_gpu = torch.cuda.is_available()
    settings = AdvantageAlignmentConfig(
        output_dir=str(folder),
        game=training.game,
        rounds=training.rounds,
        credit=training.credit,
        alignment_beta=training.beta,
        gamma=training.gamma,
        include_current=training.include_current,
        baseline=training.baseline,
        reward_scale=training.reward_scale,
        learning_seats="both" if training.both_learn else "alternate",
        num_generations=training.group * (2 if training.both_learn else 1),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=chats // micro,
        max_completion_length=training.max_new_tokens,
        max_steps=training.updates,
        learning_rate=training.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        entropy_coef=training.entropy,
        beta=training.kl,
        seed=seed,
        use_cpu=not on_gpu,
        bf16=on_gpu,
        activation_checkpointing=on_gpu,
        use_vllm=on_gpu and is_vllm_available(),
        vllm_mode="colocate",
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=HEADLESS,
    )
    trainer = AdvantageAlignmentTrainer(
        model,
        settings,
        words,
        buffer_every=training.buffer_every,
        peft_config=LoraConfig(r=training.rank, lora_alpha=2 * training.rank, target_modules="all-linear"),
    )
    if training.co_player != "self":
        other = trainer.accelerator.unwrap_model(trainer.model)
        generator = torch.Generator().manual_seed(seed + 1)
        if training.co_player == "trained":
            other.load_adapter(str(trained), "co_player", is_trainable=False)
        trainer.co_player = ModelPlayer(
            other, words, "co_player" if training.co_player == "trained" else None,
            frozen_base=training.co_player == "kind", max_new_tokens=training.max_new_tokens, generator=generator,
        )  # fmt: skip
    return trainer


def train(training: Training, seed: int, folder: Path, scratch: Path, trained: Path | None = None) -> pd.DataFrame:
    """Train an adapter, save it in `folder`, and measure it.

    Args:
        training: settings.
        seed: of everything that is drawn.
        folder: for the adapter.
        scratch: for TRL's files.
        trained: adapter of the co-player, with `co_player="trained"`.

    Returns:
        Rows of (update, metric, value): the learners' metrics at every update, and after the last one (update equal to
        `training.updates`) what `evaluate` finds.
    """
    trainer = trainer_of(training, seed, scratch, trained)
    trainer.train()
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.accelerator.is_main_process:
        model.save_pretrained(folder, selected_adapters=[ADAPTER])
    rows = [
        (int(row["update"]), metric, value) for row in trainer.history for metric, value in row.items()
        if metric != "update"
    ]  # fmt: skip
    final = evaluate(model, trainer.processing_class, training, seed, trainer.co_player)
    rows += [(training.updates, metric, value) for metric, value in final.items()]
    return pd.DataFrame(rows, columns=["update", "metric", "value"])


def evaluate(
    model: PreTrainedModel,
    words: PreTrainedTokenizerBase,
    training: Training,
    seed: int,
    co_player: Player | None = None,
) -> dict[str, float]:
    """Measure a policy in games that it was not trained on.

    Returns:
        Metrics of self-play, or of games with `co_player` (then also `reward_other`); `reward_vs_NAME` against the kind
        and the greedy scripted player; in the prisoner's dilemma `P(STATE)` of cooperation, over the first and games
        with the random player.
    """
    player = ModelPlayer(
        model, words, max_new_tokens=training.max_new_tokens, generator=torch.Generator().manual_seed(seed)
    )
    home, kind, greedy, noise = "home", KIND[training.game], GREEDY[training.game], "random"
    partners = {home: co_player or player} | {n: ScriptedPlayer(n, Random(seed)) for n in (kind, greedy, noise)}
    found: dict[str, float | None] = {}
    met: Counter[str] = Counter()
    cooperated: Counter[str] = Counter()
    for name, partner in partners.items():
        games = new_games(training, training.evaluation_games)
        play(games, [(player, partner)] * len(games))
        if name == home:
            seats = (0, 1) if co_player is None else (0,)
            found |= {metric: mean(metric, games, seats) for metric in ("reward", "errors", *MEASURES)}
            found["reward_other"] = None if co_player is None else mean("reward", games, (1,))
        else:
            found[f"reward_vs_{name}"] = mean("reward", games, (0,))
        if training.game == "ipd" and name in (home, noise):
            for state, cooperates in (move for game in games for move in moves(game, 0)):
                met[state] += 1
                cooperated[state] += cooperates
    found |= {f"P({state})": cooperated[state] / met[state] for state in STATES if met[state]}
    return {metric: value for metric, value in found.items() if value is not None}


def new_games(training: Training, number: int, start: int = 10**9) -> list[TextGame]:
    """Games with seeds from `start` on, which no training uses."""
    return [make_text_game(training.game, start + index, rounds=training.rounds) for index in range(number)]


def mean(metric: str, games: Iterable[TextGame], seats: Sequence[int]) -> float | None:
    """Mean of a metric over rounds, games and seats; None where a game has none of it."""
    values = []
    for game in games:
        for index in range(game.rounds):
            record = game.record(index)
            value = record["rewards"] if metric == "reward" else record.get(metric)
            values += [value[seat] if isinstance(value, tuple) else value for seat in seats]
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None


def moves(game: TextGame, player: int) -> Iterable[tuple[str, bool]]:
    """(state before it, whether it was cooperation) of each move in the prisoner's dilemma."""
    state = STATES[0]
    for pair in game.actions:
        yield state, pair[player] == 0
        state = "CD"[pair[player]] + "CD"[pair[1 - player]]


def cross_play(training: Training, adapters: Mapping[tuple[str, int], Path], games: int, seed: int = 0) -> pd.DataFrame:
    """Every trained agent and the two scripted ones against each other and themselves.

    Args:
        training: game, model and length.
        adapters: (algorithm, seed) -> folder.
        games: per pair of agents.
        seed: of the sampling.

    Returns:
        Rows of (row_agent, column_agent, row_seed, column_seed, metric, value): the row agent's mean per round.
    """
    model, words = load_model(training)
    players: dict[tuple[str, int], Player] = {}
    tuned: PeftModel | None = None
    for index, (agent, folder) in enumerate(adapters.items()):
        name = f"agent{index}"
        if tuned is None:
            tuned = PeftModel.from_pretrained(model, folder, adapter_name=name)
        else:
            tuned.load_adapter(str(folder), name)
        generator = torch.Generator().manual_seed(seed + index)
        players[agent] = ModelPlayer(tuned, words, name, max_new_tokens=training.max_new_tokens, generator=generator)
    for name in (KIND[training.game], GREEDY[training.game]):
        players[name, 0] = ScriptedPlayer(name)
    rows, agents = [], list(players)
    for index, first in enumerate(agents):
        seconds = agents[index:]
        tables = [game for _ in seconds for game in new_games(training, games)]
        play(tables, [(players[first], players[second]) for second in seconds for _ in range(games)])
        for column, second in enumerate(seconds):
            part = tables[column * games : (column + 1) * games]
            sides = [(first, second, (0,)), (second, first, (1,))] if second != first else [(first, first, (0, 1))]
            for row, other, seats in sides:
                for metric in ("reward", *MEASURES):
                    value = mean(metric, part, seats)
                    if value is not None:
                        rows.append((row[0], other[0], row[1], other[1], metric, value))
    columns = ["row_agent", "column_agent", "row_seed", "column_seed", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)
