"""Does segmentation emerge in CRATE and not in ViT? Both are trained on class labels alone, then their maps are scored.

    python benchmarks/emergence.py --root FOLDER_OF_FASHION_MNIST --output benchmarks/results/emergence

Objects with a known outline (Fashion-MNIST, or scikit-learn's digits where that is absent) are pasted, tinted, at
random places over textures cut from the photographs that scikit-learn and matplotlib ship. A CRATE and a ViT of one
width and depth learn the class; no mask is shown to them. Then, on held-out images: accuracy, parameters, mean IoU of
the attention masks of every layer (best head per class, mean over classes), MaskCut, layer-wise rates. The same scores
of the untrained models, and of masks drawn at random, say what is there without learning.

Claim under test: arXiv 2308.16271. The setting here is far smaller than the paper's (ImageNet): see the settings that
are written beside the results. Expected number: none published for this setting.
"""

import argparse
import gzip
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification

from crate_transformers import CrateForImageClassification, CrateVisionConfig, __version__
from crate_transformers.analysis import (
    BestHeadIoU,
    BestMaskIoU,
    attention_maps,
    attention_masks,
    average_precision,
    mask_cut,
    measure_layers,
    objects_of,
    patch_features,
    resize_masks,
)
from crate_transformers.analysis.figures import PALETTE, attention_figure, layers_figure, to_pictures
from crate_transformers.analysis.output import Plate, write_bytes, write_json

MEAN, STD = 0.5, 0.25


@dataclass(frozen=True)
class Settings:
    """Everything that the numbers depend on."""

    train_images: int = 12000
    test_images: int = 1000
    scored_images: int = 400
    image_size: int = 32
    object_size: int = 22
    patch_size: int = 4
    width: int = 64
    depth: int = 6
    heads: int = 4
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    seed: int = 0
    data: str = ""


@dataclass
class Images:
    """pixel_values (n, 3, H, W), labels (n,) and maps (n, H, W): 0 background, 1 + class on the object."""

    pixel_values: Tensor
    labels: Tensor
    maps: Tensor


def read_idx(path: Path) -> np.ndarray:
    """An array of the MNIST file format."""
    content = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(content, ">i4", content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def load_objects(root: Path | None) -> tuple[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """(name, {"train": (pictures (n, h, w) uint8, labels), "test": ...})."""
    names = {"train": "train", "test": "t10k"}
    if root is not None and all((root / f"{name}-images-idx3-ubyte.gz").is_file() for name in names.values()):
        parts = {
            part: (read_idx(root / f"{name}-images-idx3-ubyte.gz"), read_idx(root / f"{name}-labels-idx1-ubyte.gz"))
            for part, name in names.items()
        }
        return "Fashion-MNIST", parts
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = np.stack(
        [np.asarray(Image.fromarray(np.uint8(image * 15.9)).resize((28, 28), 2)) for image in digits.images]
    )
    chosen = np.random.default_rng(0).permutation(len(pictures))
    test, train = chosen[:360], chosen[360:]
    return "digits", {"train": (pictures[train], digits.target[train]), "test": (pictures[test], digits.target[test])}


def load_textures() -> list[np.ndarray]:
    """The photographs (H, W, 3) uint8 that scikit-learn and matplotlib ship."""
    from matplotlib.cbook import get_sample_data
    from sklearn.datasets import load_sample_images

    with get_sample_data("grace_hopper.jpg") as file:
        return [*load_sample_images().images, np.asarray(Image.open(file).convert("RGB"))]


def compose(pictures: np.ndarray, labels: np.ndarray, count: int, size: int, object_size: int, seed: int) -> Images:
    """Paste `count` objects over textures; the training and the test part use other halves of the photographs."""
    random = np.random.default_rng(seed)
    textures = load_textures()
    pixels = np.empty((count, size, size, 3), dtype=np.float32)
    maps = np.zeros((count, size, size), dtype=np.int64)
    chosen = random.integers(len(pictures), size=count)
    for i, index in enumerate(chosen):
        photo = textures[random.integers(len(textures))]
        half = photo.shape[1] // 2
        photo = photo[:, :half] if seed % 2 else photo[:, half:]
        scale = random.integers(1, 4)  # coarse and fine textures
        top = random.integers(photo.shape[0] - scale * size + 1)
        left = random.integers(photo.shape[1] - scale * size + 1)
        ground = photo[top : top + scale * size : scale, left : left + scale * size : scale] / 255
        item = np.asarray(Image.fromarray(pictures[index]).resize((object_size, object_size), 2)) / 255
        height, width = item.shape
        top, left = random.integers(size - height + 1), random.integers(size - width + 1)
        inside = item > 0.12
        tint = random.uniform(0.4, 1.0, size=3)
        window = ground[top : top + height, left : left + width].copy()
        window[inside] = (0.15 + 0.85 * item[inside, None]) * tint
        pixels[i] = ground
        pixels[i, top : top + height, left : left + width] = window
        maps[i, top : top + height, left : left + width][inside] = labels[index] + 1
    normalised = torch.from_numpy((pixels - MEAN) / STD).permute(0, 3, 1, 2).contiguous()
    return Images(normalised, torch.from_numpy(labels[chosen].astype(np.int64)), torch.from_numpy(maps))


def build(name: str, settings: Settings) -> torch.nn.Module:
    torch.manual_seed(settings.seed)
    shared = {
        "hidden_size": settings.width,
        "num_hidden_layers": settings.depth,
        "num_attention_heads": settings.heads,
        "image_size": settings.image_size,
        "patch_size": settings.patch_size,
        "num_labels": 10,
    }
    if name == "CRATE":
        return CrateForImageClassification(CrateVisionConfig(**shared))
    return ViTForImageClassification(ViTConfig(**shared, intermediate_size=4 * settings.width))


def train(model: torch.nn.Module, data: Images, settings: Settings) -> float:
    """AdamW, warm-up and cosine, cross entropy with the class label alone; seconds that it took."""
    started = time.time()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=settings.learning_rate,
    )
    per_epoch = len(data.labels) // settings.batch_size
    total = per_epoch * settings.epochs
    generator = torch.Generator().manual_seed(settings.seed)
    model.train()
    for step in range(total):
        if step % per_epoch == 0:
            order = torch.randperm(len(data.labels), generator=generator)
        warm = min(1.0, (step + 1) / settings.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / total))
        start = step % per_epoch * settings.batch_size
        chosen = order[start : start + settings.batch_size]
        loss = torch.nn.functional.cross_entropy(model(data.pixel_values[chosen]).logits, data.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(f"  step {step}/{total} loss {loss.item():.3f} {time.time() - started:.0f} s", flush=True)
    model.eval()
    return time.time() - started


@torch.no_grad()
def accuracy(model: torch.nn.Module, data: Images) -> float:
    guesses = torch.cat([model(batch).logits.argmax(dim=1) for batch in data.pixel_values.split(100)])
    return (guesses == data.labels).double().mean().item()


def score_masks(model: torch.nn.Module, data: Images, settings: Settings) -> dict:
    """Mean IoU of the attention masks by layer and reading; MaskCut at the second-to-last layer."""
    size = data.maps.shape[-2:]
    maps = attention_maps(model, data.pixel_values, batch_size=50).maps  # (B, L, K, rows, columns)
    results: dict = {}
    for reading in ("mass", "entries"):
        results[f"attention_{reading}"] = []
        for layer in range(settings.depth):
            score = BestHeadIoU()
            for heads, labels in zip(attention_masks(maps[:, layer], 0.6, reading), data.maps, strict=True):
                score.update(resize_masks(heads, size), labels)
            results[f"attention_{reading}"].append(score.result()["mean_iou"])
    features = patch_features(model, data.pixel_values)
    score, found = BestMaskIoU(), []
    for own, labels in zip(features.features, data.maps, strict=True):
        objects = mask_cut(own, features.grid)
        masks = resize_masks(objects.masks, size)
        score.update(masks, labels)
        found.append((masks, objects.scores))
    results["maskcut"] = {"layer": features.layer, "mean_iou": score.result()["mean_iou"]}
    try:
        results["maskcut"].update(average_precision(found, [objects_of(labels) for labels in data.maps]))
    except ImportError as error:
        results["maskcut"]["note"] = str(error)
    return results


def chance(data: Images, settings: Settings) -> dict[str, float]:
    """The same score of maps drawn at random (as many heads), and of the mask that is the whole image."""
    side = settings.image_size // settings.patch_size
    generator = torch.Generator().manual_seed(settings.seed)
    drawn, whole = BestHeadIoU(), BestHeadIoU()
    for labels in data.maps:
        maps = torch.rand(settings.heads, side, side, generator=generator)
        drawn.update(resize_masks(attention_masks(maps, 0.6, "entries"), labels.shape), labels)
        whole.update(torch.ones(1, *labels.shape, dtype=torch.bool), labels)
    return {"random_maps": drawn.result()["mean_iou"], "whole_image": whole.result()["mean_iou"]}


def emergence_figure(results: dict, settings: Settings):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    for axis, reading in zip(figure.subplots(1, 2, sharey=True), ("mass", "entries"), strict=True):
        for number, name in enumerate(("CRATE", "ViT")):
            for key, style in (("trained", "-"), ("untrained", ":")):
                values = results[name][key][f"attention_{reading}"]
                axis.plot(range(settings.depth), values, style, marker="os"[number], color=PALETTE[number])
                axis.lines[-1].set_label(f"{name}, {key}")
        for (name, value), style in zip(results["chance"].items(), ("--", "-."), strict=True):
            axis.axhline(value, color="0.5", linestyle=style, linewidth=1, label=name.replace("_", " "))
        axis.set_xlabel("layer (from 0)")
        axis.set_title(f"masks of 60 % of the {reading}", fontsize=10)
        axis.grid(alpha=0.25)
    figure.axes[0].set_ylabel("mean IoU (best head per class)")
    figure.axes[1].legend(frameon=False, fontsize=8, ncols=2)
    return figure


def report(results: dict, settings: Settings) -> str:
    """The results as a page of Markdown."""
    lines = [
        "# Does segmentation emerge?",
        "",
        f"`benchmarks/emergence.py`, crate_transformers {__version__}, torch {torch.__version__}, CPU, one seed "
        f"({settings.seed}). Objects: {settings.data}. Attention masks: best head per class on the scored images, mean "
        "over classes, as the papers do.",
        "",
        "| | CRATE | ViT |",
        "|---|---|---|",
    ]

    def row(name: str, value) -> None:
        lines.append(f"| {name} | {value(results['CRATE'])} | {value(results['ViT'])} |")

    row("parameters", lambda r: f"{r['parameters']:,}")
    row("training seconds (shared CPU)", lambda r: f"{r['seconds']:.0f}")
    row("accuracy, training images", lambda r: f"{r['train_accuracy']:.3f}")
    row("accuracy, held-out images", lambda r: f"{r['accuracy']:.3f}")
    for reading in ("mass", "entries"):
        for key in ("trained", "untrained"):
            for layer in range(settings.depth):
                row(
                    f"mIoU, 60 % of {reading}, layer {layer}, {key}",
                    lambda r, k=key, m=reading, i=layer: f"{r[k][f'attention_{m}'][i]:.3f}",
                )
    for key in ("trained", "untrained"):
        row(f"MaskCut mIoU, {key}", lambda r, k=key: f"{r[k]['maskcut']['mean_iou']:.3f}")
        row(f"MaskCut mask AP50, {key}", lambda r, k=key: f"{r[k]['maskcut'].get('mask', {}).get('AP50', -1):.3f}")
    for column in ("coding_rate_mean", "nonzero_fraction_mean"):
        row(
            f"{column.replace('_', ' ')}, by layer (official)",
            lambda r, c=column: ", ".join(f"{v:.4g}" for v in r["measures"][c]),
        )
    lines += [
        "",
        f"Masks drawn at random (as many heads): {results['chance']['random_maps']:.3f}; the whole image as the mask: "
        f"{results['chance']['whole_image']:.3f}.",
        "",
        "Settings: " + ", ".join(f"{name} {value}" for name, value in asdict(settings).items()) + ".",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="folder with Fashion-MNIST's four .gz files")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/emergence"))
    for name, value in asdict(Settings()).items():
        if name != "data":
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    root, output = arguments.pop("root"), arguments.pop("output")
    name, parts = load_objects(root)
    settings = Settings(**arguments, data=name)
    data = compose(
        *parts["train"], settings.train_images, settings.image_size, settings.object_size, seed=2 * settings.seed + 1
    )
    test = compose(
        *parts["test"], settings.test_images, settings.image_size, settings.object_size, seed=2 * settings.seed + 2
    )
    few = settings.scored_images
    scored = Images(test.pixel_values[:few], test.labels[:few], test.maps[:few])
    results: dict = {"settings": asdict(settings), "version": __version__, "chance": chance(scored, settings)}
    measures = {}
    for model_name in ("CRATE", "ViT"):
        print(model_name, flush=True)
        model = build(model_name, settings).eval()
        own: dict = {"parameters": model.num_parameters(), "untrained": score_masks(model, scored, settings)}
        own["seconds"] = train(model, data, settings)
        own["accuracy"] = accuracy(model, test)
        seen = Images(data.pixel_values[:1000], data.labels[:1000], data.maps[:1000])
        own["train_accuracy"] = accuracy(model, seen)
        own["trained"] = score_masks(model, scored, settings)
        measures[model_name] = measure_layers(model, scored.pixel_values)
        own["measures"] = measures[model_name].to_dict()
        results[model_name] = own
        shown = scored.pixel_values[:6]
        layer = settings.depth - 2
        plate = Plate(
            f"attention_{model_name.lower()}",
            attention_figure(to_pictures(shown, [MEAN] * 3, [STD] * 3), attention_maps(model, shown), layer),
            f"Attention of the class token, every head of layer {layer} (from 0) of {model_name}, trained on class "
            f"labels alone; {settings.data} over textures, held-out images; crate_transformers {__version__}.",
        )
        plate.write(output)
        print(f"  accuracy {own['accuracy']:.3f}, mIoU {own['trained']['attention_mass']}", flush=True)
    caption = (
        f"Mean IoU of attention masks with the object's outline, by layer; {settings.data} over textures, "
        f"{few} held-out images, best head per class; crate_transformers {__version__}."
    )
    Plate("emergence", emergence_figure(results, settings), caption).write(output)
    Plate(
        "rates",
        layers_figure(measures),
        f"R^c (official mode, epsilon 0.1) and non-zero fraction (CRATE: ISTA's code; ViT: MLP activations) by layer; "
        f"{settings.data} over textures, {few} held-out images; crate_transformers {__version__}.",
    ).write(output)
    write_json(output / "results.json", results)
    write_bytes(output / "README.md", report(results, settings).encode())
    print(json.dumps(results["chance"]))
    print(f"results.json, README.md and figures in {output}")


if __name__ == "__main__":
    main()
