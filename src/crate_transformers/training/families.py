"""The model families a recipe can name: CRATE's three and transformers' baselines, each by its configuration."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..configuration import SIZES, CrateConfig, CrateMAEConfig, CrateVisionConfig
from ..errors import UserError

_IMAGE = ("image-classification", "self-distillation")
_TASK_HEADS = ("sequence-classification", "token-classification", "multiple-choice", "question-answering")


@dataclass(frozen=True)
class Family:
    """name: model_type. tasks: what it can be trained for. config: its configuration class, loaded when asked.

    size_prefix: what a bare size name is completed with. mlp_ratio: width of the MLP of a baseline, in widths.
    defaults: fields in which a baseline differs from its configuration class, to be comparable.
    """

    name: str
    tasks: tuple[str, ...]
    config: Callable[[], type]
    size_prefix: str = ""
    mlp_ratio: int = 0
    intermediate_field: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)
    extra_fields: tuple[str, ...] = field(default=("num_labels", "problem_type", "attn_implementation"))

    @cached_property
    def config_class(self) -> Any:
        return self.config()

    @cached_property
    def config_fields(self) -> tuple[str, ...]:
        """Names that the `model` section may hold."""
        names = [name for name in self.config_class.__dataclass_fields__ if not name.startswith("_")]
        attributes = list(getattr(self.config_class, "attribute_map", {}))
        return tuple(dict.fromkeys([*names, *attributes, *self.extra_fields]))

    @property
    def is_baseline(self) -> bool:
        return self.mlp_ratio > 0

    def build_config(self, size: str | None, fields: dict[str, Any]) -> Any:
        """The configuration of a size with fields overridden.

        Raises:
            ValueError: an unknown size, or fields that do not fit.
        """
        if not self.is_baseline:
            if size is None:
                return self.config_class(**fields)
            return self.config_class.from_size(self._size_name(size), **fields)
        if size is not None:
            width = size.rpartition("-")[2]  # "gpt2-base" names the width of a baseline too
            if width not in SIZES:
                raise UserError(f"unknown model.size {size!r}: expected one of {', '.join(SIZES)}")
            fields = {**SIZES[width], **fields}
        fields = {**self.defaults, **fields}
        fields.setdefault(self.intermediate_field, self.mlp_ratio * fields.get("hidden_size", 768))
        return self.config_class(**fields)

    def _size_name(self, size: str) -> str:
        if self.size_prefix and "-" not in size:
            return f"{self.size_prefix}-{size}"
        return size


def _transformers(name: str) -> Callable[[], type]:
    def load() -> type:
        import transformers  # its parts load when they are named

        return getattr(transformers, name)

    return load


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("crate_vision", _IMAGE, lambda: CrateVisionConfig),
        Family("crate_mae", ("masked-image-modeling",), lambda: CrateMAEConfig),
        Family(
            "crate",
            ("masked-language-modeling", "causal-language-modeling", *_TASK_HEADS),
            lambda: CrateConfig,
            size_prefix="bert",
        ),
        Family("vit", _IMAGE, _transformers("ViTConfig"), mlp_ratio=4, intermediate_field="intermediate_size"),
        Family(
            "vit_mae",
            ("masked-image-modeling",),
            _transformers("ViTMAEConfig"),
            mlp_ratio=4,
            intermediate_field="intermediate_size",
        ),
        Family(
            "bert",
            ("masked-language-modeling", *_TASK_HEADS),
            _transformers("BertConfig"),
            mlp_ratio=4,
            intermediate_field="intermediate_size",
        ),
        Family(
            "gpt2",
            ("causal-language-modeling", "sequence-classification", "token-classification"),
            _transformers("GPT2Config"),
            mlp_ratio=4,
            intermediate_field="n_inner",
            # no dropout, as in the decoder shell of CRATE that it is compared with
            defaults={"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
        ),
    )
}

__all__ = ["FAMILIES", "Family"]
