"""`crate inspect` and `crate neurons`, on models trained in this session."""

import csv
import json
import re

import pytest
import torch
from reference import load_golden
from safetensors.torch import save_file

from crate_transformers import convert_checkpoint

MEASURES = {"measures.csv", "measures.json", "report.html", "layers.png", "objective.svg", "subspaces.png"}


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def self_contained(page):
    """Nothing of the page is loaded from elsewhere."""
    return not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", page) and "@import" not in page


@pytest.mark.parametrize("mode", ["official", "paper"])
def test_on_the_digits(crate, digits_model, tmp_path, mode):
    out = tmp_path / "out"
    said = crate(
        "inspect", digits_model, "--data", "digits", "--limit", 19, "--mode", mode, "--patch", 1, 3, "--output", out
    )
    names = {path.name for path in out.iterdir()}
    assert {*MEASURES, "attention_patch.png", "attention.npz", "attention.png", "heads.svg", "components.png"} <= names
    assert str(out) in said.splitlines()[-1]
    record = json.loads((out / "measures.json").read_text())
    assert record["mode"] == mode
    assert record["num_samples"] == 19
    rows = rows_of(out / "measures.csv")
    assert [float(row["coding_rate_mean"]) for row in rows] == pytest.approx(record["coding_rate_mean"])
    assert len(rows) == 2
    assert (out / "layers.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text()
    assert self_contained(page)
    assert f"mode {mode}" in page
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_the_public_numbers_come_out(crate, tmp_path):
    golden = load_golden("crate_cls")
    convert_checkpoint(golden.state, num_attention_heads=3).save_pretrained(tmp_path / "model")
    save_file({"pixel_values": golden["pixel_values"].contiguous()}, tmp_path / "inputs.safetensors")
    crate(
        "inspect", tmp_path / "model", "--data", f"tensors:{tmp_path / 'inputs.safetensors'}", "--output",
        tmp_path / "out", "--pictures", 0,
    )  # fmt: skip
    rows = rows_of(tmp_path / "out" / "measures.csv")
    rates = [float(row["coding_rate_mean"]) for row in rows]
    zeros = [1 - float(row["nonzero_fraction_mean"]) for row in rows]
    assert rates == pytest.approx(golden["coding_rate_mean"].tolist(), rel=1e-5)
    assert zeros == pytest.approx(golden["zero_fraction"].tolist(), abs=1e-7)


def test_a_baseline_in_the_same_figures(crate, digits_model, digits_vit, tmp_path):
    crate("inspect", digits_model, "--baseline", digits_vit, "--limit", 7, "--pictures", 0, "--output", tmp_path)
    rows = rows_of(tmp_path / "measures.csv")
    assert {row["model"] for row in rows} == {digits_model.name, digits_vit.name}
    assert (tmp_path / "subspaces_2.png").is_file()


def test_text(crate, text_model_folder, tmp_path):
    words = "the cat sat on the mat . the dog sat on the log ."
    crate("inspect", text_model_folder, "--text", words, "--output", tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= MEASURES | {"neurons.csv"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert self_contained(page)
    assert 'class="viewer of-text"' in page
    assert ">cat" in page or "> cat" in page


def test_a_text_baseline_in_the_same_figures(crate, digits_model, text_model_folder, tmp_path):
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    gpt2 = tmp_path / "gpt2"
    ends = {"bos_token_id": 1, "eos_token_id": 1}
    GPT2LMHeadModel(GPT2Config(vocab_size=10, n_embd=24, n_head=3, n_layer=3, n_positions=32, **ends)).save_pretrained(
        gpt2
    )
    AutoTokenizer.from_pretrained(text_model_folder).save_pretrained(gpt2)
    text = ("--text", "the cat sat on the mat . the dog sat on the log .", "--output", tmp_path / "out")
    crate("inspect", text_model_folder, "--baseline", gpt2, *text)
    rows = rows_of(tmp_path / "out" / "measures.csv")
    assert [row["model"] for row in rows] == [text_model_folder.name] * 2 + ["gpt2"] * 3
    for one, other in ((text_model_folder, digits_model), (digits_model, text_model_folder)):
        arguments = text if one is text_model_folder else ("--output", tmp_path / "out")
        with pytest.raises(ValueError, match="no baseline of it"):
            crate("inspect", one, "--baseline", other, *arguments)


def test_neurons_and_steering(crate, text_model_folder, tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat on the mat . the dog sat on the log . " * 5)
    said = crate(
        "neurons", text_model_folder, "--text", tmp_path / "text.txt", "--neuron", 3, "--value", 50, "--prompt",
        "the cat", "--tokens", 5, "--output", tmp_path / "out",
    )  # fmt: skip
    assert "as it is:" in said
    rows = rows_of(tmp_path / "out" / "neurons.csv")
    assert len(rows) == 24
    page = (tmp_path / "out" / "neurons.html").read_text()
    assert self_contained(page)
    assert "neuron 3 = 50" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mode", "other"), "official or paper"),
        (("--text", "words"), "--data"),
        (("--layer", 7), "no layer 7"),
        (("--data", "nowhere"), "nowhere"),
        (("--limit", 0), "--limit"),
        (("--limit", 3, "--patch", 4, 0), "no patch"),
        (("--split", "all"), "--split"),
        (("--part", "decoder"), "decoder"),
        (("--part", "decoder", "--patch", 0, 0), "of the encoder"),
        (("--batch-size", 0), "--batch-size"),
        (("--data", "tensors:none.safetensors"), "none.safetensors"),
    ],
)
def test_bad_input_is_named(crate, digits_model, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        crate("inspect", digits_model, "--output", tmp_path / "out", *arguments)


def test_bad_neurons_and_models_are_named(crate, digits_model, text_model_folder, tmp_path):
    text = ("--text", "the cat", "--output", tmp_path / "out")
    for arguments, message in (
        ((digits_model, *text), "not text"),
        ((text_model_folder, *text, "--neuron", 24), "no neuron 24"),
        ((text_model_folder, *text, "--layer", 5), "no layer 5"),
        ((text_model_folder, *text, "--value", 1), "--neuron"),
        ((text_model_folder, *text, "--prompt", "the"), "--neuron and --value"),
        ((text_model_folder, *text, "--neuron", 1, "--value", "nan"), "finite"),
        ((text_model_folder, *text, "--count", -3), "--count"),
        ((text_model_folder, "--text", " ", "--output", tmp_path / "out"), "no text"),
        ((tmp_path, *text), "config.json"),
        ((tmp_path / "none", *text), "no model"),
    ):
        with pytest.raises(ValueError, match=message):
            crate("neurons", *arguments)
    with pytest.raises(ValueError, match="--text"):
        crate("inspect", text_model_folder, "--output", tmp_path / "out")
    with pytest.raises(ValueError, match="--patch is of images"):
        crate("inspect", text_model_folder, *text, "--patch", 0, 0)


def test_memory_does_not_grow_with_the_data(digits_model, tmp_path):
    from crate_transformers.analysis import measure_layers
    from crate_transformers.evaluation.opening import open_model

    model = open_model(str(digits_model))
    alive: list = []

    def stream():
        for _ in range(50):
            batch = torch.rand(4, model.config.num_channels, 8, 8)
            alive.append(batch)
            yield batch
            assert sum(1 for kept in alive if kept is not None) <= 1
            alive[-1] = None

    assert measure_layers(model, stream()).num_samples == 200


def test_autoencoder_and_its_decoder(crate, tmp_path):
    from zoo import IMAGE, mae_model

    mae_model(num_channels=3).save_pretrained(tmp_path / "mae")
    save_file({"pixel_values": torch.rand(5, 3, *IMAGE)}, tmp_path / "inputs.safetensors")
    data = ("--data", f"tensors:{tmp_path / 'inputs.safetensors'}")
    crate("inspect", tmp_path / "mae", *data, "--output", tmp_path / "encoder", "--pictures", 2)
    crate("inspect", tmp_path / "mae", *data, "--output", tmp_path / "decoder", "--part", "decoder")
    assert len(rows_of(tmp_path / "encoder" / "measures.csv")) == 2
    assert len(rows_of(tmp_path / "decoder" / "measures.csv")) == 3
    assert (tmp_path / "encoder" / "attention.png").is_file()


def test_training_logs_the_measures(digits_model):
    record = next((digits_model / "checkpoints").rglob("trainer_state.json"), None)
    page = (digits_model / "report.html").read_text()
    assert "Layers over training" in page
    if record is not None:
        logged = [entry for entry in json.loads(record.read_text())["log_history"] if "layer_coding_rate" in entry]
        assert [len(entry["layer_coding_rate"]) for entry in logged] == [2] * len(logged)


def test_a_folder_of_pictures_and_a_text_file(crate, digits_model, tmp_path):
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for i in range(3):
        Image.new("RGB", (11, 13), (40 * i, 90, 10)).save(tmp_path / "pictures" / f"{i}.png")
    said = crate("inspect", digits_model, "--data", tmp_path / "pictures", "--output", tmp_path / "out")
    assert "3 samples of pictures" in said
