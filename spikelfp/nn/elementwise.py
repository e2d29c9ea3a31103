"""Layers that work element by element: a fixed scale, and noise in training."""

from __future__ import annotations

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import is_constant, over_time, repeat
from spikelfp.nn.layer import Layer, check_dense
from spikelfp.scalars import as_number


class Scale(Layer):
    """``y[t] = s ⊙ x[t] + c`` for every step of ``[T, B, …]``; ``s`` and ``c`` are constants, not trained.

    For neurons whose resistances or resting membranes differ within a layer. The map is linear up to a constant, so
    under every rule the message to ``x`` is ``s ⊙ m``.

    Args:
        scale: the factor ``s``: a number, or a tensor with the axes of one sample at one step, each of its size or 1.
            Kept as a float32 buffer.
        shift: the offset ``c``, likewise.

    Raises:
        UserError: for values that are not finite.
        ShapeError: where they do not fit the input.
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
            fits = constant.dim() == len(shape) and all(a in (1, b) for a, b in zip(constant.shape, shape, strict=True))
            if constant.dim() and not fits:
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


class Noise(Layer):
    """Adds ``N(0, σ²)`` to every element in training, the same at every step of a constant sequence.

    Before the layers of a Heaviside network it lets silent neurons fire now and then, so that they can be rewarded, as
    in the published experiments. Rewards pass through it unchanged.

    Args:
        sigma: standard deviation σ, 0 or more.

    Raises:
        UserError: for a σ that is negative or not finite.
    """

    passes_scale = True
    arguments = ("sigma",)

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        number = as_number(sigma)
        if number is None or not 0 <= number < float("inf"):
            raise UserError(f"sigma must be a finite number, 0 or more, got {sigma!r}")
        self.sigma = number

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.sigma == 0:
            return x
        check_dense(self, x)
        if x.dim() < 2:
            self._expect(x, 2, "[T, B, …]")
        if is_constant(x):
            return repeat(x[0] + self.sigma * torch.randn_like(x[0]), len(x))
        return x + self.sigma * torch.randn_like(x)

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}"
