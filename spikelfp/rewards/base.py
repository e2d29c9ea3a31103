"""Base class of all rewards, masks of the steps that count, and checks that rewards share."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.options import NOT_AN_OPTION, call_of
from spikelfp.scalars import as_number


def check_mask(outputs: Tensor, mask: Tensor) -> None:
    """Raise :class:`~spikelfp.errors.ShapeError` unless outputs are ``[T, B, C]`` and the mask boolean ``[T, B]``."""
    if mask.dtype != torch.bool or outputs.dim() != 3 or mask.shape != outputs.shape[:2]:
        raise ShapeError(
            f"a mask is boolean [T, B] for outputs [T, B, C], got {mask.dtype} of shape {tuple(mask.shape)} for "
            f"outputs of shape {tuple(outputs.shape)}"
        )


def numbers_of(what: str, given: Any, like: Tensor) -> Tensor:
    """Make a tensor of the numbers that a function of somebody else has returned.

    Args:
        what: the numbers are, for the error.
        given: as returned.
        like: tensor whose dtype and device the result gets.

    Raises:
        UserError: for what are no real numbers; torch would drop imaginary parts.
    """
    try:
        if not torch.as_tensor(given).is_complex():
            return torch.as_tensor(given, dtype=like.dtype, device=like.device)  # Python's floats have 64 bits
    except (TypeError, ValueError, RuntimeError):
        pass
    kind = given.dtype if isinstance(given, Tensor) else type(given).__name__
    raise UserError(f"{what} are real numbers, in a tensor, an array or a list, got {kind}")


def check_samples(name: str, labels: Any, samples: int) -> None:
    """Raise :class:`~spikelfp.errors.ShapeError` unless there are labels, of any kind, for each of the samples."""
    try:
        count = len(labels)
    except TypeError:
        raise ShapeError(f"{name} takes labels for {samples} samples, got {type(labels).__name__}") from None
    if count != samples:
        raise ShapeError(f"{name} takes labels for {samples} samples, got {count}")


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """Set ``values`` ``[T, B, C]`` to 0 at the steps that the ``mask`` ``[T, B]`` leaves out."""
    return values.masked_fill(~mask.unsqueeze(-1), 0)


def counted(mask: Tensor, like: Tensor) -> Tensor:
    """Count the steps of each sample that the ``mask`` ``[T, B]`` keeps: ``[B, 1]`` in the dtype of ``like``."""
    return mask.sum(0).unsqueeze(-1).to(like.dtype)


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function, which may be a user's, has an argument called ``name``."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some builtins do not tell
        return False


def to_front(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the steps that count before the others; both kinds keep their order.

    Args:
        values: ``[T, B, C]``.
        mask: of the steps that count, boolean ``[T, B]``.

    Returns:
        The values in the new order, and the step that each came from, int64 ``[T, B]``, for :func:`from_front`.
    """
    origin = (~mask).to(torch.uint8).argsort(dim=0, stable=True)
    return values.gather(0, origin.unsqueeze(-1).expand_as(values)), origin


def from_front(values: Tensor, origin: Tensor) -> Tensor:
    """Move steps back to where :func:`to_front` took them from.

    Args:
        values: ``[S, B, C]``, the first ``S`` steps of the new order.
        origin: the step that each came from, int64 ``[T, B]``.

    Returns:
        ``[T, B, C]``, 0 at all other steps.
    """
    places = origin[: len(values)].unsqueeze(-1).expand_as(values)
    return values.new_zeros(len(origin), *values.shape[1:]).scatter_(0, places, values)


Smoothing = Annotated[float, NOT_AN_OPTION]
"""Parameter ``label_smoothing``: on the command line an option of the run, of rewards and losses that take it."""


def check_smoothing(value: Any) -> float:
    """Return the α of label smoothing as a float; raise :class:`~spikelfp.errors.UserError` outside [0, 1)."""
    number = as_number(value)
    if number is None or not 0 <= number < 1:
        raise UserError(f"label_smoothing is a number of 0 or more and below 1 (0: none), got {value!r}")
    return number


def smoothed(target: Tensor, label_smoothing: float, dtype: torch.dtype) -> Tensor:
    """Smooth the target of classes, ``y′_c = (1 − α) y_c + α / C`` (Szegedy et al. 2016, arXiv:1512.00567, section 7).

    Args:
        target: boolean ``[B, C]``, true for the right class.
        label_smoothing: α in [0, 1).
        dtype: dtype of the result.

    Returns:
        ``y′``, ``[B, C]``; for α = 0 the target itself.
    """
    own = target.to(dtype)
    return own if label_smoothing == 0 else own * (1 - label_smoothing) + label_smoothing / target.shape[-1]


class Reward(ABC):
    """Reward of every output, for outputs and labels: ``reward(outputs, labels)``.

    Outputs are ``[…, B, C]``, labels are classes ``[B]``, and the reward ``r`` has the shape and dtype of the outputs.
    Sequences of unequal lengths come with a mask, boolean ``[T, B]`` for outputs ``[T, B, C]``, which is true for the
    steps that count. At those the reward is what it would be if the sequence had no other steps; it is 0 at the others.

    Rewards for other labels than classes (real values, sequences, anything) override :meth:`target`.

    Raises:
        ShapeError: when it is called with labels of another length or type or outside the classes, or with a mask
            that does not fit the outputs.
    """

    of_parts = True
    """Whether the steps of a part of a sequence are enough to tell their reward."""
    of_shares = False
    """Whether it is a share of one of the whole sequence, so that the reward of a part of it weighs as its steps do."""
    task: str | None = "classification"
    """Name of the task whose targets it takes; ``None``: it does not say."""
    suits: str = "any"
    """Outputs that the reward is made for: ``spikes`` (it counts them), ``linear`` (it is multiplied with the output,
    so that a neuron which did not fire gets none), or ``any``."""

    def __call__(self, outputs: Tensor, labels: Any, mask: Tensor | None = None) -> Tensor:
        check_outputs(type(self).__name__, outputs)
        outputs = outputs.detach()
        if mask is None:
            return self.reward(outputs, self.target(outputs, labels))
        check_mask(outputs, mask)
        outputs = masked(outputs, mask)
        options = {"mask": mask} if takes(self.reward, "mask") else {}
        return masked(self.reward(outputs, self.target(outputs, labels), **options), mask)

    def __repr__(self) -> str:
        """Write the call that makes it, such as ``SpikeSequenceV1(whole_steps=True)``; defaults are left out."""
        return call_of(self)

    def classes(self, scores: Tensor) -> Tensor:
        """Choose the class of each sample ``[B]`` by its outputs summed over the steps ``[B, C]``: here the largest.

        Accuracies and :meth:`spikelfp.Trainer.predict` ask it.

        Raises:
            UserError: for a reward whose outputs are no classes.
        """
        return scores.argmax(-1)

    def target(self, outputs: Tensor, labels: Any) -> Any:
        """Check the labels and bring them into the form that :meth:`reward` takes.

        Args:
            outputs: ``[…, B, C]``.
            labels: classes ``[B]``.

        Returns:
            Boolean ``[B, C]``, true for the right class.

        Raises:
            ShapeError: for labels that do not fit.
        """
        check_classes(type(self).__name__, outputs, labels)
        return one_hot(labels, outputs.shape[-1])

    @abstractmethod
    def reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Compute the reward, once the labels are checked.

        For sequences of unequal lengths the outputs are 0 at the steps that do not count, and rewards at those steps
        are left out afterwards. That is enough for rewards of single steps and of sums over steps. A reward that
        depends on the *number* of steps takes a third argument, ``mask: Tensor | None = None``, and counts
        ``mask.sum(0)``.

        Args:
            outputs: ``[…, B, C]``, without a graph.
            target: of :meth:`target`, here boolean ``[B, C]``.

        Returns:
            The reward of every output, in the shape of the outputs.
        """


def no_classes(reward: Reward) -> UserError:
    """Make the error for asking a reward for classes where its outputs are none."""
    return UserError(
        f"the outputs that {type(reward).__name__} rewards are no classes, so there is no accuracy: "
        "trainer.predict(X, scores=True) gives the outputs, to be judged by a measure of your own"
    )


def check_outputs(name: str, outputs: Any) -> None:
    """Raise :class:`~spikelfp.errors.ShapeError` unless outputs are a dense tensor of floats."""
    if not isinstance(outputs, Tensor):
        state = ": net.run(x, state) returns them with the state, outputs, state = net.run(…)"
        raise ShapeError(
            f"{name} takes outputs and labels, and the outputs are {type(outputs).__name__}, not a tensor"
            f"{state if isinstance(outputs, tuple) else ''}"
        )
    if not outputs.is_floating_point() or outputs.layout is not torch.strided:
        cure = "outputs.to_dense()" if outputs.is_floating_point() else "outputs.float(), spikes being 0.0 and 1.0"
        raise ShapeError(
            f"{name} takes dense outputs of floating-point numbers, got {outputs.dtype}, "
            f"{str(outputs.layout).removeprefix('torch.')}: {cure}"
        )


def check_classes(name: str, outputs: Tensor, labels: Tensor) -> None:
    """Raise :class:`~spikelfp.errors.ShapeError` unless outputs are ``[…, B, C]`` and labels ``[B]``."""
    if not isinstance(labels, Tensor):
        raise ShapeError(f"{name} takes labels as a tensor [B], got {type(labels).__name__}: torch.as_tensor(labels)")
    if outputs.dim() < 2 or labels.shape != outputs.shape[-2:-1]:
        raise ShapeError(
            f"{name} takes outputs [..., B, C] and labels [B], got {tuple(outputs.shape)} and {tuple(labels.shape)}"
        )


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Make boolean ``[B, classes]``, true at each label."""
    return class_numbers(labels, classes).unsqueeze(-1) == torch.arange(classes, device=labels.device)


def class_numbers(labels: Tensor, classes: int) -> Tensor:
    """Check that labels ``[B]`` name classes, and make them int64.

    They may be integers of any kind; a bool is 0 or 1. The kind matters: in uint8, 200 + 100 is 44, and a uint8 tensor
    indexes as a mask. On CUDA nothing waits for the labels: a wrong one fails an assertion on the device, which torch
    reports later.

    Args:
        labels: ``[B]``.
        classes: number of classes.

    Returns:
        int64 ``[B]``.

    Raises:
        ShapeError: for labels that are no integers, and for the first one outside ``0 … classes − 1``.
    """
    labels = whole_numbers(labels)
    outside = (labels < 0) | (labels >= classes)
    if labels.is_cuda:
        torch._assert_async(~outside.any(), f"a label is outside the classes 0..{classes - 1}")
        return labels
    wrong = outside.nonzero()
    if len(wrong):
        index = int(wrong[0])
        raise ShapeError(f"label {int(labels[index])} at position {index} is outside the classes 0..{classes - 1}")
    return labels


def whole_numbers(labels: Tensor) -> Tensor:
    """Make int64 of integers of any kind.

    Raises:
        ShapeError: for floats, even if they are whole: they may be targets of a regression.
    """
    if labels.is_floating_point() or labels.is_complex():
        raise ShapeError(f"labels are class numbers (integers), got {labels.dtype}: labels.long() if they are classes")
    return labels.long()


def prediction(outputs: Tensor) -> Tensor:
    """Predict the class ``[B]`` with the largest output, summed over all steps of ``[…, B, C]`` (LFP v3, A.6.4)."""
    return outputs.sum(dim=tuple(range(outputs.dim() - 2))).argmax(-1) if outputs.dim() > 2 else outputs.argmax(-1)
