"""What the forms ask of torch, asked while torch compiles and exports."""

import pytest
import torch
from torch import nn

from crate_transformers.ops import triton_here
from crate_transformers.ops.conditions import is_exporting, is_plain, is_wide
from crate_transformers.ops.triton_here import runs_triton


class Answers(nn.Module):
    """x + 1 where a model is exported, x + 2 where compiled code may read x, x + 4 where torch's own forms may."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + (1 * is_exporting() + 2 * is_plain(x) + 4 * is_wide(x))


def test_a_compiled_model_is_asked_as_any_other():
    torch._dynamo.reset()
    x = torch.zeros(3)
    for _ in range(2):  # exported in between
        assert torch.compile(Answers(), backend="eager", fullgraph=True)(x).tolist() == [6, 6, 6]
        assert Answers()(x).tolist() == [6, 6, 6]
        test_an_exported_model_takes_torchs_operators(strict=True)


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_model_takes_torchs_operators(strict):
    x = torch.zeros(3)
    assert torch.export.export(Answers(), (x,), strict=strict).module()(x).tolist() == [1, 1, 1]


def test_triton_is_left_out_where_functions_are_transformed(monkeypatch):
    """Its kernels have no rules for torch.func, and read the numbers themselves."""
    monkeypatch.setattr(triton_here, "_HAS_TRITON", True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    asked = []

    def square(x):
        asked.append(runs_triton(x))
        return x.square().sum()

    x = torch.ones(3)
    square(x)
    torch.func.grad(square)(x)
    torch.func.vmap(square)(x[None])
    assert asked == [True, False, False]
    assert not runs_triton(x.double())
    assert not runs_triton(x.as_subclass(type("Wrapped", (torch.Tensor,), {})))
