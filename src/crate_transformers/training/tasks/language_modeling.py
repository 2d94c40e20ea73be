"""Masked and causal language modelling; the report measures the text in bits per byte."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ...data.text import load_text_source
from ...data.text.masking import MaskingCollator
from ...data.text.tokens import CausalCollator, PackedStream, PackedTokens, TokenFile, pack_tokens, train_tokenizer
from ...errors import UserError
from ...evaluation.compression import bits_per_byte, text_metrics, xz_bits_per_byte
from ...evaluation.language_models import check_vocabulary, load_tokenizer
from ...files import user_path
from ...recipes.schema import Recipe
from ...recipes.tasks.language_modeling import CausalLanguageTrain, LanguageData, MaskedLanguageData
from ...report.sections import Section
from ..build import AutoClass, build_model, model_without_weights
from .base import CACHE, Outputs, Task, first_output
from .stand_in import DataFacts, StandIn, blank_numbers
from .text_view import text_view_sections


class LanguageModeling(Task):
    """Masked or causal language modelling, as the recipe's task says.

    Attributes:
        is_causal: whether the model predicts the next token (else masked ones).
        splits: the texts of the three parts. held_out: part -> the tokens of "validation" and "test".
        context_length: tokens of a sample.
        shown: the samples that reports and measures use.
    """

    model: PreTrainedModel

    def __init__(self, recipe: Recipe, output: Path):
        super().__init__(recipe, output)
        data = recipe.data
        assert isinstance(data, LanguageData)
        self.data = data
        self.is_causal = not isinstance(data, MaskedLanguageData)
        self.splits = load_text_source(
            data.source, data.validation_fraction, data.test_fraction, recipe.seed, data.text_column, data.streaming
        )
        self.notes.extend(self.splits.notes)
        self.cache = user_path(data.cache_dir) if data.cache_dir else output / CACHE
        self.tokenizer = self._tokenizer()
        self.model = build_model(recipe, _auto_class(data), self._fields_of_data(), self.notes)
        check_vocabulary(self.tokenizer, self.model.config.vocab_size)
        self.context_length = _context_length(data, self.model.config)
        self.held_out = {part: self._pack(part) for part in ("validation", "test")}
        self.validation_data = PackedTokens(self.held_out["validation"], self.context_length)
        self.test_data = self.shown = PackedTokens(self.held_out["test"], self.context_length)
        if data.streaming:
            self.keyed = False
            self.notes.append(
                "the order of a stream is not exact: it is that of its source, which processes and workers share; "
                "a run that is resumed reads again from the beginning what it skips"
            )
            self.train_data = PackedStream(self.splits.train, self.tokenizer, self.context_length)
        else:
            self.train_data = PackedTokens(self._pack("train"), self.context_length)
        if isinstance(data, MaskedLanguageData):
            self.collator = MaskingCollator(self.tokenizer, data.mask_probability, recipe.seed)
        else:
            self.collator = CausalCollator()
        self.evaluation_collator = self.collator

    @classmethod
    def stand_in(cls, recipe: Recipe, facts: DataFacts) -> StandIn:
        data = recipe.data
        assert isinstance(data, LanguageData)
        is_new = not recipe.model.get("from")
        fields = _fields_of_data(recipe, data, facts.known("vocabulary", "--vocabulary")) if is_new else {}
        model = model_without_weights(recipe, _auto_class(data), fields)
        length = _context_length(data, model.config)
        return StandIn(
            model,
            lambda rows: {"input_ids": blank_numbers(rows, length), "labels": blank_numbers(rows, length)},
            "tokens",
            length,
        )

    # -- data ---------------------------------------------------------------------------------------------------------

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        source = self.data.tokenizer or self.recipe.model.get("from")
        if source is not None:
            return load_tokenizer(source)
        length = self.data.context_length or 512
        return train_tokenizer(self.splits.train, self.data.vocab_size, self.is_causal, length)

    def _fields_of_data(self) -> dict[str, Any]:
        """The fields of a new model's configuration that the tokenizer and the context decide."""
        if self.recipe.model.get("from"):
            return {}
        tokens = {f"{name}_token_id": getattr(self.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        return _fields_of_data(self.recipe, self.data, len(self.tokenizer), tokens)

    def _pack(self, part: str) -> TokenFile:
        data, text = self.data, getattr(self.splits, part)
        key = {
            "part": part,
            "source": data.source,
            "state": self.splits.state if self.splits.state is not None else text.digest(),
            "column": data.text_column,
            "fractions": [data.validation_fraction, data.test_fraction],
            "seed": self.recipe.seed,
        }
        return pack_tokens(text, self.tokenizer, self.cache, key)

    def count_items(self, batch: Mapping[str, Tensor]) -> int:
        labels = batch["labels"][:, 1:] if self.is_causal else batch["labels"]
        return int((labels != -100).sum())

    # -- metrics ------------------------------------------------------------------------------------------------------

    def reduce_outputs(self, logits: Outputs, labels: Outputs) -> Tensor:
        return torch.zeros(len(first_output(labels)))  # the loss is enough; logits over a vocabulary fill the memory

    def complete(self, metrics: dict[str, float], part: str) -> dict[str, float]:
        return {**metrics, **text_metrics(metrics["loss"], self.held_out[part], self.is_causal)}

    def save_beside(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)

    def sample_inputs(self, count: int) -> dict[str, Tensor]:
        chunks = [self.shown[i]["input_ids"] for i in range(min(count, 64, len(self.shown)))]
        return {"input_ids": torch.stack(chunks)}

    # -- report -------------------------------------------------------------------------------------------------------

    def callbacks(self) -> list[TrainerCallback]:
        train = self.recipe.train
        every = train.sample_every if isinstance(train, CausalLanguageTrain) else 0
        return [WriteSamples(self, every)] if every else []

    def report(self, model: PreTrainedModel, history: list[dict[str, Any]]) -> list[Section]:
        sections = [self._compression(model, history)]
        samples = [entry for entry in history if "sample" in entry]
        if samples:
            text = "\n\n".join(f"--- step {entry['step']}\n{entry['sample']}" for entry in samples[-12:])
            sections.append(
                Section("Samples during training", "Drawn at temperature 0.8 from the same prompt.", verbatim=text)
            )
        return [*sections, *text_view_sections(model, self.sample_inputs(1), self.tokenizer)]

    def _compression(self, model: PreTrainedModel, history: list[dict[str, Any]]) -> Section:
        test = self.held_out["test"]
        rows: list[dict[str, Any]] = []
        losses = [entry["test_loss"] for entry in history if "test_loss" in entry]
        if losses:
            rows.append({"coder": type(model).__name__, "bits per byte": f"{bits_per_byte(losses[-1], test):.3f}"})
        rows.append({"coder": "xz -9", "bits per byte": f"{xz_bits_per_byte(self.splits.test):.3f}"})
        text = f"The same {test.num_bytes:,} held-out bytes, coded by the model and by a compressor" + (
            "." if self.is_causal else "; the masked model sees both sides of a token, so its figure is no code length."
        )
        return Section("Compression is the subject", text, table=rows)


def _auto_class(data: LanguageData) -> AutoClass:
    return AutoModelForMaskedLM if isinstance(data, MaskedLanguageData) else AutoModelForCausalLM


def _fields_of_data(
    recipe: Recipe, data: LanguageData, vocabulary: int, tokens: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The fields of a new model's configuration that the data decide.

    Args:
        vocabulary: tokens that the tokenizer knows. tokens: the numbers of its special ones; None leaves the padding 1.
    """
    is_causal = not isinstance(data, MaskedLanguageData)
    fields: dict[str, Any] = {"vocab_size": vocabulary, **(tokens or {})}
    if recipe.family.name == "crate" and is_causal and not recipe.model.get("size"):
        raise UserError("a causal CRATE names its shell: set model.size, e.g. gpt2-tiny, and override its fields")
    if data.context_length:
        pad = fields.get("pad_token_id", 1)
        offset = pad + 1 if recipe.family.name == "crate" and not is_causal else 0
        name = "n_positions" if recipe.family.name == "gpt2" else "max_position_embeddings"
        fields[name] = data.context_length + offset
    return fields


def _context_length(data: LanguageData, config: PreTrainedConfig) -> int:
    limit = getattr(config, "max_sequence_length", config.max_position_embeddings)
    length = data.context_length or limit
    if not 2 <= length <= limit:
        raise UserError(f"data.context_length must be from 2 to the model's {limit} tokens, got {length}")
    return int(length)


class WriteSamples(TrainerCallback):
    """Writes a sample of the model's text into the log, every `every` steps."""

    def __init__(self, task: LanguageModeling, every: int):
        self.task, self.every = task, every

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        if state.global_step % self.every:
            return
        model: Any = self.task.whole_model()  # one that generates
        if not state.is_world_process_zero:
            return
        was_training = model.training
        model.eval()
        with torch.random.fork_rng():
            torch.manual_seed(self.task.recipe.seed)
            prompt = self.task.shown[0]["input_ids"][None, :8].to(model.device)
            room = self.task.context_length - prompt.shape[1]
            tokens = model.generate(
                prompt,
                max_new_tokens=min(64, room),
                do_sample=True,
                temperature=0.8,
                attention_mask=torch.ones_like(prompt),
            )
        model.train(was_training)
        history: list[dict[str, Any]] = state.log_history
        history.append(
            {"step": state.global_step, "epoch": state.epoch, "sample": self.task.tokenizer.decode(tokens[0])}
        )


__all__ = ["LanguageModeling"]
