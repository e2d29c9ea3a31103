"""Loihi's arithmetic and latencies: against spikes recorded from lava, and against lava's equations written out.

``golden/lava_fixed_point.npz`` was recorded from lava-nc 0.10.0 (numpy 1.26, Python 3.10), ``Loihi1SimCfg(select_tag=
"fixed_pt")``: ``RingBuffer → Dense → LIF → Dense → LIF …``, 80 steps from rest, with ``du=4095`` (and lava's
``ds_offset`` of 1: no current is left of the step before), ``bias_exp=6``, and weights that are even as lava wants them
where signs mix. Three networks: "leaky", "wrapping" (weight exponents so large that currents wrap at 24 bits and
membranes stop at ±(2^23 − 1)), and "integrate" (``dv=0``). For each: inputs, and per layer weight mantissas, bias
mantissas, ``[weight_exp, dv, vth]``, the spikes as packed bits, and the membranes at the end.

Every Dense holds back what it is sent for a step (``a_buff``), that of the inputs too: layer ``k`` has run ``k + 1``
steps, with its biases, when the first input reaches it.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from hw_export.integer import Arithmetic, IntegerNetwork, IntegerSimulator
from hw_export.integer.network import IntegerDense, IntegerLIF

LOIHI = Arithmetic(
    24, symmetric=True, current_bits=24, shift=6, decay="multiply", decay_bits=12, latency=1, input_latency=1
)
GOLDEN = Path(__file__).parent / "golden" / "lava_fixed_point.npz"


class Layer:
    """One layer of weights and neurons, as lava is given it."""

    def __init__(self, weight, exponent, bias, dv, vth) -> None:
        self.weight, self.exponent, self.bias, self.dv, self.vth = weight, exponent, bias, dv, vth


def network(layers: list[Layer]) -> IntegerNetwork:
    made, shapes = [], []
    for k, own in enumerate(layers):
        weight = torch.from_numpy(own.weight.astype(np.int32) << own.exponent)
        made.append(IntegerDense(f"dense{k}", weight, torch.from_numpy(own.bias.astype(np.int64))))
        made.append(IntegerLIF(f"lif{k}", 1 - own.dv / 4096, torch.tensor(own.vth), "zero"))
        shapes += 2 * [(len(weight),)]
    return IntegerNetwork(tuple(made), 8, 1, (layers[0].weight.shape[1],), tuple(shapes))


def simulated(layers: list[Layer], x: np.ndarray):
    """Spikes of each layer, from rest, and the run: so many steps as lava was run, so the last input is not heard."""
    run = IntegerSimulator(network(layers), LOIHI).run(torch.from_numpy(x[:-1]).unsqueeze(1), aligned=False)
    return [spikes[: len(x), 0].numpy() for spikes in run.spikes.values()], run


@pytest.fixture(params=["torch", "numba"], autouse=True)
def _kernels(request, monkeypatch):
    monkeypatch.setenv("SPIKELFP_KERNELS", request.param)


@pytest.mark.parametrize("name", ["leaky", "wrapping", "integrate"])
def test_spikes_recorded_from_lava(name):
    with np.load(GOLDEN) as golden:
        layers, spikes, membranes = [], [], []
        while f"{name}.{len(layers)}.weight" in golden:
            key = f"{name}.{len(layers)}"
            exponent, dv, vth = golden[f"{key}.exp_dv_vth"].tolist()
            layers.append(Layer(golden[f"{key}.weight"], exponent, golden[f"{key}.bias"], dv, vth))
            shape = golden[f"{key}.shape"]
            spikes.append(np.unpackbits(golden[f"{key}.spikes"])[: shape.prod()].reshape(shape))
            membranes.append(golden[f"{key}.v"])
        x = golden[f"{name}.inputs"]
    found, run = simulated(layers, x)
    for k, (own, recorded) in enumerate(zip(found, spikes, strict=True)):
        assert recorded.any()
        np.testing.assert_array_equal(own, recorded, err_msg=f"{name}, layer {k}")
    np.testing.assert_array_equal(run.states["lif0"][0], membranes[0])  # later layers run on, for their latency
    assert (run.saturated["lif0"] > 0) == (name == "wrapping")


def equations(layers: list[Layer], x: np.ndarray) -> list[np.ndarray]:
    """``PyLifModelBitAcc`` and ``PyDenseModelBitAcc`` of lava, step by step."""
    u = [np.zeros(len(own.weight), np.int64) for own in layers]
    v = [np.zeros(len(own.weight), np.int64) for own in layers]
    held = [np.zeros(len(own.weight), np.int64) for own in layers]
    out: list[list[np.ndarray]] = [[] for _ in layers]
    for step in x:
        spikes = step.astype(np.int64)
        for k, own in enumerate(layers):
            arriving, held[k] = held[k], (own.weight.astype(np.int64) @ spikes) << own.exponent
            decayed = u[k] * (4096 - (4095 + 1))
            u[k] = np.sign(decayed) * (np.abs(decayed) >> 12) + (arriving << 6)
            u[k] = np.where(u[k] > 2**23, u[k] - 2**24, np.where(u[k] <= -(2**23), u[k] + 2**24, u[k]))
            decayed = v[k] * (4096 - own.dv)
            v[k] = np.sign(decayed) * (np.abs(decayed) >> 12) + u[k] + (own.bias.astype(np.int64) << 6)
            v[k] = np.clip(v[k], -(2**23) + 1, 2**23 - 1)
            spikes = (v[k] > own.vth << 6).astype(np.int64)
            v[k] = np.where(spikes, 0, v[k])
            out[k].append(spikes)
    return [np.stack(own) for own in out]


@pytest.mark.parametrize("seed", range(12))
def test_lavas_equations(seed):
    random = np.random.default_rng(seed)
    sizes = random.integers(3, 30, 4)
    # 24 bits hold 131,072 << 6: at the larger exponents currents wrap (once: as often as lava undoes it)
    exponent = int(random.integers(0, 7))
    layers = [
        Layer(
            random.integers(-128, 128, (n, k)) * 2,
            exponent,
            random.integers(-4096, 4096, n),
            int(random.integers(0, 4096)),
            int(random.integers(1, 200)) << exponent,
        )
        for k, n in pairwise(sizes)
    ]
    x = (random.random((50, sizes[0])) < 0.4).astype(np.int8)
    expected = equations(layers, x)
    assert all(own.any() for own in expected)
    for own, ours in zip(expected, simulated(layers, x)[0], strict=True):
        np.testing.assert_array_equal(ours, own)


def test_the_one_current_that_twos_complement_does_not_have():
    layer = Layer(np.array([[1 << 10]]), 7, np.array([0]), 0, 3)  # 2^17 << 6 is 2^23
    for sign in (1, -1):
        own = Layer(sign * layer.weight, 7, layer.bias, 0, 3)
        x = np.array([[1], [0], [0]], np.int8)
        np.testing.assert_array_equal(simulated([own], x)[0][0], equations([own], x)[0])
        assert equations([own], x)[0].tolist() == [[0], [1], [0]]  # minus 2^23 is read as plus 2^23
