"""`pipeline("question-answering")`: the span of a context that answers a question.

transformers 5 has no such pipeline any more. The names of the options and of the answer's fields are those it had in
transformers 4; the score is the probability of the span among all spans that may be an answer.
"""

# mypy: disable-error-code="assignment, override"
# (a pipeline's own arguments and flags differ from what its parent declares, as in transformers itself)

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, pipelines

from ..errors import UserError
from ..upstream import PIPELINE_REGISTRY, ChunkPipeline

TASK = "question-answering"


class QuestionAnsweringPipeline(ChunkPipeline):
    """Reads answers out of contexts of any length, which are cut into windows that overlap.

    Example (tests skip it, for it needs the folder of a run):
        >>> answer = pipeline("question-answering", model="runs/question-answering")  # doctest: +SKIP
        >>> answer(question="What is sparse?", context="The code is sparse.")  # doctest: +SKIP
        {'score': 0.8, 'start': 4, 'end': 8, 'answer': 'code'}

    A list of {"question": ..., "context": ...}, or a list of each, gives a list of answers. Options, here or in a call:
        top_k: how many answers; one gives a dictionary, more a list. max_answer_length: in tokens.
        max_seq_length: tokens of a window, at most (and by default) what the model takes, or 384 where that is more.
        doc_stride: tokens of the context that two windows share; by default half of what fits, at most 128.
        handle_impossible_answer: let "" compete, scored at the first token.

    Raises:
        ValueError: no question or no context, a question that leaves no room for the context, an option out of range.
    """

    tokenizer: Any
    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __call__(self, inputs: Any = None, question: Any = None, context: Any = None, **options: Any) -> Any:
        if inputs is None:
            inputs = {"question": question, "context": context}
            if isinstance(question, list) and isinstance(context, list):
                inputs = [{"question": q, "context": c} for q, c in zip(question, context, strict=True)]
        return super().__call__(inputs, **options)

    def _sanitize_parameters(
        self,
        max_seq_length: int | None = None,
        doc_stride: int | None = None,
        **options: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        unknown = set(options) - {"top_k", "max_answer_length", "handle_impossible_answer"}
        if unknown:
            raise UserError(f"unknown option of {TASK}: {', '.join(sorted(unknown))}")
        for name in ("top_k", "max_answer_length"):
            number = options.get(name, 1)
            if not isinstance(number, int) or number < 1:
                raise UserError(f"{name} must be a whole number >= 1, got {number!r}")
        windows = {"max_seq_length": max_seq_length, "doc_stride": doc_stride}
        return {name: value for name, value in windows.items() if value is not None}, {}, options

    def preprocess(
        self, pair: dict[str, str], max_seq_length: int | None = None, doc_stride: int | None = None
    ) -> Iterator[dict[str, Any]]:
        if not isinstance(pair, dict):
            raise UserError(f"{TASK} takes question=..., context=... or a dictionary of both, got {pair!r}")
        for name in ("question", "context"):
            if not isinstance(pair.get(name), str) or not pair[name].strip():
                raise UserError(f"{TASK} needs a {name}, got {pair.get(name)!r}")
        question, context = pair["question"].strip(), pair["context"]
        length = min(max_seq_length or 384, self._context_length())
        asked = len(self.tokenizer(question, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        room = length - asked - self.tokenizer.num_special_tokens_to_add(pair=True)
        if room < 1:
            raise UserError(f"the question leaves no room for its context in windows of {length} tokens")
        shared = min(128, room // 2) if doc_stride is None else doc_stride
        if not 0 <= shared < room:
            raise UserError(f"doc_stride must be in [0, {room}) beside this question, got {shared}")
        windows = self.tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=length,
            stride=shared,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            split_special_tokens=True,  # a text that spells one means its characters
        )
        count = len(windows["input_ids"])
        for i in range(count):
            model_inputs = {
                name: torch.tensor([windows[name][i]]) for name in self.tokenizer.model_input_names if name in windows
            }
            yield {
                **model_inputs,
                "offsets": torch.tensor([windows["offset_mapping"][i]]),
                "in_context": torch.tensor([[part == 1 for part in windows.sequence_ids(i)]]),
                "context": context,
                "is_last": i == count - 1,
            }

    def _context_length(self) -> int:
        config = self.model.config
        own = getattr(config, "max_sequence_length", None) or config.max_position_embeddings
        return min(own, self.tokenizer.model_max_length)

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        ours = {name: model_inputs.pop(name) for name in ("offsets", "in_context", "context", "is_last")}
        outputs = self.model(**model_inputs)
        first = model_inputs["attention_mask"].argmax(dim=-1, keepdim=True)
        return {"start_logits": outputs.start_logits, "end_logits": outputs.end_logits, "first": first, **ours}

    def postprocess(
        self,
        windows: list[dict[str, Any]],
        top_k: int = 1,
        max_answer_length: int = 15,
        handle_impossible_answer: bool = False,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        scores = [_span_scores(window, max_answer_length, handle_impossible_answer) for window in windows]
        total = torch.cat([score.flatten() for score in scores]).logsumexp(dim=0)
        probability: dict[tuple[int, int], float] = defaultdict(float)  # one span may lie in several windows
        for window, score in zip(windows, scores, strict=True):
            best = score.flatten().topk(min(score.numel(), 20 * top_k))
            for value, place in zip((best.values - total).exp().tolist(), best.indices.tolist(), strict=True):
                first, last = divmod(place, score.shape[1])
                if value > 0:
                    probability[_characters(window, first, last)] += value
        context = _context(windows[0])
        answers = [
            {"score": min(score, 1.0), "start": start, "end": end, "answer": context[start:end]}
            for (start, end), score in sorted(probability.items(), key=lambda item: -item[1])[:top_k]
        ]
        return answers[0] if top_k == 1 else answers


def _span_scores(window: dict[str, Any], longest: int, may_be_empty: bool) -> Tensor:
    """(N, N) sum of the logits of the first (row) and the last (column) token; -inf where that is no answer."""
    start, end = (window[name][0].float() for name in ("start_logits", "end_logits"))
    allowed = window["in_context"][0].bool()
    spans = (allowed[:, None] & allowed[None, :]).triu().tril(longest - 1)
    if may_be_empty:
        first = int(window["first"])
        spans[first, first] = True
    return (start[:, None] + end[None, :]).masked_fill(~spans, float("-inf"))


def _context(window: dict[str, Any]) -> str:
    """The whole context; a batch of windows comes apart into lists of one."""
    context = window["context"]
    return context if isinstance(context, str) else context[0]


def _characters(window: dict[str, Any], first: int, last: int) -> tuple[int, int]:
    """(start, end) in the context of a span of tokens, without the spaces around it; (0, 0): no answer."""
    if not window["in_context"][0, first]:
        return 0, 0
    offsets = window["offsets"][0]
    start, end = int(offsets[first, 0]), int(offsets[last, 1])
    text = _context(window)[start:end]
    return start + len(text) - len(text.lstrip()), start + len(text.rstrip())


def register_pipeline() -> None:
    """Make the pipeline known where transformers has none of its own."""
    if TASK not in PIPELINE_REGISTRY.supported_tasks:
        getattr(pipelines, "REMOVED_TASKS", {}).pop(TASK, None)  # names that it refuses before it looks
        PIPELINE_REGISTRY.register_pipeline(
            TASK, QuestionAnsweringPipeline, pt_model=AutoModelForQuestionAnswering, type="text"
        )


__all__ = ["QuestionAnsweringPipeline", "register_pipeline"]
