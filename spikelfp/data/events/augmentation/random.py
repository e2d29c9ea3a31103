"""Random numbers of samples that depend on (seed, epoch, sample) alone: counters that are hashed, without a state."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.loader import generator

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
    """Independent random numbers for each of ``B`` samples, by what they are drawn for.

    keys: uint64 ``[B]``.
    """

    keys: NDArray[np.uint64]

    @classmethod
    def of(cls, seed: int, epoch: int, indices: NDArray[np.int64] | Sequence[int]) -> Draws:
        """Those of the samples ``indices`` ``[B]`` of a data set: output ``i`` of a SplitMix64 for each epoch."""
        base = np.uint64(generator("augment events", seed, epoch).initial_seed() & _MASK)
        counter = np.asarray(indices, np.int64).astype(np.uint64) + np.uint64(1)
        return cls(mix(base + counter * _WEYL))

    def bits(self, what: str) -> NDArray[np.uint64]:
        """Uniform 64-bit numbers ``[B]`` for ``what``; the same each time for the same."""
        name = int.from_bytes(hashlib.blake2b(what.encode(), digest_size=8).digest(), "little")
        return mix(self.keys + np.uint64(name | 1))

    def integers(self, what: str, low: int, high: int) -> NDArray[np.int64]:
        """Uniform whole numbers ``[B]`` from ``low`` to ``high``, both included; a bias of ``(high − low) / 2⁶³``."""
        return (self.bits(what) >> np.uint64(1)).astype(np.int64) % (high - low + 1) + low

    def coins(self, what: str) -> NDArray[np.bool_]:
        """True or false ``[B]`` with equal chance."""
        return (self.bits(what) >> np.uint64(63)).astype(np.bool_)
