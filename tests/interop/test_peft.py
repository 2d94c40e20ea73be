"""LoRA by PEFT: nothing is missed, nothing is silently not applied, and all merges."""

import sys
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from zoo import BATCH, LABELS, build, decoder_config, encoder_config, images, mae_config, token_ids, vision_config

from crate_transformers import (
    CrateForCausalLM,
    CrateForImageClassification,
    CrateForMaskedLM,
    CrateForMultipleChoice,
    CrateForQuestionAnswering,
    CrateForSequenceClassification,
    CrateForTokenClassification,
    CrateMAEForPreTraining,
    TostConfig,
    TostForCausalLM,
    TostForImageClassification,
    TostVisionConfig,
    crate_lora_config,
    fuse,
)
from crate_transformers.analysis import measure_layers
from crate_transformers.errors import UserError
from crate_transformers.ops.forms import use_forms

ALPHA = {"dictionary_ratio": 2, "ista_steps": 2, "tie_dictionary": False, "ista_residual": True}
TIED = {**ALPHA, "tie_dictionary": True}
SQUARE = {"image_size": 24, "patch_size": 8, "num_attention_heads": 3, "num_hidden_layers": 2, "hidden_size": 24}
TOST_TEXT = {"vocab_size": 101, "hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2}
ENDS = {"bos_token_id": 3, "eos_token_id": 100}


@dataclass(frozen=True)
class Case:
    model: Any  # its class
    config: Any  # makes one
    adapters: int  # pairs of A and B, with dictionaries


def _vision(**fields):
    return lambda: vision_config(**fields)


CASES = {
    "vision": Case(CrateForImageClassification, vision_config, 6),
    "vision, mean": Case(CrateForImageClassification, _vision(pool="mean"), 6),
    "alpha": Case(CrateForImageClassification, _vision(**ALPHA), 8),
    "tied dictionary": Case(CrateForImageClassification, _vision(**TIED), 6),
    "tied way back": Case(CrateForImageClassification, _vision(attention_output="tied"), 4),
    "no way back": Case(CrateForImageClassification, _vision(attention_output="none", hidden_size=15), 4),
    "vit": Case(CrateForImageClassification, _vision(compression="mhsa", sparsification="mlp"), 12),
    "hybrid": Case(
        CrateForImageClassification,
        lambda: vision_config(
            **SQUARE, compression=["cbsa", "tssa"], representatives=(3, 3), patch_embedding="conv_stem"
        ),
        6,
    ),
    "attention alone": Case(CrateForImageClassification, _vision(sparsification="none"), 4),
    "autoencoder": Case(CrateMAEForPreTraining, mae_config, 6 + 9),
    "encoder": Case(CrateForMaskedLM, encoder_config, 6),
    "decoder": Case(CrateForCausalLM, decoder_config, 6),
    "over-complete decoder": Case(CrateForCausalLM, lambda: decoder_config("gpt2-overcomplete-base"), 6),
    "mhsa decoder": Case(CrateForCausalLM, lambda: decoder_config(compression=["mssa", "mhsa"]), 8),
    "tost text": Case(TostForCausalLM, lambda: TostConfig(**TOST_TEXT, **ENDS), 8),
    "tost images": Case(
        TostForImageClassification, lambda: TostVisionConfig(**SQUARE, num_labels=LABELS, layer_scale=0.5), 8 + 8
    ),
}
DECODERS = [name for name in CASES if "decoder" in name or name == "tost text"]


def made(name):
    """A model whose LayerScales and steps hide nothing."""
    model = build(CASES[name].model, CASES[name].config())
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def inputs_of(model):
    config = model.config
    if config.model_type == "crate_mae":
        patches = config.num_patches
        noise = torch.rand(BATCH, patches, generator=torch.Generator().manual_seed(3))
        return {"pixel_values": images(config), "noise": noise}
    if hasattr(config, "vocab_size"):
        ids = token_ids()
        return {"input_ids": ids, "labels": ids}
    size = (24, 24) if config.image_size in (24, (24, 24)) else None
    return {"pixel_values": images(config, size=size), "labels": torch.arange(BATCH)}


def adapted(name, **options):
    model = made(name)
    config = crate_lora_config(model, rank=4, **{"dictionaries": name != "attention alone", **options})
    return get_peft_model(deepcopy(model), config), model


def wake(peft_model):
    """Adapters that do something: B starts at zero."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return peft_model


def largest_gap(a, b):
    return (a - b).abs().max().item()


@pytest.mark.parametrize("forms", ["equation", "torch", "all"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", CASES)
def test_every_adapter_counts_and_merges(name, attention, forms):
    peft_model, model = adapted(name)
    for part in (peft_model.get_base_model(), model):
        part.set_attn_implementation(attention)
    inputs = inputs_of(model)
    if forms == "equation":  # in float64 the algebra alone is left
        peft_model, model = peft_model.double(), model.double()
        inputs = {k: value.double() if value.is_floating_point() else value for k, value in inputs.items()}
    with use_forms(forms), torch.no_grad():
        before = model(**inputs).logits
        assert largest_gap(peft_model(**inputs).logits, before) <= 2e-6 * max(1, before.abs().max().item())
        rows = {part: weight for part, weight in peft_model.named_parameters() if "lora_B" in part}
        assert len(rows) == CASES[name].adapters
        generator = torch.Generator().manual_seed(4)
        for part, weight in rows.items():  # each alone
            weight.copy_(torch.randn(weight.shape, generator=generator))
            assert largest_gap(peft_model(**inputs).logits, before) > 1e-4, part
            weight.zero_()
    wake(peft_model)
    with use_forms(forms):
        outputs = peft_model(**inputs)
        outputs.loss.backward()
    trained = {part: weight.grad for part, weight in peft_model.named_parameters() if weight.requires_grad}
    assert [part for part, grad in trained.items() if grad is None or not grad.abs().max() > 0] == []
    frozen = [weight for weight in peft_model.parameters() if not weight.requires_grad]
    assert all(weight.grad is None for weight in frozen)
    merged = peft_model.merge_and_unload()
    assert type(merged) is type(model)
    with use_forms(forms), torch.no_grad():
        after = merged(**inputs).logits
    # in float32 the two models' sums are taken in other orders: as far from each other as each is from float64
    most = 1e-12 if forms == "equation" else 4e-6
    assert largest_gap(after, outputs.logits) <= most * max(1, after.abs().max().item())
    assert largest_gap(after, before) > 1e-2
    assert merged.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("name", CASES)
def test_merging_is_exact(name):
    peft_model, model = adapted(name)
    inputs = {key: value.double() if value.is_floating_point() else value for key, value in inputs_of(model).items()}
    wake(peft_model.double())
    with torch.no_grad():
        before = peft_model(**inputs).logits
        assert largest_gap(deepcopy(peft_model).merge_and_unload()(**inputs).logits, before) <= 1e-12
        # merged in float32, weights rounded on the way: what the merge alone changes
        merged = peft_model.float().merge_and_unload().double()
        assert largest_gap(merged(**inputs).logits, before) <= 1e-6 * max(1, before.abs().max().item())


@pytest.mark.parametrize("name", ["tied way back", "tied dictionary", "alpha"])
def test_merging_in_place_switching_off_and_two_adapters(name):
    peft_model, model = adapted(name)
    inputs = inputs_of(model)
    wake(peft_model)
    with torch.no_grad():
        first = peft_model(**inputs).logits
        peft_model.merge_adapter()
        assert largest_gap(peft_model(**inputs).logits, first) <= 2e-6
        peft_model.unmerge_adapter()
        with peft_model.disable_adapter():
            own_head = peft_model(**inputs).logits
        assert largest_gap(own_head, model(**inputs).logits) <= 2e-6
        peft_model.add_adapter("second", crate_lora_config(model, rank=3, dictionaries=True))
        peft_model.set_adapter("second")
        assert largest_gap(peft_model(**inputs).logits, own_head) <= 2e-6
        peft_model.set_adapter("default")
        assert largest_gap(peft_model(**inputs).logits, first) <= 2e-6


@pytest.mark.parametrize("name", DECODERS)
def test_generation_takes_the_adapters(name):
    """Also within the scope in which the matrices of the ISTA steps are kept, and with the cache."""
    peft_model, model = adapted(name)
    wake(peft_model)
    prompt = token_ids(length=3)
    options = {"max_new_tokens": 9, "do_sample": False, "pad_token_id": 100}
    without = model.generate(input_ids=prompt, **options)
    given = peft_model.generate(input_ids=prompt, **options)
    assert torch.equal(given, peft_model.generate(input_ids=prompt, use_cache=False, **options))
    assert torch.equal(given, deepcopy(peft_model).merge_and_unload().generate(input_ids=prompt, **options))
    assert given.shape != without.shape or not torch.equal(given, without)
    scores = [
        torch.stack(part.generate(input_ids=prompt, output_scores=True, return_dict_in_generate=True, **options).scores)
        for part in (peft_model, peft_model.merge_and_unload())
    ]
    assert largest_gap(*scores) <= 1e-5 * max(1, scores[0].abs().max().item())


@pytest.mark.parametrize("name", CASES)
def test_adapters_saved_alone(name, tmp_path):
    peft_model, model = adapted(name)
    wake(peft_model)
    inputs = inputs_of(model)
    model.save_pretrained(tmp_path / "base")
    peft_model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    again = PeftModel.from_pretrained(type(model).from_pretrained(tmp_path / "base"), tmp_path / "adapter").eval()
    with torch.no_grad():
        assert largest_gap(again(**inputs).logits, peft_model(**inputs).logits) == 0
    merged = again.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    loaded = type(model).from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        assert largest_gap(loaded(**inputs).logits, merged(**inputs).logits) == 0


def test_adapters_open_by_themselves(tmp_path):
    peft_model, model = adapted("decoder")
    model.save_pretrained(tmp_path / "base")
    peft_model = get_peft_model(
        CrateForCausalLM.from_pretrained(tmp_path / "base"), crate_lora_config(model, dictionaries=True)
    )
    wake(peft_model).eval().save_pretrained(tmp_path / "adapter")
    again = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.equal(again(input_ids=token_ids()).logits, peft_model(input_ids=token_ids()).logits)


HEADS = {
    CrateForSequenceClassification: ("SEQ_CLS", {"labels": torch.tensor([0, 1])}),
    CrateForTokenClassification: ("TOKEN_CLS", {"labels": torch.ones(BATCH, 7, dtype=torch.long)}),
    CrateForQuestionAnswering: (
        "QUESTION_ANS",
        {"start_positions": torch.tensor([0, 1]), "end_positions": torch.tensor([2, 3])},
    ),
    CrateForMultipleChoice: (None, {"labels": torch.tensor([0, 1])}),
}


@pytest.mark.parametrize("head", HEADS)
def test_heads_are_trained_with_the_adapters(head):
    model = build(head, encoder_config())
    config = crate_lora_config(model)
    assert config.task_type == HEADS[head][0]
    peft_model = get_peft_model(model, config)
    ids = token_ids()
    ids = torch.stack([ids, ids.flip(1)], dim=1) if head is CrateForMultipleChoice else ids
    peft_model(input_ids=ids, attention_mask=torch.ones_like(ids), **HEADS[head][1]).loss.backward()
    trained = {name for name, parameter in peft_model.named_parameters() if parameter.grad is not None}
    assert any(".modules_to_save.default." in name for name in trained)
    assert trained == {name for name, parameter in peft_model.named_parameters() if parameter.requires_grad}


def test_records_are_those_of_the_merged_model():
    for name in ("vision", "alpha", "tied dictionary", "vit", "hybrid"):
        peft_model, model = adapted(name)
        wake(peft_model)
        records = ("codes", "subspace_projections", "hidden_states")
        inputs = {**inputs_of(model), **{f"output_{record}": True for record in records}}
        with torch.no_grad():
            merged = deepcopy(peft_model).merge_and_unload()(**inputs)
            seen = peft_model(**inputs)
        for record in records:
            assert len(seen[record]) == len(merged[record])
            for one, other in zip(seen[record], merged[record], strict=True):
                assert largest_gap(one, other) <= 1e-5 * max(1, other.abs().max().item())


def test_recorders_from_before_the_adapters_are_refused():
    model = made("vision")
    inputs = {**inputs_of(model), "output_subspace_projections": True}
    model(**inputs)
    peft_model = wake(get_peft_model(model, crate_lora_config(model)))
    with pytest.raises(UserError, match="before it was given adapters.*newly loaded"):
        peft_model(**inputs)


def test_the_statistics_of_a_stem_are_saved(tmp_path):
    """They move in training, so adapters without them would not be the model that was trained."""
    peft_model, model = adapted("hybrid")
    inputs = inputs_of(model)
    model.save_pretrained(tmp_path / "base")
    peft_model.train()
    with torch.no_grad():
        for _ in range(5):
            peft_model(**inputs)
    peft_model.eval().save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    again = PeftModel.from_pretrained(type(model).from_pretrained(tmp_path / "base"), tmp_path / "adapter").eval()
    with torch.no_grad():
        assert largest_gap(again(**inputs).logits, peft_model(**inputs).logits) == 0
        assert largest_gap(again(**inputs).logits, model(**inputs).logits) > 1e-3


def test_dropout():
    peft_model, _ = adapted("vision", dictionaries=False, dropout=0.5)
    inputs = inputs_of(wake(peft_model))
    with torch.no_grad():
        still = peft_model.eval()(**inputs).logits
        moving = peft_model.train()(**inputs).logits
        assert largest_gap(still, moving) > 1e-3
        assert largest_gap(still, peft_model.eval().merge_and_unload()(**inputs).logits) <= 1e-6


def test_what_peft_adapts_by_itself():
    peft_model = get_peft_model(made("vision"), LoraConfig(r=2))
    adapted_parts = {name.split(".lora_A")[0] for name, _ in peft_model.named_parameters() if ".lora_A" in name}
    assert {name.split("layers.0.")[-1] for name in adapted_parts if "layers.0." in name} == {
        "compression.attention.subspaces",
        "compression.attention.output",
    }


def test_all_linear_on_an_mlp_is_refused_and_says_why():
    """An addition after gelu would train, and be lost in the merge."""
    for name in ("vit", "tost images"):
        model = made(name)
        peft_model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
        with pytest.raises(UserError, match="after its gelu.*target_parameters"):
            peft_model(**inputs_of(model))


def test_tied_weights_carry_lora_alone():
    model = made("tied way back")
    config = crate_lora_config(model, use_dora=True)
    with pytest.raises(UserError, match="plain LoRA alone"):
        get_peft_model(model, config)(**inputs_of(model))


def test_what_reads_stored_weights_refuses_adapters():
    peft_model, model = adapted("vision")
    inner = peft_model.get_base_model()
    for deed in (
        lambda: fuse(inner),
        lambda: measure_layers(peft_model, images(model.config)),
        lambda: crate_lora_config(inner),
    ):
        with pytest.raises(UserError, match="merge them first"):
            deed()
    measure_layers(peft_model.merge_and_unload(), images(model.config))


def test_refusals(monkeypatch):
    model = made("vision")
    for options, reason in (
        ({"rank": 0}, "rank must be at least 1"),
        ({"alpha": 0}, "alpha positive"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\)"),
        ({"dropout": 0.1, "dictionaries": True}, "no dropout for parameters .coding.dictionary.: set dropout=0"),
    ):
        with pytest.raises(UserError, match=reason):
            crate_lora_config(model, **options)
    with pytest.raises(UserError, match="no dictionary and no MLP: leave dictionaries out"):
        crate_lora_config(made("attention alone"), dictionaries=True)
    with pytest.raises(UserError, match="takes a CRATE model, got Linear"):
        crate_lora_config(torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match="a fused model is closed"):
        crate_lora_config(fuse(model))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"pip install 'crate-transformers\[peft\]'"):
        crate_lora_config(model)


def test_options_reach_peft():
    config = crate_lora_config(made("vision"), rank=3, modules_to_save=["norm"], use_rslora=True)
    assert (config.r, config.lora_alpha, config.modules_to_save, config.use_rslora) == (3, 6, ["norm"], True)
