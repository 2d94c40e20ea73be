"""Okabe and Ito's colours, which colour-blind readers can tell apart."""

BLUE, RED, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)

__all__ = ["BLUE", "GREEN", "ORANGE", "PALETTE", "PURPLE", "RED", "SKY"]
