"""Thresholds and decays of every neuron in whole numbers, against the formula written out."""

from __future__ import annotations

import pytest
import torch
from export_nets import bernoulli

from hw_export import IntegerNetwork, IntegerSimulator, from_nir, quantize, to_nir
from hw_export.integer import spread
from hw_export.quantize import TIE_MARGIN
from hw_export.quantize.scales import kept_step, nearest_step, one_if_uniform
from spikelfp import nn
from spikelfp.errors import UserError


def between(low, high, *shape, seed=0):
    return low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def dense(reset="subtract"):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(24, 16), nn.LIF(between(0.5, 0.95, 16, seed=1), between(0.5, 1.5, 16, seed=2), reset),
        nn.Linear(16, 6), nn.LIF(0.9, between(0.3, 0.9, 6, seed=4), reset),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3)
    return net


def convolutional(*shape):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.LIF(between(0.5, 0.9, *shape), between(0.2, 0.5, *shape, seed=1), "zero"),
        nn.Flatten(), nn.Linear(108, 4), nn.LIF(0.9, between(0.05, 0.2, 4), "zero"),
    )  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"power_of_two": True}, {"per_channel": True}, {"clip": "max"}])
@pytest.mark.parametrize("input_scale", [None, 1, 16])
def test_every_threshold_is_the_nearest_whole_number(options, input_scale):
    net = dense()
    made = quantize(net, 6, input_scale=input_scale, **options)
    for report, factor in zip(made.report, (input_scale or 1, 1), strict=True):
        unit = report.scale / factor
        real = net.get_submodule(report.neurons).threshold.double()
        whole = torch.tensor(report.threshold)
        assert (whole.double() + TIE_MARGIN - real / unit).abs().max() <= 0.5 + 1e-9
        error = ((whole + TIE_MARGIN) * unit / real - 1).abs().max().item()
        assert abs(report.threshold_error) == pytest.approx(error, rel=1e-4)
        compared = made.get_submodule(report.neurons).threshold
        assert torch.equal(compared, (whole + TIE_MARGIN).float())


def almost_all_spikes(whole, made, x):
    """Chips round decays, so a spike may differ here and there; a wrong threshold would be seen in many."""
    found = IntegerSimulator(whole).run(x).spikes[whole.neurons[-1].name]
    assert (found == made(x)).float().mean() > 0.98


@pytest.mark.parametrize("reset", ["zero", "subtract", "immediate"])
@pytest.mark.parametrize("input_scale", [None, 1])
def test_whole_numbers_fire_as_the_copy_does(tmp_path, reset, input_scale):
    net, x = dense(reset), bernoulli(24)
    made = quantize(net, 8, input_scale=input_scale)
    expected = made(x)
    assert 0 < expected.sum() < expected.numel()
    almost_all_spikes(IntegerNetwork.of(made), made, x)
    to_nir(made, tmp_path / "a")
    back = from_nir(tmp_path / "a")
    assert torch.equal(back(x), expected)
    for name, report in zip(("layer_1_lif", "layer_3_lif"), made.report, strict=True):
        assert back.integer_thresholds[name].tolist() == report.threshold
    assert torch.equal(to_nir_again(back, tmp_path)(x), expected)


def to_nir_again(net, folder):
    to_nir(net, folder / "b")
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    return from_nir(folder / "b")


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 6, 6), (1, 6, 6)])
def test_thresholds_behind_convolutions(shape):
    net, x = convolutional(*shape), bernoulli(1, 8, 8)
    with torch.no_grad():
        net[0].weight.abs_()
    made = quantize(net, 8, input_scale=1)
    assert torch.tensor(made.report[0].threshold).shape == shape
    expected = made(x)
    assert 0 < expected.sum() < expected.numel()
    whole = IntegerNetwork.of(made, (1, 8, 8))
    thresholds = torch.tensor(made.report[0].threshold).expand(3, 6, 6).flatten()
    assert torch.equal(spread(whole.neurons[0].threshold, (3, 6, 6)), thresholds)
    almost_all_spikes(whole, made, x)


def test_a_tensor_of_one_threshold_is_one_threshold():
    """The scale is moved to meet it, as for a number."""
    torch.manual_seed(0)
    one = nn.Sequential(nn.Linear(24, 6), nn.LIF(0.9, 0.7))
    same = nn.Sequential(one[0], nn.LIF(0.9, torch.full((6,), 0.7)))
    first, second = (quantize(net, 8, input_scale=1) for net in (one, same))
    assert first.report[0].threshold == second.report[0].threshold
    assert second.report[0].threshold_error == 0
    assert isinstance(one_if_uniform(torch.ones(3)), float)


def test_a_threshold_that_would_vanish_is_refused_with_the_lowest():
    net = nn.Sequential(nn.Linear(24, 4), nn.LIF(0.9, torch.tensor([1.0, 2.0, 1e-6, 1.0])))
    with pytest.raises(UserError, match=r"the threshold 1e-06 after layer '0' would round to 0"):
        quantize(net, 4)


def test_steps_of_several_thresholds_are_those_of_each():
    thresholds = between(0.1, 3.0, 50).double()
    for make in (nearest_step, kept_step):
        every = make(0.013, thresholds, 4, TIE_MARGIN)
        for index, threshold in enumerate(thresholds.tolist()):
            one = make(0.013, threshold, 4, TIE_MARGIN)
            assert (every.whole[index].item(), every.compared[index].item()) == (one.whole, one.compared)
        assert abs(every.error) == max(abs(make(0.013, t, 4, TIE_MARGIN).error) for t in thresholds.tolist())
