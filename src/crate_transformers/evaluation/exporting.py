"""Export a model that a user names to a file that runs without this library: `crate export`."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from ..interop.export import ExportFormat, export_model
from ..models.modeling_base import CratePreTrainedModel
from .opening import open_model


def export_source(
    source: str,
    output: Path,
    format: ExportFormat,
    heads: int | None = None,
    on_note: Callable[[str], None] = lambda line: None,
) -> str:
    """Open a model, and write it in float32 as `export_model` does.

    Args:
        source, heads, on_note: as in `open_model`. output: the file.

    Returns:
        the inputs and outputs of the file, as "pixel_values -> logits".

    Raises:
        UserError: as in `open_model` and `export_model`.
    """
    model = open_model(source, heads, on_note=on_note).float()
    return export_model(cast(CratePreTrainedModel, model), output, format)


__all__ = ["export_source"]
