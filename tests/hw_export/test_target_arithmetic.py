"""How the neurons of each chip compute: the published numbers, and a few steps on paper."""

from __future__ import annotations

import pytest
import torch
from target_nets import CHIPS, chip_of, conv, dense, whole

from hw_export.integer.simulator import IntegerSimulator
from hw_export.targets.generic import Generic


def traced(chip, inputs, *, weight, threshold, reset, beta=0.9, bias=0):
    """Spikes and membranes after each step of one neuron with one input, of ``inputs`` events at the steps."""
    network = dense((1, 1), weight=weight, threshold=threshold, reset=reset, beta=beta, bias=bias)
    simulator = IntegerSimulator(chip.adapt(network), chip.arithmetic)
    states, spikes, membranes = None, [], []
    for value in inputs:
        run = simulator.run(torch.tensor([[[value]]]), states)
        states = run.states
        spikes.append(int(run.outputs))
        membranes.append(run.states["lif0"].item())
    return spikes, membranes


def test_loihi():
    a = chip_of("loihi").arithmetic
    assert (a.high, a.low, a.overflow) == (2**23 - 1, -(2**23) + 1, "saturate")
    assert (a.current_bits, a.shift, a.fires, a.resets) == (24, 6, ">", {"zero"})
    assert (a.latency, a.input_latency, a.synapse) == (1, 1, None)
    assert a.decay_code(0.9) == 410  # 409.6
    # 10 << 6 = 640; 640 · 3686 >> 12 = 575; 575 + 640 = 1215 > 15 << 6 = 960
    chip = chip_of("loihi")
    assert traced(chip, [1, 1, 1, 0], weight=10, threshold=15, reset="zero") == ([0, 1, 0, 0], [640, 0, 640, 575])
    assert traced(chip, [1, 0], weight=-10, threshold=15, reset="zero")[1] == [-640, -575]  # toward 0
    # exactly at the threshold: no spike
    assert traced(chip, [1], weight=15, threshold=15, reset="zero") == ([0], [960])
    # biases are shifted as sums are, and have worked for a step when the first input comes: 128 · 3686 >> 12 = 115;
    # 115 + (14 << 6) + 128 = 1139, above 17 << 6 = 1088 and not above 18 << 6
    assert traced(chip, [1], weight=14, bias=2, threshold=17, reset="zero") == ([1], [0])
    assert traced(chip, [1], weight=14, bias=2, threshold=18, reset="zero") == ([0], [1139])


def test_speck():
    a = chip_of("speck").arithmetic
    assert (a.high, a.low, a.decay, a.fires, a.by_event) == (32767, -32768, "none", ">=", True)
    assert a.resets == {"zero", "immediate"}
    chip = chip_of("speck")
    # the threshold is 21: 8, 16, 24 >= 21
    spikes = traced(chip, [3, 2, 0, 1], weight=8, threshold=20, reset="immediate", beta=1.0)
    assert spikes == ([1, 0, 0, 1], [3, 19, 19, 6])
    assert traced(chip, [3, 2], weight=8, threshold=20, reset="zero", beta=1.0) == ([1, 0], [0, 16])
    assert traced(chip, [2], weight=21, threshold=20, reset="zero", beta=1.0) == ([2], [0])
    assert traced(chip, [1], weight=20, threshold=20, reset="zero", beta=1.0) == ([0], [20])


def test_xylo():
    a = chip_of("xylo").arithmetic
    assert (a.high, a.low, a.decay, a.decay_bits, a.fires) == (32767, -32768, "shift", 4, ">=")
    assert (a.most_spikes, a.last_spikes, a.resets, a.latency) == (31, 1, {"immediate"}, 1)
    assert [a.decay_code(beta) for beta in (0.5, 0.75, 0.9, 0.99, 1.0)] == [1, 2, 3, 7, 15]
    assert a.decay_as_run(3, 0.9) == 0.875
    assert (a.synapse, a.input_latency) == (1, 0)
    # threshold 16, shift 3: current 10 - 5 = 5; 15 - 7 = 8; 8 - 4 = 4; 4 - 2 = 2
    # membrane 5; 5 - 1 + 8 = 12; 12 - 1 + 4 = 15; 15 - 1 + 2 = 16, which fires
    spikes = traced(chip_of("xylo"), [1, 1, 0, 0], weight=10, threshold=15, reset="immediate")
    assert spikes == ([0, 0, 0, 1], [5, 12, 15, 0])
    # current -10 + 5 = -5; -5 + 3 = -2; membrane -5; -5 + 1 - 2 = -6
    assert traced(chip_of("xylo"), [1, 0], weight=-10, threshold=15, reset="immediate")[1] == [-5, -6]


def test_tinyodin():
    a = chip_of("tinyodin").arithmetic
    assert (a.high, a.low, a.overflow, a.decay, a.decay_bits) == (2047, -2048, "saturate", "linear", 7)
    assert (a.fires, a.resets, a.by_event, a.latency) == (">=", {"zero"}, True, 0)
    chip = chip_of("tinyodin")
    # threshold 21, leak round(0.1 · 21 / 2) = 1
    assert traced(chip, [1, 1, 1, 1], weight=7, threshold=20, reset="zero") == ([0, 0, 0, 1], [6, 12, 18, 0])
    assert traced(chip, [1, 0, 0], weight=-2, threshold=20, reset="zero")[1] == [-1, 0, 0]
    assert traced(chip, [400], weight=-8, threshold=20, reset="zero")[1] == [-2047]  # -2048, and the leak
    assert traced(chip, [6], weight=7, threshold=20, reset="zero") == ([2], [0])


def test_spinnaker2():
    a = chip_of("spinnaker2").arithmetic
    assert (a.decay, a.fires, a.resets) == ("float", ">", {"zero", "immediate"})
    assert (a.latency, a.input_latency, a.synapse) == (1, 1, None)
    spikes, membranes = traced(chip_of("spinnaker2"), [1, 1, 1], weight=10, threshold=15, reset="immediate")
    assert spikes == [0, 1, 0]
    assert membranes == pytest.approx([10, 4, 13.6], abs=1e-5)
    assert traced(chip_of("spinnaker2"), [1, 1, 1], weight=10, threshold=15, reset="zero") == ([0, 1, 0], [10, 0, 10])


def test_generic():
    chip = chip_of("generic")
    # 640; 575 + 640 = 1215 > 960; 1215 · 3686 >> 12 = 1093, + 640 - 960 = 773
    assert traced(chip, [1, 1, 1], weight=10, threshold=15, reset="subtract") == ([0, 1, 0], [640, 1215, 773])
    # 1215 - 960 = 255; 255 · 3686 >> 12 = 229, + 640 = 869
    assert traced(chip, [1, 1, 1], weight=10, threshold=15, reset="immediate") == ([0, 1, 0], [640, 255, 869])
    narrow = Generic(state_bits=8, shift=0)
    assert traced(narrow, [1, 1], weight=100, threshold=126, reset="zero", beta=1.0) == ([0, 1], [100, 0])
    assert traced(narrow, [1, 1], weight=-100, threshold=126, reset="zero", beta=1.0)[1] == [-100, -128]


@pytest.mark.parametrize("name", CHIPS)
def test_networks_of_a_chip_run_in_its_arithmetic(name):
    chip = chip_of(name)
    run = IntegerSimulator(chip.adapt(whole(name, threshold=3)), chip.arithmetic).run(torch.ones(4, 1, 4))
    assert int(run.outputs.sum()) > 0


def test_what_each_chip_changes_is_said():
    def notes(name, **changes):
        return " | ".join(chip_of(name).notes(whole(name, **changes)))

    assert "layer 'lif0': beta 0.9 runs as 0.875" in notes("xylo")
    assert "a membrane below 8 falls by 1" in notes("xylo")
    assert "up to 31 times in a step" in notes("xylo")
    assert "a half, a quarter" in notes("xylo")
    assert "layer 'lif0': a leak of 1 a step takes the place of beta 0.9" in notes("tinyodin")
    assert "and a spike takes that 1 more" in notes("xylo")
    assert "and a spike takes" not in notes("tinyodin")
    assert "events are taken one by one" in notes("speck")
    assert "1 step later" in notes("loihi")
    assert "beta" not in notes("loihi")
    assert "netx.hdf5.Network('network.net', input_message_bits=8)" in notes("loihi", input_scale=255)
    assert "input_message_bits" not in notes("loihi")
    assert "biases move the membranes" in notes("loihi", bias=1)
    assert "biases" not in notes("loihi")
    assert "slow clock" in notes("speck", bias=1)
    assert "an input x is x events" in notes("tinyodin", input_scale=16)
    wide = notes("loihi", sizes=(4000, 3), weight=127, input_scale=255)
    assert "layer 'fc0': a sum can reach 1,052,130, and beyond 131,071 its current wraps around" in wide
    assert "its membrane saturates" in notes("tinyodin", sizes=(200, 3), input_scale=16)
    assert notes("generic") == ""
    doubled = chip_of("loihi").notes(conv(beta=0.9, weight=-3))
    assert any("layer 'conv': weights, bias and threshold are doubled, to be even" in one for one in doubled)
