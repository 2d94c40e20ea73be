"""The suites: which cases, and who does them."""

from dataclasses import dataclass
from importlib.util import find_spec

import torch

from ..errors import UserError
from .contenders import Case

SIZES = ("tiny", "small", "base")


@dataclass(frozen=True)
class Contest:
    """One case and its contenders; the first is ours, which the ratios compare with. memory: measure its peak too."""

    case: Case
    contenders: tuple[str, ...]
    memory: bool = False


def _own_kernels() -> tuple[str, ...]:
    """The contender that takes Triton's kernels, where they run."""
    return ("crate mssa",) if torch.get_default_device().type == "cuda" else ()


def _vision(quick: bool) -> list[Contest]:
    rivals = ("crate", *_own_kernels(), "public", "vit")
    if quick:
        return [Contest(Case("vision", "tiny", 4, training), rivals, memory=training) for training in (False, True)]
    contests = []
    for batch in (16, 1, 64):
        for size in SIZES:
            contests.append(Contest(Case("vision", size, batch), rivals))
            contests.append(Contest(Case("vision", size, batch, training=True), rivals, memory=batch == 16))
    return contests


def _bfloat16(quick: bool) -> list[Contest]:
    """Inference with weights in bfloat16, training under autocast, each beside float32."""
    contests = []
    for size in ("tiny",) if quick else SIZES:
        for training, form in ((False, "bfloat16"), (True, "autocast")):
            rivals = tuple(f"{name} {form}" for name in ("crate", *_own_kernels(), "crate sdpa", "public", "vit"))
            contests.append(Contest(Case("vision", size, 2 if quick else 16, training), (*rivals, "crate"), training))
    return contests


def _best(quick: bool) -> list[Contest]:
    forms = (
        "crate fused compiled",
        "crate fused",
        "crate compiled",
        "crate",
        "crate sdpa",
        "public compiled",
        "public",
    )
    sizes = ("tiny",) if quick else SIZES
    return [Contest(Case("vision", size, 2 if quick else 16), forms) for size in sizes]


def _text(quick: bool) -> list[Contest]:
    if quick:
        encoder, decoder = [Case("encoder", "tiny", 2, tokens=128)], [Case("decoding", "tiny", tokens=16)]
    else:
        encoder = [Case("encoder", "base", 8, tokens=tokens) for tokens in (128, 512)]
        decoder = [Case("decoding", "base", batch, tokens=64) for batch in (1, 8)]
    return [Contest(case, ("crate", "bert")) for case in encoder] + [
        Contest(case, ("crate", "gpt2")) for case in decoder
    ]


def _length(quick: bool) -> list[Contest]:
    contests = []
    for side in (16, 32) if quick else (16, 32, 64, 128):  # 256 ... 16k patches
        own = ("crate", *_own_kernels())
        rivals = (*own, "public", "vit") if side <= 32 else (*own, "vit")  # 64: public asks for several GiB
        contests.append(Contest(Case("vision", "tiny", 1, image_size=16 * side, layers=2), rivals, memory=True))
    return contests


def _analysis(quick: bool) -> list[Contest]:
    sizes, batch = (("tiny",), 2) if quick else (SIZES, 16)
    return [Contest(Case("rates", size, batch, tokens=197), ("crate", "public")) for size in sizes]


def _loading(quick: bool) -> list[Contest]:
    sizes, batch = (("tiny",), 2) if quick else (SIZES, 16)
    return [Contest(Case("loading", size, batch), ("crate", "pipeline")) for size in sizes]


def _weights(quick: bool) -> list[Contest]:
    forms = ["crate", "crate fused", "crate fused bfloat16"]
    if find_spec("torchao") is not None:  # the extra `quantization`
        forms += ["crate fused int8", "crate fused int8-dynamic"]
    if quick:
        return [Contest(Case("vision", "tiny", 1), tuple(forms))]
    cases = [Case("vision", "base", batch) for batch in (1, 16)] + [Case("decoding", "base", 1, tokens=32)]
    return [Contest(case, tuple(forms)) for case in cases]


def _family(quick: bool) -> list[Contest]:
    """The families beside each other at one width and depth, images and causal text, with their memory in training."""
    images, text = ("crate", "alpha", "cbt", "aot", "tost", "vit"), ("crate", "tost", "gpt2")
    size, batch, tokens = ("tiny", 1, 32) if quick else ("small", 16, 1024)
    layers = 2 if quick else None
    contests = [Contest(Case("vision", size, batch, step, layers=layers), images, step) for step in (False, True)]
    contests += [
        Contest(Case("causal", size, 1, step, tokens=tokens, layers=layers), text, step) for step in (False, True)
    ]
    return [*contests, Contest(Case("decoding", size, 1, tokens=8 if quick else 64, layers=layers), text)]


SUITES = {
    "vision": _vision,
    "best": _best,
    "bfloat16": _bfloat16,
    "text": _text,
    "length": _length,
    "analysis": _analysis,
    "loading": _loading,
    "weights": _weights,
    "family": _family,
}


def contests_of(suite: str, quick: bool = False, only: str = "") -> list[Contest]:
    """The contests of a suite whose label contains `only`.

    Raises:
        ValueError: an unknown suite.
    """
    if suite not in SUITES:
        raise UserError(f"unknown suite {suite!r}: expected one of {', '.join(SUITES)}, or all")
    return [contest for contest in SUITES[suite](quick) if only in contest.case.label]


__all__ = ["SUITES", "Contest", "contests_of"]
