"""Every spike, state and count of the simulator against a chip written out neuron by neuron in Python's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import integer_chip_run, integer_nets
from references.integer_nets import convolutional, dense, inputs

from hw_export.integer import Arithmetic, IntegerNetwork, IntegerSimulator
from hw_export.integer import simulator as simulator_module
from hw_export.integer.network import IntegerDense, IntegerLIF
from spikelfp import nn

KERNELS = ("torch", "numba")
CHIPS = {
    "wide": Arithmetic(32, shift=6, resets=frozenset({"zero", "subtract", "immediate"})),
    "24 bits, wrapped current, latency": Arithmetic(24, symmetric=True, current_bits=24, shift=6, latency=1),
    "wrapped current that is hit": Arithmetic(16, symmetric=True, current_bits=10, shift=2),
    "16 bits, shift, many spikes": Arithmetic(
        16, decay="shift", decay_bits=4, resets=frozenset({"immediate"}), most_spikes=31, last_spikes=1
    ),
    "synapse": Arithmetic(
        16,
        decay="shift",
        decay_bits=4,
        fires=">=",
        resets=frozenset({"immediate"}),
        most_spikes=31,
        last_spikes=1,
        synapse=1,
        latency=1,
    ),
    "synapse, narrow, late inputs": Arithmetic(
        8,
        shift=1,
        overflow="wrap",
        symmetric=True,
        lowest=-20,
        resets=frozenset({"zero", "subtract"}),
        synapse=2,
        input_latency=3,
        latency=1,
    ),
    "narrow, saturating": Arithmetic(9, resets=frozenset({"zero", "subtract", "immediate"})),
    "narrow, wrapping": Arithmetic(9, overflow="wrap", resets=frozenset({"zero", "subtract", "immediate"})),
    "symmetric, wrapping": Arithmetic(8, overflow="wrap", symmetric=True, resets=frozenset({"subtract"})),
    "no leak, a floor": Arithmetic(16, decay="none", lowest=-40, fires=">=", resets=frozenset({"immediate", "zero"})),
    "linear": Arithmetic(12, decay="linear", decay_bits=7, fires=">=", latency=2),
    "40 bits": Arithmetic(40, shift=9, decay_bits=15, resets=frozenset({"zero", "subtract"})),
    "float": Arithmetic(32, decay="float", resets=frozenset({"zero", "subtract", "immediate"})),
    "float, >=, latency": Arithmetic(32, decay="float", fires=">=", latency=1, input_latency=1, current_bits=9),
    "by event": Arithmetic(12, decay="linear", decay_bits=7, fires=">=", by_event=True),
    "by event, narrow": Arithmetic(
        8, decay="linear", decay_bits=7, fires=">=", by_event=True, latency=1, input_latency=2
    ),
    "by event, many": Arithmetic(
        10, decay="shift", decay_bits=4, by_event=True, resets=frozenset({"immediate", "zero"}), most_spikes=3
    ),
    "by event, wrapping": Arithmetic(9, overflow="wrap", by_event=True, shift=1),
}


def check(network: IntegerNetwork, a: Arithmetic, x: torch.Tensor, device: str = "cpu") -> dict[str, int]:
    """Compare a run with the chip, sample by sample; returns how often each layer fired."""
    run = IntegerSimulator(network, a, device=device).run(x, aligned=False)
    twins = [integer_chip_run.run(network, a, sample) for sample in x.flatten(2).transpose(0, 1).long().tolist()]
    for name, spikes in run.spikes.items():
        expected = torch.tensor([twin.spikes[name] for twin in twins]).transpose(0, 1)
        assert torch.equal(spikes.cpu().flatten(2).long(), expected), name
        kind = np.float32 if a.decay == "float" else np.int64
        states = torch.from_numpy(np.array([twin.states[name] for twin in twins], kind))
        assert torch.equal(run.states[name].cpu().flatten(1).to(states.dtype), states), name
        if a.synapse is None:
            assert f"{name}.current" not in run.states
        else:
            currents = torch.tensor([twin.currents[name] for twin in twins])
            assert torch.equal(run.states[f"{name}.current"].cpu().flatten(1).long(), currents), name
        assert run.saturated[name] == sum(twin.beyond[name] for twin in twins)
        counts = run.counts.layers[name]
        assert counts.spikes * len(twins) == pytest.approx(expected.sum().item())
        assert counts.synaptic_operations * len(twins) == pytest.approx(sum(t.operations[name] for t in twins))
        assert counts.dense_operations == twins[0].dense[name]
        assert counts.membrane_updates == expected[:, 0].numel()
    return {name: int(spikes.sum(dtype=torch.int64)) for name, spikes in run.spikes.items()}


def nets(a: Arithmetic):
    return [(reset, 1.0 if a.decay == "none" else 0.8) for reset in sorted(a.resets)]


@pytest.fixture(params=KERNELS)
def _kernels(request, monkeypatch):
    monkeypatch.setenv("SPIKELFP_KERNELS", request.param)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("chip", CHIPS)
def test_dense_layers(chip):
    a = CHIPS[chip]
    for reset, beta in nets(a):
        for own in (False, True):
            fired = check(dense(reset, beta, own=own), a, inputs(8, (9,), 3, high=3))
            assert min(fired.values()) > 0


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("chip", CHIPS)
def test_convolutions_and_pools(chip):
    a = CHIPS[chip]
    for reset, beta in nets(a)[:1]:
        for kind in ("sum",) if a.by_event else ("sum", "max"):
            fired = check(convolutional(reset, beta, kind, own=True), a, inputs(5, (2, 7, 6), 2, high=2))
            assert min(fired.values()) > 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_chip(data):
    """Random chips, networks and inputs: torch and the compiled kernels against the twin."""
    draw = data.draw
    by_event = draw(st.booleans())
    decay = draw(st.sampled_from(["multiply", "shift", "linear", "none"] + ([] if by_event else ["float"])))
    resets = ("zero", "immediate") if by_event else ("zero", "immediate", "subtract")
    reset = draw(st.sampled_from(resets))
    synapse = None if by_event or decay == "float" else draw(st.sampled_from([None, 1, 2, 5]))
    a = Arithmetic(
        draw(st.sampled_from([8, 9, 12, 24, 32, 33, 48])),
        overflow=draw(st.sampled_from(["saturate", "wrap"])),
        symmetric=draw(st.booleans()),
        lowest=draw(st.sampled_from([None, -30, -1, 0])),
        current_bits=None if by_event or synapse is not None else draw(st.sampled_from([None, 6, 12, 24])),
        shift=draw(st.integers(0, 3)),
        decay=decay,
        decay_bits=draw(st.integers(1, 15)),
        fires=draw(st.sampled_from([">", ">="])),
        resets=frozenset({reset}),
        most_spikes=1 if decay == "float" else draw(st.sampled_from([1, 2, 5])),
        by_event=by_event,
        latency=draw(st.integers(0, 2)),
        synapse=synapse,
        input_latency=draw(st.integers(0, 2)),
    )
    beta = 1.0 if decay == "none" else draw(st.sampled_from([0.05, 0.5, 0.8, 0.97, 1.0]))
    seed = draw(st.integers(0, 1000))
    x = inputs(draw(st.integers(1, 6)), (9,), draw(st.integers(1, 3)), low=0 if by_event else -2, high=3, seed=seed)
    network = dense(
        reset,
        beta,
        threshold=draw(st.integers(1, 7)),
        largest=draw(st.sampled_from([3, 8])),
        seed=seed,
        own=draw(st.booleans()),
    )
    for kernels in KERNELS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SPIKELFP_KERNELS", kernels)
            check(network, a, x)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("chip", ["wide", "float", "by event", "24 bits, wrapped current, latency", "synapse"])
def test_a_constant_input_is_that_of_all_steps(chip, monkeypatch):
    """However many steps are taken at once."""
    a = CHIPS[chip]
    network = dense(*nets(a)[-1])
    image = inputs(1, (9,), 4, high=3)[0]
    simulator = IntegerSimulator(network, a)
    constant, varying = simulator.run(nn.constant(image, 6)), simulator.run(image.expand(6, -1, -1).contiguous())
    monkeypatch.setattr(simulator_module, "_SUMS", 4 * 11 * 2)
    parts = simulator.run(nn.constant(image, 7)), simulator.run(image.expand(7, -1, -1).contiguous())
    for name, spikes in constant.spikes.items():
        assert torch.equal(spikes, varying.spikes[name])
        assert torch.equal(spikes, parts[0].spikes[name][:6])
    for one, other in ((constant, varying), parts):
        assert one.counts == other.counts
        assert all(torch.equal(state, other.states[name]) for name, state in one.states.items())
    assert torch.equal(parts[0].outputs, parts[1].outputs)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("chip", CHIPS)
def test_a_sequence_in_chunks(chip):
    a = CHIPS[chip]
    for reset, beta in nets(a):
        simulator = IntegerSimulator(dense(reset, beta), a)
        x = inputs(9, (9,), 3, high=3)
        whole = simulator.run(x)
        parts, states, saturated = [], None, 0
        for part in (x[:4], x[4:5], x[5:]):
            run = simulator.run(part, states)
            parts.append(run)
            states = run.states
            saturated += sum(run.saturated.values())
        for name, spikes in whole.spikes.items():
            assert torch.equal(spikes, torch.cat([run.spikes[name] for run in parts]))
        assert whole.states.keys() == states.keys()
        assert all(torch.equal(state, states[name]) for name, state in whole.states.items())
        assert sum(whole.saturated.values()) == saturated


@pytest.mark.parametrize("chip", ["wide", "float", "by event, many", "synapse"])
def test_threads_share_the_samples(chip, monkeypatch):
    """Wide layers, many samples and two threads: the compiled kernels against those of torch."""
    a = CHIPS[chip]
    g = torch.Generator().manual_seed(3)
    layers = (
        IntegerDense("w0", integer_nets.weights(150, 40, largest=9, generator=g), integer_nets.biases(150, g)),
        IntegerLIF("n0", 0.9, torch.tensor(30), "immediate"),
        IntegerDense("w1", integer_nets.weights(70, 150, largest=9, generator=g), integer_nets.biases(70, g)),
        IntegerLIF("n1", 0.9, torch.tensor(50), "immediate"),
    )
    network = IntegerNetwork(layers, 8, 1, (40,), ((150,), (150,), (70,), (70,)))
    x = inputs(4, (40,), 300)
    runs = []
    for kernels, threads in (("torch", 1), ("numba", 2)):
        monkeypatch.setenv("SPIKELFP_KERNELS", kernels)
        torch.set_num_threads(threads)
        runs.append(IntegerSimulator(network, a).run(x))
    assert runs[0].counts == runs[1].counts
    assert runs[0].saturated == runs[1].saturated
    for name, spikes in runs[0].spikes.items():
        assert torch.equal(spikes, runs[1].spikes[name])
        assert torch.equal(runs[0].states[name], runs[1].states[name])


@pytest.mark.gpu
@pytest.mark.parametrize("chip", CHIPS)
def test_on_a_gpu(chip):
    a = CHIPS[chip]
    for reset, beta in nets(a):
        check(dense(reset, beta), a, inputs(8, (9,), 3, high=3), "cuda")
        check(convolutional(reset, beta, "sum"), a, inputs(5, (2, 7, 6), 2, high=2), "cuda")
