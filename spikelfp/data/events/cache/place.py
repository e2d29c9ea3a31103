"""Where binned recordings are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spikelfp.errors import DataError, SaveError

VARIABLE = "SPIKELFP_CACHE"


def cache_dir(explicit: str | Path | None = None) -> Path:
    """The cache folder: ``explicit``, else the environment's ``$SPIKELFP_CACHE``, else ``~/.cache/spikelfp/events``.

    The folder need not exist. Returns an absolute path.

    Raises:
        DataError: when the path is there but is no folder.
    """
    chosen = explicit if explicit is not None else os.environ.get(VARIABLE) or Path("~/.cache/spikelfp/events")
    folder = Path(chosen).expanduser().absolute()
    # os.path, because a Path raises where a parent folder may not be searched
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise DataError(f"the cache folder {folder} is a file: choose a folder with --cache-dir or ${VARIABLE}")
    return folder


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns an error of the file system into one line that says what to do."""
    try:
        yield
    except SaveError:
        raise
    except OSError as error:
        raise SaveError(
            f"cannot write to the cache folder {folder}: {error.strerror or error}; "
            f"choose another with --cache-dir or ${VARIABLE}"
        ) from error
