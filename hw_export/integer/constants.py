"""What a layer of neurons is given on a chip: the numbers that its steps are computed with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hw_export.integer.arithmetic import Arithmetic
from hw_export.integer.network import Neurons
from spikelfp.errors import UserError
from spikelfp.functional.lif import Reset

_WIDEST = 2**62  # thresholds and currents below it leave room for a sum of three in 64 bits
_SHIFT = 62  # shifting 64 bits by more gives the same


@dataclass(frozen=True, eq=False)
class Constants:
    """Of ``N`` neurons, in units of the state.

    threshold: int64 ``[N]``. code: as :meth:`~hw_export.integer.Arithmetic.decay_code` gives it. beta: the real decay,
    used where the state is float. most: spikes a step, or an event.
    """

    arithmetic: Arithmetic
    reset: Reset
    beta: float
    code: int
    most: int
    threshold: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """Of the state: int32 where its bits allow, else int64; float32 for a float decay."""
        if self.arithmetic.decay == "float":
            return torch.float32
        return torch.int32 if self.arithmetic.state_bits <= 32 else torch.int64

    @staticmethod
    def of(layer: Neurons, arithmetic: Arithmetic, shape: tuple[int, ...], last: bool) -> Constants:
        """Those of ``layer``, whose output has ``shape``. last: it is the last of the network.

        Raises :class:`~spikelfp.errors.UserError`, naming the layer, for a reset or a decay the chip does not have,
        and for thresholds it cannot hold or has no single leak for.
        """
        if layer.reset not in arithmetic.resets:
            raise UserError(
                f"the neurons {layer.name!r} reset by {layer.reset!r}, which this chip cannot: it has "
                f"{' and '.join(sorted(arithmetic.resets))}"
            )
        if layer.threshold.min() < 1:
            raise UserError(f"the neurons {layer.name!r} have a threshold of {layer.threshold.min()}: it must be >= 1")
        least = int(layer.threshold.max()) << arithmetic.shift
        if least >= _WIDEST or (arithmetic.decay != "float" and least + (arithmetic.fires == ">") > arithmetic.high):
            raise UserError(
                f"the neurons {layer.name!r} can never fire: their threshold {layer.threshold.max()} is {least} in the "
                f"state, which ends at {arithmetic.high} ({arithmetic.state_bits} bits)"
            )
        if arithmetic.decay == "linear" and layer.beta != 1.0 and len(layer.threshold.unique()) > 1:
            raise UserError(
                f"the neurons {layer.name!r} have thresholds of their own for each channel; a linear leak is one "
                "number for all of them: quantise per layer"
            )
        try:
            code = arithmetic.decay_code(layer.beta, least)
        except UserError as error:
            raise UserError(f"the neurons {layer.name!r}: {error}") from None
        most = arithmetic.most_spikes
        if last and arithmetic.last_spikes is not None:
            most = arithmetic.last_spikes
        own = layer.threshold.reshape(-1, *[1] * (len(shape) - 1)) if layer.threshold.dim() else layer.threshold
        return Constants(
            arithmetic=arithmetic,
            reset=layer.reset,
            beta=layer.beta,
            code=min(code, _SHIFT) if arithmetic.decay == "shift" else code,
            most=most if layer.reset == "immediate" else 1,
            threshold=(own.to(torch.int64) << arithmetic.shift).expand(shape).reshape(-1).contiguous(),
        )

    def to(self, device: torch.device) -> Constants:
        """The same on ``device``."""
        return replace(self, threshold=self.threshold.to(device))

    def unshifted(self) -> Constants:
        """The same for sums and biases that are in units of the state already."""
        return replace(self, arithmetic=replace(self.arithmetic, shift=0))
