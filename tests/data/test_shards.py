"""Shards: made of any source, read by number, named where they are damaged."""

import multiprocessing

import numpy as np
import pytest
from data_folders import two_classes
from PIL import Image

from crate_transformers.data import ShardPlan, load_image_source, make_shards
from crate_transformers.data.images import sharding
from crate_transformers.errors import UserError


def shards(tmp_path, format="tar", **more):
    make_shards(ShardPlan(two_classes(tmp_path / "data"), format, samples=10, **more), tmp_path / "shards")
    return tmp_path / "shards"


def opened(folder, tmp_path, **more):
    return load_image_source(f"shards:{folder}", manifest_dir=tmp_path / "kept", **more)


def pixels(images):
    """The pictures by label, in no order."""
    read = [(int(images.labels[i]), np.asarray(images.read(i, 3)).tobytes()) for i in range(len(images))]
    return sorted(read)


@pytest.mark.parametrize("format", ["tar", "parquet"])
def test_shards_hold_what_the_folder_holds(format, tmp_path):
    folder = shards(tmp_path, format)
    assert sorted(path.name for path in folder.iterdir())[:2] == ["shards.json", f"train-00000-of-00003.{format}"]
    splits = opened(folder, tmp_path, validation_fraction=0, test_fraction=0)
    plain = load_image_source(f"imagefolder:{tmp_path / 'data'}", validation_fraction=0, test_fraction=0)
    assert splits.classes == plain.classes == ["ant", "bee"]
    assert pixels(splits.train) == pixels(plain.train)
    assert splits.train.ends.tolist() == [10, 20, 24]
    own = {splits.train.encoded(i) for i in range(24)}
    assert own == {path.read_bytes() for path in (tmp_path / "data").rglob("*.png")}  # copied, not made anew
    parts = opened(folder, tmp_path)
    assert len(parts.train.ends) == 3
    assert parts.train.ends[-1] == len(parts.train) < 24
    (folder / "shards.json").unlink()  # as others write them: every picture is decoded when the index is made
    assert pixels(opened(folder, tmp_path, validation_fraction=0, test_fraction=0).train) == pixels(plain.train)


@pytest.mark.parametrize("format", ["tar", "parquet"])
@pytest.mark.parametrize("known", [True, False])
def test_a_shard_that_is_cut_off_or_missing_is_named(format, known, tmp_path):
    folder = shards(tmp_path, format)
    if not known:
        (folder / "shards.json").unlink()
    second = folder / f"train-00001-of-00003.{format}"
    content = second.read_bytes()
    second.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"train-00001-of-00003\.\w+ (is|has .* bytes: it is) cut off"):
        opened(folder, tmp_path)
    second.unlink()
    with pytest.raises(UserError, match=r"train-00001-of-00003\.\w+ is missing"):
        opened(folder, tmp_path)
    second.write_bytes(content)
    splits = opened(folder, tmp_path, validation_fraction=0, test_fraction=0)
    second.write_bytes(b"")
    place = next(i for i in range(24) if "00001-of" in splits.train.name(i))
    with pytest.raises(UserError, match=r"train-00001-of-00003"):
        splits.train.read(place, 3)


def test_a_damaged_picture_in_shards_of_others_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sharding, "decode_image", lambda *arguments: None)
    items = [(0, b"\x89PNG none", 0), (1, b"\x89PNG none", 1)]
    folder = shards(tmp_path)
    (folder / "shards.json").unlink()
    sharding.write_shard(folder / "train-extra.tar", items, ["ant", "bee"])
    with pytest.raises(UserError, match=r"2 of 26 images in .*train-extra\.tar\[0\] is not an image"):
        opened(folder, tmp_path)
    assert len(opened(folder, tmp_path, skip_unreadable=True).left_out) == 2


def test_a_maker_that_was_stopped_goes_on_and_two_make_one(tmp_path, monkeypatch):
    two_classes(tmp_path / "data")
    write, made = sharding.write_shard, []

    def stop(path, items, classes):
        if made:
            raise KeyboardInterrupt
        made.append(path)
        write(path, items, classes)

    monkeypatch.setattr(sharding, "write_shard", stop)
    with pytest.raises(KeyboardInterrupt):
        shards(tmp_path / "again")
    with pytest.raises(UserError, match="is not whole: `crate shard` was stopped"):
        opened(tmp_path / "again" / "shards", tmp_path)
    monkeypatch.setattr(sharding, "write_shard", write)
    first = made[0].stat().st_mtime_ns
    plan = ShardPlan(f"imagefolder:{tmp_path / 'again' / 'data'}", "tar", samples=10)
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=make_shards, args=(plan, tmp_path / "again" / "shards")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert made[0].stat().st_mtime_ns == first
    assert len(opened(tmp_path / "again" / "shards", tmp_path, validation_fraction=0, test_fraction=0).train) == 24


def test_sources_without_files_become_pictures(tmp_path):
    make_shards(ShardPlan("digits", samples=1000), tmp_path / "shards")
    splits = opened(tmp_path / "shards", tmp_path, validation_fraction=0, test_fraction=0)
    assert len(splits.train) == 1797
    assert isinstance(splits.train.read(5, 1), Image.Image)
    with pytest.raises(UserError, match="holds shards of"):
        make_shards(ShardPlan("digits", samples=7), tmp_path / "shards")
