"""From a recipe to the arguments of a run: its length, its warm-up, and what is said of either."""

import math
import re

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from crate_transformers.errors import MissingPackageError, UserError
from crate_transformers.training import load_recipe
from crate_transformers.training.arguments import epoch_schedule, steps_per_epoch, training_arguments
from crate_transformers.training.schedules import EpochSchedule


def arguments(folder, settings, name="digits", steps=10, metric="eval_accuracy"):
    """(arguments, notes) of a shipped recipe with settings."""
    notes = []
    return training_arguments(load_recipe(name, settings), folder, steps, metric, True, notes), notes


@pytest.mark.parametrize("samples", [7, 31, 32, 33, 100])
@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("drop_last", [True, False])
def test_steps_are_counted_as_the_trainer_counts_them(tmp_path, samples, accumulation, drop_last):
    options = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=7, gradient_accumulation_steps=accumulation,
        dataloader_drop_last=drop_last, use_cpu=True, report_to=[], num_train_epochs=1,
    )  # fmt: skip
    loader = DataLoader(range(samples), batch_size=7, drop_last=drop_last)
    trainer = Trainer(model=torch.nn.Linear(2, 2), args=options)
    _, of_trainer, *_ = trainer.set_initial_training_values(options, loader)
    assert steps_per_epoch(samples, 7, accumulation, drop_last) == of_trainer


def test_an_epoch_without_a_batch_and_a_stream():
    with pytest.raises(UserError, match="dataloader_drop_last leaves no batch: 5 training samples, 7 a batch"):
        steps_per_epoch(5, 7, 1, drop_last=True)
    assert steps_per_epoch(None, 7, 1, drop_last=False) is None


@pytest.mark.parametrize(
    ("settings", "steps", "warm_up", "said"),
    [
        ({}, 10, 30, None),  # 3 of 40 epochs
        (
            {"train.max_steps": 150},
            468,
            15,
            "warmup_epochs = 3 is 1404 steps and the run is 150: .* a tenth .* 15 steps",
        ),
        ({"train.num_train_epochs": 3}, 10, 3, "warmup_epochs = 3 is 30 steps and the run is 30"),
        ({"train.num_train_epochs": 5}, 10, 30, "the warm-up takes 30 of the 50 steps"),
        ({"train.warmup_steps": 40}, 10, 40, "train.warmup_steps = 40 is the warm-up, and not train.warmup_epochs = 3"),
        ({"train.warmup_steps": 0.1}, 10, 30, "train.warmup_steps = 0.1 is the warm-up"),
        ({"train.warmup_epochs": None}, 10, 0, None),
        ({"train.lr_scheduler_type": "constant"}, 10, 0, "constant has no warm-up"),
        ({"train.max_steps": 100}, 10, 30, "the run is train.max_steps = 100 steps long .10 epochs., and not"),
    ],
)
def test_warm_up(tmp_path, settings, steps, warm_up, said):
    found, notes = arguments(tmp_path, settings, steps=steps)
    assert found.warmup_steps == warm_up
    assert (said is None) == (not notes)
    if said is not None:
        assert any(re.search(said, note) for note in notes), notes


def test_a_number_of_warm_up_steps_beyond_the_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="train.warmup_steps = 500 is longer than the run of 300 steps"):
        arguments(tmp_path, {"train.warmup_steps": 500})


def test_the_small_text_recipes_warm_up_for_a_share_of_any_run(tmp_path):
    for name in ("clm", "mlm"):
        for settings, warm_up in (({}, 50), ({"train.max_steps": 40}, 3)):
            found, _ = arguments(tmp_path, settings, name, metric="eval_loss")
            assert found.get_warmup_steps(found.max_steps) == warm_up


def test_a_stream_has_no_epochs(tmp_path):
    with pytest.raises(UserError, match="a stream has no epochs: set train.max_steps"):
        arguments(tmp_path, {"train.max_steps": -1}, "clm", steps=None)
    with pytest.raises(UserError, match="a stream has no epochs, and train.warmup_epochs is 3"):
        arguments(tmp_path, {"train.max_steps": 20}, "digits", steps=None)
    assert arguments(tmp_path, {}, "clm", steps=None)[0].max_steps == 700


def test_beginnings_of_self_distillation_that_outlast_the_run_are_said(tmp_path):
    _, notes = arguments(tmp_path, {"train.max_steps": 10}, "dino-digits", steps=20)
    assert any("train.freeze_last_layer_epochs = 1 is as long as the run of 10 steps" in note for note in notes)
    hot = {"train.warmup_teacher_temperature": 0.02, "train.warmup_teacher_temperature_epochs": 9}
    _, notes = arguments(tmp_path, {**hot, "train.num_train_epochs": 8}, "dino-digits", steps=20)
    assert any("train.teacher_temperature is never reached" in note for note in notes)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train.lr_scheduler_type": "cosine_with_min_lr"}, "train.lr_scheduler_kwargs .None. do not fit .*min_lr"),
        ({"train.lr_scheduler_kwargs": {"foo": 1}}, "train.lr_scheduler_kwargs .* do not fit .*'foo'"),
        ({"train.lr_scheduler_kwargs": {"num_cycles": "abc"}}, "train.lr_scheduler_kwargs .* do not fit .*'abc'"),
        ({"train.report_to": "wand"}, "train.report_to must be none, all, or of .*wandb.*, got 'wand'"),
        ({"train.accelerator_config": {"foo": 1}}, "the train section of the recipe does not fit: .*'foo'"),
        ({"train.dataloader_prefetch_factor": 2}, "does not fit: .*dataloader_prefetch_factor"),
    ],
)
def test_what_would_fail_late_is_refused(tmp_path, settings, words):
    with pytest.raises(UserError, match=words):
        arguments(tmp_path, settings)


def test_a_tool_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("crate_transformers.training.arguments.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pip install wandb, or set train.report_to=none"):
        arguments(tmp_path, {"train.report_to": ["wandb"]})
    assert arguments(tmp_path, {"train.report_to": "none"})[0].report_to == []


def test_what_needs_a_validation_part_is_said(tmp_path):
    found, notes = arguments(tmp_path, {"train.load_best_model_at_end": True}, metric=None)
    assert not found.load_best_model_at_end
    [note] = notes
    assert "there is no validation part: train.eval_steps, train.load_best_model_at_end not used" in note


def test_another_metric_is_better_in_its_own_direction(tmp_path):
    for name, greater in (("loss", False), ("accuracy", True), ("eval_accuracy", True), (None, True)):
        settings = {} if name is None else {"train.metric_for_best_model": name}
        assert arguments(tmp_path, settings)[0].greater_is_better is greater


def test_workers_that_are_not_there_cannot_be_kept(tmp_path):
    found, notes = arguments(tmp_path, {"train.dataloader_persistent_workers": True})
    assert not found.dataloader_persistent_workers
    assert any("train.dataloader_persistent_workers is not used" in note for note in notes)


@pytest.mark.parametrize(
    ("asked", "saves", "keeps_best"),
    [
        ({}, "epoch", True),
        ({"train.eval_steps": 7}, "steps", True),
        ({"train.eval_steps": 7, "train.save_strategy": "no"}, "no", False),
        ({"train.save_steps": 5}, "steps", False),
        ({"train.eval_strategy": "no"}, "epoch", False),
    ],
)
def test_what_is_asked_of_saving_is_done(tmp_path, asked, saves, keeps_best):
    recipe = load_recipe("finetune-pets", asked)
    arguments = training_arguments(recipe, tmp_path, 10, "eval_accuracy", True)
    assert (arguments.save_strategy, arguments.load_best_model_at_end) == (saves, keeps_best)


def schedule(folder, settings, steps=10):
    """(schedule by epochs, notes) of the digits recipe."""
    recipe, notes = load_recipe("digits", {"train.rate_by_epoch": True, **settings}), []
    return epoch_schedule(recipe, training_arguments(recipe, folder, steps, None, True), steps, notes), notes


def test_the_rate_of_cbt():
    """The published factor: min((e + 1) / 20, (1 + cos(pi e / 150)) / 2)."""
    found = EpochSchedule(steps_per_epoch=7, epochs=150, warmup_epochs=20)
    for epoch in range(150):
        expected = min((epoch + 1) / 20, (1 + math.cos(math.pi * epoch / 150)) / 2)
        assert all(found(step) == pytest.approx(expected) for step in (7 * epoch, 7 * epoch + 6))


def test_the_rate_of_timm(tmp_path):
    """Warm-up from a rate of its own, a lowest rate, a cool-down; with the numbers of ToST's recipe."""
    settings = {
        "train.learning_rate": 1e-3,
        "train.lr_scheduler_type": "cosine_with_min_lr",
        "train.lr_scheduler_kwargs": {"min_lr": 1e-5},
        "train.num_train_epochs": 410,
        "train.warmup_epochs": 5,
        "train.warmup_learning_rate": 1e-6,
        "train.cooldown_epochs": 10,
    }
    found, notes = schedule(tmp_path, settings)
    assert notes == []
    for epoch in range(410):
        cosine = 1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * epoch / 400)) / 2
        expected = 1e-6 + epoch * (1e-3 - 1e-6) / 5 if epoch < 5 else cosine if epoch < 400 else 1e-5
        assert 1e-3 * found(10 * epoch + 3) == pytest.approx(expected)


def test_the_rate_by_epoch_of_a_short_run(tmp_path):
    settings = {"train.max_steps": 40, "train.cooldown_epochs": 30}
    found, notes = schedule(tmp_path, settings)
    assert notes == [
        "train.cooldown_epochs = 30 does not fit into the run of 4 epochs: it is shortened to a tenth of the run"
    ]
    assert (found.epochs, found.warmup_epochs) == (3.6, 3.0)
    found, notes = schedule(tmp_path, {"train.max_steps": 25, "train.warmup_learning_rate": 1e-6})
    assert notes == ["train.rate_by_epoch: the warm-up of 0.2 epochs is less than one, so there is none"]
    assert found(0) == 1.0


def test_a_rate_by_epoch_that_does_not_fit_is_refused(tmp_path):
    assert epoch_schedule(load_recipe("digits"), TrainingArguments(output_dir=str(tmp_path)), 10, []) is None
    with pytest.raises(UserError, match="train.warmup_learning_rate must be a rate from 0 to train.learning_rate"):
        schedule(tmp_path, {"train.warmup_learning_rate": 1.0})
    low = {"train.lr_scheduler_type": "cosine_with_min_lr", "train.lr_scheduler_kwargs": {"min_lr": 2.0}}
    with pytest.raises(UserError, match="train.lr_scheduler_kwargs.min_lr must be a rate from 0 to"):
        schedule(tmp_path, low)
    with pytest.raises(UserError, match="a stream has no epochs, and train.rate_by_epoch is true"):
        schedule(tmp_path, {"train.max_steps": 20, "train.warmup_epochs": None}, steps=None)
