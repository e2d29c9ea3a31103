"""A recording as a page that needs no other file."""

from __future__ import annotations

from spikelfp.report.page import Animation, Header, Picture, Section, render
from spikelfp.report.recording import panels, units
from spikelfp.report.recording.animation import animate
from spikelfp.report.recording.facts import Recording
from spikelfp.report.recording.panels import Panel
from spikelfp.report.recording.summary import file_of, headline, in_numbers
from spikelfp.report.theme import DARK, LIGHT, png


def page(recording: Recording) -> str:
    """The page as text."""
    numbers = recording.numbers
    label = "" if recording.label is None else f"class {recording.label}"
    rate = [_picture(panels.rate(recording))]
    where = [_picture(panel) for panel in panels.where(recording)]
    sections = [Section("What was recorded", pictures=[_picture(panels.over_time(recording))])]
    if recording.is_camera:
        sections += [
            Section("In motion", pictures=[_moving(recording), *rate], pair=True),
            Section("Pixels", pictures=where, pair=True),
        ]
    else:
        sections.append(Section("How many", pictures=[*rate, *where], pair=True))
    sections.append(Section("As a sequence", pictures=[_picture(panels.seen(recording))]))
    events, duration = f"{numbers.events:,}", f"events in {units.duration(numbers.duration)}"
    return render(
        headline(recording),
        Header(file_of(recording), label, recording.name, events, duration),
        facts=[pair for pair in in_numbers(recording) if pair[0] not in ("events", "long")],
        sections=sections,
    )


def _picture(panel: Panel) -> Picture:
    light, dark = png(panel.draw(theme=LIGHT)), png(panel.draw(theme=DARK))
    return Picture(panel.title, panel.caption, panel.text, light, dark, panel.wide)


def _moving(recording: Recording) -> Animation:
    shown = animate(recording)
    speed = "as fast as it was"
    if shown.slower > 1.05:
        speed = f"{shown.slower:.2g} times slower than it was"
    elif shown.slower < 0.95:
        speed = f"{1 / shown.slower:.2g} times faster than it was"
    return Animation(
        "The recording",
        f"{shown.frames} pictures, {speed}",
        f"Animated picture of the events, {speed}",
        shown.gif,
        shown.still,
        shown.width,
        shown.height,
    )
