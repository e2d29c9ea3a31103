"""Benchmarks: run all with ``make bench`` or ``python -m benchmarks``, one with ``python -m benchmarks.step``."""

import os

# For what runs in this process, which is spikelfp alone (beside it, loading of events compares with numpy code of
# others, which has no threads that wait): as ``import spikelfp`` does (docs/performance.md), but before torch is loaded
# by anything here. Other libraries run in processes of their own, in the setting that is fastest for each
# (``settings.py``).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
