"""NEST, which imports no NIR: its populations are made from the file, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hw_export.nir import Chain
from hw_export.simulators import nest_program
from hw_export.simulators.base import SIMULATORS, DenseLayer, Simulator, UnsupportedError, check_decays, dense_layers

LARGEST = 2**22
"""Most synapses that are built; each takes about 50 bytes and a microsecond."""


@SIMULATORS.register("nest")
class Nest(Simulator):
    """NEST: each layer is a population, each nonzero weight after the first layer a ``static_synapse``; float64.

    Resets:

    * ``zero``: ``iaf_psc_delta`` with ``V_reset = 0``.
    * ``subtract``: ``eprop_iaf_bsshslm_2020``, which takes its threshold off one step later (its learning is not used).
    * ``immediate``: as ``subtract``, and every spike gives its own neuron ``(1 − β) θ`` back one step later, so that
      ``β θ`` is taken off.

    The decay is ``exp(−1 / τ)`` with the τ that makes it β. NEST fires at ``V ≥ V_th``, so ``V_th`` is the next float64
    above θ. Synapses have a delay of one step, the shortest there is, so the k-th layer lags ``k`` steps, and delays of
    the network are added to it. The analog input arrives as spikes of a ``spike_generator`` with the weights ``W x +
    b`` of the first layer. Samples run one after the other, each from rest.

    A process has one kernel of NEST, which is reset for a run. It is therefore run in another process
    (:mod:`hw_export.simulators.nest_program`), which leaves the user's networks alone and keeps its output and threads
    apart from ours.
    """

    package = "nest-simulator"
    module = "nest"
    resets = frozenset({"zero", "subtract", "immediate"})
    latency = 1
    delays = True

    def spikes(self, chain: Chain, inputs: Tensor) -> dict[str, Tensor]:
        layers = dense_layers(chain)
        check_decays(layers)
        synapses = sum(len(layer.synapses()[0]) for layer in layers[1:])
        if synapses > LARGEST:
            raise UnsupportedError(f"the network has {synapses} synapses after its first layer, limit {LARGEST}")
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "layers.npz"), Path(folder, "spikes.npz")
            np.savez(source, allow_pickle=False, **_arrays(layers, inputs))
            _run_program(source, target)
            with np.load(target) as found:
                rasters = [torch.from_numpy(found[f"spikes_{k}"]) for k in range(len(layers))]
        return {
            layer.neuron.name: raster.unflatten(2, layer.neuron.shape)
            for layer, raster in zip(layers, rasters, strict=True)
        }


def _arrays(layers: list[DenseLayer], inputs: Tensor) -> dict[str, np.ndarray]:
    """Arrays of the input file of the program."""
    x = inputs.flatten(2).transpose(0, 1).numpy().astype(np.float64)  # [B, T, inputs]
    arrays = {"layers": np.array(len(layers)), "current": layers[0].current(x)}
    for k, layer in enumerate(layers):
        arrays |= {f"beta_{k}": layer.beta, f"threshold_{k}": layer.threshold, f"bias_{k}": layer.bias}
        arrays[f"reset_{k}"] = np.array(layer.reset)
        if k:
            target, source, weight, delay = layer.synapses()
            arrays |= {f"source_{k}": source, f"target_{k}": target, f"weight_{k}": weight, f"delay_{k}": delay}
    return arrays


def _run_program(source: Path, target: Path) -> None:
    """Run the program without its folder on the module path, where module names of ours could hide others."""
    command = [sys.executable, nest_program.__file__, str(source), str(target)]
    environment = {**os.environ, "PYNEST_QUIET": "1", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=source.parent, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"the NEST process failed: {lines[-1]}")
