"""Usual pipelines: large cameras are made smaller, told with what keeps their pixels; others stay as they are."""

import numpy as np
import pytest

from spikelfp.data.events import EVENT, Binning, Pipeline, Sensor, load_recordings
from spikelfp.data.events.transforms import Downsample
from spikelfp.data.events.usual import LEAST_SIDE, MOST_SIDE, joined_note, usual


@pytest.mark.parametrize(
    ("sensor", "shape"),
    [
        (Sensor(34, 34, 2), (2, 34, 34)),
        (Sensor(48, 48, 2), (2, 48, 48)),
        (Sensor(49, 30, 2), (2, 30, 49)),  # halved, 15 rows would be too few
        (Sensor(120, 100, 2), (2, 34, 40)),
        (Sensor(128, 128, 2), (2, 43, 43)),
        (Sensor(346, 260, 2), (2, 33, 44)),
        (Sensor(640, 480, 2), (2, 35, 46)),
        (Sensor(1280, 720, 2), (2, 27, 48)),
        (Sensor(720, 1280, 1), (1, 48, 27)),
        (Sensor(1280, 20, 2), (2, 20, 1280)),
        (Sensor(1280, 64, 2), (2, 16, 320)),
        (Sensor(12, 200, 2), (2, 200, 12)),
        (Sensor(700), (700,)),
    ],
)
def test_sizes(sensor, shape):
    pipeline = usual(sensor)
    assert pipeline.sensor(sensor).shape == shape
    assert (joined_note(sensor, pipeline) is None) == (sensor.shape == shape)
    assert pipeline.binning == Binning(bins=20)


@pytest.mark.parametrize("width", range(1, 400, 13))
@pytest.mark.parametrize("height", range(2, 400, 17))
def test_no_other_factor_would_do(width, height):
    """The least factor that makes both sides small enough, unless one would then be too small."""
    sensor = Sensor(width, height, 2)
    (factor,) = [each.factor for each in usual(sensor).transforms] or [1]
    small, large = sorted((width, height))
    least = next(each for each in range(1, 400) if -(-large // each) <= MOST_SIDE)
    kept = [each for each in range(1, least + 1) if -(-small // each) >= LEAST_SIDE]
    assert factor == max(kept, default=1)


def test_the_note_is_for_joined_pixels_alone():
    sensor = Sensor(128, 128, 2)
    assert joined_note(sensor, usual(sensor)) == (
        "3 x 3 pixels are joined to one, 43 x 43 in all (--transforms downsample=3; --transforms none keeps all "
        "128 x 128)"
    )
    assert joined_note(sensor, Pipeline(Binning(bins=20), (Downsample(4),))) is None
    assert joined_note(sensor, Pipeline(Binning(bins=20))) is None


def test_folders_have_it(tmp_path):
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        for number in range(2):
            events = np.zeros(4, EVENT)
            events["t"], events["x"], events["y"] = range(4), (0, 127, 126, 3), (0, 127, 1, 5)
            np.savez(tmp_path / kind / f"{number}.npz", **{name: events[name] for name in "txyp"})
    splits = load_recordings(f"folder:{tmp_path}")
    assert splits.pipeline == usual(Sensor(128, 128, 2))
    frames = splits.pipeline(splits.train.read(0), splits.train.sensor)
    assert frames.counts.sum() == 4  # joined, none is lost
    places = sorted((place % (43 * 43) // 43, place % 43) for place in frames.places.tolist())
    assert places == [(0, 0), (0, 42), (1, 1), (42, 42)]
