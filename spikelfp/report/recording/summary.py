"""A recording in words and numbers."""

from __future__ import annotations

from pathlib import Path

from spikelfp.report import wording
from spikelfp.report.recording import units
from spikelfp.report.recording.facts import Recording
from spikelfp.report.recording.units import short_number


def headline(recording: Recording) -> str:
    """What it is."""
    return recording.name if recording.label is None else f"{recording.name} · class {recording.label}"


def file_of(recording: Recording) -> str:
    """Its file, and the place in it, without the folders of this machine: a page is passed on."""
    file, colon, place = recording.where.partition(": ")
    return Path(file).name + colon + place


def in_numbers(recording: Recording) -> list[tuple[str, str]]:
    """Terms and their values."""
    numbers = recording.numbers
    pairs = [("events", f"{numbers.events:,}"), ("long", units.duration(numbers.duration))]
    if numbers.rate is not None:
        pairs.append(("events per second", short_number(numbers.rate)))
    if numbers.on_share is not None:
        pairs.append(("ON", wording.percent(numbers.on_share)))
    what = "channels" if recording.sensor.is_line else "pixels"
    pairs.append((f"of the {what} have events", wording.percent(numbers.active)))
    size = (
        f"{recording.sensor.width}"
        if recording.sensor.is_line
        else f"{recording.sensor.width} × {recording.sensor.height}"
    )
    return [*pairs, (what, size)]
