"""Second derivatives through the attention that runs by default on a CPU: those of the eager form."""

import pytest
import torch
from torch.nn import functional as F
from zoo import SHELLS, build, images, token_ids, vision_config

from crate_transformers import CrateForCausalLM, CrateForImageClassification, CrateForMaskedLM
from crate_transformers.layers.attention_names import sdpa_attention

MASKS = {"none": None, "left": [[1] * 7, [0, 0, *[1] * 5]], "right": [[1] * 7, [*[1] * 4, 0, 0, 0]]}


def penalised(model, attention, name, given, mask=None):
    """Logits, the gradient of the input, and the gradient of its penalty in the subspaces."""
    model.set_attn_implementation(attention)
    given = given.detach().clone().requires_grad_()
    more = {} if mask is None else {"attention_mask": mask}
    logits = model(**{name: given}, **more).logits
    logits = logits if mask is None else logits * mask[..., None]
    (gradient,) = torch.autograd.grad(logits.square().mean(), given, create_graph=True)
    subspaces = [weight for key, weight in model.named_parameters() if "subspaces" in key]
    return [logits, gradient, *torch.autograd.grad((gradient.norm() - 1).square(), subspaces)]


def assert_equal(ours, theirs, dtype):
    rounding = 1e-10 if dtype == torch.float64 else 1e-4
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=rounding, atol=rounding * other.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("attention", ["sdpa", "mssa"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("fields", [{}, {"pool": "mean"}, {"num_attention_heads": 1}])
def test_a_gradient_penalty_of_images(dtype, attention, batch, fields):
    config = vision_config(**fields)
    model = build(CrateForImageClassification, config).to(dtype)
    given = images(config, batch).to(dtype)
    expected = penalised(model, "eager", "pixel_values", given)
    assert_equal(penalised(model, attention, "pixel_values", given), expected, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize(("kind", "shell"), [(CrateForCausalLM, "gpt"), (CrateForMaskedLM, "encoder")])
def test_a_gradient_penalty_of_text(dtype, padding, kind, shell):
    model = build(kind, SHELLS[shell](pad_token_id=1)).to(dtype)
    given = model.get_input_embeddings()(token_ids())
    mask = None if MASKS[padding] is None else torch.tensor(MASKS[padding])
    expected = penalised(model, "eager", "inputs_embeds", given, mask)
    assert_equal(penalised(model, "sdpa", "inputs_embeds", given, mask), expected, dtype)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_first_derivative_is_torchs_own(causal, masked):
    class Module:
        is_causal = causal

    torch.manual_seed(0)
    w, gradient = torch.randn(2, 1, 7, 5, dtype=torch.float64, requires_grad=True), torch.randn(2, 7, 1, 5).double()
    mask = torch.rand(2, 1, 7, 7) > 0.3 if masked else None
    if mask is not None:
        mask[0, 0, 2] = False  # a query that sees nothing
    ours, _ = sdpa_attention(Module(), w, w, w, mask, scaling=0.3)
    theirs = F.scaled_dot_product_attention(w, w, w, mask, is_causal=causal and not masked, scale=0.3).transpose(1, 2)
    assert torch.equal(ours, theirs)
    found, expected = (torch.autograd.grad(mixed, w, gradient)[0] for mixed in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
