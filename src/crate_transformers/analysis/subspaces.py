"""How incoherent the learned subspaces are: block norms of U^T U.

Shapes: d hidden_size, K heads, p head_dim.
"""

import torch
from torch import Tensor


def block_norms(weight: Tensor, num_heads: int) -> Tensor:
    """Frobenius norms of the blocks of U^T U.

    Args:
        weight: U^T (K p, d), the weight of the projection. num_heads: K.

    Returns:
        (K, K), ||U_k^T U_l||_F; float32, on the CPU. Zero off the diagonal for subspaces orthogonal to each other.

    Example:
        >>> block_norms(torch.eye(8), num_heads=2).tolist()  # two orthonormal bases of 4 vectors
        [[2.0, 0.0], [0.0, 2.0]]
    """
    bases = weight.detach().float().unflatten(0, (num_heads, -1))  # (K, p, d)
    gram = torch.einsum("kpd,lqd->kplq", bases, bases)
    return gram.square().sum(dim=(1, 3)).sqrt().cpu()


def coherence(norms: Tensor) -> float:
    """Mean over pairs k != l of ||U_k^T U_l||_F / sqrt(||U_k^T U_k||_F ||U_l^T U_l||_F), in [0, 1]; 0 for one head.

    Args:
        norms: (K, K) of `block_norms`.

    Example:
        >>> coherence(block_norms(torch.eye(4), num_heads=2))  # subspaces that are orthogonal to each other
        0.0
    """
    num_heads = norms.shape[0]
    if num_heads < 2:
        return 0.0
    scale = norms.diagonal().clamp(min=torch.finfo(norms.dtype).tiny).sqrt()
    relative = norms / scale[:, None] / scale[None, :]
    return ((relative.sum() - relative.diagonal().sum()) / (num_heads * (num_heads - 1))).item()


__all__ = ["block_norms", "coherence"]
