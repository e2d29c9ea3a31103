"""What Speck's cores can hold: kernels, strides, windows, memory, and nine of them."""

from __future__ import annotations

import pytest
from target_nets import chip_of, conv, dense

from hw_export.integer import IntegerNetwork
from hw_export.integer.network import IntegerPool


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
