"""Networks that compute with a few bits: the grids of their weights, and training with them in the forward pass."""

from spikelfp.functional.grid import Grid
from spikelfp.quantized.network import UPDATES, Quantization, WeightGrids
from spikelfp.quantized.scale import CLIPS, choose_scale
from spikelfp.registry import check_constructors, public_names

__all__ = ["CLIPS", "UPDATES", "Grid", "Quantization", "WeightGrids", "choose_scale"]

check_constructors(*(value for name in __all__ if isinstance(value := globals()[name], type)))
public_names(globals())
