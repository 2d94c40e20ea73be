"""The tests' small models: their sizes, configurations, models and inputs.

A size is a prime that no other axis has, as far as the models allow: a width is a multiple of the heads in an
autoencoder and in the models of transformers, and a picture is a whole number of patches.
"""

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

# sizes
BATCH, TOKENS, VOCABULARY, WIDTH, HEADS, HEAD_DIM, LAYERS, LABELS = 2, 7, 101, 13, 3, 5, 2, 11
IMAGE, PATCH, GRID = (15, 35), (5, 7), (3, 5)  # height, width
PATCHES = GRID[0] * GRID[1]
LAYER = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "head_dim": HEAD_DIM, "num_hidden_layers": LAYERS}
TEXT = {
    **LAYER,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 37,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.5,  # so that tokens differ in what they predict
}
NEURONS = 53  # of a baseline
BASELINES = ("vit", "vit_mae", "bert", "gpt2")


# configurations
def encoder_config(**fields):
    return CrateConfig(**{**TEXT, **fields})


def decoder_config(size="gpt2-base", **fields):
    return CrateConfig.from_size(size, **{**TEXT, "bos_token_id": 3, "eos_token_id": 100, **fields})


SHELLS = {
    "encoder": encoder_config,
    "gpt": decoder_config,
    "overcomplete": lambda **fields: decoder_config("gpt2-overcomplete-base", **fields),
}


def vision_config(**fields):
    sizes = {"image_size": IMAGE, "patch_size": PATCH, "num_labels": LABELS, "num_channels": 3}
    return CrateVisionConfig(**{**sizes, **LAYER, **fields})


def mae_config(**fields):
    sizes = {"image_size": IMAGE, "patch_size": PATCH, "num_channels": 2}
    layer = {"hidden_size": 20, "num_attention_heads": 5, "num_hidden_layers": LAYERS, "decoder_num_attention_heads": 2}
    return CrateMAEConfig(**{**sizes, **layer, "decoder_num_hidden_layers": 3, **fields})


# models
def build(model_class, config, seed=0, **kwargs):
    """A model with seeded weights, in evaluation mode; `kwargs` are those of `_from_config`."""
    torch.manual_seed(seed)
    return model_class._from_config(config, **kwargs).eval() if kwargs else model_class(config).eval()


def vision_model(**fields):
    return build(CrateForImageClassification, vision_config(**fields))


def text_model(causal=False, **fields):
    if causal:
        return build(CrateForCausalLM, decoder_config(**fields))
    return build(CrateForMaskedLM, encoder_config(**fields))


def mae_model(**fields):
    return build(CrateMAEForPreTraining, mae_config(**fields))


def baseline(name):
    """A model of transformers: one of BASELINES."""
    width = HEADS * HEAD_DIM
    layer = {"hidden_size": width, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    layer["intermediate_size"] = NEURONS
    if name == "vit":
        return build(
            ViTForImageClassification, ViTConfig(**layer, image_size=IMAGE, patch_size=PATCH, num_labels=LABELS)
        )
    if name == "vit_mae":  # its pictures are square, its width is a multiple of 4
        layer["hidden_size"] = 36
        decoder = {"decoder_hidden_size": 24, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
        config = ViTMAEConfig(**layer, **decoder, decoder_intermediate_size=31, image_size=28, patch_size=7)
        return build(ViTMAEForPreTraining, config)
    if name == "bert":
        return build(BertModel, BertConfig(vocab_size=VOCABULARY, **layer))
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    sizes = {"n_embd": width, "n_layer": LAYERS, "n_head": HEADS, "n_inner": NEURONS}
    return build(GPT2LMHeadModel, GPT2Config(vocab_size=VOCABULARY, **sizes, **ends))


# inputs
def token_ids(batch=BATCH, length=TOKENS, seed=0):
    """Ids without the special ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, VOCABULARY - 1, (batch, length), generator=generator)


def images(config, batch=BATCH, size=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, config.num_channels, *(size or config.image_size), generator=generator)


# what is done with them
def gradients(model, **inputs):
    """The gradient of the loss by parameter name."""
    model.zero_grad()
    model(**inputs).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def enable_checkpointing(model):
    """Recompute activations in the backward pass, by the name that this version of transformers gives it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()
