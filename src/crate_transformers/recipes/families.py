"""The model families that a recipe can name: the library's own, and transformers' models as baselines."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from huggingface_hub.errors import StrictDataclassError

from ..configuration import MODEL_FAMILIES, SIZES
from ..errors import UserError
from .checks import type_text
from .model_fields import NOT_SET_HERE, check_baseline, expected_kind

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Family:
    """One model family, as a recipe sees it.

    Attributes:
        name: the model_type. tasks: the tasks that it can be trained for.
        config: gives its configuration class, which is loaded then.
        size_prefix: is put before the name of a size that has no prefix: "bert" makes "bert-tiny" of "tiny".
        mlp_ratio: hidden width of the MLP of a baseline, in widths of the model; 0 for the library's own families.
        intermediate_field: the configuration's field for the hidden width of the MLP.
        defaults: fields in which a baseline differs from its configuration class, to be comparable.
        extra_fields: fields that the `model` section may hold beside those of the configuration class.
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
    def config_class(self) -> Any:  # `from_size` is of our own classes alone
        """The configuration class."""
        return self.config()

    @cached_property
    def config_fields(self) -> tuple[str, ...]:
        """The names of the configuration that the `model` section may hold."""
        names = [f.name for f in fields(self.config_class) if not f.name.startswith("_") and f.name not in NOT_SET_HERE]
        attributes = list(getattr(self.config_class, "attribute_map", {}))
        return tuple(dict.fromkeys([*names, *attributes, *self.extra_fields]))

    def own_name(self, name: str) -> str:
        """The configuration's own name of a field: GPT-2 calls `hidden_size` n_embd."""
        return getattr(self.config_class, "attribute_map", {}).get(name, name)

    def _own_names(self, values: dict[str, Any]) -> dict[str, Any]:
        return {self.own_name(name): value for name, value in values.items()}

    @property
    def is_baseline(self) -> bool:
        """Whether the family is one of transformers', to compare with."""
        return self.mlp_ratio > 0

    def problem_of_field(self, name: str, value: object) -> str | None:
        """The problem with the kind of a field's value, as "must be int"; None where the value fits."""
        kind = expected_kind(name, value)
        if kind is not None:
            return f"must be {kind}"
        known = self.config_class.__dataclass_fields__.get(self.own_name(name))
        if known is None:  # num_labels, attn_implementation
            return None
        try:
            setattr(self.config_class(), name, value)
        except (StrictDataclassError, TypeError, ValueError):
            return f"must be {type_text(known.type)}"
        return None

    def build_config(self, size: str | None, values: dict[str, Any]) -> "PreTrainedConfig":
        """Build the configuration of a size with fields overridden.

        Raises:
            UserError: the size is unknown, or fields do not fit. The message names the fields without which all others
                fit, else those that the reason names and depends on.
        """
        problem = self._problem(size, values)
        if problem is None:
            return self._configuration(size, values)
        without = {name: (size, {k: v for k, v in values.items() if k != name}) for name in values}
        if size is not None:
            without["size"] = (None, values)
        left = {name: self._problem(*others) for name, others in without.items()}
        culprits = [name for name in left if left[name] is None]
        culprits = culprits or [name for name in left if left[name] != problem and name in problem]
        named = ", ".join(f"model.{name}" for name in culprits) or "the model section of the recipe"
        raise UserError(f"{named}: {problem}")

    def _problem(self, size: str | None, values: dict[str, Any]) -> str | None:
        """Why a configuration cannot be made; None where it can."""
        try:
            self._configuration(size, values)
        except (StrictDataclassError, TypeError, ValueError) as error:
            return next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
        return None

    def _configuration(self, size: str | None, values: dict[str, Any]) -> "PreTrainedConfig":
        if not self.is_baseline:
            if size is None:
                return self.config_class(**values)
            return self.config_class.from_size(self._size_name(size), **values)
        if size is not None:
            width = size.rpartition("-")[2]  # "gpt2-base" names the width of a baseline too
            if width not in SIZES:
                raise UserError(f"unknown model.size {size!r}: expected one of {', '.join(SIZES)}")
            values = {**self._own_names(SIZES[width]), **self._own_names(values)}
        values = {**self.defaults, **self._own_names(values)}
        values.setdefault(self.intermediate_field, self.mlp_ratio * values.get(self.own_name("hidden_size"), 768))
        config = self.config_class(**values)
        check_baseline(config)
        return config

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
        *(Family(own.model_type, own.tasks, own.config_class, own.size_prefix) for own in MODEL_FAMILIES.values()),
        Family(
            "vit",
            MODEL_FAMILIES["crate_vision"].tasks,
            _transformers("ViTConfig"),
            mlp_ratio=4,
            intermediate_field="intermediate_size",
        ),
        Family(
            "vit_mae",
            MODEL_FAMILIES["crate_mae"].tasks,
            _transformers("ViTMAEConfig"),
            mlp_ratio=4,
            intermediate_field="intermediate_size",
        ),
        Family(
            "bert",
            tuple(task for task in MODEL_FAMILIES["crate"].tasks if task != "causal-language-modeling"),
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
