"""Values that were read from a file, checked one by one: each refusal names the file and the value's place in it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor

from spikelfp.errors import CheckpointError, UserError
from spikelfp.terminal import brief, plain

MOST = 2**53
"""Largest number of anything that is counted."""


class Field:
    """A value of a file.

    Args:
        source: the file.
        name: place of the value in it, such as ``position.epoch``; empty for the whole content.
        value: as it was read.
        error: class of what is raised.
    """

    def __init__(self, source: Any, name: str, value: Any, error: type[UserError] = CheckpointError) -> None:
        self.source, self.name, self.value, self.error = source, name, value, error

    def refuse(self, wanted: str, found: str | None = None) -> NoReturn:
        """Raise the error for this value, which should be what is ``wanted``."""
        what = brief(self.value) if found is None else found
        raise self.error(f"{self.source} is damaged: {self.name or 'its content'} is {what}, expected {wanted}")

    def at(self, key: Any) -> Field:
        """Go to a value inside, by name or number, which must be there."""
        inside = f"{self.name}[{key}]" if isinstance(self.value, list | tuple) else self._named(key)
        return Field(self.source, inside, self.value[key], self.error)

    def _named(self, key: Any) -> str:
        name = plain(str(key))[:120]
        return f"{self.name}.{name}" if self.name else name

    def flag(self) -> bool:
        """Return it, if it is true or false."""
        if type(self.value) is not bool:
            self.refuse("true or false")
        return self.value

    def text(self, among: Collection[str] | None = None) -> str:
        """Return it, if it is a text, one of those ``among`` which it may be."""
        if type(self.value) is not str or (among is not None and self.value not in among):
            self.refuse("text" if among is None else f"one of {', '.join(among)}")
        return self.value

    def whole(self, low: int = 0, high: int = MOST) -> int:
        """Return it, if it is a whole number within ``low … high``."""
        if type(self.value) is not int or not low <= self.value <= high:
            self.refuse(f"a whole number of at least {low}" if high == MOST else f"a whole number from {low} to {high}")
        return self.value

    def number(self, low: float = -math.inf, high: float = math.inf, *, finite: bool = True) -> float:
        """Return it, if it is a number within ``low … high``, and finite unless said otherwise."""
        value = self.value
        fits = type(value) in (int, float) and (not finite or (abs(value) <= 1e308 and not math.isnan(value)))
        if not fits or value < low or value > high:
            what = "a finite number" if finite else "a number"
            bounds = "" if (low, high) == (-math.inf, math.inf) else f" from {low:g} to {high:g}"
            self.refuse(what + (f" of at least {low:g}" if high == math.inf and bounds else bounds))
        return float(value)

    def mapping(self, needed: Collection[str] = (), known: Collection[str] | None = None) -> dict[Any, Any]:
        """Return it, if it is values by name: those that are ``needed``, and no other than the ``known`` ones."""
        if not isinstance(self.value, dict):
            self.refuse("values by name")
        for name in needed:
            if name not in self.value:
                raise self.error(f"{self.source} is damaged: {self._named(name)} is missing")
        extra = [] if known is None else [name for name in self.value if name not in known]
        if extra:
            raise self.error(f"{self.source} is damaged: {self._named(extra[0])} is not known to this version")
        return self.value

    def items(self) -> Iterator[tuple[str, Field]]:
        """Go through values by name, each name a text."""
        for name in self.mapping():
            if type(name) is not str:
                raise self.error(f"{self.source} is damaged: {self.name or 'its content'} has the key {brief(name)}")
            yield name, self.at(name)

    def sequence(self, length: int | None = None, kind: type[list[Any]] | type[tuple[Any, ...]] = list) -> list[Field]:
        """Return its values, if it is a list (or another ``kind``) of them, ``length`` long."""
        if type(self.value) is not kind or (length is not None and len(self.value) != length):
            self.refuse(f"a {kind.__name__}" + ("" if length is None else f" of {length} values"))
        return [self.at(i) for i in range(len(self.value))]

    def tensor(self, shape: Collection[int] | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Return it, if it is a tensor of this shape and dtype whose elements lie apart and are finite."""
        value = self.value
        if (
            not isinstance(value, Tensor)
            or (shape is not None and tuple(value.shape) != tuple(shape))
            or (value.dtype != dtype if dtype is not None else value.is_complex())
        ):
            kind = "a tensor" if dtype is None else f"a tensor of {dtype}"
            self.refuse(kind if shape is None else f"{kind} and shape {list(shape)}")
        if not is_finite(value):
            self.refuse("finite numbers", "NaN or infinite in places")
        return value


def is_finite(value: Tensor) -> bool:
    """Tell whether all numbers of a tensor are finite, at the speed of reading them once."""
    if value.is_complex():
        value = torch.view_as_real(value.resolve_conj())
    if not value.is_floating_point() or value.numel() == 0:
        return True
    if value.element_size() == 1:
        value = value.float()
    low, high = torch.aminmax(value)  # NaN comes through
    return bool(torch.isfinite(low) & torch.isfinite(high))
