"""Conversion takes every wrapping of a public checkpoint, and names what is wrong with a bad one."""

import pickle

import pytest
import torch
from reference import load_golden
from safetensors.torch import save_file
from transformers import AutoModel

from crate_transformers import (
    CRATE,
    CrateForCausalLM,
    CrateForImageClassification,
    CrateForMaskedLM,
    CrateForMultipleChoice,
    CrateForQuestionAnswering,
    CrateForSequenceClassification,
    CrateForTokenClassification,
    CrateMAEForPreTraining,
    CrateMAEModel,
    CrateModel,
    convert_checkpoint,
)
from crate_transformers.interop import convert_to_folder

HEADS = {"crate_cls": 3, "crate_mae": 3, "crate_text_mlm": 3, "crate_text_cls": 2, "crate_gpt": 3}
HEADS["crate_gpt_overcomplete"] = 3
CLASSES = {
    "crate_cls": CrateForImageClassification,
    "crate_mae": CrateMAEForPreTraining,
    "crate_text_mlm": CrateForMaskedLM,
    "crate_text_cls": CrateForSequenceClassification,
    "crate_gpt": CrateForCausalLM,
    "crate_gpt_overcomplete": CrateForCausalLM,
}
# what may be absent: tensors that are never used, and one of two tied names
OPTIONAL = ("decoder_embed.", "pos_embed", "lm_head.weight", "lm_head.bias", "lm_head.decoder.")


@pytest.fixture(scope="module")
def states():
    return {name: load_golden(name).state for name in CLASSES}


def assert_same(model, other):
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("name", CLASSES)
def test_the_family_is_inferred(states, name):
    model = convert_checkpoint(states[name], HEADS[name])
    assert type(model) is CLASSES[name]
    assert not model.training


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model/state_dict"])
def test_wrappings(states, prefix, wrapper):
    expected = convert_checkpoint(states["crate_cls"], 3)
    content = {prefix + name: tensor for name, tensor in states["crate_cls"].items()}
    for key in reversed((wrapper or "").split("/")):
        content = {key: content, "epoch": 3, "best_acc1": torch.tensor(0.5), "optimizer": {}} if key else content
    assert_same(convert_checkpoint(content, 3), expected)


def test_files(states, tmp_path):
    state = states["crate_cls"]
    expected = convert_checkpoint(state, 3)
    torch.save({"state_dict": state}, tmp_path / "new.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "x.safetensors")
    for file in ("new.pth", "old.pth", "x.safetensors"):
        assert_same(convert_checkpoint(tmp_path / file, 3), expected)
        assert_same(convert_checkpoint(str(tmp_path / file), 3), expected)


def test_files_that_are_no_checkpoint(states, tmp_path):
    torch.save(states["crate_cls"], tmp_path / "whole.pth")
    torch.save(states["crate_cls"], tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(states["crate_cls"], tmp_path / "whole.safetensors")
    for whole in ("whole.pth", "old.pth", "whole.safetensors"):
        content = (tmp_path / whole).read_bytes()
        for length in (0, 4, 1000, len(content) // 2, len(content) - 10):
            cut = tmp_path / f"cut{whole}"
            cut.write_bytes(content[:length])
            with pytest.raises(ValueError, match=f"cut{whole}"):
                convert_checkpoint(cut, 3)
    (tmp_path / "text.pth").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    for file, message in (
        ("text.pth", "text.pth"),
        ("list.pth", "list"),
        ("none.pth", "no checkpoint file"),
        ("", "no"),
    ):
        with pytest.raises(ValueError, match=message):
            convert_checkpoint(tmp_path / file)


class Code:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def test_code_in_a_pickle_is_not_executed(states, tmp_path):
    marker = tmp_path / "executed"
    torch.save({"state_dict": states["crate_cls"], "extra": Code(marker)}, tmp_path / "new.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Code(marker)))
    for file in ("new.pth", "plain.pkl"):
        with pytest.raises(ValueError, match="would run code"):
            convert_checkpoint(tmp_path / file, 3)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Code(marker))).close()
    assert marker.exists()  # the trap works


@pytest.mark.parametrize("name", CLASSES)
def test_a_missing_unexpected_misshapen_or_damaged_key_is_named(states, name):
    state = states[name]
    for key, tensor in list(state.items())[:: 3 if len(state) > 40 else 1]:
        bigger = torch.zeros([side + 1 for side in tensor.shape])
        broken = {
            "misshapen": {**state, key: bigger},
            "damaged": {**state, key: tensor * float("nan")},
            "unexpected": {**state, f"{key}_more": tensor},
        }
        if not key.startswith(OPTIONAL):
            broken["missing"] = {other: value for other, value in state.items() if other != key}
        if key.startswith(("pos_embed", "decoder_embed")) and name == "crate_mae":
            del broken["misshapen"]  # it is never read
        for problem, bad in broken.items():
            with pytest.raises(ValueError) as error:
                convert_checkpoint(bad, HEADS[name])
            assert key in str(error.value) or "49" in str(error.value), (problem, key, str(error.value))
            if problem != "misshapen":
                assert key in str(error.value), (problem, str(error.value))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no tensors"),
        ({1: torch.zeros(2)}, "not a CRATE checkpoint"),
        ({"model": {"fc.weight": torch.zeros(2, 2)}}, "not a CRATE checkpoint.*fc.weight"),
    ],
)
def test_what_is_no_checkpoint_of_ours(content, message):
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(content)


def test_heads_come_from_the_user_or_the_table(states):
    with pytest.raises(ValueError, match=r"width 48 .*--heads"):
        convert_checkpoint(states["crate_cls"])
    with pytest.raises(ValueError, match=r"5 heads do not divide the 48 rows of transformer\.layers\.0\.0\.fn\.qkv"):
        convert_checkpoint(states["crate_cls"], 5)
    assert convert_checkpoint(states["crate_cls"], 6).config.head_dim == 8
    config = {"image_size": 16, "patch_size": 8, "num_classes": 3, "depth": 1}
    wide = CRATE(**config, dim=384, heads=6)
    public = public_vision_state(wide.model)
    assert convert_checkpoint(public).config.num_attention_heads == 6
    assert convert_checkpoint(public, 12).config.num_attention_heads == 12
    fresh = CRATE(**config, dim=384, heads=6)
    fresh.load_state_dict({f"module.{name}": tensor for name, tensor in public.items()})
    assert_same(fresh, wide)


def public_vision_state(model):
    """The public names of a square classifier's tensors, written down once more by hand."""
    table = (
        ("crate.embeddings.patch_embeddings.patch_norm", "to_patch_embedding.1"),
        ("crate.embeddings.patch_embeddings.projection", "to_patch_embedding.2"),
        ("crate.embeddings.patch_embeddings.norm", "to_patch_embedding.3"),
        ("crate.embeddings.position_embeddings", "pos_embedding"),
        ("crate.embeddings.cls_token", "cls_token"),
        ("crate.layers", "transformer.layers"),
        ("compression.norm", "0.norm"),
        ("compression.attention.subspaces", "0.fn.qkv"),
        ("compression.attention.output", "0.fn.to_out.0"),
        ("sparsification.norm", "1.norm"),
        ("sparsification.coding.dictionary", "1.fn.weight"),
        ("classifier", "mlp_head.1"),
    )
    public = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in table:
            name = name.replace(ours, theirs)
        public[name.replace("norm.", "mlp_head.0.") if name.startswith("norm.") else name] = tensor
    return public


def test_one_head_of_full_width_has_no_output_projection():
    net = CRATE(image_size=16, patch_size=8, num_classes=3, dim=12, depth=2, heads=1, dim_head=12)
    public = public_vision_state(net.model)
    assert not any("to_out" in name for name in public)
    model = convert_checkpoint(public, 1)
    assert not model.config.attention_output_projection
    assert_same(model, net.model)


def test_non_square_images_have_to_be_said():
    net = CRATE(image_size=(16, 24), patch_size=(8, 4), num_classes=3, dim=12, depth=1, heads=2, channels=1)
    public = public_vision_state(net.model)
    with pytest.raises(ValueError, match="12 patches of pos_embedding"):
        convert_checkpoint(public, 2, patch_size=(8, 4))
    model = convert_checkpoint(public, 2, patch_size=(8, 4), image_size=(16, 24))
    assert model.config.num_channels == 1
    assert_same(model, net.model)


@pytest.mark.parametrize("field", ["pol", "hiden_size"])
def test_an_unknown_field_is_named(states, field):
    with pytest.raises(ValueError, match=field):
        convert_checkpoint(states["crate_cls"], 3, **{field: 1})


def test_the_dtype_is_kept(states):
    half = {name: tensor.bfloat16() for name, tensor in states["crate_cls"].items()}
    model = convert_checkpoint(half, 3)
    assert model.dtype == torch.bfloat16
    assert torch.isfinite(model(torch.zeros(1, 3, 32, 32, dtype=torch.bfloat16)).logits).all()


def test_an_autoencoder_without_its_decoder(states):
    encoder = {name: tensor for name, tensor in states["crate_mae"].items() if not name.startswith("decoder_blocks")}
    encoder = {name: t for name, t in encoder.items() if not name.startswith(("decoder_norm", "decoder_pred"))}
    model = convert_checkpoint(encoder, 3)
    assert type(model) is CrateMAEModel
    assert_same(model, convert_checkpoint(states["crate_mae"], 3).crate)


def test_a_gpt_inside_a_training_checkpoint(states, tmp_path):
    state = {f"_orig_mod.{name}": tensor for name, tensor in states["crate_gpt"].items()}
    state["_orig_mod.transformer.h.0.attn.bias"] = torch.ones(1, 1, 32, 32).tril()
    arguments = {"n_layer": 3, "n_head": 6, "n_embd": 48, "block_size": 32, "bias": True, "dropout": 0.25}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]}
    checkpoint = {"model": state, "optimizer": optimizer, "model_args": arguments, "iter_num": 7, "config": {"lr": 1}}
    torch.save(checkpoint, tmp_path / "ckpt.pt")
    model = convert_checkpoint(tmp_path / "ckpt.pt")
    assert model.config.num_attention_heads == 6
    assert model.config.hidden_dropout_prob == 0.25
    assert_same(model, convert_checkpoint(states["crate_gpt"], 6))


def test_untied_weights_are_not_lost(states):
    state = {**states["crate_gpt"], "lm_head.weight": states["crate_gpt"]["lm_head.weight"] + 1}
    with pytest.raises(ValueError, match=r"lm_head\.weight.*transformer\.wte\.weight.*tie_word_embeddings=False"):
        convert_checkpoint(state, 3)
    model = convert_checkpoint(state, 3, tie_word_embeddings=False)
    assert torch.equal(model.get_output_embeddings().weight, state["lm_head.weight"])
    assert torch.equal(model.get_input_embeddings().weight, state["transformer.wte.weight"])


def encoder_states(states):
    """A public state dict for each text head, built on the golden encoder."""
    base = {name: tensor for name, tensor in states["crate_text_mlm"].items() if name.startswith("crate.")}
    width = base["crate.embeddings.word_embeddings.weight"].shape[1]

    def linear(name, rows):
        return {f"{name}.weight": torch.randn(rows, width), f"{name}.bias": torch.randn(rows)}

    pooler = linear("crate.pooler.dense", width)
    return {
        CrateForMaskedLM: states["crate_text_mlm"],
        CrateForSequenceClassification: {
            **base,
            **linear("classifier.dense", width),
            **linear("classifier.out_proj", 5),
        },
        CrateForTokenClassification: {**base, **linear("classifier", 5)},
        CrateForMultipleChoice: {**base, **pooler, **linear("classifier", 1)},
        CrateForQuestionAnswering: {**base, **linear("qa_outputs", 2)},
        CrateModel: {name.removeprefix("crate."): tensor for name, tensor in {**base, **pooler}.items()},
    }


def test_every_text_head_and_a_folder_in_the_public_layout(states, tmp_path):
    for model_class, state in encoder_states(states).items():
        converted = convert_checkpoint(state, 3)
        assert type(converted) is model_class
        folder = tmp_path / model_class.__name__
        folder.mkdir()
        converted.config.save_pretrained(folder)
        save_file({name: tensor.clone() for name, tensor in state.items()}, folder / "model.safetensors")
        loaded, info = model_class.from_pretrained(folder, output_loading_info=True)
        assert not any(info.values()), info
        assert_same(loaded, converted)
        # what is saved afterwards has our names, which a training run resumes from
        loaded.save_pretrained(folder / "saved")
        again = model_class.from_pretrained(folder / "saved")
        assert_same(again, converted)
        torch.save(loaded.state_dict(), folder / "state.pt")
        again.load_state_dict(torch.load(folder / "state.pt", weights_only=True))
    folder = tmp_path / CrateForMaskedLM.__name__
    backbone = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    expected = convert_checkpoint(states["crate_text_mlm"], 3).crate
    assert_same(backbone, expected)


def test_a_backbone_without_a_pooler(states):
    bare = {name.removeprefix("crate."): t for name, t in states["crate_text_mlm"].items() if name.startswith("crate.")}
    model = convert_checkpoint(bare, 3)
    assert type(model) is CrateModel
    assert model.pooler is None
    for prefix in ("", "crate."):
        damaged = {prefix + name: tensor for name, tensor in bare.items()}
        del damaged[f"{prefix}embeddings.LayerNorm.bias"]
        with pytest.raises(ValueError, match=rf"missing in the checkpoint: {prefix}embeddings\.LayerNorm\.bias;"):
            convert_checkpoint(damaged, 3)


def test_a_folder_holds_model_and_processor(states, tmp_path):
    torch.save(states["crate_cls"], tmp_path / "c.pth")
    conversion = convert_to_folder(tmp_path / "c.pth", tmp_path / "out", 3)
    loaded = CrateForImageClassification.from_pretrained(tmp_path / "out")
    assert_same(loaded, conversion.model)
    assert (tmp_path / "out" / "preprocessor_config.json").is_file()
    assert any("vision classifier" in note for note in conversion.notes)
    plain = tmp_path / "plain"
    plain.touch()
    assert {path.stat().st_mode for path in (tmp_path / "out").iterdir()} == {plain.stat().st_mode}  # the umask's
