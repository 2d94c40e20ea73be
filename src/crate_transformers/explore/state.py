"""What the page asks: an input, a change, and where to look. Parsed from JSON, everything checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from ..analysis import Edit
from ..errors import UserError
from ..objective.coding_rate import RateMode

MAX_TEXT = 20_000  # characters; what a model's context does not hold is refused later, by its own number
_MAX_LIST = 4096

Which = Literal["model", "other"]


@dataclass(frozen=True)
class State:
    """All that the page shows follows from this.

    Attributes:
        picture: number of a picture, or the name of an upload. text: for a model that reads text.
        painted: numbers of the patches that are painted over with grey.
        edit: what is changed in the model; it changes `which` alone.
        which: "model", or "other", the model beside it. other: which model that is, by name; "" is the first there is,
            "none" is none.
        mode: of the rates, as in `measure_layers`.
        layer, head, token, neuron: where to look, from 0. head None: all heads. neuron None: none.
    """

    picture: int | str = 0
    text: str = ""
    painted: tuple[int, ...] = ()
    edit: Edit = field(default_factory=Edit)
    which: Which = "model"
    other: str = ""
    mode: RateMode = "official"
    layer: int = 0
    head: int | None = None
    token: int = 0
    neuron: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as the JSON that `read_state` takes."""
        edit = self.edit
        return {
            "picture": self.picture,
            "text": self.text,
            "painted": list(self.painted),
            "lambda": {str(layer): value for layer, value in edit.sparsity_weights.items()},
            "eta": {str(layer): value for layer, value in edit.step_sizes.items()},
            "heads_off": [list(pair) for pair in sorted(edit.heads_off)],
            "neurons": [[layer, neuron, value] for (layer, neuron), value in edit.neurons.items()],
            "neurons_of_tokens": None if edit.tokens is None else list(edit.tokens),
            "which": self.which,
            "other": self.other,
            "mode": self.mode,
            "layer": self.layer,
            "head": self.head,
            "token": self.token,
            "neuron": self.neuron,
        }


def read_state(given: object) -> State:
    """The state of a JSON object; what is not given is as in `State`.

    Raises:
        UserError: with the name of what does not fit.
    """
    if not isinstance(given, Mapping):
        raise UserError("a question must be a JSON object")
    known = State().to_dict()
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise UserError(f"unknown field {unknown[0]!r}: expected some of {', '.join(known)}")
    values = {**known, **given}
    return State(
        picture=_picture(values["picture"]),
        text=_text(values["text"]),
        painted=tuple(sorted({_whole(n, "painted") for n in _list(values["painted"], "painted")})),
        edit=_edit(values),
        which=cast(Which, _one_of(values["which"], "which", ("model", "other"))),
        other=_name(values["other"], "other"),
        mode=cast(RateMode, _one_of(values["mode"], "mode", ("official", "paper"))),
        layer=_whole(values["layer"], "layer"),
        head=None if values["head"] is None else _whole(values["head"], "head"),
        token=_whole(values["token"], "token"),
        neuron=None if values["neuron"] is None else _whole(values["neuron"], "neuron"),
    )


def _edit(values: Mapping[str, Any]) -> Edit:
    neurons = [_row(row, "neurons", 3) for row in _list(values["neurons"], "neurons")]
    heads = [_row(row, "heads_off", 2) for row in _list(values["heads_off"], "heads_off")]
    tokens = values["neurons_of_tokens"]
    return Edit(
        sparsity_weights=_by_layer(values["lambda"], "lambda"),
        step_sizes=_by_layer(values["eta"], "eta"),
        heads_off=frozenset((_whole(layer, "heads_off"), _whole(head, "heads_off")) for layer, head in heads),
        neurons={
            (_whole(layer, "neurons"), _whole(neuron, "neurons")): _number(value, "neurons")
            for layer, neuron, value in neurons
        },
        tokens=None if tokens is None else tuple(_whole(n, "neurons_of_tokens") for n in _list(tokens, "tokens")),
    )


def _by_layer(given: object, name: str) -> dict[int, float]:
    if not isinstance(given, Mapping) or len(given) > _MAX_LIST:
        raise UserError(f"{name} must be an object of layers and numbers")
    if not all(isinstance(key, str) and key.isdecimal() for key in given):
        raise UserError(f"{name} must name layers by their numbers, from 0")
    return {int(key): _number(value, name) for key, value in given.items()}


def _picture(value: object) -> int | str:
    return _name(value, "picture") if isinstance(value, str) else _whole(value, "picture")


def _name(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > 200:
        raise UserError(f"{name} must be a name of at most 200 characters")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise UserError("text must be a string")
    if len(value) > MAX_TEXT:
        raise UserError(f"the text has {len(value):,} characters, more than the {MAX_TEXT:,} that are read: shorten it")
    return value


def _list(value: object, name: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or len(value) > _MAX_LIST:
        raise UserError(f"{name} must be a list of at most {_MAX_LIST} entries")
    return value


def _row(value: object, name: str, length: int) -> Sequence[Any]:
    row = _list(value, name)
    if len(row) != length:
        raise UserError(f"each entry of {name} must be a list of {length} numbers, got {len(row)}")
    return row


def _whole(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise UserError(f"{name} must be a whole number >= 0, got {str(value)[:40]!r}")
    return value


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{name} must be a finite number, got {str(value)[:40]!r}")
    return float(value)


def _one_of(value: object, name: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise UserError(f"{name} must be {' or '.join(choices)}, got {str(value)[:40]!r}")
    return str(value)


__all__ = ["MAX_TEXT", "State", "Which", "read_state"]
