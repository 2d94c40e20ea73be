"""The reference of recipes: every key that a recipe may have, with its kind, its default and its meaning.

It is made from what checks a recipe: the options of the tasks, the arguments of transformers' TrainingArguments, the
configurations of the families. Meanings are the docstrings of those classes; of what transformers declares, the first
sentence of its own documentation.
"""

import inspect
import re
import typing
from collections.abc import Iterable
from dataclasses import MISSING, Field, dataclass, fields
from enum import Enum
from types import UnionType
from typing import Any

import yaml

from .families import FAMILIES, Family
from .model_fields import COMMON_FIELDS, kind_of_common
from .options import default_of, limits_of
from .schema import NOT_FIELDS
from .tasks import TASKS, argument_limits, known_options, readers_of, task_declaration
from .trainer_arguments import RUN_DEFAULTS, argument_types, limits_of_argument, not_set_here

_OPTIONAL = " | None"
_BY_MACHINE = ("use_cpu", "dataloader_pin_memory")  # arguments whose default is what the machine has


@dataclass(frozen=True)
class Key:
    """One key of a recipe.

    Attributes:
        section: "model", "data" or "train". name: the key within the section.
        kind: the kind of value, and its limits, in words.
        default: the value where a recipe has none, as YAML; "" where it follows from data, machine or other keys.
        meaning: what it means.
        readers: the tasks that read it, or, of a key of the model, the families that have it.
        is_ours: whether it is of this library; False is an argument or a field of transformers.

    Example:
        >>> key = Key("data", "flip", "bool", "false", "whether pictures are flipped", ("image-classification",))
        >>> key.section, key.name
        ('data', 'flip')
    """

    section: str
    name: str
    kind: str
    default: str
    meaning: str
    readers: tuple[str, ...]
    is_ours: bool = True


def recipe_reference() -> tuple[Key, ...]:
    """Every key that a recipe may have, in the order of a written recipe.

    A field of several families that means the same and has the same default is one entry.

    Example:
        >>> next(key.default for key in recipe_reference() if key.name == "mixup_alpha")
        '0.0'
    """
    return (*_model_keys(), *_option_keys("data"), *_option_keys("train"), *_argument_keys())


def accepted_keys() -> dict[str, set[str]]:
    """The names of the keys that the schema accepts, by section.

    Example:
        >>> sorted(accepted_keys())
        ['data', 'model', 'train']
    """
    return {
        "model": {*NOT_FIELDS, *(name for family in FAMILIES.values() for name in family.config_fields)},
        "data": set(known_options("data")),
        "train": {*known_options("train"), *argument_types()} - set(not_set_here()),
    }


# -- sections ---------------------------------------------------------------------------------------------------------


def _option_keys(section: str) -> Iterable[Key]:
    """The options of this library, of the section `data` or `train`."""
    meanings: dict[str, str] = {}
    for task in TASKS:
        for kind in getattr(task_declaration(task), section).__mro__:
            meanings = {**meanings_of(kind.__doc__ or "", _names_of(kind)), **meanings}
    for name, declared in known_options(section).items():
        limits = limits_of(declared).said()
        kind = f"{_kind(declared.type)}{f', {limits}' if limits else ''}"
        readers = tuple(readers_of(section, name))
        yield Key(section, name, kind, _yaml(default_of(declared)), meanings.get(name, ""), readers)


def _argument_keys() -> Iterable[Key]:
    """The arguments of transformers' TrainingArguments."""
    from transformers import TrainingArguments  # heavy: it pulls in the whole Trainer

    meanings = _meanings_of_transformers(TrainingArguments)
    declared = TrainingArguments.__dataclass_fields__
    special = argument_limits()
    for name, annotation in argument_types().items():
        if name in not_set_here():
            continue
        limits = (special.get(name) or limits_of_argument(name)).said()
        kind = f"{_kind(annotation)}{f', {limits}' if limits else ''}"
        default = RUN_DEFAULTS.get(name, _default(declared[name]))
        readers = tuple(readers_of("train", name))
        text = "" if name in _BY_MACHINE else _yaml(default)
        yield Key("train", name, kind, text, meanings.get(name, ""), readers, is_ours=False)


def _model_keys() -> Iterable[Key]:
    """The keys of the section `model`: those that are no field, and the fields of all families."""
    everyone = tuple(FAMILIES)
    for name, meaning in NOT_FIELDS.items():
        kind = (
            f"one of {', '.join(FAMILIES)}" if name == "family" else "list[str]" if name == "redraw" else "str | None"
        )
        default = {"family": "crate_vision", "redraw": "[]"}.get(name, "null")
        yield Key("model", name, kind, default, meaning, everyone)
    for name, meaning in COMMON_FIELDS.items():
        yield Key("model", name, kind_of_common(name), "", meaning, everyone)
    found: dict[tuple[str, ...], list[str]] = {}
    for family in FAMILIES.values():
        meanings = _meanings_of_family(family)
        for name in family.config_fields:
            if name not in COMMON_FIELDS:
                text, kind, default = meanings.get(family.own_name(name), ""), *_kind_and_default(family, name)
                found.setdefault((name, kind, default, text, str(not family.is_baseline)), []).append(family.name)
    for (name, kind, default, text, ours), families in found.items():
        yield Key("model", name, kind, default, text, tuple(families), ours == "True")


def _meanings_of_family(family: Family) -> dict[str, str]:
    """Of each field of a configuration, by its own name."""
    config = family.config_class
    if family.is_baseline:
        return _meanings_of_transformers(config)
    meanings: dict[str, str] = {}
    for kind in reversed(config.__mro__):
        if kind.__module__.startswith("crate_transformers."):
            meanings.update(meanings_of(kind.__doc__ or "", family.config_fields))
    return meanings


def _kind_and_default(family: Family, name: str) -> tuple[str, str]:
    """Of a field; a field with two names, as GPT-2's hidden_size, has those of its own name."""
    own = family.own_name(name)
    declared = family.config_class.__dataclass_fields__[own]
    default = family.defaults.get(own, _default(declared))
    if own == family.intermediate_field:
        return _kind(declared.type), f"{family.mlp_ratio} x hidden_size"
    return _kind(declared.type), _yaml(default)


# -- meanings ---------------------------------------------------------------------------------------------------------


def meanings_of(docstring: str, names: Iterable[str]) -> dict[str, str]:
    """What a docstring of this library says of some names in its sections `Args` and `Attributes`.

    An entry begins with names and a colon, "least, most: the range"; several entries may share a line.

    Example:
        >>> meanings_of("A pair.\\n\\n    Args:\\n        a, b: two numbers. c: a text\\n            of words.", "abc")
        {'a': 'two numbers', 'b': 'two numbers', 'c': 'a text of words'}
    """
    text = " ".join(section for section in re.findall(_SECTION, inspect.cleandoc(docstring)))
    text = re.sub(r"\s+", " ", text)
    one = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    if not one:
        return {}
    starts = list(re.finditer(rf"(?:^|(?<=[.;] )|(?<= ))(?:{one})(?:, (?:{one}))*: ", text))
    found: dict[str, str] = {}
    for start, following in zip(starts, [*starts[1:], None], strict=False):
        end = len(text) if following is None else following.start()
        meaning = text[start.end() : end].strip().rstrip(".")
        found.update(dict.fromkeys(start.group().removesuffix(": ").split(", "), meaning))
    return found


_SECTION = r"(?m)^(?:Args|Attributes):\n((?:(?: {4}.*)?(?:\n|\Z))+)"
_ENTRY = re.compile(r"(?m)^( *)(\w+) ?\(.*\):?[ ]*\n((?:\1 +.*\n|\s*\n)+)")  # of transformers: name (`kind`, ...):
_LINK = re.compile(r"\[`~?([^`]*)`\](?:\([^)]*\))?|\[([^\]]*)\]\([^)]*\)")


def _meanings_of_transformers(kind: type) -> dict[str, str]:
    """The first sentence of what transformers' own documentation says of each field, along the parents of a class."""
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        for _, name, text in _ENTRY.findall(inspect.cleandoc(parent.__doc__ or "") + "\n"):
            found[name] = _first_sentence(text)
    return found


def _first_sentence(text: str) -> str:
    """The first sentence of a paragraph of transformers' documentation, without links."""
    text = re.split(r"\n\s*(?:\n|- |<)", text.strip())[0]
    text = _LINK.sub(lambda match: f"`{match[1]}`" if match[1] else match[2], re.sub(r"\s+", " ", text))
    return re.split(r"(?<!e\.g)(?<!i\.e)[.:](?: |$)", text)[0].strip()


# -- words ------------------------------------------------------------------------------------------------------------


def _names_of(kind: type) -> list[str]:
    return [declared.name for declared in fields(kind)] if hasattr(kind, "__dataclass_fields__") else []


def _default(declared: Field) -> object:
    if declared.default_factory is not MISSING:
        return declared.default_factory()
    return None if declared.default is MISSING else declared.default


def _yaml(value: object) -> str:
    """A value as a recipe writes it, on one line."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, tuple):
        value = list(value)
    if not isinstance(value, str | int | float | bool | list | dict | None):
        return ""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def _kind(annotation: Any) -> str:
    """A type in words: "one of cls, mean", "int | None"."""
    if isinstance(annotation, str):
        return annotation
    if typing.get_origin(annotation) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(annotation)))}"
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        parts = dict.fromkeys(_kind(part) for part in typing.get_args(annotation))
        if any(part.startswith("one of") for part in parts):
            parts.pop("str", None)  # the text of a choice
        optional = _OPTIONAL if parts.pop("None", "") == "None" or type(None) in typing.get_args(annotation) else ""
        return " | ".join(part for part in parts if part != "None") + optional
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return f"one of {', '.join(str(member.value) for member in annotation)}"
    if typing.get_origin(annotation) is tuple:  # YAML has lists alone
        return f"list[{_kind(typing.get_args(annotation)[0])}]"
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def as_table(keys: Iterable[Key], everyone: Iterable[str]) -> str:
    """A Markdown table of keys; the meaning ends with the readers of a key, where not all of `everyone` read it.

    Example:
        >>> print(as_table([Key("data", "flip", "bool", "false", "whether", ("a",))], ("a", "b")))
        | key | kind, default | meaning |
        | --- | --- | --- |
        | `flip` | bool, `false` | whether (a) |
    """
    everyone = set(everyone)
    lines = ["| key | kind, default | meaning |", "| --- | --- | --- |"]
    for key in keys:
        read = "" if everyone <= set(key.readers) else f" ({', '.join(key.readers)})"
        default = f", `{key.default}`" if key.default else ""
        kind, meaning = (text.replace("|", "\\|") for text in (key.kind, key.meaning))
        lines.append(f"| `{key.name}` | {kind}{default} | {meaning}{read} |")
    return "\n".join(lines)


__all__ = ["Key", "accepted_keys", "as_table", "meanings_of", "recipe_reference"]
