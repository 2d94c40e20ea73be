"""The options that tasks on pictures share."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..checks import RecipeError, shown
from ..limits import Limits
from ..options import DataOptions, TrainOptions, option


def _check_shares(key: str, value: list[float]) -> None:
    if not 0 < value[0] <= value[1] <= 1:
        raise RecipeError(
            key, f"{key} must be [smallest, largest] share of the area in (0, 1], the smallest first, got {value}"
        )


def _check_share(key: str, value: float) -> None:
    if not 0 < value <= 1:
        raise RecipeError(key, f"{key} must be a share in (0, 1], got {value}")


_TIMM = re.compile(r"rand(-(m\d+|n\d+|p(0?\.\d+|[01])|mstd\d+(\.\d+)?|mmax\d+|inc[01]))*")
_MOST_OF_TIMM = 10  # above it timm cuts a magnitude off, in silence


def _check_timm(key: str, text: str) -> None:
    parts = text.split("-")[1:]
    numbers = {name: float(number) for name, number in re.findall(r"([a-z]+)([\d.]+)", "-".join(parts))}
    if _TIMM.fullmatch(text) is None or len(numbers) < len(parts):
        raise RecipeError(
            key,
            f"{key} must be [operations, magnitude] or timm's text of m (magnitude), n (operations), p (probability), "
            f"mstd, mmax and inc, each once, as rand-m9-mstd0.5-inc1; got {shown(text)}",
        )
    most = numbers.get("mmax", _MOST_OF_TIMM)
    if numbers.get("m", 0) > most:
        raise RecipeError(key, f"{key} = {text}: timm cuts magnitudes above {most:g} off: lower m, or raise mmax")


def _check_rand_augment(key: str, value: list[int] | str) -> None:
    if isinstance(value, str):
        return _check_timm(key, value)
    if not (value[0] >= 0 and 0 <= value[1] <= 30):
        raise RecipeError(key, f"{key} must be [operations >= 0, magnitude from 0 to 30], got {value}")


def check_channels(key: str, value: list[float] | None, model: Mapping[str, Any]) -> None:
    """Check that `mean` or `std` has one number, three, or one for each channel.

    Where a model comes from a checkpoint, any length is accepted, because its channels are not known yet.

    Args:
        model: the `model` section, or any mapping that may hold `num_channels`.

    Raises:
        RecipeError: the list has another length.
    """
    channels = model.get("num_channels", 3)
    if value is None or len(value) in (1, 3, channels) or (value and "from" in model):
        return
    raise RecipeError(key, f"{key} must be a list of one number, or of one a channel ({channels}), got {shown(value)}")


COLOR_JITTER = Limits(0, 5)
AREA_SHARES = Limits(length=2, further=_check_shares)  # of the area of a crop: [smallest, largest]


@dataclass
class ImageData(DataOptions):
    """The options of every task on pictures.

    Attributes:
        root: the folder where torchvision keeps its files; None is the user's cache folder.
        skip_unreadable: whether pictures that cannot be read are left out (else they are an error).
        manifest_dir: the folder that keeps what was found in large folders and in shards, so that the next start does
            not look through them again; of several machines, one that all of them see. None is the user's cache.
        interpolation: "nearest", "bilinear" or "bicubic", with which pictures are resized, in evaluations too.
        center_crop: whether an evaluation resizes the shorter side and crops the centre (else it resizes both sides).
        crop_fraction: share of the shorter side that the centre has; None is 224 / 256.
        flip: whether training pictures are flipped at random.
        rand_augment: [operations, magnitude] of torchvision's RandAugment, or the text of timm's, as
            rand-m9-mstd0.5-inc1; None is off.
        repeated_augmentation: how often an epoch has a training picture, each time augmented anew; an epoch stays as
            long, so it has that many times fewer pictures. 1 is off.
        mean: what the normalisation subtracts: one number, or one for each channel; None is ImageNet's.
        std: what the normalisation divides by: one number, or one for each channel; None is ImageNet's.
    """

    root: str | None = option(None, after="source")
    skip_unreadable: bool = False
    manifest_dir: str | None = option(None, after="skip_unreadable")
    interpolation: str = option("bilinear", Limits(choices=("nearest", "bilinear", "bicubic")))
    center_crop: bool = False
    crop_fraction: float | None = option(None, Limits(further=_check_share))
    flip: bool = False
    rand_augment: list[int] | str | None = option(None, Limits(length=2, further=_check_rand_augment))
    repeated_augmentation: int = option(1, Limits(1))
    mean: list[float] | None = option(None, fits_model=check_channels)
    std: list[float] | None = option(None, Limits(positive=True), fits_model=check_channels)


@dataclass
class CroppedImageData(ImageData):
    """The options of tasks that see one crop of a picture.

    Attributes:
        crop: what training sees of a picture: all of it ("none"), a part of random place, size and shape
            ("random_resized"), or all of it shifted by up to an eighth of its sides ("pad").
        crop_scale: of random_resized, [smallest, largest] share of the area that a crop takes.
        random_erasing: probability with which a rectangle of a picture is erased.
        erasing_fill: what an erased rectangle has: the mean colour ("mean"), or a number drawn for each of its own
            ("noise", as timm's `pixel`).
        color_jitter: brightness, contrast and saturation are each multiplied by a number in [1 - this, 1 + this].
    """

    crop: str = option("none", Limits(choices=("none", "random_resized", "pad")), after="skip_unreadable")
    crop_scale: list[float] = option([0.08, 1.0], AREA_SHARES, after="crop")
    random_erasing: float = option(0.0, Limits(0, 1), after="rand_augment")
    erasing_fill: str = option("mean", Limits(choices=("mean", "noise")), after="random_erasing")
    color_jitter: float = option(0.0, COLOR_JITTER)


def check_images(data: ImageData, train: TrainOptions) -> None:
    """Check the options of a task on pictures together.

    Raises:
        RecipeError: `crop_fraction` without `center_crop`, or `erasing_fill` without `random_erasing`, which alone
            read them.
    """
    if isinstance(data, CroppedImageData) and data.erasing_fill != "mean" and not data.random_erasing:
        key = "data.erasing_fill"
        raise RecipeError(key, f"{key} is of erased rectangles, and data.random_erasing is 0: set both")
    if data.crop_fraction is not None and not data.center_crop:
        key = "data.crop_fraction"
        raise RecipeError(key, f"{key} is the share of a crop of the centre, and data.center_crop is false: set both")


__all__ = ["AREA_SHARES", "COLOR_JITTER", "CroppedImageData", "ImageData", "check_channels", "check_images"]
