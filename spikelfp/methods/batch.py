"""A batch as methods learn from it: cut into parts by samples, and into chunks by time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from spikelfp.functional.sequence import sample_slice, time_slice


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples that the network is shown, and what is wanted of it.

    Attributes:
        sequence: ``[T, B, …]``, dense or as a coalesced sparse COO tensor.
        targets: of the samples, ``[B, …]``.
        mask: boolean ``[T, B]``, the steps that are rewarded and read out; ``None``: all of them. The others change
            nothing, as if they were not there: means are over a sample's own steps, then over the batch.
        share: what the mean over these samples counts. It is the part of a larger batch that they are, so that updates
            add up to that of the whole; for ``reduction="sum"`` it is multiplied by the size of the whole.
        steps: of a chunk, the steps of the whole sequences that count, ``[B]`` or one number for all; ``None`` for
            whole sequences. Updates of the chunks add up, and so do the means that are watched.
        indices: int64 ``[B]``, numbers of the samples in the data set that the training set was taken of; ``None``
            where they are not known, as for a ``DataLoader``.
    """

    sequence: Tensor
    targets: Tensor
    mask: Tensor | None = None
    share: float = 1.0
    steps: Tensor | int | None = None
    indices: Tensor | None = None

    @property
    def counted(self) -> Tensor | int:
        """How many of the steps here count: of each sample ``[B]``, or one number without a mask."""
        return len(self.sequence) if self.mask is None else self.mask.sum(0)

    @cached_property
    def _counting(self) -> list[bool]:
        """Whether any sample counts at each step up to the last where one does; waits for the device."""
        if self.mask is None:
            return [True] * len(self.sequence)
        counting: list[bool] = self.mask.any(1).tolist()
        while counting and not counting[-1]:
            counting.pop()
        return counting

    def parts(self, count: int) -> list[Batch]:
        """So many parts, some of which may have no samples; each ends with the last step that counts in it."""
        if count == 1:
            return [self]
        size, more = divmod(len(self.targets), count)
        parts, start = [], 0
        for number in range(count):
            end = start + size + (number < more)
            parts.append(self.samples(start, end)._trimmed())
            start = end
        return parts

    def samples(self, start: int, end: int) -> Batch:
        """The samples ``start`` to ``end - 1``."""
        return replace(
            self,
            sequence=sample_slice(self.sequence, start, end),
            targets=self.targets[start:end],
            mask=None if self.mask is None else self.mask[:, start:end],
            steps=self.steps[start:end] if isinstance(self.steps, Tensor) else self.steps,
            indices=None if self.indices is None else self.indices[start:end],
        )

    def chunks(self, steps: int | None) -> Iterator[Chunk]:
        """So many steps after the other, the last chunk what is left; the last step that counts ends it.

        ``None``, and a number that all steps fit in: the batch as it is.
        """
        if steps is None or len(self._counting) <= steps:
            yield Chunk(self if steps is None else self._trimmed(), counts=True, start=0, last=True)
            return
        total = len(self._counting)
        for start in range(0, total, steps):
            end = min(start + steps, total)
            mask = None if self.mask is None else self.mask[start:end]
            sequence = time_slice(self.sequence, start, end)
            batch = replace(self, sequence=sequence, mask=mask, steps=self.counted)
            yield Chunk(batch, any(self._counting[start:end]), start, end == total)

    def _trimmed(self) -> Batch:
        if self.mask is None or not len(self.targets) or len(self._counting) == len(self.sequence):
            return self
        end = len(self._counting)
        return replace(self, sequence=time_slice(self.sequence, 0, end), mask=self.mask[:end])


class Chunk(NamedTuple):
    """Some steps of a batch.

    Attributes:
        batch: of these steps.
        counts: whether any of them counts.
        start: the step of the batch that is the first one here.
        last: whether the batch ends here.
    """

    batch: Batch
    counts: bool
    start: int
    last: bool


def some(sequence: Tensor, mask: Tensor | None, chunk: int | None) -> tuple[Tensor, Tensor | None]:
    """The first samples of ``[T, B, …]``, as many as have together the steps of one chunk of all; with their mask.

    What is only looked at needs no more memory than what is trained then. Without chunks: all samples.
    """
    if chunk is None:
        return sequence, mask
    count = max(1, sequence.shape[1] * chunk // max(len(sequence), 1))
    return sample_slice(sequence, 0, count), None if mask is None else mask[:, :count]


def counting_steps(sequence: Tensor, lengths: Tensor | None, last: int | None) -> Tensor | None:
    """Boolean ``[T, B]``, the ``last`` steps (``None``: all) of each sequence of ``lengths`` ``[B]`` (``None``: ``T``).

    ``None`` where all steps count.
    """
    steps, samples = sequence.shape[:2]
    if lengths is None:
        if last is None or last >= steps:
            return None
        lengths = torch.full((samples,), steps, device=sequence.device)
    number = torch.arange(steps, device=lengths.device).unsqueeze(1)
    mask: Tensor = number < lengths
    return mask if last is None else mask & (number >= lengths - last)


def step_weights(mask: Tensor, steps: Tensor | int | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weigh steps ``[T, B]`` for a mean over each sample's own steps, then over the samples.

    The weights are ``mask[t, b] / (steps[b] · B)``; those of all chunks add up to 1.

    Args:
        mask: boolean ``[T, B]``, the steps that count.
        steps: ``[B]`` (or one number), how many of them the whole sequences have of which these steps are a part;
            ``None``: they are the whole.
        dtype: of the weights.
    """
    own = mask.sum(0) if steps is None else steps
    return mask.to(dtype) / (own * mask.shape[1])


def mean_over_steps(values: Tensor, mask: Tensor | None = None, steps: Tensor | int | None = None) -> Tensor:
    """Take the mean of ``values`` ``[T, B, …]`` over a sample's own steps, then over the samples, as a scalar.

    Args:
        values: of each step and sample.
        mask: boolean ``[T, B]``, the steps that count; ``None``: all.
        steps: of whole sequences of which these steps are a part: the share of these steps in the mean over the whole
            is taken, so that those of all chunks add up to it.
    """
    if mask is not None:
        return (values.flatten(2).mean(-1) * step_weights(mask, steps, values.dtype)).sum()
    mean = values.mean()
    return mean if steps is None else mean * (len(values) / steps)
