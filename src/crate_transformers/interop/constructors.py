"""The constructors that readers of the public code know: `CRATE(...)` and `mae_crate_*()`."""

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..configuration import CrateMAEConfig, CrateVisionConfig
from ..models import CrateForImageClassification, CrateMAEForPreTraining
from .layouts import recognise
from .loading import load_state_dict


class CRATE(nn.Module):
    """The classifier with the keywords of the public code: images (B, C, H, W) -> logits (B, num_classes).

    `load_state_dict` takes a public state dict as well as its own; `model` is the Hugging Face model inside.

    Args:
        image_size, patch_size: pixels, one number or (height, width).
        num_classes, dim, depth, heads, channels: sizes.
        pool: "cls" or "mean". dim_head: width of a subspace.
        dropout: on the attention and after the output projection. emb_dropout: on the embedded tokens.
        ista: the step size eta.
        ignored: keywords of older versions without effect (`mlp_dim`); a warning names them.

    Example:
        >>> import torch
        >>> net = CRATE(image_size=32, patch_size=8, num_classes=10, dim=48, depth=2, heads=3, dim_head=16)
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int],
        patch_size: int | tuple[int, int],
        num_classes: int,
        dim: int,
        depth: int,
        heads: int,
        pool: str = "cls",
        channels: int = 3,
        dim_head: int = 64,
        dropout: float = 0.0,
        emb_dropout: float = 0.0,
        ista: float = 0.1,
        **ignored: object,
    ):
        super().__init__()
        unknown = sorted(set(ignored) - {"mlp_dim"})
        if unknown:
            raise TypeError(f"CRATE() got an unexpected keyword argument {unknown[0]!r}")
        if ignored:
            warnings.warn("CRATE ignores mlp_dim: its layers have no MLP", stacklevel=2)
        fields: dict[str, Any] = {
            "image_size": image_size,
            "patch_size": patch_size,
            "num_labels": num_classes,
            "hidden_size": dim,
            "num_hidden_layers": depth,
            "num_attention_heads": heads,
            "head_dim": dim_head,
            "num_channels": channels,
            "pool": pool,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
            "embedding_dropout_prob": emb_dropout,
            "ista_step_size": ista,
        }
        self.model = CrateForImageClassification(CrateVisionConfig(**fields))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, C, H, W)."""
        return self.model(images).logits

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state dict of this class, or a public one, with the wrappers that training scripts put around it.

        Args:
            strict, assign: as in torch.nn.Module.load_state_dict, which this calls.

        Raises:
            ValueError: names that are neither this class's nor those of a public layout.
            RuntimeError: missing, unexpected or misshapen tensors, as torch says it.
        """
        if not any(isinstance(name, str) and name.startswith("model.crate.") for name in state_dict):
            state, _ = load_state_dict(state_dict)
            translated, _ = recognise(state).translate(state)
            state_dict = {f"model.{name}": tensor for name, tensor in translated.items()}
        return super().load_state_dict(state_dict, strict=strict, assign=assign)


def _mae(size: str, fields: dict[str, object]) -> CrateMAEForPreTraining:
    return CrateMAEForPreTraining(CrateMAEConfig.from_size(size, **fields))


def mae_crate_tiny(**fields: object) -> CrateMAEForPreTraining:
    """CRATE-MAE-tiny; `fields` are those of CrateMAEConfig.

    Example:
        >>> model = mae_crate_tiny(num_hidden_layers=1, decoder_num_hidden_layers=1)
        >>> model.config.hidden_size
        384
    """
    return _mae("tiny", fields)


def mae_crate_small(**fields: object) -> CrateMAEForPreTraining:
    """CRATE-MAE-small; `fields` are those of CrateMAEConfig.

    Example:
        >>> model = mae_crate_small(num_hidden_layers=1, decoder_num_hidden_layers=1)
        >>> model.config.hidden_size
        576
    """
    return _mae("small", fields)


def mae_crate_base(**fields: object) -> CrateMAEForPreTraining:
    """CRATE-MAE-base; `fields` are those of CrateMAEConfig.

    Example:
        >>> model = mae_crate_base(num_hidden_layers=1, decoder_num_hidden_layers=1)
        >>> model.config.hidden_size
        768
    """
    return _mae("base", fields)


def mae_crate_large(**fields: object) -> CrateMAEForPreTraining:
    """CRATE-MAE-large; `fields` are those of CrateMAEConfig.

    Example:
        >>> model = mae_crate_large(num_hidden_layers=1, decoder_num_hidden_layers=1)
        >>> model.config.hidden_size
        1024
    """
    return _mae("large", fields)


__all__ = ["CRATE", "mae_crate_base", "mae_crate_large", "mae_crate_small", "mae_crate_tiny"]
