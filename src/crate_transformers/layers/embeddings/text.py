"""From text tokens to the first representations.

Shapes: B batch, T text tokens, d hidden_size.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig


class TextEmbeddings(nn.Module):
    """Word, position and token-type embeddings, with or without a LayerNorm (see CrateConfig)."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.config = config
        width, offset = config.hidden_size, config.position_offset
        # where positions count from zero, padding has no rows of its own: its token may well be the end of text
        self.word_embeddings: nn.Module = nn.Embedding(
            config.vocab_size, width, padding_idx=config.pad_token_id if offset else None
        )
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, width, padding_idx=offset - 1 if offset else None
        )
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width) if config.type_vocab_size else None
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps) if config.embedding_layer_norm else nn.Identity()
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_length: int | Tensor = 0,
    ) -> Tensor:
        """Tokens (B, T) or their embeddings (B, T, d) -> (B, T, d).

        Args:
            position_ids: (B, T) or (1, T), rows of the position table. None: counted from `position_offset`, without
                counting padding (of embeddings: tokens that are embedded as the padding is).
            attention_mask: (B, past + T), 1 for a token, used to count positions where the offset is 0.
            past_length: tokens in the cache.
        """
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        if position_ids is None:
            position_ids = self._count_positions(input_ids, inputs_embeds, attention_mask, past_length)
        embeddings = inputs_embeds + self.position_embeddings(position_ids)
        if self.token_type_embeddings is not None:
            if token_type_ids is None:
                token_type_ids = torch.zeros_like(position_ids)
            embeddings = embeddings + self.token_type_embeddings(token_type_ids)
        return self.dropout(self.norm(embeddings))

    def _count_positions(
        self, input_ids: Tensor | None, inputs_embeds: Tensor, attention_mask: Tensor | None, past_length: int | Tensor
    ) -> Tensor:
        offset, num_tokens, pad = self.config.position_offset, inputs_embeds.shape[1], self.config.pad_token_id
        if offset and pad is not None:  # padding keeps the row before the first position
            if input_ids is not None:
                is_token = input_ids.ne(pad).long()
            else:  # its embedding gives it away
                padding = self.word_embeddings(torch.full((1,), pad, device=inputs_embeds.device))
                is_token = inputs_embeds.ne(padding).any(dim=-1).long()
            return (is_token.cumsum(dim=1) + past_length) * is_token + offset - 1
        if not offset and attention_mask is not None and attention_mask.ndim == 2:  # left padding does not count
            positions = (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
            return positions[:, -num_tokens:]
        return (torch.arange(num_tokens, device=inputs_embeds.device) + past_length + offset).unsqueeze(0)


__all__ = ["TextEmbeddings"]
