"""What is looked at: the models' runs on the input of a state, kept as long as they may be needed again.

An unchanged run is kept for the last few inputs. A changed one starts from it, at the first layer that is changed.
"""

from collections import OrderedDict
from dataclasses import replace
from io import BytesIO
from typing import Any

from PIL import Image
from torch import Tensor

from ..analysis import Edit, Run, run_edited
from ..analysis.architectures import architecture_of, backbone_of
from ..analysis.edits import step_of
from ..analysis.tracing import RECORDS, patch_grid
from ..data.images.decoding import decode_image
from ..errors import UserError
from .state import State
from .subjects import Subject, Subjects

MAX_MAP_TOKENS = 1200  # with more tokens the N x N attention of all layers is left out: it grows with their square
MAX_UPLOADS, MAX_UPLOAD_BYTES, MAX_UPLOAD_PIXELS = 8, 20 * 2**20, 40_000_000
_KEPT_RUNS, _KEPT_CHANGED, _KEPT_MEASURES, _KEPT_CODES = 4, 2, 8, 2


class Kept(OrderedDict[tuple[Any, ...], Any]):
    """The last few things that were made, by what they depend on."""

    def __init__(self, most: int):
        super().__init__()
        self.most = most

    def keep(self, key: tuple[Any, ...], value: Any) -> Any:
        """Keep a value, and forget the oldest where there are too many."""
        self[key] = value
        while len(self) > self.most:
            self.popitem(last=False)
        return value


class Looking:
    """The models, their inputs and their runs.

    Attributes:
        subjects: what is looked at. uploads: pictures that were opened on the page, by name.
        measures, codes: what parts keep of unchanged runs.
    """

    def __init__(self, subjects: Subjects):
        self.subjects = subjects
        self.uploads: OrderedDict[str, Image.Image] = OrderedDict()
        self.measures, self.codes = Kept(_KEPT_MEASURES), Kept(_KEPT_CODES)
        self._runs, self._changed = Kept(_KEPT_RUNS), Kept(_KEPT_CHANGED)
        self._number = 0

    def other_name(self, state: State) -> str:
        """The name of the model beside the first; "" where there is none."""
        return "" if state.other == "none" else state.other or next(iter(self.subjects.others), "")

    def subject(self, state: State, which: str) -> Subject:
        """The model or the one beside it.

        Raises:
            UserError: there is none beside it, or none of that name.
        """
        if which == "model":
            return self.subjects.model
        if not self.other_name(state):
            raise UserError(f"there is no model beside {self.subjects.model.name}")
        return self.subjects.other(self.other_name(state))

    def both(self, state: State) -> list[str]:
        return ["model", "other"] if self.other_name(state) else ["model"]

    def key(self, state: State, which: str, changed: bool) -> tuple[Any, ...]:
        """What an unchanged run of a model depends on."""
        own = "" if which == "model" else self.other_name(state)
        return (which, own, state.picture, state.text, state.painted if changed else ())

    def run(self, state: State, which: str, changed: bool = True) -> Run:
        """`analysis.run_edited` of one model on the state's input; the changes are of `state.which` alone."""
        subject = self.subject(state, which)
        edit = state.edit if changed and which == state.which else Edit()
        records = self._records(subject, state)
        key = self.key(state, which, changed)
        changed_key = (*key, repr(edit))
        if edit.layers and changed_key in self._changed:
            return self._changed[changed_key]
        before = self._runs.get(key)
        if before is not None and not edit.layers:
            self._runs.move_to_end(key)
            return before
        if before is None and edit.layers:
            before = self.run(replace(state, edit=Edit()), which, changed)
        run = run_edited(subject.model, self.inputs(subject, state, changed), edit, before, records)
        return self._changed.keep(changed_key, run) if edit.layers else self._runs.keep(key, run)

    def _records(self, subject: Subject, state: State) -> tuple[str, ...]:
        """All records, but for the attention of very many tokens."""
        if not subject.reads_images:
            return RECORDS
        rows, columns = self.grid(subject, state)
        small = rows * columns <= MAX_MAP_TOKENS
        return RECORDS if small else tuple(name for name in RECORDS if name != "attention")

    def grid(self, subject: Subject, state: State) -> tuple[int, int]:
        return patch_grid(backbone_of(subject.model), subject.pixels(self.picture(state)))

    def picture(self, state: State) -> Image.Image:
        if isinstance(state.picture, str):
            if state.picture not in self.uploads:
                raise UserError(
                    f"the picture {state.picture!r} is gone (the last {MAX_UPLOADS} are kept): open it again"
                )
            return self.uploads[state.picture]
        if state.picture >= self.subjects.num_pictures:
            raise UserError(f"there is no picture {state.picture}: there are {self.subjects.num_pictures}, from 0")
        return self.subjects.read(state.picture)

    def inputs(self, subject: Subject, state: State, changed: bool = True) -> Tensor:
        device = subject.model.device
        if not subject.reads_images:
            return subject.ids(state.text).to(device)
        pixels = subject.pixels(self.picture(state)).clone()
        if changed and state.painted:
            paint(pixels, state.painted, self.grid(self.subjects.model, state))
        return pixels.to(device)

    def token(self, state: State, which: str) -> int:
        """The chosen token of the first model, as the place of a token of this one: the same part of the picture."""
        if which == "model" or not self.subject(state, which).reads_images:
            return state.token
        own, other = self.subject(state, "model"), self.subject(state, which)
        prefix, other_prefix = prefix_of(own), prefix_of(other)
        if state.token < prefix:
            return min(state.token, other_prefix)
        (rows, columns), (other_rows, other_columns) = self.grid(own, state), self.grid(other, state)
        row, column = divmod(state.token - prefix, columns)
        row, column = int((row + 0.5) * other_rows / rows), int((column + 0.5) * other_columns / columns)
        return other_prefix + row * other_columns + column

    def check_layer(self, state: State, run: Run) -> None:
        layers = len(run.trace.layers)
        if state.layer >= layers:
            raise UserError(
                f"there is no layer {state.layer}: {self.subject(state, state.which).name} has {layers}, from 0"
            )

    def upload(self, content: bytes) -> tuple[str, Image.Image]:
        """Take a picture, as `crate predict` would read its file: its name, and the picture.

        Raises:
            UserError: it is too large, or no picture.
        """
        if not self.subjects.model.reads_images:
            raise UserError(f"{self.subjects.model.name} reads text, not pictures")
        if len(content) > MAX_UPLOAD_BYTES:
            raise UserError(f"the file is larger than {MAX_UPLOAD_BYTES // 2**20} MiB: make it smaller")
        channels = self.subjects.model.model.config.num_channels
        picture = decode_image(BytesIO(content), "the file", channels, max_pixels=MAX_UPLOAD_PIXELS)
        self._number += 1
        name = f"upload-{self._number}"
        self.uploads[name] = picture
        while len(self.uploads) > MAX_UPLOADS:
            self.uploads.popitem(last=False)
        return name, picture


def paint(pixels: Tensor, patches: tuple[int, ...], grid: tuple[int, int]) -> None:
    """Paint patches (numbers, row by row) of images (1, C, H, W) over, in place, with the images' mean.

    Raises:
        UserError: a patch that does not exist.
    """
    rows, columns = grid
    if patches and patches[-1] >= rows * columns:
        raise UserError(f"there is no patch {patches[-1]}: there are {rows} x {columns}, numbered from 0")
    height, width = pixels.shape[-2] / rows, pixels.shape[-1] / columns
    for patch in patches:
        row, column = divmod(patch, columns)
        top, left = round(row * height), round(column * width)
        pixels[..., top : round((row + 1) * height), left : round((column + 1) * width)] = 0.0


def prefix_of(subject: Subject) -> int:
    """How many tokens of a model stand before the patches."""
    return architecture_of(backbone_of(subject.model)).prefix_tokens


def has_code(subject: Subject, layer: int) -> bool:
    """Whether a layer's code is one of a dictionary."""
    backbone = backbone_of(subject.model)
    return step_of(architecture_of(backbone).layers(backbone)[layer]) is not None


__all__ = ["MAX_MAP_TOKENS", "MAX_UPLOADS", "MAX_UPLOAD_BYTES", "Looking", "has_code", "paint", "prefix_of"]
