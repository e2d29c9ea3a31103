"""Defaults of a run on event data, where they are others than those of static samples.

They were chosen on validation parts of the training recordings (``docs/events.md``). The options themselves, and what
counts as chosen, are in :mod:`spikelfp.training.config`; how recordings become steps, in
:mod:`spikelfp.data.events.usual`.
"""

from __future__ import annotations

from typing import Any

from spikelfp.configuration import Place

CAMERAS = ("nmnist", "dvs-gesture", "folder", "tonic")
"""Kinds of event data that cameras record, as far as their names tell."""

SMALLEST_SIDE = 16
"""Pixels of a camera for which lif-conv is the default."""

EVENT_BETA, EVENT_BATCH, EVENT_LEVELS, EVENT_LR, EVENT_HIDDEN = 0.8, 32, 2, 5e-3, (512,)
"""Decay, batch, levels of a value, learning rate of rewards, and hidden neurons of lines of channels."""

LINE_DECAYS: dict[Place, Any] = {
    ("neuron", "beta_start"): "log-uniform",
    ("neuron", "beta_start", "beta_low"): 0.3,
    ("neuron", "beta_start", "beta_high"): 0.95,
}
"""Decays of recurrent networks on lines of channels: sounds and touch have many time scales (docs/events.md)."""


def by_camera(data: str) -> bool:
    """Whether a camera recorded event data of this name, as far as it tells."""
    return data.partition(":")[0] in CAMERAS


def event_model(is_line: bool, sides: tuple[int, ...] = ()) -> dict[Place, Any]:
    """Choose the network for recordings where nobody chose one, with its options.

    Args:
        is_line: whether they come from a line of channels, and not from a camera.
        sides: pixels of the sides of a camera, where they are known.
    """
    if is_line:
        return {("model",): "lif-rnn", ("model", "hidden"): EVENT_HIDDEN}
    if min(sides, default=SMALLEST_SIDE) < SMALLEST_SIDE:
        return {("model",): "lif-mlp"}
    return {("model",): "lif-conv", ("model", "pool"): "avg"}


def event_values(data: str) -> dict[Place, Any]:
    """Name the values for event data of this name, by the places of their options, apart from the network.

    The learning rate is not among them: it is chosen with the method (:meth:`~.config.RunConfig.resolved`).
    """
    found: dict[Place, Any] = {("neuron", "beta"): EVENT_BETA, ("training", "batch_size"): EVENT_BATCH}
    if by_camera(data):
        found |= {("neuron", "reset"): "zero", ("events", "levels"): EVENT_LEVELS}
    return found
