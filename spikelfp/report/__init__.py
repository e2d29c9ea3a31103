"""Reports as single files: the page of a run, and the pictures of a recording of events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikelfp.registry import public_names

if TYPE_CHECKING:  # matplotlib, which draws, takes long to import
    from spikelfp.data.events import Events, EventSplits, Pipeline, Sensor


def write_report(run: str | Path, data_dir: str | None = None, cache_dir: str | None = None) -> Path:
    """Write ``report.html`` into a run folder.

    The page shows what is there: a stopped run has no summary, and a run whose data or checkpoint is missing keeps its
    curves and says what is lacking.

    Args:
        run: the run folder.
        data_dir: folder of data sets, if not the one that the run was trained with.
        cache_dir: folder of binned recordings, if not the one that the run was trained with.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: for a folder that is no run, has no finished epoch, or holds a file that cannot be read.
        UserError: for a ``data_dir`` without the data set.
        SaveError: when the page cannot be written; what was there before is unchanged.
    """
    from spikelfp.report.write import write_report as write

    return write(run, data_dir, cache_dir)


def show_recording(
    splits: EventSplits,
    out: str | Path,
    *,
    part: str = "train",
    index: int | None = None,
    label: str | None = None,
    pipeline: Pipeline | None = None,
) -> Path:
    """Draw one recording of a data set into a file.

    The ending of ``out`` says what is written: ``.png``, a sheet of accumulated events, their rate over time, how they
    spread over the sensor, and the sequence that a network gets; ``.gif``, an animated picture of a camera; ``.html``,
    a page of both. Recordings of a line of channels have a raster on the sheet, or, above 20,000 events, their density.

    Args:
        splits: the data set.
        out: path of the file.
        part: ``train`` or ``test``.
        index: number of the recording, of all or, with ``label``, of those of that class; ``None``: 0.
        label: name of a class.
        pipeline: how the recording is made into a sequence; ``None``: as the data set says.

    Returns:
        The path ``out``.

    Raises:
        UserError: for another ending, a part, class or number that is not there, or a ``.gif`` of a line of channels.
        DataError: for a recording that cannot be read.
        SaveError: when ``out`` cannot be written; what was there before is unchanged.
    """
    from spikelfp.report.recording import show_recording as show

    return show(splits, out, part=part, index=index, label=label, pipeline=pipeline)


def show_file(
    path: str | Path, out: str | Path, *, sensor: Sensor | None = None, pipeline: Pipeline | None = None
) -> Path:
    """Draw the recording in a file into another file, as :func:`show_recording` does.

    Args:
        path: the recording.
        out: path of the file that is written.
        sensor: of the recording, for files that do not say it.
        pipeline: how the recording is made into a sequence; ``None``: 20 steps of equal length.

    Returns:
        The path ``out``.

    Raises:
        UserError: for another ending of ``out``, or a ``.gif`` of a line of channels.
        DataError: for a recording that cannot be read, or of a format without a reader.
        SaveError: when ``out`` cannot be written; what was there before is unchanged.
    """
    from spikelfp.report.recording import show_file as show

    return show(path, out, sensor=sensor, pipeline=pipeline)


def show_events(
    events: Events, sensor: Sensor, out: str | Path, *, name: str, where: str = "", pipeline: Pipeline | None = None
) -> Path:
    """Draw events into a file, as :func:`show_recording` does.

    Args:
        events: the events ``[M]``, sorted by time.
        sensor: on which they lie.
        out: path of the file.
        name: headline of the page.
        where: file of the events, if there is one.
        pipeline: how the events are made into a sequence; ``None``: 20 steps of equal length.

    Returns:
        The path ``out``.

    Raises:
        UserError: for another ending than those of :func:`show_recording`, or a ``.gif`` of a line of channels.
        DataError: for events that do not lie on the sensor or are not sorted by time, or for none.
        SaveError: when ``out`` cannot be written; what was there before is unchanged.
    """
    from spikelfp.report.recording import show_events as show

    return show(events, sensor, out, name=name, where=where, pipeline=pipeline)


__all__ = ["show_events", "show_file", "show_recording", "write_report"]

public_names(globals())
