"""Models small enough to build in every test; as far as the sizes allow, each axis has a prime of its own."""

import torch

from crate_transformers import CrateConfig, CrateMAEConfig, CrateVisionConfig

BATCH, TOKENS, VOCABULARY, WIDTH, HEADS, HEAD_DIM, LAYERS = 2, 7, 101, 13, 3, 5, 2
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "head_dim": HEAD_DIM,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 37,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.5,  # so that tokens differ in what they predict
}


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
    sizes = {"image_size": (15, 21), "patch_size": (5, 7), "num_labels": 11, "num_channels": 3}
    layer = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "head_dim": HEAD_DIM, "num_hidden_layers": LAYERS}
    return CrateVisionConfig(**{**sizes, **layer, **fields})


def mae_config(**fields):
    sizes = {"image_size": (15, 35), "patch_size": (5, 7), "num_channels": 2}
    layer = {"hidden_size": 20, "num_attention_heads": 5, "num_hidden_layers": 2, "decoder_num_attention_heads": 2}
    return CrateMAEConfig(**{**sizes, **layer, "decoder_num_hidden_layers": 3, **fields})


def build(model_class, config, seed=0, **kwargs):
    torch.manual_seed(seed)
    return model_class._from_config(config, **kwargs).eval() if kwargs else model_class(config).eval()


def token_ids(batch=BATCH, length=TOKENS, seed=0):
    """Ids without the special ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, VOCABULARY - 1, (batch, length), generator=generator)


def images(config, batch=BATCH, size=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, config.num_channels, *(size or config.image_size), generator=generator)


def gradients(model, **inputs):
    """The gradient of the loss by parameter name."""
    model.zero_grad()
    model(**inputs).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def enable_checkpointing(model):
    """Recompute activations in the backward pass, by the name that this version of transformers gives it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()
