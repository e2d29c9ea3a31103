"""What quantisation did to spikes and classes; layers that it silenced."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from export_nets import STEPS, convolutional, dense, pixels

from hw_export import quantize
from hw_export.build import build, read_export, write_export
from hw_export.quantize import accuracy_by_layer, compare
from hw_export.quantize import report as rates
from hw_export.samples import ExportSamples
from spikelfp import nn
from spikelfp.analysis import record
from spikelfp.errors import ShapeError, UserError
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train


def silenced() -> nn.Sequential:
    """A network with one outlier, for which all other weights round to 0 where nothing is clipped."""
    net = dense("zero", seed=2)
    with torch.no_grad():
        net[1].weight.mul_(0.7)
        net[1].weight[:, 0] = 0
        net[1].weight[0, 0] = 9
        net[1].bias.zero_()
    return net


def without_first(count: int = 40) -> torch.Tensor:
    images = pixels(24, count=count)
    images[:, 0] = 0
    return images


@pytest.mark.parametrize("still", [True, False])
def test_rates_and_classes_are_counted_one_by_one(monkeypatch, reset, still):
    monkeypatch.setattr(rates, "_AT_ONCE", 7)  # parts of unequal size
    net = dense(reset)
    images = pixels(24, count=24)
    x = nn.constant(images, STEPS) if still else (torch.rand(STEPS, 24, 24) < 0.4).float()
    copy = quantize(net, 3, input_scale=16 if still else 1)
    labels = torch.arange(24) % 10
    found = compare(net, copy, x, labels)
    ours = {name: spikes.bool().numpy() for name, spikes in record(net, x).items()}
    theirs = {name: spikes.bool().numpy() for name, spikes in record(copy, x * (16 if still else 1)).items()}
    assert [rate.layer for rate in found.rates] == ["2", "4"]
    for rate in found.rates:
        one, other = ours[rate.layer], theirs[rate.layer]
        same = both = fired = lost = 0
        for index in np.ndindex(one.shape):
            same += one[index] == other[index]
            both += one[index] and other[index]
        for neuron in range(one.shape[2]):
            fired += one[:, :, neuron].any()
            lost += one[:, :, neuron].any() and not other[:, :, neuron].any()
        assert rate.neurons == one.shape[2]
        assert rate.float_rate == pytest.approx(one.mean())
        assert rate.quantized_rate == pytest.approx(other.mean())
        assert rate.agreement == pytest.approx(same / one.size)
        assert rate.overlap == pytest.approx(2 * both / (one.sum() + other.sum()))
        assert rate.silenced == pytest.approx(lost / fired)
    classes = [spikes["4"].sum(0).argmax(-1) for spikes in (ours, theirs)]
    assert found.float_accuracy == pytest.approx((classes[0] == labels.numpy()).mean())
    assert found.quantized_accuracy == pytest.approx((classes[1] == labels.numpy()).mean())
    assert found.agreement == pytest.approx((classes[0] == classes[1]).mean())
    assert found.samples == 24


def test_a_network_agrees_with_itself(reset):
    net = convolutional(reset)
    x = nn.constant(pixels(1, 8, 8), STEPS)
    found = compare(net, quantize(net, 32), x)
    assert found.float_accuracy is None
    assert found.agreement == 1
    for rate in found.rates:
        assert rate.float_rate == rate.quantized_rate > 0
        assert (rate.agreement, rate.overlap, rate.silenced) == (1, 1, 0)


def test_the_networks_are_left_as_they_were():
    net = dense("zero").train()
    copy = quantize(net, 4)
    compare(net, copy, nn.constant(pixels(24), 5))
    assert net.training
    assert not copy.training
    assert all(not layer._forward_hooks for layer in (*net.modules(), *copy.modules()))


def test_labels_that_do_not_fit_are_refused():
    net = dense("zero")
    with pytest.raises(ShapeError, match="5 labels do not fit"):
        compare(net, quantize(net, 4), nn.constant(pixels(24), 5), torch.zeros(5, dtype=torch.int64))


def test_a_silenced_layer_is_refused_by_name_with_both_rates():
    net, images = silenced(), without_first()
    x = nn.constant(images, STEPS)
    assert record(net, x)["2"].sum() > 0
    with pytest.raises(UserError, match=r"silenced the neurons '2': 0\.\d+ spikes .* in floats, 0 with 4 bits.*max"):
        quantize(net, 4, clip="max", input_scale=16, calibration=x)
    copy = quantize(net, 4, clip="max", input_scale=16)
    assert record(copy, copy.scaled(x))["2"].sum() == 0
    rate = compare(net, copy, x).rates[0]
    assert (rate.silenced, rate.quantized_rate, rate.overlap) == (1, 0, 0)
    quantize(net, 4, clip="max", input_scale=16, per_channel=True, calibration=x)


def test_layers_that_never_fired_are_not_silenced():
    net = dense("zero")
    with torch.no_grad():
        net[1].weight.mul_(1e-3)
        net[1].bias.mul_(1e-3)
    x = nn.constant(pixels(24), STEPS)
    assert record(net, x)["2"].sum() == 0
    quantize(net, 8, input_scale=16, calibration=x)


def test_a_layer_that_fires_much_less_is_noted():
    net = dense("zero")
    with torch.no_grad():
        net[3].weight.mul_(0.5)
        net[3].weight[0, 0] = 9
        net[3].bias.zero_()
    x = nn.constant(pixels(24, count=40), STEPS)
    copy = quantize(net, 4, clip="max", input_scale=16, calibration=x)
    halved = [rate.layer for rate in compare(net, copy, x).rates if rate.quantized_rate < rate.float_rate / 2]
    assert halved
    for layer in halved:
        assert any(f"neurons {layer!r} fire at a rate of" in note for note in copy.notes)
    assert quantize(net, 8, input_scale=16, calibration=x).notes == ()


def test_an_export_with_a_silenced_layer_is_not_written(tmp_path):
    shown = ExportSamples(without_first(), torch.arange(40) % 10, STEPS, scale=16)
    with pytest.raises(UserError, match="silenced the neurons '2'"):
        write_export(silenced(), shown, tmp_path / "e", bits=4, clip="max")
    assert list(tmp_path.iterdir()) == []
    write_export(silenced(), shown, tmp_path / "e", bits=4, clip="max", per_channel=True)


def test_the_manifest_holds_rates_and_where_accuracy_was_lost(tmp_path, samples):
    net = dense("zero")
    manifest = write_export(net, samples, tmp_path / "e", bits=3)
    read, copy, _ = read_export(tmp_path / "e")
    assert read == manifest
    x = samples.sequence()
    theirs = record(copy, x * 16)
    for rate in read["rates"]:
        assert rate["float_rate"] == pytest.approx(record(net, x)[rate["layer"]].mean().item())
        assert rate["quantized_rate"] == pytest.approx(theirs[rate["layer"]].mean().item())
    assert set(read["accuracy"]["by_layer"]) == {"1", "3"}


def test_accuracy_by_layer_is_that_with_one_layer_on_its_grid():
    net = dense("zero")
    x = nn.constant(pixels(24, count=60), STEPS)
    labels = net(x).sum(0).argmax(-1)
    copy = quantize(net, 2, input_scale=16)
    found = accuracy_by_layer(net, copy, x, labels)
    for report, place in zip(copy.report, (1, 3), strict=True):
        twin = dense("zero")
        with torch.no_grad():
            limit = 2 ** (report.bits - 1) - 1
            weight = twin[place].weight
            weight.copy_(report.scale * (weight / report.scale).round().clamp(-limit, limit))
        assert found[report.layer] == pytest.approx((twin(x).sum(0).argmax(-1) == labels).double().mean().item())
    assert min(found.values()) < 1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    train(RunConfig(data="digits", hidden=(40,), epochs=2, steps=8), folder, progress=False)
    return folder


@pytest.mark.parametrize("encoding", ["constant", "rate"])
def test_a_run_is_calibrated_on_its_training_samples(tmp_path, run, encoding):
    if encoding == "rate":
        config = yaml.safe_load((run / "config.yaml").read_text()) | {"encoding": "rate"}
        other = tmp_path / "rate"
        (other / "checkpoints").mkdir(parents=True)
        (other / "config.yaml").write_text(yaml.safe_dump(config))
        content = torch.load(run / "checkpoints" / "last.pt", weights_only=True) | {"encoding": "rate"}
        torch.save(content, other / "checkpoints" / "last.pt")
        run = other
    state = torch.get_rng_state()
    few, more = (build(run, tmp_path / f"e{count}", clip="output", bits=4, samples=count) for count in (3, 20))
    assert torch.equal(torch.get_rng_state(), state)
    assert few["clip"] == "output"
    assert few["quantization"] == more["quantization"], "the samples it is checked with have no part in the scales"
    plain = build(run, tmp_path / "plain", bits=4, samples=3)
    assert plain["quantization"] != few["quantization"]


def test_a_run_is_exported_with_a_scale_for_each_channel(tmp_path, run):
    manifest = build(run, tmp_path / "e", bits=4, per_channel=True, power_of_two=True, samples=20)
    assert max(layer["max_shift"] for layer in manifest["quantization"]) > 0
    assert all(np.log2(layer["scale"]) == round(np.log2(layer["scale"])) for layer in manifest["quantization"])
