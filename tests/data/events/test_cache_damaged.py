"""A cache entry whose content cannot be is made anew, whatever its checksums say; none is handed to compiled loops."""

import json
import warnings

import numpy as np
import pytest
from toy_recordings import Toy

from spikelfp.data.events import Binning, Pipeline
from spikelfp.data.events.cache import binned, list_caches
from spikelfp.data.events.cache.store import DamagedError, array_path, checksum, open_store
from spikelfp.errors import DataError

HOW = Pipeline(Binning(bins=4, levels=3))


@pytest.fixture
def entry(tmp_path):
    folder = binned(Toy(6), HOW, cache_dir=tmp_path).folder
    assert folder is not None
    return folder


def meta_of(folder):
    return json.loads((folder / "meta.json").read_text())


def write(folder, meta):
    (folder / "meta.json").write_text(json.dumps(meta))


def put(folder, name, array):
    """Replace an array, its length and its checksum."""
    array_path(folder, name).write_bytes(array.tobytes())
    meta = meta_of(folder)
    meta["arrays"][name] = {"dtype": array.dtype.str, "length": len(array), "checksum": checksum(array)}
    write(folder, meta)


def array_of(folder, name):
    return np.fromfile(array_path(folder, name), meta_of(folder)["arrays"][name]["dtype"])


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("offsets", lambda a: np.concatenate([a[:1] - 5, a[1:]]), "do not follow one another"),
        ("offsets", lambda a: np.concatenate([a[:1], a[2:3], a[1:2], a[3:]]), "do not follow one another"),
        ("offsets", lambda a: np.concatenate([a[:-1], a[-1:] + 1]), "do not follow one another"),
        ("offsets", lambda a: a[:-1], "do not fit each other"),
        ("offsets", lambda a: a[:0], "do not fit each other"),
        ("offsets", lambda a: a.astype("<u8"), "dtype is '<u8'"),
        ("steps", lambda a: a * 0, "steps"),
        ("steps", lambda a: a * 0 - 1, "steps"),
        ("steps", lambda a: a + 2**30, "steps"),
        ("labels", lambda a: a - 1, "labels are not those of"),
        ("labels", lambda a: a + 99, "labels are not those of"),
        ("kept", lambda a: a[::-1].copy(), "do not rise"),
        ("kept", lambda a: a - 1, "do not rise"),
        ("counts", lambda a: a * 0 + 4, "counts do not lie within 1 to 3"),
        ("counts", lambda a: a * 0, "counts do not lie within 1 to 3"),
        ("places", lambda a: a.astype("<f4"), "dtype is '<f4'"),
    ],
)
def test_arrays_that_cannot_be_are_damage_whatever_their_checksum(entry, name, change, named):
    put(entry, name, change(array_of(entry, name)))
    with pytest.raises(DamagedError, match=named):
        open_store(entry)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("sensor", "width"), 1.5), (("sensor", "width"), -1), (("sensor", "height"), 2**40), (("sensor",), None),
        (("sensor", "depth"), 1), (("levels",), 0), (("levels",), "3"), (("levels",), 2**20), (("levels",), 1),
        (("skipped",), [[1]]), (("skipped",), [["x", 1]]), (("skipped",), {"a": 1}), (("steps",), [4]),
        (("steps",), [-1, 4]), (("class_names",), 7), (("class_names",), []), (("arrays",), []),
        (("arrays", "places", "dtype"), "O"), (("arrays", "places", "dtype"), "<U9"),
        (("arrays", "places", "dtype"), ["a", "b"]), (("arrays", "places", "dtype"), "(2,)<u2"),
        (("arrays", "places", "length"), -1), (("arrays", "places", "length"), 2**62),
        (("arrays", "places", "length"), 1.0), (("arrays", "places", "checksum"), None),
        (("arrays", "../places"), {"dtype": "<u2", "length": 0, "checksum": ""}),
    ],
)  # fmt: skip
def test_what_an_entry_says_of_itself_is_checked(entry, place, value):
    meta = meta_of(entry)
    holder = meta
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    write(entry, meta)
    with pytest.raises(DamagedError) as found:
        open_store(entry)
    assert str(found.value).isprintable()
    list_caches(entry.parent)  # whatever it holds


def test_an_endless_meta_file_is_damage(entry):
    (entry / "meta.json").write_text("[" * 100_000)
    with pytest.raises(DamagedError):
        open_store(entry)


def test_a_damaged_entry_is_made_anew(entry):
    put(entry, "offsets", array_of(entry, "offsets") - 7)
    with pytest.warns(UserWarning, match="damaged cache, made anew: .*do not follow one another"):
        store = binned(Toy(6), HOW, cache_dir=entry.parent)
    assert int(store.offsets[0]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        binned(Toy(6), HOW, cache_dir=entry.parent)


@pytest.mark.parametrize("change", [lambda places: places[::-1].copy(), lambda places: places * 0 + 60_000])
def test_places_are_checked_where_they_are_used(entry, change):
    put(entry, "places", change(array_of(entry, "places")))
    with pytest.raises(DataError, match="places do not rise, or lie after"):
        open_store(entry)[0]
