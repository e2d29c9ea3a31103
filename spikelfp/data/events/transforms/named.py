"""Transforms by name, and as text on the command line."""

from __future__ import annotations

from collections.abc import Iterable

from spikelfp.data.events.settings import parse, text_of
from spikelfp.data.events.transforms.base import Transform
from spikelfp.data.events.transforms.filters import Decimate, Denoise, HotPixels, Refractory
from spikelfp.data.events.transforms.from_tonic import Tonic
from spikelfp.data.events.transforms.polarity import FlipPolarity, MergePolarities
from spikelfp.data.events.transforms.space import CenterCrop, Crop, Downsample, FlipX, FlipY
from spikelfp.data.events.transforms.time import AlignTime, DownsampleTime, TimeCrop
from spikelfp.registry import Registry

transforms: Registry[type[Transform]] = Registry("transform of events")
"""Transforms by the name they are asked for; register one to make it known to :func:`parse_transforms`."""

_KINDS: dict[str, type[Transform]] = {
    "align-time": AlignTime,
    "center-crop": CenterCrop,
    "crop": Crop,
    "decimate": Decimate,
    "denoise": Denoise,
    "downsample": Downsample,
    "downsample-time": DownsampleTime,
    "flip-polarity": FlipPolarity,
    "flip-x": FlipX,
    "flip-y": FlipY,
    "hot-pixels": HotPixels,
    "merge-polarities": MergePolarities,
    "refractory": Refractory,
    "time-crop": TimeCrop,
    "tonic": Tonic,
}
for _name, _kind in _KINDS.items():
    transforms.register(_name)(_kind)


def parse_transforms(text: str) -> tuple[Transform, ...]:
    """The transforms of ``text``, such as ``"denoise=10000,downsample=2,crop=3:3:28:28"``, in its order.

    Parameters stand behind ``=`` in the order of the class's fields, between colons.

    Raises:
        UnknownNameError: for a name that is not registered; it suggests the nearest.
        UserError: for parameters that are missing, too many, not of their type or out of range.
    """
    return parse(text, transforms)


def transforms_text(chosen: Iterable[Transform]) -> str:
    """The text that :func:`parse_transforms` makes them of.

    Raises:
        UserError: for a transform of a class that is not registered.
    """
    return text_of(chosen, transforms)
