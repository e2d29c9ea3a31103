"""Where data files live."""

from __future__ import annotations

import os
from pathlib import Path

from spikelfp.errors import DataError

VARIABLE = "SPIKELFP_DATA"


def data_dir(explicit: str | Path | None = None) -> Path:
    """The data folder: ``explicit``, else the environment's ``$SPIKELFP_DATA``, else ``~/.cache/spikelfp``.

    The folder need not exist. Returns an absolute path; a data set lies in ``<folder>/<name>/``.

    Raises:
        DataError: when the path is there but is no folder.
    """
    chosen = explicit if explicit is not None else os.environ.get(VARIABLE) or Path("~/.cache/spikelfp")
    folder = Path(chosen).expanduser().absolute()
    # os.path, because a Path raises where a parent folder may not be searched
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise DataError(f"the data folder {folder} is a file: choose a folder with --data-dir or ${VARIABLE}")
    return folder
