"""tinyODIN: the writes against the addresses of its documentation, and the memories run by a model of its circuit."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from target_nets import chip_of, dense, trained

from hw_export.integer import IntegerNetwork
from hw_export.integer.simulator import IntegerSimulator
from hw_export.quantize import quantize
from hw_export.targets import tinyodin
from hw_export.targets.tinyodin import FILE, memories
from spikelfp.errors import DataError


def written(folder) -> list[tinyodin.Write]:
    lines = [line.partition("#")[0].split() for line in (folder / FILE).read_text().splitlines()]
    pairs = [(int(a, 16), int(d, 16)) for a, d in (line for line in lines if line)]
    return [tinyodin.Write(address, data >> 8 & 0xFF, data & 0xFF) for address, data in pairs]


def test_addresses_and_data():
    # {R, W, cmd, addr}: 0 1 01 | byte 2 of neuron 5;  0 1 10 | byte post[2:1] of word {pre, post[7:3]}
    assert tinyodin.neuron_address(5, 2) == 0b01_01_0000001000000101
    assert tinyodin.synapse_address(3, 0b10110_10_1) == 0b01_10_0_10_00000011_10110
    assert tinyodin.register_write(tinyodin.MAX_NEURON, 200) == (3, 0, 200)
    low, high = tinyodin.synapse_write(3, 4, -8), tinyodin.synapse_write(3, 5, 7)
    assert low.address == high.address
    assert (low.mask, low.byte, low.data) == (0xF0, 0x08, 0xF008)
    assert (high.mask, high.byte, high.data) == (0x0F, 0x70, 0x0F70)
    assert tinyodin.synapse_bytes(3, [1, -2, 3]) == [
        (tinyodin.synapse_address(3, 0), 0, 0xE1),
        (tinyodin.synapse_address(3, 2), 0, 0x03),
    ]
    assert tinyodin.neuron_word(0x123, 0x45) == 0x45123000
    assert tinyodin.neuron_word(0x123, 0x45, membrane=-1, disabled=True) == 0xC5123FFF
    assert tinyodin.neuron_fields(0xC5123FFF) == (0x123, 0x45, True)
    with pytest.raises(ValueError, match="lies in -8 to 7, got 8"):
        tinyodin.synapse_write(0, 0, 8)


def test_masked_writes_keep_their_neighbours():
    _, synapses = memories(
        [
            *tinyodin.synapse_bytes(7, [1, 2, 3, 4]),
            tinyodin.synapse_write(7, 2, -5),
            tinyodin.synapse_write(255, 255, 6),
        ]
    )
    assert synapses[7, :5].tolist() == [1, 2, -5, 4, 0]
    assert synapses[255, 255] == 6
    assert np.count_nonzero(synapses) == 5


def circuit(neurons: np.ndarray, synapses: np.ndarray, last: int, events: np.ndarray) -> np.ndarray:
    """How often each of the 256 neurons spikes at each step, ``[T, 256]``, from ``events [T, inputs]``.

    Events go through one queue, in which neurons put their own spikes; each adds a row of the crossbar to the neurons
    up to ``last`` one after another, and every step ends with a time reference of all of them.
    """
    state = [0] * 256
    threshold, leak, disabled = zip(*(tinyodin.neuron_fields(int(word)) for word in neurons), strict=True)
    counts = np.zeros((len(events), 256), dtype=int)
    for step, row in enumerate(events):
        queue = deque(np.repeat(np.arange(len(row)), row.astype(int)).tolist())
        while queue:
            pre = queue.popleft()
            for post in range(last + 1):
                state[post] = min(max(state[post] + int(synapses[pre, post]), -2048), 2047)
                if state[post] >= threshold[post]:
                    state[post] = 0  # a disabled neuron is reset as well, but does not spike
                    if not disabled[post]:
                        counts[step, post] += 1
                        queue.append(post)
        for post in range(last + 1):
            toward = max(state[post] - leak[post], 0) if state[post] > 0 else min(state[post] + leak[post], 0)
            state[post] = toward
    return counts


@pytest.mark.parametrize("most", [1, 3])
def test_the_programmed_chip_spikes_as_the_simulator(tmp_path, most):
    chip = chip_of("tinyodin")
    net = quantize(trained((20, 30, 12, 6), bias=False, beta=0.8), 4, input_scale=most)
    chip.write(net, tmp_path, (20,))
    neurons, synapses = memories(written(tmp_path))
    events = torch.randint(0, most + 1, (25, 1, 20), generator=torch.Generator().manual_seed(2))
    run = IntegerSimulator(chip.adapt(IntegerNetwork.of(net)), chip.arithmetic).run(events)
    counts = circuit(neurons, synapses, 67, events[:, 0].numpy())
    first = 20
    for spikes in run.spikes.values():
        size = spikes.shape[-1]
        assert np.array_equal(spikes[:, 0].numpy(), counts[:, first : first + size])
        assert int(spikes.sum()) > 10
        first += size
    assert counts.sum() == sum(int(spikes.sum()) for spikes in run.spikes.values())


def test_the_order_of_the_writes(tmp_path):
    chip_of("tinyodin").write(quantize(trained(bias=False), 4, input_scale=1), tmp_path, (12,))
    writes = written(tmp_path)
    rows = 12 + 16 + 14 + 6
    assert writes[:4] == [(0, 0, 1), (1, 0, 1), (2, 0, 0), (3, 0, rows - 1)], "in open loop while neurons are written"
    assert writes[-2:] == [(1, 0, 0), (0, 0, 0)], "in closed loop just before the memories close"
    assert len(writes) == 6 + rows * 4 + rows * rows // 2
    assert all(write.address < 2**20 and write.data < 2**16 for write in writes)


def test_unused_rows_do_not_spike(tmp_path):
    chip_of("tinyodin").write(quantize(trained(bias=False), 4, input_scale=1), tmp_path, (12,))
    neurons, synapses = memories(written(tmp_path))
    fields = [tinyodin.neuron_fields(int(word)) for word in neurons[:48]]
    assert [disabled for _, _, disabled in fields] == [True] * 12 + [False] * 36
    assert not synapses[:12, :12].any()  # inputs do not reach inputs
    assert not synapses[42:].any()  # the last layer reaches none


def test_a_line_that_is_none(tmp_path):
    chip = chip_of("tinyodin")
    chip.write(quantize(trained(bias=False), 4, input_scale=1), tmp_path, (12,))
    text = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(text.replace("# neurons", "50000 xyz"))
    with pytest.raises(DataError, match="line 7: '50000 xyz' is no address and data in hexadecimal"):
        chip.read(tmp_path)
    (tmp_path / FILE).write_text(text.rsplit("\n", 2)[0])
    with pytest.raises(DataError, match="it is not whole"):
        chip.read(tmp_path)


def test_the_leak_is_made_of_the_threshold_of_the_chip():
    chip = chip_of("tinyodin")
    codes = chip.prepare(chip.adapt(dense(threshold=40, beta=0.7)))
    assert tinyodin.neuron_fields(int(codes["neurons"][4])) == (41, 6, False)  # round(0.3 · 41 / 2)
