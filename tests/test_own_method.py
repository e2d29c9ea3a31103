"""The example of a method in one file, from the command line: by its name, with its option, resumed and reported."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spikelfp import TemporalTrainer, methods, nn, rewards
from spikelfp.errors import UserError

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_method.py"

COMMANDS = """
import sys
from spikelfp.cli import app
from spikelfp.command import run_app

folder, *plugin = sys.argv[1:]
chosen = ["--method", "direct-feedback", "--hidden", "24,24", "--steps", "5", "--strength", "0.5"]
chosen += ["--schedule", "constant"]
for command in (
    ["train", *chosen, "--epochs", "2", "--out", f"{folder}/whole"],
    ["train", *chosen, "--epochs", "1", "--out", f"{folder}/parts"],
    ["train", "--resume", "--epochs", "2", "--out", f"{folder}/parts"],
    ["eval", f"{folder}/whole"],
):
    try:
        run_app(app, "spikelfp", [*command, *plugin])
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of a run and of one that was resumed; a process of their own, for the method is then registered."""
    folder = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, folder, "--plugin", EXAMPLE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "whole (last weights): test accuracy" in done.stdout
    return folder


def content(run):
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)


def test_it_goes_on_bit_for_bit(runs):
    whole, parts = content(runs / "whole"), content(runs / "parts")
    assert all(torch.equal(value, parts["weights"][name]) for name, value in whole["weights"].items())
    assert list(whole["method_state"]["feedback"]) == ["0", "1"]
    for name, value in whole["method_state"]["feedback"].items():
        assert value.shape == (10, 24)
        assert torch.equal(value, parts["method_state"]["feedback"][name])


def test_it_is_told_of_as_what_it_is(runs):
    summary = json.loads((runs / "whole" / "summary.json").read_text())
    assert (summary["method"], summary["rule"], summary["reward"]) == ("direct-feedback", None, "spike-sequence")
    page = (runs / "whole" / "report.html").read_text()
    assert "trained with direct feedback alignment" in page
    assert "--strength 0.5" in page
    assert "LFP-ε" not in page


class Counting(methods.LFP):
    """Keeps what it is told beside the network's weights."""

    def __init__(self, kept, change):
        super().__init__(rewards.SpikeSequence())
        self._change, self.own = change, kept()

    def learn(self, net, batch):
        self.own = self._change(self.own)
        self.part = net[1:3]
        return super().learn(net, batch)


KEPT = {
    "number": (lambda: 0, lambda s: s + 1, False), "list": (list, lambda s: [*s, 1.0], False),
    "array": (lambda: np.zeros(2), lambda s: s + 1, False),
    "nested": (lambda: [torch.zeros(2)], lambda s: [s[0] + 1], False),
    "generator": (lambda: np.random.default_rng(0), lambda s: (s.random(), s)[1], False),
    "tensor": (lambda: torch.zeros(2), lambda s: s + 1, True), "what stays": (lambda: [1, "a"], lambda s: s, True),
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT)
def test_what_a_checkpoint_would_lose_is_refused(case, tmp_path):
    kept, change, saved = KEPT[case]
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.LIF())
    method = Counting(kept, change)
    method.part = net[1:3]  # of the network, whose checkpoint has it
    trainer = TemporalTrainer(net, method=method, steps=2)
    trainer.train_step(torch.rand(6, 4), torch.arange(6) % 3)
    if saved:
        trainer.save(tmp_path / "last.pt")
    else:
        with pytest.raises(UserError, match="own of Counting has changed since training began"):
            trainer.save(tmp_path / "last.pt")
