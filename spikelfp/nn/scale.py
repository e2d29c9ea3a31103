"""A fixed factor and offset for each element."""

from __future__ import annotations

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import over_time
from spikelfp.nn.layer import Layer, check_dense


class Scale(Layer):
    """``y[t] = s ⊙ x[t] + c`` for every step of ``[T, B, …]``; ``s`` and ``c`` are constants, not trained.

    scale, shift: numbers, or tensors of the shape of one sample at one step; buffers of those names, float32. For
    neurons whose resistances, thresholds or resting membranes differ within a layer. The map is linear up to a
    constant, so under every rule the message to ``x`` is ``s ⊙ m``.

    Raises :class:`~spikelfp.errors.UserError` for values that are not finite, and
    :class:`~spikelfp.errors.ShapeError` where they do not fit the input.
    """

    arguments = ("scale", "shift")

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor | float = 1.0, shift: Tensor | float = 0.0) -> None:
        super().__init__()
        for name, value in (("scale", scale), ("shift", shift)):
            tensor = torch.as_tensor(value).detach().to(torch.float32).clone()
            if not torch.isfinite(tensor).all():
                raise UserError(f"the {name} of a Scale must be finite")
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        shape = tuple(x.shape[2:])
        for constant in (self.scale, self.shift):
            if constant.dim() and tuple(constant.shape) != shape:
                raise ShapeError(f"Scale was built for steps of {tuple(constant.shape)}, got {shape}")
        return over_time(lambda step: step * self.scale + self.shift, x)

    @property
    def passes_scale(self) -> bool:  # type: ignore[override]
        """Whether there is no offset."""
        return not self.shift.any()

    def extra_repr(self) -> str:
        return f"scale={_short(self.scale)}, shift={_short(self.shift)}"


def _short(constant: Tensor) -> object:
    return tuple(constant.shape) if constant.dim() else constant.item()
