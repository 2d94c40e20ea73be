"""A recipe in memory, and how it is written.

model: what to train    data: what on    train: how (transformers' TrainingArguments names, and a few of ours)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from .families import FAMILIES, Family
from .options import DataOptions, TrainOptions, default_of
from .reading import is_number_text
from .tasks import known_options

_TEXT_TAG, _NUMBER_TAG = "tag:yaml.org,2002:str", "tag:yaml.org,2002:float"


@dataclass
class Recipe:
    """A whole recipe.

    Attributes:
        model: family, size, from and any field of the family's configuration.
        data, train: the options of the two sections, of the classes that the task declares.
        arguments: of transformers' TrainingArguments.
        unread: "section.name" -> value of options of other tasks that are switched off; kept to be written again.
    """

    name: str
    task: str
    model: dict[str, Any]
    data: DataOptions
    train: TrainOptions
    arguments: dict[str, Any]
    unread: dict[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> Family:
        return FAMILIES[self.model["family"]]

    @property
    def model_fields(self) -> dict[str, Any]:
        """The configuration fields of the `model` section."""
        return {name: value for name, value in self.model.items() if name not in ("family", "size", "from")}

    @property
    def seed(self) -> int:
        return int(self.arguments.get("seed", 42))

    def to_dict(self) -> dict[str, Any]:
        """As written in YAML; reading it again gives the same recipe."""
        return copied(
            {
                "name": self.name,
                "task": self.task,
                "model": self.model,
                "data": {"source": self.data.source, **self._changed("data", self.data)},
                "train": {
                    **self.arguments,
                    "optimizer": self.train.optimizer,
                    **self._changed("train", self.train),
                },
            }
        )

    def _changed(self, section: str, options: DataOptions | TrainOptions) -> dict[str, Any]:
        """Options of a section that differ from what they are by themselves, in the order of a written recipe."""
        values, prefix = dict(vars(options)), f"{section}."
        values.update({k.removeprefix(prefix): v for k, v in self.unread.items() if k.startswith(prefix)})
        known = known_options(section)
        return {
            name: values[name]
            for name, declared in known.items()
            if name in values and values[name] != default_of(declared)
        }

    def to_yaml(self) -> str:
        """The text of a file that `load_recipe` reads as this recipe."""
        return yaml.dump(self.to_dict(), Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Puts quotes around every text that we would read as something else (1e-4: yaml itself reads it as text)."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        tag = super().resolve(kind, value, implicit)
        is_number = kind is yaml.ScalarNode and implicit[0] and tag == _TEXT_TAG and is_number_text(value)
        return _NUMBER_TAG if is_number else tag


def copied(value: Any) -> Any:
    """A copy in which nothing is shared, with lists for tuples: as it would be read from YAML."""
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list | tuple) else value


__all__ = ["Recipe", "copied"]
