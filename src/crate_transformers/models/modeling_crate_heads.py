"""Text models with a task's head: classify sequences, choices and tokens, find answers.

    pooled or token-wise representations Z_L -> dropout -> linear -> logits

Shapes: B batch, T tokens, d hidden_size.

Source: the layout of the public encoder (a RoBERTa-like shell), arXiv 2311.13110.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..configuration import CrateConfig
from ..errors import UserError
from ..layers import Linear
from ..upstream import (
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
    can_return_tuple,
)
from .modeling_base import check_labels, num_labels_of, pass_on_records
from .modeling_crate import CrateModel, CrateTextPreTrainedModel, summary_token


def _head_dropout(config: CrateConfig) -> nn.Dropout:
    rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
    return nn.Dropout(rate)


class CrateClassificationHead(nn.Module):
    """First token (last real token in a decoder) to logits: dropout, dense, tanh, dropout, projection."""

    def __init__(self, config: CrateConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.dropout = _head_dropout(config)
        self.out_proj = Linear(config.hidden_size, num_labels_of(config))

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, d) -> (B, num_labels)."""
        return self.out_proj(self.dropout(torch.tanh(self.dense(self.dropout(pooled)))))


class CrateForSequenceClassification(CrateTextPreTrainedModel):
    """Classify a sequence: one label, several (`problem_type="multi_label_classification"`), or a number.

    An encoder reads the first token, a decoder the last that is not padding.

    Example:
        >>> sizes = {"vocab_size": 99, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
        >>> config = CrateConfig(**sizes, num_labels=5)
        >>> CrateForSequenceClassification(config)(torch.tensor([[5, 7, 9]])).logits.shape
        torch.Size([1, 5])
    """

    def __init__(self, config: CrateConfig):
        super().__init__(config)
        self.num_labels = num_labels_of(config)
        self.crate = CrateModel(config, add_pooling_layer=False)
        self.classifier = CrateClassificationHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """labels: (B,) class numbers, (B, num_labels) of 0/1, or (B,) numbers; the rest as in `CrateModel.forward`."""
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        outputs = self.crate(*inputs, num_read=1, **kwargs)
        token = summary_token(outputs.last_hidden_state, self.config, input_ids, attention_mask)
        logits = self.classifier(token)
        loss = None
        if labels is not None:
            num_labels = num_labels_of(self.config)
            if num_labels > 1:
                check_labels(labels, 2 if labels.ndim > 1 else num_labels)
            loss = self.loss_function(labels, logits, self.config, **kwargs)
        return pass_on_records(SequenceClassifierOutput(loss=loss, logits=logits), outputs)


class CrateForMultipleChoice(CrateTextPreTrainedModel):
    """Choose one of several continuations: each choice is encoded, pooled (see `summary_token`) and scored.

    Example:
        >>> config = CrateConfig(vocab_size=99, hidden_size=48, num_hidden_layers=2, num_attention_heads=3)
        >>> CrateForMultipleChoice(config)(torch.tensor([[[5, 7, 9], [5, 8, 9]]])).logits.shape  # two choices
        torch.Size([1, 2])
    """

    def __init__(self, config: CrateConfig):
        super().__init__(config)
        self.crate = CrateModel(config)
        self.dropout = _head_dropout(config)
        self.classifier = Linear(config.hidden_size, 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> MultipleChoiceModelOutput:
        """Inputs are (B, choices, T), labels (B,) in [0, choices), logits (B, choices)."""
        if (input_ids is None) == (inputs_embeds is None):
            raise UserError("pass exactly one of input_ids and inputs_embeds")
        inputs = input_ids if input_ids is not None else inputs_embeds
        assert inputs is not None
        num_choices = inputs.shape[1]
        flat = [
            tensor.flatten(0, 1) if tensor is not None else None
            for tensor in (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        ]
        outputs = self.crate(*flat, num_read=1, **kwargs)
        logits = self.classifier(self.dropout(outputs.pooler_output)).view(-1, num_choices)
        loss = None
        if labels is not None:
            check_labels(labels, num_choices)
            loss = nn.functional.cross_entropy(logits, labels)
        return pass_on_records(MultipleChoiceModelOutput(loss=loss, logits=logits), outputs)


class CrateForTokenClassification(CrateTextPreTrainedModel):
    """Label every token.

    Example:
        >>> sizes = {"vocab_size": 99, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
        >>> config = CrateConfig(**sizes, num_labels=5)
        >>> CrateForTokenClassification(config)(torch.tensor([[5, 7, 9]])).logits.shape
        torch.Size([1, 3, 5])
    """

    def __init__(self, config: CrateConfig):
        super().__init__(config)
        self.num_labels = num_labels_of(config)
        self.crate = CrateModel(config, add_pooling_layer=False)
        self.dropout = _head_dropout(config)
        self.classifier = Linear(config.hidden_size, num_labels_of(config))
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """labels (B, T), -100 to ignore; the rest as in `CrateModel.forward`."""
        outputs = self.crate(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            check_labels(labels, num_labels_of(self.config))
            loss = self.loss_function(logits, labels, self.config, **kwargs)
        return pass_on_records(TokenClassifierOutput(loss=loss, logits=logits), outputs)


class CrateForQuestionAnswering(CrateTextPreTrainedModel):
    """Find the span that answers: logits of its first and last token.

    Example:
        >>> config = CrateConfig(vocab_size=99, hidden_size=48, num_hidden_layers=2, num_attention_heads=3)
        >>> out = CrateForQuestionAnswering(config)(torch.tensor([[5, 7, 9]]))
        >>> out.start_logits.shape, out.end_logits.shape
        (torch.Size([1, 3]), torch.Size([1, 3]))
    """

    def __init__(self, config: CrateConfig):
        super().__init__(config)
        self.crate = CrateModel(config, add_pooling_layer=False)
        self.qa_outputs = Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """start_positions, end_positions: (B,) token places (a place outside the sequence is ignored)."""
        outputs = self.crate(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        start_logits, end_logits = self.qa_outputs(outputs.last_hidden_state).unbind(dim=-1)  # (B, T) each
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = self.loss_function(start_logits, end_logits, start_positions, end_positions, **kwargs)
        result = QuestionAnsweringModelOutput(
            loss=loss, start_logits=start_logits.contiguous(), end_logits=end_logits.contiguous()
        )
        return pass_on_records(result, outputs)


__all__ = [
    "CrateForMultipleChoice",
    "CrateForQuestionAnswering",
    "CrateForSequenceClassification",
    "CrateForTokenClassification",
]
