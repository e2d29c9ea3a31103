r"""Learning forward in time: eligibilities of connections, in memory that does not depend on the number of steps.

Whatever a weight does to the membrane of its neuron ``j`` in later steps is linear in its input ``x_i``, with factors
that the neuron knows when the step has run. So each connection carries a few numbers, its *states*, forward in time::

    s_ij[t] = A_j[t] s_ij[t−1] + b_j[t] x_i[t]          states s_ij, one or a few; factors A_j, b_j of the neuron
    d_ij    = Σ_t L_j[t] · s_ij[t]                      update from what is known of each step, L_j[t]

A method states the factors. (One state is ``e_ij`` of LFP, :mod:`spikelfp.methods.lfp_forward`, or a trace.) The
weights are constant within a sample, so that :data:`WINDOW` steps can be computed together. Their sum is a product of
messages and inputs, and the states are read and written once a window::

    d_ij += Σ_t M_j[t] x_i[t] + Σ_q g_jq s_ijq          the window's update: Credit.messages, Credit.starts
    s_ijq ← Σ_p F_jqp s_ijp + Σ_t C_jq[t] x_i[t]        the states after it: Credit.ends

``M_j``, ``g_j``, ``F_j`` and ``C_j`` follow from ``A_j``, ``b_j`` and ``L_j`` by a run backwards over the window's own
steps, whose values are at hand. The result is that of single steps, but for rounding. A sequence of one window needs no
states at all.

Networks are chains of dense layers and neurons. States are ``[B, n_out, n_in]``, so samples run in slices which have at
most :data:`ROOM` of these numbers at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.grid import Grid, Represented, Rounded
from spikelfp.functional.sequence import is_constant, time_slice
from spikelfp.kernels import scan_for
from spikelfp.methods.base import Batch
from spikelfp.methods.blocks import cut
from spikelfp.methods.online import grids_of, is_plain
from spikelfp.nn import LIF, Flatten, Linear, RecurrentLIF, graph
from spikelfp.nn.layer import check_carries, remembers
from spikelfp.nn.neurons.base import ConstantLayer

WINDOW = 32
"""Steps that are computed together; it bounds memory, and has no other effect."""

ROOM = 2**24
"""Numbers of eligibilities that are held at a time (64 MB in float32): more samples run in slices, one at least."""


class Credit(NamedTuple):
    """Credit of the neurons of a layer for the steps of a window (the equations of this module).

    Attributes:
        messages: ``M`` ``[k, B, n]``, messages to the inputs.
        starts: ``g`` ``[B, n]`` for each state.
        ends: for each state ``C`` ``[k, B, n]`` and ``F`` ``[B, n]`` of each state before (``None`` for 0); empty where
            nothing follows the window.
    """

    messages: Tensor
    starts: list[Tensor]
    ends: list[tuple[Tensor, list[Tensor | None]]]


class Eligibility:
    """Eligibilities of the connections ``[n, in]`` that one parameter stands for, and the sum of its updates.

    Args:
        parameter: the parameter, of ``n · in`` elements.
        decays: of traces of the inputs, ``x̄[t] = decay x̄[t−1] + x[t]``, one after the other, which stand for ``x``.
        grid: grid on which small weights are 0, for weights that are rounded by chance.
    """

    def __init__(self, parameter: Tensor, decays: tuple[float, ...] = (), grid: Grid | None = None) -> None:
        self.parameter, self.decays, self.grid = parameter, decays, grid
        self.sums: Tensor | None = None
        self.states: list[Tensor] = []
        self.traces: list[Tensor] = []

    def rest(self) -> None:
        """Begin other samples."""
        self.states, self.traces = [], []

    def filtered(self, x: Tensor) -> Tensor:
        """Return the traces ``[k, B, in]`` of inputs ``[k, B, in]``, which go on from the window before."""
        after = []
        for number, decay in enumerate(self.decays):
            start = self.traces[number] if self.traces else x.new_zeros(x.shape[1:])
            x = scan_for(x).integrate(x, start, decay, False)
            after.append(x[-1].clone())
        self.traces = after
        return x

    def take(self, x: Tensor, credit: Credit) -> None:
        """Add the update of a window, and go on to the next.

        Args:
            x: inputs ``[k, B, in]``, filtered where there is a trace.
            credit: of the neurons.
        """
        self._add(_sum_of_products(credit.messages, x))
        for start, state in zip(credit.starts, self.states, strict=bool(self.states)):
            self._add(torch.einsum("bn,bni->ni", start, state))
        if len(credit.ends) == 1 and self.states:  # in place, where no other state needs it
            ((fresh, (factor,)),) = credit.ends
            assert factor is not None
            self.states = [_products(fresh, x, self.states[0].mul_(factor.unsqueeze(-1)))]
            return
        after = []
        for fresh, factors in credit.ends:
            state = _products(fresh, x)
            for factor, before in zip(factors, self.states, strict=bool(self.states)):
                if factor is not None:
                    state.addcmul_(before, factor.unsqueeze(-1))
            after.append(state)
        self.states = after

    def _add(self, found: Tensor) -> None:
        self.sums = found if self.sums is None else self.sums.add_(found)

    def ascend(self) -> None:
        """Add ``−|w|`` times the sum to ``p.grad``: the update of LFP (v3, eq. 7), for an optimiser that descends."""
        size = self.parameter.detach()
        size = size if self.grid is None else Represented.apply(size, self.grid)
        self._hand_over(-size.abs())

    def descend(self) -> None:
        """Add the sum to ``p.grad``, the gradient of a loss."""
        self._hand_over(1.0)

    def _hand_over(self, factor: Tensor | float) -> None:
        if self.sums is None:
            return
        p, shape = self.parameter, self.parameter.shape
        found = self.sums
        if found.numel() != shape.numel():  # one β for all neurons
            found = found.sum()
        found = found.reshape(shape) * factor
        p.grad = found if p.grad is None else p.grad.add_(found)
        self.sums = None


def _sum_of_products(messages: Tensor, x: Tensor) -> Tensor:
    """Return ``Σ_tb m[t, b] x[t, b]ᵀ`` ``[n, in]``."""
    if is_constant(x):
        return messages.sum(0).t() @ x[0]
    return messages.flatten(0, 1).t() @ x.flatten(0, 1)


def _products(messages: Tensor, x: Tensor, onto: Tensor | None = None) -> Tensor:
    """Return ``Σ_t m[t] x[t]ᵀ`` of each sample, ``[B, n, in]``, added to ``onto`` in place if there is one."""
    if is_constant(x):
        summed, same = messages.sum(0).unsqueeze(-1), x[0].unsqueeze(1)
        return summed * same if onto is None else onto.addcmul_(summed, same)
    sides = messages.permute(1, 2, 0), x.transpose(0, 1)
    return torch.bmm(*sides) if onto is None else onto.baddbmm_(*sides)


class WindowRun(NamedTuple):
    """Values of a layer in a window of steps.

    Attributes:
        inputs: of the dense layer, ``[k, B, in]``.
        outputs: spikes, or membranes of integrators, or currents where there are no neurons, ``[k, B, n]``.
        fired: spikes of the step before each, ``[k, B, n]``; ``None`` without recurrent connections.
        membrane: ``U``, ``[k, B, n]``, before its reset; ``None`` without spiking neurons.
        start: membrane before the window, ``[B, n]``; ``None`` likewise.
        adaptation: of each step, ``[k, B, n]``, of neurons that have one.
    """

    inputs: Tensor
    outputs: Tensor
    fired: Tensor | None = None
    membrane: Tensor | None = None
    start: Tensor | None = None
    adaptation: Tensor | None = None


@dataclass(eq=False)
class ForwardLayer:
    """Dense layer and the neurons behind it, which run a window of steps at a time.

    Attributes:
        name: of its last layer in the network.
        before: layers in front that have no weights.
        dense: the dense layer.
        neurons: the neurons; ``None`` at an output without.
        state: of the neurons after the last window; ``None`` at rest.
        kept: eligibilities by the name of their input: ``inputs``, ``fired``, ``ones`` and ``decay``.
    """

    name: str
    before: tuple[Module, ...]
    dense: Linear
    neurons: ConstantLayer | None
    state: Any = None
    kept: list[tuple[str, Eligibility]] = field(default_factory=list)

    @property
    def fires(self) -> bool:
        """Whether its outputs are spikes."""
        return self.neurons is not None and self.neurons.fires

    @property
    def recurrent(self) -> Linear | None:
        """Recurrent connections."""
        return self.neurons.recurrent if isinstance(self.neurons, RecurrentLIF) else None  # type: ignore[return-value]

    def keep(self, decays: tuple[float, ...] = (), learns_decay: bool = True) -> None:
        """Make an eligibility for each parameter that learns.

        Args:
            decays: of the traces of their inputs (:class:`Eligibility`).
            learns_decay: whether a β that learns gets one.
        """
        for layer, source in ((self.dense, "inputs"), (self.recurrent, "fired")):
            if layer is None:
                continue
            for p, grid, name in zip((layer.weight, layer.bias), grids_of(layer), (source, "ones"), strict=True):
                if p is not None and p.requires_grad:
                    self.kept.append((name, Eligibility(p, decays, grid)))
        own = getattr(self.neurons, "decay", None)
        if learns_decay and isinstance(own, Parameter) and own.requires_grad:
            self.kept.append(("decay", Eligibility(own)))

    def rest(self) -> None:
        """Begin other samples."""
        self.state = None
        for _, each in self.kept:
            each.rest()

    def run(self, x: Tensor) -> WindowRun:
        """Run the next steps.

        Args:
            x: ``[k, B, …]``.

        Raises:
            ShapeError: for inputs of a dense layer other than ``[k, B, features]``.
        """
        for layer in self.before:
            x = layer(x)
        if x.dim() != 3:
            raise ShapeError(
                f"{self.name}: learning forward in time takes features [T, B, n] into a dense layer, got shape "
                f"{list(x.shape)}: put nn.Flatten() before it"
            )
        current, neurons = self.dense(x), self.neurons
        if neurons is None:
            return WindowRun(x, current)
        if not neurons.fires:
            outputs, self.state = neurons.run(current, self.state)
            return WindowRun(x, outputs)
        zeros = current.new_zeros(current.shape[1:])
        if is_plain(neurons, LIF):
            own = cast(LIF, neurons)
            start = zeros if self.state is None else self.state
            spikes, membrane = scan_for(current).forward(current, start, own.constants.fitted(start), True)
            self.state = membrane[-1].clone()
            return WindowRun(x, spikes, None, membrane, start)
        before = neurons.State(*(zeros for _ in neurons.states)) if self.state is None else self.state
        trace, self.state = neurons.run(current, self.state, trace=True)
        fired = adaptation = None
        if self.recurrent is not None:
            fired = torch.cat([before.spikes.unsqueeze(0), trace.spikes[:-1]])
        if "adaptation" in neurons.states:  # that of the step, which the step before has left
            adaptation = torch.cat([before.adaptation.unsqueeze(0), trace.adaptation[:-1]])
        start = before if isinstance(before, Tensor) else before.membrane  # a single state is carried as it is
        return WindowRun(x, trace.spikes, fired, trace.membrane, start, adaptation)

    def take(self, run: WindowRun, credit: Credit, decay: Credit | None = None) -> None:
        """Let all parameters learn from a window.

        Args:
            run: of this window.
            credit: of the neurons.
            decay: of a β that learns, each element for itself, ``x = 1``.
        """
        ones = run.outputs.new_ones(1, run.outputs.shape[1], 1).expand(len(run.outputs), -1, -1)
        for name, each in self.kept:
            if name == "decay":
                assert decay is not None
                each.take(ones, decay)
                continue
            x = ones if name == "ones" else getattr(run, name)
            each.take(each.filtered(x), credit)

    def to_inputs(self, messages: Tensor) -> Tensor:
        """Return the messages ``Wᵀ m`` ``[k, B, in]`` to the inputs, by the weights that the dense layer ran with."""
        return messages @ used_weight(self.dense)


def used_weight(dense: Linear) -> Tensor:
    """Return the weights ``[out, in]`` that a dense layer computes with: on their grid, if there is one."""
    weight = dense.weight.detach()
    if dense.quantization is None:
        return weight
    grid, _ = dense.live_grids()
    rounded: Tensor = Rounded.apply(weight, grid)
    return rounded


def layers_of(net: Module, method: str, kinds: tuple[type[Module], ...], outputs: tuple[type[Module], ...] = ()) -> Any:
    """Take a network apart into the dense layers and neurons that it is a chain of.

    Args:
        net: the network.
        method: name of the method, for errors.
        kinds: classes of the neurons that it trains.
        outputs: further classes of the last neurons; a last dense layer may always stand alone.

    Returns:
        A list of :class:`ForwardLayer`, at rest.

    Raises:
        UserError: for any other layer, naming it.
    """
    check_carries(net)
    names = {layer: name for name, layer in net.named_modules()}
    segments, found = cut(net), list[ForwardLayer]()
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        weighted = [layer for layer in segment.layers if any(True for _ in layer.parameters())]
        places = [place for place, layer in enumerate(segment.layers) if type(layer) is Linear]
        for layer in segment.layers:
            spiking = graph.is_neuron(layer)
            fits = type(layer) in ((*kinds, *outputs) if last else kinds) if spiking else type(layer) is Linear
            plain = not spiking and layer not in weighted and (number == 0 or type(layer) is Flatten)
            plain = plain and not remembers(layer)
            if not (fits or plain) or isinstance(layer, torch.nn.modules.batchnorm._NormBase):
                _refuse(method, names[layer], layer, kinds, outputs)
        if len(places) != 1:
            name, layer = names[segment.layers[0]], segment.layers[0]
            raise UserError(
                f"{method} trains chains of one dense layer and its neurons, and the block of layer {name} "
                f"({type(layer).__name__}) has {len(places)} dense layers: put neurons behind each, or one dense layer "
                "in front of them"
            )
        (place,) = places
        behind = segment.layers[place + 1 :]
        if len(behind) > 1 or not (behind or last) or any(not graph.is_neuron(layer) for layer in behind):
            layer = next((each for each in behind if not graph.is_neuron(each)), segment.layers[-1])
            _refuse(method, names[layer], layer, kinds, outputs)
        dense = cast(Linear, segment.layers[place])
        neurons = cast("ConstantLayer | None", behind[0] if behind else None)
        found.append(ForwardLayer(segment.name, tuple(segment.layers[:place]), dense, neurons))
        recurrent = getattr(neurons, "recurrent", None)
        if recurrent is not None and type(recurrent) is not Linear:
            _refuse(method, names[recurrent], recurrent, kinds, outputs)
        for each in (dense, recurrent):
            if each is not None:
                _check_kind(method, segment.name, each)
    return found


def _refuse(
    method: str, name: str, layer: Module, kinds: tuple[type[Module], ...], more: tuple[type[Module], ...]
) -> None:
    own = ", ".join(dict.fromkeys(kind.__name__ for kind in (*kinds, *more)))
    raise UserError(
        f"{method} trains chains of dense layers (Linear) and neurons ({own}), and layer {name or '(the network)'} is "
        f"{type(layer).__name__}: leave it out, or choose a method that keeps the steps, such as lfp or surrogate"
    )


def _check_kind(method: str, name: str, dense: Linear) -> None:
    for own in ("weight", "bias"):
        if getattr(dense, own) is not None and own not in dense._parameters:
            raise UserError(
                f"{method} hands updates to parameters, and the {own} in front of layer {name} is computed from others "
                "(by torch.nn.utils.prune or weight_norm): make it a parameter again (prune.remove, "
                "remove_weight_norm), or choose surrogate"
            )
    if dense.weight.dtype not in (torch.float32, torch.float64):
        raise UserError(
            f"{method} adds up over many steps in float32 or float64, and the weights in front of layer {name} are "
            f"{dense.weight.dtype}: net.float()"
        )


def sliced(batch: Batch, layers: list[ForwardLayer], states: list[int], window: int) -> Iterator[Batch]:
    """Split the samples of a batch so that their eligibilities fit into :data:`ROOM`.

    Args:
        batch: the batch.
        layers: of the network.
        states: of a connection of each layer.
        window: steps computed together; shorter sequences need no states.

    Yields:
        The slices, whose ``share`` is still that of the whole batch.
    """
    count, size = len(batch.targets), len(batch.targets)
    if len(batch.sequence) > window:
        kept = zip(states, layers, strict=True)
        numbers = sum(own * each.parameter.numel() for own, layer in kept for _, each in layer.kept)
        size = max(1, ROOM // max(1, numbers))
    for start in range(0, count, max(size, 1)):
        yield batch if size >= count else batch.samples(start, min(start + size, count))


def windows(batch: Batch, window: int) -> Iterator[tuple[int, Tensor, bool]]:
    """Cut a batch into windows of steps.

    Args:
        batch: whole sequences.
        window: steps of a window.

    Yields:
        Number of the first step, inputs ``[k, B, …]``, dense, and whether it is the last window.
    """
    steps = len(batch.sequence)
    for first in range(0, steps, window):
        x = time_slice(batch.sequence, first, first + window)
        yield first, x.to_dense() if x.is_sparse else x, first + window >= steps


def through_filter(credit: Credit, decay: Tensor, last: bool) -> Credit:
    """Take the credit for filtered inputs to the inputs themselves, where each neuron has a filter of its own.

    The filter ``y_ij[t] = α_j y_ij[t−1] + x_i[t]`` is one more state of a connection, the last one.

    Args:
        credit: for ``y``.
        decay: α of each neuron, ``[n]``.
        last: whether nothing follows the window.
    """
    messages = credit.messages
    scan, zeros, decay = scan_for(messages), messages.new_zeros(messages.shape[1:]), decay.to(messages)

    def back(own: Tensor) -> tuple[Tensor, Tensor]:
        through: Tensor = scan.integrate(own, zeros, decay, True)
        return through, decay * through[0]

    through, start = back(messages)
    ends: list[tuple[Tensor, list[Tensor | None]]] = []
    for fresh, factors in credit.ends:
        own, of_filter = back(fresh)
        ends.append((own, [*factors, of_filter]))
    if not last:
        own, of_filter = back(of_last_step(messages))
        ends.append((own, [*[None] * len(credit.starts), of_filter]))
    return Credit(through, [*credit.starts, start], ends)


def of_last_step(like: Tensor) -> Tensor:
    """Return ``[k, B, n]`` that is 1 at the last step and 0 before."""
    unit = torch.zeros_like(like)
    unit[-1] = 1
    return unit
