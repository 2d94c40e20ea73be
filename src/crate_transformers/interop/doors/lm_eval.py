"""lm-eval, the evaluation harness of language models: its tasks, and task files of one's own, on a causal model.

Source: https://github.com/EleutherAI/lm-evaluation-harness.
"""

import os
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...errors import MissingPackageError, UserError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator


def evaluate_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    include_path: str | Path | None = None,
    batch_size: int = 8,
    limit: int | None = None,
    num_fewshot: int | None = None,
) -> dict[str, dict[str, float]]:
    """Measure a causal language model by tasks of lm-eval.

    Args:
        model: a causal language model. tokenizer: its tokenizer.
        tasks: names of tasks or groups. include_path: a folder of task files (YAML); their data may be local files, and
            then nothing is asked of a network.
        batch_size: requests at a time. limit: samples of each task, the first ones; None is all.
        num_fewshot: examples before each question; None is what the task says.

    Returns:
        {task: {"acc,none": 0.25, "acc_stderr,none": ..., "samples": 100}}, in lm-eval's names of measures and filters.

    Raises:
        MissingPackageError: lm-eval is not installed.
        UserError: an unknown task, or a task that cannot be read or run.
    """
    if batch_size < 1 or (limit is not None and limit < 1) or (num_fewshot is not None and num_fewshot < 0):
        raise UserError("batch_size and limit must be at least 1, num_fewshot at least 0")
    if include_path is not None and not Path(include_path).is_dir():
        raise UserError(f"no folder of task files at {include_path}")
    with _without_parallel_tokenizers():
        evaluator, manager_class, model_class = _import_lm_eval()
        manager = manager_class(include_path=None if include_path is None else str(include_path))
        unknown = [task for task in tasks if task not in manager.all_tasks]
        if unknown or not tasks:
            where = "" if include_path is None else f" and not in {include_path}"
            raise UserError(
                f"{', '.join(unknown) or 'no task'}: not a task of lm-eval{where} (`lm-eval ls tasks` lists)"
            )
        wrapped = model_class(
            pretrained=model,
            backend="causal",
            tokenizer=tokenizer,
            batch_size=batch_size,
            max_length=getattr(model.config, "max_sequence_length", None),
        )
        try:
            found = evaluator.simple_evaluate(
                model=wrapped,
                tasks=list(tasks),
                task_manager=manager,
                limit=limit,
                num_fewshot=num_fewshot,
                log_samples=False,
                bootstrap_iters=1000,
            )
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"lm-eval could not run {', '.join(tasks)}: {one_line(error)}") from error
    return {name: _numbers(name, values, found) for name, values in found["results"].items()}


def _numbers(name: str, values: dict[str, Any], found: dict[str, Any]) -> dict[str, float]:
    """The measures of a task that are numbers, and how many samples they are of."""
    counted = found.get("n-samples", {}).get(name, {}).get("effective")
    numbers = {key: value for key, value in values.items() if isinstance(value, int | float) and key != "sample_len"}
    return numbers if counted is None else {**numbers, "samples": counted}


def _import_lm_eval() -> tuple[Any, Any, Any]:
    try:
        from lm_eval import evaluator
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise MissingPackageError("tasks need an extra: pip install 'crate-transformers[lm-eval]'") from error
    return evaluator, TaskManager, HFLM


@contextmanager
def _without_parallel_tokenizers() -> "Iterator[None]":
    """lm-eval sets this for its process; here it is set back."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TOKENIZERS_PARALLELISM", None)
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


__all__ = ["evaluate_tasks"]
