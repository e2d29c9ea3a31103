"""No simulator is loaded before it is asked to run, and each says how to get it."""

from __future__ import annotations

import subprocess
import sys

from hw_export.simulators import SIMULATORS


def test_importing_the_adapters_imports_no_simulator():
    """Beyond those that training itself needs."""
    modules = {SIMULATORS[name].module for name in SIMULATORS} | {"nirtorch", "samna"}
    program = (
        "import sys, spikelfp.training; before = set(sys.modules); import hw_export.simulators as s; "
        "[s.SIMULATORS[name].version() for name in s.SIMULATORS]; "
        f"print(*sorted(set({sorted(modules)!r}) & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_each_names_what_pip_installs():
    for name in SIMULATORS:
        command = SIMULATORS[name].install or SIMULATORS[name].package
        assert SIMULATORS[name].package in command.replace('"', " ").replace("==", " ").split()
