"""What an update of a language model holds in memory, and what fits on a GPU: computed from the model's shapes alone.

Nothing is downloaded. Parameters and activations are counted on the model itself, built on torch's meta device, which
has shapes but no values; caches follow from the shapes of their layers.

python -m experiments memory --model Qwen/Qwen2.5-7B-Instruct --game trust_and_split
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aa_core.checks import check_that
from aa_core.games.text import make_text_game, play_scripted
from experiments.language import training

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from experiments.language_runs import Training

# Architecture and sizes as in the models' config.json; of Gemma 3 the language model, without its vision tower
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen/Qwen2.5-7B-Instruct": ("qwen2", dict(
        hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
        vocab_size=152064, tie_word_embeddings=False)),
    "Qwen/Qwen3-8B": ("qwen3", dict(
        hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8,
        head_dim=128, vocab_size=151936, tie_word_embeddings=False)),
    "meta-llama/Llama-3.1-8B-Instruct": ("llama", dict(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=128256, tie_word_embeddings=False)),
    "google/gemma-3-4b-it": ("gemma3_text", dict(
        hidden_size=2560, intermediate_size=10240, num_hidden_layers=34, num_attention_heads=8, num_key_value_heads=4,
        head_dim=256, vocab_size=262208, tie_word_embeddings=True)),
}  # fmt: skip
WEIGHT = 2  # bytes of a bfloat16
TRAINED = 4  # of an adapter's parameter: PEFT keeps adapters in float32; gradient and Adam's two moments come on top
GPU = 80e9
TOKENS_PER_WORD = 1.3  # of byte-level BPE, words and marks counted as one each; games have plain words


def config_of(model: str) -> PretrainedConfig:
    """The shapes of a known model, or of a folder with a config.json."""
    from transformers import AutoConfig

    if model in SHAPES:
        kind, sizes = SHAPES[model]
        return AutoConfig.for_model(kind, **sizes)
    try:
        return AutoConfig.from_pretrained(model, local_files_only=True).get_text_config()
    except (OSError, ValueError) as error:
        known = ", ".join(SHAPES)
        raise ValueError(f"model must be one of {known}, or a folder with config.json, got {model!r}") from error


def on_meta(config: PretrainedConfig, rank: int) -> Any:
    """The model with an adapter, without values."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from experiments import models

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation=_attention(), dtype=torch.bfloat16)
        return get_peft_model(model, models.lora(model, rank))


def parameters(model: Any) -> tuple[int, int]:
    """Number of the model's own parameters, and of its adapter's."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return sum(p.numel() for p in model.parameters()) - trained, trained


def cache_bytes(config: PretrainedConfig, width: int = WEIGHT) -> int:
    """Bytes of the keys and values of one token."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * config.num_key_value_heads * head * width


def activation_bytes(model: Any, chats: int, tokens: int) -> tuple[int, int]:
    """Bytes that a backward pass needs of a batch: inputs of all layers (checkpoints), and all of a layer's inside.

    With gradient checkpointing a layer's inside is computed again, one layer at a time. The head is not counted: TRL
    takes the log-probabilities in chunks.
    """
    base = model.get_base_model()
    layers = base.model.layers
    ids = torch.zeros(chats, tokens, dtype=torch.long, device="meta")
    with _saved() as every:
        base.model(input_ids=ids, use_cache=False)
    kept = len(layers) * chats * tokens * base.config.hidden_size * WEIGHT
    return kept, sum(every.values()) // len(layers)


@contextmanager
def _saved() -> Iterator[dict[int, int]]:
    """Counts what autograd keeps for the backward pass, each storage once and no parameters."""
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, torch.nn.Parameter) and tensor.grad_fn is not None:
            held.append(tensor)  # so that no other storage takes its place
            found[storage._cdata] = storage.nbytes()
        return tensor

    held: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield found


class _Flash(torch.autograd.Function):
    """Keeps what flash attention keeps: queries, keys, values and the result, no matrix of weights."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> None:
        raise NotImplementedError("it only counts")


def _attention() -> str:
    from transformers import AttentionInterface

    def attention(module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        return _Flash.apply(query, key, value).transpose(1, 2), None

    AttentionInterface.register("counted", attention)
    return "counted"


def chat_tokens(run: Training, reply: int) -> int:
    """Tokens of a player's chat in a game of a run, about; replies of so many tokens, but no more than are allowed."""
    game = make_text_game(run.game, 0, rounds=run.rounds, show_rules=run.show_rules)
    turns = [turn for turn, _ in play_scripted(game, "random", "random", Random(0)) if turn.player == 0]
    words = sum(len(re.findall(r"\w+|[^\w\s]", turn.text)) for turn in turns)
    replies = sum(turn.reply for turn in turns) * min(reply, run.max_completion_length)
    heard = min(reply, game.quoted) * run.rounds if game.quoted else 0
    return int(TOKENS_PER_WORD * words) + replies + heard + 10 * len(turns)


def update(run: Training, config: PretrainedConfig, reply: int) -> dict[str, float]:
    """Bytes that an update holds, by what they are for."""
    model = on_meta(config, run.rank)
    own, adapter = parameters(model)
    tokens = chat_tokens(run, reply)
    kept, inside = activation_bytes(model, run.per_device_train_batch_size, tokens)
    chats = run.per_device_train_batch_size * run.gradient_accumulation_steps
    cached = chats * (1 if run.learning_seats == "both" else 2) * tokens * 3 // 2
    cached = min(cached, run.token_budget or cached)
    return {
        "weights": own * WEIGHT,
        "adapter, gradients, Adam": 4 * adapter * TRAINED,
        "past agents at the table": (run.buffer_drawn if run.buffer_every else 0) * adapter * TRAINED,
        "cache while playing": cached * cache_bytes(config),
        "checkpoints of the layers while learning": kept,
        "one layer's activations while learning": inside,
    }


def report(model: str, game: str, profile: str = "paper", reply: int = 60) -> str:
    """What an update of Advantage Alignment holds, and whether it fits on a GPU of 80 GB."""
    check_that(reply > 0, "reply", "a positive number of tokens", reply)
    config, run = config_of(model), replace(training(profile, game, "advantage_alignment"), model=model)
    try:
        held = update(run, config, reply)
    except (AttributeError, RuntimeError, TypeError) as error:  # of another build than Qwen's, Llama's and Gemma's
        raise ValueError(
            f"model {model!r} cannot be counted without values ({type(error).__name__}: {error})"
        ) from error
    always = sum(list(held.values())[:3])
    playing, learning = always + held["cache while playing"], always + sum(list(held.values())[4:])
    peak = max(playing, learning)
    copies = run.max_steps // run.buffer_every if run.buffer_every else 0
    own, adapter = parameters(on_meta(config, run.rank))
    room = int((GPU * 0.9 - always) // cache_bytes(config))
    lines = [
        f"{model}, {game}, profile {profile}: {own / 1e9:.2f} billion parameters, {adapter / 1e6:.1f} million in the "
        f"adapter; a chat has about {chat_tokens(run, reply)} tokens with replies of {reply}, "
        f"{chat_tokens(run, run.max_completion_length)} at most; a token's keys and values are {cache_bytes(config):,} "
        "bytes",
        *(f"  {size / 1e9:7.2f} GB  {name}" for name, size in held.items()),
        f"  {playing / 1e9:7.2f} GB  in all while playing, {learning / 1e9:.2f} GB while learning",
        f"  {copies * adapter * TRAINED / 1e9:7.2f} GB  on disk at the end: {copies} past agents",
        f"Peak {peak / 1e9:.1f} GB: {'fits' if peak < 0.9 * GPU else 'does not fit'} on one GPU of {GPU / 1e9:.0f} GB "
        f"(a tenth is left for fragments and kernels). Largest token_budget there: {max(room, 0):,}."
        + (f" Now {run.token_budget:,}." if run.token_budget else ""),
        "Without vLLM, which takes the share of the GPU that vllm_gpu_memory_utilization says. Not counted: the head, "
        "which TRL takes in chunks, and temporary copies.",
    ]  # fmt: skip
    return "\n".join(lines)
