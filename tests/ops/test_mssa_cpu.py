"""The CPU's operator of MSSA against float64, written out; tokens as a projection leaves them, or not."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference import largest_difference
from torch.func import grad, vmap
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from crate_transformers.ops import attend as attend_by_any_form
from crate_transformers.ops.mssa.cpu import can_mix, mssa

pytestmark = pytest.mark.compiler
SCALING = 0.3


def projected(batch, heads, tokens, width, seed=0):
    rows = torch.randn(batch, tokens, heads, width, generator=torch.Generator().manual_seed(seed))
    return rows.transpose(1, 2)  # (B, K, N, p)


def by_definition(w, causal):
    scores = SCALING * w @ w.mT
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return (scores.softmax(-1) @ w).transpose(1, 2)


def compare(w, causal):
    """Output and gradient beside float64; whether the operator's own form gave them."""
    weight = torch.randn(w.transpose(1, 2).shape, generator=torch.Generator().manual_seed(1))
    ours, exact = w.clone().requires_grad_(), w.double().requires_grad_()
    mixed, _, own = mssa(ours, SCALING, causal)
    (mixed * weight).sum().backward()
    expected = by_definition(exact, causal)
    (expected * weight).sum().backward()
    assert largest_difference(mixed, expected) <= 1e-5 * max(1, w.abs().max().item())
    assert largest_difference(ours.grad, exact.grad) <= 3e-5 * max(1, exact.grad.abs().max().item())
    return bool(own)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("batch", "heads", "tokens", "width"),
    [(2, 3, 1, 5), (2, 3, 17, 5), (1, 2, 48, 16), (1, 2, 49, 37), (2, 2, 131, 64), (1, 1, 197, 48), (1, 2, 67, 128)],
)
def test_output_and_gradient(batch, heads, tokens, width, causal):
    assert compare(projected(batch, heads, tokens, width), causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
@pytest.mark.parametrize("longest", [1, 5])
def test_half_precision_rounds_once(dtype, rounding, longest, causal):
    """The output is float64's rounded; the gradient reads the rounded output, so it errs by a few roundings."""
    rounded = projected(2, 3, 71, 24).to(dtype)
    rounded[0, 0, 7] *= longest  # too far from the others for the operator's own form
    ours, exact = rounded.clone().requires_grad_(), rounded.double().requires_grad_()
    mixed, rows, own = mssa(ours, SCALING, causal)
    expected = by_definition(exact, causal)
    weight = torch.randn(mixed.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    (mixed * weight).sum().backward()
    (expected * weight.double()).sum().backward()
    assert mixed.dtype == ours.grad.dtype == dtype
    assert rows.dtype == torch.float32
    assert bool(own) == (longest == 1)
    assert ((mixed - expected).abs() <= 1.01 * rounding * expected.abs() + 1e-5).all()
    assert (ours.grad - exact.grad).norm() <= 2 * rounding * exact.grad.norm()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("spread", "own"), [(60, True), (80, False), (2000, False)])
def test_one_long_token_among_short_ones(spread, own, causal):
    """h = scaling |w|^2 / 2 of the long token is larger by the spread; too large a one is left to torch's attention."""
    w = F.normalize(projected(2, 3, 71, 11), dim=-1)
    w[:, 1, 5] *= (1 + 2 * spread / SCALING) ** 0.5
    assert compare(w, causal) == own


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_visible(value, causal):
    w = projected(1, 2, 53, 7)
    w[0, 1, 30, 2] = value
    mixed, _, own = mssa(w, SCALING, causal)
    expected = F.scaled_dot_product_attention(w, w, w, is_causal=causal, scale=SCALING).transpose(1, 2)
    assert not own
    assert torch.equal(mixed.isnan(), expected.isnan())
    assert mixed.isnan().any()


@pytest.mark.parametrize("causal", [False, True])
def test_tokens_with_gaps(causal):
    w = projected(2, 3, 19, 22)
    assert largest_difference(mssa(w[..., ::2], SCALING, causal)[0], by_definition(w[..., ::2], causal)) <= 1e-5


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of the check itself
def test_it_is_a_sound_operator():
    for causal in (False, True):
        for dtype in (torch.float32, torch.bfloat16):
            w = projected(2, 3, 17, 5).to(dtype).requires_grad_()
            torch.library.opcheck(torch.ops.crate.mssa.default, (w, SCALING, causal))


def attend(w, causal):
    return attend_by_any_form(w, w, w, None, SCALING, causal)


def test_compiled_it_is_one_graph_with_the_same_numbers():
    w = projected(2, 3, 31, 8)
    ours, compiled = w.clone().requires_grad_(), w.clone().requires_grad_()
    attend(ours, True).square().sum().backward()
    torch.compile(lambda w: attend(w, True).square().sum(), fullgraph=True)(compiled).backward()
    assert largest_difference(ours.grad, compiled.grad) <= 1e-5


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of torch's own operator
def test_under_the_transforms_of_torch_func():
    w = torch.stack([projected(2, 3, 13, 5, seed) for seed in range(4)])
    gradients = vmap(grad(lambda w: attend(w, False).square().sum()))(w)
    for each, gradient in zip(w, gradients, strict=True):
        exact = each.double().requires_grad_()
        by_definition(exact, False).square().sum().backward()
        assert largest_difference(gradient, exact.grad) <= 1e-4


def test_operations_are_counted_as_those_of_torch():
    counts = []
    for mix in (lambda w: mssa(w, SCALING, False)[0], lambda w: F.scaled_dot_product_attention(w, w, w)):
        with FlopCounterMode(display=False) as counter:
            mix(projected(2, 3, 17, 8).requires_grad_()).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_what_it_takes(monkeypatch):
    w = projected(2, 3, 17, 5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    assert all(can_mix(w.to(dtype)) for dtype in (torch.float32, torch.bfloat16, torch.float16))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert not can_mix(w)  # threads would be idle
    assert not can_mix(w.double())
    assert not can_mix(w.to("meta"))


@pytest.mark.parametrize("options", ["-mavx2 -mfma", ""])
def test_with_narrower_vectors(options):
    """As processors without AVX-512 compile it: vectors of eight and of four."""
    if platform.machine() not in ("x86_64", "AMD64"):
        options = ""
    program = (
        "from crate_transformers.ops.native import build; "
        f"build._vector_options = lambda: {tuple(options.split())!r}; "
        "from ops.test_mssa_cpu import *; "
        "assert all(compare(projected(1, 2, n, 37), causal) for n in (5, 71) for causal in (False, True))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
