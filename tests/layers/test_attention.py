"""MSSA: the operators agree with each other and with the equation; its scores are symmetric; it compresses."""

import pytest
import torch

from crate_transformers import CrateVisionConfig
from crate_transformers.layers import SubspaceAttention
from crate_transformers.objective import subspace_coding_rate

BATCH, TOKENS, WIDTH, HEADS, HEAD_DIM = 2, 11, 13, 3, 5


def attention(implementation="eager", **fields):
    config = CrateVisionConfig(
        **{"hidden_size": WIDTH, "num_attention_heads": HEADS, "head_dim": HEAD_DIM, "num_hidden_layers": 1, **fields}
    )
    config._attn_implementation = implementation
    return SubspaceAttention(config).eval()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def tokens():
    return torch.randn(BATCH, TOKENS, WIDTH)


def test_one_projection_is_query_key_and_value(tokens):
    module = attention()
    heads = module.subspaces.weight.view(HEADS, HEAD_DIM, WIDTH)
    mixed, weights = [], []
    for subspace in heads:
        projected = tokens @ subspace.mT
        weights.append(torch.softmax(projected @ projected.mT / HEAD_DIM**0.5, dim=-1))
        mixed.append(weights[-1] @ projected)
    expected = torch.cat(mixed, dim=-1) @ module.output.weight.mT + module.output.bias
    output, given = module(tokens)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(given, torch.stack(weights, dim=1))


@pytest.mark.parametrize("mask_shape", [None, (1, 1, TOKENS), (1, TOKENS, TOKENS), (HEADS, TOKENS, TOKENS)])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_first_tokens_alone(tokens, implementation, mask_shape):
    """Without projecting the others."""
    module = attention(implementation, attention_probs_dropout_prob=0.0)
    mask = None if mask_shape is None else torch.randn(BATCH, *mask_shape)
    expected, weights = module(tokens, mask)
    seen = []
    module.subspaces.register_forward_hook(lambda part, inputs, output: seen.append(output.shape[1]))
    for count in (1, 4):
        mixed, given = module.mix_first(tokens, count, mask)
        torch.testing.assert_close(mixed, expected[:, :count])
        if weights is not None:
            torch.testing.assert_close(given, weights[:, :, :count])
    assert seen == [1, 4]


def test_scores_are_symmetric(tokens):
    _, weights = attention()(tokens)
    assert weights.shape == (BATCH, HEADS, TOKENS, TOKENS)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(BATCH, HEADS, TOKENS))
    logits = weights.log()  # the scores, but for a constant a row
    # log a_ij - log a_ji = c_j - c_i: antisymmetric and without circulation around any triangle of tokens
    difference = logits - logits.mT
    around = difference[..., 0, 1] + difference[..., 1, 2] + difference[..., 2, 0]
    torch.testing.assert_close(around, torch.zeros(BATCH, HEADS), atol=1e-5, rtol=0)
    shuffled = logits - logits[..., torch.randperm(TOKENS)].mT
    assert (shuffled[..., 0, 1] + shuffled[..., 1, 2] + shuffled[..., 2, 0]).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_eager_equals_sdpa_forward_and_backward(tokens, dtype):
    eager, sdpa = attention("eager").to(dtype), attention("sdpa").to(dtype)
    sdpa.load_state_dict(eager.state_dict())
    tokens = tokens.to(dtype).requires_grad_()
    outputs = [module(tokens)[0] for module in (eager, sdpa)]
    torch.testing.assert_close(*outputs)
    probe = torch.randn_like(outputs[0])
    gradients = [torch.autograd.grad((output * probe).sum(), tokens)[0] for output in outputs]
    torch.testing.assert_close(*gradients)


def test_a_masked_token_is_not_seen(tokens):
    mask = torch.zeros(BATCH, 1, TOKENS, TOKENS)
    mask[..., -2:] = float("-inf")
    changed = tokens.clone()
    changed[:, -2:] += 1
    for implementation in ("eager", "sdpa"):
        module = attention(implementation)
        torch.testing.assert_close(module(tokens, mask)[0][:, :-2], module(changed, mask)[0][:, :-2])
        assert not torch.allclose(module(tokens)[0][:, :-2], module(changed)[0][:, :-2])


def test_one_head_of_full_width_has_no_output_projection(tokens):
    module = attention(num_attention_heads=1, head_dim=WIDTH)
    assert [name for name, _ in module.named_parameters()] == ["subspaces.weight"]
    assert module(tokens)[0].shape == tokens.shape


def test_the_papers_compression_lowers_the_rate_under_the_codebooks():
    width, heads = 15, 3
    module = attention(hidden_size=width, num_attention_heads=heads, head_dim=5, attention_output_bias=False).double()
    basis = torch.linalg.qr(torch.randn(width, width, dtype=torch.float64)).Q  # [U_1 ... U_K], orthonormal
    module.subspaces.weight.data.copy_(basis.mT)
    module.output.weight.data.copy_(basis)
    with torch.no_grad():
        for _ in range(10):
            tokens = torch.randn(BATCH, TOKENS, width, dtype=torch.float64)

            def rate(z):
                return subspace_coding_rate((z @ basis).unflatten(-1, (heads, 5)).transpose(1, 2))

            for step in (0.01, 0.1):
                mixed, _ = module(tokens)
                assert (rate((1 - step) * tokens + step * mixed) < rate(tokens)).all()
                assert (rate(tokens + step * mixed) > rate(tokens)).all()
