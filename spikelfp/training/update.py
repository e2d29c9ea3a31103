"""One update, from a batch to ``p.grad`` as an optimiser may step from it, and where a training run stands.

A batch goes through the network in parts and over several workers; what comes back is checked and clipped. What the
batches showed adds up over the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.data.samples import TargetScale
from spikelfp.errors import NonFiniteError, UserError
from spikelfp.methods import Batch, Method
from spikelfp.nn.graph import Call, watching
from spikelfp.rewards.base import masked
from spikelfp.rules import lending
from spikelfp.tasks import Classification, Task
from spikelfp.training.chosen import reward_of
from spikelfp.training.chunks import Carried
from spikelfp.training.parallel import ALONE, World, unsynchronised

MEASURED = ("seconds",)
"""Entries of a row of metrics that are no outcome of training: equal runs differ in them, and checkpoints lack them."""


@dataclass
class Position:
    """Where training stands: ``batch`` batches into ``epoch``, after ``step`` steps in all."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass
class Seen:
    """Numbers that one batch showed; they may be tensors: reading one waits for the device.

    Attributes:
        samples: of the batch, those of all workers.
        watched: means over it of what the method watches.
        score: what its samples add to the score of the task, empty where its targets cannot be judged.
        density: share of the weights that the update touched; ``None`` where nobody looked.
    """

    samples: int
    watched: dict[str, Any] = field(default_factory=dict)
    score: dict[str, Tensor] = field(default_factory=dict)
    density: float | None = None

    @property
    def correct(self) -> Any:
        """How many samples (or steps) were right, where they have classes."""
        return self.score.get("correct", 0)

    def judge(self, found: dict[str, Tensor]) -> None:
        """Add the sums of some more samples."""
        self.score = added(self.score, found)


@dataclass
class Tally:
    """Sums over the epoch so far; tensors until it ends, so that a GPU is not waited for."""

    samples: int = 0
    batches: int = 0
    sums: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    score: dict[str, Any] = field(default_factory=dict)
    judged: bool = True
    density: float = 0.0
    density_looks: int = 0

    @classmethod
    def of(cls, content: dict[str, Any]) -> Tally:
        """As a checkpoint has it; the first versions counted right classes alone."""
        content = dict(content)
        correct, judged = content.pop("correct", None), content.pop("classified", True)
        if correct is not None:
            seen = {"samples": content["samples"], "correct": correct} if content["samples"] else {}
            content |= {"score": seen, "judged": judged}
        if "counts" not in content:  # every batch had every value
            content["counts"] = dict.fromkeys(content["sums"], content["batches"])
        return cls(**content)

    def add(self, seen: Seen) -> None:
        """Take in a batch."""
        self.samples += seen.samples
        self.batches += 1
        self.judged = self.judged and bool(seen.score)
        self.score = added(self.score, seen.score) if self.judged else {}
        for name, value in seen.watched.items():
            self.sums[name] = self.sums.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        if seen.density is not None:
            self.density += seen.density
            self.density_looks += 1

    def means(self, task: Task, scale: TargetScale | None = None) -> dict[str, float]:
        """Sums up the epoch as a row of ``metrics.csv``; ``scale``: that of the targets."""
        row = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        row |= self.judgement(task, scale)
        if self.density_looks:
            row["update_density"] = self.density / self.density_looks
        return row

    def judgement(self, task: Task, scale: TargetScale | None = None) -> dict[str, float]:
        """The score of the epoch so far, and the loss where the method does not watch one; empty where none is known.

        Raises:
            KeyError: for sums of another task.
        """
        if not self.judged or not self.score:
            return {}
        found = {f"train_{task.score}": task.metrics(self.score, scale)[task.score]}
        if "loss" in self.score and "loss" not in self.sums:
            found = {"loss": float(self.score["loss"]) / float(self.score["samples"]), **found}
        return found


def added(sums: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Sums of both, by name."""
    return {name: value + sums[name] if name in sums else value for name, value in more.items()} if more else sums


def predict(outputs: Tensor, mask: Tensor | None = None) -> Tensor:
    """Class of each sample ``[B]``: the largest output summed over time ``[T, B, C]`` (A.6.4).

    mask: boolean ``[T, B]``, the steps that count; by default all.
    """
    return scores(outputs, mask).argmax(-1)


def scores(outputs: Tensor, mask: Tensor | None = None) -> Tensor:
    """Outputs ``[T, B, C]`` summed over the steps that count, ``[B, C]``."""
    return (outputs if mask is None else masked(outputs, mask)).sum(0)


def fill_gradients(
    net: Module,
    replica: Module,
    method: Method,
    batch: Batch,
    *,
    of: int,
    parts: int,
    world: World,
    chunk: int | None = None,
    task: Task | None = None,
) -> Seen:
    """Add to ``p.grad`` the mean over a batch of ``of`` samples, of which this worker has those of ``batch``.

    Args:
        net: the network.
        replica: what runs, among the workers of ``world``; alone, ``net`` or a module around it.
        method: that learns.
        batch: samples of this worker.
        of: samples of the batch of all workers.
        parts: passes one after the other, each with a part of the samples, whose updates add up; every worker makes as
            many. A part without samples takes part with a made-up one of share 0, in evaluation mode: it changes
            nothing.
        world: the workers.
        chunk: steps that run at a time, their updates adding up (:mod:`spikelfp.training.chunks`); ``replica`` is then
            one of :class:`~spikelfp.training.chunks.Carried`.
        task: that reads and judges the outputs; ``None``: classes.

    Returns:
        What these samples showed, with ``watched`` weighed by their share of the batch: the workers' add up.

    Raises:
        UserError: for a method that returns anything but outputs and what it watched.
    """
    task = Classification().by(reward_of(method)) if task is None else task
    watches_loss = hasattr(method, "loss")
    seen = Seen(of)
    alone = world.unwrapped(replica) if world.size > 1 else replica
    # a method that owns both ways need not run the replica, which brings the workers' updates together on its way
    own = type(method).learn is not Method.learn
    runs = alone if own else replica
    if own:
        world.copy(net.buffers())
    for number, part in enumerate(batch.parts(parts), start=1):
        share = len(part.targets) / of
        net.train(share > 0)
        # the replica averages over the workers, so each counts for as many
        counts = share * world.size * (of if method.reduction == "sum" else 1)
        part = replace(part if share > 0 else _made_up(part, chunk), share=counts)
        if isinstance(alone, Carried):
            alone.rest()
        steps, samples = part.sequence.shape[:2]
        judge = task.judge(part.targets, part.mask, steps, samples, loss=not (watches_loss or task.has_classes))
        for piece in part.chunks(chunk):
            final = number == parts and piece.last
            with nullcontext() if final else unsynchronised(runs), lending(net, method.rule):
                if piece.counts:
                    targets = task.during(part.targets, piece.start, len(piece.batch.sequence))
                    shown = piece.batch if targets is part.targets else replace(piece.batch, targets=targets)
                    outputs, watched = _checked(method, shown, method.learn(runs, shown))
                else:
                    with torch.no_grad():
                        runs(piece.batch.sequence)
            if isinstance(alone, Carried):
                alone.rest() if piece.last else alone.advance()
            if not piece.counts:
                continue
            judge.add(outputs.detach(), piece.start)
            del outputs  # what is left of its graph, before the next one is made
            for name, value in watched.items():
                seen.watched[name] = seen.watched.get(name, 0) + value.detach() * share
        found = judge.sums()
        seen.judge(found if share > 0 else {name: torch.zeros_like(value) for name, value in found.items()})
    if own:
        world.average(net.parameters())
    return seen


def _made_up(part: Batch, chunk: int | None) -> Batch:
    """A sample of zeros for a part that has none; of as many steps as one chunk."""
    x, targets = part.sequence, part.targets
    steps = max(1, min(len(x), chunk or len(x)))
    zeros = torch.zeros(steps, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
    return Batch(zeros, targets.new_zeros(1, *targets.shape[1:]))


def _checked(method: Method, batch: Batch, result: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Checks the outputs and values that a method returned; raises UserError for what trainers do not take."""
    said = f"{type(method).__name__}.learn returns (outputs [T, B, …], what to watch)"
    if not isinstance(result, tuple) or len(result) != 2:
        raise UserError(f"{said}, got {type(result).__name__}")
    outputs, watched = result
    if not isinstance(outputs, Tensor) or outputs.shape[:2] != batch.sequence.shape[:2]:
        found = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UserError(f"{said} of {list(batch.sequence.shape[:2])} steps and samples, got outputs {found}")
    if not isinstance(watched, dict):
        raise UserError(f"{said} as a dict of scalar tensors, got {type(watched).__name__}")
    for name, value in watched.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.dim() or value.is_complex():
            raise UserError(f"{said} as a dict of scalar tensors, got {name!r}: {value!r:.60}")
    return outputs, watched


def add_up(seen: Seen, stop: bool, world: World, device: torch.device) -> bool:
    """Make ``seen`` what all workers saw of a batch together; returns whether any of them is to ``stop``."""
    if world.size == 1:
        return stop
    score = [number for value in seen.score.values() for number in value.reshape(-1).unbind()]
    stopping, *sums = world.sum([stop, *seen.watched.values(), *score], device)
    watched, score = sums[: len(seen.watched)], sums[len(seen.watched) :]
    seen.watched = dict(zip(seen.watched, watched, strict=True))
    numbers = iter(score)
    for name, value in seen.score.items():
        own = [next(numbers) for _ in range(value.numel())]
        seen.score[name] = torch.stack(own).reshape(value.shape)
    return bool(stopping)


def density(net: Module) -> float:
    """Share of the parameters whose update is not zero."""
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    return sum(int(torch.count_nonzero(grad)) for grad in grads) / max(sum(grad.numel() for grad in grads), 1)


def check_gradients(net: Module, x: Tensor, step: int, world: World = ALONE) -> None:
    """Raise :class:`~spikelfp.errors.NonFiniteError` naming layer and step if any ``p.grad`` holds NaN or infinity.

    All workers have the same gradients, so all of them raise the same.
    """
    named = [(name, p.grad) for name, p in net.named_parameters() if p.grad is not None]
    if not named or torch.isfinite(torch.stack(torch._foreach_norm([g for _, g in named]))).all():
        return
    update = next((name for name, grad in named if not torch.isfinite(grad).all()), None)
    if update is None:  # their norm alone has overflowed
        return
    cause = Cause(
        f"the update of {update}",
        "outputs and weights are finite, so it comes from the reward or loss, or from the way back: if it was so from "
        "the first step on, look into them, else a smaller --lr, --clip 0.01 or --normalize-reward usually helps",
    )
    cause = next((found for found in world.gather(first_cause(net, x)) if found), cause)
    raise NonFiniteError(
        f"step {step}: {cause.what} is not finite; the weights are still those of the step before: {cause.advice}"
    )


class Cause(NamedTuple):
    """The first thing that is not finite, and what to do about it."""

    what: str
    advice: str


@torch.no_grad()
def first_cause(net: Module, x: Tensor) -> Cause | None:
    """The first of: the input, a parameter, a layer's output that is not finite when ``net`` runs on ``x``."""
    if not torch.isfinite(x.values() if x.is_sparse else x).all():
        return Cause("the input", "look for NaN and infinity in the data (torch.isfinite)")
    for name, p in net.named_parameters():
        if not torch.isfinite(p).all():
            return Cause(
                f"the parameter {name}",
                "the network was started with it, or the optimiser's last step overflowed, against which a smaller "
                "--lr or --max-weight helps",
            )
    found: list[Cause] = []

    def look(call: Call) -> None:
        if isinstance(call.outputs, Tensor) and not torch.isfinite(call.outputs).all():
            advice = "its inputs and weights are finite, so their products overflow"
            advice += ": scale the inputs to [0, 1], and keep weights small by a smaller --lr or --max-weight"
            found.append(Cause(f"the output of layer {call.name} ({type(call.layer).__name__})", advice))

    with watching(net, look):
        net(x)
    return found[0] if found else None


def unit_norm(x: Tensor) -> Tensor:
    """Norm of each output unit's weights, ``[out, 1, …]``; of the whole tensor for vectors (biases)."""
    if x.dim() <= 1:
        return torch.linalg.vector_norm(x)
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim())), keepdim=True)


@torch.no_grad()
def clip_adaptive_(parameters: Iterable[torch.nn.Parameter], factor: float, eps: float = 1e-3) -> None:
    """Scale down, in place, the gradient of every unit whose norm exceeds ``factor · max(‖W_i‖, eps)``
    (Brock et al. 2021, arXiv:2102.06171, eq. 3)::

    G_i ← λ ‖W_i‖* / ‖G_i‖ · G_i     if ‖G_i‖ / ‖W_i‖* > λ,   ‖W_i‖* = max(‖W_i‖, eps)
    """
    for p in parameters:
        if p.grad is None:
            continue
        largest = unit_norm(p).clamp_min(eps).mul_(factor)
        norm = unit_norm(p.grad)
        p.grad.mul_(torch.where(norm > largest, largest / norm.clamp_min(1e-12), torch.ones_like(norm)))
