"""What each chip can hold: just inside is taken, just outside is refused by layer, limit and amount."""

from __future__ import annotations

import pytest
import torch
from target_nets import CHIPS, chip_of, conv, dense, trained, whole

from hw_export.integer import IntegerNetwork
from hw_export.integer.network import IntegerLIF, IntegerPool
from hw_export.quantize import quantize
from hw_export.targets import TARGETS
from hw_export.targets.generic import Generic
from spikelfp.errors import UserError


def found(name: str, network: IntegerNetwork) -> list[str]:
    return [str(one) for one in chip_of(name).check(network)]


@pytest.mark.parametrize("name", CHIPS)
def test_a_network_well_inside_is_taken(name):
    assert found(name, whole(name)) == []
    chip_of(name).refuse(whole(name))


@pytest.mark.parametrize(
    ("name", "inside", "outside", "says"),
    [
        ("loihi", {"weight": -128}, {"weight": -129}, "layer 'fc0': odd weights beyond -128 to 127 20, at most 0"),
        ("loihi", {"weight": 255}, {"weight": 256}, "layer 'fc0': largest weight 256, at most 255 (by 1)"),
        ("loihi", {"bias": 4095}, {"bias": 4096}, "layer 'fc0': largest bias 4,096, at most 4,095 (by 1)"),
        ("loihi", {"bias": -4096}, {"bias": -4097}, "layer 'fc0': lowest bias -4,097, at least -4,096 (by 1)"),
        ("loihi", {"threshold": 131071}, {"threshold": 131072}, "layer 'lif0': largest threshold 131,072, at most 131"),
        ("loihi", {"input_scale": 255}, {"input_scale": 256}, "the network: largest input, in events a step, 256"),
        ("loihi", {"beta": 1 / 4096}, {"beta": 1 / 9000}, "layer 'lif0': code of its decay 4,096, at most 4,095"),
        ("spinnaker2", {"weight": 15}, {"weight": 16}, "layer 'fc0': largest weight 16, at most 15 (by 1)"),
        ("spinnaker2", {"weight": -15}, {"weight": -17}, "layer 'fc0': lowest weight -17, at least -15 (by 2)"),
        ("spinnaker2", {"input_scale": 1}, {"input_scale": 2}, "encode the inputs as spikes"),
        ("spinnaker2", {"threshold": 2**24 - 1}, {"threshold": 2**24}, "largest threshold 16,777,216"),
        ("spinnaker2", {"sizes": (38400, 256, 256)}, {"sizes": (38401, 256, 256)}, "cores needed 153, at most 152"),
        ("speck", {"weight": 127}, {"weight": 128}, "layer 'fc0': largest weight 128, at most 127 (by 1)"),
        ("speck", {"weight": -128}, {"weight": -129}, "lowest weight -129, at least -128 (by 1)"),
        ("speck", {"bias": 127}, {"bias": 128}, "largest bias 128, at most 127"),
        ("speck", {"bias": -128}, {"bias": -129}, "lowest bias -129, at least -128"),
        ("speck", {"threshold": 32766}, {"threshold": 32767}, "largest threshold 32,768, at most 32,767 (by 1)"),
        ("speck", {"beta": 1.0}, {"beta": 0.9}, "its decay beta is 0.9, 1 only (by 0.1): train with --beta 1"),
        ("xylo", {"weight": 127}, {"weight": 128}, "largest weight 128, at most 127 (by 1)"),
        ("xylo", {"bias": 32767}, {"bias": 32768}, "largest bias 32,768, at most 32,767 (by 1)"),
        ("xylo", {"threshold": 32766}, {"threshold": 32767}, "largest threshold 32,768, at most 32,767 (by 1)"),
        ("xylo", {"input_scale": 15}, {"input_scale": 16}, "largest input, in events a step, 16, at most 15 (by 1)"),
        ("xylo", {"sizes": (16, 4, 3)}, {"sizes": (17, 4, 3)}, "the network: inputs 17, at most 16 (by 1)"),
        ("xylo", {"sizes": (4, 4, 8)}, {"sizes": (4, 4, 9)}, "layer 'fc1': readout neurons 9, at most 8 (by 1)"),
        ("xylo", {"sizes": (4, 1000, 3)}, {"sizes": (4, 1001, 3)}, "hidden neurons 1,001, at most 1,000 (by 1)"),
        ("xylo", {"sizes": (4, 9, 64, 3)}, {"sizes": (4, 9, 65, 3)}, "'fc1': connections from one hidden neuron 65"),
        ("xylo", {"sizes": (4, 500, 64, 3)}, {"sizes": (4, 501, 64, 3)}, "connections among hidden neurons 32,064"),
        ("xylo", {"sizes": (4, 5, 3)}, {"sizes": (4, 3)}, "layers of weights 1, at least 2 (by 1)"),
        ("xylo-a3", {"sizes": (4, 128, 3)}, {"sizes": (4, 129, 3)}, "layer 'fc0': neurons that take inputs 129"),
        ("xylo-a3", {"sizes": (4, 9, 128, 3)}, {"sizes": (4, 9, 129, 3)}, "'fc2': neurons that feed the readout 129"),
        ("xylo-a3", {"sizes": (4, 5, 32)}, {"sizes": (4, 5, 33)}, "readout neurons 33, at most 32 (by 1)"),
        ("tinyodin", {"weight": 7}, {"weight": 8}, "layer 'fc0': largest weight 8, at most 7 (by 1)"),
        ("tinyodin", {"weight": -8}, {"weight": -9}, "layer 'fc0': lowest weight -9, at least -8 (by 1)"),
        ("tinyodin", {"bias": 0}, {"bias": 1}, "largest bias 1, at most 0 (by 1): use layers without bias"),
        ("tinyodin", {"bias": 0}, {"bias": -1}, "lowest bias -1, at least 0 (by 1): use layers without bias"),
        ("tinyodin", {"threshold": 2046}, {"threshold": 2047}, "largest threshold 2,048, at most 2,047 (by 1)"),
        (
            "tinyodin", {"sizes": (200, 40, 16)}, {"sizes": (200, 41, 16)},
            "the network: inputs and neurons together (200 + 41 + 16) 257, at most 256 (by 1)",
        ),
        ("generic", {"threshold": 2**25 - 1}, {"threshold": 2**25}, "largest threshold 33,554,432, at most 33,554,431"),
    ],
)  # fmt: skip
def test_the_edge_of_each_limit(name, inside, outside, says):
    assert found(name, whole(name, **inside)) == []
    broken = found(name, whole(name, **outside))
    assert any(says in one for one in broken), broken


@pytest.mark.parametrize("name", CHIPS)
def test_a_threshold_of_nothing_is_refused(name):
    network = whole(name, threshold=-1 if chip_of(name).arithmetic.fires == ">=" else 0)
    assert any("lowest threshold 0, at least 1" in one for one in found(name, network))


@pytest.mark.parametrize("name", ["loihi", "speck"])
def test_thresholds_of_channels_where_a_layer_has_one(name):
    network = whole(name, threshold=(torch.tensor([20, 20, 20, 20, 21]), 9))
    assert not chip_of(name).per_neuron
    assert found(name, network) == ["layer 'lif0': different thresholds 2, at most 1 (by 1): quantise per layer"]


@pytest.mark.parametrize("name", ["generic", "spinnaker2", "tinyodin", "xylo"])
def test_thresholds_of_channels_where_neurons_have_their_own(name):
    assert chip_of(name).per_neuron
    assert found(name, whole(name, threshold=(torch.tensor([20, 20, 20, 20, 21]), 9))) == []


def test_decays_of_neurons_where_a_layer_has_one():
    own = torch.tensor([0.9, 0.9, 0.8, 0.9, 0.7], dtype=torch.float64)
    assert found("loihi", whole("loihi", beta=(own, 0.9))) == [
        "layer 'lif0': different decays beta 3, at most 1 (by 2): give all neurons of a layer one beta"
    ]
    assert any("its decay beta is 0.7, 1 only" in one for one in found("speck", whole("speck", beta=(own, 1.0))))


@pytest.mark.parametrize("name", ["generic", "spinnaker2", "tinyodin", "xylo"])
def test_decays_of_neurons_where_they_have_their_own(name):
    own = torch.tensor([0.9, 0.9, 0.8, 0.9, 0.7], dtype=torch.float64)
    assert found(name, whole(name, beta=(own, 0.9))) == []
    chip = Generic(one_decay=True)
    text = [str(one) for one in chip.check(whole("generic", beta=(own, 0.9)))]
    assert text == ["layer 'lif0': its decay beta is 0.7, 0.9 only, that of 'lif0' (by 0.2)"]


@pytest.mark.parametrize("name", CHIPS)
@pytest.mark.parametrize("reset", ["zero", "subtract", "immediate"])
@pytest.mark.parametrize("beta", [0.9, 1.0])
def test_resets(name, reset, beta):
    chip = chip_of(name)
    broken = [one for one in chip.check(whole(name, reset=reset, beta=beta)) if one.what == "its reset is"]
    alike = {"subtract", "immediate"} & chip.arithmetic.resets if beta == 1.0 and reset != "zero" else set()
    if reset in chip.arithmetic.resets or alike:
        assert broken == []
        assert all(
            layer.reset in chip.arithmetic.resets for layer in chip.adapt(whole(name, reset=reset, beta=beta)).neurons
        )
    else:
        assert [one.layer for one in broken] == ["lif0", "lif1"]
        assert all(choice in str(broken[0]) for choice in chip.arithmetic.resets)
        assert reset in str(broken[0])


def test_an_inhibitory_layer_that_netx_would_clip():
    network = dense((1, 1, 1), weight=-64)
    assert "netx would clip it" in found("loihi", network)[0]
    assert found("loihi", dense((1, 1, 1), weight=-65)) == []
    assert found("loihi", dense((1, 1, 1), weight=-255)) == []
    assert "lowest weight -257, at least -255" in found("loihi", dense((1, 1, 1), weight=-257))[0]


def test_even_weights_of_both_signs():
    def mixed(high, low, other=2):
        network = dense((2, 2), weight=high)
        weight = torch.tensor([[high, low], [other, other]], dtype=torch.int32)
        return network.with_parameters({"fc0.weight": weight})

    assert found("loihi", mixed(254, -256)) == []
    assert found("loihi", mixed(127, -128, 3)) == []
    assert "largest weight 256, at most 254" in found("loihi", mixed(256, -256))[0]
    assert "lowest weight -258, at least -256" in found("loihi", mixed(254, -258))[0]
    assert found("loihi", mixed(254, -256, 3)) == [
        "layer 'fc0': odd weights beyond -128 to 127 2, at most 0 (by 2): use fewer --bits"
    ]


@pytest.mark.parametrize("name", ["loihi", "tinyodin", "xylo"])
def test_kinds_of_layers(name):
    pooled = conv(pool=((2, 2), (2, 2)), beta=FIT[name][0], reset=FIT[name][1])
    kinds = [(one.layer, one.found) for one in chip_of(name).check(pooled) if one.what == "it is"]
    assert ("pool", "pooling") in kinds
    assert (("conv", "convolution") in kinds) == (name != "loihi")


FIT = {"loihi": (0.9, "zero"), "tinyodin": (0.9, "zero"), "xylo": (0.9, "immediate"), "speck": (1.0, "zero")}


@pytest.mark.parametrize("name", ["speck", "spinnaker2"])
def test_max_pooling_is_refused(name):
    network = conv(pool=((2, 2), (2, 2)))
    pool = network.layers[2]
    assert isinstance(pool, IntegerPool)
    layers = (*network.layers[:2], IntegerPool(pool.name, "max", pool.kernel, pool.stride), *network.layers[3:])
    network = IntegerNetwork(layers, 8, 1, network.input_shape, network.shapes)
    assert any(
        "layer 'pool': it is max-pooling, sums only: train with --pool avg" in one for one in found(name, network)
    )


@pytest.mark.parametrize("name", ["loihi", "speck", "spinnaker2", "tinyodin", "xylo"])
def test_every_layer_of_weights_needs_its_neurons(name):
    network = whole(name, sizes=(4, 4, 4, 3))
    less = tuple(layer for layer in network.layers if layer.name != "lif0")
    network = IntegerNetwork(less, 8, 1, (4,), network.shapes[1:])
    assert any("layer 'fc0': its weights are followed by 'fc1', by neurons only" in one for one in found(name, network))


def test_neurons_need_weights_in_front():
    network = dense()
    twice = (*network.layers[:2], IntegerLIF("more", 0.9, torch.tensor(1), "zero"), *network.layers[2:])
    network = IntegerNetwork(twice, 8, 1, (4,), (*network.shapes[:2], (5,), *network.shapes[2:]))
    assert found("tinyodin", network) == ["layer 'more': its neurons follow 'lif0', directly after weights only"]


def test_unrolled_connections_of_spinnaker2():
    large = conv(channels=(1, 64), size=(34, 34), kernel=(1, 1), beta=0.9, stride=(1, 1))
    assert any(
        "layer 'lif0': pairs of neurons connected 85,525,504, at most 67,108,864" in one
        for one in found("spinnaker2", large)
    )


def test_one_decay():
    alike, mixed = dense(beta=(0.9, 0.9)), dense(beta=(0.9, 0.8))
    chip = Generic(one_decay=True)
    assert chip.check(alike) == []
    assert [str(one) for one in chip.check(mixed)] == [
        "layer 'lif1': its decay beta is 0.8, 0.9 only, that of 'lif0' (by 0.1)"
    ]
    assert Generic().check(mixed) == []
    says = "layer 'lif1': its decay beta is 0.9, 1 only (by 0.1): train with --beta 1, "
    assert [one[: len(says)] for one in found("speck", dense(beta=(1.0, 0.9)))] == [says]


def test_a_narrow_generic_state():
    assert Generic(state_bits=16).check(dense(threshold=511)) == []
    assert [one.by for one in Generic(state_bits=16).check(dense(threshold=512))] == [1, 1]


def test_a_refusal_names_all_of_it_in_one_line():
    with pytest.raises(UserError) as refusal:
        chip_of("tinyodin").refuse(dense((250, 5, 3), weight=9, reset="subtract"))
    text = str(refusal.value)
    assert text.startswith("tinyodin cannot hold this network: ")
    assert "\n" not in text
    for part in (
        "layer 'fc0': largest weight 9, at most 7 (by 2)", "layer 'fc1': largest weight 9",
        "(250 + 5 + 3) 258, at most 256 (by 2)",
        "layer 'lif0': its reset is subtract, zero only: train with --reset zero",
    ):  # fmt: skip
        assert part in text


@pytest.mark.parametrize("name", CHIPS)
def test_what_a_chip_says_of_itself(name):
    facts = TARGETS[name]().describe()
    assert facts["default_bits"] in facts["bits"]
    assert all(isinstance(line, str) and line and "<" not in line for line in facts["limits"])
    assert any("reset" in line for line in facts["limits"])
    assert (name == "generic") == (facts["sources"] == [])


@pytest.mark.parametrize(
    ("name", "bits", "says"),
    [
        ("nir", 17, "2 to 16 bits, or 32 for floats, got 17"),
        ("loihi", 32, "2 to 8 bits, got 32"),
        ("tinyodin", 5, "2 to 4 bits, got 5"),
        ("spinnaker2", 8, "2 to 5 bits, got 8"),
        ("generic", None, "2 to 16 bits, got None"),
    ],
)
def test_widths_that_are_not_taken(name, bits, says):
    with pytest.raises(UserError, match=says):
        TARGETS[name]().check_bits(bits)


def test_widths_that_are_taken():
    assert TARGETS["nir"]().check_bits(None) == 32
    assert [TARGETS[name]().check_bits(TARGETS[name]().default_bits) for name in CHIPS] == [8, 8, 8, 5, 4, 8, 8]


def test_a_quantised_network_goes_through_the_same_limits(tmp_path):
    net = quantize(trained(reset="subtract"), 8, input_scale=1)
    with pytest.raises(UserError, match="loihi cannot hold this network: layer '2': its reset is subtract, zero only"):
        TARGETS["loihi"]().write(net, tmp_path, (12,))
    assert list(tmp_path.iterdir()) == []
