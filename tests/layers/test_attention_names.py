"""The implementation `mssa`: its GPU kernels beside float64, through Triton's interpreter where there is no GPU, and
who gets which operator. The CPU's operator is in tests/ops."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference import largest_difference
from zoo import build, decoder_config, encoder_config, gradients, images, token_ids, vision_config

from crate_transformers import CrateForCausalLM, CrateForImageClassification, CrateForMaskedLM
from crate_transformers.ops.mssa import cpu


def compare(device):
    """Outputs and gradients of the kernel beside float64, written out."""
    from crate_transformers.ops.mssa.triton import SubspaceFlashAttention

    generator = torch.Generator().manual_seed(0)
    for batch, heads, tokens, width, causal in (
        (1, 2, 1, 5, False), (2, 3, 17, 5, False), (2, 3, 17, 5, True), (1, 2, 71, 48, False), (1, 1, 150, 32, True),
    ):  # fmt: skip
        rows = torch.randn(batch, tokens, heads, width, generator=generator).to(device)
        weight = torch.randn(batch, tokens, heads, width, generator=generator).to(device)
        w = rows.transpose(1, 2).requires_grad_()  # (B, K, N, p) with the strides of a projection
        mixed = SubspaceFlashAttention.apply(w, 0.3, causal)
        (mixed * weight).sum().backward()
        exact = rows.double().transpose(1, 2).requires_grad_()
        scores = 0.3 * exact @ exact.mT
        if causal:
            scores = scores.masked_fill(torch.ones(tokens, tokens, device=device).triu(1).bool(), -torch.inf)
        expected = (scores.softmax(-1) @ exact).transpose(1, 2)
        (expected * weight).sum().backward()
        assert largest_difference(mixed, expected) <= 1e-5, (tokens, width, causal)
        assert largest_difference(w.grad, exact.grad) <= 3e-5, (tokens, width, causal)


def compare_half(device):
    """The same in half precision and for the usual head widths; of bfloat16 the interpreter multiplies the bits."""
    from crate_transformers.ops.mssa.triton import SubspaceFlashAttention

    generator = torch.Generator().manual_seed(0)
    dtypes = (torch.float32, torch.float16, *((torch.bfloat16,) if device == "cuda" else ()))
    for dtype in dtypes:
        for tokens, width, causal in ((70, 64, False), (37, 128, True)):
            rows = torch.randn(1, 1, tokens, width, generator=generator).to(device, dtype)
            w, exact = rows.clone().requires_grad_(), rows.double().requires_grad_()
            scores = exact @ exact.mT / 8
            if causal:
                scores = scores.masked_fill(torch.ones(tokens, tokens, device=device).triu(1).bool(), -torch.inf)
            expected = (scores.softmax(-1) @ exact).transpose(1, 2)
            mixed = SubspaceFlashAttention.apply(w, 1 / 8, causal)
            mixed.sum().backward()
            expected.sum().backward()
            bound = 8 * torch.finfo(dtype).eps * expected.abs().max().item()
            assert mixed.dtype == dtype
            assert largest_difference(mixed, expected) <= bound, (dtype, width)
            assert largest_difference(w.grad, exact.grad) <= 4 * bound, (dtype, width)


def compare_ista(device):
    """The end of an ISTA step beside float64; x may be wider than the product, as under autocast."""
    from crate_transformers.ops.ista.triton import ShrinkSum

    generator = torch.Generator().manual_seed(0)
    for wide, narrow in (
        (torch.float32, torch.float32), (torch.float16, torch.float16), (torch.float32, torch.bfloat16),
    ):  # fmt: skip
        x, product, weight = (torch.randn(37, 61, generator=generator).to(device) for _ in range(3))
        x, product = x.to(wide).requires_grad_(), product.to(narrow).requires_grad_()
        code = ShrinkSum.apply(x, product, 0.3, 0.2)
        (code * weight).sum().backward()
        exact = [tensor.detach().double().requires_grad_() for tensor in (x, product)]
        expected = (exact[0] + 0.3 * exact[1] - 0.2).relu()
        (expected * weight).sum().backward()
        epsilon = torch.finfo(narrow).eps
        assert code.dtype == narrow
        assert ShrinkSum.apply(torch.full_like(x, torch.nan), product, 0.3, 0.2).isnan().all()
        assert largest_difference(code, expected) <= epsilon * expected.max().item()
        for tensor, other in zip((x, product), exact, strict=True):
            assert tensor.grad.dtype == tensor.dtype
            assert largest_difference(tensor.grad, other.grad) <= epsilon * weight.abs().max().item()


def compare_model():
    """A model through the kernels beside the same model through eager; a single image takes the other ISTA step."""
    model = build(CrateForImageClassification, vision_config())
    for batch in (2, 1):
        inputs = {"pixel_values": images(model.config, batch), "labels": torch.tensor([1, 3])[:batch]}
        model.set_attn_implementation("eager")
        expected, wanted = model(**inputs).logits, gradients(model, **inputs)
        model.set_attn_implementation("mssa")
        assert largest_difference(model(**inputs).logits, expected) <= 1e-5
        for name, gradient in gradients(model, **inputs).items():
            assert largest_difference(gradient, wanted[name]) <= 1e-5, name


@pytest.mark.triton
def test_interpreted():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    checks = "compare('cpu'); compare_half('cpu'); compare_ista('cpu'); compare_model()"
    program = f"from layers.test_attention_names import *; {checks}"
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.cuda
def test_on_the_gpu():
    compare("cuda")
    compare_half("cuda")
    compare_ista("cuda")


@torch.no_grad()
def test_falls_back_with_the_same_numbers():
    """On a CPU, with padding, and with a cache."""
    model = build(CrateForCausalLM, decoder_config())
    ids = token_ids()
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    model.set_attn_implementation("eager")
    expected, padded = model(ids).logits, model(ids, attention_mask=mask).logits
    generated = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None)
    model.set_attn_implementation("mssa")
    assert largest_difference(model(ids).logits, expected) <= 1e-5
    assert largest_difference(model(ids, attention_mask=mask).logits[0, 3:], padded[0, 3:]) <= 1e-5
    again = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert torch.equal(again, generated)


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (CrateForImageClassification, vision_config()),
        (CrateForMaskedLM, encoder_config()),
        (CrateForCausalLM, decoder_config()),
    ],
)
@pytest.mark.parametrize("asked", [None, "sdpa", "mssa", "torch_sdpa"])
def test_on_a_cpu_the_operator_is_the_default(kind, config, asked, monkeypatch):
    calls = []
    operator = cpu.mssa
    monkeypatch.setattr(cpu, "mssa", lambda *arguments: calls.append(arguments[2]) or operator(*arguments))
    model = kind._from_config(config, attn_implementation=asked)
    inputs = images(config, 2) if kind is CrateForImageClassification else token_ids()
    model(inputs)
    assert model.config._attn_implementation == (asked or "sdpa")
    layers = config.num_hidden_layers - (kind is CrateForImageClassification)  # torch mixes a class token alone
    assert calls == ([] if asked == "torch_sdpa" else [kind is CrateForCausalLM] * layers)


@pytest.mark.compiler
@torch.no_grad()
def test_every_name_gives_the_same_numbers():
    model = build(CrateForCausalLM, decoder_config())
    logits = []
    for name in ("eager", "sdpa", "mssa", "torch_sdpa"):
        model.set_attn_implementation(name)
        logits.append(model(token_ids()).logits)
    for other in logits[1:]:
        assert largest_difference(other, logits[0]) <= 1e-5
