"""Transforms of events, by name, which are applied to a recording before it is binned.

Each is a frozen dataclass whose fields are its parameters, the same for every recording and without chance. Where tonic
(1.7) has a transform of that kind, the results agree; :class:`Tonic` takes a class of tonic itself. Random changes are
augmentations (:mod:`spikelfp.data.events.augmentation`).
"""

from spikelfp.data.events.transforms.base import Transform, parse_transforms, transforms, transforms_text
from spikelfp.data.events.transforms.coordinates import (
    AlignTime,
    CenterCrop,
    Crop,
    Downsample,
    DownsampleTime,
    FlipPolarity,
    FlipX,
    FlipY,
    MergePolarities,
    TimeCrop,
)
from spikelfp.data.events.transforms.filters import Decimate, Denoise, HotPixels, Refractory
from spikelfp.data.events.transforms.from_tonic import Tonic

__all__ = [
    "AlignTime",
    "CenterCrop",
    "Crop",
    "Decimate",
    "Denoise",
    "Downsample",
    "DownsampleTime",
    "FlipPolarity",
    "FlipX",
    "FlipY",
    "HotPixels",
    "MergePolarities",
    "Refractory",
    "TimeCrop",
    "Tonic",
    "Transform",
    "parse_transforms",
    "transforms",
    "transforms_text",
]
