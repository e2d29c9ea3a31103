import pickle

import numpy as np
import pytest
from source_files import shared_data

from spikelfp.data.events import sources  # noqa: F401
from spikelfp.data.events.recordings import load_recordings
from spikelfp.data.events.sources.fsdd_cochlea import FILE, raster_events
from spikelfp.errors import DataError

CHANNELS = 5


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))


def rasters(seed=0, count=24):
    random = np.random.default_rng(seed)
    return [random.random((CHANNELS, random.integers(1, 30))) < 0.4 for _ in range(count)]


def write(folder, made, **changes):
    packed = [np.packbits(raster, axis=1).reshape(-1) for raster in made]
    arrays = {
        "packed": np.concatenate(packed),
        "offsets": np.cumsum([0, *map(len, packed)]),
        "n_steps": np.array([raster.shape[1] for raster in made], np.int32),
        "labels": np.array([number % 2 for number in range(len(made))], np.uint8),
        "take": np.array([number // 2 for number in range(len(made))], np.uint8),
        "n_channels": np.int32(CHANNELS),
        "dt_us": np.int32(125),
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / FILE, **{key: value for key, value in arrays.items() if value is not None})
    return folder.parent


def expected(raster):
    """Step by step, channel by channel."""
    return [
        (step * 125, channel, 0, 0)
        for step in range(raster.shape[1])
        for channel in range(CHANNELS)
        if raster[channel, step]
    ]


@pytest.mark.parametrize("folder", ["fsdd_cochlea", "fsdd-cochlea"])
def test_every_bit_that_is_set_is_an_event(tmp_path, folder):
    made = rasters()
    splits = load_recordings("fsdd-cochlea", write(tmp_path / folder, made))
    assert [splits.test.read(index).tolist() for index in range(20)] == [expected(raster) for raster in made[:20]]
    assert [splits.train.read(index).tolist() for index in range(4)] == [expected(raster) for raster in made[20:]]
    assert splits.train.sensor.shape == (CHANNELS,)
    assert splits.test.labels.tolist() == [0, 1] * 10
    again = pickle.loads(pickle.dumps(splits.test))
    assert again.read(3).tolist() == expected(made[3])
    assert again.where(3) == f"{tmp_path / folder / FILE}, recording 3"


def test_the_bits_that_fill_up_the_last_byte_do_not_count():
    assert raster_events(np.full((2, 1), 255, np.uint8), 3, 10).tolist() == [
        (step * 10, channel, 0, 0) for step in range(3) for channel in range(2)
    ]


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    prints = [
        load_recordings("fsdd-cochlea", write(tmp_path / name / "fsdd_cochlea", rasters(seed))).train.fingerprint()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"take": None}, "holds no file take.npy"),
        ({"offsets": np.arange(25)}, "its offsets, n_steps and take do not fit together"),
        (
            {"n_steps": np.full(24, -8), "offsets": np.arange(25) * -CHANNELS},
            "its offsets, n_steps and take do not fit",
        ),
        ({"labels": np.zeros(24)}, r"labels: expected a list of whole numbers, found float64 of shape \[24\]"),
        ({"labels": np.zeros(23, np.uint8)}, "24 recordings need as many whole labels"),
        ({"take": np.int32(3)}, r"take: expected a list of whole numbers, found int32 of shape \[\]"),
        ({"dt_us": np.array([1, 2])}, r"dt_us: expected one whole number, found int64 of shape \[2\]"),
        ({"n_channels": np.int32(0)}, "n_channels is 0, expected 1 to 65536"),
        ({"packed": np.zeros(3, np.int64)}, "packed: expected uint8, found int64"),
        ({"packed": np.zeros(3, np.uint8)}, "expected .* bytes of rasters, found 3"),
    ],
)
def test_a_file_whose_arrays_do_not_fit(tmp_path, changes, message):
    write(tmp_path / "fsdd_cochlea", rasters(), **changes)
    with pytest.raises(DataError, match=rf"{FILE}.*{message}"):
        load_recordings("fsdd-cochlea", tmp_path).train.read(0)


def test_a_missing_or_damaged_file(tmp_path):
    with pytest.raises(DataError, match=rf"^fsdd-cochlea: there is no {FILE} in {tmp_path}/fsdd_cochlea: put it there"):
        load_recordings("fsdd-cochlea", tmp_path)
    path = write(tmp_path / "fsdd_cochlea", rasters()) / "fsdd_cochlea" / FILE
    content = path.read_bytes()
    for end in (0, 10, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match=rf"^{path}: (damaged or no archive|holds no file)"):
            load_recordings("fsdd-cochlea", tmp_path)


def test_the_real_recordings():
    folder = shared_data(f"fsdd_cochlea/{FILE}")
    splits = load_recordings("fsdd-cochlea", folder)
    assert (len(splits.train), len(splits.test)) == (1600, 400)
    assert np.bincount(splits.test.labels).tolist() == [40] * 10
    assert splits.train.class_names == tuple("0123456789")
    assert splits.train.sensor.width == 77
    with np.load(folder / "fsdd_cochlea" / FILE) as file:
        packed, offsets, steps, take = (file[key] for key in ("packed", "offsets", "n_steps", "take"))
    assert (take[splits.test.indices] < 10).all()
    assert (take[splits.train.indices] >= 10).all()
    number = int(splits.test.indices[7])
    bits = np.unpackbits(packed[offsets[number] : offsets[number + 1]].reshape(77, -1), axis=1)[:, : steps[number]]
    step, channel = np.nonzero(bits.T)
    events = splits.test.read(7)
    assert np.array_equal(events["t"], step * 125)
    assert np.array_equal(events["x"], channel)
