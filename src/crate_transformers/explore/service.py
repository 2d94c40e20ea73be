"""A question about a model -> numbers and arrays. Pure: no HTTP, no files; the same question has the same answer.

Every number is that of a function of `analysis`, which the part that gives it names (parts/). What comes before a
change in the model is kept from the run without it, so a change of the last layer costs one layer.
"""

from typing import Any

import numpy as np

from ..analysis.architectures import all_make, architecture_of, backbone_of
from ..analysis.edits import step_of
from ..configuration.validation import as_pair
from ..errors import UserError
from .answers import Answer, thumbnail, together
from .looking import Looking
from .parts import PARTS, grow, ladder_rows
from .state import State
from .subjects import Subject, Subjects, can_write, class_names


class Service:
    """Answers questions about the models of `Subjects`; one at a time.

    Args:
        subjects: what is looked at.

    Example:
        >>> from crate_transformers.explore.subjects import open_subjects
        >>> service = Service(open_subjects("demo:fashion"))
        >>> answer = service.answer(State(picture=3), ("ladder",))
        >>> answer.data["ladder"]["points"]
        ['before', 'compressed', 'sparsified']
    """

    def __init__(self, subjects: Subjects):
        self.look = Looking(subjects)

    def describe(self, state: State) -> Answer:
        """The models, what they have, and what they are shown."""
        subjects = self.look.subjects
        data: dict[str, Any] = {
            "model": _describe(subjects.model),
            "other": _describe(self.look.subject(state, "other")) if self.look.other_name(state) else None,
            "others": list(subjects.others),
            "on": subjects.on,
            "pictures": subjects.num_pictures,
            "labels": list(subjects.labels),
            "texts": list(subjects.texts),
            "uploads": list(self.look.uploads),
        }
        arrays = {}
        if subjects.num_pictures:
            arrays["thumbnails"] = np.stack([thumbnail(subjects.read(i)) for i in range(subjects.num_pictures)])
        return Answer(data, arrays)

    def upload(self, content: bytes) -> Answer:
        """Take a picture; the answer holds its name and a small form of it.

        Raises:
            UserError: it is too large, or no picture.
        """
        name, picture = self.look.upload(content)
        return Answer({"picture": name}, {"thumbnail": thumbnail(picture)})

    def answer(self, state: State, parts: tuple[str, ...]) -> Answer:
        """Some of `PARTS` about a state, all of the same run.

        Raises:
            UserError: an unknown part; a state that the model does not fit, with what does not.
        """
        unknown = [name for name in parts if name not in PARTS]
        if unknown:
            raise UserError(f"unknown part {unknown[0]!r}: expected some of {', '.join(PARTS)}")
        return together([PARTS[name](self.look, state).within(name) for name in parts])

    def grow(self, state: State, temperature: float = 0.0) -> Answer:
        """The text of a state with one more token, see `parts.grow`."""
        return grow(self.look, state, temperature)

    def rows(self, state: State) -> list[dict[str, Any]]:
        """The ladder of both models as a table, see `parts.ladder_rows`."""
        return ladder_rows(self.look, state)


def _describe(subject: Subject) -> dict[str, Any]:
    """What a model is and has; what it does not have is not shown."""
    backbone = backbone_of(subject.model)
    architecture = architecture_of(backbone)
    layers = architecture.layers(backbone)
    steps = [step_of(layer) for layer in layers]
    return {
        "name": subject.name,
        "class": type(subject.model).__name__,
        "reads": "images" if subject.reads_images else "text",
        "layers": len(layers),
        "heads": getattr(backbone.config, architecture.heads_field),
        "neurons": [architecture.code_width(layer) for layer in layers],
        "lambda": [None if step is None else step[0] for step in steps],
        "eta": [None if step is None else step[1] for step in steps],
        "steps": [getattr(getattr(layer, "sparsification", None), "coding", None) is not None for layer in layers],
        "heads_can_be_off": [architecture.heads_end(layer) is not None for layer in layers],
        "maps": all_make(subject.model, "attentions") or all_make(subject.model, "memberships"),
        "classes": class_names(subject),
        "writes": can_write(subject),
        "parameters": subject.model.num_parameters(),
        "patch": list(as_pair(backbone.config.patch_size)) if subject.reads_images else None,
    }


__all__ = ["Service"]
