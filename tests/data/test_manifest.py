"""The kept manifest of a folder of pictures: one scan by one process, resumed, noticed when it is out of date."""

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from data_folders import two_classes

from crate_transformers.data import load_image_source
from crate_transformers.data.images import checking, folders, manifest
from crate_transformers.data.images.labelled import _split
from crate_transformers.errors import UserError


def kept_folder(place):
    (folder,) = (path for path in place.iterdir() if path.is_dir())
    return folder


def names(images):
    return [images.name(i) for i in range(len(images))]


@pytest.fixture
def opened(monkeypatch):
    """The names of the files that were decoded."""
    seen = []
    load = folders.load_image
    monkeypatch.setattr(folders, "load_image", lambda path, *more: seen.append(os.path.basename(path)) or load(path))
    return seen


def test_the_second_start_decodes_nothing(tmp_path, opened):
    source = two_classes(tmp_path / "data")
    plain = load_image_source(source)
    opened.clear()
    first = load_image_source(source, manifest_dir=tmp_path / "kept")
    assert len(opened) == 24
    opened.clear()
    second = load_image_source(source, manifest_dir=tmp_path / "kept")
    assert opened == []
    for part in ("train", "validation", "test"):
        own = [getattr(splits, part) for splits in (plain, first, second)]
        assert names(own[0]) == names(own[1]) == names(own[2])
        assert (own[0].labels == own[2].labels).all()
    assert not second.notes


def test_a_small_folder_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_image_source(two_classes(tmp_path / "data"))
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(manifest, "_SMALL", (23, 1 << 30))
    load_image_source(f"imagefolder:{tmp_path / 'data'}")
    assert kept_folder(tmp_path / "cache" / "crate_transformers" / "manifests").name.startswith("data-")


@pytest.mark.parametrize("change", ["added", "removed", "rewritten"])
def test_a_changed_folder_is_noticed(change, tmp_path, opened, monkeypatch):
    monkeypatch.setattr(manifest, "_BLOCK", 4)
    source = two_classes(tmp_path / "data")
    load_image_source(source, manifest_dir=tmp_path / "kept")
    bee = tmp_path / "data" / "bee"
    if change == "added":
        (bee / "zz.png").write_bytes((bee / "0.png").read_bytes())
    elif change == "removed":
        (bee / "9.png").unlink()  # the last by name
    else:
        (bee / "9.png").write_bytes(b"no picture")
    opened.clear()
    if change == "rewritten":
        with pytest.raises(UserError, match=r"1 of 24 images in .*9\.png is not an image"):
            load_image_source(source, manifest_dir=tmp_path / "kept")
        assert len(opened) == 4
        return
    splits = load_image_source(source, manifest_dir=tmp_path / "kept")
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == (25 if change == "added" else 23)
    assert len(opened) == (1 if change == "added" else 3)  # the block of what changed, and no other
    assert "has changed since its manifest was made" in splits.notes[0]


def test_damaged_files_are_listed_once(tmp_path, opened):
    source = two_classes(tmp_path / "data")
    (tmp_path / "data" / "ant" / "0.png").write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(UserError, match=r"1 of 24 images .*ant/0\.png is not an image"):
            load_image_source(source, manifest_dir=tmp_path / "kept")
    splits = load_image_source(source, skip_unreadable=True, manifest_dir=tmp_path / "kept")
    assert splits.left_out == (str(tmp_path / "data" / "ant" / "0.png"),)
    assert opened.count("0.png") == 2  # of both classes, in the first start alone


def test_a_picture_that_changes_under_the_manifest_is_named_and_the_next_start_looks(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "_ASKED", 0)  # as of a folder of a million
    source = two_classes(tmp_path / "data")
    load_image_source(source, manifest_dir=tmp_path / "kept")
    (tmp_path / "data" / "bee" / "3.png").write_bytes((tmp_path / "data" / "ant" / "3.png").read_bytes() + b"0")
    splits = load_image_source(source, validation_fraction=0, test_fraction=0, manifest_dir=tmp_path / "kept")
    place = next(i for i, name in enumerate(names(splits.train)) if name.endswith("bee/3.png"))
    with pytest.raises(UserError, match=r"bee/3\.png has changed since .* was looked through"):
        splits.train.read(place, 3)
    again = load_image_source(source, validation_fraction=0, test_fraction=0, manifest_dir=tmp_path / "kept")
    assert again.train.read(place, 3).size == (13, 9)


def test_a_folder_of_manifests_that_cannot_be_written_is_told(tmp_path, opened):
    source = two_classes(tmp_path / "data")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="manifest_dir .* is a file"):
        load_image_source(source, manifest_dir=tmp_path / "file")
    splits = load_image_source(source, manifest_dir=tmp_path / "file" / "below")
    assert "cannot be kept in" in splits.notes[0]
    assert len(opened) == 24


def _scan(source, kept, pause, decoded):
    load = folders.load_image

    def slowly(path, *more):
        time.sleep(pause)
        with open(decoded, "a") as file:
            file.write("x")
        return load(path, *more)

    folders.load_image, manifest._BLOCK = slowly, 4
    splits = load_image_source(source, manifest_dir=kept)
    kept.with_name(f"said-{os.getpid()}").write_text(str(len(splits.train)))


def scan(tmp_path, pause):
    """A process of its own that opens the folder."""
    arguments = (f"imagefolder:{tmp_path / 'data'}", tmp_path / "kept", pause, tmp_path / "decoded")
    process = multiprocessing.get_context("fork").Process(target=_scan, args=arguments)
    process.start()
    return process


def test_two_processes_make_one_manifest_and_a_killed_one_loses_little(tmp_path):
    two_classes(tmp_path / "data", count=24)
    killed = scan(tmp_path, 0.3)
    notes = tmp_path / "kept"
    while not any(path.stat().st_size for path in notes.rglob("checked.jsonl")):
        assert killed.is_alive()
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    noted = checking.read_notes(next(notes.rglob("checked.jsonl")))
    before = (tmp_path / "decoded").stat().st_size
    assert noted
    both = [scan(tmp_path, 0.02) for _ in range(2)]
    for process in both:
        process.join(60)
    said = [path.read_text() for path in tmp_path.glob("said-*")]
    assert said == ["34", "34"]
    assert (tmp_path / "decoded").stat().st_size - before == 48 - 4 * len(noted)  # by one of them, and none twice
    assert len(list(kept_folder(notes).glob("version-*"))) == 1


def test_many_files_are_checked_by_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "_FEW", 0)
    monkeypatch.setattr(manifest, "_BLOCK", 4)
    source = two_classes(tmp_path / "data")
    (tmp_path / "data" / "ant" / "7.png").write_bytes(b"no picture")
    splits = load_image_source(source, skip_unreadable=True, manifest_dir=tmp_path / "kept")
    assert len(splits.left_out) == 1

    def end(path, *more):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(folders, "load_image", end)
    (tmp_path / "data" / "bee" / "zz.png").write_bytes(b"other")
    with pytest.raises(UserError, match="a process that checked the pictures of .* was killed"):
        load_image_source(source, manifest_dir=tmp_path / "kept")


def test_half_a_note_is_no_note(tmp_path):
    path = tmp_path / "checked.jsonl"
    path.write_text('\n{"block": "a", "bad": {"3": "why"}}\n{"block": "b", "ba')
    assert checking.read_notes(path) == {"a": {"3": "why"}}
    found = checking.check_blocks([checking.Block(0, 4, "a"), checking.Block(4, 6, "b")], lambda i: None, path, "it")
    assert found == {3: "why"}
    assert checking.read_notes(path) == {"a": {"3": "why"}, "b": {}}


def test_splits_are_those_of_one_pass_a_class():
    labels = np.random.default_rng(3).integers(0, 7, 200)
    generator, taken = np.random.default_rng(5), []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        taken.extend(members[: round(0.3 * len(members))])
    assert _split(labels, 0.3, 5)[1].tolist() == sorted(taken)


def test_the_manifest_is_json_and_arrays(tmp_path):
    load_image_source(two_classes(tmp_path / "data"), manifest_dir=tmp_path / "kept")
    version = next(kept_folder(tmp_path / "kept").glob("version-*"))
    about = json.loads((version / "about.json").read_text())
    assert about["listing"]["parts"] == {"train": [0, 24]}
    assert np.load(version / "labels.npy").tolist() == [0] * 12 + [1] * 12
