"""From a recording to a file to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spikelfp.data.events import Events, EventSplits, Pipeline, Sensor
from spikelfp.data.events.binning import USUAL
from spikelfp.data.events.readers import read
from spikelfp.errors import UserError
from spikelfp.files import write_whole
from spikelfp.report.recording.animation import animate
from spikelfp.report.recording.facts import Recording, of_data_set
from spikelfp.report.recording.page import page
from spikelfp.report.recording.sheet import sheet


def show_recording(
    splits: EventSplits,
    out: str | Path,
    *,
    part: str = "train",
    index: int | None = None,
    label: str | None = None,
    pipeline: Pipeline | None = None,
) -> Path:
    """See :func:`spikelfp.report.show_recording`."""
    check_kind(out)
    return _write(of_data_set(splits, part, index, label, pipeline), out)


def show_file(
    path: str | Path, out: str | Path, *, sensor: Sensor | None = None, pipeline: Pipeline | None = None
) -> Path:
    """See :func:`spikelfp.report.show_file`."""
    check_kind(out)
    found = read(path, sensor=sensor)
    return show_events(found.events, found.sensor, out, name=Path(path).name, where=str(path), pipeline=pipeline)


def show_events(
    events: Events, sensor: Sensor, out: str | Path, *, name: str, where: str = "", pipeline: Pipeline | None = None
) -> Path:
    """See :func:`spikelfp.report.show_events`."""
    check_kind(out)
    return _write(Recording(name, where or name, events, sensor, pipeline or USUAL), out)


def check_kind(out: str | Path) -> str:
    """The ending of ``out``, if something can be written with it.

    Raises:
        UserError: for another ending.
    """
    kind = Path(out).suffix.lower()
    if kind not in KINDS:
        raise UserError(f"a recording is shown as a file that ends in {', '.join(KINDS)}, got {out}")
    return kind


def _write(recording: Recording, out: str | Path) -> Path:
    path = Path(out)
    content = KINDS[check_kind(path)](recording)
    write_whole(path, lambda file: file.write(content))
    return path


def _gif(recording: Recording) -> bytes:
    if not recording.is_camera:
        raise UserError(
            f"{recording.where} is a recording of {recording.sensor}, no camera, and has no animated picture: "
            "choose a .png or .html"
        )
    return animate(recording).gif


KINDS: dict[str, Callable[[Recording], bytes]] = {
    ".png": sheet,
    ".gif": _gif,
    ".html": lambda recording: page(recording).encode(),
}
"""What can be written, by the ending of the file."""
