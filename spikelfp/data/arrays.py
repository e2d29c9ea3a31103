"""Arrays of a user as a data set: numpy arrays, tensors or lists, static samples or sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikelfp.data.dataset import ArrayDataset, check_targets
from spikelfp.data.loader import Fetched, Frames, Sequences, fetched
from spikelfp.data.samples import KINDS, Samples, TargetScale
from spikelfp.errors import DataError, ShapeError, UserError
from spikelfp.registry import check_name


@dataclass(frozen=True, eq=False, repr=False)
class SequenceArrays(Samples):
    """``N`` sequences held in memory, samples first, fetched as batches time first.

    Attributes:
        values: ``[N, T, …]``, uint8 or floating point, zeros after the ends.
        labels: targets of the ``kind``: int64 ``[N]``, float32 ``[N, K]``, int64 ``[N, K]``, or int64 ``[N, T]`` of
            every step.
        lengths: int64 ``[N]``, steps of each sequence; ``None``: all have ``T``.
        scale: multiplied with the values when they are fetched.
        kind: of the targets (:data:`spikelfp.data.samples.KINDS`).
        target_scale: scale of standardised real targets; ``None``: they are in their own units.
        numbers: int64 ``[N]``, numbers of the samples in the data set that they were taken from; ``None``: 0 to ``N −
            1``.
    """

    values: Tensor
    labels: Tensor
    lengths: Tensor | None = None
    scale: float = 1.0
    kind: str = "classes"
    target_scale: TargetScale | None = None
    numbers: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one step."""
        return tuple(self.values.shape[2:])

    @property
    def levels(self) -> int | None:
        """``None``: not known."""
        return None

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Fetch sample ``index``: float32 ``[T, …]`` and int64 ``[]``."""
        steps = self.values.shape[1] if self.lengths is None else int(self.lengths[index])
        target = self.labels[index]
        return self._floats(self.values[index, :steps]).as_subclass(Frames), (
            target[:steps] if self.kind == "steps" else target
        )

    def __getitems__(self, indices: Sequence[int]) -> Fetched:
        """Fetch the samples ``indices`` as one batch.

        Returns:
            Sequences float32 ``[T, B, …]``, ``T`` the steps of the longest, and labels int64 ``[B]``.
        """
        index = torch.as_tensor(indices, dtype=torch.int64)
        lengths = None if self.lengths is None else self.lengths[index]
        steps = self.values.shape[1] if lengths is None or not len(index) else int(lengths.max())
        values = self._floats(self.values[index, :steps].transpose(0, 1).contiguous())
        unequal = lengths is not None and bool((lengths != steps).any())
        labels = self.labels[index]
        labels = labels[:, :steps] if self.kind == "steps" else labels
        return fetched(Sequences(values, lengths if unequal else None), labels)

    def subset(self, indices: Tensor) -> SequenceArrays:
        """Take the samples ``indices`` (int64 ``[M]``), everything else unchanged."""
        lengths = None if self.lengths is None else self.lengths[indices]
        kept: dict[str, Any] = {"lengths": lengths, "numbers": self.numbers_at(indices)}
        return replace(self, values=self.values[indices], labels=self.labels[indices], **kept)

    def __repr__(self) -> str:
        """Write one line: how many sequences of which steps."""
        ends = "" if self.lengths is None else f"{int(self.lengths.min())} to "
        steps = f"{ends}{self.values.shape[1]} steps of shape {self.shape}"
        targets = f"labels up to {int(self.labels.max())}"
        if self.kind != "classes":
            targets = "a class of every step" if self.kind == "steps" else f"{self.labels.shape[1]} {self.kind} each"
        return f"SequenceArrays({len(self)} sequences, {steps}, {targets})"

    def _floats(self, values: Tensor) -> Tensor:
        return values.to(torch.float32) * self.scale if self.scale != 1 else values.to(torch.float32)


def arrays(
    inputs: Any,
    labels: Any,
    *,
    sequences: bool | None = None,
    lengths: Any = None,
    scale: float | None = None,
    classes: int | None = None,
    targets: str | None = None,
) -> ArrayDataset | SequenceArrays:
    """Make a data set of arrays, samples first.

    ==========================  ===========================================================================
    ``[N, F]``                  static samples of ``F`` features
    ``[N, C, H, W]``            static images
    ``[N, T, C, H, W]``         sequences of images
    list of ``[T_i, …]``        sequences of unequal lengths
    ``[N, A, B]``               images without channels or sequences of features: say ``sequences=``
    ==========================  ===========================================================================

    Args:
        inputs: tensor, array or list, of any real dtype; 64-bit floats and integers become float32 when they are
            fetched.
        labels: class of each sample, ``[N]``, of any integer dtype; real values ``[N]`` or ``[N, K]``, of any floating
            dtype; 0 or 1 for each of ``K`` labels, ``[N, K]``; or the class of every step, ``[N, T]``.
        sequences: whether the second axis is time; ``None``: by the table.
        lengths: steps of each sequence ``[N]``; values after them are ignored.
        scale: multiplied with the inputs. 8-bit values above 1 need one: 1/255 for pixels, 1 to keep them.
        classes: number of classes that the labels are checked against; ``None`` only refuses negative labels.
        targets: ``classes``, ``values``, ``labels`` or ``steps``; ``None``: by the dtype and shape of the labels.

    Returns:
        A data set for :meth:`spikelfp.Trainer.fit`, ``DataLoader``, ``random_split`` and the like.

    Raises:
        DataError: for labels of another form, a number of labels other than that of samples, no samples, and NaN or
            infinity.
        ShapeError: for inputs of another form, and where the table leaves the form open.
        UserError: for 8-bit inputs above 1 without a scale.
    """
    values, own_lengths = _values(inputs)
    if own_lengths is not None:
        if sequences is False or lengths is not None:
            raise ShapeError("a list of arrays of unequal lengths is a list of sequences, which have their lengths")
        sequences, lengths = True, own_lengths
    sequences = _decide(values, True if sequences is None and lengths is not None else sequences)
    if sequences and _ragged(labels):
        labels = _of_every_step(labels, lengths, len(values))
    numbers, kind = _targets(labels, targets, values.shape[1] if sequences else None)
    _check_count(values, numbers)
    scale = _scale(values, scale)
    if not sequences:
        if lengths is not None:
            raise ShapeError("lengths are those of sequences, and sequences=False says that these are none")
        return ArrayDataset(values, numbers, scale, classes, kind=kind)
    within = _within(numbers, lengths) if kind == "steps" else numbers
    if kind == "steps" and bool((within < 0).any()):
        row, step = (within < 0).nonzero()[0].tolist()
        raise DataError(
            f"label {int(within[row, step])} at index {row}, step {step} is below 0: every step has a class; lengths= "
            "leaves out what is after the end of a sequence, and a gap is a class of its own"
        )
    check_targets(within, kind, classes, None)
    steps = None if lengths is None else _check_lengths(lengths, values)
    if steps is not None:
        inside = torch.arange(values.shape[1]) < steps.unsqueeze(1)
        values = values.where(
            inside.view(*inside.shape, *(1,) * (values.dim() - 2)), torch.zeros((), dtype=values.dtype)
        )
    if values.is_floating_point():
        bad = ~torch.isfinite(values).flatten(1).all(1)
        if bad.any():
            raise DataError(f"sample {int(bad.nonzero()[0])} holds NaN or infinity ({int(bad.sum())} of {len(bad)} do)")
    return SequenceArrays(values, numbers, steps, scale, kind)


def _targets(labels: Any, kind: str | None, steps: int | None) -> tuple[Tensor, str]:
    """Targets in the form that a data set holds, and their kind.

    Args:
        labels: of any form that :func:`arrays` takes.
        kind: that was asked for.
        steps: of the sequences; ``None`` for static samples.

    Raises:
        DataError: for labels of another form, and where their kind is left open.
    """
    if kind is not None:
        check_name("kind of targets", kind, KINDS)
    if kind == "classes":
        return class_numbers(labels), kind
    values = _numbers(labels)
    real = values.is_floating_point()
    if kind == "values" or (kind is None and real):
        if not real:
            raise DataError(f"real values are floats, got {values.dtype}: y.astype(float) or y.float()")
        if values.dim() not in (1, 2):
            raise DataError(f"real targets are [N] or [N, K], got shape {list(values.shape)}: y.reshape(len(y), -1)")
        values = values.reshape(len(values), -1 if len(values) else 1)
        check_narrow(values, "targets")
        return values.to(torch.float32), "values"
    if values.dim() != 2 or (kind is None and values.shape[1] == 1):
        numbers = class_numbers(labels)
        if kind is None and len(numbers) and int(numbers.min()) < 0:
            place = int((numbers < 0).nonzero()[0])
            raise DataError(
                f"label {int(numbers[place])} at index {place} is below 0, and whole numbers are classes: "
                "y.astype(float) or y.float() for real values, np.unique(y, return_inverse=True)[1] numbers classes"
            )
        return numbers, "classes"
    binary = bool(((values == 0) | (values == 1)).all())
    by_step = steps is not None and values.shape[1] == steps
    if kind is None and by_step and binary:
        raise DataError(
            f"0 or 1 of shape {list(values.shape)} may be labels of the samples or a class of every step: say "
            'targets="labels" or targets="steps"'
        )
    if kind is None and not binary and not by_step:
        raise DataError(
            f"whole numbers of shape {list(values.shape)} are no classes [N], no sets of labels (0 or 1) and no "
            "classes of every step: y.argmax(1) of one-hot rows, y.astype(float) for real values"
        )
    return values.to(torch.int64), kind or ("steps" if by_step else "labels")


def check_narrow(values: Tensor, what: str) -> None:
    """Refuse numbers that float32, in which networks compute, cannot hold or tell apart.

    Args:
        values: ``[N, …]``, of any dtype; NaN and infinity are left to other checks.
        what: name of the numbers, for the message.

    Raises:
        DataError: with the first column, and what to do.
    """
    if values.dtype not in (torch.float64, torch.int32, torch.int64) or not len(values):
        return
    exact = values.reshape(len(values), -1).double()
    lost = exact - exact.float().double()
    if bool((~torch.isfinite(lost) & torch.isfinite(exact)).any()):
        raise DataError(
            f"{what} up to {float(exact.abs().max()):.3g} are beyond what float32 holds: write them in a larger unit"
        )
    coarse = (lost.abs().amax(0) > 1e-3 * exact.std(0, correction=0)).nonzero()
    if len(coarse):
        own = exact[:, int(coarse[0])]
        raise DataError(
            f"{what} around {float(own.mean()):.6g} that differ by {float(own.std(correction=0)):.2g} are one number "
            "in float32: subtract their mean, and divide by their deviation"
        )


def _ragged(labels: Any) -> bool:
    """Whether labels are a list of rows of unequal lengths."""
    if not isinstance(labels, (list, tuple)) or not all(np.ndim(own) == 1 for own in labels):
        return False
    return len({len(own) for own in labels}) > 1


def _of_every_step(labels: Any, lengths: Any, count: int) -> Tensor:
    """Rows of labels, one label for each step of their sequence, with 0 after the ends.

    Raises:
        DataError: for a row that is longer or shorter than its sequence.
    """
    rows = [_numbers(own) for own in labels]
    if lengths is None:
        raise DataError("the labels have unequal lengths, and the sequences have none: say lengths=")
    for index, (row, steps) in enumerate(zip(rows, np.asarray(lengths).ravel().tolist(), strict=False)):
        if len(row) != steps and len(rows) == count:
            raise DataError(f"sample {index} has {steps} steps and {len(row)} labels: each step has one")
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _within(labels: Tensor, lengths: Any) -> Tensor:
    """Labels of every step, 0 after the ends, where they are ignored."""
    if lengths is None:
        return labels
    ends = torch.as_tensor(np.asarray(lengths) if not isinstance(lengths, Tensor) else lengths).reshape(-1, 1)
    return labels if len(ends) != len(labels) else labels.masked_fill(torch.arange(labels.shape[1]) >= ends, 0)


def _numbers(labels: Any) -> Tensor:
    """Labels of any kind as a tensor on the CPU, integers in 64 bits."""
    if isinstance(labels, Tensor):
        values = labels.detach().cpu()
    else:
        try:
            array = np.asarray(labels.to_numpy() if hasattr(labels, "to_numpy") else labels)
        except ValueError:
            raise DataError("labels should be one class number for each sample, these have unequal lengths") from None
        if array.dtype.kind not in "biuf":
            raise DataError(
                f"labels are class numbers, got {array.dtype}: np.unique(y, return_inverse=True)[1] numbers names"
            )
        values = torch.from_numpy(
            np.ascontiguousarray(array.astype(np.int64 if array.dtype.kind in "iu" else array.dtype))
        )
    if values.is_complex():
        raise DataError(f"targets are real numbers, got {values.dtype}")
    return values


def class_numbers(labels: Any) -> Tensor:
    """Convert labels to int64 ``[N]``.

    Raises:
        DataError: for real numbers, text, one-hot rows, and anything else that is no class number for each sample.
    """
    values = _numbers(labels)
    if values.is_floating_point() or values.is_complex():
        hint = "y.argmax(1) of one-hot rows" if values.dim() == 2 else "y.astype(int) or y.long() if they are classes"
        raise DataError(
            f"labels are class numbers (integers), got {values.dtype} of shape {list(values.shape)}: {hint}"
        )
    if values.dim() != 1:
        hint = "y[:, 0]" if values.dim() == 2 and values.shape[1] == 1 else "y.argmax(1) of one-hot rows"
        raise DataError(f"labels are one class number for each sample, [N], got shape {list(values.shape)}: {hint}")
    return values.to(torch.int64)


def _values(inputs: Any) -> tuple[Tensor, Tensor | None]:
    """The inputs as a tensor in memory, and the lengths of a list of unequal ones."""
    if isinstance(inputs, (list, tuple)) and len(inputs) and all(hasattr(each, "shape") for each in inputs):
        each = [_tensor(own) for own in inputs]
        if len({own.shape for own in each}) > 1:
            if any(own.dim() < 2 or own.shape[1:] != each[0].shape[1:] or not len(own) for own in each):
                raise ShapeError("a list of sequences has [T_i, F] (or [T_i, C, H, W]) with steps of one shape")
            lengths = torch.tensor([len(own) for own in each])
            return torch.nn.utils.rnn.pad_sequence(each, batch_first=True), lengths
        return torch.stack(each), None
    return _tensor(inputs), None


def _tensor(inputs: Any) -> Tensor:
    if isinstance(inputs, Tensor):
        values = inputs.detach()
        if values.layout is not torch.strided:
            raise DataError(f"arrays are dense, got a tensor of layout {values.layout}: pass X.to_dense()")
    else:
        try:
            array = np.asarray(inputs.to_numpy() if hasattr(inputs, "to_numpy") else inputs)
        except ValueError:
            raise DataError("a nested list should have rows of one length: make arrays of them for sequences") from None
        if array.dtype.kind not in "biuf":
            raise DataError(f"inputs are numbers, got an array of {array.dtype}")
        if array.dtype.kind == "u" and array.dtype != np.uint8:
            array = array.astype(np.float64 if array.dtype.itemsize > 2 else np.float32)
        values = torch.from_numpy(np.ascontiguousarray(array))
    if values.is_complex():
        raise DataError(f"inputs are real numbers, got {values.dtype}")
    if values.dtype == torch.bool:
        return values.to(torch.uint8)
    check_narrow(values, "inputs")
    return values if values.is_floating_point() or values.dtype == torch.uint8 else values.to(torch.float32)


def _decide(values: Tensor, sequences: bool | None) -> bool:
    shape, dims = list(values.shape), values.dim()
    if values.numel() == 0:
        raise DataError(f"there are no samples: the inputs have shape {shape}")
    if dims < 2:
        raise ShapeError(f"samples have features, [N, F]; got shape {shape} (X[:, None] for a single one)")
    if sequences is None:
        if dims == 3 or dims > 5:
            raise ShapeError(
                f"inputs of shape {shape} may be images without channels or sequences [N, T, F]: say sequences=True or "
                "sequences=False, as in data.arrays(X, y, sequences=True)"
            )
        return dims == 5
    if sequences and dims < 3:
        raise ShapeError(f"sequences are [N, T, F] or [N, T, C, H, W], got shape {shape}: X[..., None] for one feature")
    return sequences


def _check_count(values: Tensor, labels: Tensor) -> None:
    if len(values) == len(labels):
        return
    hint = ""
    if values.dim() > 2 and values.shape[1] == len(labels):
        hint = ": these look time first, and arrays are samples first, X.transpose(0, 1) (numpy: X.swapaxes(0, 1))"
    raise DataError(f"{len(values)} samples but {len(labels)} labels: each sample needs exactly one{hint}")


def _scale(values: Tensor, scale: float | None) -> float:
    if scale is None and values.dtype == torch.uint8 and int(values.max()) > 1:
        raise UserError(
            f"inputs are uint8 with values up to {int(values.max())}: say scale=1/255 for pixels, or scale=1 to keep "
            "them"
        )
    if scale is not None and not 0 < scale < float("inf"):
        raise DataError(f"scale must be positive and finite, got {scale}")
    return 1.0 if scale is None else float(scale)


def _check_lengths(lengths: Any, values: Tensor) -> Tensor:
    steps = torch.as_tensor(np.asarray(lengths) if not isinstance(lengths, Tensor) else lengths)
    if steps.is_floating_point() or steps.shape != (len(values),):
        raise ShapeError(
            f"lengths are one whole number for each of {len(values)} sequences, got {steps.dtype} {list(steps.shape)}"
        )
    if not 1 <= int(steps.min()) <= int(steps.max()) <= values.shape[1]:
        raise ShapeError(f"lengths must be 1 to {values.shape[1]}, got {int(steps.min())} to {int(steps.max())}")
    return steps.to(torch.int64)
