"""Every form of every operator beside its equation: values and gradients, over shapes, dtypes, strides, options.

A form that is added to an operator is tried here by itself, on every case of the operator that it takes; a form that
takes none of them fails the test. Forms run on the devices that they are for and that are here; a GPU's kernels are
interpreted in layers/test_attention_names.py where there is none.
"""

import itertools
import os
import subprocess
import sys
from shutil import which

import pytest
import torch
from torch import Tensor

from crate_transformers.errors import UserError
from crate_transformers.ops import OPERATORS, linear, use_forms
from crate_transformers.ops.linear import onednn

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
STRIDES = ("rows", "columns", "gaps")


def laid(shape: tuple[int, ...], strides: str, seed: int) -> Tensor:
    """Random numbers that lie in memory as rows, as columns, or with gaps."""
    generator = torch.Generator().manual_seed(seed)
    if strides == "columns":
        return torch.randn(*shape[:-2], shape[-1], shape[-2], generator=generator).mT
    if strides == "gaps":
        return torch.randn(*shape[:-1], 2 * shape[-1], generator=generator)[..., ::2]
    return torch.randn(shape, generator=generator)


def one_tensor(shape, strides, causal):
    w = laid(shape, strides, 0)
    return (w, w, w, None, 0.3, causal), {}


def with_a_cache(masked):
    queries, keys = laid((2, 3, 5, 7), "rows", 0), laid((2, 3, 11, 7), "rows", 1)
    mask = torch.rand(2, 1, 5, 11, generator=torch.Generator().manual_seed(2)) > 0.3 if masked else None
    if masked:
        mask[0, 0, 3] = False  # a query that sees nothing
    return (queries, keys, keys, mask, 0.3, False), {}


def products(leading, strides):
    x, weight = laid((*leading, 13), strides, 0), laid((17, 13), strides, 1) * 13**-0.5
    return (x, weight, laid((17,), "rows", 2)), {}


def coding(tokens, strides, atoms, from_zero, steps):
    signal, dictionary = laid((tokens, 13), strides, 0), laid((13, atoms), strides, 1) * 13**-0.5
    return (signal, dictionary, 0.3, 0.2, steps, from_zero), {}


def projected(seed=0, batch=2, tokens=17):
    return laid((batch, tokens, 3, 5), "rows", seed)


def with_padding(tokens=17):
    real = torch.ones(2, tokens, dtype=torch.bool)
    real[1, :4] = False
    return real


def of_the_past(seed):
    return laid((2, 3, 5), "rows", seed).square()


def memberships_of(seed, is_token=None):
    pi = laid((2, 17, 3), "rows", seed).softmax(dim=-1)
    return pi if is_token is None else pi * is_token[..., None]


TEMPERATURE = torch.tensor([[0.7], [1.3], [1.0]])

CASES = {
    "attend": [
        *(
            one_tensor(shape, strides, causal)
            for shape, strides, causal in itertools.product(
                [(2, 3, 1, 5), (2, 3, 17, 5), (1, 2, 53, 16)], STRIDES, (False, True)
            )
        ),
        with_a_cache(False),
        with_a_cache(True),
    ],
    "ista": [
        coding(tokens, strides, atoms, from_zero, steps)
        for tokens, strides, (atoms, from_zero), steps in itertools.product(
            (1, 5, 29), STRIDES, ((13, False), (13, True), (52, True)), (1, 2)
        )
    ],
    "shrink_sum": [
        ((laid((n, 13), strides, 0), laid((n, 13), strides, 1), laid((13, 13), strides, 2) * 13**-0.5, 0.3, 0.2), {})
        for n, strides in itertools.product((1, 29), STRIDES)
    ],
    "descent_matrix": [
        ((laid((n, n), strides, 0) * n**-0.5,), {}) for n, strides in itertools.product((1, 53), STRIDES)
    ],
    "half_logdet_gram": [
        ((laid((*leading, tokens, 7), strides, 0), 1.7, unit), {})
        for leading, tokens, strides, unit in itertools.product(((), (2, 3)), (5, 29), STRIDES, (False, True))
    ],
    "linear": [products(leading, strides) for leading, strides in itertools.product(((1,), (5, 3)), STRIDES)],
    "gelu_linear": [products(leading, strides) for leading, strides in itertools.product(((1,), (5, 3)), STRIDES)],
    "memberships": [
        ((projected(), TEMPERATURE, None), {}),
        ((projected(tokens=1), TEMPERATURE, None), {}),
        ((projected(), TEMPERATURE, with_padding()), {}),
    ],
    "tssa": [((projected(), memberships_of(1)), {}), ((projected(), memberships_of(1, with_padding())), {})],
    "causal_memberships": [
        ((projected(), TEMPERATURE, laid((1, 17, 3), "rows", 1), None, None), {}),
        ((projected(), TEMPERATURE, laid((2, 17, 3), "rows", 1), of_the_past(2), with_padding()), {}),
        ((projected(tokens=1), TEMPERATURE, laid((1, 1, 3), "rows", 1), of_the_past(2), None), {}),
    ],
    "causal_tssa": [
        ((projected(), memberships_of(1)), {}),
        ((projected(), memberships_of(1, with_padding()), of_the_past(2), torch.full((2, 3), 1.7)), {}),
    ],
    "cbsa": [
        (
            (projected(), laid((2, 3, 4, 5), strides, 1), laid((3, 1, 1), "rows", 2), laid((3, 1, 1), "rows", 3)),
            {},
        )
        for strides in STRIDES
    ],
    "rectified_linear": [products(leading, strides) for leading, strides in itertools.product(((1,), (29,)), STRIDES)],
    "add_product": [
        ((laid((n, 17), strides, 0), laid((n, 13), strides, 1), laid((17, 13), strides, 2) * 13**-0.5, -0.7), {})
        for n, strides in itertools.product((1, 29), STRIDES)
    ],
}
ON_CPU_ALONE = {"cpu", "oneDNN", "torch, twice differentiable"}
ON_GPU_ALONE = {"triton"}
NEEDS_COMPILER = {"cpu"}
NOT_DIFFERENTIABLE = {("half_logdet_gram", "cpu"), ("descent_matrix", "cpu")}
WITH_TRITON = {"attend", "ista", "shrink_sum"}  # operators of which Triton's form has to be asked for


def forms_here():
    compiler = any(map(which, ("g++", "clang++", "c++")))
    for operator in OPERATORS.values():
        for form in operator.forms:
            if form.name not in ON_GPU_ALONE and (compiler or form.name not in NEEDS_COMPILER):
                yield pytest.param(operator, form, "cpu", id=f"{operator.name}: {form.name}")
            if form.name not in ON_CPU_ALONE:
                name = f"{operator.name}: {form.name} on a GPU"
                yield pytest.param(operator, form, "cuda", id=name, marks=pytest.mark.cuda)


@pytest.fixture(autouse=True)
def every_product(monkeypatch):
    """oneDNN's product wherever it may be taken, and heads enough for every thread."""
    monkeypatch.setattr(onednn, "_is_ahead", lambda: True)
    monkeypatch.setattr(onednn, "_FEWEST_TERMS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


def moved(args, device, dtype, with_gradient):
    """The arguments on a device, and the tensors among them; one tensor in several roles stays one tensor."""
    seen: dict[int, Tensor] = {}
    for value in args:
        if isinstance(value, Tensor) and value.is_floating_point() and id(value) not in seen:
            new = torch.empty_strided(value.shape, value.stride(), dtype=dtype, device=device).copy_(value)
            seen[id(value)] = new.detach().requires_grad_(with_gradient)
    masks = [value.to(device) if isinstance(value, Tensor) else value for value in args]
    return [seen.get(id(value), other) for value, other in zip(args, masks, strict=True)], list(seen.values())


def compare(operator, form, device, args, options, dtype, with_gradient):
    """Whether the form took the arguments; where it did, its numbers are those of the equation in float64."""
    given, leaves = moved(args, device, dtype, with_gradient)
    arguments = operator.arguments(*given, **options)
    if not form.takes(arguments):
        return False
    exact, exact_leaves = moved(given, "cpu", torch.float64, with_gradient)
    results, expecteds = form.evaluate(arguments), operator.equation(*exact, **options)
    if not isinstance(expecteds, tuple):
        results, expecteds = (results,), (expecteds,)
    bound = 40 * torch.finfo(dtype).eps
    for result, expected in zip(results, expecteds, strict=True):
        largest = max(1, expected.abs().max().item())
        torch.testing.assert_close(result.cpu().double(), expected, rtol=bound, atol=bound * largest)
    result, expected = results[0].cpu(), expecteds[0]
    if with_gradient:
        probe = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
        probe[(result > 0) != (expected > 0)] = 0  # rounded over the edge of a relu, where there is no gradient
        ours = torch.autograd.grad(result, leaves, probe.to(result.dtype), allow_unused=True)
        theirs = torch.autograd.grad(expected, exact_leaves, probe, allow_unused=True)
        for one, other in zip(ours, theirs, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                largest = max(1, other.abs().max().item())
                torch.testing.assert_close(one.double().cpu(), other, rtol=4 * bound, atol=4 * bound * largest)
    return True


@pytest.mark.parametrize(("operator", "form", "device"), list(forms_here()))
def test_a_form_is_its_equation(operator, form, device):
    taken = 0
    dtypes = (*DTYPES, torch.float16) if device == "cuda" else DTYPES
    for (args, options), dtype, with_gradient in itertools.product(CASES[operator.name], dtypes, (False, True)):
        if with_gradient and (operator.name, form.name) in NOT_DIFFERENTIABLE:
            continue
        if dtype.itemsize < 4 and operator.name == "half_logdet_gram":
            continue  # rates are taken in float32 or wider
        more = {"triton": True} if device == "cuda" and operator.name in WITH_TRITON else {}
        taken += compare(operator, form, device, args, {**options, **more}, dtype, with_gradient)
    assert taken > 0


def test_every_operator_has_cases():
    assert set(CASES) == set(OPERATORS)


def test_the_choice_of_forms(every_product):
    x, weight = laid((5, 7), "rows", 0), laid((3, 7), "rows", 1)
    taken = []
    forms = linear.forms
    linear.forms = tuple(
        type(form)(
            form.name, lambda a, form=form: taken.append(form.name) or form.evaluate(a), form.takes, form.is_torch
        )
        for form in forms
    )
    try:
        for choice, name in (("all", ["oneDNN"]), ("torch", ["torch"]), ("equation", [])):
            taken.clear()
            with use_forms(choice):
                torch.testing.assert_close(linear(x, weight), x @ weight.mT)
            assert taken == name
    finally:
        linear.forms = forms
    with pytest.raises(UserError, match=r"one of equation, torch, all, got 'fast'"), use_forms("fast"):
        pass


@pytest.mark.parametrize("choice", ["equation", "torch", "all", ""])
def test_the_environment_chooses(choice):
    program = "from crate_transformers.ops.forms import current_choice; print(current_choice())"
    environment = {**os.environ, "CRATE_FORMS": choice}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (choice or "all")


def test_a_variable_of_before_is_said_to_be_unread():
    environment = {**os.environ, "CRATE_NATIVE": "0"}
    program = "import crate_transformers.ops"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert "CRATE_FORMS=torch" in done.stderr
