"""The training loop: one for static networks and sequences, for every method, optimiser and schedule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import Dataset

from spikelfp import nn
from spikelfp.data import batches, encodings
from spikelfp.errors import CheckpointError, ShapeError, UserError
from spikelfp.methods import LFP, Method
from spikelfp.rewards import Reward, Softmax, SpikeSequence
from spikelfp.rules import using
from spikelfp.training import checkpoint
from spikelfp.training.clipping import clip_adaptive_
from spikelfp.training.finite import check_gradients
from spikelfp.training.optimizer import MakeOptimizer, optimizers
from spikelfp.training.progress import EpochBar
from spikelfp.training.schedule import MakeSchedule, schedules
from spikelfp.training.state import Position, Tally, predict
from spikelfp.training.wake import wake

DENSITY_EVERY = 20
"""Steps between two looks at how many weights an update touches."""


class Evaluation(NamedTuple):
    """Accuracy over a data set, between 0 and 1, and the mean output per step (the rate, for spikes)."""

    accuracy: float
    mean_output: float


class Trainer:
    """Trains a network on images or vectors ``[B, …]`` shown for one step.

    net: layers of :mod:`spikelfp.nn`. reward: for :class:`~spikelfp.methods.LFP` (default: ``SpikeSequence`` for
    spiking outputs, ``Softmax`` for linear ones); or hand in another ``method``.
    optimizer: a name, or a function ``(parameters, lr) → Optimizer``; any torch optimiser will do.
    schedule: a name, or a function ``(optimizer, total_steps) → LRScheduler``.
    clip: λ of adaptive gradient clipping (Brock et al. 2021), 0 for none.
    seed: of the order of the samples, which is the same whatever else uses random numbers.
    device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``, …
    wake: before the first step, scale up the weights of hidden layers that never fire (:mod:`spikelfp.training.wake`).
    should_stop: asked after every step; training returns early, at a step that :meth:`save` can keep, when true.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        *,
        reward: Reward | None = None,
        method: Method | None = None,
        optimizer: str | MakeOptimizer = "adam",
        lr: float = 3e-3,
        schedule: str | MakeSchedule = "one-cycle",
        clip: float = 0.0,
        batch_size: int = 128,
        seed: int = 0,
        device: str | torch.device = "auto",
        workers: int = 0,
        wake: bool = True,
        progress: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        if method is not None and reward is not None:
            raise UserError("hand in a reward or a method that has its own, not both")
        if batch_size < 1:
            raise UserError(f"the batch size must be at least 1, got {batch_size}")
        if clip < 0:
            raise UserError(f"the clipping factor must be 0 (none) or more, got {clip}")
        self.device = choose_device(device)
        self.net = net.to(self.device)
        self.method = method or LFP(reward or default_reward(net))
        make = optimizers[optimizer] if isinstance(optimizer, str) else optimizer
        self.optimizer: Optimizer = make(net.parameters(), lr)
        self.make_schedule = schedules[schedule] if isinstance(schedule, str) else schedule
        self.scheduler: Any = None
        self.clip, self.batch_size, self.seed, self.workers = clip, batch_size, seed, workers
        self.progress, self.should_stop, self.wake = progress, should_stop, wake
        self.woken: dict[str, float] = {}
        self.position, self.tally = Position(), Tally()
        self.history: list[dict[str, float]] = []
        self.total_steps: int | None = None
        self._restored: dict[str, Any] | None = None

    def present(self, x: Tensor) -> Tensor:
        """A batch ``[B, …]`` as the network sees it, ``[T, B, …]``: here as one step."""
        return x.unsqueeze(0)

    def fit(
        self,
        train: Dataset,
        epochs: int,
        *,
        after_epoch: Callable[[dict[str, float]], None] = lambda row: None,
        after_step: Callable[[Position], None] = lambda position: None,
    ) -> list[dict[str, float]]:
        """Train up to ``epochs`` epochs in all, from wherever :meth:`load` left off; a row of metrics an epoch.

        ``after_epoch`` may add to its row (a validation accuracy, say); ``after_step`` may :meth:`save`.
        """
        self._schedule(train, epochs)
        if self.wake and self.position.step == 0:
            self.woken = self._wake(train)
        while self.position.epoch < epochs:
            with EpochBar(self.position, self._batches_of(train), epochs, self.progress) as bar:
                for x, labels in self._loader(train):
                    watched = self.train_step(x.to(self.device), labels.to(self.device))
                    self.position.batch += 1
                    after_step(self.position)
                    bar.advance(self.tally, watched)
                    if self.should_stop():
                        return self.history
            row = {"epoch": self.position.epoch + 1, **self.tally.means(), "lr": self.optimizer.param_groups[0]["lr"]}
            self.position = Position(self.position.epoch + 1, 0, self.position.step)
            self.tally = Tally()
            self.history.append(row)
            after_epoch(row)
        return self.history

    def train_step(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """One update of the weights from a batch ``x`` ``[B, …]`` and its classes ``[B]``."""
        self.net.train()
        sequence = self.present(x)
        self.optimizer.zero_grad()
        with using(self.net, self.method.rule):
            outputs = self.net(sequence)
        watched = self.method.backward(outputs, labels)
        check_gradients(self.net, sequence, self.position.step)
        if self.position.batch % DENSITY_EVERY == 0:
            self._look_at_density()
        if self.clip:
            clip_adaptive_(self.net.parameters(), self.clip)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.position.step += 1
        self.tally.add(outputs.detach(), labels, watched)
        return watched

    @torch.no_grad()
    def evaluate(self, dataset: Dataset) -> Evaluation:
        """Accuracy by accumulated outputs; from rest for every batch, the network's mode and random state kept."""
        training = self.net.training
        self.net.eval()
        correct, total, rate = torch.zeros((), dtype=torch.int64, device=self.device), 0, 0.0
        # Random encodings draw the same numbers at every evaluation and leave those of training alone.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            for x, labels in batches(dataset, self.batch_size, seed=0, epoch=0, shuffle=False, workers=self.workers):
                outputs = self.net(self.present(x.to(self.device)))
                correct += (predict(outputs) == labels.to(self.device)).sum()
                total += len(labels)
                rate += float(outputs.mean()) * len(labels)
        self.net.train(training)
        return Evaluation(correct.item() / total, rate / total)

    def save(self, path: str | Path) -> None:
        """Everything :meth:`load` needs to go on bit for bit, whole or not at all."""
        checkpoint.write(
            path,
            {
                "weights": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": checkpoint.plain(self.scheduler.state_dict()) if self.scheduler else None,
                **self._settings(),
                "total_steps": self.total_steps,
                "position": vars(self.position),
                "tally": vars(self.tally),
                "history": self.history,
                "random": checkpoint.random_states(),
            },
        )

    def load(self, path: str | Path) -> None:
        """Go on from a checkpoint of the same network and settings; nothing changes when it does not fit."""
        content = checkpoint.read(path)
        for what, own in self._settings().items():
            if content[what] != own:
                raise CheckpointError(f"{path} was written with {what} {content[what]}, this trainer has {own}")
        checkpoint.check_weights(path, self.net, content)
        try:
            self.optimizer.load_state_dict(content["optimizer"])
        except ValueError as error:
            raise CheckpointError(f"{path} holds the state of another optimiser: {error}") from None
        self.net.load_state_dict(content["weights"])
        self._restored = {name: content[name] for name in ("optimizer", "schedule")}
        self.position, self.tally = Position(**content["position"]), Tally(**content["tally"])
        self.history, self.total_steps = content["history"], content["total_steps"]
        checkpoint.restore_random(content["random"])

    def _settings(self) -> dict[str, Any]:
        """What a checkpoint and the trainer that goes on from it must share."""
        kind = type(self.optimizer).__name__
        return {"method": self.method.name, "optimizer_kind": kind, "seed": self.seed, "batch_size": self.batch_size}

    def _schedule(self, train: Dataset, epochs: int) -> None:
        """Make the schedule of the whole run, and give it the state a checkpoint left."""
        if epochs < 1:
            raise UserError(f"the number of epochs must be at least 1, got {epochs}")
        total = self._batches_of(train) * epochs
        if self.total_steps not in (None, total):
            raise CheckpointError(
                f"training was scheduled for {self.total_steps} steps, now for {total}: the number of epochs or the "
                "data set changed; a new trainer of the same network starts a new schedule"
            )
        if self.scheduler is None or self._restored is not None:
            self.scheduler = self.make_schedule(self.optimizer, total)
            if self._restored is not None and self._restored["schedule"] is not None:
                self.scheduler.load_state_dict(self._restored["schedule"])
                self.optimizer.load_state_dict(self._restored["optimizer"])  # the schedule has put it to its start
            self._restored = None
        self.total_steps = total

    def _loader(self, train: Dataset) -> Any:
        return batches(
            train,
            self.batch_size,
            seed=self.seed,
            epoch=self.position.epoch,
            start=self.position.batch,
            workers=self.workers,
        )

    def _batches_of(self, train: Dataset) -> int:
        return -(-_count(train) // self.batch_size)

    def _wake(self, train: Dataset) -> dict[str, float]:
        """Wake silent layers on the first batch; draws no random numbers of training."""
        x, _ = next(iter(self._loader(train)))
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            self.net.train()
            return wake(self.net, self.present(x.to(self.device)))

    def _look_at_density(self) -> None:
        grads = [p.grad for p in self.net.parameters() if p.grad is not None]
        touched = sum(int(torch.count_nonzero(grad)) for grad in grads)
        self.tally.density += touched / max(sum(grad.numel() for grad in grads), 1)
        self.tally.density_looks += 1


class TemporalTrainer(Trainer):
    """Trains a spiking network on sequences of ``steps`` steps.

    encoding: how a static batch becomes a sequence: ``constant`` (A.6.4), ``rate``, ``latency`` or ``delta``.
    The other arguments are those of :class:`Trainer`.
    """

    def __init__(self, net: torch.nn.Module, *, steps: int = 25, encoding: str = "constant", **options: Any) -> None:
        if steps < 1:
            raise UserError(f"a sequence needs at least one step, got steps={steps}")
        self.steps, self.encode = steps, encodings[encoding]
        super().__init__(net, **options)

    def present(self, x: Tensor) -> Tensor:
        """A batch ``[B, …]`` as a sequence ``[T, B, …]``."""
        return self.encode(x, self.steps)


def _count(dataset: Dataset) -> int:
    """Number of samples."""
    return len(dataset)  # type: ignore[arg-type]


def default_reward(net: torch.nn.Module) -> Reward:
    """``SpikeSequence`` for a network whose last layer spikes, ``Softmax`` otherwise."""
    leaves = [layer for layer in net.modules() if not list(layer.children())]
    if not leaves:
        raise ShapeError("the network has no layers")
    return SpikeSequence() if isinstance(leaves[-1], (nn.LIF, nn.Heaviside)) else Softmax()


def choose_device(device: str | torch.device) -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one. ``UserError`` for one that is not there."""
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return chosen
