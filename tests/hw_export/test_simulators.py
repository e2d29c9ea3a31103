"""Simulators give our spikes, all of them, leave the program as it was, and are imported only to run."""

from __future__ import annotations

import importlib.util
import logging
import math
import subprocess
import sys
from typing import get_args

import nir
import numpy as np
import pytest
import torch
from export_nets import BATCH, STEPS, bernoulli, convolutional, dense, pixels, tie

from hw_export import quantize, to_nir, verify
from hw_export.nir import read_chain
from hw_export.simulators import SIMULATORS, NotInstalledError, Simulator, UnsupportedError
from hw_export.simulators.base import Watch, dense_layers
from spikelfp import nn
from spikelfp.analysis import record
from spikelfp.errors import ShapeError
from spikelfp.functional.lif import Reset, lif_scan

CASES = [(name, reset) for name in SIMULATORS for reset in sorted(SIMULATORS[name].resets)]


@pytest.fixture(params=CASES, ids=["-".join(case) for case in CASES])
def case(request) -> tuple[str, str]:
    """A simulator that is installed, and a reset that it can run."""
    if not SIMULATORS[request.param[0]].available():
        pytest.skip(f"{request.param[0]} is not installed")
    return request.param


def one_reset(simulator: str) -> str:
    """A reset that ``simulator`` can run."""
    return sorted(SIMULATORS[simulator].resets)[-1]


def assert_identical(net, path, x, simulator: str) -> None:
    """All layers fire, not all the time, and ``simulator`` agrees at every neuron and step."""
    (result,) = verify(net, path, x, [simulator])
    assert result.status == "identical", result
    neurons = [layer for layer in net.modules() if isinstance(layer, nn.LIF)]
    assert len(result.layers) == len(neurons)
    for layer in result.layers:
        assert layer.differences == 0
        assert 0 < layer.spikes < layer.compared
        assert layer.compared % (x.shape[0] * x.shape[1]) == 0


def test_spikes_driven_by_spikes(tmp_path, case):
    simulator, reset = case
    net = dense(reset)
    to_nir(net, tmp_path / "network.nir")
    assert_identical(net, tmp_path / "network.nir", bernoulli(24), simulator)


def test_spikes_driven_by_currents(tmp_path, case):
    simulator, reset = case
    net = dense(reset, seed=2)
    to_nir(net, tmp_path / "network.nir")
    assert_identical(net, tmp_path / "network.nir", nn.constant(pixels(24), STEPS), simulator)


def test_three_layers(tmp_path, case):
    simulator, reset = case
    net = dense(reset, sizes=(24, 20, 16, 8))
    to_nir(net, tmp_path / "network.nir")
    assert_identical(net, tmp_path / "network.nir", bernoulli(24), simulator)


def test_exact_ties_do_not_fire(tmp_path, case):
    simulator, reset = case
    net = tie(reset)
    x = bernoulli(64)
    to_nir(net, tmp_path / "network.nir")
    current = net[1](x)
    membrane = lif_scan(current, torch.zeros_like(current[0]), net[2].constants).membrane
    assert (membrane == net[2].threshold).sum() > 5, "without ties this would test nothing"
    assert_identical(net, tmp_path / "network.nir", x, simulator)


INTEGERS = [(3, 0.9), (5, math.exp(-0.1)), (8, 0.6)]
INTEGER_CASES = [
    (name, resets[turn % len(resets)], *INTEGERS[(place + turn) % len(INTEGERS)])
    for place, name in enumerate(SIMULATORS)
    for resets in [sorted(SIMULATORS[name].resets)]
    for turn in range(len(INTEGERS))
]
"""Every simulator with every reset that it has and with all bits, every reset with all bits: a Latin square."""


@pytest.mark.parametrize(("simulator", "reset", "bits", "beta"), INTEGER_CASES)
def test_integer_networks(tmp_path, simulator, reset, bits, beta):
    if not SIMULATORS[simulator].available():
        pytest.skip(f"{simulator} is not installed")
    net = quantize(dense(reset, beta), bits, input_scale=16)
    assert all(layer.exact for layer in net.report)
    to_nir(net, tmp_path / "network.nir")
    assert_identical(net, tmp_path / "network.nir", nn.constant(pixels(24, count=20) * 16, STEPS), simulator)


def test_convolutions(tmp_path, case):
    simulator, reset = case
    net = convolutional(reset).eval()
    to_nir(net, tmp_path / "network.nir", input_shape=(1, 8, 8))
    assert_identical(net, tmp_path / "network.nir", bernoulli(1, 8, 8), simulator)


def test_integer_convolutions(tmp_path, case):
    simulator, reset = case
    net = quantize(convolutional(reset), 6, input_scale=16)
    assert all(layer.exact for layer in net.report)
    to_nir(net, tmp_path / "network.nir", input_shape=(1, 8, 8))
    assert_identical(net, tmp_path / "network.nir", nn.constant(pixels(1, 8, 8) * 16, STEPS), simulator)


def test_one_sample_one_step(tmp_path, simulator):
    net = dense(one_reset(simulator))
    to_nir(net, tmp_path / "network.nir")
    (result,) = verify(net, tmp_path / "network.nir", bernoulli(24)[:1, :1], [simulator])
    assert result.status == "identical"


def test_the_std_dialect_where_the_resistance_is_honoured(tmp_path, simulator):
    net = dense(one_reset(simulator))
    to_nir(net, tmp_path / "network.nir", "std")
    if simulator != "norse":
        assert_identical(net, tmp_path / "network.nir", bernoulli(24), simulator)
        return
    (result,) = verify(net, tmp_path / "network.nir", bernoulli(24), [simulator])
    assert result.status == "unsupported"
    assert "norse ignores r" in result.reason


@pytest.mark.filterwarnings("ignore:nirtorch.load:DeprecationWarning")
@pytest.mark.parametrize("name", ["snntorch", "norse"])
def test_reset_to_zero_needs_no_adapter(tmp_path, name):
    """The importers as they are, driven as their documentation says: no part of our adapters."""
    pytest.importorskip(name)
    net, x = dense("zero"), bernoulli(24)
    to_nir(net, tmp_path / "network.nir")
    graph = nir.read(tmp_path / "network.nir")
    if name == "snntorch":
        from snntorch.import_nir import import_from_nir

        imported = import_from_nir(graph)
    else:
        import norse.torch

        imported = norse.torch.from_nir(graph, dt=1e-4)
    state, outputs = None, []
    with torch.no_grad():
        for step in x:
            spikes, state = imported(step, state)
            outputs.append(spikes)
    assert torch.equal(torch.stack(outputs), net(x))


def test_running_twice_gives_the_same(tmp_path, simulator):
    to_nir(dense(one_reset(simulator)), tmp_path / "network.nir")
    first, second = (SIMULATORS[simulator].run(tmp_path / "network.nir", bernoulli(24)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(spikes.dtype == torch.bool for spikes in first.values())


def test_simulators_are_silent_and_leave_no_traces(tmp_path, simulator, capfd):
    to_nir(dense(one_reset(simulator)), tmp_path / "network.nir")
    SIMULATORS[simulator].run(tmp_path / "network.nir", bernoulli(24))  # whatever an import does, once
    hook, level = sys.excepthook, logging.root.manager.disable
    threads, state, numpys = torch.get_num_threads(), torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    instances = len(__import__("snntorch").SpikingNeuron.instances)
    capfd.readouterr()
    SIMULATORS[simulator].run(tmp_path / "network.nir", bernoulli(24))
    assert capfd.readouterr() == ("", "")
    assert sys.excepthook is hook
    assert "brian" not in getattr(hook, "__module__", "")
    assert logging.root.manager.disable == level
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpys)  # noqa: NPY002
    assert len(__import__("snntorch").SpikingNeuron.instances) == instances
    if simulator == "brian2":
        assert __import__("brian2").prefs.codegen.target == "auto"


def test_a_simulator_that_is_not_there_is_not_run(tmp_path, monkeypatch, simulator):
    to_nir(dense("zero"), tmp_path / "network.nir")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not SIMULATORS[simulator].available()
    with pytest.raises(NotInstalledError, match=f"^{simulator} is not installed: pip install .*{simulator}"):
        SIMULATORS[simulator].run(tmp_path / "network.nir", bernoulli(24))


def test_a_reset_it_cannot_do_is_unsupported(tmp_path):
    class Zero(Simulator):
        package, module, resets = "torch", "torch", frozenset({"zero"})

        def spikes(self, chain, inputs):
            raise AssertionError("must not be asked")

    to_nir(dense("subtract"), tmp_path / "network.nir")
    with pytest.raises(UnsupportedError, match="cannot reset by 'subtract'"):
        Zero().run(tmp_path / "network.nir", bernoulli(24))


@pytest.mark.parametrize(("name", "reset"), [("snntorch", "immediate"), ("rockpool", "zero")])
def test_resets_that_a_simulator_does_not_have_are_named(tmp_path, name, reset, monkeypatch):
    monkeypatch.setattr(type(SIMULATORS[name]), "version", lambda self: "1")
    to_nir(dense(reset), tmp_path / "network.nir")
    reason = SIMULATORS[name].cannot[reset]
    with pytest.raises(UnsupportedError, match=f"{name} cannot reset by '{reset}' .*: {reason}"):
        SIMULATORS[name].run(tmp_path / "network.nir", bernoulli(24))


def test_every_reset_is_run_by_several():
    runs = {reset: [name for name in SIMULATORS if reset in SIMULATORS[name].resets] for reset in get_args(Reset)}
    assert {reset: len(names) for reset, names in runs.items()} == {"zero": 7, "subtract": 8, "immediate": 7}


@pytest.mark.parametrize("name", ["nest", "rockpool"])
def test_neurons_that_keep_nothing_do_not_decay_exponentially(tmp_path, name, monkeypatch):
    monkeypatch.setattr(type(SIMULATORS[name]), "version", lambda self: "1")
    graph = to_nir(dense(one_reset(name)), None)
    graph.nodes["layer_4_lif"].tau[3] = 1e-4  # τ = dt, so that β = 0
    nir.write(tmp_path / "network.nir", graph)
    with pytest.raises(UnsupportedError, match="between 0 and 1, neurons 'layer_4_lif' have 0"):
        SIMULATORS[name].run(tmp_path / "network.nir", bernoulli(24))


def test_inputs_of_another_size_are_refused(tmp_path, simulator):
    to_nir(dense(one_reset(simulator)), tmp_path / "network.nir")
    with pytest.raises(ShapeError, match=r"takes inputs of \(24,\), got \(23,\)"):
        SIMULATORS[simulator].run(tmp_path / "network.nir", torch.zeros(STEPS, BATCH, 23))


def test_the_matrices_of_a_convolutional_file_are_its_layers(tmp_path):
    net = convolutional("zero").double().eval()
    to_nir(net, tmp_path / "network.nir", input_shape=(1, 8, 8))
    x = torch.rand(1, 3, 1, 8, 8, dtype=torch.float64)
    first = dense_layers(read_chain(tmp_path / "network.nir"))[0]
    expected = net[1](net[0](x)).flatten(2)[0] * 4  # the pool is a sum in the file
    assert torch.allclose(x.flatten(2)[0] @ torch.from_numpy(first.weight).T + torch.from_numpy(first.bias), expected)
    assert first.threshold == pytest.approx(0.8)


def test_a_matrix_that_would_be_too_large_is_unsupported(tmp_path, monkeypatch):
    monkeypatch.setattr("hw_export.simulators.base.LARGEST", 1000)
    to_nir(dense("zero"), tmp_path / "network.nir")
    assert len(dense_layers(read_chain(tmp_path / "network.nir"))) == 2
    to_nir(convolutional("zero"), tmp_path / "conv.nir", input_shape=(1, 8, 8))
    with pytest.raises(UnsupportedError, match="too large"):
        dense_layers(read_chain(tmp_path / "conv.nir"))


def test_a_watch_keeps_every_call():
    net = torch.nn.Sequential(torch.nn.Identity())
    watch = Watch({"first": net[0]})
    for value in (1.0, 2.0):
        net(torch.tensor([value]))
    assert watch.stacked()["first"].tolist() == [[1.0], [2.0]]
    net(torch.tensor([3.0]))
    assert record(nn.Sequential(nn.LIF()), torch.zeros(2, 1, 1)).keys() == {"0"}


def test_importing_the_adapters_imports_no_simulator():
    """Beyond those that training itself needs."""
    modules = {SIMULATORS[name].module for name in SIMULATORS} | {"nirtorch", "samna"}
    program = (
        "import sys, spikelfp.training; before = set(sys.modules); import hw_export.simulators as s; "
        "[s.SIMULATORS[name].version() for name in s.SIMULATORS]; "
        f"print(*sorted(set({sorted(modules)!r}) & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_each_names_what_pip_installs():
    for name in SIMULATORS:
        command = SIMULATORS[name].install or SIMULATORS[name].package
        assert SIMULATORS[name].package in command.replace('"', " ").replace("==", " ").split()
