"""What a recipe may say to self-distillation about the crops of a picture, the teacher, the head and the loss."""

from dataclasses import dataclass, fields

from ...errors import UserError
from ..checks import RecipeError
from ..limits import Limits
from ..options import TrainOptions, default_of, option
from .declaration import TaskDeclaration
from .images import AREA_SHARES, COLOR_JITTER, ImageData, check_images

_SHARE = Limits(0, 1)
_AT_LEAST_0, _AT_LEAST_1 = Limits(0), Limits(1)
_POSITIVE = Limits(positive=True)


@dataclass
class SelfDistillationData(ImageData):
    """The options of the `data` section: the student sees all crops of a picture, the teacher only the global ones.

    Attributes:
        global_crops: the number of global crops of a picture. local_crops: the number of local crops of a picture.
        global_crop_scale: [smallest, largest] share of the picture's area that a global crop takes.
        local_crop_scale: [smallest, largest] share of the picture's area that a local crop takes.
        local_crop_size: side of a local crop in pixels; None is 3/7 of the image's size.
        color_jitter: strength of the change of colours in four crops of five: brightness and contrast of 0.4 times
            this, saturation of 0.2, hue of 0.1 times this.
        grayscale: probability with which a crop is made grey. gaussian_blur: probability with which a crop is blurred.
        solarize: probability with which a crop is solarised.
    """

    global_crops: int = option(2, Limits(2))
    local_crops: int = option(6, _AT_LEAST_0)
    global_crop_scale: list[float] = option([0.4, 1.0], AREA_SHARES)
    local_crop_scale: list[float] = option([0.05, 0.4], AREA_SHARES)
    local_crop_size: int | None = option(None, _AT_LEAST_1)
    color_jitter: float = option(0.0, COLOR_JITTER)  # a tenth is a share of the colour circle, half of it at most
    grayscale: float = option(0.0, _SHARE)
    gaussian_blur: float = option(0.0, _SHARE)
    solarize: float = option(0.0, _SHARE)


@dataclass
class SelfDistillationTrain(TrainOptions):
    """The options of the `train` section.

    Attributes:
        teacher_momentum: share of the teacher that a step keeps, at the beginning of the run; it rises to 1.
        teacher_temperature: of the teacher's softmax over the prototypes.
        student_temperature: of the student's softmax over the prototypes.
        warmup_teacher_temperature: the teacher's temperature at the beginning; it reaches `teacher_temperature` after
            `warmup_teacher_temperature_epochs`.
        warmup_teacher_temperature_epochs: epochs in which the teacher's temperature changes.
        weight_decay_end: the weight decay at the end of the run; None keeps that of the beginning.
        freeze_last_layer_epochs: epochs in which the prototypes are not trained.
        prototypes: the number of outputs of the head. head_hidden_size: the width of the head's hidden layers.
        head_bottleneck_size: the width of the features before the prototypes; of simdino, of its output.
        head_batch_norm: whether the head has batch normalisation.
        self_distillation_loss: what is minimised: "dino", against collapse by centring and sharpening; "coding_rate" or
            "simdino", by the coding rate of the features.
        rate_weight: of coding_rate, the weight of the rate.
        rate_epsilon_squared: of simdino, the square of the rate's precision; None is 0.05.
        rate_of: of simdino, whose features the rate is of, the student's alone or the mean over student and teacher;
            None is mean.
        rate_gamma: of simdino, the weight of the rate, 1/d + 1/(W B) of the paper or 1/d; None is paper.
        rate_gather: of simdino, whose features the rate is of: those of all processes; of the own one, weighed as if of
            all ("local"); or of the own one as if it were alone ("none"). None is all.
        alignment_weight: of simdino, the weight of the term that brings student and teacher together; None is 1.
    """

    teacher_momentum: float = option(0.996, _SHARE)
    teacher_temperature: float = option(0.04, _POSITIVE)
    warmup_teacher_temperature: float = option(0.04, _POSITIVE)
    warmup_teacher_temperature_epochs: float = option(0.0, _AT_LEAST_0)
    student_temperature: float = option(0.1, _POSITIVE)
    weight_decay_end: float | None = option(None, _AT_LEAST_0)
    freeze_last_layer_epochs: float = option(1.0, _AT_LEAST_0)
    prototypes: int = option(4096, _AT_LEAST_1)
    head_hidden_size: int = option(2048, _AT_LEAST_1)
    head_bottleneck_size: int = option(256, _AT_LEAST_1)
    head_batch_norm: bool = False
    self_distillation_loss: str = option("dino", Limits(choices=("dino", "coding_rate", "simdino")))
    rate_weight: float = option(1.0, _AT_LEAST_0)
    rate_epsilon_squared: float | None = option(None, _POSITIVE)
    rate_of: str | None = option(None, Limits(choices=("student", "mean")))
    rate_gamma: str | None = option(None, Limits(choices=("paper", "per_dimension")))
    rate_gather: str | None = option(None, Limits(choices=("all", "local", "none")))
    alignment_weight: float | None = option(None, _AT_LEAST_0)


# option of simdino -> the keyword of `objective.coding_rate_distillation` that it is
SIMDINO_OPTIONS = {
    "rate_epsilon_squared": "epsilon_squared",
    "rate_of": "rate_of",
    "rate_gamma": "rate_gamma",
    "rate_gather": "rate_gather",
    "alignment_weight": "alignment_weight",
}
_OF_PROTOTYPES = (
    *("prototypes", "freeze_last_layer_epochs", "student_temperature", "teacher_temperature"),
    *("warmup_teacher_temperature", "warmup_teacher_temperature_epochs"),
)
_NOT_OF_SIMDINO = {
    "rate_weight": "the weight of simdino's rate is train.rate_gamma, and train.alignment_weight weighs the other term",
    **dict.fromkeys(_OF_PROTOTYPES, "simdino has no prototypes, so no temperature and no last layer"),
}


def _check(data: SelfDistillationData, train: SelfDistillationTrain) -> None:
    check_images(data, train)
    if train.ema_decay is not None:
        raise UserError("train.ema_decay does not apply: the teacher is the average (train.teacher_momentum)")
    _check_loss(train)


def _check_loss(train: SelfDistillationTrain) -> None:
    """Refuse what the loss does not read; only dino and coding_rate may share a recipe, to be run with either."""
    loss = train.self_distillation_loss
    reasons = dict.fromkeys(SIMDINO_OPTIONS, f"it is of train.self_distillation_loss = simdino, and the loss is {loss}")
    for declared in fields(train):
        reason = (_NOT_OF_SIMDINO if loss == "simdino" else reasons).get(declared.name)
        if reason is not None and getattr(train, declared.name) != default_of(declared):
            key = f"train.{declared.name}"
            raise RecipeError(
                key, f"{key} does not apply: {reason}; leave it out, or start from the recipe simdino-digits"
            )


def _too_long(train: SelfDistillationTrain, steps: int, steps_per_epoch: int) -> list[str]:
    """Notes about the two phases at the beginning, counted in epochs, that a short run never leaves."""
    lines: list[str] = []
    if train.self_distillation_loss != "dino":
        return lines
    if train.freeze_last_layer_epochs * steps_per_epoch >= steps:
        lines.append(
            f"train.freeze_last_layer_epochs = {train.freeze_last_layer_epochs:g} is as long as the run of {steps} "
            "steps: the prototypes are never trained"
        )
    warms_up = train.warmup_teacher_temperature != train.teacher_temperature
    if warms_up and train.warmup_teacher_temperature_epochs * steps_per_epoch > steps:
        lines.append(
            f"train.warmup_teacher_temperature_epochs = {train.warmup_teacher_temperature_epochs:g} is longer than "
            f"the run of {steps} steps: train.teacher_temperature is never reached"
        )
    return lines


_SEEN_THROUGH_CROPS = "data.crop and data.random_erasing do not apply: pictures are seen through data.global_crops"
_NO_LABELS = "train.mixup_alpha, cutmix_alpha and label_smoothing_factor need labels: leave them out"

TASK = TaskDeclaration(
    runs="crate_transformers.training.tasks.self_distillation:SelfDistillationTask",
    data=SelfDistillationData,
    train=SelfDistillationTrain,
    refuses={
        "data.crop": _SEEN_THROUGH_CROPS,
        "data.random_erasing": _SEEN_THROUGH_CROPS,
        "train.mixup_alpha": _NO_LABELS,
        "train.cutmix_alpha": _NO_LABELS,
    },
    check=_check,
    too_long=_too_long,
)

__all__ = ["SIMDINO_OPTIONS", "TASK", "SelfDistillationData", "SelfDistillationTrain"]
