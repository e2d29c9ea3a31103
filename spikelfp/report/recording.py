"""One recording of events as a sheet of figures, an animated picture or a page.

A figure is a :class:`Drawing`: it can be drawn by itself for the page, in either theme, or beside others on the sheet.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spikelfp.data.events import (
    Binning,
    Events,
    EventSplits,
    Pipeline,
    Sensor,
    Slices,
    SparseFrames,
    check_events,
    show,
)
from spikelfp.data.events.recordings import Unlabelled
from spikelfp.data.events.tally import count, tallied, told
from spikelfp.data.events.usual import joined_note
from spikelfp.errors import UserError
from spikelfp.files import write_whole
from spikelfp.registry import check_name, unknown_name
from spikelfp.report import wording
from spikelfp.report.event_drawings import (
    ALL_EVENTS,
    SEQUENCE,
    STEPS,
    Canvas,
    Drawing,
    channel_bars,
    duration,
    events_and_input,
    interval,
    moment,
    pictures,
    pictures_in_row,
    pixel_histogram,
    pixel_map,
    raster,
    rate_bars,
    sequence,
    short_number,
    time_unit,
)
from spikelfp.report.page import Headline, MovingPicture, Picture, Section, render
from spikelfp.report.rasters import FAINTEST, NIGHT, brightness, event_colours, full_scale
from spikelfp.report.theme import (
    DARK,
    HALF,
    LIGHT,
    MEDIUM,
    SMALL,
    WIDE,
    Array,
    Theme,
    new_figure,
    png,
    short,
)

LARGEST = 480
"""Longest side of an accumulated picture in pixels."""

RATE_WINDOWS = 60
"""Windows of time in which events are counted for their rate."""


@dataclass(frozen=True)
class ShownRecording:
    """A recording of events, with the values that are drawn.

    Attributes:
        name: headline.
        where: its file, and the place in it.
        events: ``[M]``, sorted by time.
        sensor: that they lie on.
        pipeline: makes them into the sequence that a network gets.
        label: name of its class, if it has one.
        notes: lines about what was moved or left out when it was read.

    Raises:
        DataError: for events that do not fit the sensor, and for none.
    """

    name: str
    where: str
    events: Events
    sensor: Sensor
    pipeline: Pipeline
    label: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_events(self.events, self.sensor, self.where)

    @property
    def title(self) -> str:
        """Name and class."""
        return self.name if self.label is None else f"{self.name} · class {self.label}"

    @property
    def is_camera(self) -> bool:
        """Whether the events make pictures."""
        return _is_camera(self.sensor)

    @property
    def span(self) -> int:
        """Duration in µs, the last included."""
        return self.numbers.duration + 1

    @cached_property
    def numbers(self) -> show.RecordingNumbers:
        """Its summary."""
        return show.numbers_of(self.events, self.sensor)

    def told(self) -> list[str]:
        """Lines about what was moved or left out, when it was read and in the steps of its sequence."""
        late = self.sequence.late
        count(self.where, {"late": late})
        joined = joined_note(self.sensor, self.pipeline)
        return [*self.notes, *told({self.where: {"late": late}} if late else {}), *filter(None, [joined])]

    @cached_property
    def sequence(self) -> SparseFrames:
        """The sequence that a network gets."""
        return self.pipeline(self.events, self.sensor)

    def facts(self) -> list[tuple[str, str]]:
        """Its summary as pairs of a name and a value."""
        numbers, sensor = self.numbers, self.sensor
        pairs = [("events", f"{numbers.events:,}"), ("long", duration(numbers.duration))]
        if numbers.rate is not None:
            pairs.append(("events per second", short_number(numbers.rate)))
        if numbers.on_share is not None:
            pairs.append(("ON", wording.percent(numbers.on_share)))
        pixels = "channels" if sensor.is_line else "pixels"
        pairs.append((f"of the {pixels} have events", wording.percent(numbers.active)))
        return [*pairs, (pixels, str(sensor.width) if sensor.is_line else f"{sensor.width} × {sensor.height}")]

    def step_edges(self) -> NDArray[np.int64]:
        """Times in µs at which the steps of the sequence begin, and the end of the last: ``[T + 1]``."""
        events, sensor = self.events, self.sensor
        for transform in self.pipeline.transforms:
            events, sensor = transform(events, sensor), transform.sensor(sensor)
        if len(events) == 0:  # nothing is left, so that no step has a time
            return np.full(self.sequence.steps + 1, self.events["t"][0], dtype=np.int64)
        return show.step_edges(events, self.pipeline.binning, self.sequence.steps)

    def frames(self, edges: NDArray[np.int64]) -> list[Array]:
        """Events accumulated between the ``edges`` in µs: ``[P, H, W]`` each, of large sensors over blocks."""
        return [show.shrink(show.count(part, self.sensor), LARGEST) for part in show.cut(self.events, edges)]


def _is_camera(sensor: Sensor) -> bool:
    return min(sensor.height, sensor.width) > 1


def chosen_recording(
    splits: EventSplits | Unlabelled, part: str | None, index: int | None, label: str | None, pipeline: Pipeline | None
) -> ShownRecording:
    """Choose a recording of a data set.

    Args:
        splits: the data set.
        part: ``train`` or ``test``; ``None``: the first.
        index: number of the recording in the part, or among those of the class ``label``; ``None``: the first.
        label: name of a class; ``None``: of any class.
        pipeline: in place of that of the data set.

    Raises:
        UserError: for a part, a class or a number that is not there.
        DataError: for a recording that cannot be read.
    """
    parts = splits.parts
    part = next(iter(parts)) if part is None else check_name("part", part, parts)
    recordings = parts[part]
    kind = "slice" if isinstance(recordings, Slices) else "recording"
    among = np.arange(len(recordings))
    if label is not None:
        if label not in recordings.class_names:
            raise unknown_name(f"class of {splits.name}", label, recordings.class_names)
        among = np.flatnonzero(recordings.labels == recordings.class_names.index(label))
    number = 0 if index is None else index
    if not 0 <= number < len(among):
        of_class = "" if label is None else f" of class {label}"
        has = f"{len(among):,} {kind}s{of_class}" + (f", 0 to {len(among) - 1}" if len(among) else "")
        raise UserError(f"there is no {kind} {number} in {splits.name} {part}: it has {has}")
    chosen = int(among[number])
    with tallied() as tally:
        events = recordings.read(chosen)
    return ShownRecording(
        name=f"{wording.data_name(splits.name)} · {part} · {kind} {chosen}",
        where=recordings.where(chosen),
        events=events,
        sensor=recordings.sensor,
        pipeline=pipeline or splits.pipeline,
        label=recordings.class_names[int(recordings.labels[chosen])] if recordings.class_names else None,
        notes=tuple(told(tally)),
    )


# The figures of a recording


@dataclass(frozen=True)
class Panel:
    """A drawing with its text.

    Attributes:
        title: above it.
        caption: under the title.
        alt: description for readers who cannot see it.
        drawing: the figure.
    """

    title: str
    caption: str
    alt: str
    drawing: Drawing

    def picture(self) -> Picture:
        """Draw it for a page."""
        light, dark = (png(self.drawing.figure(theme)) for theme in (LIGHT, DARK))
        return Picture(self.title, self.caption, self.alt, light, dark, self.drawing.width == WIDE)


def over_time(recording: ShownRecording) -> Panel:
    """Accumulated events of a camera, picture by picture; the raster of a line of channels."""
    sensor, span = recording.sensor, recording.span
    if recording.is_camera:
        edges = show.time_edges(recording.events, 2 * pictures_in_row(sensor.height, sensor.width))
        captions = [interval(begin - edges[0], end - edges[0], span) for begin, end in pairwise(edges)]
        each = duration((edges[-1] - edges[0]) / (len(edges) - 1))
        return Panel(
            "Events over time",
            f"All events of {each} in one picture; the brighter, the more.",
            f"{len(captions)} pictures of accumulated events",
            pictures(recording.frames(edges), captions),
        )
    scale, unit = time_unit(span)
    after = (recording.events["t"] - recording.events["t"][0]) / scale
    caption = "A tick is an event."
    if len(after) > ALL_EVENTS:
        caption = f"{len(after):,} events are too many for a tick each: the stronger the colour, the more of them."
    if not sensor.is_line:
        off = sensor.size // sensor.polarities - 1
        caption += f" Channels 0 to {off} are the OFF events, those above the ON events."
    return Panel(
        "Events over time",
        caption,
        f"Events of {sensor.size} channels over {duration(span)}",
        raster(after, show.elements(recording.events, sensor), sensor.size, span / scale, unit),
    )


def rate(recording: ShownRecording, width: float = HALF) -> Panel:
    """Events per second over time."""
    edges = show.time_edges(recording.events, RATE_WINDOWS)
    scale, unit = time_unit(recording.span)
    per_second = show.rates(recording.events, recording.sensor, edges)
    each, mean = duration((edges[-1] - edges[0]) / (len(edges) - 1)), recording.numbers.rate
    return Panel(
        "Event rate",
        f"in windows of {each}" + ("" if mean is None else f"; {short_number(mean)} events per second on average"),
        f"Event rate over time, at most {short_number(per_second.sum(0).max())} events per second",
        rate_bars(per_second, (edges - edges[0]) / scale, unit, width),
    )


def where(recording: ShownRecording) -> list[Panel]:
    """How the events spread over the pixels or channels; hot ones stand out."""
    numbers, sensor = recording.numbers, recording.sensor
    if not recording.is_camera:
        counts = np.bincount(show.elements(recording.events, sensor), minlength=sensor.size)
        hottest = int(counts.argmax())
        caption = f"most in channel {hottest}: {counts[hottest]:,} of {numbers.events:,}"
        silent = int((counts == 0).sum())
        if silent:
            caption += f"; none in {silent:,} of {len(counts):,}"
        alt = f"Events of {len(counts)} channels, {caption}"
        return [Panel("Events per channel", caption, alt, channel_bars(counts))]
    counts = show.per_pixel(recording.events, sensor)
    column, row = numbers.hottest
    most = wording.plural(numbers.hottest_events, "event")
    ring = f"the ring is around the one with the most: {most} at column {column}, row {row}"
    share = f"{wording.percent(numbers.active)} of the pixels have an event"
    return [
        Panel(
            "Events per pixel",
            f"events of each pixel; {ring}",
            f"Events of each pixel as a picture; {ring}",
            pixel_map(counts, numbers.hottest),
        ),
        Panel(
            "Pixels by number of events",
            f"{share}; a hot pixel would stand far to the right",
            f"Histogram of the events of a pixel; {share}",
            pixel_histogram(counts),
        ),
    ]


def network_input(recording: ShownRecording) -> Panel:
    """The sequence that a network gets: of a camera under the events, of channels over their time."""
    frames, binning, span = recording.sequence, recording.pipeline.binning, recording.span
    sensor = recording.pipeline.sensor(recording.sensor)
    edges = recording.step_edges() - recording.events["t"][0]
    filled = len(frames.places) / (frames.steps * sensor.size)
    shape = " × ".join(map(str, sensor.shape))
    caption = f"{_binning_text(binning, frames.steps)}. A step is {shape}; {wording.percent(filled)} of it is not 0."
    alt = f"The sequence that a network gets: {caption}"
    if recording.is_camera and _is_camera(sensor):
        columns = pictures_in_row(recording.sensor.height, recording.sensor.width, STEPS)
        chosen = evenly_spaced(frames.steps, columns)
        captions = [f"step {k + 1}\n{interval(edges[k], edges[k + 1], span)}" for k in chosen]
        raw = [recording.frames(edges[k : k + 2] + recording.events["t"][0])[0] for k in chosen]
        values = show.dense_steps(frames, sensor.shape, chosen.tolist(), binning.levels)
        if len(chosen) < frames.steps:
            caption += f" {len(chosen)} of the steps are shown."
        return Panel("Input of the network", caption, alt, events_and_input(raw, list(values), captions))
    scale, unit = time_unit(span)
    values, begins = _coarse(frames, sensor.size, binning.levels)
    across = edges[begins] / scale
    drawing = sequence(values, across, sensor.size, max(span / scale, across[-1]), unit)
    return Panel("Input of the network", caption, alt, drawing)


def evenly_spaced(steps: int, most: int) -> NDArray[np.int64]:
    """Choose at most so many of the steps, from the first on, with as many left out after each."""
    stride = 1 if steps <= most else -(-steps // most) if most == 1 else max(1, (steps - 1) // (most - 1))
    return np.arange(0, steps, stride, dtype=np.int64)[:most]


def _binning_text(binning: Binning, steps: int) -> str:
    if binning.count is not None:
        how = f"of {wording.plural(binning.count, 'event')} each"
    elif binning.window is not None:
        how = f"of {duration(binning.window)} each"
    else:
        how = "of equal length"
    value = "an input spikes if it has an event" if binning.levels == 1 else f"up to {binning.levels} events count"
    return f"{wording.plural(steps, 'step')} {how}; {value}"


def _coarse(frames: SparseFrames, size: int, levels: int) -> tuple[Array, Array]:
    """The values ``[K, N]`` of a sequence, few enough to draw, and the first step of each column with the end."""
    columns, rows = min(frames.steps, SEQUENCE[0]), min(size, SEQUENCE[1])
    values = np.zeros((columns, rows), dtype=np.float32)
    places = frames.places.astype(np.int64)
    across, down = places // size * columns // frames.steps, places % size * rows // size
    np.maximum.at(values, (across, down), frames.counts / np.float32(levels))
    return values, -(-np.arange(columns + 1) * frames.steps // columns)


# The sheet


def sheet(recording: ShownRecording, theme: Theme = LIGHT) -> bytes:
    """Draw all figures of a recording on one sheet: a PNG on the theme's paper."""
    margin, between = 34.0, 40.0
    rows = [[over_time(recording)]]
    if recording.is_camera:
        rows += [[rate(recording, WIDE)], where(recording)]
    else:
        rows += [[rate(recording), *where(recording)]]
    rows.append([network_input(recording)])
    captions = [[textwrap.wrap(panel.caption, int(panel.drawing.width / 5.9)) for panel in row] for row in rows]
    tops = [[30.0 + 15 * len(lines) for lines in row] for row in captions]
    heights = [
        max(top + panel.drawing.height for top, panel in zip(own, row, strict=True))
        for own, row in zip(tops, rows, strict=True)
    ]
    notes = [line for note in recording.told() for line in textwrap.wrap(note, int(WIDE / 5.9))]
    figure = new_figure(WIDE + 2 * margin, 66 + 15 * len(notes) + sum(heights) + 20 * len(rows) + 2 * margin)
    canvas = Canvas(figure, margin, margin)
    canvas.text(0, 0, short(recording.title, 90), fontsize=15, weight="bold", color=theme.ink)
    facts = " · ".join(f"{value} {term}" for term, value in recording.facts())
    canvas.text(0, 40, facts, fontsize=MEDIUM, color=theme.muted)
    if notes:
        canvas.text(0, 62, "\n".join(notes), fontsize=SMALL + 0.5, color=theme.muted, linespacing=1.3)
    down = margin + 86 + 15 * len(notes)
    for row, row_captions, row_tops, height in zip(rows, captions, tops, heights, strict=True):
        left = margin
        for panel, lines, top in zip(row, row_captions, row_tops, strict=True):
            part = Canvas(figure, left, down)
            part.text(0, 4, panel.title, fontsize=MEDIUM + 1.5, weight="bold", color=theme.ink)
            part.text(0, 25, "\n".join(lines), fontsize=SMALL + 0.5, color=theme.muted, linespacing=1.3)
            panel.drawing.draw(Canvas(figure, left, down + top), theme)
            left += panel.drawing.width + between
        down += height + 20
    paper = io.BytesIO()
    Image.open(io.BytesIO(png(figure, paper=theme.paper))).convert("RGB").save(paper, "PNG")
    return paper.getvalue()


# The animated picture

FRAMES = 48
"""Most frames of an animation."""

ENLARGED = 340
"""Pixels of the longer side of a small sensor, about: it is enlarged by a whole number."""

NARROWEST, STRIP = 210, 30
"""Pixels that the text under the picture needs."""

SECONDS = 3.0
"""Time that a short recording is shown; a longer one is shown as fast as it was, up to twice this."""

LEVELS = 6
"""Shades of a polarity: none, and five of brightness."""


def animate(recording: ShownRecording, most: int = FRAMES) -> MovingPicture:
    """Accumulate the events of a camera over at most ``most`` windows of equal length, shown again and again.

    Under the picture stand the time from the first event and a bar of the progress.
    """
    edges = show.time_edges(recording.events, most)
    counts = recording.frames(edges)
    full = full_scale(np.stack([each.max(0) for each in counts]))
    span, seconds = int(edges[-1] - edges[0]), (recording.numbers.duration or 1) / 1e6
    shown = min(max(seconds, SECONDS), 2 * SECONDS)
    delay = max(20, round(1000 * shown / len(counts) / 10) * 10)  # a GIF counts in 1/100 s
    font = ImageFont.truetype(findfont("DejaVu Sans"), 14)  # comes with matplotlib
    images = []
    for number, each in enumerate(counts):
        text = moment(int(edges[number + 1] - edges[0]), span)
        images.append(_animation_frame(each, full, text, (number + 1) / len(counts), font))
    still = int(np.argmax([each.sum() for each in counts]))
    gif, first = io.BytesIO(), io.BytesIO()
    images[0].save(gif, "GIF", save_all=True, append_images=images[1:], duration=delay, loop=0, optimize=False)
    images[still].save(first, "PNG")
    slower = delay * len(counts) / 1000 / seconds
    speed = "as fast as it was"
    if slower > 1.05:
        speed = f"{slower:.2g} times slower than it was"
    elif slower < 0.95:
        speed = f"{1 / slower:.2g} times faster than it was"
    caption, alt = f"{len(images)} pictures, {speed}", f"Animated picture of the events, {speed}"
    return MovingPicture("The recording", caption, alt, gif.getvalue(), first.getvalue(), *images[0].size)


def _animation_frame(counts: Array, full: float, text: str, done: float, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One picture with a strip under it, each pixel an index into the palette."""
    bright = (brightness(counts, full) - FAINTEST) / (1 - FAINTEST)
    levels = np.where(counts > 0, 1 + (bright * (LEVELS - 2)).round().astype(int), 0)
    picture = levels[0] if len(levels) == 1 else levels[0] * LEVELS + levels[1]
    factor = max(1, round(ENLARGED / max(picture.shape)))
    picture = picture.repeat(factor, 0).repeat(factor, 1)
    height, width = picture.shape
    canvas = np.zeros((height + STRIP, max(width, NARROWEST)), dtype=np.uint8)
    left = (canvas.shape[1] - width) // 2
    canvas[:height, left : left + width] = picture
    strip = Image.new("L", (canvas.shape[1], STRIP), 0)
    draw = ImageDraw.Draw(strip)
    draw.rectangle((0, 0, strip.width - 1, 2), fill=70)
    draw.rectangle((0, 0, max(0, round(strip.width * done) - 1), 2), fill=190)
    draw.text((8, 8), text, fill=255, font=font)
    canvas[height:] = LEVELS * LEVELS + np.asarray(strip).astype(int) * (LEVELS - 1) // 255
    image = Image.fromarray(canvas, "P")
    image.putpalette(_palette(len(levels)).tobytes())
    return image


def _palette(polarities: int) -> NDArray[np.uint8]:
    """RGB of the pairs of an OFF and an ON level, or of one level; from place ``LEVELS²`` on, greys for the strip."""
    shades = np.concatenate([[0.0], np.linspace(FAINTEST, 1, LEVELS - 1)])
    if polarities == 1:
        colours = np.zeros((LEVELS * LEVELS, 3))
        colours[:LEVELS] = event_colours(shades[None])
    else:
        colours = event_colours(np.stack(np.meshgrid(shades, shades, indexing="ij"))).reshape(-1, 3)
    paper, ink = np.array(to_rgb(NIGHT)), np.array(to_rgb("#e8ebee"))
    greys = paper + np.linspace(0, 1, LEVELS)[:, None] * (ink - paper)
    return (255 * np.concatenate([colours, greys])).round().astype(np.uint8)


# The page


def page(recording: ShownRecording) -> str:
    """Make a page of all figures and the animation, which needs no other file."""
    file, colon, inside = recording.where.partition(": ")
    rest = [rate(recording).picture()], [panel.picture() for panel in where(recording)]
    sections = [Section("Overview", pictures=[over_time(recording).picture()])]
    if recording.is_camera:
        sections.append(Section("In motion", pictures=[animate(recording), *rest[0]], pair=True))
        sections.append(Section("Pixels", pictures=rest[1], pair=True))
    else:
        sections.append(Section("Event counts", pictures=[*rest[0], *rest[1]], pair=True))
    sections.append(Section("As input of a network", pictures=[network_input(recording).picture()]))
    header = Headline(
        name=Path(file).name + colon + inside,  # without the folders of this machine: a page is passed on
        state="" if recording.label is None else f"class {recording.label}",
        title=recording.name,
        score=f"{recording.numbers.events:,}",
        score_text=f"events in {duration(recording.numbers.duration)}",
    )
    return render(recording.title, header, facts=recording.facts()[2:], notes=recording.told(), sections=sections)


# Files


def check_kind(out: str | Path) -> str:
    """Return the ending of ``out``, in lower case.

    Raises:
        UserError: for an ending that is not among :data:`KINDS`.
    """
    kind = Path(out).suffix.lower()
    if kind not in KINDS:
        raise UserError(f"a recording is shown as a file that ends in {', '.join(KINDS)}, got {out}")
    return kind


def write(recording: ShownRecording, out: str | Path) -> Path:
    """Draw a recording into the file ``out``, whose ending says how, and return its path.

    Raises:
        UserError: for another ending, or an animated picture of a line of channels.
        SaveError: when it cannot be written; what was there before is unchanged.
    """
    path = Path(out)
    content = KINDS[check_kind(path)](recording)
    recording.told()  # counted also where the picture has no room for it
    write_whole(path, lambda file: file.write(content))
    return path


def _gif(recording: ShownRecording) -> bytes:
    if not recording.is_camera:
        raise UserError(
            f"{recording.where} is a recording of {recording.sensor}, no camera, and has no animated picture: "
            "choose a .png or .html"
        )
    return animate(recording).gif


KINDS: dict[str, Callable[[ShownRecording], bytes]] = {
    ".png": sheet,
    ".gif": _gif,
    ".html": lambda recording: page(recording).encode(),
}
"""Kinds of files that a recording is drawn into, by their ending."""
