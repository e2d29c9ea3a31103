"""What a chip makes of a network in its own arithmetic, and whether the files of an export still give it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw_export.integer import Counts, IntegerNetwork, IntegerSimulator, Run
from hw_export.integer.energy import estimate
from hw_export.samples import Samples
from hw_export.targets import Chip
from hw_export.targets.files import read_arrays, write_arrays
from hw_export.verify import Difference, LayerResult, Result
from spikelfp.errors import DataError

SPIKES = "spikes.npz"
"""How often every neuron fires at every step for the samples of an export, uint8 ``[T, B, …]`` by name of the layer;
uint16 or uint32 for a layer that fires more than 255 times in a step."""


def run_on_chip(chip: Chip, network: IntegerNetwork, samples: Samples) -> Run:
    """The whole-numbered ``samples`` through a network as the chip holds it (read from its files, or adapted)."""
    return IntegerSimulator(network, chip.arithmetic).run(samples.sequence())


def facts_of(chip: Chip, network: IntegerNetwork, run: Run, samples: Samples, classes: Tensor) -> dict[str, Any]:
    """Collect for the manifest: accuracy, the part of the samples that get the same class as in ``classes``, and
    spikes, operations, bytes and estimated energy of a sample."""
    counts = run.counts
    energy = estimate(counts, chip.energy)
    found = run.classes_at(samples.mask)
    return {
        "accuracy": (found == samples.labels).double().mean().item(),
        "agreement": (found == classes).double().mean().item(),
        "rates": {name: spikes.sum(dtype=torch.int64).item() / spikes.numel() for name, spikes in run.spikes.items()},
        "saturated": dict(run.saturated),
        "per_sample": {**_numbers(counts), "layers": {name: _numbers(part) for name, part in counts.layers.items()}},
        "energy": {
            "nanojoule": energy.total_nj,
            "parts": dict(energy.parts_nj),
            "not_published": list(energy.missing),
            "source": None if chip.energy is None else chip.energy.source,
        },
        "weights": sum(layer.weight.numel() for layer in network.products),
    }


def _numbers(counts: Counts) -> dict[str, float]:
    return {name: value for name, value in asdict(counts).items() if name != "layers"}


def save_spikes(path: Path, run: Run) -> None:
    """Write the spikes of a run, for :func:`verify_chip` and for the tests of a firmware."""
    write_arrays(path, {name: _narrow(spikes.numpy()) for name, spikes in run.spikes.items()})


def _narrow(counts: NDArray[np.integer]) -> NDArray[np.unsignedinteger]:
    """``counts``, none below 0, in the smallest type that holds them."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))


def verify_chip(chip: Chip, folder: Path, manifest: Mapping[str, Any], samples: Samples) -> Result:
    """Read the chip's files of an export back, run them in its arithmetic, and compare every spike with those that were
    recorded when the export was made.

    Raises :class:`~spikelfp.errors.DataError` for files that are missing or damaged.
    """
    began = time.perf_counter()
    run = run_on_chip(chip, chip.read(folder), samples)
    recorded = recorded_spikes(folder / SPIKES, list(run.spikes), samples)
    layers = tuple(compare_layer(name, recorded[name], spikes) for name, spikes in run.spikes.items())
    different = any(layer.differences for layer in layers)
    return Result(
        f"{chip.name} arithmetic",
        str(manifest["versions"]["spikelfp"]),
        "different" if different else "identical",
        chip.outdated(folder),
        chip.arithmetic.latency,
        layers,
        time.perf_counter() - began,
    )


def recorded_spikes(path: Path, names: list[str], samples: Samples) -> dict[str, Tensor]:
    """Read what :func:`save_spikes` has written, for ``samples`` or the first of those it was made for.

    Returns:
        int64 ``[T, B, …]`` by layer.

    Raises:
        DataError: for a file that is missing, damaged, of other layers, or of fewer steps or samples.
    """
    recorded = read_arrays(path)
    if list(recorded) != names:
        raise DataError(f"{path} is of the layers {', '.join(recorded)}, not {', '.join(names)}")
    for name, spikes in recorded.items():
        if (
            spikes.dtype.kind not in "ui"
            or spikes.ndim < 3
            or len(spikes) != samples.steps
            or spikes.shape[1] < len(samples)
        ):
            raise DataError(
                f"{path}: layer {name!r} is {spikes.dtype} {spikes.shape}, not whole numbers of "
                f"{samples.steps} steps and {len(samples)} samples or more"
            )
    return {name: torch.from_numpy(spikes.astype(np.int64))[:, : len(samples)] for name, spikes in recorded.items()}


def compare_layer(name: str, recorded: Tensor, found: Tensor, *, by_sample: bool = False) -> LayerResult:
    """Compare the spikes of a layer, ``[T, B, …]``; the first difference is of the earliest step, or of the first
    sample (``by_sample``)."""
    if recorded.shape != found.shape:
        raise DataError(f"layer {name!r} was recorded as {tuple(recorded.shape)}, it gives {tuple(found.shape)}")
    wrong = recorded != found
    first = None
    if wrong.any():
        if by_sample:
            sample, step, *neuron = wrong.transpose(0, 1).nonzero()[0].tolist()
        else:
            step, sample, *neuron = wrong.nonzero()[0].tolist()
        place = (step, sample, *neuron)
        first = Difference(sample, step, tuple(neuron), int(recorded[place]), int(found[place]))
    return LayerResult(name, recorded.numel(), int(recorded.sum(dtype=torch.int64)), int(wrong.sum()), first)
