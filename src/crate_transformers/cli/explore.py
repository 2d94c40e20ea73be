"""`crate explore`: a local page where one watches the algorithm work."""

import os
from typing import Annotated

import typer

from ..errors import UserError
from .terminal import Heads, note


def explore(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A model's folder or hub name, a public checkpoint file, or demo:fashion, demo:fashion-vit, "
            "demo:fashion-mae, demo:python. Default: the demonstration, CRATE and a ViT beside it."
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="A second model beside the first, or the word untrained.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Pictures to show: digits, imagefolder:PATH, torchvision:NAME, hub:NAME, a PATH.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="A text file, or words, for a language model.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: 8737, or a free one.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
    heads: Heads = None,
    baseline_heads: Heads = None,
) -> None:
    """Open a page on this machine that shows every layer, head and neuron at work, and lets one change them."""
    if baseline is None and baseline_heads is not None:
        raise UserError("--baseline-heads is of the --baseline, and there is none")
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError("crate explore needs an extra: pip install 'crate-transformers[explore]'") from error
    # read when torch is loaded: its threads must not spin between two answers, for the browser needs the cores
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from ..explore.first import first_view
    from ..explore.server import Opened
    from ..explore.serving import serve

    def load() -> Opened:
        from ..explore.service import Service
        from ..explore.subjects import open_subjects

        subjects = open_subjects(model, baseline, data, text, heads, baseline_heads, note)
        return Opened(Service(subjects), data)

    is_default = model in (None, "demo:fashion") and baseline is None and data is None
    serve(load, host, port, typer.echo, first=first_view() if is_default else None, browser=not no_browser)


__all__ = ["explore"]
