"""The augmentations, one small class each. What a change means, see :data:`CHANGE`."""

from __future__ import annotations

from dataclasses import dataclass

from spikelfp.data.events.augmentation.base import Augmentation, Changes, Draws, augmentations
from spikelfp.data.events.event import Sensor
from spikelfp.data.events.settings import check_probability, check_whole
from spikelfp.errors import UserError


@augmentations.register("shift")
@dataclass(frozen=True)
class Shift(Augmentation):
    """Moved by up to ``pixels`` columns and rows, with equal chance; on a line by up to as many channels.

    Raises:
        UserError: for less than 1, or, on a sensor, for as many as it has columns or rows.
    """

    what = "place"
    pixels: int

    def __post_init__(self) -> None:
        check_whole("pixels of shift", self.pixels, 1)

    def check(self, sensor: Sensor) -> None:
        """Raise for a shift off the sensor."""
        side = sensor.width if sensor.height == 1 else min(sensor.width, sensor.height)
        if self.pixels >= side:
            raise UserError(f"shift must be less than {side} on a sensor of {sensor}, got {self.pixels}")

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Columns and rows."""
        changes["dx"] = draws.integers("dx", -self.pixels, self.pixels)
        changes["dy"] = draws.integers("dy", -self.pixels, self.pixels)


@augmentations.register("flip-x")
@dataclass(frozen=True)
class RandomFlipX(Augmentation):
    """Mirrored left to right with probability 1/2 (digits and letters are not the same mirrored)."""

    what = "mirror"

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Mirrored or not."""
        changes["mirror"] = draws.coins("mirror")


@augmentations.register("flip-y")
@dataclass(frozen=True)
class RandomFlipY(Augmentation):
    """Turned upside down with probability 1/2, on a camera.

    Raises:
        UserError: on a line of channels, or any sensor of one row.
    """

    what = "upside-down"

    def check(self, sensor: Sensor) -> None:
        """Raise where there is one row."""
        if sensor.height == 1:
            raise UserError(f"flip-y needs the rows of a camera, the sensor has {sensor}")

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Upside down or not."""
        changes["upside_down"] = draws.coins("upside-down")


@augmentations.register("polarity")
@dataclass(frozen=True)
class RandomPolarity(Augmentation):
    """ON for OFF and OFF for ON in the whole sample with probability 1/2.

    Raises:
        UserError: for a sensor of one polarity.
    """

    what = "polarity"

    def check(self, sensor: Sensor) -> None:
        """Raise where there is one polarity."""
        if sensor.polarities != 2:
            raise UserError(f"polarity needs a sensor of two polarities, this one has {sensor}")

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Swapped or not."""
        changes["swap"] = draws.coins("swap")


@augmentations.register("shift-time")
@dataclass(frozen=True)
class ShiftTime(Augmentation):
    """Moved by up to ``steps`` earlier or later, with equal chance; what leaves the sequence is lost.

    Raises:
        UserError: for less than 1.
    """

    what = "time"
    steps: int

    def __post_init__(self) -> None:
        check_whole("steps of shift-time", self.steps, 1)

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Steps."""
        changes["dt"] = draws.integers("dt", -self.steps, self.steps)


@augmentations.register("roll-time")
@dataclass(frozen=True)
class RollTime(ShiftTime):
    """As :class:`ShiftTime`, but what leaves the sequence at one end comes in at the other."""

    def __post_init__(self) -> None:
        check_whole("steps of roll-time", self.steps, 1)

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Steps, round and round."""
        super().draw(changes, draws)
        changes["wrap"] = 1


@augmentations.register("drop")
@dataclass(frozen=True)
class Drop(Augmentation):
    """Each event is lost with ``probability``; the count of an element becomes binomial.

    Events beyond the ``levels`` of the binning were not kept: with ``levels=1`` an element that held several is lost
    as if it had held one.

    Raises:
        UserError: for a probability outside of (0, 1).
    """

    what = "drop"
    probability: float

    def __post_init__(self) -> None:
        check_probability("probability of drop", self.probability)

    def draw(self, changes: Changes, draws: Draws) -> None:
        """The same for all samples; which events, is drawn with the key of each."""
        changes["drop"] = self.probability


@augmentations.register("noise")
@dataclass(frozen=True)
class Noise(Augmentation):
    """Each element of each step gets an event more with ``probability``.

    Raises:
        UserError: for a probability outside of (0, 1).
    """

    what = "noise"
    probability: float

    def __post_init__(self) -> None:
        check_probability("probability of noise", self.probability)

    def draw(self, changes: Changes, draws: Draws) -> None:
        """The same for all samples; which elements, is drawn with the key of each."""
        changes["noise"] = self.probability


@augmentations.register("jitter")
@dataclass(frozen=True)
class Jitter(Augmentation):
    """Each event moves by up to ``pixels`` columns and rows, with equal chance for every place; on a line by channels.

    Raises:
        UserError: for less than 1.
    """

    what = "jitter"
    pixels: int = 1

    def __post_init__(self) -> None:
        check_whole("pixels of jitter", self.pixels, 1)

    def draw(self, changes: Changes, draws: Draws) -> None:
        """The same for all samples; where to, is drawn with the key of each."""
        changes["jitter"] = self.pixels
