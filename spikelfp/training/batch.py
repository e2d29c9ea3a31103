"""A batch as training and evaluation run it: cut into parts by samples, and into chunks by time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from spikelfp.data.sequences import Sequences
from spikelfp.functional.sparse import sample_slice, time_slice


@dataclass(frozen=True, eq=False)
class Batch:
    """What the network is shown and what is wanted of it.

    Attributes:
        sequence: ``[T, B, …]``, dense or as a coalesced sparse COO tensor.
        labels: of the samples, ``[B, …]``.
        mask: boolean ``[T, B]``, the steps that are rewarded and read out; ``None``: all of them.
    """

    sequence: Tensor
    labels: Tensor
    mask: Tensor | None = None

    @property
    def steps(self) -> int | Tensor:
        """How many steps count: of each sample ``[B]``, or one number without a mask."""
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
        size, more = divmod(len(self.labels), count)
        parts, start = [], 0
        for number in range(count):
            end = start + size + (number < more)
            parts.append(self.samples(start, end)._trimmed())
            start = end
        return parts

    def samples(self, start: int, end: int) -> Batch:
        """The samples ``start`` to ``end - 1``."""
        mask = None if self.mask is None else self.mask[:, start:end]
        return Batch(sample_slice(self.sequence, start, end), self.labels[start:end], mask)

    def chunks(self, steps: int | None) -> Iterator[Chunk]:
        """So many steps after the other, the last chunk what is left; the last step that counts ends it.

        ``None``, and a number that all steps fit in: the batch as it is.
        """
        if steps is None or len(self._counting) <= steps:
            yield Chunk(self if steps is None else self._trimmed(), counts=True, first=True, last=True)
            return
        total = len(self._counting)
        for start in range(0, total, steps):
            end = min(start + steps, total)
            mask = None if self.mask is None else self.mask[start:end]
            batch = replace(self, sequence=time_slice(self.sequence, start, end), mask=mask)
            yield Chunk(batch, any(self._counting[start:end]), start == 0, end == total)

    def _trimmed(self) -> Batch:
        if self.mask is None or not len(self.labels) or len(self._counting) == len(self.sequence):
            return self
        end = len(self._counting)
        return replace(self, sequence=time_slice(self.sequence, 0, end), mask=self.mask[:end])


class Chunk(NamedTuple):
    """Some steps of a batch; whether any of them counts, and whether it is the first or the last chunk of the batch."""

    batch: Batch
    counts: bool
    first: bool
    last: bool


def some(sequence: Tensor, mask: Tensor | None, chunk: int | None) -> tuple[Tensor, Tensor | None]:
    """The first samples of ``[T, B, …]``, as many as have together the steps of one chunk of all; with their mask.

    What is only looked at needs no more memory than what is trained then. Without chunks: all samples.
    """
    if chunk is None:
        return sequence, mask
    count = max(1, sequence.shape[1] * chunk // max(len(sequence), 1))
    return sample_slice(sequence, 0, count), None if mask is None else mask[:, :count]


def lengths_of(x: Tensor | Sequences) -> Tensor | None:
    """The lengths ``[B]`` of sequences that have unequal ones."""
    return x.lengths if isinstance(x, Sequences) else None


def mask_of(x: Tensor | Sequences) -> Tensor | None:
    """Boolean ``[T, B]``, false for padding; ``None`` without any."""
    return x.mask if isinstance(x, Sequences) else None


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
