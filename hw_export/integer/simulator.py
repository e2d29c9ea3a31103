"""Simulator of networks of whole numbers, which runs them bit for bit as a chip does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hw_export.integer import numba_kernels, torch_kernels
from hw_export.integer.arithmetic import GENERIC, Arithmetic
from hw_export.integer.energy import Counts, Crossbar, count
from hw_export.integer.network import IntegerNetwork
from hw_export.integer.stage import NeuronStage, Totals, stages, totals, unrounded
from hw_export.integer.torch_kernels import EventLists
from hw_export.quantize import QuantizedNetwork, quantize
from spikelfp import checks
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import is_constant
from spikelfp.machine import empty
from spikelfp.registry import unknown_name
from spikelfp.terminal import brief

_EXACT = {torch.float16: 2**11, torch.bfloat16: 2**8, torch.float32: 2**24, torch.float64: 2**53}


class IntegerInputs(NamedTuple):
    """Inputs in whole numbers.

    Attributes:
        values: ``[T, B, *shape]``, or ``[1, B, *shape]`` where all steps are the same; int8, or int32 or int64 where
            that is too narrow.
        steps: number of steps ``T``.
        peak: largest magnitude.
        lowest: smallest value.
    """

    values: Tensor
    steps: int
    peak: int
    lowest: int


def whole(inputs: Tensor, shape: tuple[int, ...], device: torch.device) -> IntegerInputs:
    """Convert inputs to whole numbers.

    Args:
        inputs: ``[T, B, …]`` of any dtype.
        shape: of one sample at one step, as the network takes it.
        device: to move them to.

    Raises:
        ShapeError: for another shape.
        UserError: for numbers that are not whole, are NaN or infinite, or so large that their dtype does not hold every
            whole number any more.
    """
    if checks.tensor("inputs", inputs).dim() < 2 or not len(inputs) or not inputs.shape[1]:
        raise ShapeError(f"inputs are [T, B, …] with at least one step and one sample, got {tuple(inputs.shape)}")
    if math.prod(inputs.shape[2:]) != math.prod(shape):
        raise ShapeError(
            f"the network takes {tuple(shape)} for each sample and step, got inputs {tuple(inputs.shape)}: "
            f"{math.prod(inputs.shape[2:])} numbers instead of {math.prod(shape)}"
        )
    steps = len(inputs)
    values = (inputs[:1] if is_constant(inputs) else inputs).detach().to(device)
    if not values.is_floating_point():
        values = values.to(torch.int8 if values.dtype in (torch.bool, torch.int8) else torch.int64)
    low, high = (end.item() for end in values.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError("the inputs hold NaN or infinite numbers: a chip takes whole numbers, spikes or pixels")
    peak = int(max(abs(low), abs(high)))
    if peak >= _EXACT.get(values.dtype, 2**62):
        raise UserError(f"inputs of up to {peak} are too large: {values.dtype} does not hold all whole numbers there")
    if values.is_floating_point() and not torch.equal(values.trunc(), values):
        odd = values[values.trunc() != values][0].item()
        raise UserError(
            f"the inputs hold fractions, like {odd:g}: a chip takes whole numbers. Give spikes of 0 and 1, or the "
            "pixels times the input_scale that the network was quantised with"
        )
    kept = values.to(torch.int8 if low >= -128 and high <= 127 else torch.int32 if peak < 2**31 else torch.int64)
    return IntegerInputs(kept.reshape(*values.shape[:2], *shape).contiguous(), steps, peak, int(low))


States = dict[str, Tensor]
"""Membranes ``[B, …]`` of each layer of neurons, by name, after the last step and its reset.

On a chip with a synapse also its currents, by the name with the suffix ``.current``; and in front of delays the last
inputs of the layers before the neurons, int64 ``[B, longest, …]``, with the suffix ``.delayed``.
"""
LINE = ".delayed"
"""Suffix of the name of the neurons, for the inputs that are kept for delays."""


@dataclass(frozen=True)
class IntegerRun:
    """Spikes, final states and counts of one run.

    Attributes:
        spikes: how often each neuron fired, by name of its layer, int8 ``[T, B, …]`` (int32 event by event).
        states: to go on from, int32, int64 or, with a float decay, float32.
        counts: operations of a sample, on average.
        saturated: for each layer the number of neuron-steps at which a membrane went beyond the range of its bits, or a
            current was wrapped or limited; event by event, the number of those with one or more such events. More than
            a few mean that the state is too narrow.
    """

    spikes: dict[str, Tensor]
    states: States
    counts: Counts
    saturated: dict[str, int]

    @property
    def outputs(self) -> Tensor:
        """Spikes of the last layer, ``[T, B, …]``."""
        return list(self.spikes.values())[-1]

    @property
    def classes(self) -> Tensor:
        """For each sample the neuron of the last layer that fired most, the first of equals, int64 ``[B]``."""
        return self.classes_at(None)

    def classes_at(self, mask: Tensor | None) -> Tensor:
        """Find the classes from the steps at which the boolean ``mask`` ``[T, B]`` is true; ``None`` for all steps."""
        spikes = self.outputs.flatten(2)
        checks.step_mask(mask, spikes)
        if mask is not None:
            spikes = spikes.masked_fill(~mask.to(spikes.device).unsqueeze(-1), 0)
        return spikes.sum(0, dtype=torch.int64).argmax(1)


_SUMS = 2**22  # sums of a stage held in memory together: they stay in the last-level cache

_BYTES = torch.empty(0, dtype=torch.int8)


def in_steps(
    stage: NeuronStage, x: Tensor, steps: int, idle: int, peak: int, states: Sequence[Tensor], seen: Totals
) -> tuple[Tensor, int]:
    """Run a stage step by step.

    Args:
        stage: weights and neurons.
        x: whole numbers ``[T, B, …]``, or of one step, which is then the same at each of the ``steps``.
        steps: number of steps.
        idle: number of steps before, without input.
        peak: bound on ``|x|``.
        states: one for each of the stage's registers, ``[B, N]``, changed in place.
        seen: gets the totals of the inputs of each layer of weights.

    Returns:
        Spikes int8 ``[idle + steps, B, N]``, and how often a register was left.
    """
    device, samples = states[0].device, len(states[0])
    out = empty((idle + steps, samples, stage.size), _BYTES.to(device))
    beyond = 0
    if idle:
        nothing = torch.zeros(1, samples, stage.size, device=device)
        beyond += _neurons(stage, nothing, states, out[:idle])
    if len(x) == 1:
        sums = stage.sums(x[0], peak, seen, steps).unsqueeze(0)
        return out, beyond + _neurons(stage, sums, states, out[idle:])
    at_once = _at_once(stage, samples)
    for begin in range(0, steps, at_once):
        part = x[begin : begin + at_once]
        sums = stage.sums(part.flatten(0, 1), peak, seen).unflatten(0, (len(part), samples))
        beyond += _neurons(stage, sums, states, out[idle + begin : idle + begin + len(part)])
    return out, beyond


def _neurons(stage: NeuronStage, sums: Tensor, states: Sequence[Tensor], out: Tensor) -> int:
    """Run ``sums`` through the neurons; where they have synapses, through those first."""
    device, c, offset = states[0].device, stage.constants, stage.offset()
    advance = _kernels(device).in_steps
    if c.arithmetic.synapse is None:
        return advance(sums, offset, states[0], c, out)
    currents = _kernels(device).currents
    membrane, current = states
    fed, beyond = replace(c, arithmetic=replace(c.arithmetic, shift=0)), 0  # the currents are in units of the state
    for part in out.split(_at_once(stage, len(current))):  # one part, unless the sums are those of every step
        arriving, hit = currents(sums, current, c.arithmetic, len(part))
        beyond += hit + advance(arriving, offset << c.arithmetic.shift, membrane, fed, part)
    return beyond


def _kernels(device: torch.device) -> Any:
    """Choose the module of kernels for ``device``; both give the same whole numbers."""
    return numba_kernels if numba_kernels.compiled(device) else torch_kernels


def _at_once(stage: NeuronStage, samples: int) -> int:
    """Compute the number of steps of which sums are held in memory together."""
    return max(1, _SUMS // (samples * stage.size))


def by_event(
    stage: NeuronStage, events: EventLists, idle: int, state: Tensor, seen: Totals
) -> tuple[EventLists, Tensor, int]:
    """Run a stage event by event.

    Returns:
        The events that its neurons emit, how often each fires, int32 ``[idle + T, B, N]``, and how often a register was
        left.
    """
    advance = _kernels(state.device).by_event
    inputs = math.prod(stage.in_shape)
    seen[stage.name] = torch.bincount(events.source, minlength=inputs)
    given = events.after(idle)
    samples, steps = given.lengths.shape
    out = torch.zeros(steps, samples, stage.size, dtype=torch.int32, device=state.device)
    emitted, beyond = advance(given, stage.matrix(), stage.offset(), state, stage.constants, out)
    return emitted, out, beyond


class IntegerSimulator:
    """Runs a network in the exact arithmetic of a chip (equations in :mod:`hw_export.integer.arithmetic`).

    The weights are copied: :meth:`write` changes those of the simulator only.

    Args:
        network: an :class:`~hw_export.integer.IntegerNetwork`, a network of :func:`~hw_export.quantize.quantize`, or a
            chain of :mod:`spikelfp.nn` layers, which is quantised to ``bits`` with the ``options``.
        arithmetic: of the neurons, by default :data:`~hw_export.integer.arithmetic.GENERIC`.
        target: in place of ``arithmetic``, a chip: its name in :data:`hw_export.targets.TARGETS`, its class, or an
            object with an ``arithmetic``. Its ``adapt``, if it has one, makes of the network what the chip runs. (A
            network read from the files of a chip is adapted already: give the arithmetic.)
        device: that the simulator computes on.
        input_shape: of one sample, where the network does not tell it.
        bits: of a weight, for a network that is not quantised yet.
        **options: of :func:`~hw_export.quantize.quantize`.

    Attributes:
        network: as simulated.
        arithmetic: of the neurons.
        device: that the simulator computes on.

    Raises:
        UserError: for a network that the chip cannot compute, by layer, options for one that is quantised already, and
            a device that cannot be used here.
    """

    def __init__(
        self,
        network: IntegerNetwork | torch.nn.Module,
        arithmetic: Arithmetic | None = None,
        *,
        target: str | Arithmetic | Any = None,
        device: str | torch.device = "cpu",
        input_shape: Sequence[int] | None = None,
        bits: int = 8,
        **options: Any,
    ) -> None:
        if isinstance(network, (IntegerNetwork, QuantizedNetwork)) and (options or bits != 8):
            raise UserError(f"the network is quantised already: {', '.join(options) or 'bits'} comes too late")
        if not isinstance(network, (IntegerNetwork, QuantizedNetwork)):
            network = quantize(network, bits, **options)
        if isinstance(network, QuantizedNetwork):
            network = IntegerNetwork.of(network, input_shape)
        chip = _chip(arithmetic, target)
        self.arithmetic: Arithmetic = chip.arithmetic
        self.network: IntegerNetwork = chip.adapt(network) if hasattr(chip, "adapt") else network
        self.device = _usable(device)
        self._stages = tuple(stages(self.network, self.arithmetic, self.device))
        self._registers = {name: stage for stage in self._stages for name in stage.registers}
        self._owners = {p.name: (stage, p) for stage in self._stages for p in stage.products}

    def run(self, inputs: Tensor, states: States | None = None, *, aligned: bool = True) -> IntegerRun:
        """Run inputs through the network.

        An input that is the same at every step (:func:`spikelfp.nn.constant`) is multiplied with the weights one time.

        On a chip with latencies the ``k``-th layer of neurons, from 0, runs ``input_latency + k · latency`` steps
        before the first input reaches it, with its biases and with what layers before it send of themselves.

        Args:
            inputs: whole numbers ``[T, B, …]`` of any dtype.
            states: of the run before, which this one goes on from; without, all of them are 0.
            aligned: leave those first steps out of the spikes, so that all layers have the ``T`` steps of the input;
                otherwise a run from 0 gives them too, ``[T + input_latency + k · latency, B, …]``.

        Returns:
            Spikes, states, counts, and how often a state left its range.

        Raises:
            UserError: for inputs that are not whole, and states of another network.
            ShapeError: for inputs of another shape than the network takes.
        """
        given = whole(inputs, self.network.input_shape, self.device)
        if states is not None and not isinstance(states, Mapping):
            raise UserError(f"states are those of Run.states, by name of the neurons, got {type(states).__name__}")
        checks.truth("aligned", aligned)
        carried = self._states(states, given.values.shape[1])
        with unrounded(self.device):
            return self._run(given, carried, states is None, aligned)

    def classify(self, inputs: Tensor) -> Tensor:
        """Find for each sample of ``inputs`` ``[T, B, …]`` the output that fires most (the first of equals).

        Args:
            inputs: whole numbers ``[T, B, …]`` of any dtype.

        Returns:
            int64 ``[B]``.
        """
        return self.run(inputs).classes

    def parameters(self) -> dict[str, np.ndarray]:
        """Copy the weights (int32) and biases (int64) as they are now, by the names of the network's."""
        return {
            f"{name}.{kind}": getattr(product, kind).cpu().numpy().copy()
            for name, (_, product) in self._owners.items()
            for kind in ("weight", "bias")
        }

    def write(self, parameter: str, indices: np.ndarray, values: np.ndarray) -> None:
        """Set numbers of a weight or bias in place; the next run computes with them.

        Args:
            parameter: ``<layer>.weight`` or ``<layer>.bias``.
            indices: into the flattened parameter, int64 ``[n]``.
            values: new numbers, int32 ``[n]``.

        Raises:
            UserError: for an unknown parameter, indices outside of it or given twice, and values that do not fit the
                width of a weight; nothing is set then.
        """
        name, _, kind = str(parameter).rpartition(".")
        if name not in self._owners or kind not in ("weight", "bias"):
            raise unknown_name("parameter", parameter, self.parameters())
        stage, product = self._owners[name]
        product.write(kind, np.asarray(indices), np.asarray(values))
        stage.written()

    def _states(self, given: States | None, samples: int) -> States:
        """Copies or makes the states to start from, ``[B, N]``."""
        found = {}
        for name, stage in self._registers.items():
            dtype = stage.constants.dtype
            if given is None:
                found[name] = torch.zeros(samples, stage.size, dtype=dtype, device=self.device)
                continue
            if name not in given:
                raise UserError(f"the states have none of the neurons {name!r}: pass those of Run.states")
            own = given[name]
            if own.shape != (samples, *stage.shape) or own.dtype != dtype:
                raise ShapeError(
                    f"the states of {name!r} must be {dtype} {(samples, *stage.shape)}, got {own.dtype} "
                    f"{tuple(own.shape)}"
                )
            found[name] = own.to(self.device).reshape(samples, -1).clone()
        for stage in self._stages:
            if not stage.delays:
                continue
            name, shape = stage.name + LINE, (samples, stage.longest, *stage.given_shape)
            line = torch.zeros(shape, dtype=torch.int64) if given is None else given.get(name)
            if line is None or line.shape != shape or line.dtype != torch.int64:
                got = "none" if line is None else f"{line.dtype} {tuple(line.shape)}"
                raise ShapeError(f"the states need {name!r}, int64 {shape}, for the delays, got {got}")
            found[name] = line.to(self.device).clone()
        return found

    def _run(self, given: IntegerInputs, states: States, from_rest: bool, aligned: bool) -> IntegerRun:
        event_driven = self.arithmetic.by_event
        samples, x, steps, peak = given.values.shape[1], given.values, given.steps, given.peak
        if event_driven:
            if given.lowest < 0:
                raise UserError(f"event by event an input of n is n events: {given.lowest} cannot be")
            events = EventLists.of_counts(x.flatten(2).expand(steps, -1, -1))
        lines = {stage.name + LINE: states[stage.name + LINE] for stage in self._stages if stage.delays}
        spikes: dict[str, Tensor] = {}
        saturated: dict[str, int] = {}
        layers: dict[str, Counts] = {}
        rows = math.prod(self.network.input_shape) + sum(stage.size for stage in self._stages)
        for index, stage in enumerate(self._stages):
            seen: Totals = {}
            if stage.delays:
                x, peak = stage.delayed(x, steps, peak, lines[stage.name + LINE])
            late = self.arithmetic.latency if index else self.arithmetic.input_latency
            idle = late if from_rest else 0
            own = [states[name] for name in stage.registers]
            if event_driven:
                events, out, beyond = by_event(stage, events, idle, own[0], seen)
            else:
                out, beyond = in_steps(stage, x, steps, idle, peak, own, seen)
            x, steps, peak = out.unflatten(2, stage.shape), len(out), stage.constants.most
            fired = int(totals(out.flatten(0, 1)).sum())
            crossbar = Crossbar(rows, index == 0, stage is self._stages[-1]) if self.arithmetic.crossbar else None
            layers[stage.name] = count(stage, seen, fired, steps, samples, crossbar)
            spikes[stage.name] = x[-given.steps :] if aligned else x
            saturated[stage.name] = beyond
        ended = {name: states[name].unflatten(1, stage.shape) for name, stage in self._registers.items()}
        return IntegerRun(spikes, ended | lines, Counts.sum(layers), saturated)


def _usable(device: str | torch.device) -> torch.device:
    """Return the device of a name.

    Raises:
        UserError: for one that does not exist here, or that holds no numbers.
    """
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UserError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return chosen


def _chip(arithmetic: Arithmetic | None, target: str | Arithmetic | Any) -> Any:
    """Find the object with the ``arithmetic`` to compute with, and perhaps ``adapt``."""
    if arithmetic is not None and not isinstance(arithmetic, Arithmetic):
        raise UserError(
            f"arithmetic is a hw_export.Arithmetic, got {brief(arithmetic)}: a chip is named by target, such as "
            "target='loihi'"
        )
    if target is None:
        return SimpleNamespace(arithmetic=GENERIC if arithmetic is None else arithmetic)
    if arithmetic is not None:
        raise UserError("pass an arithmetic or a target, not both")
    if isinstance(target, Arithmetic):
        return SimpleNamespace(arithmetic=target)
    try:
        chip = target() if isinstance(target, type) else target
    except TypeError as error:
        raise UserError(f"the target {brief(target)} is not made without options: {error}") from None
    if isinstance(target, str):
        from hw_export.targets import make_target  # here, because targets import this package

        chip = make_target(target)
    if not isinstance(getattr(chip, "arithmetic", None), Arithmetic):
        raise UserError(f"the target {target!r} has no arithmetic of its own: name a chip, or pass an arithmetic")
    return chip
