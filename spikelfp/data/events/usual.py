"""Pipeline of recordings for which neither their data set nor the user names another.

Large cameras are made smaller: a network learns what a recording shows from far fewer pixels, in a fraction of the
time. DVS128 Gesture is usually taken at 32 × 32 pixels, and N-MNIST has 34 × 34. The pixels are joined by
:class:`~spikelfp.data.events.transforms.Downsample`, which keeps all events.
"""

from __future__ import annotations

from dataclasses import replace

from spikelfp.data.events.binning import USUAL, Pipeline
from spikelfp.data.events.event import Sensor
from spikelfp.data.events.transforms.coordinates import Downsample

MOST_SIDE = 48
"""Pixels along the longer side of a camera, above which pixels are joined."""

LEAST_SIDE = 16
"""Pixels along its shorter side that stay: a network of two convolutions takes no fewer."""


def usual(sensor: Sensor) -> Pipeline:
    """Choose the pipeline for recordings of a sensor.

    Args:
        sensor: that they come from.

    Returns:
        20 steps of equal length; of a camera with more than :data:`MOST_SIDE` pixels along a side, after pixels were
        joined ``f × f`` to one, with the least ``f`` for which no side has more, or the largest one for which both keep
        :data:`LEAST_SIDE`. Lines of channels stay as they are.
    """
    if sensor.is_line:
        return USUAL
    sides = sensor.width, sensor.height
    factor = min(-(-max(sides) // MOST_SIDE), -(-min(sides) // LEAST_SIDE))
    while factor > 1 and -(-min(sides) // factor) < LEAST_SIDE:
        factor -= 1
    return replace(USUAL, transforms=(Downsample(factor),)) if factor > 1 else USUAL


def joined_note(sensor: Sensor, pipeline: Pipeline) -> str | None:
    """Say that pixels are joined by default, and how to keep them.

    Args:
        sensor: of the recordings.
        pipeline: that they go through, which the user has not chosen.

    Returns:
        A line, or ``None`` if no pixels are joined, or the data set has its own way.
    """
    if pipeline.transforms != usual(sensor).transforms or not pipeline.transforms:
        return None
    (joining,) = usual(sensor).transforms
    factor, left = joining.parameters()["factor"], joining.sensor(sensor)
    return (
        f"{factor} x {factor} pixels are joined to one, {left.width} x {left.height} in all "
        f"(--transforms downsample={factor}; --transforms none keeps all {sensor.width} x {sensor.height})"
    )
