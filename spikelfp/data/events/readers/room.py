"""How much memory the content of a compressed file may take."""

from __future__ import annotations

from spikelfp.errors import DataError

ALWAYS = 1 << 28
"""Bytes that any file may unpack to (256 MiB)."""

RATIO = 200
"""Times its own size that a larger one may: events shrink to a tenth, constant columns to a thousandth."""


def most(packed: int) -> int:
    """Bytes that a file of ``packed`` bytes may unpack to."""
    return max(ALWAYS, RATIO * packed)


def check_room(unpacked: int, packed: int, where: str) -> None:
    """Refuse content of ``unpacked`` bytes in a file of ``packed`` before it is unpacked.

    Raises:
        DataError: for more than :data:`RATIO` times the file and more than :data:`ALWAYS`.
    """
    if unpacked > most(packed):
        raise DataError(
            f"{where}: claims {unpacked} bytes of content in a file of {packed}: damaged, or made to fill the memory"
        )
