"""oneDNN's linear map against float64, and where a model takes it."""

import pytest
import torch
from reference import largest_difference
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from zoo import IMAGE, PATCHES, mae_model, text_model, vision_model

from crate_transformers import fuse
from crate_transformers.layers import Linear
from crate_transformers.ops import linear
from crate_transformers.ops.linear import onednn
from crate_transformers.ops.native import processor


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def every_product(monkeypatch):
    """The operator, wherever it may be taken; what it was given."""
    seen, operator = [], onednn.linear
    monkeypatch.setattr(onednn, "_is_ahead", lambda: True)
    monkeypatch.setattr(onednn, "_FEWEST_TERMS", 1)
    monkeypatch.setattr(onednn, "linear", lambda x, *rest: seen.append(x.shape) or operator(x, *rest))
    return seen


LAYOUTS = {
    "rows": lambda m, k: random(m, k),
    "columns": lambda m, k: random(k, m).mT,
    "a slice": lambda m, k: random(m, 3, k + 2)[:, 1, 1 : k + 1],
    "one row for all": lambda m, k: random(1, k).expand(m, k),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (1, 53, 29), (17, 5, 3), (67, 33, 97)])
def test_output_and_gradients(m, k, n, biased, activation, layout):
    x, weight = LAYOUTS[layout](m, k), LAYOUTS[layout](n, k).roll(1, 0)
    ours = [x, weight] + [random(n, seed=1)] * biased
    exact = [tensor.double().requires_grad_() for tensor in ours]
    ours = [tensor.detach().requires_grad_() for tensor in ours]
    output = onednn.linear(*ours, *([] if biased else [None]), activation)
    expected = F.linear(*exact)
    expected = F.relu(expected) if activation == "relu" else expected
    assert largest_difference(output, expected) <= 1e-5
    for weighting in (random(m, n, seed=2), torch.ones(()).expand(m, n)):
        gradients = torch.autograd.grad(output, ours, weighting, retain_graph=True)
        references = torch.autograd.grad(expected, exact, weighting.double(), retain_graph=True)
        for gradient, reference in zip(gradients, references, strict=True):
            assert largest_difference(gradient, reference) <= 1e-5 * max(1, reference.abs().max().item())


def test_the_second_derivative():
    x, weight, bias = (random(*shape).requires_grad_() for shape in ((5, 4), (3, 4), (3,)))
    results = []
    for rectified in (onednn.linear(x, weight, bias, "relu"), F.relu(F.linear(x, weight, bias))):
        (gradient,) = torch.autograd.grad(rectified.square().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(gradient.square().sum(), (x, weight, bias)))
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of the check itself
@pytest.mark.parametrize("activation", ["none", "relu"])
def test_it_is_a_sound_operator(activation):
    arguments = (random(5, 4).requires_grad_(), random(3, 4).requires_grad_(), random(3).requires_grad_(), activation)
    torch.library.opcheck(torch.ops.crate.linear.default, arguments)


MODELS = {
    "vision": (vision_model, lambda: {"pixel_values": random(2, 3, *IMAGE)}),
    "over-complete": (
        lambda: vision_model(dictionary_ratio=2, ista_steps=2, tie_dictionary=False),
        lambda: {"pixel_values": random(2, 3, *IMAGE)},
    ),
    "autoencoder": (mae_model, lambda: {"pixel_values": random(2, 2, *IMAGE), "noise": random(2, PATCHES)}),
    "text": (text_model, lambda: {"input_ids": torch.arange(40).view(2, 20) + 5}),
    "causal": (lambda: text_model(causal=True), lambda: {"input_ids": torch.arange(40).view(2, 20)}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_same_numbers(name, every_product, monkeypatch):
    make, inputs = MODELS[name]
    results = []
    for enabled in (True, False):
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", enabled)
        model = make()
        output = model(**inputs())
        output[0].square().sum().backward()
        gradients = {key: weight.grad for key, weight in model.named_parameters() if weight.grad is not None}
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(**inputs())
        results.append((output[0], gradients, counter.get_total_flops(), len(every_product)))
    (ours, gradients, operations, calls), (expected, references, counted, all_calls) = results
    assert calls == all_calls >= 2 * 2 * 3  # runs, layers, products of a layer
    assert operations == counted
    assert largest_difference(ours, expected) <= 1e-5 * max(1, expected.abs().max().item())
    assert gradients.keys() == references.keys()
    for key, reference in references.items():
        assert largest_difference(gradients[key], reference) <= 2e-5 * max(1, reference.abs().max().item()), key


@pytest.mark.parametrize("prepare", [lambda model: model, fuse])
def test_generation_and_a_fused_model(prepare, every_product, monkeypatch):
    model, prompt = prepare(text_model(causal=True, bos_token_id=0, eos_token_id=0)), torch.arange(12).view(2, 6)
    arguments = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 9, "do_sample": False, "pad_token_id": 0}
    tokens = model.generate(prompt, **arguments)
    assert len(every_product) >= 9 * 2 * 3
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert tokens.equal(model.generate(prompt, **arguments))


def test_compiled(every_product):
    model, pixels = vision_model(), random(2, 3, *IMAGE)
    with torch.no_grad():
        expected = model(pixels).logits
        compiled = torch.compile(model, fullgraph=True)(pixels).logits
    assert largest_difference(compiled, expected) <= 1e-5


def test_what_torch_does_itself(every_product, monkeypatch):
    x, weight = random(4, 3), random(5, 3)
    assert onednn.can_multiply(x, weight)
    assert not onednn.can_multiply(x, weight.double())
    assert not onednn.can_multiply(x, random(5, 4))
    assert not onednn.can_multiply(x.to("meta"), weight.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not onednn.can_multiply(x, weight)
        assert linear(x, weight).dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="shapes"):
        linear(x, random(5, 4))
    assert torch.func.vmap(lambda row: linear(row, weight))(x).shape == (4, 5)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert not onednn.can_multiply(x, weight)
    assert not every_product


def test_one_token_without_leading_axes(every_product):
    layer, token = Linear(7, 5), random(7)
    torch.testing.assert_close(layer(token), F.linear(token, layer.weight, layer.bias), rtol=1e-5, atol=1e-6)
    assert every_product == [(1, 7)]


def test_few_terms_are_torchs(monkeypatch):
    monkeypatch.setattr(onednn, "_is_ahead", lambda: True)
    assert not onednn.can_multiply(random(64, 255), random(256, 255))
    assert onednn.can_multiply(random(64, 256), random(256, 256))


@pytest.mark.parametrize(
    ("vendor", "vectors", "ahead"),
    [("AuthenticAMD", "AVX512", True), ("AuthenticAMD", "AVX2", False), ("GenuineIntel", "AVX512", False)],
)
def test_the_processors_that_are_faster_with_it(vendor, vectors, ahead, monkeypatch, tmp_path):
    described = tmp_path / "cpuinfo"
    described.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr(processor, "_FILE", described)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    monkeypatch.setattr(onednn, "describe_processor", processor.describe_processor.__wrapped__)
    is_ahead = onednn._is_ahead.__wrapped__
    assert is_ahead() is (ahead and torch.backends.mkl.is_available())
