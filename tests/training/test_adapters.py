"""Runs that train adapters around a model of `model.from`: what they train, leave, refuse, and how they go on."""

import json
import signal
import sys
import time

import pytest
import torch
from peft import PeftModel
from small_runs import (
    DINO,
    MAE,
    SMALL,
    command,
    largest_gap,
    recipe,
    run_command,
    small_recipe,
    small_run,
    start_command,
    weights,
)
from transformers import AutoModelForImageClassification, AutoModelForPreTraining

from crate_transformers.errors import UserError
from crate_transformers.evaluation.evaluate import evaluate_model
from crate_transformers.evaluation.run_folder import checkpoints_in
from crate_transformers.training import load_recipe, train

LORA = {"train.lora_rank": 3, "train.lora_dictionaries": True, "train.learning_rate": 0.01}


def with_underscores(settings):
    return {key.replace(".", "__"): value for key, value in settings.items()}


def of(base, **settings):
    """Settings of a run that begins at the model of a folder, of the same sizes."""
    return {**SMALL, "model.from": str(base), **LORA, **settings}


def lora_recipe(base, **settings):
    return load_recipe("digits", of(base, **settings))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("base") / "digits", train__max_steps=8).output


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    said = []
    folder = tmp_path_factory.mktemp("lora") / "digits"
    result = train(lora_recipe(base, **{"train.measure_every": 10}), folder, on_note=said.append)
    return result, said


def test_what_the_run_leaves(base, finished):
    result, said = finished
    names = {path.name for path in result.output.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "adapter", "report.html"} <= names
    assert "could not be drawn" not in "".join(said)
    kept = {path.name for path in (result.output / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= kept
    assert not list(result.output.glob("checkpoints/*/model.safetensors"))
    metrics = json.loads((result.output / "metrics.json").read_text())["model"]
    adapted = AutoModelForImageClassification.from_pretrained(base)
    model = PeftModel.from_pretrained(adapted, result.output / "adapter", is_trainable=True)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert metrics["trained_parameters"] == trained < metrics["parameters"]
    assert any(f"adapters of rank 3: {trained:,} of" in line for line in said)


def test_the_merged_model_is_the_adapted_one(base, finished):
    result, _ = finished
    merged = AutoModelForImageClassification.from_pretrained(result.output).eval()
    adapted = AutoModelForImageClassification.from_pretrained(base)
    adapted = PeftModel.from_pretrained(adapted, result.output / "adapter").eval()
    pictures = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pictures = pictures.expand(-1, merged.config.num_channels, -1, -1)
    pictures = torch.nn.functional.interpolate(pictures, merged.config.image_size)
    with torch.no_grad():
        gap = merged(pictures).logits - adapted(pixel_values=pictures).logits
    assert gap.abs().max() <= 1e-5
    before, after = weights(base), weights(result.output)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    ends = ("subspaces.weight", "attention.output.weight", "coding.dictionary")
    assert changed == {name for name in before if name.endswith(ends)} | {"classifier.weight", "classifier.bias"}
    score = evaluate_model(result.output)
    assert score["accuracy"] == pytest.approx(result.metrics["test"]["accuracy"])
    assert score["loss"] == pytest.approx(result.metrics["test"]["loss"], abs=1e-4)


@pytest.mark.parametrize("average", [{}, {"train.ema_decay": 0.8}], ids=["as it is", "with an average"])
def test_killed_and_resumed(base, tmp_path, average):
    settings = of(base, **average)
    whole = run_command(command(tmp_path / "whole", settings=settings))
    assert whole.returncode == 0, whole.stderr
    killed = tmp_path / "killed"
    process = start_command(command(killed, settings=settings))
    deadline = time.monotonic() + 200
    while not list(killed.glob("checkpoints/checkpoint-*")) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "metrics.json").exists()
    again = run_command(command(killed, "--resume", settings=settings))
    assert again.returncode == 0, again.stderr
    assert "continuing from checkpoint" in again.stdout + again.stderr
    assert largest_gap(tmp_path / "whole", killed) == 0


def test_a_last_checkpoint_is_measured_again(finished, base, tmp_path):
    """A run that was cut off after its last step, before it saved its model."""
    result, _ = finished
    before = weights(result.output)
    (result.output / "metrics.json").unlink()
    again = train(lora_recipe(base, **{"train.measure_every": 10}), result.output, resume=True)
    assert again.metrics["test"] == result.metrics["test"]
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(result.output).items())


def test_another_base_is_refused(base, tmp_path):
    moved = tmp_path / "base"
    model = AutoModelForImageClassification.from_pretrained(base)
    model.save_pretrained(moved)
    settings = {"train.max_steps": 4, "train.eval_steps": 2}
    train(lora_recipe(moved, **settings), tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    assert checkpoints_in(tmp_path / "run" / "checkpoints")
    model.crate.layers[0].compression.norm.weight.data += 1e-3
    model.save_pretrained(moved)
    with pytest.raises(UserError, match="the model of model.from is not what it was"):
        train(lora_recipe(moved, **settings), tmp_path / "run", resume=True)


def test_an_autoencoder(tmp_path):
    start = train(recipe(MAE, train__max_steps=3), tmp_path / "base")
    settings = {**with_underscores(LORA), "train__max_steps": 6}
    said = []
    adapted = recipe(MAE, model__from=str(start.output), **settings)
    result = train(adapted, tmp_path / "run", on_note=said.append)
    assert "could not be drawn" not in "".join(said)
    before, after = weights(start.output), weights(result.output)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        name
        for name in before
        if name.endswith(("subspaces.weight", "output.weight", "dictionary", ".linear.weight")) and "layers" in name
    }
    AutoModelForPreTraining.from_pretrained(result.output)


def test_refusals(base, tmp_path):
    for settings, reason in (
        ({"train__lora_alpha": 4.0}, "train.lora_alpha is of adapters: set train.lora_rank"),
        ({"train__lora_dictionaries": True}, "train.lora_dictionaries is of adapters"),
        ({"train__lora_dropout": 0.1}, "train.lora_dropout is of adapters"),
        ({"train__lora_rank": 2}, "here all weights are new: set model.from"),
        ({"train__lora_rank": -1}, "train.lora_rank must be at least 0"),
        ({"train__lora_rank": 2, "train__lora_dropout": 1.0}, r"train.lora_dropout must be in \[0, 1\)"),
        ({"train__lora_rank": 2, "model__family": "vit"}, "vit is a baseline"),
    ):
        with pytest.raises(UserError, match=reason):
            small_recipe(**settings)
    for settings, reason in (
        ({"train.lora_dropout": 0.1}, "no dropout for dictionaries"),
        ({"model.redraw": ["classifier"]}, "draws anew what train.lora_rank would leave"),
    ):
        with pytest.raises(UserError, match=reason):
            lora_recipe(base, **settings)
    with pytest.raises(UserError, match="does not go with self-distillation"):
        recipe(DINO, model__from=str(base), train__lora_rank=2)


def test_without_peft_a_line_says_what_to_install(base, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"pip install 'crate-transformers\[peft\]'"):
        train(lora_recipe(base), tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.yaml").exists()


TEXT = {
    "model.hidden_size": 24,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 3,
    "data.context_length": 16,
    "train.per_device_train_batch_size": 8,
    "train.warmup_steps": 2,
    "train.learning_rate": 0.01,
    "train.max_steps": 6,
    "train.eval_steps": 3,
}


def test_language_models_and_a_head_on_one(tmp_path):
    """The base of the head is a masked model, of which the adapters' run makes a classifier."""
    (tmp_path / "words.txt").write_text("the cat sat on the mat and the dog sat on the log " * 300)
    rows = [f"{word} {i},{label}" for i in range(60) for word, label in (("good", "yes"), ("bad", "no"))]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    words = {"data.source": f"text:{tmp_path / 'words.txt'}", "data.vocab_size": 300}
    for name in ("clm", "mlm"):
        start = train(load_recipe(name, {**TEXT, **words}), tmp_path / name).output
        continued = {**TEXT, **words, **LORA, "model.from": str(start), "model.size": None}
        result = train(load_recipe(name, continued), tmp_path / f"{name}-adapted")
        assert result.metrics["model"]["trained_parameters"] < result.metrics["model"]["parameters"]
        before, after = weights(start), weights(result.output)
        changed = {part for part in before if not torch.equal(before[part], after[part])}
        assert len(changed) == 2 * 3  # U, O and D of two layers
        assert not list(result.output.glob("checkpoints/*/model.safetensors"))
    settings = {
        **TEXT,
        **LORA,
        "model.from": str(tmp_path / "mlm"),
        "model.size": None,
        "data.source": f"csv:{tmp_path / 'rows.csv'}",
    }
    result = train(load_recipe("sequence-classification", settings), tmp_path / "head")
    after = weights(result.output)
    assert {part.split(".")[0] for part in after if part not in weights(tmp_path / "mlm")} == {"classifier"}
    assert result.metrics["model"]["trained_parameters"] > sum(
        after[part].numel() for part in after if part.startswith("classifier")
    )
