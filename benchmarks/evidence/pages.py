"""The tables of docs/evidence.md and docs/findings.md, made from the stored results alone.

On a page a table stands between `<!-- stored: NAME -->` and `<!-- end -->`; `fill` puts it there, and a test compares.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .models import GRID, LANGUAGE, SHELLS
from .stored import Stored, Value, difference, layers, value, verdict

_BLOCK = re.compile(r"(<!-- stored: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
DATA = {"fashion": "Fashion-MNIST", "composed": "composed images"}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(found: Value | None, scale: float = 100.0, form: str = ".1f") -> str:
    return "not measured" if found is None else found.text(scale, form)


def _count(found: Value | None) -> str:
    return "not measured" if found is None else f"{round(found.mean):,}"


# -- evidence.md ------------------------------------------------------------------------------------------------------


def _main(stored: Stored, data: str) -> str:
    rows = []
    for model in GRID:
        width, equal, timed = (stored.row(group, data, model) for group in ("width", "parameters", "time"))
        rows.append(
            [
                model,
                _count(value(width, "model parameters")),
                _count(value(width, "model flops")),
                _cell(value(width, "test accuracy")),
                _cell(value(width, "flat"), 100, ".0f").partition(" ")[0],
                f"{equal['recipe']['model']['hidden_size']}" if equal else "not measured",
                _cell(value(equal, "test accuracy")),
                f"{timed['recipe']['train']['max_steps']:,}" if timed else "not measured",
                _cell(value(timed, "test accuracy")),
            ]
        )
    head = ["", "parameters", "FLOPs a picture", "accuracy, %", "flat, % of seeds", "width at equal parameters"]
    return _table([*head, "accuracy, %", "steps in equal time", "accuracy, %"], rows)


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
    return _table(["data", "model", "optimizer", "learning rate", "weight decay", "at the edge of the grid"], rows)


def half_steps(stored: Stored) -> str:
    names = ("compresses_official", "compresses_paper", "sparsifies_official", "sparsifies_paper")
    rows = []
    for data in DATA:
        for model in GRID:
            row = stored.row("width", data, model)
            told = [row["values"].get("trained layers coding_rate_of", "") if row else ""]
            cells = [
                f"{_cell(value(row, f'trained share {name}'), 100, '.0f')} ({_plain(row, f'untrained share {name}')})"
                for name in names
            ]
            rows.append([data, model, *told, *cells])
    head = ["data", "model", "R^c is of", "compress: R^c falls, official", "the same, paper"]
    return _table([*head, "sparsify: R - λ‖Z‖₀ rises, official", "the same, paper"], rows)


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
    return _table([*head, "non-zeros, %, untrained", "trained"], rows)


def emergence(stored: Stored) -> str:
    rows = []
    for model in GRID:
        row = stored.row("width", "composed", model)
        cells = []
        for name in ("mass best head", "mass head of others"):
            cells += [_cell(value(row, f"{state} {name}"), 100) for state in ("trained", "untrained")]
        cells += [_cell(value(row, f"{state} emergence maskcut"), 100) for state in ("trained", "untrained")]
        rows.append([model, *cells])
    random = stored.row("chance", "composed", "masks at random")
    at_random = [value(random, f"mass {name}", -2) for name in ("best_head", "other_images")]
    rows.append(["masks at random", _cell(at_random[0]), "", _cell(at_random[1]), "", "", ""])
    rows.append(["the whole picture", _cell(value(random, "whole_image")), "", "", "", "", ""])
    head = ["", "best head", "untrained", "head chosen on other images", "untrained", "MaskCut", "untrained"]
    return _table(head, rows)


def robustness(stored: Stored) -> str:
    rows = []
    for data in DATA:
        for model in GRID:
            row = stored.row("width", data, model)
            cells = [_cell(value(row, "test accuracy"))]
            for kind in ("noise", "blur", "occlusion"):
                found = [value(row, f"trained robustness {kind} {strength}") for strength in (1, 3, 5)]
                cells.append(" / ".join("-" if own is None else f"{100 * own.mean:.1f}" for own in found))
            cells.append(_cell(value(row, "trained robustness accuracy")))
            rows.append([data, model, *cells])
    kinds = [f"{kind}, strengths 1 / 3 / 5" for kind in ("noise", "blur", "occlusion")]
    return _table(["data", "model", "unhurt", *kinds, "mean of all 15"], rows)


def shells(stored: Stored) -> str:
    rows = []
    for data in DATA:
        for model in SHELLS:
            row = stored.row("patches", data, model)
            if row is not None:
                cells = [_count(value(row, "model parameters")), _cell(value(row, "test accuracy"))]
                iou = value(row, "trained mass head of others")
                rows.append([data, model, *cells, "-" if iou is None else iou.text(100)])
    missing = [["", "not measured", "", "", ""]] if not rows else []
    return _table(["data", "model", "parameters", "accuracy, %", "IoU, head of other images"], rows or missing)


def maps(stored: Stored) -> str:
    rows = []
    for row in stored.rows("map"):
        last = value(row, "trained layers nonzero_fraction", -1)
        cells = [
            _cell(value(row, "test accuracy")),
            _cell(last, 100, ".0f"),
            _cell(value(row, "trained mass best head")),
            _cell(value(row, "trained mass head of others")),
            _cell(value(row, "trained share compresses_paper"), 100, ".0f"),
        ]
        rows.append([row["setting"], str(len(row["seeds"])), *cells])
    head = ["setting", "seeds", "accuracy, %", "non-zeros of the last layer, %", "IoU, best head"]
    head += ["IoU, head of others", "half-steps that compress (paper), %"]
    return _table(head, rows or [["not measured"] + [""] * 6])


def labels(stored: Stored) -> str:
    rows = []
    for model in ("MAE", "DINO", "SimDINO"):
        row = stored.row("labels", "digits", model)
        cells = [
            _cell(value(row, f"{state} {probe}")) for probe in ("knn", "linear") for state in ("trained", "untrained")
        ]
        rows.append([model, str(len(row["seeds"])) if row else "0", *cells])
    head = ["pretrained with", "seeds", "k-nn, %", "random weights", "linear, %", "random weights"]
    return _table(head, rows)


def language(stored: Stored) -> str:
    rows = []
    for model in LANGUAGE:
        equal, timed = (stored.row(f"language, {group}", "python", model) for group in ("parameters", "time"))
        cells = [
            f"{equal['recipe']['model']['hidden_size']}" if equal else "not measured",
            _count(value(equal, "model parameters")),
            _cell(value(equal, "test bits_per_byte"), 1, ".3f"),
            f"{timed['recipe']['train']['max_steps']:,}" if timed else "not measured",
            _cell(value(timed, "test bits_per_byte"), 1, ".3f"),
        ]
        rows.append([model, *cells])
    xz = stored.row("xz", "python", "xz -9")
    rows.append(["xz -9, the test text alone", "", "", _cell(value(xz, "alone"), 1, ".3f"), "", ""])
    rows.append(["xz -9, after the training text", "", "", _cell(value(xz, "after_training_text"), 1, ".3f"), "", ""])
    head = ["", "width at equal parameters", "parameters", "bits a byte", "steps in equal time", "bits a byte"]
    return _table(head, rows)


# -- findings.md ------------------------------------------------------------------------------------------------------


def _compared(what: str, one: Any, other: Any, form: tuple[float, str] = (100, ".1f")) -> list[str]:
    """A line of the claims: two values, their difference, and what its interval says."""
    found = difference(one, other)
    shown = [_cell(one, *form), _cell(other, *form), "not measured" if found is None else found.text(*form)]
    return [what, *shown, verdict(found)]


def _score(stored: Stored, group: str, data: str, model: str, name: str = "test accuracy") -> Value | None:
    return value(stored.row(group, data, model), name)


def claims_accuracy(stored: Stored) -> str:
    """Pairs of models, in every comparison and on both data sets."""
    pairs = (
        ("CRATE", "ViT"),
        ("CRATE-alpha", "CRATE"),
        ("CRATE-alpha", "ViT"),
        ("CBT", "CRATE"),
        ("ToST", "ViT"),
        ("AoT", "ViT"),
        ("AoT", "CRATE"),
        ("MSSA + MLP", "ViT"),
        ("MHSA + ISTA", "ViT"),
    )
    rows = []
    for one, other in pairs:
        for data in DATA:
            for group in ("width", "parameters", "time"):
                scores = [_score(stored, group, data, model) for model in (one, other)]
                rows.append(_compared(f"{one} above {other}, equal {group}, {data}", *scores))
    return _table(["claim under test", "first, %", "second, %", "difference, points", "seen here?"], rows)


def claims_layers(stored: Stored) -> str:
    """Whether half-steps do more of what they should than at the start, and more than the steps of ViT."""
    rows = []
    for data in DATA:
        for what, name in (
            ("compress (official)", "compresses_official"),
            ("compress (paper)", "compresses_paper"),
            ("sparsify (official)", "sparsifies_official"),
            ("sparsify (paper)", "sparsifies_paper"),
        ):
            row, vit = (stored.row("width", data, model) for model in ("CRATE", "ViT"))
            one = value(row, f"trained share {name}")
            compared = (
                ("untrained CRATE", value(row, f"untrained share {name}")),
                ("ViT", value(vit, f"trained share {name}")),
            )
            for other_name, other in compared:
                text = f"more half-steps of CRATE {what} than of {other_name}, {data}"
                rows.append(_compared(text, one, other, (100, ".0f")))
        for what, column in (("R^c falls", "coding_rate"), ("non-zeros fall", "nonzero_fraction")):
            row = stored.row("width", data, "CRATE")
            found = layers(row, f"trained layers {column}") if row else []
            ends = (found[0], found[-1]) if found else (None, None)
            form = (1, ".0f") if column == "coding_rate" else (100, ".0f")
            rows.append(_compared(f"{what} from the first layer to the last, CRATE, {data}", *ends, form))
    return _table(["claim under test", "first", "second", "difference", "seen here?"], rows)


def claims_emergence(stored: Stored) -> str:
    """Whether masks fit better than untrained ones, than those of ViT, than those drawn at random."""
    random = stored.row("chance", "composed", "masks at random")
    rows = []
    for name, layered in (("best head", "best_head"), ("head of others", "other_images")):
        crate = _score(stored, "width", "composed", "CRATE", f"trained mass {name}")
        others = {
            "untrained CRATE": _score(stored, "width", "composed", "CRATE", f"untrained mass {name}"),
            "ViT": _score(stored, "width", "composed", "ViT", f"trained mass {name}"),
            "MHSA + ISTA": _score(stored, "width", "composed", "MHSA + ISTA", f"trained mass {name}"),
            "masks at random": value(random, f"mass {layered}", -2),
        }
        for other, found in others.items():
            rows.append(_compared(f"CRATE above {other}, {name.replace('of others', 'of other images')}", crate, found))
    crate, vit = (_score(stored, "width", "composed", model, "trained emergence maskcut") for model in ("CRATE", "ViT"))
    rows.append(_compared("CRATE above ViT, MaskCut", crate, vit))
    start = _score(stored, "width", "composed", "CRATE", "untrained emergence maskcut")
    rows.append(_compared("CRATE above untrained CRATE, MaskCut", crate, start))
    return _table(["claim under test", "first, % IoU", "second, % IoU", "difference, points", "seen here?"], rows)


def claims_other(stored: Stored) -> str:
    """Robustness, few labels, language, lambda."""
    rows = []
    for data in DATA:
        names = ("test accuracy", "trained robustness accuracy")
        kept = [[_score(stored, "width", data, model, name) for name in names] for model in ("CRATE", "ViT")]
        lost = [difference(hurt, plain) for plain, hurt in kept]
        rows.append(_compared(f"CRATE loses less than ViT when pictures are hurt, {data}", *lost))
    for model in ("MAE", "DINO", "SimDINO"):
        scores = [_score(stored, "labels", "digits", model, f"{state} linear") for state in ("trained", "untrained")]
        rows.append(_compared(f"{model} above random weights, ten labels a class, linear probe, %", *scores))
    for group in ("parameters", "time"):
        bits = {m: _score(stored, f"language, {group}", "python", m, "test bits_per_byte") for m in LANGUAGE}
        for model in ("CRATE", "AoT", "ToST"):
            text = f"{model} needs fewer bits a byte (second) than GPT-2 (first), equal {group}"
            rows.append(_compared(text, bits["GPT-2"], bits[model], (1, ".3f")))
    low, high = (_map_row(stored, f"ista_lambda={value}") for value in ("0.0", "0.5"))
    name = "trained layers nonzero_fraction"
    rows.append(
        _compared("λ = 0 has more non-zeros than λ = 0.5, last layer, %", value(low, name, -1), value(high, name, -1))
    )
    names = [value(row, "test accuracy") for row in (_map_row(stored, "ista_lambda=0.1"), low)]
    rows.append(_compared("λ = 0.1 is more accurate than λ = 0, composed images, %", *names))
    return _table(["claim under test", "first", "second", "difference", "seen here?"], rows)


def _map_row(stored: Stored, setting: str) -> Mapping[str, Any] | None:
    return stored.row("map", "composed", "CRATE", setting)


TABLES: dict[str, Callable[[Stored], str]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        about,
        main_fashion,
        main_composed,
        choices,
        half_steps,
        through_layers,
        emergence,
        robustness,
        shells,
        maps,
        labels,
        language,
        claims_accuracy,
        claims_layers,
        claims_emergence,
        claims_other,
    )
}


def filled(text: str, stored: Stored) -> str:
    """A page with its tables made anew."""
    return _BLOCK.sub(lambda match: f"{match[1]}\n{TABLES[match[2]](stored)}\n\n{match[3]}", text)


def fill(page: Path, stored: Stored) -> None:
    page.write_text(filled(page.read_text("utf-8"), stored), "utf-8")


__all__ = ["DATA", "TABLES", "fill", "filled"]
