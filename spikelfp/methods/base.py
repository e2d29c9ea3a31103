"""What a method of training is: where the credit of a batch comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from spikelfp.rules import Composite, Rule


class Method(ABC):
    """Fills ``p.grad`` of every parameter from one batch, for an optimiser that descends it.

    rule: how the layers send credit back while this method trains them.
    """

    name: str
    rule: Rule | Composite

    @abstractmethod
    def backward(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Backward pass from the outputs ``[T, B, C]``, as the mean over the batch.

        Returns what to watch, as scalar tensors (means over the batch).
        """
