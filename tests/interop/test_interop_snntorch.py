"""snnTorch models whose order of layers is known, to and fro."""

import copy

import interop_nets as nets
import pytest
import snntorch as snn
import torch
from hypothesis import given, settings
from reference import SNNTORCH_RESETS
from snntorch import utils

from spikelfp import nn, propagate
from spikelfp.errors import UserError
from spikelfp.interop import ConversionError, from_snntorch, to_snntorch


@settings(max_examples=30, deadline=None)
@given(shape=nets.shapes(SNNTORCH_RESETS))
def test_random_models_give_the_same_spikes_here(shape):
    net, x = nets.ours(shape)
    model = nets.snn_of(net)
    converted = from_snntorch(model)
    assert torch.equal(converted(x), nets.run_snntorch(model, x))
    assert all(a is b for a, b in zip(converted.parameters(), model.parameters(), strict=True))


@settings(max_examples=30, deadline=None)
@given(shape=nets.shapes(SNNTORCH_RESETS))
def test_random_networks_give_the_same_spikes_in_snntorch_and_back(shape):
    net, x = nets.ours(shape)
    model = to_snntorch(net)
    assert torch.equal(nets.run_snntorch(model, x), net(x))
    back = from_snntorch(model)
    assert torch.equal(back(x), net(x))
    assert [a.constants for a in back if isinstance(a, nn.LIF)] == [a.constants for a in net if isinstance(a, nn.LIF)]
    assert all(a is b for a, b in zip(back.parameters(), net.parameters(), strict=True))


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_spikes_and_membranes_of_ordinary_weights(reset):
    net = nn.Sequential(nn.Linear(20, 60), nn.LIF(0.9, 0.3, reset), nn.Linear(60, 60), nn.LIF(0.95, 0.3, reset))
    x = torch.rand(25, 8, 20)
    model = to_snntorch(net)
    spikes = nets.run_snntorch(model, x)
    ours, state = net.run(x)
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(ours, spikes)
    if reset == "subtract":  # with zero, snnTorch's membrane is already reset when it is handed out
        torch.testing.assert_close(model[3].mem, state[3])
    assert torch.equal(from_snntorch(model)(x), spikes)


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_synapses_and_recurrence(reset):
    delay = {"reset_mechanism": reset, "reset_delay": reset == "subtract", "init_hidden": True}
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3, padding=1),
        snn.RLeaky(beta=0.8, threshold=0.3, conv2d_channels=3, kernel_size=3, **delay),
        torch.nn.Flatten(),
        torch.nn.Linear(75, 20),
        snn.Synaptic(alpha=0.7, beta=0.9, threshold=0.5, **delay),
        torch.nn.Linear(20, 12),
        snn.RLeaky(beta=0.9, threshold=0.2, linear_features=12, **delay),
    )
    x = torch.rand(15, 4, 1, 5, 5)
    spikes = nets.run_snntorch(model, x)
    net = from_snntorch(model)
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(net(x), spikes)
    assert {id(p) for p in net.parameters()} == {id(p) for p in model.parameters()}
    again = to_snntorch(net)
    assert torch.equal(nets.run_snntorch(again, x), spikes)
    assert torch.equal(from_snntorch(again)(x), spikes)


def test_what_is_refused_does_fire_differently():
    """The resets that are refused, converted as if they were ours, would give other spikes."""
    x = torch.rand(20, 4, 10)
    for neuron, like in [
        (snn.Leaky(0.9, 0.5, init_hidden=True, reset_delay=False), nn.LIF(0.9, 0.5)),
        (snn.Leaky(0.9, 0.5, init_hidden=True, reset_delay=False), nn.LIF(0.9, 0.5, "immediate")),
        (snn.Synaptic(0.5, 0.5, 0.5, init_hidden=True, reset_mechanism="zero"), nn.Synaptic(0.5, 0.5, 0.5, "zero")),
    ]:
        with pytest.raises(ConversionError):
            from_snntorch([neuron])
        assert not torch.equal(nets.run_snntorch(torch.nn.Sequential(neuron), x), like(x))


def test_a_delay_makes_no_difference_to_leaky_neurons_that_reset_to_zero():
    x = torch.rand(20, 4, 10)
    neuron = snn.Leaky(0.9, 0.5, init_hidden=True, reset_mechanism="zero", reset_delay=False)
    assert torch.equal(nets.run_snntorch(torch.nn.Sequential(neuron), x), from_snntorch([neuron])(x))


def test_a_sequential_of_this_package_inside_of_torch_own():
    inner = nn.Sequential(torch.nn.Linear(4, 5), snn.Leaky(beta=0.9))
    net = from_snntorch(torch.nn.Sequential(inner, torch.nn.Linear(5, 3), snn.Leaky(beta=0.9)))
    assert [type(layer).__name__ for layer in net] == ["Linear", "LIF", "Linear", "LIF"]


def test_every_kind_of_layer_and_nested_containers():
    block = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, stride=2, padding=1), torch.nn.BatchNorm2d(4))
    model = torch.nn.Sequential(
        block, torch.nn.LeakyReLU(0.2), torch.nn.AvgPool2d(2), snn.Leaky(0.8, 0.2, init_hidden=True),
        torch.nn.Flatten(), torch.nn.Dropout(0.3), torch.nn.Linear(16, 12, bias=False), torch.nn.BatchNorm1d(12),
        torch.nn.GELU(), torch.nn.Linear(12, 8), torch.nn.LayerNorm(8), torch.nn.Tanh(), torch.nn.Linear(8, 5),
        torch.nn.ELU(0.5), torch.nn.SiLU(), torch.nn.Identity(), snn.Leaky(0.9, 0.1, init_hidden=True),
    ).eval()  # fmt: skip
    model[0][1].running_mean.uniform_(-0.2, 0.2)
    x = torch.rand(10, 3, 1, 8, 8)
    net = from_snntorch(model)
    assert [name for name, _ in net.named_children()][:3] == ["0_0", "0_1", "1"]
    assert not net.training
    spikes = nets.run_snntorch(model, x)
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(net(x), spikes)
    again = to_snntorch(net)
    utils.reset(again)
    assert torch.equal(torch.stack([again(step) for step in x]), spikes)
    assert net.get_submodule("0_1").running_mean is model[0][1].running_mean


def test_a_layer_that_runs_twice_is_converted_twice():
    relu = torch.nn.ReLU()
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), relu, torch.nn.Linear(4, 4), relu, snn.Leaky(0.9, 0.1))
    assert [type(layer).__name__ for layer in from_snntorch(model)] == ["Linear", "ReLU", "Linear", "ReLU", "LIF"]
    leaky = snn.Leaky(0.9)
    with pytest.raises(ConversionError, match="more than once"):
        from_snntorch([torch.nn.Linear(4, 4), leaky, torch.nn.Linear(4, 4), leaky])


def test_a_copy_is_a_copy_and_keeps_ties():
    model = torch.nn.Sequential(torch.nn.Linear(6, 6), snn.Leaky(0.9), torch.nn.Linear(6, 6), snn.Leaky(0.9))
    model[2].weight = model[0].weight
    before = copy.deepcopy(model.state_dict())
    for net in (from_snntorch(model, copy=True), to_snntorch(from_snntorch(model), copy=True)):
        assert net[2].weight is net[0].weight
        with torch.no_grad():
            for p in net.parameters():
                p.add_(1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_frozen_parameters_stay_frozen_and_no_random_numbers_are_drawn():
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), snn.RLeaky(0.9, linear_features=4))
    model[0].weight.requires_grad_(False)
    state = torch.get_rng_state()
    for net in (from_snntorch(model), from_snntorch(model, copy=True)):
        assert not net[0].weight.requires_grad
        assert net[0].bias.requires_grad
        to_snntorch(net)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_decay_that_learns_is_shared():
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), snn.Leaky(0.7, 0.2, learn_beta=True, init_hidden=True))
    net = from_snntorch(model)
    assert net[1].decay is model[1].beta
    x = torch.rand(8, 4, 6)
    spikes = net(x)
    propagate(spikes, torch.ones_like(spikes))
    torch.optim.SGD(net.parameters(), 0.01).step()
    assert model[1].beta != 0.7
    assert torch.equal(net(x), nets.run_snntorch(model, x))
    again = to_snntorch(net)
    assert again[1].beta is model[1].beta
    assert torch.equal(net(x), nets.run_snntorch(again, x))


def test_a_readout_by_its_membrane():
    net = nn.Sequential(nn.Linear(6, 9), nn.LIF(0.9, 0.2), nn.Linear(9, 3), nn.LI(0.8))
    x = torch.rand(12, 4, 6)
    model = to_snntorch(net)
    torch.testing.assert_close(nets.run_snntorch(model, x), net(x))
    with pytest.raises(ConversionError, match=r"membrane_output=True\) makes an nn.LI"):
        from_snntorch(model)
    back = from_snntorch(model, membrane_output=True)
    assert torch.equal(back(x), net(x))
    with pytest.raises(ConversionError, match="which spikes reset"):
        from_snntorch(model[:2], membrane_output=True)
    with pytest.raises(ConversionError, match="it has none"):
        from_snntorch(model[:3], membrane_output=True)


def test_neurons_without_memory():
    net, x = nn.Sequential(nn.Linear(6, 9), nn.Heaviside(), nn.Linear(9, 3), nn.LIF()), torch.randn(9, 4, 6)
    model = to_snntorch(net)
    assert torch.equal(nets.run_snntorch(model, x), net(x))
    assert isinstance(from_snntorch(model)[1], nn.Heaviside)


def test_the_last_neurons_can_return_their_membrane():
    model = to_snntorch(nn.Sequential(nn.Linear(4, 3), nn.LIF(), nn.Linear(3, 2), nn.LIF()), output=True)
    spikes, membrane = model(torch.rand(2, 4))
    assert spikes.shape == membrane.shape == (2, 2)


def equal_but(neuron, **attributes):
    """``neuron`` with attributes changed behind its back."""
    for name, value in attributes.items():
        setattr(neuron, name, value)
    return neuron


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (lambda: snn.Leaky(0.9, reset_mechanism="none"), "fires at every step above threshold"),
        (lambda: snn.Leaky(0.9, reset_delay=False), "takes the threshold off twice"),
        (lambda: equal_but(snn.Leaky(0.9), reset_mechanism="zero"), "resets by 'subtract' although"),
        (lambda: snn.Leaky(0.9, state_quant=lambda mem: mem), "state_quant"),
        (lambda: snn.Leaky(0.9, graded_spikes_factor=2.0), "graded_spikes_factor scales"),
        (lambda: snn.Leaky(0.9, learn_graded_spikes_factor=True), "graded_spikes_factor is trainable"),
        (lambda: snn.Leaky(0.9, learn_threshold=True), "threshold is trainable"),
        (lambda: snn.Leaky(torch.tensor([0.9, 0.0, 0.9])), r"beta must lie in .* got 0.0 at \[1\]"),
        (lambda: snn.Leaky(torch.tensor([0.9, 1.1, 0.9]), learn_beta=True), "a decay that learns lies in"),
        (lambda: snn.Leaky(0.9, threshold=torch.tensor([1.0, -1.0, 1.0])), "threshold must be"),
        (lambda: snn.Leaky(0.9, graded_spikes_factor=torch.tensor([1.0, 2.0])), "differs from neuron to neuron"),
        (lambda: snn.Leaky(0.0), "beta must lie in"),
        (lambda: snn.Leaky(0.9, threshold=-1.0), "threshold must be"),
        (lambda: snn.Leaky(0.9, spike_grad=lambda mem: mem), "its spike_grad makes"),
        (lambda: snn.Synaptic(0.5, 0.9, reset_mechanism="zero"), "drops the input after each spike"),
        (lambda: snn.Synaptic(0.5, 0.9, learn_alpha=True), "alpha is trainable"),
        (lambda: snn.RLeaky(0.9, linear_features=3, reset_mechanism="zero"), "drops the input after each spike"),
        (lambda: snn.RLeaky(0.9, all_to_all=False), "to itself alone"),
        (lambda: snn.SLSTM(3, 3), "spikelfp has no such neurons"),
        (lambda: snn.Lapicque(0.9, reset_mechanism="zero"), "drops the input of the step after a spike"),
        (lambda: snn.Lapicque(0.9, reset_mechanism="none"), "fires at every step above threshold"),
        (lambda: snn.Lapicque(R=1.0, C=0.5), "overshoot"),
        (lambda: snn.Alpha(0.9, 0.8, reset_mechanism="subtract"), "takes the threshold off a synapse"),
        (lambda: snn.Alpha(0.9, 0.8, learn_beta=True), "beta is trainable"),
        (lambda: torch.nn.Bilinear(3, 3, 3), "no such layer in spikelfp"),
        (lambda: torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 3)), "no such layer in spikelfp"),
        (lambda: torch.nn.Flatten(0), "flattens axes 0 to -1"),
        (lambda: torch.nn.MaxPool2d(2, return_indices=True), "returns indices"),
        (lambda: torch.nn.GELU("tanh"), "exact GELU"),
    ],
)
def test_what_cannot_be_converted_is_named(layer, named):
    layer = layer()
    with pytest.raises(ConversionError, match=named) as refused:
        from_snntorch([torch.nn.Linear(3, 3), layer])
    assert str(refused.value).startswith("layer '1' (")
    assert type(layer).__name__ in str(refused.value)


def test_inhibition_and_hooks_are_named():
    with pytest.warns(UserWarning, match="unstable"):
        inhibited = snn.Leaky(0.9, inhibition=True)
    hooked, model = snn.Leaky(0.9), torch.nn.Sequential(torch.nn.Linear(3, 3))
    hooked.register_forward_hook(lambda *_: None)
    model.register_forward_hook(lambda *_: None)
    for layers, named in [([inhibited], "strongest"), ([hooked], "'0'.*hooks"), (model, "'the model'.*hooks")]:
        with pytest.raises(ConversionError, match=named):
            from_snntorch(layers)


class Doubled(nn.Layer):
    """A layer of a user's own."""

    def forward(self, x):
        return 2 * x


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ([nn.Linear(2, 2), Doubled()], r"'1' \(test_interop_snntorch.Doubled\).*no layer that does the same"),
        ([nn.Sum(nn.Identity(), nn.Linear(2, 2))], r"'0' \(spikelfp.nn.Sum\)"),
        ([nn.LI(), nn.Linear(2, 2)], r"'0' \(spikelfp.nn.LI\).*membranes"),
        ([nn.LIF(reset="immediate")], r"'0' \(spikelfp.nn.LIF\).*twice where a membrane stays.*reset=\"subtract\""),
        ([nn.Synaptic(reset="immediate")], r"'0' \(spikelfp.nn.Synaptic\).*subtracts one step after"),
        ([nn.RecurrentLIF(nn.Linear(2, 2), reset="immediate")], r"'0' \(spikelfp.nn.RecurrentLIF\).*subtracts one"),
        ([nn.RecurrentLIF(Doubled())], "'0.recurrent'"),
        ([nn.RecurrentLIF(nn.Identity())], "'0.recurrent'.*by Linear or Conv2d"),
    ],
)
def test_what_snntorch_does_not_have_is_named(layers, named):
    with pytest.raises(ConversionError, match=named):
        to_snntorch(nn.Sequential(*layers))


def test_only_a_sequential_of_float32_can_go_out():
    with pytest.raises(UserError, match=r"'0.weight' is torch.float64"):
        to_snntorch(nn.Sequential(nn.Linear(2, 2)).double())
    with pytest.raises(UserError, match="Linear is no Sequential"):
        to_snntorch(nn.Linear(2, 2))


# constants of each neuron


def vectors(*shape):
    """Decays and thresholds of each neuron, which differ."""
    torch.manual_seed(4)
    return 0.3 + 0.65 * torch.rand(shape), 0.2 + 0.4 * torch.rand(shape)


@pytest.mark.parametrize("reset", SNNTORCH_RESETS)
def test_constants_of_each_neuron_fire_alike_and_come_back(reset):
    beta, threshold = vectors(7)
    alpha = beta.flip(0)
    models = [
        (snn.Leaky(beta, threshold, reset_mechanism=reset, init_hidden=True), nn.LIF),
        (snn.Synaptic(alpha, beta, threshold, reset_mechanism=reset, reset_delay=reset == "subtract",
                      init_hidden=True), nn.Synaptic),
        (snn.RLeaky(beta, threshold=threshold, linear_features=7, reset_mechanism=reset,
                    reset_delay=reset == "subtract", init_hidden=True), nn.RecurrentLIF),
    ]  # fmt: skip
    for neuron, kind in models:
        model = nets.quarters_(torch.nn.Sequential(torch.nn.Linear(6, 7), neuron))
        net, x = from_snntorch(model), nets.binary(30, 4, 6)
        assert type(net[1]) is kind
        assert torch.equal(net[1].beta, beta)
        assert torch.equal(net[1].threshold, threshold)
        spikes = nets.run_snntorch(model, x)
        assert 0.02 < spikes.mean() < 0.98
        assert (net(x) != spikes).float().mean() < (0.002 if kind is nn.RecurrentLIF else 1e-9)
        back = to_snntorch(net)
        assert torch.equal(nets.run_snntorch(back, x), spikes)
        assert back[1].beta is not neuron.beta
        again = from_snntorch(back)
        assert torch.equal(again(x), net(x))


def test_constants_of_channels_and_of_places_of_an_image():
    for shape in [(3, 1, 1), (3, 4, 4)]:
        beta, threshold = vectors(*shape)
        neuron = snn.Leaky(beta, threshold, init_hidden=True)
        model = nets.quarters_(torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), neuron, torch.nn.Flatten()))
        x = nets.binary(12, 3, 2, 6, 6)
        net = from_snntorch(model)
        assert net[1].beta.shape == shape
        assert torch.equal(net(x), nets.run_snntorch(model, x))
        assert torch.equal(nets.run_snntorch(to_snntorch(net), x), net(x))


def test_equal_constants_of_each_neuron_are_one_number():
    net = from_snntorch([torch.nn.Linear(3, 2), snn.Leaky(torch.full((2,), 0.9), torch.full((2,), 0.5))])
    assert (net[1].beta, net[1].threshold) == (0.9, 0.5)


def test_decays_of_each_neuron_that_learn_are_shared():
    beta, _ = vectors(5)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), snn.Leaky(beta.clone(), 0.2, learn_beta=True, init_hidden=True))
    net = from_snntorch(model)
    assert net[1].decay is model[1].beta
    x = torch.rand(8, 4, 6)
    assert torch.equal(net(x), nets.run_snntorch(model, x))
    spikes = net(x)
    propagate(spikes, torch.linspace(-1, 1, spikes.numel()).view_as(spikes))
    torch.optim.SGD(net.parameters(), 0.01).step()
    assert not torch.equal(model[1].beta, beta)
    again = to_snntorch(net)
    assert again[1].beta is model[1].beta
    assert torch.equal(net(x), nets.run_snntorch(again, x))
    assert not hasattr(net[1], "betas")


def test_a_readout_with_decays_of_its_own():
    beta, _ = vectors(3)
    net = nn.Sequential(nn.Linear(4, 3), nn.LI(beta))
    x = torch.rand(9, 2, 4)
    model = to_snntorch(net)
    torch.testing.assert_close(nets.run_snntorch(model, x), net(x).detach())
    again = from_snntorch(model, membrane_output=True)
    assert torch.equal(again[1].beta, beta)


# circuits and alpha functions


@pytest.mark.parametrize(
    "circuit",
    [{"beta": 0.9}, {"R": 2.0, "C": 4.0}, {"beta": 0.8, "C": 4.0}, {"R": 0.5, "C": 8.0, "time_step": 2.0}],
    ids=str,
)
def test_circuits_fire_alike_and_come_back(circuit):
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), snn.Lapicque(**circuit, threshold=0.4, init_hidden=True))
    with torch.no_grad():
        model[0].weight.mul_(8)
    net, x = from_snntorch(model), nets.binary(40, 5, 6)
    assert type(net[1]) is nn.Lapicque
    spikes = nets.run_snntorch(model, x)
    assert 0.02 < spikes.mean() < 0.98
    assert torch.equal(net(x), spikes)
    back = to_snntorch(net)
    assert type(back[1]) is snn.Lapicque
    assert torch.equal(nets.run_snntorch(back, x), spikes)
    assert torch.equal(from_snntorch(back)(x), spikes)


def test_circuits_of_each_neuron():
    beta, threshold = vectors(5)
    resistance = 1 + beta
    layer = nn.Lapicque(R=resistance, C=torch.full((5,), 4.0), threshold=threshold / 4)
    net, x = nn.Sequential(nn.Linear(6, 5), layer), nets.binary(40, 4, 6)
    with torch.no_grad():
        net[0].weight.mul_(4)
    model = to_snntorch(net)
    assert 0.02 < net(x).mean() < 0.98
    assert torch.equal(nets.run_snntorch(model, x), net(x))
    assert torch.equal(from_snntorch(model)(x), net(x))


def test_alpha_functions_fire_alike_and_come_back():
    decays, threshold = vectors(7)
    for constants in ((0.9, 0.8, 0.5), (decays, decays / 2, threshold)):
        alpha, beta, theta = (torch.as_tensor(each) for each in constants)
        neuron = snn.Alpha(alpha=alpha, beta=beta, threshold=theta, init_hidden=True)
        model, x = torch.nn.Sequential(torch.nn.Linear(6, 7), neuron), nets.binary(40, 4, 6)
        with torch.no_grad():
            model[0].weight.mul_(6)
        net = from_snntorch(model)
        assert type(net[1]) is nn.Alpha
        spikes = nets.run_snntorch(model, x)
        assert 0.02 < spikes.mean() < 0.98
        assert torch.equal(net(x), spikes)
        back = to_snntorch(net)
        assert torch.equal(nets.run_snntorch(back, x), spikes)
        assert torch.equal(from_snntorch(back)(x), spikes)


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.Lapicque(0.9, reset="zero"), "drops the input of the step after a spike"),
        (nn.Lapicque(0.9, reset="immediate"), "twice where a membrane stays above it"),
        (nn.Lapicque(0.9, learn_beta=True), "so that none learns"),
        (nn.ALIF(), "snnTorch has no such neurons"),
        (nn.RecurrentALIF(4), "snnTorch has no such neurons"),
    ],
    ids=repr,
)
def test_neurons_that_snntorch_would_run_otherwise_are_named(layer, named):
    with pytest.raises(ConversionError, match=named):
        to_snntorch(nn.Sequential(nn.Linear(2, 2), layer))
