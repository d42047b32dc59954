"""The agent buffer: past adapters of the policy, to meet as co-players (LLM paper, appendix on training)."""

from __future__ import annotations

from collections import deque
from random import Random

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

from aa_core.checks import check_unit_interval


class AgentBuffer:
    """Keeps copies of the active adapter, and lends them as frozen adapters of the same model.

    A sample is loaded into one of a few spare adapters, so the model never carries more than those.

    Args:
        model: with the adapter that is trained.
        every: updates between two copies; none is taken at update 0.
        capacity: copies kept; the oldest goes first.
        share: probability that a game's co-player is a past one.
        spare: how many different past agents may play in one batch.
    """

    def __init__(self, model: PeftModel, every: int = 10, capacity: int = 1000, share: float = 0.5, spare: int = 2):
        if every < 1 or capacity < 1 or spare < 1:
            raise ValueError(f"every, capacity and spare must be positive, got {every}, {capacity}, {spare}")
        check_unit_interval("share", share)
        self.model, self.every, self.share = model, every, share
        self.trained = model.active_adapter
        self.past: deque[dict[str, torch.Tensor]] = deque(maxlen=capacity)
        self.names = [f"past{index}" for index in range(spare)]
        for name in self.names:
            model.add_adapter(name, model.peft_config[self.trained])
        for name, parameter in model.named_parameters():
            if any(f".{past}." in name for past in self.names):
                parameter.requires_grad_(False)

    def update(self, step: int) -> None:
        """Copy the trained adapter if it is time."""
        if step > 0 and step % self.every == 0:
            state = get_peft_model_state_dict(self.model, adapter_name=self.trained)
            self.past.append({name: tensor.detach().cpu().clone() for name, tensor in state.items()})

    def draw(self, rng: Random) -> list[str]:
        """Load uniformly drawn past agents into the spare adapters; returns their names, none if there is no past."""
        if not self.past:
            return []
        names = self.names[: len(self.past)]
        for name, index in zip(names, rng.sample(range(len(self.past)), len(names)), strict=True):
            set_peft_model_state_dict(self.model, self.past[index], adapter_name=name)
        return names
