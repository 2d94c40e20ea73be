"""From pretraining to use: the encoder of an autoencoder becomes a classifier.

    classifier:  tokens = [CLS, conv(patches)] + P;  encoder layers;  Linear(LN(pool))

The classifier computes what the encoder computes on a whole image: the same layers, the same patch embedding, the
encoder's fixed sine-cosine table as the start of the learned positions P, its final norm as the norm of the head.

Shapes: d hidden_size.
"""

from typing import Any

import torch
from transformers import PreTrainedConfig

from ..configuration import CrateMAEConfig, CrateVisionConfig
from ..configuration.blocks import names_of_layers
from ..errors import UserError
from ..layers import resample_positions
from ..models.modeling_crate_mae import CrateMAEForPreTraining, CrateMAEModel
from ..models.modeling_crate_vision import CrateForImageClassification

# fields that shape the weights which are taken over: another value would need other weights
_SHAPING = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "head_dim",
    "patch_size",
    "num_channels",
    "attention_output_bias",
    "attention_output_projection",
    "compression",
    "sparsification",
    "dictionary_ratio",
    "tie_dictionary",
)


def _shared_fields() -> set[str]:
    """Fields that both configurations have of their own, not from transformers: all that the encoder hands over."""
    fields = [set(kind.__dataclass_fields__) for kind in (CrateMAEConfig, CrateVisionConfig, PreTrainedConfig)]
    encoder, classifier, everyone = fields
    return encoder & classifier - everyone


@torch.no_grad()
def classifier_of_autoencoder(
    encoder: CrateMAEModel | CrateMAEForPreTraining, **fields: object
) -> CrateForImageClassification:
    """A classifier whose backbone is the encoder of a masked autoencoder; its last linear layer is new.

    Args:
        encoder: the encoder, or the whole autoencoder. It is left as it is.
        fields: of CrateVisionConfig: num_labels, id2label, pool, dropout, image_size (positions are then resampled).

    Returns:
        a classifier of the encoder's type and device. With pool="cls" and the encoder's image size, its normed token
        equals the encoder's last_hidden_state[:, 0].

    Raises:
        ValueError: another kind of model, or a field that the encoder's weights do not fit.

    Example:
        >>> from crate_transformers import CrateMAEConfig, CrateMAEModel
        >>> encoder = CrateMAEModel(CrateMAEConfig.from_size("tiny", image_size=32, patch_size=8))
        >>> classifier_of_autoencoder(encoder, num_labels=7)(torch.zeros(2, 3, 32, 32)).logits.shape
        torch.Size([2, 7])
    """
    backbone = encoder.base_model
    if not isinstance(backbone, CrateMAEModel):
        raise UserError(f"expected CrateMAEModel or CrateMAEForPreTraining, got {type(encoder).__name__}")
    config = _vision_config(backbone, fields)
    model = CrateForImageClassification._from_config(config, attn_implementation=backbone.config._attn_implementation)
    model.crate.layers.load_state_dict(backbone.layers.state_dict())
    model.norm.load_state_dict(backbone.norm.state_dict())
    target, source = model.crate.embeddings, backbone.embeddings
    target.patch_embeddings.load_state_dict(source.patch_embeddings.state_dict())
    target.cls_token.copy_(source.cls_token)
    target.position_embeddings.copy_(
        resample_positions(source.position_embeddings, backbone.config.patch_grid, config.patch_grid)
    )
    return model.to(device=backbone.device, dtype=backbone.dtype).train(encoder.training)


def _spelled_out(value: object, num_layers: int) -> object:
    """A field's value; where it names blocks, the names of all layers, however it was written."""
    return names_of_layers(value, num_layers) if isinstance(value, str | list | tuple) else value


def _is_same(name: str, given: object, carried: object, num_layers: int) -> bool:
    if name in ("compression", "sparsification"):
        return _spelled_out(given, num_layers) == _spelled_out(carried, num_layers)
    return given == carried


def _vision_config(backbone: CrateMAEModel, fields: dict[str, Any]) -> CrateVisionConfig:
    carried = {name: getattr(backbone.config, name) for name in _shared_fields()}
    num_layers = backbone.config.num_hidden_layers
    for name in _SHAPING:
        if name in fields and not _is_same(name, fields[name], carried[name], num_layers):
            raise UserError(
                f"{name} is {carried[name]} in the encoder's weights, got {fields[name]}: leave it out, or pretrain "
                "another encoder"
            )
    if fields.get("patch_embedding", "convolution") != "convolution":
        raise UserError("patch_embedding must be 'convolution', which is the encoder's: leave it out")
    return CrateVisionConfig(**{**carried, **fields, "patch_embedding": "convolution"})


__all__ = ["classifier_of_autoencoder"]
