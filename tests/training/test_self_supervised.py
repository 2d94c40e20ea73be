"""The autoencoder and self-distillation: what they compute, what a run leaves, what they refuse."""

import json
import logging

import numpy as np
import pytest
import torch
from small_runs import DINO, MAE, recipe
from transformers import AutoModel, AutoModelForPreTraining, ViTConfig, ViTModel
from zoo import IMAGE, vision_config

from crate_transformers import CrateForImageClassification, CrateMAEForPreTraining, CrateVisionModel
from crate_transformers.data import KeyedImages, MaskedImages, load_image_source
from crate_transformers.models.self_distillation import SelfDistillation
from crate_transformers.training import load_recipe, train
from crate_transformers.training.schedules import cosine_between
from crate_transformers.training.tasks import task_of


@pytest.fixture(scope="module")
def mae(tmp_path_factory):
    return train(recipe(MAE, train__max_steps=40), tmp_path_factory.mktemp("mae") / "run")


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return train(recipe(DINO), tmp_path_factory.mktemp("dino") / "run")


# -- the masked autoencoder --------------------------------------------------------------------------------------------


def test_noise_is_a_function_of_the_key():
    part = load_image_source("digits").train
    data = MaskedImages(KeyedImages(part, lambda picture: torch.zeros(3, 8, 8)), 16, seed=3)
    first = data[(2, 5)]["noise"]
    torch.manual_seed(7)
    assert torch.equal(data[(2, 5)]["noise"], first)
    for other in (data[(3, 5)], data[(2, 6)], MaskedImages(data.images, 16, seed=4)[(2, 5)]):
        assert not torch.equal(other["noise"], first)
    assert torch.equal(data[5]["noise"], data[(0, 5)]["noise"])  # an evaluation's is fixed


def test_what_a_mae_run_leaves(mae):
    metrics = json.loads((mae.output / "metrics.json").read_text())
    assert metrics["test"]["share_of_mean_patch"] == pytest.approx(
        metrics["test"]["loss"] / metrics["test"]["loss_of_mean_patch"]
    )
    assert metrics["test"]["share_of_mean_patch"] < 0.85  # after 40 steps; the recipe reaches 0.4
    assert metrics["test"]["loss_of_mean_image"] < metrics["test"]["loss_of_mean_patch"]
    assert isinstance(AutoModelForPreTraining.from_pretrained(mae.output), CrateMAEForPreTraining)
    assert [path.name for path in sorted((mae.output / "reconstructions").iterdir())] == [
        "step-00000020.png",
        "step-00000040.png",
    ]
    page = (mae.output / "report.html").read_text()
    for words in ("Reconstructions over training", "back through the decoder", "mirror image", "mean patch"):
        assert words in page


def test_a_classifier_starts_from_the_encoder(mae, tmp_path):
    settings = {"model.from": str(mae.output), "model.pool": "mean", "train.max_steps": 2, "data.source": "digits"}
    content = {"train": {"per_device_train_batch_size": 32, "seed": 0}}
    from crate_transformers.training import recipe_of

    for key, value in settings.items():
        section, _, name = key.partition(".")
        content.setdefault(section, {})[name] = value
    task = task_of(recipe_of(content), tmp_path)
    encoder = AutoModel.from_pretrained(mae.output)
    assert isinstance(task.model, CrateForImageClassification)
    assert task.model.config.pool == "mean"
    assert torch.equal(task.model.crate.layers[0].sparsification.coding.dictionary, _dictionary(encoder))


def _dictionary(model):
    return model.layers[0].sparsification.coding.dictionary


# -- self-distillation -------------------------------------------------------------------------------------------------


def distillation(loss="coding_rate", backbone=None, **options):
    torch.manual_seed(0)
    backbone = backbone or CrateVisionModel(vision_config(num_labels=2))
    sizes = {"prototypes": 17, "hidden_size": 19, "bottleneck_size": 7}
    return SelfDistillation(backbone, loss, **{**sizes, **options})


def crops(count=2, size=IMAGE, batch=5, seed=0):
    return torch.randn(batch, count, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("loss", ["dino", "coding_rate"])
def test_every_trained_parameter_has_a_gradient_and_the_teacher_none(loss):
    model = distillation(loss).train()
    model(crops(), crops(3, (5, 14), seed=1)).loss.backward()
    for name, parameter in model.named_parameters():
        if name.startswith("teacher"):
            assert not parameter.requires_grad
        elif parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_a_baseline_backbone_without_its_pooler():
    fields = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 13}
    model = distillation("dino", ViTModel(ViTConfig(**fields, image_size=14, patch_size=7))).train()
    model(crops(size=(14, 14)), crops(1, (7, 7))).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_the_dino_loss_in_closed_form():
    """Cross-entropy of the centred, sharpened teacher with the student, over pairs of different views."""
    model = distillation("dino", student_temperature=0.3).eval()
    model.teacher_temperature = 0.07
    with torch.no_grad():
        model.criterion.center += torch.randn(1, 1, 17, generator=torch.Generator().manual_seed(2))
        for parameter in model.student_head.parameters():
            parameter += 0.1
    whole, parts = crops(), crops(1, (5, 14), seed=1)

    def out(who, views):
        backbone, head = getattr(model, f"{who}_backbone"), getattr(model, f"{who}_head")
        return [head(backbone(v, interpolate_pos_encoding=True).pooler_output) for v in views.unbind(1)]

    teacher = [((t - model.criterion.center[0]) / 0.07).softmax(-1) for t in out("teacher", whole)]
    student = [(s / 0.3).log_softmax(-1) for s in out("student", whole) + out("student", parts)]
    pairs = [-(t * s).sum(-1).mean() for i, t in enumerate(teacher) for j, s in enumerate(student) if i != j]
    center = model.criterion.center.clone()
    assert model(whole, parts).loss.item() == pytest.approx(torch.stack(pairs).mean().item(), rel=1e-5)
    assert torch.equal(model.criterion.center, center)  # an evaluation leaves no trace
    model.train()(whole, parts)
    assert not torch.equal(model.criterion.center, center)


def test_the_white_box_form_prefers_spread_features():
    """Same alignment (teacher = student), more directions: a lower loss."""
    model = distillation("coding_rate")
    one = torch.ones(6, 7)
    spread = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    assert model._align([spread, spread], [spread, spread]) < model._align([one, one], [one, one]) - 0.1
    assert model._align([one, one], [-one, -one]) > model._align([one, one], [one, one]) + 1


def test_the_information_is_zero_in_every_collapse():
    model = distillation("dino")
    model.teacher_temperature = 0.05
    collapsed = [torch.zeros(8, 17), 9 * torch.eye(17)[3].expand(8, 17)]
    entropies = [float(model._statistics(outputs)[0]) for outputs in collapsed]
    assert entropies == pytest.approx([np.log(17), 0], abs=1e-4)
    assert [float(model._statistics(outputs)[1]) for outputs in collapsed] == pytest.approx([0, 0], abs=1e-5)
    assert float(model._statistics(9 * torch.eye(17)[:8])[1]) == pytest.approx(1, abs=1e-4)
    rate = distillation("coding_rate")
    assert float(rate._statistics(torch.ones(8, 7))[1]) == pytest.approx(0, abs=1e-4)
    assert float(rate._statistics(torch.eye(7))[1]) == pytest.approx(1, abs=1e-4)


def test_the_teacher_is_the_average():
    model = distillation()
    before = model.teacher_head[0].weight.clone()
    with torch.no_grad():
        model.student_head[0].weight += 1
    model.update_teacher(0.75)
    assert torch.allclose(model.teacher_head[0].weight, before + 0.25)


def test_schedule():
    assert [cosine_between(1.0, 3.0, share) for share in (-1, 0, 0.5, 1, 2)] == pytest.approx([1, 1, 2, 3, 3])


def test_what_a_dino_run_leaves(dino):
    metrics = json.loads((dino.output / "metrics.json").read_text())
    assert {"knn_accuracy", "teacher_entropy", "teacher_information", "collapsed", "loss"} <= set(metrics["test"])
    student = AutoModel.from_pretrained(dino.output)
    assert isinstance(student, CrateVisionModel)
    assert metrics["model"]["parameters"] == student.num_parameters()
    page = (dino.output / "report.html").read_text()
    for words in ("The teacher over training", "Crops", "entropy of the teacher", "What the layers do"):
        assert words in page
    last = max((dino.output / "checkpoints").iterdir(), key=lambda path: int(path.name.rpartition("-")[2]))
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    assert any("teacher_entropy" in entry and "loss" in entry for entry in history)


def test_a_collapsed_run_says_so(tmp_path, caplog):
    """A teacher that follows at once, with a temperature that makes every output uniform."""
    hot = {"train__teacher_temperature": 50.0, "train__warmup_teacher_temperature": 50.0, "train__max_steps": 2}
    said = []
    with caplog.at_level(logging.WARNING):
        result = train(recipe(DINO, **hot, train__eval_steps=2), tmp_path / "run", on_note=said.append)
    assert result.metrics["test"]["collapsed"] is True
    assert any("COLLAPSED" in line for line in said)
    assert any("has collapsed" in record.message for record in caplog.records)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "setting", "message"),
    [
        (MAE, {"model__mask_ratio": 1.0}, "mask_ratio must be in"),
        (MAE, {"model__mask_ratio": -0.1}, "mask_ratio must be in"),
        (MAE, {"model__patch_size": 3}, "not a multiple of the patch"),
        (MAE, {"train__mixup_alpha": 0.5}, "an autoencoder has none"),
        (DINO, {"data__global_crops": 1}, "data.global_crops must be at least 2, got 1"),
        (DINO, {"data__local_crop_size": 3}, "local_crop_size must be a multiple of the patch"),
        (DINO, {"data__local_crop_scale": [0.5, 0.1]}, "local_crop_scale must be"),
        (DINO, {"train__ema_decay": 0.9}, "the teacher is the average"),
        (DINO, {"data__crop": "pad"}, "data.crop and data.random_erasing do not apply"),
        (DINO, {"train__teacher_temperature": 0}, "teacher_temperature must be positive"),
    ],
)
def test_bad_input(tmp_path, base, setting, message):
    with pytest.raises(ValueError, match=message):
        task_of(recipe(base, **setting), tmp_path)


def test_fewer_than_two_crops_in_the_model():
    with pytest.raises(ValueError, match="at least two global crops"):
        distillation()(crops(1))


def test_without_lightly(monkeypatch):
    import builtins

    real = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name.startswith("lightly"):
            raise ImportError("no module")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"crate-transformers\[ssl\]"):
        distillation("dino")
    assert distillation("coding_rate").criterion is None


def test_shipped_recipes_of_imagenet_scale():
    mae, dino = load_recipe("mae-imagenet1k"), load_recipe("dino-imagenet1k")
    assert (mae.arguments["learning_rate"], mae.arguments["weight_decay"]) == (3e-5, 0.1)
    batch = mae.arguments["per_device_train_batch_size"] * mae.arguments["gradient_accumulation_steps"] * 8
    assert (batch, mae.arguments["num_train_epochs"], mae.train.warmup_epochs) == (4096, 800, 40)
    assert mae.model["mask_ratio"] == 0.75
    assert dino.train.prototypes == 65536
