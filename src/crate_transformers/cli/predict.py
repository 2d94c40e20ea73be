"""`crate predict`: image files to JSON lines or comma-separated lines."""

import csv
import io
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError

if TYPE_CHECKING:
    from ..evaluation.prediction import Prediction


def predict(
    model: Annotated[str, typer.Argument(help="A model folder, or a name on the Hugging Face hub.")],
    images: Annotated[list[str], typer.Argument(help="Image files, and folders of them.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Images a forward pass.")] = 32,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="The likeliest classes of each image.")] = 1,
    form: Annotated[str, typer.Option("--format", help="jsonl or csv.")] = "jsonl",
) -> None:
    """Classify images: one JSON object a line with file, label and score; a line a class with --format csv."""
    from ..evaluation.prediction import predict_images

    if form not in ("jsonl", "csv"):
        raise UserError(f"--format must be jsonl or csv, got {form!r}")
    for place, prediction in enumerate(predict_images(model, images, batch_size, top_k)):
        if form == "jsonl":
            typer.echo(json.dumps(_row(prediction, top_k)))
        else:
            typer.echo(_lines(prediction, top_k, heading=place == 0), nl=False)


def _row(prediction: "Prediction", top_k: int) -> dict[str, Any]:
    row: dict[str, Any] = {"file": prediction.file, "label": prediction.label, "score": prediction.score}
    if top_k > 1:
        row["top"] = [{"label": label, "score": score} for label, score in prediction.top]
    return row


def _lines(prediction: "Prediction", top_k: int, heading: bool) -> str:
    """file, label, score; a line a class, with its rank from 1, where several are asked for."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ranked = top_k > 1
    if heading:
        writer.writerow(["file", *(["rank"] if ranked else []), "label", "score"])
    for rank, (label, score) in enumerate(prediction.top, start=1):
        writer.writerow([prediction.file, *([rank] if ranked else []), label, score])
    return text.getvalue()


__all__ = ["predict"]
