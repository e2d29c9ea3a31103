"""Memory that a run will need, estimated before anything of it is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.machine import available, gigabytes
from spikelfp.models import ModelSpec, build
from spikelfp.nn import graph
from spikelfp.terminal import first_line

STATES = {"adam": 2, "adamw": 2, "sgd": 1, "momentum": 1}
"""Numbers that an optimiser keeps for each weight."""

MOST_LAYERS = 1000
"""Hidden layers of a network."""

CPU = torch.device("cpu")

KEPT = 1.3
"""Times the outputs of all layers that a training step holds at its peak: membranes and messages beside them."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that training a network takes.

    Attributes:
        weights: the weights, their updates, the state of the optimiser, and the largest weight once more, for its
            product with ``|w|``.
        outputs: one pass forward and back; 0 where the network has layers that do not run on the meta device.
        checkpoint: a checkpoint, which is made in memory before it is written, between two steps.
    """

    weights: int
    outputs: int
    checkpoint: int


def estimate(
    spec: ModelSpec, *, steps: int, samples: int, states: int = 2, together: int | None = None
) -> MemoryEstimate:
    """Estimate the memory that training a network takes.

    Peaks of a step that were measured, in MiB, and the estimate in brackets: lif-mlp 256-1000-1000-10, 25 steps, 128
    samples, constant and rate-coded, 70 and 102 (91); 256-2000-2000-10, 50 steps, 256 samples 416 (609);
    256-4000-4000-10, 5 steps, 32 samples 335 (333); lif-lenet on 16 × 16, 25 steps, 128 samples 56 (82); 50 steps,
    rate-coded, 152 (163).

    Args:
        spec: the network; it is built without memory, on torch's meta device.
        steps: steps of a sequence.
        samples: samples that go through the network together.
        states: numbers that the optimiser keeps for each weight.
        together: steps whose graph is held at a time; ``None``: all of them.
    """
    net = without_memory(spec)
    sizes = [p.numel() * p.element_size() for p in net.parameters()]
    kept = steps if together is None else min(together, steps)
    return MemoryEstimate(
        weights=(2 + states) * sum(sizes) + max(sizes, default=0),
        outputs=round(4 * KEPT * kept * samples * sum(_outputs(net, spec.shape))),
        checkpoint=(1 + states) * sum(sizes),
    )


def check_build_memory(spec: ModelSpec, device: torch.device = CPU) -> None:
    """Refuse a network whose weights do not fit into the memory of a device, before they are made.

    Raises:
        UserError: with the estimate; also for sizes that are beyond any memory.
    """
    net = without_memory(spec)
    weights = sum(p.numel() * p.element_size() for p in [*net.parameters(), *net.buffers()])
    _check(f"the network {spec.name}", [("weights", weights)], device, "choose smaller layers (--hidden, --width)")


def check_run_memory(
    spec: ModelSpec,
    *,
    steps: int,
    samples: int,
    together: int | None = None,
    device: torch.device = CPU,
    kept: bool = False,
) -> None:
    """Refuse a network whose outputs do not fit into the memory of a device, where it runs without learning.

    The outputs of two layers are held at a time, or those of all layers where they are kept.

    Args:
        spec: the network.
        steps: steps of a sequence.
        samples: samples of a batch.
        together: steps that run at a time; ``None``: all of them.
        device: the device.
        kept: whether the outputs of all layers are kept.

    Raises:
        UserError: with the estimate.
    """
    counts = sorted([math.prod(spec.shape), *_outputs(without_memory(spec), spec.shape)])
    at_once = steps if together is None else min(together, steps)
    needed = 4 * at_once * samples * sum(counts if kept else counts[-2:])
    _check(
        f"a batch of {samples} sequences of {steps} steps",
        [(f"outputs of {'all' if kept else 'two'} layers", needed)],
        device,
        "take fewer steps (--steps), a longer --window, smaller batches (--batch-size), fewer samples, or fewer steps "
        "at a time (--chunk)",
    )


def without_memory(spec: ModelSpec) -> torch.nn.Module:
    """Build a network on torch's meta device, with the random state left as it is.

    Raises:
        UserError: for too many layers, or sizes beyond 64-bit numbers.
    """
    for name, value in spec.options.items():
        if isinstance(value, tuple) and len(value) > MOST_LAYERS:
            raise UserError(f"{name} has {len(value)} layers, more than the {MOST_LAYERS} that are built")
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            return build(spec)
    except UserError:
        raise
    except (RuntimeError, OverflowError, MemoryError, TypeError) as error:  # sizes that no 64-bit number counts
        raise UserError(
            f"the network {spec.name} for inputs of shape {list(spec.shape)[:8]} cannot be built: {first_line(error)}"
        ) from None


def _outputs(net: torch.nn.Module, shape: tuple[int, ...]) -> list[int]:
    """Count the outputs of each layer of a network in one step of one sample."""
    counts: list[int] = []
    for layer in graph.leaves(net).values():
        if graph.has_trait(layer, "has_membrane"):  # their kernels are those of a device
            layer.forward = torch.empty_like
    try:
        with graph.evaluating(net), graph.watching(net, lambda call: counts.append(call.outputs.numel())):
            net(torch.empty((1, 1, *shape), device="meta"))
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return []
    return counts


def check_memory(needed: Iterable[tuple[str, int]], device: torch.device, what: str = "training") -> None:
    """Refuse a need that cannot fit into the memory of a device.

    Args:
        needed: names and bytes of its parts.
        device: the device.
        what: name of the need.

    Raises:
        UserError: with the estimate, where the parts together are more than there is.
    """
    _check(
        what, needed, device,
        "choose a smaller network, fewer samples (--batch-size, --accumulate), fewer steps (--steps, a longer "
        "--window) or fewer of them at a time (--recompute, --chunk)",
    )  # fmt: skip


def _check(what: str, needed: Iterable[tuple[str, int]], device: torch.device, advice: str) -> None:
    parts = list(needed)
    total, there = sum(size for _, size in parts), available(device)
    if there is None or total <= there:
        return
    told = ", ".join(f"{name} {gigabytes(size)}" for name, size in parts if size)
    raise UserError(
        f"{what} would need about {gigabytes(total)} of memory ({told}), and {device} has {gigabytes(there)} left: "
        f"{advice}"
    )


def check_training_memory(net: torch.nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Refuse to train a network whose updates and optimiser state cannot fit beside its weights.

    Raises:
        UserError: with the estimate.
    """
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    states = 2 if "betas" in optimizer.defaults else 1 if optimizer.defaults.get("momentum") else 0
    held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    state = states * weights - sum(value.numel() * value.element_size() for value in held)
    check_memory([("updates", weights), ("the optimiser", max(state, 0))], device)
