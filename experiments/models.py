"""Find a language model by name, and say what is missing before anything is trained."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import Linear
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)  # fmt: skip
from transformers.utils import logging

from aa_core import HEADLESS
from aa_core.llm.players import BASE
from experiments import records
from experiments.run import NoGPUError

EMBEDDED = "warm_up.json"  # marks a folder of the embedded model
SEALED, SEAL = ("adapter_model.safetensors", "adapter_config.json"), "adapter.json"  # files of an adapter
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # PEFT's to mend
if HEADLESS:
    logging.disable_progress_bar()


def read(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The embedded model and its tokenizer, from a folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    # not AutoTokenizer: for a Qwen2 model it would replace the pre-tokenizer by Qwen2's own
    return model, PreTrainedTokenizerFast.from_pretrained(folder)


def device() -> torch.device:
    """Where models live: on the accelerator, if there is one; each process of several has its own."""
    own = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return torch.device(own if torch.cuda.is_available() else "cpu")


def load(name: str | Path, adapter: str | Path | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model, on `device()`, with its tokenizer; ValueError if there is none such, or it cannot chat.

    `name`: a folder with a model, the embedded model's or saved by transformers; or a model of the hub such as
    "Qwen/Qwen2.5-7B-Instruct", the only case that needs a network (once). `adapter`: folder of one to put on it,
    frozen.
    """
    if (Path(name) / EMBEDDED).is_file():
        model, tokenizer = read(Path(name))
    else:
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
            model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=False, dtype=dtype)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"model {str(name)!r} could not be loaded. It must be a folder with a model's files, or a name on "
                "the Hugging Face hub; a name needs a network connection the first time (and `hf auth login` if the "
                f"model is gated). What went wrong: {str(error).splitlines()[0]}"
            ) from error
    if tokenizer.chat_template is None:
        raise ValueError(f"model {str(name)!r} has no chat template; choose an instruction-tuned model")
    model = model.to(device())
    if adapter is not None:
        model = add_adapter(model, adapter)
    return model, tokenizer


def lora(model: PreTrainedModel, rank: int) -> LoraConfig:
    """The adapter that is trained: on every linear layer, but for those of Gemma that look at pictures."""
    seeing = ".*(vision|multi_modal).*" if hasattr(model.config, "vision_config") else None
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", exclude_modules=seeing)


def save_adapter(model: PeftModel, folder: Path, adapter: str = "default") -> None:
    """Save one adapter as PEFT does, without the path of its base; `adapter.json`, the last file, seals it."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as partial:
        model.save_pretrained(partial, selected_adapters=[adapter], save_embedding_layers=False)
        settings = json.loads(Path(partial, "adapter_config.json").read_text(encoding="utf-8"))
        settings["base_model_name_or_path"] = None  # a path of this machine
        if isinstance(targets := settings.get("target_modules"), list):
            targets.sort()  # PEFT's order is that of a set
        Path(partial, "adapter_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        Path(partial, SEAL).write_text(json.dumps(_seal(model, Path(partial))) + "\n", encoding="utf-8")
        for name in (*SEALED, SEAL):
            os.replace(Path(partial, name), folder / name)


def add_adapter(model: PreTrainedModel, folder: str | Path, name: str = "default") -> PeftModel:
    """Put a saved adapter on a model, frozen; a second one beside the first, if it is a PEFT model already.

    ValueError if there is none, it is cut or altered, or it was trained on another model.
    """
    folder = Path(folder)
    if not all((folder / part).is_file() for part in SEALED):
        raise ValueError(f"adapter must be a folder with {' and '.join(SEALED)}, got {str(folder)!r}")
    if (folder / SEAL).is_file():  # PEFT's own have none
        expected, came = records.read_record(folder / SEAL) or {}, _seal(model, folder)
        if expected.get("sha256") != came["sha256"]:
            raise ValueError(f"adapter {str(folder)!r} is cut or altered: restore it, or train it again")
        if expected.get("base") != came["base"]:
            trained = f"trained on model {expected.get('base')}, got {came['base']}"
            raise ValueError(f"adapter {str(folder)!r} does not fit: it was {trained}")
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), name, is_trainable=False)
            return model
        return answer_in_one_product(PeftModel.from_pretrained(model, folder, adapter_name=name))
    except (RuntimeError, ValueError, TypeError, SafetensorError) as error:  # what differs, is missing or cut
        reason = f"it must be whole, and trained on that model. What went wrong: {str(error).splitlines()[0]}"
        raise ValueError(f"adapter {str(folder)!r} does not fit; {reason}") from error


def answer_in_one_product(model: PeftModel) -> PeftModel:
    """Let rows that have adapters of their own be read by one product per layer.

    PEFT goes from adapter to adapter: with 28 of them that took six times as long as all else that a token needs.
    """
    for layer in model.modules():
        if type(layer) is Linear:
            layer._mixed_batch_forward = partial(_each_its_own, layer)
    return model


def _each_its_own(layer: Linear, x: Tensor, *options: Any, adapter_names: list[str], **named: Any) -> Tensor:
    """What PEFT's `_mixed_batch_forward` returns, if adapters are plain and alike; `x` is `(rows, tokens, size)`."""
    names, rows, tuned = _seats(tuple(adapter_names), x.device)
    kinds = {(layer.r.get(name), layer.scaling.get(name), layer.lora_bias.get(name)) for name in names}
    if layer.lora_variant or len(kinds) > 1 or (None, None, None) in kinds or any(bias for *_, bias in kinds):
        return Linear._mixed_batch_forward(layer, x, *options, adapter_names=adapter_names, **named)
    result = layer.base_layer(x, *options)
    if not names:
        return result
    down, up = (
        own[names[0]].weight if len(names) == 1 else torch.stack([own[name].weight for name in names])[rows]
        for own in (layer.lora_A, layer.lora_B)
    )
    added = (x.to(down.dtype) @ down.mT * (tuned * layer.scaling[names[0]])) @ up.mT
    return result + added.to(result.dtype)


@lru_cache(64)
def _seats(adapter_names: tuple[str, ...], device: torch.device) -> tuple[list[str], Tensor, Tensor]:
    """Adapters; which of them is each row's; and whether it has one `(rows, 1, 1)`."""
    names = sorted({*adapter_names} - {BASE})
    rows = [names.index(name) if name != BASE else 0 for name in adapter_names]
    tuned = [[[float(name != BASE)]] for name in adapter_names]
    return names, torch.tensor(rows, device=device), torch.tensor(tuned, device=device)


def _seal(model: PreTrainedModel, folder: Path) -> dict[str, str]:
    """Checksum of an adapter's files, and what tells its base from others: some weights of every layer."""
    files = hashlib.sha256(b"".join((folder / name).read_bytes() for name in SEALED))
    base = hashlib.sha256()
    for name, weights in sorted(model.named_parameters()):
        if "lora" not in name:
            name = name.removeprefix("base_model.model.").replace(".base_layer", "")
            some = weights.detach().flatten()[:8].bfloat16().float().tolist()  # alike in every precision
            base.update(f"{name} {tuple(weights.shape)} {some}".encode())
    return {"sha256": files.hexdigest(), "base": f"{model.config.model_type}-{base.hexdigest()[:16]}"}


def check_gpu(gigabytes: float) -> None:
    """NoGPUError without a GPU of that much memory."""
    way_out = "run on a machine with such a GPU, or choose profile='laptop', which trains the embedded model on a CPU"
    if not torch.cuda.is_available():
        raise NoGPUError(f"profile 'paper' needs a GPU with {gigabytes:g} GB, torch sees none: {way_out}")
    memory = torch.cuda.get_device_properties(0).total_memory / 1e9
    if memory < gigabytes:
        raise NoGPUError(f"profile 'paper' needs a GPU with {gigabytes:g} GB, this one has {memory:.0f} GB: {way_out}")
