"""Where the files of a data set lie."""

from __future__ import annotations

import os
from pathlib import Path

from spikelfp.data.download import data_dir as data_folder
from spikelfp.errors import DataError


def dataset_folder(data_dir: Path | None, *names: str) -> Path:
    """The first folder ``<data_dir>/<name>`` that is there; the one of the first name where none is."""
    root = data_folder(data_dir)
    return next((root / name for name in names if os.path.isdir(root / name)), root / names[0])


def user_path(text: str, data_dir: Path | None) -> Path:
    """The file or folder that a user means by ``text``: from ``data_dir``, if one is named, else from the folder one is
    in, else from the usual data folder.

    Returns an absolute path.

    Raises:
        DataError: where there is none.
    """
    if not text:
        raise DataError("the name of a file or folder is missing behind the colon")
    here, there = Path.cwd(), data_folder(data_dir)
    named = Path(text).expanduser()
    candidates = [folder / named for folder in ((here, there) if data_dir is None else (there, here))]
    for candidate in candidates:
        if os.path.exists(candidate):
            return candidate
    hint = "" if named.is_absolute() else "; name the folder it lies in with --data-dir"
    raise DataError(f"there is no {' and no '.join(map(str, dict.fromkeys(candidates)))}{hint}")
