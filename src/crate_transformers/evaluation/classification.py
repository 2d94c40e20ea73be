"""How good a saved image classifier is, on a source of labelled images or on one of ImageNet's other test sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ..data import (
    EvaluationTransform,
    HeldOutSet,
    HeldOutSource,
    KeyedImages,
    is_held_out_source,
    load_held_out_source,
    load_image_source,
)
from ..errors import UserError
from .class_metrics import Outcomes, class_metrics, outcomes_of
from .corruptions import corruption_metrics
from .prediction import class_names, load_classifier
from .progress import Progress, unchanged
from .samples_table import AddRows, Cell, samples_table

_OF_A_SET = ("images", "accuracy", "loss", "top5_accuracy", "brier", "expected_calibration_error", "intervals")


def evaluate_classifier(
    folder: str | Path,
    source: str,
    split: str = "test",
    batch_size: int = 64,
    *,
    table: Path | None = None,
    progress: Progress = unchanged,
    **options: Any,
) -> dict[str, Any]:
    """Metrics of a classifier on one part of a source of labelled images.

    Args:
        source: as `load_image_source` or `load_held_out_source` takes it. options: as the former takes them.
        split: "train", "validation" or "test"; the sources of the latter are one part, "test".
        table: a comma-separated file to write, with a row a picture.
        progress: passes batches on, and may show how many of them are done.

    Returns:
        split, and what `class_metrics` gives: images (their number), accuracy in [0, 1], loss in nats, ... For
        imagenet-c what `corruption_metrics` gives, and `sets`, the metrics of each corruption and severity.

    Raises:
        ValueError: the classes are not the model's, the part is empty, or the source or the model cannot be opened.
    """
    if split not in ("train", "validation", "test"):
        raise UserError(f"split must be train, validation or test, got {split!r}")
    if is_held_out_source(source):
        if split != "test":
            raise UserError(f"{source.partition(':')[0]} is a test set, it has no {split} part")
        run = _Run.of(folder, batch_size, progress)
        with samples_table(table) as add:
            return {"split": split, **_on_held_out(run, load_held_out_source(source, run.classes), source, add)}
    splits = load_image_source(source, **options)
    images = getattr(splits, split)
    if not len(images):
        raise UserError(f"{source} has no {split} images")
    run = _Run.of(folder, batch_size, progress)
    _check_classes(run.model, splits.classes, source)
    with samples_table(table) as add:
        metrics = class_metrics(run.outcomes(HeldOutSet(images), add), run.classes)
    left_out = [f"{len(splits.left_out)} unreadable pictures are left out"] if splits.left_out else []
    return {"split": split, **metrics, "notes": [*splits.notes, *left_out, *metrics["notes"]]}


@dataclass(frozen=True, eq=False)
class _Run:
    """A classifier that is tried on sets of pictures."""

    model: PreTrainedModel
    transform: EvaluationTransform
    classes: list[str]
    batch_size: int
    progress: Progress

    @classmethod
    def of(cls, folder: str | Path, batch_size: int, progress: Progress) -> "_Run":
        model, processor = load_classifier(folder)
        return cls(model, EvaluationTransform(processor), class_names(model), batch_size, progress)

    @torch.no_grad()
    def outcomes(self, tried: HeldOutSet, add: AddRows) -> Outcomes:
        """The outcomes of a set; a row a picture goes to `add`."""
        data = KeyedImages(tried.images, self.transform, self.model.config.num_channels)
        parts = []
        starts = range(0, len(data), self.batch_size)
        for start in self.progress(starts, len(starts), " ".join(("evaluating", *tried.group))):
            items = [data[i] for i in range(start, min(start + self.batch_size, len(data)))]
            pixel_values = torch.stack([item["pixel_values"] for item in items]).to(self.model.device)
            labels = torch.tensor([item["labels"] for item in items])
            accepted = None if tried.accepted is None else tried.accepted[start : start + self.batch_size]
            part = outcomes_of(self.model(pixel_values=pixel_values).logits, labels, accepted)
            add(self._rows(tried, part, start))
            parts.append(part)
        return Outcomes.joined(parts)

    def _rows(self, tried: HeldOutSet, part: Outcomes, start: int) -> list[dict[str, Cell]]:
        """A row a picture: [corruption, severity,] file, label, predicted, score, right, rank[, nats]."""
        group: dict[str, Cell] = dict(zip(("corruption", "severity"), tried.group, strict=False))
        rows = []
        for i in range(len(part)):
            right = (int(part.labels[i]),) if tried.accepted is None else tried.accepted[start + i]
            row: dict[str, Cell] = {
                "file": tried.images.name(start + i),
                "label": "|".join(self.classes[label] for label in right),
                "predicted": self.classes[part.chosen[i, 0]],
                "score": float(part.scores[i, 0]),
                "right": bool(part.right[i]),
                "rank": int(part.ranks[i]),
            }
            nats: dict[str, Cell] = {} if tried.accepted is not None else {"nats": float(part.nats[i])}
            rows.append({**group, **row, **nats})
        return rows


def _on_held_out(run: _Run, source: HeldOutSource, name: str, add: AddRows) -> dict[str, Any]:
    """Metrics on one of ImageNet's other test sets."""
    order = f"classes are told by number: 0 is {run.classes[0]!r}, {len(run.classes) - 1} is {run.classes[-1]!r}"
    notes = [order, *source.notes]
    if source.groups == ((),):
        tried = next(source.sets())
        metrics = class_metrics(run.outcomes(tried, add), run.classes, tried.accepted is not None)
        return {**metrics, "notes": [*notes, *metrics["notes"]]}
    sets: list[dict[str, Any]] = []
    accuracies: dict[tuple[str, ...], float] = {}
    for tried in source.sets():
        metrics = class_metrics(run.outcomes(tried, add), run.classes)
        corruption, severity = tried.group
        about = {"corruption": corruption, "severity": severity}
        sets.append({**about, **{key: metrics[key] for key in _OF_A_SET}})
        accuracies[tried.group] = metrics["accuracy"]
    summary = corruption_metrics(accuracies)
    said = metrics["notes"]  # the same for all sets
    images = sum(row["images"] for row in sets)
    return {"images": images, **summary, "sets": sets, "notes": [*notes, *summary["notes"], *said]}


def _check_classes(model: PreTrainedModel, classes: Sequence[str], source: str) -> None:
    known = class_names(model)
    if len(known) != len(classes):
        raise UserError(f"the model has {len(known)} classes, {source} has {len(classes)}")
    generic = all(name.startswith("LABEL_") for name in known)
    if not generic and known != classes:
        pairs = ((ours, theirs) for ours, theirs in zip(known, classes, strict=True) if ours != theirs)
        ours, theirs = next(pairs)
        raise UserError(f"the classes of {source} are not the model's: {theirs!r} where the model has {ours!r}")


__all__ = ["evaluate_classifier"]
