"""One token as a sum of atoms, and a neuron: what makes it fire, what it does."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from ...analysis import code_of_token, edited, film_of_token, run_edited
from ...analysis.text import token_texts
from ...errors import UserError
from ..answers import Answer
from ..looking import Looking, has_code
from ..state import State
from ..subjects import class_names
from .prediction import probabilities

_FIRING, _TOP = 12, 8


def code(look: Looking, state: State) -> Answer:
    """`analysis.code_of_token` of a layer and a token, and where its strongest neurons fire (n, N)."""
    subject, run = look.subject(state, state.which), look.run(state, state.which)
    look.check_layer(state, run)
    if not has_code(subject, state.layer):
        return Answer({"left_out": f"layer {state.layer} of {subject.name} makes no sparse code: it has no atoms"})
    with edited(subject.model, run.edit):
        code = code_of_token(subject.model, run.trace, state.layer, look.token(state, state.which))
    codes = run.trace.layers[state.layer].get("codes")[0]  # (N, m)
    firing = codes[:, list(code.neurons[:_FIRING])].T.float().cpu()
    return Answer(
        {
            "neurons": code.neurons,
            "values": code.values,
            "residuals": code.residuals,
            "of": code.of,
            "norm": code.norm,
            "of_neurons": codes.shape[1],
            "prefix": run.trace.prefix,
        },
        {"firing": firing.numpy()},
    )


def film(look: Looking, state: State) -> Answer:
    """`analysis.film_of_token`: objective, non-zeros and codes (steps + 1, m) of 20 steps of ISTA."""
    subject, run = look.subject(state, state.which), look.run(state, state.which)
    look.check_layer(state, run)
    if not has_code(subject, state.layer):
        return Answer({"left_out": f"layer {state.layer} of {subject.name} takes no step of ISTA"})
    with edited(subject.model, run.edit):
        film = film_of_token(subject.model, run.trace, state.layer, look.token(state, state.which))
    data = {"taken": film.taken, "objective": film.objective, "nonzeros": film.nonzeros}
    return Answer(data, {"codes": film.codes.float().cpu().numpy()})


def neuron(look: Looking, state: State) -> Answer:
    """What makes a neuron fire most in all pictures (or texts), and what the prediction is without it."""
    if state.neuron is None:
        return Answer({})
    subject, run = look.subject(state, state.which), look.run(state, state.which)
    look.check_layer(state, run)
    codes = run.trace.layers[state.layer].codes
    if codes is None:
        return Answer({"left_out": f"layer {state.layer} of {subject.name} makes no code"})
    if state.neuron >= codes.shape[-1]:
        raise UserError(f"there is no neuron {state.neuron}: the layer has {codes.shape[-1]}, from 0")
    data: dict[str, Any] = {"here": codes[0, :, state.neuron].tolist(), "top": _top(look, state)}
    off = replace(state.edit, neurons={**state.edit.neurons, (state.layer, state.neuron): 0.0})
    now = probabilities(subject, run, state)
    if now is not None:
        without = probabilities(subject, look.run(replace(state, edit=off), state.which), state)
        assert without is not None
        order = (now - without).abs().argsort(descending=True)[:_TOP].tolist()
        names = class_names(subject) or token_texts(subject.tokenizer, order)
        labels = [names[i] for i in order] if class_names(subject) else names
        data["effect"] = {"labels": labels, "with": now[order].tolist(), "without": without[order].tolist()}
    return Answer(data)


def _top(look: Looking, state: State) -> list[dict[str, Any]]:
    """The inputs on which a neuron fires most: number of the picture or text, place of the token, value."""
    found = []
    for index, codes in enumerate(_all_codes(look, state)):
        value, place = codes[:, state.neuron].max(dim=0)  # (N, m)
        found.append({"input": index, "token": int(place), "value": float(value)})
    found.sort(key=lambda entry: -float(entry["value"]))
    return [_in_words(look, state, entry) for entry in found[:_TOP] if entry["value"] > 0]


def _in_words(look: Looking, state: State, entry: dict[str, Any]) -> dict[str, Any]:
    subject = look.subject(state, state.which)
    if subject.reads_images:
        return entry
    ids = subject.ids(look.subjects.texts[entry["input"]])[0].tolist()
    place = entry["token"]
    around = token_texts(subject.tokenizer, ids[max(place - 6, 0) : place + 4])
    return {**entry, "around": around, "at": min(place, 6)}


def _all_codes(look: Looking, state: State) -> list[Tensor]:
    """Codes (N, m) of a layer of the unchanged model, of every picture or text; two layers are kept."""
    key = (state.which, "" if state.which == "model" else look.other_name(state), state.layer)
    if key in look.codes:
        return look.codes[key]
    subject = look.subject(state, state.which)
    if subject.reads_images:
        inputs = [subject.pixels(look.subjects.read(i)) for i in range(look.subjects.num_pictures)]
    else:
        inputs = [subject.ids(text) for text in look.subjects.texts]
    runs = (run_edited(subject.model, one.to(subject.model.device), records=("codes",)) for one in inputs)
    return look.codes.keep(key, [run.trace.layers[state.layer].get("codes")[0].float().cpu() for run in runs])


__all__ = ["code", "film", "neuron"]
