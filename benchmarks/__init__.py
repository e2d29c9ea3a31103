"""Benchmarks: run all with ``make bench`` or ``python -m benchmarks``, one with ``python -m benchmarks.step``."""

import os

# As ``import spikelfp`` does (docs/performance.md), but before torch is loaded by anything here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
