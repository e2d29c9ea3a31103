"""Times in the unit that suits the length of a recording, and large numbers."""

from __future__ import annotations

from spikelfp.data.events.binning import Binning
from spikelfp.report import wording


def scale_of(span: float) -> tuple[float, str]:
    """The µs of a unit, and its name, for a recording of ``span`` µs."""
    if span < 2_000:
        return 1.0, "µs"
    return (1e3, "ms") if span < 10_000_000 else (1e6, "s")


def duration(span: float) -> str:
    """``span`` µs in words."""
    scale, unit = scale_of(span)
    return f"{span / scale:.3g} {unit}" if span / scale < 1e3 else f"{span / scale:,.0f} {unit}"


def between(begin: float, end: float, span: float) -> str:
    """From ``begin`` to ``end`` µs, in the unit for a recording of ``span`` µs."""
    return f"{moment(begin, span).split()[0]}–{moment(end, span)}"


def moment(time: float, span: float) -> str:
    """``time`` µs, as exact as suits a recording of ``span`` µs."""
    scale, unit = scale_of(span)
    digits = 0 if span / scale >= 100 else 1 if span / scale >= 10 else 2
    return f"{time / scale:,.{digits}f} {unit}"


def short_number(value: float) -> str:
    """``950``, ``12k``, ``1.5M``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def binned(binning: Binning, steps: int) -> str:
    """How a recording was cut into that many steps."""
    if binning.count is not None:
        how = f"of {wording.plural(binning.count, 'event')} each"
    elif binning.window is not None:
        how = f"of {duration(binning.window)} each"
    else:
        how = "of equal length"
    value = "an input spikes if it has an event" if binning.levels == 1 else f"up to {binning.levels} events count"
    return f"{wording.plural(steps, 'step')} {how}; {value}"
