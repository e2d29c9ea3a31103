"""How slow the machine is now, for tests that bound the seconds of computing."""

from __future__ import annotations

import time

USUAL = 0.1
"""Seconds of computing of :func:`slowness` itself on an ordinary machine that does nothing else."""


def slowness() -> float:
    """Tell how many times longer a fixed loop computes than on an ordinary machine; at least 1.

    A bound on seconds that is crossed is looked at again with it, so that a slow or busy machine, where each second of
    computing does less, fails no test.
    """
    start, total = time.process_time(), 0
    for number in range(1_500_000):
        total += number & 3
    return max(1.0, (time.process_time() - start) / USUAL)
