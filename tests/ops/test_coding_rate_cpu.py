"""The CPU's operator of the coding rates against float64, and where the objective takes it."""

import pytest
import torch
from reference import largest_difference

from crate_transformers.objective import coding_rate, normalize_tokens, subspace_coding_rate
from crate_transformers.ops.coding_rate import cpu as native

pytestmark = pytest.mark.compiler


def random_tokens(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize(("tokens", "width"), [(1, 1), (7, 5), (31, 16), (53, 37), (197, 48), (131, 128)])
def test_against_float64(tokens, width, unit):
    w = random_tokens(2, tokens, 3, width).transpose(1, 2)
    w[0, 0, 0] = 0  # a zero token stays zero
    exact = w.double()
    exact = normalize_tokens(exact) if unit else exact
    expected = torch.logdet(torch.eye(width).double() + 1.7 * exact.mT @ exact) / 2
    rates = native.half_logdet_gram(w, 1.7, unit)
    assert largest_difference(rates, expected) <= 1e-6 * max(1, expected.abs().max().item())


@pytest.mark.parametrize("length", [1e2, 3e2, 1e3])
def test_long_tokens_of_one_direction(length):
    """Beside them float32 rounds the identity away, and the other pivot is rounding: said, and done in float64."""
    for w in random_tokens(9, 50, 1) * torch.tensor([1.0, 0.7]) * length:
        with pytest.raises(torch.linalg.LinAlgError, match="rounding"):
            native.half_logdet_gram(w[None, None], 4.0, False)
        expected = torch.log1p(4 * w.double().square().sum()) / 2
        torch.testing.assert_close(coding_rate(w).double(), expected, rtol=1e-5, atol=0)


def test_nan_is_not_a_rate():
    w = random_tokens(1, 1, 9, 4)
    w[..., 3, 2] = torch.nan
    with pytest.raises(torch.linalg.LinAlgError):
        native.half_logdet_gram(w, 1.0, True)


def test_it_is_a_sound_operator():
    torch.library.opcheck(torch.ops.crate.half_logdet_gram.default, (random_tokens(2, 3, 17, 5), 0.7, True))


@pytest.mark.parametrize("mode", ["official", "paper"])
@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_with_and_without_a_gradient(leading, mode, monkeypatch):
    """What wants a gradient goes through torch's factorisation, and gives the same numbers."""
    seen, operator = [], native.half_logdet_gram
    monkeypatch.setattr(native, "half_logdet_gram", lambda w, *rest: seen.append(w.shape) or operator(w, *rest))
    projections = random_tokens(*leading, 5, 29, 11)
    rate = subspace_coding_rate(projections, mode=mode)
    assert len(seen) == 1
    differentiable = subspace_coding_rate(projections.requires_grad_(), mode=mode)
    assert len(seen) == 1
    assert rate.shape == differentiable.shape == leading
    torch.testing.assert_close(rate, differentiable.detach(), rtol=1e-6, atol=1e-6)
