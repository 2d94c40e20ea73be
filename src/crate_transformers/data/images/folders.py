"""Labelled images in folders: PATH/CLASS/IMAGE, or PATH/PART/CLASS/IMAGE with the parts that parts.py knows.

Every picture is decoded once, so that a run does not fail in the middle. A large folder is not looked through at every
start: what was found is kept as arrays outside of the folder, which may be read-only (manifest.py).
"""

from pathlib import Path

import numpy as np

from ...errors import UserError
from ...files import user_path
from ..parts import UNDERSTOOD, parts_among, seem_parts
from .decoding import load_image
from .finding import IMAGE_SUFFIXES, is_litter
from .labelled import ImageSplits, LabelledImages, SplitOptions, assemble
from .manifest import Manifest, manifest_of


def load_image_folder(argument: str, options: SplitOptions) -> ImageSplits:
    """Open the folder at `argument`.

    Raises:
        UserError: folders that are neither parts nor classes for certain, classes without images, images outside of
            classes, unreadable images; named.
    """
    root = user_path(argument)
    if not root.is_dir():
        raise UserError(f"no folder at {root}")
    folders = _part_folders(root) or {"train": root}
    classes = _class_folders(folders["train"])
    for folder in folders.values():
        foreign = sorted(set(_class_folders(folder)) - set(classes))
        if foreign:
            raise UserError(f"{folder} has classes that {folders['train']} lacks: {', '.join(foreign[:5])}")
    manifest = manifest_of(root, folders, classes, options.manifest_dir, _problem_of)
    parts: dict[str, LabelledImages] = {}
    left_out: tuple[str, ...] = ()
    for part, folder in folders.items():
        parts[part], more = _part_of(manifest, part, folder, options.skip_unreadable)
        left_out += more
    return assemble(str(root), classes, parts, options, left_out, manifest.notes)


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without litter."""
    try:
        return sorted(path for path in folder.iterdir() if not is_litter(path.name))
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from error


def _part_folders(root: Path) -> dict[str, Path]:
    """{part: folder}, train first; nothing where the folders are classes. What may be either is refused."""
    names = [path.name for path in _listed(root) if path.is_dir()]
    parts, others = parts_among(names, str(root))
    as_classes = f"if they are classes, move all classes into {root / 'train'}"
    if not parts and (likely := seem_parts(others)):
        raise UserError(f"{root} has {', '.join(likely)}, which seem to be parts; {UNDERSTOOD}. {as_classes}")
    if parts and others:
        raise UserError(
            f"{root} has {', '.join(others[:5])} beside {', '.join(parts.values())}; {UNDERSTOOD}. Rename or move what "
            f"is no part; {as_classes}"
        )
    if parts and "train" not in parts:
        raise UserError(f"{root} has {', '.join(parts.values())} and no part to train on; {UNDERSTOOD}. {as_classes}")
    return {part: root / parts[part] for part in ("train", "validation", "test") if part in parts}


def _class_folders(folder: Path) -> list[str]:
    inside = _listed(folder)
    classes = [path.name for path in inside if path.is_dir()]
    if not classes:
        raise UserError(f"{folder} has no class folders: expected {folder}/CLASS/IMAGE")
    loose = [path.name for path in inside if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()]
    if loose:
        raise UserError(
            f"{folder} has {len(loose)} images beside its class folders: {', '.join(loose[:3])}. Move them into the "
            "folder of their class, or away"
        )
    return classes


def _part_of(
    manifest: Manifest, part: str, folder: Path, skip_unreadable: bool
) -> tuple[LabelledImages, tuple[str, ...]]:
    """(the images of one part, the files that were left out)."""
    listing, about = manifest.listing, manifest.listing.about
    first, stop = about["parts"][part]
    if first == stop:
        raise UserError(f"{folder} holds no image")
    empty, foreign, unread = (about[name][part] for name in ("empty", "foreign", "unread"))
    if empty and part == "train" and not skip_unreadable:
        others = f" (it has {', '.join(foreign)})" if foreign else ""
        raise UserError(f"{folder} has classes without an image: {', '.join(empty[:5])}{others}")
    damaged = {index: reason for index, reason in manifest.bad.items() if first <= index < stop}
    bad = {listing.path(index): reason for index, reason in damaged.items()}
    bad |= {path: f"{path} is a {Path(path).suffix} picture, which is not read" for path in unread}
    if bad and not skip_unreadable:
        listed = "; ".join(list(bad.values())[:5])
        raise UserError(
            f"{len(bad)} of {stop - first + len(unread)} images in {folder} cannot be read: {listed}. Mend, convert or "
            "remove them, or pass --set data.skip_unreadable=true"
        )
    if len(damaged) == stop - first:
        raise UserError(f"no readable image in {folder}")
    everything = LabelledImages(
        read=lambda i, channels: load_image(manifest.path(i), channels),
        labels=listing.labels,
        name=listing.path,
        encoded=lambda i: Path(manifest.path(i)).read_bytes(),
    )
    places = np.arange(first, stop)
    if damaged:
        places = np.delete(places, np.asarray(list(damaged)) - first)
    images = everything if len(places) == len(everything) else everything.subset(places)
    return images, tuple(bad)


def _problem_of(path: str) -> str | None:
    """Why a file cannot be decoded whole; None where it can."""
    try:
        load_image(path)
    except UserError as error:
        return str(error)
    return None


__all__ = ["load_image_folder"]
