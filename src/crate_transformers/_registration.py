"""Registers CRATE with transformers' Auto classes and pipelines, timm and PEFT, at the moment those are first loaded.

transformers loads its parts when they are used; `AutoModel` alone takes seconds. Registering on import would pull all
of that in, so the registration waits for the modules that hold the Auto classes and the pipelines, and for timm's
models.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from .configuration.families import MODEL_FAMILIES

if TYPE_CHECKING:  # what importlib.abc brings takes longer than the rest of this package's import
    from importlib.abc import Loader


def _register_configurations() -> None:
    from transformers import AutoConfig

    for family in MODEL_FAMILIES.values():
        config = family.config_class()
        AutoConfig.register(config.model_type, config, exist_ok=True)


# transformers keeps its checkpointed layer beside the Auto classes, so these two load them on their way
_THROUGH = ("transformers.modeling_layers", "crate_transformers.layers")
_loading: set[str] = set()


def _register_models() -> None:
    if not _loading.intersection(_THROUGH):  # else at the end of the last of them
        importlib.import_module("crate_transformers.models")


def _register_pipelines() -> None:
    importlib.import_module("crate_transformers.models.question_answering").register_pipeline()


def _register_timm() -> None:
    importlib.import_module("crate_transformers.timm")


# what PEFT's own LoraConfig() adapts in the models that it knows by their type
_LORA_TARGETS = [
    "attention.subspaces",
    "attention.queries",
    "attention.keys",
    "attention.projection",
    "attention.output",
]


def _register_adapters() -> None:
    table = sys.modules["peft.utils.constants"].TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    for family in MODEL_FAMILIES.values():
        table.setdefault(family.config_class().model_type, list(_LORA_TARGETS))


_ON_LOAD: dict[str, Callable[[], None]] = {
    "transformers.models.auto.configuration_auto": _register_configurations,
    "transformers.models.auto.modeling_auto": _register_models,
    **dict.fromkeys(_THROUGH, _register_models),
    "transformers.pipelines": _register_pipelines,
    "timm.models": _register_timm,
    "peft.utils.constants": _register_adapters,
}


class _ThenCall:
    """A module's own loader, followed by a call."""

    def __init__(self, loader: "Loader", call: Callable[[], None]):
        self.loader, self.call = loader, call

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        _loading.add(module.__name__)
        try:
            self.loader.exec_module(module)
        finally:
            _loading.discard(module.__name__)
        self.call()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


class _Finder:
    """Finds the awaited modules where they are, and lets `_ThenCall` load them."""

    def __init__(self) -> None:
        self.waiting = dict(_ON_LOAD)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        call = self.waiting.pop(fullname, None)
        if call is None:
            return None
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _ThenCall(spec.loader, call))
        return spec


def register_when_loaded() -> None:
    """Register now what is loaded, and the rest as soon as it is."""
    finder = _Finder()
    for name, call in _ON_LOAD.items():
        if name in sys.modules:
            finder.waiting.pop(name)
            call()
    if finder.waiting:
        sys.meta_path.insert(0, finder)


__all__ = ["register_when_loaded"]
