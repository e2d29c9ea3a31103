"""Xylo: the specification for rockpool, run as its simulator runs it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from target_nets import chip_of, dense, fitting, trained, whole

from hw_export.integer import IntegerNetwork, IntegerSimulator
from hw_export.quantize import quantize
from hw_export.targets.outline import write_arrays
from hw_export.targets.xylo import FILE
from spikelfp.errors import DataError

ARGUMENTS = {
    "weights_in", "weights_rec", "weights_out", "dash_mem", "dash_mem_out", "dash_syn", "dash_syn_out", "threshold",
    "threshold_out", "bias_hidden", "bias_out", "weight_shift_in", "weight_shift_rec", "weight_shift_out",
}  # fmt: skip
"""Of rockpool's ``config_from_specification``, those of networks without aliases and second synapses."""


def spec_of(folder) -> dict[str, np.ndarray]:
    with np.load(folder / FILE) as content:
        return dict(content)


def decayed(values: np.ndarray, dash: np.ndarray) -> np.ndarray:
    """``v - (v >> dash)``, by 1 toward 0 where that changes nothing."""
    shifted = values >> dash
    return values - np.where(shifted == 0, np.sign(values), shifted)


def clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -(2**15), 2**15 - 1)


def evolve(spec, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spikes of the hidden population and of the readout, for events ``[T, in]``.

    One population, whose spikes arrive in the next step. The order of a step is that of xylosim: currents are fed,
    decay, and are added to the decayed membrane.
    """
    hidden, out = len(spec["threshold"]), len(spec["threshold_out"])
    current, membrane, sent = (np.zeros(hidden, dtype=int) for _ in range(3))
    current_out, membrane_out = np.zeros(out, dtype=int), np.zeros(out, dtype=int)
    all_sent, all_out = [], []
    for row in events:
        fed = sent @ spec["weights_rec"][:, :, 0].astype(int)
        width = spec["weights_in"].shape[1]
        fed[:width] += row @ spec["weights_in"][:, :, 0].astype(int)
        current = decayed(clipped(current + fed), spec["dash_syn"])
        current_out = decayed(clipped(current_out + sent @ spec["weights_out"].astype(int)), spec["dash_syn_out"])
        membrane = clipped(decayed(membrane, spec["dash_mem"]) + current + spec.get("bias_hidden", 0))
        membrane_out = clipped(decayed(membrane_out, spec["dash_mem_out"]) + current_out + spec.get("bias_out", 0))
        sent = np.clip(membrane // spec["threshold"], 0, 31)
        membrane = membrane - sent * spec["threshold"]
        fired = np.clip(membrane_out // spec["threshold_out"], 0, 1)
        membrane_out = membrane_out - fired * spec["threshold_out"]
        all_sent.append(sent)
        all_out.append(fired)
    return np.stack(all_sent), np.stack(all_out)


def test_three_steps_on_paper():
    spec = chip_of("xylo").prepare(chip_of("xylo").adapt(dense((1, 1, 1), weight=10, threshold=15, reset="immediate")))
    # threshold 16, shift 3: current 10 - 5 = 5; 15 - 7 = 8; 18 - 9 = 9; membrane 5; 5 - 1 + 8 = 12; 12 - 1 + 9 = 20
    hidden, out = evolve(spec, np.ones((4, 1), dtype=int))
    # 4 - 1 + 19 - 9 = 13; the readout hears of the spike one step later, 10 - 5 = 5
    assert hidden[:, 0].tolist() == [0, 0, 1, 0]
    assert out.sum() == 0
    hidden, out = evolve(spec, np.full((4, 1), 15))
    # current 150 - 75 = 75 = 4 · 16 + 11; 225 - 112 = 113, 11 - 1 + 113 = 123 = 7 · 16 + 11
    assert hidden[:2, 0].tolist() == [4, 7]
    # the readout: 40 - 20 = 20 >= 16, once; 4 is left
    assert out[:2, 0].tolist() == [0, 1]


def layered(network: IntegerNetwork, arithmetic, events: np.ndarray) -> list[np.ndarray]:
    """The same, layer by layer from the network; each layer hears of the one before one step later."""
    found: list[np.ndarray] = []
    for index, (product, neurons) in enumerate(zip(network.products, network.neurons, strict=True)):
        weight, bias = product.weight.numpy().astype(int), product.bias.numpy()
        current = membrane = np.zeros(len(weight), dtype=int)
        dash, threshold = arithmetic.decay_code(neurons.beta), neurons.threshold.numpy()
        most = 1 if index == len(network.products) - 1 else 31
        spikes = []
        for row in events:
            current = decayed(clipped(current + weight @ row), np.array(1))
            membrane = clipped(decayed(membrane, np.array(dash)) + current + bias)
            fired = np.clip(membrane // threshold, 0, most)
            membrane = membrane - fired * threshold
            spikes.append(fired)
        found.append(np.stack(spikes))
        events = np.concatenate([np.zeros_like(found[-1][:1]), found[-1][:-1]])
    return found


@pytest.mark.parametrize("name", ["xylo", "xylo-a3"])
def test_the_population_runs_as_the_layers(tmp_path, name):
    chip = chip_of(name)
    net = quantize(trained((12, 20, 14, 6), reset="immediate", beta=0.9), 8, input_scale=1)
    chip.write(net, tmp_path, (12,))
    spec = spec_of(tmp_path)
    assert set(spec) == ARGUMENTS
    events = np.random.default_rng(0).integers(0, 2, (40, 12))
    hidden, out = evolve(spec, events)
    first, second, last = layered(chip.adapt(IntegerNetwork.of(net)), chip.arithmetic, events)
    assert np.array_equal(hidden[:, :20], first)
    assert np.array_equal(hidden[:, 20:], second)
    assert np.array_equal(out, last)
    assert min(first.sum(), second.sum(), last.sum()) > 20


@pytest.mark.parametrize("kernels", ["torch", "numba"])
@pytest.mark.parametrize("name", ["xylo", "xylo-a3"])
@pytest.mark.parametrize("most", [1, 15])
def test_the_simulator_is_the_population(monkeypatch, kernels, name, most):
    """Spike for spike from the first step on; 15 events of an input at once drive the registers to their ends."""
    monkeypatch.setenv("SPIKELFP_KERNELS", kernels)
    chip = chip_of(name)
    net = quantize(trained((12, 20, 14, 6), reset="immediate", beta=0.9), 8, input_scale=1)
    network = chip.adapt(IntegerNetwork.of(net))
    events = np.random.default_rng(1).integers(0, most + 1, (60, 12))
    run = IntegerSimulator(network, chip.arithmetic).run(torch.from_numpy(events).unsqueeze(1), aligned=False)
    hidden, out = evolve(chip.prepare(network), events)
    first, second, last = (spikes[:60, 0].numpy() for spikes in run.spikes.values())
    assert np.array_equal(first, hidden[:, :20])
    assert np.array_equal(second, hidden[:, 20:])
    assert np.array_equal(last, out)
    assert min(first.sum(), second.sum(), last.sum()) > 20
    assert (max(run.saturated.values()) > 0) == (most > 1)
    assert first.max() > 1


def test_a_file_with_other_synapses_is_refused(tmp_path):
    chip_of("xylo").write(fitting("xylo"), tmp_path, (12,))
    spec = spec_of(tmp_path)
    for name in ("dash_syn", "dash_syn_out"):
        write_arrays(tmp_path / FILE, spec | {name: spec[name] + 1})
        with pytest.raises(DataError, match="currents decay by another shift"):
            chip_of("xylo").read(tmp_path)


def test_the_form_of_the_arguments(tmp_path):
    chip_of("xylo").write(fitting("xylo"), tmp_path, (12,))
    spec = spec_of(tmp_path)
    assert spec["weights_in"].shape == (12, 16, 1)
    assert spec["weights_rec"].shape == (30, 30, 1)
    assert spec["weights_out"].shape == (30, 6)
    for name in ("weights_in", "weights_rec", "weights_out"):
        assert spec[name].dtype == np.int8
    for name in ("dash_mem", "dash_syn", "threshold", "bias_hidden"):
        assert spec[name].shape == (30,)
        assert spec[name].dtype.kind == "i"
    for name in ("dash_mem_out", "dash_syn_out", "threshold_out", "bias_out"):
        assert spec[name].shape == (6,)
    assert set(spec["dash_mem"]) == {3}
    assert set(spec["dash_syn"]) == {1}
    rec = spec["weights_rec"][:, :, 0]
    assert rec[:16, 16:].any()
    assert not rec[:16, :16].any()
    assert not rec[16:].any()
    assert not spec["weights_out"][:16].any()


def test_without_biases_there_are_none(tmp_path):
    spec = chip_of("xylo").prepare(chip_of("xylo").adapt(whole("xylo")))
    assert set(spec) == ARGUMENTS - {"bias_hidden", "bias_out"}
    assert spec["weights_rec"].shape == (5, 5, 1)
    assert torch.from_numpy(spec["threshold"]).tolist() == [21] * 5
