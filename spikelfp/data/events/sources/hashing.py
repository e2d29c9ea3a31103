"""Hashes of the content of files and of what is made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from spikelfp.data.events.sources.remember import facts_of_files
from spikelfp.errors import DataError
from spikelfp.untrusted import open_regular

_DIGEST = 16  # bytes
_CHUNK = 1 << 20


def content_hashes(paths: Sequence[str | Path]) -> list[str]:
    """The BLAKE2b hash (RFC 7693) of the content of each file, in hexadecimal, remembered by
    :func:`~spikelfp.data.events.sources.remember.facts_of_files`.

    Raises:
        DataError: for a file that cannot be read.
    """
    return facts_of_files(paths, "blake2b", _content_hash)


def hash_of(*parts: str | bytes | int) -> str:
    """One hash of ``parts`` and of where one ends and the next begins, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        digest.update(f"{type(part).__name__} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()


def _content_hash(path: str) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST)
    try:
        with open_regular(path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()
