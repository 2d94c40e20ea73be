"""Reconstructions of a masked autoencoder: pictures of them, and the losses of constant guesses to compare with.

Shapes: B batch, C channels, H x W pixels, h x w patch, N patches.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..configuration.validation import as_pair
from ..data import find_images, load_image
from ..errors import UserError
from ..files import write_bytes
from ..layers import patchify, unpatchify
from ..models.modeling_crate_mae import mask_of_noise
from ..report.pictures import to_pictures
from .opening import ImageProcessor

COLUMNS = ("original", "masked", "reconstruction", "composite")
GREY = 0.5  # of a hidden patch, between black and white
_HEADING = 14  # pixels


@dataclass(frozen=True)
class Reconstruction:
    """Images (B, C, H, W), normalised as the model reads them.

    With `norm_pix_loss` the model predicts normalised patches; here they have the mean and deviation of the true patch.

    Attributes:
        masked: the original with NaN in the hidden patches.
        reconstruction: the model's prediction, visible patches included.
        composite: the original with the prediction in the hidden patches.
        mask: (B, N), 1 for a hidden patch.
    """

    original: Tensor
    masked: Tensor
    reconstruction: Tensor
    composite: Tensor
    mask: Tensor


def target_patches(pixel_values: Tensor, config: PreTrainedConfig) -> Tensor:
    """The targets of the autoencoder: patches (B, N, h * w * C), each normalised where `norm_pix_loss` is set."""
    patches = patchify(pixel_values, as_pair(config.patch_size))
    if config.norm_pix_loss:
        mean, variance = patches.mean(dim=-1, keepdim=True), patches.var(dim=-1, keepdim=True)
        patches = (patches - mean) / (variance + 1e-6).sqrt()
    return patches


def check_decoder(model: nn.Module) -> None:
    """Refuse a model that cannot rebuild an image.

    Raises:
        UserError: it has no decoder.
    """
    if not hasattr(model, "decoder") or not hasattr(model, "patchify"):
        raise UserError(
            f"{type(model).__name__} has no decoder, so it cannot rebuild an image: use a whole autoencoder "
            "(CrateMAEForPreTraining), e.g. one that `crate train mae-digits` made"
        )


@torch.no_grad()
def reconstruct(model: PreTrainedModel, pixel_values: Tensor, noise: Tensor) -> Reconstruction:
    """Mask images, run the autoencoder, and put the patches together.

    Args:
        model: CrateMAEForPreTraining or transformers' ViTMAEForPreTraining; its configuration gives the mask ratio.
        pixel_values: (B, C, H, W), of any size that the patches divide.
        noise: (B, N), the patches of the lowest are kept.

    Raises:
        ValueError: the model has no decoder, or the images do not fit.
    """
    config = model.config
    check_decoder(model)
    patch = as_pair(config.patch_size)
    height, width = pixel_values.shape[-2:]
    extra = {} if (height, width) == as_pair(config.image_size) else {"interpolate_pos_encoding": True}
    outputs = model(pixel_values=pixel_values, noise=noise, **extra)
    patches, predicted = patchify(pixel_values, patch), outputs.logits.to(pixel_values.dtype)
    if config.norm_pix_loss:
        mean, variance = patches.mean(dim=-1, keepdim=True), patches.var(dim=-1, keepdim=True)
        predicted = predicted * (variance + 1e-6).sqrt() + mean
    hidden = outputs.mask.unsqueeze(-1).to(pixel_values.dtype)  # (B, N, 1)
    grid = (height // patch[0], width // patch[1])

    def images(of: Tensor) -> Tensor:
        return unpatchify(of, patch, grid)

    return Reconstruction(
        original=pixel_values,
        masked=torch.where(images(hidden.expand_as(patches)) > 0, torch.nan, pixel_values),
        reconstruction=images(predicted),
        composite=images(patches * (1 - hidden) + predicted * hidden),
        mask=outputs.mask,
    )


def sheet(
    rebuilt: Reconstruction, mean: Sequence[float] | None, std: Sequence[float] | None, cell: int = 96
) -> Image.Image:
    """Draw one row for each image, with `COLUMNS` as columns and headings above; pixels stay sharp.

    Args:
        mean, std: by which the images were normalised.
        cell: the longer side of a picture in pixels, at least; small pictures are enlarged by a whole number.
    """
    grey = [GREY * 255] * 3
    columns = [to_pictures(torch.nan_to_num(getattr(rebuilt, name)), mean, std) for name in COLUMNS]
    columns[1] = np.where(np.isnan(rebuilt.masked.cpu().numpy()).any(axis=1)[..., None], grey, columns[1])
    height, width = columns[0].shape[1:3]
    grow = max(1, -(-cell // max(height, width)))
    height, width, gap = height * grow, width * grow, max(2, grow // 2)
    size = (4 * (width + gap) - gap, _HEADING + len(columns[0]) * (height + gap) - gap)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for j, (name, cells) in enumerate(zip(COLUMNS, columns, strict=True)):
        draw.text((j * (width + gap), 0), name, fill="black")
        for i, pixels in enumerate(cells):
            tile = Image.fromarray(pixels.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
            picture.paste(tile, (j * (width + gap), _HEADING + i * (height + gap)))
    return picture


@dataclass(frozen=True)
class ConstantGuess:
    """Guesses that do not look at the image.

    Attributes:
        patch: (h * w * C,), the mean of all patches. image: (N, h * w * C), the mean of the patches at each place.
    """

    patch: Tensor
    image: Tensor

    @classmethod
    def of(cls, batches: Iterable[dict[str, Tensor]], config: PreTrainedConfig) -> "ConstantGuess":
        """Take the means over batches of training images."""
        total, count = 0.0, 0
        for batch in batches:
            target = target_patches(batch["pixel_values"], config).double()
            total, count = total + target.sum(dim=0), count + len(target)
        image = torch.as_tensor(total) / count
        return cls(image.mean(dim=0), image)

    def losses(self, batches: Iterable[dict[str, Tensor]], config: PreTrainedConfig) -> tuple[float, float]:
        """Mean squared errors of (the mean patch, the mean image) on the patches that the noise hides."""
        errors, count = torch.zeros(2, dtype=torch.float64), 0.0
        for batch in batches:
            target = target_patches(batch["pixel_values"], config).double()
            mask = mask_of_noise(batch["noise"], config.mask_ratio).double()
            mask = mask if mask.sum() > 0 else torch.ones_like(mask)
            for i, guess in enumerate((self.patch, self.image)):
                errors[i] += ((target - guess).square().mean(dim=-1) * mask).sum()
            count += float(mask.sum())
        patch, image = (errors / count).tolist()
        return patch, image


@torch.no_grad()
def rebuild_files(
    model: PreTrainedModel,
    processor: ImageProcessor,
    places: Sequence[str | Path],
    folder: Path,
    mask_ratio: float | None = None,
    side: int | None = None,
    seed: int = 0,
) -> Iterator[tuple[str, float, int]]:
    """Mask and rebuild image files, and write a sheet NAME.png into the folder for each.

    Pictures keep their shape: the shorter side becomes the model's (or `side`), both sides are resized to the nearest
    multiple of the patch, and positions are resampled.

    Yields:
        (file, mean squared error on the hidden patches in normalised pixels, number of hidden patches).

    Raises:
        ValueError: the model has no decoder, the ratio is outside [0, 1), the side is below one patch, or an image
            cannot be read.
    """
    check_decoder(model)
    if mask_ratio is not None:
        if not 0 <= mask_ratio < 1:
            raise UserError(f"--mask-ratio must be in [0, 1), got {mask_ratio}")
        model.config.mask_ratio = mask_ratio
    patch, shorter = as_pair(model.config.patch_size), side or min(as_pair(model.config.image_size))
    if shorter < max(patch):
        raise UserError(f"--side {shorter} is smaller than a patch of {patch[0]} x {patch[1]} pixels")
    paths = find_images(places)
    names: list[str] = []
    for number, path in enumerate(paths):
        picture = load_image(path, model.config.num_channels)
        scale = shorter / min(picture.size)
        height, width = (max(p, round(s * scale / p) * p) for s, p in zip(picture.size[::-1], patch, strict=True))
        options = {"do_resize": True, "size": {"height": height, "width": width}, "do_center_crop": False}
        pixel_values = processor(picture, return_tensors="pt", **options)["pixel_values"].to(model.device)
        grid = (height // patch[0], width // patch[1])
        noise = torch.rand(1, grid[0] * grid[1], generator=torch.Generator().manual_seed(seed + number))
        rebuilt = reconstruct(model, pixel_values, noise.to(model.device))
        name = path.stem if path.stem not in names else f"{path.stem}_{number}"
        names.append(name)
        buffer = io.BytesIO()
        sheet(rebuilt, processor.image_mean, processor.image_std).save(buffer, "png")
        write_bytes(folder / f"{name}.png", buffer.getvalue())
        counted = rebuilt.mask if rebuilt.mask.sum() > 0 else torch.ones_like(rebuilt.mask)
        error = patchify((rebuilt.reconstruction - pixel_values).square(), patch).mean(dim=-1)
        yield str(path), float((error * counted).sum() / counted.sum()), int(rebuilt.mask.sum())


__all__ = [
    "COLUMNS",
    "ConstantGuess",
    "Reconstruction",
    "check_decoder",
    "rebuild_files",
    "reconstruct",
    "sheet",
    "target_patches",
]
