"""Graphs of other programs as networks, against NIR's equations stepped slowly."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nir_equations import Run
from nir_graphs import chain, cuba, dyadic, graph, lif

from hw_export import from_nir
from spikelfp import nn, propagate
from spikelfp.errors import DataError

STEPS, BATCH = 25, 3
CLOSE = 3e-6
"""Membranes nearer to their threshold than this, in units of the threshold, may fall either way in float32."""


def both(made, shape, out, *, reset=None, exact=False, dt=1e-4, x=None, multiple=False, **options):
    """Our network and the slow run of the same graph on the same input, and what each gave."""
    nodes, edges = made
    g = graph(shape, out, nodes, edges)
    slow = Run(g.nodes, g.edges, dt=dt, reset=reset or "zero", exact=exact, multiple=multiple)
    if x is None:
        x = torch.from_numpy((np.random.default_rng(0).random((STEPS, BATCH, *shape)) < 0.4).astype(np.float32))
    expected = slow(x)
    net = from_nir(
        g, dt=dt, reset=reset, scheme="exact" if exact else None, spikes="multiple" if multiple else "single", **options
    )
    with torch.no_grad():
        return net, net(x).numpy(), expected, slow


@settings(max_examples=60, deadline=None)
@given(
    tau=st.floats(2e-4, 1e-2),
    r=st.floats(0.2, 20),
    v_reset=st.sampled_from([0.0, 0.0, -0.1, 0.05]),
    v_leak=st.sampled_from([0.0, 0.0, 0.04, 0.2, -0.1]),
    spread=st.sampled_from([0.0, 0.0, 0.3]),
    exact=st.booleans(),
    reset=st.sampled_from(["zero", "subtract", "immediate"]),
    seed=st.integers(0, 1000),
)
def test_lif_neurons_step_as_the_equation_says(tau, r, v_reset, v_leak, spread, exact, reset, seed):
    """Any τ, r, rest and reset; resistances and thresholds that differ within the layer."""
    v_reset = v_reset if reset == "zero" else 0.0
    varied = 1 + spread * np.random.default_rng(seed).random((2, 7))
    threshold = 0.15 * r * varied[0]
    neurons = lif(7, tau, r * varied[1], v_leak * r, threshold, v_reset * r)
    made = chain(nir.Affine(dyadic(7, 5, seed=seed), dyadic(7, seed=seed + 1)), neurons)
    _, ours, expected, slow = both(made, (5,), (7,), reset=reset, exact=exact)
    assume(slow.nearest > CLOSE)
    assert np.array_equal(ours, expected)


@settings(max_examples=40, deadline=None)
@given(
    tau_syn=st.sampled_from([1e-4, 1.5e-4, 4e-4, 2e-3]),
    tau_mem=st.floats(2e-4, 5e-3),
    r=st.floats(0.2, 20),
    w_in=st.floats(0.2, 20),
    feeds_back=st.booleans(),
    spread=st.sampled_from([0.0, 0.4]),
    reset=st.sampled_from(["zero", "subtract", "immediate"]),
    seed=st.integers(0, 1000),
)
def test_current_based_neurons_with_and_without_feedback(tau_syn, tau_mem, r, w_in, feeds_back, spread, reset, seed):
    """``τ_syn = dt`` is a synapse that forgets at once: Euler then has α = 0."""
    varied = 1 + spread * np.random.default_rng(seed).random((2, 6))
    neurons = cuba(6, tau_syn, tau_mem, r, 0.1 * r * w_in * varied[0], w_in * varied[1], -0.1, -0.1)
    if reset != "zero":
        neurons.v_leak = neurons.v_reset = np.zeros(6)
    back = {1: nir.Affine(dyadic(6, 6, seed=seed + 2), dyadic(6, seed=seed + 3))} if feeds_back else None
    made = chain(nir.Linear(dyadic(6, 5, seed=seed)), neurons, feedback=back)
    net, ours, expected, slow = both(made, (5,), (6,), reset=reset)
    assume(slow.nearest > CLOSE)
    assert np.array_equal(ours, expected)
    kinds = {(False, False): nn.Synaptic, (True, False): nn.RecurrentSynaptic, (False, True): nn.LIF}
    assert type(net[-1]) is kinds.get((feeds_back, tau_syn == 1e-4), nn.RecurrentLIF)


@pytest.mark.parametrize("reset", ["zero", "subtract", "immediate"])
def test_recurrent_lif_neurons(reset):
    made = chain(nir.Linear(dyadic(6, 5)), lif(6), feedback={1: nir.Linear(dyadic(6, 6, seed=4))})
    net, ours, expected, slow = both(made, (5,), (6,), reset=reset)
    assert slow.nearest > CLOSE
    assert 20 < expected.sum() < 400
    assert np.array_equal(ours, expected)
    assert type(net[1]) is nn.RecurrentLIF


def test_recurrent_neurons_of_different_thresholds_scale_their_feedback_too():
    made = chain(
        nir.Linear(dyadic(4, 5)),
        lif(4, v_threshold=[0.0513, 0.0973, 0.2017, 0.1511]),
        feedback={1: nir.Linear(dyadic(4, 4))},
    )
    _, ours, expected, slow = both(made, (5,), (4,))
    assert slow.nearest > CLOSE
    assert expected.sum() > 20
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize(
    ("node", "expected_layers"),
    [
        (nir.LI(np.full(4, 1e-3), np.full(4, 3.0), np.full(4, 0.5)), [nn.Linear, nn.LI]),
        (nir.LI(np.full(4, 1e-3), np.arange(1.0, 5), np.arange(4.0)), [nn.Linear, nn.LI]),
        (nir.I(np.ones(4)), [nn.Linear, nn.LI]),
        (nir.CubaLI(*(np.full(4, v) for v in (3e-4, 1e-3, 2.0, 0.4)), w_in=3.0), [nn.Linear, nn.LI, nn.Scale, nn.LI]),
        (nir.CubaLI(*(np.full(4, v) for v in (1e-4, 1e-3, 2.0, 0.0)), w_in=3.0), [nn.Linear, nn.LI]),
        (nir.Scale(np.array([0.5, -1.0, 2.0, 0.0])), [nn.Linear, nn.Scale]),
        (nir.Threshold(np.array([0.1, -0.3, 0.45, 0.0])), [nn.Linear, nn.Heaviside]),
    ],
)
def test_readouts_scales_and_thresholds(node, expected_layers):
    made = chain(nir.Affine(dyadic(4, 5), dyadic(4, seed=9)), node)
    net, ours, expected, _ = both(made, (5,), (4,))
    assert [type(layer) for layer in net] == expected_layers
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_neurons_right_behind_the_input_get_a_layer_of_their_own():
    made = chain(lif(5, v_leak=0.03, v_threshold=[0.1, 0.12, 0.14, 0.16, 0.18]))
    net, ours, expected, slow = both(made, (5,), (5,))
    assert [type(layer) for layer in net] == [nn.Scale, nn.LIF]
    assert slow.nearest > CLOSE
    assert expected.sum() > 20
    assert np.array_equal(ours, expected)


def conv(out, inputs, kernel, shape, stride=1, padding=0, dilation=1, groups=1, seed=1):
    weight = dyadic(out, inputs // groups, *kernel, seed=seed)
    return nir.Conv2d(shape, weight, stride, padding, dilation, groups, dyadic(out, seed=seed + 1))


@pytest.mark.parametrize(
    ("layer", "out"),
    [
        (conv(4, 2, (3, 3), (8, 6)), (4, 6, 4)),
        (conv(4, 2, (3, 2), (8, 6), stride=(2, 1), padding=(1, 0)), (4, 4, 5)),
        (conv(4, 2, (3, 3), (8, 6), dilation=2), (4, 4, 2)),
        (conv(4, 2, (3, 3), (8, 6), padding="same"), (4, 8, 6)),
        (conv(4, 2, (2, 2), (8, 6), padding="same"), (4, 8, 6)),
        (conv(4, 2, (3, 3), (8, 6), padding="valid", stride=2), (4, 3, 2)),
        (conv(4, 2, (3, 3), (8, 6), groups=2), (4, 6, 4)),
    ],
)
def test_convolutions_of_every_shape(tmp_path, layer, out):
    """Through a file too: kernels that are not square and groups, whose shapes nir itself gets wrong."""
    made = chain(layer, lif(out, v_threshold=0.1137), nir.Flatten({"input": np.array(out)}, 0, -1))
    net, ours, expected, slow = both(made, (2, 8, 6), (int(np.prod(out)),))
    assert slow.nearest > CLOSE
    assert expected.sum() > 50
    assert np.array_equal(ours, expected)
    nir.write(tmp_path / "conv.nir", graph((2, 8, 6), (int(np.prod(out)),), *made))
    again = from_nir(tmp_path / "conv.nir")
    x = torch.rand(STEPS, BATCH, 2, 8, 6).round()
    assert torch.equal(again(x), net(x))


@pytest.mark.parametrize("kind", [nir.SumPool2d, nir.AvgPool2d])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 1), (1, 1))])
def test_pooling_sums_or_averages_with_its_border(kind, kernel, stride, padding):
    first = nir.Scale(np.ones((2, 8, 6)))
    pool = kind(*(np.array(v) for v in (kernel, stride, padding)))
    shape = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip((8, 6), kernel, stride, padding, strict=True))
    made = chain(first, pool, lif((2, *shape), v_threshold=0.2317 if kind is nir.SumPool2d else 0.0517))
    _, ours, expected, slow = both(made, (2, 8, 6), (2, *shape))
    assert slow.nearest > CLOSE
    assert 20 < expected.sum() < expected.size
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize(
    ("start", "end", "out"),
    [
        (0, -1, (48,)),
        (0, 2, (48,)),
        (-3, -1, (48,)),
        (1, 2, (3, 16)),
        (0, 1, (12, 4)),
        (-2, -1, (3, 16)),
        (1, 1, (3, 4, 4)),
    ],
)
def test_flatten_joins_the_axes_it_names(start, end, out):
    neurons = lif(out, v_threshold=0.15)
    made = chain(nir.Scale(np.ones((3, 4, 4))), nir.Flatten({"input": np.array([3, 4, 4])}, start, end), neurons)
    _, ours, expected, _ = both(made, (3, 4, 4), out)
    assert ours.shape == (STEPS, BATCH, *out)
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize("reset", ["subtract", "immediate"])
def test_integrators_gain_r_times_the_current_a_step_or_dt_times_that(reset):
    neurons = nir.IF(np.full(4, 2.0), np.full(4, 1.5))
    made = chain(nir.Linear(dyadic(4, 5)), neurons)
    net, ours, expected, slow = both(made, (5,), (4,), reset=reset, integrators="step")
    assert slow.nearest == 0  # sums of dyadic weights are exact, so that some membranes meet the threshold and stay
    assert expected.sum() > 20
    assert np.array_equal(ours, expected)
    assert (net[1].beta, net[1].threshold) == (1.0, 0.75)
    with pytest.raises(DataError, match=r"'n1' have r = 2 .* pass integrators='step' or integrators='dt'"):
        from_nir(graph((5,), (4,), *made), reset=reset)
    scaled = from_nir(graph((5,), (4,), *made), reset=reset, integrators="dt", dt=1e-2)
    assert scaled[1].threshold == pytest.approx(75)
    assert any("dt r I" in note for note in scaled.notes)


@pytest.mark.parametrize("node", [nir.IF, nir.I])
@pytest.mark.parametrize(
    ("r", "dt", "gain"), [(1.0, None, 1.0), (1e4, None, 1.0), (1e3, 1e-3, 1.0), (1.0, 1e-3, 1.0), (1.0, 1.0, 1.0)]
)
def test_a_step_of_an_integrator_is_told_by_its_resistance(node, r, dt, gain):
    """``r = 1`` counts steps, ``r dt = 1`` time; either way a step gains the current itself."""
    parameters = (np.full(4, r), np.full(4, 0.75)) if node is nir.IF else (np.full(4, r),)
    made = graph((5,), (4,), *chain(nir.Linear(dyadic(4, 5)), node(*parameters)))
    net = from_nir(made, dt=dt)
    assert net[1].beta == 1.0
    if node is nir.IF:
        assert net[1].threshold == pytest.approx(0.75 * gain)
    else:
        torch.testing.assert_close(net[0].weight.double(), torch.from_numpy(gain * dyadic(4, 5)))
    assert any(f"integrators='{'step' if r == 1 else 'dt'}'" in note for note in net.notes)


@pytest.mark.parametrize("r", [2.0, 1e3, 0.5, -1.0])
@pytest.mark.parametrize("node", [nir.IF, nir.I])
def test_other_resistances_are_asked_about(node, r):
    parameters = (np.full(4, r), np.full(4, 0.75)) if node is nir.IF else (np.full(4, r),)
    made = graph((5,), (4,), *chain(nir.Linear(dyadic(4, 5)), node(*parameters)))
    with pytest.raises(DataError, match=r"'n1' have r = .*pass integrators='step' or integrators='dt'"):
        from_nir(made)
    assert from_nir(made, integrators="dt").notes != from_nir(made, integrators="step").notes


@pytest.mark.parametrize("tau", [None, 1e-3])
def test_neurons_may_fire_several_times_a_step(tau):
    neurons = nir.IF(np.ones(4), np.full(4, 0.3017)) if tau is None else lif(4, tau, r=10.0, v_threshold=0.3017)
    made = chain(nir.Linear(np.abs(dyadic(4, 5)) + 0.3), neurons)
    net, ours, expected, _ = both(made, (5,), (4,), reset="immediate", multiple=True)
    assert expected.max() > 3
    assert np.array_equal(ours, expected)
    assert type(net[1]) is nn.MultiSpikeLIF


def test_a_nested_graph_is_opened():
    inner, edges = chain(nir.Affine(dyadic(4, 5), dyadic(4)), lif(4), feedback={1: nir.Linear(dyadic(4, 4, seed=5))})
    nested = graph((5,), (4,), inner, edges)
    outer = graph((5,), (3,), *chain(nested, nir.Linear(dyadic(3, 4)), lif(3), names=["block", "fc", "last"]))
    net = from_nir(outer)
    assert [name for name, _ in net.named_children()] == ["block_n0", "block_n1", "fc", "last"]
    x = torch.rand(STEPS, BATCH, 5).round()
    first = from_nir(nested)
    rest = from_nir(graph((4,), (3,), *chain(nir.Linear(dyadic(3, 4)), lif(3))))
    assert torch.equal(net(x), rest(first(x)))
    assert net(x).sum() > 0


def test_what_the_file_does_not_say_is_noted_and_can_be_chosen():
    made = graph((5,), (4,), *chain(nir.Linear(dyadic(4, 5)), lif(4)))
    net = from_nir(made)
    assert net.dt == 1e-4
    assert net.input_shape == (5,)
    assert len(net.notes) == 2
    assert any("no time step: dt = 0.0001" in note for note in net.notes)
    assert any("no way of reset" in note for note in net.notes)
    chosen = from_nir(made, dt=2e-4, reset="subtract")
    assert chosen.notes == ()
    assert chosen[1].beta == pytest.approx(0.8)
    assert chosen[1].reset == "subtract"
    exact = from_nir(made, scheme="exact")
    assert exact[1].beta == pytest.approx(np.exp(-0.1))


def test_metadata_of_other_programs_name_time_step_and_reset():
    nodes, edges = chain(nir.Linear(dyadic(4, 5)), lif(4))
    nodes["n1"].metadata = {"reset": "immediate"}
    made = graph((5,), (4,), nodes, edges)
    made.metadata = {"dt": 5e-4, "author": "someone"}
    net = from_nir(made)
    assert net.notes == ()
    assert net.dt == 5e-4
    assert net[1].beta == pytest.approx(0.5)
    assert net[1].reset == "immediate"


def test_an_imported_network_learns():
    made = graph(
        (5,), (4,), *chain(nir.Affine(dyadic(4, 5), dyadic(4)), lif(4), feedback={1: nir.Linear(dyadic(4, 4))})
    )
    net = from_nir(made, reset="subtract").requires_grad_()
    spikes = net(torch.rand(STEPS, BATCH, 5).round())
    propagate(spikes, torch.ones_like(spikes))
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    assert len(list(net.parameters())) == 3


def test_names_that_modules_cannot_have_are_changed():
    for names, labels in (
        (["train", "a.b", "a_b"], ["train_", "a_b", "a_b_"]),
        (["dt", "metadata", "input_shape"], ["dt_", "metadata_", "input_shape_"]),
        (["[red]", "a\n\x1b[31m", "$x^2$"], ["[red]", "a\n\x1b[31m", "$x^2$"]),
    ):
        made = chain(nir.Linear(dyadic(4, 5)), nir.Scale(np.ones(4)), lif(4), names=names)
        assert [name for name, _ in from_nir(graph((5,), (4,), *made)).named_children()] == labels
