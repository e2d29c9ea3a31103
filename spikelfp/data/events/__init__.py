"""Event data: recordings of cameras, cochleas and tactile sensors, from their files to batches of sequences.

The way of a recording: a file is decoded by its reader (:mod:`~spikelfp.data.events.readers`) into one array of events
(:data:`EVENT`); a source (:mod:`~spikelfp.data.events.sources`) knows the files of a data set and their classes; a
:class:`Pipeline` of :mod:`~spikelfp.data.events.transforms` and a :class:`Binning` makes sequences of them, which are
kept sparse on disk (:mod:`~spikelfp.data.events.cache`), and a data set hands them out as batches ``[T, B, …]``.
"""

from spikelfp.data.events.binning import Binning, Pipeline, SparseFrames, bin_events
from spikelfp.data.events.event import EVENT, Events, FileLayout, Sensor, check_events
from spikelfp.data.events.recordings import EventSplits, Recordings, load_recordings, recordings
from spikelfp.data.events.slicing import Slices, Slicing, sliced

from spikelfp.data.events import sources  # isort: skip  (they register themselves)
from spikelfp.data.events.sources import from_arrays  # isort: skip
from spikelfp.registry import public_names

__all__ = [
    "EVENT",
    "Binning",
    "EventSplits",
    "Events",
    "FileLayout",
    "Pipeline",
    "Recordings",
    "Sensor",
    "Slices",
    "Slicing",
    "SparseFrames",
    "bin_events",
    "check_events",
    "from_arrays",
    "load_recordings",
    "recordings",
    "sliced",
    "sources",
]

public_names(globals())
