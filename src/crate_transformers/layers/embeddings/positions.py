"""Positions of image patches: resampling a learned table, the fixed sine-cosine table, and Fourier features.

Shapes: G = (rows, columns) patch grid, d width; row 0 of a table belongs to the class token.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError


def resample_positions(
    table: Tensor, from_grid: tuple[int, int], to_grid: tuple[int, int], offset: float = 0.0
) -> Tensor:
    """Resample a position table to a patch grid (bicubic); the class token's row is kept.

    The table's own grid changes nothing.

    Args:
        table: (1, 1 + rows * columns, d). from_grid, to_grid: (rows, columns). offset: added to the sides of to_grid
            before the ratio is taken by which positions are spread, as the public code of CBT (and DINO) does with 0.1;
            0 spreads the one grid over the other.

    Returns:
        (1, 1 + to_rows * to_columns, d).
    """
    width = table.shape[-1]
    grid = table[:, 1:].reshape(1, *from_grid, width).permute(0, 3, 1, 2)  # (1, d, rows, columns)
    # float32: bicubic is not implemented for half precision everywhere
    options: dict[str, Any] = {"size": to_grid}
    if offset:
        differs = sum((to - side) ** 2 for to, side in zip(to_grid, from_grid, strict=True))
        offset = offset * torch.sym_min(differs, 1)  # not asked by an if: a side may be a symbol of an exported program
        ratios = [(to + offset) / side for to, side in zip(to_grid, from_grid, strict=True)]
        options = {"scale_factor": ratios, "recompute_scale_factor": False}
    resampled = torch.nn.functional.interpolate(grid.float(), mode="bicubic", align_corners=False, **options)
    patches = resampled.to(table.dtype).permute(0, 2, 3, 1).reshape(1, -1, width)
    return torch.cat([table[:, :1], patches], dim=1)


def sincos_positions(width: int, grid: tuple[int, int]) -> Tensor:
    """Fixed 2-d sine-cosine table: the first half of the channels encodes the column, the second half the row.

    Each half is sines, then cosines, of position / 10000^(2i / (width / 2)). The class token's row is zero.

    Args:
        width: d, a multiple of 4. grid: (rows, columns).

    Returns:
        (1, 1 + rows * columns, width), float32.

    Source: the masked autoencoder of arXiv 2111.06377, whose table CRATE-MAE (arXiv 2404.02446) keeps.
    """
    if width % 4:
        raise UserError(f"width must be a multiple of 4, got {width}")
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in grid)
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))

    def encode(positions: Tensor) -> Tensor:  # (side,) -> (side, width / 2)
        angles = positions[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    by_column = encode(columns)[None, :, :].expand(grid[0], -1, -1)
    by_row = encode(rows)[:, None, :].expand(-1, grid[1], -1)
    table = torch.cat([by_column, by_row], dim=-1).reshape(1, -1, width)
    return torch.cat([torch.zeros(1, 1, width), table.float()], dim=1)


def fourier_positions(grid: tuple[int, int], width: int = 32, device: torch.device | None = None) -> Tensor:
    """Fourier features of each patch's row and column, of any grid.

    y_r = 2 pi (r + 1) / (R + 1e-6), and x_c alike; each becomes `width` numbers, v / 10000^(2 floor(i / 2) / width)
    through sine for even i and cosine for odd i; rows come first.

    Args:
        grid: (rows R, columns C). width: even.

    Returns:
        (R * C, 2 * width), float32, row by row.

    Source: the layout of ToST (arXiv 2412.17810), after XCiT (arXiv 2106.09681).
    """
    exponents = 2 * (torch.arange(width, device=device) // 2) / width
    frequencies = 10000.0**-exponents

    def encode(side: int) -> Tensor:  # (side, width)
        places = torch.arange(1, side + 1, device=device, dtype=torch.float32) / (side + 1e-6) * (2 * math.pi)
        angles = places[:, None] * frequencies
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)

    rows, columns = grid
    by_row = encode(rows)[:, None].expand(-1, columns, -1)
    by_column = encode(columns)[None].expand(rows, -1, -1)
    return torch.cat([by_row, by_column], dim=-1).flatten(0, 1)


__all__ = ["fourier_positions", "resample_positions", "sincos_positions"]
