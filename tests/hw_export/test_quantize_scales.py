"""Scales: of least error on sums, one for each channel, powers of two; each against a slow search from the formula."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from export_nets import STEPS, convolutional, dense, pixels
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_export import quantize
from hw_export.build import read_export, write_export
from hw_export.quantize import mantissas
from hw_export.quantize.scales import CLIPS, LARGEST_SHIFT, QuantizationError, free_scales, second_moment, shifts_of
from hw_export.samples import ExportSamples
from hw_export.verify import verify
from spikelfp import nn
from spikelfp.analysis import record
from spikelfp.errors import UserError
from spikelfp.functional.grid import largest


def heavy(*shape: int, seed: int = 0) -> torch.Tensor:
    """Weights with a heavy tail, few large and many near 0."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random) * torch.rand(shape, generator=random) ** 3


def unequal(reset: str = "zero") -> nn.Sequential:
    """A network whose output channels differ in size up to twentyfold."""
    net = dense(reset)
    with torch.no_grad():
        for layer in (net[1], net[3]):
            factors = torch.logspace(-1, 0.3, len(layer.weight))[:, None]
            layer.weight.mul_(factors)
    return net


def error_of_sums(layer: nn.Module, weight: torch.Tensor, x: torch.Tensor) -> np.ndarray:
    """``E[((w − ŵ)·x)²]`` of each output channel: the layer itself run with the difference of the weights."""
    twin = copy.deepcopy(layer).double()
    with torch.no_grad():
        twin.weight.copy_(layer.weight - weight)
        if twin.bias is not None:
            twin.bias.zero_()
        sums = twin(x.double())
    return sums.square().transpose(0, 2).flatten(1).mean(1).numpy()


def rounded(weight: torch.Tensor, scale: float, bits: int) -> torch.Tensor:
    limit = 2 ** (bits - 1) - 1
    return scale * torch.clamp(torch.round(weight / scale), -limit, limit)


LAYERS = {
    "dense": (lambda: nn.Linear(9, 5), (9,)),
    "convolution": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (3, 7, 8)),
    "groups": (lambda: nn.Conv2d(4, 6, (2, 3), groups=2, dilation=(1, 2)), (4, 6, 9)),
    "same": (lambda: nn.Conv2d(2, 3, (3, 5), padding="same"), (2, 6, 6)),
    "circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 6, 6)),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("still", [False, True])
def test_the_error_of_the_sums_is_what_the_layer_makes_of_the_lost_weights(kind, still):
    make, shape = LAYERS[kind]
    layer = make()
    x = nn.constant(torch.rand(6, *shape), 5) if still else torch.rand(5, 6, *shape)
    error = QuantizationError(layer.weight.detach(), 4, second_moment(layer, x))
    channels = len(layer.weight)
    for scales in (torch.tensor([0.1]), torch.rand(channels) / 4 + 0.01):
        each = scales.expand(channels)
        lost = torch.stack([rounded(w, s.item(), 4) for w, s in zip(layer.weight.detach(), each, strict=True)])
        assert error(scales.double()).numpy() == pytest.approx(error_of_sums(layer, lost, x), rel=1e-4)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_search_by_sums_finds_what_trying_every_scale_finds(bits, per_channel):
    layer = nn.Linear(60, 8)
    with torch.no_grad():
        layer.weight.copy_(heavy(8, 60, seed=bits))
    x = (torch.rand(4, 30, 60) < 0.3).float()
    weight = layer.weight.detach()
    error = QuantizationError(weight, bits, second_moment(layer, x))
    found = free_scales(weight, error, "output", per_channel=per_channel, power_of_two=False)
    assert found.shape == ((8,) if per_channel else (1,))
    top = weight.abs().amax(1) / largest(bits)
    for channel in range(8) if per_channel else [slice(None)]:
        start = float(top[channel].max())
        tried = [start * 2 ** (-step / 32) for step in range(160)]
        errors = [error_of_sums(layer, rounded(weight, scale, bits), x)[channel].sum() for scale in tried]
        assert error(found)[channel].sum().item() <= 1.1 * min(errors)


def test_on_inputs_that_never_come_weights_do_not_count():
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.1, -0.2, 0.3, 50.0], [0.3, 0.1, -0.1, -40.0]]))
    x = torch.rand(3, 20, 4) * torch.tensor([1.0, 1, 1, 0])
    weight = layer.weight.detach()
    scale = free_scales(
        weight, QuantizationError(weight, 4, second_moment(layer, x)), "output", per_channel=False, power_of_two=False
    )
    assert scale.item() <= 0.11, "of the largest weights the sums know nothing"


def test_output_is_better_on_the_sums_and_mse_on_the_weights():
    torch.manual_seed(0)
    layer = nn.Linear(60, 20)
    with torch.no_grad():
        layer.weight.copy_(heavy(20, 60))
    x = torch.rand(5, 40, 60) * torch.logspace(-2, 0, 60)
    weight = layer.weight.detach()
    of_sums, of_weights = QuantizationError(weight, 3, second_moment(layer, x)), QuantizationError(weight, 3)
    options = {"per_channel": False, "power_of_two": False}
    output, mse = (free_scales(weight, of_sums, clip, **options) for clip in ("output", "mse"))
    assert of_sums(output).sum() < of_sums(mse).sum()
    assert of_weights(mse).sum() < of_weights(output).sum()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 10), st.sampled_from(["mse", "max", "mean", "percentile"]), st.booleans())
def test_shifts_are_the_best_near_each_channels_own_scale(seed, bits, clip, power_of_two):
    weight = heavy(5, 40, seed=seed) * torch.logspace(-1, 0.5, 5)[:, None]
    error = QuantizationError(weight, bits)
    own = free_scales(weight, error, clip, per_channel=True, power_of_two=power_of_two)
    unit, shifts = shifts_of(own, error, clip, power_of_two=power_of_two)
    assert shifts.min() == 0
    assert shifts.max() <= LARGEST_SHIFT
    scales = [unit * 2**shift for shift in shifts.tolist()]
    for scale, alone, channel in zip(scales, own.tolist(), weight, strict=True):
        at_the_end = scale == min(scales) and max(scales) == unit * 2**LARGEST_SHIFT
        assert alone / 2 * 0.999 <= scale <= alone * 2 * 1.001 or at_the_end
        if clip == "max":
            assert channel.abs().max() <= scale * largest(bits) * (1 + 1e-6)
        if clip == "mse" and not at_the_end:
            near = [scale / 2, scale, scale * 2]
            near = [value for value in near if alone / 2 <= value <= alone * 2]
            errors = [(channel - rounded(channel, value, bits)).square().sum().item() for value in near]
            assert errors[near.index(scale)] <= min(errors) * (1 + 1e-4) if scale in near else True
    if power_of_two:
        assert all(np.log2(scale) == round(np.log2(scale)) for scale in scales)


def test_the_unit_is_the_best_of_all_that_could_be_tried():
    weight = heavy(4, 30, seed=2) * torch.tensor([1.0, 0.4, 0.1, 0.03])[:, None]
    error = QuantizationError(weight, 4)
    own = free_scales(weight, error, "mse", per_channel=True, power_of_two=False)
    unit, shifts = shifts_of(own, error, "mse", power_of_two=False)
    found = error(unit * shifts.double().exp2()).sum().item()
    best = np.inf
    for phase in range(32):
        units = [own.max().item() * 2 ** (phase / 32 - shift) for shift in range(LARGEST_SHIFT + 1)]
        total = sum(min((row - rounded(row, unit, 4)).square().sum().item() for unit in units) for row in weight)
        best = min(best, total)
    assert found <= 1.05 * best


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 10), st.integers(1, 6))
def test_integers_come_apart_into_mantissas_and_shifts(seed, bits, channels):
    random = torch.Generator().manual_seed(seed)
    limit = largest(bits)
    mantissa = torch.randint(-limit, limit + 1, (channels, 3, 2, 2), generator=random).float()
    shift = torch.randint(0, 8, (channels,), generator=random)
    wide = mantissa * 2.0 ** shift[:, None, None, None]
    found, by = mantissas(wide, bits)
    assert torch.equal(found * 2.0 ** by[:, None, None, None], wide)
    assert found.abs().max() <= limit
    assert (by <= shift).all()


def test_other_integers_are_refused():
    with pytest.raises(UserError, match="channel 1 are no numbers of 4 bits"):
        mantissas(torch.tensor([[7.0, 1.0], [9.0, 1.0]]), 4)
    with pytest.raises(UserError, match="not whole numbers"):
        mantissas(torch.tensor([[0.5]]), 4)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("power_of_two", [False, True])
def test_a_scale_for_each_channel_has_less_error_where_channels_differ(bits, power_of_two):
    net = unequal()
    layer, channel = (
        quantize(net, bits, per_channel=per_channel, power_of_two=power_of_two, input_scale=16)
        for per_channel in (False, True)
    )
    for one, each in zip(layer.report, channel.report, strict=True):
        assert each.squared_error < one.squared_error
        assert one.max_shift == 0 < each.max_shift <= LARGEST_SHIFT
        weight = channel.get_submodule(each.layer).weight
        parts, shifts = mantissas(weight, bits)
        assert int(shifts.max()) <= each.max_shift
        assert parts.abs().max() <= largest(bits)
        real = net.get_submodule(each.layer).weight.detach()
        assert each.squared_error == pytest.approx((real - each.scale * weight).square().sum().item(), rel=1e-3)


def test_with_channels_the_threshold_is_hit_and_the_spikes_stay_closer(reset):
    net = unequal()
    images = pixels(24, count=60)
    x, whole = nn.constant(images, 20), nn.constant(images * 16, 20)
    ours = record(net, x)["2"]
    copies = [quantize(net, 4, per_channel=per_channel, input_scale=16) for per_channel in (False, True)]
    for made in copies:
        for layer, report, unit in zip((made[2], made[4]), made.report, (1 / 16, 1), strict=True):
            assert layer.threshold * report.scale * unit == pytest.approx(1.0, rel=1e-6)
            assert report.threshold_error == 0
            assert report.exact
    of_layer, of_channel = ((record(made, whole)["2"] != ours).float().mean() for made in copies)
    assert of_channel < of_layer


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_powers_of_two(clip, per_channel):
    net = dense("zero")
    x = nn.constant(pixels(24, count=30), 20)
    made = quantize(
        net, 6, clip=clip, per_channel=per_channel, power_of_two=True, input_scale=16, calibration=x, tie_margin=0
    )
    for report, unit in zip(made.report, (1 / 16, 1), strict=True):
        assert np.log2(report.scale) == round(np.log2(report.scale))
        steps = 1 / (report.scale * unit)
        assert report.threshold == max(1, round(steps))
        assert report.threshold_error == pytest.approx(report.threshold / steps - 1, abs=1e-6)
        assert made.get_submodule(report.neurons).threshold == report.threshold


def test_a_threshold_that_is_no_power_of_two_is_rounded_and_the_report_says_by_how_much():
    net = dense("zero")
    net[4].constants = type(net[4].constants)(0.9, 1.37, "zero")
    made = quantize(net, 4, power_of_two=True, input_scale=16)
    report = made.report[1]
    assert report.threshold_error != 0
    assert made[4].threshold * report.scale == pytest.approx(1.37 * (1 + report.threshold_error), rel=1e-6)
    assert abs(report.threshold_error) <= report.scale / 2 / 1.37 * (1 + 1e-6)


def test_convolutions_take_every_scheme(reset):
    net = convolutional(reset)
    x = nn.constant(pixels(1, 8, 8, count=20), 15)
    for clip, per_channel, power_of_two in itertools.product(CLIPS, (False, True), (False, True)):
        made = quantize(
            net, 8, clip=clip, per_channel=per_channel, power_of_two=power_of_two, input_scale=16, calibration=x
        )
        assert all(torch.equal(own, own.round()) for own in made.parameters())
        assert made(made.scaled(x)).sum() > 0


def test_each_layers_inputs_come_through_the_quantised_ones_in_front():
    net = dense("zero")
    x = nn.constant(pixels(24, count=30), 20)
    made = quantize(net, 3, clip="output", calibration=x, input_scale=16)
    spikes = record(made, made.scaled(x))["2"]
    weight = net[3].weight.detach()
    error = QuantizationError(weight, 3, second_moment(net[3], spikes))
    free = free_scales(weight, error, "output", per_channel=False, power_of_two=False).item()
    steps = min((int(1 / free), int(1 / free) + 1), key=lambda n: error(torch.tensor([1 / n])).sum().item())
    assert made.report[1].threshold == steps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_give_the_integers_of_float32(dtype):
    net = dense("zero").to(dtype)
    for options in ({}, {"per_channel": True}, {"clip": "percentile", "power_of_two": True}):
        made, again = quantize(net, 6, **options), quantize(dense("zero").to(dtype).float(), 6, **options)
        assert all(torch.equal(a, b) for a, b in zip(made.parameters(), again.parameters(), strict=True))
        assert made[1].weight.dtype == torch.float32
        assert net[1].weight.dtype == dtype


def test_sums_need_inputs():
    with pytest.raises(UserError, match="hand in calibration inputs"):
        quantize(dense("zero"), 8, clip="output")


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (pixels(24) + 0.03, "no whole numbers over 16"),
        (pixels(24) - 0.5, "no whole numbers over 16, from 0"),
        (pixels(24) * 2, "go up to 2"),
        (pixels(24) * float("nan"), "calibration holds NaN"),
    ],
)
def test_calibration_inputs_must_be_what_the_network_takes(images, text):
    with pytest.raises(UserError, match=text):
        quantize(dense("zero"), 8, input_scale=16, calibration=nn.constant(images, 5))


def test_standardised_inputs_are_taken_as_they_are():
    net = dense("zero")
    images = (pixels(24, count=30) - 0.3) / 0.2
    made = quantize(net, 8, clip="output", calibration=nn.constant(images, 20))
    assert made.input_scale is None
    ours, theirs = net(nn.constant(images, 20)), made(nn.constant(images, 20))
    assert theirs.sum() > 0
    assert (ours == theirs).float().mean() > 0.95


def test_mixed_decays_stay_with_their_layers():
    net = nn.Sequential(nn.Linear(24, 16), nn.LIF(0.7), nn.Linear(16, 4), nn.LIF(0.95))
    made = quantize(net, 6, per_channel=True)
    assert (made[1].beta, made[3].beta) == (0.7, 0.95)
    assert made.bits == 6


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_channel_of_zeros_stays_one(per_channel):
    net = dense("zero")
    with torch.no_grad():
        net[1].weight[3] = 0
    for clip in ("mse", "max", "mean", "percentile", "output"):
        x = nn.constant(pixels(24), 5)
        made = quantize(net, 4, clip=clip, per_channel=per_channel, input_scale=16, calibration=x)
        assert not made[1].weight[3].any()
        assert all(torch.isfinite(own).all() for own in made.parameters())


@pytest.mark.parametrize("power_of_two", [False, True])
def test_every_simulator_runs_networks_with_a_scale_for_each_channel(tmp_path, reset, simulator, power_of_two):
    shown = ExportSamples(pixels(24, count=10), torch.arange(10) % 10, STEPS, scale=16)
    write_export(unequal(reset), shown, tmp_path / "e", bits=4, per_channel=True, power_of_two=power_of_two)
    _, exported, samples = read_export(tmp_path / "e")
    (result,) = verify(exported, tmp_path / "e" / "network.nir", samples.sequence(), [simulator])
    if result.status == "unsupported":
        pytest.skip(result.reason)
    assert result.status == "identical"
    assert all(layer.spikes > 0 for layer in result.layers)
