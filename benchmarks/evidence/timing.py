"""Seconds of a training step of every model, measured in turns on one thread of a CPU: what "equal time" is made of."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageClassification

from crate_transformers.bench import interleave
from crate_transformers.bench.machine import describe_machine
from crate_transformers.recipes import Recipe

from .experiments import TEXT_FIELDS, Experiments
from .models import GRID, LANGUAGE


def _step(recipe: Recipe, auto: Any, inputs: dict[str, torch.Tensor], **fields: Any) -> Callable[[], Any]:
    """One step of AdamW on a batch."""
    torch.manual_seed(0)
    config = recipe.family.build_config(recipe.model.get("size"), {**recipe.model_fields, **fields})
    model = auto.from_config(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def time_steps(experiments: Experiments, repetitions: int = 9) -> dict[str, Any]:
    """Seconds of a step, by data and model: the fastest of the repetitions, least disturbed; and the machine."""
    torch.set_num_threads(1)
    scale, found = experiments.scale, {}
    for data, fields in scale.data.items():
        size, channels = fields["model.image_size"], fields.get("model.num_channels", 1)
        labels = torch.zeros(scale.batch, dtype=torch.long)
        inputs = {"pixel_values": torch.randn(scale.batch, channels, size, size), "labels": labels}
        steps = {
            model: _step(experiments.recipe(data, own), AutoModelForImageClassification, inputs, num_labels=10)
            for model, own in GRID.items()
        }
        found[data] = _least(steps, repetitions)
    ids = torch.randint(2, 1500, (16, 128))
    steps = {
        model: _step(
            experiments.language_recipe(model, 0, scale.language_width),
            AutoModelForCausalLM,
            {"input_ids": ids, "labels": ids},
            **TEXT_FIELDS,
        )
        for model in LANGUAGE
    }
    found["python"] = _least(steps, repetitions)
    return {"seconds": found, "threads": 1, "batch": scale.batch, "machine": describe_machine()}


def _least(steps: dict[str, Callable[[], Any]], repetitions: int) -> dict[str, float]:
    return {name: round(timing.least, 5) for name, timing in interleave(steps, repetitions=repetitions).items()}


__all__ = ["time_steps"]
