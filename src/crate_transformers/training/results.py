"""The end of a run: measure its metrics, and save its model."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from ..files import give_usual_modes
from .adapters import save_adapters
from .tasks import Task
from .trainer import CrateTrainer

_OF_THE_TRAINER = ("runtime", "per_second", "preparation_time")  # endings of the times that the Trainer measures


def measure_run(task: Task, trainer: CrateTrainer, seconds: float) -> dict[str, Any]:
    """The content of metrics.json: the metrics of training, of every held-out part, and of the model.

    Args:
        seconds: the time that training took.
    """
    metrics = {"train": _measure_training(trainer, seconds)}
    for part, data in (("validation", task.validation_data), ("test", task.test_data)):
        if data is not None:
            found = trainer.evaluate(data, metric_key_prefix=part)
            prefix = f"{part}_"
            named = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
            kept = {name: value for name, value in named.items() if not name.endswith(_OF_THE_TRAINER)}
            metrics[part] = task.complete(kept, part)
    task.model, task.whole_copy = task.whole_model(), None
    model = task.finished_model()
    metrics["model"] = {"parameters": model.num_parameters(), "flops": count_flops(model, task.flop_inputs())}
    if task.trained_parameters is not None:
        metrics["model"]["trained_parameters"] = task.trained_parameters
    return metrics


def _measure_training(trainer: CrateTrainer, seconds: float) -> dict[str, Any]:
    samples = trainer.state.global_step * trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps
    return {
        "loss": trainer.mean_loss,
        "steps": trainer.state.global_step,
        "samples": trainer.samples_taken,
        "order": "exact" if trainer.order.keyed else "not exact",
        "epochs": trainer.state.epoch,
        "seconds": round(seconds, 2),
        "samples_per_second": round(samples * trainer.accelerator.num_processes / max(seconds, 1e-9), 3),
        "data_wait_fraction": round(trainer.data_seconds / max(seconds, 1e-9), 4),
        "checkpoint_wait_seconds": round(trainer.checkpointer.waited, 3),
    }


@torch.no_grad()
def count_flops(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> int:
    """The floating-point operations of one forward pass, as torch counts them: a multiply-add is two."""
    was_training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model(**{name: value.to(model.device) for name, value in inputs.items()})
    model.train(was_training)
    return int(counter.get_total_flops())


def save_model(task: Task, output: Path) -> None:
    """Save the model into a folder of its own, then move it into the folder of the run file by file."""
    staging = output / ".model"
    shutil.rmtree(staging, ignore_errors=True)
    task.finished_model().save_pretrained(staging)
    task.save_beside(staging)
    save_adapters(task.model, staging)
    give_usual_modes(staging)
    for file in staging.iterdir():
        if (output / file.name).is_dir():
            shutil.rmtree(output / file.name)
        file.replace(output / file.name)
    staging.rmdir()


__all__ = ["count_flops", "measure_run", "save_model"]
