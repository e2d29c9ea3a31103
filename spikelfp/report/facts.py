"""What a report is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp import models
from spikelfp.tasks import Classification, Task
from spikelfp.training.config import RunConfig
from spikelfp.training.folder import Folder

Array = NDArray[Any]


@dataclass(frozen=True)
class Activity:
    """The spikes of one layer: ``spikes`` ``[T, N]`` for the sample, ``rates`` ``[N]`` per step over many samples.

    ``own`` and ``other``, of an output layer only: rate of each class for its own samples and for the others.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    spikes: Array
    rates: Array
    own: Array | None = None
    other: Array | None = None

    @property
    def silent(self) -> float:
        """Share of neurons that never spike."""
        return float((self.rates == 0).mean())


@dataclass(frozen=True)
class Sample:
    """One test sample, without the padding behind it.

    image: as stored, or of a recording its busiest quarter, accumulated. inputs: ``[T, N]`` if it was encoded as
    spikes. outputs: ``[T, C]``. label: its class; ``None`` where it has none, but a target: values ``[K]``, labels
    ``[K]``, or classes ``[T]`` of its steps. scores: what is read of the outputs, ``[C]`` (``[T, C]`` where every step
    is read). sequence: ``[T, P, H, W]`` or ``[T, N]`` of a recording of events.
    """

    image: Array
    inputs: Array | None
    outputs: Array
    label: int | None
    scores: Array
    sequence: Array | None = None
    target: Array | None = None

    @property
    def predicted(self) -> int:
        return int(self.scores.argmax())


@dataclass(frozen=True)
class Weights:
    """The weights of one layer before (if known) and after training."""

    title: str
    kind: str
    before: Array | None
    after: Array


@dataclass(frozen=True)
class Errors:
    """Test samples by true (row) and predicted class, and those most confidently misread.

    wrong: ``(image, label, predicted, gap)``, the gap by how much the predicted class was ahead of the right one; the
    image of a recording is its busiest quarter, accumulated, or of a line of channels its raster ``[N, T]``.
    early: share of samples ``[T]`` whose answer was right if it was read after each step, NaN before the first step
    that counts; ``None`` of networks with one step.
    """

    confusion: Array
    samples: int
    total: int
    wrong: list[tuple[Array, int, int, float]]
    early: Array | None = None


@dataclass(frozen=True)
class Fitted:
    """Test samples without one class: what was wanted and what was predicted.

    wanted, predicted: ``[n, K]``, of real values in their own units; of steps ``[n, 1]``, one row for each that counts.
    total: test samples in all.
    """

    wanted: Array
    predicted: Array
    total: int


@dataclass
class Facts:
    """All that the page shows. What is missing is ``None`` or empty, and ``notes`` say why."""

    folder: Folder
    config: RunConfig
    shape: tuple[int, ...]
    classes: int
    metrics: list[dict[str, float]]
    summary: dict[str, Any] | None
    verified: list[dict[str, Any]]
    parameters: int
    class_names: tuple[str, ...]
    test_samples: int | None = None
    sample: Sample | None = None
    activity: list[Activity] = field(default_factory=list)
    rate_samples: int = 0
    weights: list[Weights] = field(default_factory=list)
    errors: Errors | None = None
    fitted: Fitted | None = None
    task: Task = field(default_factory=Classification)
    notes: list[str] = field(default_factory=list)

    @property
    def spiking(self) -> bool:
        return models.is_spiking(self.config.model.name)

    @property
    def output_spikes(self) -> bool:
        """Whether the last of the spiking layers is the output."""
        return bool(self.activity) and self.activity[-1].own is not None

    @property
    def line(self) -> bool:
        """Whether samples are recordings of a line of channels."""
        return self.sample is not None and self.sample.sequence is not None and self.sample.sequence.ndim == 2

    @property
    def camera(self) -> bool:
        """Whether samples are recordings of a camera."""
        return self.sample is not None and self.sample.sequence is not None and not self.line

    @property
    def mean_rate(self) -> float | None:
        """Spikes per neuron and step, over all neurons: the rates of the summary weighted by the layers' sizes."""
        if not self.activity:
            return None
        known = (self.summary or {}).get("spike_rates") or {}
        rates = [known.get(layer.name, float(layer.rates.mean())) for layer in self.activity]
        return float(np.average(rates, weights=[layer.rates.size for layer in self.activity]))
