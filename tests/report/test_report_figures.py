"""Each figure draws something for odd but legal input, and its marks are where the numbers are."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from spikelfp.report import figures, rasters, theme
from spikelfp.report.theme import DARK, LIGHT, SHARPNESS, png

NAMES = tuple("0123456789")
RANDOM = np.random.default_rng(0)


def _spikes(steps: int, neurons: int, rate: float = 0.3) -> np.ndarray:
    return (np.random.default_rng(neurons).random((steps, neurons)) < rate).astype(np.float32)


def _image(*shape: int) -> np.ndarray:
    return RANDOM.random(shape).astype(np.float32)


IMAGE = _image(1, 8, 8)
FIGURES: dict[str, Callable[[], Figure]] = {
    "one epoch": lambda: figures.curves([1], {"train": [0.5], "test": [0.4]}, "accuracy", share=True),
    "many epochs": lambda: figures.curves(range(1, 80), {"loss": np.geomspace(2, 0.01, 79).tolist()}, "loss"),
    "gap in a curve": lambda: figures.curves([1, 2, 3], {"a": [None, 2.0, 1.0], "b": [None] * 3}, "loss"),
    "flat curve": lambda: figures.curves([1, 2], {"a": [0.0, 0.0]}, "reward"),
    "raster": lambda: rasters.raster(IMAGE, [("A", _spikes(15, 9)), ("B", _spikes(15, 10))], 3, NAMES, theme=DARK),
    "large layer": lambda: rasters.raster(_image(3, 9, 7), [("A", _spikes(25, 999)), ("B", _spikes(25, 10))], 3, NAMES),
    "silent": lambda: rasters.raster(_image(2, 8, 8), [("A", _spikes(5, 300, 0)), ("B", _spikes(5, 10, 0))], 9, NAMES),
    "hidden only": lambda: rasters.raster(_image(8, 8), [("A", _spikes(200, 40))], 3, NAMES, output=False),
    "one step": lambda: rasters.raster(_image(70), [("A", _spikes(1, 4, 1)), ("B", _spikes(1, 2, 1))], 0, NAMES[:2]),
    "forty classes": lambda: rasters.raster(
        _image(5, 8, 8), [("B", _spikes(9, 40))], 3, [f"no. {i}" for i in range(40)]
    ),
    "outputs": lambda: rasters.outputs(_image(1, 4, 5), RANDOM.normal(size=10), 3, NAMES),
    "two outputs": lambda: rasters.outputs(np.zeros((1, 4, 5)), np.zeros(2), 1, ["no", "yes"], theme=DARK),
    "rates": lambda: figures.rates(np.array([0, 0, 0.1, 0.5, 1.0])),
    "all silent": lambda: figures.rates(np.zeros(9)),
    "none silent": lambda: figures.rates(np.full(9, 0.4), width=theme.THIRD),
    "class rates": lambda: figures.class_rates(np.array([0.9, np.nan]), np.array([0.1, 0]), ["cat", "a longer name"]),
    "weights": lambda: figures.weights(RANDOM.uniform(-1, 1, 50), RANDOM.normal(size=50)),
    "zero weights": lambda: figures.weights(None, np.zeros(6)),
    "confusion": lambda: figures.confusion(np.diag(range(10)) + 1, NAMES),
    "named confusion": lambda: figures.confusion(
        np.eye(3, dtype=int), ["Ankle boot", "T-shirt/top", "Embroidered bag"]
    ),
    "one class": lambda: figures.confusion(np.array([[4]]), ["only"]),
    "fifty classes": lambda: figures.confusion(np.eye(50, dtype=int) * 3, [str(i) for i in range(50)]),
    "misread": lambda: rasters.misread([(IMAGE, 1, 2, 3.0)] * 12, NAMES),
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("error")
def test_draws(name: str) -> None:
    figure = FIGURES[name]()
    image = Image.open(io.BytesIO(png(figure)))
    assert image.mode == "RGBA"
    alpha = np.asarray(image)[..., 3]
    assert 0.002 < (alpha > 60).mean() < 0.9
    edges = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
    assert not edges.any(), "something is cut off at the edge"
    width, height = figure.get_size_inches() * 100
    assert image.size == pytest.approx((width * SHARPNESS, height * SHARPNESS), abs=2)


def test_same_figure_twice_is_the_same_file() -> None:
    assert png(FIGURES["confusion"]()) == png(FIGURES["confusion"]())


def test_no_figure_stays_in_a_global_state() -> None:
    def open_figures():
        pyplot = sys.modules.get("matplotlib.pyplot")
        return [] if pyplot is None else pyplot.get_fignums()

    before = open_figures()  # other tests of this process may have left some
    png(FIGURES["rates"]())
    assert open_figures() == before


def test_raster_has_a_tick_for_every_spike() -> None:
    hidden, output = _spikes(12, 7), _spikes(12, 10)
    figure = rasters.raster(_image(1, 8, 8), [("Hidden", hidden), ("Output", output)], 4, NAMES)
    titles = {axes.get_title(loc="left"): axes for axes in figure.axes}
    drawn = [segment for c in titles["Hidden · all 7 neurons"].collections for segment in c.get_segments()]
    order = sorted(range(7), key=lambda n: (-hidden[:, n].sum(), hidden[:, n].argmax()))
    wanted = {(t + 1, order.index(n)) for t, n in zip(*np.nonzero(hidden), strict=True)}
    assert {(round(s[0][0]), round(s[:, 1].mean())) for s in drawn} == wanted
    classes = titles["Output"]
    drawn = [segment for c in classes.collections for segment in c.get_segments()]
    wanted = {(t + 1, c) for t, c in zip(*np.nonzero(output), strict=True)}
    assert {(round(s[0][0]), round(s[:, 1].mean())) for s in drawn} == wanted
    assert [label.get_text() for label in classes.get_yticklabels()] == list(NAMES)


def test_raster_of_a_large_layer_says_which_neurons_it_shows() -> None:
    spikes = _spikes(10, 1000, 0.05)
    active = int((spikes.sum(0) > 0).sum())
    figure = rasters.raster(_image(1, 8, 8), [("Hidden", spikes), ("Output", _spikes(10, 10))], 0, NAMES)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert f"Hidden · 120 of {active} spiking neurons (1,000 in all)" in titles


def test_right_class_and_wrong_winner_stand_out() -> None:
    colours = theme.class_colours(np.array([1.0, 5.0, 3.0]), 2, LIGHT)
    assert colours == [LIGHT.quiet, LIGHT.accent, LIGHT.main]
    assert theme.class_colours(np.array([1.0, 5.0]), 1, LIGHT) == [LIGHT.quiet, LIGHT.main]


@pytest.mark.parametrize(
    ("shape", "picture"), [((1, 8, 8), True), ((8, 8), True), ((3, 8, 8), True), ((70,), False), ((70, 1), False)]
)
def test_what_counts_as_a_picture(shape: tuple[int, ...], picture: bool) -> None:
    assert rasters.is_image(np.zeros(shape)) is picture


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_are_readable_on_their_paper(theme: object) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        high, low = sorted((luminance(one), luminance(other)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    assert contrast(theme.ink, theme.paper) > 12  # type: ignore[attr-defined]
    assert contrast(theme.muted, theme.paper) > 4.5  # type: ignore[attr-defined]
    for colour in (theme.main, theme.accent):  # type: ignore[attr-defined]
        assert contrast(colour, theme.paper) > 3.5  # type: ignore[attr-defined]
