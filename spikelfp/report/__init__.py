"""Pictures, as files without references to anything else: of a run, and of a recording of events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikelfp.registry import public_names

if TYPE_CHECKING:  # matplotlib, which draws, takes long to import
    from spikelfp.data.events import Events, EventSplits, Pipeline, Sensor


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
    splits: EventSplits,
    out: str | Path,
    *,
    part: str = "train",
    index: int | None = None,
    label: str | None = None,
    pipeline: Pipeline | None = None,
) -> Path:
    """Draw one recording of a data set into the file ``out`` and return its path.

    The ending of ``out`` says what is written: ``.png``, a sheet of accumulated events, their rate over time, how they
    spread over the sensor, and the sequence that a network gets; ``.gif``, an animated picture of a camera;
    ``.html``, a page of both. Of a line of channels the sheet has a raster, or of more than 20,000 events the density.

    part: ``train`` or ``test``. index: of the recording, of all or, with ``label``, of those of that class; 0 if left
    out. label: the name of a class. pipeline: how it is made into a sequence, if not as the data set says.

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
    """Draw the recording in the file ``path`` into the file ``out``, as :func:`show_recording` does.

    sensor: for files that do not say theirs. pipeline: how it is made into a sequence; 20 steps of equal length if
    left out.

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
    """Draw the ``events`` ``[M]`` of a ``sensor`` into the file ``out``, as :func:`show_recording` does.

    name: what they are, as the headline. where: their file, if there is one. pipeline: how they are made into a
    sequence; 20 steps of equal length if left out.

    Raises:
        UserError: for another ending than those of :func:`show_recording`, or a ``.gif`` of a line of channels.
        DataError: for events that do not lie on the sensor or are not sorted by time, or for none.
        SaveError: when ``out`` cannot be written; what was there before is unchanged.
    """
    from spikelfp.report.recording import show_events as show

    return show(events, sensor, out, name=name, where=where, pipeline=pipeline)


__all__ = ["show_events", "show_file", "show_recording", "write_report"]

public_names(globals())
