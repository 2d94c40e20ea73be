"""Inputs for the small models."""

import pytest
import torch
import zoo

BATCH, TOKENS = 4, 17


@pytest.fixture
def images():
    return torch.rand(BATCH, 3, *zoo.IMAGE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def token_ids():
    return zoo.token_ids(BATCH, TOKENS, seed=1)
