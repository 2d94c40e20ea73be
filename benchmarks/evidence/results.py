"""From the cache of runs to the one file of results that the pages are made of.

A row is the runs of one place in a table, one a seed. Each of its values is [mean, half the width of the 95 % interval
by Student's t over the training seeds]; a value of one seed has the half width null. True and false count as 1 and 0.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

import crate_transformers
from crate_transformers.evaluation.probes import interval

from .experiments import Experiments, Results, Run
from .models import LANGUAGE_REFERENCE, REFERENCE
from .work import rounded

FLAT = 0.003  # accuracy that the last quarter of a run may gain on the validation part
QUARTER = 0.75


def versions() -> dict[str, Any]:
    """What makes a run."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}"
    return {
        "versions": {
            "crate_transformers": crate_transformers.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "device": device,
    }


def gained(curve: Sequence[Sequence[float]]) -> float:
    """Validation accuracy that the last quarter of a run gained."""
    last = curve[-1][0]
    before = [row for row in curve if row[0] <= QUARTER * last] or [curve[0]]
    return float(curve[-1][1] - before[-1][1])


def values_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a run, by the names that the pages use."""
    found: dict[str, Any] = {}
    for part, metrics in result.get("metrics", {}).items():
        found.update({f"{part} {name}": value for name, value in metrics.items() if not isinstance(value, str)})
    if result.get("curve"):
        found["gained in the last quarter"] = gained(result["curve"])
        found["flat"] = gained(result["curve"]) < FLAT
    for state in ("trained", "untrained"):
        own = result.get(state, {})
        for measure, values in own.items():
            for name, value in values.items():
                if isinstance(value, Mapping):
                    found.update({f"{state} {measure} {name} {k}": v for k, v in value.items()})
                else:
                    found[f"{state} {measure} {name}"] = value
        found.update(_summary(state, own))
    for name, value in result.get("probes", {}).items():
        found.update({f"{name} {probe}": accuracy for probe, accuracy in value.items()})
    for name, value in result.get("emergence", {}).items():  # masks at random
        own = value.items() if isinstance(value, Mapping) else [("", value)]
        found.update({f"{name} {k}".strip(): v for k, v in own})
    found.update({name: result[name] for name in ("alone", "after_training_text") if name in result})
    return found


def _summary(state: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """Shares of half-steps that do their part; IoU at the second-to-last layer, where the papers read."""
    found: dict[str, Any] = {}
    for name, values in own.get("layers", {}).items():
        if name.startswith(("compresses", "sparsifies")):
            told = [bool(value) for value in values if value is not None]
            found[f"{state} share {name}"] = sum(told) / len(told) if told else None
        elif isinstance(values, list) and None not in (values[0], values[-1]):
            found[f"{state} fall {name}"] = values[0] - values[-1]  # from the first layer to the last
            found[f"{state} later fall {name}"] = values[min(1, len(values) - 1)] - values[-1]  # from the second one
    for reading, scores in own.get("emergence", {}).items():
        if isinstance(scores, Mapping):
            layer = max(len(scores["best_head"]) - 2, 0)
            found[f"{state} {reading} best head"] = scores["best_head"][layer]
            found[f"{state} {reading} head of others"] = scores["other_images"][layer]
    return found


def aggregate(values: Sequence[Any]) -> Any:
    """Of one value a seed: [mean, half width]; of lists a list of these; text that is the same for all."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    if isinstance(present[0], str):
        return present[0]
    if isinstance(present[0], list | tuple):
        return [aggregate(column) for column in zip(*present, strict=True)]
    mean, half = interval([float(value) for value in present])
    return [mean, half if len(present) > 1 else None]


def row_of(runs: Sequence[Run], results: Results, references: Mapping[int, float]) -> dict[str, Any]:
    """A row of the runs that are there.

    Args:
        references: by seed, what the reference model reached in the same table.
    """
    own = [(run, results[run.key]) for run in runs]
    diverged = [run.seed for run, result in own if "diverged" in result]
    found = [(run, values_of(result)) for run, result in own if "diverged" not in result]
    names = dict.fromkeys(name for _, values in found for name in values)
    values = {name: aggregate([own.get(name) for _, own in found]) for name in names}
    score = next((name for name in ("test accuracy", "test bits_per_byte") if name in names), None)
    by_seed = {score: [own[score] for _, own in found]} if score else {}
    if score and found and all(run.seed in references for run, _ in found):
        differences = [own[score] - references[run.seed] for run, own in found]
        values["difference to the reference"] = aggregate(differences)
    first = runs[0]
    return {
        "group": first.group,
        "data": first.data,
        "model": first.model,
        "setting": first.setting,
        "seeds": [run.seed for run, _ in found],
        "diverged": diverged,
        "recipe": first.content,
        "by_seed": by_seed,
        "values": values,
        "device": sorted({result.get("device", "") for _, result in own}),
    }


def _references(runs: Sequence[Run], results: Results) -> dict[tuple[str, str, int], float]:
    """(group, data, seed) -> what the reference reached."""
    found = {}
    for run in runs:
        if run.model in (REFERENCE, LANGUAGE_REFERENCE) and run.key in results:
            test = results[run.key].get("metrics", {}).get("test", {})
            score = test.get("bits_per_byte", test.get("accuracy"))
            if score is not None:
                found[run.group, run.data, run.seed] = score
    return found


def choices_of(experiments: Experiments, runs: Sequence[Run], results: Results) -> list[dict[str, Any]]:
    """What the trials of every model said, and what was chosen."""
    places = dict.fromkeys((r.group, r.data, r.model, "lion" in r.setting) for r in runs if r.group.endswith("choice"))
    rows = []
    for group, data, model, lion in places:
        own = [r for r in runs if (r.group, r.data, r.model, "lion" in r.setting) == (group, data, model, lion)]
        chosen = experiments.chosen(own, results)
        tried = [{**json.loads(run.setting), "validation": _validation(results.get(run.key))} for run in own]
        rates = [trial["learning_rate"] for trial in tried]
        at_edge = chosen is not None and chosen["learning_rate"] in (min(rates), max(rates))
        rows.append(
            {"group": group, "data": data, "model": model, "chosen": chosen, "at_edge": at_edge, "tried": tried}
        )
    return rows


def _validation(result: Mapping[str, Any] | None) -> float | None:
    validation = (result or {}).get("metrics", {}).get("validation", {})
    return validation.get("accuracy", validation.get("loss"))


def collect(experiments: Experiments, results: Results, output: Path, command: str, seconds: Any = None) -> Path:
    """Write OUTPUT/results.json of the runs that are there; its path."""
    runs = experiments.all(results)
    references = _references(runs, results)
    places: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        if run.key in results and not run.group.endswith("choice"):
            places.setdefault((run.group, run.data, run.model, run.setting), []).append(run)
    rows = []
    for own in places.values():
        first = own[0]
        of_seed = {run.seed: references.get((first.group, first.data, run.seed)) for run in own}
        rows.append(row_of(own, results, {seed: score for seed, score in of_seed.items() if score is not None}))
    used = [results[run.key] for run in {run.key: run for run in runs if run.key in results}.values()]
    told = [json.loads(text) for text in sorted({json.dumps(r.get("versions"), sort_keys=True) for r in used})]
    missing = [run for run in runs if run.key not in results]
    about = {
        "command": f"python benchmarks/zoo.py {command}".strip(),
        "versions": told,
        "devices": sorted({result.get("device", "") for result in used}),
        "runs": len(used),
        "runs_missing": len(missing),
        "missing": _missing(missing, experiments.seconds),
        "seconds_of_all_runs": round(sum(result["seconds"] for result in used)),
        "interval": "95 %, Student's t over training seeds",
        "flat": f"validation accuracy gained in the last quarter below {FLAT}",
        "scale": vars(experiments.scale),
        "widths": {
            data: {m: experiments.width(data, m) for m in experiments.models} for data in experiments.scale.data
        },
        "step_seconds": seconds,
    }
    content = {"about": about, "choices": choices_of(experiments, runs, results), "rows": rows}
    output.mkdir(parents=True, exist_ok=True)
    file = output / "results.json"
    file.write_text(_compact(rounded(content)))
    return file


def _missing(runs: Sequence[Run], seconds: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """By group: how many runs were not made, of which seeds, and the hours that one CPU thread needs for their steps.

    The seconds of a step are those at equal width; a model that none were measured of counts as the mean of all.
    """
    usual = [value for own in seconds.values() for value in own.values()]
    found: dict[str, dict[str, Any]] = {}
    for run in {run.key: run for run in runs}.values():
        own = found.setdefault(run.group, {"runs": 0, "seeds": [], "hours": 0.0})
        each = seconds.get(run.data, {}).get(run.model, sum(usual) / len(usual))
        own["runs"] += 1
        own["seeds"] = sorted({*own["seeds"], run.seed})
        own["hours"] += each * run.content.get("train", {}).get("max_steps", 0) / 3600
    return found


def _compact(content: dict[str, Any]) -> str:
    """JSON with a line a row, so that a change can be read."""

    def lines(values: Sequence[Any]) -> str:
        return "[\n" + ",\n".join(json.dumps(value, separators=(",", ":")) for value in values) + "\n]"

    about = json.dumps(content["about"], indent=1)
    return f'{{"about": {about},\n"choices": {lines(content["choices"])},\n"rows": {lines(content["rows"])}}}\n'


__all__ = ["FLAT", "aggregate", "collect", "gained", "row_of", "values_of", "versions"]
