"""Benchmarks: run all with ``make bench`` or ``python -m benchmarks``, one with ``python -m benchmarks.step``."""

import os

# Set here as ``import spikelfp`` sets it (docs/performance.md), but before any benchmark loads torch. Only spikelfp and
# numpy run in this process; other libraries run in their own processes, each in its fastest setting (``settings.py``).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
