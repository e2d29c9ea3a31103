"""SPI writes of tinyODIN, against a slow model of its synapse memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from updates_nets import frame, image_of, nudge, write

from hw_export.updates import IntegerImage, Parameter, SpiLayout, UpdateRecorder, replay
from hw_export.updates.spi import SpiWrites, gate
from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.quantized import Grid


class Chip:
    """8192 words of 32 bits behind an SPI port that takes 40 bits at a time, one by one."""

    def __init__(self, fill: int = 0) -> None:
        self.words = [fill] * 8192
        self.gated = False
        self.accesses = 0

    def send(self, wire: bytes) -> None:
        """Five bytes for each transaction, highest bit first."""
        bits = "".join(f"{byte:08b}" for byte in wire)
        for start in range(0, len(bits), 40):
            address, data = bits[start : start + 20], bits[start + 20 : start + 40]
            if address[2:4] == "00":
                assert int(address[4:], 2) == 0
                self.gated = data[-1] == "1"
                continue
            assert self.gated, "the memories are closed while the network runs"
            assert address[:4] == "0110"
            assert (address[4], data[:4]) == ("0", "0000")
            byte, word = int(address[5:7], 2), int(address[7:], 2)
            self.masked(word, byte, int(data[4:12], 2), int(data[12:], 2))

    def masked(self, word: int, byte: int, mask: int, value: int) -> None:
        """Bits of the mask that are 1 stay."""
        old = self.words[word] >> 8 * byte & 0xFF
        new = value & ~mask | old & mask
        self.words[word] += (new - old) << 8 * byte
        self.accesses += 1

    def synapse(self, pre: int, post: int) -> int:
        """The signed weight from ``pre`` to ``post``."""
        word = self.words[pre << 5 | post >> 3]
        value = word >> 8 * (post >> 1 & 3) + 4 * (post & 1) & 0xF
        return value - 16 if value > 7 else value


def crossbar(image: IntegerImage) -> dict[tuple[int, int], int]:
    """Every synapse of a network as ``{(pre, post): weight}``: inputs first, then layer after layer."""
    found, begin = {}, 0
    for array in (a for n, a in image.arrays.items() if n.endswith(".weight")):
        outputs, inputs = array.shape
        for post in range(outputs):
            for pre in range(inputs):
                found[begin + pre, begin + inputs + post] = int(array[post, pre])
        begin += inputs
    return found


def send(chip: Chip, writes: SpiWrites) -> None:
    chip.send(gate(True).to_bytes())
    chip.send(writes.to_bytes())
    chip.send(gate(False).to_bytes())


def test_one_write_by_hand():
    """A weight of −3 from neuron 5 to neuron 300 − 45 = 255: word {5, 31}, byte 3, upper half."""
    chip = SpiLayout((Parameter("0.weight", (5, 251), Grid(1.0, -8, 7)),))
    writes = chip.writes(frame(1, "0.weight", [4 * 251 + 5], [-3]).changes)
    assert writes.address.tolist() == [0b0110_0_11_00000101_11111]
    assert (writes.mask.tolist(), writes.byte.tolist()) == ([0x0F], [0xD0])
    assert writes.to_bytes() == bytes.fromhex("660bf 00fd0".replace(" ", ""))
    assert gate(True).to_bytes() == bytes.fromhex("0000000001")


def test_two_synapses_of_a_byte_take_one_write():
    chip = SpiLayout((Parameter("0.weight", (4, 4), Grid(1.0, -8, 7)),))
    writes = chip.writes(frame(1, "0.weight", [1, 5], [7, -8]).changes)
    assert len(writes) == 1
    assert (writes.mask[0], writes.byte[0]) == (0x00, 0x87)


@pytest.mark.parametrize("shapes", [[(3, 4)], [(9, 7), (5, 9)], [(100, 56), (60, 100), (40, 60)], [(128, 128)]])
def test_a_chip_follows_frames(shapes):
    random = np.random.default_rng(0)
    image = image_of(*shapes)
    layout, chip = SpiLayout(image.parameters), Chip(fill=0x5A5A5A5A)
    assert layout.neurons == shapes[0][1] + sum(shape[0] for shape in shapes)
    assert [len(r) for r in layout.ranges] == [shapes[0][1], *(shape[0] for shape in shapes)]
    send(chip, layout.image(image))
    for step in range(1, 6):
        p = image.parameters[random.integers(len(shapes))]
        indices = np.sort(random.choice(p.size, min(p.size, 9), replace=False))
        change = frame(step, p.name, indices.tolist(), random.integers(-7, 8, len(indices)).tolist())
        image.write(p.name, indices, change.changes[0].values)
        before = chip.accesses
        send(chip, layout.writes(change.changes))
        assert chip.accesses - before <= len(indices)
        assert all(chip.synapse(*place) == value for place, value in crossbar(image).items())
    own = crossbar(image)
    untouched = [(pre, post) for pre in range(256) for post in range(0, 256, 17) if (pre, post) not in own]
    assert all(chip.synapse(pre, post) == (-6, 5)[post & 1] for pre, post in untouched), "others are as they were"


def test_a_recording_in_four_bits(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 12, bias=False), nn.LIF(), nn.Linear(12, 4, bias=False), nn.LIF())
    random, frames = torch.Generator().manual_seed(3), []
    with UpdateRecorder(net, tmp_path / "a", bits=4) as recorder:
        for _ in range(5):
            nudge(net, random, share=0.3, size=0.2)
            frames.append(recorder.step())
    layout, chip = SpiLayout(recorder.base.parameters), Chip()
    send(chip, layout.image(recorder.base))
    for written in frames:
        send(chip, layout.writes(written.changes))
    assert all(chip.synapse(*at) == value for at, value in crossbar(replay(tmp_path / "a")).items())


def parameters(*entries: tuple[str, tuple[int, ...], int]) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, shape, Grid(1.0, -top, top)) for name, shape, top in entries)


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([("0.weight", (4, 1, 3, 3), 7)], "dense layers"),
        ([("0.weight", (4, 3), 127)], "4 bits or fewer"),
        ([("0.weight", (4, 3), 7), ("1.weight", (2, 5), 7)], "takes 5 inputs, the layer before it has 4"),
        ([("0.weight", (10, 250), 7)], "260 inputs and neurons, 4 more"),
        ([("0.bias", (10,), 7)], "no weights"),
    ],
)
def test_networks_that_do_not_fit(entries, text):
    with pytest.raises(UserError, match=text):
        SpiLayout(parameters(*entries))


def test_biases_must_be_zero():
    layout = SpiLayout(parameters(("0.weight", (4, 3), 7), ("0.bias", (4,), 99)))
    assert len(layout.writes(frame(1, "0.bias", [1], [0]).changes)) == 0
    with pytest.raises(UserError, match=r"0.bias is not 0, and tinyODIN's neurons have no bias"):
        layout.writes(frame(1, "0.bias", [1], [2]).changes)
    with pytest.raises(UserError, match=r"9.weight is not on the chip"):
        layout.writes(frame(1, "9.weight", [1], [2]).changes)


def test_streams_and_chips_agree_on_names():
    base = image_of((3, 4))
    stream = b"".join(write(base, [frame(1, "0.weight", [0], [1])]))
    assert len(SpiLayout(replay(stream).parameters).image(base)) == 4 * 2, "four inputs, three neurons in two bytes"
