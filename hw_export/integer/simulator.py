"""Networks of whole numbers run as a chip runs them, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import is_constant
from spikelfp.machine import empty
from spikelfp.registry import unknown_name

_EXACT = {torch.float16: 2**11, torch.bfloat16: 2**8, torch.float32: 2**24, torch.float64: 2**53}


class IntegerInputs(NamedTuple):
    """``steps`` steps of whole numbers of magnitude up to ``peak``.

    values: ``[T, B, *shape]``, or ``[1, B, *shape]`` where all steps are the same; int8, or int32 or int64 where that
    is too narrow. lowest: the smallest.
    """

    values: Tensor
    steps: int
    peak: int
    lowest: int


def whole(inputs: Tensor, shape: tuple[int, ...], device: torch.device) -> IntegerInputs:
    """``inputs`` ``[T, B, …]`` of any dtype, for a network that takes ``shape`` at each step, on ``device``.

    Raises :class:`~spikelfp.errors.ShapeError` for another shape, and :class:`~spikelfp.errors.UserError` for numbers
    that are not whole, are NaN or infinite, or so large that their dtype does not hold every whole number any more.
    """
    if inputs.dim() < 2 or not len(inputs) or not inputs.shape[1]:
        raise ShapeError(f"inputs are [T, B, …] with at least one step and one sample, got {tuple(inputs.shape)}")
    if math.prod(inputs.shape[2:]) != math.prod(shape):
        raise ShapeError(
            f"the network takes {tuple(shape)} for each sample and step, got inputs {tuple(inputs.shape)}: "
            f"{math.prod(inputs.shape[2:])} numbers instead of {math.prod(shape)}"
        )
    if inputs.is_complex():
        raise UserError("inputs are whole numbers, got complex ones")
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
"""The membranes of each layer of neurons by name, ``[B, …]``: after the last step and its reset.

On a chip with a synapse also its currents, by the name with ``.current`` behind it.
"""


@dataclass(frozen=True)
class IntegerRun:
    """One run.

    spikes: of each layer of neurons by name, how often each fired, int8 ``[T, B, …]`` (int32 event by event).
    states: to go on from, int32, int64 or, with a float decay, float32. counts: what was done for a sample, on average.
    saturated: for each layer at how many neuron-steps a membrane went beyond the range of its bits, or a current was
    wrapped or limited; event by event, at one or more events of the step. More than a few: the state is too narrow.
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
        """Counts from the steps that the boolean ``mask`` ``[T, B]`` is true for; ``None``: all steps."""
        spikes = self.outputs.flatten(2)
        if mask is not None:
            spikes = spikes.masked_fill(~mask.to(spikes.device).unsqueeze(-1), 0)
        return spikes.sum(0, dtype=torch.int64).argmax(1)


_SUMS = 2**22  # sums of a stage that are held at once: they stay in the last cache

_BYTES = torch.empty(0, dtype=torch.int8)


def in_steps(
    stage: NeuronStage, x: Tensor, steps: int, idle: int, peak: int, states: Sequence[Tensor], seen: Totals
) -> tuple[Tensor, int]:
    """Spikes int8 ``[idle + steps, B, N]`` of whole numbers ``x [T, B, …]``, and how often a register was left.

    ``x`` of one step is the same at each of the ``steps``. idle: steps before, of no input. peak: bound on ``|x|``.
    states: one for each of the stage's registers, ``[B, N]``, changed in place. seen: gets the totals of what came to
    each layer of weights.
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
    fed, beyond = c.unshifted(), 0
    for part in out.split(_at_once(stage, len(current))):  # one part, unless the sums are those of every step
        arriving, hit = currents(sums, current, c.arithmetic, len(part))
        beyond += hit + advance(arriving, offset << c.arithmetic.shift, membrane, fed, part)
    return beyond


def _kernels(device: torch.device) -> Any:
    """The module of kernels that runs on ``device``; both give the same whole numbers."""
    return numba_kernels if numba_kernels.compiled(device) else torch_kernels


def _at_once(stage: NeuronStage, samples: int) -> int:
    """Steps of which sums are held at once."""
    return max(1, _SUMS // (samples * stage.size))


def by_event(
    stage: NeuronStage, events: EventLists, idle: int, state: Tensor, seen: Totals
) -> tuple[EventLists, Tensor, int]:
    """Events that neurons emit, how often each fires, int32 ``[idle + T, B, N]``, and how often a register was left."""
    advance = _kernels(state.device).by_event
    inputs = math.prod(stage.in_shape)
    seen[stage.name] = torch.bincount(events.source, minlength=inputs)
    given = events.after(idle)
    samples, steps = given.lengths.shape
    out = torch.zeros(steps, samples, stage.size, dtype=torch.int32, device=state.device)
    emitted, beyond = advance(given, stage.matrix(), stage.offset(), state, stage.constants, out)
    return emitted, out, beyond


class IntegerSimulator:
    """Runs a network in the exact arithmetic of a chip: :class:`~hw_export.integer.Arithmetic` says what that is.

    network: an :class:`~hw_export.integer.IntegerNetwork`, a network of :func:`~hw_export.quantize.quantize`, or a
    chain of :mod:`spikelfp.nn` layers, which is quantised to ``bits`` with the ``options`` of that function.
    arithmetic: of the neurons, by default :data:`~hw_export.integer.arithmetic.GENERIC`. Instead of it target: a chip,
    by its name in :data:`hw_export.targets.TARGETS`, its class, or an object with an ``arithmetic``; ``adapt``, if any,
    makes of the network what the chip runs. (What was read from the files of a chip is adapted: give the arithmetic.)
    input_shape: of one sample, where the network does not tell it. The weights are copied: :meth:`write` changes those
    of the simulator only.

    Attributes: ``network``, as simulated; ``arithmetic``; ``device``.

    Raises :class:`~spikelfp.errors.UserError` for a network that the chip cannot compute, by layer.
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
        self.device = torch.device(device)
        self._stages = tuple(stages(self.network, self.arithmetic, self.device))
        self._registers = {name: stage for stage in self._stages for name in stage.registers}
        self._owners = {p.name: (stage, p) for stage in self._stages for p in stage.products}

    def run(self, inputs: Tensor, states: States | None = None, *, aligned: bool = True) -> IntegerRun:
        """Spikes, counts and final membranes for ``inputs`` ``[T, B, …]`` of whole numbers.

        An input that is the same at every step (:func:`spikelfp.nn.constant`) is multiplied with the weights once.
        states: those of the run before, which this one goes on from; without, all of them are 0.

        On a chip with latencies the ``k``-th layer of neurons, from 0, runs ``input_latency + k · latency`` steps
        before the first input reaches it, with its biases and what layers before it send of themselves. aligned: those
        steps are left out of the spikes, so that all layers have the ``T`` steps of the input; else a run from 0 gives
        them too, ``[T + input_latency + k · latency, B, …]``.

        Raises :class:`~spikelfp.errors.UserError` for inputs that are not whole, and states of another network.
        """
        given = whole(inputs, self.network.input_shape, self.device)
        carried = self._states(states, given.values.shape[1])
        with unrounded(self.device):
            return self._run(given, carried, states is None, aligned)

    def classify(self, inputs: Tensor) -> Tensor:
        """For each sample the output neuron that fires most, the first of equals, int64 ``[B]``."""
        return self.run(inputs).classes

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of the weights (int32) and biases (int64) as they are now, by name, as those of the network."""
        return {
            f"{name}.{kind}": getattr(product, kind).cpu().numpy().copy()
            for name, (_, product) in self._owners.items()
            for kind in ("weight", "bias")
        }

    def write(self, parameter: str, indices: np.ndarray, values: np.ndarray) -> None:
        """Set numbers of ``<layer>.weight`` or ``<layer>.bias`` in place; the next run computes with them.

        indices: into the flattened parameter, int64. values: what they become, int32.

        Raises :class:`~spikelfp.errors.UserError` for an unknown parameter, indices outside of it or given twice, and
        values that do not fit the width of a weight; nothing is set then.
        """
        name, _, kind = parameter.rpartition(".")
        if name not in self._owners or kind not in ("weight", "bias"):
            raise unknown_name("parameter", parameter, self.parameters())
        stage, product = self._owners[name]
        product.write(kind, np.asarray(indices), np.asarray(values))
        stage.written()

    def _states(self, given: States | None, samples: int) -> States:
        """States to start from, ``[B, N]``, which the caller may change."""
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
        return found

    def _run(self, given: IntegerInputs, states: States, from_rest: bool, aligned: bool) -> IntegerRun:
        event_driven = self.arithmetic.by_event
        samples, x, steps, peak = given.values.shape[1], given.values, given.steps, given.peak
        if event_driven:
            if given.lowest < 0:
                raise UserError(f"event by event an input of n is n events: {given.lowest} cannot be")
            events = EventLists.of_counts(x.flatten(2).expand(steps, -1, -1))
        spikes: dict[str, Tensor] = {}
        saturated: dict[str, int] = {}
        layers: dict[str, Counts] = {}
        rows = math.prod(self.network.input_shape) + sum(stage.size for stage in self._stages)
        for index, stage in enumerate(self._stages):
            seen: Totals = {}
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
        states = {name: states[name].unflatten(1, stage.shape) for name, stage in self._registers.items()}
        return IntegerRun(spikes, states, Counts.sum(layers), saturated)


class _Plain(NamedTuple):
    """A chip of which nothing but its arithmetic is known."""

    arithmetic: Arithmetic


def _chip(arithmetic: Arithmetic | None, target: str | Arithmetic | Any) -> Any:
    """What has the ``arithmetic`` to compute with, and perhaps ``adapt``."""
    if target is None:
        return _Plain(GENERIC if arithmetic is None else arithmetic)
    if arithmetic is not None:
        raise UserError("pass an arithmetic or a target, not both")
    if isinstance(target, Arithmetic):
        return _Plain(target)
    chip = target() if isinstance(target, type) else target
    if isinstance(target, str):
        from hw_export.targets import make_target  # here: targets are written with what this package holds

        chip = make_target(target)
    if not isinstance(getattr(chip, "arithmetic", None), Arithmetic):
        raise UserError(f"the target {target!r} has no arithmetic of its own: name a chip, or pass an arithmetic")
    return chip
