"""The sparsification family computes its equations, in each of its forms."""

import copy

import pytest
import torch

from crate_transformers import CrateVisionConfig
from crate_transformers.layers import SparseCoding, Sparsification, kept_step_matrices
from crate_transformers.objective import ista_step
from crate_transformers.ops.ista.descent_matrix import descent_matrix

WIDTH, ETA, LAMBDA = 7, 0.3, 0.2
FEW, MANY = (2, 3), (3, 5)  # batch, tokens: fewer and more than WIDTH together


def config(**fields):
    return CrateVisionConfig(
        hidden_size=WIDTH, num_attention_heads=1, ista_step_size=ETA, ista_lambda=LAMBDA, num_hidden_layers=1, **fields
    )


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [FEW, MANY])
def test_the_fast_forms_equal_the_equation_forward_and_backward(shape):
    coding = SparseCoding(config()).double()
    tokens = torch.randn(*shape, WIDTH, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(*shape, WIDTH, dtype=torch.float64)

    fast = coding(tokens)
    fast_gradients = torch.autograd.grad((fast * probe).sum(), [tokens, coding.dictionary])
    plain = ista_step(tokens, tokens, coding.dictionary, ETA, LAMBDA)
    plain_gradients = torch.autograd.grad((plain * probe).sum(), [tokens, coding.dictionary])

    assert 0.1 < (plain > 0).double().mean() < 0.9  # both branches of the rectifier take part
    torch.testing.assert_close(fast, plain, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(fast_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_an_edit_of_the_dictionary_takes_effect_at_once():
    coding, tokens = SparseCoding(config()), torch.randn(*MANY, WIDTH)
    coding(tokens)
    coding.dictionary.data.mul_(-1)  # does not bump the version of the tensor
    torch.testing.assert_close(coding(tokens), ista_step(tokens, tokens, coding.dictionary, ETA, LAMBDA))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@torch.no_grad()
def test_a_kept_matrix_gives_the_same_codes_and_is_gone_after_its_scope(dtype):
    model = torch.nn.Sequential(SparseCoding(config()), SparseCoding(config(ista_steps=2))).to(dtype)
    tokens = torch.randn(*FEW, WIDTH, dtype=dtype)
    for _ in range(2):
        expected = model(tokens)
        with kept_step_matrices(model):
            kept = model[0].kept_step
            assert kept is not None
            torch.testing.assert_close(model(tokens), expected, rtol=0, atol=8 * torch.finfo(dtype).eps)
            assert model[0].kept_step is kept
            assert not [name for name in model.state_dict() if "kept" in name]
        assert model[0].kept_step is None
        model[0].dictionary.data.mul_(-0.5)  # between two scopes, unseen by the tensor's version
    with pytest.raises(KeyError), kept_step_matrices(model):
        raise KeyError
    assert model[0].kept_step is None


@torch.no_grad()
def test_a_kept_matrix_does_not_follow_a_move_or_a_copy():
    model = torch.nn.Sequential(SparseCoding(config()))
    with kept_step_matrices(model):
        copied = copy.deepcopy(model)
        assert copied[0].kept_step is None
        assert model[0].kept_step is not None
        model.bfloat16()
        assert model[0].kept_step is None


@pytest.mark.parametrize("steps", [2, 3])
def test_several_steps_on_a_square_dictionary(steps):
    coding, tokens = SparseCoding(config(ista_steps=steps)), torch.randn(*MANY, WIDTH)
    code = tokens
    for _ in range(steps):
        code = ista_step(code, tokens, coding.dictionary, ETA, LAMBDA)
    torch.testing.assert_close(coding(tokens), code)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_the_overcomplete_block(tied, residual):
    fields = {"dictionary_ratio": 5, "ista_steps": 2, "tie_dictionary": tied, "ista_residual": residual}
    block, half = Sparsification(config(**fields)), torch.randn(*MANY, WIDTH)
    dictionary = block.coding.dictionary
    assert dictionary.shape == (WIDTH, 5 * WIDTH)
    assert (block.decoder_dictionary is None) == tied
    tokens = block.norm(half)
    code = torch.zeros(*MANY, 5 * WIDTH)
    for _ in range(2):
        code = ista_step(code, tokens, dictionary, ETA, LAMBDA)
    expected = code @ (dictionary if tied else block.decoder_dictionary).mT
    if residual:
        expected = half + expected  # the tokens themselves, not their norm
    torch.testing.assert_close(block(half), expected)


def test_the_square_block_gives_a_nonnegative_code_and_no_residual():
    block, half = Sparsification(config()), torch.randn(*MANY, WIDTH)
    output = block(half)
    assert (output >= 0).all()
    tokens = block.norm(half)
    torch.testing.assert_close(output, ista_step(tokens, tokens, block.coding.dictionary, ETA, LAMBDA))


def test_no_token_is_no_error():
    assert SparseCoding(config())(torch.zeros(0, 3, WIDTH)).shape == (0, 3, WIDTH)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, as it loads forward mode
def test_the_descent_matrix_has_the_derivatives_of_its_equation():
    dictionary = torch.randn(WIDTH, WIDTH, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(descent_matrix, dictionary, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(descent_matrix, dictionary)
    torch.testing.assert_close(
        torch.func.jacfwd(descent_matrix)(dictionary), torch.func.jacrev(lambda d: d - d.mT @ d)(dictionary)
    )


def test_the_descent_matrix_trains_under_autocast_and_compiled():
    tokens, coding = torch.randn(*MANY, WIDTH), SparseCoding(config())
    expected = torch.autograd.grad(coding(tokens).square().sum(), coding.dictionary)[0]
    compiled = torch.compile(coding, backend="aot_eager", fullgraph=True)(tokens)
    torch.testing.assert_close(torch.autograd.grad(compiled.square().sum(), coding.dictionary)[0], expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert descent_matrix(coding.dictionary).dtype == torch.bfloat16  # not to be added to an identity
        narrow = coding(tokens)
    gradient = torch.autograd.grad(narrow.float().square().sum(), coding.dictionary)[0]
    assert gradient.dtype == torch.float32
    assert (gradient - expected).norm() < 0.03 * expected.norm()
