"""One small model of every family and head: class, configuration, and inputs with which it gives a loss."""

import torch
from zoo import (
    BATCH,
    IMAGE,
    LABELS,
    LAYER,
    TOKENS,
    VOCABULARY,
    decoder_config,
    encoder_config,
    mae_config,
    vision_config,
)

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
)

OVERCOMPLETE = {"dictionary_ratio": 4, "ista_steps": 2, "tie_dictionary": False, "ista_residual": True}
STEM = {"patch_embedding": "conv_stem", "patch_size": 8, "image_size": 24, "representatives": (3, 3), "hidden_size": 16}
TOST = {key: value for key, value in LAYER.items() if key != "head_dim"} | {"hidden_size": 24}


def picture(device, size=IMAGE, channels=3):
    return {"pixel_values": torch.randn(BATCH, channels, *size, device=device)}


def classified(device, size=IMAGE):
    return {**picture(device, size), "labels": torch.zeros(BATCH, dtype=torch.long, device=device)}


def ids(device, *shape):
    return torch.ones(*(shape or (BATCH, TOKENS)), dtype=torch.long, device=device)


def padded(device, *shape):
    return {"input_ids": ids(device, *shape), "attention_mask": ids(device, *shape)}


def text(device):
    return {**padded(device), "labels": ids(device)}


def labelled(device):
    return {**padded(device), "labels": ids(device, BATCH)}


def answers(device):
    return {**padded(device), "start_positions": ids(device, BATCH), "end_positions": ids(device, BATCH)}


MODELS = {
    "crate, images": (CrateForImageClassification, vision_config, classified),
    "crate, mean of tokens": (CrateForImageClassification, lambda: vision_config(pool="mean"), classified),
    "alpha": (
        CrateForImageClassification,
        lambda: vision_config(patch_embedding="convolution", attention_output_bias=False, **OVERCOMPLETE),
        classified,
    ),
    "aot": (CrateForImageClassification, lambda: vision_config(sparsification="none"), classified),
    "vit's corner": (
        CrateForImageClassification,
        lambda: vision_config(compression="mhsa", sparsification="mlp"),
        classified,
    ),
    "cbt": (
        CrateForImageClassification,
        lambda: vision_config(compression="cbsa", **STEM),
        lambda device: classified(device, (24, 24)),
    ),
    "tssa": (CrateForImageClassification, lambda: vision_config(compression="tssa"), classified),
    "tost, images": (
        TostForImageClassification,
        lambda: TostVisionConfig(**TOST, image_size=24, patch_size=8, num_labels=LABELS),
        lambda device: classified(device, (24, 24)),
    ),
    "tost, text": (
        TostForCausalLM,
        lambda: TostConfig(**TOST, vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=1),
        text,
    ),
    "masked autoencoder": (CrateMAEForPreTraining, mae_config, lambda device: picture(device, IMAGE, 2)),
    "masked language model": (CrateForMaskedLM, encoder_config, text),
    "decoder": (CrateForCausalLM, decoder_config, text),
    "over-complete decoder": (CrateForCausalLM, lambda: decoder_config("gpt2-overcomplete-base"), text),
    "sequences": (CrateForSequenceClassification, lambda: encoder_config(num_labels=3), labelled),
    "sequences, decoder": (
        CrateForSequenceClassification,
        lambda: decoder_config(num_labels=3, pad_token_id=0),
        labelled,
    ),
    "tokens": (CrateForTokenClassification, lambda: encoder_config(num_labels=3), text),
    "choices": (
        CrateForMultipleChoice,
        encoder_config,
        lambda device: {**padded(device, BATCH, 3, TOKENS), "labels": ids(device, BATCH)},
    ),
    "questions": (CrateForQuestionAnswering, encoder_config, answers),
}
