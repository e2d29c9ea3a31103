"""The base class of augmentations, the changes that they make, and the random numbers that they draw.

Random numbers depend on (seed, epoch, sample) alone: they are hashed counters, without a state.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.settings import parse, text_of
from spikelfp.data.loader import generator
from spikelfp.registry import Registry

_MASK = 2**64 - 1
_WEYL, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014, doi 10.1145/2714064.2660195) for each of ``numbers``."""
    z = numbers
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True, eq=False)
class Draws:
    """Independent random numbers for each of ``B`` samples, one for each purpose.

    Attributes:
        keys: uint64 ``[B]``, one for each sample.
    """

    keys: NDArray[np.uint64]

    @classmethod
    def of(cls, seed: int, epoch: int, indices: NDArray[np.int64] | Sequence[int]) -> Draws:
        """Make the random numbers of some samples: sample ``i`` takes the output ``i`` of the SplitMix64 of the epoch.

        Args:
            seed: of the run.
            epoch: its number.
            indices: numbers ``i`` of the samples ``[B]``.
        """
        base = np.uint64(generator("augment events", seed, epoch).initial_seed() & _MASK)
        counter = np.asarray(indices, np.int64).astype(np.uint64) + np.uint64(1)
        return cls(mix(base + counter * _WEYL))

    def bits(self, purpose: str) -> NDArray[np.uint64]:
        """Uniform 64-bit numbers ``[B]``, equal each time for an equal ``purpose``."""
        name = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")
        return mix(self.keys + np.uint64(name | 1))

    def integers(self, purpose: str, low: int, high: int) -> NDArray[np.int64]:
        """Uniform whole numbers ``[B]`` from ``low`` to ``high``, with a bias of ``(high − low) / 2⁶³``."""
        return (self.bits(purpose) >> np.uint64(1)).astype(np.int64) % (high - low + 1) + low

    def coins(self, purpose: str) -> NDArray[np.bool_]:
        """True or false ``[B]`` with equal chance."""
        return (self.bits(purpose) >> np.uint64(63)).astype(np.bool_)


CHANGE = np.dtype(
    [
        ("drop", "<f8"),
        ("jitter", "<i8"),
        ("mirror", "u1"),
        ("upside_down", "u1"),
        ("swap", "u1"),
        ("dx", "<i8"),
        ("dy", "<i8"),
        ("dt", "<i8"),
        ("wrap", "u1"),
        ("noise", "<f8"),
    ],
    align=True,
)
"""Changes of one sample, in this order; zeros change nothing.

* drop: each event is lost with this probability;
* jitter: each event moves by ``−jitter … jitter`` columns and rows, with equal chance for every place;
* mirror: columns ``x`` become ``W − 1 − x``; upside_down: rows likewise; swap: polarities 0 and 1 change places;
* dx, dy: pixels to the right and down;
* dt: steps later; with ``wrap`` events that leave the sequence at one end come in at the other;
* noise: each element of each step gets one event more with this probability.

On one row, such as a line of channels, nothing moves up or down. Events that leave the sensor or the sequence are lost,
and an element holds at most ``levels`` events.
"""

Changes = NDArray[Any]
"""Changes of ``B`` samples: ``[B]`` of dtype :data:`CHANGE`."""


class Augmentation(ABC):
    """Draws a change of each sample; its dataclass fields are its parameters.

    Attributes:
        aspect: the property of a sample that it draws. No two in a list draw the same, so their order does not matter.
    """

    aspect: ClassVar[str]

    @abstractmethod
    def draw(self, changes: Changes, draws: Draws) -> None:
        """Enter the drawn values into ``changes`` ``[B]``.

        Args:
            changes: of dtype :data:`CHANGE`, which is written to.
            draws: random numbers of the samples.
        """

    def check(self, sensor: Sensor) -> None:  # noqa: B027  (most fit every sensor)
        """Check that it makes sense for a sensor.

        Raises:
            UserError: if it does not.
        """

    def parameters(self) -> dict[str, Any]:
        """Return all that it depends on besides the draws, as plain data."""
        return dict(vars(self))


augmentations: Registry[type[Augmentation]] = Registry("augmentation of events")
"""Augmentations by the name they are asked for; register one to make it known to :func:`parse_augmentations`."""


def parse_augmentations(text: str) -> tuple[Augmentation, ...]:
    """Make augmentations from text.

    Args:
        text: such as ``"shift=2,flip-x,drop=0.1,roll-time=1,polarity"``.

    Returns:
        The augmentations; none for an empty text.

    Raises:
        UnknownNameError: for a name that is not registered.
        UserError: for parameters that are missing, too many, not of their type or out of range.
    """
    return parse(text, augmentations)


def augmentations_text(chosen: Iterable[Augmentation]) -> str:
    """Write augmentations as text, from which :func:`parse_augmentations` makes them again.

    Args:
        chosen: the augmentations.

    Returns:
        The text; empty for none.

    Raises:
        UserError: for an augmentation of a class that is not registered.
    """
    return text_of(chosen, augmentations)
