"""One page, FOLDER/page.md, of what `benchmarks/gpu_day.sh FOLDER ...` left in a folder."""

import json
import re
import sys
from pathlib import Path

LIMIT = 40  # lines of failures


def opened(path):
    return json.loads(path.read_text()) if path.is_file() else None


def machine(folder):
    for path in sorted(folder.glob("*.json")):
        found = opened(path)
        if isinstance(found, dict) and "machine" in found:
            of = found["machine"]
            return ", ".join(
                f"{name} {of[name]}" for name in ("gpu", "cores", "torch", "transformers", "python") if name in of
            )
    return "machine: not measured"


def parts(folder):
    """The last word of every part: name, status, seconds."""
    path = folder / "parts.txt"
    lines = path.read_text().split("\n") if path.is_file() else []
    last = {line.split()[0]: line.split()[1:] for line in lines if line}
    yield from ("| part | ended | seconds |", "|---|---|---|")
    words = {"0": "done", "124": "cut off", "137": "cut off"}
    for name, (status, seconds) in last.items():
        yield f"| {name} | {words.get(status, f'status {status}')} | {seconds} |"


def tests(folder):
    """What pytest said at its end, and the lines of what failed."""
    for name in ("tests", "opening", "suite"):
        log = folder / f"{name}.log"
        if not log.is_file():
            continue
        lines = log.read_text(errors="replace").split("\n")
        end = next((line for line in reversed(lines) if re.search(r"\d+ (passed|failed)", line)), "no end")
        done = sum(" PASSED " in line for line in lines), sum(" FAILED " in line for line in lines)
        yield f"**{name}**: {end.strip('= ')} ({done[0]} passed, {done[1]} failed line by line)"
        failed = [line for line in lines if re.match(r"(FAILED|ERROR) ", line)]
        failed = failed or [line for line in lines if " FAILED " in line or " ERROR " in line]
        for line in failed[:LIMIT]:
            yield f"    {line[:220]}"


def kernels(folder):
    found = opened(folder / "kernels.json")
    if found is None:
        return
    yield "| operator | shape | dtype | error: ours / torch | of gradients | forward, ms | with backward, ms |"
    yield "|---|---|---|---|---|---|---|"
    for row in found["rows"]:

        def pair(name, form, row=row):
            return " / ".join(format(row[f"{name}_{side}"], form) for side in ("ours", "torch"))

        shape = " x ".join(map(str, row["shape"])) + (", causal" if row["causal"] else "")
        yield (
            f"| {row['operator']} | {shape} | {row['dtype']} | {pair('error', '.1e')} | "
            f"{pair('gradient_error', '.1e')} | {pair('forward_ms', '.3f')} | {pair('both_ms', '.3f')} |"
        )


def benched(folder):
    for path in sorted(folder.glob("*.json")):
        found = opened(path)
        if not isinstance(found, dict) or "suite" not in found:
            continue
        yield f"**crate bench {found['suite']}**, time over ours"
        yield ""
        yield from ("| case | ours | others |", "|---|---|---|")
        cases = {}
        for row in found["rows"]:
            cases.setdefault(row["case"], []).append(row)
        for case, rows in cases.items():
            others = "; ".join(
                "{} {:.2f} [{:.2f}, {:.2f}]".format(
                    row["contender"], *(row["slower"][k] for k in ("value", "low", "high"))
                )
                for row in rows[1:]
            )
            yield f"| {case} | {1e3 * rows[0]['median_s']:.2f} ms | {others} |"
        yield ""


def trained(folder):
    yield from (
        "| run | test accuracy | steps | seconds | samples a second | waited for data |",
        "|---|---|---|---|---|---|",
    )
    for path in sorted(folder.glob("train-*/metrics.json")):
        found = opened(path)
        of = found["train"]
        yield (
            f"| {path.parent.name} | {found['test']['accuracy']:.4f} | {of['steps']} | {of['seconds']:.1f} | "
            f"{of['samples_per_second']:.0f} | {of['data_wait_fraction']:.0%} |"
        )


def tables(folder):
    """Rows of numbers as their scripts wrote them."""
    for name in ("steps", "loading"):
        found = opened(folder / f"{name}.json")
        if found is None:
            continue
        columns = list(found["rows"][0])
        yield f"**{name}**"
        yield ""
        yield "| " + " | ".join(columns) + " |"
        yield "|" + "---|" * len(columns)
        for row in found["rows"]:
            shown = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values())
            yield "| " + " | ".join(shown) + " |"
        yield ""


def main():
    folder = Path(sys.argv[1])
    lines = ["# A day on a GPU", "", machine(folder), "", *parts(folder), ""]
    for title, section in (
        ("Tests", tests), ("Kernels", kernels), ("Speed", benched), ("Training", trained), ("Steps and data", tables),
    ):  # fmt: skip
        lines += [f"## {title}", "", *section(folder), ""]
    (folder / "page.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
