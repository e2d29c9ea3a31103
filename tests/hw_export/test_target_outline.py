"""The files of every chip: the same integers come back, and what is damaged or another's is noticed."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
import yaml
from target_nets import CHIPS, FITTING, chip_of, dense, fitting, images, trained, whole

from hw_export.integer import IntegerNetwork, IntegerSimulator
from hw_export.integer.network import IntegerLIF
from hw_export.quantize import quantize
from hw_export.targets import differences
from hw_export.targets.base import FORMAT, OUTLINE
from hw_export.targets.outline import outline, write_facts
from spikelfp import models, nn
from spikelfp.errors import DataError, SaveError, UserError

FILES = {
    "generic": {"network.npz"},
    "loihi": {"network.net"},
    "speck": {"dynapcnn.json"},
    "spinnaker2": {"connections.npz", "populations.yaml"},
    "tinyodin": {"tinyodin.spi"},
    "xylo": {"xylo.npz"},
    "xylo-a3": {"xylo.npz"},
}
SENT = {"tinyodin": {"clear.spi"}}
"""Files that are sent to the chip between samples, and not read back."""


@pytest.mark.parametrize("name", CHIPS)
def test_the_same_integers_come_back(tmp_path, name):
    chip, net = chip_of(name), fitting(name)
    facts = chip.write(net, tmp_path, (12,))
    assert {path.name for path in tmp_path.iterdir()} == FILES[name] | {"network.yaml"} | SENT.get(name, set())
    network = IntegerNetwork.of(net, (12,))
    adapted = chip.adapt(network)
    assert differences(adapted, chip.read(tmp_path)) == []
    plus = 1 if chip.arithmetic.fires == ">=" else 0
    assert [int(layer.threshold) for layer in adapted.neurons] == [
        int(layer.threshold) + plus for layer in network.neurons
    ]
    assert [one["threshold"] for one in facts["neurons"]] == [int(layer.threshold) for layer in adapted.neurons]
    assert [one["layer"] for one in facts["neurons"]] == [layer.name for layer in network.neurons]
    assert (name == "tinyodin") != any(bool(layer.bias.any()) for layer in adapted.products)
    assert len(adapted.products[0].weight.unique()) > 3
    assert yaml.safe_load(yaml.safe_dump(facts)) == facts


@pytest.mark.parametrize("name", [name for name in CHIPS if chip_of(name).per_neuron])
def test_thresholds_and_decays_of_neurons_come_back(tmp_path, name):
    """And what was read runs like what was written."""
    chip, (_, reset, _) = chip_of(name), FITTING[name]
    betas = torch.tensor([0.9, 0.75, 0.9, 0.6, 0.8], dtype=torch.float64)
    thresholds = (torch.tensor([30, 40, 60, 30, 50]), torch.tensor([2, 5, 3]))
    network = dense(reset=reset, beta=(betas, 0.7), threshold=thresholds, bits=4)
    adapted = chip.adapt(network)
    chip.refuse(network)
    chip.write_network(adapted, tmp_path)
    facts = outline(adapted, chip.arithmetic)
    write_facts(tmp_path / OUTLINE, {"format": FORMAT, "target": name, **facts})
    back = chip.read(tmp_path)
    assert differences(adapted, back) == []
    x = torch.randint(0, 10, (30, 2, 4), generator=torch.Generator().manual_seed(0))
    ours, theirs = (IntegerSimulator(each, chip.arithmetic).run(x) for each in (adapted, back))
    for layer, spikes in ours.spikes.items():
        assert torch.equal(spikes, theirs.spikes[layer])
        assert spikes.sum() > 5
    one = replace(adapted, layers=(adapted.layers[0], replace(adapted.layers[1], beta=0.9), *adapted.layers[2:]))
    assert any("beta of layer 'lif0'" in line for line in differences(one, back))
    slow = IntegerSimulator(one, chip.arithmetic).run(x)
    assert not torch.equal(ours.states["lif0"], slow.states["lif0"])


def test_decays_of_another_layer_are_noticed(tmp_path):
    chip = chip_of("generic")
    adapted = chip.adapt(dense(beta=(torch.tensor([0.9, 0.75, 0.9, 0.6, 0.8], dtype=torch.float64), 0.7)))
    chip.write_network(adapted, tmp_path)
    facts = outline(adapted, chip.arithmetic)
    for betas, wrong in (([0.9] * 5, "not the code of its betas"), ([0.9] * 4, "one for each channel or neuron")):
        facts["layers"][1]["beta"] = betas
        write_facts(tmp_path / OUTLINE, {"format": FORMAT, "target": "generic", **facts})
        with pytest.raises(DataError, match=wrong):
            chip.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "pool"),
    [(name, pool) for name in ("generic", "speck", "spinnaker2") for pool in (True, False)] + [("loihi", False)],
)
def test_convolutions_come_back(tmp_path, name, pool):
    bits, reset, beta = FITTING[name]
    shape = (2, 6, 6) if name == "speck" else (2, 8, 6)
    net = square(pool, reset) if name == "speck" else images(reset, beta, pool)
    net = quantize(net, 5 if name == "speck" else bits, input_scale=1)
    chip = chip_of(name)
    chip.write(net, tmp_path, shape)
    adapted = chip.adapt(IntegerNetwork.of(net, shape))
    assert any(bool(layer.bias.any()) for layer in adapted.products)
    assert differences(adapted, chip.read(tmp_path)) == []


def square(pool: bool, reset: str) -> torch.nn.Sequential:
    """As :func:`target_nets.images`, of square maps."""
    torch.manual_seed(1)
    neuron = {"beta": 1.0, "threshold": 0.3, "reset": reset}
    windows = [nn.AvgPool2d(2)] if pool else []
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.LIF(**neuron), *windows,
        nn.Conv2d(4, 6, 2, stride=1 if pool else 2), nn.LIF(**neuron),
        nn.Flatten(), nn.Linear(6 * (4 if pool else 9), 5), nn.LIF(**neuron),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["generic", "xylo", "spinnaker2"])
def test_thresholds_of_channels_come_back(tmp_path, name):
    chip = chip_of(name)
    network = chip.adapt(whole(name, threshold=(torch.tensor([20, 21, 22, 23, 24]), 9)))
    chip.write_network(network, tmp_path)
    write_outline(chip, network, tmp_path)
    assert differences(network, chip.read(tmp_path)) == []


def write_outline(chip, network, folder):
    write_facts(folder / OUTLINE, {"format": FORMAT, "target": chip.name, **outline(network, chip.arithmetic)})


@pytest.mark.parametrize("name", CHIPS)
def test_the_same_network_gives_the_same_bytes(tmp_path, name):
    chip, net = chip_of(name), fitting(name)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        chip.write(net, tmp_path / folder, (12,))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("name", CHIPS)
def test_a_folder_that_cannot_be_written_stays_empty(tmp_path, name, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SaveError, match="No space left"):
        chip_of(name).write(fitting(name), tmp_path, (12,))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", CHIPS)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, name):
    bits, reset, beta = FITTING[name]
    wide = quantize(trained((600, 600, 1200), reset=reset, beta=beta), bits, input_scale=1)
    if name in ("generic", "loihi"):
        wide = quantize(trained(reset="zero", beta=0.9), bits, input_scale=256)
        object.__setattr__(wide.report[0], "threshold", 2**26)
        wide[2].threshold = 2**26
    elif name == "spinnaker2":
        wide = quantize(trained(reset="subtract"), 5, input_scale=1)
    with pytest.raises(UserError, match=f"^{name} cannot hold this network: "):
        chip_of(name).write(wide, tmp_path, (wide[1].in_features if hasattr(wide[1], "in_features") else 600,))
    assert list(tmp_path.iterdir()) == []


def test_floats_are_refused(tmp_path):
    chip = chip_of("generic")
    with pytest.raises(UserError, match="generic takes whole numbers: quantise the network first"):
        chip.write(models.lif_mlp((4, 3)), tmp_path, (4,))
    with pytest.raises(UserError, match="generic takes whole numbers"):
        chip.write(quantize(models.lif_mlp((4, 3)), None), tmp_path, (4,))
    with pytest.raises(UserError, match="takes inputs of whole numbers"):
        chip.write(quantize(models.lif_mlp((4, 3)), 8), tmp_path, (4,))
    assert list(tmp_path.iterdir()) == []


def test_all_zero_weights_are_refused():
    net = models.lif_mlp((4, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    with pytest.raises(UserError, match="are all zero"):
        quantize(net, 8, input_scale=1)


@pytest.mark.parametrize("name", CHIPS)
def test_files_that_are_missing_or_damaged(tmp_path, name):
    chip = chip_of(name)
    with pytest.raises(DataError, match="there is no"):
        chip.read(tmp_path)
    chip.write(fitting(name), tmp_path, (12,))
    for file in FILES[name]:
        whole_bytes = (tmp_path / file).read_bytes()
        (tmp_path / file).unlink()
        with pytest.raises(DataError, match="there is no"):
            chip.read(tmp_path)
        for part in (0, 1, 7, len(whole_bytes) // 2):
            (tmp_path / file).write_bytes(whole_bytes[:part])
            with pytest.raises(DataError):
                chip.read(tmp_path)
        (tmp_path / file).write_bytes(whole_bytes)
    chip.read(tmp_path)
    facts = yaml.safe_load((tmp_path / "network.yaml").read_text())
    for changed in ({"format": 2}, {"target": "other"}, {"layers": facts["layers"][2:]}, {"layers": [1]}):
        (tmp_path / "network.yaml").write_text(yaml.safe_dump(facts | changed))
        with pytest.raises(DataError):
            chip.read(tmp_path)
    for name_of, odd in (("reset", ["zero"]), ("reset", "soft"), ("thresholds", 3), ("beta", "half")):
        neurons = [
            layer | ({name_of: [*odd] if isinstance(odd, list) else odd} if layer["kind"] == "neurons" else {})
            for layer in facts["layers"]
        ]
        (tmp_path / "network.yaml").write_text(yaml.safe_dump(facts | {"layers": neurons}))
        with pytest.raises(DataError, match=name_of):
            chip.read(tmp_path)
    for text in ("a: [", "- 1", ""):
        (tmp_path / "network.yaml").write_text(text)
        with pytest.raises(DataError):
            chip.read(tmp_path)


@pytest.mark.parametrize("name", ["generic", "loihi", "spinnaker2", "tinyodin", "xylo"])
def test_a_decay_that_is_not_that_of_the_outline(tmp_path, name):
    chip = chip_of(name)
    chip.write(fitting(name), tmp_path, (12,))
    facts = yaml.safe_load((tmp_path / "network.yaml").read_text())
    next(layer for layer in facts["layers"] if layer["kind"] == "neurons")["beta"] = 0.5
    (tmp_path / "network.yaml").write_text(yaml.safe_dump(facts))
    with pytest.raises(DataError, match="decay"):
        chip.read(tmp_path)


def test_differences_are_told():
    one = dense()
    other = one.with_parameters({"fc0.weight": one.layers[0].weight + torch.eye(5, 4, dtype=torch.int32)})
    assert differences(one, one) == []
    assert differences(one, other) == ["weight of layer 'fc0': 4 of 20 integers differ"]
    assert "bits is 4, not 8" in differences(one, replace(one, bits=4))
    layers = (one.layers[0], IntegerLIF("lif0", 0.8, torch.tensor([20]), "subtract"), *one.layers[2:])
    assert differences(one, replace(one, layers=layers)) == [
        "beta of layer 'lif0' is 0.8, not 0.9",
        "threshold of layer 'lif0' has shape (1,), not ()",
        "reset of layer 'lif0' is subtract, not zero",
    ]
    assert (
        differences(one, replace(one, layers=one.layers[:2], shapes=one.shapes[:2]))[-1]
        == "the layers are of other kinds"
    )
