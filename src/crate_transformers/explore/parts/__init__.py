"""The parts of an answer: each is a function of what is looked at and of a state."""

from collections.abc import Callable

from ..answers import Answer
from ..looking import Looking
from ..state import State
from .code import code, film, neuron
from .ladder import angles, ladder, ladder_rows
from .maps import features, maps, shares, tokens
from .prediction import grow, prediction

PARTS: dict[str, Callable[[Looking, State], Answer]] = {
    "tokens": tokens,
    "prediction": prediction,
    "ladder": ladder,
    "angles": angles,
    "maps": maps,
    "shares": shares,
    "features": features,
    "code": code,
    "film": film,
    "neuron": neuron,
}

__all__ = ["PARTS", "grow", "ladder_rows"]
