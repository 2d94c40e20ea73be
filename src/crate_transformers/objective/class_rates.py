"""Maximal coding rate reduction (MCR^2): features of all classes together spread, those of each class stay compact.

    R(Z)         = 1/2 logdet(I + d / (n eps^2) Z^T Z)                                        [M, eq. 7]
    R_c(Z | Pi)  = sum_j n_j / (2 n) logdet(I + d / (n_j eps^2) Z^T Pi_j Z)                   [M, eq. 8]
    Delta R      = R(Z) - R_c(Z | Pi) = R(Z) - sum_j (n_j / n) R(Z_j)                         [M, eq. 9]

Pi_j = diag of the memberships of the samples in class j, n_j = tr Pi_j; for labels, Z_j are the rows of class j.

Where this differs from `rate_reduction`: there the parts are subspaces U_k that a layer carries, and each projects all
tokens; here they are the classes of the samples, and each takes its own samples. The precision is given as its square.

Shapes: B... any leading axes, n samples, d width, C classes.

[M] arXiv 2006.08558. Where we differ: samples are rows, as tokens are everywhere in this library.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UserError
from ..ops.coding_rate import half_logdet, normalize_tokens


class ClassRates(NamedTuple):
    """The coding rates of features by class, in nats.

    Attributes:
        rate: (...), R of all features.
        class_rates: (..., C), R(Z_j) of the features of each class, as if it were alone.
        shares: (..., C), n_j / n; 0 for a class without samples, whose rate is 0.
        classes: the label of each of the C columns, in rising order; 0 to C - 1 for memberships.

    Example:
        >>> class_coding_rates(torch.eye(4), torch.tensor([0, 0, 1, 1])).shares.tolist()
        [0.5, 0.5]
    """

    rate: Tensor
    class_rates: Tensor
    shares: Tensor
    classes: tuple[int, ...]

    @property
    def compressed_rate(self) -> Tensor:
        """(...), R_c = sum_j (n_j / n) R(Z_j): the mean rate of a sample that is coded with its class alone."""
        return (self.shares * self.class_rates).sum(dim=-1)

    @property
    def reduction(self) -> Tensor:
        """(...), Delta R = R - R_c."""
        return self.rate - self.compressed_rate


def class_coding_rates(
    features: Tensor, labels: Tensor | Sequence[int], epsilon_squared: float = 0.5, normalize: bool = True
) -> ClassRates:
    """The coding rate of features, and that of each class.

    Args:
        features: (..., n, d) with n >= 1. Computed in float32 (float64 when given), also where mixed precision is on.
        labels: (n,) integers >= 0, the same for all leading axes; or memberships (..., n, C) of floats >= 0 whose rows
            sum to 1. Rates are differentiable in memberships too; one of exactly 0 gets no gradient.
        epsilon_squared: eps^2, the *square* of the `epsilon` of `coding_rate`, > 0.
        normalize: scale features to unit length first, as the theorem about Delta R assumes; a zero feature stays.

    Returns:
        the rates, in nats, of the samples of this process.

    Raises:
        ValueError: shapes that do not fit, negative labels, rows of memberships that do not sum to 1, epsilon_squared
            out of its range.

    Example:
        >>> rates = class_coding_rates(torch.eye(4), torch.tensor([0, 0, 1, 1]))
        >>> bool((rates.class_rates < rates.rate).all())  # two of four directions each
        True

    Source: arXiv 2006.08558, eq. 7 and 8.
    """
    if not (epsilon_squared > 0 and math.isfinite(epsilon_squared)):
        raise UserError(f"epsilon_squared must be finite and positive, got {epsilon_squared}")
    if features.ndim < 2 or 0 in features.shape[-2:]:
        raise UserError(f"features must be (..., samples, width) with a sample, got shape {tuple(features.shape)}")
    features = features if features.dtype == torch.float64 else features.float()
    features = normalize_tokens(features) if normalize else features
    labels = torch.as_tensor(labels, device=features.device)
    rate = _rate(features, features.shape[-2], epsilon_squared)
    if labels.is_floating_point():
        return ClassRates(rate, *_by_membership(features, labels, epsilon_squared))
    return ClassRates(rate, *_by_label(features, labels, epsilon_squared))


def rate_reduction_of_classes(
    features: Tensor, labels: Tensor | Sequence[int], epsilon_squared: float = 0.5, normalize: bool = True
) -> Tensor:
    """Rate reduction of classes, Delta R = R(Z) - sum_j (n_j / n) R(Z_j), in nats: large where classes lie in subspaces
    that are orthogonal to each other, and fill them; 0 for a single class.

    Args:
        features, labels, epsilon_squared, normalize: as in `class_coding_rates`.

    Returns:
        (...) differences in nats, >= 0. Differentiable.

    Example:
        >>> apart, mixed = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> bool(rate_reduction_of_classes(features, apart) > rate_reduction_of_classes(features, mixed))
        True

    Source: arXiv 2006.08558, eq. 9.
    """
    return class_coding_rates(features, labels, epsilon_squared, normalize).reduction


def rate_reduction_loss(
    features: Tensor,
    labels: Tensor | Sequence[int],
    epsilon_squared: float = 0.5,
    compression_weight: float = 1.0,
    normalize: bool = True,
) -> Tensor:
    """The loss of MCR^2, -(R(Z) - w R_c(Z | Pi)), in nats, averaged over leading axes; with w = 1 it is -Delta R.

    Args:
        features, labels, epsilon_squared, normalize: as in `class_coding_rates`.
        compression_weight: w >= 0, how much the compression of classes counts beside the expansion of all.

    Returns:
        (), to be minimised. Differentiable.

    Raises:
        ValueError: a negative or infinite weight.

    Example:
        >>> features = torch.eye(4).requires_grad_()
        >>> rate_reduction_loss(features, torch.tensor([0, 0, 1, 1])).backward()
        >>> features.grad.shape
        torch.Size([4, 4])

    Source: arXiv 2006.08558.
    """
    if not (compression_weight >= 0 and math.isfinite(compression_weight)):
        raise UserError(f"compression_weight must be finite and >= 0, got {compression_weight}")
    rates = class_coding_rates(features, labels, epsilon_squared, normalize)
    return (compression_weight * rates.compressed_rate - rates.rate).mean()


def _rate(features: Tensor, count: int, epsilon_squared: float) -> Tensor:
    """R (...) of features (..., count, d)."""
    return half_logdet(features, features.shape[-1] / (count * epsilon_squared))


def _by_label(features: Tensor, labels: Tensor, epsilon_squared: float) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """(rates (..., C), shares (..., C), classes) of labels (n,)."""
    count = features.shape[-2]
    if labels.shape != (count,) or labels.dtype == torch.bool:
        raise UserError(
            f"labels must be {count} integers, one a sample, or floating memberships (..., {count}, classes); got "
            f"{labels.dtype} of shape {tuple(labels.shape)} for features {tuple(features.shape)}"
        )
    if (labels < 0).any():
        raise UserError(f"labels must be >= 0, got {int(labels.min())}: leave samples without a label out")
    classes, sizes = torch.unique(labels, return_counts=True)
    rates = [
        _rate(features[..., labels == label, :], int(size), epsilon_squared)
        for label, size in zip(classes, sizes, strict=True)
    ]
    stacked = torch.stack(rates, dim=-1)
    return stacked, (sizes.to(features.dtype) / count).expand_as(stacked), tuple(classes.tolist())


def _by_membership(
    features: Tensor, memberships: Tensor, epsilon_squared: float
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """(rates (..., C), shares (..., C), classes) of memberships (..., n, C).

    Z^T Pi_j Z / n_j = W^T W with W = sqrt(Pi_j / n_j) Z, so that one scale holds for all leading axes.
    """
    count, width = features.shape[-2:]
    if memberships.ndim < 2 or memberships.shape[-2] != count or memberships.shape[-1] == 0:
        raise UserError(
            f"memberships must be (..., {count}, classes), got shape {tuple(memberships.shape)}; labels are integers"
        )
    pi = memberships.to(features.dtype)
    if (pi < 0).any() or ((pi.sum(dim=-1) - 1).abs() > 1e-3).any():
        raise UserError("memberships must be >= 0, and those of each sample must sum to 1")
    sizes = pi.sum(dim=-2)  # n_j (..., C)
    portions = pi / sizes.masked_fill(sizes == 0, 1).unsqueeze(-2)
    roots = portions.masked_fill(portions == 0, 1).sqrt().masked_fill(portions == 0, 0)  # sqrt has no slope at 0
    rates = [half_logdet(root.unsqueeze(-1) * features, width / epsilon_squared) for root in roots.unbind(-1)]
    stacked = torch.stack(rates, dim=-1)
    return stacked, (sizes / count).expand_as(stacked), tuple(range(pi.shape[-1]))


__all__ = ["ClassRates", "class_coding_rates", "rate_reduction_loss", "rate_reduction_of_classes"]
