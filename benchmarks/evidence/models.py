"""The models of the main table, all in one shell, and the rule by which a width is found for a number of parameters."""

import json
from functools import cache
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageClassification

from crate_transformers.recipes.families import FAMILIES
from crate_transformers.recipes.schema import Recipe

# fields of `crate_vision`, so that patches, positions, class token and head are the same for all
GRID: dict[str, dict[str, Any]] = {
    "CRATE": {},
    "CRATE-alpha": {
        "dictionary_ratio": 4,
        "ista_steps": 2,
        "tie_dictionary": False,
        "ista_residual": True,
        "attention_output_bias": False,
        "block_layer_norm_eps": 1e-6,
    },
    "CBT": {"compression": "cbsa", "representatives": [4, 4]},  # a third of the patches, as in the paper's 64 of 196
    "ToST": {"compression": "tssa", "sparsification": "mlp", "layer_scale": 1.0},
    "AoT": {"sparsification": "none"},
    "ViT": {"compression": "mhsa", "sparsification": "mlp"},
    "MSSA + MLP": {"sparsification": "mlp"},
    "MHSA + ISTA": {"compression": "mhsa"},
}
REFERENCE = "ViT"  # whose parameters and whose time the others are given

# rows of their own: other patches than those of the main table
SHELLS: dict[str, dict[str, Any]] = {
    "CRATE, normalised patches": {"patch_embedding": "normalized"},
    "ViT, normalised patches": {**GRID["ViT"], "patch_embedding": "normalized"},
    "CBT, published stem, patch 8": {"compression": "cbsa", "patch_embedding": "conv_stem", "patch_size": 8},
    "ToST as published, patch 8": {"family": "tost_vision", "patch_size": 8},
}

# language models by family of recipe; one shell of a causal language model each
LANGUAGE: dict[str, dict[str, Any]] = {
    "CRATE": {"family": "crate", "size": "gpt2-tiny"},
    "AoT": {"family": "crate", "size": "gpt2-tiny", "sparsification": "none", "final_layer_norm": True},
    "ToST": {"family": "tost", "size": "base"},
    "GPT-2": {"family": "gpt2", "size": "tiny"},
}
LANGUAGE_REFERENCE = "GPT-2"


def parameters_of(recipe: Recipe, **fields: Any) -> int:
    """The number of parameters of the model of a recipe with fields overridden, without making its weights."""
    return _count(recipe.family.name, recipe.model.get("size"), json.dumps({**recipe.model_fields, **fields}))


@cache
def _count(family: str, size: str | None, fields: str) -> int:
    config = FAMILIES[family].build_config(size, json.loads(fields))
    auto = AutoModelForImageClassification if hasattr(config, "image_size") else AutoModelForCausalLM
    with torch.device("meta"):
        return int(auto.from_config(config).num_parameters())


def width_for(recipe: Recipe, target: int, multiple: int, **fields: Any) -> int:
    """The width, a multiple of the heads, whose number of parameters is nearest to the target; the smaller of two."""
    width, best = multiple, multiple
    while True:
        count = parameters_of(recipe, hidden_size=width, **fields)
        if abs(count - target) < abs(parameters_of(recipe, hidden_size=best, **fields) - target):
            best = width
        if count > target:
            return best
        width += multiple


__all__ = ["GRID", "LANGUAGE", "LANGUAGE_REFERENCE", "REFERENCE", "SHELLS", "parameters_of", "width_for"]
