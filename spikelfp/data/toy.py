"""Points in the plane that LFP v3 learns first (Fig. 3, A.6.1): blobs, circles, swirls. No files, no network.

The paper averages over five draws of each set, whose generator it does not seed. Here a draw has a number, and the test
points of a draw are drawn after its training points. The points are not standardised.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray

from spikelfp.data.dataset import ArrayDataset, DataSplits, datasets
from spikelfp.errors import UserError
from spikelfp.options import option
from spikelfp.scalars import as_whole

ARMS, TURN, JITTER = 3, 4.0, 0.2
"""Arms of the swirl, the angle by which each turns on its way outwards, and the deviation of angles (radians)."""

_LARGEST = 2**32 - 1
"""Largest seed that numpy's generator takes."""

Draw = Annotated[int, option("number of the draw of a toy data set", within="[0, ∞)")]
"""Parameter ``draw``."""


def _splits(name: str, points: NDArray[Any], labels: NDArray[Any], train: int, names: tuple[str, ...]) -> DataSplits:
    """Split points ``[N, 2]`` in their order: the first ``train`` of them are for training."""
    x, y = torch.tensor(points, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)
    own, test = (ArrayDataset(x[part], y[part], classes=len(names)) for part in (slice(train), slice(train, None)))
    return DataSplits(name, own, test, outputs=len(names), shape=(2,), names=names)


def _checked(draw: Any) -> int:
    number = as_whole(draw)
    if number is None or not 0 <= number <= _LARGEST:
        raise UserError(f"draw is the number of a draw, a whole number from 0 to {_LARGEST}, got {draw!r}")
    return number


@datasets.register("blobs")
def blobs(data_dir: Path | None = None, *, draw: Draw = 0) -> DataSplits:
    """Draw two round clouds around (1, 1) and (2, 2), deviation 0.2: 1000 training and 100 test points (v3, A.6.1).

    Args:
        data_dir: not used.
        draw: number of the draw.

    Raises:
        UserError: for a draw that is no whole number from 0 on.
    """
    from sklearn.datasets import make_blobs  # scikit-learn takes long to import

    points, labels, *_ = make_blobs(1100, centers=[[1, 1], [2, 2]], cluster_std=0.2, random_state=_checked(draw))
    return _splits("blobs", points, labels, 1000, ("lower left", "upper right"))


@datasets.register("circles")
def circles(data_dir: Path | None = None, *, draw: Draw = 0) -> DataSplits:
    """Draw a ring of radius 1 around one of radius 0.05, deviation 0.2: 10,000 training and 500 test points (A.6.1).

    Args:
        data_dir: not used.
        draw: number of the draw.

    Raises:
        UserError: for a draw that is no whole number from 0 on.
    """
    from sklearn.datasets import make_circles

    points, labels = make_circles(10_500, noise=0.2, factor=0.05, random_state=_checked(draw))
    return _splits("circles", points, labels, 10_000, ("outer", "inner"))


@datasets.register("swirls")
def swirls(data_dir: Path | None = None, *, draw: Draw = 0) -> DataSplits:
    """Draw a swirl of three arms, one a class: 10,000 training and 500 test points.

    A.6.1 has no formula for it. Here a point of arm ``k`` is ``r (cos φ, sin φ)``, with ``r`` uniform in [0, 1] and
    ``φ = 2π k / 3 + 4 r + ξ``, ``ξ`` normal of deviation 0.2. Near the middle the arms overlap.

    Args:
        data_dir: not used.
        draw: number of the draw.

    Raises:
        UserError: for a draw that is no whole number from 0 on.
    """
    chance = np.random.default_rng(_checked(draw))
    labels = chance.integers(ARMS, size=10_500)
    radius = chance.uniform(size=10_500)
    angle = 2 * np.pi / ARMS * labels + TURN * radius + JITTER * chance.standard_normal(10_500)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return _splits("swirls", points, labels, 10_000, tuple(f"arm {arm}" for arm in range(ARMS)))
