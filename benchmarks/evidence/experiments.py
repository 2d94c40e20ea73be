"""The table of experiments: which runs there are, in which order they matter, and what makes two runs the same one.

A run is a recipe, what is measured of the model, and a seed. Its key is a digest of these, without paths; so a run that
two experiments ask for (the reference has the same width at equal width and at equal parameters) is made once.

Rates: for every model and data set the highest validation accuracy (language: the lowest validation loss) of the same
number of short trials, seed 0, at equal width. The model at equal parameters and equal time has the rate of its trials.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from crate_transformers.recipes import Recipe, load_recipe

from . import pictures  # noqa: F401 (its task becomes known to recipes)
from .models import GRID, LANGUAGE, LANGUAGE_REFERENCE, REFERENCE, SHELLS, parameters_of, width_for

FORMAT = 1  # rises with what a run leaves, so that older ones are made again
RECIPE = str(Path(__file__).parents[1] / "zoo.yaml")

Results = Mapping[str, Mapping[str, Any]]  # key of a run -> what it left


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        data: the data sets, with the settings that they need. steps: of a run; trial_steps: of a short one.
        time_share: at equal time, a run takes as long as this share of a run of the reference.
        rates, decays: of the trials. seeds: of all tables; more_seeds: of the main ones, when all else is done.
        counts: of composed pictures by part. looked: how many pictures each measure looks at.
    """

    data: dict[str, dict[str, Any]]
    steps: dict[str, int]
    trial_steps: int = 200
    batch: int = 128
    width: int = 64
    heads: int = 4
    depth: int = 6
    rates: tuple[float, ...] = (0.0006, 0.002, 0.006)
    decays: tuple[float, ...] = (0.01, 0.1)
    seeds: tuple[int, ...] = (0, 1, 2)
    more_seeds: tuple[int, ...] = (3, 4)
    time_share: float = 0.5
    language_steps: int = 1000
    language_width: int = 96
    label_steps: int = 1200
    counts: dict[str, int] = field(default_factory=lambda: {"train": 20000, "validation": 2000, "test": 2000})
    looked: dict[str, int] = field(
        default_factory=lambda: {"layers": 256, "robustness": 1000, "emergence": 400, "maskcut": 150}
    )


_COLOUR = {"data.mean": [0.5] * 3, "data.std": [0.25] * 3, "model.num_channels": 3}
FULL = Scale(
    {"fashion": {"model.image_size": 28}, "composed": {"model.image_size": 32, **_COLOUR}},
    {"fashion": 1000, "composed": 1500},
)
QUICK = Scale(
    {
        "digits": {"model.image_size": 8, "model.patch_size": 2, "data.mean": [0.3], "data.std": [0.37]},
        "composed": {"model.image_size": 16, "model.patch_size": 4, **_COLOUR},
    },
    {"digits": 24, "composed": 24},
    trial_steps=8,
    batch=64,
    width=24,
    depth=2,
    rates=(0.002, 0.006),
    decays=(0.1,),
    seeds=(0, 1),
    more_seeds=(),
    language_steps=8,
    language_width=24,
    label_steps=12,
    counts={"train": 640, "validation": 100, "test": 100},
    looked={"layers": 32, "robustness": 60, "emergence": 40, "maskcut": 10},
)


@dataclass(frozen=True)
class Run:
    """One run of an experiment.

    Attributes:
        group: the experiment. data, model, seed: as the tables name them. setting: of a map or a trial, as text.
        content: the recipe, without paths. measures: what is measured beside the metrics; see measures.py.
        looked: how many pictures each measure looks at.
    """

    group: str
    data: str
    model: str
    seed: int
    content: dict[str, Any]
    measures: tuple[str, ...] = ()
    looked: dict[str, int] = field(default_factory=dict)
    setting: str = ""

    @property
    def key(self) -> str:
        """A digest of what defines the run."""
        own = {name: value for name, value in self.content.items() if name != "name"}
        told = json.dumps([FORMAT, own, self.measures, self.looked], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def place(self) -> dict[str, Any]:
        """Where the run stands in the tables."""
        return {"group": self.group, "data": self.data, "model": self.model, "setting": self.setting, "seed": self.seed}


class Experiments:
    """All runs at a scale.

    Args:
        seconds: data -> model -> seconds of one training step, measured once; the runs at equal time need it.
    """

    def __init__(self, scale: Scale, seconds: Mapping[str, Mapping[str, float]] | None = None) -> None:
        self.scale, self.seconds, self.models = scale, seconds or {}, tuple(GRID)

    # -- recipes -------------------------------------------------------------------------------------------------------

    def recipe(self, data: str, model: Mapping[str, Any], seed: int = 0, **train: Any) -> Recipe:
        """The recipe of a classifier: fields of the model by their names, settings of the training likewise."""
        scale = self.scale
        sizes = {"hidden_size": scale.width, "num_hidden_layers": scale.depth, "num_attention_heads": scale.heads}
        steps = train.pop("max_steps", scale.steps[data])
        settings = {
            "data.source": f"kept:{data}",
            **{f"model.{name}": value for name, value in sizes.items()},
            **scale.data[data],
            **{f"model.{name}": value for name, value in model.items()},
            "train.per_device_train_batch_size": scale.batch,
            "train.max_steps": steps,
            "train.eval_steps": max(steps // 8, 1),
            "train.seed": seed,
            **{f"train.{name}": value for name, value in train.items()},
        }
        return _load(RECIPE, json.dumps(settings))

    def language_recipe(self, model: str, seed: int, width: int, **train: Any) -> Recipe:
        """The recipe of a language model."""
        scale, steps = self.scale, train.pop("max_steps", self.scale.language_steps)
        sizes = {"hidden_size": width, "num_hidden_layers": scale.depth, "num_attention_heads": scale.heads}
        settings = {
            **{f"model.{name}": value for name, value in {**LANGUAGE[model], **sizes}.items()},
            **_LANGUAGE_START.get(model, {}),
            "train.max_steps": steps,
            "train.eval_steps": steps,
            "train.save_strategy": "no",
            "train.load_best_model_at_end": False,
            "train.seed": seed,
            **{f"train.{name}": value for name, value in train.items()},
        }
        return _load("clm-small", json.dumps(settings))

    def _run(self, group: str, data: str, model: str, recipe: Recipe, setting: str = "") -> Run:
        measures = ("layers", "robustness", *(("emergence",) if data == "composed" else ()))
        looked = {name: self.scale.looked[name] for name in (*measures, *(["maskcut"] * (data == "composed")))}
        return Run(group, data, model, recipe.seed, recipe.to_dict(), measures, looked, setting)

    # -- trials --------------------------------------------------------------------------------------------------------

    def trials(self, data: str, model: str, optimizer: str = "adamw") -> list[Run]:
        """The short runs that choose the rate and the decay of a model."""
        scale, runs = self.scale, []
        factor = 0.1 if optimizer == "lion" else 1.0
        for rate in scale.rates:
            for decay in scale.decays:
                chosen = {"learning_rate": rate * factor, "weight_decay": decay / factor, "optimizer": optimizer}
                recipe = self.recipe(data, GRID[model], max_steps=scale.trial_steps, **chosen)
                runs.append(Run("choice", data, model, 0, recipe.to_dict(), setting=json.dumps(chosen)))
        return runs

    def language_trials(self, model: str) -> list[Run]:
        scale, runs = self.scale, []
        for rate in scale.rates:
            chosen = {"learning_rate": rate}
            recipe = self.language_recipe(
                model, 0, scale.language_width, max_steps=max(scale.language_steps // 4, 1), **chosen
            )
            runs.append(Run("language choice", "python", model, 0, recipe.to_dict(), setting=json.dumps(chosen)))
        return runs

    def chosen(self, runs: list[Run], results: Results) -> dict[str, Any] | None:
        """The settings of the best trial on the validation part; None where trials are missing."""
        if any(run.key not in results for run in runs):
            return None
        best = min(runs, key=lambda run: _loss_of_trial(results[run.key]))  # of equal ones the first, lowest rate
        return dict(json.loads(best.setting))

    # -- tables --------------------------------------------------------------------------------------------------------

    def stages(self, results: Results) -> Iterator[list[Run]]:
        """Lists of runs, the most important first; a list is empty until the trials that it waits for are there."""
        scale = self.scale
        yield [run for data in scale.data for model in GRID for run in self.trials(data, model)]
        yield self.baselines(scale.seeds)
        yield self.table("width", scale.seeds, results)
        yield self.table("parameters", scale.seeds, results)
        yield [run for model in LANGUAGE for run in self.language_trials(model)]
        yield self.trials("composed", "CRATE", "lion")
        yield self.maps(scale.seeds[:1], results)
        yield self.language(scale.seeds, results)
        yield self.labels(scale.seeds)
        yield self.table("time", scale.seeds, results)
        yield self.maps(scale.seeds[1:], results)
        yield self.shells(scale.seeds, results)
        for table in ("width", "parameters", "time"):
            yield self.table(table, scale.more_seeds, results)

    def all(self, results: Results) -> list[Run]:
        return [run for stage in self.stages(results) for run in stage]

    def table(self, group: str, seeds: tuple[int, ...], results: Results) -> list[Run]:
        """A main table, seed after seed."""
        runs = []
        for seed in seeds:
            for data in self.scale.data:
                for model in GRID:
                    found = self._entry(group, data, model, seed, results)
                    if found is not None:
                        runs.append(found)
        return runs

    def _entry(self, group: str, data: str, model: str, seed: int, results: Results) -> Run | None:
        chosen = self.chosen(self.trials(data, model), results)
        if chosen is None:
            return None
        fields, steps = dict(GRID[model]), self.scale.steps[data]
        if group == "parameters" and model != REFERENCE:
            fields["hidden_size"] = self.width(data, model)
        if group == "time":
            if model not in self.seconds.get(data, {}):
                return None
            steps = self.steps_in_time(data, model, REFERENCE, round(self.scale.time_share * steps))
        return self._run(group, data, model, self.recipe(data, fields, seed, max_steps=steps, **chosen))

    def steps_in_time(self, data: str, model: str, reference: str, steps: int) -> int:
        """How many steps of a model take as long as so many of the reference."""
        return round(steps * self.seconds[data][reference] / self.seconds[data][model])

    def width(self, data: str, model: str) -> int:
        """The width at which a model has about the parameters of the reference."""
        target = parameters_of(self.recipe(data, GRID[REFERENCE]), num_labels=10)
        return width_for(self.recipe(data, GRID[model]), target, self.scale.heads, num_labels=10)

    def baselines(self, seeds: tuple[int, ...]) -> list[Run]:
        """What is there without a model."""
        scale, composed = self.scale, self.recipe("composed", {}).model
        shape = {"layers": scale.depth, "heads": scale.heads, "grid": composed["image_size"] // composed["patch_size"]}
        runs = []
        for seed in seeds:
            about = {**shape, "pictures": scale.looked["emergence"], "counts": scale.counts, "seed": seed}
            runs.append(Run("chance", "composed", "masks at random", seed, about))
            runs.append(Run("xz", "python", "xz -9", seed, {"source": "python-reference", "seed": seed}))
        return runs

    def shells(self, seeds: tuple[int, ...], results: Results) -> list[Run]:
        """Rows of their own: other patches."""
        runs = []
        for seed in seeds:
            for data in self.scale.data:
                for name, fields in SHELLS.items():
                    rate = self.chosen(self.trials(data, name.split(",")[0].split()[0]), results)
                    if rate is not None and _fits(self.scale.data[data], fields):
                        runs.append(self._run("patches", data, name, self.recipe(data, fields, seed, **rate)))
        return runs

    def maps(self, seeds: tuple[int, ...], results: Results) -> list[Run]:
        """CRATE on composed images, one thing changed at a time."""
        chosen = self.chosen(self.trials("composed", "CRATE"), results)
        lion = self.chosen(self.trials("composed", "CRATE", "lion"), results)
        standard = {**STANDARD, "num_hidden_layers": self.scale.depth}
        runs = []
        for seed in seeds if chosen is not None else ():
            for name, values in MAP.items():
                for value in values:
                    fields = {} if value == standard[name] else {name: value}  # a run of the main table is one run
                    recipe = self.recipe("composed", fields, seed, **chosen)
                    runs.append(self._run("map", "composed", "CRATE", recipe, f"{name}={value}"))
            for name, rate in (("adamw", chosen), ("lion", lion)):
                if rate is not None:
                    recipe = self.recipe("composed", {}, seed, **rate)
                    runs.append(self._run("map", "composed", "CRATE", recipe, f"optimizer={name}"))
        return runs

    def language(self, seeds: tuple[int, ...], results: Results) -> list[Run]:
        """Language models at equal parameters and at equal time."""
        scale, runs = self.scale, []
        for seed in seeds:
            for model in LANGUAGE:
                chosen = self.chosen(self.language_trials(model), results)
                if chosen is None:
                    continue
                recipe = self.language_recipe(model, seed, self.language_width(model), **chosen)
                runs.append(Run("language, parameters", "python", model, seed, recipe.to_dict()))
                if model in self.seconds.get("python", {}):
                    steps = self.steps_in_time(
                        "python", model, LANGUAGE_REFERENCE, round(scale.time_share * scale.language_steps)
                    )
                    recipe = self.language_recipe(model, seed, scale.language_width, max_steps=steps, **chosen)
                    runs.append(Run("language, time", "python", model, seed, recipe.to_dict()))
        return runs

    def language_width(self, model: str) -> int:
        """The width at which a language model has about the parameters of the reference."""
        width = self.scale.language_width
        target = parameters_of(self.language_recipe(LANGUAGE_REFERENCE, 0, width), **TEXT_FIELDS)
        if model == LANGUAGE_REFERENCE:
            return width
        return width_for(self.language_recipe(model, 0, width), target, self.scale.heads, **TEXT_FIELDS)

    def labels(self, seeds: tuple[int, ...]) -> list[Run]:
        """Pretraining without labels, then few of them."""
        runs = []
        for seed in seeds:
            for model, (name, settings) in PRETRAINED.items():
                steps = self.scale.label_steps
                length = {"train.num_train_epochs": 1000, "train.max_steps": steps, "train.eval_steps": steps}
                recipe = _load(name, json.dumps({**settings, **length, "train.seed": seed}))
                runs.append(Run("labels", "digits", model, seed, recipe.to_dict(), ("probes",), {"probes": 2000}))
        return runs


MAP: dict[str, tuple[Any, ...]] = {
    "ista_lambda": (0.0, 0.02, 0.1, 0.5),
    "ista_step_size": (0.02, 0.1, 0.5),
    "patch_size": (4, 8),
    "num_hidden_layers": (2, 6, 12),
}
STANDARD = {"ista_lambda": 0.1, "ista_step_size": 0.1, "patch_size": 4}
PRETRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "MAE": ("mae-digits", {}),
    "DINO": ("dino-digits", {"train.self_distillation_loss": "dino"}),
    "SimDINO": ("simdino-digits", {}),
}
TEXT_FIELDS = {"vocab_size": 1536, "max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 0}
_LANGUAGE_START: dict[str, dict[str, Any]] = {
    "ToST": {"model.layer_scale": 1.0, "model.initializer_range": 0.02},
    "GPT-2": {"model.initializer_range": 0.02},
}


@cache
def _load(name: str, settings: str) -> Recipe:
    """A recipe; the same one again for the same settings, since a plan is made many times."""
    return load_recipe(name, json.loads(settings))


def _fits(data: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    """Whether a picture is a whole number of patches, and more than one."""
    size, patch = data["model.image_size"], fields.get("patch_size", data.get("model.patch_size", 4))
    return size % patch == 0 and size > patch


def _loss_of_trial(result: Mapping[str, Any]) -> float:
    """What a choice minimises: minus the accuracy on the validation part, or the loss of a language model there."""
    if "diverged" in result:
        return float("inf")
    validation = result["metrics"]["validation"]
    return float(-validation["accuracy"] if "accuracy" in validation else validation["loss"])


__all__ = ["FORMAT", "FULL", "QUICK", "TEXT_FIELDS", "Experiments", "Results", "Run", "Scale"]
