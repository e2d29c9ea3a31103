"""How many bytes the content of a file may take."""

from __future__ import annotations

from spikelfp.errors import DataError

ALWAYS = 1 << 28
"""Bytes that any file may unpack to (256 MiB)."""

RATIO = 200
"""Times its own size that a larger one may: events shrink to a tenth, constant columns to a thousandth."""


def most(packed: int) -> int:
    """Return how many bytes a file of ``packed`` bytes may unpack to."""
    return max(ALWAYS, RATIO * packed)


def check_size(unpacked: int, packed: int, where: str) -> None:
    """Refuse content before it is unpacked.

    Args:
        unpacked: bytes that the content will take.
        packed: bytes of the file.
        where: the name that opens the message.

    Raises:
        DataError: for more than :data:`RATIO` times the file and more than :data:`ALWAYS`.
    """
    if unpacked > most(packed):
        claimed = str(unpacked) if unpacked < 10**30 else "more than 10³⁰"
        raise DataError(
            f"{where}: claims {claimed} bytes of content in a file of {packed}: damaged, or made to fill the memory"
        )
