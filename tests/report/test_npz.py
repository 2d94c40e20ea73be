"""Arrays written row by row: what numpy reads back, in bounded memory, whole or not at all."""

import tracemalloc

import numpy as np
import pytest

from crate_transformers.report.npz import NpzStream


def test_what_is_read_back(tmp_path):
    parts = [np.arange(6, dtype=np.float16).reshape(2, 3, 1), np.full((1, 3, 1), 9, dtype=np.float16)]
    with NpzStream(tmp_path / "deep" / "a.npz") as stream:
        for part, names in zip(parts, (["ä", "b\nc"], ["long name"]), strict=True):
            stream.add("x", part)
            stream.add("n", np.arange(len(part)))
            stream.add_texts("names", names)
        stream.put("header", np.asarray('{"a": 1}'))
        assert stream.shapes() == {"x": (3, 3, 1), "n": (3,)}
    with np.load(tmp_path / "deep" / "a.npz") as file:
        content = dict(file)
    assert sorted(content) == ["header", "n", "names", "x"]
    assert content["x"].dtype == np.float16
    assert np.array_equal(content["x"], np.concatenate(parts))
    assert content["names"].tolist() == ["ä", "b\nc", "long name"]
    assert str(content["header"]) == '{"a": 1}'
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.npz"]


def test_equal_arrays_make_equal_files(tmp_path):
    for name in ("a.npz", "b.npz"):
        with NpzStream(tmp_path / name) as stream:
            stream.add("x", np.ones((2, 3)))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_an_error_leaves_what_was_there(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"before")

    def write():
        with NpzStream(tmp_path / "a.npz") as stream:
            stream.add("x", np.ones((2, 3)))
            stream.add("x", np.ones((2, 4)))

    with pytest.raises(ValueError, match=r"x: rows of shape \(4,\).*after rows of shape \(3,\)"):
        write()
    assert (tmp_path / "a.npz").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


def test_memory_does_not_grow_with_the_rows(tmp_path):
    peaks = []
    for batches in (5, 200):
        tracemalloc.start()
        with NpzStream(tmp_path / "a.npz") as stream:
            for i in range(batches):
                stream.add("x", np.full((16, 1000), i, dtype=np.float64))  # 128 kB
                stream.add_texts("names", [f"{i} {j}" for j in range(16)])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (tmp_path / "a.npz").stat().st_size > 25_000_000
    assert peaks[1] < peaks[0] + 5_000_000, peaks  # pieces of 4 MB are copied
