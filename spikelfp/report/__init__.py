"""Reports as single HTML files that load nothing else: of a run, and of a recording of events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spikelfp.registry import public_names

if TYPE_CHECKING:  # matplotlib, which draws, takes long to import
    from spikelfp.data.events import Events, EventSplits, FileLayout, Pipeline, Sensor
    from spikelfp.data.events.recordings import Unlabelled


def write_report(run: str | Path, data_dir: str | None = None, cache_dir: str | None = None) -> Path:
    """Write ``report.html`` into the run folder ``run`` and return its path.

    The page shows what is there: a stopped run has no summary, and a run whose data or checkpoint is missing
    keeps its curves and says what is lacking. ``data_dir`` and ``cache_dir`` override the folders of data sets and of
    binned recordings that the run was trained with.

    Raises:
        RunFolderError: for a folder that is no run, has no finished epoch, or holds a file that cannot be read.
        UserError: for a ``data_dir`` without the data set.
        SaveError: when the page cannot be written; what was there before is unchanged.
    """
    from spikelfp.report.write import write_report as write

    return write(run, data_dir, cache_dir)


def show_recording(
    splits: EventSplits | Unlabelled,
    out: str | Path,
    *,
    part: str | None = None,
    index: int | None = None,
    label: str | None = None,
    pipeline: Pipeline | None = None,
) -> Path:
    """Draw one recording of a data set into a file.

    The ending of the file says what is written: ``.png``, a sheet of accumulated events, their rate over time, how they
    spread over the sensor, and the sequence that a network gets; ``.gif``, an animated picture of a camera; ``.html``,
    a page of both. Of a line of channels the sheet has a raster, or of more than 20,000 events the density.

    Args:
        splits: the data set.
        out: the file to write.
        part: ``train`` or ``test``; ``None``: the first.
        index: number of the recording in its part, or, with ``label``, among those of the class; ``None``: the first.
        label: name of a class; ``None``: of any class.
        pipeline: makes the recording into a sequence; ``None``: that of the data set.

    Returns:
        The path of the file.

    Raises:
        UserError: for another ending, a part, class or number that is not there, or a ``.gif`` of a line of channels.
        DataError: for a recording that cannot be read.
        SaveError: when ``out`` cannot be written; what was there before is unchanged.
    """
    from spikelfp.report import recording

    recording.check_kind(out)
    return recording.write(recording.chosen_recording(splits, part, index, label, pipeline), out)


def show_file(
    path: str | Path,
    out: str | Path,
    *,
    sensor: Sensor | None = None,
    layout: FileLayout | None = None,
    pipeline: Pipeline | Callable[[Pipeline], Pipeline] | None = None,
) -> Path:
    """Draw the recording in a file into another file, as :func:`show_recording` does.

    Args:
        path: of the recording.
        out: the file to write.
        sensor: of a recording that does not say its own.
        layout: of a file of columns, where its content leaves a choice.
        pipeline: makes the recording into a sequence; a function changes the usual one of its sensor
            (:func:`~spikelfp.data.events.usual.usual`), which ``None`` takes.

    Returns:
        The path of the file.

    Raises:
        UserError: for another ending of ``out``, or a ``.gif`` of a line of channels.
        DataError: for a recording that cannot be read, or of a format without a reader.
        SaveError: when ``out`` cannot be written; what was there before is unchanged.
    """
    from spikelfp.data.events.binning import Pipeline
    from spikelfp.data.events.readers import read_stated
    from spikelfp.data.events.tally import tallied, told
    from spikelfp.data.events.usual import usual
    from spikelfp.report import recording

    recording.check_kind(out)
    with tallied() as tally:
        found = read_stated(path, sensor, layout)
    chosen = pipeline(usual(found.sensor)) if pipeline is not None and not isinstance(pipeline, Pipeline) else pipeline
    return show_events(
        found.events, found.sensor, out, name=Path(path).name, where=str(path), pipeline=chosen, notes=told(tally)
    )


def show_events(
    events: Events,
    sensor: Sensor,
    out: str | Path,
    *,
    name: str,
    where: str = "",
    pipeline: Pipeline | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Draw events into a file, as :func:`show_recording` does.

    Args:
        events: ``[M]``, sorted by time.
        sensor: that they lie on.
        out: the file to write.
        name: of the recording, for the headline.
        where: its file, if there is one.
        pipeline: makes the events into a sequence; ``None``: the usual one of the sensor.
        notes: lines about what was moved or left out when they were read.

    Returns:
        The path of the file.

    Raises:
        UserError: for another ending than those of :func:`show_recording`, or a ``.gif`` of a line of channels.
        DataError: for events that do not lie on the sensor or are not sorted by time, or for none.
        SaveError: when ``out`` cannot be written; what was there before is unchanged.
    """
    from spikelfp.data.events.usual import usual
    from spikelfp.report import recording

    recording.check_kind(out)
    shown = recording.ShownRecording(name, where or name, events, sensor, pipeline or usual(sensor), notes=tuple(notes))
    return recording.write(shown, out)


__all__ = ["show_events", "show_file", "show_recording", "write_report"]

public_names(globals())
