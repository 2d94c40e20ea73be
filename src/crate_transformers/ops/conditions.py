"""Words in which the forms state their conditions: what is asked of tensors, and of what torch is doing with them."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)
WIDE = (torch.float32, torch.float64)


def is_exporting() -> bool:
    """Whether a model is being exported, as `torch.compiler.is_exporting()` says outside of compiled code.

    In compiled code torch 2.11 answers that question with yes, exported or not; newer ones read this flag.

    Example:
        >>> is_exporting()
        False
    """
    return torch.compiler._is_exporting_flag


def is_transformed() -> bool:
    """Whether a model is exported or traced, or its gradients are taken by torch.func."""
    return torch._C._are_functorch_transforms_active() or is_exporting() or torch.jit.is_tracing()


def is_plain(tensor: Tensor, dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> bool:
    """Whether compiled code can read the numbers: on a CPU, of these dtypes, no model being exported or transformed."""
    if tensor.device.type != "cpu" or tensor.dtype not in dtypes:
        return False
    return not is_transformed()


def is_tensor_itself(*tensors: Tensor) -> bool:
    """Whether the tensors are torch's own, and not quantised, distributed or wrapped ones."""
    return all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors)


def wants_gradient(*tensors: Tensor) -> bool:
    """Whether automatic differentiation records what is done with the tensors."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def is_wide(*tensors: Tensor) -> bool:
    """Whether the tensors are torch's own, of one dtype of 32 bits or more, and no model is exported or transformed."""
    dtypes = {tensor.dtype for tensor in tensors}
    return len(dtypes) == 1 and dtypes <= set(WIDE) and is_tensor_itself(*tensors) and not is_transformed()


def is_autocast_on_cpu() -> bool:
    """Whether products on a CPU are taken in a narrower dtype."""
    return torch.is_autocast_enabled("cpu")


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """A scope in which products of tensors on a device keep their dtype; meta tensors have no autocast to leave."""
    device = tensor.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


__all__ = [
    "HALF",
    "WIDE",
    "is_autocast_on_cpu",
    "is_exporting",
    "is_plain",
    "is_tensor_itself",
    "is_transformed",
    "is_wide",
    "wants_gradient",
    "without_autocast",
]
