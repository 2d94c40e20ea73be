"""The model families a recipe can name: CRATE's three and transformers' baselines, each by its configuration."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AttentionInterface

from ..configuration import SIZES, CrateConfig, CrateMAEConfig, CrateVisionConfig
from ..configuration.validation import check_patches, check_positive
from ..errors import UserError
from .recipe_checks import type_text

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

    def own_name(self, name: str) -> str:
        """What the configuration itself calls a field: GPT-2 calls `hidden_size` n_embd."""
        return getattr(self.config_class, "attribute_map", {}).get(name, name)

    def _own_names(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {self.own_name(name): value for name, value in fields.items()}

    @property
    def is_baseline(self) -> bool:
        return self.mlp_ratio > 0

    def problem_of_field(self, name: str, value: Any) -> str | None:
        """What is wrong with the kind of one field's value ("must be int"); None where nothing is."""
        if name == "attn_implementation":
            return _problem_of_attention(value)
        if name == "num_labels":
            is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
            return None if is_count else "must be an integer above 0"
        try:
            setattr(self.config_class(), name, value)
        except (StrictDataclassError, TypeError, ValueError) as error:
            known = self.config_class.__dataclass_fields__
            own = self.own_name(name)
            return f"must be {type_text(known[own].type)}" if own in known else _first_line(error)
        return None

    def build_config(self, size: str | None, fields: dict[str, Any]) -> Any:
        """The configuration of a size with fields overridden.

        Raises:
            UserError: an unknown size, or fields that do not fit, with the one to change.
        """
        try:
            return self._configuration(size, fields)
        except (StrictDataclassError, TypeError, ValueError) as error:
            raise UserError(f"{self._culprit(size, fields)}: {_first_line(error)}") from error

    def _culprit(self, size: str | None, fields: dict[str, Any]) -> str:
        """The first part of the model section without which the configuration can be made."""
        attempts = {"size": (None, fields)} if size is not None else {}
        attempts |= {name: (size, {k: v for k, v in fields.items() if k != name}) for name in fields}
        for name, (other_size, others) in attempts.items():
            try:
                self._configuration(other_size, others)
            except (StrictDataclassError, TypeError, ValueError):
                continue
            return f"model.{name}"
        return "the model section of the recipe does not fit"

    def _configuration(self, size: str | None, fields: dict[str, Any]) -> Any:
        if not self.is_baseline:
            if size is None:
                return self.config_class(**fields)
            return self.config_class.from_size(self._size_name(size), **fields)
        if size is not None:
            width = size.rpartition("-")[2]  # "gpt2-base" names the width of a baseline too
            if width not in SIZES:
                raise UserError(f"unknown model.size {size!r}: expected one of {', '.join(SIZES)}")
            fields = {**self._own_names(SIZES[width]), **self._own_names(fields)}
        fields = {**self.defaults, **self._own_names(fields)}
        fields.setdefault(self.intermediate_field, self.mlp_ratio * fields.get(self.own_name("hidden_size"), 768))
        config = self.config_class(**fields)
        _check_baseline(config)
        return config

    def _size_name(self, size: str) -> str:
        if self.size_prefix and "-" not in size:
            return f"{self.size_prefix}-{size}"
        return size


def _problem_of_attention(name: Any) -> str | None:
    """An attention of transformers, or one from a repository of kernels ("owner/name")."""
    known = ("eager", *AttentionInterface().valid_keys())
    is_known = name is None or (isinstance(name, str) and ("/" in name or name in known))
    return None if is_known else f"must be one of {', '.join(known)}"


def _check_baseline(config: Any) -> None:
    """What our own configurations check too: sizes above zero, heads that divide the width, patches the image."""
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "n_inner")
    for prefix in ("", "decoder_"):
        names = [prefix + name for name in (*sizes, "max_position_embeddings") if hasattr(config, prefix + name)]
        check_positive(config, *names)
        if not names:
            continue
        width, heads = (getattr(config, f"{prefix}{name}") for name in ("hidden_size", "num_attention_heads"))
        if width % heads:
            raise UserError(
                f"{prefix}hidden_size ({width}) is not a multiple of {prefix}num_attention_heads ({heads}): change one "
                "of them"
            )
    if hasattr(config, "patch_size"):
        check_patches(config)


def _first_line(error: Exception) -> str:
    return str(error.__cause__ or error).splitlines()[0] if str(error) else type(error).__name__


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
