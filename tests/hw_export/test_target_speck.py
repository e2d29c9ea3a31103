"""Speck: the configuration, its memories by the published formulas, the choice of cores, and all of its limits."""

from __future__ import annotations

import json

import pytest
import torch
from target_nets import chip_of, conv, dense, trained

from hw_export.integer import IntegerNetwork
from hw_export.integer.network import IntegerPool
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


def found(name: str, network: IntegerNetwork) -> list[str]:
    return [str(one) for one in chip_of(name).check(network)]


@pytest.mark.parametrize(
    ("inside", "outside", "says"),
    [
        ({"kernel": (16, 16), "size": (16, 16)}, {"kernel": (17, 17), "size": (17, 17)}, "kernel size 17, at most 16"),
        ({"stride": (8, 8), "size": (16, 16)}, {"stride": (3, 3)}, "layer 'conv': stride 3, one of 1, 2, 4, 8 (by 1)"),
        ({}, {"kernel": (3, 2)}, "layer 'conv': kernel 3 x 2, square ones only"),
        ({}, {"dilation": (2, 2)}, "layer 'conv': dilation 2, one of 1 (by 1)"),
        ({}, {"channels": (2, 4), "groups": 2}, "layer 'conv': groups 2, at most 1 (by 1)"),
        ({"outputs": 1024, "size": (3, 3)}, {"outputs": 1025, "size": (3, 3)}, "output channels 1,025, at most 1,024"),
        (
            {"channels": (1024, 1), "kernel": (1, 1), "size": (1, 1)},
            {"channels": (1025, 1), "kernel": (1, 1), "size": (1, 1)}, "input channels 1,025, at most 1,024 (by 1)",
        ),
        ({"pool": ((4, 4), (4, 4)), "size": (10, 10)}, {"pool": ((3, 3), (3, 3))}, "window 3, one of 1, 2, 4 (by 1)"),
        ({"pool": ((2, 2), (2, 2))}, {"pool": ((2, 2), (1, 1))}, "(2, 2) every (1, 1), square ones side by side only"),
        ({}, {"size": (9, 8)}, "layer 'fc': kernel 7 x 6, square ones only"),
        # 64 Ki words of kernels: 64 · 2^(4 + 6); of neurons: 16 · 2^(6 + 6)
        (
            {"channels": (64, 64), "size": (3, 3)}, {"channels": (65, 64), "size": (3, 3)},
            "kernel memory 66,560, at most 65,536",
        ),
        (
            {"channels": (1, 64), "kernel": (1, 1), "size": (32, 32), "pool": ((4, 4), (4, 4))},
            {"channels": (1, 65), "kernel": (1, 1), "size": (32, 32), "pool": ((4, 4), (4, 4))},
            "neuron memory 66,560, at most 65,536 (by 1,024)",
        ),
        (
            {"channels": (16, 32), "size": (34, 34), "pool": ((4, 4), (4, 4))},
            {"channels": (64, 64), "size": (34, 34), "pool": ((4, 4), (4, 4))},
            "layer 'conv': kernel and neuron memory 65,536 and 65,536, no core has both",
        ),
    ],
)  # fmt: skip
def test_the_cores_of_speck(inside, outside, says):
    assert found("speck", conv(**inside)) == []
    assert any(says in one for one in found("speck", conv(**outside))), found("speck", conv(**outside))


def test_nine_cores():
    assert found("speck", dense([4] * 10, beta=1.0)) == []
    assert found("speck", dense([4] * 11, beta=1.0)) == [
        "the network: layers of weights 10, at most 9 (by 1): one for each core"
    ]


def test_layers_that_need_the_same_cores():
    # kernel memory 128 · 256 = 32 Ki: cores 3 to 6, four of them
    assert found("speck", dense([128] + [256, 128] * 2, beta=1.0)) == []
    broken = found("speck", dense([128] + [256, 128] * 3, beta=1.0))
    assert len(broken) == 1
    assert "no choice of cores holds all at once" in broken[0]


def test_pooling_of_inputs_on_speck():
    network = conv(size=(4, 4), kernel=(2, 2))
    layers = (IntegerPool("first", "sum", (2, 2), (2, 2)), *network.layers)
    network = IntegerNetwork(layers, 8, 1, (2, 8, 8), ((2, 4, 4), *network.shapes))
    assert found("speck", network) == ["layer 'first': its pooling follows the inputs, directly after neurons only"]
