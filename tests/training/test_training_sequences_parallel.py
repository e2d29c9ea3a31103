"""Several workers, each with sequences of other lengths, train as one: whole sequences, and a chunk at a time."""

import os

import pytest
import torch
from parallel_workers import finish, start
from sequence_data import METHODS, make, recordings, recurrent

from spikelfp import methods, rewards, rules

WORKER = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[1] + "/..")
from sequence_data import METHODS, make, recordings, recurrent
from spikelfp import rewards, rules, methods
from spikelfp.training import joined

torch.set_num_threads(1)
with joined("cpu") as world:
    normalised = methods.LFP(rewards.SpikeSequence(), rules.Epsilon(normalize=True))
    ways = {"plain": {}, "chunks": {"chunk": 6, "accumulate": 2}, "normalised": {"method": normalised}}
    for name, options in ways.items():
        trainer = make(recurrent, torch.float64, world=world, **{"method": METHODS["lfp"], **options})
        rows = trainer.fit(recordings(49, dtype=torch.float64), 2)  # the last batch has one sample
        left = {"weights": trainer.net.state_dict(), "rows": rows}
        found = trainer.evaluate(recordings(49, dtype=torch.float64))
        left["test"] = (found.score, found.loss, found.mean_output)
        torch.save(left, f"{sys.argv[2]}/{name}-{world.rank}.pt")
"""


@pytest.mark.slow
def test_two_workers_end_with_the_weights_of_one(tmp_path):
    here = os.path.dirname(__file__)
    for code, _, errors in finish(start(2, "-c", WORKER, here, str(tmp_path))):
        assert code == 0, errors
    normalised = methods.LFP(rewards.SpikeSequence(), rules.Epsilon(normalize=True))
    ways = {"plain": {}, "chunks": {"chunk": 6, "accumulate": 2}, "normalised": {"method": normalised}}
    for name, options in ways.items():
        first, second = (torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1))
        one = make(recurrent, torch.float64, **{"method": METHODS["lfp"], **options})
        rows = one.fit(recordings(49, dtype=torch.float64), 2)
        for key, weight in one.net.state_dict().items():
            assert torch.equal(first["weights"][key], second["weights"][key])
            torch.testing.assert_close(first["weights"][key], weight, rtol=1e-6, atol=1e-9)
        for row, other in zip(rows, first["rows"], strict=True):
            assert other == pytest.approx(row, rel=1e-6)
        found = one.evaluate(recordings(49, dtype=torch.float64))
        assert first["test"] == pytest.approx((found.score, found.loss, found.mean_output), rel=1e-9)
