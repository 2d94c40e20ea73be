"""Self-distillation: a student learns to say of every crop what its own moving average says of the large ones.

    DINO:         loss = mean over t, s of  -P_t(x_t) log P_s(x_s),  P_t = softmax((g_t(x) - c) / tau_t)  [D, eq. 2, 3]
    coding rate:  loss = mean over t, s of  1/2 ||z_s - z_t||^2  -  gamma R(Z_s) / d                      [after S]
    SimDINO:      loss = -w mean over t, s of <z_t, z_s>  -  (1/d + 1/(W B)) R((Z_s + Z_t) / 2)           [S]
    teacher <- m teacher + (1 - m) student

t runs over the global crops, s over all crops but the same one. In the last two there are no prototypes, no centre and
no temperature: what keeps the features from collapsing is their own coding rate R (the `objective` of this project),
which is 0 nats for one repeated direction only up to precision and largest for features in all directions.

SimDINO is as published (objective/distillation.py). The form before it is the library's own: features of the student
alone, a precision of 0.5, and a weight in place of 1 + d/(W B); it is 1 + SimDINO's loss for `epsilon_squared=0.25`,
`rate_of="student"`, `rate_gamma="per_dimension"` and a weight of 1.

Student and teacher are one module: a checkpoint holds both, a resumed run continues both, and distributed training
sees one forward pass in which every parameter that is trained takes part.

Shapes: B batch, G global crops, L local crops, C channels, H x W pixels, d width of the head's output, P prototypes.

[D] arXiv 2104.14294. [S] arXiv 2502.10385. Where we differ from [S]: an evaluation takes the rate of one process's
batch, as if there were no other process. The head of `coding_rate` starts as torch's layers do.
"""

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..errors import MissingPackageError, UserError
from ..objective import DistillationTerms, coding_rate, distillation_terms
from ..objective.distillation import of_all_processes
from ..upstream import ModelOutput
from .modeling_crate_vision import CrateVisionModel

SelfDistillationLoss = Literal["dino", "coding_rate", "simdino"]
FeatureLoss = Callable[..., DistillationTerms]  # `distillation_terms`, with some of its options set
_EPSILON = 0.5  # precision of the rate of unit features


@dataclass
class SelfDistillationOutput(ModelOutput):
    """loss (); features (B, d_model) of whole pictures, where they were given; the others are (B,) of one number:

    teacher_entropy: nats. DINO: mean entropy of P_t; else: entropy of the spectrum of the teacher's features.
    teacher_information: how much the teacher's output tells pictures apart, as a share of what the batch allows, in
    [0, 1]: (H(mean P_t) - mean H(P_t)) / ln min(views, P), or the entropy of the spectrum / ln min(views, d). It is 0
    in every collapse: all mass on one prototype, the same uniform output for all, one direction for all.
    alignment, rate: the two terms of SimDINO's loss; None with another loss.
    """

    loss: Tensor | None = None
    features: Tensor | None = None
    teacher_entropy: Tensor | None = None
    teacher_information: Tensor | None = None
    alignment: Tensor | None = None
    rate: Tensor | None = None


class SelfDistillation(nn.Module):
    """Student and momentum teacher, each a backbone with a head.

    Args:
        backbone: CrateVisionModel or ViTModel; becomes the student. The teacher starts as its copy.
        loss: "dino" (head and loss of lightly, the extra [ssl]), "coding_rate", or "simdino"; for options of SimDINO's
            loss, a function in its place: `partial(distillation_terms, epsilon_squared=0.5)`.
        prototypes, hidden_size, bottleneck_size: P and the widths of the head; the last is d without prototypes.
        head_batch_norm: BatchNorm in the head, which takes away what all pictures have in common; its statistics are
            those of one process's batch.
        student_temperature: tau_s. rate_weight: gamma of "coding_rate".

    Attributes:
        teacher_temperature: tau_t, set by whoever schedules it.
        latest: the numbers of `SelfDistillationOutput` but the loss, of the last batch in training.

    Raises:
        ValueError: a loss that is not known, or fewer than two crops.
        ImportError: lightly is missing.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        loss: SelfDistillationLoss | FeatureLoss = "dino",
        prototypes: int = 4096,
        hidden_size: int = 2048,
        bottleneck_size: int = 256,
        head_batch_norm: bool = False,
        student_temperature: float = 0.1,
        rate_weight: float = 1.0,
    ):
        super().__init__()
        self.feature_loss: FeatureLoss = loss if callable(loss) else distillation_terms
        self.kind = "simdino" if callable(loss) else loss
        if self.kind not in get_args(SelfDistillationLoss):
            raise UserError(f"loss must be one of {', '.join(get_args(SelfDistillationLoss))}, got {loss!r}")
        if getattr(backbone, "pooler", None) is not None:
            backbone.register_module("pooler", None)  # ViT's pooler is not read here, and would have no gradient
        self.rate_weight, self.teacher_temperature = rate_weight, 0.04
        self._latest: dict[str, Tensor] = {}
        width: int = backbone.config.hidden_size
        self.student_backbone = backbone
        self.teacher_backbone = copy.deepcopy(backbone)
        self.criterion: nn.Module | None = None
        if self.kind == "dino":
            DINOLoss, head = _lightly()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the head's weight normalisation is torch's older one
                sizes = (width, hidden_size, bottleneck_size, prototypes)
                heads = [head(*sizes, batch_norm=head_batch_norm) for _ in range(2)]
            self.student_head, self.teacher_head = heads
            self.criterion = DINOLoss(prototypes, student_temp=student_temperature, warmup_teacher_temp_epochs=0)
        else:
            projection = _projection if self.kind == "coding_rate" else _unit_projection
            self.student_head = projection(width, hidden_size, bottleneck_size, head_batch_norm)
            self.teacher_head = projection(width, hidden_size, bottleneck_size, head_batch_norm)
        self.teacher_head.load_state_dict(self.student_head.state_dict())
        for part in (self.teacher_backbone, self.teacher_head):
            part.requires_grad_(False)

    @property
    def model(self) -> PreTrainedModel:
        """What is kept and measured: the student's backbone."""
        return self.student_backbone

    @property
    def device(self) -> torch.device:
        return self.student_backbone.device

    @property
    def latest(self) -> dict[str, float]:
        return {name: value.item() for name, value in self._latest.items()}

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """teacher <- momentum * teacher + (1 - momentum) * student."""
        for teacher, student in (
            (self.teacher_backbone, self.student_backbone),
            (self.teacher_head, self.student_head),
        ):
            for of_teacher, of_student in zip(teacher.parameters(), student.parameters(), strict=True):
                _here(of_teacher).lerp_(_here(of_student), 1 - momentum)

    def freeze_last_layer(self) -> None:
        """Drop the gradient of the prototypes, for this step; without prototypes nothing is dropped."""
        if self.kind == "dino":
            for parameter in self.student_head.last_layer.parameters():
                parameter.grad = None

    def forward(
        self,
        global_crops: Tensor,
        local_crops: Tensor | None = None,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> SelfDistillationOutput:
        """The loss of a batch of crops.

        Args:
            global_crops: (B, G, C, H, W), G >= 2. local_crops: (B, L, C, h, w), or none.
            pixel_values: (B, C, H, W), whole pictures whose student features are wanted. labels: not read; evaluation
                carries them through.

        Raises:
            ValueError: fewer than two global crops.
        """
        if global_crops.ndim != 5 or global_crops.shape[1] < 2:
            raise UserError(
                "self-distillation needs at least two global crops a picture, got global_crops of shape "
                f"{tuple(global_crops.shape)}: expected (batch, 2 or more, channels, height, width)"
            )
        with torch.no_grad():
            teacher = _views(self.teacher_backbone, self.teacher_head, global_crops)  # G of (B, d or P)
        student = _views(self.student_backbone, self.student_head, global_crops)
        if local_crops is not None and local_crops.shape[1]:
            student = student + _views(self.student_backbone, self.student_head, local_crops)
        loss, terms = self._loss(teacher, student)
        entropy, information = self._statistics(torch.cat(teacher))
        numbers = {"teacher_entropy": entropy, "teacher_information": information, **terms}
        if self.training:
            self._latest = numbers  # tensors: no wait for the device until they are logged
        return SelfDistillationOutput(
            loss=loss,
            features=None if pixel_values is None else pooled(self.student_backbone, pixel_values),
            **{name: number.expand(len(global_crops)) for name, number in numbers.items()},
        )

    def _loss(self, teacher: list[Tensor], student: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its terms, where they have a name."""
        if self.kind == "dino":
            return self._distill(teacher, student), {}
        if self.kind == "coding_rate":
            return self._align(teacher, student), {}
        alone = {} if self.training else {"rate_gather": "none"}  # the last batches of an evaluation may be unequal
        terms = self.feature_loss(torch.stack(student), torch.stack(teacher), **alone)
        return terms.loss, {"alignment": terms.alignment.detach(), "rate": terms.rate.detach()}

    def _distill(self, teacher: list[Tensor], student: list[Tensor]) -> Tensor:
        assert self.criterion is not None
        center: Any = self.criterion.center
        before = center.clone()
        loss = self.criterion(
            [view.float() for view in teacher], [view.float() for view in student], self.teacher_temperature
        )
        if not self.training:  # an evaluation leaves no trace
            self.criterion.center.data = before
        return loss

    def _align(self, teacher: list[Tensor], student: list[Tensor]) -> Tensor:
        targets, found = ([F.normalize(view.float(), dim=-1) for view in views] for views in (teacher, student))
        distances = [
            0.5 * (z_s - z_t).square().sum(dim=-1).mean()
            for t, z_t in enumerate(targets)
            for s, z_s in enumerate(found)
            if s != t
        ]
        wholes = [of_all_processes(view) if self.training else view for view in found[: len(targets)]]
        rates = [coding_rate(whole, _EPSILON) / whole.shape[-1] for whole in wholes]  # nats a dimension
        return torch.stack(distances).mean() - self.rate_weight * torch.stack(rates).mean()

    @torch.no_grad()
    def _statistics(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """(entropy in nats, information as a share) of the teacher's outputs (views, d or P)."""
        outputs = outputs.float()
        ceiling = math.log(max(min(outputs.shape), 2))
        if self.kind == "dino":
            assert self.criterion is not None
            center: Any = self.criterion.center
            shares = ((outputs - center.flatten()) / self.teacher_temperature).softmax(dim=-1)
            entropy = _entropy(shares).mean()
            return entropy, (_entropy(shares.mean(dim=0)) - entropy).clamp(min=0) / ceiling
        unit = F.normalize(outputs, dim=-1)
        spectrum = torch.linalg.svdvals(unit).square()
        entropy = _entropy(spectrum / spectrum.sum().clamp(min=1e-12))
        return entropy, entropy.clamp(min=0) / ceiling


def _here(weight: Tensor) -> Tensor:
    """What this process holds of a weight: all of it, or its share, which student and teacher have alike (FSDP2)."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


def pooled(backbone: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """(B, C, H, W) of any size that the patches divide -> (B, d_model): the pooled token, else the class token."""
    reads_one = isinstance(backbone, CrateVisionModel) and backbone.config.pool == "cls"
    arguments = {"num_read": 1} if reads_one else {}
    outputs = backbone(pixel_values=pixel_values, interpolate_pos_encoding=True, **arguments)
    token = outputs.pooler_output
    return outputs.last_hidden_state[:, 0] if token is None else token


def _views(backbone: PreTrainedModel, head: nn.Module, crops: Tensor) -> list[Tensor]:
    """(B, V, C, H, W) -> V of (B, d), in one pass."""
    count = crops.shape[1]
    return list(head(pooled(backbone, crops.transpose(0, 1).flatten(0, 1))).chunk(count))


def _projection(width: int, hidden_size: int, bottleneck_size: int, batch_norm: bool) -> nn.Sequential:
    parts: list[nn.Module] = []
    for inputs in (width, hidden_size):
        norm = [nn.BatchNorm1d(hidden_size)] if batch_norm else []
        parts += [nn.Linear(inputs, hidden_size), *norm, nn.GELU()]
    return nn.Sequential(*parts, nn.Linear(hidden_size, bottleneck_size))


class _UnitProjection(nn.Sequential):
    """(..., d_model) -> (..., d), of unit length, in float32 or wider."""

    def forward(self, tokens: Tensor) -> Tensor:
        features = super().forward(tokens)
        return F.normalize(features if features.dtype == torch.float64 else features.float(), dim=-1)


def _unit_projection(width: int, hidden_size: int, bottleneck_size: int, batch_norm: bool) -> _UnitProjection:
    """SimDINO's head: the same layers from a truncated normal distribution, and an output of unit length [S]."""
    head = _UnitProjection(*_projection(width, hidden_size, bottleneck_size, batch_norm))
    for part in head:
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
    return head


def _entropy(shares: Tensor) -> Tensor:
    return -torch.xlogy(shares, shares).sum(dim=-1)


def _lightly() -> tuple[Any, Any]:
    try:
        from lightly.loss import DINOLoss  # an extra, and heavy
        from lightly.models.modules import DINOProjectionHead
    except ImportError as error:
        raise MissingPackageError(
            "self-distillation with prototypes needs lightly: pip install 'crate-transformers[ssl]', or choose "
            "train.self_distillation_loss=coding_rate or the recipe simdino-digits, which need nothing more"
        ) from error
    return DINOLoss, DINOProjectionHead


__all__ = ["FeatureLoss", "SelfDistillation", "SelfDistillationLoss", "SelfDistillationOutput", "pooled"]
