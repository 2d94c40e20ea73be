"""The cache of MSSA stores one tensor and behaves as transformers' own."""

from copy import deepcopy

import pytest
import torch
from transformers import DynamicCache, PreTrainedConfig, StaticCache

from crate_transformers.layers import SubspaceAttention
from crate_transformers.layers.compression.cache import SubspaceDynamicLayer
from crate_transformers.models.text_plan import fit_cache

BATCH, HEADS, WIDTH = 2, 3, 5
CONFIG = PreTrainedConfig(num_hidden_layers=1, num_attention_heads=HEADS, hidden_size=HEADS * WIDTH)


def store_one_tensor(cache):
    """The cache of a model of one layer of MSSA."""
    fields = {"head_dim": WIDTH, "attention_probs_dropout_prob": 0.0, "attention_output": "none"}
    return fit_cache(cache, [SubspaceAttention(PreTrainedConfig(**CONFIG.to_dict(), **fields))])


def pieces(*lengths):
    torch.manual_seed(0)
    return [torch.randn(BATCH, HEADS, length, WIDTH) for length in lengths]


def test_pieces_come_back_as_one_tensor_that_keys_and_values_share():
    cache, parts = store_one_tensor(DynamicCache()), pieces(7, 1, 1, 3, 40, 1)
    for count, part in enumerate(parts, start=1):
        keys, values = cache.update(part, part, 0)
        assert keys is values
        assert torch.equal(keys, torch.cat(parts[:count], dim=2))
    assert cache.get_seq_length() == 53


def test_what_was_returned_earlier_is_not_overwritten():
    cache, parts = store_one_tensor(DynamicCache()), pieces(7, 1, 1)
    kept = [cache.update(part, part, 0)[0] for part in parts]
    copies = [tensor.clone() for tensor in kept]
    cache.crop(-3)
    cache.update(parts[1], parts[1], 0)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(kept, copies, strict=True))


def test_a_copy_grows_apart():
    cache, (first, second, third) = store_one_tensor(DynamicCache()), pieces(7, 1, 1)
    for part in (first, second):
        cache.update(part, part, 0)
    copy = deepcopy(cache)
    ours, _ = cache.update(second, second, 0)
    theirs, _ = copy.update(third, third, 0)
    assert torch.equal(ours, torch.cat([first, second, second], dim=2))
    assert torch.equal(theirs, torch.cat([first, second, third], dim=2))


@pytest.mark.parametrize("change", ["reorder", "crop", "repeat", "select"])
def test_a_changed_cache_grows_from_what_it_holds(change):
    ours, theirs = store_one_tensor(DynamicCache()), DynamicCache()
    first, second, third = pieces(7, 1, 3)
    for cache in (ours, theirs):
        for part in (first, second):
            cache.update(part, part, 0)
        if change == "reorder":
            cache.reorder_cache(torch.tensor([1, 1]))
        elif change == "crop":
            cache.crop(-2)
        elif change == "repeat":
            cache.batch_repeat_interleave(2)
        else:
            cache.batch_select_indices(torch.tensor([1]))
        batch = cache.layers[0].keys.shape[0]
        last = third[:1].expand(batch, -1, -1, -1)
        cache.update(last, last, 0)
    assert isinstance(ours.layers[0], SubspaceDynamicLayer)
    assert torch.equal(ours.layers[0].keys, theirs.layers[0].keys)
    assert torch.equal(ours.layers[0].values, theirs.layers[0].values)


def test_gradients_flow_through_the_past():
    cache, parts = store_one_tensor(DynamicCache()), [part.requires_grad_() for part in pieces(3, 2)]
    for part in parts:
        keys, _ = cache.update(part, part, 0)
    keys.square().sum().backward()
    for part in parts:
        torch.testing.assert_close(part.grad, 2 * part.detach())


def test_the_static_layer_fills_its_places():
    cache, parts = store_one_tensor(StaticCache(CONFIG, max_cache_len=11)), pieces(4, 1, 2)
    for part in parts:
        keys, values = cache.update(part, part, 0)
    assert keys is values
    assert keys.shape == (BATCH, HEADS, 11, WIDTH)
    assert torch.equal(keys[:, :, :7], torch.cat(parts, dim=2))
    assert not keys[:, :, 7:].any()
    assert cache.get_seq_length() == 7


def test_a_cache_that_already_holds_tokens_is_left_as_it_is():
    cache, (part,) = DynamicCache(), pieces(3)
    cache.update(part, part, 0)
    assert store_one_tensor(cache) is cache
    assert not isinstance(cache.layers[0], SubspaceDynamicLayer)


def test_a_reset_cache_starts_anew():
    cache, (first, second) = store_one_tensor(DynamicCache()), pieces(7, 2)
    cache.update(first, first, 0)
    cache.reset()
    keys, _ = cache.update(second, second, 0)
    assert torch.equal(keys, second)


@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_a_cache_of_inference_mode_goes_on_outside_of_it(kind, mode):
    cache = DynamicCache() if kind == "dynamic" else StaticCache(CONFIG, max_cache_len=12)
    store_one_tensor(cache)
    parts = pieces(7, 1, 1, 2)
    with torch.inference_mode():
        for part in parts[:2]:
            cache.update(part.clone(), part.clone(), 0)
    with mode():
        for part in parts[2:]:
            keys, _ = cache.update(part, part, 0)
    assert torch.equal(keys[:, :, :11], torch.cat(parts, dim=2))
