"""The simulator as it is used: what it takes, what it refuses, weights written while it lives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from export_nets import convolutional, dense, pixels
from references import integer_chip_run, integer_nets

from hw_export import quantize
from hw_export.integer import GENERIC, Arithmetic, IntegerNetwork, IntegerSimulator
from hw_export.targets import TARGETS, Chip
from spikelfp import nn
from spikelfp.errors import ShapeError, UserError

EVERY_RESET = frozenset({"zero", "subtract", "immediate"})
FLOAT = Arithmetic(32, decay="float", resets=EVERY_RESET)


@pytest.mark.parametrize("reset", ["zero", "subtract", "immediate"])
@pytest.mark.parametrize("make", [dense, convolutional])
def test_with_a_float_decay_it_is_the_quantised_network(reset, make):
    """The same whole thresholds, the same order of rounding: the same spikes, ties and all."""
    net, shape = make(reset), (24,) if make is dense else (1, 10, 10)
    quantised = quantize(net, 8, input_scale=16, tie_margin=0)
    x = nn.constant(pixels(*shape) * 16, 20)
    with torch.no_grad():
        expected = quantised(x)
    run = IntegerSimulator(quantised, FLOAT, input_shape=shape).run(x)
    assert torch.equal(run.outputs.float(), expected)
    assert all(spikes.any() for spikes in run.spikes.values())
    assert set(run.spikes) == {name for name, layer in quantised.named_children() if isinstance(layer, nn.LIF)}


def summing() -> nn.Sequential:
    """The convolutional network with its first pooling as a sum."""
    net = convolutional("zero")
    net[1] = nn.AvgPool2d(2, divisor_override=1)
    net[2] = nn.LIF(0.9, 0.8)
    return net


def test_pooling_that_sums_stays_a_sum():
    quantised = quantize(summing(), 8, input_scale=16, tie_margin=0)
    x = nn.constant(pixels(1, 10, 10) * 16, 20)
    with torch.no_grad():
        expected = quantised(x)
    network = IntegerNetwork.of(quantised, (1, 10, 10))
    whole = {report.neurons: report.threshold for report in quantised.report}
    assert {n.name: int(n.threshold) for n in network.neurons} == {**whole, "9": 4 * whole["9"]}
    run = IntegerSimulator(quantised, FLOAT, input_shape=(1, 10, 10)).run(x)
    assert torch.equal(run.outputs.float(), expected)
    assert all(spikes.any() for spikes in run.spikes.values())


def test_the_generic_arithmetic_hardly_rounds():
    quantised = quantize(dense("subtract"), 8, input_scale=16)
    x = nn.constant(pixels(24, count=64) * 16, 20)
    with torch.no_grad():
        expected = quantised(x)
    found = IntegerSimulator(quantised).run(x).outputs
    assert (found.float() != expected).float().mean() < 0.01


def test_three_ways_to_a_simulator():
    net, x = dense("zero"), nn.constant(pixels(24) * 16, 10)
    quantised = quantize(net, 6, input_scale=16)
    whole = IntegerNetwork.of(quantised)
    runs = [
        IntegerSimulator(net, bits=6, input_scale=16).run(x),
        IntegerSimulator(quantised, GENERIC).run(x),
        IntegerSimulator(whole, target=GENERIC).run(x),
    ]
    for run in runs[1:]:
        assert run.counts == runs[0].counts
        assert all(torch.equal(spikes, runs[0].spikes[name]) for name, spikes in run.spikes.items())


def test_whatever_has_an_arithmetic_is_a_target():
    class Chip:
        arithmetic = FLOAT

    assert IntegerSimulator(integer_nets.dense("zero", 0.9), target=Chip()).arithmetic is FLOAT
    for wrong in (object(), "nir"):
        with pytest.raises(UserError, match="arithmetic"):
            IntegerSimulator(integer_nets.dense("zero", 0.9), target=wrong)
    with pytest.raises(UserError, match="not both"):
        IntegerSimulator(integer_nets.dense("zero", 0.9), FLOAT, target=FLOAT)


@pytest.mark.parametrize("name", [name for name in TARGETS if issubclass(TARGETS[name], Chip)])
def test_a_named_chip_runs_the_network_in_its_own_terms(name):
    chip = TARGETS[name]()
    network = integer_nets.dense(min(chip.arithmetic.resets), 1.0 if chip.arithmetic.decay == "none" else 0.8)
    x = integer_nets.inputs(8, (9,), 3)
    run = IntegerSimulator(network, target=name).run(x)
    for other in (TARGETS[name], chip):
        assert torch.equal(IntegerSimulator(network, target=other).run(x).outputs, run.outputs)
    adapted = chip.adapt(network)
    assert run.spikes.keys() == {layer.name for layer in adapted.neurons}
    for b in range(3):
        twin = integer_chip_run.run(adapted, chip.arithmetic, x[:, b].long().tolist())
        for k, (layer, spikes) in enumerate(run.spikes.items()):
            assert spikes[:, b].tolist() == twin.spikes[layer][-len(x) :]
            assert len(twin.spikes[layer]) == len(x) + chip.arithmetic.input_latency + k * chip.arithmetic.latency
            assert spikes.any()


def test_options_for_what_is_quantised_already():
    with pytest.raises(UserError, match="input_scale comes too late"):
        IntegerSimulator(quantize(dense("zero"), 8), input_scale=16)
    with pytest.raises(UserError, match="bits comes too late"):
        IntegerSimulator(quantize(dense("zero"), 8), bits=4)


def test_classes_are_the_first_that_fire_most():
    """A network that hands its inputs through: the counts of its outputs are known."""
    network = integer_nets.dense("zero", 1.0)
    eye = {"w0": (11, 9), "w1": (6, 11), "w2": (3, 6)}
    parameters = {f"{name}.weight": 100 * torch.eye(*shape, dtype=torch.int32) for name, shape in eye.items()}
    parameters |= {f"{name}.bias": torch.zeros(shape[0], dtype=torch.int64) for name, shape in eye.items()}
    simulator = IntegerSimulator(network.with_parameters(parameters))
    x = torch.zeros(4, 4, 9)
    x[:2, 0, 1] = x[0, 1, 2] = x[1, 1, 1] = x[:3, 2, 2] = x[:2, 2, 0] = 1
    run = simulator.run(x)
    assert run.outputs.sum(0).tolist() == [[0, 2, 0], [0, 1, 1], [2, 0, 3], [0, 0, 0]]
    assert simulator.classify(x).tolist() == run.classes.tolist() == [1, 1, 2, 0]


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int64, torch.float16, torch.float64]
)
def test_inputs_of_any_dtype(dtype):
    simulator, x = IntegerSimulator(integer_nets.dense("zero", 0.9)), integer_nets.inputs(6, (9,), 2)
    assert torch.equal(simulator.run(x.to(dtype)).outputs, simulator.run(x).outputs)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.full((3, 2, 9), 0.5), "fractions, like 0.5"),
        (torch.full((3, 2, 9), float("nan")), "NaN"),
        (torch.full((3, 2, 9), float("-inf")), "NaN or infinite"),
        (torch.full((3, 2, 9), 2.0**24), "too large"),
        (torch.zeros(3, 2, 8), "8 numbers instead of 9"),
        (torch.zeros(0, 2, 9), "at least one step"),
        (torch.zeros(3, 0, 9), "one sample"),
        (torch.zeros(9), r"\[T, B"),
        (torch.zeros(3, 2, 9, dtype=torch.complex64), "complex"),
    ],
)
def test_inputs_that_are_refused(x, message):
    with pytest.raises(UserError, match=message):
        IntegerSimulator(integer_nets.dense("zero", 0.9)).run(x)


def test_a_chip_by_event_refuses_what_is_no_event():
    a = Arithmetic(12, by_event=True)
    with pytest.raises(UserError, match="-1 cannot be"):
        IntegerSimulator(integer_nets.dense("zero", 0.9), a).run(-torch.ones(2, 1, 9))
    with pytest.raises(UserError, match="'p0' takes the largest"):
        IntegerSimulator(integer_nets.convolutional("zero", 0.9, "max"), a).run(torch.zeros(2, 1, 2, 7, 6))


@pytest.mark.parametrize(
    ("a", "network", "message"),
    [
        (Arithmetic(24), integer_nets.dense("subtract", 0.9), "'n0' reset by 'subtract'"),
        (Arithmetic(24, decay="none"), integer_nets.dense("zero", 0.9), "'n0': these neurons do not leak"),
        (Arithmetic(8, shift=4), integer_nets.dense("zero", 0.9, threshold=8), "'n0' can never fire"),
        (Arithmetic(12), integer_nets.dense("zero", 0.9, threshold=0), "'n0' have a threshold of 0"),
    ],
)
def test_chips_that_cannot_be_the_neurons(a, network, message):
    with pytest.raises(UserError, match=message):
        IntegerSimulator(network, a)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state_bits": 64}, "state_bits must be a whole number from 2 to 48, got 64"),
        ({"state_bits": 24, "decay": "halve"}, "unknown decay 'halve'"),
        ({"state_bits": 24, "fires": "<"}, "unknown comparison"),
        ({"state_bits": 24, "decay": "float", "most_spikes": 2}, "compared one time a step"),
        ({"state_bits": 24, "synapse": 0}, "synapse must be a whole number from 1 to 15, got 0"),
        ({"state_bits": 24, "synapse": 1, "decay": "float"}, "no float decay"),
        ({"state_bits": 24, "synapse": 1, "by_event": True}, "no by_event"),
        ({"state_bits": 24, "synapse": 1, "current_bits": 24}, "no current_bits"),
        ({"state_bits": 24, "input_latency": -1}, "input_latency must be a whole number from 0 to 1000, got -1"),
        ({"state_bits": 24, "by_event": True, "current_bits": 24}, "no current to wrap"),
        ({"state_bits": 24, "by_event": True, "resets": frozenset({"subtract"})}, "no step to subtract in"),
    ],
)
def test_arithmetic_that_makes_no_sense(options, message):
    with pytest.raises(UserError, match=message):
        Arithmetic(**options)


def test_states_of_another_run_are_refused():
    simulator = IntegerSimulator(integer_nets.dense("zero", 0.9))
    x = integer_nets.inputs(4, (9,), 2)
    states = simulator.run(x).states
    with pytest.raises(ShapeError, match=r"'n0' must be torch.int32 \(1, 11\)"):
        simulator.run(x[:, :1], states)
    with pytest.raises(UserError, match="none of the neurons 'n2'"):
        simulator.run(x, {name: state for name, state in states.items() if name != "n2"})
    with pytest.raises(ShapeError, match=r"torch\.float32"):
        simulator.run(x, {name: state.float() for name, state in states.items()})


@pytest.mark.parametrize("kernels", ["torch", "numba"])
@pytest.mark.parametrize("a", [GENERIC, Arithmetic(16, synapse=1)])
def test_states_given_are_left_alone(monkeypatch, kernels, a):
    monkeypatch.setenv("SPIKELFP_KERNELS", kernels)
    simulator = IntegerSimulator(integer_nets.dense("zero", 0.9), a)
    x = integer_nets.inputs(4, (9,), 2)
    states = simulator.run(x).states
    before = {name: state.clone() for name, state in states.items()}
    simulator.run(x, states)
    assert all(torch.equal(state, before[name]) for name, state in states.items())


@pytest.mark.parametrize("kernels", ["torch", "numba"])
@pytest.mark.parametrize("a", [GENERIC, Arithmetic(12, by_event=True)])
@pytest.mark.parametrize("make", [integer_nets.dense, lambda *p: integer_nets.convolutional(*p, "sum")])
def test_weights_written_are_those_of_a_network_that_has_them(monkeypatch, kernels, a, make):
    monkeypatch.setenv("SPIKELFP_KERNELS", kernels)
    network = make("zero", 0.9)
    x = integer_nets.inputs(6, network.input_shape, 3, high=2)
    live = IntegerSimulator(network, a)
    held = {name: value.clone() for name, value in network.parameters().items()}
    random = np.random.default_rng(0)
    live.run(x)
    for _ in range(3):
        for name, value in live.parameters().items():
            indices = random.permutation(value.size)[: max(1, value.size // 5)].astype(np.int64)
            live.write(name, indices, random.integers(-9, 10, len(indices)).astype(np.int32))
        now = live.parameters()
        assert {name: value.dtype for name, value in now.items()} == {
            name: np.dtype(np.int32 if name.endswith("weight") else np.int64) for name in held
        }
        fresh = IntegerSimulator(network.with_parameters({n: torch.from_numpy(v) for n, v in now.items()}), a)
        found, expected = live.run(x), fresh.run(x)
        assert found.counts == expected.counts
        for name, spikes in found.spikes.items():
            assert torch.equal(spikes, expected.spikes[name])
    assert all(torch.equal(value, held[name]) for name, value in network.parameters().items())


@pytest.mark.parametrize(
    ("name", "indices", "values", "message"),
    [
        ("w7.weight", [0], [1], "unknown parameter 'w7.weight'"),
        ("w0.scale", [0], [1], "unknown parameter 'w0.scale'"),
        ("n0.weight", [0], [1], "unknown parameter"),
        ("w0.weight", [99], [1], "0 to 98, there is no index 99"),
        ("w0.weight", [-1], [1], "no index -1"),
        ("w0.weight", [0, 1], [1], "2.* indices for .*1.* values"),
        ("w0.weight", [0], [128], "from -128 to 127, got 128"),
        ("w0.weight", [3, 3], [1, 2], "twice"),
        ("w0.bias", [0], [2**31], "from -2147483648 to 2147483647"),
        ("w0.weight", [0.0], [1], "indices must be whole numbers"),
        ("w0.weight", [0], [1.5], "values must be whole numbers"),
    ],
)
def test_writes_that_are_refused_change_nothing(name, indices, values, message):
    simulator = IntegerSimulator(integer_nets.dense("zero", 0.9))
    before = simulator.parameters()
    with pytest.raises(UserError, match=message):
        simulator.write(name, np.array(indices), np.array(values))
    assert all(np.array_equal(value, before[own]) for own, value in simulator.parameters().items())


def test_no_updates_are_updates():
    simulator = IntegerSimulator(integer_nets.dense("zero", 0.9))
    simulator.write("w0.weight", np.empty(0, np.int64), np.empty(0, np.int32))


def test_a_synapse_has_a_state_of_its_own():
    simulator = IntegerSimulator(integer_nets.dense("zero", 0.9), Arithmetic(16, synapse=1))
    x = integer_nets.inputs(4, (9,), 2)
    states = simulator.run(x).states
    assert list(states) == ["n0", "n0.current", "n1", "n1.current", "n2", "n2.current"]
    assert states["n0.current"].any()
    with pytest.raises(UserError, match=r"none of the neurons 'n1\.current'"):
        simulator.run(x, {name: state for name, state in states.items() if name != "n1.current"})
    plain = IntegerSimulator(integer_nets.dense("zero", 0.9), Arithmetic(16)).run(x)
    with pytest.raises(UserError, match=r"none of the neurons 'n0\.current'"):
        simulator.run(x, plain.states)


def test_a_state_too_narrow_is_seen():
    x = integer_nets.inputs(8, (9,), 3, high=3)
    network = integer_nets.dense("zero", 0.9, threshold=100, largest=60)
    assert sum(IntegerSimulator(network, Arithmetic(16)).run(x).saturated.values()) == 0
    assert IntegerSimulator(network, Arithmetic(8)).run(x).saturated["n0"] > 0
