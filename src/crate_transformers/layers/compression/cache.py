"""The cache of MSSA: one tensor a layer, because keys are values.

transformers' cache layers store the two tensors that they are given; here they are one and the same, so storing it
once halves the bytes. The plan of a forward puts these layers into a cache that `generate` or a user has made.

Shapes: B batch, K heads, M cached tokens, p head_dim.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from ...ops.growing import GrowingTensor, writable
from ...upstream import CACHE, DynamicLayer, StaticLayer


class _OneTensor:
    """`values` is `keys`; the second of each pair of assignments in transformers' layers does nothing.

    What selects in the batch is written again: transformers selects keys, then values, and here that would be twice.
    """

    keys: Tensor | None

    @property
    def values(self) -> Tensor | None:
        return self.keys

    @values.setter
    def values(self, _: object) -> None:
        pass

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.keys is not None and self.keys.numel():
            self.keys = self.keys[indices.to(self.keys.device)]

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.keys is not None and self.keys.numel():
            self.keys = self.keys.repeat_interleave(repeats, dim=0)


class SubspaceDynamicLayer(_OneTensor, DynamicLayer):
    """A growing cache layer. `keys` (B, K, M, p) is the filled part of a buffer with room for more tokens."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._growing = GrowingTensor()

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        past = self.keys
        keys = key_states if past is None or self.get_seq_length() == 0 else self._growing.append(past, key_states)
        self.keys = keys
        return keys, keys

    def reset(self) -> None:
        super().reset()  # some versions of transformers only write zeros over what was kept
        if self.keys is not None:
            self.keys = self.keys[..., :0, :]
        self._growing.clear()


class SubspaceStaticLayer(_OneTensor, StaticLayer):
    """A cache layer of fixed length, for `torch.compile`."""

    cumulative_length: Tensor

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        self.keys, self.cumulative_length = writable(self.keys), writable(self.cumulative_length)
        position = torch.arange(key_states.shape[-2], device=self.device) + self.cumulative_length
        self.cumulative_length.add_(key_states.shape[-2])
        self.keys.index_copy_(2, position, key_states)
        return self.keys, self.keys


def extend(cache: Any, tokens: Tensor, layer_idx: int, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Append projected tokens (B, K, N, p) to a layer of a cache.

    Args:
        cache: transformers' Cache, or the paged one of its continuous batching.
        options: what the attention operator is given besides. A paged cache reads its places there and may change it;
            before transformers 5.24 it is the operator itself that appends, and finds the cache there.

    Returns:
        keys and values (B, K, M, p) to attend to.
    """
    if isinstance(cache, Cache):
        return cache.update(tokens, tokens, layer_idx)
    if CACHE == "cache":
        return cache.update(tokens, tokens, layer_idx, kwargs=options)
    options["cache"] = cache
    return tokens, tokens


__all__ = ["SubspaceDynamicLayer", "SubspaceStaticLayer", "extend"]
