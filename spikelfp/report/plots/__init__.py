"""The figures of a report: arrays in, a matplotlib figure out, nothing kept between calls.

Each takes the :class:`~spikelfp.report.theme.Theme` it is drawn for. Titles and explanations are the page's.
"""

from spikelfp.report.plots.curves import curves, early, traces
from spikelfp.report.plots.errors import confusion, misread
from spikelfp.report.plots.fitted import against, found_labels, residuals
from spikelfp.report.plots.image import is_image
from spikelfp.report.plots.layers import class_rates, rates, weights
from spikelfp.report.plots.parts import HALF, NAMED_CLASSES, THIRD, WIDE, class_colours, short
from spikelfp.report.plots.raster import ALL_NEURONS, SHOWN_NEURONS, outputs, raster
from spikelfp.report.theme import new_figure

__all__ = [
    "ALL_NEURONS",
    "HALF",
    "NAMED_CLASSES",
    "SHOWN_NEURONS",
    "THIRD",
    "WIDE",
    "against",
    "class_colours",
    "class_rates",
    "confusion",
    "curves",
    "early",
    "found_labels",
    "is_image",
    "misread",
    "new_figure",
    "outputs",
    "raster",
    "rates",
    "residuals",
    "short",
    "traces",
    "weights",
]
