"""Class attention: the class token alone asks, all tokens answer; the end of ToST's image model.

With tokens x = [class; patches], y = LN_1(x), gamma_1, gamma_2 learned factors a channel:

    a = softmax(q_class K^T / sqrt(p)) V O + b
    x <- x + gamma_1 [a; y of the patches]
    x <- LN_2(x)                                   of all tokens, or of the class token alone
    x <- [x_class + gamma_2 MLP(x_class); 2 x_patches]

Two oddities are in the published weights: patches receive their own norm, and are doubled.

Shapes: B batch, N tokens, the class token first, d hidden_size, K heads, p = d / K.

Source: XCiT's class attention (arXiv 2106.09681), in the layout of ToST (arXiv 2412.17810).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig

from .adapters import refuse_addition
from .increment import LayerScale
from .linear import Linear
from .sparsification.mlp import Activations


class ClassAttention(nn.Module):
    """The attention of the class token: one projection to queries, keys and values, one back."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.projection = Linear(config.hidden_size, 3 * config.hidden_size, bias=config.qkv_bias)
        self.output = Linear(config.hidden_size, config.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, 1, d) of tokens (B, N, d)."""
        heads = self.projection(tokens).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, K, p)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)  # (B, K, N, p) each
        mixed = F.scaled_dot_product_attention(queries[:, :, :1], keys, values)
        return self.output(mixed.transpose(1, 2).flatten(2))


class ClassAttentionLayer(nn.Module):
    """One block (see the top of this file).

    Args:
        config: hidden_size, num_attention_heads, qkv_bias, mlp_size, layer_norm_eps, layer_scale, normalize_all_tokens.
    """

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.normalizes_all = config.normalize_all_tokens
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.attention = ClassAttention(config)
        self.attention_scale: nn.Module = nn.Identity() if config.layer_scale is None else LayerScale(config)
        self.mlp_norm = nn.LayerNorm(width, eps=eps)
        self.mlp = nn.Sequential(Activations(width, config.mlp_size), Linear(config.mlp_size, width))
        self.mlp_scale: nn.Module = nn.Identity() if config.layer_scale is None else LayerScale(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, d) of tokens (B, N, d), the class token first."""
        refuse_addition(self.mlp[0])
        normed = self.attention_norm(tokens)
        tokens = tokens + self.attention_scale(torch.cat([self.attention(normed), normed[:, 1:]], dim=1))
        class_token, patches = tokens[:, :1], tokens[:, 1:]
        class_token = self.mlp_norm(class_token)
        if self.normalizes_all:
            patches = self.mlp_norm(patches)
        class_token = class_token + self.mlp_scale(self.mlp(class_token))
        return torch.cat([class_token, 2 * patches], dim=1)


__all__ = ["ClassAttention", "ClassAttentionLayer"]
