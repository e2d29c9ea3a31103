"""The demo: what it promises on its first page."""

import json
import subprocess
import sys
from pathlib import Path

from hw_export.simulators import SIMULATORS

DEMO = Path(__file__).parents[1] / "examples" / "demo.py"


def test_the_demo_learns_and_every_simulator_agrees(tmp_path):
    done = subprocess.run([sys.executable, str(DEMO)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "demo"
    assert json.loads((run / "summary.json").read_text())["test_accuracy"] >= 0.97
    results = {r["simulator"]: r for r in json.loads((run / "export" / "verify.json").read_text())}
    assert set(results) == set(SIMULATORS)
    installed = [name for name in SIMULATORS if SIMULATORS[name].available()]
    assert len(installed) >= 3
    for name in installed:
        assert results[name]["status"] == "identical"
        assert len(results[name]["layers"]) == 2
        assert all(layer["compared"] > 10_000 for layer in results[name]["layers"])
    assert "identical" in (run / "report.html").read_text()
