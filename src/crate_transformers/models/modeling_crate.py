"""CRATE for text: the backbone and the two language models, as encoder and as decoder.

    Z_0 = embeddings(ids);  Z_{l+1} = ISTA(LN(Z_l + MSSA(LN(Z_l))));  the head reads Z_L (or its final norm)

The RoBERTa-like and the nanoGPT-like shell of the public code differ by fields of CrateConfig only.

Shapes: B batch, T tokens, d hidden_size, V vocab_size, K heads.

Source: arXiv 2311.13110, sections on CRATE-BERT and CRATE-GPT2; the layout of the public encoder.
"""

import logging
from contextlib import nullcontext
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, GenerationConfig, GenerationMixin
from transformers import initialization as init

from ..configuration import CrateConfig
from ..errors import UserError
from ..layers import CrateLayer, Linear, TextEmbeddings, kept_step_matrices
from ..upstream import (
    CACHE,
    BaseModelOutputWithPoolingAndCrossAttentions,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    can_return_tuple,
    capture_outputs,
    create_bidirectional_mask,
    create_causal_mask,
    merge_with_config_defaults,
)
from .modeling_base import CratePreTrainedModel, backbone_forward, check_labels, pass_on_records
from .plan import run_layers
from .text_plan import CachePlan, check_length, check_packing, check_text, one_cache, plan_cache, real_tokens

logger = logging.getLogger(__name__)

# the public encoder's names -> ours; read by `from_pretrained`, never written
PUBLIC_ENCODER_KEYS: dict[str, str] = {
    r"embeddings\.LayerNorm\.": "embeddings.norm.",
    r"encoder\.layer\.(\d+)\.attention\.self\.prenorm\.": r"layers.\1.compression.norm.",
    r"encoder\.layer\.(\d+)\.attention\.self\.qkv\.": r"layers.\1.compression.attention.subspaces.",
    r"encoder\.layer\.(\d+)\.attention\.output\.dense\.": r"layers.\1.compression.attention.output.",
    r"encoder\.layer\.(\d+)\.output\.prenorm\.": r"layers.\1.sparsification.norm.",
    r"encoder\.layer\.(\d+)\.output\.weight": r"layers.\1.sparsification.coding.dictionary",
}


@dataclass
class CrateModelOutput(BaseModelOutputWithPoolingAndCrossAttentions):
    """Outputs of the backbone.

    last_hidden_state (B, T, d), pooler_output (B, d) where there is a pooler, the cache where there is one.
    On request, a tuple with an entry a layer: hidden_states (L + 1), attentions ((B, K, T, T), eager only),
    half_hidden_states, subspace_projections, codes.
    """

    half_hidden_states: tuple[Tensor, ...] | None = None
    subspace_projections: tuple[Tensor, ...] | None = None
    memberships: tuple[Tensor, ...] | None = None
    codes: tuple[Tensor, ...] | None = None


class CrateTextPreTrainedModel(CratePreTrainedModel):
    config: CrateConfig
    config_class = CrateConfig
    input_modalities = "text"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, CrateLMHead) and module.bias is not None:
            init.zeros_(module.bias)

    @classmethod
    def from_pretrained(cls, *args: Any, key_mapping: dict[str, str] | None = None, **kwargs: Any) -> Any:
        """As in transformers; a folder in the public encoder's layout is read as it is."""
        loaded = super().from_pretrained(*args, key_mapping={**PUBLIC_ENCODER_KEYS, **(key_mapping or {})}, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model._weight_conversions = None  # a later save writes our names, which a training run can resume from
        return loaded


def summary_token(
    hidden_states: Tensor, config: CrateConfig, input_ids: Tensor | None = None, attention_mask: Tensor | None = None
) -> Tensor:
    """The token (B, d) that stands for a sequence, of all its tokens (B, T, d).

    An encoder's first; a decoder's last that is not padding, the only one that has seen the whole sequence.
    """
    if not config.is_decoder:
        return hidden_states[:, 0]
    if attention_mask is None and input_ids is not None and config.pad_token_id is not None:
        attention_mask = input_ids.ne(config.pad_token_id)
    if not isinstance(attention_mask, Tensor) or attention_mask.ndim != 2:
        return hidden_states[:, -1]
    place = torch.arange(hidden_states.shape[1], device=hidden_states.device)
    last = (attention_mask[:, -len(place) :].to(place.dtype) * place).argmax(dim=1)
    return hidden_states[torch.arange(len(hidden_states), device=place.device), last]


class CratePooler(nn.Module):
    """The token that stands for the sequence through a dense layer and tanh: (B, d) -> (B, d)."""

    def __init__(self, config: CrateConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, token: Tensor) -> Tensor:
        return torch.tanh(self.dense(token))


class CrateModel(CrateTextPreTrainedModel):
    """The backbone: text tokens to representations.

    Example:
        >>> config = CrateConfig(vocab_size=99, hidden_size=48, num_hidden_layers=2, num_attention_heads=3)
        >>> CrateModel(config)(torch.tensor([[5, 7, 9]])).last_hidden_state.shape
        torch.Size([1, 3, 48])
    """

    def __init__(self, config: CrateConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = TextEmbeddings(config)
        self.layers = nn.ModuleList([CrateLayer(config, index) for index in range(config.num_hidden_layers)])
        width, eps = config.hidden_size, config.layer_norm_eps
        final_norm = nn.LayerNorm(width, eps=eps, bias=config.layer_norm_bias)
        self.norm = final_norm if config.final_layer_norm else nn.Identity()
        self.pooler = CratePooler(config) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.word_embeddings = value

    @backbone_forward
    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        num_read: int | None = None,
        **kwargs: Any,
    ) -> CrateModelOutput:
        """Run the backbone.

        Args:
            input_ids: (B, T), or inputs_embeds (B, T, d).
            attention_mask: (B, past + T), 1 for a token and 0 for padding, on either side; or a prepared 4-d mask.
            token_type_ids: (B, T).
            position_ids: (B, T), rows of the position table (see CrateConfig.position_offset). In a decoder without
                mask and cache any but the next one begins a sequence, which sees none of those before it.
            cache, use_cache: the cache of a decoder; it stores one tensor a layer. past_key_values: its other name, of
                transformers before 5.24.
            num_read: how many of the last layer's tokens are read, the first ones; an encoder makes no other, unless
                records are asked for, a hook is in the backbone, or its last projection is no plain matrix any more.
                None: all.
            kwargs: output_hidden_states, output_attentions, output_half_hidden_states, output_subspace_projections,
                output_codes, return_dict.

        Raises:
            ValueError: both or neither of input_ids and inputs_embeds; a token outside the vocabulary; a batch
                that is all padding; a sequence longer than the position table; an encoder that is given a cache; a
                keyword that is not known.
        """
        cache = one_cache(cache, past_key_values)
        num_tokens = check_text(self.config, input_ids, inputs_embeds, position_ids, token_type_ids, attention_mask)
        plan = plan_cache(self, cache, use_cache)
        if plan.is_paged and position_ids is not None:
            position_ids = position_ids + (self.config.position_offset or 0)  # transformers counts from zero
        if isinstance(plan.past_length, int) and position_ids is None:
            check_length(self.config, plan.past_length + num_tokens)

        hidden_states = self.embeddings(
            input_ids, inputs_embeds, position_ids, token_type_ids, attention_mask, plan.past_length
        )
        mask = self._mask(hidden_states, attention_mask, position_ids, plan, **kwargs)
        read = None if self.config.is_decoder else num_read
        counted = None if position_ids is None else position_ids - (self.config.position_offset or 0)
        tokens = {
            "is_token": real_tokens(self, attention_mask, num_tokens, plan.past_length),
            "token_positions": counted,
            "position_ids": counted if attention_mask is None and plan.cache is None else None,
        }
        hidden_states = run_layers(self, hidden_states, mask, read, cache=plan.cache, **tokens, **kwargs)
        hidden_states = self.norm(hidden_states)
        pooled = None
        if self.pooler is not None:
            pooled = self.pooler(summary_token(hidden_states, self.config, input_ids, attention_mask))
        kept: dict[str, Any] = {CACHE: plan.cache if plan.is_kept else None}
        return CrateModelOutput(last_hidden_state=hidden_states, pooler_output=pooled, **kept)

    def _mask(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        plan: CachePlan,
        attn_implementation: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """The mask in the form that the attention operator takes."""
        if plan.is_paged:
            return attention_mask
        check_packing(self, position_ids, attention_mask)
        config = self.config
        if attn_implementation is not None:
            config = copy(config)
            config._attn_implementation = attn_implementation
        given = {"config": config, "inputs_embeds": hidden_states, "attention_mask": attention_mask}
        if config.is_decoder:
            return create_causal_mask(**given, position_ids=position_ids, **{CACHE: plan.cache})
        return create_bidirectional_mask(**given)


class CrateLMHead(nn.Module):
    """Representations to logits over the vocabulary (B, T, V); the decoder is tied to the word embeddings."""

    def __init__(self, config: CrateConfig):
        super().__init__()
        transforms = config.lm_head_transform
        width = config.hidden_size
        self.dense = Linear(width, width) if transforms else None
        self.layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps) if transforms else None
        self.decoder = Linear(width, config.vocab_size, bias=transforms)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size)) if transforms else None  # tied to decoder.bias

    def forward(self, hidden_states: Tensor) -> Tensor:
        if self.dense is not None and self.layer_norm is not None:
            hidden_states = self.layer_norm(nn.functional.gelu(self.dense(hidden_states)))
        return self.decoder(hidden_states)


class _CrateLanguageModel(CrateTextPreTrainedModel):
    """Backbone and language-model head."""

    backbone_class: type[CrateModel] = CrateModel
    _tied_weights_keys = {  # noqa: RUF012 (the parent's declaration)
        "lm_head.decoder.weight": "crate.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }

    def __init__(self, config: CrateConfig):
        super().__init__(config)
        if not config.lm_head_transform:
            self._tied_weights_keys = {k: v for k, v in self._tied_weights_keys.items() if "bias" not in k}
        self.crate = self.backbone_class(config, add_pooling_layer=False)
        self.lm_head = CrateLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head.decoder = new_embeddings
        if self.lm_head.bias is not None:
            self.lm_head.bias = new_embeddings.bias


class CrateForMaskedLM(_CrateLanguageModel):
    """Fill in masked tokens.

    Example:
        >>> config = CrateConfig(vocab_size=99, hidden_size=48, num_hidden_layers=2, num_attention_heads=3)
        >>> CrateForMaskedLM(config)(torch.tensor([[5, 7, 9]])).logits.shape
        torch.Size([1, 3, 99])
    """

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
    ) -> MaskedLMOutput:
        """labels (B, T), -100 where no token is to be predicted; the rest as in `CrateModel.forward`."""
        outputs = self.crate(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            check_labels(labels, self.config.vocab_size)
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return pass_on_records(MaskedLMOutput(loss=loss, logits=logits), outputs)


class CrateForCausalLM(_CrateLanguageModel, GenerationMixin):
    """Predict the next token. Attention is causal whatever `config.is_decoder` says; the model's own config says so.

    Example:
        >>> sizes = {"vocab_size": 99, "num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 1}
        >>> config = CrateConfig.from_size("gpt2-tiny", **sizes)
        >>> CrateForCausalLM(config)(torch.tensor([[5, 7, 9]])).logits.shape
        torch.Size([1, 3, 99])
    """

    def __init__(self, config: CrateConfig):
        if not config.is_decoder:
            config = deepcopy(config)
            config.is_decoder = True
        super().__init__(config)

    def generate(
        self, inputs: Tensor | None = None, generation_config: GenerationConfig | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As in transformers, with a cache by either name. The matrices of the ISTA steps are built once a call, where
        that pays."""
        given = generation_config or self.generation_config
        assert given is not None
        lengths = [kwargs.get("max_new_tokens"), kwargs.get("max_length"), given.max_new_tokens, given.max_length]
        new_tokens = next((length for length in lengths if length is not None), self.config.max_sequence_length)
        given_cache = one_cache(kwargs.pop("cache", None), kwargs.pop("past_key_values", None))
        if given_cache is not None:
            kwargs[CACHE] = given_cache
        # d^3 products once, against d^2 weights that each new token need not read: even at about d / 32 tokens
        pays = new_tokens >= self.config.hidden_size // 16
        with kept_step_matrices(self) if pays else nullcontext():
            return super().generate(inputs, generation_config, *args, **kwargs)

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        # transformers counts from zero; our position ids are rows of the table
        positions = super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
        return positions + self.config.position_offset

    def _prepare_generated_length(  # type: ignore[override] # transformers calls it by keywords
        self, generation_config: GenerationConfig, **lengths: Any
    ) -> GenerationConfig:
        # positions are a table: generation stops where it ends
        prepare = GenerationMixin._prepare_generated_length
        generation_config = prepare(self, generation_config=generation_config, **lengths)  # type: ignore[arg-type]
        from_embeddings = lengths["model_input_name"] == "inputs_embeds"  # these are not counted in max_length
        prompt_length = lengths["inputs_tensor"].shape[1] if from_embeddings else lengths["input_ids_length"]
        context = self.config.max_sequence_length
        if prompt_length >= context:
            raise UserError(
                f"a prompt of {prompt_length} tokens leaves no room in the context of {context} tokens: keep its last "
                f"{context - 1} at most"
            )
        most = context - prompt_length + lengths["input_ids_length"]
        if generation_config.max_length is not None and generation_config.max_length > most:
            logger.warning(f"generation will stop at the context of {context} tokens")
            generation_config.max_length = most
        return generation_config

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """labels (B, T), the input ids themselves (shifted inside), -100 to ignore; logits_to_keep: only the last n
        positions (or those of an index tensor) get logits; the rest as in `CrateModel.forward`."""
        if labels is not None:
            use_cache = False
        outputs = self.crate(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            cache=one_cache(cache, past_key_values),
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            check_labels(labels, self.config.vocab_size)
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        result = CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: outputs.get(CACHE)})
        return pass_on_records(result, outputs)


__all__ = [
    "CrateForCausalLM",
    "CrateForMaskedLM",
    "CrateModel",
    "CrateModelOutput",
    "CrateTextPreTrainedModel",
    "summary_token",
]
