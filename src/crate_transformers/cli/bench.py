"""`crate bench`: this library beside its public formulation and transformers' own models."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from .terminal import check_folder


def bench(
    suite: Annotated[
        str, typer.Argument(help="vision, best, bfloat16, text, length, analysis, loading, weights, or all.")
    ] = "all",
    output: Annotated[Path, typer.Option(help="The folder to write SUITE.json and SUITE.png into.")] = Path(
        "runs/bench"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Small cases, a minute: to see that it runs.")] = False,
    only: Annotated[str, typer.Option(help='Only the cases whose line contains this, such as "batch 16".')] = "",
    repetitions: Annotated[int, typer.Option(help="Rounds of each case.")] = 9,
    budget: Annotated[float, typer.Option(help="Seconds a case, after which no new round starts.")] = 120.0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ... Default: an accelerator where there is one.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of torch, no more than cores. Default: its own choice.")
    ] = None,
) -> None:
    """Measure speed, memory and operations, contenders side by side; ratios count, not seconds."""
    if repetitions < 1 or budget <= 0 or (threads is not None and threads < 1):
        raise UserError("--repetitions and --threads must be >= 1, --budget > 0")
    check_folder(output)
    if threads is not None:  # before torch is loaded: after torch.set_num_threads its batched LU fails or hangs on the
        os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}  # CPU (pytorch issue 142815)
    import torch

    from ..bench import SUITES, contests_of, run_suite

    names = list(SUITES) if suite == "all" else [suite]
    for name in names:
        if not contests_of(name, quick, only):  # a wrong name is told before anything runs
            raise UserError(f"no case of suite {name} contains {only!r}")
    if threads is not None and torch.get_num_threads() != threads:
        raise UserError(
            f"--threads {threads}: torch takes {torch.get_num_threads()} here, no more than there are cores"
        )
    if (chosen := _device(device)).type != "cpu":
        torch.set_default_device(chosen)
    for name in names:
        rows = run_suite(name, output, quick, only, repetitions, budget, _progress)
        _print(name, rows)
    typer.echo(f"{', '.join(names)}: measured, written as json and png to {output}")


def _device(name: str | None) -> Any:
    import torch

    here = ["cpu"]
    if torch.accelerator.is_available() and (accelerator := torch.accelerator.current_accelerator()) is not None:
        here.append(accelerator.type)
    if name is not None and name not in here:
        raise UserError(f"--device {name!r} is not here: expected {' or '.join(here)}")
    return torch.device(name or here[-1])


def _progress(contests: list[Any]) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(contests))
        for contest in contests:
            bar.update(task, description=contest.case.label)
            yield contest
            bar.advance(task)


def _print(suite: str, rows: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"suite {suite}")
    for heading in ("case", "contender", "median [quartiles]", "a second", "GFLOP", "of matrix rate", "memory"):
        table.add_column(heading, justify="left" if heading in ("case", "contender") else "right")
    table.add_column("time over ours [95 %]", justify="right")
    last = ""
    for row in rows:
        memory = row.peak_memory_bytes
        table.add_row(
            "" if row.case == last else row.case,
            row.contender,
            "{:.1f} ms [{:.1f}, {:.1f}]".format(*(1e3 * s for s in (row.median_s, *row.quartiles_s))),
            f"{row.throughput:.1f} {row.unit}",
            "" if row.gflop is None else f"{row.gflop:.1f}",
            "" if row.matrix_rate_share is None else f"{row.matrix_rate_share:.0%}",
            "" if memory is None else f"{memory / 2**20:.0f} MiB",
            str(row.slower),
        )
        last = row.case
    console = Console()
    if not console.is_terminal:
        console.width = 180  # a file or a pipe has no width of its own
    console.print(table)


__all__ = ["bench"]
