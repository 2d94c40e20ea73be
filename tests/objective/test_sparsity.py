"""Sparsity counts what it says; the proximal step descends on the LASSO that it belongs to."""

import pytest
import torch

from crate_transformers.objective import hoyer_sparsity, ista_step, sparsity

TOKENS, WIDTH, ATOMS = 5, 7, 13


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def lasso(code, signal, dictionary, weight):
    return (signal - code @ dictionary.mT).square().sum() / 2 + weight * code.abs().sum()


def test_sparsity_is_the_fraction_of_entries_that_are_not_zero():
    codes = torch.zeros(2, TOKENS, WIDTH)
    codes[0, 1, 2], codes[0, 3, 4], codes[1, 0, 0] = -3.0, 0.5, 2.0
    torch.testing.assert_close(sparsity(codes), torch.tensor([2.0, 1.0]) / (TOKENS * WIDTH))
    torch.testing.assert_close(sparsity(codes, threshold=1.0), torch.tensor([1.0, 1.0]) / (TOKENS * WIDTH))
    assert torch.equal(sparsity(torch.zeros(3, 0, WIDTH)), torch.zeros(3))


@pytest.mark.parametrize("atoms", [WIDTH, ATOMS])
def test_a_step_from_a_nonnegative_code_descends(atoms):
    for _ in range(20):
        dictionary = torch.randn(WIDTH, atoms, dtype=torch.float64)
        signal, code = torch.randn(TOKENS, WIDTH).double(), torch.rand(TOKENS, atoms).double()
        step_size = 1 / torch.linalg.matrix_norm(dictionary, 2).item() ** 2
        stepped = ista_step(code, signal, dictionary, step_size, 0.1)
        assert (stepped >= 0).all()
        assert lasso(stepped, signal, dictionary, 0.1) < lasso(code, signal, dictionary, 0.1)


def test_an_orthonormal_dictionary_is_solved_in_one_step():
    dictionary = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64)).Q
    signal, code = torch.randn(TOKENS, WIDTH).double(), torch.rand(TOKENS, WIDTH).double()
    solution = torch.relu(signal @ dictionary - 0.1)
    torch.testing.assert_close(ista_step(code, signal, dictionary, 1.0, 0.1), solution)
    torch.testing.assert_close(ista_step(solution, signal, dictionary, 0.3, 0.1), solution)  # a fixed point


def test_hoyer_in_closed_form():
    """(sqrt(m) - l1 / l2) / (sqrt(m) - 1) for k equal entries of m: l1 / l2 is sqrt(k)."""
    m = 16
    for k, scale in ((1, 1.0), (4, -3.0), (16, 1e-30), (9, 1e30)):
        code = torch.zeros(2, 3, m)
        code[..., :k] = scale
        expected = (m**0.5 - k**0.5) / (m**0.5 - 1)
        torch.testing.assert_close(hoyer_sparsity(code), torch.full((2,), expected))


def test_hoyer_depends_on_no_scale_sign_or_order_and_needs_no_zero():
    torch.manual_seed(0)
    code = torch.randn(3, 5, 11, dtype=torch.float64)
    expected = hoyer_sparsity(code)
    torch.testing.assert_close(hoyer_sparsity(-7 * code[..., torch.randperm(11)]), expected)
    spiky = torch.nn.functional.gelu(code - 2)  # hardly an entry is 0
    assert (sparsity(spiky) == 1).all()
    assert (hoyer_sparsity(spiky) > expected).all()


def test_hoyer_of_nothing():
    assert hoyer_sparsity(torch.zeros(2, 3, 4)).tolist() == [1, 1]
    assert hoyer_sparsity(torch.zeros(2, 0, 4)).tolist() == [1, 1]
    with pytest.raises(ValueError, match="2 entries or more"):
        hoyer_sparsity(torch.zeros(2, 3, 1))
