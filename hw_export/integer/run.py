"""What a run of the simulator gives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hw_export.integer.counts import Counts

States = dict[str, Tensor]
"""The membranes of each layer of neurons by name, ``[B, …]``: after the last step and its reset.

On a chip with a synapse also its currents, by the name with ``.current`` behind it.
"""


@dataclass(frozen=True)
class Run:
    """One run.

    spikes: of each layer of neurons by name, how often each fired, int8 ``[T, B, …]`` (int32 event by event).
    states: to go on from, int32, int64 or, with a float decay, float32. counts: what was done for a sample, on average.
    saturated: for each layer at how many neuron-steps a membrane went beyond the range of its bits, or a current was
    wrapped or limited; event by event, at one or more events of the step. More than a few: the state is too narrow.
    """

    spikes: dict[str, Tensor]
    states: States
    counts: Counts
    saturated: dict[str, int]

    @property
    def outputs(self) -> Tensor:
        """Spikes of the last layer, ``[T, B, …]``."""
        return list(self.spikes.values())[-1]

    @property
    def classes(self) -> Tensor:
        """For each sample the neuron of the last layer that fired most, the first of equals, int64 ``[B]``."""
        return self.classes_at(None)

    def classes_at(self, mask: Tensor | None) -> Tensor:
        """The same from the steps that the boolean ``mask`` ``[T, B]`` is true for; ``None``: all steps."""
        spikes = self.outputs.flatten(2)
        if mask is not None:
            spikes = spikes.masked_fill(~mask.to(spikes.device).unsqueeze(-1), 0)
        return spikes.sum(0, dtype=torch.int64).argmax(1)
