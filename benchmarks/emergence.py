"""Does segmentation emerge in CRATE and not in ViT? Both are trained on class labels alone, then their maps are scored.

    python benchmarks/emergence.py --root WHERE_TORCHVISION_KEEPS_FASHIONMNIST --seeds 0 1

For every seed: images are composed (composed_images.py), then benchmarks/emergence.yaml trains a CRATE on them, and
with `--set model.family=vit` a ViT of the same width and depth; no outline is shown to them. Then, on held-out images:
accuracy, parameters, mean IoU of the attention masks of every layer (best head per class, mean over classes), MaskCut,
layer-wise rates. The same scores of the untrained models, and of masks drawn at random, say what is there without
learning. Runs that are finished are not repeated: the models, reports and images stay in the folder `--runs`.

Claim under test: arXiv 2308.16271. The setting here is far smaller than the paper's (ImageNet): see the settings that
are written beside the results. Expected number: none published for this setting.
"""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composed_images import Composition, write_images
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForImageClassification

from crate_transformers import __version__
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
from crate_transformers.files import write_bytes
from crate_transformers.report.colors import PALETTE
from crate_transformers.report.layers import layers_figure
from crate_transformers.report.patches import attention_figure
from crate_transformers.report.pictures import to_pictures
from crate_transformers.report.plates import Plate
from crate_transformers.report.writing import write_json
from crate_transformers.training import load_recipe, train

RECIPE = Path(__file__).with_suffix(".yaml")
FAMILIES = {"CRATE": "crate_vision", "ViT": "vit"}
READINGS = ("mass", "entries")
SHARE = 0.6


@dataclass
class Scored:
    """Held-out images and their outlines: pixel_values (n, 3, H, W), maps (n, H, W) of 0 or 1 + class."""

    pixel_values: Tensor
    maps: Tensor


def load_scored(folder: Path, processor: Any, count: int) -> Scored:
    """The first test images, in the order in which they were drawn (classes mixed)."""
    masks = sorted((folder / "masks").glob("*.png"))[:count]
    pictures = [Image.open(next((folder / "images/test").glob(f"*/{path.name}"))) for path in masks]
    pixel_values = processor(pictures, return_tensors="pt")["pixel_values"]
    return Scored(pixel_values, torch.stack([torch.from_numpy(np.int64(Image.open(path))) for path in masks]))


def train_model(name: str, seed: int, data: Path, runs: Path, settings: dict[str, Any]) -> tuple[Any, ...]:
    """(model, image processor, metrics, recipe as run); a finished run is read."""
    settings = {"data.source": f"imagefolder:{data}/images", "train.seed": seed, **settings}
    recipe = load_recipe(str(RECIPE), {"model.family": FAMILIES[name], **settings})
    run = train(recipe, runs / f"{name.lower()}-{seed}", resume=True, on_note=print)
    model = AutoModelForImageClassification.from_pretrained(run.output).eval()
    return model, AutoImageProcessor.from_pretrained(run.output), run.metrics, recipe.to_dict()


def untrained(model: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    return AutoModelForImageClassification.from_config(model.config).eval()


def score_masks(model: Any, data: Scored) -> dict[str, Any]:
    """Mean IoU of the attention masks by layer and reading; MaskCut at the second-to-last layer."""
    size = data.maps.shape[-2:]
    maps = attention_maps(model, data.pixel_values, batch_size=50).maps  # (B, L, K, rows, columns)
    results: dict[str, Any] = {}
    for reading in READINGS:
        results[reading] = []
        for layer in range(maps.shape[1]):
            score = BestHeadIoU()
            for heads, labels in zip(attention_masks(maps[:, layer], SHARE, reading), data.maps, strict=True):
                score.update(resize_masks(heads, size), labels)
            results[reading].append(score.result()["mean_iou"])
    features = patch_features(model, data.pixel_values)
    score, found = BestMaskIoU(), []
    for own, labels in zip(features.features, data.maps, strict=True):
        objects = mask_cut(own, features.grid)
        masks = resize_masks(objects.masks, size)
        score.update(masks, labels)
        found.append((masks, objects.scores))
    precision = average_precision(found, [objects_of(labels) for labels in data.maps])
    results["maskcut"] = {"layer": features.layer, "mean_iou": score.result()["mean_iou"], **precision}
    return results


def chance(data: Scored, heads: int, side: int) -> dict[str, float]:
    """The same score of maps drawn at random (as many heads), and of the mask that is the whole image."""
    generator = torch.Generator().manual_seed(0)
    drawn, whole = BestHeadIoU(), BestHeadIoU()
    for labels in data.maps:
        maps = torch.rand(heads, side, side, generator=generator)
        drawn.update(resize_masks(attention_masks(maps, SHARE, "entries"), labels.shape), labels)
        whole.update(torch.ones(1, *labels.shape, dtype=torch.bool), labels)
    return {"random_maps": drawn.result()["mean_iou"], "whole_image": whole.result()["mean_iou"]}


def by_layer(results: dict[str, Any], name: str, key: str, reading: str) -> np.ndarray:
    """(seeds, layers) of mean IoU."""
    return np.asarray([own[key][reading] for own in results[name]])


def emergence_figure(results: dict[str, Any]):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    for axis, reading in zip(figure.subplots(1, 2, sharey=True), READINGS, strict=True):
        for number, name in enumerate(FAMILIES):
            for key, style in (("trained", "-"), ("untrained", ":")):
                values = by_layer(results, name, key, reading)
                layers = range(values.shape[1])
                look = {"color": PALETTE[number], "marker": "os"[number], "linestyle": style}
                axis.plot(layers, values.mean(0), label=f"{name}, {key}", **look)
                axis.fill_between(layers, values.min(0), values.max(0), color=PALETTE[number], alpha=0.15, linewidth=0)
        for (name, value), style in zip(results["chance"].items(), ("--", "-."), strict=True):
            axis.axhline(value, color="0.5", linestyle=style, linewidth=1, label=name.replace("_", " "))
        axis.set_xlabel("layer (from 0)")
        axis.set_title(f"masks of 60 % of the {reading}", fontsize=10)
        axis.grid(alpha=0.25)
    figure.axes[0].set_ylabel("mean IoU (best head per class)")
    figure.axes[1].legend(frameon=False, fontsize=8, ncols=2)
    return figure


def report(results: dict[str, Any]) -> str:
    """The results as a page of Markdown: of every number the mean over the seeds, then each seed's."""
    settings = results["settings"]
    lines = [
        "# Does segmentation emerge?",
        "",
        f"`benchmarks/emergence.py`, crate_transformers {__version__}, torch {torch.__version__}, CPU, seeds "
        f"{', '.join(map(str, settings['seeds']))}; {settings['objects']} over textures. Each number is the mean "
        "over the seeds (each seed's in brackets). Attention masks: best head per class on the scored images, mean "
        "over classes, as the papers do.",
        "",
        "| | CRATE | ViT |",
        "|---|---|---|",
    ]

    def row(label: str, value, form: str = ".3f") -> None:
        cells = []
        for name in FAMILIES:
            values = [value(own) for own in results[name]]
            mean, each = format(np.mean(values).item(), form), ", ".join(format(v, form) for v in values)
            cells.append(f"{mean} ({each})" if len(values) > 1 else mean)
        lines.append(f"| {label} | {' | '.join(cells)} |")

    lines.append("| parameters | " + " | ".join(f"{results[name][0]['parameters']:,}" for name in FAMILIES) + " |")
    for part in ("train", "validation", "test"):
        row(f"loss, {part}", lambda own, p=part: own["metrics"][p]["loss"])
    for part in ("validation", "test"):
        row(f"accuracy, {part}", lambda own, p=part: own["metrics"][p]["accuracy"])
    for reading in READINGS:
        for key in ("trained", "untrained"):
            for layer in range(results["CRATE"][0]["measures"]["layers"]):
                row(
                    f"mIoU, 60 % of {reading}, layer {layer}, {key}",
                    lambda own, k=key, m=reading, i=layer: own[k][m][i],
                )
    for key in ("trained", "untrained"):
        row(f"MaskCut mIoU, {key}", lambda own, k=key: own[k]["maskcut"]["mean_iou"])
        row(f"MaskCut mask AP50, {key}", lambda own, k=key: own[k]["maskcut"]["mask"]["AP50"])
    for column, label in (("coding_rate_mean", "R^c, nats"), ("nonzero_fraction_mean", "non-zero fraction")):
        for layer in range(results["CRATE"][0]["measures"]["layers"]):
            row(f"{label} (official), layer {layer}", lambda own, c=column, i=layer: own["measures"][c][i], ".4g")
    lines += [
        "",
        f"Masks drawn at random (as many heads): {results['chance']['random_maps']:.3f}; the whole image as the mask: "
        f"{results['chance']['whole_image']:.3f}.",
        "",
        f"Training: benchmarks/emergence.yaml, {results['CRATE'][0]['recipe']['train']['max_steps']} steps of "
        f"{results['CRATE'][0]['recipe']['train']['per_device_train_batch_size']}, learning rate "
        f"{results['CRATE'][0]['recipe']['train']['learning_rate']}. Images: "
        + ", ".join(f"{name} {value}" for name, value in settings["composition"].items() if name != "seed")
        + f" (drawn anew with each seed); {settings['scored_images']} of the test images are scored.",
        "",
    ]
    return "\n".join(lines)


def write_figures(results: dict[str, Any], measures: dict[str, Any], shown: dict[str, Any], output: Path) -> None:
    """The curves, the rates and the maps of a middle layer of the first seed's models."""
    settings = results["settings"]
    objects, seeds = f"{settings['objects']} over textures", ", ".join(map(str, settings["seeds"]))
    data = f"{objects}, {settings['scored_images']} held-out images"
    version = f"crate_transformers {__version__}"
    Plate(
        "emergence",
        emergence_figure(results),
        "Mean IoU of attention masks with the object's outline, by layer: mean and range over seeds "
        f"{seeds}; {data}, best head per class; {version}.",
    ).write(output)
    Plate(
        "rates",
        layers_figure(measures),
        "R^c (official mode, epsilon 0.1) and non-zero fraction (CRATE: ISTA's code; ViT: MLP activations) by layer, "
        f"seed {settings['seeds'][0]}; {data}; {version}.",
    ).write(output)
    for name, (pictures, maps) in shown.items():
        layer = maps.layers[-2]
        Plate(
            f"attention_{name.lower()}",
            attention_figure(pictures, maps, layer),
            f"Attention of the class token, every head of layer {layer} (from 0) of {name}, trained on class labels "
            f"alone, seed {settings['seeds'][0]}; {objects}, held-out images; {version}.",
        ).write(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="where torchvision keeps FashionMNIST; without it: digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--train-images", type=int, default=Composition.train_images)
    parser.add_argument("--test-images", type=int, default=Composition.test_images)
    parser.add_argument("--scored-images", type=int, default=400)
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--runs", type=Path, default=Path("runs/emergence"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/emergence"))
    arguments = parser.parse_args()
    settings = {"train.max_steps": arguments.steps, "train.eval_steps": arguments.steps} if arguments.steps else {}
    results: dict[str, Any] = {name: [] for name in FAMILIES}
    measures, shown = {}, {}
    for seed in arguments.seeds:
        composition = Composition(arguments.train_images, arguments.test_images, seed=seed)
        data = arguments.runs / f"data-{seed}"
        objects = write_images(data, arguments.root, composition)
        for name in FAMILIES:
            print(f"{name}, seed {seed}", flush=True)
            model, processor, metrics, recipe = train_model(name, seed, data, arguments.runs, settings)
            scored = load_scored(data, processor, arguments.scored_images)
            own_measures = measure_layers(model, scored.pixel_values)
            results[name].append(
                {
                    "seed": seed,
                    "parameters": model.num_parameters(),
                    "recipe": recipe,
                    "metrics": {
                        "train": {name: metrics["train"][name] for name in ("loss", "steps", "epochs")},
                        **{part: metrics[part] for part in ("validation", "test")},
                    },
                    "trained": score_masks(model, scored),
                    "untrained": score_masks(untrained(model, seed), scored),
                    "measures": {"layers": model.config.num_hidden_layers, **own_measures.to_dict()},
                }
            )
            if name not in shown:
                few = scored.pixel_values[:6]
                measures[name] = own_measures
                pictures = to_pictures(few, processor.image_mean, processor.image_std)
                shown[name] = (pictures, attention_maps(model, few))
            print(f"  accuracy {metrics['test']['accuracy']:.3f}, mIoU {results[name][-1]['trained']['mass']}")
        config = model.config
        results["chance"] = chance(scored, config.num_attention_heads, config.image_size // config.patch_size)
    results["settings"] = {
        "objects": objects,
        "seeds": arguments.seeds,
        "scored_images": arguments.scored_images,
        "composition": asdict(composition),
    }
    results["version"] = __version__
    write_figures(results, measures, shown, arguments.output)
    write_json(arguments.output / "results.json", results)
    write_bytes(arguments.output / "README.md", report(results).encode())
    print(f"results.json, README.md and figures in {arguments.output}")


if __name__ == "__main__":
    main()
