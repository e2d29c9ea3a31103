"""Speck: the configuration, its memories by the published formulas, and the choice of cores."""

from __future__ import annotations

import json

import pytest
import torch
from target_nets import chip_of, conv, dense, trained

from hw_export.integer import IntegerNetwork
from hw_export.quantize import quantize
from hw_export.targets.speck import FILE, KERNEL, NEURON, assign, core_layers
from spikelfp.errors import DataError


def configuration(network: IntegerNetwork) -> dict:
    """As it comes back from JSON."""
    chip = chip_of("speck")
    return json.loads(json.dumps(chip.prepare(chip.adapt(network))))


def chain(config: dict) -> list[dict]:
    """The layers from the entry on, by their destinations."""
    found, core = [], config["entry"]
    while core is not None:
        layer = config["cnn_layers"][str(core)]
        found.append(layer)
        core = layer["destinations"][0]["layer"] if layer["destinations"] else None
    return found


def test_the_published_sizes():
    assert [size // 1024 for size in KERNEL] == [16, 16, 16, 32, 32, 64, 64, 16, 16]
    assert [size // 1024 for size in NEURON] == [64, 64, 64, 32, 32, 16, 16, 16, 16]


@pytest.mark.parametrize(
    ("options", "kernel", "neuron"),
    [
        # 2 · 2^(ceil log2 9 + ceil log2 3) and 3 · 2^(ceil log2 6 + ceil log2 6)
        ({}, 2 * 2 ** (4 + 2), 3 * 2 ** (3 + 3)),
        ({"channels": (5, 8), "kernel": (2, 2), "size": (9, 9)}, 5 * 2 ** (2 + 3), 8 * 2 ** (3 + 3)),
        ({"channels": (1, 1), "kernel": (1, 1), "size": (5, 5)}, 1, 2 ** (3 + 3)),
    ],
)
def test_memory(options, kernel, neuron):
    first, last = core_layers(conv(**options))
    assert (first.kernel_memory, first.neuron_memory) == (kernel, neuron)
    assert last.weight.shape[2:] == first.shape_out[1:]
    assert last.shape_out == (2, 1, 1)


def test_kernels_lie_width_first():
    network = conv(channels=(2, 3), kernel=(3, 3), size=(8, 8), stride=(1, 2))
    weight = torch.randint(-9, 9, (3, 2, 3, 3), dtype=torch.int32)
    network = network.with_parameters({"conv.weight": weight})
    layer = chain(configuration(network))[0]
    image = torch.randint(0, 3, (1, 2, 8, 8)).float()
    stride = (layer["dimensions"]["stride"]["x"], layer["dimensions"]["stride"]["y"])
    across = torch.nn.functional.conv2d(image.transpose(2, 3), torch.tensor(layer["weights"]).float(), None, stride)
    own = torch.nn.functional.conv2d(image, weight.float(), None, (1, 2))
    assert torch.equal(across.transpose(2, 3), own)
    size = layer["dimensions"]["output_shape"]
    assert (size["feature_count"], size["size"]["y"], size["size"]["x"]) == tuple(own.shape[1:])


def test_a_layer_of_the_configuration():
    config = configuration(conv(pool=((2, 2), (2, 2)), weight=-3))
    first, last = chain(config)
    assert config["dvs_layer"] == {"pass_sensor_events": False}
    assert len(config["cnn_layers"]) == 2
    assert first["dimensions"] == {
        "input_shape": {"size": {"x": 8, "y": 8}, "feature_count": 2},
        "output_shape": {"size": {"x": 6, "y": 6}, "feature_count": 3},
        "padding": {"x": 0, "y": 0},
        "stride": {"x": 1, "y": 1},
        "kernel_size": 3,
    }
    assert first["destinations"][0]["pooling"] == 2
    assert (first["threshold_high"], first["threshold_low"]) == (21, -32768)
    assert first["return_to_zero"] is True
    assert (first["leak_enable"], first["biases"]) == (False, [0, 0, 0])
    assert (first["monitor_enable"], last["monitor_enable"]) == (False, True)
    assert torch.tensor(first["neurons_initial_value"]).shape == (3, 6, 6)
    assert last["dimensions"]["kernel_size"] == 3
    assert last["dimensions"]["input_shape"]["feature_count"] == 3


def test_dense_layers_are_kernels_over_all_of_their_input():
    net = quantize(trained((12, 16, 5), beta=1.0), 6, input_scale=1)
    first, last = chain(configuration(IntegerNetwork.of(net)))
    assert torch.tensor(first["weights"]).shape == (16, 12, 1, 1)
    assert torch.equal(torch.tensor(first["weights"]).flatten(1), net[1].weight.int().long())
    assert first["leak_enable"] is True
    assert last["biases"] == net[3].bias.long().tolist()


def test_subtraction_is_not_a_return_to_zero():
    assert [layer["return_to_zero"] for layer in chain(configuration(dense(beta=1.0, reset="subtract")))] == [False] * 2


def test_every_layer_gets_a_core_of_its_own_that_holds_it():
    layers = core_layers(dense([128, 256, 64, 256, 128, 64, 32, 16, 8, 4], beta=1.0))
    cores = assign(layers)
    assert cores is not None
    assert len(set(cores)) == 9
    for layer, core in zip(layers, cores, strict=True):
        assert layer.kernel_memory <= KERNEL[core]
        assert layer.neuron_memory <= NEURON[core]


def test_small_layers_leave_the_large_cores_to_others():
    assert assign(core_layers(dense([4] * 3, beta=1.0))) == [7, 8]


def test_a_configuration_that_is_not_that_of_the_outline(tmp_path):
    chip = chip_of("speck")
    chip.write(quantize(trained((12, 16, 5), beta=1.0), 6, input_scale=1), tmp_path, (12,))
    config = json.loads((tmp_path / FILE).read_text())
    entry = str(config["entry"])

    def changed(**values):
        layers = config["cnn_layers"] | {entry: config["cnn_layers"][entry] | values}
        (tmp_path / FILE).write_text(json.dumps(config | {"cnn_layers": layers}))

    destination = config["cnn_layers"][entry]["destinations"][0]
    for values, says in (
        ({"return_to_zero": False}, "reset in another way"),
        ({"destinations": [destination | {"pooling": 2}]}, "windows of 2 are summed, its outline has none"),
    ):
        changed(**values)
        with pytest.raises(DataError, match=says):
            chip.read(tmp_path)
    changed()
    chip.read(tmp_path)
