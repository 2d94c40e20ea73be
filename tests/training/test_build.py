"""A model from a checkpoint: whose head it keeps, and what does not fit, by name and kind."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForImageClassification, AutoModelForPreTraining
from zoo import build, mae_config, vision_config

from crate_transformers import CrateForImageClassification, CrateMAEForPreTraining
from crate_transformers.errors import UserError
from crate_transformers.evaluation.prediction import class_names
from crate_transformers.recipes import Recipe, load_recipe
from crate_transformers.recipes.options import DataOptions, TrainOptions
from crate_transformers.training.build import build_model, redraw

NAMES = {i: f"class {i}" for i in range(11)}
NORM = "crate.layers.0.compression.norm.weight"


@pytest.fixture
def folder(tmp_path):
    """A classifier of eleven classes."""
    build(CrateForImageClassification, vision_config(id2label=NAMES)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def set_config(folder, **fields):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **fields}))


def set_weights(folder, **tensors):
    file = folder / "model.safetensors"
    content = {**load_file(file), **tensors}
    save_file({name: t for name, t in content.items() if t is not None}, file, metadata={"format": "pt"})


def fine_tune(source, names=None, kind=AutoModelForImageClassification, **fields):
    """(model, what was said) of a recipe that starts at a checkpoint, with data of these classes."""
    section = {"family": "crate_vision", "from": str(source), **fields}
    recipe, notes = Recipe("test", "image-classification", section, DataOptions(), TrainOptions(), {}), []
    return build_model(recipe, kind, {"id2label": names} if names else None, notes), notes


@pytest.mark.parametrize("order", [sorted(map(str, NAMES)), list(map(str, reversed(NAMES))), list(map(str, NAMES))])
def test_the_head_is_kept_in_whatever_order_its_classes_are_written(folder, order):
    set_config(folder, id2label={number: NAMES[int(number)] for number in order}, label2id={})
    model, notes = fine_tune(folder, NAMES)
    assert notes == []
    assert torch.equal(model.classifier.weight, load_file(folder / "model.safetensors")["classifier.weight"])
    assert class_names(model) == list(NAMES.values())


@pytest.mark.parametrize(
    ("written", "of_data", "said"),
    [
        (
            NAMES,
            {**NAMES, 0: "class 1", 1: "class 0"},
            "knows class 0 (0), class 1 (1), class 2 (2), ..., the data class 1 (0)",
        ),
        ({i + 1: name for i, name in NAMES.items()}, NAMES, "knows class 0 (1)"),
        ({**{i: NAMES[i] for i in range(10)}, 12: "class 10"}, NAMES, "a new head"),
        (NAMES, {i: NAMES[i] for i in range(5)}, "has 11 classes, the data have 5: a new head"),
    ],
)
def test_a_head_of_other_classes_is_drawn_anew_and_that_is_said(folder, written, of_data, said):
    set_config(folder, id2label=written)
    model, notes = fine_tune(folder, of_data)
    assert said in notes[-1]
    old = load_file(folder / "model.safetensors")["classifier.weight"]
    assert model.classifier.weight.shape != old.shape or not torch.equal(model.classifier.weight, old)


def test_classes_that_are_not_numbered_from_0_have_no_names_by_the_logits(folder):
    set_config(folder, id2label={i + 1: name for i, name in NAMES.items()})
    model = AutoModelForImageClassification.from_pretrained(folder)
    with pytest.raises(UserError, match="must name the classes 0 to 10: 0 is not in it, but 1, 2, 3"):
        class_names(model)


def test_what_is_missing_and_what_is_misshapen_is_told_apart(folder):
    set_weights(folder, **{NORM: torch.ones(14), "crate.layers.1.compression.norm.weight": None})
    with pytest.raises(UserError) as error:
        fine_tune(folder, NAMES)
    told = str(error.value)
    assert f"model.from: {folder} does not fit the model: crate.layers.1.compression.norm.weight missing; " in told
    assert f"{NORM} is (14,) in the weights, (13,) in the model misshapen" in told
    with pytest.raises(UserError, match=r"layers\.1\.compression\.norm\.weight missing"):
        fine_tune(folder, kind=AutoModel)  # whose names have no prefix


def test_layers_that_the_model_has_not_are_not_dropped(folder):
    with pytest.raises(UserError, match=r"crate\.layers\.1\.compression.* and 5 more left over"):
        fine_tune(folder, NAMES, num_hidden_layers=1)


def test_a_new_head_is_said(folder):
    set_weights(folder, **{"classifier.weight": torch.ones(12, 13), "classifier.bias": None})
    _, notes = fine_tune(folder, NAMES)
    assert notes == [
        f"new, not in {folder}: classifier.bias",
        f"new, of another shape in {folder}: classifier.weight ((12, 13) there, (11, 13) here)",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_dropout_prob": "x"}, "model.from: Field 'hidden_dropout_prob'"),
        ({"image_size": 16}, "model.from: the image height 16 is not a multiple of the patch height 5"),
        ({"hidden_size": 10**9}, "model.from: .*more than"),
        ({"hidden_size": 10**5}, "model.from: .*the configuration asks for 20,.* parameters, the weights are 3,263"),
    ],
)
def test_a_field_that_does_not_fit_is_named(folder, fields, message):
    with pytest.raises(UserError, match=message):
        fine_tune(folder, NAMES, **fields)


def test_a_source_that_is_none(folder, tmp_path):
    (tmp_path / "file.pth").write_bytes(b"")
    for source, message in (
        (tmp_path / "none", "model.from: no usable model at .*none: there is no model"),
        (tmp_path / "file.pth", "model.from: .* is a file: convert it first, crate convert"),
        (tmp_path, "model.from: no usable model at .*: it has no config.json"),
    ):
        with pytest.raises(UserError, match=message):
            fine_tune(source, NAMES)
    set_config(folder, num_hidden_layers=10**8)
    with pytest.raises(UserError, match="model.from: .*100000000 layers"):
        fine_tune(folder, NAMES)


def test_the_encoder_of_an_autoencoder_must_be_whole(tmp_path):
    build(CrateMAEForPreTraining, mae_config()).save_pretrained(tmp_path)
    _, notes = fine_tune(tmp_path, {0: "a", 1: "b"})
    assert "a classifier on the encoder" in notes[-1]
    set_weights(tmp_path, **{NORM: None})
    with pytest.raises(UserError, match=r"layers\.0\.compression\.norm\.weight missing"):
        fine_tune(tmp_path, {0: "a", 1: "b"})


PROJECTION = "crate.embeddings.patch_embeddings.projection"


@pytest.mark.parametrize(
    ("parts", "new"),
    [
        (["patch_embeddings.projection.weight"], {f"{PROJECTION}.weight"}),
        (["patch_embeddings.projection"], {f"{PROJECTION}.weight", f"{PROJECTION}.bias"}),
        (["cls_token", "layers.1.compression.attention.subspaces"], None),
        ([], set()),
    ],
)
def test_named_parts_are_drawn_anew_and_the_others_kept(folder, parts, new):
    """As in a new model, with the seed of the recipe."""
    content = load_file(folder / "model.safetensors")
    set_weights(folder, **{name: torch.full_like(tensor, 7.0) for name, tensor in content.items()})
    model, notes = fine_tune(folder, NAMES, redraw=parts)
    drawn = {name for name, tensor in model.named_parameters() if not (tensor == 7.0).all()}
    assert drawn == (new if new is not None else {"crate.embeddings.cls_token", *[n for n in content if parts[1] in n]})
    assert [note for note in notes if note.startswith("drawn anew (model.redraw): ")] == notes
    assert bool(notes) == bool(drawn)
    again, _ = fine_tune(folder, NAMES, redraw=parts)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_running_statistics_of_a_part_are_drawn_anew_too(tmp_path):
    sizes = {"hidden_size": 12, "num_attention_heads": 3, "patch_size": 8, "image_size": 16}
    model = build(CrateForImageClassification, vision_config(patch_embedding="conv_stem", **sizes))
    with torch.no_grad():
        for stage in model.crate.embeddings.patch_embeddings.stages:
            stage.norm.running_mean += 5.0
            stage.norm.num_batches_tracked += 3
    redraw(model, ["stages.0"], [])
    first, second, *_ = model.crate.embeddings.patch_embeddings.stages
    assert (first.norm.running_mean == 0).all()
    assert first.norm.num_batches_tracked == 0
    assert (second.norm.running_mean == 5).all()


def test_a_part_that_the_model_has_not_is_refused(folder):
    with pytest.raises(
        UserError, match="model.redraw: the model has no part .patch_embedding.; did you mean .patch_embeddings."
    ):
        fine_tune(folder, NAMES, redraw=["patch_embedding"])
    with pytest.raises(UserError, match="model.redraw is of model.from"):
        load_recipe("digits", {"model.redraw": ["classifier"]})
    with pytest.raises(UserError, match=r"model.redraw must be list\[str\], got 'classifier'"):
        load_recipe("alpha-imagenet1k-finetune", {"model.redraw": "classifier"})


# ----- another resolution, other patches


@torch.no_grad()
def test_another_resolution_is_taken_and_said(folder):
    model, notes = fine_tune(folder, NAMES, image_size=[25, 21])
    assert notes == [f"positions of {folder} resampled from 3 x 5 to 5 x 3 patches"]
    source = AutoModelForImageClassification.from_pretrained(folder)
    x = torch.randn(2, 3, 25, 21, generator=torch.Generator().manual_seed(0))
    expected = source(x, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(model.eval()(x).logits, expected, atol=1e-5, rtol=0)


def test_other_patches_are_drawn_anew_and_said(folder):
    model, notes = fine_tune(folder, NAMES, image_size=16, patch_size=4)
    assert notes == [
        f"positions of {folder} resampled from 3 x 5 to 4 x 4 patches",
        f"the patch embedding is drawn anew: patches are of 4 x 4 pixels, 5 x 7 in {folder}",
    ]
    assert torch.equal(model.classifier.weight, load_file(folder / "model.safetensors")["classifier.weight"])
    assert model(torch.zeros(1, 3, 16, 16)).logits.shape == (1, 11)


def test_a_much_finer_grid_is_no_damage(folder):
    """The table of 1,400 positions has more numbers than all of the weights."""
    model, notes = fine_tune(folder, NAMES, image_size=[100, 490])
    stored = sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    assert model.crate.embeddings.position_embeddings.numel() > 2 * stored
    assert notes == [f"positions of {folder} resampled from 3 x 5 to 20 x 70 patches"]


def test_a_resolution_that_patches_do_not_divide(folder):
    with pytest.raises(UserError, match=r"the image height 24 is not a multiple of the patch height 5"):
        fine_tune(folder, NAMES, image_size=[24, 21])


@torch.no_grad()
def test_the_encoder_of_an_autoencoder_at_another_resolution(tmp_path):
    encoder = build(CrateMAEForPreTraining, mae_config())
    encoder.save_pretrained(tmp_path)
    model, notes = fine_tune(tmp_path, NAMES, image_size=[25, 21])
    assert notes[-1] == f"positions of {tmp_path} resampled from 3 x 5 to 5 x 3 patches"
    x = torch.randn(2, 2, 25, 21, generator=torch.Generator().manual_seed(0))
    tokens = encoder.crate(x, interpolate_pos_encoding=True).last_hidden_state
    given = model.norm.eval()(model.crate.eval()(x).last_hidden_state)
    torch.testing.assert_close(given, tokens, atol=1e-5, rtol=0)
    model, notes = fine_tune(tmp_path, NAMES, image_size=[12, 20], patch_size=4)
    assert f"the patch embedding is drawn anew: patches are of 4 x 4 pixels, 5 x 7 in {tmp_path}" in notes
    assert model.config.patch_grid == (3, 5)
    assert "positions" not in notes[-1]


def baseline(folder, family, **fields):
    """A small ViT, or ViT-MAE, of transformers, saved; its patches are 3 x 3."""
    recipe = {"family": family, "size": "tiny", "image_size": 12, "patch_size": 4, "hidden_size": 24}
    recipe |= {"num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 44, **fields}
    kind = AutoModelForImageClassification if family == "vit" else AutoModelForPreTraining
    task = "image-classification" if family == "vit" else "masked-image-modeling"
    model = build_model(Recipe("test", task, recipe, DataOptions(), TrainOptions(), {}), kind, {})
    model.save_pretrained(folder)
    return model.eval(), kind


@torch.no_grad()
def test_a_vit_at_another_resolution(tmp_path):
    source, _ = baseline(tmp_path, "vit", num_labels=11)
    model, notes = fine_tune(tmp_path, family="vit", image_size=20)
    assert notes == [f"positions of {tmp_path} resampled from 3 x 3 to 5 x 5 patches"]
    x = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.eval()(x).logits, source(x, interpolate_pos_encoding=True).logits)
    model, _ = fine_tune(tmp_path, family="vit", image_size=[8, 20])
    x = torch.randn(2, 3, 8, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.eval()(x).logits, source(x, interpolate_pos_encoding=True).logits)
    model, notes = fine_tune(tmp_path, NAMES | {11: "one more"}, family="vit", image_size=15, patch_size=5)
    assert notes[0] == f"the patch embedding is drawn anew: patches are of 5 x 5 pixels, 4 x 4 in {tmp_path}"
    assert model(torch.zeros(1, 3, 15, 15)).logits.shape == (1, 12)
    assert torch.equal(model.vit.embeddings.position_embeddings, source.vit.embeddings.position_embeddings)
    with pytest.raises(UserError, match="the image height 14 is not a multiple of the patch height 4"):
        fine_tune(tmp_path, family="vit", image_size=14)


@torch.no_grad()
def test_a_vit_mae_has_the_tables_of_its_grid(tmp_path):
    sizes = {"decoder_hidden_size": 24, "decoder_num_attention_heads": 3, "decoder_num_hidden_layers": 1}
    source, kind = baseline(tmp_path / "small", "vit_mae", decoder_intermediate_size=44, **sizes)
    model, notes = fine_tune(tmp_path / "small", kind=kind, family="vit_mae", image_size=20)
    assert notes == [
        f"the positions are the sine-cosine tables of the new grid: {tmp_path / 'small'} from 3 x 3 to 5 x 5 patches"
    ]
    new, _ = baseline(tmp_path / "large", "vit_mae", decoder_intermediate_size=44, image_size=20, **sizes)
    tables = ("vit.embeddings.position_embeddings", "decoder.decoder_pos_embed")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, (new if name in tables else source).state_dict()[name]), name
    assert model(torch.zeros(1, 3, 20, 20)).logits.shape == (1, 25, 48)
    with pytest.raises(UserError, match="square grids alone, got 5 x 3"):
        fine_tune(tmp_path / "small", kind=kind, family="vit_mae", image_size=[20, 12])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_trained_in_single(folder, dtype):
    CrateForImageClassification.from_pretrained(folder, dtype=dtype).save_pretrained(folder)
    model, notes = fine_tune(folder, NAMES)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.dtype == torch.float32
    assert [note for note in notes if f"{str(dtype).removeprefix('torch.')}, trained in float32" in note]
    model, notes = fine_tune(folder, NAMES, dtype=str(dtype).removeprefix("torch."))
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert notes == []
