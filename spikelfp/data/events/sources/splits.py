"""Which recordings are held out for the test where a data set does not say."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spikelfp.data.events.sources.hashing import hash_of
from spikelfp.data.loader import generator
from spikelfp.errors import DataError

Indices = NDArray[np.int64]

FRACTION = 5  # one recording of so many is for the test


def stratified(labels: NDArray[np.int64], class_names: Sequence[str], key: str) -> tuple[Indices, Indices]:
    """(train, test), each rising: of a class with ``n`` recordings ``round(n / 5)`` are for the test, at least one and
    never all; which ones depends on ``key`` (a name, say) alone.

    Raises:
        DataError: for a class with a single recording, which it names.
    """
    random = generator("test part", key)
    test = np.zeros(len(labels), bool)
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        if len(members) == 0:
            continue
        _at_least_two(len(members), name)
        count = max(1, round(len(members) / FRACTION))
        test[members[torch.randperm(len(members), generator=random)[:count].numpy()]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


def by_name(names: Sequence[str], labels: NDArray[np.int64], class_names: Sequence[str]) -> tuple[Indices, Indices]:
    """(train, test), each rising: a recording is for the test when the hash of its class and of its name is a multiple
    of 5, so that files that are added or removed move no other.

    Every class has at least one recording in either part: in a class whose hashes leave a part empty, the recording of
    the smallest hash is for the test, or the one of the largest for the training.

    Raises:
        DataError: for a class with a single recording, which it names.
    """
    test = np.zeros(len(labels), bool)
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        if len(members) == 0:
            continue
        _at_least_two(len(members), name)
        hashes = [int(hash_of(_normal(name), _normal(names[member])), 16) for member in members]
        chosen = np.array([number % FRACTION == 0 for number in hashes])
        chosen[int(np.argmin(_ranks(hashes)))] |= not chosen.any()
        chosen[int(np.argmax(_ranks(hashes)))] &= not chosen.all()
        test[members[chosen]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


def _ranks(hashes: list[int]) -> list[int]:
    """The place of each hash, which is too long for numpy, among all."""
    order = {number: place for place, number in enumerate(sorted(hashes))}
    return [order[number] for number in hashes]


def _normal(name: str) -> str:
    """``name`` in one of the ways in which file systems write accents."""
    return unicodedata.normalize("NFC", name)


def _at_least_two(count: int, name: str) -> None:
    if count < 2:
        raise DataError(
            f"class {name!r} has a single recording: each needs two, one to train on and one to test with, "
            "or a part train and a part test of its own"
        )
