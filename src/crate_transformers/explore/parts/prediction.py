"""What the model makes of an input: classes, the next token, a rebuilt picture; and a text that grows."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...analysis import Edit, Run, edited
from ...analysis.text import token_texts
from ...errors import UserError
from ...evaluation.reconstruction import reconstruct
from ..answers import Answer, shown
from ..looking import Looking
from ..state import State
from ..subjects import Subject, can_write, class_names

_TOP = 8


def prediction(look: Looking, state: State) -> Answer:
    """What the model makes of it: logits of `run_edited` as probabilities, before the change and after.

    A classifier's classes; the next token's candidates after `state.token`; an autoencoder's `reconstruct`.
    """
    found: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for which in look.both(state):
        subject = look.subject(state, which)
        if hasattr(subject.model, "decoder"):
            arrays[which] = _rebuilt(look, subject, state, changed=True)
            found[which] = {"kind": "reconstruction", "name": subject.name}
            continue
        now = probabilities(subject, look.run(state, which), state)
        if now is None:
            continue
        plain = probabilities(subject, look.run(state, which, changed=False), state)
        assert plain is not None
        found[which] = {"name": subject.name, **_ranked(subject, now, plain)}
    return Answer(found, arrays)


def probabilities(subject: Subject, run: Run, state: State) -> Tensor | None:
    """(classes or tokens,) of the picture, or of the token after `state.token`; None where there is no head."""
    logits = run.outputs.get("logits")
    if logits is None:
        return None
    if logits.ndim == 3:
        if state.token >= logits.shape[1]:
            raise UserError(f"there is no token {state.token}: the text has {logits.shape[1]}, from 0")
        logits = logits[:, state.token]
    return logits[0].float().softmax(dim=-1).cpu()


def _ranked(subject: Subject, now: Tensor, plain: Tensor) -> dict[str, Any]:
    names = class_names(subject)
    order = (torch.arange(len(now)) if names and len(names) <= 20 else now.argsort(descending=True)[:_TOP]).tolist()
    best, best_before = int(now.argmax()), int(plain.argmax())
    named = (lambda ids: [names[i] for i in ids]) if names else partial(token_texts, subject.tokenizer)
    return {
        "kind": "classes" if names else "tokens",
        "what": "class" if names else "next token" if can_write(subject) else "token in this place",
        "labels": named(order),
        "numbers": order,
        "probabilities": now[order].tolist(),
        "before": plain[order].tolist(),
        "best": named([best])[0],
        "best_before": named([best_before])[0],
    }


def _rebuilt(look: Looking, subject: Subject, state: State, changed: bool) -> np.ndarray:
    """(H, 3 W, 3): the masked picture, the rebuilt one, the true one."""
    pixels = look.inputs(subject, state, changed)
    rows, columns = look.grid(subject, state)
    noise = torch.rand(1, rows * columns, generator=torch.Generator().manual_seed(0)).to(pixels.device)
    with edited(subject.model, state.edit if subject is look.subject(state, state.which) else Edit()):
        rebuilt = reconstruct(subject.model, pixels, noise)
    parts = [torch.nan_to_num(part).cpu() for part in (rebuilt.masked, rebuilt.composite, rebuilt.original)]
    return np.concatenate([shown(subject, part) for part in parts], axis=1)


def grow(look: Looking, state: State, temperature: float = 0.0, seed: int = 0) -> Answer:
    """The text with one more token, under the change: the likeliest, or drawn at a temperature."""
    subject = look.subject(state, state.which)
    run = look.run(state, state.which)
    logits = run.outputs.get("logits")
    if subject.reads_images or logits is None or logits.ndim != 3:
        raise UserError(f"{subject.name} does not write text")
    assert subject.tokenizer is not None
    last = logits[0, -1].float().cpu()
    if temperature > 0:
        generator = torch.Generator().manual_seed(seed + logits.shape[1])
        token = int(torch.multinomial((last / temperature).softmax(dim=-1), 1, generator=generator))
    else:
        token = int(last.argmax())
    text = state.text + str(subject.tokenizer.decode([token]))
    return Answer(
        {
            "text": text,
            "tokens": subject.ids(text).shape[1],
            "token": token,
            "piece": token_texts(subject.tokenizer, [token])[0],
        }
    )


__all__ = ["grow", "prediction", "probabilities"]
