"""Pruning: masks against loops, training, accuracy curves, smaller networks, export, and torch's pruning."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune

from hw_export import IntegerSimulator, quantize, to_nir
from spikelfp import TemporalTrainer, explain, models, nn, pruning, rules
from spikelfp.errors import ShapeError, UnknownNameError, UserError
from spikelfp.fold import fold_batchnorm


def mlp(*widths, seed=0, neurons=nn.ReLU):
    torch.manual_seed(seed)
    layers = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), neurons()]
    return nn.Sequential(*layers[:-1]).double()


def lowest(values, count):
    """Places of the lowest numbers, the earlier of equal ones."""
    return sorted(range(len(values)), key=lambda place: (values[place], place))[:count]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from(["local", "global"]))
def test_the_lowest_weights_are_pruned(seed, rate, scope):
    net = mlp(3, 4, 2, seed=seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_((p * 6).round() / 6)  # ties, and zeros
    before = [net[0].weight.detach().clone(), net[2].weight.detach().clone()]
    biases = [net[0].bias.detach().clone(), net[2].bias.detach().clone()]
    masks = pruning.prune(net, rate, scope=scope)
    flats = [w.abs().flatten().tolist() for w in before]
    groups = flats if scope == "local" else [flats[0] + flats[1]]
    gone = [lowest(flat, int(rate * len(flat) + 0.5)) for flat in groups]
    if scope == "global":
        gone = [[g for g in gone[0] if g < 12], [g - 12 for g in gone[0] if g >= 12]]
    for own, layer, places in zip(before, (net[0], net[2]), gone, strict=True):
        wanted = own.flatten().clone()
        wanted[places] = 0
        assert torch.equal(layer.weight.detach().flatten(), wanted)
    assert torch.equal(net[0].bias, biases[0])
    assert torch.equal(net[2].bias, biases[1])
    assert masks.sparsity == pytest.approx((len(gone[0]) + len(gone[1])) / 20)


def test_relevance_ranks_by_the_sum_over_the_reference_set():
    net, x, labels = mlp(4, 6, 3), torch.randn(1, 20, 4).double(), torch.arange(20) % 3
    found = explain.weight_relevance(net, x, labels, rule=rules.Epsilon(1e-6))
    flat = torch.cat([found["0.weight"].flatten(), found["2.weight"].flatten()]).abs().tolist()
    pruning.prune(net, 0.5, "relevance", x=x, labels=labels)
    now = torch.cat([net[0].weight.flatten(), net[2].weight.flatten()])
    assert sorted((now == 0).nonzero()[:, 0].tolist()) == sorted(lowest(flat, 21))


@pytest.mark.parametrize("scope", ["local", "global"])
def test_whole_neurons_go_with_their_bias(scope):
    net = mlp(5, 8, 6, 3)
    score = [net[place].weight.detach().abs().mean(1).tolist() for place in (0, 2)]
    masks = pruning.prune(net, 0.5, scope=scope, structured=True)
    gone = [(net[place].weight == 0).all(1) for place in (0, 2)]
    if scope == "local":
        assert [each.nonzero()[:, 0].tolist() for each in gone] == [
            sorted(lowest(score[0], 4)), sorted(lowest(score[1], 3))
        ]  # fmt: skip
    else:
        assert sum(int(each.sum()) for each in gone) == 7
    for place, own in zip((0, 2), gone, strict=True):
        assert not net[place].bias[own].any()
        assert net[place].bias[~own].all()
    assert net[4].weight.all()
    assert set(masks.kept) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    pruning.prune(net, 1, structured=True)
    assert [int((net[place].weight != 0).any(1).sum()) for place in (0, 2)] == [1, 1]


def test_pruned_neurons_by_relevance_are_those_of_the_smallest_sum():
    net, x, labels = mlp(4, 6, 3), torch.randn(1, 20, 4).double(), torch.arange(20) % 3
    worth = explain.weight_relevance(net, x, labels)["0.weight"].sum(1).abs().tolist()
    pruning.prune(net, 0.5, "relevance", structured=True, scope="local", x=x, labels=labels)
    assert (net[0].weight == 0).all(1).nonzero()[:, 0].tolist() == sorted(lowest(worth, 3))


def test_layers_are_chosen_by_class_or_name():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    for layers, names in ((torch.nn.Conv2d, ["0"]), ("3", ["3"]), (["[03]"], ["0", "3"]), (None, ["0", "3"])):
        assert list(pruning.sparsity(net, layers)) == names
        twin = copy.deepcopy(net)
        pruning.prune(twin, 0.5, layers=layers)
        assert [name for name, share in pruning.sparsity(twin).items() if share] == names


def test_a_criterion_of_ones_own():
    net = mlp(3, 4, 2)
    pruning.prune(net, 0.25, lambda own: {"0.weight": -torch.arange(12.0).view(4, 3)})
    assert (net[0].weight.flatten() == 0).nonzero()[:, 0].tolist() == [0, 1, 2]


def tied(*widths):
    """A network whose second dense layer has the weights of the first."""
    net = mlp(*widths)
    net[2].weight = net[0].weight
    return net


def test_weights_of_two_layers_are_pruned_once():
    net, x, labels = tied(4, 4, 4, 3), torch.rand(1, 6, 4).double(), torch.arange(6) % 3
    for layers, name in ((["0", "2"], "0.weight"), ("2", "2.weight")):
        for options in ({}, {"criterion": "relevance", "x": x, "labels": labels}):
            twin = copy.deepcopy(net)
            masks = pruning.prune(twin, 0.5, layers=layers, **options)
            assert list(masks.kept) == [name]
            assert int((twin[0].weight == 0).sum()) == 8
            assert twin[2].weight is twin[0].weight
            assert pruning.sparsity(twin, ["0", "2"]) == {"0": 0.5, "2": 0.5}
    scores = pruning.relevance(net, x, labels, "2")["2.weight"]
    torch.testing.assert_close(scores, explain.weight_relevance(net, x, labels)["0.weight"])


def test_magnitude_is_the_same_by_name_and_as_a_function():
    nets = mlp(4, 9, 20, 3), mlp(4, 9, 20, 3)
    for net, criterion in zip(nets, ("magnitude", pruning.magnitude), strict=True):
        pruning.prune(net, 0.5, criterion, structured=True)
    torch.testing.assert_close(nets[0].state_dict(), nets[1].state_dict(), rtol=0, atol=0)


def test_layers_are_chosen_by_classes_and_names_together():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3), nn.ReLU(), nn.Linear(3, 2))
    assert list(pruning.sparsity(net, (torch.nn.Conv2d, "5"))) == ["0", "5"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_dtype_is_pruned_alike(dtype):
    net = mlp(5, 6, 3).to(dtype)
    flat = torch.cat([net[0].weight.flatten(), net[2].weight.flatten()]).double().abs().tolist()
    pruning.prune(net, 0.5)
    now = torch.cat([net[0].weight.flatten(), net[2].weight.flatten()])
    assert sorted((now == 0).nonzero()[:, 0].tolist()) == sorted(lowest(flat, 24))


def test_masks_of_biases_alone_have_a_share():
    net = mlp(4, 5, 3)
    torch_prune.l1_unstructured(net[0], "bias", 2)
    masks = pruning.from_torch(net)
    assert masks.sparsity == pytest.approx(0.4)
    assert repr(masks) == "Masks(1 parameters, 40.0 % pruned)"


# --- training


def test_pruned_weights_stay_zero_while_training_goes_on():
    torch.manual_seed(0)
    net = models.models["lif-mlp"]((6,), 3, hidden=(12,))
    x, labels = torch.rand(24, 6), torch.arange(24) % 3
    trainer = TemporalTrainer(net, method="lfp", steps=4, optimizer="adam", lr=1e-2, schedule=None, wake=False)
    trainer.fit((x, labels), epochs=1)  # Adam has a momentum now
    masks = pruning.prune(net, 0.6)
    gone = {name: ~mask for name, mask in masks.kept.items()}
    before = copy.deepcopy(net.state_dict())
    with masks.held(trainer):
        trainer.fit((x, labels), epochs=3)
        assert all(not net.state_dict()[name][mask].any() for name, mask in gone.items())
    moved = [name for name, mask in gone.items() if not torch.equal(net.state_dict()[name], before[name])]
    assert moved == list(gone)
    trainer.fit((x, labels), epochs=4)
    assert any(net.state_dict()[name][mask].any() for name, mask in gone.items())


def test_rounds_prune_the_same_share_of_what_is_left():
    net, seen = mlp(10, 20, 5), []

    def retrain(masks):
        seen.append(masks.sparsity)
        with torch.no_grad():
            net[0].weight += 1e-3  # a careless training

    masks = pruning.iterative(net, 0.75, 2, retrain)
    assert seen == pytest.approx([0.5, 0.75], abs=1e-2)
    assert masks.sparsity == pytest.approx(0.75, abs=1e-2)
    assert pruning.Masks.of(net).sparsity == pytest.approx(masks.sparsity)


# --- curves


def test_the_curve_is_that_of_networks_pruned_one_by_one():
    net, x = mlp(6, 12, 4), torch.randn(1, 50, 6).double()
    labels = net(x)[0].argmax(1)
    rates = (0.0, 0.3, 0.6, 0.9)
    before = copy.deepcopy(net.state_dict())
    for criterion, scope in (("magnitude", "local"), ("relevance", "global")):
        curve = pruning.sweep(net, x, labels, rates, criterion, scope=scope, batch_size=7)
        wanted = []
        for rate in rates:
            twin = copy.deepcopy(net)
            pruning.prune(twin, rate, criterion, scope=scope, x=x, labels=labels)
            wanted.append(float((twin(x)[0].argmax(1) == labels).double().mean()))
        assert curve.accuracy == pytest.approx(tuple(wanted))
        assert curve.accuracy[0] == 1
        assert (curve.criterion, curve.scope) == (criterion, scope)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("rates", [np.array([0.0, 0.5]), torch.tensor([0.0, 0.5]), [0.0, 0.5]])
def test_rates_are_any_sequence(rates):
    net, x = mlp(6, 12, 4), torch.randn(1, 20, 6).double()
    curve = pruning.sweep(net, x, net(x)[0].argmax(1), rates)
    assert curve.rates == (0.0, 0.5)
    assert curve.accuracy[0] == 1


def test_the_rate_of_a_drop_lies_on_straight_lines():
    curve = pruning.Curve((0.0, 0.5, 0.75, 1.0), (0.9, 0.9, 0.86, 0.1), "magnitude", "global")
    assert curve.prunable(0.02) == pytest.approx(0.625)
    assert curve.prunable(0.9) == 1.0


# --- smaller networks


def chain(bias=True):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=bias), nn.LIF(beta=torch.linspace(0.5, 0.9, 6).view(6, 1, 1)), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 2, bias=bias), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.LIF(threshold=torch.rand(8) + 0.2),
        nn.Linear(8, 10, bias=bias), nn.ALIF(), nn.Linear(10, 3, bias=bias), nn.LIF(beta=0.7),
    ).double()  # fmt: skip
    with torch.no_grad():
        for layer in net:
            if hasattr(layer, "weight"):
                layer.weight *= 4
    return net


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_a_smaller_network_gives_the_same_outputs(bias, rate):
    net, x = chain(bias), 2 * torch.rand(6, 4, 2, 8, 8).double()
    assert net(x).any()
    pruning.prune(net, rate, scope="local", structured=True)
    small = pruning.shrink(net)
    assert torch.equal(small(x), net(x))
    parameters = [sum(p.numel() for p in each.parameters()) for each in (small, net)]
    assert parameters[0] < 0.5 * parameters[1]
    widths = [small[0].out_channels, small[3].out_channels, small[8].out_features]
    assert widths == ([3, 4, 5] if rate == 0.5 else [1, 1, 1])
    assert repr(small[3]).count(f"{widths[0]}, {widths[1]}")
    assert list(small.state_dict()) == list(net.state_dict())


def test_copies_are_made_to_be_trained_in_every_mode():
    for mode in (torch.no_grad, torch.inference_mode):
        net = zeroed(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        with mode():
            copies = pruning.shrink(net), fold_batchnorm(torch.nn.Sequential(nn.Linear(3, 4), torch.nn.BatchNorm1d(4)))
        assert copies[0][0].out_features == 3
        assert not any(p.is_inference() for each in copies for p in each.parameters())


def test_neurons_that_lead_nowhere_are_removed_too():
    net, x = mlp(4, 6, 3), torch.randn(1, 5, 4).double()
    with torch.no_grad():
        net[2].weight[:, [1, 4]] = 0
    small = pruning.shrink(net)
    assert small[0].out_features == 4
    torch.testing.assert_close(small(x), net(x), rtol=1e-12, atol=1e-12)


def test_inside_of_a_residual_block_neurons_are_removed_and_between_blocks_not():
    torch.manual_seed(0)
    net = fold_batchnorm(models.resnet18((3, 8, 8), 4, width=4).double())
    x = torch.randn(1, 2, 3, 8, 8).double()
    inside = [
        name for name, layer in net.named_modules() if name.endswith("0.branches.0.0") and name.startswith("layer")
    ]
    assert len(inside) == 8
    pruning.prune(net, 0.5, scope="local", structured=True, layers=inside)
    small = pruning.shrink(net)
    assert small.layer1[0][0].branches[0][0].out_channels == 2
    torch.testing.assert_close(small(x), net(x), rtol=1e-10, atol=1e-10)
    pruning.prune(net, 0.5, scope="local", structured=True, layers="conv1.0")
    with pytest.raises(UserError, match=r"layer 'conv1.0' has neurons without effect that cannot be removed.*2 places"):
        pruning.shrink(net)


def zeroed(*layers):
    """A network whose first layer has a silent neuron."""
    net = nn.Sequential(*layers)
    with torch.no_grad():
        net[0].weight[0] = 0
        net[0].bias[0] = 0
    return net


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (lambda: zeroed(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), "'1', a BatchNorm1d; fold it first"),
        (lambda: zeroed(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2)), "'1', a Sigmoid"),
        (lambda: zeroed(nn.Conv2d(1, 4, 1), nn.Linear(4, 2)), "inputs of '1' are not the 4 neurons"),
        (lambda: zeroed(nn.Linear(3, 4), nn.Flatten(), nn.Linear(8, 2)), "8 inputs of '2' are not the 4"),
        (lambda: zeroed(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1, groups=2)), "'1' is a convolution with groups"),
        (lambda: zeroed(nn.Linear(3, 4), nn.RecurrentLIF(nn.Linear(4, 4)), nn.Linear(4, 2)), "a RecurrentLIF"),
        (lambda: zeroed(nn.Linear(3, 4), nn.Sum(nn.ReLU(), nn.Tanh()), nn.Linear(4, 2)), "go to 2 places"),
        # this Flatten leaves the channels alone, and 16 pixels are no 4 channels of 4 pixels
        (lambda: zeroed(nn.Conv2d(1, 4, 1), torch.nn.Flatten(3), nn.Linear(16, 2)), "'1', a Flatten"),
        (lambda: zeroed(*tied(4, 4, 4, 2).float()), "'0' shares a parameter with '2'"),
    ],
)
def test_neurons_that_cannot_be_removed_are_named(net, said):
    with pytest.raises(UserError, match=said):
        pruning.shrink(net())


# --- export


def test_zeros_stay_zeros_on_chips(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.LIF(), nn.Flatten(), nn.Linear(64, 3), nn.LIF(beta=0.8)
    )
    net[1].running_mean.normal_()
    net = fold_batchnorm(net)
    masks = pruning.prune(net, 0.7)
    x = torch.rand(5, 4, 1, 6, 6).round()
    made = quantize(net, 8, input_scale=1)
    for name, kept in masks.kept.items():
        integers = made.get_parameter(name)
        assert not integers[~kept].any()
        assert integers.any()
    simulator = IntegerSimulator(made, input_shape=(1, 6, 6))
    held = simulator.network.parameters()
    for name, kept in masks.kept.items():
        assert int(np.count_nonzero(np.asarray(held[name]))) <= int(kept.sum())
    written = to_nir(net, tmp_path / "net.nir", input_shape=(1, 6, 6))
    found = [node.weight for node in written.nodes.values() if hasattr(node, "weight")]
    assert [int((weight == 0).sum()) for weight in found] == [int((~kept).sum()) for kept in masks.kept.values()]
    assert net(x).shape == (5, 4, 3)


# --- torch


def test_masks_of_torch_are_taken_over():
    net, x = mlp(4, 6, 3), torch.randn(1, 5, 4).double()
    torch_prune.l1_unstructured(net[0], "weight", 0.5)
    torch_prune.random_unstructured(net[2], "bias", 1)
    wanted = net(x).detach()
    for call in (pruning.magnitude, pruning.shrink, lambda own: pruning.prune(own, 0.5)):
        with pytest.raises(UserError, match=r"layer '0' is computed at every run.*from_torch"):
            call(net)
    masks = pruning.from_torch(net)
    assert set(masks.kept) == {"0.weight", "2.bias"}
    assert masks.sparsity == 0.5
    assert isinstance(net[0].weight, torch.nn.Parameter)
    torch.testing.assert_close(net(x), wanted)
    assert pruning.prune(net, 0.75, scope="local", layers="0").sparsity == 0.75
    with pytest.raises(UserError, match="no layer of the network is pruned by torch"):
        pruning.from_torch(net)


# --- mistakes

SET = torch.ones(1, 2, 4).double(), torch.zeros(2, dtype=torch.long)


def moved_on(net):
    """Masks of a network whose layer was replaced since."""
    masks = pruning.prune(net, 0.5)
    net[0] = nn.Linear(4, 6)
    return masks


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda net: pruning.prune(net, 1.5), UserError, "a share in"),
        (lambda net: pruning.prune(net, 20), UserError, "20 percent are 0.2"),
        (lambda net: pruning.prune(net, True), UserError, "a share in"),
        (lambda net: pruning.prune(net, "0.5"), UserError, "a share in"),
        (lambda net: pruning.prune(net.state_dict(), 0.5), UserError, "a module of torch, got OrderedDict"),
        (lambda net: pruning.prune(torch.nn.LazyLinear(3), 0.5), UserError, "lazy"),
        (lambda net: pruning.prune(net, 0.5, layers=net[0]), UserError, "by their class or by patterns.*got Linear"),
        (lambda net: pruning.prune(net, 0.5, layers=[]), UserError, "no class and no pattern"),
        (lambda net: pruning.prune(net, 0.5, layers=["0", "fc*"]), UserError, r"no layer with weights fits 'fc\*'"),
        (lambda net: pruning.prune(net, 0.5, (torch.nn.Linear, nn.LIF)), UserError, "a criterion is"),
        (lambda net: pruning.prune(net, 0.5, lambda _: None), UserError, "got NoneType"),
        (lambda net: pruning.prune(net, 0.5, lambda _: {"0.weight": np.ones((5, 4))}), UserError, "fit no weight"),
        (lambda net: pruning.prune(net, 0.5, lambda _: {"0.bias": torch.ones(5)}), UserError, "fit no weight"),
        (
            lambda net: pruning.prune(tied(4, 4, 2), 0.5, lambda _: {f"{n}.weight": torch.ones(4, 4) for n in (0, 2)}),
            UserError, "one parameter twice, as 0.weight and as 2.weight",
        ),
        (lambda net: pruning.prune(tied(4, 4, 4, 2), 0.5, structured=True), UserError, "'0' shares a parameter"),
        (
            lambda net: pruning.prune(
                nn.Sequential(torch.nn.ConvTranspose2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 3)), 0.5, structured=True,
                layers=torch.nn.ConvTranspose2d,
            ),
            UserError, "a ConvTranspose2d, whose rows",
        ),
        (lambda net: pruning.iterative(net, 0.5, 2.5, print), UserError, "rounds is a whole number of at least 1"),
        (lambda net: pruning.iterative(net, 0.5, 2, None), UserError, "retrain is a function"),
        (lambda net: pruning.Curve((0.0, 0.5), (0.9, 0.8), "", "").prunable(2), UserError, "drop.*2 percent are 0.02"),
        (lambda net: pruning.Curve((0.0, 0.5), (0.9,), "", ""), ShapeError, "one accuracy for each rate"),
        (lambda net: pruning.prune(net, 0.5, "magnitud"), UnknownNameError, "magnitude"),
        (lambda net: pruning.prune(net, 0.5, scope="globl"), UnknownNameError, "global"),
        (lambda net: pruning.prune(net, 0.5, "relevance"), UserError, "reference set"),
        (lambda net: pruning.prune(net, 0.5, layers="conv*"), UserError, r"no layer with weights fits 'conv\*'"),
        (lambda net: pruning.prune(net, 0.5, layers=torch.nn.Conv2d), UserError, "no layer with weights fits"),
        (lambda net: pruning.prune(nn.Sequential(nn.LIF()), 0.5), UserError, "no layers to prune"),
        (lambda net: pruning.prune(net, 0.5, lambda _: {"0.weight": torch.ones(2)}), UserError, "fit no weight"),
        (lambda net: pruning.prune(net, 0.5, lambda _: {}), UserError, "scores no weight"),
        (
            lambda net: pruning.prune(net, 0.5, lambda _: {"0.weight": torch.full((5, 4), torch.nan)}),
            UserError, "NaN",
        ),
        (lambda net: pruning.prune(parametrizations.weight_norm(net[0]), 0.5), UserError, "computed at every run"),
        (lambda net: pruning.prune(net[0], 0.5, structured=True), UserError, "no layer has hidden neurons"),
        (lambda net: pruning.prune(net, 0.5, layers="2", structured=True), UserError, "no layer has hidden neurons"),
        (
            lambda net: pruning.prune(
                nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), 0.5, structured=True
            ),
            UserError, "'1' shifts what neurons of '0' give.*fold",
        ),
        (
            lambda net: pruning.prune(
                nn.Sequential(nn.Linear(3, 4), nn.RecurrentLIF(nn.Linear(4, 4)), nn.Linear(4, 2)), 0.5,
                structured=True, layers=["0"],
            ),
            UserError, "drive each other",
        ),
        (lambda net: pruning.iterative(net, 1.0, 2, print), UserError, r"rate in \[0, 1\)"),
        (lambda net: pruning.sweep(net, torch.ones(1, 2, 4), torch.ones(2).long(), (0.5, 0.1)), UserError, "rise"),
        (lambda net: pruning.sweep(net, torch.ones(1, 2, 4), torch.ones(3).long()), ShapeError, "labels are"),
        (lambda net: pruning.sweep(net, *SET, (0, 20)), UserError, "20 percent are 0.2"),
        (lambda net: pruning.sweep(net, *SET, batch_size=-1), UserError, "batch_size is a whole number of at least 1"),
        (lambda net: pruning.sweep(net, SET[0], SET[1] + 3), UserError, "no class 3: the network has 3 outputs"),
        (lambda net: pruning.sweep(net, SET[0], SET[1] - 1), UserError, "got the label -1"),
        (lambda net: pruning.sweep(net, SET[0][:, :0], SET[1][:0]), ShapeError, "0 labels"),
        (
            lambda net: pruning.sweep(net, *SET, mask=torch.ones(1, 9).bool(), batch_size=2), ShapeError,
            r"has shape \[1, 2\] here",
        ),
        (lambda net: pruning.sweep(net, *SET, criterion="relevance", reference=SET[0]), UserError, "pair of inputs"),
        (lambda net: pruning.Masks(net, {}), UserError, "one at least"),
        (lambda net: pruning.Masks(net, {"0.weight": [True]}), ShapeError, "boolean tensor, got list"),
        (lambda net: moved_on(net).apply(), ShapeError, r"shape \[5, 4\], and the parameter \[6, 4\]"),
        (lambda net: pruning.Masks(net, {"0.w": torch.ones(1).bool()}), UserError, "'0.w', which is no parameter"),
        (lambda net: pruning.Masks(net, {"0.weight": torch.ones(1).bool()}), ShapeError, "the mask of 0.weight"),
        (lambda net: pruning.prune(net, 0.5).held(net).__enter__(), UserError, "got Sequential"),
        (
            lambda net: pruning.prune(net, 0.5).held(torch.optim.SGD(mlp(2, 2).parameters(), 0.1)).__enter__(),
            UserError, "does not train 0.weight",
        ),
        (
            lambda net: pruning.relevance(mlp(4, 3, 2, neurons=nn.LIF), torch.zeros(1, 2, 4), torch.zeros(2).long()),
            UserError, "no weight has any relevance",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, kind, said):
    with pytest.raises(kind, match=said):
        call(mlp(4, 5, 3))
