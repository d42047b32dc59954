from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from transformers import Qwen2ForCausalLM

from aa_core.llm.buffer import AgentBuffer


def weights(model: PeftModel, adapter: str) -> list[float]:
    """The value that `mark` gave to an adapter, in all its places."""
    state = get_peft_model_state_dict(model, adapter_name=adapter)
    return sorted({value for name, tensor in state.items() if "lora_B" in name for value in tensor.unique().tolist()})


def drawn(buffer: AgentBuffer, update: int, rng: Random) -> list[str]:
    """Names of spare adapters that past agents were put into."""
    for name, number in (past := buffer.draw(update, rng)).items():
        buffer.load(name, number)
    return [*past]


def mark(model: PeftModel, value: float) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B.default" in name:
                parameter.fill_(value)


def test_past_agents_lie_on_disk_and_are_drawn_without_repetition(
    model: Qwen2ForCausalLM, lora: LoraConfig, tmp_path: Path
) -> None:
    tuned = get_peft_model(model, lora)
    buffer = AgentBuffer(tuned, tmp_path / "agents", every=2, drawn=3)
    assert drawn(buffer, 1, Random(0)) == []
    for update in range(11):
        mark(tuned, float(update))
        buffer.keep(update)
    assert {path.name for path in buffer.folder.iterdir()} == {f"agent-{n}.safetensors" for n in (2, 4, 6, 8, 10)}
    assert drawn(buffer, 5, Random(0)) == ["past0", "past1"]  # updates 2 and 4, though later ones are there
    assert sorted(weights(tuned, "past0") + weights(tuned, "past1")) == [2.0, 4.0]

    seen, rng = set(), Random(1)
    for _ in range(30):
        met = [weights(tuned, name)[0] for name in drawn(buffer, 10, rng)]
        assert len(set(met)) == 3
        seen |= set(met)
    assert seen == {2.0, 4.0, 6.0, 8.0, 10.0}
    assert weights(tuned, "default") == [10.0]
    trained = {name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    assert all(".default." in name for name in trained)
    assert trained


def test_a_copy_is_the_adapter_bit_for_bit(model: Qwen2ForCausalLM, lora: LoraConfig, tmp_path: Path) -> None:
    tuned = get_peft_model(model, lora)
    buffer = AgentBuffer(tuned, tmp_path, every=1, drawn=1)
    buffer.keep(1)
    drawn(buffer, 1, Random(0))
    past, now = (get_peft_model_state_dict(tuned, adapter_name=name) for name in ("past0", "default"))
    assert all(torch.equal(past[name], tensor) for name, tensor in now.items())


@pytest.mark.parametrize("options", [{"every": 0}, {"drawn": 0}])
def test_bad_settings_are_refused(
    model: Qwen2ForCausalLM, lora: LoraConfig, tmp_path: Path, options: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be a positive integer"):
        AgentBuffer(get_peft_model(model, lora), tmp_path, **options)
