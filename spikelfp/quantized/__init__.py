"""Networks that compute with a few bits: the grids of their weights, and training with them in the forward pass."""

from spikelfp.quantized.grid import Grid

__all__ = ["Grid"]
