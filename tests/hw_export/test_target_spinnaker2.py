"""SpiNNaker2: populations and connection lists add up to what the layers do."""

from __future__ import annotations

import itertools
from collections import OrderedDict

import numpy as np
import torch
import yaml
from target_nets import chip_of, conv, images, spikes, trained

from hw_export.integer import IntegerNetwork
from hw_export.integer.network import IntegerDense, IntegerLIF
from hw_export.integer.simulator import IntegerSimulator
from hw_export.quantize import quantize
from hw_export.targets.spinnaker2 import FILE, MOST, POPULATIONS, unrolled
from spikelfp import nn


def run_lists(folder, given: np.ndarray) -> dict[str, np.ndarray]:
    """Spikes of each population for ``given [T, inputs]``, in float32, over T steps: 1 is added to every delay."""
    populations = yaml.safe_load((folder / POPULATIONS).read_text())
    with np.load(folder / FILE) as content:
        lists = dict(content)
    found = {}
    (_, x), *rest = [(next(iter(populations)), given), *list(populations.items())[1:]]
    for name, population in rest:
        params = population["params"]
        (connections,) = [rows for key, rows in lists.items() if key.endswith(f"-{name}")]
        threshold = np.float32(params["threshold"])
        v = np.zeros(population["size"], dtype=np.float32)
        out = []
        for row in np.concatenate([np.zeros_like(x[:1]), x[:-1]]):
            current = np.zeros(population["size"], dtype=np.float32)
            for pre, post, weight, delay in connections:
                assert delay == 0
                current[post] += np.float32(weight * row[pre])
            v = np.float32(params["alpha_decay"]) * v + current + np.float32(params["i_offset"])
            fires = v > threshold
            v = np.where(fires, v - threshold if params["reset"] == "reset_by_subtraction" else 0, v).astype(np.float32)
            out.append(fires)
        x = found[name] = np.stack(out).astype(int)
    return found


def test_the_lists_run_as_the_simulator(tmp_path):
    chip = chip_of("spinnaker2")
    for reset, bias in itertools.product(("zero", "immediate"), (False, True)):
        net = quantize(trained((8, 10, 6), reset=reset, bias=bias), 5, input_scale=1)
        chip.write(net, tmp_path, (8,))
        given = spikes(8, steps=40)
        network = chip.adapt(IntegerNetwork.of(net))
        run = IntegerSimulator(network, chip.arithmetic).run(given, aligned=False)
        lists = run_lists(tmp_path, given[:, 0].numpy().astype(int))
        assert list(lists) == list(run.spikes)
        for name, own in run.spikes.items():
            assert np.array_equal(own[:40, 0].numpy(), lists[name])
            assert int(own.sum()) > 5


def test_the_form(tmp_path):
    chip = chip_of("spinnaker2")
    net = quantize(trained(), 5, input_scale=1)
    chip.write(net, tmp_path, (12,))
    populations = yaml.safe_load((tmp_path / POPULATIONS).read_text())
    names = [layer.name for layer in IntegerNetwork.of(net).neurons]
    assert list(populations) == ["input", *names]
    assert populations["input"]["neuron_model"] == "spike_list"
    params = populations[names[0]]["params"]
    assert set(params) == {"threshold", "alpha_decay", "i_offset", "v_init", "v_reset", "reset"}
    assert (params["alpha_decay"], params["reset"], params["v_reset"]) == (0.9, "reset_to_v_reset", 0.0)
    assert params["i_offset"] == net[1].bias.tolist()
    with np.load(tmp_path / FILE) as content:
        assert list(content) == [f"{a}-{b}" for a, b in zip(["input", *names], names, strict=False)]
        rows = content[f"input-{names[0]}"]
    assert rows.dtype == np.int32
    assert len(rows) == int((net[1].weight != 0).sum())
    assert abs(rows[:, 2]).max() == 15
    pre, post, weight, _ = rows[0]
    assert net[1].weight[post, pre] == weight


def test_unrolled_layers_add_up_to_the_same():
    net = quantize(images(), 5, input_scale=1)
    network = IntegerNetwork.of(net, (2, 8, 6))
    flat = unrolled(network)
    assert [type(layer) for layer in flat.layers] == [IntegerDense, IntegerLIF] * 3
    chip = chip_of("spinnaker2")
    given = spikes(2, 8, 6, steps=25)
    own = IntegerSimulator(network, chip.arithmetic)
    other = IntegerSimulator(flat, chip.arithmetic).run(given.flatten(2))
    assert chip.check(network) == []
    for mine, theirs in zip(own.run(given).spikes.values(), other.spikes.values(), strict=True):
        assert torch.equal(mine.flatten(2), theirs)
        assert int(mine.sum()) > 10


def test_thresholds_of_channels_become_those_of_neurons():
    network = conv(beta=0.9)
    layers = list(network.layers)
    layers[1] = IntegerLIF("lif0", 0.9, torch.tensor([5, 6, 7]), "zero")
    flat = unrolled(IntegerNetwork(tuple(layers), 8, 1, network.input_shape, network.shapes))
    assert flat.neurons[0].threshold.tolist() == [5] * 36 + [6] * 36 + [7] * 36


def test_what_is_too_large_is_left_as_it_is():
    large = conv(channels=(1, 64), size=(34, 34), kernel=(1, 1))
    assert MOST < 34**2 * 64 * 34**2
    assert unrolled(large) is large


def test_a_layer_called_input_does_not_hide_the_inputs():
    torch.manual_seed(0)
    net = nn.Sequential(OrderedDict(first=nn.Linear(4, 3), input=nn.LIF(0.9, 0.2, "zero")))
    chip = chip_of("spinnaker2")
    codes = chip.prepare(chip.adapt(IntegerNetwork.of(quantize(net, 4, input_scale=1))))
    assert list(codes["populations"]) == ["input_", "input"]
    assert list(codes["projections"]) == ["input_-input"]
