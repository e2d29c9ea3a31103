"""LIF neurons given by an electric circuit: a resistor and a capacitor."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.functional.lif import (
    FLOOR,
    MARGIN,
    Constant,
    Denominator,
    Reset,
    brief_constant,
    check_constant,
    check_decay,
    check_number,
)
from spikelfp.nn.layer import as_given, check_current
from spikelfp.nn.neurons.base import Decay, NeuronConstant, Neurons
from spikelfp.rules import Rule


def _is_positive(value: Any) -> Any:
    return (value > 0) & (value < math.inf)


def _positive(name: str, value: Any) -> Constant:
    return check_constant(name, value, f"{name} is a finite number above 0", _is_positive)


def _decay(resistance: Any, capacitance: Any, step: float) -> Any:
    """Return the decay of an Euler step, ``1 − Δt/RC``."""
    decay = 1 - step / (resistance * capacitance)
    if bool((torch.as_tensor(decay) <= 0).any()):
        raise UserError(
            "Δt is below RC for Lapicque, whose Euler step would overshoot (with beta: above 1/e = 0.368), got "
            f"1 - Δt/RC = {float(torch.as_tensor(decay).min()):g}"
        )
    return decay


class _Circuit(NeuronConstant):
    """R or C, above 0; the decay follows it."""

    def __init__(self) -> None:
        super().__init__(_positive)

    def hold(self, layer: Any, value: Any) -> None:
        """Set the constant without changing the decay."""
        super().__set__(layer, value)

    def __set__(self, layer: Any, value: Any) -> None:
        before = getattr(layer, self.name)
        self.hold(layer, value)
        try:
            decay = _decay(layer.R, layer.C, layer.time_step)
        except UserError:
            self.hold(layer, before)
            raise
        Decay.__set__(type(layer).beta, layer, decay)


class _EulerDecay(Decay):
    """``1 − Δt/RC``; setting it changes R."""

    def __set__(self, layer: Any, value: Any) -> None:
        rest = 1 - self.check(self.name, value)  # Δt / RC
        if bool((torch.as_tensor(rest) <= 0).any()):
            raise UserError(f"the decay of Lapicque is below 1, or its RC would be infinite, got {value}")
        super().__set__(layer, value)
        if hasattr(layer, "C"):
            type(layer).R.hold(layer, layer.time_step / (layer.C * rest))


class Lapicque(Neurons):
    """LIF neurons of a resistance ``R`` and a capacitance ``C``, by Euler steps of ``Δt`` (snnTorch's Lapicque)::

        U[t] = (1 − Δt / RC) U[t−1] + Δt / C · I[t] − θ S[t−1]         S[t] = 1 if U[t] > θ else 0

    They are :class:`~spikelfp.nn.LIF` with the decay ``1 − Δt/RC`` (the attribute ``beta``) after a gain of ``Δt/C``,
    and run by its scan; resets are those of :class:`~spikelfp.nn.LIF`. snnTorch's reset to zero drops the
    input of the step after a spike too; this one restarts from it. The reward on a membrane is split over ``β U[t−1]``
    and ``Δt/C · I[t]``; the message to ``I[t]`` is ``Δt/C`` times the message to the second term. Takes
    ``[T, B, …]``, returns spikes; ``run`` takes and returns the membrane ``[B, …]``.

    Args:
        beta: another way to state R and C, ``β = exp(−Δt/RC)``, as in snnTorch: alone with R = 1, or with one of
            them. It is not the decay of the Euler step, which is ``1 + ln β``. Above 1/e and below 1.
        R: resistance, above 0.
        C: capacitance, above 0. Of β, R and C two are given, or β alone.
        time_step: Δt, above 0, in the unit of RC, which is longer.
        threshold: θ, above 0.
        reset: "subtract", "immediate" or "zero".
        denominator: of the reward, as in :class:`~spikelfp.nn.LIF`.
        floor: least denominator, in units of θ, likewise.
        margin: share of the threshold above which a membrane earns its message, likewise.
        learn_beta: the decay of the Euler step learns, within [0.001, 1]; the gain stays.
        learn_threshold: refused, as in :class:`~spikelfp.nn.LIF`.
        rule: the rule of this layer; by default the one that trains the network.

    β, R, C and θ are numbers, or tensors with one for each neuron.

    Raises:
        UserError: for values out of range, and for more or fewer of β, R and C than are needed.
    """

    arguments: ClassVar[tuple[str, ...] | None] = (
        "R", "C", "time_step", "threshold", "reset", "denominator", "floor", "margin", "learn_beta",
    )  # fmt: skip
    R: Any = _Circuit()
    C: Any = _Circuit()
    beta: Any = _EulerDecay(learned="decay")

    def __init__(
        self,
        beta: Constant | None = None,
        R: Constant | None = None,
        C: Constant | None = None,
        time_step: float = 1.0,
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
        self.time_step = check_number("time_step", time_step)
        if not _is_positive(self.time_step):
            raise UserError(f"time_step is a finite number above 0, got {self.time_step}")
        resistance, capacitance = _circuit(beta, R, C, self.time_step)
        super().__init__(
            _decay(resistance, capacitance, self.time_step), threshold, reset, denominator,
            floor=floor, margin=margin, learn_beta=learn_beta, learn_threshold=learn_threshold, rule=rule,
        )  # fmt: skip
        type(self).C.hold(self, capacitance)
        type(self).R.hold(self, resistance)

    @property
    def gain(self) -> Constant:
        """Factor ``Δt / C`` of a current on its way into the membrane."""
        gain: Constant = self.time_step / self.C
        return gain

    def values(self, step: Tensor, x: Tensor) -> Any:
        p = super().values(step, x)
        p.gain = self.time_step / p.C
        return p

    def step(self, current: Tensor, state: Any, p: Any) -> tuple[Tensor, Any]:
        return super().step(p.gain * current, state, p)

    def run(self, x: Tensor, state: Tensor | None = None, trace: bool = False) -> tuple[Any, Tensor]:
        """Return the spikes ``[T, B, …]`` (or their trace) and the membrane ``[B, …]`` after the last step."""
        if trace:
            whole, after = self.unfused(x, None if state is None else (state,), trace)
            return whole, after.membrane
        current, start = check_current(self, x, state)
        scaled = self.time_step / self.constant("C", start) * current
        spikes, membrane = self.rule.lif(scaled, start, self.constants, self.decay)
        return as_given(spikes, x), membrane

    run._torchdynamo_disable = True  # type: ignore[attr-defined]


def _circuit(beta: Any, resistance: Any, capacitance: Any, step: float) -> tuple[Any, Any]:
    """Compute R and C from whichever of β, R and C are stated."""
    given = [name for name, value in (("beta", beta), ("R", resistance), ("C", capacitance)) if value is not None]
    if given not in (["beta"], ["beta", "R"], ["beta", "C"], ["R", "C"]):
        raise UserError(
            f"Lapicque takes R and C, or beta and one of them, or beta alone (R = 1), got {', '.join(given) or 'none'}"
        )
    if beta is None:
        return _positive("R", resistance), _positive("C", capacitance)
    beta = check_decay("beta", beta)
    leak = -beta.log() if isinstance(beta, Tensor) else -math.log(beta)  # Δt / RC
    if bool((torch.as_tensor(leak) <= 0).any()):
        raise UserError(f"beta is below 1 for Lapicque, whose RC would be infinite, got {brief_constant(beta)}")
    if capacitance is None:
        resistance = 1.0 if resistance is None else _positive("R", resistance)
        return resistance, step / (resistance * leak)
    capacitance = _positive("C", capacitance)
    return step / (capacitance * leak), capacitance
