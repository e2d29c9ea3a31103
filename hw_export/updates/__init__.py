"""Streams of sparse weight updates: recorded in training, replayed bit for bit, brought to running targets.

The format is specified in docs/update-stream.md.
"""

from hw_export.updates.content import Change, Frame, Header, Mark
from hw_export.updates.follow import Follower, FrameTarget, Target, follow
from hw_export.updates.grids import grids_of
from hw_export.updates.image import IntegerImage, Parameter
from hw_export.updates.image_file import load_image, save_image
from hw_export.updates.quantized import quantized
from hw_export.updates.recorder import UpdateRecorder
from hw_export.updates.replay import replay
from hw_export.updates.spi import SpiLayout, SpiWriter, SpiWrites
from hw_export.updates.summary import Summary, inspect

__all__ = [
    "Change",
    "Follower",
    "Frame",
    "FrameTarget",
    "Header",
    "IntegerImage",
    "Mark",
    "Parameter",
    "SpiLayout",
    "SpiWriter",
    "SpiWrites",
    "Summary",
    "Target",
    "UpdateRecorder",
    "follow",
    "grids_of",
    "inspect",
    "load_image",
    "quantized",
    "replay",
    "save_image",
]
