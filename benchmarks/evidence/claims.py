"""The tables of docs/findings.md: claims of the papers beside what the stored results say."""

import json
from collections.abc import Mapping
from typing import Any

from .models import LANGUAGE
from .stored import Stored, Value, difference, value, verdict
from .tables import DATA, cell, table


def _compared(what: str, one: Any, other: Any, form: tuple[float, str] = (100, ".1f")) -> list[str]:
    """A line of the claims: two values, their difference, and what its interval says."""
    found = difference(one, other)
    shown = [cell(one, *form), cell(other, *form), "not measured" if found is None else found.text(*form)]
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
            cells = []
            for group in ("width", "parameters", "time"):
                found = difference(*(_score(stored, group, data, model) for model in (one, other)))
                told = verdict(found)
                cells.append(told if found is None else f"{found.text(100)}: {told}")
            rows.append([f"{one} above {other}", data, *cells])
    return table(["claim under test", "data", "points at equal width", "equal parameters", "equal time"], rows)


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
            ends = [value(row, f"trained layers {column}", layer) for layer in (0, -1)]
            form = (1, ".0f") if column == "coding_rate" else (100, ".0f")
            fall = value(row, f"trained fall {column}")
            shown = [cell(found, *form) for found in (*ends, fall)]
            rows.append([f"{what} from the first layer to the last, CRATE, {data}", *shown, verdict(fall)])
            if column == "coding_rate":
                later = [value(row, f"{state} layers {column}", -1) for state in ("untrained", "trained")]
                rows.append(_compared(f"R^c of the last layer: untrained above trained CRATE, {data}", *later, form))
                falls = [value(row, f"{state} later fall {column}") for state in ("trained", "untrained")]
                text = f"R^c falls from the second layer to the last more in trained than untrained CRATE, {data}"
                rows.append(_compared(text, *falls, form))
    return table(["claim under test", "first", "second", "difference", "seen here?"], rows)


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
    return table(["claim under test", "first, % IoU", "second, % IoU", "difference, points", "seen here?"], rows)


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
    return table(["claim under test", "first", "second", "difference", "seen here?"], rows)


def _map_row(stored: Stored, setting: str) -> Mapping[str, Any] | None:
    return stored.row("map", "composed", "CRATE", setting)


def headline(stored: Stored) -> str:
    """The numbers behind the first sentence."""
    lines = []
    for data, name in DATA.items():
        rows = [stored.row("width", data, model) for model in ("CRATE", "ViT")]
        scores = [value(row, "test accuracy") for row in rows]
        sizes = [value(row, "model parameters") for row in rows]
        flat = [value(row, "flat") for row in rows]
        if None in (*scores, *sizes, *flat):
            continue
        share = sizes[0].mean / sizes[1].mean
        lines.append(
            f"* {name}, equal width and depth, {scores[0].seeds} seeds: CRATE {scores[0].text(100)} % with "
            f"{sizes[0].mean:,.0f} parameters ({share:.0%} of ViT's), ViT {scores[1].text(100)} %; difference "
            f"{difference(*scores).text(100)} points. Runs that were flat: {flat[0].mean:.0%} and {flat[1].mean:.0%}."
        )
    masks = [
        _score(stored, "width", "composed", model, f"{state} mass head of others")
        for model, state in (("CRATE", "trained"), ("ViT", "trained"), ("CRATE", "untrained"))
    ]
    lines.append(
        f"* IoU of a head chosen on other images: CRATE {cell(masks[0])} %, ViT {cell(masks[1])} %, untrained CRATE "
        f"{cell(masks[2])} %."
    )
    for data, name in DATA.items():
        row = stored.row("width", data, "CRATE")
        shares = [cell(value(row, f"trained share compresses_{mode}"), 100, ".0f") for mode in ("official", "paper")]
        start = [cell(value(row, f"untrained share compresses_{mode}"), 100, ".0f") for mode in ("official", "paper")]
        lines.append(
            f"* {name}: R^c falls in {shares[0]} % of CRATE's compressing half-steps in the official measure, "
            f"{shares[1]} % in the paper's; untrained {start[0]} % and {start[1]} %."
        )
    return "\n".join(lines)


def missing(stored: Stored) -> str:
    """What was not made, by experiment."""
    rows = []
    for group, own in stored.about["missing"].items():
        command = f"`python benchmarks/zoo.py --root FOLDER --only {json.dumps(group) if ' ' in group else group}`"
        seeds = ", ".join(map(str, own["seeds"]))
        rows.append([group, str(own["runs"]), seeds, f"{own['hours']:.1f}", command])
    head = ["not measured", "runs", "seeds", "hours of one CPU thread", "command"]
    return table(head, rows)


__all__ = ["claims_accuracy", "claims_emergence", "claims_layers", "claims_other", "headline", "missing"]
