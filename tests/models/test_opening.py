"""What was saved is opened whole, or refused in one line that names the file, without asking the hub in vain."""

import json
import shutil
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)
from zoo import build, decoder_config, encoder_config, mae_config, vision_config

from crate_transformers import (
    CrateForCausalLM,
    CrateForImageClassification,
    CrateForMaskedLM,
    CrateMAEForPreTraining,
    CrateModel,
)
from crate_transformers.errors import UserError
from crate_transformers.models import places
from crate_transformers.models.image_processing import image_processor_of
from crate_transformers.models.inputs import open_processor, open_tokenizer
from crate_transformers.models.opening import open_config, open_model
from crate_transformers.models.places import locate

NORM = "crate.layers.0.compression.norm.weight"  # (13,)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A classifier with its image processor."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    model = build(CrateForImageClassification, vision_config())
    model.save_pretrained(folder)
    image_processor_of(model.config).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it to damage."""
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def hub(monkeypatch):
    """The hub as a function of a name, and the names that it was asked for."""
    monkeypatch.setattr(places, "is_offline_mode", lambda: False)  # whatever the environment says
    asked = []

    def answer_with(answer):
        def model_info(self, name, *, timeout=None, **options):
            asked.append((name, timeout))
            return answer(name)

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
        return asked

    places._on_hub.cache_clear()
    yield answer_with
    places._on_hub.cache_clear()


def set_config(folder, name="config.json", **fields):
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **fields}))


def set_weights(folder, **tensors):
    """Replace tensors; None takes one out."""
    file = folder / "model.safetensors"
    content = {**load_file(file), **tensors}
    save_file({name: t for name, t in content.items() if t is not None}, file, metadata={"format": "pt"})


def refused(source, kind=None):
    """The line that a model is refused with."""
    with pytest.raises(UserError) as error:
        open_model(source, kind)
    return str(error.value)


# -- where ------------------------------------------------------------------------------------------------------------


def test_what_can_only_be_here_is_not_asked_of_the_hub(hub, tmp_path, monkeypatch):
    asked = hub(lambda name: pytest.fail(f"the hub was asked for {name}"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    names = (
        "./x",
        "../x",
        "~/x",
        "~nobody/x",
        "/nowhere",
        "a/b/c",
        "a\\b",
        "x/",
        "a/",
        "runs/x",
        "x.pth",
        "a b",
        "",
        "a\0b",
    )
    for name in (*names, tmp_path / "x"):
        with pytest.raises(UserError, match="no usable model at"):
            locate(name)
    assert locate("runs") == places.Path("runs")
    assert asked == []


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert locate("~/model") == tmp_path / "model"


def test_the_hub_is_asked_once_and_not_for_long(hub):
    def unreachable(name):
        raise ConnectionError("Name or service not known")

    asked = hub(unreachable)
    for name in ("gpt2", "owner/name"):
        with pytest.raises(UserError, match=f"at {name}: there is no such folder, and the hub cannot be reached"):
            locate(name)
    assert asked == [("gpt2", places.PATIENCE), ("owner/name", places.PATIENCE)]
    asked = hub(lambda name: None)
    assert locate("owner/name") == locate("owner/name") == "owner/name"
    assert len(asked) == 3


def test_a_name_that_the_hub_does_not_have_is_said(hub):
    def unknown(name):
        response = SimpleNamespace(headers={}, request=None)
        raise huggingface_hub.errors.RepositoryNotFoundError("404", response=response)

    hub(unknown)
    with pytest.raises(
        UserError, match="at owner/name: there is no such folder, and the hub shows no model of that name"
    ):
        locate("owner/name")


def test_without_the_hub_its_cache_is_read(hub, saved, tmp_path, monkeypatch):
    asked = hub(lambda name: pytest.fail("asked"))
    monkeypatch.setattr(places, "is_offline_mode", lambda: True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        locate("owner/name")
    kept = tmp_path / "models--owner--name"
    shutil.copytree(saved, kept / "snapshots" / "0123")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0123")
    assert type(open_model("owner/name")) is CrateForImageClassification
    assert open_processor("owner/name", 3).size["height"] == 15
    assert asked == []


# -- what -------------------------------------------------------------------------------------------------------------


def test_a_model_is_opened_with_the_head_it_was_saved_with_and_without_a_word(saved, tmp_path, capfd):
    models = (
        build(CrateForCausalLM, decoder_config()),
        build(CrateForMaskedLM, encoder_config()),
        build(CrateMAEForPreTraining, mae_config()),
        build(CrateModel, encoder_config()),
        ViTForImageClassification(ViTConfig(hidden_size=12, num_hidden_layers=1, num_attention_heads=2, image_size=32)),
    )
    for model in models:
        model.save_pretrained(tmp_path / "model")
        capfd.readouterr()
        opened = open_model(tmp_path / "model")
        assert type(opened) is type(model)
        assert not opened.training
        assert all(torch.equal(a, b) for a, b in zip(opened.parameters(), model.parameters(), strict=True))
        assert capfd.readouterr() == ("", "")
    assert type(open_model(saved)) is CrateForImageClassification


def test_a_backbone_that_was_saved_without_a_pooler_gets_none(tmp_path):
    config = ViTConfig(hidden_size=12, num_hidden_layers=1, num_attention_heads=2, image_size=32)
    for model in (
        build(CrateModel, encoder_config(), add_pooling_layer=False),
        ViTModel(config, add_pooling_layer=False),
    ):
        model.save_pretrained(tmp_path / "model")
        assert open_model(tmp_path / "model").pooler is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_hidden_layers": 10**8}, "100000000 layers: at most"),
        ({"num_hidden_layers": 9999}, "9999 layers .num_hidden_layers., the weights are 28 tensors"),
        ({"num_hidden_layers": 3}, "its weights lack crate.layers.2.*and 5 more"),
        ({"num_hidden_layers": 1}, "the model has no place for crate.layers.1.*and 5 more"),
        ({"hidden_size": 10**9}, "more than .* parameters"),
        ({"hidden_size": 10**5}, "asks for .* parameters, the weights are 3,263 numbers"),
        ({"hidden_size": 14, "head_dim": 5}, r"is \(11, 13\) in the weights, \(11, 14\) in the model"),
        ({"hidden_size": -1}, "hidden_size must be positive, got -1"),
        ({"hidden_size": "x"}, "Field 'hidden_size' expected int, got str"),
        ({"hidden_size": None}, "Field 'hidden_size' expected int, got NoneType"),
        ({"image_size": [15 * 10**12, 35]}, "more than .* parameters"),
        ({"num_labels": 10**9}, "num_labels must be a whole number up to"),
        ({"id2label": {"0": "x"}}, r"classifier.bias is \(11,\) in the weights, \(1,\) in the model"),
        ({"id2label": "x"}, "id2label"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps must be positive"),
        ({"architectures": [5]}, "architectures must be a list of names"),
        ({"architectures": "x"}, "architectures must be a list of names"),
        ({"architectures": ["pipeline"]}, "names the architecture 'pipeline', which is no model of type crate_vision"),
        ({"architectures": ["ViTModel"]}, "names the architecture 'ViTModel'"),
        ({"architectures": ["CrateVisionModel"]}, "the model has no place for classifier.bias"),
        ({"model_type": 5}, "model_type must be a name"),
        ({"model_type": "zz"}, "does not recognize this architecture"),
        ({"dtype": "float3"}, "dtype must be a type of floating-point numbers"),
        ({"dtype": "float8_e4m3fn"}, "dtype must be a type of floating-point numbers"),
        ({"per_layer_config": 5}, "no usable model"),
        ({"attn_implementation": 5}, "attn_implementation must be a name"),
        ({"attn_implementation": "fast"}, "is not supported"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder, fields, message):
    set_config(folder, **fields)
    for kind in (None, AutoModelForImageClassification):
        if "architectures" in fields and kind is not None and isinstance(fields["architectures"], list):
            continue  # the class is the caller's
        with pytest.raises(UserError, match=message) as error:
            open_model(folder, kind)
        assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"5", b"null", b"\xff\xfe\x00", b"\x8a\x01", b"[" * 10**5, b'{"a": ' * 5000, b"{}"]
)
def test_a_configuration_that_is_none_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    assert str(folder / "config.json") in refused(folder)


def test_a_field_that_stands_twice_is_refused(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"hidden_size": 13', '"hidden_size": 13, "hidden_size": 14'))
    assert "'hidden_size' is in it twice" in refused(folder)


def test_code_of_a_folder_is_not_run_and_not_asked_about(folder):
    (folder / "own.py").write_text("raise SystemExit('run')")
    set_config(folder, auto_map={"AutoConfig": "own.Config"}, model_type="own")
    assert "custom code" in refused(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.long(), f"{NORM} is of whole numbers \\(I64\\)"),
        (lambda t: t.bool(), f"{NORM} is of whole numbers \\(BOOL\\)"),
        (lambda t: torch.complex(t, t), f"{NORM} .*is of type C64"),
        (lambda t: t.to(torch.float8_e4m3fn), f"{NORM} .*is of type F8_E4M3"),
        (lambda t: torch.ones(14), rf"{NORM} is \(14,\) in the weights, \(13,\) in the model"),
        (lambda t: torch.ones(()), rf"{NORM} is \(\) in the weights, \(13,\) in the model"),
        (lambda t: torch.zeros(0), rf"{NORM} is \(0,\) in the weights, \(13,\) in the model"),
        (lambda t: t * float("nan"), f"{NORM} holds NaN"),
        (lambda t: None, f"its weights lack {NORM}"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, change, message):
    set_weights(folder, **{NORM: change(torch.ones(13))})
    for kind in (None, AutoModelForImageClassification):
        with pytest.raises(UserError, match=message):
            open_model(folder, kind)


def test_weights_without_a_place_are_named(folder):
    set_weights(folder, stray=torch.zeros(3))
    assert "the model has no place for stray" in refused(folder)


def test_weights_that_cannot_be_read_are_refused(folder):
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for length in (0, 4, 100, 3000, len(whole) - 5):
        file.write_bytes(whole[:length])
        assert f"{file} is damaged" in refused(folder)
    file.unlink()
    assert "holds no weights: it has no model.safetensors" in refused(folder)
    torch.save([1], folder / "pytorch_model.bin")
    assert str(folder) in refused(folder)
    (folder / "pytorch_model.bin").write_bytes(b"hello" * 1000)
    assert str(folder) in refused(folder)


def test_weights_in_a_pickle(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert torch.equal(open_model(folder).get_parameter(NORM), tensors[NORM])
    set_config(folder, hidden_size=10**5)
    assert "the configuration asks for" in refused(folder)


def test_shards(folder):
    file, parts = folder / "model.safetensors", ("model-1.safetensors", "model-2.safetensors")
    tensors = load_file(file)
    file.unlink()
    halves = dict(list(tensors.items())[:10]), dict(list(tensors.items())[10:])
    table = {name: part for part, half in zip(parts, halves, strict=True) for name in half}

    def write(table, second=halves[1]):
        for part, half in zip(parts, (halves[0], second), strict=True):
            save_file(half, folder / part, metadata={"format": "pt"})
        content = {"metadata": {"total_size": 1}, "weight_map": table}
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    write(table)
    assert torch.equal(open_model(folder).get_parameter(NORM), tensors[NORM])
    for name in ("../model/model-1.safetensors", "/etc/passwd", 5, "a\\b"):
        write({**table, NORM: name})
        assert f"{name!r}, where {NORM} should be, is no file of its folder" in refused(folder)
    write({**table, "lost": parts[1]})
    assert "it lacks lost" in refused(folder)
    write(table, {**halves[1], next(iter(halves[0])): torch.zeros(11)})
    assert "is in two of its files" in refused(folder)
    write({})
    assert "no table weight_map" in refused(folder)
    write(table)
    (folder / parts[1]).unlink()
    assert "names model-2.safetensors, which is not there" in refused(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"eos_token_id": 1.5}, "eos_token_id must be the number of a token"),
        ({"eos_token_id": [3, "x"]}, "eos_token_id must be the number of a token"),
        ({"output_hidden_states": 7}, "output_hidden_states must be true or false"),
        ({"do_sample": "x"}, "do_sample must be true or false"),
        ({"bos_token_id": 10**19}, "bos_token_id must be the number of a token"),
    ],
)
def test_what_generation_reads_is_checked(tmp_path, fields, message):
    build(CrateForCausalLM, decoder_config()).save_pretrained(tmp_path)
    set_config(tmp_path, "generation_config.json", **fields)
    assert message in refused(tmp_path)


def test_a_model_of_another_kind_is_refused(saved, tmp_path):
    assert "AutoModelForCausalLM" in refused(saved, AutoModelForCausalLM)
    build(CrateForMaskedLM, encoder_config()).save_pretrained(tmp_path / "text")
    assert "lack classifier.dense.bias" in refused(tmp_path / "text", AutoModelForSequenceClassification)
    (tmp_path / "file.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"is a file: convert it first, crate convert .*file\.pth FOLDER"):
        open_config(tmp_path / "file.pth")


def test_a_run_that_has_not_ended_is_told_as_one(tmp_path):
    assert "it has no config.json" in refused(tmp_path)
    (tmp_path / "recipe.yaml").write_text("model: {}")
    assert "a run that has not ended: go on with crate train --resume" in refused(tmp_path)


# -- inputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"image_mean": 5}, "image_mean"),
        ({"image_mean": [0.5, 0.5]}, "image_mean"),
        ({"image_std": [0, 1, 1]}, "image_std"),
        ({"image_std": [float("nan")] * 3}, "image_std"),
        ({"rescale_factor": 0}, "rescale_factor"),
        ({"rescale_factor": "x"}, "rescale_factor"),
        ({"resample": 99}, "resample"),
        ({"do_resize": "x"}, "do_resize"),
        ({"size": -3}, "size"),
        ({"size": True}, "size"),
        ({"size": {"height": 10**9, "width": 10**9}}, "size"),
        ({"size": "x"}, "size"),
        ({"image_processor_type": 5}, "no usable image processor"),
    ],
)
def test_an_image_processor_that_does_not_fit_is_refused(folder, fields, field):
    assert open_processor(folder, 3) is not None
    set_config(folder, "preprocessor_config.json", **fields)
    with pytest.raises(UserError, match=field) as error:
        open_processor(folder, 3)
    assert str(folder) in str(error.value)


def test_a_missing_image_processor_or_tokenizer_is_said(folder):
    (folder / "preprocessor_config.json").write_text("[]")
    with pytest.raises(UserError, match="preprocessor_config.json is damaged"):
        open_processor(folder, 3)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match="has no image processor"):
        open_processor(folder, 3)
    with pytest.raises(UserError, match="no usable tokenizer"):
        open_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": "x"}')
    for content in (b"", b"[]", b"{}", b"\xff\xfe\x00"):
        (folder / "tokenizer.json").write_bytes(content)
        with pytest.raises(UserError, match=str(folder)):
            open_tokenizer(folder)
