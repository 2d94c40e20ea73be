"""`crate evaluate`: metrics of a saved model on held-out data."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from ..files import write_bytes
from .settings import parse_settings


def evaluate(
    model: Annotated[str, typer.Argument(help="A model folder, or a name on the Hugging Face hub.")],
    data: Annotated[
        str | None, typer.Option(help="As in `crate train`; default: what the model was trained on.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    tasks: Annotated[str | None, typer.Option(help="Tasks of lm-eval instead of data, as: hellaswag,my_task.")] = None,
    include_path: Annotated[Path | None, typer.Option(help="Of --tasks: a folder of task files (YAML).")] = None,
    limit: Annotated[int | None, typer.Option(help="Of --tasks: samples of each task.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="data.root=... and its like.")] = None,
    output: Annotated[Path | None, typer.Option(help="A JSON file to write the metrics to as well.")] = None,
) -> None:
    """Accuracy and loss of a classifier, perplexity and bits per byte of a language model."""
    from ..evaluation.evaluate import evaluate_model
    from ..evaluation.harness import evaluate_by_tasks
    from ..evaluation.run_folder import describe_model

    if tasks is None and (include_path is not None or limit is not None):
        raise UserError("--include-path and --limit are of --tasks: name the tasks, or leave them out")
    if tasks is not None and (data is not None or settings):
        raise UserError("--tasks have their own data: leave --data and --set out")
    metrics = (
        evaluate_model(model, data, split, parse_settings(settings))
        if tasks is None
        else evaluate_by_tasks(model, [name.strip() for name in tasks.split(",") if name.strip()], include_path, limit)
    )
    text = json.dumps(metrics, indent=2)
    typer.echo(text)
    typer.echo(f"evaluated {describe_model(model)}", err=True)
    if output is not None:
        write_bytes(output, f"{text}\n".encode())
        typer.echo(f"metrics written to {output}", err=True)


__all__ = ["evaluate"]
