"""From the `train` section of a recipe to transformers' TrainingArguments and an optimizer."""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from ..errors import UserError
from .recipe import Recipe

# what a CRATE run expects where a recipe is silent
_DEFAULTS: dict[str, Any] = {
    "seed": 42,
    "lr_scheduler_type": "cosine",
    "logging_strategy": "steps",
    "logging_steps": 10,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "max_grad_norm": 1.0,
    "report_to": [],
    "remove_unused_columns": False,
    "dataloader_drop_last": True,
    "ddp_find_unused_parameters": False,  # every parameter has a gradient in every step
    "average_tokens_across_devices": False,
    "disable_tqdm": True,
    "use_cpu": not torch.accelerator.is_available(),  # processes on CPUs find each other only when told
    "logging_nan_inf_filter": False,
    "dataloader_pin_memory": torch.cuda.is_available(),
}


def training_arguments(
    recipe: Recipe, output_dir: Path, steps_per_epoch: int, metric: str | None, greater_is_better: bool
) -> TrainingArguments:
    """The arguments of a run.

    Args:
        steps_per_epoch: optimizer steps, to turn `warmup_epochs` into steps.
        metric: of the validation part, which picks the best model; None where there is no validation part.

    Raises:
        ValueError: a value that TrainingArguments refuses.
    """
    given = dict(recipe.arguments)
    values = {**_DEFAULTS, **given}
    if recipe.train.warmup_epochs is not None and "warmup_steps" not in given:
        values["warmup_steps"] = round(recipe.train.warmup_epochs * steps_per_epoch)
    if metric is None:
        values.update(eval_strategy="no", load_best_model_at_end=False)
    else:
        values.setdefault("metric_for_best_model", metric)
        values.setdefault("greater_is_better", greater_is_better)
    if "eval_steps" in given and "eval_strategy" not in given and metric is not None:
        values["eval_strategy"] = "steps"
    if "save_steps" in given and "save_strategy" not in given:
        values["save_strategy"] = "steps"
    asked_to_save = "save_strategy" in given or "save_steps" in given
    if values["eval_strategy"] != values["save_strategy"] and "load_best_model_at_end" not in given:
        if asked_to_save or values["eval_strategy"] == "no":  # the best model need not be among the saved ones
            values["load_best_model_at_end"] = False
        elif metric is not None:
            values["save_strategy"] = values["eval_strategy"]
        if values["save_strategy"] == "steps" and "eval_steps" in given:
            values.setdefault("save_steps", given["eval_steps"])
    try:
        return TrainingArguments(output_dir=str(output_dir), **values)
    except (TypeError, ValueError) as error:
        raise UserError(f"the train section of the recipe does not fit: {error}") from error


def optimizer_of(recipe: Recipe, arguments: TrainingArguments) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Optimizer class and keywords; weight decay is set per parameter group by the Trainer."""
    betas = recipe.train.optimizer_betas
    keywords: dict[str, Any] = {"lr": arguments.learning_rate}
    if recipe.train.optimizer == "lion":
        from lion_pytorch import Lion  # only for recipes that ask for it

        return Lion, {**keywords, **({"betas": tuple(betas)} if betas else {})}
    adam_betas = tuple(betas) if betas else (arguments.adam_beta1, arguments.adam_beta2)
    return torch.optim.AdamW, {**keywords, "betas": adam_betas, "eps": arguments.adam_epsilon}


__all__ = ["optimizer_of", "training_arguments"]
