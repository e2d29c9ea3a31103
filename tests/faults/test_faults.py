"""A fast part of the fault suite: a few kills, meetings, damaged inputs and attacks of every kind.

All of it is ``make faults``. It runs in a process of its own, which forks: here are threads already.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and uses inotify")

ROOT = Path(__file__).parents[2]


def suite(tmp_path, *options):
    """Run a part of the suite; its parts as it reports them."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.faults", "--json", str(tmp_path / "found.json"), "--folder", str(tmp_path)]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300, check=False
    )
    assert (tmp_path / "found.json").exists(), done.stdout + done.stderr
    parts = json.loads((tmp_path / "found.json").read_text())
    problems = [problem for part in parts for problem in part["problems"]]
    assert not problems, "\n".join(problems)
    assert done.returncode == 0
    return {part["title"].split(",")[0].split(":")[0]: part for part in parts}


def test_a_few_of_everything_and_nothing_is_lost(tmp_path):
    parts = suite(tmp_path, "--quick")
    assert len(parts) == 6
    assert sum(row["tries"] for part in parts.values() for row in part["rows"]) > 150
