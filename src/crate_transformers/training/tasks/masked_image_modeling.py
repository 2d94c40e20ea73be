"""Masked image modelling: the model rebuilds a picture from few of its patches; the others are hidden."""

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoModelForPreTraining,
    PreTrainedConfig,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ...configuration.validation import as_pair
from ...data import KeyedImages, MaskedImages, stack_items
from ...errors import UserError
from ...evaluation.reconstruction import ConstantGuess, reconstruct, sheet
from ...files import write_bytes
from ...recipes.schema import Recipe
from ...report.charts import charts_html
from ...report.sections import Section
from ..build import build_model, model_without_weights
from ..mirror import measure_mirror
from .base import Outputs
from .image_task import ImageTask, blank_images, spread
from .stand_in import DataFacts, StandIn, blank

PICTURES = "reconstructions"
_SHOWN = 6
_FOR_MEANS = 2048  # training images that the constant guesses are taken from, at most
_FOR_LAYERS = 64


def _num_patches(config: PreTrainedConfig) -> int:
    """Patches of an image."""
    (height, width), (h, w) = as_pair(config.image_size), as_pair(config.patch_size)
    return (height // h) * (width // w)


class MaskedImageModeling(ImageTask):
    """The task of the CRATE autoencoder and of ViT-MAE."""

    model: PreTrainedModel
    label_names = ("noise",)  # so that an evaluation knows that there is a loss
    metric = "eval_loss"
    greater_is_better = False

    def __init__(self, recipe: Recipe, output: Path):
        super().__init__(recipe, output)
        self.model = build_model(recipe, AutoModelForPreTraining, notes=self.notes)
        config = self.model.config
        self.num_patches = _num_patches(config)
        if config.model_type == "vit_mae" and int(self.num_patches * (1 - config.mask_ratio)) == self.num_patches:
            raise UserError(
                f"model.mask_ratio {config.mask_ratio} hides no patch, and ViT-MAE has no loss then: raise it, or use "
                "model.family=crate_mae, whose loss is then on all patches"
            )
        self.prepare(config)
        self.train_data = self._masked(self.augmented())
        self.validation_data, self.test_data = (
            self._masked(self.plain(part)) if len(part) else None for part in (self.splits.validation, self.splits.test)
        )
        self.collator = self.evaluation_collator = stack_items
        self._guess: ConstantGuess | None = None

    @classmethod
    def stand_in(cls, recipe: Recipe, facts: DataFacts) -> StandIn:
        model = model_without_weights(recipe, AutoModelForPreTraining)
        patches = _num_patches(model.config)
        return StandIn(
            model, lambda rows: {"pixel_values": blank_images(model.config, rows), "noise": blank(rows, patches)}
        )

    def _masked(self, images: KeyedImages) -> MaskedImages:
        return MaskedImages(images, self.num_patches, self.recipe.seed)

    def reduce_outputs(self, logits: Outputs, labels: Outputs) -> Tensor:
        return logits[0][:, 0, 0]  # the loss is enough: one number a picture stands for the predicted patches

    def complete(self, metrics: dict[str, float], part: str) -> dict[str, float]:
        """Add the losses, on the same hidden patches, of two guesses that do not look at the picture."""
        held_out = self._masked(self.plain(self.splits.validation if part == "validation" else self.splits.test))
        if self._guess is None:
            train = self._masked(self.plain(self.splits.train))
            chosen = np.unique(np.linspace(0, len(train) - 1, min(len(train), _FOR_MEANS)).astype(int))
            self._guess = ConstantGuess.of(_batches(train, chosen), self.model.config)
        patch, image = self._guess.losses(_batches(held_out, range(len(held_out))), self.model.config)
        return {
            **metrics,
            "loss_of_mean_patch": patch,
            "loss_of_mean_image": image,
            "share_of_mean_patch": metrics["loss"] / patch,
        }

    def verdict(self, metrics: dict[str, Any]) -> list[str]:
        part = next((name for name in ("test", "validation") if name in metrics), None)
        if part is None:
            return []
        found = metrics[part]
        return [
            f"masked loss {found['loss']:.4f} on the {part} images: {found['share_of_mean_patch']:.0%} of what "
            f"predicting the mean patch costs ({found['loss_of_mean_patch']:.4f}); the mean of each place costs "
            f"{found['loss_of_mean_image']:.4f}"
        ]

    def callbacks(self) -> list[TrainerCallback]:
        return [_DrawReconstructions(self)]

    def sample_inputs(self, count: int) -> dict[str, Tensor]:
        return {"pixel_values": self._sample(count)["pixel_values"]}

    def flop_inputs(self) -> dict[str, Tensor]:
        return self._sample(1)

    def _sample(self, count: int) -> dict[str, Tensor]:
        shown = self._masked(self.shown())
        return stack_items([shown[i] for i in spread(len(shown), count)])

    def draw(self, model: PreTrainedModel) -> Image.Image:
        """Draw how the model rebuilds a few held-out pictures; the same patches are hidden every time."""
        batch = {name: tensor.to(model.device) for name, tensor in self._sample(_SHOWN).items()}
        was_training = model.training
        model.eval()
        picture = sheet(
            reconstruct(model, batch["pixel_values"], batch["noise"]),
            self.processor.image_mean,
            self.processor.image_std,
        )
        model.train(was_training)
        return picture

    def report(self, model: PreTrainedModel, history: list[dict[str, Any]]) -> list[Section]:
        config = self.model.config
        how = f"{config.mask_ratio:.0%} of the {self.num_patches} patches hidden; held-out pictures."
        if config.norm_pix_loss:
            how += " The model predicts normalised patches: mean and deviation shown are the true patch's."
        drawn = sorted((self.output / PICTURES).glob("step-*.png"))
        chosen = [drawn[i] for i in np.unique(np.linspace(0, len(drawn) - 1, 3).astype(int))] if drawn else []
        sections = [Section("Reconstructions", how, [_sheets_figure([("the model as saved", self.draw(model))])])]
        if chosen:
            titled = [(f"step {int(path.stem.partition('-')[2]):,}", Image.open(path)) for path in chosen]
            text = f"The same pictures during training; all {len(drawn)} are in the folder {PICTURES}."
            sections.append(Section("Reconstructions over training", text, [_sheets_figure(titled)]))
        return [*sections, *self.view_sections(model), self._mirror_section(model)]

    def _mirror_section(self, model: PreTrainedModel) -> Section:
        title = "In through the encoder, back through the decoder"
        if not hasattr(model, "crate"):
            return Section(title, "Not measured: the theory speaks of CRATE's decoder, this is a baseline.")
        mirror = measure_mirror(model, self.sample_inputs(_FOR_LAYERS))
        count = mirror.encoder.num_samples
        return Section(
            title,
            f"Measured on {count} whole held-out pictures: {mirror.sentence()}",
            table=mirror.table(),
            drawn=charts_html(mirror.charts()),
            details=[
                "Encoder layers count the code after the sparsification; decoder layers, which have none, the entries "
                "of their tokens."
            ],
        )


def _batches(data: MaskedImages, places: Iterable[int], size: int = 256) -> Iterator[dict[str, Tensor]]:
    places = list(places)
    for start in range(0, len(places), size):
        yield stack_items([data[int(i)] for i in places[start : start + size]])


def _sheets_figure(titled: Sequence[tuple[str, Image.Image]]) -> Figure:
    width, height = titled[0][1].size
    figure = Figure(figsize=(3.6 * len(titled), 3.6 * height / width + 0.3), layout="constrained")
    for axis, (title, picture) in zip(figure.subplots(1, len(titled), squeeze=False)[0], titled, strict=True):
        axis.imshow(np.asarray(picture), interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
    return figure


class _DrawReconstructions(TrainerCallback):
    """Writes a sheet of reconstructions at every evaluation: reconstructions/step-00000100.png in the run's folder."""

    def __init__(self, task: MaskedImageModeling):
        self.task = task

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: object,
    ) -> None:
        if not state.is_world_process_zero or model is None:
            return
        buffer = io.BytesIO()
        with torch.no_grad():
            self.task.draw(cast(PreTrainedModel, getattr(model, "module", model))).save(buffer, "png")
        write_bytes(self.task.output / PICTURES / f"step-{state.global_step:08d}.png", buffer.getvalue())


__all__ = ["PICTURES", "MaskedImageModeling"]
