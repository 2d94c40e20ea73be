"""The tables of docs/evidence.md, made from the stored results alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from .models import GRID, LANGUAGE, SHELLS
from .stored import Stored, Value, layers, value

DATA = {"fashion": "Fashion-MNIST", "composed": "composed images"}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(found: Value | None, scale: float = 100.0, form: str = ".1f") -> str:
    return "not measured" if found is None else found.text(scale, form)


def count(found: Value | None) -> str:
    return "not measured" if found is None else f"{round(found.mean):,}"


def _main(stored: Stored, data: str) -> str:
    rows = []
    for model in GRID:
        width, equal, timed = (stored.row(group, data, model) for group in ("width", "parameters", "time"))
        rows.append(
            [
                model,
                count(value(width, "model parameters")),
                count(value(width, "model flops")),
                cell(value(width, "test accuracy")),
                cell(value(width, "flat"), 100, ".0f").partition(" ")[0],
                f"{equal['recipe']['model']['hidden_size']}" if equal else "not measured",
                cell(value(equal, "test accuracy")),
                f"{timed['recipe']['train']['max_steps']:,}" if timed else "not measured",
                cell(value(timed, "test accuracy")),
            ]
        )
    head = ["", "parameters", "FLOPs a picture", "accuracy, %", "flat, % of seeds", "width at equal parameters"]
    return table([*head, "accuracy, %", "steps in equal time", "accuracy, %"], rows)


def main_fashion(stored: Stored) -> str:
    return _main(stored, "fashion")


def main_composed(stored: Stored) -> str:
    return _main(stored, "composed")


def about(stored: Stored) -> str:
    told = stored.about
    used = told["versions"]
    names = "; ".join(", ".join(f"{k} {v}" for k, v in own.items()) for own in used if own)
    seeds = sorted({seed for row in stored.content["rows"] for seed in row["seeds"]})
    return (
        f"Runs: {told['runs']} ({told['runs_missing']} of the plan were not made), seeds "
        f"{', '.join(map(str, seeds))} at most, {told['seconds_of_all_runs']:,} seconds of workers together; device: "
        f"{', '.join(name for name in told['devices'] if name)}; {names}. Command: `{told['command']}`. Intervals: "
        f"{told['interval']}. Flat: {told['flat']}."
    )


def choices(stored: Stored) -> str:
    rows = []
    for own in stored.content["choices"]:
        chosen = own["chosen"]
        if chosen is None:
            continue
        edge = "yes" if own["at_edge"] else "no"
        decay = f"{chosen['weight_decay']:g}" if "weight_decay" in chosen else "the recipe's"
        optimizer = chosen.get("optimizer", "adamw")
        rows.append([own["data"], own["model"], optimizer, f"{chosen['learning_rate']:g}", decay, edge])
    return table(["data", "model", "optimizer", "learning rate", "weight decay", "at the edge of the grid"], rows)


def half_steps(stored: Stored) -> str:
    names = ("compresses_official", "compresses_paper", "sparsifies_official", "sparsifies_paper")
    rows = []
    for data in DATA:
        for model in GRID:
            row = stored.row("width", data, model)
            told = [row["values"].get("trained layers coding_rate_of", "") if row else ""]
            cells = [
                f"{cell(value(row, f'trained share {name}'), 100, '.0f')} ({_plain(row, f'untrained share {name}')})"
                for name in names
            ]
            rows.append([data, model, *told, *cells])
    head = ["data", "model", "R^c is of", "compress: R^c falls, official", "the same, paper"]
    return table([*head, "sparsify: R - λ‖Z‖₀ rises, official", "the same, paper"], rows)


def _plain(row: Mapping[str, Any] | None, name: str, scale: float = 100, form: str = ".0f") -> str:
    found = value(row, name)
    return "-" if found is None else format(found.mean * scale, form)


def through_layers(stored: Stored) -> str:
    names = (("coding_rate", ".0f", 1), ("rate_reduction", ".0f", 1), ("nonzero_fraction", ".0f", 100))
    rows = []
    for data in DATA:
        for model in GRID:
            row = stored.row("width", data, model)
            if row is None:
                continue
            cells = []
            for name, form, scale in names:
                for state in ("untrained", "trained"):
                    found = layers(row, f"{state} layers {name}")
                    ends = [own.text(scale, form).partition(" ")[0] if own else "-" for own in (found[0], found[-1])]
                    cells.append(" → ".join(ends))
            rows.append([data, model, *cells])
    head = ["data", "model", "R^c, nats, untrained", "trained", "ΔR, untrained", "trained"]
    return table([*head, "non-zeros, %, untrained", "trained"], rows)


def emergence(stored: Stored) -> str:
    rows = []
    for model in GRID:
        row = stored.row("width", "composed", model)
        cells = []
        for name in ("mass best head", "mass head of others"):
            cells += [cell(value(row, f"{state} {name}"), 100) for state in ("trained", "untrained")]
        cells += [cell(value(row, f"{state} emergence maskcut"), 100) for state in ("trained", "untrained")]
        rows.append([model, *cells])
    random = stored.row("chance", "composed", "masks at random")
    at_random = [value(random, f"mass {name}", -2) for name in ("best_head", "other_images")]
    rows.append(["masks at random", cell(at_random[0]), "", cell(at_random[1]), "", "", ""])
    rows.append(["the whole picture", cell(value(random, "whole_image")), "", "", "", "", ""])
    head = ["", "best head", "untrained", "head chosen on other images", "untrained", "MaskCut", "untrained"]
    return table(head, rows)


def robustness(stored: Stored) -> str:
    rows = []
    for data in DATA:
        for model in GRID:
            row = stored.row("width", data, model)
            cells = [cell(value(row, "test accuracy"))]
            for kind in ("noise", "blur", "occlusion"):
                found = [value(row, f"trained robustness {kind} {strength}") for strength in (1, 3, 5)]
                cells.append(" / ".join("-" if own is None else f"{100 * own.mean:.1f}" for own in found))
            cells.append(cell(value(row, "trained robustness accuracy")))
            rows.append([data, model, *cells])
    kinds = [f"{kind}, strengths 1 / 3 / 5" for kind in ("noise", "blur", "occlusion")]
    return table(["data", "model", "unhurt", *kinds, "mean of all 15"], rows)


def shells(stored: Stored) -> str:
    rows = []
    for data in DATA:
        for model in SHELLS:
            row = stored.row("patches", data, model)
            if row is not None:
                cells = [count(value(row, "model parameters")), cell(value(row, "test accuracy"))]
                iou = value(row, "trained mass head of others")
                rows.append([data, model, *cells, "-" if iou is None else iou.text(100)])
    missing = [["", "not measured", "", "", ""]] if not rows else []
    return table(["data", "model", "parameters", "accuracy, %", "IoU, head of other images"], rows or missing)


def maps(stored: Stored) -> str:
    rows = []
    for row in stored.rows("map"):
        last = value(row, "trained layers nonzero_fraction", -1)
        cells = [
            cell(value(row, "test accuracy")),
            cell(last, 100, ".0f"),
            cell(value(row, "trained mass best head")),
            cell(value(row, "trained mass head of others")),
            cell(value(row, "trained share compresses_paper"), 100, ".0f"),
        ]
        rows.append([row["setting"], str(len(row["seeds"])), *cells])
    head = ["setting", "seeds", "accuracy, %", "non-zeros of the last layer, %", "IoU, best head"]
    head += ["IoU, head of others", "half-steps that compress (paper), %"]
    return table(head, rows or [["not measured"] + [""] * 6])


def labels(stored: Stored) -> str:
    rows = []
    for model in ("MAE", "DINO", "SimDINO"):
        row = stored.row("labels", "digits", model)
        cells = [
            cell(value(row, f"{state} {probe}")) for probe in ("knn", "linear") for state in ("trained", "untrained")
        ]
        rows.append([model, str(len(row["seeds"])) if row else "0", *cells])
    head = ["pretrained with", "seeds", "k-nn, %", "random weights", "linear, %", "random weights"]
    return table(head, rows)


def language(stored: Stored) -> str:
    rows = []
    for model in LANGUAGE:
        equal, timed = (stored.row(f"language, {group}", "python", model) for group in ("parameters", "time"))
        cells = [
            f"{equal['recipe']['model']['hidden_size']}" if equal else "not measured",
            count(value(equal, "model parameters")),
            cell(value(equal, "test bits_per_byte"), 1, ".3f"),
            f"{timed['recipe']['train']['max_steps']:,}" if timed else "not measured",
            cell(value(timed, "test bits_per_byte"), 1, ".3f"),
        ]
        rows.append([model, *cells])
    xz = stored.row("xz", "python", "xz -9")
    rows.append(["xz -9, the test text alone", "", "", cell(value(xz, "alone"), 1, ".3f"), "", ""])
    rows.append(["xz -9, after the training text", "", "", cell(value(xz, "after_training_text"), 1, ".3f"), "", ""])
    head = ["", "width at equal parameters", "parameters", "bits a byte", "steps in equal time", "bits a byte"]
    return table(head, rows)


__all__ = [
    "DATA",
    "about",
    "cell",
    "choices",
    "count",
    "emergence",
    "half_steps",
    "labels",
    "language",
    "main_composed",
    "main_fashion",
    "maps",
    "robustness",
    "shells",
    "table",
    "through_layers",
]
