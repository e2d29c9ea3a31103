"""Integer weights, thresholds and inputs."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from export_nets import dense, pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import parametrizations, prune

from hw_export import IntegerNetwork, IntegerSimulator, quantize, to_nir
from hw_export.quantize.scales import QuantizationError, free_scales
from hw_export.updates import grids_of
from spikelfp import nn
from spikelfp.analysis import record
from spikelfp.errors import UnknownNameError, UserError
from spikelfp.functional.grid import Grid, largest


def integer_reference(net, x, thresholds: dict[str, int]) -> dict[str, np.ndarray]:
    """Spikes of a dense network with β = 1/2 and reset to zero, in Python's unlimited integers.

    A membrane after ``t`` steps of decay by 1/2 is an integer in units of ``2^−t``, so ``U > n`` compares integers.
    x: integers ``[T, B, inputs]``. thresholds: ``n`` of each LIF layer.
    """
    spikes = x.numpy().astype(int).astype(object)
    found = {}
    for name, layer in net.named_children():
        if isinstance(layer, nn.Linear):
            weight, bias = (tensor.numpy().astype(int).astype(object) for tensor in (layer.weight, layer.bias))
            current = spikes @ weight.T + bias
        elif isinstance(layer, nn.LIF):
            carried = np.zeros(current.shape[1:], dtype=object)
            fired = []
            for t, drive in enumerate(current):
                membrane = carried + drive * 2**t  # U · 2^t; halving is the step to the finer unit
                fired.append((membrane > thresholds[name] * 2**t).astype(int))
                carried = np.where(fired[-1], 0, membrane)
            spikes = np.array(fired).astype(object)
            found[name] = spikes.astype(int)
    return found


def test_the_copy_holds_integers_and_leaves_the_original_alone(reset):
    net = dense(reset)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    copy = quantize(net, 8, input_scale=16)
    for tensor in copy.state_dict().values():
        assert torch.equal(tensor, tensor.round())
    assert max(layer.weight.abs().max() for layer in copy if isinstance(layer, nn.Linear)) == 127
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert [type(layer) for layer in copy] == [type(layer) for layer in net]
    assert all(layer.reset == reset and layer.beta == 0.9 for layer in copy if isinstance(layer, nn.LIF))


def test_the_threshold_is_an_integer_and_stays_the_same_in_real_terms():
    net = dense("zero")
    bare = quantize(net, 8, input_scale=16, tie_margin=0)
    copy = quantize(net, 8, input_scale=16)
    for layer, plain, report, unit in zip(
        (copy[2], copy[4]), (bare[2], bare[4]), copy.report, (1 / 16, 1), strict=True
    ):
        assert plain.threshold == int(plain.threshold) == report.threshold
        assert layer.threshold == report.threshold + 49 / 128
        assert layer.threshold * report.scale * unit == pytest.approx(1.0, rel=1e-7)
    assert copy.report[0].threshold % 16 == 0


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 12])
@pytest.mark.parametrize("clip", ["mse", "max"])
def test_weights_are_close_to_scale_times_integer(bits, clip):
    net = dense("zero")
    copy = quantize(net, bits, clip=clip)
    for report in copy.report:
        old, new = net.get_submodule(report.layer).weight, copy.get_submodule(report.layer).weight
        assert report.max_weight == new.abs().max() <= largest(bits)
        error = (old.detach() - report.scale * new).square().sum().item()
        assert report.squared_error == pytest.approx(error, rel=1e-3)
        assert report.zero_fraction == pytest.approx((new == 0).float().mean().item())
        assert report.weights == old.numel()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.floats(1e-3, 1e3))
def test_mse_is_never_worse_than_max(seed, bits, size):
    weight = torch.randn(20, 10, generator=torch.Generator().manual_seed(seed)) * size
    options = {"per_channel": False, "power_of_two": False}
    mse, most = (
        free_scales(weight, QuantizationError(weight, bits), clip, **options).item() for clip in ("mse", "max")
    )
    lost = {scale: weight - scale * Grid.symmetric(scale, bits).to_integers(weight) for scale in (mse, most)}
    assert lost[mse].double().square().sum() <= lost[most].double().square().sum()
    grid = Grid.symmetric(most, bits)
    error = (weight - grid.to_real(grid.to_integers(weight))).abs().max().item()
    assert error <= most / 2 * (1 + 1e-4), "nothing is clipped, so no weight moves by more than half a step"


def test_spikes_are_those_of_unlimited_integers():
    net = dense("zero", beta=0.5)
    copy = quantize(net, 6, input_scale=16)
    images = pixels(24) * 16
    x = nn.constant(images, 12)
    found = record(copy, x)
    expected = integer_reference(copy, x, {r.neurons: r.threshold for r in copy.report})
    for name, spikes in found.items():
        assert spikes.sum() > 0
        assert np.array_equal(spikes.numpy(), expected[name])


def test_spikes_do_not_depend_on_the_order_of_summation(reset):
    copy = quantize(dense(reset, sizes=(100, 40, 10)), 8, input_scale=16)
    x = pixels(100) * 16
    order = torch.randperm(100, generator=torch.Generator().manual_seed(5))
    before = copy(nn.constant(x, 20))
    copy[1].weight.copy_(copy[1].weight[:, order])
    assert torch.equal(copy(nn.constant(x[:, order], 20)), before)
    assert before.sum() > 0


def test_more_bits_are_closer_to_floats(reset):
    net = dense(reset)
    images = pixels(24, count=50)
    ours = net(nn.constant(images, 20))
    copies = [quantize(net, bits, input_scale=16)(nn.constant(images * 16, 20)) for bits in (3, 6, 12)]
    coarse, middle, fine = ((ours != spikes).float().mean().item() for spikes in copies)
    assert coarse > middle > fine
    assert fine < 0.01


def test_without_an_input_scale_the_inputs_stay_as_they_are():
    net = dense("zero")
    with torch.no_grad():
        net[1].bias.zero_()  # a bias is rounded more finely where the inputs are integers
    as_they_are = quantize(net, 8, tie_margin=0)
    scaled = quantize(net, 8, tie_margin=0, input_scale=16)
    assert as_they_are.input_scale is None
    assert [layer.exact for layer in as_they_are.report] == [False, True]
    assert [layer.exact for layer in scaled.report] == [True, True]
    images = pixels(24)  # of sixteenths, so that these sums are exact as well
    spikes = as_they_are(nn.constant(images, 20))
    assert spikes.sum() > 0
    assert torch.equal(spikes, scaled(nn.constant(images * 16, 20)))


def test_inputs_are_not_scaled_where_float32_would_round():
    copy = quantize(dense("zero"), 16, input_scale=255)
    assert copy.input_scale is None
    assert "could reach" in copy.notes[0]


def test_pooling_by_other_than_a_power_of_two_is_noted():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.LIF(0.9, 0.1), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(8, 3), nn.LIF(0.9, 0.1)
    )
    copy = quantize(net, 8, input_scale=1)
    assert [layer.exact for layer in copy.report] == [True, False]
    assert copy.notes == ("float32 may round what the pooling '2' gives: it divides by 9",)


@pytest.mark.parametrize(
    ("options", "exact"),
    [
        ({"kernel_size": 2}, True),
        ({"kernel_size": 2, "divisor_override": 1}, True),
        ({"kernel_size": 2, "divisor_override": 8}, True),
        ({"kernel_size": (3, 1), "divisor_override": 1}, True),
        ({"kernel_size": 2, "divisor_override": 3}, False),
        ({"kernel_size": 2, "padding": 1}, True),
        ({"kernel_size": 2, "padding": 1, "count_include_pad": False}, True),
        ({"kernel_size": 4, "stride": 3, "ceil_mode": True}, False),  # windows of 2 and 4 here, of 3 elsewhere
        ({"kernel_size": 3}, False),
    ],
)
def test_sums_behind_every_pooling_are_bounded(options, exact):
    torch.manual_seed(0)
    net = nn.Sequential(nn.AvgPool2d(**options), nn.Conv2d(1, 3, 2), nn.LIF(0.9, 0.5))
    copy = quantize(net, 6, input_scale=15)
    images = torch.randint(0, 16, (50, 1, 8, 8)).float()
    images[0] = 15.0
    pooled = copy[0](images.unsqueeze(0))
    patches = torch.nn.functional.unfold(pooled[0], 2).unsqueeze(1)  # [B, 1, 4, places]
    terms = patches * copy[1].weight.flatten(1)[:, :, None]
    bias = copy[1].bias[:, None]
    most = torch.stack([part.clamp(min=0).sum(2) + b.clamp(min=0) for part, b in ((terms, bias), (-terms, -bias))])
    (report,) = copy.report
    assert most.max() <= report.largest_sum * (1 + 1e-6)
    if options["kernel_size"] == 2 and "padding" not in options:
        assert most.max() >= 0.99 * report.largest_sum, "all pixels bright reach it"
    assert report.exact is exact
    assert (copy.notes == ()) is exact


@pytest.mark.parametrize("bits", [None, 32])
def test_float_bits_leave_the_network_as_it_is(bits):
    net = dense("zero")
    copy = quantize(net, bits)
    assert copy.bits is None
    assert copy.report == ()
    assert copy[2].threshold == 1.0
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), copy.parameters(), strict=True))


def test_relu_networks_quantise_too():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    x = torch.rand(1, 20, 16)
    copy = quantize(net, 12)
    scale = copy.report[0].scale * copy.report[1].scale
    assert copy.report[0].threshold is None
    assert torch.allclose(copy(x) * scale, net(x), atol=2e-3)


def test_nested_networks_keep_their_names():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Sequential(nn.Linear(4, 6), nn.LIF()), nn.Linear(6, 2), nn.LIF())
    assert [(r.layer, r.neurons) for r in quantize(net).report] == [("0.0", "0.1"), ("1", "2")]


def spoiled(value: float):
    net = dense("zero")
    with torch.no_grad():
        net[3].weight.fill_(value)
    return net


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "weights of layer '3' are all zero"), (float("nan"), "layer '3' are not finite"), (1e9, "would round to 0")],
)
def test_weights_that_cannot_be_quantised_are_refused_by_name(value, text):
    with pytest.raises(UserError, match=text):
        quantize(spoiled(value), 4)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bits": 1}, "bits"),
        ({"bits": 17}, "bits"),
        ({"bits": 7.5}, "bits"),
        ({"bits": float("nan")}, "bits"),
        ({"input_scale": 0}, "input_scale"),
        ({"input_scale": 2.5}, "input_scale"),
        ({"input_scale": float("nan")}, "input_scale"),
        ({"input_scale": float("inf")}, "input_scale"),
        ({"calibration": torch.rand(5, 24)}, r"\[T, B, …\], got shape \(5, 24\)"),
        ({"calibration": torch.rand(5, 0, 24)}, r"\[T, B, …\], got shape \(5, 0, 24\)"),
        ({"tie_margin": 1.0}, "tie_margin"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(UserError, match=text):
        quantize(dense("zero"), **options)


def test_a_misspelt_clip_gets_a_suggestion():
    for bits in (8, 32):
        with pytest.raises(UnknownNameError, match="did you mean 'mse'"):
            quantize(dense("zero"), bits, clip="msee")


def test_a_layer_of_others_is_refused():
    with pytest.raises(UserError, match="layer '1' is a Tanh"):
        quantize(torch.nn.Sequential(nn.Linear(2, 2), torch.nn.Tanh()))
    with pytest.raises(UserError, match="Sequential"):
        quantize(nn.Linear(2, 2))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_no_sum_is_larger_than_the_report_says(seed, hidden):
    """Partial sums over random subsets of the inputs, at their extremes."""
    torch.manual_seed(seed)
    front = [nn.Linear(6, 5)] if hidden else []
    net = nn.Sequential(*front, nn.Linear(5 if hidden else 6, 4), nn.LIF(0.9, 2.0))
    copy = quantize(net, 5, input_scale=7)
    last = copy[len(front)]
    x = torch.randint(0, 2, (1, 200, 6)) * 7.0
    if hidden:
        x = copy[0](x)
    terms = torch.cat([x[0].unsqueeze(1) * last.weight, last.bias.expand(200, 4).unsqueeze(2)], 2)
    chosen = terms * torch.randint(0, 2, terms.shape)
    assert chosen.sum(2).abs().max() <= copy.report[-1].largest_sum


def test_a_layer_that_stands_in_two_places_is_refused():
    neurons = nn.LIF()
    net = nn.Sequential(nn.Linear(4, 4), neurons, nn.Linear(4, 2), neurons)
    with pytest.raises(UserError, match="'1' and '3' are one object"):
        quantize(net, bits=8)


class Leaner(nn.Linear):
    """A layer of a user's own that would be taken for a plain one."""

    def forward(self, x):
        return super().forward(x) * 2


class Named(nn.LIF):
    """Another name for the same neurons."""


def test_a_derived_layer_is_exported_for_what_it_is_or_refused():
    plain = nn.Sequential(nn.Linear(3, 4), nn.LIF())
    torch.manual_seed(1)
    named = nn.Sequential(nn.Linear(3, 4), Named())
    named.load_state_dict(plain.state_dict())
    assert torch.equal(quantize(named, bits=8)[0].weight, quantize(plain, bits=8)[0].weight)
    with pytest.raises(UserError, match=r"layer 0 is a Leaner, derived from nn.Linear with a forward of its own"):
        quantize(nn.Sequential(Leaner(3, 4), nn.LIF()), bits=8)


def test_layers_that_share_a_weight_get_integers_of_their_own():
    torch.manual_seed(0)
    tied = nn.Sequential(nn.Linear(6, 6), nn.LIF(0.9, 1.0), nn.Linear(6, 6), nn.LIF(0.9, 0.5))
    apart = copy.deepcopy(tied)
    tied[2].weight = tied[0].weight
    apart[2].weight.data.copy_(tied[0].weight.data)
    ours, wanted = quantize(tied, 4), quantize(apart, 4)
    assert ours.report == wanted.report
    assert all(torch.equal(own, other) for own, other in zip(ours.parameters(), wanted.parameters(), strict=True))
    assert tied[2].weight is tied[0].weight
    with pytest.raises(UserError, match=r"0\.weight and 2\.weight are one parameter"):
        grids_of(tied)


@pytest.mark.parametrize("export", [quantize, lambda net: to_nir(net, None)], ids=["quantize", "to_nir"])
def test_weights_that_are_computed_at_every_run_are_refused(export):
    for compute in (
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
        parametrizations.weight_norm,
        torch.nn.utils.spectral_norm,
    ):
        net = dense("zero")
        compute(net[1] if isinstance(net[1], nn.Linear) else net[0])
        with pytest.raises(UserError, match="is computed at every run"):
            export(net)


def test_thresholds_that_were_set_after_quantisation_are_refused():
    net = quantize(dense("zero"), 8, input_scale=16)
    neurons = next(layer for layer in net if isinstance(layer, nn.LIF))
    for threshold in (5.0, neurons.threshold + 2):
        neurons.threshold = threshold
        for export in (IntegerNetwork.of, IntegerSimulator, lambda net: to_nir(net, None)):
            with pytest.raises(UserError, match=r"have the threshold .* and were quantised with"):
                export(net)


@pytest.mark.parametrize("export", [quantize, grids_of, lambda net: to_nir(net, None)])
def test_a_network_without_values_is_refused(export):
    with pytest.raises(UserError, match="device meta"):
        export(dense("zero").to("meta"))
