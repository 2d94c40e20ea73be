"""Several crops of each picture, large and small: a function of (seed, epoch, sample).

Source: arXiv 2006.09882 (multi-crop), with the augmentations of arXiv 2104.14294.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor
from transformers import CLIPImageProcessor

from ..keys import Key, key_of, keyed_generator
from .labelled import LabelledImages
from .rand_augment import rand_augment
from .transforms import EvaluationTransform, interpolation_of


@dataclass(eq=False)
class CropTransform:
    """A picture or its pixels (C, H, W) uint8 to one augmented crop (C, H, W). Random numbers are torch's global ones.

    Attributes:
        processor: gives interpolation, mean and standard deviation.
        size: (height, width) of the crop, pixels.
        scale: smallest and largest share of the picture's area that a crop takes.
        flip: mirror half of the crops.
        rand_augment: (operations, magnitude), the text of timm's, or None.
        color_jitter: strength, 0 is off; four crops of five get brightness and contrast of 0.4, saturation of 0.2 and
            hue of 0.1 times this.
        grayscale, gaussian_blur, solarize: probabilities.
    """

    processor: CLIPImageProcessor
    size: tuple[int, int]
    scale: tuple[float, float]
    flip: bool = False
    rand_augment: Sequence[int] | str | None = None
    color_jitter: float = 0.0
    grayscale: float = 0.0
    gaussian_blur: float = 0.0
    solarize: float = 0.0

    def __post_init__(self) -> None:
        interpolation = interpolation_of(self.processor)
        crop = v2.RandomResizedCrop(self.size, scale=self.scale, interpolation=interpolation, antialias=True)
        steps: list[Callable[[Any], Any]] = [v2.PILToTensor(), crop]
        if self.flip:
            steps.append(v2.RandomHorizontalFlip())
        if self.rand_augment:
            steps.append(rand_augment(self.rand_augment, self.processor))
        if self.color_jitter:
            strengths = [share * self.color_jitter for share in (0.4, 0.4, 0.2, 0.1)]
            steps.append(v2.RandomApply([v2.ColorJitter(*strengths)], p=0.8))
        if self.grayscale:
            steps.append(v2.RandomGrayscale(p=self.grayscale))
        if self.gaussian_blur:
            kernel = max(3, min(self.size) // 10 // 2 * 2 + 1)
            steps.append(v2.RandomApply([v2.GaussianBlur(kernel, sigma=(0.1, 2.0))], p=self.gaussian_blur))
        if self.solarize:
            steps.append(v2.RandomSolarize(threshold=128, p=self.solarize))
        normalize = v2.Normalize(self.processor.image_mean, self.processor.image_std)
        steps += [v2.ToDtype(torch.float32, scale=True), normalize]
        self.steps = v2.Compose(steps)

    def __call__(self, picture: Image.Image | Tensor) -> Tensor:
        return self.steps(picture)


class MultiCropImages(Dataset):
    """Items {"global_crops" (G, C, H, W), "local_crops" (L, C, h, w)} of labelled images.

    Args:
        global_crops, local_crops: (transform, how many), G and L; where there are none, items lack that name.
        num_channels: 1 or 3. seed: of the crops.
        plain: adds the whole picture, "pixel_values" (C, H, W), and "labels" (), for an evaluation.
    """

    def __init__(
        self,
        images: LabelledImages,
        global_crops: tuple[CropTransform, int],
        local_crops: tuple[CropTransform, int],
        num_channels: int = 3,
        seed: int = 0,
        plain: EvaluationTransform | None = None,
    ):
        self.images, self.num_channels, self.seed, self.plain = images, num_channels, seed, plain
        self.crops = {"global_crops": global_crops, "local_crops": local_crops}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key | int) -> dict[str, Tensor]:
        key = key_of(key)
        index = key[1]
        picture = None if self.plain is None else self.images.read(index, self.num_channels)
        pixels = self.images.pixels(index, self.num_channels) if picture is None else pil_to_tensor(picture)
        item: dict[str, Tensor] = {}
        with keyed_generator(self.seed, *key):
            for name, (transform, count) in self.crops.items():
                if count:
                    item[name] = torch.stack([transform(pixels) for _ in range(count)])
        if self.plain is not None and picture is not None:
            item["pixel_values"] = self.plain(picture)
            item["labels"] = torch.tensor(int(self.images.labels[index]))
        return item


__all__ = ["CropTransform", "MultiCropImages"]
