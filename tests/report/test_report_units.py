"""Pictures of outputs in units of their own."""

from types import SimpleNamespace

import numpy as np
import pytest

from spikelfp import tasks
from spikelfp.report import figures, write
from spikelfp.report.facts import Predictions


@pytest.mark.parametrize(("scale", "own"), [(1.0, False), (100.0, True)])
def test_outputs_that_spread_differently_are_drawn_by_their_deviation(monkeypatch, scale, own):
    wanted = np.random.default_rng(0).normal(size=(50, 2)) * (1, scale) + (0, 5 * scale)
    drawn, real = {}, figures.against
    monkeypatch.setattr(
        figures,
        "against",
        lambda wanted, predicted, names, **k: (
            drawn.update(x=wanted, y=predicted) or real(wanted, predicted, names, **k)
        ),
    )
    fitted = Predictions(wanted, wanted + np.array([0.5, 0.5 * scale]), 50)
    facts = SimpleNamespace(fitted=fitted, class_names=("a", "b"), task=tasks.Regression())
    first, second = write.fitted(facts)
    assert "a 0.5" in first.caption
    assert ("each output by its mean and deviation" in first.caption) is own
    assert ("deviations of each output" in second.caption) is own
    spread = wanted.std(0) if own else 1
    np.testing.assert_allclose(
        drawn["y"] - drawn["x"], np.broadcast_to([0.5, 0.5 * scale] / np.asarray(spread), (50, 2))
    )
