"""Figures of event data: nothing is cut off, and what is drawn is what is there."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from report_events import CAMERA, LINE, kept, recorded

from spikelfp.report import event_drawings as drawings
from spikelfp.report import rasters
from spikelfp.report.figures import early
from spikelfp.report.rasters import FAINTEST, NIGHT, OFF, ON, brightness, event_colours, full_scale
from spikelfp.report.theme import DARK, LIGHT, Theme, png

NAMES = ("left", "right", "still")
FRAMES = kept(CAMERA, [14], 3).sequences[0].numpy()
CHANNELS = kept(LINE, [30], 3).sequences[0].numpy()
RANDOM = np.random.default_rng(0)


def _layers(steps: int) -> list[tuple[str, np.ndarray]]:
    return [("A", (RANDOM.random((steps, 20)) < 0.3) * 1.0), ("B", (RANDOM.random((steps, 3)) < 0.4) * 1.0)]


def _counts(planes: int, height: int, width: int, number: int) -> list[np.ndarray]:
    return list(RANDOM.poisson(0.4, (number, planes, height, width)))


FIGURES: dict[str, Callable[[], Figure]] = {
    "camera": lambda: rasters.raster(FRAMES.sum(0), _layers(14), 1, NAMES, events=FRAMES, step="step of 10 ms"),
    "one polarity": lambda: rasters.raster(
        FRAMES[:, 0].sum(0), _layers(14), 1, NAMES, events=FRAMES[:, :1], theme=DARK
    ),
    "three steps": lambda: rasters.raster(FRAMES[0], _layers(3), 1, NAMES, events=FRAMES[:3]),
    "wide camera": lambda: rasters.raster(np.ones((2, 3, 40)), _layers(9), 1, NAMES, events=np.ones((9, 2, 3, 40))),
    "line": lambda: rasters.raster(None, _layers(30), 1, NAMES, events=CHANNELS, scores=np.array([1.0, 2, 3])),
    "many channels": lambda: rasters.raster(
        None, _layers(600), 1, NAMES, events=(RANDOM.random((600, 700)) < 0.02) / 4
    ),
    "silent line": lambda: rasters.raster(None, _layers(5), 1, NAMES, events=np.zeros((5, 4)), output=False),
    "outputs of a line": lambda: rasters.outputs(None, RANDOM.normal(size=3), 1, NAMES),
    "misread lines": lambda: rasters.misread([(CHANNELS.T, 0, 1, 2.0)] * 9, NAMES, line=True),
    "misread pictures": lambda: rasters.misread([(FRAMES.sum(0), 0, 1, 2.0)] * 4, NAMES, theme=DARK),
    "early": lambda: early(np.array([np.nan, 0.1, 0.6, 0.7]), 3),
    "early of many steps": lambda: early(np.linspace(0, 0.05, 300), 240, "step of 1 ms", theme=DARK),
    "frames": lambda: drawings.pictures(_counts(2, 34, 34, 12), [f"{n}–{n + 1} ms" for n in range(12)]).figure(),
    "wide frames": lambda: drawings.pictures(_counts(1, 30, 90, 7), ["0.0–6.7 ms"] * 7).figure(DARK),
    "tall frames": lambda: drawings.pictures(_counts(2, 90, 12, 2), ["0–6 ms"] * 2).figure(),
    "beside": lambda: drawings.events_and_input(
        _counts(2, 20, 30, 5), [np.ones((2, 5, 5))] * 5, ["step 1\n0–3 ms"] * 5
    ).figure(),
    "map": lambda: drawings.pixel_map(RANDOM.poisson(3, (30, 40)), (2, 29)).figure(),
    "flat map": lambda: drawings.pixel_map(np.ones((2, 90), dtype=int), (0, 0)).figure(DARK),
    "raster": lambda: drawings.raster(np.arange(9.0), np.arange(9), 24, 9.0, "ms").figure(),
    "density": lambda: drawings.raster(
        np.sort(RANDOM.random(30_000)), RANDOM.integers(0, 700, 30_000), 700, 1.0, "s"
    ).figure(),
    "steps": lambda: drawings.sequence(RANDOM.random((9, 24)), np.arange(10.0), 24, 9.0, "ms").figure(DARK),
    "rates": lambda: drawings.rate_bars(RANDOM.random((2, 60)) * 1e5, np.arange(61.0), "ms", width=900.0).figure(),
    "rate of a line": lambda: drawings.rate_bars(np.ones((1, 4)), np.arange(5.0), "µs").figure(),
    "one polarity silent": lambda: drawings.rate_bars(np.array([[0.0, 0], [1, 2]]), np.arange(3.0), "ms").figure(),
    "per pixel": lambda: drawings.pixel_histogram(RANDOM.poisson(3, (90, 90))).figure(),
    "hot pixel": lambda: drawings.pixel_histogram(np.array([[0, 1, 2], [3, 1, 40_000]])).figure(DARK),
    "per channel": lambda: drawings.channel_bars(np.arange(24)).figure(),
    "per one of many channels": lambda: drawings.channel_bars(np.arange(700) * 100).figure(),
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("error")
def test_draws(name: str) -> None:
    image = Image.open(io.BytesIO(png(FIGURES[name]())))
    alpha = np.asarray(image)[..., 3]
    assert 0.002 < (alpha > 60).mean() < 0.97
    edges = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
    assert not edges.any(), "something is cut off at the edge"


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_bars_of_the_input_count_what_is_not_zero(theme: Theme) -> None:
    figure = rasters.raster(FRAMES.sum(0), _layers(14), 1, NAMES, events=FRAMES, theme=theme)
    (bars,) = [axes for axes in figure.axes if len(axes.patches) == 28]
    heights = [bar.get_height() for bar in bars.patches]
    assert heights[:14] == [(step[1] > 0).sum() for step in FRAMES]
    assert heights[14:] == [-(step[0] > 0).sum() for step in FRAMES]
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars.patches[:14]] == pytest.approx(np.arange(14) + 1)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert f"ON {int((FRAMES[:, 1] > 0).sum()):,}" in texts
    assert f"OFF {int((FRAMES[:, 0] > 0).sum()):,}" in texts


def test_input_and_layers_have_the_same_time_axis() -> None:
    for events in (FRAMES, CHANNELS[:14]):
        figure = rasters.raster(None, _layers(14), 1, NAMES, events=events)
        over_time = [axes for axes in figure.axes if axes.get_xlim() == (0.4, 14.6)]
        assert len(over_time) == 3
        assert len({(axes.get_position().x0, axes.get_position().x1) for axes in over_time}) == 1
        assert over_time[-1].get_xlabel() == "step"


def test_pictures_of_the_input_are_of_the_steps_under_them() -> None:
    figure = rasters.raster(FRAMES.sum(0), _layers(14), 1, NAMES, events=FRAMES)
    rows = next(axes for axes in figure.axes if axes.get_xlim() == (0.4, 14.6)).get_position()
    shown = [axes for axes in figure.axes if axes.images][1:]  # the first is the sample
    groups = [[0, 1], [2, 3, 4], [5, 6], [7, 8], [9, 10, 11], [12, 13]]
    middles = [7 / 6 + index * 14 / 6 for index in range(6)]
    pictures_of = [FRAMES[group].sum(0) for group in groups]
    full = full_scale(np.stack(pictures_of))
    assert len(shown) == 6
    for axes, left_of_it, picture in zip(shown, middles, pictures_of, strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), event_colours(brightness(picture, full)))
        middle = (axes.get_position().x0 + axes.get_position().x1) / 2
        assert rows.x0 + rows.width * (left_of_it + 0.5 - 0.4) / 14.2 == pytest.approx(middle)


def test_channels_are_in_their_order() -> None:
    figure = rasters.raster(None, _layers(30), 1, NAMES, events=CHANNELS)
    (axes,) = [axes for axes in figure.axes if axes.images]
    np.testing.assert_array_equal(axes.images[0].get_array(), CHANNELS.T)
    assert axes.images[0].origin == "lower"


def test_many_channels_are_drawn_together_and_none_is_lost() -> None:
    values = np.zeros((4, 700))
    values[2, 699] = 1
    figure = rasters.raster(None, _layers(4), 1, NAMES, events=values)
    (axes,) = [axes for axes in figure.axes if axes.images]
    drawn = np.asarray(axes.images[0].get_array())
    assert drawn.shape == (-(-700 // 3), 4)
    assert np.argwhere(drawn).tolist() == [[699 // 3, 2]]
    assert axes.get_ylim() == (-0.5, 699.5)


def test_colours_of_events() -> None:
    levels = np.array([[0.0, 1.0, 0.0, 0.7, 0.5], [0.0, 0.0, 1.0, 0.7, 1.0]])
    nothing, off, on, both, more_on = event_colours(levels)
    np.testing.assert_allclose(nothing, to_rgb(NIGHT))
    np.testing.assert_allclose(off, to_rgb(OFF))
    np.testing.assert_allclose(on, to_rgb(ON))
    paper = np.array(to_rgb(NIGHT))
    np.testing.assert_allclose(both, paper + 0.7 * ((np.array(to_rgb(ON)) + to_rgb(OFF)) / 2 - paper))
    assert np.abs(more_on - on).sum() < np.abs(more_on - off).sum()
    one = event_colours(np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(one, [to_rgb(NIGHT), to_rgb(ON)])


def test_brightness_tells_one_event_from_none_and_a_hot_pixel_does_not_darken_the_rest() -> None:
    counts = np.array([0, 1, 4, 16, 1000])
    bright = brightness(counts, 16)
    assert bright[0] == 0
    assert FAINTEST < bright[1] < bright[2] < bright[3] == bright[4] == 1
    many = np.concatenate([np.full(1000, 2), [100_000]])
    assert full_scale(many) == 2
    assert full_scale(np.zeros(4)) == 1


def test_polarities_go_up_and_down() -> None:
    figure = drawings.rate_bars(np.array([[1.0, 2.0], [3.0, 4.0]]), np.arange(3.0), "ms").figure()
    drawn = {patch.get_label(): patch.get_data().values.tolist() for patch in figure.axes[0].patches}
    assert drawn == {"ON": [3, 4], "OFF": [-1, -2]}
    assert figure.axes[0].yaxis.get_major_formatter()(-2000) == "2k"


def test_ticks_are_the_events_until_there_are_too_many() -> None:
    events = recorded(LINE, 300)
    few = drawings.raster(events["t"] / 1e3, events["x"], 15, 50.0, "ms").figure()
    (ticks,) = few.axes[0].collections
    segments = {(round(s[0, 0], 6), round(s[:, 1].mean())) for s in ticks.get_segments()}
    assert segments == {(round(t / 1e3, 6), x) for t, x, *_ in events.tolist()}
    times, channels = RANDOM.random(20_001) * 50, RANDOM.integers(0, 15, 20_001)
    many = drawings.raster(times, channels, 15, 50.0, "ms").figure()
    (picture,) = many.axes[0].images
    assert np.asarray(picture.get_array()).sum() == 20_001
    np.testing.assert_array_equal(np.asarray(picture.get_array()).sum(1), np.bincount(channels, minlength=15))
