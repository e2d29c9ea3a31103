"""Labels and the names of the classes they stand for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikelfp.errors import DataError


def check_labels(
    labels: ArrayLike, recordings: int, class_names: Sequence[str] | None, where: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """``labels`` as int64 ``[N]`` and the names of the classes: ``"0"``, ``"1"``, … up to the largest label where they
    have none.

    Raises:
        DataError: for no recordings, another number of labels than of ``recordings``, labels that are no whole numbers
            or stand for no class, fewer than two classes, or two classes of one name.
    """
    given = np.asarray(labels)
    if recordings == 0:
        raise DataError(f"{where}: holds no recordings")
    if given.shape != (recordings,) or given.dtype.kind not in "iu":
        raise DataError(
            f"{where}: {recordings} recordings need as many whole labels, "
            f"got {given.dtype} of shape {list(given.shape)}"
        )
    whole = given.astype(np.int64)
    names = tuple(class_names) if class_names is not None else tuple(map(str, range(int(whole.max()) + 1)))
    if not 0 <= int(whole.min()) <= int(whole.max()) < len(names):
        first = int(np.argmax((whole < 0) | (whole >= len(names))))
        raise DataError(f"{where}: label {whole[first]} of recording {first} is outside 0 to {len(names) - 1}")
    if len(names) < 2:
        raise DataError(f"{where}: {len(names)} class, but there is nothing to learn with fewer than two")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where}: two classes are called {twice!r}")
    return whole, names
