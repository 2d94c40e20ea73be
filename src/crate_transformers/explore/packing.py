"""An answer as bytes: a line of JSON, then the arrays one after another, each small enough for a page.

    {"data": {...}, "arrays": {name: {"dtype": "float16" or "uint8", "shape": [...], "offset": bytes after the line}}}

Floats travel as float16, which is what a picture of a map needs; numbers that are read are in `data`, in full.
"""

import json

import numpy as np

from .answers import Answer


def pack(answer: Answer) -> bytes:
    """The bytes of an answer.

    Example:
        >>> pack(Answer({"a": 1}, {"x": np.zeros((2, 3))})).split(b"\\n")[0].decode()
        '{"data": {"a": 1}, "arrays": {"x": {"dtype": "float16", "shape": [2, 3], "offset": 0}}}'
    """
    header: dict[str, dict[str, object]] = {}
    chunks: list[bytes] = []
    offset = 0
    for name, array in answer.arrays.items():
        small = array if array.dtype == np.uint8 else np.clip(array, -65504, 65504).astype("<f2")
        content = np.ascontiguousarray(small).tobytes()
        content += b"\0" * (-len(content) % 4)  # each array begins where a typed array of any kind may begin
        header[name] = {
            "dtype": "uint8" if array.dtype == np.uint8 else "float16",
            "shape": list(array.shape),
            "offset": offset,
        }
        chunks.append(content)
        offset += len(content)
    line = json.dumps({"data": answer.data, "arrays": header}, allow_nan=False)
    return b"\n".join([line.encode(), b"".join(chunks)])


__all__ = ["pack"]
