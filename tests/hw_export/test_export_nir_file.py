"""NIR files: what stands in them, and that they come back as they were."""

from __future__ import annotations

import os

import nir
import numpy as np
import pytest
import torch
from export_nets import bernoulli, convolutional, dense

from hw_export import from_nir, quantize, to_nir
from hw_export.nir import DIALECTS, read_chain
from spikelfp import models, nn
from spikelfp.analysis import record
from spikelfp.errors import DataError, SaveError, ShapeError, UnknownNameError, UserError


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_a_dense_network_comes_back(tmp_path, reset, dialect):
    net = dense(reset)
    to_nir(net, tmp_path / "network.nir", dialect)
    back = from_nir(tmp_path / "network.nir")
    x = bernoulli(24)
    before, after = record(net, x), record(back, x)
    assert list(after) == ["layer_2_lif", "layer_4_lif"]
    assert all(spikes.sum() > 0 for spikes in before.values())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), after.values(), strict=True))


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_a_convolutional_network_comes_back(tmp_path, reset, dialect):
    net = convolutional(reset)
    to_nir(net, tmp_path / "network.nir", dialect, input_shape=(1, 8, 8))
    back = from_nir(tmp_path / "network.nir")
    x = bernoulli(1, 8, 8)
    before, after = record(net, x), record(back, x)
    assert all(spikes.sum() > 0 for spikes in before.values())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), after.values(), strict=True))


def test_metadata_and_parameters_are_all_there(tmp_path):
    net = models.lif_mlp([5, 4, 3], beta=0.7, threshold=0.6, reset="subtract")
    to_nir(quantize(net, 8, input_scale=255), tmp_path / "network.nir")
    chain = read_chain(tmp_path / "network.nir")
    assert dict(chain.metadata) == {
        "dialect": "default", "dt": 1e-4, "threshold_op": ">", "beta": 0.7, "reset": "subtract", "bits": 8,
        "input_scale": 255,
    }  # fmt: skip
    assert [name for name, _ in chain.nodes] == ["layer_1_linear", "layer_2_lif", "layer_3_linear", "layer_4_lif"]
    assert chain.input_shape == (5,)
    for neuron, name, count in zip(chain.neurons, ("2", "4"), (4, 3), strict=True):
        node = chain.graph.nodes[neuron.name]
        assert neuron.layer == name
        assert neuron.reset == "subtract"
        assert node.metadata["dt"] == 1e-4
        assert node.metadata["beta"] == 0.7
        for parameter in (node.tau, node.r, node.v_leak, node.v_threshold, node.v_reset):
            assert parameter.shape == (count,)
            assert parameter.dtype == np.float64
        assert np.allclose(neuron.beta, 0.7, rtol=1e-15)
        assert np.allclose(neuron.threshold, node.metadata["threshold"], rtol=1e-15)
    assert np.array_equal(chain.graph.nodes["layer_1_linear"].weight % 1, np.zeros((4, 5))), "integers stay integers"


def test_the_continuous_equation_gives_the_same_spikes(tmp_path):
    """An Euler integration written from NIR's equation alone, reset to v_reset at the step of the spike."""
    net = dense("zero")
    to_nir(net, tmp_path / "network.nir")
    chain = read_chain(tmp_path / "network.nir")
    x = bernoulli(24)
    drive = x.double().numpy()
    for (_, affine), (_, lif) in zip(chain.nodes[::2], chain.nodes[1::2], strict=True):
        v, spikes = np.zeros(lif.tau.shape), []
        for current in drive @ affine.weight.T + affine.bias:
            v = v + 1e-4 / lif.tau * (lif.v_leak - v + lif.r * current)
            spikes.append(v > lif.v_threshold)
            v = np.where(spikes[-1], lif.v_reset, v)
        drive = np.array(spikes, dtype=float)
    assert drive.sum() > 0
    assert np.array_equal(drive, net(x).detach().numpy())


def test_names_are_legal_and_in_order():
    torch.manual_seed(0)
    layers: list = [("fc-in", nn.Linear(3, 3)), ("LIF", nn.LIF())]
    layers += [(f"x{i}", nn.Sequential(nn.Linear(3, 3), nn.LIF())) for i in range(5)]
    net = nn.Sequential()
    for name, layer in layers:
        net.add_module(name, layer)
    names = list(to_nir(net, None).nodes)
    assert names[:4] == ["input", "layer_00_fc_in", "layer_01_LIF", "layer_02_x0_0"]
    assert names == sorted(names)
    assert all(name.isidentifier() for name in names)


def test_a_missing_bias_is_written_as_zeros():
    graph = to_nir(nn.Sequential(nn.Linear(3, 2, bias=False), nn.LIF()), None)
    assert isinstance(graph.nodes["layer_0_linear"], nir.Affine)
    assert np.array_equal(graph.nodes["layer_0_linear"].bias, [0, 0])


def chain_of(*layers: torch.nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Flatten(), nn.LIF())


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (chain_of(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)), "layer '1' is a MaxPool2d.*--pool avg"),
        (models.mlp([4, 3, 2]), "layer '2' is a ReLU"),
        (models.lif_mlp([4, 3], beta=1.0), "neurons '2' do not leak"),
        (nn.Sequential(nn.Flatten()), "no layer"),
        (nn.Linear(4, 3), "Linear is no Sequential"),
        (chain_of(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")), "layer '0' pads with 'circular'"),
        (
            chain_of(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2, padding=1, count_include_pad=False)),
            "layer '1' leaves the border out of its averages",
        ),
        (chain_of(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2, ceil_mode=True)), "layer '1' pools windows that reach beyond"),
        (chain_of(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2, divisor_override=3)), "layer '1' divides its sums by 3"),
        (nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3), nn.LIF()), "layer '1' does not take an input of"),
    ],
)
def test_what_nir_cannot_say_is_refused_by_name(net, text):
    channels = net[0].in_channels if isinstance(getattr(net, "__getitem__", None) and net[0], nn.Conv2d) else 1
    shape = (channels, 8, 8) if channels and any(isinstance(m, nn.Conv2d) for m in net.modules()) else None
    with pytest.raises(UserError, match=text):
        to_nir(net, None, input_shape=shape)


def test_weights_that_are_not_finite_are_refused():
    net = dense("zero")
    with torch.no_grad():
        net[3].weight[0, 0] = float("nan")
    with pytest.raises(UserError, match="layer '3' has weights that are not finite"):
        to_nir(net, None)


def test_the_shape_of_inputs_is_asked_for_and_checked():
    with pytest.raises(UserError, match="pass input_shape"):
        to_nir(convolutional("zero"), None)
    with pytest.raises(ShapeError, match="takes 24 inputs"):
        to_nir(dense("zero"), None, input_shape=(1, 5, 5))
    assert to_nir(dense("zero"), None, input_shape=(1, 4, 6)).input_type["input"].tolist() == [24]


def test_a_misspelt_dialect_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="did you mean 'default'"):
        to_nir(dense("zero"), None, "defualt")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "network.nir"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SaveError, match="No space left"):
        to_nir(dense("zero"), path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["network.nir"]


def test_the_same_network_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        to_nir(dense("zero"), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_files_that_are_none_of_ours_are_refused(tmp_path):
    with pytest.raises(DataError, match="there is no NIR file"):
        read_chain(tmp_path / "missing.nir")
    (tmp_path / "text.nir").write_text("not HDF5")
    with pytest.raises(DataError, match="expected HDF5"):
        read_chain(tmp_path / "text.nir")
    to_nir(dense("zero"), tmp_path / "whole.nir")
    (tmp_path / "half.nir").write_bytes((tmp_path / "whole.nir").read_bytes()[:5000])
    with pytest.raises(DataError, match="expected HDF5"):
        read_chain(tmp_path / "half.nir")


def lif_node(count: int, **changes: np.ndarray) -> nir.LIF:
    ones = np.ones(count)
    return nir.LIF(**({"tau": ones * 1e-3, "r": ones, "v_leak": ones * 0, "v_threshold": ones} | changes))


def test_foreign_graphs_are_read_as_far_as_they_are_chains_of_our_neurons(tmp_path):
    path = tmp_path / "foreign.nir"
    ends = {"input": nir.Input(np.array([2])), "output": nir.Output(np.array([2]))}
    nir.write(path, nir.NIRGraph(ends | {"n": lif_node(2)}, [("input", "n"), ("n", "output")]))
    (neuron,) = read_chain(path).neurons
    assert neuron.reset == "zero"
    assert neuron.beta == pytest.approx([0.9, 0.9])
    assert neuron.threshold == pytest.approx([10, 10])
    (imported,) = from_nir(path)
    assert (imported.beta, imported.threshold, imported.reset) == (pytest.approx(0.9), pytest.approx(10), "zero")

    nir.write(path, nir.NIRGraph(ends | {"n": lif_node(2, v_leak=np.ones(2))}, [("input", "n"), ("n", "output")]))
    with pytest.raises(DataError, match="rest or reset at another membrane"):
        _ = read_chain(path).neurons

    nodes = ends | {"a": lif_node(2), "b": lif_node(2)}
    edges = [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output")]
    nir.write(path, nir.NIRGraph(nodes, edges))
    with pytest.raises(DataError, match="branches after 'input'"):
        read_chain(path)

    nir.write(path, nir.NIRGraph(ends | {"d": nir.Delay(np.ones(2))}, [("input", "d"), ("d", "output")]))
    with pytest.raises(DataError, match="the Delay 'd': simulators are given networks without delays"):
        read_chain(path)
