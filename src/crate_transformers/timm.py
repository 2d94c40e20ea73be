"""The image classifiers of the library under timm's names: `timm.create_model("crate_tiny_patch16_224")`.

`import crate_transformers` is enough, before or after timm is imported: this module is loaded with `timm.models`, and
never imports more than tables. The model itself, and all that it needs, comes when one is created
(`interop/doors/timm.py`).

Example:
    >>> import timm
    >>> timm.list_models("crate_[tl]*")
    ['crate_large_patch16_224', 'crate_tiny_patch16_224']
    >>> model = timm.create_model("cbt_tiny_patch16_224", img_size=32, patch_size=8, num_classes=7, depth=2)
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 7])
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .configuration.families import MODEL_FAMILIES
from .configuration.published import PUBLISHED, published_evaluation
from .configuration.sizes import SIZE_FAMILIES, TOST_VISION_SIZES, size_fields
from .errors import MissingPackageError

try:
    from timm.models import register_model
except ImportError as error:
    raise MissingPackageError('crate_transformers.timm needs timm: pip install "crate-transformers[timm]"') from error

if TYPE_CHECKING:
    from torch import nn

_IMAGE, _PATCH = 224, 16
_CLASSES = 1000
_PATCHES = "crate.embeddings.patch_embeddings"

# (family, prefix of its sizes) -> what a name in timm begins with
STEMS = {
    ("crate_vision", ""): "crate",
    ("crate_vision", "alpha"): "crate_alpha",
    ("crate_vision", "cbt"): "cbt",
    ("tost_vision", ""): "tost",
}
# the convolution that reads the image; the patches of CRATE are read by a LayerNorm and a Linear, which timm cannot
# make of other channels
_FIRST_CONVOLUTION = {
    "crate": None,
    "crate_alpha": f"{_PATCHES}.projection",
    "cbt": f"{_PATCHES}.stages.0.convolution",
    "tost": f"{_PATCHES}.stages.0.convolution",
}


@dataclass(frozen=True)
class Variant:
    """A name in timm and the configuration behind it.

    Attributes:
        name: as timm has it. family: a key of MODEL_FAMILIES. size: one of its sizes. fields: beside the size.
        stem: a value of STEMS. paper: number at arXiv.
    """

    name: str
    family: str
    size: str
    stem: str
    paper: str
    fields: dict[str, Any] = field(default_factory=dict)

    def config(self, **fields: object) -> Any:
        """The configuration, with any field overridden.

        Raises:
            ValueError: fields that do not fit each other.
        """
        return MODEL_FAMILIES[self.family].config_class().from_size(self.size, **{**self.fields, **fields})

    def default_cfg(self) -> dict[str, Any]:
        """What timm keeps of a model beside its weights: how a picture is prepared, which modules are its ends.

        The pictures are those of the published evaluations.
        """
        interpolation, crop_fraction = published_evaluation(self.family)
        return {
            "num_classes": _CLASSES,
            "input_size": (3, _IMAGE, _IMAGE),
            "fixed_input_size": self.stem != "tost",
            "crop_pct": crop_fraction,
            "interpolation": interpolation,
            "first_conv": _FIRST_CONVOLUTION[self.stem],
            "classifier": "classifier",
            "paper_ids": f"arXiv:{self.paper}",
        }


def _sizes(family: str) -> dict[str, str]:
    """The sizes of a family, without second names of one size, each with its prefix."""
    found: dict[str, str] = {}
    seen: list[dict[str, Any]] = []
    for size in MODEL_FAMILIES[family].sizes:
        prefix = size.rpartition("-")[0]
        own = TOST_VISION_SIZES if family == "tost_vision" else None
        fields = size_fields(size, tuple(SIZE_FAMILIES)) if own is None else own[size]
        if fields not in seen:
            seen.append(fields)
            found[size] = prefix if (family, prefix) in STEMS else ""
    return found


def _variants() -> dict[str, Variant]:
    found = []
    for family in dict.fromkeys(family for family, _ in STEMS):
        rows = [row for row in PUBLISHED if row.family == family]
        for size, prefix in _sizes(family).items():
            stem = STEMS[family, prefix]
            middle = size.removeprefix(f"{prefix}-" if prefix else "").replace("-", "_")
            paper = next(row.paper for row in rows if row.size.startswith(prefix))
            found.append(Variant(f"{stem}_{middle}_patch{_PATCH}_{_IMAGE}", family, size, stem, paper))
            for row in (row for row in rows if row.size == size and row.fields):
                patch = row.fields.get("patch_size", _PATCH)
                start = stem if set(row.fields) == {"patch_size"} else row.name.lower()
                name = f"{start}_{middle}_patch{patch}_{_IMAGE}"
                found.append(Variant(name, family, size, stem, row.paper, row.fields))
    return {variant.name: variant for variant in found}


VARIANTS = _variants()
default_cfgs = {name: variant.default_cfg() for name, variant in VARIANTS.items()}  # timm reads it by this name


def _entry_point(variant: Variant) -> Callable[..., "nn.Module"]:
    def create(pretrained: bool = False, **keywords: object) -> "nn.Module":
        from .interop.doors.timm import build  # torch and transformers come when a model is wanted

        return build(variant, pretrained, keywords)

    create.__name__ = create.__qualname__ = variant.name
    create.__doc__ = f"{variant.name}: {variant.size} of {variant.family}, arXiv {variant.paper}."
    return create


__all__ = ["STEMS", "VARIANTS", "Variant"]

for _variant in VARIANTS.values():
    globals()[_variant.name] = register_model(_entry_point(_variant))  # timm adds the name to __all__
