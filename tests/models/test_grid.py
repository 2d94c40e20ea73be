"""The grid: every compression with every sparsification on every stem; its corner mhsa + mlp is transformers' ViT."""

import itertools

import pytest
import torch
from reference import largest_difference
from transformers import ViTConfig, ViTForImageClassification
from zoo import build, token_ids

from crate_transformers import (
    CrateConfig,
    CrateForImageClassification,
    CrateForMaskedLM,
    CrateForSequenceClassification,
    CrateMAEConfig,
    CrateMAEModel,
    CrateVisionConfig,
    fuse,
)
from crate_transformers.configuration.blocks import COMPRESSIONS, SPARSIFICATIONS
from crate_transformers.errors import UserError

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 24, "patch_size": 8}
STEMS = ("normalized", "convolution", "conv_stem")
CORNERS = list(itertools.product(COMPRESSIONS, SPARSIFICATIONS))


def vision(**fields):
    sizes = {**SIZES, "num_labels": 5, "representatives": (3, 3)}
    return build(CrateForImageClassification, CrateVisionConfig(**{**sizes, **fields}))


def pictures(batch=3, size=24, seed=0):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def wake(model):
    """LayerScale and steps far from where they start, so that nothing is hidden behind them."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize(("compression", "sparsification"), CORNERS)
def test_every_parameter_is_trained_and_nothing_is_lost(compression, sparsification, stem):
    model = wake(vision(compression=compression, sparsification=sparsification, patch_embedding=stem, layer_scale=0.5))
    model.train()(pictures(), labels=torch.tensor([0, 1, 2])).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    model.eval()
    with torch.no_grad():
        logits = model(pictures()).logits
        assert largest_difference(fuse(model)(pictures()).logits, logits) <= 1e-5
        every = model.crate(pictures()).pooler_output
        assert largest_difference(model.crate(pictures(), num_read=1).pooler_output, every) <= 1e-5


@pytest.mark.parametrize("output", ["learned", "tied", "none"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_way_back(compression, output):
    model = wake(vision(compression=compression, attention_output=output, compression_norm=output != "none"))
    operator = model.crate.layers[0].compression.attention
    tokens = torch.randn(2, 10, 24)
    heads = torch.randn(2, 10, 3, 8)
    expected = {
        "learned": lambda: heads.flatten(2) @ operator.output.weight.mT + operator.output.bias,
        "tied": lambda: heads.flatten(2) @ operator.subspaces.weight,
        "none": lambda: heads.flatten(2),
    }[output]()
    torch.testing.assert_close(operator.expand(heads), expected)
    assert operator(tokens)[0].shape == tokens.shape
    with torch.no_grad():
        assert largest_difference(fuse(model)(pictures()).logits, model(pictures()).logits) <= 1e-5


def vit_state(state, layers):
    """The weights of our mhsa + mlp by the names of transformers' ViT."""
    table = {
        "vit.embeddings.cls_token": "crate.embeddings.cls_token",
        "vit.embeddings.position_embeddings": "crate.embeddings.position_embeddings",
        "vit.embeddings.patch_embeddings.projection": "crate.embeddings.patch_embeddings.projection",
        "vit.layernorm": "norm",
        "classifier": "classifier",
    }
    for layer in range(layers):
        table |= {
            f"vit.layers.{layer}.{theirs}": f"crate.layers.{layer}.{ours}"
            for theirs, ours in (
                ("layernorm_before", "compression.norm"),
                ("attention.q_proj", "compression.attention.queries"),
                ("attention.k_proj", "compression.attention.keys"),
                ("attention.v_proj", "compression.attention.subspaces"),
                ("attention.o_proj", "compression.attention.output"),
                ("layernorm_after", "sparsification.norm"),
                ("mlp.fc1", "sparsification.coding"),
                ("mlp.fc2", "sparsification.output"),
            )
        }
    kinds = ("", ".weight", ".bias")
    return {
        theirs + kind: state[ours + kind] for theirs, ours in table.items() for kind in kinds if ours + kind in state
    }


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_a_corner_is_transformers_vit(attention):
    model = wake(
        vision(
            compression="mhsa", sparsification="mlp", patch_embedding="convolution", layer_norm_eps=1e-12,
            block_layer_norm_eps=1e-12,
        )
    )  # fmt: skip
    model.set_attn_implementation(attention)
    config = ViTConfig(**SIZES, intermediate_size=96, num_labels=5)
    theirs = ViTForImageClassification._from_config(config, attn_implementation=attention).eval()
    state = vit_state(model.state_dict(), 2)
    assert len(state) == len(model.state_dict()) == len(theirs.state_dict())
    theirs.load_state_dict(state)
    assert largest_difference(model(pictures()).logits, theirs(pictures()).logits) <= 1e-5


def test_one_block_a_layer():
    model = vision(compression=["mssa", "cbsa"], sparsification=["ista", "mlp"], num_hidden_layers=2)
    names = [type(layer.compression.attention).__name__ for layer in model.crate.layers]
    assert names == ["SubspaceAttention", "ContractBroadcastAttention"]
    outputs = model(pictures(), output_attentions=True)
    assert [attention.shape for attention in outputs.attentions] == [(3, 3, 10, 10)] * 2


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("compression", ["mssa", "tssa", "mhsa"])
@torch.no_grad()
def test_text_encoders_do_not_see_padding(compression, padding):
    sizes = {"vocab_size": 53, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    model = build(CrateForMaskedLM, CrateConfig(**sizes, compression=compression, max_position_embeddings=40))
    ids = torch.randint(4, 53, (2, 7), generator=torch.Generator().manual_seed(0))
    pads = torch.ones(2, 3, dtype=torch.long)
    longer = torch.cat([pads, ids] if padding == "left" else [ids, pads], dim=1)
    logits = model(longer, attention_mask=longer.ne(1).long()).logits
    logits = logits[:, 3:] if padding == "left" else logits[:, :7]
    assert largest_difference(logits, model(ids).logits) <= 1e-5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"compression": "cbsa", "image_size": (24, 32)}, "cbsa.*square grid.*3 x 4"),
        ({"compression": "cbsa", "representatives": (9, 9)}, r"representatives \(9, 9\) are more than the 3 x 3"),
        ({"compression": "cbsa", "representatives": [3]}, "rows, columns"),
        ({"patch_embedding": "conv_stem", "patch_size": 4}, "patches of 8 or 16"),
        ({"patch_embedding": "conv_stem", "hidden_size": 30, "num_attention_heads": 3}, "multiple of 4"),
        ({"attention_output": "none", "head_dim": 5}, "heads that fill the width"),
        ({"attention_output": "tied", "attention_output_projection": False}, "older name"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"mlp_ratio": 0}, "mlp_ratio"),
        ({"compression": ["mssa", "cbsa", "mssa"]}, "3 blocks, the model has 2 layers"),
    ],
)
def test_what_the_grid_refuses(fields, message):
    with pytest.raises(UserError, match=message):
        vision(**fields)


@pytest.mark.parametrize("compression", ["mssa", "tssa", "mhsa"])
@torch.no_grad()
def test_a_text_head_reads_the_first_token_alone(compression):
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "vocab_size": 101, "num_labels": 5}
    model = wake(build(CrateForSequenceClassification, CrateConfig(**sizes, compression=compression)))
    inputs = {"input_ids": token_ids(), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    inputs["attention_mask"][0, 5:] = 0
    first = model.classifier(model.crate(**inputs).last_hidden_state[:, 0])
    assert largest_difference(model(**inputs).logits, first) <= 1e-5


def test_a_map_that_is_not_there_is_refused_with_what_is():
    with pytest.raises(UserError, match="no map of tokens by tokens; output_memberships=True"):
        vision(compression="tssa")(pictures(), output_attentions=True)


def test_text_refuses_cbsa():
    with pytest.raises(UserError, match="text has none"):
        CrateConfig(compression="cbsa")
    with pytest.raises(UserError, match="no causal form.*mssa, tssa, mhsa"):
        CrateConfig.from_size("gpt2-base", compression="cbsa")


@pytest.mark.parametrize("compression", ["tssa", "cbsa"])
def test_a_mask_that_cannot_be_obeyed_is_refused(compression):
    model, mask = vision(compression=compression), torch.ones(1, 1, 10, 10, dtype=torch.bool)
    with pytest.raises(UserError, match="cannot take a mask"):
        model(pictures(1), attention_mask=mask)


@torch.no_grad()
def test_a_mask_says_which_tokens_are_seen():
    model = vision().eval()
    seen = torch.ones(2, 10, dtype=torch.long)
    seen[1, 7:] = 0
    shared = model(pictures(2), attention_mask=seen).logits
    for form in ("eager", "torch_sdpa"):
        model.set_attn_implementation(form)
        assert largest_difference(model(pictures(2), attention_mask=seen).logits, shared) <= 1e-5
    assert largest_difference(shared[:1], model(pictures(2)).logits[:1]) <= 1e-5
    assert largest_difference(shared[1:], model(pictures(2)).logits[1:]) > 1e-3
    wide = seen[:, None, None].bool().expand(2, 1, 10, 10)
    assert torch.equal(model(pictures(2), attention_mask=wide).logits, model(pictures(2), attention_mask=seen).logits)


@torch.no_grad()
def test_an_autoencoder_takes_the_same_masks():
    config = CrateMAEConfig.from_size("tiny", hidden_size=24, num_attention_heads=3, image_size=24, patch_size=8)
    model, seen = build(CrateMAEModel, config), torch.ones(2, 10, dtype=torch.long)
    seen[1, 7:] = 0
    wide = seen[:, None, None].bool().expand(2, 1, 10, 10)
    found = [model(pictures(2), attention_mask=mask).last_hidden_state for mask in (seen, wide, None)]
    assert torch.equal(found[0], found[1])
    assert largest_difference(found[0][1], found[2][1]) > 1e-3


def test_drop_path_keeps_the_mean():
    from crate_transformers.layers import DropPath

    torch.manual_seed(0)
    drop, tokens = DropPath(0.25), torch.ones(4000, 2, 3)
    kept = drop.train()(tokens)
    assert kept.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert torch.equal(kept, kept[:, :1, :1].expand_as(kept))  # whole samples
    assert kept.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(drop.eval()(tokens), tokens)
