"""Memory that a run will need, estimated before anything of it is allocated, and the memory there is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.models import ModelSpec, build

STATES = {"adam": 2, "sgd": 1, "momentum": 1}
"""Numbers that an optimiser keeps for each weight."""

KEPT = 1.3
"""Times the outputs of all layers that a training step holds at its peak: membranes and messages beside them."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that training a network takes.

    Attributes:
        weights: of the weights, their updates, the state of the optimiser, and the largest weight once more, for its
            product with ``|w|``.
        outputs: of one pass forward and back; 0 where the network has layers that do not run on the meta device.
        checkpoint: of a checkpoint, which is made in memory before it is written, between two steps.
    """

    weights: int
    outputs: int
    checkpoint: int


def estimate(spec: ModelSpec, *, steps: int, samples: int, states: int = 2, together: int | None = None) -> Footprint:
    """Memory that training a network takes.

    Measured beside it, in MiB that a step took at its peak: lif-mlp 256-1000-1000-10, 25 steps, 128 samples, constant
    and rate-coded, 70 and 102 (estimate 91); 256-2000-2000-10, 50 steps, 256 samples 416 (609); 256-4000-4000-10,
    5 steps, 32 samples 335 (333); lif-lenet on 16 × 16, 25 steps, 128 samples 56 (82); 50 steps, rate-coded, 152 (163).

    Args:
        spec: the network; it is built without memory of its own, on torch's meta device.
        steps: of a sequence.
        samples: of a batch that go through the network together.
        states: numbers that the optimiser keeps for each weight.
        together: steps whose graph is held at a time; ``None``: all of them.
    """
    with torch.device("meta"):
        net = build(spec)
    sizes = [p.numel() * p.element_size() for p in net.parameters()]
    kept = steps if together is None else min(together, steps)
    return Footprint(
        weights=(2 + states) * sum(sizes) + max(sizes, default=0),
        outputs=round(4 * KEPT * kept * samples * _outputs(net, spec.shape)),
        checkpoint=(1 + states) * sum(sizes),
    )


def _outputs(net: torch.nn.Module, shape: tuple[int, ...]) -> int:
    """Numbers that the layers of a network put out in one step of one sample."""
    counts: list[int] = []

    def look(layer: torch.nn.Module, inputs: object, output: Tensor) -> None:
        counts.append(output.numel())

    for layer in nn.leaves(net):
        if isinstance(layer, nn.Neurons):  # their kernels are those of a device
            layer.forward = torch.empty_like  # type: ignore[assignment]
        layer.register_forward_hook(look)
    try:
        with torch.no_grad():
            net.eval()(torch.empty((1, 1, *shape), device="meta"))
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return 0
    return sum(counts)


def available(device: torch.device) -> int | None:
    """Bytes that can still be had on a device: free, or kept for files or torch's own use; ``None`` if not known.

    On the CPU it is the least of the machine's memory with its swap space and of what the control groups of this
    process leave.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    found = [bytes_ for bytes_ in (_of_machine(), *_of_groups()) if bytes_ is not None]
    return min(found, default=None)


def check_room(needed: Iterable[tuple[str, int]], device: torch.device) -> None:
    """Refuse what cannot fit into the memory of a device.

    Args:
        needed: parts of what is needed, each a name and a number of bytes.
        device: where.

    Raises:
        UserError: with the estimate, where the parts together are more than there is.
    """
    parts = list(needed)
    total, there = sum(size for _, size in parts), available(device)
    if there is None or total <= there:
        return
    told = ", ".join(f"{name} {gigabytes(size)}" for name, size in parts if size)
    raise UserError(
        f"training would need about {gigabytes(total)} of memory ({told}), and {device} has {gigabytes(there)} left: "
        "choose a smaller network, fewer samples (--batch-size, --accumulate) or fewer steps at a time (--steps, "
        "--recompute, --chunk)"
    )


def check_room_to_train(net: torch.nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Refuse to train a network whose updates and whose optimiser's state cannot fit beside its weights.

    Raises:
        UserError: with the estimate.
    """
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    states = 2 if "betas" in optimizer.defaults else 1 if optimizer.defaults.get("momentum") else 0
    held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    state = states * weights - sum(value.numel() * value.element_size() for value in held)
    check_room([("updates", weights), ("the optimiser", max(state, 0))], device)


def gigabytes(size: int) -> str:
    """A size in a unit that suits it."""
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20)} MiB"


def _of_machine() -> int | None:
    lines = _text(Path("/proc/meminfo")).splitlines()
    values = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value}
    if "MemAvailable" not in values:
        return None
    return 1024 * (int(values["MemAvailable"]) + int(values.get("SwapFree", 0)))


def _of_groups() -> Iterable[int]:
    """Find the memory left to this process in each of its control groups that has a limit."""
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        number, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if number == "0":
            root, limit, usage, cache = Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"
        elif "memory" in kinds.split(","):
            root, cache = Path("/sys/fs/cgroup/memory"), "total_inactive_file"
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            most, used = _text(folder / limit).strip(), _text(folder / usage).strip()
            if most.isdigit() and used.isdigit():
                stat = dict(line.split()[:2] for line in _text(folder / "memory.stat").splitlines() if " " in line)
                yield int(most) - int(used) + int(stat.get(cache, 0))
            if folder == root:
                break


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
