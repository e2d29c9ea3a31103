"""Logistic regression on counts of events by place and time."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from benchmarks.events.runs import VALIDATION, VALIDATION_SEED
from spikelfp.data import DataSplits
from spikelfp.data.samples import Samples

Vectors = tuple[NDArray[np.float32], NDArray[np.int64]]
SCALES = {"divided by the largest": MaxAbsScaler, "standardised": StandardScaler}
"""Ways to scale features by their values in training."""
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Inverse regularisation strengths."""
ITERATIONS = 2000


def vectors(samples: Samples, steps: int) -> Vectors:
    """Return all samples ``[N, F]``, sequences padded to ``steps`` and flattened, and the classes ``[N]``."""
    batch, labels = samples.__getitems__(range(len(samples)))
    values = batch.values.transpose(0, 1).numpy()[:, :steps]
    padded = np.zeros((len(values), steps, *values.shape[2:]), np.float32)
    padded[:, : values.shape[1]] = values
    return padded.reshape(len(values), -1), labels.numpy()


def logistic_regression(splits: DataSplits, steps: int) -> dict[str, Any]:
    """Measure the test accuracy of the scale and strength with the best validation accuracy.

    The model is trained again on the whole training part. At most ``steps`` steps of a sequence are used.
    """
    held_out = splits.with_validation(VALIDATION, VALIDATION_SEED)
    assert held_out.validation is not None
    train, validation = vectors(held_out.train, steps), vectors(held_out.validation, steps)
    tried = [(_score(train, validation, *choice), choice) for choice in product(SCALES, STRENGTHS)]
    best, (scale, strength) = max(tried, key=lambda one: one[0])
    accuracy = _score(vectors(splits.train, steps), vectors(splits.test, steps), scale, strength)
    return {"accuracy": accuracy, "validation": best, "scale": scale, "C": strength}


def _score(train: Vectors, judged: Vectors, scale: str, strength: float) -> float:
    model = make_pipeline(SCALES[scale](), LogisticRegression(C=strength, max_iter=ITERATIONS))
    return float(model.fit(*train).score(*judged))
