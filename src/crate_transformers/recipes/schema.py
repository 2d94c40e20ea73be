"""A recipe in memory, and its text.

Its section `model` names the model, `data` the data to train it on, and `train` the settings of the training: the names
of transformers' TrainingArguments, and a few of ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from .families import FAMILIES, Family
from .options import DataOptions, TrainOptions, default_of
from .reading import is_number_text
from .tasks import known_options

# keys of the `model` section that are no field of a configuration -> what they mean; every other key is a field
NOT_FIELDS = {
    "family": "the kind of model; a recipe that names none is of crate_vision",
    "size": "a published size, whose fields the other keys override; not beside `from`, for a checkpoint has its size",
    "from": "a folder or hub name of a model at whose weights the training starts",
    "redraw": "parts of the checkpoint of `from`, by name, that are drawn anew instead of being taken from it",
}
_TEXT_TAG, _NUMBER_TAG = "tag:yaml.org,2002:str", "tag:yaml.org,2002:float"


@dataclass
class Recipe:
    """A whole recipe.

    Attributes:
        name: names the folder of the runs. task: one of recipes/tasks/.
        model: the keys of `NOT_FIELDS` and any field of the family's configuration.
        data, train: the options of the two sections, of the classes that the task declares.
        arguments: of transformers' TrainingArguments.
        unread: "section.name" -> value of options of other tasks that are switched off; they are written again.
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
        """The family of the model."""
        return FAMILIES[self.model["family"]]

    @property
    def model_fields(self) -> dict[str, Any]:
        """The configuration fields of the `model` section."""
        return {name: value for name, value in self.model.items() if name not in NOT_FIELDS}

    @property
    def seed(self) -> int:
        """The seed of the run, which also splits the data."""
        return int(self.arguments.get("seed", 42))

    def to_dict(self) -> dict[str, Any]:
        """The content of the recipe's file; `recipe_of` makes the same recipe of it."""
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
        """The options of a section that differ from their defaults, in the order of a written recipe."""
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
    """Puts quotes around every text that `read_yaml` would take for a number, as 1e-4, which yaml takes for text."""

    def resolve(self, kind: type[yaml.Node], value: str, implicit: Any) -> str:  # for scalars, two flags
        tag = super().resolve(kind, value, implicit)
        is_number = kind is yaml.ScalarNode and implicit[0] and tag == _TEXT_TAG and is_number_text(value)
        return _NUMBER_TAG if is_number else tag


def copied(value: Any) -> Any:
    """A copy that shares no list or mapping with the value, and has lists for tuples, as if read from YAML."""
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list | tuple) else value


__all__ = ["NOT_FIELDS", "Recipe", "copied"]
