"""What a layout is: how a checkpoint of it is recognised, what its names are here, what its shapes say.

A name of the checkpoint is matched whole against the patterns of its layout; a name that no pattern matches is an error
of the checkpoint, not something to drop.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ...errors import UserError

StateDict = Mapping[str, Tensor]
_COUNTER = ".num_batches_tracked"  # of a BatchNorm: the one tensor of whole numbers that is kept


@dataclass(frozen=True)
class Layout:
    """A public layout.

    names: pattern -> our name. ignored: patterns of tensors that carry no parameter, with the reason.
    layers: what the names of a stack of layers begin with; the group is the number of the layer.
    fields: state dict and extras -> config fields. model_class: state dict -> class.
    transform: our name and the checkpoint's tensor -> the tensor as it is here.
    image_labels: whether a head of 1000 classes is ImageNet's, so that they get their names.
    assumes: what a file of the layout does not say, how it is taken, and the fields that say otherwise.
    sizes: whose table of sizes gives the heads of a width, a prefix of SIZE_FAMILIES.
    subspaces: the names that end so hold U. sizes_from: tensors from whose shapes a configuration is inferred, each
    with its number of axes.
    """

    name: str
    is_layout: Callable[[StateDict], bool]
    names: dict[str, str]
    config_class: type[PreTrainedConfig]
    fields: Callable[[StateDict, Mapping[str, Any]], dict[str, Any]]
    model_class: Callable[[StateDict], type[PreTrainedModel]]
    layers: tuple[str, ...]
    subspaces: str
    sizes_from: dict[str, int]
    ignored: dict[str, str] = field(default_factory=dict)
    transform: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor
    image_labels: bool = False
    sizes: str = ""
    assumes: str = ""
    check: Callable[[StateDict, PreTrainedConfig], None] = lambda state, config: None

    def translate(self, state: StateDict) -> tuple[dict[str, Tensor], list[str]]:
        """Tensors under our names, and a line for each that is left out.

        Raises:
            ValueError: a name that is not one of this layout's, two names of one tensor, a tensor of whole numbers.
        """
        translated: dict[str, Tensor] = {}
        sources: dict[str, str] = {}
        notes: list[str] = []
        for name, tensor in state.items():
            reason = self._reason_to_drop(name)
            if reason is not None:
                notes.append(f"{name} is dropped: {reason}")
                continue
            ours = _rename(name, self.names)
            if ours is None:
                raise UserError(f"unexpected key {name[:200]!r} in a checkpoint of the {self.name} layout")
            if ours in translated:
                raise UserError(f"the checkpoint holds a tensor twice, as {sources[ours]} and as {name}: leave one out")
            if not tensor.is_floating_point() and not ours.endswith(_COUNTER):
                raise UserError(f"{name} is of whole numbers ({tensor.dtype}): expected floating-point numbers")
            sources[ours] = name
            try:
                translated[ours] = self.transform(ours, tensor)
            except (RuntimeError, IndexError) as error:  # it has other axes than such a tensor has
                raise UserError(f"misshapen key {name!r} in the checkpoint: {tuple(tensor.shape)}") from error
        return translated, notes

    def check_layers(self, state: StateDict) -> None:
        """Refuse a stack with gaps: its layers count from 0, and each has the tensors that the others have.

        Raises:
            ValueError: a layer, or a tensor of a layer, is missing; it is named.
        """
        for pattern in self.layers:
            stack: dict[str, set[str]] = {}
            before, after = "", "."
            for name in state:
                match = re.match(pattern, name)
                if match and self._reason_to_drop(name) is None:
                    before, after = name[: match.start(1)], name[match.end(1) : match.end()]
                    stack.setdefault(match[1], set()).add(name[match.end() :])
            everything = set().union(*stack.values())
            for number in range(len(stack)):
                lost = sorted(everything - stack.get(str(number), set()))
                if len(lost) == len(everything):
                    others = ", ".join(name[:20] for name in sorted(stack, key=lambda name: (len(name), name))[-2:])
                    raise UserError(
                        f"missing in the checkpoint: layer {number}, {before}{number}{after}*; it holds {others}"
                    )
                if lost:
                    first = f"{before}{number}{after}{lost[0]}"
                    raise UserError(f"missing in the checkpoint: {first}, which other layers have")

    def _reason_to_drop(self, name: str) -> str | None:
        return next((why for pattern, why in self.ignored.items() if re.fullmatch(pattern, name)), None)

    def public_name(self, ours: str) -> str:
        """The name that a checkpoint of this layout gives to one of our tensors."""
        return _rename(ours, dict(map(_invert, self.names.items()))) or ours


def _rename(name: str, names: Mapping[str, str]) -> str | None:
    for pattern, template in names.items():
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(template)
    return None


def _invert(rule: tuple[str, str]) -> tuple[str, str]:
    """A rule (pattern, template) read from right to left; its groups are flat, its optional parts are present."""
    pattern, template = rule[0].replace("(?:crate\\.)?", "crate\\."), re.escape(rule[1])
    for number, group in enumerate(re.findall(r"\([^()]*\)", pattern), start=1):
        pattern = pattern.replace(group, rf"\g<{number}>", 1)
        template = template.replace(rf"\\{number}", f"(?P<g{number}>{group[1:-1]})", 1)
        pattern = pattern.replace(rf"\g<{number}>", rf"\g<g{number}>", 1)
    return template, pattern.replace(r"\.", ".")


__all__ = ["Layout", "StateDict"]
