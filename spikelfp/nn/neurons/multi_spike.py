"""LIF neurons that may fire several times in one step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from spikelfp.errors import UserError
from spikelfp.functional.lif import Constant
from spikelfp.functional.sequence import Trace
from spikelfp.nn.layer import as_given, check_current
from spikelfp.nn.neurons.base import ConstantLayer, Decay, Threshold


class MultiSpikeLIF(ConstantLayer):
    """LIF neurons that fire as long as their membrane is above the threshold; every spike subtracts θ::

        U[t] = β (U[t−1] − θ N[t−1]) + I[t]
        N[t] = max(0, ⌈U[t] / θ⌉ − 1)              spikes in step t: how often θ fits while U > θ

    Neurons of simulators that advance in long steps (sinabs, rockpool) do this, and networks trained there may
    depend on it. They are for inference: LFP is defined for neurons of at most one spike per step.

    Takes ``[T, B, …]``, returns the counts ``N`` as floats; ``run`` takes and returns the membrane ``[B, …]`` before
    the reset.

    Args:
        beta: decay β per step, (0, 1]: one number, or a tensor with one for each neuron.
        threshold: θ > 0, likewise.

    Raises:
        UserError: for constants out of range, and for a reward that is sent back through them.
    """

    has_membrane = True
    has_threshold = True
    arguments = ("beta", "threshold")

    beta: Any = Decay()
    threshold: Any = Threshold()

    def __init__(self, beta: Constant = 1.0, threshold: Constant = 1.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def run(self, x: Tensor, state: Tensor | None = None, trace: bool = False) -> tuple[Any, Tensor]:
        """Return the counts ``[T, B, …]`` (or their trace) and the last membrane ``[B, …]``, before its reset."""
        current, membrane = check_current(self, x, state)
        if trace:
            counts, membranes = [], []
            for step in x.split(1):
                count, membrane = self.run(step, membrane)
                counts.append(count)
                membranes.append(membrane.detach())
            return Trace(spikes=torch.cat(counts), membrane=torch.stack(membranes)), membrane
        counts, membrane = _Counts.apply(
            current, membrane, self.constant("beta", membrane), self.constant("threshold", membrane)
        )
        return as_given(counts, x), membrane


class _Counts(Function):
    @staticmethod
    def forward(
        ctx: Any, current: Tensor, membrane: Tensor, beta: Constant, threshold: Constant
    ) -> tuple[Tensor, Tensor]:
        counts = torch.empty(current.shape, dtype=current.dtype, device=current.device)
        for step, count in zip(current, counts, strict=True):
            rest = membrane - threshold * _count(membrane, threshold, count)
            membrane = beta * rest + step
            _count(membrane, threshold, count)
        return counts, membrane

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise UserError(
            "MultiSpikeLIF neurons are for inference, no reward passes through them: train with LIF neurons"
        )


def _count(membrane: Tensor, threshold: Constant, out: Tensor) -> Tensor:
    """Write ``N`` of a membrane to ``out``."""
    return torch.div(membrane, threshold, out=out).ceil_().sub_(1).clamp_(min=0)
