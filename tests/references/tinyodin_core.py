"""tinyODIN clock by clock: SPI slave, gate, controller, queue, neurons with their comparator, and both event buses.

Written from the behaviour of the published Verilog (`ChFrenkel/tinyODIN`), one register of it for one attribute here,
with the host on the other side of its pins. Bits of SPI are not clocked one by one: what a transaction does, it does
after its first and its second 20 bits, and at the first bit of the next one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

WAIT, W_NEUR, W_SYN, TREF, PUSH, POP_NEUR, AER_POP, WAIT_SPIDN, WAIT_REQDN = range(9)
BIT, HALF = 4, 80
"""Clocks of a bit, and of 20 bits, on the SPI bus: it is at least four times slower than the core."""


class Core:
    """The core behind its pins.

    aer_in, req_in, ack_out: what the host drives. ack_in, addr_out, req_out: what it sees. pushed, lost: how many
    events came to the queue and how many found it full; fullest: entries it had at most. clock: since the reset.
    """

    def __init__(self, fill: int | None = 0) -> None:
        """Memories and configuration registers that hold ``fill``, or noise for ``None``: a reset touches neither."""
        noise = random.Random(5)
        self.neurons = [noise.getrandbits(32) if fill is None else fill for _ in range(256)]
        self.synapses = [noise.getrandbits(32) if fill is None else fill for _ in range(8192)]
        self.gate = self.open_loop = self.source = 0
        self.last = 0 if fill is not None else 255
        self.gate_sync, self.open_sync = [0, 0], [0, 0]
        self.spi_address = self.spi_data = self.spi_op = 0
        self.programme, self.programme_sync = 0, [0, 0]
        self.state, self.count, self.index = WAIT, 0, 0
        self.queue: list[int] = []
        self.word = self.weights = 0  # what the memories read last
        self.aer_in = self.req_in = 0
        self.req_sync = [0, 0]
        self.addr_out = self.req_out = self.ack_out = self.busy = 0
        self.ack_sync = [0, 0, 0]
        self.pushed = self.lost = self.fullest = self.clock = 0

    @property
    def ack_in(self) -> int:
        """The acknowledge of the input bus."""
        return int(self.state == WAIT_REQDN)

    def spi(self, address: int, data: int) -> Iterator[None]:
        """A transaction of 40 bits; each ``next`` is a clock."""
        yield from self._clocks(BIT)
        self.programme = 0
        yield from self._clocks(HALF - BIT)
        if address >> 18 & 3:  # read or write; configuration registers leave these as they are
            self.spi_address, self.spi_op, self.spi_data = address & 0xFFFF, address >> 16 & 3, 0
        yield from self._clocks(HALF)
        if address >> 18 & 1 and not address >> 19:
            self.spi_data, self.programme = data & 0xFFFF, int(self.spi_op != 0)
        if not address >> 16 & 3:
            if address & 0xFFFF == 0:
                self.gate = data & 1
            elif address & 0xFFFF == 1:
                self.open_loop = data & 1
            elif address & 0xFFFF == 2:
                self.source = data & 1
            elif address & 0xFFFF == 3:
                self.last = data & 0xFF

    @staticmethod
    def _clocks(count: int) -> Iterator[None]:
        for _ in range(count):
            yield

    def still(self) -> bool:
        """Whether further clocks change nothing until a pin does."""
        settled = (
            self.gate_sync == [self.gate] * 2
            and self.open_sync == [self.open_loop] * 2
            and self.programme_sync == [self.programme] * 2
            and self.req_sync == [self.req_in] * 2
            and (self.gate or self.ack_sync == [self.ack_out] * 3)
            and not (self.busy or self.req_out)
        )
        if self.state == WAIT_SPIDN:
            return settled and bool(self.programme)
        return settled and self.state == WAIT and bool(self.gate or not (self.req_in or self.queue))

    def tick(self) -> None:
        """One rising edge of the clock."""
        state, count, index, busy, gate = self.state, self.count, self.index, self.busy, self.gate_sync[1]
        head = self.queue[0] if self.queue else 0
        full = len(self.queue) == 128
        every = self.aer_in & 0xFF == 0xFF
        address, select, write, event, reference = 0, False, False, False, False
        if state == W_NEUR:
            address, select, write = self.spi_address & 0xFF, True, count != 0
        elif state == TREF:
            address, select, event, reference = (index if every else self.aer_in & 0xFF), True, True, True
            write = bool(count & 1)
        elif state == POP_NEUR:
            address, select, event, write = index, True, True, bool(count & 1)
        step = state in (TREF, POP_NEUR) and write

        stored, spike = self._neuron(index, event, reference, gate)
        fires = bool(spike and select and write and not self.word >> 31)
        following = self._following(state, count, index, busy, gate, full, every, step)

        if (fires and not self.open_sync[1]) or state == PUSH:
            self.pushed += 1
            self.lost += full
            if not full:
                self.queue.append(self.aer_in & 0xFF if state == PUSH else address)
        self.fullest = max(self.fullest, len(self.queue))
        if state == AER_POP and not busy:
            self.queue.pop(0)
        sends = (state == POP_NEUR and following != POP_NEUR) if self.source else fires
        self._output(sends, head if self.source else address)

        self._memories(state, count, index, head, address, select, write, stored)
        self.count = 0 if state == WAIT else count + (not busy)
        self.index = 0 if state == WAIT else (index + (step and not busy)) & 0xFF
        self.state = following
        self.gate_sync = [self.gate, self.gate_sync[0]]
        self.open_sync = [self.open_loop, self.open_sync[0]]
        self.programme_sync = [self.programme, self.programme_sync[0]]
        self.req_sync = [self.req_in, self.req_sync[0]]
        if self.gate_sync[1]:  # holds the output bus in reset
            self.addr_out = self.req_out = self.busy = 0
            self.ack_sync = [0, 0, 0]
        self.clock += 1

    def _following(
        self, state: int, count: int, index: int, busy: int, gate: int, full: bool, every: bool, step: bool
    ) -> int:
        """The next state of the controller."""
        if state == WAIT:
            if busy:
                return WAIT
            if gate:
                ready = self.programme_sync[1]
                return {1: W_NEUR, 2: W_SYN}.get(self.spi_op, WAIT) if ready else WAIT
            if full:
                return POP_NEUR
            if self.req_sync[1]:
                return TREF if self.aer_in >> 8 & 1 else PUSH
            return POP_NEUR if self.queue else WAIT
        if state in (W_NEUR, W_SYN):
            return WAIT_SPIDN if count == 1 else state
        if state == TREF:
            done = index == self.last and step if every else count == 1
            return WAIT_REQDN if done else TREF
        if state == PUSH:
            return WAIT_REQDN
        if state == POP_NEUR:
            return AER_POP if count & 0x1FF == self.last << 1 | 1 else POP_NEUR
        if state == AER_POP:
            return AER_POP if busy else WAIT
        if state == WAIT_SPIDN:
            return WAIT_SPIDN if self.programme_sync[1] else WAIT
        return WAIT_REQDN if self.req_sync[1] else WAIT

    def _neuron(self, index: int, event: bool, reference: bool, gate: int) -> tuple[int, bool]:
        """What would be written to the word that was read, and whether its membrane is at the threshold."""
        membrane, threshold, leak = self.word & 0xFFF, self.word >> 12 & 0xFFF, self.word >> 24 & 0x7F
        value = membrane - 4096 if membrane & 0x800 else membrane
        if event and reference:
            value = min(value + leak, 0) if value < 0 else max(value - leak, 0)
        elif event:
            weight = self.weights >> 4 * (index & 7) & 0xF
            value = max(-2048, min(2047, value + (weight - 16 if weight & 8 else weight)))
        spike = value >= 0 and value >= threshold
        if not gate:
            return self.word & ~0xFFF | (0 if spike else value & 0xFFF), spike
        return _merged(self.word, self.spi_address >> 8, self.spi_data), spike

    def _memories(
        self, state: int, count: int, index: int, head: int, address: int, select: bool, write: bool, stored: int
    ) -> None:
        if select:
            self.word = self.neurons[address]
            if write:
                self.neurons[address] = stored
        if state == POP_NEUR and index & 7 == 0:
            self.weights = self.synapses[head << 5 | index >> 3]
        elif state == W_SYN:
            place = self.spi_address & 0x1FFF
            old, self.weights = self.weights, self.synapses[place]
            if count:
                self.synapses[place] = _merged(old, self.spi_address >> 13 & 3, self.spi_data)

    def _output(self, sends: bool, address: int) -> None:
        acknowledged, before = self.ack_sync[1], self.ack_sync[2]
        if sends and not acknowledged:
            self.addr_out, self.req_out, self.busy = address, 1, 1
        elif acknowledged:
            self.req_out, self.busy = 0, 1
        elif before:
            self.req_out = self.busy = 0
        self.ack_sync = [self.ack_out, self.ack_sync[0], self.ack_sync[1]]


def _merged(old: int, byte: int, data: int) -> int:
    """``old`` with one byte of it, where there is such a one, replaced under the mask."""
    if byte > 3:
        return old
    mask, value = data >> 8 & 0xFF, data & 0xFF
    kept = old >> 8 * byte & mask
    return old & ~(0xFF << 8 * byte) | (kept | value & ~mask) << 8 * byte


class Host:
    """What drives the pins: it takes ``delay`` clocks before each change of a line that answers one of the core's.

    spikes: addresses that came, in order. log: lines of them and of what was done.
    """

    def __init__(self, core: Core, delay: int = 0) -> None:
        self.core, self.delay = core, delay
        self.spikes: list[int] = []
        self.log: list[str] = []
        self._since = 0

    def clock(self) -> None:
        """One clock, with the receiver of spikes at work."""
        core = self.core
        if core.req_out != core.ack_out:
            if self._since >= self.delay:
                core.ack_out, self._since = core.req_out, 0
                if core.ack_out:
                    self.spikes.append(core.addr_out)
                    self.log.append(f"spike {core.addr_out}")
            else:
                self._since += 1
        core.tick()

    def wait(self, clocks: int) -> None:
        """Let time pass."""
        for _ in range(clocks):
            if self.core.still() and self.core.req_out == self.core.ack_out:
                return
            self.clock()

    def drain(self, clocks: int) -> None:
        """Let time pass, of which that of output handshakes does not count."""
        while clocks > 0 and not (self.core.still() and self.core.req_out == self.core.ack_out):
            clocks -= not (self.core.req_out or self.core.ack_out)
            self.clock()

    def spi(self, writes: Iterable[tuple[int, int]]) -> None:
        """Addresses and data, one after the other."""
        for address, data in writes:
            last, transaction = HALF * 2, self.core.spi(address, data)
            for _ in range(last):
                next(transaction)
                if not (self.core.still() and self.core.req_out == self.core.ack_out):
                    self.clock()
            next(transaction, None)
        self.wait(20)

    def send(self, address: int) -> None:
        """An event on the input bus, by a handshake of four phases."""
        core = self.core
        core.aer_in, core.req_in = address, 1
        while not core.ack_in:
            self.clock()
        for _ in range(self.delay):
            self.clock()
        core.req_in = 0
        while core.ack_in:
            self.clock()
        for _ in range(self.delay):
            self.clock()

    def play(self, lines: Iterable[str], clear: Iterable[tuple[int, int]], drains: bool = True) -> None:
        """The commands of a ``samples.events``; without ``drains`` the host never waits."""
        writes = list(clear)
        for line in lines:
            word, _, number = line.partition("#")[0].strip().partition(" ")
            if word in ("sample", "step"):
                self.log.append(f"{word} {number}")
            elif word == "clear":
                self.spi(writes)
            elif word in ("input", "tref"):
                self.send(int(number))
            elif word == "drain" and drains:
                (self.drain if self.delay > 8 else self.wait)(int(number))


def spi_file(text: str) -> list[tuple[int, int]]:
    """Addresses and data of a file of SPI writes."""
    words = [line.partition("#")[0].split() for line in text.splitlines()]
    return [(int(pair[0], 16), int(pair[1], 16)) for pair in words if pair]
