"""The agent buffer: past adapters of the policy, to meet as co-players (LLM paper, appendix on training)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor
from torch.nn import Parameter

from aa_core.checks import check, check_choice, check_that
from aa_core.files import write_whole


class AgentBuffer:
    """Keeps copies of the active adapter on disk, and lends them as frozen adapters of the same model.

    What there is at an update follows from its number: `agent-N.safetensors` for N = `every`, 2 `every`, ... up to it.

    Args:
        model: with the adapter that is trained.
        folder: for the copies.
        every: updates between two copies; none is taken at update 0.
        drawn: how many different past agents may play in one update; the model carries as many spare adapters.
    """

    def __init__(self, model: PeftModel, folder: Path, every: int = 10, drawn: int = 2) -> None:
        check(folder=folder, every=every, drawn=drawn)
        check_that(isinstance(model, PeftModel), "model", "a PEFT model", model)
        self.model, self.folder, self.every = model, folder, every
        self.trained = model.active_adapter
        self.names = [f"past{index}" for index in range(drawn)]
        for name in self.names:
            model.add_adapter(name, model.peft_config[self.trained])
        model.set_adapter(self.trained)  # which freezes the others

    def file(self, update: int) -> Path:
        """Where the copy that was taken at an update is."""
        check(update=update)
        return self.folder / f"agent-{update}.safetensors"

    def _weights(self, adapter: str) -> dict[str, Parameter]:
        """The parameters of an adapter, under the names that copies have, which say nothing of the adapter's."""
        named = self.model.named_parameters()
        return {name.replace(f".{adapter}.", "."): own for name, own in named if f".{adapter}." in name}

    def keep(self, update: int) -> None:
        """Copy the trained adapter if it is time."""
        path = self.file(update)
        if update > 0 and update % self.every == 0:
            state = {name: own.detach().cpu().clone() for name, own in self._weights(self.trained).items()}
            write_whole(path, lambda partial: save_file(state, partial, {"sha256": _digest(state)}))

    def draw(self, update: int, rng: Random) -> dict[str, int]:
        """Draw past agents uniformly: name of a spare adapter -> update of the copy, which `load` puts there."""
        check(update=update, rng=rng)
        past = range(self.every, update + 1, self.every)
        names = self.names[: len(past)]
        return dict(zip(names, rng.sample(past, len(names)), strict=True))

    def load(self, name: str, update: int) -> None:
        """Put the copy that was taken at an update into a spare adapter. ValueError for a damaged copy."""
        check_choice("name", name, self.names)
        path, own = self.file(update), self._weights(name)
        try:
            with safe_open(path, "pt") as file:
                state, known = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
            check_that(known.get("sha256") == _digest(state), "file", "unaltered since it was written", path.name)
            check_that(state.keys() == own.keys(), "file", "of this model's adapter", sorted(state)[:3])
            with torch.no_grad():
                for key, parameter in own.items():
                    check_that(state[key].shape == parameter.shape, "file", f"of this shape at {key}", state[key])
                    parameter.copy_(state[key])
        except (OSError, SafetensorError, ValueError, RuntimeError) as error:
            raise ValueError(f"folder must hold whole copies: restore {path} or train again ({error})") from error


def _digest(state: dict[str, Tensor]) -> str:
    return hashlib.sha256(save(state)).hexdigest()
