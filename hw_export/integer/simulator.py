"""Networks of whole numbers run as a chip runs them, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hw_export.integer import advance, exact
from hw_export.integer.arithmetic import GENERIC, Arithmetic
from hw_export.integer.counts import Counts, Crossbar, count
from hw_export.integer.inputs import Inputs, whole
from hw_export.integer.kernels.event_lists import EventLists
from hw_export.integer.network import IntegerNetwork
from hw_export.integer.products import totals
from hw_export.integer.run import Run, States
from hw_export.integer.stage import Totals, stages
from hw_export.quantize import QuantizedNetwork, quantize
from spikelfp.errors import ShapeError, UserError
from spikelfp.registry import unknown_name


class IntegerSimulator:
    """Runs a network in the exact arithmetic of a chip: :class:`~hw_export.integer.Arithmetic` says what that is.

    network: an :class:`~hw_export.integer.IntegerNetwork`, a network of :func:`~hw_export.quantize.quantize`, or a
    chain of :mod:`spikelfp.nn` layers, which is quantised to ``bits`` with the ``options`` of that function.
    arithmetic: of the neurons, by default :data:`~hw_export.integer.arithmetic.GENERIC`. Instead of it target: a chip,
    by its name in :data:`hw_export.targets.TARGETS`, or an object with an ``arithmetic``; where it has ``adapt``, that
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

    def run(self, inputs: Tensor, states: States | None = None, *, aligned: bool = True) -> Run:
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
        with exact.unrounded(self.device):
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

    def _run(self, given: Inputs, states: States, from_rest: bool, aligned: bool) -> Run:
        by_event = self.arithmetic.by_event
        samples, x, steps, peak = given.values.shape[1], given.values, given.steps, given.peak
        if by_event:
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
            if by_event:
                events, out, beyond = advance.by_event(stage, events, idle, own[0], seen)
            else:
                out, beyond = advance.in_steps(stage, x, steps, idle, peak, own, seen)
            x, steps, peak = out.unflatten(2, stage.shape), len(out), stage.constants.most
            fired = int(totals(out.flatten(0, 1)).sum())
            crossbar = Crossbar(rows, index == 0, stage is self._stages[-1]) if self.arithmetic.crossbar else None
            layers[stage.name] = count(stage, seen, fired, steps, samples, crossbar)
            spikes[stage.name] = x[-given.steps :] if aligned else x
            saturated[stage.name] = beyond
        states = {name: states[name].unflatten(1, stage.shape) for name, stage in self._registers.items()}
        return Run(spikes, states, Counts.sum(layers), saturated)


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
    chip = target
    if isinstance(target, str):
        from hw_export.targets import TARGETS  # here: targets are written with what this package holds

        chip = TARGETS[target]()
    if not isinstance(getattr(chip, "arithmetic", None), Arithmetic):
        raise UserError(f"the target {target!r} has no arithmetic of its own: name a chip, or pass an arithmetic")
    return chip
