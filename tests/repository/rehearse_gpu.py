"""Updates of profile `paper` on this machine's GPU, with random weights in the shapes of the real model.

`make rehearsal-gpu` runs it and publishes what it measured in data/extended. Nothing is downloaded: the tokenizer, of
about as many tokens as the real one, is trained on the sources of installed packages. The model does all its work, but
it is told what to reply: a valid reply of a game, its messages REPLY tokens long, as an instruct model's are.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

sys.path.append(str(Path(__file__).parents[1]))
from chat_families import FAMILIES, tokenizer_of

from aa_core.games.text import Turn, make_text_game, play_scripted
from aa_core.llm.players import ModelPlayer
from experiments import language, memory, models, paths, records
from experiments.identity import settings_as_data
from experiments.language_runs import SCRIPTS, Training, trainer_of
from experiments.publish import refuse_changed_code

KINDS = {"qwen2": "qwen2.5", "qwen3": "qwen3", "llama": "llama3", "gemma3_text": "gemma3"}  # -> family of templates
REPLY = 60  # tokens of a message, as `python -m experiments memory` assumes
# Updates: the first without past agents, the second with all that may be drawn
UPDATES = {"ipd": 2, "split": 2, "trust_and_split": 1}


def sources(megabytes: float) -> list[str]:
    """Python files of installed packages."""
    found: list[str] = []
    for path in sorted(Path(torch.__file__).parents[1].rglob("*.py")):
        megabytes -= path.stat().st_size / 1e6
        found.append(str(path))
        if megabytes < 0:
            break
    return found


def random_model(kind: str, sizes: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> Any:
    """A model with random weights, made where it stays; its end tokens are those of its family."""
    ends = tokenizer.convert_tokens_to_ids(FAMILIES[KINDS[kind]][4])
    config = AutoConfig.for_model(kind, **sizes, pad_token_id=tokenizer.pad_token_id, eos_token_id=ends)
    torch.manual_seed(0)
    with models.device():
        dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.generation_config = GenerationConfig(eos_token_id=ends)
    return model


def replies(game: str, tokenizer: PreTrainedTokenizerFast) -> dict[str, list[int]]:
    """pattern -> tokens of a reply that matches it, with an end."""
    found = {}
    kind, _ = SCRIPTS[game]
    for turn, reply in play_scripted(make_text_game(game, 0, rounds=1), kind, kind, Random(0)):
        if reply is not None:
            found[turn.pattern] = reply
    tokens = {}
    for pattern, reply in found.items():
        start, mark, rest = reply.partition(" <<message_end>>")
        words = " and" * (REPLY - len(tokenizer.encode(reply))) if mark else ""
        tokens[pattern] = [*tokenizer.encode(start + words + mark + rest), tokenizer.eos_token_id]
    return tokens


@contextmanager
def told_what_to_reply(model: Any, told: dict[str, list[int]]) -> Iterator[None]:
    """While it plays, all rows of a block of new tokens get the same reply, since games of a kind go in step."""
    now = {"reply": [0], "step": 0}
    answer = ModelPlayer.answer

    def answered(player: ModelPlayer, turns: Sequence[Turn | None]) -> list[str | None]:
        patterns = {turn.pattern for turn in turns if turn is not None}
        if patterns:
            (pattern,) = patterns
            now["reply"], now["step"] = told[pattern], 0
        return answer(player, turns)

    def told_token(module: Any, given: Any, output: Any) -> None:
        if not module.training:
            output.logits[:, -1, now["reply"][now["step"]]] += 1e4
            now["step"] += 1

    hook = model.register_forward_hook(told_token)
    ModelPlayer.answer = answered  # type: ignore[method-assign]
    try:
        yield
    finally:
        ModelPlayer.answer = answer  # type: ignore[method-assign]
        hook.remove()


class Meter:
    """Seconds and the most memory in GB since `start`."""

    def start(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.since = time.monotonic()

    def read(self) -> dict[str, float]:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        return {"seconds": time.monotonic() - self.since, "gigabytes": peak / 1e9}


def rehearse(run: Training, kind: str, sizes: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> pd.DataFrame:
    """Rows of (game, update, part, metric, value) of a training's updates; parts are playing and learning."""
    rows: list[tuple[Any, ...]] = []
    meter, load = Meter(), models.load
    with tempfile.TemporaryDirectory() as folder:
        network = random_model(kind, sizes, tokenizer)
        models.load = lambda *_, **__: (network, tokenizer)
        try:
            trainer = trainer_of(run, run.model, Path(folder) / "kept")
        finally:
            models.load = load
        if trainer.buffer is not None:  # all the past agents that a late update may meet: copies of the first
            trainer.buffer.draw = lambda update, rng: dict.fromkeys(trainer.buffer.names, 1) if update else {}
        played, save = trainer.play_batch, trainer._save_checkpoint

        def note(part: str) -> None:
            rows.extend((run.game, trainer.state.global_step, part, *measured) for measured in meter.read().items())

        def play_batch(seeds: Sequence[int]) -> Any:
            meter.start()
            samples = played(seeds)
            note("playing")
            chats = [len(sample.chat.ids) for sample in samples]
            rows.extend(
                (run.game, trainer.state.global_step, "playing", name, value)
                for name, value in {"chats": len(chats), "tokens_per_chat": sum(chats) / len(chats)}.items()
            )
            meter.start()
            return samples

        trainer.play_batch = play_batch

        def save_checkpoint(*given: Any) -> None:  # after the optimiser's step
            note("learning")
            save(*given)

        trainer._save_checkpoint = save_checkpoint
        with told_what_to_reply(network, replies(run.game, tokenizer)):
            trainer.train()
        errors = [row["errors"] for row in trainer.history]
        if any(errors):
            raise ValueError(f"replies must be read, got {errors=}")
        if torch.cuda.is_available():
            rows.append((run.game, run.max_steps, "learning", "reserved", torch.cuda.max_memory_reserved() / 1e9))
    return pd.DataFrame(rows, columns=["game", "update", "part", "metric", "value"])


def planned(game: str, model: str) -> Training:
    """The paper's settings, but for the number of updates."""
    run = language.training("paper", game, "advantage_alignment")
    return replace(run, model=model, max_steps=UPDATES[game], save_steps=1, buffer_every=1, watch_every=None)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="Qwen/Qwen2.5-7B-Instruct", choices=memory.SHAPES)
    parser.add_argument("--games", nargs="+", default=list(UPDATES), choices=UPDATES)
    parser.add_argument("--table", type=Path, default=paths.DATA / "extended" / "gpu_rehearsal.csv")
    parser.add_argument("--commit", help="of the code, on a machine without the history of the repository")
    options = parser.parse_args()
    if options.commit is None:
        refuse_changed_code([])
    models.check_gpu(79)
    kind, sizes = memory.SHAPES[options.model]
    tokenizer = tokenizer_of(KINDS[kind], sources(60), size=sizes["vocab_size"] - 500)
    tables, settings, started = [], {}, time.monotonic()
    for game in options.games:
        run = planned(game, options.model)
        tables.append(rehearse(run, kind, sizes, tokenizer))
        gc.collect()
        torch.cuda.empty_cache()
        settings[game] = settings_as_data(run)
        record = records.provenance(settings, time.monotonic() - started)
        record |= {"table": options.table.stem, "reply_tokens": REPLY, "vocabulary": len(tokenizer)}
        if options.commit is not None:
            record["git_commit"] = options.commit
        records.write_table(options.table, pd.concat(tables), record)
        print(tables[-1].to_string(), flush=True)


if __name__ == "__main__":
    main()
