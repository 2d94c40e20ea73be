"""The CPU's operators of TSSA and CBSA: sizes beyond a vector, extremes, second derivatives, compiled models."""

import math

import pytest
import torch

from crate_transformers.ops import causal_memberships, causal_tssa, cbsa, memberships, tssa, use_forms
from crate_transformers.ops.cbsa import cpu as cbsa_cpu
from crate_transformers.ops.cbsa import representatives
from crate_transformers.ops.tssa import cpu as tssa_cpu

pytestmark = pytest.mark.compiler


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # so that one sample is enough


def tokens(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plainly(operator, *inputs):
    """The equation in float64."""
    with use_forms("equation"):
        return operator(*(value.double() for value in inputs))


@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (2, 65, 3, 16), (1, 197, 6, 64), (3, 50, 2, 37), (1, 901, 2, 8)])
def test_statistics_of_many_tokens(shape):
    w, t = tokens(*shape), tokens(shape[2], 1, seed=1).exp()
    pi = memberships(w, t)
    assert tssa_cpu.can_take(w, t)
    torch.testing.assert_close(pi.double(), plainly(memberships, w, t), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(tssa(w, pi).double(), plainly(tssa, w, pi), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (2, 65, 3, 16), (1, 197, 6, 64), (3, 50, 2, 37), (1, 901, 2, 8)])
@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (8, 8)])
def test_representatives_of_many_tokens(shape, grid):
    w, eps, eta = tokens(*shape), tokens(shape[2], 1, 1, seed=1), tokens(shape[2], 1, 1, seed=2)
    pooled = representatives(w, grid)
    assert cbsa_cpu.can_take(w, pooled, eps, eta)
    expected = plainly(cbsa, w, pooled, eps, eta)
    torch.testing.assert_close(cbsa(w, pooled, eps, eta).double(), expected, rtol=1e-5, atol=2e-6)


@torch.no_grad()
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30, 1e-30, 0.0])
def test_extremes_are_those_of_the_equation(value):
    w, t, ones = tokens(1, 10, 2, 5), torch.ones(2, 1), torch.ones(2, 1, 1)
    w[0, 3, 1, 2] = value
    pooled = tokens(1, 2, 4, 5, seed=1)
    pi = memberships(w, t)
    torch.testing.assert_close(pi.double(), plainly(memberships, w, t), equal_nan=True, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(tssa(w, pi).double(), plainly(tssa, w, pi), equal_nan=True, rtol=1e-5, atol=1e-6)
    with use_forms("equation"):
        mixed = cbsa(w, pooled, ones, ones)
    torch.testing.assert_close(cbsa(w, pooled, ones, ones), mixed, equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-14, 1e-3, 1e5])
def test_gradients_of_small_and_large_tokens(scale):
    w, t = tokens(2, 9, 3, 5, scale=scale).requires_grad_(), torch.ones(3, 1, requires_grad=True)
    probe = tokens(2, 9, 3, 5, seed=3)

    def gradients(w, t):
        return torch.autograd.grad((tssa(w, memberships(w, t)) * probe.to(w.dtype)).sum(), (w, t))

    ours = gradients(w, t)
    with use_forms("equation"):
        theirs = gradients(w.detach().double().requires_grad_(), t.detach().double().requires_grad_())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5 * max(other.abs().max().item(), 1e-30))


@pytest.mark.parametrize("choice", ["torch", "all"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_gradient_penalty_of_statistics(choice, causal):
    def step(w, t):
        if causal:
            bias = torch.zeros(1, w.shape[1], w.shape[2], dtype=w.dtype)
            return causal_tssa(w, causal_memberships(w, t, bias)[0])[0]
        return tssa(w, memberships(w, t))

    def penalty(w, t):
        (gradient,) = torch.autograd.grad(step(w, t).square().sum(), w, create_graph=True)
        return torch.autograd.grad((gradient.norm() - 1).square(), (w, t))

    w, t = tokens(2, 9, 3, 5), torch.ones(3, 1)
    with use_forms(choice):
        ours = penalty(w.clone().requires_grad_(), t.clone().requires_grad_())
    with use_forms("equation"):
        theirs = penalty(w.double().requires_grad_(), t.double().requires_grad_())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4 * other.abs().max().item())


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of the check itself
def test_operators_follow_torchs_rules():
    w, t, ones = tokens(2, 9, 3, 5).requires_grad_(), torch.ones(3, 1, requires_grad=True), torch.ones(3, 1, 1)
    pi = memberships(w, t).detach().requires_grad_()
    torch.library.opcheck(torch.ops.crate.memberships.default, (w, t))
    torch.library.opcheck(torch.ops.crate.tssa.default, (w, pi))
    torch.library.opcheck(torch.ops.crate.cbsa.default, (w.detach(), tokens(2, 3, 4, 5), ones, ones))
