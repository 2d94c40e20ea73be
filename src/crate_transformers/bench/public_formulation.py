"""CRATE as the public code formulates it, written anew from the equations: the yardstick of the benchmarks.

    w_k = LN(z) U_k,  a_k = softmax(w_k w_k^T / sqrt(p)),  z_half = z + [a_1 w_1 ... a_K w_K] O + b      [P1, eq. 11]
    x = LN(z_half),   z_next = relu(x + eta (D^T x - D^T D x) - eta lambda)                              [P1, eq. 13]
    R^c = sum_k 1/2 logdet(I_N + p / (N eps^2) w_k w_k^T)                                                [P1, eq. 5]

The attention matrix is materialised, the sparsification takes three products a token, the rates are those of N x N
matrices. Nothing here is used by the library.

Shapes: B batch, C channels, H x W pixels, N tokens, d width, K heads, p head width.

[P1] arXiv 2306.01129.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..configuration import CrateVisionConfig
from ..configuration.validation import as_pair
from ..models import CrateForImageClassification


class PublicAttention(nn.Module):
    """MSSA with the attention matrix written out."""

    def __init__(self, config: CrateVisionConfig):
        super().__init__()
        assert config.head_dim is not None
        self.num_heads, self.head_dim = config.num_attention_heads, config.head_dim
        inner = self.num_heads * self.head_dim
        self.subspaces = nn.Linear(config.hidden_size, inner, bias=False)
        self.attention_dropout = nn.Dropout(0.0)
        self.output = nn.Sequential(nn.Linear(inner, config.hidden_size), nn.Dropout(0.0))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, d) -> (B, N, d)."""
        batch, num_tokens, _ = tokens.shape
        projected = self.subspaces(tokens).reshape(batch, num_tokens, self.num_heads, self.head_dim).transpose(1, 2)
        scores = torch.matmul(projected, projected.transpose(-1, -2)) * self.head_dim**-0.5  # (B, K, N, N)
        attention = self.attention_dropout(scores.softmax(dim=-1))
        mixed = torch.matmul(attention, projected).transpose(1, 2).reshape(batch, num_tokens, -1)
        return self.output(mixed)


class PublicSparsification(nn.Module):
    """ISTA with its three products: D x, D^T (D x), D^T x."""

    def __init__(self, config: CrateVisionConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.hidden_size, config.hidden_size))
        self.step_size, self.sparsity_weight = config.ista_step_size, config.ista_lambda
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, d) -> (B, N, d)."""
        decoded = F.linear(tokens, self.weight)
        correlation = F.linear(tokens, self.weight.t())
        step = self.step_size * (correlation - F.linear(decoded, self.weight.t()))
        return F.relu(tokens + step - self.step_size * self.sparsity_weight)


class PublicLayer(nn.Module):
    """Compress, sparsify."""

    def __init__(self, config: CrateVisionConfig):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.block_layer_norm_eps)
        self.attention = PublicAttention(config)
        self.ista_norm = nn.LayerNorm(config.hidden_size, eps=config.block_layer_norm_eps)
        self.ista = PublicSparsification(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, d) -> (B, N, d)."""
        half = self.attention(self.attention_norm(tokens)) + tokens
        return self.ista(self.ista_norm(half))


class PublicCrate(nn.Module):
    """The classifier: images (B, C, H, W) to logits (B, num_labels), one class token."""

    def __init__(self, config: CrateVisionConfig, num_labels: int):
        super().__init__()
        self.patch_size = as_pair(config.patch_size)
        patch_dim, width = config.num_channels * self.patch_size[0] * self.patch_size[1], config.hidden_size
        self.patches = nn.Sequential(nn.LayerNorm(patch_dim), nn.Linear(patch_dim, width), nn.LayerNorm(width))
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, config.num_patches + 1, width))
        self.layers = nn.Sequential(*(PublicLayer(config) for _ in range(config.num_hidden_layers)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_labels))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_labels)."""
        batch, channels, height, width = images.shape
        rows, columns = self.patch_size
        patches = images.reshape(batch, channels, height // rows, rows, width // columns, columns)
        patches = self.patches(patches.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, rows * columns * channels))
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), patches], dim=1) + self.positions
        return self.head(self.layers(tokens)[:, 0])


# name in the library -> name in this file, replaced in this order
_NAMES = {
    "embeddings.patch_embeddings.patch_norm": "patches.0",
    "embeddings.patch_embeddings.projection": "patches.1",
    "embeddings.patch_embeddings.norm": "patches.2",
    "embeddings.position_embeddings": "positions",
    "embeddings.cls_token": "cls_token",
    "compression.norm": "attention_norm",
    "compression.attention.output": "attention.output.0",
    "compression.attention.subspaces": "attention.subspaces",
    "sparsification.norm": "ista_norm",
    "sparsification.coding.dictionary": "ista.weight",
}


def from_library(model: CrateForImageClassification) -> PublicCrate:
    """The public formulation with a copy of a model's weights.

    Raises:
        RuntimeError: a model of another form (no output projection, an over-complete dictionary).
    """
    config = model.config
    assert isinstance(config, CrateVisionConfig)
    public, state = PublicCrate(config, model.num_labels), {}
    for name, tensor in model.state_dict().items():
        name = name.removeprefix("crate.")
        for library_name, own_name in _NAMES.items():
            name = name.replace(library_name, own_name)
        head = {"norm": "head.0", "classifier": "head.1"}.get(name.split(".")[0])
        state[name if head is None else f"{head}.{name.split('.', 1)[1]}"] = tensor
    public.load_state_dict(state)
    return public.train(model.training)


def public_coding_rate(projections: Tensor, epsilon: float = 0.1) -> Tensor:
    """R^c of unit tokens by logdet of N x N matrices, in nats. (..., K, N, p) -> (...)."""
    projections = F.normalize(projections, dim=-1)
    num_tokens, width = projections.shape[-2:]
    gram = projections @ projections.mT  # (..., K, N, N)
    identity = torch.eye(num_tokens, dtype=gram.dtype, device=gram.device)
    return 0.5 * torch.logdet(identity + width / (num_tokens * epsilon**2) * gram).sum(dim=-1)


__all__ = ["PublicCrate", "from_library", "public_coding_rate"]
