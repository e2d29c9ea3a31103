"""What ``summary.json`` of a run holds."""

from __future__ import annotations

import platform
import resource
import sys
from collections import defaultdict
from importlib.metadata import version
from typing import Any

import torch

from spikelfp import analysis
from spikelfp.data import DataSplits, batches
from spikelfp.data.loader import mask_of
from spikelfp.data.samples import representative
from spikelfp.methods.base import some
from spikelfp.training.config import REWARDED, RULED, RunConfig
from spikelfp.training.trainer import TemporalTrainer

PACKAGES = ("spikelfp", "torch", "numpy", "snntorch", "nir", "numba", "scikit-learn")
RATE_SAMPLES = 256
"""Test samples over which the spike rates of a summary are taken."""


def summarise(trainer: TemporalTrainer, splits: DataSplits, config: RunConfig) -> dict[str, Any]:
    """Scores (those of the last weights), rates, costs and versions; time and memory are those of this worker.

    ``test_accuracy`` is there where samples have classes, ``rmse`` (in the units of the data) for real values.

    ``wake`` holds the layers whose initial weights were scaled up, each with its factor; ``None`` for ``--no-wake``.
    """
    history = trainer.history
    net = trainer.net
    task, tested = trainer.task, trainer.evaluate(splits.test)
    summary: dict[str, Any] = {
        "data": config.data.name,
        "model": config.model.name,
        "method": config.method.name,
        "rule": config.method.rule.name if RULED.holds(config.flat) else None,
        "reward": config.method.reward.name if REWARDED.holds(config.flat) else None,
        "seed": config.run.seed,
        "epochs": config.training.epochs,
        "steps": config.data.steps,
        "task": task.name,
        **({"test_accuracy": tested.accuracy} if task.has_classes else tested.metrics),
        "score": {"name": task.score, "value": tested.score},
        "test_loss": tested.loss,
        f"train_{task.score}": history[-1][f"train_{task.score}"],
        "wake": trainer.woken if config.method.wake else None,
        "spike_rates": spike_rates(trainer, splits, config.run.seed),
        "update_density": history[-1].get("update_density"),
        "seconds_per_epoch": _mean([row["seconds"] for row in history if "seconds" in row]),
        "peak_memory_mb": peak_memory_mb(trainer.device),
        "parameters": sum(p.numel() for p in net.parameters()),
        "device": str(trainer.device),
        "processes": trainer.world.size,
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }
    if splits.validation:
        for name in (f"validation_{task.score}", "validation_loss"):
            if name in history[-1]:
                summary[name] = history[-1][name]
    return summary


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def spike_rates(trainer: TemporalTrainer, splits: DataSplits, seed: int) -> dict[str, float]:
    """Mean spikes per neuron and step of each layer over some test samples, without the padding of sequences.

    They run in batches of training, or as many of each as have the steps of one chunk: it takes no more memory.
    """
    chosen = splits.test.subset(representative(splits.test, RATE_SAMPLES))
    spikes, places = defaultdict[str, float](float), defaultdict[str, int](int)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of a random encoding
        for x, _ in batches(chosen, trainer.batch_size, seed=0, epoch=0, shuffle=False):
            shown = x.to(trainer.device)
            sequence, mask = some(trainer.present(shown), mask_of(shown), trainer.chunk)
            for name, own in analysis.record(trainer.net, sequence).items():
                counting = own if mask is None else own[mask]
                spikes[name] += counting.sum(dtype=torch.float64).item()
                places[name] += counting.numel()
    return {name: count / places[name] for name, count in spikes.items()}


def peak_memory_mb(device: torch.device) -> float:
    """Most memory this process has held, in MB: on the GPU if that is where it trained, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
