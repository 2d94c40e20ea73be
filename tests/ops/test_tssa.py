"""TSSA is a gradient step on the variational rate; the attention-only transformer's theorem holds for MSSA."""

import torch
from reference import load_golden

from crate_transformers.objective import coding_rate, variational_coding_rate
from crate_transformers.ops import memberships, tssa
from crate_transformers.ops.mssa.equation import attention


def tokens(seed=0):
    return torch.randn(2, 11, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rate(w, pi):
    return variational_coding_rate(w.transpose(1, 2), pi)


def test_the_step_is_minus_the_gradient_of_the_variational_rate():
    w = tokens().requires_grad_()
    pi = memberships(w.detach(), torch.ones(3, 1, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(rate(w, pi).sum(), w)
    torch.testing.assert_close(tssa(w, pi), -gradient, rtol=1e-7, atol=1e-7)
    assert (rate(w + 0.5 * tssa(w, pi), pi) < rate(w, pi)).all()


def test_the_order_of_tokens_does_not_matter():
    w, order = tokens(), torch.randperm(11)
    pi = memberships(w, torch.ones(3, 1, dtype=torch.float64))
    torch.testing.assert_close(memberships(w[:, order], torch.ones(3, 1, dtype=torch.float64)), pi[:, order])
    torch.testing.assert_close(tssa(w[:, order], pi[:, order]), tssa(w, pi)[:, order])


def test_zero_tokens_stay_finite():
    w = torch.zeros(1, 4, 3, 5)
    pi = memberships(w, torch.ones(3, 1))
    torch.testing.assert_close(pi, torch.full((1, 4, 3), 1 / 3))
    assert not tssa(w, pi).any()


def test_the_variational_rate_bounds_the_rate_of_one_head():
    """With one head, the bound by the diagonal of the covariance is Hadamard's inequality."""
    w = tokens()[:, :, :1]
    everyone = torch.ones(2, 11, 1, dtype=torch.float64)
    n, p = w.shape[1], w.shape[3]
    exact = n * coding_rate(w.squeeze(2), epsilon=p**0.5)  # so that d / (N eps^2) is 1 / N
    assert (rate(w, everyone) >= exact).all()


def test_attention_with_a_threshold_denoises_by_the_theorem():
    """arXiv 2506.03790: the signal-to-noise ratio of every subspace grows by 1 + eta tau a layer."""
    golden = load_golden("aot_denoising")
    eta, tau, layers = (golden.config[name] for name in ("eta", "tau", "layers"))
    bases, per_subspace = golden["bases"], golden.config["tokens_per_subspace"]  # (K, d, p)
    for thresholded in (True, False):
        z, ratios = golden["tokens"], [_ratios(golden["tokens"], bases, per_subspace)]
        for _ in range(layers):
            projected = torch.einsum("nd,kdp->knp", z, bases)[None]
            mixing = attention(projected, projected, None, scaling=1.0, causal=False)
            if thresholded:
                mixing = tau * (mixing > tau).double()
            z = z + eta * torch.einsum("knp,kdp->nd", (mixing @ projected)[0], bases)
            ratios.append(_ratios(z, bases, per_subspace))
        name = "thresholded" if thresholded else "softmax"
        torch.testing.assert_close(z, golden[f"final_{name}"])
        torch.testing.assert_close(torch.stack(ratios), golden[f"snr_{name}"])
        growth = torch.stack(ratios)[1:] / torch.stack(ratios)[:-1]
        if thresholded:
            assert (growth - (1 + eta * tau)).abs().max() < 0.01
        else:
            assert growth.min() < 0.5


def _ratios(z, bases, per_subspace):
    ratios = []
    for k, own in enumerate(z.split(per_subspace)):
        signal = own @ bases[k] @ bases[k].mT
        ratios.append(signal.norm() / (own - signal).norm())
    return torch.stack(ratios)
