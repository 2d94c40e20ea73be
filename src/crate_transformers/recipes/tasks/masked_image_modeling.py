"""What a recipe may say to masked image modelling about the pictures; the model's configuration holds the mask."""

from .declaration import TaskDeclaration
from .images import CroppedImageData, check_images

_NO_LABELS = "train.mixup_alpha and train.cutmix_alpha mix labels, and an autoencoder has none"

TASK = TaskDeclaration(
    runs="crate_transformers.training.tasks.masked_image_modeling:MaskedImageModeling",
    data=CroppedImageData,
    check=check_images,
    refuses={"train.mixup_alpha": _NO_LABELS, "train.cutmix_alpha": _NO_LABELS},
)

__all__ = ["TASK"]
