"""One token as a sum of atoms: its active neurons in order of strength, and what is left of it after each.

    square dictionary         x = LN(Z_half) is coded:  x ~ sum_j z_j d_j, the residual is what the code leaves out
    over-complete dictionary  what the layer writes is decoded:  x' = sum_j z_j e_j, exactly

Shapes: B batch, N tokens, d hidden_size, m atoms.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..layers import Sparsification
from ..objective import ista_step
from .architectures import architecture_of, backbone_of
from .attention import resolve_layer
from .tracing import Trace


@dataclass(frozen=True, eq=False)
class TokenCode:
    """The code of one token in one layer.

    Attributes:
        layer, token: from 0.
        neurons, values: the active neurons, z_j > 0, the strongest first.
        residuals: ||x - the sum of the first n terms|| / ||x||, for n = 0 (which is 1) to all of them.
        of: what the sum is compared with, "read" (LN(Z_half)) or "written" (the decoded code).
        norm: ||x||.

    Example:
        >>> code = TokenCode(0, 3, neurons=(7, 2), values=(1.5, 0.5), residuals=(1.0, 0.4, 0.3), of="read", norm=2.0)
        >>> code.residuals[len(code.neurons)]  # the share of x that the whole sum leaves
        0.3
    """

    layer: int
    token: int
    neurons: tuple[int, ...]
    values: tuple[float, ...]
    residuals: tuple[float, ...]
    of: str
    norm: float


@dataclass(frozen=True, eq=False)
class StepFilm:
    """Steps of ISTA on one token, those that the layer takes and more.

    Attributes:
        taken: how many the layer takes.
        objective: 1/2 ||x - z D^T||^2 + lambda ||z||_1 before the first step and after each.
        nonzeros: entries of the code that are not 0, at the same points.
        codes: (steps + 1, m).

    Example:
        >>> film = StepFilm(taken=1, objective=(2.0, 1.5), nonzeros=(0, 2), codes=torch.zeros(2, 5))
        >>> film.objective[film.taken]
        1.5
    """

    taken: int
    objective: tuple[float, ...]
    nonzeros: tuple[int, ...]
    codes: Tensor


def _block(model: nn.Module, layer: int) -> Sparsification:
    backbone = backbone_of(model)
    layers = architecture_of(backbone).layers(backbone)
    block = getattr(layers[resolve_layer(layer, len(layers))], "sparsification", None)
    if not isinstance(block, Sparsification):
        raise UserError(f"layer {layer} of {type(model).__name__} makes no sparse code: there are no atoms to add up")
    return block


def _token(trace: Trace, token: int) -> int:
    tokens = trace.layers[0].get("half_tokens").shape[1]
    if not 0 <= token < tokens:
        raise UserError(f"there is no token {token}: there are {tokens}, numbered 0 to {tokens - 1}")
    return token


@torch.no_grad()
def code_of_token(model: nn.Module, trace: Trace, layer: int, token: int) -> TokenCode:
    """The active neurons of a token and the running sum of their atoms.

    Args:
        model: with a block `ista` in that layer. trace: of the first sample, with half_tokens and codes.

    Raises:
        ValueError: a layer or token that does not exist; a layer without a sparse code.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> from crate_transformers.analysis import trace
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> code = code_of_token(model, trace(model, torch.rand(1, 3, 32, 32), ("half_tokens", "codes")), 0, 0)
        >>> code.residuals[0], len(code.residuals) == len(code.neurons) + 1
        (1.0, True)
    """
    block, token = _block(model, layer), _token(trace, token)
    record = trace.layers[layer]
    code = record.get("codes")[0, token].double()  # (m)
    atoms = block.coding.dictionary.double()
    if block.decodes:
        atoms = atoms if block.decoder_dictionary is None else block.decoder_dictionary.double()
        target = code @ atoms.mT
    else:
        target = block.norm(record.get("half_tokens")[0, token]).double()
    order = code.argsort(descending=True, stable=True)
    order = order[code[order] > 0]
    sums = (code[order, None] * atoms.mT[order]).cumsum(dim=0)  # (n, d)
    norm = target.norm()
    left = (target - sums).norm(dim=-1) / norm.clamp(min=torch.finfo(norm.dtype).tiny)
    return TokenCode(
        layer=layer,
        token=token,
        neurons=tuple(order.tolist()),
        values=tuple(code[order].tolist()),
        residuals=(1.0, *left.tolist()),
        of="written" if block.decodes else "read",
        norm=norm.item(),
    )


@torch.no_grad()
def film_of_token(model: nn.Module, trace: Trace, layer: int, token: int, steps: int = 20) -> StepFilm:
    """ISTA on one token, step by step, beyond the steps that the layer takes.

    Args:
        model, trace, layer, token: as in `code_of_token`. steps: how many, at least those that the layer takes.

    Raises:
        ValueError: as in `code_of_token`.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> from crate_transformers.analysis import trace
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> film = film_of_token(model, trace(model, torch.rand(1, 3, 32, 32), ("half_tokens",)), 0, 0, steps=3)
        >>> film.taken, film.codes.shape
        (1, torch.Size([4, 384]))
    """
    block, token = _block(model, layer), _token(trace, token)
    coding, signal = block.coding, block.norm(trace.layers[layer].get("half_tokens")[:1, token])  # (1, d)
    dictionary, weight = coding.dictionary, coding.sparsity_weight
    code = signal.new_zeros(1, dictionary.shape[1]) if coding.from_zero else signal
    codes = [code]
    for _ in range(max(steps, coding.num_steps)):
        codes.append(ista_step(codes[-1], signal, dictionary, coding.step_size, weight))
    film = torch.cat(codes)  # (steps + 1, m)
    misfit = 0.5 * (signal - film @ dictionary.mT).square().sum(dim=-1)
    return StepFilm(
        taken=coding.num_steps,
        objective=tuple((misfit + weight * film.abs().sum(dim=-1)).tolist()),
        nonzeros=tuple((film != 0).sum(dim=-1).tolist()),
        codes=film,
    )


__all__ = ["StepFilm", "TokenCode", "code_of_token", "film_of_token"]
