"""Self-distillation (DINO, and its white-box form): a student learns to agree with its own moving average on crops."""

import logging
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoModel,
    CLIPImageProcessor,
    EvalPrediction,
    PreTrainedConfig,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ...configuration.validation import as_pair
from ...data import CropTransform, EvaluationTransform, LabelledImages, MultiCropImages, stack_items
from ...errors import UserError
from ...evaluation.probes import knn_accuracy
from ...models.self_distillation import FeatureLoss, SelfDistillation, SelfDistillationLoss, pooled
from ...objective import distillation_terms
from ...recipes.schema import Recipe
from ...recipes.tasks.self_distillation import SIMDINO_OPTIONS, SelfDistillationData, SelfDistillationTrain
from ...report.gallery import gallery_html
from ...report.pictures import to_pictures
from ...report.sections import Section
from ..build import build_model, model_without_weights
from ..schedules import cosine_between
from .base import Outputs
from .image_task import ImageTask, spread
from .stand_in import DataFacts, StandIn, blank

logger = logging.getLogger(__name__)

COLLAPSED = 0.05  # a run has collapsed where the teacher's output has less of the information that a batch allows
_BANK = 10_000  # training images whose features the neighbours come from, at most
_NEIGHBORS = 20
_REMEDIES = {  # of a collapse, by the loss
    "dino": "lower train.teacher_temperature",
    "coding_rate": "raise train.rate_weight",
    "simdino": "lower train.alignment_weight",
}
_NUMBERS = ("teacher_entropy", "teacher_information", "alignment", "rate")  # the last two are of simdino
_COLUMNS = {  # of the report: metric of the validation part -> (heading, format)
    "eval_knn_accuracy": ("k-nn accuracy (validation)", ".4f"),
    "eval_teacher_entropy": ("entropy of the teacher's output (nats)", ".3f"),
    "eval_teacher_information": ("information, share of a batch's ceiling", ".3f"),
    "eval_alignment": ("alignment of student and teacher (cosine)", ".3f"),
    "eval_rate": ("rate of the features (gamma x nats)", ".3f"),
}


class SelfDistillationTask(ImageTask):
    """Trains CRATE or ViT without labels; labels only measure the features (k-nn accuracy on the validation part)."""

    model: SelfDistillation
    train_data: MultiCropImages
    label_names = ("labels",)
    metric = "eval_knn_accuracy"
    greater_is_better = True
    data: SelfDistillationData

    def __init__(self, recipe: Recipe, output: Path):
        super().__init__(recipe, output)
        data, train = recipe.data, recipe.train
        assert isinstance(data, SelfDistillationData)
        assert isinstance(train, SelfDistillationTrain)
        self.data, self.train = data, train
        backbone = build_model(recipe, AutoModel, notes=self.notes)
        self.config = backbone.config
        self.prepare(self.config)
        self.model = _distilled(backbone, train)
        self.crops = {
            "global_crops": (self._crop(as_pair(self.config.image_size), data.global_crop_scale), data.global_crops),
            "local_crops": (self._crop(local_size(self.config, data), data.local_crop_scale), data.local_crops),
        }
        self.train_data = self._crops_of(self.splits.train)
        self.validation_data, self.test_data = (
            self._crops_of(part, EvaluationTransform(self.processor)) if len(part) else None
            for part in (self.splits.validation, self.splits.test)
        )
        self.collator = self.evaluation_collator = stack_items

    @classmethod
    def stand_in(cls, recipe: Recipe, facts: DataFacts) -> StandIn:
        data, train = recipe.data, recipe.train
        assert isinstance(data, SelfDistillationData)
        assert isinstance(train, SelfDistillationTrain)
        backbone = model_without_weights(recipe, AutoModel)
        config = backbone.config
        sizes = {
            "global_crops": (data.global_crops, config.num_channels, *as_pair(config.image_size)),
            "local_crops": (data.local_crops, config.num_channels, *local_size(config, data)),
        }
        with torch.device("meta"):
            model = _distilled(backbone, train)
        return StandIn(model, lambda rows: {name: blank(rows, *size) for name, size in sizes.items() if size[0]})

    def _crop(self, size: tuple[int, int], scale: list[float]) -> CropTransform:
        data = self.data
        return CropTransform(
            self.processor,
            size,
            (scale[0], scale[1]),
            data.flip,
            data.rand_augment,
            data.color_jitter,
            data.grayscale,
            data.gaussian_blur,
            data.solarize,
        )

    def _crops_of(self, images: LabelledImages, plain: EvaluationTransform | None = None) -> MultiCropImages:
        seed = self.recipe.seed
        return MultiCropImages(images, **self.crops, num_channels=self.num_channels, seed=seed, plain=plain)

    # -- what an evaluation measures ----------------------------------------------------------------------------------

    def reduce_outputs(self, logits: Outputs, labels: Outputs) -> Outputs:
        return logits

    def compute_metrics(self, evaluation: EvalPrediction) -> dict[str, float]:
        features, *numbers = tuple(evaluation.predictions)  # in the order of SelfDistillationOutput
        labels = np.asarray(evaluation.label_ids)
        bank, bank_labels = self._bank()
        return {
            "knn_accuracy": knn_accuracy(bank, bank_labels, features, labels, _NEIGHBORS),
            **{name: float(np.mean(values)) for name, values in zip(_NUMBERS, numbers, strict=False)},
        }

    @torch.no_grad()
    def _bank(self) -> tuple[np.ndarray, np.ndarray]:
        """(features, labels) of training pictures, evenly spread where there are very many."""
        images = self.splits.train
        chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), _BANK)).astype(int))
        plain, parts = self.plain(images), []
        backbone = cast(SelfDistillation, self.whole_model()).student_backbone
        was_training = backbone.training
        backbone.eval()
        for start in range(0, len(chosen), 256):
            pixel_values = torch.stack([plain[int(i)]["pixel_values"] for i in chosen[start : start + 256]])
            parts.append(pooled(backbone, pixel_values.to(backbone.device)).float().cpu())
        backbone.train(was_training)
        return torch.cat(parts).numpy(), images.labels[chosen]

    def verdict(self, metrics: dict[str, Any]) -> list[str]:
        part = next((name for name in ("test", "validation") if name in metrics), None)
        if part is None:
            return []
        found = metrics[part]
        share, entropy = found["teacher_information"], found["teacher_entropy"]
        accuracy = f"k-nn accuracy of the student's features on the {part} images: {found['knn_accuracy']:.4f}"
        if share < COLLAPSED:
            return [
                accuracy,
                f"COLLAPSED: the teacher's output hardly depends on the picture ({share:.1%} of the information that a "
                f"batch allows, entropy {entropy:.3f} nats): {_REMEDIES[self.train.self_distillation_loss]}, "
                "lower train.learning_rate, raise train.teacher_momentum, or make batches larger",
            ]
        return [accuracy, f"no collapse: the teacher's output carries {share:.0%} of the information a batch allows"]

    def complete(self, metrics: dict[str, float], part: str) -> dict[str, float]:
        return {**metrics, "collapsed": metrics["teacher_information"] < COLLAPSED}

    # -- what is kept -------------------------------------------------------------------------------------------------

    def callbacks(self) -> list[TrainerCallback]:
        return [_Schedules(self.train, self.recipe.arguments), _LogTeacher()]

    def finished_model(self) -> PreTrainedModel:
        return self.part_that_is_kept(self.model)

    def part_that_is_kept(self, trained: nn.Module) -> PreTrainedModel:
        return cast(SelfDistillation, trained).student_backbone

    def sample_inputs(self, count: int) -> dict[str, Tensor]:
        shown = self.shown()
        return {"pixel_values": torch.stack([shown[i]["pixel_values"] for i in spread(len(shown), count)])}

    def report(self, model: PreTrainedModel, history: list[dict[str, Any]]) -> list[Section]:
        return [self._teacher_section(history), self._crops_section(), *self.view_sections(model)]

    def _teacher_section(self, history: list[dict[str, Any]]) -> Section:
        rows = [
            {
                "step": entry["step"],
                **{head: format(entry[name], form) for name, (head, form) in _COLUMNS.items() if name in entry},
            }
            for entry in history
            if "eval_knn_accuracy" in entry
        ]
        text = (
            "The information is how much the teacher's output tells pictures apart: 0 in every collapse, be it one "
            f"prototype for all or the same uniform output for all. Below {COLLAPSED} the run counts as collapsed."
        )
        return Section("The teacher over training", text, table=rows)

    def _crops_section(self) -> Section:
        pictures, captions = [], []
        for index in range(min(3, len(self.splits.train))):
            item = self.train_data[(0, index)]
            for name, crops in item.items():
                for number, crop in enumerate(crops[:4]):
                    pictures.append(_picture(crop, self.processor))
                    captions.append(f"{name.partition('_')[0]} {number + 1}")
        text = "What student and teacher see of three training pictures: the teacher only the global crops."
        return Section("Crops", text, drawn=gallery_html(pictures, captions))


def local_size(config: PreTrainedConfig, data: SelfDistillationData) -> tuple[int, int]:
    """(height, width) in pixels of a local crop: as asked, else 3/7 of the image's (96 of 224), in whole patches.

    Raises:
        ValueError: a size that the patches do not divide.
    """
    patch = as_pair(config.patch_size)
    if data.local_crop_size is not None:
        size = (data.local_crop_size, data.local_crop_size)
        if any(side % p or side < p for side, p in zip(size, patch, strict=True)):
            raise UserError(
                f"data.local_crop_size must be a multiple of the patch {patch[0]} x {patch[1]}, got "
                f"{data.local_crop_size}"
            )
        return size
    height, width = (
        max(p, round(side * 3 / 7 / p) * p) for side, p in zip(as_pair(config.image_size), patch, strict=True)
    )
    return height, width


def _picture(crop: Tensor, processor: CLIPImageProcessor) -> Image.Image:
    return Image.fromarray(to_pictures(crop[None], processor.image_mean, processor.image_std)[0])


def _distilled(backbone: PreTrainedModel, train: SelfDistillationTrain) -> SelfDistillation:
    """Student and teacher, with the heads and the loss that the recipe asks for."""
    return SelfDistillation(
        backbone,
        _loss_of(train),
        train.prototypes,
        train.head_hidden_size,
        train.head_bottleneck_size,
        train.head_batch_norm,
        train.student_temperature,
        train.rate_weight,
    )


def _loss_of(train: SelfDistillationTrain) -> SelfDistillationLoss | FeatureLoss:
    """The loss by name, or that of SimDINO with the options that the recipe sets."""
    if train.self_distillation_loss != "simdino":
        return cast(SelfDistillationLoss, train.self_distillation_loss)
    options = {keyword: getattr(train, name) for name, keyword in SIMDINO_OPTIONS.items()}
    return partial(distillation_terms, **{name: value for name, value in options.items() if value is not None})


def _steps_per_epoch(state: TrainerState) -> float:
    return state.max_steps / max(state.num_train_epochs, 1e-9)


class _Schedules(TrainerCallback):
    """Sets momentum, weight decay and temperature, each a function of the step alone, so a resumed run goes on exactly.

    momentum: cosine from `teacher_momentum` to 1. weight decay: cosine from `weight_decay` to `weight_decay_end`.
    temperature: cosine from `warmup_teacher_temperature` to `teacher_temperature` over its warm-up epochs.
    """

    def __init__(self, options: SelfDistillationTrain, arguments: dict[str, Any]):
        self.options = options
        self.weight_decay = float(arguments.get("weight_decay", 0.0))

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        **kwargs: object,
    ) -> None:
        options = self.options
        warm_up = options.warmup_teacher_temperature_epochs * _steps_per_epoch(state)
        share = state.global_step / warm_up if warm_up else 1.0
        distillation(model).teacher_temperature = cosine_between(
            options.warmup_teacher_temperature, options.teacher_temperature, share
        )
        if options.weight_decay_end is not None and optimizer is not None:  # group 0 decays, group 1 never
            share = state.global_step / max(state.max_steps - 1, 1)
            optimizer.param_groups[0]["weight_decay"] = cosine_between(
                self.weight_decay, options.weight_decay_end, share
            )

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: object,
    ) -> None:
        if state.global_step < math.ceil(self.options.freeze_last_layer_epochs * _steps_per_epoch(state)):
            distillation(model).freeze_last_layer()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: object,
    ) -> None:
        share = (state.global_step - 1) / max(state.max_steps - 1, 1)
        distillation(model).update_teacher(cosine_between(self.options.teacher_momentum, 1.0, share))


class _LogTeacher(TrainerCallback):
    """Writes the teacher's entropy into the log beside the loss, and warns once when an evaluation finds a collapse."""

    def __init__(self) -> None:
        self.has_warned = False

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        logs: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if state.log_history and "loss" in (logs or {}) and model is not None:
            state.log_history[-1].update(distillation(model).latest)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        share = (metrics or {}).get("eval_teacher_information")
        is_early = state.global_step * 4 < state.max_steps
        if share is None or not state.is_world_process_zero or self.has_warned or is_early:
            return
        if share < COLLAPSED:
            self.has_warned = True
            logger.warning(
                "step %d: the run has collapsed, the teacher's output hardly depends on the picture (%.1f %% of the "
                "information that a batch allows)",
                state.global_step,
                100 * share,
            )


def distillation(model: nn.Module | None) -> SelfDistillation:
    """The module itself, without what distributed training wraps around it."""
    return cast(SelfDistillation, getattr(model, "module", model))


__all__ = ["COLLAPSED", "SelfDistillationTask", "local_size"]
