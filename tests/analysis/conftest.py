"""Inputs for the small models."""

import pytest
import torch
from small_models import IMAGE


@pytest.fixture
def images():
    return torch.rand(4, 3, *IMAGE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def token_ids():
    return torch.randint(5, 97, (4, 13), generator=torch.Generator().manual_seed(1))
