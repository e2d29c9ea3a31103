"""Samples as a tinyODIN is sent them, with the spikes that it answers, its queue and its time.

The core works on one event of its queue at a time: it adds the event's row of the crossbar to all rows in use, in
order; a row that reaches its threshold sends its address out and puts it at the end of the queue. An event keeps its
entry until it is done. Inputs come in between, so how full the queue gets depends on how fast they are sent; but after
each handshake of four phases the core first works on an event, so of ``n`` inputs at least ``n − 1`` events are done
when the last one is acknowledged, and the queue never holds more than 1 and the spikes. The spikes of each layer come
in the same order whatever comes in between.

``samples.events`` is text, one command a line, a word and a number; ``#`` starts a comment::

    sample S        the next sample, from 0
    clear 0         bring all membranes to 0: send clear.spi
    step T          the next step, from 0
    input A         send address A on the input bus: four-phase handshake, next line
    drain N         wait N cycles, in which the queue drains
    expect A        address A has come on the output bus in this step; a line for each spike, in any order
    tref A          send address A, the time reference of all neurons; its acknowledge says that it is done

Between the inputs of a step there are further ``drain`` where the spikes that follow from the inputs since the last one
could be more than the queue holds. So it never overflows, however fast or slow inputs are sent.

Cycles, from the state machine of ``controller.v``, ``rows`` being those in use: an event of the queue takes
``2 rows + 2``, an input :data:`INPUT` more for its way in, a spike :data:`OUTPUT` more for its way out, and whoever
receives it may take :data:`RECEIVER` of them to raise and to lower the acknowledge. A slower receiver counts in a
``drain`` only the cycles without request and acknowledge of the output: while there is one, the core waits too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from hw_export.targets.tinyodin_map import QUEUE, TIME_REFERENCE, neuron_fields
from spikelfp.errors import UserError

INPUTS = "input"
"""Name of the rows of the inputs."""
INPUT, OUTPUT, RECEIVER = 5, 6, 16
"""Cycles: for the way of an input into the queue, of a spike out of the core, and allowed to its receiver for that."""


class Part(NamedTuple):
    """Inputs that are sent one after another into an empty queue. spikes: all that follow from them, in order.

    fill: of the queue, at most.
    """

    inputs: NDArray[np.int64]
    spikes: NDArray[np.int64]
    fill: int


@dataclass(frozen=True)
class Played:
    """One sample. counts: how often each row in use spikes at each step, ``[T, rows]``. steps: the parts of each."""

    counts: NDArray[np.int64]
    steps: Sequence[Sequence[Part]]


class Core:
    """The core with its memories programmed: words of its neurons, uint32, and weights ``[pre, post]``; rows in use."""

    def __init__(self, neurons: NDArray[np.uint32], synapses: NDArray[np.int8], rows: int) -> None:
        fields = np.array([neuron_fields(int(word)) for word in neurons[:rows]], dtype=np.int64)
        self.rows = rows
        self._weights = synapses[:rows, :rows].astype(np.int64)
        self._threshold, self._leak, self._disabled = (np.ascontiguousarray(column) for column in fields.T)

    def play(self, sample: NDArray[np.int64]) -> Played:
        """Send a ``sample [T, inputs]`` of counts through the core, from membranes of 0."""
        given = [np.repeat(np.arange(len(row)), row) for row in sample]
        inputs, lengths = np.concatenate(given), np.array([len(one) for one in given])
        spikes, many, fills = _settle(inputs, lengths, self._weights, self._threshold, self._leak, self._disabled)
        ends = np.concatenate([[0], np.cumsum(many)])
        counts = np.zeros((len(sample), self.rows), dtype=np.int64)
        steps, first = [], 0
        for step, row in enumerate(given):
            own = slice(first, first + len(row))
            counts[step] = np.bincount(spikes[ends[own.start] : ends[own.stop]], minlength=self.rows)
            steps.append(list(_parts(row, spikes, ends[own.start : own.stop + 1], fills[own])))
            first = own.stop
        return Played(counts, steps)


def _parts(
    inputs: NDArray[np.int64], spikes: NDArray[np.int64], ends: NDArray[np.int64], fills: NDArray[np.int64]
) -> Iterator[Part]:
    """The inputs of a step in as few parts as go without overflow, whenever they are sent."""
    first = 0
    while first < len(inputs):
        last = first + 1
        fill = int(fills[first])  # alone in the queue it has no sender to depend on
        while last < len(inputs) and 1 + ends[last + 1] - ends[first] <= QUEUE:
            last += 1
        if last > first + 1:
            fill = int(1 + ends[last] - ends[first])
        yield Part(inputs[first:last], spikes[ends[first] : ends[last]], fill)
        first = last


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _settle(inputs, lengths, weights, threshold, leak, disabled):
    """Each input alone, until the queue is empty: the spikes in order, how many of each input, and how full it got."""
    rows = len(threshold)
    state = np.zeros(rows, np.int64)
    many, fills = np.zeros(len(inputs), np.int64), np.zeros(len(inputs), np.int64)
    queue = np.empty(1024, np.int64)
    spikes, count = np.empty(1024, np.int64), 0
    place = 0
    for step in range(len(lengths)):
        for _ in range(lengths[step]):
            queue[0] = inputs[place]
            head, end, most = 0, 1, 1
            while head < end:
                row = weights[queue[head]]
                for post in range(rows):
                    u = min(max(state[post] + row[post], -2048), 2047)
                    if u >= threshold[post]:
                        u = 0
                        if disabled[post] == 0:
                            if end == len(queue):
                                queue = np.append(queue, queue)
                            queue[end] = post
                            end += 1
                            most = max(most, end - head)
                    state[post] = u
                head += 1
            if count + end > len(spikes):
                spikes = np.append(spikes, np.empty(count + end, np.int64))
            spikes[count : count + end - 1] = queue[1:end]
            count += end - 1
            many[place], fills[place] = end - 1, most
            place += 1
        for post in range(rows):
            if state[post] > 0:
                state[post] = max(state[post] - leak[post], 0)
            else:
                state[post] = min(state[post] + leak[post], 0)
    return spikes[:count], many, fills


def drain_cycles(spikes: int, rows: int) -> int:
    """Cycles, at most, from the acknowledge of the last input until it and all ``spikes`` are worked off."""
    return (1 + spikes) * (2 * rows + 2) + spikes * (OUTPUT + RECEIVER)


def text_of(samples: Sequence[Played], rows: Mapping[str, range]) -> str:
    """``samples.events``."""
    last = max(place[-1] for place in rows.values())
    lines = [
        "# the samples of this export for a tinyODIN programmed with tinyodin.spi: a word and a number a line",
        *(f"# rows {place[0]} to {place[-1]}: {name}" for name, place in rows.items()),
    ]
    for index, sample in enumerate(samples):
        lines += [f"sample {index}", "clear 0"]
        for step, parts in enumerate(sample.steps):
            lines.append(f"step {step}")
            for part in parts:
                lines += [f"input {row}" for row in part.inputs.tolist()]
                lines.append(f"drain {drain_cycles(len(part.spikes), last + 1)}")
            lines += [f"expect {row}" for part in parts for row in part.spikes.tolist()]
            lines.append(f"tref {TIME_REFERENCE}")
    return "\n".join(lines) + "\n"


def facts_of(samples: Sequence[Played], rows: Mapping[str, range]) -> dict[str, Any]:
    """Collect rows, queue and cycles for the manifest.

    Raises:
        UserError: if the queue overflows however slowly the inputs are sent.
    """
    used = 1 + max(place[-1] for place in rows.values())
    each, out, leak = 2 * used + 2, OUTPUT + RECEIVER, 2 * used + INPUT
    largest = most = pauses = longest = 0
    for index, sample in enumerate(samples):
        for step, parts in enumerate(sample.steps):
            inputs, spikes = sum(len(part.inputs) for part in parts), sum(len(part.spikes) for part in parts)
            for part in parts:
                if part.fill > QUEUE:
                    raise UserError(
                        f"tinyodin loses spikes of these samples: in sample {index}, step {step}, one input event, of "
                        f"row {part.inputs[0]}, puts {part.fill} events into its queue of {QUEUE}: take fewer neurons "
                        "in a layer, or train with a higher threshold"
                    )
                largest = max(largest, part.fill)
            most, pauses = max(most, spikes), pauses + max(len(parts) - 1, 0)
            longest = max(longest, inputs * (each + INPUT) + spikes * (each + out) + leak)
    return {
        "rows": {name: [place[0], place[-1]] for name, place in rows.items()},
        "queue": {"entries": QUEUE, "largest": largest, "most_spikes": most, "pauses": pauses},
        "cycles": {
            "event": each,
            "input": each + INPUT,
            "spike": each + out,
            "time_reference": leak,
            "step": f"{each + INPUT} inputs + {each + out} spikes + {leak}",
            "longest_step": longest,
        },
    }
