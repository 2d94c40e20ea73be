"""Checkpoints that are damaged, made up, or of another kind end in one line that names the tensor, at once."""

import io
import random
import subprocess
import sys
import zipfile

import pytest
import torch
from reference import load_golden
from safetensors.torch import save_file
from torch import nn

from crate_transformers import CRATE, convert_checkpoint
from crate_transformers.errors import UserError
from crate_transformers.interop.convert import convert
from crate_transformers.interop.loading import load_state_dict

HEADS = {"crate_cls": 3, "crate_mae": 3, "crate_text_mlm": 3, "crate_text_cls": 2, "crate_gpt": 3}
NORM = "transformer.layers.1.0.norm.weight"  # (48,), of the classifier


@pytest.fixture(scope="module")
def states():
    return {name: load_golden(name).state for name in HEADS}


@pytest.fixture(scope="module")
def state(states):
    return states["crate_cls"]


def refused(source, heads=3, **overrides):
    """The line that a checkpoint is refused with."""
    with pytest.raises(UserError) as error:
        convert_checkpoint(source, heads, **overrides)
    return str(error.value)


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_two_names_of_one_tensor_are_refused(state, prefix):
    for second in (state["cls_token"] + 1, state["cls_token"]):
        line = refused({**state, f"{prefix}cls_token": second})
        assert f"holds cls_token twice, as 'cls_token' and as '{prefix}cls_token'" in line
    net = CRATE(image_size=32, patch_size=8, num_classes=7, dim=48, depth=3, heads=3, dim_head=16)
    with pytest.raises(UserError, match="holds cls_token twice"):
        net.load_state_dict({**state, f"{prefix}cls_token": state["cls_token"]})


def test_two_names_that_become_one_are_refused(states):
    state = states["crate_text_mlm"]
    line = refused({**state, "embeddings.LayerNorm.bias": state["crate.embeddings.LayerNorm.bias"]})
    assert "twice, as crate.embeddings.LayerNorm.bias and as embeddings.LayerNorm.bias" in line


@pytest.mark.parametrize("key", [1, b"cls_token", ("a",), None])
def test_a_key_that_is_no_name_is_refused(state, key):
    assert type(key).__name__ in refused({**state, key: torch.zeros(3)})


def test_a_checkpoint_that_contains_itself_is_refused(state):
    inside = dict(state)
    inside["state_dict"] = inside
    assert "contains itself, under 'state_dict'" in refused(inside)
    first, second = {}, {}
    first["model"], second["state_dict"] = second, first
    assert "contains itself" in refused(first)


def test_wrappers_in_wrappers(state):
    wrapped = state
    for _ in range(50):
        wrapped = {"state_dict": wrapped}
    assert convert_checkpoint(wrapped, 3).config.hidden_size == 48
    for _ in range(1000):
        wrapped = {"model": wrapped}
    assert "dictionaries deep" in refused(wrapped)


def test_weights_beside_those_that_were_read_are_said(states):
    both = {"teacher": states["crate_cls"], "student": states["crate_mae"], "model": "crate_tiny"}
    assert [note for note in convert(both, 3).notes if "left out" in note] == [
        "student is left out: the weights lie beside it"
    ]


# -- kinds of tensors -------------------------------------------------------------------------------------------------

ONES = torch.ones(48)
KINDS = {
    "int64": lambda: ONES.long(),
    "bool": lambda: ONES.bool(),
    "float8_e4m3fn": lambda: ONES.to(torch.float8_e4m3fn),
    "complex64": lambda: torch.complex(ONES, ONES),
    "sparse_coo": lambda: torch.eye(48).to_sparse(),
    "quantised": lambda: torch.quantize_per_tensor(ONES, 0.1, 0, torch.qint8),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(4)]),
    "meta device": lambda: torch.ones(48, device="meta"),
    "got ()": lambda: torch.tensor(1.0),
    "is empty": lambda: torch.zeros(0, 10**12),
    "UninitializedParameter": lambda: nn.UninitializedParameter(),
    "a Kind": lambda: ONES.as_subclass(type("Kind", (torch.Tensor,), {})),
    "stores fewer numbers": lambda: torch.ones(1).expand(48),
    "which other layers have": lambda: "text",
}


@pytest.mark.filterwarnings("ignore:.*(nested|quantized).*:UserWarning")
@pytest.mark.parametrize("problem", KINDS)
def test_what_is_no_tensor_of_weights_is_refused_by_name(state, problem):
    line = refused({**state, NORM: KINDS[problem]()})
    assert NORM in line
    assert problem in line


@pytest.mark.parametrize("name", HEADS)
def test_every_tensor_is_named_where_its_shape_or_type_is_wrong(states, name):
    for key, tensor in states[name].items():
        if key.startswith(("pos_embed", "decoder_embed")) and name == "crate_mae":
            continue  # it is never read
        for wrong in (torch.tensor(1.0), torch.ones(1, 1, 1, 1, 1), torch.zeros(0), torch.complex(tensor, tensor)):
            assert key in refused({**states[name], key: wrong}, HEADS[name])


def test_mixed_types_meet_in_the_one_that_holds_them_all(state):
    names = list(state)
    mixed = {name: state[name].bfloat16() if i % 2 else state[name].half() for i, name in enumerate(names)}
    conversion = convert(mixed, 3)
    assert conversion.model.dtype == torch.float32
    assert any("mixes torch.float16, torch.bfloat16: the model is of torch.float32" in n for n in conversion.notes)
    assert torch.equal(conversion.model.crate.embeddings.cls_token, mixed["cls_token"].float())
    # one tensor in less precision does not take it from the others
    one = {**state, names[0]: state[names[0]].bfloat16()}
    assert torch.equal(convert_checkpoint(one, 3).classifier.weight, state["mlp_head.1.weight"])


# -- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [5, 10**5, 10**9, "9" * 5000, "00", "٣"])
def test_a_layer_without_those_before_it_is_refused(state, number):
    line = refused({**state, f"transformer.layers.{number}.0.norm.weight": state[NORM]})
    assert "missing in the checkpoint: layer 3, transformer.layers.3.*" in line
    assert len(line) < 200


def test_a_gap_in_a_stack_is_named(states):
    moved = {name.replace("layers.1.", "layers.7."): tensor for name, tensor in states["crate_cls"].items()}
    assert "missing in the checkpoint: layer 1, transformer.layers.1.*; it holds 2, 7" in refused(moved)
    moved = {n.replace("decoder_blocks.0.", "decoder_blocks.8."): t for n, t in states["crate_mae"].items()}
    assert "layer 0, decoder_blocks.0.*" in refused(moved)


def test_layers_that_lack_what_others_have_are_named(state):
    one = {f"transformer.layers.{number}.0.norm.weight": torch.ones(48) for number in range(3, 20_000)}
    assert "missing in the checkpoint: transformer.layers.3." in refused({**state, **one})


def test_more_numbers_than_the_file_holds_are_refused(state):
    huge = torch.ones(1).expand(1, 10**9, 48)
    assert "pos_embedding has the shape (1, 1000000000, 48) and stores fewer numbers" in refused(
        {**state, "pos_embedding": huge}
    )
    first = {name: tensor for name, tensor in state.items() if name.startswith("transformer.layers.0.")}
    again = {n.replace("layers.0.", f"layers.{i}."): t for i in range(3, 3000) for n, t in first.items()}
    assert "more numbers than it stores" in refused({**state, **again})
    tied = {**state, "transformer.layers.2.0.norm.weight": state[NORM]}  # two names of one storage are fine
    assert convert_checkpoint(tied, 3) is not None


def test_damage_of_an_archive_is_found_by_its_check_sums(state, tmp_path):
    torch.save(state, tmp_path / "a.pth")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    where = content.index(state["mlp_head.1.weight"].numpy().tobytes())
    content[where] ^= 1  # the last bit of a weight
    (tmp_path / "a.pth").write_bytes(content)
    assert "a.pth" in refused(tmp_path / "a.pth")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / "without.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert convert_checkpoint(tmp_path / "without.pth", 3) is not None


def test_a_compressed_archive_is_refused(state, tmp_path):
    buffer = io.BytesIO()
    torch.save({**state, "pos_embedding": torch.zeros(1, 10**6 + 1, 48)}, buffer)
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as small:
        for record in plain.infolist():
            small.writestr(record.filename, plain.read(record))
    assert (tmp_path / "b.pth").stat().st_size < 10**6
    assert "compressed" in refused(tmp_path / "b.pth")


def test_a_folder_is_no_checkpoint(tmp_path):
    assert "but a folder" in refused(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "holds a model already" in refused(tmp_path)


# -- what the caller says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 3 by the checkpoint's shapes, got 1000000000"),
        ({"hidden_size": 96}, "hidden_size is 48"),
        ({"head_dim": 5}, "head_dim is 16"),
        ({"image_size": 10**7}, "more than"),
        ({"image_size": "ab"}, "Field 'image_size'"),
        ({"image_size": 0}, "must be positive"),
        ({"patch_size": 0}, "patch_size must be positive"),
        ({"patch_size": 2.5}, "Field 'patch_size'"),
        ({"num_channels": 0}, "num_channels must be positive"),
        ({"num_channels": "x"}, "Field 'num_channels' expected int, got str"),
        ({"ista_step_size": "a"}, "Field 'ista_step_size'"),
        ({"pool": 5}, "Field 'pool' expected one of"),
        ({"id2label": {0: "a"}}, "id2label names 1 classes, the checkpoint has 7"),
        ({"id2label": "x"}, "id2label must be a table"),
        ({"label2id": {"a": 0}}, "label2id follows from id2label"),
        ({"num_labels": 10**9}, "num_labels must be a whole number"),
        ({"dtype": "bfloat16"}, "no field 'dtype' to set"),
        ({"hiden_size": 3}, "did you mean 'hidden_size'"),
        ({"problem_type": "zz"}, "problem_type"),
    ],
)
def test_a_value_that_does_not_fit_is_named(state, overrides, message):
    assert message in refused(state, **overrides)


@pytest.mark.parametrize("heads", [0, -1, "3", True, 2.0])
def test_a_number_of_heads_that_is_none_is_refused(state, heads):
    assert "heads" in refused(state, heads)


@pytest.mark.parametrize("arguments", [{"n_head": "6"}, {"n_head": 0}, {"n_head": 6, "dropout": "x"}, 5, [1]])
def test_training_arguments_that_are_none_are_refused(states, arguments):
    assert refused({"model": states["crate_gpt"], "model_args": arguments}, None)


def test_what_lies_beside_the_weights_sets_no_field(state):
    beside = {"state_dict": state, "image_size": "abc", "patch_size": 0, "num_channels": -1}
    assert convert_checkpoint(beside, 3).config.image_size == 32


# -- whatever else happens to a file ----------------------------------------------------------------------------------

_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
from crate_transformers import convert_checkpoint
from crate_transformers.errors import UserError
for path in sys.argv[1:]:
    try:
        convert_checkpoint(path, 3)
    except UserError:
        pass
"""


def test_damaged_bytes_end_in_a_model_or_in_one_line(state, tmp_path):
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pth")
    torch.save(state, tmp_path / "c.pth", _use_new_zipfile_serialization=False)
    files = []
    for seed in range(40):
        draw = random.Random(seed)
        whole = draw.choice(["a.safetensors", "b.pth", "c.pth"])
        content = bytearray((tmp_path / whole).read_bytes())
        for _ in range(draw.choice([1, 8])):
            content[draw.randrange(len(content) if draw.random() < 0.5 else 2000)] ^= 1 << draw.randrange(8)
        files.append(tmp_path / f"{seed}{whole}")
        files[-1].write_bytes(content[: draw.randrange(len(content))] if draw.random() < 0.3 else content)
    program = _LIMITED.format(limit=8 << 30)
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", program, *files], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


def test_nothing_is_lost_between_a_file_and_its_tensors(state, tmp_path):
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "a.pth")
    tensors, extra = load_state_dict(tmp_path / "a.pth")
    assert tensors.keys() == state.keys()
    assert extra == {"epoch": 3}
