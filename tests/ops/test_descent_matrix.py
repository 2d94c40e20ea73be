"""The CPU's operator of D - D^T D against float64, and where an ISTA step takes it."""

import pytest
import torch
from reference import largest_difference

from crate_transformers.ops.ista import descent_matrix_cpu as native
from crate_transformers.ops.ista.descent_matrix import descent_matrix

pytestmark = pytest.mark.compiler


def random_dictionary(width):
    return torch.randn(width, width, generator=torch.Generator().manual_seed(0)) * width**-0.5


@pytest.mark.parametrize("width", [1, 5, 16, 47, 48, 49, 95, 97, 150, 293])  # a panel has 48 columns, a step 96 rows
def test_against_float64(width):
    dictionary = random_dictionary(width)
    exact = dictionary.double() - dictionary.double().mT @ dictionary.double()
    assert largest_difference(native.descent_matrix(dictionary), exact) <= 2e-6
    transposed = dictionary.mT  # of other strides
    exact = transposed.double() - transposed.double().mT @ transposed.double()
    assert largest_difference(native.descent_matrix(transposed), exact) <= 2e-6


def test_no_number_passes_for_one():
    dictionary = random_dictionary(101)
    dictionary[7, 60] = torch.nan
    result = native.descent_matrix(dictionary)
    assert result[60].isnan().all()
    assert result[:, 60].isnan().all()
    assert result.isnan().sum() == 2 * 101 - 1


def test_it_is_a_sound_operator():
    torch.library.opcheck(torch.ops.crate.descent_matrix.default, (random_dictionary(53),))


@pytest.mark.parametrize("with_gradient", [False, True])
def test_where_it_is_taken(with_gradient, monkeypatch):
    taken, operator = [], native.descent_matrix
    monkeypatch.setattr(native, "descent_matrix", lambda dictionary: taken.append(1) or operator(dictionary))
    dictionary = random_dictionary(60).requires_grad_()
    with torch.set_grad_enabled(with_gradient):
        result = descent_matrix(dictionary)
        assert taken == [1]
        descent_matrix(dictionary.double())
        torch.func.vmap(descent_matrix)(dictionary[None])
        assert taken == [1]
        monkeypatch.setattr(native, "can_descend", lambda dictionary: False)
        assert largest_difference(descent_matrix(dictionary), result) <= 2e-6
