"""What every layer of a model does: R^c, and how many entries of the code are not zero.

    python examples/layer_by_layer.py MODEL [IMAGE...]

MODEL is a folder, a hub name or a public checkpoint file. Without images, noise is looked at.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification

from crate_transformers import convert_checkpoint
from crate_transformers.analysis import measure_layers
from crate_transformers.data import EvaluationTransform, load_image


def main(source: str, *files: str) -> None:
    is_checkpoint = Path(source).is_file()
    model = convert_checkpoint(source) if is_checkpoint else AutoModelForImageClassification.from_pretrained(source)
    config = model.config
    if files and not is_checkpoint:
        transform = EvaluationTransform(AutoImageProcessor.from_pretrained(source))
        images = torch.stack([transform(load_image(file, config.num_channels)) for file in files])
    else:
        height, width = model.config.image_size if isinstance(config.image_size, list) else (config.image_size,) * 2
        images = torch.randn(8, config.num_channels, height, width)

    for mode in ("official", "paper"):  # on the input of MSSA, tokens of unit length; on Z_half as it is
        measures = measure_layers(model, images, mode=mode)
        print(f"{mode}: {measures.num_samples} images")
        for layer, (rate, nonzero) in enumerate(
            zip(measures.coding_rate_mean, measures.nonzero_fraction_mean, strict=True)
        ):
            print(f"  layer {layer:2d}: R^c {rate:8.2f} nats, non-zero fraction {nonzero:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
