"""Labelled images in folders: PATH/CLASS/IMAGE, or PATH/PART/CLASS/IMAGE with the parts that parts.py knows."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...files import user_path
from ..parts import UNDERSTOOD, parts_among, seem_parts
from .decoding import load_image
from .finding import IMAGE_SUFFIXES, files_below, is_litter
from .labelled import ImageSplits, LabelledImages, SplitOptions, assemble

_UNREAD_SUFFIXES = frozenset(  # of pictures of kinds that Pillow does not read
    {".heic", ".heif", ".hif", ".jxl", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".exr"}
)


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
    parts: dict[str, LabelledImages] = {}
    left_out: tuple[str, ...] = ()
    for part, folder in folders.items():
        foreign = sorted(set(_class_folders(folder)) - set(classes))
        if foreign:
            raise UserError(f"{folder} has classes that {folders['train']} lacks: {', '.join(foreign[:5])}")
        parts[part], more = _read_folder(folder, classes, options.skip_unreadable, part == "train")
        left_out += more
    return assemble(str(root), classes, parts, options, left_out)


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


def _read_folder(
    folder: Path, classes: list[str], skip_unreadable: bool, is_training: bool
) -> tuple[LabelledImages, tuple[str, ...]]:
    """(the images of one part, the files that were left out)."""
    paths: list[Path] = []
    foreign: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if (folder / name).is_dir():
            files = files_below(folder / name)
            found = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
            foreign += [path for path in files if path.suffix.lower() not in IMAGE_SUFFIXES]
            _refuse_parts_within(folder / name, found)
            paths += found
            labels += [label] * len(found)
    if not paths:
        raise UserError(f"{folder} holds no image")
    present = set(labels)
    empty = [name for label, name in enumerate(classes) if label not in present]
    if empty and is_training and not skip_unreadable:
        others = f" (it has {', '.join(p.name for p in foreign[:3])})" if foreign else ""
        raise UserError(f"{folder} has classes without an image: {', '.join(empty[:5])}{others}")
    unread = [path for path in foreign if path.suffix.lower() in _UNREAD_SUFFIXES]
    bad = _unreadable(paths) | {path: f"{path} is a {path.suffix} picture, which is not read" for path in unread}
    if bad and not skip_unreadable:
        listed = "; ".join(list(bad.values())[:5])
        raise UserError(
            f"{len(bad)} of {len(paths) + len(unread)} images in {folder} cannot be read: {listed}. Mend, convert or "
            "remove them, or pass --set data.skip_unreadable=true"
        )
    keep = [i for i, path in enumerate(paths) if path not in bad]
    if not keep:
        raise UserError(f"no readable image in {folder}")
    kept = [paths[i] for i in keep]
    images = LabelledImages(
        read=lambda i, channels: load_image(kept[i], channels),
        labels=np.asarray([labels[i] for i in keep], dtype=np.int64),
        name=lambda i: str(kept[i]),
    )
    return images, tuple(str(path) for path in bad)


def _refuse_parts_within(class_folder: Path, images: list[Path]) -> None:
    """Refuse CLASS/PART/IMAGE, whose parts would be mixed."""
    inside = sorted({path.relative_to(class_folder).parts[0] for path in images if path.parent != class_folder})
    parts, _ = parts_among(inside, str(class_folder))
    if "train" in parts and len(parts) > 1:
        raise UserError(
            f"{class_folder} holds the parts {', '.join(parts.values())}: expected PATH/PART/CLASS/IMAGE, parts above "
            "classes"
        )


def _unreadable(paths: list[Path]) -> dict[Path, str]:
    """Files that cannot be decoded whole, with the reason. Every file is opened: a run must not fail in the middle."""

    def check(path: Path) -> str | None:
        """Why a file cannot be read; None where it can."""
        try:
            load_image(path)
        except UserError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(check, paths))
    return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason is not None}


__all__ = ["load_image_folder"]
