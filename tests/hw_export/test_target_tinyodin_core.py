"""The files of an export played into a clock-by-clock model of the core: what a board would see."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from references.tinyodin_core import POP_NEUR, Core, Host, spi_file
from target_nets import chip_of, trained

from hw_export.build import read_export, write_export
from hw_export.samples import ExportSamples
from hw_export.targets import tinyodin
from hw_export.targets.tinyodin import CLEAR_FILE, EVENTS_FILE, FILE
from hw_export.verify import verify_log
from spikelfp import nn
from spikelfp.errors import UserError


def network(sizes: tuple[int, ...], weight: float | None = None) -> nn.Sequential:
    """A chain without biases: random weights, or all the same."""
    net = trained(sizes, bias=False, beta=0.8)
    for layer in net:
        if isinstance(layer, nn.Linear):
            layer.register_parameter("bias", None)
            if weight is not None:
                torch.nn.init.constant_(layer.weight, weight)
    return net


def given(inputs: int, classes: int, samples: int = 2, steps: int = 4, rate: float = 0.4) -> ExportSamples:
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(steps, samples, inputs, generator=generator) < rate).float()
    return ExportSamples(x, torch.arange(samples) % classes, steps, static=False, scale=1)


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    """An export of 56 rows for two samples of four steps."""
    folder = tmp_path_factory.mktemp("exports") / "tiny"
    write_export(network((16, 22, 12, 6)), given(16, 6), folder, target="tinyodin", bits=4)
    return folder


def programmed(folder: Path, fill: int | None, delay: int = 0) -> Host:
    host = Host(Core(fill), delay)
    host.spi(spi_file((folder / FILE).read_text()))
    return host


def play(host: Host, folder: Path, drains: bool = True, text: str | None = None) -> str:
    """The log of the samples of an export."""
    lines = ((folder / EVENTS_FILE).read_text() if text is None else text).splitlines()
    host.play(lines, spi_file((folder / CLEAR_FILE).read_text()), drains)
    return "\n".join(host.log) + "\n"


def compared(tmp_path: Path, folder: Path, log: str):
    (tmp_path / "log").write_text(log)
    _, _, samples = read_export(folder)
    return verify_log(tmp_path / "log", chip_of("tinyodin"), folder, samples)


@pytest.mark.parametrize("fill", [0, None, 0x7FF, 0xFFFFFFFF], ids=["zeros", "noise", "high membranes", "ones"])
def test_programming_makes_no_event(export, fill):
    host = programmed(export, fill)
    core = host.core
    assert (core.pushed, core.fullest, host.spikes) == (0, 0, [])
    rows = {name: place for name, place in read_export(export)[0]["chip"]["rows"].items()}
    assert core.last == rows["6"][1] == 55
    assert (core.gate, core.open_loop) == (0, 0)
    for name, (first, last) in rows.items():
        fields = [tinyodin.neuron_fields(word) for word in core.neurons[first : last + 1]]
        assert {disabled for _, _, disabled in fields} == {name == "input"}
        assert not any(word & 0xFFF for word in core.neurons[first : last + 1])
    host.wait(10_000)
    assert not host.spikes


@pytest.mark.parametrize("fill", [0, 0x7FF])
def test_programming_in_closed_loop_does(export, fill):
    """What the order of registers is for: two writes to each word find zeros, which have reached a threshold of 0."""
    text = (export / FILE).read_text().replace("00001 00001", "00001 00000")
    host = Host(Core(fill))
    host.spi(spi_file(text))
    assert host.core.pushed >= 2 * 56
    host.wait(100_000)
    assert len(host.spikes) > 56


@pytest.mark.parametrize(("delay", "fill"), [(0, 0), (3, None)])
def test_a_board_gives_the_spikes_of_the_export(tmp_path, export, delay, fill):
    host = programmed(export, fill, delay)
    result = compared(tmp_path, export, play(host, export))
    assert (result.status, result.reason) == ("identical", "")
    assert all(layer.spikes > 0 for layer in result.layers)
    expected = [int(line[7:]) for line in (export / EVENTS_FILE).read_text().splitlines() if line.startswith("expect")]
    assert sorted(expected) == sorted(host.spikes)
    assert host.core.lost == 0


@pytest.mark.parametrize("delay", [0, 8])
def test_drains_and_cycles_are_long_enough_and_not_much_longer(export, delay):
    """A receiver may take 16 clocks for both edges of its acknowledge: 8 each."""
    host = programmed(export, 0, delay)
    cycles = read_export(export)[0]["chip"]["cycles"]
    core, clear = host.core, spi_file((export / CLEAR_FILE).read_text())
    began = inputs = spikes = longest = 0
    for line in (export / EVENTS_FILE).read_text().splitlines():
        word, _, number = line.partition(" ")
        if word == "step":
            began, inputs, spikes = core.clock, 0, len(host.spikes)
        if word == "input":
            inputs += 1
        if word == "drain":
            before = core.clock
            host.wait(int(number))
            assert core.still()
            assert not core.queue
            assert core.clock - before <= int(number)
            continue
        host.play([line], clear)
        if word == "tref":
            used = core.clock - began
            spent = len(host.spikes) - spikes
            bound = cycles["input"] * inputs + cycles["spike"] * spent + cycles["time_reference"]
            slack = (2 * delay + 4) * (inputs + 1)  # what the sender takes is its own
            assert used <= bound + slack
            assert used >= 0.75 * bound
            longest = max(longest, bound)
    assert longest == cycles["longest_step"]
    rows = 56
    assert cycles["event"] == 2 * rows + 2
    assert cycles["step"] == f"{2 * rows + 7} inputs + {2 * rows + 24} spikes + {2 * rows + 5}"


def test_without_waiting_the_time_reference_overtakes_the_queue(tmp_path, export):
    result = compared(tmp_path, export, play(programmed(export, 0), export, drains=False))
    assert result.status == "different"


def test_a_reset_does_not_clear_membranes_but_the_file_does(tmp_path, export):
    text = (export / EVENTS_FILE).read_text()
    without = "\n".join(line for line in text.splitlines() if line != "clear 0")
    assert compared(tmp_path, export, play(programmed(export, 0), export, text=without)).status == "different"
    host = programmed(export, None)
    words = list(host.core.neurons)
    assert play(host, export)
    host.core.neurons[30] |= 0xFFF  # a membrane of −1, and one that would fire
    host.core.neurons[31] |= 0x7FF
    pushed = host.core.pushed
    host.spi(spi_file((export / CLEAR_FILE).read_text()))
    assert host.core.neurons == words, "thresholds, leaks and other rows are as they were programmed"
    assert (host.core.pushed, host.core.queue) == (pushed, [])


def test_memories_opened_while_an_event_is_at_work_are_corrupted(export):
    """Why the gate may be opened only when the core is idle."""
    host = programmed(export, 0)
    before = [word & ~0xFFF for word in host.core.neurons]
    host.core.spi_address, host.core.spi_data = 2 << 8, 0x55  # the last write: byte 2 of a neuron
    host.core.aer_in, host.core.req_in = 3, 1
    while host.core.state != POP_NEUR:
        host.core.req_in = int(not host.core.ack_in)
        host.clock()
    host.core.gate = 1
    host.wait(1000)
    spoilt = sum(word & ~0xFFF != old for word, old in zip(host.core.neurons, before, strict=True))
    assert spoilt > 40
    idle = programmed(export, 0)
    words = list(idle.core.neurons)
    idle.core.spi_address, idle.core.spi_data = 2 << 8, 0x55
    idle.core.gate = 1
    idle.wait(1000)
    assert idle.core.neurons == words


class TestQueue:
    def test_it_never_overflows_however_fast_inputs_are_sent(self, tmp_path):
        """12 inputs, each of which makes all 20 neurons fire, and these 4 more, again and again."""
        folder = tmp_path / "export"
        samples = given(12, 4, samples=1, steps=1, rate=1.0)
        manifest = write_export(network((12, 20, 4), weight=3.0), samples, folder, target="tinyodin", bits=4)
        queue = manifest["chip"]["queue"]
        assert queue["entries"] == 128
        assert queue["most_spikes"] > 127
        assert queue["pauses"] > 0
        assert queue["largest"] <= 128
        for delay in (0, 40):
            host = programmed(folder, None, delay)
            result = compared(tmp_path, folder, play(host, folder))
            assert (result.status, host.core.lost) == ("identical", 0)
            assert 20 < host.core.fullest <= queue["largest"]
        unpaused, lines = [], (folder / EVENTS_FILE).read_text().splitlines()
        for line, after in zip(lines, [*lines[1:], ""], strict=True):
            if not (line.startswith("drain") and after.startswith("input")):
                unpaused.append("drain 1000000" if line.startswith("drain") else line)
        host = programmed(folder, 0)
        result = compared(tmp_path, folder, play(host, folder, text="\n".join(unpaused)))
        assert host.core.lost > 0, "which the pauses are for"
        assert result.status == "different"

    def test_samples_that_overflow_it_anyway_are_refused(self, tmp_path):
        net = network((4, 140, 2), weight=3.0)
        with pytest.raises(
            UserError, match=r"in sample 0, step 0, one input event, of row 0, puts 281 events .* of 128"
        ):
            write_export(net, given(4, 2, rate=1.0), tmp_path / "export", target="tinyodin", bits=4)
        assert list(tmp_path.iterdir()) == []

    def test_the_fill_of_one_event_is_that_of_the_core(self):
        """One input, alone: what fills the queue then depends on no sender."""
        random = np.random.default_rng(3)
        synapses = np.zeros((256, 256), np.int8)
        synapses[:5, 5:35] = random.integers(-2, 8, (5, 30))
        synapses[5:35, 35:50] = random.integers(-2, 8, (30, 15))
        words = [tinyodin.neuron_word(2047, 0, disabled=True)] * 5 + [tinyodin.neuron_word(5, 1)] * 45
        sample = random.integers(0, 2, (6, 5))
        played = tinyodin.Core(np.array(words, np.uint32), synapses, 50).play(sample)
        core = Core(0)
        core.last, core.neurons[:50] = 49, words
        for pre in range(50):
            for write in tinyodin.synapse_bytes(pre, synapses[pre].tolist()):
                core.synapses[write.address & 0x1FFF] |= write.byte << 8 * (write.address >> 13 & 3)
        host = Host(core)
        for step, row in enumerate(sample):
            parts, first = [p for p in played.steps[step]], len(host.spikes)
            alone = [int(i) for i in np.flatnonzero(row)]
            for event in alone:
                core.fullest = 0
                host.send(event)
                host.wait(10**6)
                if len(alone) == 1:
                    assert core.fullest == parts[0].fill
            host.send(tinyodin.TIME_REFERENCE)
            host.wait(10**6)
            assert host.spikes[first:] == np.concatenate([p.spikes for p in parts] or [[]]).tolist()
        assert len(host.spikes) > 50


def test_the_energy_is_that_of_every_row(export):
    manifest, _, shown = read_export(export)
    told, rows = manifest["chip"], 56
    inputs = float(shown.sequence().sum()) / len(shown)
    operations = rows * (inputs + told["per_sample"]["spikes"])
    assert told["per_sample"]["synaptic_operations"] == pytest.approx(operations)
    assert told["energy"]["nanojoule"] == pytest.approx(12.7e-3 * operations)
    assert told["per_sample"]["membrane_updates"] == rows * shown.steps
    host = programmed(export, 0)
    play(host, export)
    assert host.core.pushed == (inputs + told["per_sample"]["spikes"]) * len(shown)


def test_what_the_manifest_says_of_rows_and_files(export):
    manifest = yaml.safe_load((export / "manifest.yaml").read_text())
    assert {CLEAR_FILE, EVENTS_FILE, FILE} < set(manifest["sha256"])
    assert manifest["chip"]["rows"] == {"input": [0, 15], "2": [16, 37], "4": [38, 49], "6": [50, 55]}
    lines = (export / EVENTS_FILE).read_text().splitlines()
    assert lines[1:5] == ["# rows 0 to 15: input", "# rows 16 to 37: 2", "# rows 38 to 49: 4", "# rows 50 to 55: 6"]
    assert all(len(line.split()) == 2 and line.split()[1].isdigit() for line in lines if line[0] != "#")
    assert sum(line == "tref 511" for line in lines) == 2 * 4
    assert len(spi_file((export / CLEAR_FILE).read_text())) == 4 + 2 * 40
    assert math.prod(read_export(export)[2].shape) == 16
