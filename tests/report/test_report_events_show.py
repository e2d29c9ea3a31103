"""A recording as a sheet, an animated picture and a page."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_events import CAMERA, LINE, recorded
from report_pages import Page

from spikelfp.data.events import Binning, Events, EventSplits, Pipeline, Recordings, Sensor
from spikelfp.data.events.show import time_edges
from spikelfp.errors import DataError, SaveError, UserError
from spikelfp.report import recording as module
from spikelfp.report import show_events, show_file, show_recording
from spikelfp.report.recording import ShownRecording, animate, chosen_recording

PIPELINE = Pipeline(Binning(bins=5))


class Made(Recordings):
    """Recordings whose number can be told from their length."""

    def __init__(self, part: str, sensor: Sensor) -> None:
        self.name, self.sensor = f"made {part}", sensor
        self.labels = np.array([1, 0, 1, 1, 0])
        self.class_names = ("wave", "clap", "none")

    def read(self, index: int) -> Events:
        return recorded(self.sensor, 50 + index)

    def where(self, index: int) -> str:
        return f"{self.name.split()[1]}/{index}.bin"

    def fingerprint(self) -> str:
        return self.name


def splits_of(sensor: Sensor) -> EventSplits:
    return EventSplits("made", Made("train", sensor), Made("test", sensor), PIPELINE)


def recording_of(sensor: Sensor, events: Events | None = None, binning: Binning | None = None) -> ShownRecording:
    events = recorded(sensor) if events is None else events
    return ShownRecording("a recording", "a.bin", events, sensor, Pipeline(binning or Binning(bins=5)))


@pytest.mark.parametrize("sensor", [CAMERA, Sensor(9, 1, 2)], ids=str)
def test_sheet_is_a_picture_on_paper(sensor: Sensor, tmp_path: Path) -> None:
    out = show_recording(splits_of(sensor), tmp_path / "deep" / "sheet.PNG")
    assert out == tmp_path / "deep" / "sheet.PNG"
    image = Image.open(out)
    assert image.mode == "RGB"
    assert image.width > 2000
    pixels = np.asarray(image.convert("L"), dtype=float)
    assert (pixels[:40] == 255).all(), "a margin"
    assert 0.01 < (pixels < 200).mean() < 0.8


def test_chosen_recording() -> None:
    splits = splits_of(CAMERA)

    def number(index: int | None, label: str | None) -> int:
        return len(chosen_recording(splits, "test", index, label, None).events) - 50

    assert number(None, None) == 0
    assert number(3, None) == 3
    assert number(None, "wave") == 1
    assert number(2, "clap") == 3
    found = chosen_recording(splits, "test", 1, "wave", Pipeline(Binning(bins=2)))
    assert (found.label, found.where, found.sequence.steps) == ("wave", "test/4.bin", 2)
    assert found.name == "made · test · recording 4"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "tset"}, "did you mean 'test'"),
        ({"label": "wvae"}, "did you mean 'wave'"),
        ({"label": "none"}, "no recording 0 in made train: it has 0 recordings of class none"),
        ({"index": 5}, "no recording 5 in made train: it has 5 recordings, 0 to 4"),
        ({"index": -1}, "no recording -1"),
        ({"index": 3, "label": "clap"}, "3 recordings of class clap, 0 to 2"),
    ],
)
def test_what_is_not_there_is_named(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        show_recording(splits_of(CAMERA), tmp_path / "a.png", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_other_endings_and_lines_in_motion_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ends in \.png, \.gif, \.html, got .*a\.mp4"):
        show_recording(splits_of(CAMERA), tmp_path / "a.mp4")
    with pytest.raises(UserError, match=r"15 channels, no camera, and has no animated picture"):
        show_recording(splits_of(LINE), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_unwritable_target_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.gif").mkdir()
    with pytest.raises(SaveError, match=r"a\.gif"):
        show_recording(splits_of(CAMERA), tmp_path / "a.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]


def test_animation_shows_the_events_of_every_window(tmp_path: Path) -> None:
    recording = recording_of(CAMERA)
    shown = animate(recording, most=10)
    image = Image.open(io.BytesIO(shown.gif))
    assert image.info["loop"] == 0
    assert image.size == (shown.width, shown.height)
    assert image.n_frames == 10
    assert shown.caption.startswith("10 pictures, ")
    assert max(image.size) >= 300, "34 pixels would be too small to see"
    factor = round(module.ENLARGED / CAMERA.width)
    edges = time_edges(recording.events, 10)
    for number, counts in enumerate(recording.frames(edges)):
        image.seek(number)
        pixels = np.asarray(image.convert("RGB"))[: CAMERA.height * factor : factor, : CAMERA.width * factor : factor]
        dark = (pixels == pixels.min((0, 1))).all(-1)
        np.testing.assert_array_equal(~dark, counts.sum(0) > 0)
        only_on, only_off = (counts[1] > 0) & (counts[0] == 0), (counts[0] > 0) & (counts[1] == 0)
        assert (pixels[only_on][:, 2] > pixels[only_on][:, 0]).all(), "ON is blue"
        assert (pixels[only_off][:, 2] < pixels[only_off][:, 0]).all(), "OFF is orange"
    out = show_recording(splits_of(CAMERA), tmp_path / "a.gif")
    assert Image.open(out).n_frames == 48


def test_animation_of_short_and_long_recordings() -> None:
    short = animate(recording_of(CAMERA, recorded(CAMERA, span=30)))
    assert short.caption.startswith("31 pictures, ")
    long = animate(recording_of(CAMERA, recorded(CAMERA, span=60_000_000)))
    assert re.search(r"1e\+05 times slower than it was$", short.caption)
    assert re.search(r"10 times faster than it was$", long.caption)
    for shown in (short, long):
        image = Image.open(io.BytesIO(shown.gif))
        assert image.info["duration"] % 10 == 0
        assert 2.5 <= image.info["duration"] * image.n_frames / 1000 <= 6.5


def test_large_sensors_are_drawn_smaller() -> None:
    sensor = Sensor(1280, 720, 2)
    shown = animate(recording_of(sensor, recorded(sensor, 5000)), most=6)
    assert shown.width == 1280 // 3 + 1
    assert len(shown.gif) < 400_000


@pytest.mark.parametrize("sensor", [CAMERA, LINE], ids=str)
def test_page_holds_everything(sensor: Sensor, tmp_path: Path) -> None:
    out = show_recording(splits_of(sensor), tmp_path / "a.html", label="clap")
    source = out.read_text()
    moving = re.findall(r'src="data:image/gif;base64,[^"]+"', source)
    assert len(moving) == (0 if sensor.is_line else 1)
    page = Page(re.sub(r"<figure class=\"moving\">.*?</figure>", "", source, flags=re.S))
    assert "://" not in source
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "a"}
    assert page.headings[0] == "Overview"
    assert page.headings[-1] == "As input of a network"
    assert "50events in 50 ms" in page.text
    assert "class clap" in page.text
    assert "0.bin" in page.text
    assert "train/0.bin" not in page.source
    assert len(page.pictures) == (4 if sensor.is_line else 5)
    assert all(len(picture.text) > 20 for picture in page.pictures)
    assert all(picture.light.tobytes() != picture.dark.tobytes() for picture in page.pictures)
    assert page.picture("The sequence that a network gets").text.startswith(
        "The sequence that a network gets: 5 steps of equal length; an input spikes if it has an event."
    )


def test_file_of_ones_own(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", recorded(CAMERA))
    out = show_file(tmp_path / "mine.npy", tmp_path / "mine.gif", sensor=CAMERA)
    assert out.read_bytes() == animate(recording_of(CAMERA)).gif
    with pytest.raises(DataError, match="nothing"):
        show_file(tmp_path / "nothing.npy", tmp_path / "a.png")


def test_events_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    events = recorded(CAMERA)
    events["x"][3] = 12
    with pytest.raises(DataError, match=r"made up: event 3 has x = 12"):
        show_events(events, CAMERA, tmp_path / "a.png", name="made up")
    with pytest.raises(DataError, match="no events"):
        show_events(events[:0], CAMERA, tmp_path / "a.png", name="made up")


@pytest.mark.parametrize("binning", [Binning(window=7_000), Binning(count=30), Binning(bins=80, levels=3)], ids=str)
@pytest.mark.parametrize("sensor", [CAMERA, LINE], ids=str)
def test_sequences_of_every_binning_are_drawn(sensor: Sensor, binning: Binning) -> None:
    panel = module.network_input(recording_of(sensor, binning=binning))
    how = {"window": "of 7 ms each", "count": "of 30 events each", "bins": "of equal length"}
    assert next(text for name, text in how.items() if getattr(binning, name)) in panel.caption
    assert panel.drawing.figure().axes


@pytest.mark.parametrize("sensor", [CAMERA, LINE, Sensor(6, 7, 1)], ids=str)
def test_one_instant_can_be_shown(sensor: Sensor) -> None:
    events = recorded(sensor)
    events["t"] = 7
    recording = recording_of(sensor, events)
    for panel in (
        module.over_time(recording),
        module.rate(recording),
        *module.where(recording),
        module.network_input(recording),
    ):
        assert panel.drawing.figure().axes
    assert sensor.is_line or animate(recording).caption.startswith("1 pictures, ")


def test_long_sequences_of_many_channels_lose_no_input() -> None:
    sensor = Sensor(700)
    recording = recording_of(sensor, recorded(sensor, 3000, span=4_999_999), Binning(window=1000, levels=4))
    values, begins = module._coarse(recording.sequence, 700, 4)
    assert values.shape == (module.SEQUENCE[0], module.SEQUENCE[1])
    assert (begins[0], begins[-1]) == (0, 5000)
    expected = np.zeros_like(values)
    for place, count in zip(recording.sequence.places.tolist(), recording.sequence.counts.tolist(), strict=True):
        step, channel = divmod(place, 700)
        column = int(np.searchsorted(begins, step, side="right")) - 1
        row = channel * module.SEQUENCE[1] // 700
        expected[column, row] = max(expected[column, row], count / 4)
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (15, "15 µs"),
        (1_999, "1,999 µs"),
        (25_760, "25.8 ms"),
        (985_400, "985 ms"),
        (5.5e6, "5.5 s"),
        (12e6, "12 s"),
        (180e6, "180 s"),
        (3600e6, "60 min"),
    ],
)
def test_durations(span: float, text: str) -> None:
    assert module.duration(span) == text


def test_moments_have_the_same_digits_throughout() -> None:
    assert module.interval(0, 6_700, 53_900) == "0.0–6.7 ms"
    assert module.interval(155_000, 180_400, 309_000) == "155–180 ms"
    assert module.interval(50_000, 100_000, 40e6) == "0.05–0.10 s"  # digits that its ends need
    assert module.interval(60e6, 78e6, 180e6) == "60–78 s"
    assert module.interval(0, 1, 31) == "0.0–1.0 µs"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (35.5, "35.5"), (950, "950"), (1000, "1k"), (13_400, "13.4k"), (4.08e6, "4.08M")]
)
def test_short_numbers(value: float, text: str) -> None:
    assert module.short_number(value) == text


def test_kinds_are_those_that_are_offered() -> None:
    assert list(module.KINDS) == [".png", ".gif", ".html"]
