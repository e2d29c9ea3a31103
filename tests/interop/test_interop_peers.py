"""The package imports without the others, and says what to install when they are needed."""

import subprocess
import sys

import pytest

from spikelfp.errors import UserError
from spikelfp.interop import from_snntorch

WITHOUT = """
import sys
sys.modules["norse"] = None  # as if it were not installed
from spikelfp import interop, nn
from spikelfp.errors import UserError
net = nn.Sequential(nn.Linear(2, 2), nn.LIF())
for call in (lambda: interop.to_norse(net), lambda: interop.from_norse(net)):
    try:
        call()
    except UserError as error:
        print(error)
"""


def test_norse_is_asked_for_only_when_it_is_needed():
    run = [sys.executable, "-c", WITHOUT]
    lines = subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("norse cannot be imported")
        assert "pip install norse" in line


def test_snntorch_likewise(monkeypatch):
    monkeypatch.setitem(sys.modules, "snntorch", None)
    with pytest.raises(UserError, match=r"snntorch cannot be imported.*pip install snntorch"):
        from_snntorch([])
