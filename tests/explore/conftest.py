"""What the tests of the explorer share: services over the demonstration, and over small models of every kind."""

import pytest
import torch

from crate_transformers.explore.service import Service
from crate_transformers.explore.subjects import open_subjects


@pytest.fixture(scope="session")
def service():
    """The demonstration, beside itself untrained."""
    return Service(open_subjects("demo:fashion", "untrained"))


@pytest.fixture(scope="session")
def writer():
    """The language model of the demonstration."""
    return Service(open_subjects("demo:python", "untrained"))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
