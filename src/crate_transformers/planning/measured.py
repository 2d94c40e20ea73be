"""A step that is really taken, and what it took: what plans are checked against."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode


def measure_step(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    dtype: torch.dtype | None = None,
) -> tuple[int, int]:
    """Take two training steps where the model is, and measure the second.

    Args:
        model, inputs, optimizer, dtype: as of `count_step`, with numbers, all on one device.

    Returns:
        (operations, bytes at the peak): operations as torch counts them; bytes as the allocator hands them out (its own
        count on a GPU, torch's profiler on a CPU), the model, its optimizer's states and the batch included.
    """
    model.train()
    device = next(iter(inputs.values())).device.type
    steps = optimizer([parameter for parameter in model.parameters() if parameter.requires_grad])

    def step() -> None:
        with torch.autocast(device, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            loss = model(**inputs)["loss"]
        loss.backward()
        steps.step()
        steps.zero_grad()

    step()
    with FlopCounterMode(display=False) as flops:
        step()
    states = [value for state in steps.state.values() for value in state.values() if isinstance(value, Tensor)]
    there = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers(), *inputs.values(), *states))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        return int(flops.get_total_flops()), torch.cuda.max_memory_allocated()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    return int(flops.get_total_flops()), there + _peak(profiled)


def _peak(profiled: profile) -> int:
    """The most bytes that were handed out and not yet given back, at any moment of a profile."""
    recorded = profiled.profiler
    assert recorded is not None
    assert recorded.kineto_results is not None
    events = sorted(
        (event for event in recorded.kineto_results.events() if event.name() == "[memory]"),
        key=lambda event: event.start_ns(),
    )
    now = peak = 0
    for event in events:
        now += int(vars(type(event))["nbytes"](event))  # which torch's own types leave out
        peak = max(peak, now)
    return peak


__all__ = ["measure_step"]
