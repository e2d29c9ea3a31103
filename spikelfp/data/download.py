"""Data folder, and downloads of known files into it: they leave the complete file, or everything as it was.

Nothing between here and the server is trusted: addresses are https, to the last redirect, and a file must have the size
and the SHA-256 that are written down here. Nothing beyond that size is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn

from spikelfp.errors import DataError, SaveError
from spikelfp.files import write_whole
from spikelfp.terminal import bar_text, plain, progress

VARIABLE = "SPIKELFP_DATA"


def data_dir(explicit: str | Path | None = None) -> Path:
    """Choose the data folder: ``explicit``, else the environment's ``$SPIKELFP_DATA``, else ``~/.cache/spikelfp``.

    The folder need not exist. A data set lies in ``<folder>/<name>/``.

    Args:
        explicit: the folder, if it was given.

    Returns:
        An absolute path.

    Raises:
        DataError: when the path is there but is no folder.
    """
    chosen = explicit if explicit is not None else os.environ.get(VARIABLE) or Path("~/.cache/spikelfp")
    folder = Path(chosen).expanduser().absolute()
    # os.path, because a Path raises where a parent folder may not be searched
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise DataError(f"the data folder {folder} is a file: choose a folder with --data-dir or ${VARIABLE}")
    return folder


_CHUNK = 1 << 16
_TIMEOUT = 30.0
"""Seconds without a byte."""
_PATIENCE = 60.0
"""Seconds until the answer must have begun, and after which it is judged by its speed."""
_SLOWEST = 2048
"""Bytes per second, on average, of a download that is still worth waiting for."""


@dataclass(frozen=True)
class Original:
    """File as its authors published it.

    Attributes:
        sha256: digest in hexadecimal.
        size: bytes.
    """

    sha256: str
    size: int


def fetch(urls: Sequence[str], target: Path, original: Original) -> Path:
    """Download a file from the first address that delivers the original.

    The bytes go to a temporary file beside the target. It is moved into place once it is complete, checked and on the
    disk, and a target that was there before stays until then. Progress is shown on stderr.

    Args:
        urls: addresses, tried in this order.
        target: path of the file.
        original: size and digest that it must have.

    Returns:
        The target.

    Raises:
        DataError: when no address delivers the file; it says why, and which file to put into which folder.
        SaveError: when the folder cannot be written.
    """
    reasons = []
    for url in urls:
        try:
            with contextlib.closing(_chunks(url, target.name, original.size)) as chunks:
                first = next(chunks, b"")  # connect before anything is written
                _save(chain([first], chunks), target, original)
            return target
        except DataError as error:
            reasons.append(f"{url}: {error}")
    raise DataError(
        f"cannot download {target.name} ({'; '.join(reasons)}). "
        f"Put the file {target.name} into the folder {target.parent.absolute()}"
    )


def _chunks(url: str, label: str, size: int) -> Generator[bytes, None, None]:
    """Content of an address piece by piece, with a progress bar; a network failure is a DataError."""
    try:
        with _opened(url) as response, progress(*_columns(), stays=True) as bar:
            length = response.headers.get("Content-Length") or ""
            if length.isdecimal() and int(length) != size:
                raise DataError(f"offers {int(length)} bytes, expected {size}")
            task, since, received = bar.add_task(plain(label), total=size), time.monotonic(), 0
            while chunk := response.read1(_CHUNK):  # what is there; read would wait for all of a chunk
                received, passed = received + len(chunk), time.monotonic() - since
                if received > size:
                    raise DataError(f"sends more than the {size} bytes of the file")
                if passed > _PATIENCE and received < _SLOWEST * passed:
                    raise DataError(f"too slow: {received} of {size} bytes in {passed:.0f} s")
                bar.update(task, advance=len(chunk))
                yield chunk
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise DataError(_reason(error)) from error


@contextlib.contextmanager
def _opened(url: str) -> Iterator[Any]:
    """The answer to a request, which must have begun within :data:`_PATIENCE` seconds.

    A server that sends its header byte by byte, and a look-up of a name, have no time limit of their own: they wait in
    a thread that is left behind.
    """
    _check_scheme(url)
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    left = threading.Event()

    def ask() -> None:
        try:
            answer: Any = urllib.request.build_opener(_OnlyHttps).open(url, timeout=_TIMEOUT)
        except BaseException as error:
            answer = error
        answers.put(answer)
        if left.is_set() and not isinstance(answer, BaseException):
            answer.close()

    threading.Thread(target=ask, daemon=True, name="download").start()
    try:
        answer = answers.get(timeout=_PATIENCE)
    except BaseException as error:
        left.set()
        if isinstance(error, queue.Empty):
            raise DataError(f"no answer within {_PATIENCE:.0f} s") from None
        raise
    if isinstance(answer, BaseException):
        raise answer
    with answer:
        yield answer


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme != "https":
        raise DataError(f"{url} is no https address, so anybody on the way could change what arrives")


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirects as usual, but never away from https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _save(chunks: Iterable[bytes], target: Path, original: Original) -> None:
    def write(file: BinaryIO) -> None:
        digest, size = hashlib.sha256(), 0
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
        if size != original.size:
            raise DataError(f"ended after {size} of {original.size} bytes")
        if digest.hexdigest() != original.sha256:
            raise DataError(f"its sha256 is {digest.hexdigest()}, expected {original.sha256}")

    try:
        write_whole(target, write)
    except SaveError as error:
        raise SaveError(
            f"{error}; put the file there yourself or choose another folder with --data-dir or ${VARIABLE}"
        ) from error


def _columns() -> tuple[Any, ...]:
    return (bar_text("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)
    return str(error) or type(error).__name__
