"""One thing a chip cannot hold: where, what, and by how much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """A limit that a network breaks.

    layer: name of the layer, ``None`` for the whole network. what: the quantity. found: its value. allowed: what the
    chip takes, in words. by: how far ``found`` lies beyond it, ``None`` where it is no number. advice: what to do.
    """

    layer: str | None
    what: str
    found: object
    allowed: str
    by: int | float | None = None
    advice: str = ""

    def __str__(self) -> str:
        where = "the network" if self.layer is None else f"layer {self.layer!r}"
        excess = "" if self.by is None else f" (by {_number(self.by)})"
        advice = f": {self.advice}" if self.advice else ""
        return f"{where}: {self.what} {_number(self.found)}, {self.allowed}{excess}{advice}"


def above(layer: str | None, what: str, found: int, most: int, advice: str = "") -> Iterator[Violation]:
    """A violation where ``found`` is more than ``most``."""
    if found > most:
        yield Violation(layer, what, found, f"at most {_number(most)}", found - most, advice)


def below(layer: str | None, what: str, found: int, least: int, advice: str = "") -> Iterator[Violation]:
    """A violation where ``found`` is less than ``least``."""
    if found < least:
        yield Violation(layer, what, found, f"at least {_number(least)}", least - found, advice)


def _number(value: object) -> str:
    """Whole numbers with a comma every three digits, floats in six digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)
