"""`crate predict`: image files to JSON lines."""

import json
from dataclasses import asdict
from typing import Annotated

import typer


def predict(
    model: Annotated[str, typer.Argument(help="A model folder, or a name on the Hugging Face hub.")],
    images: Annotated[list[str], typer.Argument(help="Image files, and folders of them.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Images a forward pass.")] = 32,
) -> None:
    """Classify images: one JSON object a line with file, label and score."""
    from ..evaluation.prediction import predict_images

    for prediction in predict_images(model, images, batch_size):
        typer.echo(json.dumps(asdict(prediction)))


__all__ = ["predict"]
