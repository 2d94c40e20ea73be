"""What one training step asks of a device, counted without a device.

The step is taken on torch's meta device: every operation runs, with shapes and no numbers. Two things are counted:

    operations   by torch's own counter, a multiply-add as two; element-wise work is not counted
    memory       the bytes of all tensors that are alive, after every operation; its peak is the step's

The operators take torch's forms, and attention is the fused one, which holds no N x N matrix. What a device holds
beside tensors (its context, the allocator's slack, the workspace of a kernel) is not counted.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from ..ops.forms import use_forms

_NARROW = {  # what autocast takes in a narrower dtype
    F.linear,
    F.conv2d,
    F.scaled_dot_product_attention,
    torch.addmm,
    torch.baddbmm,
    torch.bmm,
    torch.einsum,
    torch.matmul,
    torch.mm,
    Tensor.__matmul__,
    Tensor.__rmatmul__,
    Tensor.bmm,
    Tensor.matmul,
    Tensor.mm,
}
_WIDE = {  # and a GPU's autocast in float32; a CPU's leaves them the dtype that they get
    F.binary_cross_entropy_with_logits,
    F.cross_entropy,
    F.layer_norm,
    F.log_softmax,
    F.mse_loss,
    F.normalize,
    F.softmax,
    torch.cumsum,
    torch.exp,
    torch.log,
    torch.log_softmax,
    torch.logsumexp,
    torch.softmax,
    torch.sum,
    Tensor.cumsum,
    Tensor.exp,
    Tensor.log,
    Tensor.log_softmax,
    Tensor.logsumexp,
    Tensor.norm,
    Tensor.softmax,
    Tensor.sum,
}


@dataclass(frozen=True)
class StepCount:
    """One optimizer step of one device; memory in bytes.

    Attributes:
        rows: samples of a batch. flops: of the forward and backward passes of one batch.
        parameters: their number. weights: parameters and buffers. gradients: of what is trained.
        optimizer: its states. inputs: one batch.
        activations: what the forward pass leaves for the backward pass.
        peak: the most that is alive at once, of all of these and of what is there for a moment.
    """

    rows: int
    flops: int
    parameters: int
    weights: int
    gradients: int
    optimizer: int
    inputs: int
    activations: int
    peak: int


class LiveBytes(TorchDispatchMode):
    """Within, counts the bytes of the tensors that are alive, and their peak.

    A storage counts from the operation that makes it until Python and autograd let go of it. Works on tensors of every
    device, meta among them.

    Example:
        >>> with LiveBytes() as live:
        ...     kept = torch.zeros(10) + torch.ones(10)
        >>> live.now, live.peak
        (40, 120)
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self._shared: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def add(self, tensors: Any) -> None:
        """Count tensors that are there already, in any nesting."""
        for tensor in tree_leaves(tensors):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage not in self._seen:
                self._seen.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._let_go, storage.nbytes())
        self.peak = max(self.peak, self.now)

    def share(self, tensors: Any, processes: int) -> None:
        """From now on, count of tensors that are counted what is left where so many processes have a part each."""
        for tensor in tree_leaves(tensors):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is None or storage in self._shared:
                continue
            self._shared.add(storage)
            elsewhere = storage.nbytes() * (processes - 1) // processes
            self.now -= elsewhere
            weakref.finalize(storage, self._let_go, -elsewhere)

    def _let_go(self, count: int) -> None:
        self.now -= count

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.add(result)
        return result


class _AsOnDevice(TorchFunctionMode):
    """Makes meta tensors do what tensors of a device do: fused attention, and autocast to a dtype (None: no autocast).

    torch's meta device has neither: it would write the N x N matrix of attention, and keep everything in float32.
    """

    def __init__(self, dtype: torch.dtype | None, on_cpu: bool):
        super().__init__()
        self.dtype, self.wide = dtype, set() if on_cpu else _WIDE
        self._narrow_weights: dict[int, Tensor] = {}  # autocast narrows a weight once a forward pass

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.dtype is not None and (func in _NARROW or func in self.wide):
            cast = self._narrowed if func in _NARROW else _widened
            args, kwargs = tree_map(cast, args), tree_map(cast, kwargs)
        if func is F.scaled_dot_product_attention:
            return _fused_attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _narrowed(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(self.dtype)
        if id(value) not in self._narrow_weights:
            self._narrow_weights[id(value)] = value.to(self.dtype)
        return self._narrow_weights[id(value)]

    def forget_weights(self) -> None:
        """Let go of the narrow weights, as autocast does where it ends."""
        self._narrow_weights.clear()


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16) else value


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    mixed: Tensor = fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
    return mixed


def count_step(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    dtype: torch.dtype | None = None,
    accumulates: bool = False,
    checkpointing: bool = False,
    on_cpu: bool = False,
    processes: int = 1,
) -> StepCount:
    """Count a training step.

    Args:
        model: on the meta device, with the library's or transformers' `forward` that returns a loss.
        inputs: a batch, on the meta device. optimizer: makes one of the parameters that are trained.
        dtype: of mixed precision, torch.bfloat16 or torch.float16; None is float32 alone.
        accumulates: whether gradients of an earlier batch are there during the forward pass.
        checkpointing: whether activations are computed again in the backward pass instead of being kept.
        on_cpu: whether autocast is a CPU's, and not a GPU's.
        processes: that share weights, gradients and states (FSDP2); the peak has this one's part of them, a gradient's
            from where it is made, and not the layers that are gathered meanwhile. The other figures are of all.

    Raises:
        ValueError: the model has no layer that computes activations again.
    """
    model.train()
    recomputes = _checkpointed(model, dtype, on_cpu) if checkpointing else nullcontext()
    with recomputes, use_forms("torch"), LiveBytes() as live, _shared_gradients(model, live, processes):
        live.add([*model.parameters(), *model.buffers()])
        weights = live.now
        live.add(dict(inputs))
        given = live.now - weights
        steps, gradients, states = _with_states(model, optimizer, live)
        if not accumulates:
            steps.zero_grad()
        live.share([[*model.parameters()], [p.grad for p in model.parameters()], [*steps.state.values()]], processes)
        before = live.peak = live.now
        with FlopCounterMode(display=False) as flops:
            with _AsOnDevice(dtype, on_cpu) as device:
                loss = model(**inputs)["loss"]
                device.forget_weights()
            activations = live.now - before
            loss.backward()
        del loss
        steps.step()
        steps.zero_grad()
    return StepCount(
        rows=len(next(iter(inputs.values()))),
        flops=int(flops.get_total_flops()),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights=weights,
        gradients=gradients,
        optimizer=states,
        inputs=given,
        activations=activations,
        peak=live.peak,
    )


@contextmanager
def _shared_gradients(model: nn.Module, live: LiveBytes, processes: int) -> Iterator[None]:
    """Within, a gradient is divided among processes once it is made."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    hooks = [p.register_post_accumulate_grad_hook(lambda p: live.share(p.grad, processes)) for p in trained]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _with_states(
    model: nn.Module, optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer], live: LiveBytes
) -> tuple[torch.optim.Optimizer, int, int]:
    """(the optimizer of what is trained, bytes of gradients, bytes of its states), all of them there."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    steps, before = optimizer(trained), live.now
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    gradients = live.now - before
    steps.step()
    return steps, gradients, live.now - before - gradients


@contextmanager
def _checkpointed(model: nn.Module, dtype: torch.dtype | None, on_cpu: bool) -> Iterator[None]:
    """Within, the layers of a model compute their activations again in the backward pass."""
    layers = [part for part in model.modules() if hasattr(part, "gradient_checkpointing")]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no layer that computes its activations again")

    def again(function: Callable[..., Any], *args: Any) -> Any:
        def run(*args: Any) -> Any:  # in the backward pass too
            with _AsOnDevice(dtype, on_cpu):
                return function(*args)

        return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False)

    for part in layers:
        vars(part)["gradient_checkpointing"], vars(part)["_gradient_checkpointing_func"] = True, again
    try:
        yield
    finally:
        for part in layers:
            vars(part)["gradient_checkpointing"] = False


__all__ = ["LiveBytes", "StepCount", "count_step"]
