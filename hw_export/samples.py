"""The inputs an export is checked with."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikelfp import nn
from spikelfp.errors import DataError, ShapeError, UserError
from spikelfp.files import write_whole
from spikelfp.untrusted import load_arrays


@dataclass(frozen=True, eq=False)
class Samples:
    """``B`` labelled inputs, float32, of one sequence length.

    inputs: ``[B, …]`` shown at each of ``steps`` steps, or, when not ``static``, ``[T, B, …]``.
    labels: int64 ``[B]``. scale: σ such that ``inputs · σ`` should be integers, as far as the source tells;
    ``None``: unknown. mask: boolean ``[T, B]``, the steps whose outputs tell the class (not the padding of shorter
    sequences, say); ``None``: all of them.
    """

    inputs: Tensor
    labels: Tensor
    steps: int
    static: bool = True
    scale: int | None = None
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        batch_axis = 0 if self.static else 1
        if self.inputs.dim() <= batch_axis or len(self.labels) != self.inputs.shape[batch_axis]:
            raise ShapeError(f"{len(self.labels)} labels do not fit inputs of shape {tuple(self.inputs.shape)}")
        if len(self.labels) < 1:
            raise UserError("an export needs at least one sample to be checked with")
        if not self.static and len(self.inputs) != self.steps:
            raise ShapeError(f"the sequences have {len(self.inputs)} steps, expected {self.steps}")
        mask = self.mask
        if mask is not None and (mask.dtype != torch.bool or mask.shape != (self.steps, len(self.labels))):
            raise ShapeError(
                f"the mask of {len(self)} sequences of {self.steps} steps is {mask.dtype} of shape {tuple(mask.shape)}"
            )
        if not torch.isfinite(self.inputs).all():
            raise UserError("the samples hold NaN or infinity")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample at one step."""
        return tuple(self.inputs.shape[1 if self.static else 2 :])

    def __len__(self) -> int:
        return len(self.labels)

    def sequence(self) -> Tensor:
        """``[T, B, …]``, as a network takes it."""
        return nn.constant(self.inputs, self.steps) if self.static else self.inputs

    def first(self, count: int) -> Samples:
        """The first ``count`` samples, or all."""
        if count < 1:
            raise UserError(f"the number of samples must be at least 1, got {count}")
        inputs = self.inputs[:count] if self.static else self.inputs[:, :count]
        mask = None if self.mask is None else self.mask[:, :count]
        return replace(self, inputs=inputs, labels=self.labels[:count], mask=mask)

    def rounded(self, scale: int) -> Samples:
        """The inputs rounded to multiples of ``1 / scale``."""
        if scale < 1:
            raise UserError(f"the scale of the inputs must be a whole number of at least 1, got {scale}")
        return replace(self, inputs=(self.inputs * scale).round() / scale, scale=scale)

    def integers(self) -> Samples | None:
        """The inputs times ``scale``, rounded; ``None`` where they are no integers, to within rounding, or lie outside
        [0, 1], for which the bounds on integer sums are made.
        """
        if self.scale is None or self.inputs.min() < 0 or self.inputs.max() > 1:
            return None
        scaled = self.inputs * self.scale
        whole = scaled.round()
        if (scaled - whole).abs().max() > 1e-6 * self.scale:
            return None
        return replace(self, inputs=whole)


def save_samples(path: str | Path, samples: Samples) -> None:
    """Write ``samples`` to an ``.npz`` file; inputs that are small integers take a byte each."""
    inputs = samples.inputs.numpy()
    for kind in (np.uint8, np.int8, np.int16):
        if np.array_equal(inputs, inputs.astype(kind)):
            inputs = inputs.astype(kind)
            break
    buffer = io.BytesIO()
    content: dict[str, Any] = {"inputs": inputs, "labels": samples.labels.numpy()}
    content |= {"steps": samples.steps, "static": samples.static}
    if samples.mask is not None:
        content["mask"] = samples.mask.numpy()
    np.savez_compressed(buffer, **content)
    write_whole(path, lambda file: file.write(buffer.getvalue()))


def load_samples(path: str | Path) -> Samples:
    """Read a file of :func:`save_samples`; :class:`~spikelfp.errors.DataError` when that cannot be done."""
    if not Path(path).exists():
        raise DataError(f"there are no samples at {path}")
    content = load_arrays(path)
    try:
        inputs, labels = (torch.from_numpy(content[key]) for key in ("inputs", "labels"))
        mask = torch.from_numpy(content["mask"]) if "mask" in content else None
        return Samples(inputs.float(), labels, int(content["steps"]), bool(content["static"]), mask=mask)
    except Exception as error:  # arrays that are missing, or of other shapes and types
        raise DataError(f"{path} holds no readable samples: {str(error).splitlines()[0]}") from None
