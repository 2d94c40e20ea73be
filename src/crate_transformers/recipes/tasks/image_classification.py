"""What a recipe may say to image classification: crops, mixing of pictures, smoothing of labels."""

from dataclasses import dataclass

from ..limits import Limits
from ..options import TrainOptions, option
from .declaration import TaskDeclaration
from .images import CroppedImageData, check_images


@dataclass
class ImageClassificationTrain(TrainOptions):
    """The options of the `train` section.

    Attributes:
        mixup_alpha: of the Beta distribution from which the share of each of two blended pictures is drawn; 0 is off.
        cutmix_alpha: of the Beta distribution from which the share of a picture that another one covers is drawn; 0 is
            off.
    """

    mixup_alpha: float = option(0.0, Limits(0), after="ema_decay")
    cutmix_alpha: float = option(0.0, Limits(0), after="mixup_alpha")


TASK = TaskDeclaration(
    runs="crate_transformers.training.tasks.image_classification:ImageClassification",
    data=CroppedImageData,
    train=ImageClassificationTrain,
    arguments={"label_smoothing_factor": Limits(0, 1)},
    check=check_images,
)

__all__ = ["TASK", "ImageClassificationTrain"]
