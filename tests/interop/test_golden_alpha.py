"""CRATE-alpha, converted from the files of torch and of flax, gives their numbers to 1e-5; near ones are refused."""

import io
import zipfile

import numpy as np
import pytest
import torch
from reference import FOLDER, largest_difference, load_golden
from transformers import AutoImageProcessor, AutoModelForImageClassification

from crate_transformers import CrateForImageClassification, CrateMAEConfig, CrateVisionConfig, convert_checkpoint
from crate_transformers.errors import UserError
from crate_transformers.interop.convert import convert, convert_to_folder
from crate_transformers.ops import use_forms

TORCH = {
    "alpha_patch14": {"num_attention_heads": 2},
    "alpha_patch16_rect": {"num_attention_heads": 3, "image_size": [32, 48]},
    "alpha_onehead": {"num_attention_heads": 1},
    "alpha_small_tokens": {"num_attention_heads": 4},
    "alpha_ablation_square": {"num_attention_heads": 3},
    "alpha_ablation_tied": {"num_attention_heads": 3},
    "alpha_ablation_decoupled": {"num_attention_heads": 3, "ista_residual": False},
    "crate_alpha": {"num_attention_heads": 2},
}
FLAX = ("alpha_flax", "alpha_flax_small_tokens")
TREE = "npz/"


def tree(name):
    tensors = load_golden(name).tensors
    return {key.removeprefix(TREE): value for key, value in tensors.items() if key.startswith(TREE)}


def compare(model, golden, forms="all"):
    with torch.no_grad(), use_forms(forms):
        assert largest_difference(model(golden["pixel_values"]).logits, golden["logits"]) <= 1e-5


@pytest.mark.parametrize(("attention", "forms"), [("eager", "equation"), ("eager", "all"), ("sdpa", "all")])
@pytest.mark.parametrize("name", TORCH)
def test_torch(name, attention, forms):
    golden = load_golden(name)
    model = convert_checkpoint(golden.state, **TORCH[name])
    model.set_attn_implementation(attention)
    compare(model, golden, forms)


@pytest.mark.parametrize("name", ["alpha_patch14", "alpha_ablation_tied"])
@torch.no_grad()
def test_inside(name):
    golden = load_golden(name)
    model = convert_checkpoint(golden.state, **TORCH[name])
    outputs = model(
        golden["pixel_values"], output_hidden_states=True, output_half_hidden_states=True, output_codes=True
    )
    for layer, (tokens, half) in enumerate(zip(outputs.hidden_states[1:], outputs.half_hidden_states, strict=True)):
        assert largest_difference(half, golden[f"intermediate/half_{layer}"]) <= 1e-5
        assert largest_difference(tokens, golden[f"intermediate/hidden_{layer + 1}"]) <= 1e-5
    code = golden["intermediate/code_0"]
    assert largest_difference(outputs.codes[0][:, : code.shape[1]], code) <= 1e-5


@pytest.mark.parametrize("has_prefix", [True, False])
@pytest.mark.parametrize("kind", ["tensors", "arrays"])
@pytest.mark.parametrize("name", FLAX)
def test_flax(name, kind, has_prefix):
    golden, weights = load_golden(name), tree(name)
    if not has_prefix:
        weights = {key.removeprefix("params/"): value for key, value in weights.items()}
    if kind == "arrays":
        weights = {key: value.numpy() for key, value in weights.items()}
    model = convert_checkpoint(weights)
    for attention, forms in (("eager", "equation"), ("eager", "all"), ("sdpa", "all")):
        model.set_attn_implementation(attention)
        compare(model, golden, forms)


def test_a_file_of_flax(tmp_path):
    golden = load_golden("alpha_flax")
    conversion = convert_to_folder(FOLDER / "alpha_flax.npz", tmp_path)
    assert any("opt/" in note for note in conversion.notes)
    assert any("2 heads, as the checkpoint says" in note for note in conversion.notes)
    compare(AutoModelForImageClassification.from_pretrained(tmp_path).eval(), golden)
    assert AutoImageProcessor.from_pretrained(tmp_path).crop_size["height"] == 28


def test_a_tree_in_bfloat16(tmp_path):
    weights = {key: value.bfloat16().view(torch.int16).numpy().view("V2") for key, value in tree("alpha_flax").items()}
    np.savez(tmp_path / "half.npz", **weights)
    model = convert_checkpoint(tmp_path / "half.npz")
    assert model.dtype == torch.bfloat16
    expected = convert_checkpoint(tree("alpha_flax")).to(torch.bfloat16)
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("prefix", ["module.", "0.", "model.", "_orig_mod."])
def test_prefixes(prefix, tmp_path):
    golden = load_golden("alpha_patch14")
    torch.save({prefix + key: value for key, value in golden.state.items()}, tmp_path / "file.pth")
    compare(convert_checkpoint(tmp_path / "file.pth", **TORCH["alpha_patch14"]), golden)


class Payload:
    def __reduce__(self):
        return (open, ("was-run", "w"))


def write_objects(path):
    np.savez(path, **{"params/cls": np.array([Payload()], dtype=object)})


def write_cut(path):
    content = (FOLDER / "alpha_flax.npz").read_bytes()
    path.write_bytes(content[: len(content) // 2])


def write_boast(path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("params/cls.npy", header.getvalue() + bytes(40))


@pytest.mark.parametrize(
    ("write", "message"),
    [(write_objects, "Python objects"), (write_cut, "truncated|damaged"), (write_boast, "not as large as it says")],
)
def test_bad_archives(write, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "file.npz")
    with pytest.raises(UserError, match=message):
        convert_checkpoint(tmp_path / "file.npz")
    assert not (tmp_path / "was-run").exists()


def write_tree(path, **arrays):
    """The golden tree of flax, with some arrays put beside or in place of its own."""
    weights = {key: value.numpy() for key, value in tree("alpha_flax").items()}
    np.savez(path, **{**weights, **{key.replace("__", "/"): value for key, value in arrays.items()}})
    return path


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"params__note": np.array(["made in spring"])}, "params/note is an array of <U14: expected"),
        (
            {"params__head__bias": np.zeros(5, "complex64")},
            "head/bias is of type torch.complex64",
        ),
        ({"params__day": np.array(["2024-01-01"], "M8[D]")}, "params/day is an array of datetime64"),
        ({"params__pair": np.zeros(3, [("a", "i1"), ("b", "i1")])}, "params/pair is an array of"),
        ({"params__wide": np.zeros(3, "V4")}, "params/wide is an array of"),
        ({"cls": np.zeros((1, 1, 20), "float32")}, "holds cls twice, as '(params/)?cls' and as '(params/)?cls'"),
        ({"params__head__bias": np.zeros(5, "longdouble")}, "params/head/bias"),
    ],
)
def test_arrays_that_are_no_weights_are_named(arrays, message, tmp_path):
    with pytest.raises(UserError, match=message):
        convert_checkpoint(write_tree(tmp_path / "file.npz", **arrays))


def test_an_array_of_the_other_byte_order_is_the_same(tmp_path):
    bias = tree("alpha_flax")["params/head/bias"].numpy()
    file = write_tree(tmp_path / "file.npz", params__head__bias=bias.astype(">f4"))
    compare(convert_checkpoint(file), load_golden("alpha_flax"))


def test_a_compressed_tree_is_read(tmp_path):
    weights = {key: value.numpy() for key, value in tree("alpha_flax").items()}
    zeros = {"opt/0": np.zeros(2**22, "float32")}  # nothing compresses better
    np.savez_compressed(tmp_path / "file.npz", **weights, **zeros)
    compare(convert_checkpoint(tmp_path / "file.npz"), load_golden("alpha_flax"))


@pytest.mark.parametrize(("name", "heads"), [("alpha_flax", 4), ("cbt_patch8", 1), ("tost_patch16", 1), ("tost_lm", 1)])
def test_heads_that_a_checkpoint_contradicts_are_refused(name, heads):
    weights = tree(name) if name == "alpha_flax" else load_golden(name).state
    with pytest.raises(UserError, match=rf"the checkpoint says that it has \d+ heads, got {heads}"):
        convert_checkpoint(weights, num_attention_heads=heads)


@pytest.mark.parametrize(
    "name",
    [
        "head/bias",
        "encoder_norm/scale",
        "Transformer/encoderblock_1/LayerNorm_0/scale",
        "Transformer/encoderblock_1/OvercompleteISTABlock_0/D",
        "Transformer/encoderblock_0/MultiHeadDotProductSubspaceAttention_0/out/kernel",
    ],
)
def test_what_a_tree_lacks_is_named_as_flax_does(name):
    weights = {key.removeprefix("params/"): value for key, value in tree("alpha_flax").items()}
    with pytest.raises(UserError, match=f"missing in the checkpoint: {name}"):
        convert_checkpoint({key: value for key, value in weights.items() if key != name})
    with pytest.raises(UserError, match=f"misshapen.*{name}"):
        convert_checkpoint({**weights, name: weights[name].flatten()[:1]})


def test_what_is_missing_is_named():
    state = load_golden("alpha_patch14").state
    del state["transformer.layers.1.1.fn.D1"]
    with pytest.raises(UserError, match=r"missing in the checkpoint: transformer\.layers\.1\.1\.fn\.D1"):
        convert_checkpoint(state, num_attention_heads=2)
    with pytest.raises(UserError, match="width 20 is not in the table"):
        convert_checkpoint(load_golden("alpha_patch14").state)
    with pytest.raises(UserError, match="do not make a square"):
        convert_checkpoint(load_golden("alpha_patch16_rect").state, num_attention_heads=3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alpha_clip", "CRATE-alpha trained with text"),
        ("cbt_decoder", "segmentation decoder"),
        ("depict_sa", "segmentation decoder"),
        ("depict_ca", "segmentation decoder"),
        ("vit_cbsa", "timm"),
    ],
)
def test_near_ones_are_refused_by_name(name, message):
    golden = load_golden(name)
    with pytest.raises(UserError, match=message):
        convert_checkpoint(golden.state or golden.tensors)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"blocks.0.attn.temperature": (3, 1, 1), "blocks.0.attn.qkv.weight": (36, 12)}, "XCiT"),
        ({"blocks.0.attn.qkv.weight": (36, 12), "cls_token": (1, 1, 12)}, "ViT in timm's layout"),
        ({"transformer.h.0.attn.c_attn.weight": (36, 12), "transformer.h.0.gamma1": (12,)}, "softmax baseline"),
        ({"params/img/embedding/kernel": (4, 4, 3, 12), "params/t": (1,)}, "CRATE-alpha trained with text"),
    ],
)
def test_baselines_of_others_are_refused_by_name(state, message):
    with pytest.raises(UserError, match=message):
        convert_checkpoint({name: torch.zeros(shape) for name, shape in state.items()})


COUNTS = {  # patch 32, 16, 14, 8, with 1,000 and with 19,167 classes
    "tiny": ((5_226_088, 4_811_944, 4_788_904, 4_814_248), (8_732_319, 8_318_175, 8_295_135, 8_320_479)),
    "small": ((42_218_344, 40_975_912, 40_906_792, 40_982_824), (52_700_703, 51_458_271, 51_389_151, 51_465_183)),
    "base": ((73_985_512, 72_328_936, 72_236_776, 72_338_152), (87_955_935, 86_299_359, 86_207_199, 86_308_575)),
    "large": (
        (255_982_568, 253_773_800, 253_650_920, 253_786_088),
        (274_603_743, 272_394_975, 272_272_095, 272_407_263),
    ),
    "huge": (
        (529_734_120, 526_973_160, 526_819_560, 526_988_520),
        (553_006_047, 550_245_087, 550_091_487, 550_260_447),
    ),
}
CBT_COUNTS = {"tiny": 1_789_192, "small": 6_667_048, "base": 25_691_752, "large": 83_051_368}


def count(size, **fields):
    with torch.device("meta"):
        return CrateForImageClassification(CrateVisionConfig.from_size(size, **fields)).num_parameters()


@pytest.mark.parametrize("size", COUNTS)
def test_sizes_of_alpha(size):
    for classes, counts in zip((1000, 19_167), COUNTS[size], strict=True):
        found = [count(f"alpha-{size}", patch_size=patch, num_labels=classes) for patch in (32, 16, 14, 8)]
        assert found == list(counts)


@pytest.mark.parametrize("size", CBT_COUNTS)
def test_sizes_of_cbt(size):
    assert count(f"cbt-{size}", num_labels=1000) == CBT_COUNTS[size]
    others = {"tiny": (1_789_120, 1_789_156), "small": (6_666_904, 6_666_976)}.get(size, ())
    for compression, expected in zip(("mssa", "tssa"), others, strict=False):
        fields = {"compression": compression, "qkv_bias": False}
        assert count(f"cbt-{size}", num_labels=1000, **fields) == expected


def test_names_of_sizes():
    assert CrateVisionConfig.from_size("alpha-base").ista_residual
    with pytest.raises(UserError, match="alpha-huge.*cbt-large"):
        CrateVisionConfig.from_size("alpha-giant")
    with pytest.raises(UserError, match="expected one of tiny, small, base, large"):
        CrateMAEConfig.from_size("alpha-base")


def test_a_new_alpha_starts_as_flax_draws_it():
    torch.manual_seed(0)
    config = CrateVisionConfig.from_size("alpha-tiny", num_hidden_layers=1, image_size=32)
    model = CrateForImageClassification(config)
    layer, embeddings = model.crate.layers[0], model.crate.embeddings
    bound = (6 / 192) ** 0.5
    assert layer.sparsification.coding.dictionary.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert layer.compression.attention.subspaces.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert embeddings.position_embeddings.std().item() == pytest.approx(0.02, rel=0.1)
    assert embeddings.cls_token.abs().max() < 1e-5
    kernel = embeddings.patch_embeddings.projection.weight
    assert kernel.abs().max().item() == pytest.approx((6 / (3 * 16 * 16)) ** 0.5, rel=0.01)
    assert not model.classifier.bias.any()


def test_notes_say_what_was_read():
    notes = convert(load_golden("alpha_patch14").state, num_attention_heads=2).notes
    assert notes[0] == "layout: CRATE-alpha"
