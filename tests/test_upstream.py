"""What the library stands on in transformers is there, in the version that is installed, and one file imports it."""

import re
from pathlib import Path

import pytest
import torch
import transformers
from transformers import DynamicCache
from zoo import SHELLS, build, encoder_config, images, mae_config, token_ids, vision_config

import crate_transformers
from crate_transformers import (
    CrateForCausalLM,
    CrateForImageClassification,
    CrateForMaskedLM,
    CrateForMultipleChoice,
    CrateForQuestionAnswering,
    CrateForSequenceClassification,
    CrateForTokenClassification,
    CrateMAEForPreTraining,
    CrateMAEModel,
    CrateModel,
    CrateVisionModel,
    upstream,
)

SOURCES = Path(crate_transformers.__file__).parent
TEXT_HEADS = (
    CrateModel,
    CrateForMaskedLM,
    CrateForSequenceClassification,
    CrateForTokenClassification,
    CrateForQuestionAnswering,
)
MODELS = {
    **{kind.__name__: (kind, encoder_config, lambda _: {"input_ids": token_ids()}) for kind in TEXT_HEADS},
    "CrateForMultipleChoice": (
        CrateForMultipleChoice,
        encoder_config,
        lambda _: {"input_ids": token_ids(6).view(2, 3, -1)},
    ),
    "CrateForCausalLM": (CrateForCausalLM, SHELLS["gpt"], lambda _: {"input_ids": token_ids()}),
    "CrateVisionModel": (CrateVisionModel, vision_config, lambda config: {"pixel_values": images(config)}),
    "CrateForImageClassification": (
        CrateForImageClassification,
        vision_config,
        lambda config: {"pixel_values": images(config)},
    ),
    "CrateMAEModel": (CrateMAEModel, mae_config, lambda config: {"pixel_values": images(config)}),
    "CrateMAEForPreTraining": (CrateMAEForPreTraining, mae_config, lambda config: {"pixel_values": images(config)}),
}


@pytest.fixture(params=MODELS)
def model_and_inputs(request):
    kind, make_config, inputs = MODELS[request.param]
    config = make_config()
    return build(kind, config), inputs(config)


def test_every_name_is_where_it_was_seen():
    for name in upstream.SEEN:
        assert getattr(upstream, name) is not None


def test_every_method_that_is_overridden_is_called_by_that_name():
    package = Path(transformers.__file__).parent
    files = [path for folder in (".", "generation", "utils") for path in (package / folder).glob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    for kind, names in upstream.OVERRIDDEN.items():
        for name in names:
            assert hasattr(getattr(transformers, kind), name), f"{kind} has no {name} any more"
            assert len(re.findall(rf"\b{name}\b", text)) >= 2, f"transformers does not use {name} any more"


def test_no_other_file_reaches_into_transformers():
    pattern = re.compile(r"^\s*(from transformers\.|import transformers\.)", re.MULTILINE)
    found = [path.name for path in SOURCES.rglob("*.py") if pattern.search(path.read_text(encoding="utf-8"))]
    assert found == ["upstream.py"]


def test_static_readers_know_the_same_names():
    text = (SOURCES / "upstream.py").read_text(encoding="utf-8")
    block = text[text.index("if TYPE_CHECKING:") : text.index("_BOTH =")]
    assert set(re.findall(r"\bas (\w+)", block)) | {"transformers_logging"} == set(upstream.SEEN)  # that is a module


@pytest.mark.parametrize("first", ["transformers.modeling_layers", "transformers.models.llama.modeling_llama"])
def test_parts_of_transformers_can_be_imported_in_any_order(first):
    import subprocess
    import sys

    code = f"import crate_transformers, {first}; from transformers import AutoModelForImageClassification as A; " + (
        "from crate_transformers import CrateVisionConfig as C; assert C in A._model_mapping"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@torch.no_grad()
def test_a_keyword_that_is_not_known_is_refused_by_name(model_and_inputs):
    model, inputs = model_and_inputs
    with pytest.raises(ValueError, match="does not know the keyword 'cash'"):
        model(**inputs, cash=None)
    with pytest.raises(ValueError, match="'output_hidden_state'; did you mean 'output_hidden_states'"):
        model(**inputs, output_hidden_state=True)
    model(**inputs, output_hidden_states=True, output_attentions=False, return_dict=True, num_items_in_batch=None)


@torch.no_grad()
def test_an_image_model_knows_no_cache():
    config = vision_config()
    with pytest.raises(ValueError, match="'cache'"):
        build(CrateForImageClassification, config)(images(config), cache=DynamicCache())


@torch.no_grad()
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_the_cache_by_either_name(shell, name):
    model, ids = build(CrateForCausalLM, SHELLS[shell](pad_token_id=1)), token_ids()
    expected, cache = model(ids, use_cache=False).logits, DynamicCache(config=model.config)
    parts = [model(part, use_cache=True, **{name: cache}) for part in ids.split([4, 1, 2], dim=1)]
    torch.testing.assert_close(torch.cat([part.logits for part in parts], dim=1), expected)
    assert all(part[upstream.CACHE] is cache for part in parts)
    assert cache.get_seq_length() == ids.shape[1]
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": 101, "pad_token_id": 1}
    first = model.generate(ids, **options)
    given = model.generate(ids, **options, **{name: DynamicCache(config=model.config)})
    assert torch.equal(given, first)


@torch.no_grad()
def test_a_cache_that_cannot_be_meant():
    decoder, encoder = build(CrateForCausalLM, SHELLS["gpt"]()), build(CrateForMaskedLM, encoder_config())
    with pytest.raises(ValueError, match="came twice"):
        decoder(token_ids(), cache=DynamicCache(), past_key_values=DynamicCache())
    with pytest.raises(ValueError, match="one of transformers'.*got tuple"):
        decoder(token_ids(), past_key_values=((torch.zeros(1), torch.zeros(1)),))
    with pytest.raises(ValueError, match="is an encoder"):
        encoder(token_ids(), past_key_values=DynamicCache())


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["sdpa", "mssa", "torch_sdpa"])
def test_attention_is_given_whenever_it_is_asked_for(model_and_inputs, implementation, caplog):
    model, inputs = model_and_inputs
    if isinstance(model, CrateMAEForPreTraining):
        inputs = {**inputs, "output_decoder_attentions": True, "mask_ratio": 0.0}
    model.set_attn_implementation("eager")
    expected = model(**inputs, output_attentions=True)
    model.set_attn_implementation(implementation)
    given = model(**inputs, output_attentions=True)
    for name in ("attentions", "decoder_attentions"):
        if expected.get(name) is not None:
            assert len(given[name]) == len(expected[name]) > 0
            for ours, theirs in zip(given[name], expected[name], strict=True):
                torch.testing.assert_close(ours, theirs)
    assert model.config._attn_implementation == implementation


@torch.no_grad()
@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_attention_of_padded_decoders(padding):
    model, ids = build(CrateForCausalLM, SHELLS["gpt"](pad_token_id=1)), token_ids()
    mask = torch.ones_like(ids)
    if padding != "none":
        mask[1, slice(0, 2) if padding == "left" else slice(5, 7)] = 0
    given = model(ids, attention_mask=mask, output_attentions=True)
    model.set_attn_implementation("eager")
    expected = model(ids, attention_mask=mask, output_attentions=True)
    for ours, theirs in zip(given.attentions, expected.attentions, strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(given.logits[mask.bool()], expected.logits[mask.bool()])
