"""Content of files that is read once a process and shared by all that ask for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from spikelfp.errors import DataError

P = ParamSpec("P")
T = TypeVar("T")


class Version(NamedTuple):
    """A file as it is now: what is read of it is asked for by this, and is read again when it changes."""

    path: str
    size: int
    changed: int
    """Last change in ns."""


def version_of(path: str | Path) -> Version:
    """The file at ``path`` as it is now.

    Raises:
        DataError: where there is none, or it is not to be seen.
    """
    absolute = os.path.abspath(path)
    try:
        status = os.stat(absolute)
    except OSError as error:
        raise DataError(f"{absolute}: cannot be read ({error.strerror})") from error
    return Version(absolute, status.st_size, status.st_mtime_ns)


def once(most: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator: keep the ``most`` results that were asked for last; threads that ask for one that is being made wait
    for it instead of making it once more."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        kept = lru_cache(maxsize=most)(function)
        lock = threading.RLock()

        @wraps(function)
        def ask(*args: P.args, **kwargs: P.kwargs) -> T:
            with lock:
                return kept(*args, **kwargs)  # type: ignore[arg-type]

        return ask

    return decorate
