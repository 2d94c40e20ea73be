"""What every block answers for itself: how its weights start, and what it becomes where nothing changes any more."""

from torch import nn


class Block(nn.Module):
    """A part of a layer with weights of its own making."""

    def reset_parameters(self) -> None:
        """Draw the weights that this block holds itself; those of its parts are drawn by the model."""

    def folded(self) -> nn.Module:
        """The block with everything folded that is constant at inference; itself, if nothing is.

        `fuse` calls it on a copy, without gradients; it may change the block.
        """
        return self


__all__ = ["Block"]
