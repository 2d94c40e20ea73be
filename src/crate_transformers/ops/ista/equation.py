"""Steps of the iterative shrinkage-thresholding algorithm (ISTA): one step that sparsifies the tokens.

    z_{j+1} = relu(z_j + eta (x - z_j D^T) D - eta lambda)                       [P1, eq. 13, tokens as rows]

lowers 1/2 ||x - z D^T||^2 + lambda ||z||_1 over z >= 0. CRATE takes one step from z_0 = x in a square dictionary; the
over-complete variants start at zero.

Shapes: N tokens, d width, m atoms (columns) of the dictionary D (d, m).

[P1] arXiv 2306.01129.
"""

import torch
from torch import Tensor


def ista_step(code: Tensor, signal: Tensor, dictionary: Tensor, step_size: float, sparsity_weight: float) -> Tensor:
    """One ISTA step (..., N, m), relu(z + eta (x - z D^T) D - eta lambda), written as the equation; >= 0.

    For a code z >= 0 and eta <= 1 / ||D||_2^2 the step lowers 1/2 ||x - z D^T||^2 + lambda ||z||_1. For a code with
    negative entries it need not: relu cuts them as well.

    Args:
        code: (..., N, m), z. signal: (..., N, d), x. dictionary: (d, m), D. step_size: eta. sparsity_weight: lambda.

    Example:
        >>> ista_step(torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), torch.eye(2), 0.5, 0.5).tolist()
        [[0.25, 0.0]]

    Source: arXiv 2306.01129, eq. 13.
    """
    residual = signal - code @ dictionary.mT
    return torch.relu(code + step_size * (residual @ dictionary) - step_size * sparsity_weight)


def ista(
    signal: Tensor,
    dictionary: Tensor,
    step_size: float,
    sparsity_weight: float,
    num_steps: int = 1,
    from_zero: bool = False,
    kept_step: Tensor | None = None,
    triton: bool = False,
) -> Tensor:
    """The code (..., N, m) of a signal after some steps, >= 0.

    Args:
        signal: (..., N, d), x. dictionary: (d, m), D. step_size: eta. sparsity_weight: lambda. num_steps: >= 1.
        from_zero: start at z_0 = 0; False starts at z_0 = x, which a square dictionary alone can.
        kept_step, triton: `step_matrix` of the dictionary, and whether Triton is asked for; faster forms read them.

    Example:
        >>> ista(torch.tensor([[1.0, -1.0]]), torch.eye(2), step_size=0.5, sparsity_weight=0.5).tolist()
        [[0.75, 0.0]]
    """
    code = signal.new_zeros(*signal.shape[:-1], dictionary.shape[1]) if from_zero else signal
    for _ in range(num_steps):
        code = ista_step(code, signal, dictionary, step_size, sparsity_weight)
    return code


def shrink_sum(
    x: Tensor, left: Tensor, right: Tensor, step_size: float, threshold: float, triton: bool = False
) -> Tensor:
    """The end of a step (n, d), relu(x + eta L R - eta lambda), >= 0.

    Args:
        x, left: (n, d). right: (d, d). step_size: eta. threshold: eta lambda. triton: as in `ista`.
    """
    return torch.relu(x + step_size * (left @ right) - threshold)


def descent_matrix(dictionary: Tensor) -> Tensor:
    """D - D^T D (d, d) of a square D (d, d): the descent of a step from the tokens is x (D - D^T D)."""
    return dictionary - dictionary.mT @ dictionary


__all__ = ["descent_matrix", "ista", "ista_step", "shrink_sum"]
