"""What there is to see in recordings, as arrays and numbers: frames, rates, counts, and an overview of a data set.

It is drawn by :mod:`spikelfp.report.recording`.
"""

from spikelfp.data.events.show.frames import count, cut, elements, rates, shrink, time_edges
from spikelfp.data.events.show.numbers import RecordingNumbers, numbers_of, per_pixel
from spikelfp.data.events.show.overview import Overview, PartOverview, overview, overview_text
from spikelfp.data.events.show.steps import some_steps, step_edges

__all__ = [
    "Overview",
    "PartOverview",
    "RecordingNumbers",
    "count",
    "cut",
    "elements",
    "numbers_of",
    "overview",
    "overview_text",
    "per_pixel",
    "rates",
    "shrink",
    "some_steps",
    "step_edges",
    "time_edges",
]
