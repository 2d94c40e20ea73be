"""How well `crate plan` agrees with steps that are really taken, for the shipped recipes.

    python benchmarks/planning.py [--rows 4] [--output benchmarks/results/planning.json]

    python benchmarks/planning.py --papers       -> benchmarks/results/plans.json

Each recipe runs at a small batch, on data that are at hand (digits, Python's reference): on a GPU in float32 and in
bfloat16, else on the processor in float32, for it takes minutes for a step in bfloat16. The step is planned, then
taken; both are written. The recipes that start at a checkpoint are planned with a model of a published size; those that
read a table of the user's are left out.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from crate_transformers._lazy import load_by_name
from crate_transformers.bench.machine import describe_machine
from crate_transformers.planning import Terms, count_step, device_of, facts_of, plan
from crate_transformers.planning.measured import measure_step
from crate_transformers.planning.plan import optimizer_for
from crate_transformers.recipes import Recipe, load_recipe, shipped_recipes
from crate_transformers.recipes.tasks import task_declaration
from crate_transformers.recipes.tasks.images import ImageData
from crate_transformers.recipes.tasks.language_modeling import LanguageData


def at_hand(name: str, rows: int) -> Recipe | None:
    """A recipe on data that are at hand, with `rows` samples a step; None where it reads a table of the user's."""
    recipe = load_recipe(name)
    settings: dict[str, Any] = {"train.per_device_train_batch_size": rows}
    if recipe.model.get("from"):
        settings |= {"model.from": None, "model.size": "tiny", "model.redraw": []}
    if isinstance(recipe.data, ImageData):
        settings |= {"data.source": "digits"}
    elif isinstance(recipe.data, LanguageData):
        settings |= {"data.source": "python-reference", "data.tokenizer": None}
        settings |= {"data.context_length": min(recipe.data.context_length or 128, 256)}
    else:
        return None
    return load_recipe(name, settings)


def compare(recipe: Recipe, rows: int, device: str) -> list[dict[str, Any]]:
    """A step planned and taken, in float32 and, on a GPU, in bfloat16."""
    kind: Any = load_by_name(task_declaration(recipe.task).runs)
    with tempfile.TemporaryDirectory() as folder:
        task = kind(recipe, Path(folder))
        task.model.to(device)
        items = [task.train_data[(0, i)] for i in range(rows)]
        batch = {name: value.to(device) for name, value in task.collator(items).items()}
        found = []
        for dtype in (None,) if device == "cpu" else (None, torch.bfloat16):
            stand_in = kind.stand_in(recipe, facts_of(recipe).data)
            planned = count_step(
                stand_in.model, stand_in.batch(rows), optimizer_for(recipe), dtype, on_cpu=device == "cpu"
            )
            flops, peak = measure_step(task.model, batch, optimizer_for(recipe), dtype)
            found.append(
                {
                    "recipe": recipe.name,
                    "dtype": "float32" if dtype is None else "bfloat16",
                    "rows": rows,
                    "planned_flops": planned.flops,
                    "counted_flops": flops,
                    "planned_peak": planned.peak,
                    "measured_peak": peak,
                }
            )
    return found


PAPERS: dict[str, tuple[str, dict[str, Any]]] = {  # what the page calls it -> recipe, settings
    **{f"CRATE {size}": ("imagenet1k-paper", {"model.size": size}) for size in ("tiny", "small", "base", "large")},
    "CRATE-alpha base, IN-21K": ("alpha-imagenet21k", {}),
    "CBT small": ("cbt-imagenet1k", {}),
    "ToST small": ("tost-imagenet1k", {}),
    "MAE base": ("mae-imagenet1k", {}),
    "DINO small": ("dino-imagenet1k", {}),
    "SimDINO base": ("simdino-imagenet1k", {}),
    "CRATE-GPT2 base": ("gpt2-base", {}),
    "ToST text base": ("tost-base", {}),
    "CRATE-BERT base": ("bert-base", {}),
}
TERMS = Terms(gpus=8, utilisation=0.3)
DEVICE = "a100"


def plan_papers() -> dict[str, Any]:
    """The plans of the papers' recipes, by what the page calls them."""
    rows = {}
    for title, (name, settings) in PAPERS.items():
        found = plan(load_recipe(name, settings), DEVICE, TERMS)
        values = {figure.name: figure.value for figure in found.figures}
        unit = next(key for key in values if key.endswith(" a second"))
        kept = ("parameters", "samples a step", "steps", "operations", "peak", "peak, checkpointed", "time", "energy")
        rows[title] = {"recipe": name, **{key: values[key] for key in kept}, "rate": values[unit], "unit": unit}
    return {"gpus": TERMS.gpus, "device": device_of(DEVICE).name, "utilisation": TERMS.utilisation, "rows": rows}


def main() -> None:
    """Compare, print a line a step, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/planning.json"))
    parser.add_argument("--papers", action="store_true", help="plan the papers' recipes, and compare nothing")
    asked = parser.parse_args()
    if asked.papers:
        asked.output.with_name("plans.json").write_text(json.dumps(plan_papers(), indent=1) + "\n")
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows: list[dict[str, Any]] = []
    for name in asked.only or shipped_recipes():
        recipe = at_hand(name, asked.rows)
        for row in compare(recipe, asked.rows, device) if recipe else []:
            rows.append(row)
            shares = (row[f"planned_{part}"] / row[f"{how}_{part}"] for part, how in _PARTS)
            print(row["recipe"], row["dtype"], *(f"{share:.3f}" for share in shares), flush=True)
        asked.output.write_text(json.dumps({"machine": describe_machine(), "rows": rows}, indent=1) + "\n")


_PARTS = (("flops", "counted"), ("peak", "measured"))

if __name__ == "__main__":
    main()
