"""ToST for text: the statistics of the past are the past. ToST for images: any size."""

import pytest
import torch
from reference import largest_difference
from transformers import CompileConfig, DynamicCache, QuantizedCache, StaticCache
from zoo import build, enable_checkpointing

from crate_transformers import TostConfig, TostForCausalLM, TostForImageClassification, TostVisionConfig, fuse
from crate_transformers.errors import UserError
from crate_transformers.layers.compression.tssa import Membership
from crate_transformers.upstream import CACHE

LENGTH = 1024


def language_model(**fields):
    ends = {"bos_token_id": 1, "eos_token_id": 1}
    sizes = {"vocab_size": 53, "hidden_size": 15, "num_hidden_layers": 2, "num_attention_heads": 3, "layer_scale": 0.7}
    model = build(TostForCausalLM, TostConfig(**{**sizes, **ends, "initializer_range": 0.3, **fields}))
    with torch.no_grad():
        for membership in (part for part in model.modules() if isinstance(part, Membership)):
            membership.position_bias.normal_(generator=torch.Generator().manual_seed(3))
            membership.temperature.copy_(torch.tensor([[0.5], [1.0], [2.0]]))
    return model


def ids(batch=2, length=17, seed=0):
    return torch.randint(2, 53, (batch, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_one_token_at_a_time_equals_the_parallel_form():
    model, tokens = language_model(max_position_embeddings=LENGTH), ids(length=LENGTH)
    whole, cache, pieces = model(tokens).logits, None, []
    for token in tokens.split(1, dim=1):
        outputs = model(token, past_key_values=cache, use_cache=True)
        cache = outputs[CACHE]
        pieces.append(outputs.logits)
    assert largest_difference(torch.cat(pieces, dim=1), whole) <= 1e-5
    assert cache.get_seq_length() == LENGTH


@torch.no_grad()
def test_chunks_left_padding_and_another_order():
    model, tokens = language_model(), ids(batch=3)
    whole = model(tokens).logits
    padded = torch.cat([torch.zeros(3, 5, dtype=torch.long), tokens], dim=1)
    mask = (torch.arange(22) >= 5).long().expand(3, -1)
    assert largest_difference(model(padded, attention_mask=mask).logits[:, 5:], whole) <= 1e-5
    first = model(padded[:, :9], attention_mask=mask[:, :9], use_cache=True)
    order = torch.tensor([2, 0, 0])
    first[CACHE].reorder_cache(order)
    rest = model(padded[order, 9:], attention_mask=mask, past_key_values=first[CACHE], use_cache=True)
    assert largest_difference(rest.logits, whole[order, 4:]) <= 1e-5


@torch.no_grad()
def test_several_sequences_in_a_row_are_refused():
    model, tokens = language_model(), ids(length=7)
    with pytest.raises(UserError, match="a row holds several sequences: TokenStatisticsAttention cannot keep them"):
        model(tokens, position_ids=torch.tensor([[0, 1, 2, 0, 1, 2, 3]]))
    counted = torch.arange(7)[None]
    assert torch.equal(model(tokens, position_ids=counted).logits, model(tokens).logits)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True}, {"prefill_chunk_size": 4}], ids=str)
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_generation_with_and_without(kind, options):
    model, tokens = language_model(), ids()
    mask = torch.ones_like(tokens)
    mask[1, :4] = 0
    how = {"attention_mask": mask, "max_new_tokens": 11, "pad_token_id": 0, **options}
    torch.manual_seed(0)
    with_cache = model.generate(tokens, cache_implementation=None if kind == "dynamic" else "static", **how)
    how.pop("prefill_chunk_size", None)
    torch.manual_seed(0)
    assert torch.equal(with_cache, model.generate(tokens, use_cache=False, **how))


@pytest.mark.parametrize("compression", ["tssa", ["tssa", "mssa"]], ids=str)
@torch.no_grad()
def test_generation_with_a_static_cache_compiles_once(compression):
    model, tokens, graphs = language_model(compression=compression), ids(), []
    mask = (torch.arange(17) >= torch.tensor([[0], [4]])).long()
    how = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": 53}
    expected = model.generate(tokens, **how)

    def count(module, _):
        graphs.append(module)
        return module.forward

    torch._dynamo.reset()
    compiling = CompileConfig(fullgraph=True, dynamic=False, backend=count, mode=None)
    compiling._compile_all_devices = True
    generated = model.generate(tokens, cache_implementation="static", compile_config=compiling, **how)
    assert torch.equal(generated, expected)
    assert len(graphs) == 1  # every token after the prompt


@torch.no_grad()
def test_the_cache_does_not_grow():
    model, sizes = language_model(max_position_embeddings=300), set()
    cache = None
    for length in (1, 100, 199):
        cache = model(ids(1, length), past_key_values=cache, use_cache=True)[CACHE]
        sizes.add(sum(tensor.numel() * tensor.element_size() for layer in cache.layers for tensor in layer.statistics))
    assert sizes == {2 * (2 * 15 + 3) * 4}


def test_the_cache_in_half_precision_is_wide():
    model = language_model().to(torch.bfloat16)
    cache = model(ids(), use_cache=True)[CACHE]
    assert {tensor.dtype for tensor in cache.layers[0].statistics} == {torch.float32}


def test_what_the_cache_refuses():
    model = language_model()
    cache = model(ids(), use_cache=True)[CACHE]
    with pytest.raises(UserError, match="cannot be cropped"):
        cache.crop(-2)
    held = DynamicCache()
    held.update(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5), 0)
    with pytest.raises(UserError, match="keeps statistics of its tokens"):
        model(ids(), past_key_values=held)
    with pytest.raises(UserError, match="cannot take a mask"):
        model(ids(), attention_mask=torch.rand(2, 1, 17, 17) > 0.5)
    copied = StaticCache(model.config, max_cache_len=40)
    model(ids(), past_key_values=copied)
    copied.reset()
    assert copied.get_seq_length() == 0
    assert QuantizedCache  # of transformers: what it holds are keys and values


def test_a_hybrid_decoder_keeps_both():
    model = language_model(compression=["tssa", "mssa"])
    with torch.no_grad():
        whole = model(ids()).logits
        first = model(ids()[:, :9], use_cache=True)
        rest = model(ids()[:, 9:], past_key_values=first[CACHE], use_cache=True)
    assert largest_difference(rest.logits, whole[:, 9:]) <= 1e-5
    assert [type(layer).__name__ for layer in first[CACHE].layers] == ["StatisticsLayer", "SubspaceDynamicLayer"]


def test_recomputed_gradients_are_the_same():
    gradients = []
    for recomputes in (False, True):
        model = language_model().train()
        if recomputes:
            enable_checkpointing(model)
        model(ids(), labels=ids()).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("size", "count", "with_biases"),
    [("base", 110_384_016, 110_467_728), ("medium", 304_711_040, 304_933_248), ("large", 656_447_440, 656_863_440)],
)
def test_published_sizes_of_text(size, count, with_biases):
    for bias, expected in ((False, count), (True, with_biases)):
        with torch.device("meta"):
            model = TostForCausalLM(TostConfig.from_size(size, bias=bias))
        assert model.num_parameters() == expected


@pytest.mark.parametrize(
    ("size", "patch_16", "patch_8"),
    [
        ("tiny", 5_769_328, 5_759_560),
        ("small", 22_589_944, 22_549_672),
        ("tiny-24", 10_223_008, 10_213_240),
        ("small-24", 40_344_664, 40_304_392),
        ("medium-24", 71_481_064, 71_408_936),
        ("large-24", 160_286_920, 160_123_432),
    ],
)
def test_published_sizes_of_images(size, patch_16, patch_8):
    for patch, expected in ((16, patch_16), (8, patch_8)):
        with torch.device("meta"):
            model = TostForImageClassification(TostVisionConfig.from_size(size, patch_size=patch, num_labels=1000))
        assert model.num_parameters() == expected


@pytest.mark.parametrize("size", [(24, 24), (20, 33), (1, 9)])
def test_any_size_of_image(size):
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 8, "num_labels": 5}
    model = build(TostForImageClassification, TostVisionConfig(**sizes, image_size=24))
    outputs = model(torch.randn(2, 3, *size), output_memberships=True)
    patches = -(-size[0] // 8) * -(-size[1] // 8)
    assert outputs.memberships[0].shape == (2, patches, 3)
    torch.testing.assert_close(outputs.memberships[0].sum(dim=-1), torch.ones(2, patches))
    assert (
        largest_difference(fuse(model)(torch.ones(2, 3, *size)).logits, model(torch.ones(2, 3, *size)).logits) <= 1e-5
    )
