"""What every CRATE model shares: what transformers may do with it, what can be recorded, how layers start."""

import difflib
import inspect
import logging
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import UserError
from ..layers import Block, Compression, CompressionOperator, CrateLayer
from ..layers.adapters import is_adapter
from ..upstream import IMAGE_KEYWORDS, TEXT_KEYWORDS, ModelOutput, OutputRecorder, recorded_names

logger = logging.getLogger(__name__)


def output_of(name: str) -> OutputRecorder:
    """Records what the modules give whose name ends so."""
    return OutputRecorder(target_class=None, class_name=name)  # type: ignore[arg-type] # it takes one of the two


# per-layer tensors beyond transformers' two (hidden_states, attentions); ask with output_<name>=True
WHITE_BOX_RECORDS: dict[str, OutputRecorder] = {
    "half_hidden_states": OutputRecorder(Compression),  # Z_half (B, N, d)
    "subspace_projections": output_of(".compression.attention.subspaces"),  # (B, N, K p)
    "memberships": output_of(".compression.attention.membership"),  # of tokens in heads (B, N, K), of tssa alone
    "codes": output_of(".sparsification.coding"),  # the sparse codes (B, N, m)
}


_Outputs = TypeVar("_Outputs", bound=ModelOutput)


def backbone_forward(forward: Callable[..., _Outputs]) -> Callable[..., _Outputs]:
    """The outermost decorator of a backbone's forward; heads pass their keywords on to it.

    * A keyword that it does not know is refused: it may be another version's name of something that counts.
    * Attention that is asked for is made by the eager form, which alone has it, for this call.
    * A record that is asked for and comes back empty is an error.
    """
    named = frozenset(inspect.signature(forward).parameters)

    @wraps(forward)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        _check_keywords(self, named, kwargs)
        wants_attention = kwargs.get("output_attentions", getattr(self.config, "output_attentions", False))
        if wants_attention and self.config._attn_implementation != "eager":
            _tell_eager(type(self).__name__, self.config._attn_implementation)
            kwargs["attn_implementation"] = "eager"
        if any(kwargs.get(f"output_{name}") for name in WHITE_BOX_RECORDS):
            _check_recorders(self)
        outputs = forward(self, *args, **kwargs)
        if isinstance(outputs, ModelOutput):
            for name in ("hidden_states", "attentions", *WHITE_BOX_RECORDS):
                if outputs.get(name) == ():
                    raise UserError(f"output_{name}=True: this {type(self).__name__} {_why_none(self, name)}")
        return outputs

    return checked


def _why_none(model: Any, name: str) -> str:
    """Why a model that was asked for a record has made none."""
    if model.is_fused:
        return "is closed: ask the model that it was made from"
    operators = [module for module in model.modules() if isinstance(module, CompressionOperator)]
    if name == "attentions" and not any(operator.gives_map for operator in operators):
        return "has no map of tokens by tokens; output_memberships=True gives those of tokens in heads"
    return "makes none (where adapters were merged after it had recorded: load it anew)"


def _check_keywords(model: PreTrainedModel, named: frozenset[str], given: dict[str, Any]) -> None:
    passed = TEXT_KEYWORDS if model.main_input_name == "input_ids" else IMAGE_KEYWORDS
    wrong = [name for name in given if name not in named and name not in passed]
    wrong = [name for name in wrong if name.removeprefix("output_") not in recorded_names(model)] if wrong else []
    if wrong:
        known = [*named, *passed, *(f"output_{name}" for name in recorded_names(model))]
        near = difflib.get_close_matches(wrong[0], known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"{type(model).__name__} does not know the keyword {wrong[0]!r}{hint}")


def _check_recorders(model: nn.Module) -> None:
    """Refuse to record where adapters have come around a module that is recorded: what they add would be missing."""
    parts: list[Any] = list(model.modules())
    if any(is_adapter(part) and part.base_layer._forward_hooks for part in parts):
        raise UserError(
            "records were asked of this model before it was given adapters, and would be of it without them: give the "
            "adapters to a model that is newly loaded"
        )


@cache
def _tell_eager(model: str, implementation: str) -> None:
    logger.warning(
        "%s: attention was asked for, and %r does not give it: the eager form is used in such calls "
        "(set_attn_implementation('eager') uses it in all)",
        model,
        implementation,
    )


def pass_on_records(outputs: _Outputs, base_outputs: ModelOutput) -> _Outputs:
    """Copy what the base model recorded to the outputs of a model with a head."""
    for name in ("hidden_states", "attentions", *WHITE_BOX_RECORDS):
        if base_outputs.get(name) is not None:
            outputs[name] = base_outputs[name]
    return outputs


def num_labels_of(config: PreTrainedConfig) -> int:
    """Classes of a head; a configuration always knows them, though its annotation does not say so."""
    assert config.num_labels is not None
    return config.num_labels


def check_labels(labels: Tensor, num_labels: int, ignore_index: int = -100) -> None:
    """Name a class label out of range, where looking at the values costs nothing (CPU, not compiled).

    Raises:
        ValueError: a label outside [0, num_labels) that is not the ignored one.
    """
    if torch.compiler.is_compiling() or labels.device.type != "cpu" or labels.is_floating_point():
        return
    wrong = (labels != ignore_index) & ((labels < 0) | (labels >= num_labels))
    if wrong.any():
        raise UserError(
            f"labels must be in [0, {num_labels}) or {ignore_index} (ignored), got {labels[wrong][0].item()}"
        )


class CratePreTrainedModel(PreTrainedModel):
    """Parent of all CRATE models. All of them call their backbone `crate`, so heads and backbones exchange weights."""

    base_model_prefix = "crate"
    supports_gradient_checkpointing = True
    _no_split_modules = ["CrateLayer", "CrateDecoderLayer"]  # noqa: RUF012 (the parent's declaration)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    is_fused = False  # made by `fuse`: what its layers see and make is not what the equations name
    _can_record_outputs = {  # noqa: RUF012 (the parent's declaration)
        "hidden_states": OutputRecorder(CrateLayer),
        "attentions": OutputRecorder(CompressionOperator, index=1),
        **WHITE_BOX_RECORDS,
    }

    @classmethod
    def register_for_auto_class(cls, auto_class: str | type = "AutoModel") -> None:
        """Nothing to do, as in the configuration: saved folders import this package instead of a copied source."""

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Block):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            self._init_linear(module)
        else:
            super()._init_weights(module)

    def _init_linear(self, linear: nn.Linear) -> None:
        super()._init_weights(linear)


def check_finite(model: nn.Module, source: str) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        ValueError: with the first such tensor's name.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"{source} is damaged: {name} holds NaN or infinite values")


__all__ = [
    "WHITE_BOX_RECORDS",
    "CratePreTrainedModel",
    "backbone_forward",
    "check_finite",
    "check_labels",
    "num_labels_of",
    "output_of",
    "pass_on_records",
]
