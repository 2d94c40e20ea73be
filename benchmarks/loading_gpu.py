"""The data path at speed: pictures decoded, cropped and augmented by several processes, alone and feeding a GPU.

    python benchmarks/loading_gpu.py --output FOLDER [--workers 4 8 15] [--pictures 8192] [--device cpu]

A folder of JPEG files of 500 x 375 pixels is made, read in the order of a run's sampler, augmented as the recipes of
ImageNet do (random crop of 224, flip), collated and copied to the device, where CRATE-tiny takes a step of training in
bfloat16 (autocast, AdamW). Images a second of the loader alone, of the step alone, of both. Writes loading.json.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from crate_transformers import CrateForImageClassification, CrateVisionConfig
from crate_transformers.bench.machine import describe_machine
from crate_transformers.data import EpochSampler, ImageCollator, KeyedImages, LabelledImages, TrainingTransform
from crate_transformers.data import load_image as read_picture
from crate_transformers.models.image_processing import image_processor_of
from crate_transformers.report.writing import write_json


def made_folder(folder, count):
    """Paths of `count` JPEG files: few contents under many names, of a photograph's size and detail."""
    generator = np.random.default_rng(0)
    contents = []
    for _ in range(16):
        coarse = generator.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = smooth + generator.integers(-12, 12, smooth.shape)
        path = folder / "content.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        contents.append(path.read_bytes())
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(contents[number % len(contents)])
    return paths


def loader_of(paths, batch, workers, device):
    pictures = LabelledImages(
        read=lambda i, channels: read_picture(paths[i], channels),
        labels=np.arange(len(paths)) % 1000,
        name=lambda i: paths[i].name,
    )
    transform = TrainingTransform(image_processor_of(CrateVisionConfig.from_size("tiny")), "random_resized", flip=True)
    return DataLoader(
        KeyedImages(pictures, transform),
        batch_size=batch,
        sampler=EpochSampler(len(paths), seed=0),
        num_workers=workers,
        collate_fn=ImageCollator(),
        pin_memory=device == "cuda",
        drop_last=True,
        persistent_workers=workers > 0,
    )


def stepper(device):
    """A step of training on a batch."""
    torch.manual_seed(0)
    model = CrateForImageClassification(CrateVisionConfig.from_size("tiny", num_labels=1000)).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device == "cuda")

    def step(batch):
        batch = {name: batch[name].to(device, non_blocking=True) for name in ("pixel_values", "labels")}
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def rate(batches, step, device):
    """Images a second over batches, after the first few, which start the processes."""
    count, started = 0, 0.0
    for number, batch in enumerate(batches):
        if number == 3:
            started = time.perf_counter()
        step(batch)
        count += len(batch["labels"]) if number >= 3 else 0
    if device == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 8, 15])
    parser.add_argument("--pictures", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = {"machine": describe_machine(), "rows": []}
    step = stepper(options.device)
    with tempfile.TemporaryDirectory() as folder:
        paths = made_folder(Path(folder), options.pictures)
        one = next(iter(loader_of(paths, options.batch, 0, options.device)))
        alone = rate([one] * 40 if options.device == "cuda" else [one] * 5, step, options.device)
        for workers in options.workers:
            loader = loader_of(paths, options.batch, workers, options.device)
            row = {
                "workers": workers,
                "batch": options.batch,
                "loader": rate(loader, lambda batch: None, options.device),
            }
            row |= {"step": alone, "together": rate(loader, step, options.device)}
            record["rows"].append(row)
            print(row, flush=True)
            write_json(options.output / "loading.json", record)


if __name__ == "__main__":
    main()
