"""norse models, to and fro."""

import interop_nets as nets
import pytest
import torch
from hypothesis import given, settings
from reference import RESETS

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.interop import ConversionError, DelayedSubtract, from_norse, to_norse

norse = pytest.importorskip("norse.torch")


def tensors(**values):
    return {name: torch.tensor(value) for name, value in values.items()}


def box(**values):
    return norse.LIFBoxCell(norse.LIFBoxParameters(**tensors(**values)))


def current_based(kind=norse.LIFCell, *sizes, **values):
    return kind(*sizes, norse.LIFParameters(**tensors(**values)))


def exact(shape):
    """Delayed subtraction takes ``θ/β`` off at once, which float32 holds for a β of 1/2 only."""
    return shape["reset"] != "subtract" or shape["beta"] == 0.5


@settings(max_examples=40, deadline=None)
@given(shape=nets.shapes().filter(exact))
def test_random_networks_give_the_same_spikes_in_norse_and_back(shape):
    net, x = nets.ours(shape)
    before = [p.clone() for p in net.parameters()]
    model = to_norse(net, dt=2**-10)
    spikes = net(x)
    assert torch.equal(nets.run_norse(model, x), spikes)
    back = from_norse(model)
    assert torch.equal(back(x), spikes)
    assert [a.constants for a in back if isinstance(a, nn.LIF)] == [a.constants for a in net if isinstance(a, nn.LIF)]
    for own, returned, old in zip(net.parameters(), back.parameters(), before, strict=True):
        assert torch.equal(own, old)
        assert torch.equal(own, returned)
        assert own.data_ptr() != returned.data_ptr()


@pytest.mark.parametrize("beta", [0.3, 0.9, 0.95])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dt", [0.001, 1.0])
def test_ordinary_weights(beta, reset, dt):
    net = nn.Sequential(nn.Linear(20, 60), nn.LIF(beta, 0.3, reset), nn.Linear(60, 60), nn.LIF(beta, 0.3, reset))
    x = torch.rand(25, 8, 20)
    model = to_norse(net, dt=dt)
    spikes = nets.run_norse(model, x)
    assert 0.02 < spikes.mean() < 0.98
    assert torch.equal(net(x), spikes)
    assert torch.equal(from_norse(model)(x), spikes)


def test_synapses_recurrence_integrators_and_readout():
    net = nn.Sequential(
        nn.Linear(12, 16), nn.Synaptic(0.7, 0.9, 0.5, "zero"),
        nn.Linear(16, 16), nn.RecurrentLIF(nn.Linear(16, 16), 0.8, 0.2, "zero"),
        nn.Linear(16, 14, bias=False), nn.RecurrentLIF(nn.Linear(14, 14, bias=False), 0.8, 0.2, "zero"),
        nn.Linear(14, 16), nn.LIF(1.0, 0.7, "zero"),
        nn.Linear(16, 5), nn.LI(0.9),
    )  # fmt: skip
    x = torch.rand(20, 4, 12)
    for end in (2, 4, 6, 8):
        part = nn.Sequential(*net[:end])
        spikes = nets.run_norse(to_norse(part), x)
        assert 0.05 < spikes.mean() < 0.95
        assert torch.equal(part(x), spikes)
        assert torch.equal(from_norse(to_norse(part))(x), spikes)
    model = to_norse(net)
    kinds = ["LIFCell", "LIFRecurrentCell", "LIFRecurrentCell", "IAFCell", "LIBoxCell"]
    assert [type(cell).__name__ for cell in model][1::2] == kinds
    torch.testing.assert_close(nets.run_norse(model, x), net(x))
    back = from_norse(model)
    assert [type(layer) for layer in back] == [type(layer) for layer in net]
    torch.testing.assert_close(back(x), net(x))


def test_a_recurrent_bias_without_one_in_front():
    net = nn.Sequential(nn.Linear(6, 8, bias=False), nn.RecurrentLIF(nn.Linear(8, 8), 0.8, 0.2, "zero"))
    x = torch.rand(15, 4, 6)
    assert torch.equal(nets.run_norse(to_norse(net), x), net(x))
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.RecurrentLIF(nn.Linear(8, 8), 0.8, 0.2, "zero"))
    with pytest.raises(ConversionError, match="no Linear stands directly in front"):
        to_norse(net)


@pytest.mark.parametrize(
    "cells",
    [
        [box(), box(v_th=0.2)],
        [box(v_leak=-65.0, v_reset=-65.0, v_th=-64.5), box(v_leak=0.25, v_reset=0.25, v_th=0.5, tau_mem_inv=200.0)],
        [current_based(v_th=0.5), current_based(v_th=0.2, tau_syn_inv=500.0)],
        [current_based(v_th=0.3, tau_syn_inv=1000.0), box(v_th=0.1)],
        [current_based(v_leak=-65.0, v_reset=-65.0, v_th=-64.5), norse.IAFCell()],
    ],
)
def test_norses_own_constants(cells):
    model = norse.SequentialState(torch.nn.Linear(20, 50), cells[0], torch.nn.Linear(50, 30), cells[1])
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(5)
    x = torch.rand(25, 8, 20)
    spikes = nets.run_norse(model, x)
    assert 0.02 < spikes.mean() < 0.98
    for _ in range(2):  # norse's first state may leave marks on the parameters
        net = from_norse(model)
        assert torch.equal(net(x), spikes)
    assert torch.equal(nets.run_norse(to_norse(net), x), spikes)


def test_norses_recurrent_cells_and_linear_integrators():
    p = norse.LIFParameters(**tensors(v_th=0.05, tau_syn_inv=1000.0))
    model = norse.SequentialState(
        norse.LIFRecurrentCell(6, 9, p),
        torch.nn.Linear(9, 7),
        norse.LIFRecurrentCell(7, 7, p, autapses=True),
        norse.LILinearCell(7, 3, norse.LIParameters(tau_syn_inv=torch.tensor(1000.0))),
    )
    x = 5 * torch.rand(20, 4, 6)
    net = from_norse(model)
    assert [name for name, _ in net.named_children()] == ["0_input", "0", "1", "2_input", "2", "3_input", "3"]
    assert net[0].bias is None
    assert (net[1].recurrent.weight.diagonal() == 0).all()
    assert 0.05 < net[:5](x).mean() < 0.95
    torch.testing.assert_close(net(x), nets.run_norse(model, x), rtol=1e-5, atol=1e-5)


def test_models_over_time():
    parameters = {"v_th": 0.1}
    model = norse.SequentialState(
        norse.Lift(torch.nn.Conv2d(1, 4, 3)), norse.Lift(torch.nn.MaxPool2d(2)),
        current_based(norse.LIF, **parameters), torch.nn.Flatten(2), torch.nn.Linear(36, 8),
        current_based(norse.LIFRecurrent, 8, 5, tau_syn_inv=1000.0, **parameters),
    )  # fmt: skip
    x = 4 * torch.rand(12, 3, 1, 8, 8)
    spikes, _ = model(x)
    assert 0.05 < spikes.mean() < 0.95
    net = from_norse(model)
    assert torch.equal(net(x), spikes)
    assert torch.equal(nets.run_norse(to_norse(net), x), spikes)


def test_a_lifted_network_a_list_and_nested_containers():
    layers = [torch.nn.Linear(6, 8), box(v_th=0.1), torch.nn.Linear(8, 4), box(v_th=0.1)]
    nested = norse.SequentialState(
        norse.SequentialState(torch.nn.Sequential(layers[0], torch.nn.ReLU()), layers[1]), *layers[2:]
    )
    lifted, x = norse.Lift(nested), 5 * torch.rand(10, 3, 6)
    spikes, _ = lifted(x)
    assert 0.05 < spikes.mean() < 0.95
    for model in (lifted, nested):
        net = from_norse(model)
        assert [name for name, _ in net.named_children()] == ["0_0_0", "0_0_1", "0_1", "1", "2"]
        assert torch.equal(net(x), spikes)
    assert torch.equal(from_norse([layers[0], torch.nn.ReLU(), *layers[1:]])(x), spikes)


def test_the_factor_passes_pooling_and_enters_norms():
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Dropout(0.5), nn.LIF(0.9, 0.1), nn.AvgPool2d(3),
        nn.Flatten(), nn.Linear(3, 6), nn.BatchNorm1d(6), nn.LIF(0.8, 0.2),
    ).eval()  # fmt: skip
    x = torch.rand(10, 4, 1, 8, 8)
    model = to_norse(net)
    assert not model.training
    spikes = net(x)
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(nets.run_norse(model, x), spikes)
    assert torch.equal(model[7].weight, net[7].weight)
    torch.testing.assert_close(model[8].weight, net[8].weight / 0.2, rtol=1e-5, atol=1e-6)


def test_delayed_subtraction_is_the_reset_of_our_neurons():
    x = torch.rand(20, 5, 7)
    cell = norse.LIFBoxCell(norse.LIFBoxParameters(v_th=torch.tensor(0.5), reset_method=DelayedSubtract(0.9)))
    net = nn.LIF(0.9, 0.5)
    assert torch.equal(nets.run_norse(norse.SequentialState(cell), 10 * x), net(x))
    at_once = cell.p._replace(reset_method=norse.reset_subtract)
    assert not torch.equal(nets.run_norse(norse.SequentialState(norse.LIFBoxCell(at_once)), 10 * x), net(x))


def test_norses_own_subtraction_is_our_reset_at_once():
    cells = [with_reset(norse.reset_subtract, v_th=theta) for theta in (0.05, 0.1)]
    model = norse.SequentialState(torch.nn.Linear(20, 50), cells[0], torch.nn.Linear(50, 30), cells[1])
    x = torch.rand(25, 8, 20)
    net, spikes = from_norse(model), nets.run_norse(model, x)
    assert [net[1].reset, net[3].reset] == ["immediate", "immediate"]
    assert 0.02 < spikes.mean() < 0.98
    assert torch.equal(net(x), spikes)
    assert to_norse(net)[1].p.reset_method is norse.reset_subtract


def with_reset(method, **values):
    return norse.LIFBoxCell(norse.LIFBoxParameters(reset_method=method, **tensors(**values)))


class Own(norse.module.snn.SNNCell):
    """A cell of a user's own."""

    def __init__(self):
        super().__init__(lambda x, s, p, dt: (x, s), lambda x: x, norse.LIFBoxParameters())


@pytest.mark.parametrize(
    ("cell", "named"),
    [
        (lambda: with_reset(norse.reset_subtract, v_leak=0.5), "takes v_th off a membrane that rests at v_leak = 0.5"),
        (lambda: with_reset(DelayedSubtract(0.5)), "needs v_leak = 0 and beta"),
        (lambda: with_reset(lambda z, v, r, th: v), "reset_method .* is not known"),
        (lambda: box(v_reset=-0.5), "resets its membrane to -0.5, not to v_leak = 0.0"),
        (lambda: box(v_th=[1.0, -2.0, 1.0, 1.0]), r"threshold must be .* got -2.0 at \[1\]"),
        (lambda: box(tau_mem_inv=[100.0, 1000.0, 100.0, 100.0]), r"beta must lie in .* got 0.0 at \[1\]"),
        (lambda: box(v_reset=[0.0, 0.5, 0.0, 0.0]), "resets its membrane to"),
        (lambda: box(v_th=-1.0), "threshold must be"),
        (lambda: box(tau_mem_inv=1000.0), "beta must lie in"),
        (
            lambda: norse.LIFBoxCell(norse.LIFBoxParameters(v_th=torch.ones((), requires_grad=True))),
            "v_th is trainable",
        ),
        (lambda: norse.LIFBoxCell(norse.LIFBoxParameters(method="soft")), "no threshold function 'soft'"),
        (lambda: current_based(v_reset=-0.5), "resets its membrane"),
        (lambda: current_based(tau_syn_inv=1500.0), "alpha must lie in"),
        (lambda: current_based(norse.LIFRecurrentCell, 4, 4), "synaptic current outlasts a step"),
        (lambda: norse.LICell(), "synaptic current outlasts a step"),
        (lambda: norse.LIBoxCell(norse.LIBoxParameters(v_leak=torch.tensor(1.0))), "rests at v_leak = 1.0"),
        (lambda: norse.LIFRefracCell(), "no such layer"),
        (lambda: norse.LSNNCell(), "takes its input one step late"),
        (lambda: norse.Izhikevich(norse.tonic_spiking), "no such layer"),
        (lambda: norse.Lift(torch.nn.Sequential(torch.nn.Bilinear(2, 2, 2))), "no such layer"),
        (lambda: torch.nn.Flatten(2), "flattens axes 2"),
    ],
)
def test_what_cannot_be_converted_is_named(cell, named):
    with pytest.raises(ConversionError, match=named) as refused:
        from_norse(norse.SequentialState(torch.nn.Linear(4, 4), cell()))
    assert str(refused.value).startswith("layer '1' (")


def test_cells_of_a_users_own_are_named():
    with pytest.raises(ConversionError, match=r"test_interop_norse.Own.*no such layer in spikelfp"):
        from_norse([Own()])


class OwnOrder(torch.nn.Sequential):
    """Layers in an order that only its forward knows."""

    def forward(self, x):
        return self[0](x)


def test_places_that_a_layer_cannot_have_are_named():
    lif, tied = norse.LIF(), torch.nn.Linear(4, 4)
    for layers, named in [
        ([box()], "factor of 0.1 that has to go into weights"),
        ([tied, torch.nn.Tanh(), box()], "factor of 0.1"),
        ([tied, box(), box()], r"'2' \(norse.torch.LIFBoxCell\).*factor of 0.1"),
        ([tied, box(), tied, box()], "'2'.*shares weights with layer '0'"),
        ([tied, lif, box()], r"'2' \(norse.torch.LIFBoxCell\).*makes one step"),
        ([torch.nn.Conv2d(1, 1, 1), lif], "'0'.*lift it"),
        ([tied, lif, torch.nn.Flatten()], "'2'.*flattens axes 1"),
        ([norse.Lift(tied), norse.Lift(box())], "'1'.*hands its state on"),
    ]:
        with pytest.raises(ConversionError, match=named):
            from_norse(layers)
    cell = box()
    with pytest.raises(ConversionError, match="more than once"):
        from_norse([torch.nn.Linear(4, 4), cell, torch.nn.Linear(4, 4), cell])
    for model, named in [
        (OwnOrder(tied, lif), "OwnOrder has a forward of its own"),
        (norse.SequentialState(tied, box(), return_hidden=True), "return_hidden"),
        (norse.SequentialState(), "no layers"),
    ]:
        with pytest.raises(UserError, match=named):
            from_norse(model)


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.LIF(1.0), "beta = 1"),
        (nn.LI(1.0), "beta = 1"),
        (nn.Heaviside(), "without memory"),
        (nn.LIF(1.0, reset="immediate"), "beta = 1"),
        (nn.Synaptic(), "not by 'subtract'"),
        (nn.Synaptic(reset="immediate"), "not by 'immediate'"),
        (nn.RecurrentLIF(nn.Linear(4, 4)), "not by 'subtract'"),
        (nn.Sum(nn.Identity()), "no layer that does the same"),
        (nn.Delay(2), "no layer that does the same"),
    ],
)
def test_what_norse_does_not_have_is_named(layer, named):
    with pytest.raises(ConversionError, match=named) as refused:
        to_norse(nn.Sequential(nn.Linear(4, 4), layer))
    assert str(refused.value).startswith(f"layer '1' (spikelfp.nn.{type(layer).__name__})")


def test_wrong_time_steps_and_recurrent_layers_are_named():
    with pytest.raises(UserError, match="got 0"):
        to_norse(nn.Sequential(nn.Linear(4, 4)), dt=0)
    with pytest.raises(ConversionError, match=r"'1.recurrent' \(spikelfp.nn.Conv2d\)"):
        to_norse(nn.Sequential(nn.Conv2d(1, 1, 1), nn.RecurrentLIF(nn.Conv2d(1, 1, 1), reset="zero")))


# constants of each neuron


def vectors(*shape):
    """Decays and thresholds of each neuron, which differ; dividing weights by dt/tau is exact."""
    torch.manual_seed(4)
    return torch.tensor(sorted(nets.STEPS))[torch.randint(3, shape)], torch.randint(1, 5, shape) / 4


@pytest.mark.parametrize("reset", RESETS)
def test_constants_of_each_neuron_fire_alike_and_come_back(reset):
    beta, threshold = vectors(7)
    net = nets.quarters_(nn.Sequential(nn.Linear(6, 7), nn.Dropout(), nn.LIF(beta, threshold, reset))).eval()
    model, x = to_norse(net, dt=0.0009765625), nets.binary(4, 5, 6)
    spikes = nets.run_norse(model, x)
    assert spikes.dtype == torch.float32
    assert 0.02 < spikes.mean() < 0.98
    assert torch.equal(net(x), spikes)
    again = from_norse(model)
    assert torch.equal(again[2].beta, beta)
    assert again[2].beta.dtype == torch.float32
    assert torch.equal(again[2].threshold, threshold)
    assert again[2].reset == reset
    assert torch.equal(again(x), spikes)


def test_synapses_recurrence_and_integrators_with_constants_of_each_neuron():
    beta, threshold = vectors(4)
    alpha = beta.flip(0)
    for neuron in (
        nn.Synaptic(alpha, beta, threshold, "zero"),
        nn.RecurrentLIF(4, beta, threshold, "zero"),
        nn.LI(beta),
    ):
        net = nets.quarters_(nn.Sequential(nn.Linear(6, 4), neuron))
        x = nets.binary(4, 5, 6)
        model = to_norse(net, dt=0.0009765625)
        outputs = nets.run_norse(model, x)
        assert outputs.count_nonzero()
        torch.testing.assert_close(net(x), outputs, rtol=0, atol=0 if neuron.fires else 1e-6)
        again = from_norse(model)
        torch.testing.assert_close(again(x), outputs, rtol=0, atol=0 if neuron.fires else 1e-6)
        assert torch.equal(again[1].beta, beta)


def test_decays_of_channels_pass_pooling_but_not_flattening_and_those_of_places_have_no_weights():
    beta, _ = vectors(3, 1, 1)
    x = nets.binary(4, 3, 2, 6, 6)
    net = nets.quarters_(nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.LIF(beta, 0.5)))
    model = to_norse(net, dt=0.0009765625)
    assert torch.equal(nets.run_norse(model, x), net(x))
    assert torch.equal(from_norse(model)(x), net(x))
    for layers in (
        (nn.Conv2d(2, 3, 3), nn.Flatten(), nn.LIF(vectors(48)[0])),
        (nn.Conv2d(2, 3, 3), nn.LIF(vectors(3, 4, 4)[0])),
        (nn.Linear(2, 3), nn.LIF(vectors(4)[0])),
    ):
        with pytest.raises(ConversionError, match="one decay for each channel"):
            to_norse(nn.Sequential(*layers))
    with pytest.raises(ConversionError, match="with beta = 1"):
        to_norse(nn.Sequential(nn.Linear(2, 2), nn.LIF(torch.tensor([0.5, 1.0]), reset="zero")))
    whole = to_norse(nn.Sequential(nn.Linear(2, 2), nn.LIF(1.0, torch.tensor([0.5, 0.75]), reset="zero")))
    assert torch.equal(from_norse(whole)[1].threshold, torch.tensor([0.5, 0.75]))


def test_floor_and_margin_of_all_neurons():
    chain = [torch.nn.Linear(4, 3), norse.LIFBoxCell(), torch.nn.Linear(3, 2), norse.LIFCell()]
    net = from_norse(chain, floor=0.5, margin=0.75)
    found = [(layer.floor, layer.margin) for layer in net if isinstance(layer, nn.Neurons)]
    assert found == [(0.5, 0.75)] * 2
    with pytest.raises(UserError, match="margin is a share"):
        from_norse(chain, margin=0)
