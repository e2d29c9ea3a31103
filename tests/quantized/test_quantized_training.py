"""Training with quantised weights: it learns, it can be stopped, and integers make the same spikes."""

import numpy as np
import pytest
import torch

from spikelfp import TemporalTrainer, Trainer, data, methods, models, nn, rewards, rules
from spikelfp.errors import CheckpointError, UserError
from spikelfp.machine import Stop
from spikelfp.quantized import FINE_MARGIN, Quantization, WeightGrids
from spikelfp.training.config import RunConfig
from spikelfp.training.run import Interrupted, load_run, train

UPDATES = ("masters", "stochastic")


def digits(count=None):
    part = data.load("digits").train
    return part if count is None else part.subset(range(count))


def make(bits=4, update="masters", net=None, **options):
    torch.manual_seed(0)
    net = models.lif_mlp([64, 30, 10]) if net is None else net
    quantization = Quantization(bits, update, every=3)
    return TemporalTrainer(net, steps=8, batch_size=32, device="cpu", quantization=quantization, **options)


def weights(net):
    return [layer for layer in net.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]


def assert_same(a, b):
    for name, tensor in a.state_dict().items():
        assert torch.equal(tensor, b.state_dict()[name]), name


@pytest.mark.parametrize(
    ("bits", "update", "least"),
    [(4, "masters", 0.9), (2, "masters", 0.9), (4, "stochastic", 0.9), (2, "stochastic", 0.85)],
)
def test_digits_are_learned(bits, update, least):
    splits = data.load("digits")
    torch.manual_seed(0)
    trainer = TemporalTrainer(
        models.lif_mlp([64, 200, 10]), steps=15, device="cpu", quantization=Quantization(bits, update)
    )
    trainer.fit(splits.train, 25)
    assert trainer.evaluate(splits.test).accuracy > least


def test_convolutions_are_learned():
    splits = data.load("digits")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.MaxPool2d(2), nn.LIF(threshold=0.5), nn.Flatten(), nn.Linear(192, 10),
        nn.LIF(threshold=0.5),
    )  # fmt: skip
    trainer = TemporalTrainer(net, steps=8, device="cpu", quantization=Quantization(3))
    trainer.fit(splits.train, 8)
    assert trainer.evaluate(splits.test).accuracy > 0.8


@pytest.mark.parametrize("method", [None, methods.GradientDescent()])
def test_networks_without_spikes_are_learned(method):
    splits = data.load("digits")
    torch.manual_seed(0)
    trainer = Trainer(models.mlp([64, 100, 10]), method=method, device="cpu", quantization=Quantization(3))
    trainer.fit(splits.train, 15)
    assert trainer.evaluate(splits.test).accuracy > 0.85
    assert all(layer.bias_grid is None and layer.grid is not None for layer in weights(trainer.net))


def test_parameters_rounded_by_chance_are_on_the_grid_after_every_step():
    trainer = make(update="stochastic", lr=1e-2)
    changed = []

    def look(position):
        for layer in weights(trainer.net):
            for values, grid in ((layer.weight, layer.grid), (layer.bias, layer.bias_grid)):
                assert torch.equal(grid.to_real(grid.to_integers(values)), values)
        changed.append(trainer.net[1].weight.detach().clone())

    trainer.fit(digits(100), 2, after_step=look)
    assert not torch.equal(changed[0], changed[-1])


def test_rounding_by_chance_depends_on_seed_and_step_alone():
    """So that workers, whose other random numbers differ, stay with the same weights."""
    nets = []
    for seed, step, other in ((0, 1, 5), (0, 1, 6), (0, 2, 5), (1, 1, 5)):
        torch.manual_seed(0)
        net = models.lif_mlp([64, 30, 10])
        grids = WeightGrids(net, Quantization(4, "stochastic"))
        grids.seed = seed
        with torch.no_grad():
            net[1].weight.add_(1e-2)
        torch.manual_seed(other)
        grids.settle(step)
        nets.append(net)
    assert_same(nets[0], nets[1])
    assert not torch.equal(nets[0][1].weight, nets[2][1].weight)
    assert not torch.equal(nets[0][1].weight, nets[3][1].weight)


@pytest.mark.parametrize("update", UPDATES)
def test_a_run_goes_on_bit_for_bit_from_any_step(update, tmp_path):
    whole, first, second = (make(update=update) for _ in range(3))

    def keep(position):
        if position.step == 5:
            first.save(tmp_path / "mid.pt")

    whole.fit(digits(100), 3)
    first.fit(digits(100), 3, after_step=keep)
    second.load(tmp_path / "mid.pt")
    second.fit(digits(100), 3)
    assert second.position.step == 12
    assert_same(whole.net, second.net)
    for layer, twin in zip(weights(whole.net), weights(second.net), strict=True):
        assert layer.grid.scale == twin.grid.scale


def test_a_checkpoint_of_other_bits_is_refused(tmp_path):
    make(4).save(tmp_path / "four.pt")
    with pytest.raises(CheckpointError, match="was written with quantization"):
        make(2).load(tmp_path / "four.pt")
    floats = TemporalTrainer(models.lif_mlp([64, 30, 10]), steps=8, batch_size=32, device="cpu")
    with pytest.raises(CheckpointError):
        floats.load(tmp_path / "four.pt")


@pytest.mark.parametrize("update", UPDATES)
def test_a_run_folder_is_resumed_and_read_back(update, tmp_path, monkeypatch):
    config = RunConfig(hidden=(20,), steps=5, epochs=2, batch_size=256, weight_bits=4, weight_update=update, seed=1)
    train(config, tmp_path / "whole", progress=False)

    class AfterThree(Stop):
        steps = 0

        def __call__(self):
            self.steps += 1
            return self.steps == 3

    with monkeypatch.context() as patched:
        import contextlib

        import spikelfp.training.run as module

        patched.setattr(module, "stop_on_interrupt", lambda patient: contextlib.nullcontext(AfterThree()))
        with pytest.raises(Interrupted):
            train(config, tmp_path / "parts", progress=False)
    train(config, tmp_path / "parts", resume=True, progress=False)
    whole, parts = load_run(tmp_path / "whole"), load_run(tmp_path / "parts")
    assert_same(whole.net, parts.net)
    assert all(layer.grid is not None for layer in weights(whole.net))
    accuracy = whole.trainer().evaluate(whole.splits().test)
    assert accuracy == load_run(tmp_path / "whole").trainer().evaluate(whole.splits().test)


def test_recomputed_parts_and_parts_of_a_batch_train_the_same():
    nets = []
    for options in ({}, {"recompute": 3}, {"accumulate": 2}):
        torch.manual_seed(0)
        trainer = make(net=models.lif_mlp([64, 30, 10]), **options)
        trainer.train_step(*digits().__getitems__(range(32)))
        nets.append(trainer.net)
    for other in nets[1:]:
        for a, b in zip(nets[0].parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("update", UPDATES)
def test_woken_layers_get_grids_for_their_woken_weights(update):
    net = models.lif_mlp([64, 30, 10])
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.02)
    trainer = make(8, update, net, lr=1e-9)
    before, integers = net[1].weight_scale.item(), net[1].grid.to_integers(net[1].weight)
    trainer.fit(digits(32), 1)
    factor = trainer.woken["1"]
    assert factor > 2
    assert net[1].weight_scale.item() == pytest.approx(factor * before, rel=0.05)
    assert (net[1].grid.to_integers(net[1].weight) - integers).abs().max() <= 8
    with torch.no_grad():
        assert net[:3](trainer.present(digits(32).__getitems__(range(32))[0])).mean() > 0.03


def integer_spikes(net, images, steps):
    """The trained integers of a network with reset to zero and β = 1/2, run in Python's unlimited integers.

    images: whole numbers of 255ths, ``[B, inputs]``. Membranes are integers in units of ``2^−t`` bias steps.
    """
    spikes = np.repeat(images.numpy().astype(int).astype(object)[None], steps, 0)
    unit = 255  # of the inputs
    for layer in net:
        if isinstance(layer, nn.Linear):
            weight, bias = layer.grid.to_integers(layer.weight), layer.bias_grid.to_integers(layer.bias)
            weight, bias = (values.detach().numpy().astype(int).astype(object) for values in (weight, bias))
            assert layer.bias_steps % unit == 0
            current = spikes @ weight.T * (layer.bias_steps // unit) + bias
            threshold = round(layer_threshold(net, layer) / layer.grid.scale - FINE_MARGIN)
            numerator = (8192 * threshold + 3121) * layer.bias_steps  # θ in 8192nds of a bias step
        elif isinstance(layer, nn.LIF):
            carried, fired = np.zeros(current.shape[1:], dtype=object), []
            for t, drive in enumerate(current):
                membrane = carried + drive * 2**t
                fired.append((membrane * 8192 > numerator * 2**t).astype(int))
                carried = np.where(fired[-1], 0, membrane)
            spikes, unit = np.array(fired).astype(object), 1
    return spikes.astype(int)


def layer_threshold(net, layer):
    layers = list(net)
    return next(after.threshold for after in layers[layers.index(layer) :] if isinstance(after, nn.LIF))


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_trained_integers_make_the_spikes_of_the_trained_network(bits, update):
    net = models.lif_mlp([64, 40, 10], beta=0.5, reset="zero", threshold=0.5)
    trainer = make(bits, update, net, lr=1e-2)
    trainer.fit(digits(300), 5)
    images = (data.load("digits").test.__getitems__(range(60))[0].flatten(1) * 255).round()
    spikes = net(nn.constant(images / 255, 8))
    assert 0.01 < spikes.mean() < 0.9
    assert np.array_equal(integer_spikes(net, images, 8), spikes.detach().numpy().astype(int))


def test_options_of_a_run_that_are_refused():
    for bits in (1, 17, 31):
        with pytest.raises(UserError, match=f"or be 32 for floats, got {bits}"):
            RunConfig(weight_bits=bits)
    with pytest.raises(UserError, match="unknown weight-update"):
        RunConfig(weight_update="float")
    with pytest.raises(UserError, match="unknown weight-clip"):
        RunConfig(weight_clip="least")


def test_surrogates_train_the_same_network():
    method = methods.GradientDescent(rules.Surrogate(slope=5.0))
    trainer = make(4, method=method)
    rows = trainer.fit(digits(300), 6)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert make(4).method.reward.__class__ is rewards.SpikeSequence
