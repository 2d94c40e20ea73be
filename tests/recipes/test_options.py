"""Options: their limits, their defaults, their order; and what the tasks declare of them."""

from dataclasses import dataclass, fields

import pytest

from crate_transformers.recipes import load_recipe
from crate_transformers.recipes.checks import RecipeError
from crate_transformers.recipes.families import FAMILIES
from crate_transformers.recipes.limits import Limits
from crate_transformers.recipes.loading import options_of
from crate_transformers.recipes.options import DataOptions, default_of, in_written_order, limits_of, option
from crate_transformers.recipes.tasks import TASKS, known_options, readers_of, task_declaration
from crate_transformers.recipes.tasks.images import ImageData


@pytest.mark.parametrize(
    ("limits", "good", "bad", "words"),
    [
        (Limits(2), [2, 7, None, "text", True], 1, "must be at least 2, got 1"),
        (Limits(0, 1), [0, 1, [0.5, 1]], [0.5, 1.5], r"must be in \[0, 1\], got \[0.5, 1.5\]"),
        (Limits(0, below=1), [0, 0.99], 1, r"must be in \[0, 1\), got 1"),
        (Limits(positive=True), [0.1, [3]], [0.1, 0], r"must be positive, got \[0.1, 0\]"),
        (Limits(choices=("pad", "none")), ["pad", None], "padd", "must be one of pad, none, got 'padd'.*mean 'pad'"),
        (Limits(length=2), [[1, 2], None], [1], r"must be a list of 2 numbers, got \[1\]"),
    ],
)
def test_limits(limits, good, bad, words):
    for value in good:
        limits.check("data.x", value)
    with pytest.raises(RecipeError, match=f"data.x {words}") as caught:
        limits.check("data.x", bad)
    assert caught.value.key == "data.x"


def test_what_is_checked_further_is_within_the_limits():
    seen = []
    limits = Limits(length=2, further=lambda key, value: seen.append((key, value)))
    limits.check("data.x", [1, 2])
    limits.check("data.x", None)
    with pytest.raises(RecipeError):
        limits.check("data.x", [1])
    assert seen == [("data.x", [1, 2])]


@dataclass
class First(DataOptions):
    shares: list[float] = option([0.3, 0.7])
    early: int = option(0, Limits(3), after="source")


@dataclass
class Second(DataOptions):
    late: str | None = None
    middle: bool = option(False, after="shares")


def test_the_order_of_a_written_recipe():
    names = ["source", "early", "validation_fraction", "test_fraction", "shares", "middle", "late"]
    known = in_written_order([First, Second])
    assert list(known) == names
    assert (limits_of(known["early"]).least, limits_of(known["late"])) == (3, Limits())
    assert [default_of(known[name]) for name in names] == ["digits", 0, 0.1, 0.2, [0.3, 0.7], False, None]


def test_recipes_share_no_list():
    First().shares.append(1)
    assert First().shares == default_of(in_written_order([First])["shares"]) == [0.3, 0.7]


def test_options_of_other_tasks_are_told_apart():
    options, others = options_of(ImageData, {"flip": True, "local_crops": 0, "mask_probability": 0.15}, "data")
    assert options == ImageData(flip=True)
    assert others == {"local_crops": 0}


@pytest.mark.parametrize("task", TASKS)
def test_a_default_is_within_its_limits(task):
    for section in ("data", "train"):
        for declared in fields(getattr(task_declaration(task), section)):
            limits_of(declared).check(f"{section}.{declared.name}", default_of(declared))


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_a_family_and_refuses_only_what_others_declare(task):
    assert any(task in family.tasks for family in FAMILIES.values())
    for key in task_declaration(task).refuses:
        section, _, name = key.partition(".")
        assert name in known_options(section)
        assert task not in readers_of(section, name)


def test_who_reads_what():
    assert readers_of("data", "crop") == ["image-classification", "masked-image-modeling"]
    assert readers_of("data", "mask_probability") == ["masked-language-modeling"]
    assert readers_of("train", "label_smoothing_factor") == ["image-classification"]
    assert readers_of("train", "learning_rate") == readers_of("data", "source") == list(TASKS)


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("mae-digits", {"train.cutmix_alpha": 0.5}, "mix labels, and an autoencoder has none"),
        ("dino-digits", {"data.random_erasing": 0.5}, "pictures are seen through data.global_crops"),
        ("dino-digits", {"train.mixup_alpha": 1}, "label_smoothing_factor need labels: leave them out"),
        ("dino-digits", {"train.ema_decay": 0.9}, "the teacher is the average"),
        ("digits", {"train.mixup_mode": "batch"}, "is of mixed pictures: set train.mixup_alpha or"),
        ("mae-digits", {"data.erasing_fill": "noise"}, "is of erased rectangles, and data.random_erasing is 0"),
        ("digits", {"train.max_grad_norm_of": "each", "train.max_grad_norm": 0}, "is of clipped gradients, and"),
    ],
)
def test_a_task_gives_its_reason_when_the_recipe_is_read(name, settings, reason):
    with pytest.raises(ValueError, match=reason):
        load_recipe(name, settings)
