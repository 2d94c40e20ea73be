"""`crate plan`: its figures are those of steps that are taken; what is unknown is asked for."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from crate_transformers._lazy import load_by_name
from crate_transformers.cli.app import app
from crate_transformers.ops.forms import use_forms
from crate_transformers.planning import DEVICES, Terms, count_step, facts_of, plan
from crate_transformers.planning.measured import measure_step
from crate_transformers.planning.plan import optimizer_for
from crate_transformers.recipes import load_recipe, shipped_recipes
from crate_transformers.recipes.tasks import task_declaration

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
TINY = {"train.per_device_train_batch_size": 16}
CASES = {
    "CRATE": ("digits", {}),
    "CRATE, lion": ("digits", {"train.optimizer": "lion"}),
    "ViT": ("digits", {"model.family": "vit", "model.attn_implementation": "sdpa", "model.initialization": None}),
    "CBT": ("digits", {"model.compression": "cbsa", "model.representatives": [2, 2]}),
    "TSSA": ("digits", {"model.compression": "tssa"}),
    "mixed images": ("digits", {"train.mixup_alpha": 0.2, "train.label_smoothing_factor": 0.0}),
    "autoencoder": ("mae-digits", {}),
    "SimDINO": ("simdino-digits", {}),
    "text": ("clm", {"model.hidden_size": 48, "model.num_hidden_layers": 2}),
    "masked text": ("mlm", {"model.hidden_size": 48}),
    "ToST text": (
        "clm",
        {"model.family": "tost", "model.size": "base", "model.hidden_size": 48, "model.num_hidden_layers": 2},
    ),
}

NARROW = ("CRATE", "autoencoder", "TSSA")  # a processor takes long for bfloat16


@pytest.mark.filterwarnings("ignore:.*Profiler:UserWarning")
@pytest.mark.parametrize(
    ("name", "settings", "dtype"),
    [
        *(pytest.param(*case, None, id=name) for name, case in CASES.items()),
        *(pytest.param(*CASES[name], torch.bfloat16, id=f"{name}, bfloat16") for name in NARROW),
    ],
)
def test_a_planned_step_is_the_step_that_is_taken(name, settings, dtype, tmp_path):
    settings = {key: value for key, value in settings.items() if value is not None}
    recipe = load_recipe(name, {**TINY, **settings})
    kind = load_by_name(task_declaration(recipe.task).runs)
    task = kind(recipe, tmp_path)
    batch = task.collator([task.train_data[(0, i)] for i in range(16)])
    stand_in = kind.stand_in(recipe, facts_of(recipe).data)
    planned = count_step(stand_in.model, stand_in.batch(16), optimizer_for(recipe), dtype, on_cpu=True)
    with use_forms("torch"):
        flops, peak = measure_step(task.model, batch, optimizer_for(recipe), dtype)
    shapes = {key: (value.shape, value.dtype) for key, value in batch.items()}
    assert {key: (value.shape, value.dtype) for key, value in stand_in.batch(16).items()} == shapes
    assert planned.flops == pytest.approx(flops, rel=0.02)
    assert planned.peak == pytest.approx(peak, rel=0.15)


def test_every_shipped_recipe_has_a_stand_in():
    for name in shipped_recipes():
        recipe = load_recipe(name)
        if recipe.model.get("from"):
            recipe = load_recipe(name, {"model.from": None, "model.size": "tiny", "model.redraw": []})
        facts = facts_of(recipe, samples=100, classes=7, vocabulary=900)
        stand_in = load_by_name(task_declaration(recipe.task).runs).stand_in(recipe, facts.data)
        assert all(tensor.is_meta for tensor in stand_in.model.parameters()), name
        assert all(len(tensor) == 3 for tensor in stand_in.batch(3).values()), name


def test_the_formulas():
    found = plan(load_recipe("digits"), "v100", Terms(gpus=2, utilisation=0.5, price=3.0, energy_price=0.2))
    value = found.value
    assert value("samples a step") == 2 * 64
    assert value("steps") == 30 * (1295 // 128)
    assert value("operations") == value("steps") * value("operations a step")
    assert value("time") == pytest.approx(value("operations") / (2 * 15.7e12 * 0.5))
    assert value("images a second") == pytest.approx(128 * value("steps") / value("time"))
    assert value("energy") == pytest.approx(2 * 300 * value("time") / 3.6e6)
    assert value("cost") == pytest.approx(2 * value("time") / 3600 * 3)
    assert value("cost of energy") == pytest.approx(0.2 * value("energy"))
    assert value("buckets") == value("gradients")
    assert value("average of the weights") == value("weights")
    assert value("checkpoints") == 3 * (2 * value("weights") + value("optimizer states"))
    assert found.fits


def test_shared_weights_are_planned_as_shared():
    own = {"model.hidden_size": 384, "model.num_attention_heads": 6, "train.ema_decay": 0.9}
    whole, shared = (
        plan(load_recipe("digits", {**own, "train.fsdp": fsdp}), "h100", Terms(gpus=4)) for fsdp in (False, True)
    )
    for name in ("weights", "gradients", "optimizer states", "average of the weights"):
        assert shared.value(name) == whole.value(name) // 4
    assert shared.value("a checkpoint") == whole.value("a checkpoint")  # of all processes
    assert shared.value("activations") == whole.value("activations")
    assert 0 < shared.value("gathered weights") < whole.value("weights")
    elsewhere = [0.75 * whole.value(name) for name in ("weights", "optimizer states", "average of the weights")]
    most = whole.value("peak") - whole.value("buckets") + shared.value("gathered weights") - sum(elsewhere)
    # of the gradients some are there at the peak
    assert most - 0.75 * whole.value("gradients") <= shared.value("peak") <= most
    alone = plan(load_recipe("digits", {**own, "train.fsdp": True}), "h100", Terms(gpus=1))
    assert alone.value("peak") == whole.value("peak") - whole.value("buckets")


def test_a_global_batch_is_divided():
    recipe = load_recipe("digits", {"train.global_batch_size": 96, "train.max_per_device_batch_size": 16})
    steps = {plan(recipe, "h100", Terms(gpus=gpus)).value("steps") for gpus in (1, 2, 3)}
    assert steps == {30 * (1295 // 96)}
    found = plan(recipe, "h100", Terms(gpus=3))
    assert found.value("samples a step") == 96
    assert next(f.formula for f in found.figures if f.name == "samples a step") == "16 x 2 batches x 3"


def test_what_does_not_fit_says_what_would():
    shallow = {"model.num_hidden_layers": 1}
    recipe = load_recipe("imagenet1k-paper", {**shallow, "train.per_device_train_batch_size": 8192})
    found = plan(recipe, "rtx4090")
    assert not found.fits
    largest = next(int(note.split(" is ")[1].split()[0]) for note in found.notes if "largest batch" in note)
    for rows, fits in ((largest, True), (largest + 16, False)):
        again = load_recipe("imagenet1k-paper", {**shallow, "train.per_device_train_batch_size": rows})
        assert plan(again, "rtx4090").fits is fits


def test_the_stored_plans_are_those_of_now():
    stored = json.loads((RESULTS / "plans.json").read_text())
    found = plan(load_recipe("imagenet1k-paper"), "a100", Terms(stored["gpus"], stored["utilisation"]))
    row = stored["rows"]["CRATE tiny"]
    for name in ("parameters", "steps", "operations", "peak", "time", "energy"):
        assert row[name] == pytest.approx(found.value(name), rel=1e-3), name


@pytest.mark.parametrize("file", ["planning.json", "h200/planning.json"])
def test_the_stored_steps_agree(file):
    rows = json.loads((RESULTS / file).read_text())["rows"]
    assert len({row["recipe"] for row in rows}) >= 7
    for row in rows:
        assert row["planned_flops"] == pytest.approx(row["counted_flops"], rel=0.02), row["recipe"]
        assert row["planned_peak"] == pytest.approx(row["measured_peak"], rel=0.15), row


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digits", "--device", "h1000"], "unknown device 'h1000'; did you mean 'h100'?"),
        (["digits", "--gpus", "0"], "--gpus must be 1 or more"),
        (["digits", "--utilisation", "1.5"], "a share of the peak rate in (0, 1]"),
        (["imagenet1k-paper", "--data", "imagefolder:nowhere"], "--classes"),
        (["imagenet1k-paper", "--data", "imagefolder:nowhere", "--classes", "3"], "--samples"),
        (["sequence-classification"], "--classes"),
        (["finetune-pets"], "path/to/model"),
        (["imagenet1k-paper", "--device", "t4"], "set train.bf16=false and train.fp16=true"),
        (["digit"], "digits"),
    ],
)
def test_wrong_input_is_one_line(words, said):
    result = CliRunner().invoke(app, ["plan", *words])
    error = result.output + (str(result.exception) if result.exception else "")
    assert result.exit_code != 0
    assert said in error


def test_the_command_prints_each_figure_with_its_formula():
    result = CliRunner().invoke(app, ["plan", "digits", "--device", "cpu", "--gpus", "2"])
    assert result.exit_code == 0, result.output
    assert "train.max_steps" not in result.output
    for word in ("parameters", "peak", "TFLOP/s in float32 x 0.3", "--watts", "digits, opened"):
        assert word in result.output
    printed = CliRunner().invoke(app, ["plan", "digits", "--json"])
    assert {figure["name"] for figure in json.loads(printed.output)["figures"]} >= {"weights", "time", "checkpoints"}
    assert set(DEVICES) >= {"cpu", "h100", "a100"}
