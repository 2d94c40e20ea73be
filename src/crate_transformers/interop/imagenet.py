"""Names of the ImageNet classes, for converted classifiers."""

from typing import Any


def imagenet_labels() -> dict[str, dict[Any, Any]]:
    """id2label and label2id of ImageNet-1k, in the order of the public classifiers."""
    from torchvision.models import ViT_B_16_Weights  # carries the names; kept off the import path

    names = ViT_B_16_Weights.IMAGENET1K_V1.meta["categories"]
    id2label = dict(enumerate(names))
    # two names occur twice (crane, maillot): the first keeps the plain name
    return {"id2label": id2label, "label2id": {name: index for index, name in reversed(id2label.items())}}


__all__ = ["imagenet_labels"]
