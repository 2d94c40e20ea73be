"""Data at size: a folder of 1.3 million small pictures, an index of 14 million entries, and the loader's speed.

    python benchmarks/data_at_size.py --folder SCRATCH --output benchmarks/results/data_at_size.json

The pictures are hard links to one small PNG a class, and are deleted afterwards. What is measured, each in a process of
its own: making the manifest; a start once it is there; memory of the index; the first batch after a resume in the
middle of an epoch; an index of 14 million entries; pictures a second beside torchvision's ImageFolder at the same
transform and workers, interleaved, medians.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from crate_transformers import CrateVisionConfig
from crate_transformers.data import (
    EpochSampler,
    ImageCollator,
    KeyedBatches,
    KeyedImages,
    TrainingTransform,
    load_image_source,
)
from crate_transformers.data.images.labelled import LabelledImages, SplitOptions, assemble
from crate_transformers.data.images.listing import Listing
from crate_transformers.data.kept import kept, opened
from crate_transformers.models.image_processing import image_processor_of


def private_mb() -> float:
    """Memory that is this process's alone, MB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def resident_mb() -> float:
    """All memory of this process that is there, mapped files with it, MB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) / 1024


def measured(work: Any) -> tuple[Any, dict[str, float]]:
    """What a function gives, and what it took."""
    before, began = (private_mb(), resident_mb()), time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    return result, {
        "seconds": round(seconds, 3),
        "private_mb": round(private_mb() - before[0], 1),
        "resident_mb": round(resident_mb() - before[1], 1),
    }


def transform(size: int) -> TrainingTransform:
    processor = image_processor_of(CrateVisionConfig(image_size=size, patch_size=size // 2), False)
    return TrainingTransform(processor, "random_resized", flip=True)


def make_folder(folder: Path, classes: int, each: int) -> None:
    rng = np.random.default_rng(0)
    for label in range(classes):
        place = folder / f"class{label:05d}"
        place.mkdir(parents=True)
        first = place / "0000000.png"
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(first)
        for number in range(1, each):
            os.link(first, place / f"{number:07d}.png")


def first_batch(data: KeyedImages, done: float, workers: int) -> float:
    """Seconds to the first batch of a run that is resumed after a share of an epoch."""
    began = time.perf_counter()
    batches = KeyedBatches(EpochSampler(len(data), 0), 256, 0, 1, 256, True)
    batches.start = int(len(batches) * done)
    loader = DataLoader(data, batch_sampler=batches, num_workers=workers, collate_fn=ImageCollator())
    prepared = prepare_data_loader(loader, torch.device("cpu"), num_processes=1, process_index=0)
    next(iter(skip_first_batches(prepared, batches.start)))
    return round(time.perf_counter() - began, 3)


def start(folder: Path) -> dict[str, Any]:
    """A start of a run, whose manifest may be there."""
    source = f"imagefolder:{folder / 'pictures'}"
    splits, took = measured(lambda: load_image_source(source, manifest_dir=folder / "kept"))
    data = KeyedImages(splits.train, transform(8))
    with_order, order = measured(lambda: EpochSampler(len(data), 0).keys(0, 1))
    del with_order
    resumed = {f"{done:.0%}": first_batch(data, done, workers) for done, workers in ((0.01, 0), (0.5, 2), (0.99, 0))}
    return {"pictures": len(splits.train), "open": took, "order": order, "first_batch_after_resume_s": resumed}


def large_index(folder: Path) -> dict[str, Any]:
    """The index of 14 million entries: arrays as a scan leaves them."""
    count, classes = 14_000_000, 21_841
    place = folder / "kept14"
    if opened(place) is None:
        labels = np.sort(np.random.default_rng(0).integers(0, classes, count))
        name = np.frombuffer(b"n00000000_00000.JPEG", dtype=np.uint8)
        arrays = {
            "names": np.tile(name, count),
            "name_ends": np.arange(1, count + 1) * len(name),
            "folder": labels.astype(np.int32),
            "sizes": np.full(count, 100_000),
            "changed": np.full(count, 1),
            "labels": labels,
            "folders": np.tile(np.frombuffer(b"n00000000", dtype=np.uint8), classes),
            "folder_ends": np.arange(1, classes + 1) * 9,
            "folders_changed": np.ones(classes, dtype=np.int64),
        }
        kept(place, lambda version: True, lambda work, before: ({}, arrays))
        return {}

    def work() -> Any:
        version = opened(place)
        assert version is not None
        listing = Listing.of_arrays("/data", version.arrays, {})
        images = LabelledImages(lambda i, c: Image.new("RGB", (1, 1)), listing.labels, listing.path)
        options = SplitOptions(None, 0.1, 0.2, 0, False)
        splits = assemble("all", [str(i) for i in range(classes)], {"train": images}, options)
        sampler = EpochSampler(len(splits.train), 0)
        return splits, sampler, [splits.train.name(key[1]) for key in sampler.keys(5_000_000, 5_000_256)]

    result, took = measured(work)
    assert len(result[2]) == 256
    return {"entries": count, "open_split_order": took}


def speed(folder: Path, workers: int, rounds: int) -> dict[str, Any]:
    """Pictures a second of this library's loader and of torchvision's ImageFolder."""
    place = folder / "photographs"
    rng = np.random.default_rng(0)
    for number in range(384):
        path = place / f"class{number % 4}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(smooth).resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
    images = load_image_source(f"imagefolder:{place}", None, 0.0, 0.0).train
    ours = KeyedImages(images, transform(224))
    theirs = ImageFolder(str(place), transform(224))
    found: dict[str, list[float]] = {"ours": [], "torchvision": []}
    for _ in range(rounds):
        batches = KeyedBatches(EpochSampler(len(ours), 0), 32, 0, 1, 32, True)
        loaders = {
            "ours": DataLoader(ours, batch_sampler=batches, num_workers=workers, collate_fn=ImageCollator()),
            "torchvision": DataLoader(theirs, 32, shuffle=True, num_workers=workers, drop_last=True),
        }
        for name, loader in loaders.items():
            began = time.perf_counter()
            count = sum(len(batch["labels"] if isinstance(batch, dict) else batch[1]) for batch in loader)
            found[name].append(count / (time.perf_counter() - began))
    medians = {name: round(statistics.median(values), 1) for name, values in found.items()}
    return {"workers": workers, "rounds": rounds, "pictures_a_second": medians,
            "ours_over_torchvision": round(medians["ours"] / medians["torchvision"], 3)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--each", type=int, default=1300)
    parser.add_argument("--only", choices=("start", "large_index", "speed"))
    options = parser.parse_args()
    if options.only:
        parts = {"start": start, "large_index": large_index, "speed": lambda folder: speed(folder, 2, 7)}
        print(json.dumps(parts[options.only](options.folder)))
        return

    def apart(part: str) -> dict[str, Any]:
        line = [sys.executable, __file__, "--folder", str(options.folder), "--output", "-", "--only", part]
        said = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout
        result: dict[str, Any] = json.loads(said.splitlines()[-1])
        return result

    results: dict[str, Any] = {"machine": f"{os.cpu_count()} cores, {platform.machine()}", "torch": torch.__version__}

    def note(name: str, value: Any) -> None:
        results[name] = value
        options.output.write_text(json.dumps(results, indent=2) + "\n")
        print(name, value, flush=True)

    options.folder.mkdir(parents=True)
    try:
        note("loader", apart("speed"))
        apart("large_index")
        note("index_of_14_million", apart("large_index"))
        shutil.rmtree(options.folder / "kept14")
        began = time.perf_counter()
        make_folder(options.folder / "pictures", options.classes, options.each)
        note("making_the_pictures_s", round(time.perf_counter() - began, 1))
        note("first_start_which_scans", apart("start"))
        note("start_with_a_manifest", apart("start"))
    finally:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
