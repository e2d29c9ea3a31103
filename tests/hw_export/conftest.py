"""What the tests of exports share."""

from __future__ import annotations

import pytest
import torch
from export_nets import BATCH, STEPS, pixels

from hw_export.cli import app
from hw_export.samples import ExportSamples
from hw_export.simulators import SIMULATORS
from spikelfp.command import run_app


@pytest.fixture(autouse=True)
def _one_thread():
    """These networks are small: on a busy machine threads cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["zero", "subtract"])
def reset(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=sorted(SIMULATORS))
def simulator(request: pytest.FixtureRequest) -> str:
    if not SIMULATORS[request.param].available():
        pytest.skip(f"{request.param} is not installed")
    return request.param


@pytest.fixture
def samples() -> ExportSamples:
    return ExportSamples(pixels(24), torch.arange(BATCH) % 10, STEPS, scale=16)


@pytest.fixture
def command(capsys):
    """Run a command line of ``hw-export``; returns exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            run_app(app, "hw-export", [str(a) for a in arguments])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call
