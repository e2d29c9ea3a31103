"""Leaky integrate-and-fire neurons."""

from __future__ import annotations

import torch
from torch import Tensor

from spikelfp.errors import ShapeError
from spikelfp.functional.lif import Denominator, LIFParameters, Reset
from spikelfp.nn.layer import Layer, default_rule
from spikelfp.rules import Rule


class LIF(Layer):
    """LIF neurons (v3, eq. A.2-A.3), one for each element of a step of the input current ``[T, B, …]``::

        U[t] = β U[t−1] + I[t] − θ S[t−1]      (reset "subtract", the same as snnTorch's Leaky)
        S[t] = 1 if U[t] > θ else 0

    beta: decay per step, (0, 1]; threshold: θ > 0; reset: "subtract" or "zero" (the membrane restarts from 0).
    denominator: how the reward on a membrane is normalised, "inflow" or "increment"
    (:mod:`spikelfp.functional.lif`).

    ``constants`` holds all four (:class:`~spikelfp.functional.lif.LIFParameters`).

    Returns spikes ``[T, B, …]`` of 0 and 1, float32 (float64 for a float64 current). ``run`` also takes and
    returns the membrane ``[B, …]``. Raises :class:`~spikelfp.errors.UserError` for values out of range.
    """

    def __init__(
        self,
        beta: float = 0.9,
        threshold: float = 1.0,
        reset: Reset = "subtract",
        denominator: Denominator = "inflow",
        *,
        rule: Rule | None = None,
    ) -> None:
        super().__init__()
        self.constants = LIFParameters(float(beta), float(threshold), reset, denominator)
        self.rule = default_rule(rule)

    @property
    def beta(self) -> float:
        """Decay of the membrane per step."""
        return self.constants.beta

    @property
    def threshold(self) -> float:
        """Membrane above which a neuron fires."""
        return self.constants.threshold

    @property
    def reset(self) -> Reset:
        """What a spike does to the membrane."""
        return self.constants.reset

    @property
    def denominator(self) -> Denominator:
        """How the reward on a membrane is normalised."""
        return self.constants.denominator

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)[0]

    def run(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Spikes ``[T, B, …]`` and the membrane ``[B, …]`` after the last step."""
        if x.dim() < 2 or len(x) < 1:
            raise ShapeError(f"LIF takes [T, B, …] with at least one step, got shape {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ShapeError(f"LIF takes a floating-point current, got {x.dtype}")
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()  # a membrane sums many small currents
        if state is None:
            state = x.new_zeros(x.shape[1:])
        elif state.shape != x.shape[1:]:
            raise ShapeError(f"the membrane handed in has shape {tuple(state.shape)}, a step {tuple(x.shape[1:])}")
        return self.rule.lif(x, state, self.constants)

    # What torch.compiler.disable sets, without the second that importing torch's compiler takes: the scan has
    # kernels of its own, and a reward finds the neurons by their autograd node.
    run._torchdynamo_disable = True  # type: ignore[attr-defined]

    def extra_repr(self) -> str:
        p = self.constants
        return f"beta={p.beta}, threshold={p.threshold}, reset={p.reset!r}, denominator={p.denominator!r}"
