"""The two layers are their equations: compress then sparsify, and the mirror image of it."""

import torch

from crate_transformers import CrateMAEConfig
from crate_transformers.layers import CrateDecoderLayer, CrateLayer

CONFIG = CrateMAEConfig(
    hidden_size=20,
    num_attention_heads=5,
    num_hidden_layers=1,
    decoder_num_attention_heads=2,
    image_size=8,
    patch_size=4,
)


def test_the_layer_compresses_with_a_residual_and_sparsifies_without():
    torch.manual_seed(0)
    layer, tokens = CrateLayer(CONFIG).eval(), torch.randn(2, 7, 20)
    compression, sparsification = layer.compression, layer.sparsification
    half = tokens + compression.attention(compression.norm(tokens))[0]
    torch.testing.assert_close(compression(tokens), half)
    torch.testing.assert_close(layer(tokens), sparsification.coding(sparsification.norm(half)))


def test_the_decoder_layer_is_antiparallel():
    torch.manual_seed(0)
    layer, tokens = CrateDecoderLayer(CONFIG).eval(), torch.randn(2, 7, 20)
    mapped = layer.linear.norm(tokens) @ layer.linear.weight.mT
    expansion = layer.expansion
    assert expansion.attention.num_heads == 2
    torch.testing.assert_close(layer(tokens), mapped - expansion.attention(expansion.norm(mapped))[0])
