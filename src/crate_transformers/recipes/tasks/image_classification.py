"""What a recipe may say to image classification: crops, mixing of pictures, smoothing of labels."""

from dataclasses import dataclass

from ..checks import RecipeError
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
        mixup_mode: whether every two neighbours of a batch draw a share of their own ("pair"), or all pictures of a
            batch of a process have one ("batch", as timm's scripts mix; it depends on how many processes there are).
    """

    mixup_alpha: float = option(0.0, Limits(0), after="ema_decay")
    cutmix_alpha: float = option(0.0, Limits(0), after="mixup_alpha")
    mixup_mode: str = option("pair", Limits(choices=("pair", "batch")), after="cutmix_alpha")


def check_classification(data: CroppedImageData, train: ImageClassificationTrain) -> None:
    """Check the options of image classification together.

    Raises:
        RecipeError: as `check_images`, and `mixup_mode` where nothing is mixed.
    """
    check_images(data, train)
    if train.mixup_mode != "pair" and not (train.mixup_alpha or train.cutmix_alpha):
        key = "train.mixup_mode"
        raise RecipeError(key, f"{key} is of mixed pictures: set train.mixup_alpha or train.cutmix_alpha too")


TASK = TaskDeclaration(
    runs="crate_transformers.training.tasks.image_classification:ImageClassification",
    data=CroppedImageData,
    train=ImageClassificationTrain,
    arguments={"label_smoothing_factor": Limits(0, 1)},
    check=check_classification,
)

__all__ = ["TASK", "ImageClassificationTrain"]
