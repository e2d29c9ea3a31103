"""The augmentations, one small class each; :data:`~.base.CHANGE` lists the changes that they draw."""

from __future__ import annotations

from dataclasses import dataclass

from spikelfp.data.events.augmentation.base import Augmentation, Changes, Draws, augmentations
from spikelfp.data.events.event import Sensor
from spikelfp.data.events.settings import check_probability, check_whole
from spikelfp.errors import UserError
from spikelfp.scalars import keep_plain


@augmentations.register("shift")
@dataclass(frozen=True)
class Shift(Augmentation):
    """Moves a sample by up to ``pixels`` columns and rows, or channels of a line, with equal chance.

    Attributes:
        pixels: largest move.

    Raises:
        UserError: for less than 1, or, on a sensor, for as many as it has columns or rows.
    """

    aspect = "place"
    pixels: int

    def __post_init__(self) -> None:
        keep_plain(self)
        check_whole("pixels of shift", self.pixels, 1)

    def check(self, sensor: Sensor) -> None:
        """Refuse a shift off the sensor."""
        side = sensor.width if sensor.height == 1 else min(sensor.width, sensor.height)
        if self.pixels >= side:
            raise UserError(f"shift must be less than {side} on a sensor of {sensor}, got {self.pixels}")

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Draw columns and rows."""
        changes["dx"] = draws.integers("dx", -self.pixels, self.pixels)
        changes["dy"] = draws.integers("dy", -self.pixels, self.pixels)


@augmentations.register("flip-x")
@dataclass(frozen=True)
class RandomFlipX(Augmentation):
    """Mirrors a sample left to right with probability 1/2 (digits and letters change their meaning)."""

    aspect = "mirror"

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Draw mirrored or not."""
        changes["mirror"] = draws.coins("mirror")


@augmentations.register("flip-y")
@dataclass(frozen=True)
class RandomFlipY(Augmentation):
    """Turns a sample of a camera upside down with probability 1/2.

    Raises:
        UserError: on a line of channels, or any sensor of one row.
    """

    aspect = "upside-down"

    def check(self, sensor: Sensor) -> None:
        """Refuse a sensor of one row."""
        if sensor.height == 1:
            raise UserError(f"flip-y needs the rows of a camera, the sensor has {sensor}")

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Draw upside down or not."""
        changes["upside_down"] = draws.coins("upside-down")


@augmentations.register("polarity")
@dataclass(frozen=True)
class RandomPolarity(Augmentation):
    """Swaps ON and OFF in the whole sample with probability 1/2.

    Raises:
        UserError: for a sensor of one polarity.
    """

    aspect = "polarity"

    def check(self, sensor: Sensor) -> None:
        """Refuse a sensor of one polarity."""
        if sensor.polarities != 2:
            raise UserError(f"polarity needs a sensor of two polarities, this one has {sensor}")

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Draw swapped or not."""
        changes["swap"] = draws.coins("swap")


@augmentations.register("shift-time")
@dataclass(frozen=True)
class ShiftTime(Augmentation):
    """Moves a sample by up to ``steps`` earlier or later, with equal chance; events that leave the sequence are lost.

    Attributes:
        steps: largest move.

    Raises:
        UserError: for less than 1.
    """

    aspect = "time"
    steps: int

    def __post_init__(self) -> None:
        keep_plain(self)
        check_whole("steps of shift-time", self.steps, 1)

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Draw the steps."""
        changes["dt"] = draws.integers("dt", -self.steps, self.steps)


@augmentations.register("roll-time")
@dataclass(frozen=True)
class RollTime(ShiftTime):
    """Moves a sample as :class:`ShiftTime`, but events that leave the sequence at one end come in at the other."""

    def __post_init__(self) -> None:
        keep_plain(self)
        check_whole("steps of roll-time", self.steps, 1)

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Draw the steps."""
        super().draw(changes, draws)
        changes["wrap"] = 1


@augmentations.register("drop")
@dataclass(frozen=True)
class Drop(Augmentation):
    """Loses each event with a probability; the count of an element becomes binomial.

    Events beyond the ``levels`` of the binning were not kept: with ``levels=1`` an element of several events is lost as
    if it had one.

    Attributes:
        probability: of each event.

    Raises:
        UserError: for a probability outside of (0, 1).
    """

    aspect = "drop"
    probability: float

    def __post_init__(self) -> None:
        keep_plain(self)
        check_probability("probability of drop", self.probability)

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Set the probability; the events are drawn later, with the key of each sample."""
        changes["drop"] = self.probability


@augmentations.register("noise")
@dataclass(frozen=True)
class EventNoise(Augmentation):
    """Adds an event to each element of each step with a probability.

    Attributes:
        probability: of each element.

    Raises:
        UserError: for a probability outside of (0, 1).
    """

    aspect = "noise"
    probability: float

    def __post_init__(self) -> None:
        keep_plain(self)
        check_probability("probability of noise", self.probability)

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Set the probability; the elements are drawn later, with the key of each sample."""
        changes["noise"] = self.probability


@augmentations.register("jitter")
@dataclass(frozen=True)
class Jitter(Augmentation):
    """Moves each event by up to ``pixels`` columns and rows, or channels of a line, with equal chance for every place.

    Attributes:
        pixels: largest move.

    Raises:
        UserError: for less than 1.
    """

    aspect = "jitter"
    pixels: int = 1

    def __post_init__(self) -> None:
        keep_plain(self)
        check_whole("pixels of jitter", self.pixels, 1)

    def draw(self, changes: Changes, draws: Draws) -> None:
        """Set the largest move; the moves are drawn later, with the key of each sample."""
        changes["jitter"] = self.pixels
