"""RandAugment: a few operations drawn for each picture (arXiv 1909.13719), by torchvision or by timm.

torchvision's has operations of one magnitude. timm's, which published recipes name by a text as
"rand-m9-mstd0.5-inc1", draws the magnitude of each operation, applies an operation with a probability, and can use
operations that all grow with the magnitude.
"""

from collections.abc import Sequence

from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from transformers import CLIPImageProcessor

from ...errors import MissingPackageError
from ..keys import generators_of_others

_SHARE_MOVED = 0.45  # of the shorter side, by which timm's recipes move a picture at most


def rand_augment(asked: Sequence[int] | str, processor: CLIPImageProcessor) -> "v2.Transform | TimmRandAugment":
    """RandAugment of uint8 pictures (C, H, W). Random numbers follow torch's global generator.

    Args:
        asked: (operations, magnitude) of torchvision's, or the text of timm's.
        processor: gives size, mean and interpolation to timm's.

    Raises:
        MissingPackageError: a text, and timm is not installed.
    """
    if isinstance(asked, str):
        return TimmRandAugment(asked, processor)
    return v2.RandAugment(num_ops=asked[0], magnitude=asked[1])


class TimmRandAugment:
    """timm's RandAugment of uint8 pictures (C, H, W), as its training scripts set it up.

    Args:
        text: of its options, as "rand-m9-mstd0.5-inc1".
        processor: what moves out of a picture is filled with its mean, and pictures are turned with its interpolation.

    Raises:
        MissingPackageError: timm is not installed.
    """

    def __init__(self, text: str, processor: CLIPImageProcessor):
        try:
            from timm.data.auto_augment import posterize, rand_augment_transform  # an extra, and heavy
        except ImportError as error:
            raise MissingPackageError(
                f"data.rand_augment = {text} needs timm: pip install 'crate-transformers[augment]', or choose "
                "torchvision's, as data.rand_augment=[2, 9]"
            ) from error
        fill = tuple(min(255, round(255 * value)) for value in processor.image_mean)
        options = {
            "translate_const": int(_SHARE_MOVED * min(processor.crop_size["height"], processor.crop_size["width"])),
            "img_mean": fill if len(fill) > 1 else fill[0],
            "interpolation": processor.resample,
        }
        self.augment = rand_augment_transform(text, options)
        for operation in self.augment.ops:
            if operation.aug_fn is posterize:
                operation.aug_fn = _posterize

    def __call__(self, image: Tensor) -> Tensor:
        with generators_of_others():
            picture = self.augment(F.to_pil_image(image))
        return F.pil_to_tensor(picture)


def _posterize(picture: Image.Image, bits: int, **kwargs: object) -> Image.Image:
    """The highest bits of each value. timm asks for none at its largest magnitude: black, and an error in Pillow 13."""
    return ImageOps.posterize(picture, min(bits, 8)) if bits >= 1 else Image.new(picture.mode, picture.size)


__all__ = ["TimmRandAugment", "rand_augment"]
