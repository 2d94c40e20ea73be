"""The tables of the page on plans, from the stored results."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
_MACHINES = {"2 CPU cores": "planning.json", "one H200": "h200/planning.json"}


def _read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text("utf-8"))


def agreement_of_plans() -> str:
    """Planned over measured memory, of each machine and dtype."""
    lines = ["| machine | dtype | recipes | planned / measured peak, smallest to largest |", "|---|---|---|---|"]
    for machine, file in _MACHINES.items():
        rows = _read(file)["rows"]
        for dtype in ("float32", "bfloat16"):
            ratios = {
                row["recipe"]: row["planned_peak"] / row["measured_peak"]
                for row in rows
                if row["dtype"] == dtype and row.get("forms", "torch") == "torch"
            }
            if not ratios:
                continue
            low, high = min(ratios.values()), max(ratios.values())
            lines.append(f"| {machine} | {dtype} | {len(ratios)} | {low:.2f} to {high:.2f} |")
    return "\n".join(lines) + "\n"


def plans() -> str:
    """A row for each of the papers' recipes."""
    rows = _read("plans.json")["rows"]
    lines = [
        "| model | recipe | parameters | exaFLOP | peak, GiB | checkpointed, GiB | hours | kWh | the loader gives |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for title, row in rows.items():
        gib = (f"{row[name] / 2**30:.1f}" for name in ("peak", "peak, checkpointed"))
        rate = f"{row['rate']:,.0f} {row['unit'].split()[0]}/s"
        lines.append(
            f"| {title} | `{row['recipe']}` | {row['parameters'] / 1e6:.1f} M | {row['operations'] / 1e18:.3g} | "
            f"{' | '.join(gib)} | {row['time'] / 3600:.1f} | {row['energy']:.1f} | {rate} |"
        )
    return "\n".join(lines) + "\n"


__all__ = ["agreement_of_plans", "plans"]
