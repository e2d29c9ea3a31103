"""Which layers share a scale, and how it fits the neurons behind them."""

import pytest
import torch

from spikelfp import models, nn
from spikelfp.errors import UnknownNameError, UserError
from spikelfp.quantized import FINE_MARGIN, Quantization, WeightGrids, bias_steps, choose_scale, groups


def described(net):
    return [([m.name for m in g.members], g.threshold, g.into_neurons) for g in groups(net)]


def test_neurons_are_found_past_pooling_and_inner_chains():
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2)), nn.LIF(threshold=0.7), nn.Flatten(), nn.Dropout(0.1),
        nn.Linear(8, 4), nn.Synaptic(threshold=0.4), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), nn.LI(),
    )  # fmt: skip
    assert described(net) == [
        (["0.0"], 0.7, True), (["4"], 0.4, True), (["6"], None, False), (["8"], None, True),
    ]  # fmt: skip
    assert [m.takes_spikes for g in groups(net) for m in g.members] == [False, True, True, False]


def test_recurrent_connections_share_the_scale_of_the_layer_in_front():
    net = nn.Sequential(nn.Linear(6, 4), nn.RecurrentLIF(4, threshold=0.5), nn.BatchNorm1d(4), nn.RecurrentLIF(4))
    assert described(net) == [(["0", "1.recurrent"], 0.5, True), (["3.recurrent"], 1.0, True)]
    WeightGrids(net, Quantization(4))
    assert net[0].weight_scale == net[1].recurrent.weight_scale
    assert (net[0].bias_steps, net[1].recurrent.bias_steps) == (255, 64)


@pytest.mark.parametrize(("levels", "steps"), [(1, 64), (3, 96), (15, 120), (16, 64), (64, 64), (65, 65), (255, 255)])
def test_sums_of_weights_are_whole_steps_of_a_bias(levels, steps):
    net = nn.Sequential(nn.Linear(6, 4), nn.LIF())
    WeightGrids(net, Quantization(4, input_levels=levels))
    assert net[0].bias_steps == bias_steps(levels) == steps
    assert steps % levels == 0


def test_a_normalisation_or_a_branch_gives_a_layer_its_own_unit():
    net = nn.Sequential(nn.Sum(nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)), nn.LIF())
    assert described(net) == [(["0.branches.0"], None, False), (["0.branches.1"], None, False)]
    for net in (models.mlp([4, 3, 2]), nn.Linear(3, 2)):
        assert all(threshold is None and not into for _, threshold, into in described(net))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("update", ["masters", "stochastic"])
def test_thresholds_are_whole_numbers_of_steps_and_the_margin(bits, update):
    net = models.lif_mlp([20, 30, 10], threshold=0.6)
    WeightGrids(net, Quantization(bits, update))
    for layer in net:
        if isinstance(layer, nn.Linear):
            steps = 0.6 / layer.grid.scale - FINE_MARGIN
            assert steps == pytest.approx(round(steps), abs=1e-4)
            assert steps > 0.9
            assert layer.bias_grid.scale == pytest.approx(layer.grid.scale / layer.bias_steps, rel=1e-6)


def test_grids_that_are_there_are_left_as_they_are():
    net = models.lif_mlp([20, 30, 10])
    options = Quantization(4)
    WeightGrids(net, options)
    net[1].weight_scale.fill_(0.123)
    WeightGrids(net, options)
    assert net[1].weight_scale == torch.tensor(0.123)
    WeightGrids(net, Quantization(2))
    assert net[1].weight_scale != torch.tensor(0.123)


def test_scales_follow_the_masters_every_few_steps():
    net = models.lif_mlp([20, 30, 10])
    grids = WeightGrids(net, Quantization(4, every=5))
    before = net[1].weight_scale.item()
    with torch.no_grad():
        net[1].weight.mul_(4)
    grids.settle(4)
    assert net[1].weight_scale.item() == before
    grids.settle(5)
    assert net[1].weight_scale.item() == pytest.approx(4 * before, rel=0.1)


def test_a_sample_of_many_weights_gives_nearly_the_scale_of_all():
    net = nn.Sequential(nn.Linear(768, 700), nn.ReLU())  # the number of weights left out divides a row
    with torch.no_grad():
        net[0].weight.mul_(torch.linspace(0.1, 2, 768))
    WeightGrids(net, Quantization(4))
    assert net[0].grid.scale == pytest.approx(choose_scale(net[0].weight, 4), rel=0.05)
    WeightGrids(net, Quantization(4, clip="max"))
    assert net[0].grid.scale == pytest.approx(net[0].weight.abs().max().item() / 7, rel=1e-6)


def test_what_is_refused():
    with pytest.raises(UserError, match="from 2 to 16, got 1"):
        Quantization(1)
    with pytest.raises(UnknownNameError, match="did you mean 'stochastic'"):
        Quantization(4, "stochastc")
    with pytest.raises(UnknownNameError, match="unknown clip 'best'"):
        Quantization(4, clip="best")
    with pytest.raises(UserError, match="at least 1, got every=0"):
        Quantization(4, every=0)
    with pytest.raises(UserError, match="no layer whose weights can be quantised"):
        WeightGrids(nn.Sequential(nn.LIF()), Quantization(4))
    net = models.lif_mlp([20, 30, 10])
    torch.nn.init.zeros_(net[3].weight)
    with pytest.raises(UserError, match="the weights of layer '3' are all zero"):
        WeightGrids(net, Quantization(4))
    assert all(layer.grid is None for layer in net if isinstance(layer, nn.Linear))


def test_thresholds_of_their_own_are_refused_and_decays_of_their_own_are_not():
    net = nn.Sequential(nn.Linear(4, 3), nn.LIF(torch.tensor([0.5, 0.75, 0.9]), torch.full((3,), 0.5)), nn.Linear(3, 2))
    assert WeightGrids(net, Quantization(4)).groups[0].threshold == 0.5
    net = nn.Sequential(nn.Linear(4, 3), nn.LIF(0.5, torch.tensor([0.5, 0.75, 0.9])))
    with pytest.raises(UserError, match=r"layer '1' have thresholds of their own.*one scale for all"):
        WeightGrids(net, Quantization(4))


class OwnNeurons(nn.Layer):
    """Neurons known by their traits alone."""

    has_membrane = fires = has_threshold = True

    def __init__(self):
        super().__init__()
        self.threshold = 0.5

    def forward(self, x):
        return (x > self.threshold).float()


def test_neurons_of_ones_own_give_the_unit_of_the_weights_in_front_of_them():
    net = nn.Sequential(nn.Linear(4, 3), nn.Flatten(), OwnNeurons(), nn.Linear(3, 2), nn.LI())
    first, last = groups(net)
    assert (first.threshold, first.into_neurons, last.threshold, last.into_neurons) == (0.5, True, None, True)
    assert last.members[0].takes_spikes


def test_weights_behind_a_sum_or_in_front_of_several_layers_have_a_unit_of_their_own():
    split = nn.Sequential(
        nn.Linear(4, 3), nn.Concat(nn.LIF(), nn.LI()), nn.Sum(nn.Linear(6, 2), nn.Linear(6, 2)), nn.LIF()
    )
    assert [group.into_neurons for group in groups(split)] == [False, False, False]
