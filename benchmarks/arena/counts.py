"""Logistic regression on counts of events by place and time, beside the networks of the arena."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from benchmarks.trained.table import Options
from spikelfp import plugins
from spikelfp.data import DataSplits
from spikelfp.data.samples import Samples
from spikelfp.files import write_text
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_splits

Vectors = tuple[NDArray[np.float32], NDArray[np.int64]]
SCALES = {"divided by the largest": MaxAbsScaler, "standardised": StandardScaler}
"""Ways to scale features by their values in training."""
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Inverse regularisation strengths."""
ITERATIONS = 2000
VALIDATION, VALIDATION_SEED = 0.2, 0


def vectors(samples: Samples, parts: int) -> Vectors:
    """Return all samples ``[N, F]``, counted in ``parts`` stretches of time, and the classes ``[N]``.

    Sequences are padded with empty steps to a multiple of ``parts``.
    """
    batch, labels = samples.__getitems__(range(len(samples)))
    values = batch.values.transpose(0, 1).numpy().astype(np.float32)
    steps = -(-values.shape[1] // parts) * parts
    padded = np.zeros((len(values), steps, *values.shape[2:]), np.float32)
    padded[:, : values.shape[1]] = values
    counted = padded.reshape(len(values), parts, steps // parts, *values.shape[2:]).sum(2)
    return counted.reshape(len(values), -1), labels.numpy()


def logistic_regression(splits: DataSplits, parts: int) -> dict[str, Any]:
    """Measure the test accuracy of the scale and strength with the best validation accuracy.

    The model is trained again on the whole training part.
    """
    held_out = splits.with_validation(VALIDATION, VALIDATION_SEED)
    assert held_out.validation is not None
    train, validation = vectors(held_out.train, parts), vectors(held_out.validation, parts)
    tried = [(_score(train, validation, *choice), choice) for choice in product(SCALES, STRENGTHS)]
    best, (scale, strength) = max(tried, key=lambda one: one[0])
    accuracy = _score(vectors(splits.train, parts), vectors(splits.test, parts), scale, strength)
    return {"accuracy": accuracy, "validation": best, "scale": scale, "C": strength}


def _score(train: Vectors, judged: Vectors, scale: str, strength: float) -> float:
    model = make_pipeline(SCALES[scale](), LogisticRegression(C=strength, max_iter=ITERATIONS))
    return float(model.fit(*train).score(*judged))


def once(file: Path, parts: int, options: Options, collect: bool) -> dict[str, Any] | None:
    """Measure logistic regression, unless ``file`` holds it for these options.

    Args:
        file: JSON, of the result and its options.
        parts: stretches of time in which events are counted.
        options: of the data, as a run has them.
        collect: whether nothing is measured.

    Returns:
        The result; ``None`` where it is not there and not to be measured.
    """
    settings = {"parts": parts} | {name: value for name, value in options.items() if name not in ("data_dir", "plugin")}
    held = json.loads(file.read_text()) if file.exists() else {}
    if held.get("options") == settings:
        return dict(held["result"])
    if collect:
        return None
    if "plugin" in options:
        plugins.load(options["plugin"])
    config = RunConfig(**{name: value for name, value in options.items() if name != "plugin"}, device="cpu")
    result = logistic_regression(load_splits(config), parts)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps({"options": settings, "result": result}))
    return result
