"""A new task is a line in the table of tasks, its declaration and its class; here both stand in this file."""

import dataclasses
from dataclasses import dataclass

import pytest
import yaml
from small_runs import SMALL

from crate_transformers._lazy import load_by_name
from crate_transformers.recipes import load_recipe
from crate_transformers.recipes.families import FAMILIES
from crate_transformers.recipes.limits import Limits
from crate_transformers.recipes.options import option
from crate_transformers.recipes.tasks import TASKS, task_declaration
from crate_transformers.recipes.tasks.declaration import TaskDeclaration
from crate_transformers.recipes.tasks.image_classification import TASK as CLASSIFICATION
from crate_transformers.recipes.tasks.images import CroppedImageData
from crate_transformers.training import train
from crate_transformers.training.tasks import Task
from crate_transformers.training.tasks.image_classification import ImageClassification


@dataclass
class FewImages(CroppedImageData):
    """few: how many training pictures are used."""

    few: int = option(64, Limits(1, 512), after="skip_unreadable")


class FewShots(ImageClassification):
    """Image classification with the first pictures alone."""

    def augmented(self):
        images = super().augmented()
        images.images = images.images.subset(range(self.data.few))
        return images


DECLARED = TaskDeclaration(
    runs=f"{__name__}:FewShots",
    data=FewImages,
    train=CLASSIFICATION.train,
    too_long=lambda options, steps, steps_per_epoch: [f"{steps} steps, {steps_per_epoch} an epoch"],
)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The file of a recipe for the task; as every task, it has a family that does it."""
    monkeypatch.setitem(TASKS, "few-shots", f"{__name__}:DECLARED")
    family = FAMILIES["crate_vision"]
    monkeypatch.setitem(FAMILIES, family.name, dataclasses.replace(family, tasks=(*family.tasks, "few-shots")))
    content = yaml.safe_load(load_recipe("digits", {**SMALL, "train.num_train_epochs": 1}).to_yaml())
    content["train"].pop("label_smoothing_factor")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**content, "task": "few-shots", "name": "own"}))
    return str(tmp_path / "own.yaml")


def test_it_trains(own, tmp_path):
    recipe, said = load_recipe(own, {"data.few": 256, "data.crop": "pad"}), []
    result = train(recipe, tmp_path / "run", on_note=said.append)
    assert (result.status, result.metrics["train"]["steps"]) == ("finished", 2)
    assert "2 steps, 2 an epoch" in said
    written = (tmp_path / "run" / "recipe.yaml").read_text()
    assert written.index("  few: 256") < written.index("  crop: pad") < written.index("  mean:")
    assert load_recipe(str(tmp_path / "run" / "recipe.yaml")) == recipe


@pytest.mark.parametrize(
    ("recipe", "settings", "words"),
    [
        (None, {"data.few": 0}, r"data.few must be in \[1, 512\], got 0"),
        (None, {"data.fex": 3}, "unknown key data.fex in data; did you mean 'few'"),
        (None, {"train.label_smoothing_factor": 0.1}, "is of image-classification; the task is few-shots"),
        ("digits", {"data.few": 3}, "data.few is of few-shots; the task is image-classification: leave it out"),
        ("digits", {"few": 3}, "did you mean 'data.few'"),
    ],
)
def test_its_options_are_checked_and_known_to_all(own, recipe, settings, words):
    with pytest.raises(ValueError, match=words):
        load_recipe(recipe or own, settings)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_both_halves(task):
    assert issubclass(load_by_name(task_declaration(task).runs), Task)
