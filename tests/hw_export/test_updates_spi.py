"""SPI writes of tinyODIN, against a slow model of its synapse memory."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from updates_nets import frame, image_of, nudge, write

from hw_export.updates import (
    Frame,
    IntegerImage,
    Mark,
    Parameter,
    SpiLayout,
    SpiWriter,
    UpdateRecorder,
    follow,
    replay,
)
from hw_export.updates.spi import SpiWrites, gate, write_spi
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


class Board(Chip):
    """A chip that is idle only when somebody has waited for it."""

    idle = False

    def wait(self) -> None:
        self.idle = True

    def take(self, wire: bytes) -> None:
        assert self.idle, "the memories are opened only when the core is idle"
        assert wire[:5] == gate(True).to_bytes()
        assert wire[-5:] == gate(False).to_bytes()
        self.send(wire)
        self.idle = False


def stream_of(path, *, bias: int | None = None, close: bool = True):
    """Two layers, three frames: of both layers, of one, and of nothing but a bias of 0."""
    base = image_of((9, 7), (5, 9))
    arrays = dict(base.arrays)
    parameters = base.parameters
    if bias is not None:
        parameters = (*parameters, Parameter("1.bias", (5,), Grid(0.5, -9, 9)))
        arrays["1.bias"] = np.full(5, bias)
    base = IntegerImage(parameters, arrays)
    both = Frame(
        1, (frame(1, "0.weight", [0, 1, 8], [3, -4, 5]).changes[0], frame(1, "1.weight", [7], [-7]).changes[0])
    )
    events = [both, frame(4, "1.weight", [7, 44], [1, 2])]
    if bias is not None:
        events.append(frame(5, "1.bias", [2], [0]))
    end = base.copy()
    for event in events:
        for change in event.changes:
            end.write(change.parameter, change.indices, change.values)
    marks = [Mark(events[-1].step, end.digest())] if close else []
    path.write_bytes(b"".join(write(base, [*events, *marks])))
    return base, end


def holds(chip: Chip, image: IntegerImage) -> bool:
    return all(chip.synapse(*place) == value for place, value in crossbar(image).items())


def test_following_a_stream_frame_by_frame(tmp_path):
    base, end = stream_of(tmp_path / "s", bias=0)
    board = Board()
    writer = SpiWriter(board.take, board.wait)
    steps = [one.step for one in follow(tmp_path / "s", writer, interval=0.001)]
    assert steps == [1, 4, 5]
    assert writer.layout is not None
    assert writer.layout.neurons == 21
    assert holds(board, end)
    held = Board()
    held.wait()
    held.take(gate(True).to_bytes() + SpiLayout(base.parameters).image(base).to_bytes() + gate(False).to_bytes())
    list(follow(tmp_path / "s", SpiWriter(held.take, held.wait), write_base=False, interval=0.001))
    assert holds(held, end)
    assert not held.idle, "a frame without weights of the chip opens nothing"
    with pytest.raises(UserError, match="call begin, or use follow"):
        SpiWriter(held.take, held.wait).write_frame(1, ())
    stream_of(tmp_path / "biased", bias=3)
    with pytest.raises(UserError, match=r"1\.bias is not 0"):
        list(follow(tmp_path / "biased", SpiWriter(held.take, held.wait), interval=0.001))


def played(text: str) -> Board:
    """A board that was sent a file of SPI writes."""
    board = Board()
    assert text.splitlines()[0].startswith("# SPI writes of a stream of updates for tinyODIN")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for frame_ in "\n".join(lines).split("idle\n")[1:]:
        board.wait()
        digits = "".join(frame_.split())
        board.take(bytes.fromhex(digits))
    assert lines[0] == "idle"
    return board


class TestFile:
    def test_a_file_of_a_stream(self, tmp_path):
        base, end = stream_of(tmp_path / "s")
        done = write_spi(tmp_path / "s", tmp_path / "out")
        text = (tmp_path / "out").read_text()
        assert holds(played(text), end)
        assert (done.frames, done.openings, done.step, done.notes) == (3, 3, 4, ())
        lines = [line for line in text.splitlines() if line[0] not in "#i"]
        assert all(len(line) == 11 and line[5] == " " for line in lines)
        assert done.writes == len(lines) - 2 * done.openings
        write_spi(tmp_path / "s", tmp_path / "one", upto=3)
        after = base.copy()
        after.write("0.weight", np.array([0, 1, 8]), np.array([3, -4, 5]))
        after.write("1.weight", np.array([7]), np.array([-7]))
        assert holds(played((tmp_path / "one").read_text()), after)
        frames = write_spi(tmp_path / "s", tmp_path / "frames", whole=False)
        assert (frames.frames, frames.writes) == (2, 6)

    def test_what_cannot_be_written(self, tmp_path):
        stream_of(tmp_path / "s", close=False)
        assert "not closed" in write_spi(tmp_path / "s", tmp_path / "out").notes[0]
        for options, text in [
            ({"strict": True}, "not closed"),
            ({"upto": 9}, "there is no step 9"),
            ({"base": image_of((9, 7), (5, 9), seed=4)}, "another base image"),
        ]:
            with pytest.raises(UserError, match=text):
                write_spi(tmp_path / "s", tmp_path / "none", **options)
            assert not (tmp_path / "none").exists()
        (tmp_path / "wide").write_bytes(b"".join(write(image_of((3, 4), bits=8), [])))
        with pytest.raises(UserError, match="4 bits or fewer"):
            write_spi(tmp_path / "wide", tmp_path / "none")
        (tmp_path / "bare").write_bytes(b"".join(write(image_of((3, 4)), [], embed=False)))
        with pytest.raises(UserError, match="does not hold its base image"):
            write_spi(tmp_path / "bare", tmp_path / "none")

    def test_the_command(self, tmp_path, command):
        _, end = stream_of(tmp_path / "s")
        code, out, err = command("updates", "spi", tmp_path / "s", "--out", tmp_path / "out", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out.splitlines()[-1])["openings"] == 3
        assert holds(played((tmp_path / "out").read_text()), end)
        assert command("updates", "spi", tmp_path / "s", "--out", tmp_path / "out")[0] == 2
        assert command("updates", "spi", tmp_path / "s", "--out", tmp_path / "out", "--overwrite", "--frames")[0] == 0
        (tmp_path / "letter").write_text("dear")
        for path, why in (("letter", "is no file of SPI writes"), ("s", "is what is to be read")):
            code, _, err = command("updates", "spi", tmp_path / "s", "--out", tmp_path / path, "--overwrite")
            assert (code, err.count("\n")) == (2, 1)
            assert why in err
        assert (tmp_path / "letter").read_text() == "dear"
