"""Training loop for every method, optimiser and schedule: of static networks, and of spiking networks on sequences."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset

from spikelfp import checks, nn
from spikelfp.data import DataSplits, arrays, encodings
from spikelfp.data.loader import Sequences, mask_of
from spikelfp.errors import CheckpointError, LearningWarning, UserError
from spikelfp.functional.sequence import is_constant, repeat, sample_slice
from spikelfp.kernels.choice import choices
from spikelfp.methods import Batch, Method
from spikelfp.methods.base import counting_steps, unsaved_attributes, within_chunk
from spikelfp.methods.gradient import Loss
from spikelfp.methods.online import WINDOW
from spikelfp.nn import Layer
from spikelfp.nn.graph import biases_in_front, decays
from spikelfp.nn.layer import check_carries
from spikelfp.options import described
from spikelfp.quantized import Quantization, WeightGrids
from spikelfp.rewards import Reward
from spikelfp.rules import Composite, Rule, lending
from spikelfp.scalars import as_whole
from spikelfp.tasks import Classification, Task
from spikelfp.tasks.classification import are_classes
from spikelfp.training import checkpoint
from spikelfp.training.arguments import (
    check_choices,
    check_loss,
    check_numbers,
    check_options,
    check_setting,
    check_targets,
    check_task,
    check_trainer,
    output_kind,
    own_loss,
    prepare,
    resolve_method,
    resolve_task,
    settings_of,
    single_step_complaints,
    task_judged_by,
)
from spikelfp.training.evaluation import Evaluation, evaluate, outputs_over
from spikelfp.training.optim import (
    MakeOptimizer,
    MakeSchedule,
    Planned,
    check_epochs,
    check_length,
    check_patience,
    describe,
    group_options,
    is_best,
    make_optimizer,
    options_of,
    plain_groups,
    plateau_metric,
    ran_out,
    reset_groups,
    resolve_schedule,
)
from spikelfp.training.parallel import SINGLE_WORKER, World, choose_device
from spikelfp.training.sources import FromLoader, Source, are_labelled, source_of, unshuffled
from spikelfp.training.update import (
    BatchResult,
    ChunkedNetwork,
    EpochBar,
    Position,
    Tally,
    add_up,
    check_gradients,
    clip_adaptive_,
    density,
    fill_gradients,
    outputs_in_chunks,
    wake_silent_layers,
)

DENSITY_EVERY = 20
"""Steps between two measurements of the share of weights that an update changes."""

READ_STEPS = 128
"""Steps of an evaluation that run together under a method that runs forward in time."""


def never() -> bool:
    """Return ``False``: training is not to stop."""
    return False


class Trainer:
    """Trainer of a network on samples ``[B, …]`` shown for one step, or on :class:`~spikelfp.data.Sequences`.

    Args:
        net: layers of :mod:`spikelfp.nn`.
        task: a name of :data:`spikelfp.tasks.tasks`, a class or an object; by default that of the reward or the loss,
            else classification.
        reward: for LFP, an object or a name of :data:`spikelfp.rewards.rewards`; by default that of the task: for
            classes ``SpikeSequence`` for spiking outputs and ``Softmax`` for linear ones, else the one that descends
            the loss of the task (:class:`~spikelfp.tasks.TaskReward`).
        method: ``"lfp"`` (default), ``"surrogate"``, ``"gradient"``, or a :class:`~spikelfp.methods.Method`, which has
            its own reward or loss and its own rule.
        rule: rule of the layers that have none of their own, an object or a name of :data:`spikelfp.rules.rules`.
        loss: for gradient methods, a function or a name of :data:`spikelfp.methods.losses`; for every method, the name
            of a loss of another task (``"mae"``).
        optimizer: a name, a class of ``torch.optim``, a function ``(parameters, lr) → Optimizer``, or an optimiser over
            parameters of the network. It must step once from ``p.grad``.
        lr: learning rate, by default 3e-3; an optimiser that is made already has its own.
        schedule: a name, ``None`` (constant), a function ``(optimizer, total_steps) → LRScheduler``, a class, or a
            schedule over the optimiser that is handed in. It steps once an update; a ``ReduceLROnPlateau`` once an
            epoch (:func:`spikelfp.training.optim.plateau_metric`).
        clip: λ of adaptive gradient clipping (Brock et al. 2021), 0 for none.
        clip_norm: largest norm of all updates together (v3, A.6.2), 0 for none; applied after the adaptive one.
        max_weight: W, to keep every parameter but decays β that learn within ``[−W, W]`` after each update (v3,
            footnote 5); ``None`` for no limit.
        batch_size: samples of an update, over all workers; a ``DataLoader`` has its own.
        accumulate: number of parts of a batch that go through the network one after the other; their updates add up. (A
            reward normalised between layers, or batch statistics, are those of a part.)
        seed: seed of the order of the samples, which does not depend on other uses of random numbers.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``, …
        workers: processes that load data.
        quantization: weights of a few bits in every forward pass (:class:`~spikelfp.quantized.WeightGrids`); ``None``
            for floats.
        wake: whether to scale up the weights that feed hidden layers that never fire, before the first step
            (:func:`spikelfp.training.update.wake_silent_layers`).
        progress: whether to show a bar.
        should_stop: function that is asked after every step; training returns early, at a step that :meth:`save` can
            keep, once it returns true.
        world: workers that train together (:func:`spikelfp.training.joined`).

    Raises:
        UserError: for an argument that cannot train this network, naming it.
    """

    chunk: int | None = None
    readout_steps: int | None = None

    def __init__(
        self,
        net: torch.nn.Module,
        *,
        task: str | type[Task] | Task | None = None,
        reward: Reward | str | None = None,
        method: Method | str | None = None,
        rule: Rule | Composite | str | None = None,
        loss: Loss | str | None = None,
        optimizer: str | type[Optimizer] | MakeOptimizer | Optimizer = "adam",
        lr: float | None = None,
        schedule: str | MakeSchedule | LRScheduler | None = "one-cycle",
        clip: float = 0.0,
        clip_norm: float = 0.0,
        max_weight: float | None = None,
        batch_size: int = 128,
        accumulate: int = 1,
        seed: int = 0,
        device: str | torch.device = "auto",
        workers: int = 0,
        quantization: Quantization | None = None,
        wake: bool = True,
        progress: bool = False,
        should_stop: Callable[[], bool] = never,
        world: World = SINGLE_WORKER,
        **unknown: Any,
    ) -> None:
        check_options(type(self), unknown)
        if not isinstance(net, torch.nn.Module):
            raise UserError(f"a trainer trains a torch.nn.Module, got {type(net).__name__}")
        batch_size, accumulate, workers, seed, clip, clip_norm, max_weight = check_numbers(
            batch_size, accumulate, clip, clip_norm, max_weight, workers, seed
        )
        check_choices(wake=wake, progress=progress)
        if not callable(should_stop):
            raise UserError(f"should_stop is a function that says whether to stop, got {should_stop!r}")
        if quantization is not None and not isinstance(quantization, Quantization):
            raise UserError(
                f"quantization is how weights are quantised, quantized.Quantization(bits=8), got {quantization!r}"
            )
        self.world = world
        self.device = choose_device(device, world.local_rank if world.size > 1 else None)
        self.task = resolve_task(task, method, reward, loss)
        self.method = resolve_method(net, method, reward, rule, loss, self.task)
        self.method.suit(net, self.task)
        self._suited: Method | None = self.method
        check_task(self.task, self.method)
        self.task = task_judged_by(self.task, self.method)
        self.task.outputs_suit(output_kind(net) == "spikes")
        if self.chunk is not None and not self.task.of_parts:
            raise UserError(f"{self.task!r} reads whole sequences, and a chunk is a part of one: train without chunks")
        self.net = net.to(self.device)
        self._prepared: Method | None = None
        self.grids = None if quantization is None else WeightGrids(net, quantization, seed)
        self.optimizer: Optimizer = make_optimizer(optimizer, net, lr)
        self._groups = group_options(self.optimizer)
        self.schedule = resolve_schedule(schedule, self.optimizer)
        self.scheduler: Any = None
        self.clip, self.clip_norm, self.max_weight = clip, clip_norm, max_weight
        self.batch_size, self.accumulate, self.seed, self.workers = batch_size, accumulate, seed, workers
        self.progress, self.should_stop, self.wake = progress and world.leads, should_stop, wake
        self.woken: dict[str, float] = {}
        self.position, self.tally = Position(), Tally()
        self.history: list[dict[str, float]] = []
        self.planned = Planned()
        self.stopped_early = False
        self._at_rest = False
        self._fitted = False
        self._source_now: Source | None = None
        self._samples = ""  # fingerprint of those that a checkpoint was trained on
        self._restored: dict[str, Any] | None = None
        self._replica: torch.nn.Module | None = None
        # a method of the class: attention has a layer of that name
        self._projecting: list[Any] = [
            getattr(layer, "project")  # noqa: B009  (torch types attributes of modules as tensors)
            for layer in net.modules()
            if isinstance(layer, Layer) and callable(getattr(type(layer), "project", None))
        ]
        self._limit = 0.0 if max_weight is None else float(max_weight)
        apart = set(map(id, decays(net).values()))
        self._capped: list[Tensor] = (
            [p for p in net.parameters() if id(p) not in apart] if max_weight is not None else []
        )
        self._without_effect = biases_in_front(net)
        kinds = {p.dtype for p in net.parameters() if p.is_floating_point()}
        self._dtype = next(iter(kinds)) if len(kinds) == 1 else None
        check_trainer(self)
        self._prepare_method()
        self._made = True

    def __setattr__(self, name: str, value: Any) -> None:
        if self.__dict__.get("_made"):
            check_setting(self, name)
        super().__setattr__(name, value)

    def present(self, x: Tensor | Sequences) -> Tensor:
        """Show a batch to the network as ``[T, B, …]``: sequences as they are, samples ``[B, …]`` as one step."""
        return x.values if isinstance(x, Sequences) else x.unsqueeze(0)

    def batch(self, x: Tensor | Sequences, labels: Tensor, indices: Tensor | None = None) -> Batch:
        """Make a batch of samples and their targets, in the dtype of the network.

        Args:
            x: samples ``[B, …]`` or sequences.
            labels: targets ``[B, …]``.
            indices: int64 ``[B]``, numbers of the samples in the training set, where they are known.

        Returns:
            The batch, with a mask of the steps that are rewarded and read out.
        """
        shown = self.present(x)
        if self._dtype is not None and shown.dtype != self._dtype and shown.is_floating_point():
            shown = repeat(shown[0].to(self._dtype), len(shown)) if is_constant(shown) else shown.to(self._dtype)
        lengths = x.lengths if isinstance(x, Sequences) else None
        mask = counting_steps(shown, lengths, self.readout_steps)
        mask = self.task.counting(mask, len(shown), shown.shape[1], shown.device)
        return Batch(shown, labels, mask, indices=indices)

    @property
    def at_rest(self) -> bool:
        """Whether training stands between two steps or two epochs, so that its state can be saved."""
        return self._at_rest

    def _draws(self) -> bool:
        """Whether chance draws what the network is shown of a sample."""
        return False

    def runs(self) -> torch.nn.Module:
        """Return the module that a step of training runs, and that several workers share: here the network."""
        return self.net

    def fit(
        self,
        train: Any,
        epochs: int,
        *,
        validation: Any = None,
        patience: int | None = None,
        best: str | Path | None = None,
        after_epoch: Callable[[dict[str, float]], None] | None = None,
        after_step: Callable[[Position], None] = lambda position: None,
    ) -> list[dict[str, float]]:
        """Train up to ``epochs`` epochs in all, from where the last call or :meth:`load` has left off.

        A finished training can be extended by more epochs: a constant learning rate goes on, any other schedule is
        followed by a new one over the steps that are added. In the middle of a schedule that depends on their number,
        more epochs are refused.

        Several workers all call ``fit`` with the same data and start from the leader's weights.

        Args:
            train: a data set of pairs (x, label), a ``DataLoader`` (its batches in its order; it cannot go on in the
                middle of an epoch), a :class:`~spikelfp.data.DataSplits` (its training part, and its validation part if
                it has one), or arrays ``(X, y)`` (:func:`spikelfp.data.arrays`).
            epochs: epochs in all, those before included.
            validation: data whose score and loss are measured after each epoch, as ``validation_accuracy`` (or
                ``validation_rmse``, …) and ``validation_loss``.
            patience: epochs without a better validation score after which training stops and sets
                :attr:`stopped_early`; ``None`` for no end. The network then has the weights of the last epoch.
            best: path of a checkpoint that is written after every epoch that is the best so far, by its validation
                score or else that of training; ``load(best)`` goes back to it.
            after_epoch: function called with the row of each epoch, to which it may add (a ``validation_accuracy``,
                say).
            after_step: function called after each step; it may :meth:`save`.

        Returns:
            A row of metrics for each epoch, those before included.

        Raises:
            UserError: for data or labels that do not fit the network, before anything is changed.
            CheckpointError: for epochs that the schedule cannot be extended to.
        """
        if isinstance(train, DataSplits) and validation is None:
            validation = train.validation
        self._prepare_method()
        source = source_of(train, self.batch_size, self.seed, self.workers)
        if isinstance(source, FromLoader):
            source.check(self.position, self.world)
        watched = None if validation is None else self._source(validation, "validation")
        check_patience(patience, watched is not None or after_epoch is not None, self.task)
        self.plan(source, epochs)
        if self._samples and source.fingerprint() not in ("", self._samples):
            raise CheckpointError(
                "the samples are not those that the loaded checkpoint was trained on (their contents, form, labels or "
                "order differ): go on with those, or load its weights alone: training.checkpoint.load_weights(path, "
                "net)"
            )
        asked = any(type(part).begin_training is not Method.begin_training for part in self.method.parts())
        if asked:  # a fingerprint reads all samples
            self.method.begin_training(source.fingerprint(), source.drawn or self._draws())
        self._source_now, self._samples = source, ""
        if self.position.epoch >= epochs and self._fitted:
            warnings.warn(
                f"nothing is trained: {self.position.epoch} epochs are done, and epochs={epochs} counts those, so "
                f"fit(…, epochs={self.position.epoch + epochs}) trains for {epochs} more",
                LearningWarning,
                stacklevel=2,
            )
        self._fitted, self._at_rest = True, False
        if self.position.epoch < epochs:
            self._prepare(source, watched)
        self._schedule(source, epochs)
        self._replica = self.world.replica(self.runs(), self.device)
        while self.position.epoch < epochs:
            self.stopped_early = ran_out(self.history, patience, self.task)
            if self.stopped_early:
                break
            with EpochBar(self.position, len(source), epochs, self.progress, self.task) as bar:
                for x, labels, of, indices in source.epoch(self.position, self.world):
                    self._at_rest = False
                    seen = self.train_step(x.to(self.device), labels.to(self.device), of, indices)
                    self.position.batch += 1
                    stop = add_up(seen, self.should_stop(), self.world, self.device)
                    self.tally.add(seen)
                    self._at_rest = True
                    after_step(self.position)
                    bar.advance(self.tally, seen)
                    if stop:
                        return self.history
            self._at_rest = False
            means = self.tally.means(self.task, source.target_scale)
            row = {"epoch": self.position.epoch + 1, **means, "lr": self.optimizer.param_groups[0]["lr"]}
            if watched is not None:
                row |= self.evaluate(watched).row("validation", self.task)
            self.position = Position(self.position.epoch + 1, 0, self.position.step)
            self.tally = Tally()
            self.history.append(row)
            if isinstance(self.scheduler, ReduceLROnPlateau):
                self.scheduler.step(plateau_metric(self.scheduler, row, self.task))
            if after_epoch is not None:
                after_epoch(row)
            self._at_rest = True
            if best is not None and is_best(self.history, self.task):
                self.save(best)
        return self.history

    def plan(self, train: Any, epochs: int) -> str:
        """Find out how training would go on to ``epochs`` epochs in all.

        Args:
            train: data as in :meth:`fit`.
            epochs: epochs in all, those before included.

        Returns:
            A line about it, or an empty one.

        Raises:
            UserError: for a number of epochs out of range, or below those that are done.
            CheckpointError: for a number that the schedule cannot be extended to.
        """
        return self._plan(train, epochs)[1]

    def _plan(self, train: Any, epochs: int) -> tuple[Planned, str]:
        source = self._source(train)
        return self.planned.extended(self.position, len(source), check_epochs(epochs), self.schedule, self.optimizer)

    def train_step(
        self, x: Tensor | Sequences, labels: Tensor, of: int | None = None, indices: Tensor | None = None
    ) -> BatchResult:
        """Update the weights once from a batch.

        Args:
            x: samples ``[B, …]``, or sequences.
            labels: targets ``[B, …]``.
            of: number of samples of the whole batch, where several workers have a slice each, of this or another size
                (also 0).
            indices: int64 ``[B]``, numbers of the samples in the training set, for methods that ask for them.

        Returns:
            Results of the samples of this worker.

        Raises:
            NonFiniteError: for NaN or infinity, naming layer and step; the weights are then those of the step before.
        """
        if of is None:
            of = len(labels) if self.world.size == 1 else int(self.world.sum([len(labels)], self.device)[0])
        if self._restored is not None and self.planned.total_steps is not None:
            self._make_schedule(self.planned, fresh=False)
        if self.scheduler is not None:
            check_length(self.scheduler, 1)
        if self._replica is None:
            self._replica = self.world.replica(self.runs(), self.device)
        if self.world.size > 1:
            self.world.reseed(self.seed, self.position.step)
        batch = self.batch(x, labels, indices)
        self.optimizer.zero_grad()
        self._prepare_method()
        method, parts = self.method.at(self.position.step), max(1, min(self.accumulate, of // self.world.size))
        method.begin_update()
        if method.within_batch:
            self._check_within_batch(method, parts)
            method.update_by(functools.partial(self._update_within, batch))
        try:
            seen = fill_gradients(
                self.net, self._replica, method, batch, of=of, parts=parts, world=self.world, chunk=self.chunk,
                task=self.task,
            )  # fmt: skip
        finally:
            if method.within_batch:
                method.update_by(None)
        self._check_and_clip(batch, seen)
        self.optimizer.step()
        if self.scheduler is not None and not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()
        self.position.step += 1
        self._settle()
        method.end_update(self.world)
        return seen

    def _check_and_clip(self, batch: Batch, seen: BatchResult | None = None) -> None:
        """Refuse gradients that are not finite, and clip them; count their density for the results of a batch."""
        check_gradients(self.net, batch.sequence, self.position.step, self.world)
        for bias in self._without_effect:
            if bias.grad is not None:
                bias.grad.zero_()
        if seen is not None and self.position.batch % DENSITY_EVERY == 0:
            seen.density = density(self.net)
        if self.clip:
            clip_adaptive_(self.net.parameters(), self.clip)
        if self.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.clip_norm)

    def _check_within_batch(self, method: Method, parts: int) -> None:
        """Refuse batches whose updates are put together from parts, for methods that update the weights within them."""
        name = type(method).__name__
        if parts > 1 or self.world.size > 1:
            raise UserError(
                f"{name} updates the weights at every step of a batch, which parts of it (--accumulate) or several "
                "workers would do one after the other: take one part and one worker, or update once a sequence"
            )
        if self.grids is not None and self.grids.options.update == "stochastic":
            raise UserError(
                f"{name} updates the weights at every step of a batch, and these are rounded by chance once a batch: "
                "take masters in floats (--weight-update masters), or update once a sequence"
            )

    def _update_within(self, batch: Batch) -> None:
        """Step from ``p.grad`` in the course of a batch, and set it to 0."""
        self._check_and_clip(batch)
        self.optimizer.step()
        self._settle()
        self.optimizer.zero_grad()

    def _prepare_method(self) -> None:
        """Let the method make its state, once for a network; its random numbers are a function of the seed."""
        if self._suited is not self.method:  # another one since then
            self.method.suit(self.net, self.task)
            check_task(self.task, self.method)
            self._suited = self.method
        if self._prepared is not self.method:
            prepare(self.method, self.net, self.seed, self.device)
            self._prepared = self.method
            self._unkept = unsaved_attributes(self.method, self.net)

    def _settle(self) -> None:
        """Bring parameters back within the limit, to where their layers allow, and onto their grids."""
        if self._capped:
            with torch.no_grad():
                torch._foreach_clamp_max_(self._capped, self._limit)
                torch._foreach_clamp_min_(self._capped, -self._limit)
        for project in self._projecting:
            project()
        if self.grids is not None:
            self.grids.settle(self.position.step)

    def evaluate(self, data: Any) -> Evaluation:
        """Measure score, loss and the other metrics of the task; from rest for every batch, mode and random state kept.

        Augmentations of event data belong to training and are left out.

        Args:
            data: data as in :meth:`fit`; of a :class:`~spikelfp.data.DataSplits` the test part.

        Returns:
            The evaluation.

        Raises:
            UserError: for targets or outputs that the task cannot judge.
        """
        source = self._source(data, "test")
        return evaluate(
            self.net, source.in_order(), self.batch, task=self.task, seed=self.seed, device=self.device,
            world=self.world, loss=own_loss(self.method), chunk=self.read_chunk, scale=source.target_scale,
        )  # fmt: skip

    def predict(self, data: Any, *, scores: bool = False, sequences: bool | None = None) -> Tensor:
        """Predict targets, on the CPU, in the order of the data.

        Args:
            data: inputs ``X`` alone, samples first (a tensor, an array or a list, as in :func:`spikelfp.data.arrays`),
                :class:`~spikelfp.data.Sequences`, or any data of :meth:`fit`, whose labels are ignored (of a
                :class:`~spikelfp.data.DataSplits` the test part).
            scores: whether to return the reading of the outputs in place of predictions: outputs summed over the steps
                that count, float ``[N, C]``, for classes; ``[N, T, C]`` for classes of steps; the readout of other
                tasks.
            sequences: whether the second axis of ``X`` is time; ``None``: as :func:`spikelfp.data.arrays` decides.

        Returns:
            Classes int64 ``[N]``; real values ``[N, K]`` in the units of the targets of training
            (``splits.target_scale.values(…)`` brings those of a :class:`~spikelfp.data.DataSplits` into their own);
            sets of labels, boolean ``[N, K]``; or classes of the steps int64 ``[N, T]``, -1 where none counts.

        Raises:
            UserError: for inputs that do not fit, a ``DataLoader`` that shuffles, and outputs that are no classes.
        """
        loader: Any
        if isinstance(data, Sequences):
            loader = [data]
        elif isinstance(data, Dataset | DataLoader | DataSplits) or are_labelled(data):
            loader = unshuffled(data) if isinstance(data, DataLoader) else self._source(data, "test").in_order()
        else:
            known = arrays(data, torch.zeros(len(data), dtype=torch.int64), sequences=sequences)
            loader = self._source(known).in_order()
        return outputs_over(
            self.net, loader, self.batch, task=self.task, seed=self.seed, device=self.device, chunk=self.read_chunk,
            scores=scores,
        )  # fmt: skip

    @property
    def read_chunk(self) -> int | None:
        """Steps that run at a time where nothing is learned; ``None`` for whole sequences.

        They are those of training, and :data:`READ_STEPS` for methods that run forward in time: neither their training
        nor an evaluation takes memory that grows with the number of steps.
        """
        if self.chunk is None and all(own.by_steps for own in self.method.parts()):
            return READ_STEPS
        return self.chunk

    def __repr__(self) -> str:
        """Write a small table: network, method, optimiser and where training stands."""
        size = sum(p.numel() for p in self.net.parameters())
        rows = {
            "net": f"{type(self.net).__name__}, {size:,} parameters on {self.device}",
            "task": repr(self.task),
            "method": repr(self.method),
            "optimizer": f"{describe(self.optimizer)}, schedule {self.schedule.name}",
            **self._shown(),
            "batch size": f"{self.batch_size}, seed {self.seed}",
            "trained": f"{self.position.epoch} epochs, {self.position.step} steps",
        }
        return f"{type(self).__name__}(\n" + "".join(f"  {name + ':':<12}{text}\n" for name, text in rows.items()) + ")"

    def _shown(self) -> dict[str, str]:
        """Return rows of the table about the input of the network."""
        return {}

    def save(self, path: str | Path) -> None:
        """Write everything that :meth:`load` needs to go on bit for bit; of several workers one writes.

        Args:
            path: path of the checkpoint, which is written as a whole or not at all.

        Raises:
            UserError: for a method with state that would be lost, naming it.
            SaveError: when the file cannot be written.
        """
        if self.world.leads:
            checkpoint.save(path, self)

    def load(self, path: str | Path) -> None:
        """Go on from a checkpoint of the same network and settings; nothing changes where it does not fit.

        Args:
            path: path of the checkpoint.

        Raises:
            CheckpointError: for a file that is no checkpoint, and for the first parameter, constant of a layer, rule or
                setting that differs, with both values.
        """
        checkpoint.load(path, self)

    def _settings(self) -> dict[str, Any]:
        """Return the settings that a checkpoint and the trainer that goes on from it must share."""
        return {
            "task": described(self.task),
            **settings_of(self.method),
            "optimizer_kind": type(self.optimizer).__name__,
            "optimizer_options": options_of(self.optimizer),
            "parameter_groups": plain_groups(self._groups),
            "schedule_name": self.schedule.name,
            "clip": self.clip,
            "clip_norm": self.clip_norm,
            "max_weight": self.max_weight,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "quantization": None if self.grids is None else asdict(self.grids.options),
        }

    def _source(self, data: Any, part: str = "train") -> Source:
        return source_of(data, self.batch_size, self.seed, self.workers, part)

    def _schedule(self, source: Source, epochs: int) -> None:
        """Make the schedule up to ``epochs``, and give it the state that a checkpoint left."""
        planned, _ = self._plan(source, epochs)
        fresh = planned.schedule_start == self.position.step
        if fresh or self.scheduler is None or self._restored is not None:
            self._make_schedule(planned if fresh else self.planned, fresh)
        check_length(self.scheduler, cast(int, planned.total_steps) - self.position.step)
        self.planned = planned

    def _make_schedule(self, planned: Planned, fresh: bool) -> None:
        """Make the schedule, and give it the state that a checkpoint left unless it is a ``fresh`` one."""
        if not self.schedule.made and (self.scheduler is not None or self._restored is not None):
            reset_groups(self.optimizer, self._groups)  # a schedule takes the learning rate that it finds
        self.scheduler = self.schedule.make(self.optimizer, planned.scheduled)
        state = None if self._restored is None or fresh else self._restored
        if state is not None and state["schedule"] is not None:
            checkpoint.restore_schedule(state["path"], self.scheduler, self.optimizer, state)
        self._restored = None

    def _prepare(self, source: Source, watched: Source | None) -> None:
        """Check labels and outputs on the first batch, and wake silent layers on it before the first step."""
        x, labels, *_ = source.first(self.position)
        if not isinstance(x, Sequences) and type(self).present is Trainer.present:
            for complaint in single_step_complaints(self.net, self.method):
                warnings.warn(complaint, LearningWarning, stacklevel=3)
        x, labels = x.to(self.device), labels.to(self.device)
        forked = [self.device] if self.device.type == "cuda" else []
        known, training = choices(self.net), self.net.training
        events = {name: choice.events for name, choice in known.items()}
        with torch.random.fork_rng(devices=forked), torch.no_grad():
            shown = self.batch(x, labels).sequence
            self.net.eval()
            with lending(self.net, self.method.at(self.position.step).rule):
                first = sample_slice(shown, 0, 1)
                if any(own.by_steps for own in self.method.parts()):  # in the memory of few steps, as it learns
                    pieces = outputs_in_chunks(self.net, Batch(first, labels[:1]), WINDOW)
                    outputs = torch.cat([piece for piece, _ in pieces])
                else:
                    outputs = self.net(first)
            self.net.train(training)
        for name, choice in known.items():
            choice.events = events[name]
        if not isinstance(outputs, Tensor):
            raise UserError(
                f"the network returns {type(outputs).__name__}, and a trainer takes outputs [T, B, C]: return the "
                "outputs alone"
            )
        with self.world.agreed():
            expanded = outputs.expand(-1, len(labels), *outputs.shape[2:])
            spikes = output_kind(self.net) == "spikes"
            check_targets(self.task, self.method, expanded, labels, source.labels, spikes)
            check_loss(self.method, expanded, labels)
            if watched is not None:
                self._check_judged(labels, outputs)
        if self.wake and self.position.step == 0 and self.world.leads:
            with torch.random.fork_rng(devices=forked):
                self.net.train()
                self.woken = wake_silent_layers(
                    self.net, *within_chunk(self.batch(x, labels).sequence, mask_of(x), self.read_chunk)
                )
            if self.grids is not None:
                self.grids.follow(self.woken)

    def _check_judged(self, labels: Tensor, outputs: Tensor) -> None:
        """Refuse a validation that could find no accuracy."""
        if not isinstance(self.task, Classification):
            return
        if not are_classes(labels):
            raise UserError(
                f"validation counts right classes, and labels of {labels.dtype} and shape {list(labels.shape)} are "
                "none: leave out validation, and judge the outputs in after_epoch"
            )
        self.task.classes(outputs.sum(0))


class TemporalTrainer(Trainer):
    """Trainer of a spiking network on sequences.

    Args:
        net: layers of :mod:`spikelfp.nn`.
        steps: steps of a sequence that is made of a static sample; :class:`~spikelfp.data.Sequences` have their own.
            With ``None`` all data are sequences, and static samples are refused.
        encoding: how a static batch becomes a sequence: ``constant`` (v3, A.6.4), ``rate``, ``latency`` or ``delta``.
        recompute: steps of a part of the sequence whose graph is made again in the backward pass
            (:func:`spikelfp.nn.recomputed`); 0 for the whole sequence at once. Parts of about √T steps need the least
            memory.
        chunk: steps that train and are evaluated at a time, each chunk from the state that the one before has left, in
            the memory of one chunk (:class:`~spikelfp.training.update.ChunkedNetwork`); ``None`` for whole sequences.
            Credit stays within a chunk, and batch statistics are those of a chunk; dropout keeps its mask for the whole
            sequence. Evaluation is that of whole sequences.
        readout_steps: steps at the end of each sequence that are rewarded and read out; ``None`` for all.
        options: arguments of :class:`~spikelfp.training.Trainer`.

    Raises:
        UserError: for an argument that cannot train this network, naming it.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        *,
        steps: int | None = 25,
        encoding: str = "constant",
        recompute: int | None = 0,
        chunk: int | None = None,
        readout_steps: int | None = None,
        **options: Any,
    ) -> None:
        if steps is not None:
            given, steps = steps, as_whole(steps)
            if steps is None:
                raise UserError(f"steps is a whole number, got {given!r}")
            if steps < 1:
                raise UserError(f"a sequence needs at least one step, got steps={steps}")
        chunk, readout_steps, recompute = (
            None if value is None else checks.whole(name, value, None)
            for name, value in (("chunk", chunk), ("readout_steps", readout_steps), ("recompute", recompute))
        )
        self.steps, self.encoding, self.recompute = steps, encoding, recompute or 0
        self.encode = encodings[encoding]
        if readout_steps is not None and steps is not None and readout_steps > steps:
            raise UserError(f"readout_steps={readout_steps} are more than the {steps} steps of a sequence")
        if self.recompute < 0:
            raise UserError(f"recompute must be 0 (off) or more, got {self.recompute}")
        if steps is not None and self.recompute >= steps:
            raise UserError(
                f"recompute={self.recompute} leaves a sequence of {steps} steps in one part, so that nothing is "
                "recomputed: choose fewer steps than those of a sequence, or 0"
            )
        for name, value in (("chunk", chunk), ("readout_steps", readout_steps)):
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1 (or left out), got {value}")
        if chunk is not None and self.recompute:
            raise UserError(
                f"chunk={chunk} and recompute={self.recompute} exclude each other: credit ends at a chunk's border, "
                "while recomputation takes it through the whole sequence; choose one of them"
            )
        if chunk is not None:
            check_carries(net)
        self.chunk, self.readout_steps = chunk, readout_steps
        super().__init__(net, **options)
        if chunk is not None and any(own.by_steps for own in self.method.parts()):
            raise UserError(
                f'chunk={chunk} cuts sequences, and credit="online" runs one step at a time by itself: leave it out'
            )
        if self.recompute and not all(own.recomputes and not own.by_steps for own in self.method.parts()):
            raise UserError(
                f"recompute={self.recompute} makes activations again for a backward pass through the whole network, "
                f"and {type(self.method).__name__} has none: leave it out; chunk={self.recompute} needs less, too"
            )
        if self.recompute and any(getattr(own, "rate", None) is not None for own in self.method.parts()):
            raise UserError(
                f"recompute={self.recompute} does not keep the spikes of hidden layers, which a rate target looks at: "
                f"leave one of them out; chunk={self.recompute} needs less memory, too"
            )
        if self.recompute:
            with lending(net, self.method.rule):
                nn.check_recomputable(net, training=True)

    def present(self, x: Tensor | Sequences) -> Tensor:
        """Show a batch ``[B, …]`` as a sequence ``[T, B, …]``; sequences as they are."""
        if isinstance(x, Sequences):
            return x.values
        if self.steps is None:
            raise UserError("steps=None is for data of sequences, and these are static samples: say how many steps")
        return self.encode(x, self.steps)

    def _draws(self) -> bool:
        return self.encoding == "rate"

    def runs(self) -> torch.nn.Module:
        """Return the network, run in chunks, or in parts that are recomputed, if that is chosen."""
        if self.chunk is not None:
            return ChunkedNetwork(self.net)
        return nn.Recomputed(self.net, self.recompute) if self.recompute else self.net  # type: ignore[arg-type]

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {
            "steps": self.steps,
            "encoding": self.encoding,
            "chunk": self.chunk,
            "readout_steps": self.readout_steps,
        }

    def _shown(self) -> dict[str, str]:
        rows = {"steps": f"{self.steps}, encoding {self.encoding}"}
        parts = {"recompute": self.recompute, "chunk": self.chunk, "readout_steps": self.readout_steps}
        return rows | {name: str(value) for name, value in parts.items() if value}
