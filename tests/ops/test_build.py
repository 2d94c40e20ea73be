"""From sources to a library: once, whole, and never an error."""

import subprocess

import pytest
import torch

from crate_transformers.objective import coding_rate, subspace_coding_rate
from crate_transformers.ops.coding_rate import cpu as rate
from crate_transformers.ops.mssa.cpu import can_mix, is_built, mssa
from crate_transformers.ops.native import build


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    build.load.cache_clear()
    yield tmp_path / "crate_transformers"
    build.load.cache_clear()


@pytest.mark.compiler
def test_compiled_once_and_kept(own_cache, monkeypatch):
    assert rate._is_built()
    (stored,) = own_cache.iterdir()
    build.load.cache_clear()
    monkeypatch.setattr(subprocess, "run", None)  # the compiler is not called again
    assert rate._is_built()
    assert list(own_cache.iterdir()) == [stored]


@pytest.mark.compiler
@pytest.mark.parametrize(
    "damage", [lambda whole: b"cut off", lambda whole: whole[: len(whole) // 2], lambda whole: b""]
)
def test_a_damaged_file_is_made_again(own_cache, damage):
    assert rate._is_built()
    (stored,) = own_cache.iterdir()
    whole = stored.read_bytes()
    stored.unlink()  # not written over: this process has it mapped
    stored.write_bytes(damage(whole))
    build.load.cache_clear()
    assert rate._is_built()
    (again,) = own_cache.iterdir()
    assert build._digest(again.read_bytes()) in again.name


@pytest.mark.compiler
def test_a_library_without_its_functions_is_made_again(own_cache, tmp_path):
    assert rate._is_built()
    (stored,) = own_cache.iterdir()
    empty = tmp_path / "empty.cpp"
    empty.write_text("")
    subprocess.run([*build._compiler(), "-shared", "-fPIC", str(empty), "-o", str(tmp_path / "empty.so")], check=True)
    content = (tmp_path / "empty.so").read_bytes()
    stored.unlink()
    (own_cache / f"{stored.stem.rpartition('-')[0]}-{build._digest(content)}.so").write_bytes(content)
    build.load.cache_clear()
    assert rate._is_built()


@pytest.mark.compiler
def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, own_cache):
    own_cache.write_text("a file where the folder should be")
    assert rate._is_built()


@pytest.mark.compiler
def test_a_user_without_a_home(tmp_path, monkeypatch, own_cache):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(build.Path, "home", no_home)
    monkeypatch.setattr(build, "gettempdir", lambda: str(tmp_path))
    assert rate._is_built()
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.iterdir())) == 1
    folder.chmod(0o777)  # somebody else may have written there
    assert build.cache_folder() is None
    build.load.cache_clear()
    assert rate._is_built()


def test_a_full_temporary_folder(own_cache, monkeypatch):
    def full(**_):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(build, "TemporaryDirectory", full)
    assert not is_built()
    assert not can_mix(torch.ones(3, 3, 5, 4))


@pytest.mark.parametrize("shape", [(1, 1, 2, 1), (2, 3, 5, 1), (1, 2, 1, 1)])
def test_heads_of_one_feature_in_any_order_in_memory(shape):
    w = torch.randn(*reversed(shape)).permute(3, 2, 1, 0)
    exact = torch.softmax(w @ w.mT, dim=-1) @ w
    if can_mix(w):
        torch.testing.assert_close(mssa(w, 1.0, False)[0], exact.transpose(1, 2))
    torch.testing.assert_close(subspace_coding_rate(w), subspace_coding_rate(w.contiguous().clone()))


@pytest.mark.parametrize(("name", "value"), [("CXX", "no-such-compiler"), ("CXX", "false")])
def test_without_a_library_torch_does_the_work(name, value, own_cache, monkeypatch):
    monkeypatch.setenv(name, value)
    assert not is_built()
    assert not rate._is_built()
    assert not can_mix(torch.ones(3, 3, 5, 4))
    assert coding_rate(torch.zeros(5, 3)) == 0
    assert not own_cache.exists()
