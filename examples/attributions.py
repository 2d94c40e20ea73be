"""Which pixels a class score stands on: captum's integrated gradients on a classifier of the library.

    pip install captum
    python examples/attributions.py MODEL [IMAGE...]

MODEL is a folder or a hub name. Without images, noise is looked at. A line an image: the class, its score, the patch
that counts most, and how far the attributions are from adding up to the difference to a grey image.
"""

import sys

import torch
from captum.attr import IntegratedGradients
from transformers import AutoImageProcessor, AutoModelForImageClassification

from crate_transformers.data import EvaluationTransform, load_image


def main(source: str, *files: str) -> torch.Tensor:
    model = AutoModelForImageClassification.from_pretrained(source).eval()
    config = model.config
    if files:
        transform = EvaluationTransform(AutoImageProcessor.from_pretrained(source))
        images = torch.stack([transform(load_image(file, config.num_channels)) for file in files])
    else:
        height, width = config.image_size if isinstance(config.image_size, list) else (config.image_size,) * 2
        images = torch.randn(4, config.num_channels, height, width)
    classes = model(images).logits.argmax(dim=-1)

    method = IntegratedGradients(lambda pictures: model(pictures).logits)
    attributions, gaps = method.attribute(images, target=classes, n_steps=200, return_convergence_delta=True)

    height, width = config.patch_size if isinstance(config.patch_size, list) else (config.patch_size,) * 2
    patches = attributions.sum(dim=1).unfold(1, height, height).unfold(2, width, width).sum(dim=(-1, -2))  # (B, r, c)
    for number, patch in enumerate(patches):
        row, column = divmod(int(patch.argmax()), patch.shape[1])
        print(
            f"image {number}: class {config.id2label[int(classes[number])]}, most by the patch in row {row}, column "
            f"{column} ({patch.max():+.3f}); the sum is {gaps[number].abs():.4f} from the difference of the scores"
        )
    return attributions


if __name__ == "__main__":
    main(*sys.argv[1:])
