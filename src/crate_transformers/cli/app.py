"""`crate`: each command parses, calls one function, prints. What is heavy is imported inside the command."""

import sys
from typing import Annotated

import typer

from .. import __version__
from ..cli import commands
from .errors import exit_with_message

app = typer.Typer(
    name="crate",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="CRATE, the white-box transformer: train, evaluate, convert, look inside.",
)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


for _name, _command in commands.COMMANDS.items():
    app.command(_name)(_command)


def main() -> None:
    """Entry point; user errors end with one line on stderr and status 2."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        exit_with_message(error)


__all__ = ["app", "main"]
