"""Files that are written whole or not at all."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch

from spikelfp.errors import SaveError


def write_whole(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a file beside ``path``, bring it to disk, then rename it to ``path``.

    Whatever goes wrong, what was at ``path`` before is still there, and nothing else is left behind. Raises
    :class:`~spikelfp.errors.SaveError` when the folder cannot be written or the disk is full.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(beside, "xb") as file:  # a name nobody can guess, and never through a link
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
            _sync_folder(path.parent)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise SaveError(
            f"cannot write {path}: {error.strerror or error}; what was there before is unchanged"
        ) from error


def write_text(path: str | Path, text: str) -> None:
    """``text`` as UTF-8 to ``path``, whole or not at all."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_tensors(path: str | Path, content: object) -> None:
    """``content`` in torch's format to ``path``, whole or not at all.

    It is brought into bytes first: torch's own writer answers a full disk with an error of another kind.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, lambda file: file.write(buffer.getbuffer()))


def _sync_folder(folder: Path) -> None:
    """Bring a rename to disk, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        except OSError:  # some network folders cannot; the rename itself has happened
            pass
        finally:
            os.close(handle)
