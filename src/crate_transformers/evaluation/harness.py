"""A saved language model measured by the tasks of lm-eval."""

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoModelForCausalLM

from ..errors import UserError
from ..interop.doors.lm_eval import evaluate_tasks
from .language_models import check_vocabulary, is_causal, load_tokenizer
from .opening import open_model


def evaluate_by_tasks(
    folder: str | Path, tasks: Sequence[str], include_path: str | Path | None = None, limit: int | None = None
) -> dict[str, dict[str, float]]:
    """Measure the causal language model of a folder, or of a hub name.

    Args:
        tasks, include_path, limit: as in `evaluate_tasks`, whose result this is.

    Raises:
        UserError: it is no causal language model, and what `evaluate_tasks` raises.
    """
    if not is_causal(folder):
        raise UserError(f"{folder} holds a masked language model: the tasks of lm-eval are of causal ones")
    model, tokenizer = open_model(folder, kind=AutoModelForCausalLM), load_tokenizer(folder)
    check_vocabulary(tokenizer, model.config.vocab_size)
    return evaluate_tasks(model, tokenizer, tasks, include_path, limit=limit)


__all__ = ["evaluate_by_tasks"]
