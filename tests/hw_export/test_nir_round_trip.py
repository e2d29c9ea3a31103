"""Networks to NIR and back: the same spikes, the same metadata, the same bytes."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from export_nets import bernoulli, convolutional, dense
from hypothesis import given, settings
from hypothesis import strategies as st
from nir_equations import Run

from hw_export import from_nir, quantize, to_nir
from hw_export.nir import DIALECTS, read_chain
from spikelfp import nn
from spikelfp.analysis import record
from spikelfp.errors import DataError, UserError

RESETS = ["zero", "subtract", "immediate"]

neurons = st.tuples(
    st.sampled_from(["lif", "synaptic", "recurrent", "recurrent-synaptic"]),
    st.sampled_from(RESETS),
    st.floats(0.05, 0.99),  # beta
    st.floats(0.05, 0.95),  # alpha
    st.floats(0.1, 2.0),  # threshold
    st.integers(1, 6),
)


def layer(kind, reset, beta, alpha, threshold, size):
    if kind == "lif":
        return nn.LIF(beta, threshold, reset)
    if kind == "synaptic":
        return nn.Synaptic(alpha, beta, threshold, reset)
    if kind == "recurrent":
        return nn.RecurrentLIF(nn.Linear(size, size, bias=size % 2 == 0), beta, threshold, reset)
    return nn.RecurrentSynaptic(size, alpha, beta, threshold, reset)


def same_spikes(net, back, x):
    with torch.no_grad():
        return torch.equal(net(x), back(x))


@settings(max_examples=40, deadline=None)
@given(
    stack=st.lists(neurons, min_size=1, max_size=3), readout=st.sampled_from([None, 0.8, 1.0]), seed=st.integers(0, 99)
)
def test_random_networks_come_back(tmp_path_factory, stack, readout, seed):
    torch.manual_seed(seed)
    layers, size = [], 5
    for description in stack:
        layers += [nn.Linear(size, description[-1], bias=seed % 3 > 0), layer(*description)]
        size = description[-1]
    if readout is not None:
        layers += [nn.Linear(size, 2), nn.LI(readout)]
    net = nn.Sequential(*layers)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4)
    folder = tmp_path_factory.mktemp("net")
    to_nir(net, folder / "first.nir")
    back = from_nir(folder / "first.nir")
    assert back.notes == ()
    assert same_spikes(net, back, bernoulli(5, seed=seed))
    to_nir(back, folder / "second.nir")
    assert (folder / "first.nir").read_bytes() == (folder / "second.nir").read_bytes()


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_every_dialect_comes_back_with_its_bytes(tmp_path, dialect, reset):
    for name, net, shape in (("dense", dense(reset), (24,)), ("conv", convolutional(reset).eval(), (1, 8, 8))):
        to_nir(net, tmp_path / name, dialect, input_shape=shape)
        back = from_nir(tmp_path / name)
        x = bernoulli(*shape)
        assert record(net, x)["2" if name == "dense" else "4"].sum() > 0
        assert same_spikes(net, back, x)
        to_nir(back, tmp_path / "again", dialect)
        assert (tmp_path / name).read_bytes() == (tmp_path / "again").read_bytes()
        for ours, neuron in zip(
            (m for m in net if isinstance(m, nn.LIF)), read_chain(tmp_path / name).neurons, strict=True
        ):
            gain = 4 if name == "conv" and neuron.name.endswith(("2_lif", "9_lif")) else 1
            assert neuron.beta == pytest.approx(ours.beta)
            assert neuron.threshold == pytest.approx(gain * ours.threshold)
            assert neuron.reset == reset


def test_what_the_integers_mean_is_kept(tmp_path):
    for bits, name in ((4, "a"), (8, "b")):
        net = quantize(convolutional("subtract"), bits, input_scale=1)
        to_nir(net, tmp_path / name, input_shape=(1, 8, 8))
        back = from_nir(tmp_path / name)
        assert (back.bits, back.input_scale) == (bits, 1)
        assert list(back.scales) == ["layer_0_conv2d", "layer_3_conv2d", "layer_8_linear"]
        assert list(back.integer_thresholds) == ["layer_2_lif", "layer_4_lif", "layer_9_lif"]
        assert list(back.scales.values()) == [report.scale for report in net.report]
        assert list(back.integer_thresholds.values()) == [report.threshold for report in net.report]
        to_nir(back, tmp_path / "again")
        assert (tmp_path / name).read_bytes() == (tmp_path / "again").read_bytes()


def test_integers_that_were_trained_on_are_integers_no_longer(tmp_path):
    to_nir(quantize(dense("subtract"), 8, input_scale=1), tmp_path / "a")
    back = from_nir(tmp_path / "a")
    assert to_nir(back, None).metadata["bits"] == 8
    back.layer_1_linear.weight[0, 0] += 0.25
    graph = to_nir(back, None)
    assert not {"bits", "input_scale"} & set(graph.metadata)
    assert not any({"scale", "integer_threshold"} & set(node.metadata) for node in graph.nodes.values())


def test_other_metadata_of_a_file_of_ours_is_kept(tmp_path):
    graph = to_nir(dense("zero"), None)
    graph.metadata["author"] = "someone"
    graph.nodes["layer_2_lif"].metadata["core"] = 3
    nir.write(tmp_path / "a", graph)
    to_nir(from_nir(tmp_path / "a"), tmp_path / "b")
    kept = nir.read(tmp_path / "b")
    assert kept.metadata["author"] == "someone"
    assert kept.nodes["layer_2_lif"].metadata["core"] == 3


def test_a_network_of_another_program_gets_names_of_ours(tmp_path):
    foreign = nir.NIRGraph.from_list(
        nir.Linear(np.eye(3) * 9), nir.LIF(*(np.full(3, v) for v in (1e-3, 1.0, 0.0, 0.1)))
    )
    first = from_nir(foreign)
    graph = to_nir(first, tmp_path / "a")
    assert list(graph.nodes) == ["input", "layer_0_linear", "layer_1_lif", "output"]
    second = from_nir(tmp_path / "a")
    assert same_spikes(first, second, bernoulli(3))


@pytest.mark.parametrize("reset", RESETS)
def test_current_based_and_recurrent_files_say_what_the_equations_say(reset):
    """The written graph stepped slowly, without looking at metadata other than the reset."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(24, 12), nn.RecurrentSynaptic(12, 0.6, 0.8, 0.731, reset), nn.Linear(12, 9),
        nn.RecurrentLIF(9, 0.7, 0.517, reset), nn.Linear(9, 6), nn.Synaptic(0.5, 0.9, 0.613, reset), nn.Linear(6, 3),
        nn.LI(0.8),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3)
    graph = to_nir(net, None)
    slow = Run(graph.nodes, graph.edges, reset=reset)
    x = bernoulli(24)
    expected = slow(x)
    assert slow.nearest > 3e-6
    assert all(spikes.sum() > 10 for spikes in record(net, x).values())
    np.testing.assert_allclose(net(x).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_recurrent_convolutions_behind_average_pooling(tmp_path):
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.AvgPool2d(2), nn.Conv2d(1, 3, 3, padding=1), nn.AvgPool2d(2),
        nn.RecurrentLIF(nn.Conv2d(3, 3, 3, padding=1), 0.8, 0.2), nn.Flatten(), nn.Linear(12, 4), nn.LIF(0.9, 0.2),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_().mul_(1.5)
    graph = to_nir(net, tmp_path / "a", input_shape=(1, 8, 8))
    assert graph.nodes["layer_3_recurrentlif_recurrent"].weight == pytest.approx(
        16 * net[3].recurrent.weight.detach().numpy()
    )
    x = bernoulli(1, 8, 8)
    assert record(net, x)["3"].sum() > 10
    assert same_spikes(net, from_nir(tmp_path / "a"), x)


def test_sums_over_windows_scales_and_partly_flattened_axes(tmp_path):
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.AvgPool2d(2, divisor_override=1), nn.FlattenAxes(1, 2), nn.LIF(0.9, 0.3), nn.Flatten(),
        nn.Linear(18, 4), nn.Scale(torch.tensor([0.5, 1.0, 2.0, 4.0])), nn.LIF(0.9, 0.4),
    )  # fmt: skip
    to_nir(net, tmp_path / "a", input_shape=(1, 8, 8))
    back = from_nir(tmp_path / "a")
    x = bernoulli(1, 8, 8)
    assert record(net, x)["7"].sum() > 10
    assert same_spikes(net, back, x)
    to_nir(back, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_neurons_without_leak_are_written_as_integrators_on_request(tmp_path):
    torch.manual_seed(4)
    net = nn.Sequential(nn.Linear(24, 8), nn.LIF(1.0, 0.7, "subtract"), nn.Linear(8, 3), nn.LIF(0.9, 0.3, "subtract"))
    with pytest.raises(UserError, match=r"neurons '1' do not leak.*write_if=True"):
        to_nir(net, None)
    graph = to_nir(net, tmp_path / "a", write_if=True)
    assert isinstance(graph.nodes["layer_1_lif"], nir.IF)
    back = from_nir(tmp_path / "a")
    assert record(net, bernoulli(24))["1"].sum() > 10
    assert same_spikes(net, back, bernoulli(24))
    to_nir(back, tmp_path / "b", write_if=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(DataError, match="'layer_1_lif' are IF: simulators are given LIF neurons only"):
        _ = read_chain(tmp_path / "a").neurons


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.RecurrentLIF(nn.Identity())), "'1' feeds back through a Identity"),
        (nn.Sequential(nn.Linear(3, 3), nn.Synaptic(1.0, 0.9)), r"'1' do not leak \(alpha=1.0"),
        (nn.Sequential(nn.Scale(1.0, 0.5), nn.Linear(3, 3), nn.LIF()), "'0' adds an offset.*bias of a layer"),
        (nn.Sequential(nn.Linear(3, 3), nn.Scale(1.0, 0.5)), "'1' adds an offset"),
        (nn.Sequential(nn.Linear(3, 3), nn.Scale(1.0, 0.5), nn.Synaptic()), "'2', whose synapses sum it up"),
        (
            nn.Sequential(nn.Linear(3, 3), nn.Scale(1.0, 0.5), nn.LI(1.0)),
            "in front of the neurons '2', which do not leak",
        ),
        (nn.Sequential(nn.Linear(3, 3), nn.Scale(1.0, 0.5), nn.LIF(1.0)), "neurons '2', which do not leak"),
        (nn.Sequential(nn.Linear(3, 3), nn.MultiSpikeLIF(), nn.LIF()), "'1' is a MultiSpikeLIF.*spikes='single'"),
    ],
)
def test_what_cannot_be_written(net, text):
    with pytest.raises(UserError, match=text):
        to_nir(net, None, input_shape=(3,))


@pytest.mark.parametrize("dialect", ["sinabs", "rockpool"])
def test_dialects_of_readers_without_v_leak_say_so(dialect):
    net = nn.Sequential(nn.Linear(3, 3), nn.Scale(1.0, 0.5), nn.LIF())
    with pytest.raises(UserError, match=f"'1' adds an offset.*the dialect '{dialect}' is written with v_leak = 0"):
        to_nir(net, None, dialect)


def test_simulators_are_given_chains_of_lif_neurons(tmp_path):
    to_nir(nn.Sequential(nn.Linear(3, 3), nn.RecurrentLIF(3)), tmp_path / "recurrent.nir")
    with pytest.raises(DataError, match="feeds back between 'layer_1_recurrentlif'"):
        read_chain(tmp_path / "recurrent.nir")
    to_nir(nn.Sequential(nn.Linear(3, 3), nn.Synaptic()), tmp_path / "synaptic.nir")
    with pytest.raises(DataError, match="'layer_1_synaptic' are CubaLIF"):
        _ = read_chain(tmp_path / "synaptic.nir").neurons
    to_nir(nn.Sequential(nn.Linear(3, 3), nn.Heaviside()), tmp_path / "threshold.nir")
    with pytest.raises(DataError, match="'layer_1_heaviside' are Threshold"):
        _ = read_chain(tmp_path / "threshold.nir").neurons


def changed(**values):
    graph = to_nir(dense("zero"), None)
    node = graph.nodes["layer_2_lif"]
    for key, value in values.items():
        if key == "metadata":
            node.metadata = {k: v for k, v in (node.metadata | value).items() if v is not None}
        else:
            setattr(node, key, value * np.ones(32))
    return graph


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"tau": 2e-3}, "say beta = 0.9, their parameters 0.95: the file was changed"),
        ({"v_threshold": 0.2}, "say threshold = 1, their parameters 2: the file was changed"),
        ({"v_leak": 0.1}, "the parameters of the neurons 'layer_2_lif' were changed"),
        ({"metadata": {"beta": None}}, "carry no 'beta' in their metadata"),
        ({"metadata": {"dt": 2e-4}}, "say beta = 0.9, their parameters 0.8"),
        ({"metadata": {"reset": "never"}}, "say reset = 'never', which is not known here"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(changes, text):
    with pytest.raises(DataError) as refused:
        from_nir(changed(**changes))
    assert text in str(refused.value)


def test_a_file_of_a_dialect_is_read_by_its_scheme():
    graph = to_nir(dense("zero"), None, "sinabs")
    assert from_nir(graph, scheme="exact").scheme == "exact"
    with pytest.raises(
        UserError, match="dialect 'sinabs', whose time constants are read by scheme='exact', not 'euler'"
    ):
        from_nir(graph, scheme="euler")
