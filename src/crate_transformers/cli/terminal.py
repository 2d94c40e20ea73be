"""What the commands share of a terminal: the option --heads, notes, progress bars, the check of a folder to write."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ..errors import UserError

Item = TypeVar("Item")

Heads = Annotated[int | None, typer.Option(min=1, help="Number of heads of a checkpoint file, which does not hold it.")]


def note(line: str) -> None:
    """Print a line that is no result on stderr."""
    typer.echo(line, err=True)


def with_progress(
    batches: Mapping[str, Any] | Iterable[Mapping[str, Any]], count: int | None, what: str
) -> Iterator[Any]:
    """Batches as they are, with a progress bar on the terminal; count: of their samples, where it is known."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=count)
        stream: Iterable[Mapping[str, Any]] = [batches] if isinstance(batches, Mapping) else batches
        for batch in stream:
            yield batch
            progress.advance(task, len(next(iter(batch.values()))))


def one_by_one(items: Iterable[Item], count: int, what: str) -> Iterator[Item]:
    """Items as they are, with a progress bar on the terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, what, total=count, console=console, transient=True, disable=not console.is_terminal)


def check_folder(output: Path) -> Path:
    """The folder to write, which need not be there yet.

    Raises:
        UserError: there is a file of that name.
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file: name a folder")
    return output


def output_folder(output: Path) -> Path:
    """The folder to write, made where it is missing.

    Raises:
        UserError: there is a file of that name.
    """
    check_folder(output).mkdir(parents=True, exist_ok=True)
    return output


__all__ = ["Heads", "check_folder", "note", "one_by_one", "output_folder", "with_progress"]
