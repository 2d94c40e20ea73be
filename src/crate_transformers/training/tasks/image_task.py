"""What the tasks on pictures share: opening the pictures, preparing them, and choosing which ones a report shows."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPImageProcessor, PreTrainedConfig, PreTrainedModel

from ...analysis.attention import gives_all_maps, segmentation_layer
from ...analysis.inside import look_inside
from ...configuration.validation import as_pair
from ...data import (
    EvaluationTransform,
    ImageSplits,
    KeyedImages,
    LabelledImages,
    TrainingTransform,
    load_image_source,
    over_classes,
)
from ...errors import UserError
from ...models.image_processing import image_processor_of
from ...recipes.schema import Recipe
from ...recipes.tasks.images import CroppedImageData, ImageData, check_channels
from ...report.pictures import to_pictures
from ...report.sections import Section
from ...report.viewer import Looked, view_html
from .base import Task
from .stand_in import blank

NUM_LOOKED_INTO = 6  # pictures of a report
_FEW_VALUES = 16  # a LayerNorm over a patch of fewer values leaves too little of them


def spread(length: int, count: int) -> list[int]:
    """At most `count` of `length` places, evenly apart.

    Where pictures are sorted by class, as in folders, some of every class are among them.
    """
    return [i * length // count for i in range(count)] if count < length else list(range(length))


def blank_images(config: PreTrainedConfig, rows: int) -> Tensor:
    """(rows, C, H, W) without numbers, of the size that a model takes."""
    return blank(rows, config.num_channels, *as_pair(config.image_size))


class ImageTask(Task):
    """A task on labelled pictures. A task may ignore the labels.

    Attributes:
        splits: the pictures of the three parts.
        processor: the image processor that is saved with the model; `prepare` sets it.
        num_channels: channels of the pictures; `prepare` sets it.
    """

    processor: CLIPImageProcessor

    def __init__(self, recipe: Recipe, output: Path):
        super().__init__(recipe, output)
        data = recipe.data
        assert isinstance(data, ImageData)
        self.data = data
        self.splits = self.open_source()
        if self.splits.left_out:
            listed = ", ".join(self.splits.left_out[:5])
            self.notes.append(f"left out {len(self.splits.left_out)} unreadable images: {listed}")
        self.notes.extend(self.splits.notes)
        self.ends = self.splits.train.ends
        self.repetitions = data.repeated_augmentation
        if self.repetitions > len(self.splits.train):
            raise UserError(
                f"data.repeated_augmentation is {self.repetitions}, and there are {len(self.splits.train)} training "
                "pictures: an epoch would have one picture alone; lower it"
            )

    def open_source(self) -> ImageSplits:
        """The pictures that the recipe names, in three parts."""
        data = self.data
        return load_image_source(
            data.source,
            data.root,
            data.validation_fraction,
            data.test_fraction,
            self.recipe.seed,
            data.skip_unreadable,
            data.manifest_dir,
        )

    def prepare(self, config: PreTrainedConfig) -> None:
        """Take image size and channels from the model's configuration, and note what its patches lose."""
        data = self.data
        height, width = as_pair(config.patch_size)
        values = height * width * config.num_channels
        if getattr(config, "patch_embedding", None) == "normalized" and values < _FEW_VALUES:
            self.notes.append(
                f"each patch of {values} values is normalised by itself, so its mean and contrast are lost (digits in "
                "patches of 2 x 2: 94 % right, 97 % with the other embedding); model.patch_embedding=convolution keeps "
                "them"
            )
        self.num_channels: int = config.num_channels
        for name, value in (("mean", data.mean), ("std", data.std)):
            check_channels(f"data.{name}", value, {"num_channels": self.num_channels})
        self._check_crop(config)
        self.processor = image_processor_of(
            config, data.center_crop, data.mean, data.std, data.interpolation, data.crop_fraction
        )

    def _check_crop(self, config: PreTrainedConfig) -> None:
        """Say that images which are not square have no crop of the centre."""
        height, width = as_pair(config.image_size)
        if height == width or not self.data.center_crop:
            return
        if self.data.crop_fraction is not None:
            raise UserError(
                f"data.crop_fraction is of square images, model.image_size is {height} x {width}: leave it out"
            )
        self.notes.append(
            f"data.center_crop is not used: it is of square images, and model.image_size is {height} x {width}"
        )

    def augmented(self) -> KeyedImages:
        """The training pictures, augmented as the recipe says."""
        data = self.data
        assert isinstance(data, CroppedImageData)
        transform = TrainingTransform(
            self.processor,
            data.crop,
            (data.crop_scale[0], data.crop_scale[1]),
            data.flip,
            data.rand_augment,
            data.random_erasing,
            data.color_jitter,
            data.erasing_fill,
        )
        return KeyedImages(self.splits.train, transform, self.num_channels, self.recipe.seed)

    def plain(self, images: LabelledImages) -> KeyedImages:
        """Pictures as an evaluation sees them, without augmentation."""
        return KeyedImages(images, EvaluationTransform(self.processor), self.num_channels)

    def shown(self) -> KeyedImages:
        """The pictures that reports and measures use: those of the test part, else of validation, else of training."""
        splits = self.splits
        return self.plain(next(part for part in (splits.test, splits.validation, splits.train) if len(part)))

    def view_sections(
        self,
        model: PreTrainedModel,
        places: Sequence[int] | None = None,
        names: Sequence[str] = (),
        wrong: Sequence[bool] = (),
    ) -> list[Section]:
        """A look into a few of the pictures that are shown: attention and codes of every layer.

        Args:
            places: which of `shown`; None takes them over the classes. names: what to call each; none are the classes.
            wrong: which of them are framed.
        """
        if not gives_all_maps(model):
            return []
        shown = self.shown()
        labels = shown.images.labels
        if places is None:
            places = over_classes(labels, NUM_LOOKED_INTO)
            names = [self.splits.classes[labels[place]] for place in places]
        images = torch.stack([shown[place]["pixel_values"] for place in places])
        pictures = to_pictures(images, self.processor.image_mean, self.processor.image_std)
        samples = [
            Looked(name, picture=picture, is_wrong=bool(wrong and wrong[i]))
            for i, (name, picture) in enumerate(zip(names, pictures, strict=True))
        ]
        view = look_inside(model, images, samples, segmentation_layer(model, None))
        if view is None:
            return []
        text = "What every layer makes of a picture: where a patch looks, and what its code holds."
        return [Section("Attention and codes, layer by layer", text, drawn=view_html(view))]

    def save_beside(self, folder: Path) -> None:
        self.processor.save_pretrained(folder)


__all__ = ["ImageTask", "blank_images", "spread"]
