"""The coding rates have the closed forms, invariances and limits that their equations promise."""

import math

import pytest
import torch

from crate_transformers.objective import (
    coding_rate,
    normalize_tokens,
    rate_reduction,
    sparse_rate_reduction,
    subspace_coding_rate,
)

BATCH, HEADS, TOKENS, WIDTH, HEAD_DIM = 2, 3, 11, 7, 5


@pytest.fixture
def tokens():
    return torch.randn(BATCH, TOKENS, WIDTH, dtype=torch.float64)


@pytest.fixture
def projections():
    return torch.randn(BATCH, HEADS, TOKENS, HEAD_DIM, dtype=torch.float64)


def orthogonal(width):
    return torch.linalg.qr(torch.randn(width, width, dtype=torch.float64)).Q


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("num_tokens", "width"), [(3, 7), (7, 3), (5, 5)])
def test_the_smaller_gram_matrix_gives_the_rate_of_both(num_tokens, width):
    tokens, epsilon = torch.randn(num_tokens, width, dtype=torch.float64), 0.3
    scale = width / (num_tokens * epsilon**2)
    over_tokens = torch.logdet(torch.eye(num_tokens) + scale * tokens @ tokens.mT) / 2
    over_width = torch.logdet(torch.eye(width) + scale * tokens.mT @ tokens) / 2
    torch.testing.assert_close(over_tokens, over_width)
    torch.testing.assert_close(coding_rate(tokens, epsilon), over_tokens)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3)])
def test_only_the_smaller_gram_matrix_is_factored(shape, monkeypatch):
    factored, cholesky = [], torch.linalg.cholesky
    monkeypatch.setattr(torch.linalg, "cholesky", lambda matrix: factored.append(matrix.shape[-2:]) or cholesky(matrix))
    coding_rate(torch.randn(shape, requires_grad=True))
    assert factored == [(3, 3)]


def test_rate_of_orthonormal_tokens_in_closed_form():
    tokens = orthogonal(WIDTH)[:5]
    expected = 5 / 2 * math.log(1 + WIDTH / (5 * 0.1**2))
    assert coding_rate(tokens, 0.1).item() == pytest.approx(expected)


def test_rate_is_invariant_to_rotation_and_to_the_order_of_tokens(tokens):
    torch.testing.assert_close(coding_rate(tokens @ orthogonal(WIDTH)), coding_rate(tokens))
    torch.testing.assert_close(coding_rate(tokens[:, torch.randperm(TOKENS)]), coding_rate(tokens))
    stretched = tokens @ (orthogonal(WIDTH) * torch.linspace(0.5, 2, WIDTH))
    assert not torch.allclose(coding_rate(stretched), coding_rate(tokens))


def test_rate_grows_with_the_scale_of_the_tokens_and_with_precision(tokens):
    assert (coding_rate(2 * tokens) > coding_rate(tokens)).all()
    assert (coding_rate(tokens, 0.05) > coding_rate(tokens, 0.1)).all()


def test_one_full_subspace_codes_at_the_rate_of_the_tokens(tokens):
    projections = (tokens @ orthogonal(WIDTH)).unsqueeze(1)  # (B, 1, N, d)
    torch.testing.assert_close(subspace_coding_rate(projections), coding_rate(tokens))
    torch.testing.assert_close(rate_reduction(tokens, projections), torch.zeros(BATCH, dtype=torch.float64))


def test_subspace_rate_sums_the_heads_with_their_own_width(projections):
    by_head = sum(
        torch.logdet(torch.eye(TOKENS) + HEAD_DIM / (TOKENS * 0.2**2) * head @ head.mT) / 2
        for head in projections.unbind(1)
    )
    torch.testing.assert_close(subspace_coding_rate(projections, 0.2), by_head)


def test_official_mode_is_the_rate_of_tokens_of_unit_length(projections):
    official = subspace_coding_rate(projections, mode="official")
    torch.testing.assert_close(official, subspace_coding_rate(normalize_tokens(projections)))
    lengths = torch.rand(BATCH, HEADS, TOKENS, 1, dtype=torch.float64) + 0.1
    torch.testing.assert_close(subspace_coding_rate(projections * lengths, mode="official"), official)
    assert not torch.allclose(subspace_coding_rate(projections * lengths), subspace_coding_rate(projections))


def test_any_leading_axes(projections):
    nested = projections.expand(13, *projections.shape)
    rates = subspace_coding_rate(nested)
    assert rates.shape == (13, BATCH)
    torch.testing.assert_close(rates[7, 1], subspace_coding_rate(projections[1]))


def test_sparse_rate_reduction_counts_the_entries_that_are_not_zero(tokens, projections):
    tokens[0, 0] = 0
    count = torch.tensor([(TOKENS - 1) * WIDTH, TOKENS * WIDTH])
    expected = coding_rate(tokens) - subspace_coding_rate(projections) - 0.3 * count
    torch.testing.assert_close(sparse_rate_reduction(tokens, projections, 0.3), expected)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_zero_tokens_and_one_token_stay_finite(count):
    assert torch.equal(coding_rate(torch.zeros(BATCH, count, WIDTH)), torch.zeros(BATCH))
    for mode in ("paper", "official"):
        projections = torch.zeros(BATCH, HEADS, count, HEAD_DIM, requires_grad=True)
        rate = subspace_coding_rate(projections, mode=mode)
        assert torch.equal(rate, torch.zeros(BATCH))
        if count:
            rate.sum().backward()
            assert torch.isfinite(projections.grad).all()
    one = torch.randn(1, WIDTH)
    expected = math.log(1 + WIDTH / 0.1**2 * one.square().sum().item()) / 2
    assert coding_rate(one).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_long_tokens_of_one_direction_have_a_rate(dtype):
    tokens = 1e4 * torch.ones(2, 97, 48, dtype=dtype)
    largest = 48 / (97 * 0.1**2) * 97 * 48 * 1e8  # the one eigenvalue of the scaled Gram matrix
    torch.testing.assert_close(
        coding_rate(tokens), torch.full((2,), math.log1p(largest) / 2, dtype=dtype), rtol=0.05, atol=0
    )


def test_gradients(tokens, projections):
    tokens, projections = tokens[0, :3].requires_grad_(), projections[0, :2, :3].requires_grad_()
    assert torch.autograd.gradcheck(lambda z: coding_rate(z, 0.5), tokens)
    assert torch.autograd.gradcheck(lambda w: subspace_coding_rate(w, 0.5, "official"), projections)


def test_half_precision_and_autocast_are_computed_in_float32():
    tokens = torch.randn(TOKENS, WIDTH).bfloat16()
    rate = coding_rate(tokens)
    assert rate.dtype == torch.float32
    torch.testing.assert_close(rate, coding_rate(tokens.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(coding_rate(tokens.float()), rate)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coding_rate(torch.zeros(3)), "shape"),
        (lambda: coding_rate(torch.zeros(3, 2), 0.0), "epsilon"),
        (lambda: coding_rate(torch.zeros(3, 2), float("nan")), "epsilon"),
        (lambda: subspace_coding_rate(torch.zeros(3, 2)), "num_heads"),
        (lambda: subspace_coding_rate(torch.zeros(1, 3, 2), mode="oficial"), "oficial"),
        (lambda: sparse_rate_reduction(torch.zeros(3, 2), torch.zeros(1, 3, 2), -1.0), "sparsity_weight"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_token_costs_nothing_in_its_own_dtype(dtype):
    rate = coding_rate(torch.zeros(2, 0, 5, dtype=dtype))
    assert rate.dtype == dtype
    assert rate.tolist() == [0.0, 0.0]
