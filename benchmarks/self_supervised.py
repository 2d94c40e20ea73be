"""What pretraining without labels is worth with few labels: random, MAE, self-distillation, supervised.

    python benchmarks/self_supervised.py --data digits --output benchmarks/results
    python benchmarks/self_supervised.py --data torchvision:FashionMNIST --root ROOT --limit 2000 --output ...

Every model is trained once, on the training part and without its labels (the supervised one with all of them); the
probes then see 10 labelled training images a class, drawn anew with each of 5 seeds, and are scored on the test part.
An interval is the 95 % interval of the mean over the draws. A pretrained model is compared with a random one of the
same architecture, read in the same way (mean of the patch tokens of the last layer).
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModel

from crate_transformers.data import EvaluationTransform, KeyedImages, load_image_source
from crate_transformers.evaluation.probes import LabelledFeatures, layer_features, probe_features, summary
from crate_transformers.files import write_bytes
from crate_transformers.report.writing import write_json
from crate_transformers.training import load_recipe, train

SHOTS, SEEDS = 10, range(5)
COLUMNS = ("model", "architecture", "probe", "accuracy", "interval_95", "steps", "seconds", "note")


def models(settings: dict[str, Any], steps: int) -> dict[str, Any]:
    """Name -> recipe."""
    length = {"train.num_train_epochs": 1000, "train.max_steps": steps, "train.eval_steps": steps}
    own = {**settings, **length}
    labelled = {
        "model.hidden_size": 64,
        "model.num_hidden_layers": 3,
        "model.patch_size": 2,
        "model.pool": "mean",
        "model.num_channels": 1,
    }
    return {
        "masked autoencoder": load_recipe("mae-digits", own),
        "self-distillation, coding rate": load_recipe(
            "dino-digits", {**own, "train.self_distillation_loss": "coding_rate", "train.learning_rate": 0.003}
        ),
        "self-distillation, DINO": load_recipe("dino-digits", {**own, "train.self_distillation_loss": "dino"}),
        "supervised (all labels)": load_recipe("digits", {**labelled, **own}),
    }


def features(model: Any, processor: Any, splits: Any, limit: int) -> list[LabelledFeatures]:
    found = []
    for part in (splits.train, splits.test):
        chosen = np.unique(np.linspace(0, len(part) - 1, min(len(part), limit)).astype(int))
        plain = KeyedImages(part, EvaluationTransform(processor), model.config.num_channels)
        pixels = torch.stack([plain[int(i)]["pixel_values"] for i in chosen])
        found.append(LabelledFeatures(layer_features(model, {"pixel_values": pixels}, "mean"), part.labels[chosen]))
    return found


def probed(model: Any, processor: Any, splits: Any, limit: int) -> list[dict[str, Any]]:
    known, held_out = features(model.eval(), processor, splits, limit)
    last = [model.config.num_hidden_layers - 1]
    return summary(probe_features(known, held_out, shots=SHOTS, seeds=SEEDS, layers=last, pool="mean"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--root", default=None)
    parser.add_argument("--limit", type=int, default=2000, help="images of each part that the probes see")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--set", action="append", default=[], help="key=value for every recipe")
    arguments = parser.parse_args()
    settings: dict[str, Any] = {"data.source": arguments.data}
    if arguments.root:
        settings["data.root"] = arguments.root
    for setting in arguments.set:
        key, _, value = setting.partition("=")
        settings[key] = json.loads(value)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, recipe in models(settings, arguments.steps).items():
            started = time.perf_counter()
            run = train(recipe, Path(folder) / recipe.name.replace("/", "-") / str(len(rows)))
            seconds = time.perf_counter() - started

            processor = AutoImageProcessor.from_pretrained(run.output)
            data = recipe.data
            splits = load_image_source(
                data.source, data.root, data.validation_fraction, data.test_fraction, recipe.seed
            )
            model = AutoModel.from_pretrained(run.output)
            torch.manual_seed(recipe.seed)
            plain = AutoModel.from_config(model.config)
            note = "COLLAPSED" if run.metrics.get("test", {}).get("collapsed") else ""
            architecture = f"{model.config.model_type}, patch {model.config.patch_size}"
            for kind, own, steps in (("random", plain, 0), (name, model, run.step)):
                for row in probed(own, processor, splits, arguments.limit):
                    line = {
                        "model": kind,
                        "architecture": architecture,
                        "probe": row["probe"],
                        "accuracy": row["accuracy"],
                        "interval_95": row["interval_95"],
                        "steps": steps,
                        "seconds": round(seconds, 1) if steps else 0.0,
                        "note": note if steps else "",
                    }
                    if line not in rows:
                        rows.append(line)
            write(rows, arguments, splits)


def write(rows: list[dict[str, Any]], arguments: argparse.Namespace, splits: Any) -> None:
    name = "self_supervised_" + arguments.data.rpartition(":")[2].lower()
    setup = {"data": arguments.data, "shots": SHOTS, "draws": len(SEEDS), "limit": arguments.limit}
    write_json(arguments.output / f"{name}.json", {**setup, "test_images": len(splits.test), "rows": rows})
    lines = [
        f"# Few labels, {arguments.data}: {SHOTS} labelled images a class, {len(SEEDS)} draws",
        "",
        "Accuracy on test images, mean and 95 % interval over the draws of labelled images; one training run each.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(_cell(row[column]) for column in COLUMNS) + " |" for row in rows),
        "",
    ]
    write_bytes(arguments.output / f"{name}.md", "\n".join(lines).encode())


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
