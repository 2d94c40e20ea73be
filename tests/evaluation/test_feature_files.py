"""`crate features`: what the file holds is what the model made, in the order of the data."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner
from zoo import IMAGE, baseline, mae_model, text_model, vision_model

from crate_transformers.analysis import trace
from crate_transformers.cli.app import app
from crate_transformers.data import load_image_source
from crate_transformers.evaluation.feature_files import FeatureRequest, write_features
from crate_transformers.evaluation.probes import layer_features
from crate_transformers.models.image_processing import image_processor_of


def crate(*arguments):
    result = CliRunner().invoke(app, ["features", *map(str, arguments)])
    return result.exit_code, result.output + str(result.exception or "")


def read(path):
    with np.load(path) as file:
        content = dict(file)
    return content, json.loads(str(content["header"]))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """An imagefolder of two classes."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for part, count in (("train", 3), ("test", 4)):
        for name in ("ant", "bee"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 255, (*IMAGE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


def saved(folder, model):
    model.save_pretrained(folder)
    image_processor_of(model.config, center_crop=False).save_pretrained(folder)
    return folder


def test_features_of_an_imagefolder(tmp_path, pictures):
    folder = saved(tmp_path / "model", vision_model())
    out = tmp_path / "out.npz"
    source = f"imagefolder:{pictures}"
    code, said = crate(
        folder, "--data", source, "--layer", "embedding", "--layer", -2, "--layer", 1, "--what", "pooled", "--what",
        "tokens", "--what", "codes", "--batch-size", 3, "--output", out,
    )  # fmt: skip
    assert code == 0, said
    content, header = read(out)
    images = load_image_source(source).test
    assert content["labels"].tolist() == images.labels.tolist()
    assert content["names"].tolist() == [images.name(i) for i in range(8)]
    assert content["index"].tolist() == list(range(8))
    assert (header["count"], header["classes"], header["split"]) == (8, ["ant", "bee"], "test")
    assert f"pooled_1: 8 x {vision_model().config.hidden_size}, float32" in said
    processor = image_processor_of(vision_model().config, center_crop=False)
    pixels = processor([images.read(i, 3) for i in range(8)], return_tensors="pt")["pixel_values"]
    record = trace(vision_model(), pixels)
    assert set(header["arrays"]) == {
        *(f"{what}_{layer}" for what in ("pooled", "tokens") for layer in ("embedding", 0, 1)), "codes_0", "codes_1",
    }  # fmt: skip
    for name, expected in (
        ("tokens_embedding", record.layers[0].tokens_in),
        ("tokens_0", record.layers[0].tokens_out),
        ("codes_1", record.layers[1].codes),
    ):
        torch.testing.assert_close(torch.from_numpy(content[name]), expected)
        assert header["arrays"][name]["shape"] == list(expected.shape)
    assert (header["prefix_tokens"], header["grid"]) == (1, list(record.grid))
    pool = header["pool"]
    everything = layer_features(vision_model(), {"pixel_values": pixels}, pool, every_layer=True)
    for place, layer in enumerate(("embedding", 0, 1)):
        assert content[f"pooled_{layer}"] == pytest.approx(everything[place], abs=1e-5)


@pytest.mark.parametrize("family", ["vit", "mae"])
def test_other_families_and_options(tmp_path, pictures, family):
    model = baseline("vit") if family == "vit" else mae_model(num_channels=3)
    folder = saved(tmp_path / "model", model)
    out = tmp_path / "out.npz"
    code, said = crate(
        folder,
        "--data",
        pictures / "train",
        "--layer",
        "all",
        "--pool",
        "mean",
        "--limit",
        3,
        "--float16",
        "--output",
        out,
    )
    assert code == 0, said
    content, header = read(out)
    assert content["index"].tolist() == [0, 2, 5]  # evenly spread
    assert "labels" not in content  # of files without labels
    assert content["names"].tolist()[0].endswith("ant/0.png")
    assert content["pooled_0"].dtype == np.float16
    depth = model.config.num_hidden_layers
    processor = image_processor_of(model.config, center_crop=False)
    pixels = processor([Image.open(name).convert("RGB") for name in content["names"]], return_tensors="pt")[
        "pixel_values"
    ]
    everything = layer_features(model, {"pixel_values": pixels}, "mean", every_layer=True)  # the last after the norm
    assert content[f"pooled_{depth - 1}"].astype(float) == pytest.approx(everything[-1], abs=5e-3)
    assert list(header["arrays"]) == ["pooled_embedding", *(f"pooled_{layer}" for layer in range(depth))]


def test_a_run_gives_its_own_split(tmp_path):
    from small_runs import SMALL

    from crate_transformers.training import load_recipe, train

    settings = {**SMALL, "train.max_steps": 2, "train.eval_steps": 2, "train.warmup_epochs": 0.1, "train.seed": 3}
    run = train(load_recipe("digits", settings), tmp_path / "run").output
    code, said = crate(run, "--limit", 20, "--output", tmp_path / "out.npz")
    assert code == 0, said
    content, _ = read(tmp_path / "out.npz")
    images = load_image_source("digits", seed=3).test
    chosen = content["index"]
    assert content["labels"].tolist() == images.labels[chosen].tolist()
    assert content["names"].tolist() == [images.name(int(i)) for i in chosen]


def language_model(tmp_path, causal=True):
    model = text_model(causal=causal, vocab_size=30)
    model.save_pretrained(tmp_path / "words")
    words = WordLevel({f"w{i}": i for i in range(30)}, unk_token="w0")
    from tokenizers.pre_tokenizers import WhitespaceSplit

    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(tmp_path / "words")
    return model


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_features_of_text(tmp_path, pool):
    model = language_model(tmp_path)
    ids = [(7 * i) % 29 + 1 for i in range(19)]  # stretches of 5 and one of 4
    out = tmp_path / "out.npz"
    code, said = crate(
        tmp_path / "words", "--text", " ".join(f"w{i}" for i in ids), "--length", 5, "--pool", pool, "--layer", 0,
        "--layer", -1, "--what", "pooled", "--what", "tokens", "--batch-size", 2, "--output", out,
    )  # fmt: skip
    assert code == 0, said
    content, header = read(out)
    assert content["input_ids"][content["is_token"]].tolist() == ids
    assert content["is_token"].sum(axis=1).tolist() == [5, 5, 5, 4]
    for row in range(4):
        own = torch.tensor([ids[5 * row : 5 * row + 5]])
        record = trace(model, own)
        for layer in (0, 1):
            tokens = record.layers[layer].tokens_out
            tokens = model.base_model.norm(tokens) if layer == 1 else tokens
            stored = torch.from_numpy(content[f"tokens_{layer}"][row])
            torch.testing.assert_close(stored[: own.shape[1]], tokens[0].detach(), atol=1e-5, rtol=1e-4)
            assert (stored[own.shape[1] :] == 0).all()
            pooled = tokens[0].mean(dim=0) if pool == "mean" else tokens[0, -1]
            torch.testing.assert_close(
                torch.from_numpy(content[f"pooled_{layer}"][row]), pooled.detach(), atol=1e-5, rtol=1e-4
            )
    assert (header["count"], header["length"], header["pool"]) == (4, 5, pool)


def test_refuses(tmp_path, pictures):
    folder = saved(tmp_path / "model", vision_model())
    out = ("--output", tmp_path / "out.npz")
    data = ("--data", pictures)
    for arguments, message in (
        ((*data, "--output", tmp_path / "out.npy"), "must end in .npz"),
        ((*data, *out, "--layer", 7), "no layer 7"),
        ((*data, *out, "--layer", "last"), "embedding or all, got 'last'"),
        ((*data, *out, "--layer", "embedding", "--what", "codes"), "the embedding has no code"),
        ((*data, *out, "--what", "other"), "--what must be some of pooled, tokens, codes"),
        ((*data, *out, "--pool", "last"), "--pool must be cls, mean"),
        ((*data, *out, "--split", "all"), "--split must be"),
        ((*data, *out, "--limit", 0), "--limit must be at least 1"),
        ((*data, *out, "--text", "words"), "this model reads images"),
        (out, "say what to evaluate on with --data"),
    ):
        code, said = crate(folder, *arguments)
        assert code != 0
        assert message in said
    language_model(tmp_path)
    for arguments, message in (
        (out, "this model reads text"),
        (("--text", "w1 w2", *out, "--set", "data.root=x"), "is of images"),
    ):
        code, said = crate(tmp_path / "words", *arguments)
        assert code != 0
        assert message in said
    assert not (tmp_path / "out.npz").exists()


def test_a_disk_that_is_too_small_is_told_at_once(tmp_path, pictures, monkeypatch):
    folder = saved(tmp_path / "model", vision_model())
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 100}))
    with pytest.raises(ValueError, match="are free: ask for fewer layers"):
        write_features(vision_model(), tmp_path / "out.npz", FeatureRequest(folder, source=str(pictures)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_what_float16_cannot_hold_is_refused(tmp_path, pictures):
    model = vision_model()
    folder = saved(tmp_path / "model", model)
    with torch.no_grad():
        for weights in model.base_model.embeddings.parameters():
            weights.mul_(1e7)
    request = FeatureRequest(folder, source=str(pictures), layers=("embedding",), what=("tokens",), half=True)
    with pytest.raises(ValueError, match="beyond float16"):
        write_features(model, tmp_path / "out.npz", request)
