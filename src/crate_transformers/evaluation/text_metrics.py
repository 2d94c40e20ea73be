"""The usual metrics of text tasks, as plain functions of arrays."""

from collections.abc import Sequence

import numpy as np


def matthews(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Matthews correlation of predicted and true classes, in [-1, 1]."""
    from sklearn.metrics import matthews_corrcoef  # heavy

    return float(matthews_corrcoef(truth, predicted))


def macro_f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """F1 of each class, in [0, 1], and the mean over classes; 0 for a class that is neither predicted nor true.

    Args:
        predicted, truth: (n,) class numbers, or (n, classes) of zeros and ones.
    """
    from sklearn.metrics import f1_score  # heavy

    return float(f1_score(truth, predicted, average="macro", zero_division=0))


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """(type, first, last) of each entity that BIO tags mark, places included.

    As in seqeval, an I- that continues no entity of its type begins one.
    """
    found, start, kind = set(), None, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        continues = prefix == "I" and start is not None and name == kind
        if start is not None and not continues:
            found.add((kind, start, place - 1))
            start = None
        if prefix in ("B", "I") and not continues:
            start, kind = place, name
    return found


def entity_f1(predicted: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> float:
    """Micro-averaged F1 of entities, in [0, 1]; the accuracy of the tags where the names are not BIO tags.

    Args:
        predicted, truth: (sentences, tokens) of class numbers; truth is -100 where no word begins.
        names: the tag of each class number.
    """
    if not any(name.startswith(("B-", "I-")) for name in names):
        real = truth != -100
        return float((predicted == truth)[real].mean())
    right = guessed = present = 0
    for guess, answer in zip(predicted, truth, strict=True):
        real = answer != -100
        found = entities([names[i] for i in guess[real]])
        wanted = entities([names[i] for i in answer[real]])
        right, guessed, present = right + len(found & wanted), guessed + len(found), present + len(wanted)
    return 2 * right / (guessed + present) if guessed + present else 1.0


def exact_match(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Fraction, in [0, 1], of spans (n, 2) whose first and last token are both right."""
    return float((predicted == truth).all(axis=-1).mean())


def token_f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean F1, in [0, 1], of the tokens in predicted and true spans (n, 2), both ends included."""
    scores = []
    for (first, last), (start, end) in zip(predicted, truth, strict=True):
        overlap = max(0, min(last, end) - max(first, start) + 1)
        sizes = max(0, last - first + 1) + (end - start + 1)
        scores.append(2 * overlap / sizes)
    return float(np.mean(scores))


__all__ = ["entities", "entity_f1", "exact_match", "macro_f1", "matthews", "token_f1"]
