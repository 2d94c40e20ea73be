"""ImageNet's other test sets, on synthetic folders: which number a folder or a file means, and what is said."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from zoo import build

from crate_transformers import CrateForImageClassification, CrateVisionConfig
from crate_transformers.data import load_held_out_source, load_image_source
from crate_transformers.evaluation.corruptions import ALEXNET_ERRORS
from crate_transformers.evaluation.evaluate import EvaluationOptions, evaluate_model
from crate_transformers.models.image_processing import image_processor_of

CLASSES = 12


def picture(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), level, dtype=np.uint8)).save(path)


def classifier(folder, classes=CLASSES, names=None, **fields):
    """A small model of so many classes, saved with its image processor."""
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 8, "patch_size": 4}
    named = {"id2label": dict(enumerate(names))} if names else {}
    config = CrateVisionConfig(**sizes, num_labels=classes, **named, **fields)
    model = build(CrateForImageClassification, config)
    model.save_pretrained(folder)
    image_processor_of(model.config, center_crop=False).save_pretrained(folder)
    return folder


def test_imagenet_v2_takes_folders_by_number(tmp_path):
    for label in range(CLASSES):
        picture(tmp_path / str(label) / "a.png", 20 * label)
    source = load_held_out_source(f"imagenet-v2:{tmp_path}", [f"n{i}" for i in range(CLASSES)])
    (tried,) = source.sets()
    assert tried.images.labels.tolist() == list(range(CLASSES))  # as text, 10 and 11 come before 2
    levels = [np.asarray(tried.images.read(i, 3)).max() for i in range(CLASSES)]
    assert levels == [20 * label for label in range(CLASSES)]
    assert (tried.accepted, tried.group, source.notes) == (None, (), ())


def real(tmp_path, labels, numbers):
    for number in numbers:
        picture(tmp_path / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", number)
    (tmp_path / "real.json").write_text(json.dumps(labels))
    return f"imagenet-real:{tmp_path / 'val'}"


def test_imagenet_real_takes_labels_by_the_number_in_the_name(tmp_path):
    source = load_held_out_source(real(tmp_path, [[5], [], [7, 2], [900], [1]], [3, 2, 4, 1]), ["x"] * 1000)
    (tried,) = source.sets()
    by_name = dict(zip([tried.images.name(i)[-6:-5] for i in range(3)], tried.accepted, strict=True))
    assert by_name == {"1": (5,), "3": (2, 7), "4": (900,)}
    assert source.notes == (
        "1 pictures without a label in real.json are left out, as in the paper",
        f"{tmp_path / 'val'} has 4 of the 5 pictures that real.json lists",
    )


def corrupt(root, names, severities=(1, 2, 3, 4, 5), classes=("n01", "n02", "n10")):
    for name in names:
        for severity in severities:
            for place, label in enumerate(classes):
                picture(root / name / str(severity) / label / "a.png", 20 * place)
    return f"imagenet-c:{root}"


def test_imagenet_c_by_corruption_and_severity(tmp_path):
    source = load_held_out_source(corrupt(tmp_path, ["noise/shot_noise", "weather/fog"], (1, 3)), [*"abc"])
    assert source.groups == (("fog", "1"), ("fog", "3"), ("shot_noise", "1"), ("shot_noise", "3"))
    assert [tried.images.labels.tolist() for tried in source.sets()] == [[0, 1, 2]] * 4
    assert "lacks fog 2, fog 4, fog 5" in source.notes[0]
    named = load_held_out_source(f"imagenet-c:{tmp_path}", ["n10", "other", "n02", "n01"])
    assert next(named.sets()).images.labels.tolist() == [3, 2, 0]  # by name, where the model has these names


def test_evaluation_of_imagenet_v2(tmp_path):
    for label in range(CLASSES):
        for name in ("a.png", "b.png"):
            picture(tmp_path / "v2" / str(label) / name, 20 * label)
    folder = classifier(tmp_path / "model")
    more = EvaluationOptions(tmp_path / "rows.csv")
    metrics = evaluate_model(folder, f"imagenet-v2:{tmp_path / 'v2'}", more=more)
    assert metrics["images"] == 2 * CLASSES
    assert [row["images"] for row in metrics["per_class"]] == [2] * CLASSES
    assert metrics["notes"][0] == "classes are told by number: 0 is 'LABEL_0', 11 is 'LABEL_11'"
    with open(tmp_path / "rows.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [f"LABEL_{i}" for i in range(CLASSES) for _ in range(2)]
    assert np.mean([row["right"] == "True" for row in rows]) == pytest.approx(metrics["accuracy"])


def test_evaluation_of_imagenet_real_counts_any_label_of_the_set(tmp_path):
    folder = classifier(tmp_path / "model", 1000)
    source = real(tmp_path, [[3], [4], [5]], [1, 2, 3])
    evaluate_model(folder, source, more=EvaluationOptions(tmp_path / "rows.csv"))
    with open(tmp_path / "rows.csv", encoding="utf-8") as file:
        chosen = [int(row["predicted"].removeprefix("LABEL_")) for row in csv.DictReader(file)]
    labels = [[(chosen[0] + 1) % 1000, chosen[0]], [(chosen[1] + 1) % 1000], []]
    (tmp_path / "real.json").write_text(json.dumps(labels))
    metrics = evaluate_model(folder, source)
    assert (metrics["images"], metrics["accuracy"]) == (2, 0.5)
    assert metrics["loss"] is metrics["per_class"] is None


def test_evaluation_of_imagenet_c(tmp_path):
    folder = classifier(tmp_path / "model", 3)
    source = corrupt(tmp_path / "c", ALEXNET_ERRORS)
    metrics = evaluate_model(folder, source, more=EvaluationOptions(tmp_path / "rows.csv"))
    assert (len(metrics["sets"]), metrics["images"]) == (75, 225)
    clean = metrics["sets"][0]["accuracy"]  # the pictures of all sets are the same
    assert metrics["accuracy"] == pytest.approx(clean)
    assert metrics["mean_corruption_error"] == pytest.approx(
        np.mean([(1 - clean) / e for e in ALEXNET_ERRORS.values()])
    )
    with open(tmp_path / "rows.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 225
    assert {(row["corruption"], row["severity"]) for row in rows} == {
        (name, str(s)) for name in ALEXNET_ERRORS for s in range(1, 6)
    }


def test_what_does_not_fit_is_refused(tmp_path):
    names = ["x"] * 3
    (tmp_path / "v2" / "n01440764").mkdir(parents=True)
    with pytest.raises(ValueError, match="has n01440764: expected the folders 0 to 2"):
        load_held_out_source(f"imagenet-v2:{tmp_path / 'v2'}", names)
    for label in (0, 1, 3):
        picture(tmp_path / "large" / str(label) / "a.png", 0)
    with pytest.raises(ValueError, match="has a class 3, the model has 3 classes"):
        load_held_out_source(f"imagenet-v2:{tmp_path / 'large'}", names)
    with pytest.raises(ValueError, match="has 3 folders, the model 4 classes"):
        load_held_out_source(f"imagenet-v2:{tmp_path / 'large'}", ["x"] * 4)
    picture(tmp_path / "twins" / "1" / "a.png", 0)
    picture(tmp_path / "twins" / "01" / "a.png", 0)
    with pytest.raises(ValueError, match="two folders of one number"):
        load_held_out_source(f"imagenet-v2:{tmp_path / 'twins'}", names)
    with pytest.raises(ValueError, match="ImageNet's 1000 classes, not of 3"):
        load_held_out_source(real(tmp_path, [[1]], [1]), names)
    with pytest.raises(ValueError, match="real.json has no label"):
        load_held_out_source(real(tmp_path, [[1]], [1, 2]), ["x"] * 1000)
    with pytest.raises(ValueError, match="no integer from 0 to 999"):
        load_held_out_source(real(tmp_path, [[1], [1000]], []), ["x"] * 1000)
    source = corrupt(tmp_path / "c", ["fog"], (1, 2))
    with pytest.raises(ValueError, match="their order cannot be known"):
        next(load_held_out_source(source, ["x"] * 5).sets())
    (tmp_path / "c" / "fog" / "6").mkdir()
    with pytest.raises(ValueError, match="expected severities 1 to 5"):
        load_held_out_source(source, names)
    for wrong, message in (("imagenet-v2:", "needs a folder"), (f"imagenet-c:{tmp_path / 'none'}", "no folder at")):
        with pytest.raises(ValueError, match=message):
            load_held_out_source(wrong, names)
    with pytest.raises(ValueError, match="imagenet-v2 is for `crate evaluate` alone"):
        load_image_source("imagenet-v2:x")


def test_options_that_would_not_be_read_are_refused(tmp_path):
    folder, source = classifier(tmp_path / "model"), f"imagenet-v2:{tmp_path}"
    for keywords, message in (
        ({"settings": {"data.root": "x"}}, "leave --set data.root out"),
        ({"split": "train"}, "it has no train part"),
        ({"more": EvaluationOptions(stride=2)}, "--stride is of wikitext"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_model(folder, source, **keywords)
    with pytest.raises(ValueError, match="wikitext is for language models"):
        evaluate_model(folder, "wikitext:x")


def test_the_state_of_torch_is_left_alone(tmp_path):
    picture(tmp_path / "v2" / "0" / "a.png", 0)
    picture(tmp_path / "v2" / "1" / "a.png", 9)
    folder = classifier(tmp_path / "model", 2)
    before = torch.get_rng_state()
    evaluate_model(folder, f"imagenet-v2:{tmp_path / 'v2'}")
    assert torch.equal(torch.get_rng_state(), before)
