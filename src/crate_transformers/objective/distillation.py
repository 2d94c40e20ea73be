"""The loss of SimDINO: views of one picture agree, and the features of all pictures keep a large coding rate.

    a = mean over t, s with t != s of  mean_b <z_t,b, z_s,b>              alignment
    r = gamma mean_v 1/2 logdet(I + d / (W B eps^2) F_v^T F_v)            rate; gamma = 1/d + 1/(W B)
    loss = -w a - r                                                                                            [S]

t runs over the views of the teacher, s over those of the student, v over those of both: student view v and teacher view
v are the same crops. F_v (B, d) is the student's features of view v (`rate_of="student"`), or the mean of the student's
and the teacher's, not scaled again (`rate_of="mean"`).

Where this differs from `coding_rate` of tokens: the precision is given as its square; the rate is scaled by gamma, so
it is no longer in nats; and the W B features of a view are one token set, though each process holds B of them.

Shapes: S student views, V teacher views (the first of the S), B pictures of one process, W processes, d width.

[S] arXiv 2502.10385. Where we differ: the published code sums F_v^T F_v over the processes, here the features
are gathered, so that the smaller of the two Gram matrices is factored; the published gamma is one of two.
"""

import math
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, distributed

from ..errors import UserError
from ..ops.coding_rate import half_logdet, normalize_tokens

RateOf = Literal["student", "mean"]
RateGamma = Literal["paper", "per_dimension"]
RateGather = Literal["all", "local", "none"]


class DistillationTerms(NamedTuple):
    """Three numbers: the loss of `coding_rate_distillation`, -alignment_weight * alignment - rate, and its terms.

    Attributes:
        loss: the number to minimise.
        alignment: mean cosine of teacher and student over pairs of different views, in [-1, 1] for unit features.
        rate: the coding rate in nats times gamma, >= 0.

    Example:
        >>> terms = DistillationTerms(loss=torch.tensor(-3.0), alignment=torch.tensor(1.0), rate=torch.tensor(2.0))
        >>> terms.rate.item()
        2.0
    """

    loss: Tensor
    alignment: Tensor
    rate: Tensor


def distillation_terms(
    student: Tensor,
    teacher: Tensor,
    epsilon_squared: float = 0.05,
    alignment_weight: float = 1.0,
    rate_of: RateOf = "mean",
    rate_gamma: RateGamma = "paper",
    rate_gather: RateGather = "all",
    normalize_alignment: bool = True,
) -> DistillationTerms:
    """The loss of SimDINO, -w a - r, with its terms: agreement between views (a), coding rate of the features (r).

    Args:
        student: (S, B, d), of unit length, the views that the teacher sees first. teacher: (V, B, d), S >= V, S >= 2;
            no gradient reaches it. Computed in float32 (float64 when given), whatever surrounds it.
        epsilon_squared: eps^2, the *square* of the `epsilon` of `coding_rate`, > 0.
        alignment_weight: w >= 0.
        rate_of: "student", or "mean" of student and teacher (the published code's `expa_type` 0 and 1).
        rate_gamma: "paper" is 1/d + 1/(W B); "per_dimension" is 1/d.
        rate_gather: over the W processes. "all": the rate of all W B features (`reduce_cov` 1; each process holds as
            many, and its gradient is W times as large, because distributed training takes the mean). "local": that of
            this process's B features, at W eps^2 and with the gamma of W B, as published (`reduce_cov` 0). "none":
            as if there were no other process. Equal where W = 1.
        normalize_alignment: scale to unit length (again) in the alignment, as SimDINO does; SimDINOv2 takes the plain
            product. For unit features the values are the same, and the gradients differ along the features alone.

    Raises:
        ValueError: shapes that do not fit, a number out of its range, an unknown choice.

    Example:
        >>> same, spread = torch.eye(3)[[0, 0, 0]], torch.eye(3)
        >>> terms = [distillation_terms(views.expand(2, 3, 3), views.expand(2, 3, 3)) for views in (same, spread)]
        >>> [round(term.alignment.item(), 4) for term in terms], bool(terms[0].rate < terms[1].rate)
        ([1.0, 1.0], True)

    Source: arXiv 2502.10385.
    """
    _check_shapes(student, teacher)
    _check_options(epsilon_squared, alignment_weight, rate_of, rate_gamma, rate_gather)
    student, teacher = (
        views if views.dtype == torch.float64 else views.float() for views in (student, teacher.detach())
    )
    alignment = _alignment(student, teacher, normalize_alignment)
    features = student[: len(teacher)]
    features = features if rate_of == "student" else (features + teacher) / 2  # (V, B, d)
    processes = 1 if rate_gather == "none" else _processes()
    count, width = processes * features.shape[1], features.shape[2]  # W B, d
    if rate_gather == "all":
        features = of_all_processes(features.transpose(0, 1)).transpose(0, 1)  # (V, W B, d)
    gamma = 1 / width + (1 / count if rate_gamma == "paper" else 0)
    rate = gamma * half_logdet(features, width / (count * epsilon_squared)).mean()
    return DistillationTerms(-alignment_weight * alignment - rate, alignment, rate)


def coding_rate_distillation(student: Tensor, teacher: Tensor, **options: Any) -> Tensor:
    """The loss of SimDINO (), -w a - r; arguments, their defaults and errors as in `distillation_terms`.

    Example:
        >>> views = torch.eye(3).expand(2, 3, 3)
        >>> loss = coding_rate_distillation(views, views, epsilon_squared=0.05, alignment_weight=1.0, rate_of="mean")
        >>> bool(loss < -1)  # of which the alignment makes 1
        True

    Source: arXiv 2502.10385.
    """
    return distillation_terms(student, teacher, **options).loss


def of_all_processes(features: Tensor) -> Tensor:
    """The features (B, ...) of every process as one batch (W B, ...); each process holds as many.

    Gradients reach this process's own rows, W times as large, because distributed training then takes the mean over W.
    """
    if _processes() == 1:
        return features
    parts = [torch.empty_like(features) for _ in range(_processes())]
    distributed.all_gather(parts, features.detach().contiguous())
    parts[distributed.get_rank()] = features.detach() + len(parts) * (features - features.detach())
    return torch.cat(parts)


def _processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _alignment(student: Tensor, teacher: Tensor, normalize: bool) -> Tensor:
    """a (): the mean of <z_t, z_s> over t != s and the batch."""
    if normalize:
        student, teacher = normalize_tokens(student), normalize_tokens(teacher)
    agreement = (teacher.unsqueeze(1) * student).sum(dim=-1).mean(dim=-1)  # (V, S)
    return (agreement.sum() - agreement.diagonal().sum()) / (agreement.numel() - len(agreement))


def _check_shapes(student: Tensor, teacher: Tensor) -> None:
    shapes = tuple(student.shape), tuple(teacher.shape)
    fits = student.ndim == teacher.ndim == 3 and student.shape[1:] == teacher.shape[1:] and 0 not in student.shape
    if not (fits and len(student) >= max(2, len(teacher)) and len(teacher) >= 1):
        raise UserError(
            "expected student (S, B, d) and teacher (V, B, d) with S >= 2, S >= V >= 1 and at least one picture, got "
            f"{shapes[0]} and {shapes[1]}: put one view after the other, the teacher's views first"
        )


def _check_options(epsilon_squared: float, weight: float, rate_of: str, rate_gamma: str, rate_gather: str) -> None:
    if not (epsilon_squared > 0 and math.isfinite(epsilon_squared)):
        raise UserError(f"epsilon_squared must be finite and positive, got {epsilon_squared}")
    if not (weight >= 0 and math.isfinite(weight)):
        raise UserError(f"alignment_weight must be finite and >= 0, got {weight}")
    choices = {"rate_of": (rate_of, RateOf), "rate_gamma": (rate_gamma, RateGamma)}
    for name, (value, known) in {**choices, "rate_gather": (rate_gather, RateGather)}.items():
        if value not in get_args(known):
            raise UserError(f"{name} must be one of {', '.join(get_args(known))}, got {value!r}")


__all__ = [
    "DistillationTerms",
    "RateGamma",
    "RateGather",
    "RateOf",
    "coding_rate_distillation",
    "distillation_terms",
    "of_all_processes",
]
