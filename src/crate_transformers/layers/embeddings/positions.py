"""Positions of image patches: resampling a learned table, and the fixed sine-cosine table.

Shapes: G = (rows, columns) patch grid, d width; row 0 of a table belongs to the class token.
"""

import torch
from torch import Tensor

from ...errors import UserError


def resample_positions(table: Tensor, from_grid: tuple[int, int], to_grid: tuple[int, int]) -> Tensor:
    """Resample a position table to a patch grid (bicubic); the class token's row is kept.

    The table's own grid changes nothing.

    Args:
        table: (1, 1 + rows * columns, d). from_grid, to_grid: (rows, columns).

    Returns:
        (1, 1 + to_rows * to_columns, d).
    """
    width = table.shape[-1]
    grid = table[:, 1:].reshape(1, *from_grid, width).permute(0, 3, 1, 2)  # (1, d, rows, columns)
    # float32: bicubic is not implemented for half precision everywhere
    resampled = torch.nn.functional.interpolate(grid.float(), size=to_grid, mode="bicubic", align_corners=False)
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


__all__ = ["resample_positions", "sincos_positions"]
