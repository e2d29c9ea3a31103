"""Augmentation of binned events: in every epoch each sequence is shifted, mirrored, thinned or noisy in a new way.

It works on sparse sequences, so nothing is decoded or binned again. The changes of sample ``i`` in an epoch depend on
``(seed, epoch, i)`` alone, not on its batch or on the process that makes it. For a data set:

>>> augmentations = check_augmentations(parse_augmentations("shift=2,flip-x,drop=0.1"), sensor)   # once
>>> frames = augmented(                                                                           # for each batch
...     *packed, rows, sensor=sensor, levels=levels, augmentations=augmentations, seed=seed, epoch=epoch, indices=rows
... )
>>> batch_dense(frames, np.arange(len(rows)), sensor.size, levels, out)
"""

from spikelfp.data.events.augmentation.apply import augmented, check_augmentations
from spikelfp.data.events.augmentation.base import (
    CHANGE,
    Augmentation,
    Changes,
    Draws,
    augmentations,
    augmentations_text,
    parse_augmentations,
)
from spikelfp.data.events.augmentation.kinds import (
    Drop,
    EventNoise,
    Jitter,
    RandomFlipX,
    RandomFlipY,
    RandomPolarity,
    RollTime,
    Shift,
    ShiftTime,
)

__all__ = [
    "CHANGE",
    "Augmentation",
    "Changes",
    "Draws",
    "Drop",
    "EventNoise",
    "Jitter",
    "RandomFlipX",
    "RandomFlipY",
    "RandomPolarity",
    "RollTime",
    "Shift",
    "ShiftTime",
    "augmentations",
    "augmentations_text",
    "augmented",
    "check_augmentations",
    "parse_augmentations",
]
