from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, PreTrainedTokenizerFast, Qwen2ForCausalLM

from experiments import models, tiny


def test_missing_models_are_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="hub"):
        models.load("nobody/no-such-model")
    with pytest.raises(ValueError, match="hub"):
        models.load(tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="laptop"):
            models.check_gpu(80)


def test_adapters_are_found_again_and_name_no_folder(warm_folder: Path, tmp_path: Path, lora: LoraConfig) -> None:
    model, _ = models.load(warm_folder)
    tuned = get_peft_model(model, lora)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.5)
    ids = torch.arange(10)[None]
    expected = tuned.eval()(ids).logits
    models.save_adapter(tuned, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*models.SEALED, models.SEAL}
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert str(warm_folder) not in str(settings)
    assert settings["target_modules"] == sorted(settings["target_modules"])  # the same file whenever it is written
    loaded, _ = models.load(warm_folder, adapter=tmp_path)
    assert not any(p.requires_grad for p in loaded.parameters())
    torch.testing.assert_close(loaded.eval()(ids).logits, expected)


def test_what_looks_at_pictures_has_no_adapter() -> None:
    sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    words = dict(sizes, vocab_size=50, head_dim=8, num_key_value_heads=1)
    config = Gemma3Config(text_config=words, vision_config=dict(sizes, image_size=28, patch_size=14))
    with torch.device("meta"):
        model = Gemma3ForConditionalGeneration(config)
    tuned = get_peft_model(model, models.lora(model, 2))
    adapted = [name for name, _ in tuned.named_parameters() if "lora" in name]
    assert adapted
    assert all(".language_model." in name for name in adapted)


def test_adapters_that_do_not_fit_are_refused(
    warm_folder: Path, tmp_path: Path, lora: LoraConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    (tmp_path / "fits").mkdir()
    models.save_adapter(get_peft_model(models.load(warm_folder)[0], lora), tmp_path / "fits")
    other = tiny.untrained(tiny.WarmUp(hidden_size=16, layers=1, heads=1), tokenizer)
    other.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="does not fit"):
        models.load(tmp_path / "other", adapter=tmp_path / "fits")
    with pytest.raises(ValueError, match="adapter must be a folder"):
        models.load(warm_folder, adapter=tmp_path)


def test_adapters_that_are_cut_or_of_another_base_are_refused(
    warm_folder: Path, tmp_path: Path, lora: LoraConfig
) -> None:
    tuned = get_peft_model(models.load(warm_folder)[0], lora)
    tuned.add_adapter("spare", lora)
    models.save_adapter(tuned, tmp_path)
    second = models.add_adapter(models.load(warm_folder, adapter=tmp_path)[0], tmp_path, "second")
    assert sorted(second.peft_config) == ["default", "second"]
    models.add_adapter(models.load(warm_folder)[0].to(torch.bfloat16), tmp_path)  # a matter of precision only

    alike, _ = models.load(warm_folder)  # same shapes, other weights
    with torch.no_grad():
        alike.model.layers[0].mlp.up_proj.weight += 0.1
    with pytest.raises(ValueError, match="does not fit: it was trained on model qwen2-"):
        models.add_adapter(alike, tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-9], whole[:-1] + bytes([whole[-1] ^ 1])):
        weights.write_bytes(damaged)
        with pytest.raises(ValueError, match="cut or altered"):
            models.load(warm_folder, adapter=tmp_path)
    weights.write_bytes(whole)
    for damaged in (b"", b"\xff\xfe{", b"<<<<<<< HEAD\n{}\n", b"[]"):  # a seal that says nothing
        (tmp_path / models.SEAL).write_bytes(damaged)
        with pytest.raises(ValueError, match="cut or altered"):
            models.load(warm_folder, adapter=tmp_path)
    (tmp_path / models.SEAL).unlink()  # as PEFT itself saves
    models.load(warm_folder, adapter=tmp_path)
    for name, text in ((weights.name, whole[:-9]), (weights.name, b""), ("adapter_config.json", b"<<<<<<< HEAD\n{}")):
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(text)
        with pytest.raises(ValueError, match=f"adapter .*{tmp_path.name}.* does not fit; it must be whole"):
            models.load(warm_folder, adapter=tmp_path)
        (tmp_path / name).write_bytes(kept)


def test_models_live_on_the_accelerator(
    warm_folder: Path, tmp_path: Path, lora: LoraConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.save_adapter(get_peft_model(models.load(warm_folder)[0], lora), tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert models.device() == torch.device("cuda", 3)
    monkeypatch.setattr(models, "device", lambda: torch.device("meta"))  # stands for any that is not the CPU
    model, _ = models.load(warm_folder)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@torch.no_grad()
def test_rows_with_adapters_of_their_own_are_read_as_by_peft(model: Qwen2ForCausalLM, lora: LoraConfig) -> None:
    names = ["first", "second", "third"]
    tuned = get_peft_model(model, lora, adapter_name=names[0]).eval()
    for name in names[1:]:
        tuned.add_adapter(name, lora)
    disturb_all(tuned)
    ids = torch.randint(0, 50, (6, 7), generator=torch.Generator().manual_seed(0))
    mixed = ["second", "__base__", "first", "second", "third", "__base__"]
    cases = [mixed, ["third"] * 6, ["__base__"] * 6, ["__base__"] * 5 + ["first"]]
    slow = [tuned(ids, adapter_names=rows).logits for rows in cases]
    models.answer_in_one_product(tuned)
    for rows, expected in zip(cases, slow, strict=True):
        torch.testing.assert_close(tuned(ids, adapter_names=rows).logits, expected, atol=1e-5, rtol=1e-5)
    tuned.add_adapter("wider", LoraConfig(r=8, lora_alpha=9, target_modules="all-linear"))  # PEFT's own way
    disturb_all(tuned)
    alone = {name: tuned(ids, adapter_names=[name] * 6).logits for name in ("wider", "first")}
    both = tuned(ids, adapter_names=["wider", "first"] * 3).logits
    torch.testing.assert_close(both[0::2], alone["wider"][0::2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both[1::2], alone["first"][1::2], atol=1e-5, rtol=1e-5)


def disturb_all(model: PeftModel) -> None:
    source = torch.Generator().manual_seed(9)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_B" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=source)


@torch.no_grad()
def test_adapters_with_biases_or_on_fewer_layers_are_answered_by_peft(
    model: Qwen2ForCausalLM, lora: LoraConfig
) -> None:
    tuned = get_peft_model(model, lora, adapter_name="plain").eval()
    tuned.add_adapter("biased", LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], lora_bias=True))
    tuned.add_adapter("narrow", LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"]))
    disturb_all(tuned)
    ids = torch.randint(0, 50, (4, 5), generator=torch.Generator().manual_seed(0))
    cases = [["biased"] * 4, ["narrow"] * 4, ["plain", "narrow", "biased", "__base__"]]
    slow = [tuned(ids, adapter_names=rows).logits for rows in cases]
    models.answer_in_one_product(tuned)
    for rows, expected in zip(cases, slow, strict=True):
        torch.testing.assert_close(tuned(ids, adapter_names=rows).logits, expected, atol=1e-5, rtol=1e-5)
