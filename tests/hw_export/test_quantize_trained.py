"""Networks that were trained with quantised weights keep the integers they were trained with."""

from __future__ import annotations

import pytest
import torch
from export_nets import STEPS, convolutional, dense, pixels

from hw_export import quantize
from hw_export.build import read_export, write_export
from hw_export.model_file import load_network, save_network
from hw_export.quantize import compare, mantissas
from hw_export.quantize.scales import ThresholdStep, kept_step
from hw_export.samples import ExportSamples
from hw_export.verify import verify
from spikelfp import TemporalTrainer, nn
from spikelfp.analysis import record
from spikelfp.data import load
from spikelfp.errors import UserError
from spikelfp.models import lif_mlp
from spikelfp.quantized import Quantization, WeightGrids


def on_grids(net: nn.Sequential, bits: int, **options) -> nn.Sequential:
    WeightGrids(net, Quantization(bits, **options))
    return net


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("given", [True, False])
def test_the_integers_are_those_of_the_forward_pass(bits, given):
    net = on_grids(dense("zero"), bits)
    copy = quantize(net, bits if given else None, clip="max", input_scale=16)
    assert (copy.bits, copy.clip) == (bits, "trained")
    for name, layer in net.named_children():
        if isinstance(layer, nn.Linear):
            own = copy.get_submodule(name)
            whole, _ = mantissas(own.weight, bits)
            expected = layer.grid.to_integers(layer.weight)
            assert torch.equal(own.weight * expected.abs().max(), expected * own.weight.abs().max())
            assert whole.abs().max() == expected.abs().max() or bits > 2
            assert own.grid is None
            assert set(dict(own.named_buffers())) == set()
    assert all(report.bits == bits for report in copy.report)
    assert all(report.relative_error < 1e-10 for report in copy.report), "nothing is lost that was not lost in training"


def levels(*shape: int, count: int = 50) -> torch.Tensor:
    """Images of 256 grey levels in [0, 1]."""
    return (pixels(*shape, count=count) * 255).round() / 255


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("update", ["masters", "stochastic"])
def test_spikes_are_those_of_the_network_as_trained(reset, bits, update):
    net = on_grids(dense(reset), bits, update=update)
    x = nn.constant(levels(24), STEPS)
    copy = quantize(net, None, input_scale=255, calibration=x)
    ours, theirs = record(net, x), record(copy, copy.scaled(x))
    assert copy.notes == ()
    assert [report.max_shift for report in copy.report] == [0, 6]
    for name, spikes in ours.items():
        assert spikes.sum() > 0
        assert torch.equal(theirs[name], spikes)


def test_biases_that_sums_cannot_hold_are_rounded_as_finely_and_noted(reset):
    net = on_grids(dense(reset), 4)
    x = nn.constant(pixels(24, count=50), STEPS)
    copy = quantize(net, None, input_scale=16)
    assert "biases of layer '1' were trained in steps of 1/255" in copy.notes[0]
    assert "rounded to 1/256" in copy.notes[0]
    unit = copy.report[0].scale / 16
    lost = copy[1].bias * unit - net[1].bias_grid.to_real(net[1].bias_grid.to_integers(net[1].bias))
    assert lost.abs().max() <= unit / 2 * 1.001
    assert unit == pytest.approx(net[1].weight_scale.item() / 256)
    assert all(rate.overlap > 0.98 for rate in compare(net, copy, x).rates)


def test_convolutions_with_pooling(reset):
    net = on_grids(convolutional(reset), 5)
    x = nn.constant(levels(1, 8, 8, count=30), STEPS)
    copy = quantize(net, None, input_scale=255)
    ours, theirs = record(net, x), record(copy, copy.scaled(x))
    for name, spikes in ours.items():
        assert spikes.sum() > 0
        assert torch.equal(theirs[name], spikes)


def test_a_network_that_was_really_trained(reset):
    digits = load("digits")
    torch.manual_seed(0)
    net = lif_mlp([64, 32, 10], reset=reset)
    options = Quantization(4, input_levels=16)
    trainer = TemporalTrainer(net, steps=8, lr=5e-3, seed=0, device="cpu", quantization=options)
    trainer.fit(digits.train, epochs=2)
    images, labels = digits.test.__getitems__(range(200))
    x = nn.constant(images, 8)
    for inputs, scale in ((x, 16), (nn.constant((images > 0.4).float(), 8), 255)):
        copy = quantize(net, None, input_scale=scale)
        found = compare(net, copy, inputs, labels)
        assert copy.notes == ()
        assert found.agreement == 1
        assert all(rate.overlap == 1 and rate.quantized_rate > 0 for rate in found.rates)


def test_thresholds_are_the_ones_trained_with():
    net = on_grids(dense("subtract"), 4)
    copy = quantize(net, None, input_scale=255)
    for report, place, unit in zip(copy.report, (1, 3), (1 / 255, 1), strict=True):
        layer, neurons = net[place], copy[place + 1]
        assert neurons.threshold * report.scale * unit == pytest.approx(1, rel=1e-6)
        assert report.threshold == int(neurons.threshold)
        assert abs(report.threshold_error) < 1e-6
        assert layer.weight_scale.item() / report.scale == pytest.approx(
            round(layer.weight_scale.item() / report.scale)
        )


def test_a_threshold_that_is_whole_gets_the_margin():
    net = on_grids(dense("subtract"), 4)
    with torch.no_grad():
        for layer in (net[1], net[3]):
            layer.weight_scale.fill_(1 / 32)
    copy = quantize(net, None, input_scale=16, tie_margin=0.25)
    assert copy[2].threshold == copy.report[0].threshold + 0.25
    assert copy.report[0].threshold % (32 * 16) == 0
    assert 0 < copy.report[0].threshold_error <= 0.25 / (32 * 16)


@pytest.mark.parametrize("factor", [128, 16 * 16, 16 * 64])
def test_a_threshold_that_is_whole_but_for_rounding_gets_the_margin(factor):
    """``θ = (k + 49/128) s`` with ``s`` in float32 is ``128 k + 49`` steps of ``s / 128``, to seven digits."""
    for whole in (1, 3, 54, 71, 829):
        for threshold in (0.3, 0.7, 1.0, 1.1):
            scale = torch.tensor(threshold / (whole + 49 / 128)).item()
            step = kept_step(scale, threshold, factor, 49 / 128)
            expected = (128 * whole + 49) * factor // 128
            assert step.whole == expected
            assert expected < step.compared < expected + 1
    assert kept_step(1.0, 7.25, 2, 0.25) == ThresholdStep(1.0, 14, 14.5, 0.0), "not whole: left as it is"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_floats_do_not_hold_the_integers(dtype):
    with pytest.raises(UserError, match=f"weights of layer '1' are {dtype}: train quantised weights in float32"):
        on_grids(dense("zero").to(dtype), 4)
    net = on_grids(dense("zero"), 4)
    with torch.no_grad():
        net[1].bias.fill_(60.0)
    copy = quantize(net.to(dtype), None, input_scale=255)
    unit = net[1].weight_scale.item() / 255
    assert torch.equal(copy[1].bias, torch.full((32,), round(60 / unit), dtype=torch.float32))
    assert copy[1].bias.max() > torch.finfo(torch.float16).max
    assert copy[1].weight.abs().max() == 7


def test_double_precision_keeps_its_integers():
    net = on_grids(dense("zero"), 4).double()
    copy = quantize(net, None)
    for name in ("1", "3"):
        layer, own = net.get_submodule(name), copy.get_submodule(name).weight
        expected = layer.grid.to_integers(layer.weight).float()
        assert torch.equal(own * expected.abs().max(), expected * own.abs().max())


def test_as_floats_it_computes_the_same():
    net = on_grids(dense("zero"), 3)
    x = nn.constant(pixels(24), STEPS)
    floats = quantize(net, 32)
    assert floats.bits is None
    assert all(layer.grid is None for layer in floats.modules() if isinstance(layer, nn.Linear))
    assert torch.equal(floats(x), net(x))
    assert torch.equal(floats[1].weight, net[1].grid.to_real(net[1].grid.to_integers(net[1].weight)))


def test_the_original_is_left_alone():
    net = on_grids(dense("zero"), 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    quantize(net, None)
    assert net[1].grid is not None
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_other_bits_are_refused():
    with pytest.raises(UserError, match="layer '1' was trained with weights of 4 bits, so they cannot have 8"):
        quantize(on_grids(dense("zero"), 4), 8)


def test_a_layer_among_them_that_was_trained_in_floats():
    net = on_grids(dense("zero"), 4)
    net[3].quantization = None
    with pytest.raises(UserError, match="layer '3' was trained in floats, unlike other layers"):
        quantize(net, None)
    copy = quantize(net, 4, clip="max")
    assert copy.clip == "max"
    fresh = quantize(dense("zero"), 4, clip="max")
    assert torch.equal(copy[3].weight, fresh[3].weight)


def test_weights_that_are_not_finite_are_refused():
    net = on_grids(dense("zero"), 4)
    with torch.no_grad():
        net[3].weight[0, 0] = float("nan")
    with pytest.raises(UserError, match="weights of layer '3' are not finite"):
        quantize(net, None)


def test_it_is_exported_whole(tmp_path, reset):
    net = on_grids(dense(reset), 4)
    shown = ExportSamples(pixels(24, count=20), torch.arange(20) % 10, STEPS, scale=16)
    manifest = write_export(net, shown, tmp_path / "e", bits=None)
    assert (manifest["bits"], manifest["clip"]) == (4, "trained")
    _, exported, samples = read_export(tmp_path / "e")
    (result,) = verify(exported, tmp_path / "e" / "network.nir", samples.sequence(), ["norse"])
    assert result.status in ("identical", "not installed")
    save_network(tmp_path / "net.pt", quantize(net, None))
    assert load_network(tmp_path / "net.pt")[1].grid is None
