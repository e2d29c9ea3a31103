"""What a target offers to an export."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch

from spikelfp.registry import Registry


class Target(ABC):
    """Writes a network in the form of one chip or tool.

    summary: one line for ``hw-export targets``. bits: widths of weights it takes, 32 standing for floats.
    """

    summary: ClassVar[str]
    bits: ClassVar[tuple[int, ...]]

    @abstractmethod
    def write(self, net: torch.nn.Module, folder: Path, input_shape: tuple[int, ...]) -> dict[str, Any]:
        """Write the files of ``net`` into ``folder``; returns what the manifest should say of them."""


TARGETS: Registry[Target] = Registry("target")
