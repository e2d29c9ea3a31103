"""An integer simulator that follows the training of a network through its stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from export_nets import bernoulli, convolutional
from updates_nets import nudge

from hw_export import quantize
from hw_export.integer import IntegerSimulator
from hw_export.updates import Follower, IntegerImage, UpdateRecorder, grids_of, quantized
from spikelfp import TemporalTrainer, data, models, nn
from spikelfp.errors import UserError
from spikelfp.quantized import Grid
from spikelfp.training.update import wake_silent_layers


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_accuracy_follows_training(tmp_path, reset):
    digits, steps, levels = data.load("digits"), 8, 16
    torch.manual_seed(0)
    net = models.lif_mlp([64, 48, 10], reset=reset)
    images, labels = digits.test.__getitems__(range(200))
    wake_silent_layers(net, nn.constant(images, steps))
    grids = grids_of(net, 8, headroom=4.0, input_scale=levels)  # a new network: its weights will grow
    simulator = IntegerSimulator(quantized(net, IntegerImage.of(net, grids), input_scale=levels))
    whole = nn.constant((images * levels).round(), steps)
    follower, accuracies = Follower(tmp_path / "a", simulator), []

    def watch(position: object) -> None:
        recorder.after_step(position)
        if recorder.steps % 50 == 0:
            list(follower.poll())
            accuracies.append((simulator.classify(whole).cpu() == labels).float().mean().item())

    trainer = TemporalTrainer(
        net, steps=steps, batch_size=4, lr=3e-3, schedule="constant", wake=False,
        should_stop=lambda: trainer.position.step >= 200,
    )  # fmt: skip
    start = (simulator.classify(whole).cpu() == labels).float().mean().item()
    with UpdateRecorder(net, tmp_path / "a", grids=grids) as recorder:
        trainer.fit(digits.train, 1, after_step=watch)
    list(follower.poll())
    for name, array in simulator.parameters().items():
        assert np.array_equal(array, recorder.image().arrays[name]), name
    assert follower.closed
    with torch.no_grad():
        own = (net(nn.constant(images, steps)).sum(0).argmax(-1) == labels).float().mean().item()
    assert accuracies[-1] > max(start + 0.2, 0.6)
    assert abs(accuracies[-1] - own) < 0.05, "the simulator is as good as the network in training"


@pytest.mark.parametrize("input_scale", [None, 16])
@pytest.mark.parametrize("headroom", [1.0, 3.0])
def test_an_image_as_a_network(headroom, input_scale):
    torch.manual_seed(0)
    net = models.lif_mlp([20, 15, 4])
    image = IntegerImage.of(net, grids_of(net, 8, headroom=headroom, input_scale=input_scale))
    made, plain = quantized(net, image, input_scale=input_scale), quantize(net, 8, input_scale=input_scale)
    for name, p in made.named_parameters():
        assert np.array_equal(p.numpy(), image.arrays[name]), name
    for own, other, index in zip(made.report, plain.report, (2, 4), strict=True):
        unit = own.scale / (input_scale if input_scale and index == 2 else 1)
        assert made[index].threshold * unit == pytest.approx(net[index].threshold, rel=1e-5), "θ in real terms"
        assert made[index].threshold == own.threshold + 49 / 128
        assert (own.scale, own.threshold) == (other.scale, other.threshold) or headroom > 1
        assert own.squared_error == pytest.approx(other.squared_error) or headroom > 1


def test_images_that_cannot_run():
    net = models.lif_mlp([6, 5, 3])
    grids = grids_of(net, 8)
    for changed, text in (
        ({"1.weight": Grid(grids["1.weight"].scale * 1.01, -127, 127)}, "choose grids with grids_of"),
        ({"1.weight": Grid(grids["1.weight"].scale, -7, 7)}, "no layers of the same bits"),
        ({"1.weight": Grid(torch.full((5, 1), 0.01), -127, 127)}, "a scale for each channel"),
    ):
        image = IntegerImage.of(net, {**grids, **changed})
        with pytest.raises(UserError, match=text):
            quantized(net, image)
    with pytest.raises(UserError, match=r"no parameter 1.weight of shape \(5, 6\)"):
        quantized(models.lif_mlp([6, 4, 3]), IntegerImage.of(net, grids))


def test_biases_behind_average_pooling_are_those_of_the_sums(tmp_path):
    net, random = convolutional("zero"), torch.Generator().manual_seed(2)
    grids = grids_of(net, 8, headroom=2.0, input_scale=1)
    simulator = IntegerSimulator(quantized(net, IntegerImage.of(net, grids), input_scale=1), input_shape=(1, 10, 10))
    with UpdateRecorder(net, tmp_path / "a", grids=grids) as recorder:
        for _ in range(5):
            nudge(net, random)
            recorder.step()
    list(Follower(tmp_path / "a", simulator).poll())
    image = recorder.image()
    for name, array in simulator.parameters().items():
        assert np.array_equal(array, image.arrays[name]), name
    fresh = IntegerSimulator(quantized(net, image, input_scale=1), input_shape=(1, 10, 10))
    x = bernoulli(1, 10, 10)
    found, expected = simulator.run(x), fresh.run(x)
    for name, spikes in expected.spikes.items():
        assert spikes.any()
        assert torch.equal(found.spikes[name], spikes)
