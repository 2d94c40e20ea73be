"""Configurations: the published sizes, the derived fields, a round trip, and errors that say what to change."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from crate_transformers import (
    CrateConfig,
    CrateForCausalLM,
    CrateMAEConfig,
    CrateVisionConfig,
    CrateVisionModel,
)
from crate_transformers.configuration import SIZES, heads_of_width
from crate_transformers.errors import UserError


@pytest.mark.parametrize("config_class", [CrateVisionConfig, CrateMAEConfig])
@pytest.mark.parametrize("size", SIZES)
def test_sizes_and_overrides(config_class, size):
    config = config_class.from_size(size, image_size=(32, 48), patch_size=(8, 16), ista_lambda=0.7)
    assert (config.hidden_size, config.num_hidden_layers) == (
        SIZES[size]["hidden_size"],
        SIZES[size]["num_hidden_layers"],
    )
    assert config.head_dim * config.num_attention_heads == config.hidden_size
    assert (config.patch_grid, config.num_patches, config.ista_lambda) == ((4, 3), 12, 0.7)
    assert heads_of_width(config.hidden_size) == config.num_attention_heads


def test_the_text_shells_differ_by_fields():
    encoder, decoder = CrateConfig.from_size("bert-base"), CrateConfig.from_size("gpt2-base")
    assert (encoder.position_offset, encoder.max_sequence_length, encoder.is_decoder) == (2, 510, False)
    assert (decoder.position_offset, decoder.max_sequence_length, decoder.is_decoder) == (0, 1024, True)
    overcomplete = CrateConfig.from_size("gpt2-overcomplete-base")
    assert (overcomplete.dictionary_ratio, overcomplete.ista_steps, overcomplete.final_layer_norm) == (4, 2, True)


@pytest.mark.parametrize(
    "config",
    [
        CrateConfig.from_size("gpt2-overcomplete-tiny", vocab_size=11, bos_token_id=3, eos_token_id=[4, 5]),
        CrateVisionConfig.from_size("tiny", image_size=(14, 21), patch_size=7, num_labels=3, pool="mean"),
        CrateMAEConfig.from_size("tiny", decoder_num_hidden_layers=2, norm_pix_loss=True),
    ],
)
def test_a_saved_configuration_comes_back(config, tmp_path):
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is type(config)
    assert loaded.to_diff_dict() == config.to_diff_dict()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CrateVisionConfig(hidden_size=50, num_attention_heads=12), r"hidden_size \(50\).*num_attention_heads"),
        (lambda: CrateVisionConfig(image_size=30, patch_size=16), "height 30 is not a multiple of the patch height 16"),
        (lambda: CrateVisionConfig(image_size=(32, 30)), "width 30"),
        (lambda: CrateVisionConfig(ista_step_size=0.0), "ista_step_size"),
        (lambda: CrateVisionConfig(ista_lambda=-0.1), "ista_lambda"),
        (lambda: CrateVisionConfig(ista_lambda=float("nan")), "ista_lambda"),
        (lambda: CrateVisionConfig(tie_dictionary=False), "dictionary_ratio"),
        (lambda: CrateVisionConfig(hidden_dropout_prob=1.5), "hidden_dropout_prob"),
        (lambda: CrateVisionConfig.from_size("huge"), "tiny, small, base, large"),
        (lambda: CrateMAEConfig(mask_ratio=1.0), "mask_ratio"),
        (lambda: CrateMAEConfig(image_size=32, patch_size=16, mask_ratio=0.9), "leaves none of the 4 patches"),
        (lambda: CrateMAEConfig(hidden_size=18, num_attention_heads=3), "multiple of 4"),
        (lambda: CrateMAEConfig(decoder_num_attention_heads=7), "decoder_num_attention_heads"),
        (lambda: CrateConfig(max_position_embeddings=2), "leaves no position"),
        (lambda: CrateConfig(vocab_size=0), "vocab_size"),
        (lambda: CrateConfig.from_size("base"), "SHELL-SIZE"),
        (lambda: CrateConfig(vocab_size=7, pad_token_id=7), "pad_token_id must be of the vocabulary, from 0 to 6"),
        (lambda: CrateConfig(initializer_range=-0.1), "initializer_range"),
        (lambda: CrateConfig(layer_norm_eps=float("nan")), "layer_norm_eps must be positive"),
        (lambda: CrateVisionConfig(block_layer_norm_eps=float("inf")), "block_layer_norm_eps must be .*finite"),
        (lambda: CrateMAEConfig(initializer_range=float("nan")), "initializer_range must be a finite number"),
        (lambda: CrateVisionConfig(num_labels=-1), "num_labels must be a whole number from 0"),
        (lambda: CrateVisionConfig(num_labels="3"), "num_labels must be a whole number"),
        (lambda: CrateVisionConfig(num_labels=True), "num_labels must be a whole number"),
    ],
)
def test_what_does_not_fit_is_an_error(build, message):
    with pytest.raises(UserError, match=message):
        build()


@pytest.mark.parametrize(
    ("field", "value"),
    [("id2label", ["cat"]), ("id2label", {"cat": 0}), ("label2id", 7), ("problem_type", "zz"), ("pool", 5)],
)
def test_a_value_of_the_wrong_type_names_its_field(field, value):
    with pytest.raises((UserError, StrictDataclassError), match=field):  # versions of transformers check more or less
        CrateVisionConfig(**{field: value})


@pytest.mark.parametrize(
    ("config_class", "fields", "message"),
    [
        (CrateVisionConfig, {"num_hidden_layers": 10**8}, "100000000 layers: at most 10,000"),
        (CrateMAEConfig, {"decoder_num_hidden_layers": 10**9}, "1000000012 layers: at most 10,000"),
        (CrateConfig, {"num_hidden_layers": 10**9}, "1000000000 layers"),
        (CrateVisionConfig, {"hidden_size": 12 * 10**9}, "more than .* parameters: hidden_size 12000000000"),
        (CrateVisionConfig, {"hidden_size": 12 * 10**300}, "more than .* parameters"),
        (CrateVisionConfig, {"head_dim": 10**12}, "more than .* parameters: .*heads x head_dim 12000000000000"),
        (CrateVisionConfig, {"image_size": 16 * 10**6}, "more than .* parameters: .*patches 1000000000000"),
        (CrateVisionConfig, {"num_channels": 10**12}, "more than .* parameters"),
        (CrateVisionConfig, {"dictionary_ratio": 10**9}, "more than .* parameters"),
        (CrateVisionConfig, {"num_labels": 10**9}, "num_labels must be a whole number from 0 to 10,000,000"),
        (CrateVisionConfig, {"ista_steps": 10**9}, "ista_steps must be at most 10,000"),
        (CrateConfig, {"vocab_size": 10**12}, "more than .* parameters: .*vocab_size 1000000000000"),
        (CrateConfig, {"max_position_embeddings": 10**12}, "more than .* parameters"),
        (CrateConfig, {"type_vocab_size": 10**12}, "more than .* parameters"),
    ],
)
def test_sizes_beyond_any_model_are_refused_at_once(config_class, fields, message):
    with pytest.raises(UserError, match=message):
        config_class(**fields)


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        # 1.5e10 parameters: wider and deeper than any published CRATE, an over-complete dictionary decoded by another
        (
            CrateVisionModel,
            CrateVisionConfig(
                hidden_size=8192, num_hidden_layers=24, num_attention_heads=64, dictionary_ratio=4, tie_dictionary=False
            ),
        ),
        (CrateForCausalLM, CrateConfig.from_size("gpt2-large", hidden_size=16384, head_dim=256, vocab_size=256_000)),
    ],
)
def test_sizes_of_research_can_be_built_without_memory(model_class, config):
    with torch.device("meta"):
        model = model_class(config)
    assert model.num_parameters() > 1e10
