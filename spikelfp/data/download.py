"""Checksummed downloads that either leave the complete file or leave everything as it was."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Generator, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from spikelfp.data.folder import VARIABLE
from spikelfp.errors import DataError, SaveError
from spikelfp.files import write_whole

_CHUNK = 1 << 16
_TIMEOUT = 30.0  # seconds without an answer


def fetch(urls: Sequence[str], target: Path, md5: str) -> Path:
    """Download ``target`` from the first of ``urls`` that delivers content with checksum ``md5``.

    The bytes go to a temporary file beside the target, which is moved into place once it is complete, checked
    and on the disk: a target that was there before stays until then. Progress is shown on stderr.

    Raises:
        DataError: when no address delivers the file; it says why, and which file to put into which folder.
        SaveError: when the folder cannot be written.
    """
    reasons = []
    for url in urls:
        try:
            with contextlib.closing(_chunks(url, target.name)) as chunks:
                first = next(chunks, b"")  # connect before anything is written
                _save(chain([first], chunks), target, md5)
            return target
        except DataError as error:
            reasons.append(f"{url}: {error}")
    raise DataError(
        f"cannot download {target.name} ({'; '.join(reasons)}). "
        f"Put the file {target.name} into the folder {target.parent.absolute()}"
    )


def _chunks(url: str, label: str) -> Generator[bytes, None, None]:
    """The content behind ``url`` piece by piece, with a progress bar; a failing network is a DataError."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, _progress() as progress:
            length = response.headers.get("Content-Length") or ""
            task = progress.add_task(label, total=int(length) if length.isdigit() else None)
            while chunk := response.read(_CHUNK):
                progress.update(task, advance=len(chunk))
                yield chunk
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise DataError(_reason(error)) from error


def _save(chunks: Iterable[bytes], target: Path, md5: str) -> None:
    def write(file: BinaryIO) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
        if digest.hexdigest() != md5:
            raise DataError(f"its md5 is {digest.hexdigest()}, expected {md5}")

    try:
        write_whole(target, write)
    except SaveError as error:
        raise SaveError(
            f"{error}; put the file there yourself or choose another folder with --data-dir or ${VARIABLE}"
        ) from error


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)
    return str(error) or type(error).__name__
