"""The parts of transformers that are not its public API, in one place, with the versions in which each was seen.

transformers changes its inner parts in minor releases: 5.24 renamed the cache argument of `forward`, and text was wrong
without a word. So whatever is not a top-level name of transformers is imported from here, and nowhere else; the methods
that we override, and the keywords that transformers passes to a `forward`, are listed here; `tests/test_upstream.py`
looks for each of them in the version that is installed.

Names are loaded when they are first used: some pull in the whole Trainer, or the pipelines.
"""

import importlib
from dataclasses import fields
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names, for static readers
    from transformers.backbone_utils import BackboneConfigMixin as BackboneConfigMixin
    from transformers.backbone_utils import BackboneMixin as BackboneMixin
    from transformers.backbone_utils import filter_output_hidden_states as filter_output_hidden_states
    from transformers.cache_utils import CacheLayerMixin as CacheLayerMixin
    from transformers.cache_utils import DynamicLayer as DynamicLayer
    from transformers.cache_utils import StaticLayer as StaticLayer
    from transformers.image_utils import (
        IMAGENET_DEFAULT_MEAN as IMAGENET_DEFAULT_MEAN,
    )
    from transformers.image_utils import (
        IMAGENET_DEFAULT_STD as IMAGENET_DEFAULT_STD,
    )
    from transformers.image_utils import (
        PILImageResampling as PILImageResampling,
    )
    from transformers.integrations import INTEGRATION_TO_CALLBACK as INTEGRATION_TO_CALLBACK
    from transformers.integrations.sdpa_attention import sdpa_attention_forward as sdpa_attention_forward
    from transformers.masking_utils import (
        create_bidirectional_mask as create_bidirectional_mask,
    )
    from transformers.masking_utils import (
        create_causal_mask as create_causal_mask,
    )
    from transformers.masking_utils import (
        sdpa_mask as sdpa_mask,
    )
    from transformers.modeling_layers import GradientCheckpointingLayer as GradientCheckpointingLayer
    from transformers.modeling_outputs import (
        BackboneOutput as BackboneOutput,
    )
    from transformers.modeling_outputs import (
        BaseModelOutput as BaseModelOutput,
    )
    from transformers.modeling_outputs import (
        BaseModelOutputWithPooling as BaseModelOutputWithPooling,
    )
    from transformers.modeling_outputs import (
        BaseModelOutputWithPoolingAndCrossAttentions as BaseModelOutputWithPoolingAndCrossAttentions,
    )
    from transformers.modeling_outputs import (
        CausalLMOutputWithPast as CausalLMOutputWithPast,
    )
    from transformers.modeling_outputs import (
        ImageClassifierOutput as ImageClassifierOutput,
    )
    from transformers.modeling_outputs import (
        MaskedLMOutput as MaskedLMOutput,
    )
    from transformers.modeling_outputs import (
        MultipleChoiceModelOutput as MultipleChoiceModelOutput,
    )
    from transformers.modeling_outputs import (
        QuestionAnsweringModelOutput as QuestionAnsweringModelOutput,
    )
    from transformers.modeling_outputs import (
        SequenceClassifierOutput as SequenceClassifierOutput,
    )
    from transformers.modeling_outputs import (
        TokenClassifierOutput as TokenClassifierOutput,
    )
    from transformers.pipelines import PIPELINE_REGISTRY as PIPELINE_REGISTRY
    from transformers.pipelines.base import ChunkPipeline as ChunkPipeline
    from transformers.trainer import TRAINER_STATE_NAME as TRAINER_STATE_NAME
    from transformers.trainer_callback import PrinterCallback as PrinterCallback
    from transformers.trainer_callback import TrainerState as TrainerState
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR as PREFIX_CHECKPOINT_DIR
    from transformers.trainer_utils import EvalLoopOutput as EvalLoopOutput
    from transformers.utils import ModelOutput as ModelOutput
    from transformers.utils.generic import (
        TransformersKwargs as TransformersKwargs,
    )
    from transformers.utils.generic import (
        can_return_tuple as can_return_tuple,
    )
    from transformers.utils.generic import (
        merge_with_config_defaults as merge_with_config_defaults,
    )
    from transformers.utils.output_capturing import (
        _CAN_RECORD_REGISTRY as _CAN_RECORD_REGISTRY,
    )
    from transformers.utils.output_capturing import (
        OutputRecorder as OutputRecorder,
    )
    from transformers.utils.output_capturing import (
        capture_outputs as capture_outputs,
    )
    from transformers.utils.output_capturing import (
        maybe_install_capturing_hooks as maybe_install_capturing_hooks,
    )
    from transformers.utils.output_capturing import (
        recursively_install_hooks as recursively_install_hooks,
    )

    transformers_logging: ModuleType
    CACHE: str
    IMAGE_KEYWORDS: frozenset[str]
    TEXT_KEYWORDS: frozenset[str]


_BOTH = "5.17 to 5.24"  # the oldest and the newest version that the metadata allow

# name -> (module below transformers, versions in which it was seen there)
SEEN: dict[str, tuple[str, str]] = {
    # layers
    "GradientCheckpointingLayer": ("modeling_layers", _BOTH),
    "CacheLayerMixin": ("cache_utils", _BOTH),
    "DynamicLayer": ("cache_utils", _BOTH),
    "StaticLayer": ("cache_utils", _BOTH),
    "sdpa_attention_forward": ("integrations.sdpa_attention", _BOTH),
    "sdpa_mask": ("masking_utils", _BOTH),
    # models
    "BackboneConfigMixin": ("backbone_utils", _BOTH),
    "BackboneMixin": ("backbone_utils", _BOTH),
    "filter_output_hidden_states": ("backbone_utils", _BOTH),
    "BackboneOutput": ("modeling_outputs", _BOTH),
    "create_bidirectional_mask": ("masking_utils", _BOTH),
    "create_causal_mask": ("masking_utils", _BOTH),
    "BaseModelOutput": ("modeling_outputs", _BOTH),
    "BaseModelOutputWithPooling": ("modeling_outputs", _BOTH),
    "BaseModelOutputWithPoolingAndCrossAttentions": ("modeling_outputs", _BOTH),
    "CausalLMOutputWithPast": ("modeling_outputs", _BOTH),
    "ImageClassifierOutput": ("modeling_outputs", _BOTH),
    "MaskedLMOutput": ("modeling_outputs", _BOTH),
    "MultipleChoiceModelOutput": ("modeling_outputs", _BOTH),
    "QuestionAnsweringModelOutput": ("modeling_outputs", _BOTH),
    "SequenceClassifierOutput": ("modeling_outputs", _BOTH),
    "TokenClassifierOutput": ("modeling_outputs", _BOTH),
    "ModelOutput": ("utils", _BOTH),
    "can_return_tuple": ("utils.generic", _BOTH),
    "merge_with_config_defaults": ("utils.generic", _BOTH),
    "TransformersKwargs": ("utils.generic", _BOTH),
    "OutputRecorder": ("utils.output_capturing", _BOTH),
    "capture_outputs": ("utils.output_capturing", _BOTH),
    "maybe_install_capturing_hooks": ("utils.output_capturing", _BOTH),
    "recursively_install_hooks": ("utils.output_capturing", _BOTH),
    "_CAN_RECORD_REGISTRY": ("utils.output_capturing", _BOTH),
    "IMAGENET_DEFAULT_MEAN": ("image_utils", _BOTH),
    "IMAGENET_DEFAULT_STD": ("image_utils", _BOTH),
    "PILImageResampling": ("image_utils", _BOTH),
    "PIPELINE_REGISTRY": ("pipelines", _BOTH),
    "ChunkPipeline": ("pipelines.base", _BOTH),
    # training
    "EvalLoopOutput": ("trainer_utils", _BOTH),
    "INTEGRATION_TO_CALLBACK": ("integrations", _BOTH),
    "PREFIX_CHECKPOINT_DIR": ("trainer_utils", _BOTH),
    "PrinterCallback": ("trainer_callback", _BOTH),
    "TRAINER_STATE_NAME": ("trainer", _BOTH),
    "TrainerState": ("trainer_callback", _BOTH),
    "transformers_logging": ("utils.logging", _BOTH),
}

# what we override or call that begins with an underscore: class -> attributes; seen in 5.17 to 5.24
OVERRIDDEN: dict[str, tuple[str, ...]] = {
    "PreTrainedModel": (
        "_can_compile_fullgraph",
        "_can_record_outputs",
        "_from_config",
        "_init_weights",
        "_no_split_modules",
        "_supports_attention_backend",
        "_supports_flash_attn",
        "_supports_flex_attn",
        "_supports_sdpa",
        "_tied_weights_keys",
    ),
    "GenerationMixin": ("_prepare_generated_length", "_prepare_position_ids_for_generation"),
    "Trainer": (
        "_determine_best_metric",
        "_get_train_sampler",
        "_load_best_model",
        "_load_from_checkpoint",
        "_load_optimizer_and_scheduler",
        "_save_checkpoint",
        "_wrap_model",
    ),
}

# keywords that transformers passes to a forward of its own accord; of a text model also those of `TransformersKwargs`
_COMMON = frozenset(
    {"return_dict", "use_cache", "output_hidden_states", "output_attentions", "output_router_logits", "is_causal",
     "num_items_in_batch"}
)  # fmt: skip
_OF_TEXT = frozenset(
    {
        "mm_encoder_outputs",  # generate: an empty dictionary for models of text alone
        "shift_labels",  # Trainer, with context parallelism
        "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx",  # packed sequences
        "block_table", "logits_indices", "logits_processor_args", "max_seqlen_q", "max_seqlen_k", "read_index",
        "write_index",  # continuous batching, 5.17 to 5.24
    }
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _COMPUTED:
        value = _COMPUTED[name]()
    elif name in SEEN:
        module = importlib.import_module(f"transformers.{SEEN[name][0]}")
        value = module if name == "transformers_logging" else getattr(module, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _cache_name() -> str:
    names = {field.name for field in fields(__getattr__("CausalLMOutputWithPast"))}
    return "cache" if "cache" in names else "past_key_values"


def _text_keywords() -> frozenset[str]:
    return _COMMON | _OF_TEXT | frozenset(__getattr__("TransformersKwargs").__annotations__)


_COMPUTED = {
    "CACHE": _cache_name,  # what this version calls the cache: a keyword of `forward`, a field of outputs
    "IMAGE_KEYWORDS": lambda: _COMMON,
    "TEXT_KEYWORDS": _text_keywords,
}


def record_key(model: Any) -> Any:
    """The key of a model's class in transformers' registry of recorders: older versions want its text."""
    return model if type(__getattr__("_CAN_RECORD_REGISTRY")) is not dict else str(model.__class__)


def recorded_names(model: Any) -> set[str]:
    """Names of the records that a model's class declares; `output_NAME=True` asks for one."""
    return set(__getattr__("_CAN_RECORD_REGISTRY").get(record_key(model)) or ())


__all__ = ["OVERRIDDEN", "SEEN", "record_key", "recorded_names"]
