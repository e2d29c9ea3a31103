"""A recording of a camera as an animated picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spikelfp.data.events.show import time_edges
from spikelfp.report.rasters import FAINTEST, NIGHT, brightness, event_colours, full_scale
from spikelfp.report.recording import units
from spikelfp.report.recording.facts import Array, Recording

FRAMES = 48
"""Frames of an animation, at most."""

USUAL = 340
"""Pixels of the longer side of a small sensor, about: it is enlarged by a whole number."""

NARROWEST, STRIP = 210, 30
"""Pixels that the words under the picture need."""

SECONDS = 3.0
"""How long a short recording is shown; one that takes longer is shown as fast as it was, up to twice this."""

LEVELS = 6
"""Shades of a polarity: none, and five of brightness."""


@dataclass(frozen=True)
class Animation:
    """A GIF with its size in pixels, its first frame with events as a PNG, and how much slower than life it is."""

    gif: bytes
    still: bytes
    width: int
    height: int
    frames: int
    slower: float


def animate(recording: Recording, most: int = FRAMES) -> Animation:
    """The events of a camera, accumulated over at most ``most`` windows of equal length, again and again.

    Under the picture: the time from the first event, and how far the recording is.
    """
    edges = time_edges(recording.events, most)
    counts = recording.frames(edges)
    full = full_scale(np.stack([each.max(0) for each in counts]))
    span, seconds = int(edges[-1] - edges[0]), (recording.numbers.duration or 1) / 1e6
    shown = min(max(seconds, SECONDS), 2 * SECONDS)
    delay = max(20, round(1000 * shown / len(counts) / 10) * 10)  # a GIF counts in 1/100 s
    images = []
    for number, each in enumerate(counts):
        words = units.moment(int(edges[number + 1] - edges[0]), span)
        images.append(_frame(each, full, words, (number + 1) / len(counts)))
    still = int(np.argmax([each.sum() for each in counts]))
    gif, png = io.BytesIO(), io.BytesIO()
    images[0].save(gif, "GIF", save_all=True, append_images=images[1:], duration=delay, loop=0, optimize=False)
    images[still].save(png, "PNG")
    return Animation(gif.getvalue(), png.getvalue(), *images[0].size, len(images), delay * len(counts) / 1000 / seconds)


def _frame(counts: Array, full: float, words: str, done: float) -> Image.Image:
    """One picture with its strip, each pixel an index into the palette."""
    bright = (brightness(counts, full) - FAINTEST) / (1 - FAINTEST)
    levels = np.where(counts > 0, 1 + (bright * (LEVELS - 2)).round().astype(int), 0)
    picture = levels[0] if len(levels) == 1 else levels[0] * LEVELS + levels[1]
    factor = max(1, round(USUAL / max(picture.shape)))
    picture = picture.repeat(factor, 0).repeat(factor, 1)
    height, width = picture.shape
    canvas = np.zeros((height + STRIP, max(width, NARROWEST)), dtype=np.uint8)
    left = (canvas.shape[1] - width) // 2
    canvas[:height, left : left + width] = picture
    canvas[height:] = _strip(canvas.shape[1], words, done)
    image = Image.fromarray(canvas, "P")
    image.putpalette(_palette(len(levels)).tobytes())
    return image


def _strip(width: int, words: str, done: float) -> NDArray[np.uint8]:
    """A line that grows, over the time; in the greys behind the colours of events."""
    strip = Image.new("L", (width, STRIP), 0)
    draw = ImageDraw.Draw(strip)
    draw.rectangle((0, 0, width - 1, 2), fill=70)
    draw.rectangle((0, 0, max(0, round(width * done) - 1), 2), fill=190)
    draw.text((8, 8), words, fill=255, font=ImageFont.truetype(_font(), 14))
    return (LEVELS * LEVELS + np.asarray(strip).astype(int) * (LEVELS - 1) // 255).astype(np.uint8)


def _palette(polarities: int) -> NDArray[np.uint8]:
    """RGB of the pairs of an OFF and an ON level, or of one level, and behind place ``LEVELS²`` of greys."""
    shades = np.concatenate([[0.0], np.linspace(FAINTEST, 1, LEVELS - 1)])
    if polarities == 1:
        colours = np.zeros((LEVELS * LEVELS, 3))
        colours[:LEVELS] = event_colours(shades[None])
    else:
        colours = event_colours(np.stack(np.meshgrid(shades, shades, indexing="ij"))).reshape(-1, 3)
    paper, ink = np.array(to_rgb(NIGHT)), np.array(to_rgb("#e8ebee"))
    greys = paper + np.linspace(0, 1, LEVELS)[:, None] * (ink - paper)
    return (255 * np.concatenate([colours, greys])).round().astype(np.uint8)


@cache
def _font() -> str:
    return findfont("DejaVu Sans")  # comes with matplotlib
