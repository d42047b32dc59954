"""The agent buffer: past adapters of the policy, to meet as co-players (LLM paper, appendix on training)."""

from __future__ import annotations

from pathlib import Path
from random import Random

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from aa_core.checks import check, check_that
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

    def keep(self, update: int) -> None:
        """Copy the trained adapter if it is time."""
        path = self.file(update)
        if update > 0 and update % self.every == 0:
            state = get_peft_model_state_dict(self.model, adapter_name=self.trained)
            state = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
            write_whole(path, lambda partial: save_file(state, partial))

    def draw(self, update: int, rng: Random) -> list[str]:
        """Load uniformly drawn past agents into spare adapters; returns their names. ValueError for a damaged copy."""
        check(update=update, rng=rng)
        past = range(self.every, update + 1, self.every)
        names = self.names[: len(past)]
        for name, number in zip(names, rng.sample(past, len(names)), strict=True):
            path = self.file(number)
            try:
                state = load_file(path)
                own = get_peft_model_state_dict(self.model, adapter_name=name)
                check_that(state.keys() == own.keys(), "file", "of this model's adapter", sorted(state)[:3])
                set_peft_model_state_dict(self.model, state, adapter_name=name)
            except (OSError, SafetensorError, ValueError, RuntimeError) as error:
                raise ValueError(f"folder must hold whole copies: restore {path} or train again ({error})") from error
        return names
