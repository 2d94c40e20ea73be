"""From sources to a library: once, whole, and never an error."""

import subprocess

import pytest
import torch

from crate_transformers.native import build
from crate_transformers.native.mssa import can_mix
from crate_transformers.objective import coding_rate


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    build.load.cache_clear()
    yield tmp_path / "crate_transformers"
    build.load.cache_clear()


@pytest.mark.compiler
def test_compiled_once_and_kept(own_cache, monkeypatch):
    assert build.load("coding_rate") is not None
    (stored,) = own_cache.iterdir()
    build.load.cache_clear()
    monkeypatch.setattr(subprocess, "run", None)  # the compiler is not called again
    assert build.load("coding_rate") is not None
    assert list(own_cache.iterdir()) == [stored]


@pytest.mark.compiler
def test_a_damaged_file_is_made_again(own_cache):
    assert build.load("coding_rate") is not None
    (stored,) = own_cache.iterdir()
    whole = stored.read_bytes()
    stored.unlink()
    stored.write_bytes(b"cut off")
    build.load.cache_clear()
    assert build.load("coding_rate") is not None
    assert stored.read_bytes() == whole


@pytest.mark.compiler
def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, own_cache):
    own_cache.write_text("a file where the folder should be")
    assert build.load("coding_rate") is not None


@pytest.mark.parametrize(("name", "value"), [("CXX", "no-such-compiler"), ("CXX", "false"), ("CRATE_NATIVE", "0")])
def test_without_a_library_torch_does_the_work(name, value, own_cache, monkeypatch):
    monkeypatch.setenv(name, value)
    assert build.load("mssa") is None
    assert build.load("coding_rate") is None
    assert not can_mix(torch.ones(3, 3, 5, 4))
    assert coding_rate(torch.zeros(5, 3)) == 0
    assert not own_cache.exists()
