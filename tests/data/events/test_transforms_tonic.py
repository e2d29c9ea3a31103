"""Our transforms agree with tonic's, and tonic's can be used as ours."""

from __future__ import annotations

import json
import pickle
import sys

import numpy as np
import pytest
from references import slow_events

from spikelfp.data.events import EVENT, Binning, Pipeline, Sensor
from spikelfp.data.events import transforms as t
from spikelfp.errors import UnknownNameError, UserError

theirs = pytest.importorskip("tonic.transforms")
SENSOR = Sensor(20, 15, 2)
SIZE = (20, 15, 2)
THEIR_EVENT = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])


def recording(seed: int, first: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(first, first + 40_000, 400)).tolist()
    return slow_events.events_of([(time, *(int(random.integers(end)) for end in SIZE)) for time in times])


def by_tonic(transform, events: np.ndarray) -> list[tuple[int, int, int, int]]:
    copied = np.zeros(len(events), THEIR_EVENT)
    for name in "xytp":
        copied[name] = events[name]
    return slow_events.rows_of(transform(copied))


@pytest.mark.parametrize(
    ("ours", "other"),
    [
        (t.CenterCrop(10), theirs.CenterCrop(SIZE, 10)),
        (t.CenterCrop(7), theirs.CenterCrop(SIZE, 7)),
        (t.FlipX(), theirs.RandomFlipLR(SIZE, p=1)),
        (t.FlipY(), theirs.RandomFlipUD(SIZE, p=1)),
        (t.FlipPolarity(), theirs.RandomFlipPolarity(p=1)),
        (t.MergePolarities(), theirs.MergePolarities()),
        (t.Denoise(500), theirs.Denoise(500)),
        (t.Denoise(10_000), theirs.Denoise(10_000)),
        (t.Downsample(2), theirs.Downsample(spatial_factor=0.5)),
        (t.Downsample(4), theirs.Downsample(spatial_factor=0.25)),
        (t.TimeCrop(1000, 20_000), theirs.CropTime(1000, 20_000)),
        (t.AlignTime(), theirs.TimeAlignment()),
        (t.Refractory(5000), theirs.RefractoryPeriod(5000)),
        (t.Decimate(3), theirs.Decimation(3)),
        (t.HotPixels(60), theirs.DropPixel(hot_pixel_frequency=60)),
    ],
    ids=str,
)
def test_the_same_as_tonics(ours, other):
    for seed, first in ((0, 1), (1, 7), (2, 10**6)):
        events = recording(seed, first)
        expected = by_tonic(other, events)
        assert expected or first > 20_000
        assert slow_events.rows_of(ours(events, SENSOR)) == expected


def test_coarse_times_are_tonics_in_another_unit():
    events = recording(0)
    ours = t.DownsampleTime(512)(events, SENSOR)["t"] // 512
    assert ours.tolist() == [row[0] for row in by_tonic(theirs.Downsample(time_factor=1 / 512), events)]


def test_first_event_at_zero_is_kept():
    """Where we differ: for tonic every pixel was active before time 0."""
    events = slow_events.events_of([(0, 1, 1, 0), (1, 2, 1, 0)])
    assert len(t.Refractory(5)(events, SENSOR)) == 2
    assert len(by_tonic(theirs.RefractoryPeriod(5), events)) == 1


@pytest.mark.parametrize(
    ("ours", "other", "sensor"),
    [
        (t.Tonic("CenterCrop", size=[8, 6]), theirs.CenterCrop(SIZE, (8, 6)), Sensor(8, 6, 2)),
        (t.Tonic("CenterCrop", size=18), theirs.CenterCrop(SIZE, 18), Sensor(18, 18, 2)),
        (t.Tonic("CropTime", min=100, max=9000), theirs.CropTime(100, 9000), SENSOR),
        (t.Tonic("CropTime"), theirs.CropTime(), SENSOR),
        (t.Tonic("Decimation", n=2), theirs.Decimation(2), SENSOR),
        (t.Tonic("Denoise", filter_time=500), theirs.Denoise(500), SENSOR),
        (t.Tonic("Downsample", spatial_factor=0.3), theirs.Downsample(spatial_factor=0.3), Sensor(6, 5, 2)),
        (
            t.Tonic("Downsample", sensor_size=SIZE, target_size=(10, 5)),
            theirs.Downsample(sensor_size=SIZE, target_size=(10, 5)),
            Sensor(10, 5, 2),
        ),
        (t.Tonic("DropPixel", coordinates=[[3, 3], [4, 4]]), theirs.DropPixel([[3, 3], [4, 4]]), SENSOR),
        (t.Tonic("MergePolarities"), theirs.MergePolarities(), Sensor(20, 15, 1)),
        (t.Tonic("RefractoryPeriod", delta=300), theirs.RefractoryPeriod(300), SENSOR),
        (t.Tonic("TimeAlignment"), theirs.TimeAlignment(), SENSOR),
        (t.Tonic("TimeSkew", coefficient=1.5, offset=10), theirs.TimeSkew(1.5, 10), SENSOR),
    ],
    ids=str,
)
def test_wrapped(ours, other, sensor):
    events = recording(4, 50)
    before = events.copy()
    for _ in range(2):  # the second time is not influenced by the first
        made = ours(events, SENSOR)
        assert made.dtype == EVENT
        assert slow_events.rows_of(made) == by_tonic(other, events)
        assert (events == before).all()
    assert ours.sensor(SENSOR) == sensor
    assert len(ours(events[:0], SENSOR)) == 0
    assert pickle.loads(pickle.dumps(ours)) == ours
    assert t.parse_transforms(t.transforms_text([ours])) == (ours,)


def test_wrapped_event_downsampling():
    ours = t.Tonic("EventDownsampling", target_size=(5, 3), dt=0.5, downsampling_method="integrator", noise_threshold=2)
    events = recording(4, 50)
    made = ours(events, SENSOR)
    assert 0 < len(made) < len(events)
    assert ours.sensor(SENSOR) == Sensor(5, 3, 2)
    assert t.parse_transforms(t.transforms_text([ours])) == (ours,)


def test_time_of_another_recording_is_not_kept():
    """tonic's own object would crop the second recording at the end of the first."""
    crop = t.Tonic("CropTime", min=0)
    assert crop(recording(0), SENSOR)["t"].max() < 10**6
    assert len(crop(recording(0, 10**6), SENSOR)) == 400


def test_cache_key_knows_options_and_version():
    def described(transform: t.Transform) -> str:
        return Pipeline(Binning(bins=3), (transform,)).describe()

    one = described(t.Tonic("Denoise", filter_time=500))
    assert one != described(t.Tonic("Denoise", filter_time=501))
    assert json.loads(one)["transforms"][0]["options"] == {"filter_time": 500}
    assert "tonic" in json.loads(one)["transforms"][0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: t.Tonic("RandomCrop", target_size=(3, 3)), UnknownNameError, "without chance 'RandomCrop'"),
        (lambda: t.Tonic("SpatialJitter"), UnknownNameError, "without chance"),
        (lambda: t.Tonic("ToFrame", time_window=3), UnknownNameError, "without chance"),
        (lambda: t.Tonic("Denoise"), UserError, "needs filter_time"),
        (lambda: t.Tonic("Denoise", time=3), UserError, "takes no time, but filter_time"),
        (lambda: t.Tonic("RefractoryPeriod", delta=(1, 5)), UserError, "would draw delta from"),
        (lambda: t.Tonic("TimeSkew", coefficient=[1, 2]), UserError, "would draw coefficient from"),
        (lambda: t.Tonic("Denoise", filter_time=np.arange(3)), UserError, "must be a number, a word or a list"),
        (lambda: t.Tonic("CenterCrop", size="wide").sensor(SENSOR), UserError, "makes no sensor"),
        (lambda: t.Tonic("CenterCrop", size=0).sensor(SENSOR), UserError, "1 to 65536 columns"),
        (lambda: t.Tonic("Denoise", filter_time="long")(recording(0), SENSOR), UserError, "tonic's Denoise fails"),
        (
            lambda: t.Tonic("Downsample", spatial_factor=0.5)(recording(0), Sensor(5, 15, 2)),
            UserError,
            "off the sensor of 3 x 8",
        ),
    ],
)
def test_refused(make, error, message):
    with pytest.raises(error, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_without_tonic(monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic.transforms", None)
    with pytest.raises(UserError, match=r"pip install 'spikelfp\[events\]'"):
        t.Tonic("Denoise", filter_time=3)
