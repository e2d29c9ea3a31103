"""Recurrently connected LIF neurons."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.functional import recurrent as fused
from spikelfp.functional.lif import FLOOR, MARGIN, Constant, Denominator, Reset
from spikelfp.nn.layer import Layer, as_given, check_current
from spikelfp.nn.linear import Linear
from spikelfp.nn.neurons.base import Neurons
from spikelfp.rules import Rule
from spikelfp.scalars import as_whole
from spikelfp.terminal import brief


class RecurrentLIF(Neurons):
    """LIF neurons whose spikes return to the layer one step later through the connections ``recurrent``::

        I[t] = X[t] + V S[t−1] + c                the current; V, c: weight and bias of ``recurrent``
        U[t] = β U[t−1] + I[t] − θ S[t−1]         S[t] = 1 if U[t] > θ else 0

    (snnTorch's RLeaky; with reset to zero its form with ``reset_delay=False``), or with another reset of
    :class:`~spikelfp.nn.LIF`.

    The reward on a membrane is split as in :class:`~spikelfp.nn.LIF`; the share of ``I[t]`` goes to the input
    and, through ``recurrent``, to the spikes of the step before. Takes ``[T, B, …]``, returns spikes; ``run``
    takes and returns ``(S, U)``, each ``[B, …]``. A plain :class:`~spikelfp.nn.Linear` for ``recurrent`` is run for all
    steps at once (:mod:`spikelfp.functional.recurrent`), others step by step.

    Args:
        recurrent: layer from spikes ``[1, B, …]`` to a current of the same shape; or a number of neurons ``n`` for
            ``nn.Linear(n, n)``.
        beta: decay of the membrane per step, as of :class:`~spikelfp.nn.Neurons`.
        threshold: membrane above which a neuron fires, likewise.
        reset: effect of a spike on the membrane, "subtract", "immediate" or "zero".
        denominator: normalisation of the reward on a membrane, "inflow" or "increment".
        floor: least denominator of that reward, in units of θ, as of :class:`~spikelfp.nn.Neurons`.
        margin: share of θ above which a membrane earns its message, likewise.
        learn_beta: whether β learns.
        learn_threshold: refused, as by :class:`~spikelfp.nn.Neurons`.
        rule: rule of this layer alone.

    Raises:
        UserError: for values out of range.
        ShapeError: for connections that return another shape than their input has.
    """

    states: ClassVar[tuple[str, ...]] = ("spikes", "membrane")
    arguments = ("recurrent", *(Neurons.arguments or ()))

    def __init__(
        self,
        recurrent: Layer | int,
        beta: Constant = 0.9,
        threshold: Constant = 1.0,
        reset: Reset = "subtract",
        denominator: Denominator = "inflow",
        *,
        floor: float = FLOOR,
        margin: float = MARGIN,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        rule: Rule | None = None,
    ) -> None:
        super().__init__(
            beta, threshold, reset, denominator,
            floor=floor, margin=margin, learn_beta=learn_beta, learn_threshold=learn_threshold, rule=rule,
        )  # fmt: skip
        self.recurrent = _connections(recurrent)

    def fed_back(self, spikes: Tensor, like: Tensor) -> Tensor:
        """Run spikes through the recurrent connections.

        Args:
            spikes: of one step, ``[1, B, …]``.
            like: current of a step, ``[1, B, …]``; the result must have its shape.

        Returns:
            The current, ``[1, B, …]``.

        Raises:
            ShapeError: for connections that return another shape.
        """
        current: Tensor = self.recurrent(spikes)
        if current.shape != like.shape:
            raise ShapeError(
                f"the recurrent layer of {type(self).__name__} returns {list(current.shape)} for spikes of shape "
                f"{list(spikes.shape)}: it must return the shape of its input"
            )
        return current

    def step(self, current: Tensor, state: Any, p: Any) -> tuple[Tensor, Any]:
        fed_back = self.fed_back(p.cast(state.spikes).unsqueeze(0), current.unsqueeze(0))[0]
        membrane = self.integrate(state.membrane, p, current + fed_back)
        spikes = self.fire(membrane, p.threshold)
        return spikes, (spikes, membrane)

    def run(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None, trace: bool = False
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        """Return the spikes ``[T, B, …]`` (or their trace), and spikes and membrane ``[B, …]`` of the last step."""
        if trace:
            return self.unfused(x, state, trace)
        fired, membrane = self.parts_of(state)
        current, start = check_current(self, x, membrane)
        constants = self.constants.fitted(start)
        kernel = fused.kernel_for(current, self.recurrent, self.rule, fired, constants.beta, constants.threshold)
        if kernel is None:  # connections of any kind, and every rule
            return self.unfused(x, state)
        arguments = (current, fired, start, None, constants, None, self.decay)
        spikes, membrane, _ = fused.run(kernel, self.recurrent, self.rule, *arguments)
        return as_given(spikes, x), (spikes[-1], membrane)

    run._torchdynamo_disable = True  # type: ignore[attr-defined]


def _connections(recurrent: Any) -> Layer:
    """Return the recurrent layer, or a dense one for a number of neurons."""
    if isinstance(recurrent, torch.nn.Module):
        return recurrent  # type: ignore[return-value]
    number = as_whole(recurrent)
    if number is None or number < 1:
        raise UserError(
            "recurrent is a layer from spikes to a current of the same shape, or a number of neurons, got "
            f"{brief(recurrent)}"
        )
    return Linear(number, number)
