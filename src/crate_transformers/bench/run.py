"""Run a suite: time every contest, count its operations, measure its memory, and keep it all as json and a figure."""

import gc
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from ..report.bars import slower_figure
from ..report.writing import write_json
from .contenders import Case, Work, build, cache_bytes
from .machine import describe_machine, load_average, matrix_product
from .memory import peak_memory
from .suites import Contest, contests_of
from .timing import Ratio, interleave, ratio

_REFERENCE = "matrix product"


@dataclass(frozen=True)
class Row:
    """One contender in one contest.

    median_s, quartiles_s: seconds a run. throughput: `unit` a second. gflop: 10^9 operations a run, a product and a sum
    being two (matrix products and attention; None where they were not counted). matrix_rate_share: of the rate of a
    large float32 matrix product, timed in the same rounds. peak_memory_bytes: above the loaded model, None where not
    measured. cache_bytes: of decoding. slower: median over ours.
    """

    case: str
    contender: str
    repetitions: int
    median_s: float
    quartiles_s: tuple[float, float]
    throughput: float
    unit: str
    gflop: float | None
    matrix_rate_share: float | None
    peak_memory_bytes: int | None
    cache_bytes: int | None
    slower: Ratio


def run_contest(contest: Contest, repetitions: int = 9, warmup: int = 2, budget: float = 120.0) -> list[Row]:
    """Time the contenders of a contest side by side (see `interleave` for the three numbers)."""
    case = contest.case
    works = {name: build(name, case) for name in contest.contenders}
    operations = {name: _operations(work, name, case) for name, work in works.items()}
    product, product_operations = matrix_product()
    timings = interleave(
        {**{name: work.run for name, work in works.items()}, _REFERENCE: product}, repetitions, warmup, budget
    )
    del works
    gc.collect()
    rate = product_operations / timings[_REFERENCE].median
    ours = timings[contest.contenders[0]]
    rows = []
    for name in contest.contenders:
        timing, counted = timings[name], operations[name]
        rows.append(
            Row(
                case=case.label,
                contender=name,
                repetitions=len(timing.seconds),
                median_s=timing.median,
                quartiles_s=timing.quartiles,
                throughput=case.items / timing.median,
                unit=case.unit,
                gflop=counted / 1e9 if counted else None,
                matrix_rate_share=counted / timing.median / rate if counted else None,
                peak_memory_bytes=peak_memory(name, case) if contest.memory else None,
                cache_bytes=_cache(name, case),
                slower=ratio(timing, ours),
            )
        )
    return rows


def _operations(work: Work, name: str, case: Case) -> int | None:
    if work.model is None or "compiled" in name or "int8" in name or case.task == "decoding":
        return None  # not inside compiled code or torchao's; decoding waits for memory, not for products
    with FlopCounterMode(display=False) as counter:
        work.run()
    return counter.get_total_flops()


def _cache(name: str, case: Case) -> int | None:
    return cache_bytes(name, case) if case.task == "decoding" else None


def run_suite(
    suite: str,
    output: Path,
    quick: bool = False,
    only: str = "",
    repetitions: int = 9,
    budget: float = 120.0,
    progress: Callable[[list[Contest]], Iterable[Contest]] = iter,
) -> list[Row]:
    """Run a suite; write SUITE.json (settings, machine, versions, every row) and SUITE.png into `output`.

    Args:
        quick: small cases, to see that it runs. only: the cases whose label contains this.
        repetitions, budget: rounds of each contest, and the seconds after which no new round starts.
        progress: wraps the list of contests, to show where the run is.
    """
    record: dict[str, Any] = {
        "suite": suite,
        "settings": {"quick": quick, "only": only, "repetitions": repetitions, "budget_s": budget},
        "machine": describe_machine(),
        "load_average_before": load_average(),
    }
    rows = []
    for contest in progress(contests_of(suite, quick, only)):
        rows += run_contest(contest, 3 if quick else repetitions, 1 if quick else 2, budget)
        record |= {"load_average_after": load_average(), "rows": [asdict(row) for row in rows]}
        write_json(output / f"{suite}.json", record)  # a run cut short keeps what it measured
    slower_figure(rows, f"crate bench {suite}").savefig(output / f"{suite}.png", dpi=120, bbox_inches="tight")
    return rows


__all__ = ["Row", "run_contest", "run_suite"]
