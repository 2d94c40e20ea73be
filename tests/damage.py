"""Strangers' files, damaged: each must end with a result or with one line, in bounded time and memory.

The suite runs a short form (test_damage.py); the long one, whose figures docs/reliability.md quotes, by hand:

    python tests/damage.py pictures --count 3000
    python tests/damage.py checkpoints --count 300
    python tests/damage.py recipes --count 300
"""

import argparse
import io
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from safetensors.torch import save as save_safetensors

from crate_transformers import convert_checkpoint
from crate_transformers.data import load_image
from crate_transformers.errors import UserError
from crate_transformers.recipes import load_recipe
from crate_transformers.recipes.shipped import shipped_recipes, shipped_text

GOLDEN = Path(__file__).parent / "golden"
OTHER_TYPES = (torch.int32, torch.bool, torch.complex64, torch.float8_e5m2, torch.bfloat16)
FORMATS = {
    "png": ("L", "LA", "P", "RGB", "RGBA", "I;16", "1"),
    "jpg": ("L", "RGB", "CMYK"),
    "gif": ("L", "P", "RGB"),
    "webp": ("RGB", "RGBA"),
    "tif": ("L", "RGB", "CMYK", "F", "I;16", "1"),
    "bmp": ("L", "RGB", "1"),
    "ppm": ("L", "RGB"),
}


@dataclass(frozen=True)
class Outcome:
    """How one file ended: "result", "line" (a UserError of one line), or "fault", and after how many seconds."""

    kind: str
    seconds: float
    file: str
    told: str = ""


def broken(content: bytes, draw: random.Random) -> bytes:
    """Bits flipped, bytes written over, a stretch lost or doubled, or the end cut off."""
    changed, kind = bytearray(content), draw.randrange(6)
    if kind == 0:
        for _ in range(draw.randint(1, 8)):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    elif kind == 1:
        for _ in range(draw.randint(1, 8)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    elif kind == 2:  # in the first bytes, where sizes stand
        for _ in range(draw.randint(1, 4)):
            changed[draw.randrange(min(64, len(changed)))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
    elif kind == 3:
        del changed[draw.randrange(len(changed)) :]
    elif kind == 4:
        start = draw.randrange(len(changed))
        del changed[start : start + draw.randint(1, 40)]
    else:
        start = draw.randrange(len(changed))
        changed[start:start] = changed[start : start + draw.randint(1, 40)]
    return bytes(changed)


def pictures(seed: int) -> Iterator[tuple[str, bytes, Callable[[Path], Any]]]:
    """Damaged pictures without end, of every format and mode in turn."""
    draw, noise = random.Random(seed), np.random.default_rng(seed)
    kinds = [(suffix, mode) for suffix, modes in FORMATS.items() for mode in modes]
    whole: dict[tuple[str, str], bytes] = {}
    for suffix, mode in kinds:
        picture = Image.fromarray(noise.integers(0, 255, (15, 20, 3), dtype=np.uint8))
        buffer, name = io.BytesIO(), {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix)
        (picture.convert("I").convert(mode) if mode == "I;16" else picture.convert(mode)).save(buffer, name)
        whole[suffix, mode] = buffer.getvalue()
    while True:
        suffix, mode = draw.choice(kinds)
        channels = draw.choice((1, 3))
        yield f"{mode.replace(';', '')}.{suffix}", broken(whole[suffix, mode], draw), _reading(channels)


def _reading(channels: int) -> Callable[[Path], Any]:
    def read(path: Path) -> Image.Image:
        picture = load_image(path, channels)
        assert picture.mode == ("L" if channels == 1 else "RGB")
        return picture

    return read


def checkpoints(seed: int) -> Iterator[tuple[str, bytes, Callable[[Path], Any]]]:
    """Damaged checkpoints without end: their bytes, names, shapes, types, what they are wrapped in."""
    draw = random.Random(seed)
    states = []
    for path in sorted(GOLDEN.glob("crate_*.safetensors")):
        found = {k.removeprefix("state_dict/"): v for k, v in load_file(path).items() if k.startswith("state_dict/")}
        if found:
            states.append(found)
    while True:
        state, as_torch = dict(draw.choice(states)), draw.random() < 0.5
        in_bytes = draw.random() < 0.5
        content: Any = state if in_bytes else _restructured(state, draw)
        if not as_torch and all(_is_plain(name, value) for name, value in content.items()):
            raw = save_safetensors({name: tensor.contiguous().clone() for name, tensor in content.items()})
        else:
            as_torch, buffer = True, io.BytesIO()
            torch.save(content, buffer)
            raw = buffer.getvalue()
        yield f"checkpoint.{'pth' if as_torch else 'safetensors'}", broken(raw, draw) if in_bytes else raw, _convert


def _is_plain(name: Any, value: Any) -> bool:
    """What safetensors can hold, in a test's memory."""
    plain = isinstance(name, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided
    return plain and value.numel() < 10**8


def _convert(path: Path) -> Any:
    return convert_checkpoint(path, num_attention_heads=2)


def _restructured(state: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    name = draw.choice(list(state))
    tensor = state[name]
    changes: list[Callable[[], Any]] = [
        lambda: state.pop(name),
        lambda: state.update({name + "x": state.pop(name)}),
        lambda: state.update({name: tensor.flatten()[: max(1, tensor.numel() // 2)]}),
        lambda: state.update({name: tensor.unsqueeze(0)}),
        lambda: state.update({name: tensor.to(draw.choice(OTHER_TYPES))}),
        lambda: state.update({name: torch.full_like(tensor, float("nan"))}),
        lambda: state.update({name: tensor.to_sparse()}),
        lambda: state.update({name: tensor.flatten()[:1].expand(10**9)}),
        lambda: state.update({name: tensor[:0]}),
        lambda: state.update({name: torch.tensor(1.0)}),
        lambda: state.update({f"module.{name}": tensor * 2}),
        lambda: state.update({name.replace(".0.", f".{10 ** draw.randint(2, 9)}."): tensor}),
        lambda: state.update({"state_dict": state}),
        lambda: state.update({5: tensor}),
    ]
    draw.choice(changes)()
    return state


def recipes(seed: int) -> Iterator[tuple[str, bytes, Callable[[Path], Any]]]:
    """Damaged recipes without end: their bytes, their lines, and what YAML can do to a reader."""
    draw = random.Random(seed)
    texts = [shipped_text(name) for name in shipped_recipes()]
    values = ("-1", "1e400", "nan", "[" * 5000, "{a: *a}", "&a [*a]", "!!python/object:os.system x", "0x" + "f" * 400,
              "null", "[]", "{}", "\x00", "'", "2001-01-01", "~", "yes", "1_000", "é" * 300, "9" * 5000)  # fmt: skip
    while True:
        text = draw.choice(texts)
        lines = text.splitlines()
        kind, place = draw.randrange(5), draw.randrange(len(lines))
        if kind == 0:
            yield "recipe.yaml", broken(text.encode(), draw), lambda path: load_recipe(str(path))
            continue
        if kind == 1:
            lines.insert(place, lines[draw.randrange(len(lines))])
        elif kind == 2:
            key, colon, _ = lines[place].partition(":")
            lines[place] = f"{key}{colon} {draw.choice(values)}"
        elif kind == 3:
            lines.insert(
                place, draw.choice(("5: 6", "? [a]\n: b", "<<: *x", "---", "\ttrain: 1", "%YAML 9.9", "a: b: c"))
            )
        else:
            bombs = "\n".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9 if i else ['lol'] * 9)}]" for i in range(12))
            lines.insert(0, bombs)
        yield "recipe.yaml", "\n".join(lines).encode(), lambda path: load_recipe(str(path))


KINDS = {"pictures": pictures, "checkpoints": checkpoints, "recipes": recipes}


def outcomes(kind: str, count: int, seed: int, folder: Path) -> Iterator[Outcome]:
    """Try so many damaged files of a kind."""
    for number, (name, content, read) in zip(range(count), KINDS[kind](seed), strict=False):
        path = folder / f"{number}_{name}"
        path.write_bytes(content)
        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                read(path)
            ending, told = "result", ""
        except UserError as error:
            told = str(error)
            named = kind != "pictures" or path.name in told  # of a folder of pictures, the one that is meant
            ending = "line" if named and "\n" not in told and len(told) < 2000 else "fault"
        except Exception:
            ending, told = "fault", traceback.format_exc()
        yield Outcome(ending, time.perf_counter() - started, path.name, told)
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = list(outcomes(arguments.kind, arguments.count, arguments.seed, Path(folder)))
    for outcome in found:
        if outcome.kind == "fault":
            print(outcome.file, outcome.told, sep="\n")
    counts, slowest = Counter(outcome.kind for outcome in found), max(outcome.seconds for outcome in found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(found)} damaged {arguments.kind} (seed {arguments.seed}): {counts['result']} results, {counts['line']} "
        f"in a line, {counts['fault']} faults; slowest {slowest:.2f} s, peak {peak:.2f} GiB"
    )
    sys.exit(counts["fault"] > 0)


if __name__ == "__main__":
    main()
