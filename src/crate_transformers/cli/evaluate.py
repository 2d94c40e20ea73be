"""`crate evaluate`: metrics of a saved model on held-out data."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from ..files import write_bytes
from .settings import parse_settings
from .terminal import note, one_by_one


def evaluate(
    model: Annotated[str, typer.Argument(help="A model folder, or a name on the Hugging Face hub.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="As in `crate train`; also imagenet-v2:, imagenet-real:, imagenet-c:PATH; wikitext:, ptb:, "
            "lambada:PATH. Default: what the model was trained on."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    tasks: Annotated[str | None, typer.Option(help="Tasks of lm-eval instead of data, as: hellaswag,my_task.")] = None,
    include_path: Annotated[Path | None, typer.Option(help="Of --tasks: a folder of task files (YAML).")] = None,
    limit: Annotated[int | None, typer.Option(help="Of --tasks: samples of each task.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="data.root=... and its like.")] = None,
    output: Annotated[Path | None, typer.Option(help="A JSON file to write the metrics to as well.")] = None,
    table: Annotated[
        Path | None, typer.Option("--csv", help="A file for a row a sample: label, prediction, score, right or not.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Of wikitext and ptb: tokens by which the window moves. Default: half of it.")
    ] = None,
) -> None:
    """Accuracy, calibration and intervals of a classifier; perplexity, bits per byte, last words of a language model.

    A terminal gets tables; a file or a pipe gets JSON, and the tables go to stderr.
    """
    from ..evaluation.evaluate import EvaluationOptions, evaluate_model
    from ..evaluation.harness import evaluate_by_tasks
    from ..evaluation.run_folder import describe_model
    from ..report.metrics import metrics_text
    from ..report.writing import plain

    if tasks is None and (include_path is not None or limit is not None):
        raise UserError("--include-path and --limit are of --tasks: name the tasks, or leave them out")
    if tasks is not None and (data is not None or settings or table is not None or stride is not None):
        raise UserError("--tasks have their own data and measures: leave --data, --set, --csv and --stride out")
    metrics = (
        evaluate_model(model, data, split, parse_settings(settings), EvaluationOptions(table, stride, one_by_one))
        if tasks is None
        else evaluate_by_tasks(model, [name.strip() for name in tasks.split(",") if name.strip()], include_path, limit)
    )
    text = json.dumps(plain(metrics), indent=2, allow_nan=False)
    as_tables = tasks is None
    if not (as_tables and sys.stdout.isatty()):
        typer.echo(text)
    if as_tables:
        typer.echo(metrics_text(metrics), err=not sys.stdout.isatty())
    note(f"evaluated {describe_model(model)}")
    if output is not None:
        write_bytes(output, f"{text}\n".encode())
        note(f"metrics written to {output}")
    if table is not None:
        note(f"a row a sample written to {table}")


__all__ = ["evaluate"]
