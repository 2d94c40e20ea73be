"""What operators keep of the past, in place of transformers' cache layers, which store keys and values.

MSSA: one tensor a layer, because keys are values; storing it once halves the bytes. TSSA: its statistics, which do not
grow. The plan of a forward puts these layers into a cache that `generate` or a user has made.

Shapes: B batch, K heads, M cached tokens, N new ones, p head_dim.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache

from ...errors import UserError
from ...ops.growing import GrowingTensor, stay_in_place, writable
from ...ops.tssa import Statistics
from ...upstream import CACHE, CacheLayerMixin, DynamicLayer, StaticLayer


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


class StatisticsLayer(CacheLayerMixin):
    """What TSSA keeps: S, A (B, K, p) and P (B, K) in float32, and how many tokens they are of: 2 d + K numbers and a
    count, whatever the length. There is no token to go back to, so it cannot be cropped.

    Attributes:
        statistics: the fields of `Statistics` in a plain tuple, which transformers' exporters can take apart; None
            before the first token. num_real: tokens that are no padding, (B, 1), or one number for all.
    """

    is_sliding = False
    is_croppable = False
    supports_early_init = False

    def __init__(self) -> None:
        super().__init__()
        self.statistics: tuple[Tensor, ...] | None = None
        self.num_real: int | Tensor = 0
        self._num_tokens = 0

    def keep(self, statistics: Statistics, num_new: int, is_token: Tensor | None) -> None:
        """Put the statistics after N new tokens in place of those before; is_token (B, N): False for padding."""
        self.statistics, self.is_initialized = tuple(statistics), True
        self._num_tokens += num_new
        self.num_real = self.num_real + (num_new if is_token is None else is_token.long().sum(dim=1, keepdim=True))

    def _replace(self, change: Callable[[Tensor], Tensor]) -> None:
        if self.statistics is not None:
            self.statistics = tuple(map(change, self.statistics))
        if not isinstance(self.num_real, int):
            self.num_real = change(self.num_real)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: what is kept takes the shape of the first tokens."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        raise UserError("a layer of tssa keeps statistics of its tokens: it takes no keys and values")

    def get_seq_length(self) -> int:
        return self._num_tokens

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._num_tokens + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def get_max_cache_shape(self) -> int:
        """The name of `get_max_length` before transformers 5.24."""
        return self.get_max_length()

    def crop(self, *args: object) -> None:
        raise UserError(
            "the cache of a tssa layer cannot be cropped, for it keeps sums over its tokens and no token of its own: "
            "begin a new cache, or copy this one before the tokens that may be taken back"
        )

    def reset(self) -> None:
        self.statistics, self.num_real, self._num_tokens, self.is_initialized = None, 0, 0, False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._replace(lambda kept: kept[indices.to(kept.device)])

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._replace(lambda kept: kept.repeat_interleave(repeats, dim=0))

    def offload(self) -> None:
        self._replace(lambda kept: kept.cpu())

    def prefetch(self) -> None:
        """Nothing: the statistics are small, and come along when they are read."""


class StaticStatisticsLayer(StatisticsLayer):
    """The same for `torch.compile`: what is kept and counted is written into tensors that stay where they are, so that
    one graph serves every token. What it keeps has no length; `max_length` is the one for which masks are made."""

    is_compileable = True

    def __init__(self, max_length: int):
        super().__init__()
        self._max_length = max_length
        self._count = torch.tensor(0)

    def keep(self, statistics: Statistics, num_new: int, is_token: Tensor | None) -> None:
        if self.statistics is None:
            self._begin(statistics)
        assert self.statistics is not None
        assert isinstance(self.num_real, Tensor)
        self.statistics = tuple(map(writable, self.statistics))
        self.num_real, self._count = writable(self.num_real), writable(self._count)
        for kept, new in zip(self.statistics, statistics, strict=True):
            kept.copy_(new)
        self.num_real.add_(num_new if is_token is None else is_token.long().sum(dim=1, keepdim=True))
        self._count.add_(num_new)

    def _begin(self, statistics: Statistics) -> None:
        self.statistics = tuple(tensor.new_zeros(tensor.shape) for tensor in statistics)
        mass = self.statistics[-1]
        self.num_real = torch.zeros(len(mass), 1, dtype=torch.long, device=mass.device)
        self._count = torch.zeros((), dtype=torch.long, device=mass.device)
        stay_in_place(*self.statistics, self.num_real, self._count)
        self.is_initialized = True

    def get_seq_length(self) -> int:
        return cast(int, self._count) if self.is_initialized else 0  # a tensor, as in StaticLayer

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._max_length, 0

    def get_max_length(self) -> int:
        return self._max_length


def extend(cache: Any, keys: Tensor, values: Tensor, layer_idx: int, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Append keys and values (B, K, N, p), one and the same tensor in MSSA, to a layer of a cache.

    Args:
        cache: transformers' Cache, or the paged one of its continuous batching.
        options: what the attention operator is given besides. A paged cache reads its places there and may change it;
            before transformers 5.24 it is the operator itself that appends, and finds the cache there.

    Returns:
        keys and values (B, K, M, p) to attend to.
    """
    if isinstance(cache, Cache):
        return cache.update(keys, values, layer_idx)
    if CACHE == "cache":
        return cache.update(keys, values, layer_idx, kwargs=options)
    options["cache"] = cache
    return keys, values


# an empty cache layer of transformers, by its class -> what takes its place; see `CompressionOperator.cache_layers`
Replacements = Mapping[type, Callable[[StaticLayer], CacheLayerMixin]]
ONE_TENSOR: Replacements = {
    DynamicLayer: lambda layer: SubspaceDynamicLayer(),
    StaticLayer: lambda layer: SubspaceStaticLayer(layer.max_cache_len),
}
STATISTICS: Replacements = {
    DynamicLayer: lambda layer: StatisticsLayer(),
    StaticLayer: lambda layer: StaticStatisticsLayer(layer.max_cache_len),
}

__all__ = [
    "ONE_TENSOR",
    "STATISTICS",
    "Replacements",
    "StaticStatisticsLayer",
    "StatisticsLayer",
    "SubspaceDynamicLayer",
    "SubspaceStaticLayer",
    "extend",
]
