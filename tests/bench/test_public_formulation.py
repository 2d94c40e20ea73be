"""The yardstick computes the same function as the library."""

import pytest
import torch
from reference import largest_difference
from zoo import build, images, vision_config

from crate_transformers import CrateForImageClassification
from crate_transformers.bench.public_formulation import from_library, public_coding_rate
from crate_transformers.objective import subspace_coding_rate


@pytest.mark.parametrize("batch", [1, 5])  # fewer tokens than the width, and more: both forms of the step
def test_same_logits_and_gradients_as_the_library(batch):
    config = vision_config(ista_step_size=0.2, ista_lambda=0.3)
    model = build(CrateForImageClassification, config)
    public, pixels = from_library(model), images(config, batch=batch)
    ours, theirs = model(pixels).logits, public(pixels)
    assert largest_difference(ours, theirs) <= 1e-5
    ours.square().sum().backward()
    theirs.square().sum().backward()
    assert largest_difference(model.crate.embeddings.cls_token.grad, public.cls_token.grad) <= 1e-4
    dictionary = model.crate.layers[0].sparsification.coding.dictionary
    assert largest_difference(dictionary.grad, public.layers[0].ista.weight.grad) <= 1e-4


def test_same_rates_as_the_library():
    tokens = torch.randn(2, 3, 17, 5, generator=torch.Generator().manual_seed(0))
    ours = subspace_coding_rate(tokens, epsilon=0.3, mode="official")
    assert torch.allclose(ours, public_coding_rate(tokens, epsilon=0.3), rtol=1e-4)


def test_copies_the_weights():
    model = build(CrateForImageClassification, vision_config())
    public = from_library(model)
    with torch.no_grad():
        public.cls_token.zero_()
    assert model.crate.embeddings.cls_token.abs().max() > 0
