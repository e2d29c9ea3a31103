"""One update, from a batch to ``p.grad`` as an optimiser may step from it, and where a training run stands.

A batch goes through the network in parts, in chunks of steps, and over several workers; its gradients are checked and
clipped, and its results add up over the epoch. Layers that never fire are scaled up before the first update.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, NamedTuple

import torch
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import Module

from spikelfp.data.samples import TargetScale
from spikelfp.errors import NonFiniteError, UserError
from spikelfp.methods import Batch, Method
from spikelfp.nn import graph
from spikelfp.nn.graph import Call, watching
from spikelfp.nn.layer import State, check_carries
from spikelfp.nn.recompute import detached_copy
from spikelfp.rewards.base import masked
from spikelfp.rules import lending
from spikelfp.tasks import Classification, Task
from spikelfp.terminal import bar_text, plain, progress
from spikelfp.training.arguments import reward_of
from spikelfp.training.parallel import SINGLE_WORKER, World, unsynchronised

MEASURED = ("seconds",)
"""Entries of a row of metrics that are measured: equal runs differ in them, and checkpoints leave them out."""


@dataclass
class Position:
    """Where training stands.

    Attributes:
        epoch: epochs that are done.
        batch: batches of the present epoch that are done.
        step: updates in all.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass
class BatchResult:
    """Results of one batch; numbers may be tensors, since reading one waits for the device.

    Attributes:
        samples: number of samples, those of all workers.
        watched: means over the batch that the method watches.
        score: what its samples add to the score of the task; empty where its targets cannot be judged.
        density: share of the weights that the update changes; ``None`` where it was not measured.
    """

    samples: int
    watched: dict[str, Any] = field(default_factory=dict)
    score: dict[str, Tensor] = field(default_factory=dict)
    density: float | None = None

    @property
    def correct(self) -> Any:
        """Number of samples (or steps) whose class was right, where they have classes."""
        return self.score.get("correct", 0)

    def judge(self, found: dict[str, Tensor]) -> None:
        """Add the sums of more samples."""
        self.score = added(self.score, found)


@dataclass
class Tally:
    """Sums over the epoch so far; tensors until it ends, so that a GPU is not waited for.

    Attributes:
        samples: number of samples.
        batches: number of batches.
        sums: sums of the watched values over the batches.
        counts: batches that had each of them.
        score: sums for the score of the task.
        judged: whether all batches could be judged.
        density: sum of the shares of weights that updates changed.
        density_looks: number of these.
    """

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
        """Read the tally of a checkpoint; the first versions counted right classes alone."""
        content = dict(content)
        correct, judged = content.pop("correct", None), content.pop("classified", True)
        if correct is not None:
            seen = {"samples": content["samples"], "correct": correct} if content["samples"] else {}
            content |= {"score": seen, "judged": judged}
        if "counts" not in content:  # every batch had every value
            content["counts"] = dict.fromkeys(content["sums"], content["batches"])
        return cls(**content)

    def add(self, seen: BatchResult) -> None:
        """Add the results of a batch."""
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
        """Sum up the epoch as a row of ``metrics.csv``; ``scale`` is that of real targets."""
        row = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        row |= self.judgement(task, scale)
        if self.density_looks:
            row["update_density"] = self.density / self.density_looks
        return row

    def judgement(self, task: Task, scale: TargetScale | None = None) -> dict[str, float]:
        """Return the score of the epoch so far, and the loss where the method does not watch one; may be empty.

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
    """Add two sets of sums by name."""
    return {name: value + sums[name] if name in sums else value for name, value in more.items()} if more else sums


def predict(outputs: Tensor, mask: Tensor | None = None) -> Tensor:
    """Predict the class of each sample: the one of the largest output summed over time (A.6.4).

    Args:
        outputs: ``[T, B, C]``.
        mask: boolean ``[T, B]``, the steps that count; by default all.

    Returns:
        Classes ``[B]``, int64.
    """
    return scores(outputs, mask).argmax(-1)


def scores(outputs: Tensor, mask: Tensor | None = None) -> Tensor:
    """Sum outputs ``[T, B, C]`` over the steps that count, ``[B, C]``."""
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
) -> BatchResult:
    """Add to ``p.grad`` the mean update over a batch, of which this worker has a slice.

    Args:
        net: the network.
        replica: module that runs: ``net``, a module around it, or with several workers the replica of one of these.
        method: the method.
        batch: samples of this worker.
        of: number of samples of the batch, those of all workers.
        parts: number of passes, one after the other, each with a part of the samples, whose updates add up; every
            worker makes as many. A part without samples runs one of zeros with share 0, in evaluation mode: it changes
            nothing.
        world: the workers.
        chunk: steps that run at a time, whose updates add up (:class:`ChunkedNetwork`); ``None``: all.
        task: task that judges the outputs; ``None``: classification.

    Returns:
        Results of these samples, with ``watched`` weighed by their share of the batch, so that those of all workers add
        up.

    Raises:
        UserError: for a method that returns anything but outputs and watched values.
    """
    task = Classification().by(reward_of(method)) if task is None else task
    seen = BatchResult(of)
    module = world.unwrapped(replica) if world.size > 1 else replica
    # a method that owns both ways need not run the replica, which brings the workers' updates together on its way
    own = method.runs_network
    runs = module if own else replica
    if own:
        world.copy(net.buffers())
    for number, part in enumerate(batch.parts(parts), start=1):
        share = len(part.targets) / of
        net.train(share > 0)
        # the replica averages over the workers, so each counts for as many
        counts = share * world.size * (of if method.reduction == "sum" else 1)
        part = replace(part if share > 0 else _made_up(part, chunk), share=counts)
        if isinstance(module, ChunkedNetwork):
            module.rest()
        steps, samples = part.sequence.shape[:2]
        judge = task.judge(part.targets, part.mask, steps, samples, loss=not (method.returns_loss or task.has_classes))
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
            if isinstance(module, ChunkedNetwork):
                module.rest() if piece.last else module.advance()
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
    """Make a sample of zeros for a part that has none, of as many steps as one chunk."""
    x, targets = part.sequence, part.targets
    steps = max(1, min(len(x), chunk or len(x)))
    zeros = torch.zeros(steps, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
    return Batch(zeros, targets.new_zeros(1, *targets.shape[1:]))


def _checked(method: Method, batch: Batch, result: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Check the outputs and values that a method returned, and raise a ``UserError`` for anything else."""
    returns = f"{type(method).__name__}.learn returns (outputs [T, B, …], what to watch)"
    if not isinstance(result, tuple) or len(result) != 2:
        raise UserError(f"{returns}, got {type(result).__name__}")
    outputs, watched = result
    if not isinstance(outputs, Tensor) or outputs.shape[:2] != batch.sequence.shape[:2]:
        found = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UserError(f"{returns} of {list(batch.sequence.shape[:2])} steps and samples, got outputs {found}")
    if not isinstance(watched, dict):
        raise UserError(f"{returns} as a dict of scalar tensors, got {type(watched).__name__}")
    for name, value in watched.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.dim() or value.is_complex():
            raise UserError(f"{returns} as a dict of scalar tensors, got {name!r}: {value!r:.60}")
    return outputs, watched


def add_up(seen: BatchResult, stop: bool, world: World, device: torch.device) -> bool:
    """Make ``seen`` the results of all workers together; return whether any of them is to stop."""
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
    """Return the share of the parameters whose update is not zero."""
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    return sum(int(torch.count_nonzero(grad)) for grad in grads) / max(sum(grad.numel() for grad in grads), 1)


def check_gradients(net: Module, x: Tensor, step: int, world: World = SINGLE_WORKER) -> None:
    """Refuse to step from gradients with NaN or infinity; all workers have the same gradients and raise the same.

    Args:
        net: the network, with ``p.grad``.
        x: the input ``[T, B, …]`` of the step, to find out where NaN or infinity begins.
        step: number of the step.
        world: the workers.

    Raises:
        NonFiniteError: naming layer and step.
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
    """First thing that is not finite, and what to do about it."""

    what: str
    advice: str


@torch.no_grad()
def first_cause(net: Module, x: Tensor) -> Cause | None:
    """Find what first is not finite when ``net`` runs on ``x``: the input, a parameter, or the output of a layer."""
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
    """Norm of the weights of each output unit, ``[out, 1, …]``; of the whole tensor for vectors (biases)."""
    if x.dim() <= 1:
        return torch.linalg.vector_norm(x)
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim())), keepdim=True)


@torch.no_grad()
def clip_adaptive_(parameters: Iterable[torch.nn.Parameter], factor: float, eps: float = 1e-3) -> None:
    """Scale down gradients that are large beside their weights, in place (Brock et al. 2021, arXiv:2102.06171, eq. 3)::

        G_i ← λ ‖W_i‖* / ‖G_i‖ · G_i     if ‖G_i‖ / ‖W_i‖* > λ,   ‖W_i‖* = max(‖W_i‖, eps)

    Args:
        parameters: parameters with ``p.grad``; ``i`` numbers their output units.
        factor: λ.
        eps: least norm of a unit.
    """
    for p in parameters:
        if p.grad is None:
            continue
        largest = unit_norm(p).clamp_min(eps).mul_(factor)
        norm = unit_norm(p.grad)
        p.grad.mul_(torch.where(norm > largest, largest / norm.clamp_min(1e-12), torch.ones_like(norm)))


class ChunkedNetwork(torch.nn.Module):
    """Network that runs long sequences a chunk of steps at a time: the state is carried on, credit is not.

    This is truncated backpropagation through time without overlap (Williams & Peng 1990), for LFP as for gradients.
    Chunk ``i`` of ``k`` steps starts from the state that chunk ``i − 1`` left, through which nothing passes back. Each
    chunk is rewarded for its own steps as if it were a sequence of its own, so the ``T`` of a sequence reward is the
    number of its steps that count. The updates of the chunks add up as those of steps do: LFP sums rewards over steps,
    and a loss, the mean over all steps of a sequence, weighs each chunk by its steps that count. Memory is that of one
    chunk.

    Called with a chunk ``[k, B, …]``, it starts from the states that the chunk before has left. :meth:`advance` ends a
    chunk; until then every call starts from the same states. :meth:`rest` begins a sequence.

    Args:
        net: the network.

    Raises:
        UserError: for a network that would forget the states of its layers (:func:`check_carries`).
    """

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        check_carries(net)
        self.net = net
        self._state: State = None
        self._next: State = None

    def forward(self, x: Tensor) -> Tensor:
        outputs, state = self.net.run(x, self._state)  # type: ignore[operator]
        self._next = detached_copy(state)
        result: Tensor = outputs
        return result

    def advance(self) -> None:
        """Let the next chunk start from the states that this one has left."""
        self._state, self._next = self._next, None

    def rest(self) -> None:
        """Let the next chunk start from rest."""
        self._state, self._next = None, None


def outputs_in_chunks(net: torch.nn.Module, batch: Batch, chunk: int | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Run a batch from rest, holding only the steps of one chunk at a time.

    Args:
        net: the network.
        batch: samples.
        chunk: steps of a chunk; ``None``: all.

    Yields:
        Outputs ``[k, B, C]`` of each chunk, with its mask ``[k, B]``; together those of the whole sequence.
    """
    if chunk is None:
        yield net(batch.sequence), batch.mask
        return
    carried = ChunkedNetwork(net)
    for piece in batch.chunks(chunk):
        yield carried(piece.batch.sequence), piece.batch.mask
        carried.advance()


SILENT = 0.005
"""Spikes per neuron and step below which a layer counts as silent."""


AWAKE = 0.05
"""Spikes per neuron and step it is brought to."""


_GAIN, _ROUNDS = 1.25, 60


@torch.no_grad()
def wake_silent_layers(net: torch.nn.Module, x: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    """Scale up the weights and biases that feed every hidden layer that hardly fires.

    A silent neuron earns no reward, so a silent layer would never learn. Sparse input (latency code, events) under a
    usual initialisation can leave the membranes far below their threshold. From the input on, the weights that feed a
    layer with fewer than :data:`SILENT` spikes per neuron and step are multiplied until it has :data:`AWAKE`. The
    output layer stays as it is: its silence is rewarded or punished. (Digits in latency code, 64-32-10 LIF neurons, 20
    epochs: accuracy 0.32 without, 0.78 with it.)

    Args:
        net: the network.
        x: a batch ``[T, B, …]``.
        mask: boolean ``[T, B]``, the steps without padding; by default all.

    Returns:
        Factor of each layer of weights that was scaled, by name.
    """
    order, edges = _run_order(net, x), graph.neighbours(net)
    if any(graph.UNKNOWN in given for given in edges.before.values()):
        edges = graph.neighbours(net, x)
    spiking = [name for name in order if graph.has_trait(edges.layers[name], "fires")]
    factors: dict[str, float] = {}
    for name in spiking[:-1]:
        weighted = [edges.layers[each] for each in _weights_in_front(edges, name)]
        if not weighted or _rate(net, name, x, mask) >= SILENT:
            continue
        factor = 1.0
        for _ in range(_ROUNDS):
            for layer in weighted:
                for p in layer.parameters(recurse=False):
                    p.mul_(_GAIN)
            factor *= _GAIN
            if _rate(net, name, x, mask) >= AWAKE:
                break
        factors.update((each, factors.get(each, 1.0) * factor) for each in _weights_in_front(edges, name))
    return factors


def _weights_in_front(edges: graph.Neighbours, name: str) -> list[str]:
    """Find the layers with a weight, normalisations too, that feed a layer.

    They lie between it and the neurons before it, or, where these neurons feed it without weights, before those.
    """

    def weighted(layer: torch.nn.Module | None) -> bool:
        return getattr(layer, "weight", None) is not None

    def no_source(layer: torch.nn.Module | None) -> bool:
        return not weighted(layer) and (layer is None or not graph.is_neuron(layer))

    for past in (no_source, lambda layer: not weighted(layer)):
        near = edges.nearest(name, past)
        found = [each for each, layer in edges.layers.items() if each in near and weighted(layer)]
        if found:
            return found
    return []


def _run_order(net: torch.nn.Module, x: Tensor) -> list[str]:
    """Find the layers in the order they first run."""
    order: list[str] = []
    with graph.watching(net, lambda call: order.append(call.name)):
        net(x)
    return list(dict.fromkeys(order))


def _rate(net: torch.nn.Module, name: str, x: Tensor, mask: Tensor | None) -> float:
    """Measure the mean output of a layer over the steps that count when ``net`` runs on ``x``."""
    rates: list[float] = []
    own = graph.leaves(net)[name]
    with graph.watching(
        net,
        lambda call: rates.append((call.outputs if mask is None else call.outputs[mask]).mean().item()),
        lambda layer: layer is own,
    ):
        net(x)
    return rates[0]


REFRESH_EVERY = 20
"""Steps between two updates of the text: reading a metric waits for the device."""


class EpochBar:
    """Progress bar of one epoch on stderr; silent unless ``shown``. A finished epoch leaves no bar."""

    def __init__(self, position: Position, total: int, epochs: int, shown: bool, judge: Task) -> None:
        self._progress = progress(
            bar_text("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            MofNCompleteColumn(),
            bar_text("{task.fields[text]}"),
            TimeRemainingColumn(),
            shown=shown,
        )
        self._task = self._progress.add_task(
            "", total=total, completed=position.batch, epoch=position.epoch + 1, epochs=epochs, text=""
        )
        self._count, self._judge = 0, judge

    def __enter__(self) -> EpochBar:
        with suppress(OSError):  # the terminal is gone: training goes on without it
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._progress.stop()

    def advance(self, tally: Tally, seen: BatchResult) -> None:
        """Advance by one step, which had this result."""
        if self._progress.disable:
            return
        if self._count % REFRESH_EVERY == 0:
            shown = {n: float(v) for n, v in seen.watched.items()}
            shown = {name.removeprefix("train_"): v for name, v in tally.judgement(self._judge).items()} | shown
            line = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
            self._progress.update(self._task, text=plain(line))
        self._count += 1
        with suppress(OSError):
            self._progress.advance(self._task)
