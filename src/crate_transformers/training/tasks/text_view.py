"""The section of a text run's report that looks into a text: attention and codes of every layer."""

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...analysis.attention import gives_all_maps
from ...analysis.text import SHOWN_TOKENS, look_into_text, token_texts
from ...report.sections import Section
from ...report.viewer import view_html


def text_view_sections(
    model: PreTrainedModel, batch: Mapping[str, Tensor], tokenizer: PreTrainedTokenizerBase
) -> list[Section]:
    """A look into the first tokens of the first text of a batch; no section where layers make no attention.

    Args:
        batch: input_ids (B, N), or (B, choices, N), and attention_mask of the same shape where there is padding.
    """
    if not gives_all_maps(model):
        return []
    ids = batch["input_ids"].flatten(0, -2)[:1]  # (1, N)
    if "attention_mask" in batch:
        ids = ids[:, batch["attention_mask"].flatten(0, -2)[0].bool()]
    ids = ids[:, :SHOWN_TOKENS]
    view = look_into_text(model, ids, token_texts(tokenizer, ids[0].tolist()))
    if view is None:
        return []
    text = f"What every layer makes of the first {ids.shape[1]} tokens of a held-out text."
    return [Section("Attention and codes, layer by layer", text, drawn=view_html(view))]


__all__ = ["text_view_sections"]
