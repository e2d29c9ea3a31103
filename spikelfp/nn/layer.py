"""What all layers share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import ShapeError
from spikelfp.rules import Epsilon, Rule

State = Any
"""What a layer remembers between calls: ``None`` at rest or for layers without memory."""


class Layer(torch.nn.Module):
    """A layer of sequences ``[T, B, …]``, time first, whose backward pass follows its ``rule`` (default LFP-ε).

    Layers keep no state between calls. ``layer(x)`` starts from rest; ``layer.run(x, state)`` starts from
    ``state`` and returns the output with the state to go on from.
    """

    rule: Rule

    def run(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Output and next state; for a layer without memory simply ``(self(x), None)``."""
        return self(x), None

    def _expect(self, x: Tensor, dims: int, layout: str) -> None:
        if x.dim() != dims:
            raise ShapeError(
                f"{type(self).__name__} takes {layout}, time first, got shape {tuple(x.shape)}; "
                "nn.constant(x, steps) turns a static batch into a sequence"
            )


def default_rule(rule: Rule | None) -> Rule:
    """``rule``, or LFP-ε."""
    return Epsilon() if rule is None else rule
