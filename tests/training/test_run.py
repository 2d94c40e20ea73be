"""A run as a user sees it: what it leaves, what it refuses, what a break costs."""

import html
import json
import re
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import save_file
from small_runs import SMALL, largest_gap, small_recipe, small_run, weights
from transformers import AutoModelForImageClassification, pipeline

from crate_transformers.data import load_image_source
from crate_transformers.evaluation.evaluate import evaluate_model
from crate_transformers.evaluation.run_folder import checkpoints_in
from crate_transformers.models.inputs import open_processor
from crate_transformers.training import checkpointer, train
from crate_transformers.training.build import build_model
from crate_transformers.training.trainer import DivergenceError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "digits"
    return small_run(folder, train__measure_every=10)


def test_what_a_run_leaves(finished):
    names = {path.name for path in finished.output.iterdir()}
    expected = {"config.json", "model.safetensors", "preprocessor_config.json", "metrics.json", "recipe.yaml"}
    assert names == expected | {"report.html", "checkpoints", "README.md", "crate_code.py", "layers.csv", "figures"}
    card = ModelCard((finished.output / "README.md").read_text())
    [accuracy] = [found for found in card.data.eval_results if found.metric_type == "accuracy"]
    assert accuracy.metric_value == finished.metrics["test"]["accuracy"]
    assert all(f"]({path.relative_to(finished.output)})" in card.text for path in finished.output.glob("figures/*"))
    metrics = json.loads((finished.output / "metrics.json").read_text())
    assert set(metrics) == {"train", "validation", "test", "model"}
    model = AutoModelForImageClassification.from_pretrained(finished.output)
    assert metrics["model"]["parameters"] == model.num_parameters()
    assert metrics["model"]["flops"] > 0
    assert model.config.id2label[3] == "3"
    page = (finished.output / "report.html").read_text()
    for words in ("Confusion matrix", "Curves", "What the layers do", "Layers over training", "Some predictions"):
        assert words in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("https://matplotlib.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")


def test_evaluation_gives_the_same_numbers(finished):
    again = evaluate_model(finished.output)
    assert again["accuracy"] == pytest.approx(finished.metrics["test"]["accuracy"], abs=1e-9)
    assert again["loss"] == pytest.approx(finished.metrics["test"]["loss"], abs=1e-5)
    assert again["images"] == 359


def test_pipeline(finished):
    from crate_transformers.data import load_image_source

    classify = pipeline("image-classification", model=str(finished.output), device="cpu")
    assert len(classify(load_image_source("digits").test.read(0, 3))) == 5


def test_folders(finished, tmp_path):
    recipe = small_recipe(train__measure_every=10)
    with pytest.raises(ValueError, match="--resume to continue it or --overwrite"):
        train(recipe, finished.output)
    assert train(recipe, finished.output, resume=True).status == "was finished"
    with pytest.raises(ValueError, match="started with train.learning_rate = 0.003, now it is 0.5"):
        train(small_recipe(train__measure_every=10, train__learning_rate=0.5), finished.output, resume=True)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="no run of ours"):
        train(recipe, tmp_path, overwrite=True)
    assert (tmp_path / "letter.txt").read_text() == "dear"


# convolutions with BatchNorms, whose statistics are averaged too
STEM = {"model__patch_embedding": "conv_stem", "model__image_size": 16, "model__patch_size": 8}


PUBLISHED = {**STEM, "data__repeated_augmentation": 3, "train__rate_by_epoch": True, "train__cooldown_epochs": 0.5}


@pytest.mark.parametrize("own", [{}, PUBLISHED], ids=["as it is", "as published"])
def test_ema_and_mixing_resume_exactly(own, tmp_path):
    """Interrupted in the middle of an epoch, and run again: the same average, the same weights."""
    options = {
        **own,
        "train__ema_decay": 0.9,
        "train__mixup_alpha": 0.5,
        "train__cutmix_alpha": 1.0,
        "data__crop": "pad",
        "train__save_total_limit": None,
        "model__hidden_dropout_prob": 0.1,
    }
    whole = small_run(tmp_path / "whole", **options)
    cut = tmp_path / "cut"
    shutil.copytree(whole.output, cut)
    for path in cut.iterdir():
        if path.is_dir() and path.name != "checkpoints":
            shutil.rmtree(path)
        elif path.is_file() and path.name != "recipe.yaml":
            path.unlink()
    kept = checkpoints_in(cut / "checkpoints")[1]  # step 10 of 20, the last of the first epoch; and one inside it
    assert kept.name == "checkpoint-10"
    for path in checkpoints_in(cut / "checkpoints"):
        if path.name not in ("checkpoint-5",):
            shutil.rmtree(path)
    again = train(small_recipe(**options), cut, resume=True)
    assert again.status == "finished"
    assert largest_gap(whole.output, cut) == 0
    last = weights(whole.output / "checkpoints" / "checkpoint-20")
    assert any(not torch.equal(tensor, last[name]) for name, tensor in weights(whole.output).items())


def test_the_rate_changes_once_an_epoch(tmp_path):
    options = {"train__rate_by_epoch": True, "train__warmup_epochs": 2, "train__num_train_epochs": 3}
    result = small_run(tmp_path / "run", **options, train__logging_steps=1, train__learning_rate=0.001)
    state = json.loads((checkpoints_in(result.output / "checkpoints")[-1] / "trainer_state.json").read_text())
    rates = [entry["learning_rate"] for entry in state["log_history"] if "learning_rate" in entry]
    assert len(rates) == 30
    expected = [0.0005, 0.00075, 0.00025]  # the cosine of three epochs, with a warm-up of 1/2 and 1
    assert rates == pytest.approx([rate for rate in expected for _ in range(10)])


def test_a_loss_that_is_not_finite_stops(tmp_path):
    with pytest.raises(DivergenceError, match="the loss became (nan|inf) at step"):
        small_run(tmp_path / "run", train__learning_rate=1e25, train__max_grad_norm=0, train__warmup_epochs=0)
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    write, steps = checkpointer._write_whole, []

    def write_or_fail(folder, snapshot):
        steps.append(snapshot.state.global_step)
        if len(steps) == 2:
            raise OSError(28, "No space left on device")
        write(folder, snapshot)

    monkeypatch.setattr(checkpointer, "_write_whole", write_or_fail)
    with pytest.raises(ValueError, match=r"could not be written.*No space left.*--resume"):
        small_run(tmp_path / "run")
    monkeypatch.undo()
    kept = checkpoints_in(tmp_path / "run" / "checkpoints")
    assert [path.name for path in kept] == [f"checkpoint-{steps[0]}"]
    assert train(small_recipe(), tmp_path / "run", resume=True).status == "finished"


def test_a_baseline_in_the_same_recipe(tmp_path):
    result = small_run(tmp_path / "vit", model__family="vit", train__max_steps=6)
    model = AutoModelForImageClassification.from_pretrained(result.output)
    assert model.config.model_type == "vit"
    assert model.config.intermediate_size == 4 * 24
    assert set(result.metrics["test"]) == {"accuracy", "loss"}


def test_fine_tuning_replaces_the_head_and_says_so(finished, tmp_path):
    from data_folders import two_classes

    from crate_transformers.training import load_recipe

    settings = {k: v for k, v in SMALL.items() if not k.startswith("model.")}
    said = []
    recipe = load_recipe(
        "finetune-cifar10",
        {
            **settings,
            "model.from": str(finished.output),
            "data.source": two_classes(tmp_path / "pictures"),
            "train.max_steps": 3,
            "train.per_device_train_batch_size": 4,
            "train.dataloader_num_workers": 0,
            "train.dataloader_persistent_workers": False,
        },
    )
    result = train(recipe, tmp_path / "run", on_note=said.append)
    assert any("10 classes, the data have 2: a new head" in line for line in said)
    model = AutoModelForImageClassification.from_pretrained(result.output)
    assert model.config.id2label == {0: "ant", 1: "bee"}


def test_other_classes_of_the_same_number_get_a_new_head(finished, tmp_path):
    renamed = tmp_path / "renamed"
    shutil.copytree(finished.output, renamed, ignore=shutil.ignore_patterns("checkpoints"))
    model = AutoModelForImageClassification.from_pretrained(renamed)
    model.config.id2label = {i: f"animal {i}" for i in range(10)}
    model.save_pretrained(renamed)
    old = model.classifier.weight
    for folder, is_new in ((renamed, True), (finished.output, False)):
        notes = []
        built = build_model(
            small_recipe(model__from=str(folder)),
            AutoModelForImageClassification,
            {"id2label": {i: str(i) for i in range(10)}},
            notes,
        )
        assert torch.equal(built.classifier.weight, old) != is_new
        assert any("a new head" in note for note in notes) == is_new
        assert torch.equal(built.crate.layers[0].compression.norm.weight, model.crate.layers[0].compression.norm.weight)


def test_weights_that_are_no_numbers_are_refused(finished, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(finished.output, broken, ignore=shutil.ignore_patterns("checkpoints"))
    tensors = weights(broken)
    tensors["classifier.weight"][0, 0] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="classifier.weight holds NaN"):
        evaluate_model(broken, "digits")
    with pytest.raises(ValueError, match="classifier.weight holds NaN"):
        train(small_recipe(model__from=str(broken)), tmp_path / "run")


def test_a_damaged_source_model_is_refused(finished, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(finished.output, broken, ignore=shutil.ignore_patterns("checkpoints"))
    tensors = weights(broken)
    del tensors["crate.layers.0.compression.norm.weight"]
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lack crate.layers.0.compression.norm.weight"):
        evaluate_model(broken, "digits")
    with pytest.raises(ValueError, match="does not fit the model: crate.layers.0.compression.norm.weight"):
        train(small_recipe(model__from=str(broken)), tmp_path / "run")


def test_what_does_not_fit_leaves_no_run_behind(tmp_path):
    for settings in (
        {"train__per_device_train_batch_size": 10**6, "train__dataloader_drop_last": True},
        {"model__family": "vit", "model__hidden_act": "no-such"},
    ):
        with pytest.raises(ValueError, match=r"leaves no batch|builds no vit of these model fields .*no-such"):
            train(small_recipe(**settings), tmp_path / "run")
        assert not (tmp_path / "run" / "recipe.yaml").exists()
    assert train(small_recipe(train__max_steps=2), tmp_path / "run").status == "finished"


def gallery_of(page):
    """[(whether it is framed, caption)] of the pictures of a report."""
    [grid] = re.findall(r'<ul class="gallery">(.*?)</ul>', page)
    items = re.findall(r"<li(.*?)>.*?<span>(.*?)</span></li>", grid)
    return [(kind == ' class="wrong"', html.unescape(caption)) for kind, caption in items]


def test_the_worst_errors_come_first_and_right_ones_are_of_all_classes(finished):
    shown = gallery_of((finished.output / "report.html").read_text())
    digits = load_image_source("digits", seed=small_recipe().seed).test
    model = AutoModelForImageClassification.from_pretrained(finished.output)
    processor = open_processor(finished.output, 3)
    pixels = processor([digits.read(i, 3) for i in range(len(digits))], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        shares = model(pixels).logits.log_softmax(-1)
    truth, predicted = torch.from_numpy(digits.labels), shares.argmax(-1)
    losses = -shares[torch.arange(len(truth)), truth]
    worst = [int(i) for i in losses.argsort(descending=True) if truth[i] != predicted[i]]
    assert len(worst) > 16  # after two epochs
    assert len(shown) == 24
    assert [is_wrong for is_wrong, _ in shown] == [True] * 16 + [False] * 8
    for (_, caption), i in zip(shown[:16], worst, strict=False):
        told = re.fullmatch(r"(\d) \d+% \(is (\d), loss ([\d.]+)\)", caption).groups()
        assert (int(told[0]), int(told[1])) == (int(predicted[i]), int(truth[i]))
        assert float(told[2]) == pytest.approx(float(losses[i]), abs=0.006)
    right = [int(caption.split()[0]) for _, caption in shown[16:]]
    known = sorted(set(truth[truth == predicted].tolist()))
    assert right == (known * 8)[:8]


def test_a_report_looks_into_the_worst_pictures(finished):
    page = (finished.output / "report.html").read_text()
    names = [html.unescape(name) for name in re.findall(r'<button type="button" title="([^"]*)" class="wrong">', page)]
    assert names == [caption for _, caption in gallery_of(page)[:4]]
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
    assert len(data["items"]) == 6
    assert data["layers"] == [0, 1]
    assert data["heads"] == 3
