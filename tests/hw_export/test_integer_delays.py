"""Delays in whole numbers: the simulator against loops over steps, against the quantised network, and chips' files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hw_export import quantize
from hw_export.build import read_export, write_export
from hw_export.integer import (
    GENERIC,
    Arithmetic,
    IntegerDelay,
    IntegerDense,
    IntegerLIF,
    IntegerNetwork,
    IntegerSimulator,
    IntegerTaps,
)
from hw_export.samples import ExportSamples
from hw_export.targets import TARGETS, Chip, make_target
from hw_export.verify import verify_chip
from spikelfp import nn
from spikelfp.errors import DataError, ShapeError, UserError

CHIPS = sorted(name for name in TARGETS if issubclass(TARGETS[name], Chip))
WITH_DELAYS = ("generic", "spinnaker2")


def spikes(*shape, seed=0):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4).long()


def net_of(first=(0, 2, 5), second=(1, 3), beta=1.0, between=3):
    """Delays of each input, taps, a delay of all, and taps again; without a leak every arithmetic is exact."""
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Delay(torch.tensor([0, 1, 2])), nn.DelayLinear(3, 6, first), nn.LIF(beta, 1.3, "zero"),
        nn.Delay(between), nn.DelayLinear(6, 4, second, bias=False), nn.LIF(beta, 0.8, "zero"),
    )  # fmt: skip
    with torch.no_grad():
        net[1].dense.weight.mul_(3)
        net[4].dense.weight.mul_(4)
    return net


def by_loop(network, x, arithmetic):
    """Spikes of a network ``[Delay, Taps, Dense, LIF] × n``, reset to zero: each connection and step by itself."""
    x = x.tolist()
    layers, shape = iter(network.layers), network.input_shape
    for layer in layers:
        delays = [0] * shape[0]
        if isinstance(layer, IntegerDelay):
            delays, layer = layer.delays.expand(shape).tolist(), next(layers)
        taps, dense, neurons = layer, next(layers), next(layers)
        assert (type(taps), type(dense), type(neurons)) == (IntegerTaps, IntegerDense, IntegerLIF)
        weight, bias = dense.weight.tolist(), dense.bias.tolist()
        steps, batch, inputs, threshold = len(x), len(x[0]), shape[0], neurons.threshold.item()
        out = [[[0] * len(weight) for _ in range(batch)] for _ in range(steps)]
        for b in range(batch):
            for j in range(len(weight)):
                v = 0
                for t in range(steps):
                    total = bias[j]
                    for k, tap in enumerate(taps.delays):
                        for i in range(inputs):
                            at = t - tap - delays[i]
                            total += weight[j][k * inputs + i] * (x[at][b][i] if at >= 0 else 0)
                    kept = abs(v) * (4096 - round((1 - neurons.beta) * 4096)) // 4096  # towards 0
                    v = (kept if v > 0 else -kept) + (total << arithmetic.shift)
                    if v > threshold << arithmetic.shift:
                        out[t][b][j], v = 1, 0
        x, shape = out, (len(weight),)
    return torch.tensor(x)


def test_every_connection_waits_for_its_own_steps():
    network = IntegerNetwork.of(quantize(net_of(beta=0.8), 8))
    x = spikes(14, 3, 3)
    run = IntegerSimulator(network).run(x)
    assert torch.equal(run.outputs.long(), by_loop(network, x, GENERIC))
    assert 0.05 < run.outputs.float().mean() < 0.95


@pytest.mark.parametrize("kernels", ["torch", "numba"])
def test_spikes_are_those_of_the_quantised_network(kernels, monkeypatch):
    monkeypatch.setenv("SPIKELFP_KERNELS", kernels)
    net, x = quantize(net_of(), 8), spikes(20, 5, 3)
    assert torch.equal(IntegerSimulator(net).run(x).outputs.float(), net(x.float()))


def test_a_run_in_parts_keeps_what_is_on_its_way():
    simulator, x = IntegerSimulator(quantize(net_of(), 8)), spikes(20, 4, 3)
    whole, states, parts = simulator.run(x), None, []
    for part in x.split([1, 6, 2, 11]):
        run = simulator.run(part, states)
        states = run.states
        parts.append(run.outputs)
    assert torch.equal(whole.outputs, torch.cat(parts))
    assert all(torch.equal(value, states[name]) for name, value in whole.states.items())
    assert states["2.delayed"].shape == (4, 2 + 5, 3)
    del states["2.delayed"]
    with pytest.raises(ShapeError, match=r"the states need '2\.delayed', int64"):
        simulator.run(x, states)


def test_inputs_that_do_not_change_begin_when_their_delay_is_over():
    simulator = IntegerSimulator(quantize(net_of(), 8))
    still = spikes(1, 4, 3).expand(9, -1, -1)
    assert torch.equal(simulator.run(still).outputs, simulator.run(still.contiguous()).outputs)


def test_spikes_that_meet_a_weight_are_counted_once_for_each_tap():
    network = IntegerNetwork(
        (
            IntegerTaps("t", (0, 3)), IntegerDense("d", torch.tensor([[1, 0, 2, 4]]), torch.zeros(1).long()),
            IntegerLIF("n", 0.5, torch.tensor(9), "zero"),
        ),
        8, 1, (2,), ((4,), (1,), (1,)),
    )  # fmt: skip
    x = torch.zeros(5, 1, 2).long()
    x[0], x[3, 0, 1] = 1, 1  # input 1 at step 3 would come out at step 6, after the end
    counts = IntegerSimulator(network).run(x).counts
    assert counts.synaptic_operations == 1 + 0 + 1 + 1  # tap 0: input 0 alone has a weight; tap 1: both at step 3


def test_delays_of_images_and_taps_of_a_longer_row():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Delay(torch.tensor([0, 2])), nn.Conv2d(2, 3, 2), nn.LIF(1.0, 0.9, "zero"),
        nn.Delay(torch.randint(0, 4, (3, 2, 2))), nn.Flatten(), nn.DelayLinear(12, 2, (0, 1)), nn.LIF(1.0, 0.9, "zero"),
    )  # fmt: skip
    net, x = quantize(net, 8), spikes(12, 4, 2, 3, 3)
    for target in (GENERIC, make_target("generic")):
        found = IntegerSimulator(net, target=target, input_shape=(2, 3, 3)).run(x).outputs
        assert torch.equal(found.float(), net(x.float()))
        assert found.any()


@pytest.mark.parametrize("name", CHIPS)
def test_chips_hold_delays_or_refuse_them_by_name(tmp_path, name):
    chip = make_target(name)
    net = net_of((0, 2, 4), (1, 3)) if name != "spinnaker2" else net_of((0, 2, 4), (0, 1))
    net[1].dense.bias = None
    x = ExportSamples(spikes(12, 4, 3).float(), torch.arange(4), 12, static=False, scale=1)
    own = {"target": name, "bits": chip.default_bits}
    if name not in WITH_DELAYS:
        with pytest.raises(UserError, match=r"layer '0': longest delay, in steps, 2, at most 0 \(by 2\)") as refused:
            write_export(net, x, tmp_path / "export", **own)
        assert "\n" not in str(refused.value)
        assert "--target generic, spinnaker2 or nir" in str(refused.value)
        with pytest.raises(UserError, match=r"this chip has no delays|reset by 'zero'"):
            IntegerSimulator(quantize(net, chip.default_bits), chip.arithmetic)
        return
    manifest = write_export(net, x, tmp_path / "export", **own)
    _, _, shown = read_export(tmp_path / "export")
    assert verify_chip(chip, tmp_path / "export", manifest, shown).status == "identical"


@pytest.mark.parametrize("name", WITH_DELAYS)
def test_the_files_of_a_chip_hold_every_delay(tmp_path, name):
    chip = make_target(name)
    net = quantize(net_of((0, 2, 4), (0, 1)), chip.default_bits, input_scale=1)
    net[1].dense.bias = None
    chip.write(net, tmp_path, (3,))
    back, x = chip.read(tmp_path), spikes(12, 4, 3)
    run = IntegerSimulator(back, chip.arithmetic).run(x)
    assert torch.equal(run.outputs.float(), net(x.float()))
    assert run.outputs.any()


def test_spinnaker2_writes_the_delay_of_each_connection(tmp_path):
    net = net_of((0, 2, 4), (0, 1))
    net[1].dense.choose()
    net = quantize(net, 5, input_scale=1)
    chip = make_target("spinnaker2")
    chip.write(net, tmp_path, (3,))
    with np.load(tmp_path / "connections.npz") as found:
        rows = found["input-2"]
    taps, each = net[1].by_tap.detach(), net[0].delays.tolist()
    wanted = {
        (i, j, int(taps[k, j, i]), d + each[i])
        for k, d in enumerate((0, 2, 4))
        for j in range(6)
        for i in range(3)
        if taps[k, j, i]
    }
    assert {tuple(row) for row in rows.tolist()} == wanted
    assert len(rows) <= 18  # one for each connection at most
    with pytest.raises(
        UserError, match=r"'1\.taps': longest delay, in steps, 8, at most 7 \(by 1\): train with shorter"
    ):
        chip.write(quantize(net_of((0, 6), (0, 1)), 5, input_scale=1), tmp_path, (3,))
    arrays = dict(np.load(tmp_path / "connections.npz"))
    arrays["input-2"][0, 3] = 7
    np.savez(tmp_path / "connections.npz", **arrays)
    with pytest.raises(DataError, match="has delays that its layer has not"):
        chip.read(tmp_path)


def test_a_delay_behind_weights_is_refused_by_name():
    net = nn.Sequential(nn.Linear(3, 4), nn.Delay(1), nn.LIF(0.5, 0.3, "zero"))
    for target in (None, "generic", "spinnaker2"):
        with pytest.raises(UserError, match="layer '0' stands in front of a delay"):
            IntegerSimulator(quantize(net, 5), target=target)
    with pytest.raises(UserError, match=r"layer '1': its delay follows '0', in front of weights only"):
        make_target("generic").refuse(IntegerNetwork.of(quantize(net, 5)))


@pytest.mark.parametrize("options", [{"delays": -1}, {"delays": 2**16}, {"delays": 1, "by_event": True}])
def test_an_arithmetic_has_no_delays_that_it_could_not_run(options):
    with pytest.raises(UserError, match="delays"):
        Arithmetic(8, **options)
