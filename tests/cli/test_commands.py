"""The doors: what the commands print, where errors go, how long the first word takes."""

import csv
import json
import resource
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from reference import load_golden
from small_runs import small_recipe
from typer.testing import CliRunner

from crate_transformers.cli import errors
from crate_transformers.cli.app import app
from crate_transformers.cli.settings import parse_settings
from crate_transformers.cli.train import waiting_advice
from crate_transformers.data import load_image
from crate_transformers.training import train


def crate(*arguments):
    """A command in this process; errors as `main` shows them."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        with pytest.raises(SystemExit) as left:
            errors.exit_with_message(result.exception)
        return left.value.code, str(result.exception)
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return train(small_recipe(train__max_steps=10), tmp_path_factory.mktemp("model") / "run").output


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, mode in (("a.png", "L"), ("b.png", "RGBA"), ("c.jpg", "CMYK")):
        Image.fromarray(np.zeros((5, 7, 3), dtype=np.uint8)).convert(mode).save(folder / name)
    return folder


def test_advice_on_waiting_for_data():
    advice = waiting_advice({"data_wait_fraction": 0.42, "seconds": 200.0}, workers=2)
    assert advice.startswith("42% of the time")
    assert "train.dataloader_num_workers=N, now 2" in advice
    assert waiting_advice({"data_wait_fraction": 0.2, "seconds": 2000.0}, workers=2) is None
    assert waiting_advice({"data_wait_fraction": 0.9, "seconds": 60.0}, workers=2) is None  # over before they start


def test_train_measures_how_long_it_waited_for_data(tmp_path, monkeypatch):
    for name in ("ant", "bee"):  # of a slow disk, for a model that has nothing to do
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(6):
            Image.effect_noise((50, 50), 20 + i).convert("RGB").save(tmp_path / "data" / name / f"{i}.png")

    def slowly(*arguments):
        time.sleep(0.1)
        return load_image(*arguments)

    monkeypatch.setattr("crate_transformers.data.images.folders.load_image", slowly)
    small = ("image_size=8", "patch_size=4", "num_channels=3", "hidden_size=8", "num_attention_heads=1")
    settings = (
        *(f"model.{value}" for value in small),
        "train.max_steps=20",
        "train.measure_every=0",
        "train.ema_decay=null",
    )
    sets = [part for value in settings for part in ("--set", value)]
    monkeypatch.setattr("crate_transformers.cli.train._LONG_WAIT", 0.0)
    code, output = crate("train", "--data", f"imagefolder:{tmp_path / 'data'}", "--output", tmp_path / "run", *sets)
    assert code == 0, output
    waited = json.loads((tmp_path / "run" / "metrics.json").read_text())["train"]["data_wait_fraction"]
    assert waited > 0.3, waited
    assert f"{waited:.0%} of the time was spent waiting for data" in output


def test_predict(model, pictures):
    code, output = crate("predict", model, pictures, pictures / "a.png")
    assert code == 0, output
    rows = [json.loads(line) for line in output.splitlines()]
    assert [row["file"].rpartition("/")[2] for row in rows] == ["a.png", "b.png", "c.jpg", "a.png"]
    assert all(set(row) == {"file", "label", "score"} and 0 <= row["score"] <= 1 for row in rows)


def test_predict_several_classes(model, pictures):
    code, output = crate("predict", model, pictures, "--top-k", "3")
    assert code == 0, output
    rows = [json.loads(line) for line in output.splitlines()]
    for row in rows:
        assert list(row) == ["file", "label", "score", "top"]
        assert row["top"][0] == {"label": row["label"], "score": row["score"]}
        assert len({choice["label"] for choice in row["top"]}) == 3
        assert row["top"] == sorted(row["top"], key=lambda choice: -choice["score"])
    code, output = crate("predict", model, pictures, "--top-k", "3", "--format", "csv")
    table = list(csv.DictReader(output.splitlines()))
    assert [(row["file"], row["rank"], row["label"]) for row in table] == [
        (row["file"], str(rank), choice["label"]) for row in rows for rank, choice in enumerate(row["top"], start=1)
    ]
    code, output = crate("predict", model, pictures / "a.png", "--format", "csv")
    assert output.splitlines()[0] == "file,label,score"
    assert len(output.splitlines()) == 2
    for arguments, words in ((("--top-k", "11"), "the model has 10 classes"), (("--format", "xml"), "jsonl or csv")):
        code, output = crate("predict", model, pictures, *arguments)
        assert code == 2
        assert words in output


def test_evaluate(model, tmp_path):
    code, output = crate("evaluate", model, "--output", tmp_path / "m.json")
    assert code == 0
    told, _ = json.JSONDecoder().raw_decode(output, output.index("{"))
    assert json.loads((tmp_path / "m.json").read_text()) == told
    assert 0 <= told["intervals"]["accuracy"][0] <= told["accuracy"] <= told["intervals"]["accuracy"][1] <= 1
    assert sum(row["images"] for row in told["per_class"]) == told["images"] == 359
    for words in (
        "95 % interval",
        "top5 accuracy",
        "accuracy by class",
        "resamples of the images, not over training seeds",
    ):
        assert words in output


def test_evaluate_writes_a_row_a_sample(model, tmp_path):
    code, output = crate("evaluate", model, "--csv", tmp_path / "rows.csv", "--output", tmp_path / "m.json")
    assert code == 0, output
    assert f"a row a sample written to {tmp_path / 'rows.csv'}" in output
    with open(tmp_path / "rows.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert list(rows[0]) == ["file", "label", "predicted", "score", "right", "rank", "nats"]
    assert np.mean([row["label"] == row["predicted"] for row in rows]) == pytest.approx(metrics["accuracy"])
    assert np.mean([int(row["rank"]) < 5 for row in rows]) == pytest.approx(metrics["top5_accuracy"])
    assert np.mean([float(row["nats"]) for row in rows]) == pytest.approx(metrics["loss"])
    code, output = crate("evaluate", model, "--stride", "3")
    assert code == 2
    assert "--stride is of wikitext:PATH and ptb:PATH" in output


def test_evaluate_says_which_model_it_read(model):
    code, output = crate("evaluate", model)
    assert code == 0
    assert f"evaluated {model}: the best model of its run (step 10 of 10, accuracy 0." in output


def test_convert_and_use(tmp_path, pictures):
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in load_golden("crate_cls").state.items()}}, tmp_path / "a.pth"
    )
    assert crate("convert", tmp_path / "a.pth", tmp_path / "model")[1].count("--heads") == 1
    code, output = crate("convert", tmp_path / "a.pth", tmp_path / "model", "--heads", 3, "--set", "pool=mean")
    assert code == 0, output
    assert json.loads((tmp_path / "model" / "config.json").read_text())["pool"] == "mean"
    assert crate("predict", tmp_path / "model", pictures)[0] == 0
    code, output = crate("convert", tmp_path / "a.pth", tmp_path / "model", "--heads", 3)
    assert (code, "--overwrite" in output) == (2, True)
    code, output = crate("convert", tmp_path / "a.pth", tmp_path / "a.pth", "--heads", 3)
    assert (code, "is a file" in output) == (2, True)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Files of a classifier and of an autoencoder, 48 wide, which is not in the table of sizes; three heads each."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in ("crate_cls", "crate_mae"):
        torch.save(load_golden(name).state, folder / f"{name}.pth")
    return folder


# a command that takes a checkpoint file, without the file and --heads
_ON_FILES = {
    "inspect": ("--data", "PICTURES", "--output", "OUT"),
    "segment": ("PICTURES", "--output", "OUT"),
    "reconstruct": ("PICTURES", "--output", "OUT"),
    "probe": ("--data", "digits", "--limit", 20, "--output", "OUT"),
    "export": ("--output", "OUT.pt2"),
    "neurons": ("--text", "words", "--output", "OUT"),
}


def on_file(command, file, pictures, out, *more):
    places = {"PICTURES": pictures / "a.png", "OUT": out, "OUT.pt2": out.with_suffix(".pt2")}
    return crate(command, file, *(places.get(part, part) for part in _ON_FILES[command]), *more)


@pytest.mark.parametrize("command", [name for name in _ON_FILES if name != "neurons"])
def test_heads_of_a_checkpoint_file(command, checkpoints, pictures, tmp_path):
    file = checkpoints / ("crate_mae.pth" if command == "reconstruct" else "crate_cls.pth")
    code, output = on_file(command, file, pictures, tmp_path / "out")
    assert (code, "--heads" in output) == (2, True)
    code, output = on_file(command, file, pictures, tmp_path / "out", "--heads", 3)
    assert code == 0, output
    assert "layout: " in output  # what was assumed is said


@pytest.mark.parametrize("command", _ON_FILES)
def test_the_heads_of_a_folder_are_in_its_configuration(command, model, pictures, tmp_path):
    code, output = on_file(command, model, pictures, tmp_path / "out", "--heads", 3)
    assert code == 2
    assert output == f"--heads is of a checkpoint file: the number of heads of {model} is in its config.json"
    assert not (tmp_path / "out").exists()


def test_heads_of_a_baseline(checkpoints, pictures, tmp_path):
    file = checkpoints / "crate_cls.pth"
    both = ("--baseline", shutil.copy(file, tmp_path / "other.pth"), "--heads", 3)
    code, output = on_file("inspect", file, pictures, tmp_path / "out", *both, "--baseline-heads", 6)
    assert code == 0, output
    code, output = on_file("inspect", file, pictures, tmp_path / "out", "--heads", 3, "--baseline-heads", 6)
    assert (code, "there is none" in output) == (2, True)


def test_a_tokenizer_lies_beside_a_checkpoint_file(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(("?", "the", "cat"))}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    file = tmp_path / "gpt.pth"
    torch.save(load_golden("crate_gpt").state, file)
    arguments = ("neurons", file, "--text", "the cat the cat", "--heads", 3, "--output", tmp_path / "out")
    code, output = crate(*arguments)
    assert (code, "save one beside the model" in output) == (2, True)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(tmp_path)
    code, output = crate(*arguments)
    assert code == 0, output


def test_no_bars_of_others_on_the_way(checkpoints, pictures, tmp_path):
    for arguments in (
        ("convert", checkpoints / "crate_cls.pth", tmp_path / "model", "--heads", 3),
        ("predict", tmp_path / "model", pictures / "a.png"),
        ("export", tmp_path / "model", "--output", tmp_path / "x.pt2"),
    ):
        command = [sys.executable, "-m", "crate_transformers", *map(str, arguments)]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("num_attention_heads=3",), "exclude each other"),
        (("source=3",), "no such field"),
        (("hidden_size=x",), "Field 'hidden_size' expected int, got str"),
        (("num_hidden_layers=1000000000",), "is 3 by the checkpoint's shapes"),
        (("dtype=bfloat16",), "no field 'dtype' to set"),
    ],
)
def test_settings_of_a_conversion_that_do_not_fit(settings, words, checkpoints, tmp_path):
    sets = [part for setting in settings for part in ("--set", setting)]
    code, output = crate("convert", checkpoints / "crate_cls.pth", tmp_path / "model", "--heads", 3, *sets)
    assert (code, words in output) == (2, True), output
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["./nothing", "a/b/c", "none.pth", "/nowhere", "runs/"])
def test_a_model_that_is_not_there_is_an_error_at_once(name, pictures, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: pytest.fail("the hub was asked"))
    for command, more in (
        ("predict", [pictures]),
        ("evaluate", []),
        ("generate", ["word"]),
        ("inspect", ["--output", tmp_path / "out"]),
        ("export", ["--output", tmp_path / "out.pt2"]),
    ):
        code, output = crate(command, name, *more)
        assert code == 2
        assert f"no usable model at {name}" in output


def test_recipes():
    code, output = crate("recipes")
    assert code == 0
    assert "imagenet1k-paper" in output
    assert "66.7/69.2/70.8/71.3" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "digts"), "did you mean 'digits'"),
        (("train", "--set", "train.learning_rat=1"), "did you mean 'learning_rate'"),
        (("train", "--set", "lr"), "--set takes key=value"),
        (("train", "--resume", "--overwrite"), "exclude each other"),
        (("train", "--data", "imagefolder:/nowhere"), "no folder at /nowhere"),
        (("train", "--set", "model.num_attention_heads=7"), "not a multiple of num_attention_heads"),
        (("train", "--set", "model.patch_size=3"), "not a multiple of the patch"),
        (("evaluate", "/nowhere"), "no usable model"),
        (("predict", "/nowhere", "/nowhere.png"), "no image file or folder"),
        (("generate", "/nowhere", "word"), "no usable model"),
        (("convert", "/nowhere.pth", "/tmp/x"), "no checkpoint file"),
    ],
)
def test_errors(arguments, words, tmp_path):
    if arguments[0] == "train":
        arguments = (*arguments, "--output", tmp_path / "run")
    code, output = crate(*arguments)
    assert code == 2
    assert words in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("train", "digts"), "unknown recipe 'digts'"), (("generate", "/nowhere", "a prompt"), "no usable model")],
)
def test_errors_reach_the_shell(arguments, message):
    process = subprocess.run(
        [sys.executable, "-m", "crate_transformers", *arguments], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.splitlines()[-1].startswith(f"error: {message}")
    assert "Traceback" not in process.stderr


def test_help_comes_at_once():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run([sys.executable, "-m", "crate_transformers", "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert b"train" in process.stdout
    # processor time: what a quiet machine takes, whatever else this one does
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 1.5


def test_settings():
    assert parse_settings(["a.b=3", "c=[24,16]", "d=true", "e=1e-4", "f=text", "g=null"]) == {
        "a.b": 3,
        "c": [24, 16],
        "d": True,
        "e": 1e-4,
        "f": "text",
        "g": None,
    }
