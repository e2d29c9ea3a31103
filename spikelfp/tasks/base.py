"""Base classes of tasks: targets, reading of the outputs, loss, score, and the words for them.

A task reads outputs ``o`` ``[T, B, C]`` of the steps that count, compares the reading with the targets, and adds up
over batches and workers what its score is made of. For LFP it makes the reward that descends its own loss ``L``::

    r = o · (−∂L/∂o)                            (LFP v3, Theorem 1; :class:`TaskReward`)

so that an output of exactly 0 gets no reward. A loss that is a mean over ``T`` steps gives each step ``1/T`` of it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NoReturn

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.options import call_of, option
from spikelfp.registry import Registry, check_name
from spikelfp.rewards import Reward
from spikelfp.rewards.base import masked, no_classes

if TYPE_CHECKING:
    from spikelfp.data.samples import TargetScale

READOUTS = ("mean", "last", "decay")
"""Readings of a sequence: the mean over the steps that count, the last of them, or a mean that forgets."""

Readout = Annotated[str, option(names=READOUTS)]
"""A readout as an option."""

READ = {
    "mean": "mean output over the steps",
    "last": "output of the last step",
    "decay": "mean output over the steps, of which late ones weigh more",
}
"""Readouts in words."""

FORGETS = 0.9
"""Factor by which the weight of a step falls with every step that comes after it, for the readout ``decay``."""


class Judge(ABC):
    """Reader of the outputs of one batch, a chunk of steps at a time, that adds up what its score is made of.

    Args:
        task: that the outputs are judged for.
        targets: of the samples, ``[B, …]``; ``None`` where only readings are asked for.
        mask: of the steps that count, boolean ``[T, B]``; ``None``: all of them.
        steps: ``T``.
        samples: ``B``.
        loss: whether the loss is added up, too.
    """

    def __init__(
        self,
        task: Task,
        targets: Tensor | None,
        mask: Tensor | None,
        steps: int,
        samples: int,
        loss: bool = False,
    ) -> None:
        self.task, self.targets, self.mask, self.steps, self.samples = task, targets, mask, steps, samples
        self.loss = loss

    @abstractmethod
    def add(self, outputs: Tensor, start: int) -> None:
        """Take in the outputs of some steps.

        Args:
            outputs: ``[k, B, C]``, without a graph.
            start: number of the first of these steps.
        """

    @abstractmethod
    def reading(self) -> Tensor:
        """Return the reading, samples first: ``[B, C]``, or ``[B, T, C]`` of a task that reads every step."""

    @abstractmethod
    def predictions(self) -> Tensor:
        """Predict by the reading, samples first: classes, values, sets of labels."""

    @abstractmethod
    def sums(self) -> dict[str, Tensor]:
        """Sums that the samples add to the score, as tensors that add up over batches and workers.

        ``samples`` is the number of samples; ``loss``, if asked for, the sum of the loss over them. Empty for targets
        that cannot be judged.
        """

    def _mask(self, start: int, count: int) -> Tensor | None:
        return None if self.mask is None else self.mask[start : start + count]


class Task(ABC):
    """Definition of what a network is trained for: targets, readout, loss, score, and the words for them.

    Attributes:
        name: in :data:`spikelfp.tasks.tasks`.
        score: name of the number that says how good a network is; columns of ``metrics.csv`` end in it.
        rises: whether a larger score is better.
        share: whether the score lies in [0, 1] and is written as a percentage.
        title: of the score, in words.
        meaning: of the score, in a line.
        kind: of the data (:attr:`spikelfp.data.DataSplits.kind`).
        has_classes: whether each sample has one class, so that there are a confusion matrix and an accuracy.
        reads_spikes: whether outputs that are spikes can be read; real values always can.
        of_parts: whether a part of a sequence (a chunk) can be trained as a sequence of its own.
    """

    name: ClassVar[str]
    score: ClassVar[str]
    title: ClassVar[str]
    meaning: ClassVar[str] = ""
    kind: ClassVar[str]
    rises: ClassVar[bool] = True
    share: ClassVar[bool] = True
    has_classes: ClassVar[bool] = False
    reads_spikes: ClassVar[bool] = False
    of_parts: bool = True

    def __repr__(self) -> str:
        """Write the call that makes it, such as ``Regression(loss='mae')``."""
        return call_of(self)

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments that the task keeps under another name."""
        return {}

    @abstractmethod
    def check(
        self,
        targets: Tensor,
        outputs: Tensor,
        whole: Tensor | None = None,
        *,
        of: str = "",
        spikes: bool = False,
        first: int = 0,
    ) -> None:
        """Refuse targets that do not fit, before training or evaluation.

        Args:
            targets: of some samples, ``[B, …]``.
            outputs: of the network for them, ``[T, B, C]``.
            whole: targets of the whole data set, where they are known.
            of: name of what takes the targets, for the error; by default the task.
            spikes: whether the outputs are spikes.
            first: number of the first of the samples in the data set.

        Raises:
            ShapeError: with what to do.
        """

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Compute the loss, a mean over the samples, as a scalar that gradients pass through.

        Args:
            outputs: ``[T, B, C]``.
            targets: ``[B, …]``.
            weights: of each step ``[T, B]``, 0 where it does not count, for sequences of unequal lengths and for
                chunks. The weight of a sample is the sum over its steps, and the loss is the weighted sum over the
                samples.
        """

    @abstractmethod
    def reward(self, spikes: bool) -> Reward:
        """Make the reward of LFP that is used where none is given.

        Args:
            spikes: whether the outputs of the network are spikes; otherwise they are real values.

        Raises:
            UserError: for outputs that the task has no reward for.
        """

    @abstractmethod
    def judge(self, targets: Tensor | None, mask: Tensor | None, steps: int, samples: int, loss: bool = False) -> Judge:
        """Begin to read a batch from rest.

        Args:
            targets: as for :class:`Judge`.
            mask: as for :class:`Judge`.
            steps: as for :class:`Judge`.
            samples: as for :class:`Judge`.
            loss: as for :class:`Judge`.
        """

    @abstractmethod
    def metrics(self, sums: dict[str, Tensor], scale: TargetScale | None = None) -> dict[str, float]:
        """Compute the score, and further numbers, from the sums of a data set.

        Args:
            sums: those of :meth:`Judge.sums`, added up; empty where the targets cannot be judged.
            scale: of real targets, whose errors are then in their own units.

        Returns:
            The numbers by name, the score first.
        """

    def readout(self, outputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predictions of outputs ``[T, B, C]`` of whole sequences, samples first.

        Args:
            outputs: ``[T, B, C]``.
            mask: boolean ``[T, B]``, the steps that count; by default all.
        """
        judge = self.judge(None, mask, len(outputs), outputs.shape[1])
        judge.add(outputs.detach(), 0)
        return judge.predictions()

    def during(self, targets: Tensor, start: int, steps: int) -> Tensor:
        """Take the targets of some steps; targets of whole sequences are returned unchanged.

        Args:
            targets: ``[B, …]``.
            start: number of the first step.
            steps: number of steps.
        """
        return targets

    def counting(self, mask: Tensor | None, steps: int, samples: int, device: torch.device) -> Tensor | None:
        """Choose which of the steps that count in a batch are rewarded and read out.

        Args:
            mask: of the batch, boolean ``[T, B]``; ``None``: all steps.
            steps: ``T``.
            samples: ``B``.
            device: of the mask.

        Returns:
            Boolean ``[T, B]``; ``None`` for all.
        """
        return mask

    def expected(self, targets: Tensor, outputs: Tensor) -> Tensor:
        """Make predictions ``y*`` that would be right, for methods that send errors straight to layers (F³, DFA, DRTP).

        Args:
            targets: ``[B, …]``.
            outputs: ``[T, B, C]``.

        Returns:
            ``[B, C]``, in the dtype and on the device of the outputs.

        Raises:
            UserError: for a task that has no such predictions.
        """
        self._no_errors()

    def predicted(self, outputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predict ``ŷ`` in the form of :meth:`expected`. Gradients pass through it.

        Args:
            outputs: ``[T, B, C]`` of whole sequences.
            mask: boolean ``[T, B]``, the steps that count; by default all.

        Returns:
            ``[B, C]``.

        Raises:
            UserError: for a task that has no such predictions.
        """
        self._no_errors()

    def slope(self, predicted: Tensor, expected: Tensor) -> Tensor:
        """Compute ``−∂L/∂ŷ`` of the loss ``L(ŷ, y*)`` of each sample, which is not divided by the number of samples.

        Args:
            predicted: ``ŷ`` ``[B, C]``, of :meth:`predicted`.
            expected: ``y*`` ``[B, C]``, of :meth:`expected`.

        Returns:
            ``[B, C]``; finite, with denominators of at least 1e-12 where ``L`` has a logarithm.

        Raises:
            UserError: for a task that has no such predictions.
            ShapeError: for two shapes.
        """
        self._no_errors()

    def _no_errors(self) -> NoReturn:
        raise UserError(
            f"the task {self.name} does not state an error [B, C] of each sample, which this method sends to the "
            f"layers: give {type(self).__name__} the methods expected, predicted and slope of spikelfp.tasks.Task, or "
            "take another method (lfp, gradient, surrogate)"
        )

    @property
    def loss_meaning(self) -> str:
        """Meaning of the loss, in a line."""
        return ""

    def better(self, score: float, than: float) -> bool:
        """Whether one score is better than another."""
        return score > than if self.rises else score < than

    def by(self, reward: Reward | None) -> Task:
        """Return the task with the reward of a method, which may decide by outputs in a way of its own."""
        return self

    def outputs_suit(self, spikes: bool) -> None:
        """Refuse a network whose outputs the task cannot read.

        Args:
            spikes: whether the outputs are spikes; otherwise they are real values.

        Raises:
            UserError: with what to do.
        """
        if spikes and not self.reads_spikes:
            raise UserError(
                f"{self.name} reads real values, and the outputs of this network are spikes: let it end in nn.LI() in "
                'the place of its last neurons (models.lif_mlp(…, readout="li"))'
            )


tasks: Registry[type[Task]] = Registry("task")
"""Tasks by name."""


class TaskReward(Reward):
    """Reward ``r = o · (−∂L/∂o)`` for the loss ``L`` of a task, summed over the samples (LFP v3, Theorem 1).

    Under LFP-0 a network of ReLU then takes the step of that loss, times ``|w|``. An output of exactly 0 gets no
    reward: this is for linear outputs, of :class:`~spikelfp.nn.LI` or a last dense layer.

    Args:
        task: whose loss is descended; its readout shares a reward among the steps.
    """

    suits = "linear"
    of_shares = True

    def __init__(self, task: Task) -> None:
        self.own = task
        self.of_parts = task.of_parts

    def arguments(self) -> dict[str, Any]:
        """Return the task, which is kept under another name."""
        return {"task": self.own}

    @property
    def task(self) -> str | None:  # type: ignore[override]
        """Name of the task."""
        return self.own.name

    def classes(self, scores: Tensor) -> Tensor:
        """Choose classes where the task has them."""
        if self.own.has_classes:
            return scores.argmax(-1)
        raise no_classes(self)

    def target(self, outputs: Tensor, labels: Tensor) -> Tensor:
        self.own.check(labels, outputs)
        return labels

    def reward(self, outputs: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        weights = None if mask is None else step_weights(mask, outputs.dtype)
        with torch.enable_grad():
            free = outputs.detach().requires_grad_()
            loss = self.own.loss(free, target, weights) * outputs.shape[1]
            (slope,) = torch.autograd.grad(loss, free)
        return -outputs * slope


def step_weights(mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Compute the weight of each step ``[T, B]`` in the mean over a sample's own steps, then over the samples.

    The weights add up to 1.
    """
    return mask.to(dtype) / (mask.sum(0) * mask.shape[1])


class ReadOut(Task):
    """Base class of tasks that read one vector ``[B, C]`` of each sequence: a weighted mean over its steps.

    Loss, score and reward all use this one reading.

    Args:
        readout: ``mean`` over the steps that count, the ``last`` of them, or ``decay``, a mean in which the weight of a
            step is :data:`FORGETS` times that of the next one.

    Attributes:
        predicts_reading: whether the reading is the prediction itself, in the form of the targets, so that
            :meth:`predicted` and :meth:`slope` are known.
    """

    predicts_reading: ClassVar[bool] = False

    def __init__(self, readout: Readout = "mean") -> None:
        self.reads = check_name("readout", readout, READOUTS)
        self.of_parts = readout != "decay"

    def arguments(self) -> dict[str, Any]:
        return {"readout": self.reads}

    @abstractmethod
    def loss_of(self, reading: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss ``[B]`` of each sample from its reading ``[B, C]``."""

    @abstractmethod
    def decided(self, reading: Tensor) -> Tensor:
        """Predict by a reading ``[B, C]``."""

    @abstractmethod
    def sums_of(self, reading: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compute the sums that samples add to the score, from their readings ``[B, C]``."""

    @abstractmethod
    def fitted(self, targets: Tensor, outputs: Tensor) -> Tensor:
        """Convert targets to the dtype and shape ``[B, C]`` of the reading."""

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        targets = self.fitted(targets, outputs)
        if weights is None:
            return self.loss_of(read(outputs, step_shares(self.reads, None, outputs)), targets).mean()
        reading = read(outputs, step_shares(self.reads, weights > 0, outputs))
        return (self.loss_of(reading, targets) * weights.sum(0)).sum()

    def expected(self, targets: Tensor, outputs: Tensor) -> Tensor:
        """Convert targets to the form of the reading (:meth:`Task.expected`), in the scale that is trained in."""
        check_samples(self.name, targets, outputs)
        return self.fitted(targets.to(outputs.device), outputs)

    def predicted(self, outputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Read the outputs (:meth:`Task.predicted`)."""
        if not self.predicts_reading:
            self._no_errors()
        return read(outputs, step_shares(self.reads, mask, outputs))

    def slope(self, predicted: Tensor, expected: Tensor) -> Tensor:
        """Compute the slope of :meth:`loss_of` (:meth:`Task.slope`)."""
        if not self.predicts_reading:
            self._no_errors()
        check_pair(predicted, expected)
        with torch.enable_grad():
            free = predicted.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.loss_of(free, expected.detach()).sum(), free)
        return -slope

    def judge(self, targets: Tensor | None, mask: Tensor | None, steps: int, samples: int, loss: bool = False) -> Judge:
        return _ReadOutJudge(self, targets, mask, steps, samples, loss)

    def counting(self, mask: Tensor | None, steps: int, samples: int, device: torch.device) -> Tensor | None:
        """Choose only the last step of each sequence where that is read out."""
        if self.reads != "last":
            return mask
        mask = torch.ones(steps, samples, dtype=torch.bool, device=device) if mask is None else mask
        return last_steps(mask)


class _ReadOutJudge(Judge):
    """Sums of the reading over the chunks."""

    task: ReadOut
    _read: Tensor | None = None
    _shares: Tensor | None = None

    def add(self, outputs: Tensor, start: int) -> None:
        if self._shares is None:
            mask, like = self.mask, outputs.new_zeros(())
            if mask is None:
                mask = torch.ones(self.steps, self.samples, dtype=torch.bool, device=outputs.device)
            self._shares = step_shares(self.task.reads, mask, like)
        own = read(outputs, self._shares[start : start + len(outputs)])
        self._read = own if self._read is None else self._read + own

    def reading(self) -> Tensor:
        assert self._read is not None
        return self._read

    def predictions(self) -> Tensor:
        return self.task.decided(self.reading())

    def sums(self) -> dict[str, Tensor]:
        reading = self.reading()
        assert self.targets is not None
        targets = self.task.fitted(self.targets, reading)
        found = {"samples": torch.full((), self.samples, device=reading.device), **self.task.sums_of(reading, targets)}
        if self.loss:
            found["loss"] = self.task.loss_of(reading, targets).sum(dtype=torch.float64)
        return found


def last_steps(mask: Tensor) -> Tensor:
    """Mark the last step of each sample that counts: boolean ``[T, B]``."""
    left = mask.flip(0).cumsum(0).flip(0)  # counting steps from this one on
    return mask & (left == 1)


def step_shares(readout: str, mask: Tensor | None, outputs: Tensor) -> Tensor:
    """Compute the share of each step in a reading; the shares of a sample add up to 1.

    The share is ``1/n`` for each of the ``n`` steps that count (``mean``), 1 for the last of them (``last``), or
    ``FORGETS^k / Σ FORGETS^k`` with ``k`` of them after the step (``decay``).

    Args:
        readout: one of :data:`READOUTS`.
        mask: of the steps that count, boolean ``[T, B]``; ``None``: all of those of ``outputs``.
        outputs: whose dtype and device the shares have.

    Returns:
        ``[T, B]``, or ``[T, 1]`` where all steps count.
    """
    if mask is None:
        mask = torch.ones(len(outputs), 1, dtype=torch.bool, device=outputs.device)
    if readout == "last":
        return last_steps(mask).to(outputs.dtype)
    if readout == "mean":
        return mask.to(outputs.dtype) / mask.sum(0).clamp(min=1)
    later = mask.flip(0).cumsum(0).flip(0) - mask.long()
    shares = mask.double() * torch.exp(later.double() * math.log(FORGETS))
    return (shares / shares.sum(0).clamp(min=torch.finfo(torch.float64).tiny)).to(outputs.dtype)


def read(outputs: Tensor, shares: Tensor) -> Tensor:
    """Sum outputs ``[T, B, C]`` over the steps with weights ``[T, B]``; values at steps of weight 0 do not matter."""
    outputs = masked(outputs, (shares > 0).expand(outputs.shape[:2]))
    return (outputs * shares.unsqueeze(-1)).sum(0)


def smallest(predicted: Tensor) -> float:
    """Return the least denominator of a slope: 1e-12 as in torch's ``binary_cross_entropy``, more in half precision."""
    return max(1e-12, torch.finfo(predicted.dtype).tiny)


def binary_slope(predicted: Tensor, expected: Tensor) -> Tensor:
    """Compute ``−∂L/∂ŷ = (y* − ŷ) / (C ŷ (1 − ŷ))`` of the binary cross-entropy, a mean over the ``C`` outputs.

    The denominator ``ŷ (1 − ŷ)`` is at least 1e-12, as in torch's ``binary_cross_entropy``.

    Args:
        predicted: ``ŷ`` in [0, 1], ``[B, C]``.
        expected: ``y*`` in [0, 1], ``[B, C]``.
    """
    spread = (predicted * (1 - predicted)).clamp(min=smallest(predicted))
    return (expected - predicted) / spread / predicted.shape[-1]


def check_pair(predicted: Tensor, expected: Tensor) -> None:
    """Raise :class:`~spikelfp.errors.ShapeError` unless predictions and what they should be are both ``[B, C]``."""
    if predicted.dim() != 2 or predicted.shape != expected.shape:
        raise ShapeError(
            f"a slope takes predictions and targets of one shape [B, C], got {list(predicted.shape)} and "
            f"{list(expected.shape)}: they are task.predicted(outputs, mask) and task.expected(targets, outputs)"
        )


def check_samples(name: str, targets: Tensor, outputs: Tensor) -> None:
    """Raise :class:`~spikelfp.errors.ShapeError` unless outputs are ``[T, B, C]`` and there are ``B`` targets."""
    check_outputs(name, outputs)
    if targets.dim() == 0 or len(targets) != outputs.shape[1]:
        raise ShapeError(
            f"{name} takes a target for each of the {outputs.shape[1]} samples of outputs {list(outputs.shape)}, "
            f"[T, B, C], got targets of shape {list(targets.shape)}"
        )


def check_outputs(name: str, outputs: Tensor) -> None:
    """Raise :class:`~spikelfp.errors.ShapeError` unless outputs are ``[T, B, C]``."""
    if outputs.dim() != 3:
        raise ShapeError(
            f"{name} reads outputs [T, B, C], got {list(outputs.shape)}: let the network end in nn.Flatten, nn.Linear"
        )
