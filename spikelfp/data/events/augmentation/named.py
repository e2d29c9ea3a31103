"""Augmentations by name, and as text on the command line."""

from __future__ import annotations

from collections.abc import Iterable

from spikelfp.data.events.augmentation.base import Augmentation
from spikelfp.data.events.augmentation.kinds import (
    Drop,
    Jitter,
    Noise,
    RandomFlipX,
    RandomFlipY,
    RandomPolarity,
    RollTime,
    Shift,
    ShiftTime,
)
from spikelfp.data.events.settings import parse, text_of
from spikelfp.registry import Registry

augmentations: Registry[type[Augmentation]] = Registry("augmentation of events")
"""Augmentations by the name they are asked for; register one to make it known to :func:`parse_augmentations`."""

_KINDS: dict[str, type[Augmentation]] = {
    "shift": Shift,
    "flip-x": RandomFlipX,
    "flip-y": RandomFlipY,
    "polarity": RandomPolarity,
    "shift-time": ShiftTime,
    "roll-time": RollTime,
    "drop": Drop,
    "noise": Noise,
    "jitter": Jitter,
}
for _name, _kind in _KINDS.items():
    augmentations.register(_name)(_kind)


def parse_augmentations(text: str) -> tuple[Augmentation, ...]:
    """The augmentations of ``text``, such as ``"shift=2,flip-x,drop=0.1,roll-time=1,polarity"``; empty for none.

    Raises:
        UnknownNameError: for a name that is not registered.
        UserError: for parameters that are missing, too many, not of their type or out of range.
    """
    return parse(text, augmentations)


def augmentations_text(chosen: Iterable[Augmentation]) -> str:
    """The text that :func:`parse_augmentations` makes them of."""
    return text_of(chosen, augmentations)
