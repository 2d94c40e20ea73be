"""Small models of every architecture; where it allows, each axis has a size of its own."""

import torch
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    ViTConfig,
    ViTForImageClassification,
    ViTMAEConfig,
    ViTMAEForPreTraining,
)

from crate_transformers import (
    CrateConfig,
    CrateForCausalLM,
    CrateForImageClassification,
    CrateForMaskedLM,
    CrateMAEConfig,
    CrateMAEForPreTraining,
    CrateVisionConfig,
)

IMAGE, PATCH, GRID = (21, 35), 7, (3, 5)  # 15 patches


def vision_model(**fields):
    torch.manual_seed(0)
    config = {
        "hidden_size": 33,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "head_dim": 11,
        "image_size": IMAGE,
        "patch_size": PATCH,
        "num_labels": 5,
    }
    return CrateForImageClassification(CrateVisionConfig(**{**config, **fields})).eval()


def text_model(causal=False, **fields):
    torch.manual_seed(0)
    config = {"vocab_size": 97, "hidden_size": 33, "num_hidden_layers": 2, "num_attention_heads": 3, "head_dim": 11}
    if causal:
        return CrateForCausalLM(CrateConfig.from_size("gpt2-base", **{**config, **fields})).eval()
    return CrateForMaskedLM(CrateConfig(**{**config, **fields})).eval()


def mae_model():
    torch.manual_seed(0)
    config = CrateMAEConfig(
        hidden_size=44,
        num_hidden_layers=2,
        num_attention_heads=4,
        decoder_num_hidden_layers=3,
        decoder_num_attention_heads=2,
        image_size=IMAGE,
        patch_size=PATCH,
    )
    return CrateMAEForPreTraining(config).eval()


def baseline(name):
    torch.manual_seed(0)
    size = {"hidden_size": 33, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 53}
    if name == "vit":
        return ViTForImageClassification(ViTConfig(**size, image_size=IMAGE, patch_size=PATCH, num_labels=5)).eval()
    if name == "vit_mae":
        size["hidden_size"] = 36
        decoder = {"decoder_hidden_size": 24, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
        config = ViTMAEConfig(**size, **decoder, decoder_intermediate_size=31, image_size=28, patch_size=7)
        return ViTMAEForPreTraining(config).eval()
    if name == "bert":
        return BertModel(BertConfig(vocab_size=97, **size)).eval()
    config = GPT2Config(vocab_size=97, n_embd=33, n_layer=2, n_head=3, n_inner=53, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config).eval()
