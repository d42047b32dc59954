"""Find a language model by name, and say what is missing before anything is trained."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)  # fmt: skip
from transformers.utils import logging

from aa_core.paths import HEADLESS

EMBEDDED = "warm_up.json"  # marks a folder of the embedded model
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
    """A causal language model, on `device()`, with its tokenizer.

    Args:
        name: a folder with a model, the embedded model's or saved by transformers; or a model of the hub such as
            "Qwen/Qwen2.5-7B-Instruct", the only case that needs a network (once).
        adapter: folder of a PEFT adapter to put on the model, frozen.

    Raises:
        ValueError: no such model, no chat template, or an adapter that does not fit.
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
        model = _with_adapter(model, str(name), adapter)
    return model, tokenizer


def save_adapter(model: PeftModel, folder: Path, adapter: str = "default") -> None:
    """Save one adapter, weights as safetensors, without the path of the model that it was trained on."""
    model.save_pretrained(folder, selected_adapters=[adapter])
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = None  # a path of this machine
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _with_adapter(model: PreTrainedModel, name: str, adapter: str | Path) -> PeftModel:
    if not (Path(adapter) / "adapter_config.json").is_file():
        raise ValueError(f"adapter must be a folder with adapter_config.json, got {str(adapter)!r}")
    try:
        return PeftModel.from_pretrained(model, adapter)
    except (RuntimeError, ValueError) as error:  # shapes that differ, or modules that the model has not
        raise ValueError(
            f"adapter {str(adapter)!r} does not fit model {name!r}; it must have been trained on that model. "
            f"What went wrong: {str(error).splitlines()[0]}"
        ) from error


def check_gpu(gigabytes: float) -> None:
    """Refuse to start without a GPU of that much memory.

    Raises:
        RuntimeError: none, or a smaller one.
    """
    way_out = "run on a machine with such a GPU, or choose profile='laptop', which trains the embedded model on a CPU"
    if not torch.cuda.is_available():
        raise RuntimeError(f"profile 'paper' needs a GPU with {gigabytes:g} GB, torch sees none: {way_out}")
    memory = torch.cuda.get_device_properties(0).total_memory / 1e9
    if memory < gigabytes:
        raise RuntimeError(
            f"profile 'paper' needs a GPU with {gigabytes:g} GB, this one has {memory:.0f} GB: {way_out}"
        )
