"""The file for lava-dl's netx, read by a second reader that follows netx's and lava's own conventions."""

from __future__ import annotations

import math

import h5py
import numpy as np
import pytest
import torch
from target_nets import chip_of, conv, images, spikes, trained

from hw_export.integer import IntegerNetwork
from hw_export.integer.simulator import IntegerSimulator
from hw_export.quantize import quantize
from hw_export.targets.loihi import FILE
from spikelfp import nn


def synapse(weight: np.ndarray) -> tuple[np.ndarray, int]:
    """Weights and exponent as netx makes them for a dense layer and lava's bit-accurate model truncates them."""
    low, high = weight.min(), weight.max()
    mixed = int(low < 0 <= high)
    both = min(127 / high if high > 0 else math.inf, 128 / -low if low < 0 else math.inf)
    room = both if mixed else 255 / high if low >= 0 else 256 / -low
    shift = math.floor(math.log2(room)) + mixed
    assert shift >= 0
    shifted = weight << shift
    ones = next(n for n in range(8, -1, -1) if not (weight % 2**n).any())
    keep = shift + ones if low < 0 < high else shift + ones - mixed
    limit = 256 if low < 0 < high else 255
    clipped = np.clip(shifted, -limit, 255)
    return np.sign(clipped) * (abs(clipped) >> keep << keep) if not mixed else clipped >> keep << keep, -shift


def sums(layer: h5py.Group, kind: str, given: np.ndarray) -> np.ndarray:
    """What a block adds up for spikes ``[T, …]``, width first for maps, as lava holds them."""
    weight = layer["weight"][()].astype(int)
    if kind == "dense":
        if given.ndim == 4:
            given = given.transpose(0, 3, 2, 1).reshape(len(given), -1)
        kept, exponent = synapse(weight)
        return (given.astype(int) @ kept.T) >> -exponent
    stride, padding, dilation = (layer[name][()][::-1] for name in ("stride", "padding", "dilation"))
    kernel = weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)  # out, width, height, in: turned around by netx
    kernel = kernel[:, ::-1, ::-1]  # and again by lava, which convolves
    outputs, across, down, inputs = kernel.shape
    groups = int(layer["groups"][()])
    padded = np.pad(given, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0))).astype(int)
    width, height = layer["shape"][()][::-1][:2]
    found = np.zeros((len(given), width, height, outputs), dtype=int)
    for out in range(outputs):
        first = out // (outputs // groups) * inputs
        for x in range(width):
            for y in range(height):
                for i in range(across):
                    for j in range(down):
                        at = padded[:, x * stride[0] + i * dilation[0], y * stride[1] + j * dilation[1]]
                        found[:, x, y, out] += at[:, first : first + inputs] @ kernel[out, i, j]
    return found


def netx(path, given: np.ndarray) -> list[np.ndarray]:
    """Spikes of every block, ``[T, …]``, for inputs ``[T, …]``, channels first; each holds its inputs back a step."""
    found = []
    x = given if given.ndim == 2 else given.transpose(0, 3, 2, 1)
    with h5py.File(path) as file:
        layers = file["layer"]
        for index in range(len(layers)):
            layer = layers[str(index)]
            kind = layer["type"][0].decode("ascii")
            if kind not in ("dense", "conv"):
                continue
            neuron = {key: entry[()] for key, entry in layer["neuron"].items()}
            assert neuron["type"][0] == b"CUBA"
            bias = layer["bias"][()].astype(int) << 6 if "bias" in layer else 0
            a = sums(layer, kind, np.concatenate([np.zeros_like(x[:1]), x[:-1]]))
            u = v = np.zeros(a.shape[1:], dtype=int)
            out = []
            for one in a:
                u = u * (4096 - neuron["iDecay"]) // 4096 + (one << 6)
                v = np.sign(v) * (abs(v) * (4096 - neuron["vDecay"]) >> 12)
                v = np.clip(v + u + bias, -(2**23) + 1, 2**23 - 1)
                fires = v > neuron["vThMant"] << 6
                v = np.where(fires, 0, v)
                out.append(fires)
            x = np.stack(out).astype(int)
            found.append(x if x.ndim == 2 else x.transpose(0, 3, 2, 1))
    return found


def compare(net, shape, folder, given) -> list[int]:
    """Spikes of each layer, after the check that the file and the simulator agree on all of them."""
    chip = chip_of("loihi")
    made = quantize(net, 8, input_scale=1)
    chip.write(made, folder, shape)
    network = chip.adapt(IntegerNetwork.of(made, shape))
    run = IntegerSimulator(network, chip.arithmetic).run(given, aligned=False)
    for own, theirs in zip(run.spikes.values(), netx(folder / FILE, given[:, 0].numpy()), strict=True):
        assert np.array_equal(own[: len(given), 0].numpy(), theirs)
    return [int(one.sum()) for one in run.spikes.values()]


def test_a_dense_network(tmp_path):
    counts = compare(trained(reset="zero", bias=False), (12,), tmp_path, spikes(12, steps=40))
    assert min(counts) > 20


def test_biases_work_before_the_first_input(tmp_path):
    counts = compare(trained(reset="zero"), (12,), tmp_path, spikes(12, steps=40))
    assert min(counts) > 20


@pytest.mark.parametrize("bias", [False, True])
def test_convolutions(tmp_path, bias):
    assert min(compare(images(pool=False, bias=bias), (2, 8, 6), tmp_path, spikes(2, 8, 6, steps=30))) > 10


def test_kernels_that_are_not_square_in_groups(tmp_path):
    torch.manual_seed(3)
    neuron = {"beta": 0.9, "threshold": 0.2, "reset": "zero"}
    net = nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=(1, 0), bias=False), nn.LIF(**neuron),
        nn.Conv2d(4, 6, 3, groups=2, dilation=(2, 1), bias=False), nn.LIF(**neuron),
        nn.Flatten(), nn.Linear(36, 5, bias=False), nn.LIF(**neuron),
    )  # fmt: skip
    assert min(compare(net, (2, 7, 8), tmp_path, spikes(2, 7, 8, steps=30))) > 10


def test_a_bias_stands_in_the_unit_of_sums(tmp_path):
    made = quantize(trained(reset="zero"), 8, input_scale=1)
    chip_of("loihi").write(made, tmp_path, (12,))
    with h5py.File(tmp_path / FILE) as file:
        assert [file[f"layer/{index}/type"][0] for index in range(5)] == [b"input", b"flatten", *[b"dense"] * 3]
        assert file["layer/0/shape"][()].tolist() == [12]
        assert np.array_equal(file["layer/2/bias"][()], made[1].bias.numpy())
        assert np.array_equal(file["layer/2/weight"][()], made[1].weight.numpy())
        neuron = {key: entry[()] for key, entry in file["layer/2/neuron"].items()}
    assert (neuron["iDecay"], neuron["vDecay"], neuron["refDelay"]) == (4096, 410, 1)
    assert neuron["vThMant"] == made.report[0].threshold


def test_odd_kernels_are_doubled():
    chip = chip_of("loihi")
    odd, even, positive = (conv(weight=weight, beta=0.9) for weight in (-3, -2, 3))
    even = even.with_parameters({"conv.weight": even.products[0].weight * 2})
    assert torch.equal(chip.adapt(odd).products[0].weight, odd.products[0].weight * 2)
    assert [int(layer.threshold) for layer in chip.adapt(odd).neurons] == [40, 20]
    for network in (even, positive):
        assert torch.equal(chip.adapt(network).products[0].weight, network.products[0].weight)
        assert [int(layer.threshold) for layer in chip.adapt(network).neurons] == [20, 20]


@pytest.mark.parametrize(
    "weights",
    [[[3, -5], [7, 1]], [[127, -128], [1, 0]], [[254, -256], [2, 0]], [[200, 255], [1, 3]], [[-200, -255], [-3, -1]],
     [[0, -5], [-3, -1]], [[1, 1], [1, 1]], [[64, -64], [32, 32]]],
)  # fmt: skip
def test_weights_that_fit_are_exact_in_the_synapses(weights):
    weight = np.array(weights)
    kept, exponent = synapse(weight)
    assert np.array_equal(kept >> -exponent, weight)
    assert np.array_equal(kept.sum(1) >> -exponent, weight.sum(1))
    assert kept.min() >= -256
    assert kept.max() <= 255


def test_the_weight_that_is_refused_would_be_clipped():
    kept, exponent = synapse(np.array([[-64, -3]]))
    assert (kept >> -exponent).tolist() != [[-64, -3]]
