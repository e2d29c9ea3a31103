"""The training loop: one for static networks and sequences, for every method, optimiser and schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import Dataset

from spikelfp.data import batches
from spikelfp.data.samples import unaugmented
from spikelfp.data.sequences import Sequences
from spikelfp.errors import CheckpointError, UserError
from spikelfp.kernels.events.choice import choices
from spikelfp.methods import LFP, Method
from spikelfp.quantized import Quantization, WeightGrids
from spikelfp.rewards import Reward
from spikelfp.training import checkpoint
from spikelfp.training.batch import Batch, counting_steps, lengths_of, mask_of, some
from spikelfp.training.clipping import clip_adaptive_
from spikelfp.training.combinations import check_trainer
from spikelfp.training.defaults import check_numbers, default_reward
from spikelfp.training.device import choose_device
from spikelfp.training.evaluation import Evaluation, evaluate
from spikelfp.training.finite import check_gradients
from spikelfp.training.optimizer import MakeOptimizer, optimizers, options_of
from spikelfp.training.parallel import ALONE, World
from spikelfp.training.progress import EpochBar
from spikelfp.training.schedule import MakeSchedule, schedules
from spikelfp.training.state import Position, Seen, Tally
from spikelfp.training.update import add_up, density, fill_gradients
from spikelfp.training.wake import wake

DENSITY_EVERY = 20
"""Steps between two looks at how many weights an update touches."""


class Trainer:
    """Trains a network on images or vectors ``[B, …]`` shown for one step, or on :class:`~spikelfp.data.Sequences`.

    net: layers of :mod:`spikelfp.nn`. reward: for :class:`~spikelfp.methods.LFP` (default: ``SpikeSequence`` for
    spiking outputs, ``Softmax`` for linear ones); or hand in another ``method``.
    optimizer: a name, or a function ``(parameters, lr) → Optimizer``; any torch optimiser will do.
    schedule: a name, or a function ``(optimizer, total_steps) → LRScheduler``.
    clip: λ of adaptive gradient clipping (Brock et al. 2021); clip_norm: largest norm of all updates together
    (A.6.2); each 0 for none, the adaptive one first.
    accumulate: parts of a batch that go through the network one after the other; their updates add up. (A reward
    normalised between layers, or batch statistics, are those of a part.)
    seed: of the order of the samples, which is the same whatever else uses random numbers.
    device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``, …
    quantization: weights of a few bits in every forward pass (:class:`~spikelfp.quantized.WeightGrids`).
    wake: before the first step, scale up the weights of hidden layers that never fire (:mod:`spikelfp.training.wake`).
    should_stop: asked after every step; training returns early, at a step that :meth:`save` can keep, when true.
    world: the workers that train together (:func:`spikelfp.training.joined`); ``batch_size`` is that of all of them.
    """

    chunk: int | None = None
    readout_steps: int | None = None

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
        clip_norm: float = 0.0,
        batch_size: int = 128,
        accumulate: int = 1,
        seed: int = 0,
        device: str | torch.device = "auto",
        workers: int = 0,
        quantization: Quantization | None = None,
        wake: bool = True,
        progress: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
        world: World = ALONE,
    ) -> None:
        if method is not None and reward is not None:
            raise UserError("hand in a reward or a method that has its own, not both")
        check_numbers(batch_size, accumulate, clip, clip_norm)
        self.world = world
        self.device = choose_device(device, world.local_rank if world.size > 1 else None)
        self.net = net.to(self.device)
        self.method = method or LFP(reward or default_reward(net))
        self.grids = None if quantization is None else WeightGrids(net, quantization, seed)
        make = optimizers[optimizer] if isinstance(optimizer, str) else optimizer
        self.optimizer: Optimizer = make(net.parameters(), lr)
        self.make_schedule = schedules[schedule] if isinstance(schedule, str) else schedule
        self.scheduler: Any = None
        self.clip, self.clip_norm = clip, clip_norm
        self.batch_size, self.accumulate, self.seed, self.workers = batch_size, accumulate, seed, workers
        self.progress, self.should_stop, self.wake = progress and world.leads, should_stop, wake
        self.woken: dict[str, float] = {}
        self.position, self.tally = Position(), Tally()
        self.history: list[dict[str, float]] = []
        self.total_steps: int | None = None
        self._restored: dict[str, Any] | None = None
        self._replica: torch.nn.Module | None = None
        check_trainer(self)

    def present(self, x: Tensor | Sequences) -> Tensor:
        """A batch as the network sees it, ``[T, B, …]``: sequences as they are, ``[B, …]`` here as one step."""
        return x.values if isinstance(x, Sequences) else x.unsqueeze(0)

    def batch(self, x: Tensor | Sequences, labels: Tensor) -> Batch:
        """Samples and their classes with the steps that are rewarded and read out."""
        shown = self.present(x)
        return Batch(shown, labels, counting_steps(shown, lengths_of(x), self.readout_steps))

    def runs(self) -> torch.nn.Module:
        """What a step of training runs, and several workers share: here the network as it is."""
        return self.net

    def fit(
        self,
        train: Dataset,
        epochs: int,
        *,
        after_epoch: Callable[[dict[str, float]], None] = lambda row: None,
        after_step: Callable[[Position], None] = lambda position: None,
    ) -> list[dict[str, float]]:
        """Train up to ``epochs`` epochs in all, from wherever :meth:`load` left off; a row of metrics an epoch.

        ``after_epoch`` may add to its row (a validation accuracy, say); ``after_step`` may :meth:`save`. Several
        workers all call ``fit`` with the same data and start from the leader's weights.
        """
        self._schedule(train, epochs)
        if self.wake and self.position.step == 0 and self.world.leads:
            self.woken = self._wake(train)
            if self.grids is not None:
                self.grids.follow(self.woken)
        self._replica = self.world.replica(self.runs(), self.device)
        while self.position.epoch < epochs:
            with EpochBar(self.position, self._batches_of(train), epochs, self.progress) as bar:
                for x, labels in self._loader(train):
                    of = min(self.batch_size, _count(train) - self.position.batch * self.batch_size)
                    seen = self.train_step(x.to(self.device), labels.to(self.device), of)
                    self.position.batch += 1
                    stop = add_up(seen, self.should_stop(), self.world, self.device)
                    self.tally.add(seen)
                    after_step(self.position)
                    bar.advance(self.tally, seen)
                    if stop:
                        return self.history
            row = {"epoch": self.position.epoch + 1, **self.tally.means(), "lr": self.optimizer.param_groups[0]["lr"]}
            self.position = Position(self.position.epoch + 1, 0, self.position.step)
            self.tally = Tally()
            self.history.append(row)
            after_epoch(row)
        return self.history

    def train_step(self, x: Tensor | Sequences, labels: Tensor, of: int | None = None) -> Seen:
        """One update of the weights from a batch ``x`` ``[B, …]`` and its classes ``[B]``; returns what it showed.

        of: samples of the whole batch when several workers have a slice each, of this or another size (0 included);
        what is returned is then that of this worker's samples.
        """
        if of is None:
            of = int(self.world.sum([len(labels)], self.device)[0])
        if self._replica is None:
            self._replica = self.world.replica(self.runs(), self.device)
        self.world.reseed(self.seed, self.position.step)
        batch = self.batch(x, labels)
        self.optimizer.zero_grad()
        method, parts = self.method.at(self.position.step), max(1, min(self.accumulate, of // self.world.size))
        seen = fill_gradients(
            self.net, self._replica, method, batch.sequence, labels,
            of=of, parts=parts, world=self.world, mask=batch.mask, chunk=self.chunk,
        )  # fmt: skip
        check_gradients(self.net, batch.sequence, self.position.step, self.world)
        if self.position.batch % DENSITY_EVERY == 0:
            seen.density = density(self.net)
        if self.clip:
            clip_adaptive_(self.net.parameters(), self.clip)
        if self.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.clip_norm)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.position.step += 1
        if self.grids is not None:
            self.grids.settle(self.position.step)
        return seen

    def evaluate(self, dataset: Dataset) -> Evaluation:
        """Accuracy by accumulated outputs; from rest for every batch, the network's mode and random state kept.

        Augmentations of event data are those of training: they are left out.
        """
        loader = batches(unaugmented(dataset), self.batch_size, seed=0, epoch=0, shuffle=False, workers=self.workers)
        return evaluate(
            self.net, loader, self.batch, seed=self.seed, device=self.device, world=self.world, chunk=self.chunk
        )

    def save(self, path: str | Path) -> None:
        """Everything :meth:`load` needs to go on bit for bit, whole or not at all; several workers leave it to one."""
        if not self.world.leads:
            return
        checkpoint.write(
            path,
            {
                "weights": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": checkpoint.plain(self.scheduler.state_dict()) if self.scheduler else None,
                "schedule_kind": type(self.scheduler).__name__ if self.scheduler else None,
                **self._settings(),
                "total_steps": self.total_steps,
                "position": vars(self.position),
                "tally": vars(self.tally),
                "history": self.history,
                "random": checkpoint.random_states(),
                "events": {name: choice.events for name, choice in choices(self.net).items()},
            },
        )

    def load(self, path: str | Path) -> None:
        """Go on from a checkpoint of the same network and settings; nothing changes when it does not fit."""
        content = checkpoint.read(path)
        checkpoint.check_settings(path, content, self._settings())
        checkpoint.check_weights(path, self.net, content)
        try:
            self.optimizer.load_state_dict(content["optimizer"])
        except ValueError as error:
            raise CheckpointError(f"{path} holds the state of another optimiser: {error}") from None
        self.net.load_state_dict(content["weights"])
        self._restored = {name: content.get(name) for name in ("optimizer", "schedule", "schedule_kind")}
        self.position, self.tally = Position(**content["position"]), Tally(**content["tally"])
        self.history, self.total_steps = content["history"], content["total_steps"]
        checkpoint.restore_random(content["random"])
        for name, choice in choices(self.net).items():
            choice.events = content.get("events", {}).get(name, choice.events)  # the first version did not write them

    def _settings(self) -> dict[str, Any]:
        """What a checkpoint and the trainer that goes on from it must share."""
        return {
            "method": self.method.name,
            "optimizer_kind": type(self.optimizer).__name__,
            "optimizer_options": options_of(self.optimizer),
            "clip": self.clip,
            "clip_norm": self.clip_norm,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "quantization": None if self.grids is None else asdict(self.grids.options),
        }

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
                checkpoint.restore_schedule(self.scheduler, self.optimizer, self._restored)
            self._restored = None
        self.total_steps = total

    def _loader(self, train: Dataset, world: World | None = None) -> Any:
        world = world or self.world
        return batches(
            train,
            self.batch_size,
            seed=self.seed,
            epoch=self.position.epoch,
            start=self.position.batch,
            workers=self.workers,
            rank=world.rank,
            world_size=world.size,
        )

    def _batches_of(self, train: Dataset) -> int:
        return -(-_count(train) // self.batch_size)

    def _wake(self, train: Dataset) -> dict[str, float]:
        """Wake silent layers on the whole first batch; draws no random numbers of training."""
        x, _ = next(iter(self._loader(train, ALONE)))
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            self.net.train()
            return wake(self.net, *some(self.present(x := x.to(self.device)), mask_of(x), self.chunk))


def _count(dataset: Dataset) -> int:
    """Number of samples."""
    return len(dataset)  # type: ignore[arg-type]
