"""Streams of sparse weight updates: recorded in training, replayed bit for bit, written into running targets.

docs/update-stream.md specifies the format.
"""

from hw_export.updates.content import Change, Frame, IntegerImage, Mark, Parameter, StreamHeader
from hw_export.updates.quantized import grids_of, quantized
from hw_export.updates.recorder import UpdateRecorder
from hw_export.updates.replay import (
    Follower,
    FrameTarget,
    Summary,
    UpdateTarget,
    follow,
    inspect,
    load_image,
    replay,
    save_image,
)
from hw_export.updates.spi import SpiLayout, SpiWriter, SpiWrites
from spikelfp.registry import check_constructors

__all__ = [
    "Change", "Follower", "Frame", "FrameTarget", "IntegerImage", "Mark", "Parameter", "SpiLayout", "SpiWriter",
    "SpiWrites", "StreamHeader", "Summary", "UpdateRecorder", "UpdateTarget", "follow", "grids_of", "inspect",
    "load_image", "quantized", "replay", "save_image",
]  # fmt: skip

check_constructors(UpdateRecorder, Follower)
