"""Events in the order in which a chip treats them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class EventLists(NamedTuple):
    """For each sample the events of one step after another.

    source: the neuron or input each event comes from, int64, sample by sample, step by step, in order.
    lengths: how many events there are, int64 ``[B, T]``.
    """

    source: Tensor
    lengths: Tensor

    @staticmethod
    def of_counts(x: Tensor) -> EventLists:
        """Those of whole numbers ``x [T, B, K]`` from 0: an ``n`` is ``n`` events one after another."""
        counts = x.transpose(0, 1).to(torch.int64)
        place = counts.nonzero()
        source = place[:, 2].repeat_interleave(counts[place.unbind(1)])
        return EventLists(source, counts.sum(2))

    def after(self, steps: int) -> EventLists:
        """The same, ``steps`` steps later, with none before."""
        return EventLists(self.source, torch.nn.functional.pad(self.lengths, (steps, 0)))

    def padded(self) -> Tensor:
        """As ``[T, E, B]`` for the longest list ``E`` of a step; −1 where a list is shorter."""
        samples, steps = self.lengths.shape
        most = int(self.lengths.max()) if self.lengths.numel() else 0
        there = torch.arange(most, device=self.source.device) < self.lengths.unsqueeze(2)
        filled = torch.full((samples, steps, most), -1, dtype=torch.int64, device=self.source.device)
        filled[there] = self.source
        return filled.permute(1, 2, 0)
