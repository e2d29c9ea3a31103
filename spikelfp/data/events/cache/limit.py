"""How large the cache may become."""

from __future__ import annotations

import os
import re

from spikelfp.errors import UserError

VARIABLE = "SPIKELFP_CACHE_LIMIT"
DEFAULT = "20GB"

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}i": 2 ** (10 * power) for power, unit in enumerate("kmgt", 1)}


def limit_bytes(limit: int | str | None = None) -> int:
    """The most bytes of all entries together: ``limit``, else the environment's ``$SPIKELFP_CACHE_LIMIT``, else 20 GB.

    A text is a number with a unit or without one, such as ``20GB``, ``1.5 GiB`` or ``500M``.

    Raises:
        UserError: for anything else.
    """
    if limit is None:
        limit = os.environ.get(VARIABLE) or DEFAULT
    if isinstance(limit, int):
        if limit < 0:
            raise UserError(f"the cache limit must be 0 bytes or more, got {limit}")
        return limit
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]?i?)b?\s*", limit.lower())
    if found is None or found[2] not in _UNITS:
        raise UserError(f"the cache limit must be a size such as 20GB (from ${VARIABLE} if not given), got {limit!r}")
    return int(float(found[1]) * _UNITS[found[2]])
