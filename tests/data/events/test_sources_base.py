"""Kinds of recordings, their labels and splits, and events of columns of numbers."""

import io
import pickle

import numpy as np
import pytest
from source_files import random_events

from spikelfp.data.events.event import EVENT, Sensor
from spikelfp.data.events.readers import read_bytes
from spikelfp.data.events.sources import Joined, Subset, from_arrays
from spikelfp.data.events.sources.base import by_time, spike_events, stratified, to_events
from spikelfp.data.events.sources.tree import by_name
from spikelfp.errors import DataError, UserError

CLASSES = ("a", "b", "c")
SENSOR = Sensor(34, 34, 2)


def made(first=0, count=5, **options):
    arrays = [random_events(first + seed) for seed in range(count)]
    return from_arrays(arrays, np.arange(count) % 2, SENSOR, ["left", "right"], **options)


def same(recordings, others, order):
    assert len(recordings) == len(order)
    for index, other in enumerate(order):
        assert np.array_equal(recordings.read(index), others.read(other))
        assert recordings.labels[index] == others.labels[other]
        assert recordings.where(index) == others.where(other)


def test_arrays_are_handed_out_as_they_are():
    arrays = [random_events(seed) for seed in range(3)]
    recordings = from_arrays(arrays, [2, 0, 2], SENSOR, name="mine")
    assert recordings.labels.tolist() == [2, 0, 2]
    assert recordings.class_names == ("0", "1", "2")
    assert recordings.where(1) == "mine, array 1"
    assert all(recordings.read(index) is array for index, array in enumerate(arrays))
    again = pickle.loads(pickle.dumps(recordings))
    same(again, recordings, [0, 1, 2])
    assert again.fingerprint() == recordings.fingerprint()


def test_the_fingerprint_changes_with_all_that_counts():
    def variant(change=lambda arrays: None, labels=(0, 1), sensor=SENSOR, names=("a", "b")):
        arrays = [random_events(0), random_events(1)]
        change(arrays)
        return from_arrays(arrays, labels, sensor, names).fingerprint()

    changes = [
        variant(),
        variant(labels=(1, 0)),
        variant(sensor=Sensor(35, 34, 2)),
        variant(names=("a", "c")),
        variant(lambda arrays: arrays.reverse()),
        variant(lambda arrays: arrays[0]["p"].__setitem__(7, 1 - arrays[0]["p"][7])),
        variant(lambda arrays: arrays[0]["t"].__setitem__(-1, 10**6)),
    ]
    assert len(set(changes)) == len(changes)
    assert variant() == variant()


def test_events_outside_the_sensor_are_found_when_they_are_read():
    recordings = from_arrays([random_events(0), random_events(1, width=40)], [0, 1], SENSOR, name="mine")
    with pytest.raises(DataError, match=r"^mine, array 1: event \d+ has x = 3\d, outside the sensor"):
        recordings.read(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "arrays: holds no recordings"),
        (([np.zeros(3)], [0]), r"arrays, array 0: expected events \[M\] of dtype .*, got float64 of shape \[3\]"),
        (([random_events(0)], [0]), "arrays: 1 class, but there is nothing to learn"),
        (([random_events(0)] * 2, [0]), r"arrays: 2 recordings need as many whole labels, got int64 of shape \[1\]"),
        (([random_events(0)] * 2, [0.0, 1.0]), "arrays: 2 recordings need as many whole labels, got float64"),
        (([random_events(0)] * 2, [0, -1]), "label -1 of recording 1 is outside 0 to"),
    ],
)
def test_bad_arrays(arguments, message):
    with pytest.raises(DataError, match=message):
        from_arrays(*arguments, SENSOR)


def test_bad_names():
    with pytest.raises(DataError, match="label 2 of recording 1 is outside 0 to 1"):
        from_arrays([random_events(0)] * 2, [0, 2], SENSOR, ["a", "b"])
    with pytest.raises(DataError, match="two classes are called 'a'"):
        from_arrays([random_events(0)] * 2, [0, 1], SENSOR, ["a", "a"])


def test_a_subset_is_a_choice_in_its_order():
    everything = made()
    part = Subset(everything, [4, 0, 0], "part")
    same(part, everything, [4, 0, 0])
    assert (part.name, part.sensor, part.class_names) == ("part", SENSOR, ("left", "right"))
    assert Subset(everything, [0]).name == everything.name
    assert part.fingerprint() != Subset(everything, [0, 4, 0]).fingerprint() != everything.fingerprint()
    same(pickle.loads(pickle.dumps(part)), part, [0, 1, 2])
    assert len(Subset(everything, [])) == 0
    with pytest.raises(UserError, match="recordings 0 to 4, asked for 1 to 5"):
        Subset(everything, [1, 5])


def test_joined_recordings_lie_one_behind_the_other():
    first, second = made(), made(first=100, count=3, name="others")
    both = Joined([first, second], "both")
    assert len(both) == 8
    same(Subset(both, range(5)), first, range(5))
    same(Subset(both, range(5, 8)), second, range(3))
    assert both.fingerprint() != Joined([second, first], "both").fingerprint()
    with pytest.raises(IndexError):
        both.read(8)


def test_joined_recordings_share_sensor_and_classes():
    other = from_arrays([random_events(0)] * 2, [0, 1], Sensor(40, 34, 2), ["left", "right"], "wide")
    with pytest.raises(DataError, match=r"arrays is of a sensor of 34 x 34 .*, but wide of 40 x 34"):
        Joined([made(), other], "both")
    with pytest.raises(DataError, match="arrays and named have different classes"):
        Joined([made(), from_arrays([random_events(0)] * 2, [0, 1], SENSOR, ["l", "r"], "named")], "both")


def names(count):
    return [f"recording {number}.dat" for number in range(count)]


def test_a_fifth_of_each_class_is_for_the_test_and_always_the_same():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 7, 2]))
    train, test = stratified(labels, CLASSES, "key")
    assert np.bincount(labels[test]).tolist() == [10, 1, 1]
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()
    assert np.array_equal(stratified(labels, CLASSES, "key")[1], test)
    assert not np.array_equal(stratified(labels, CLASSES, "another")[1], test)


def test_a_recording_that_is_added_moves_no_other():
    many = names(200)
    labels = np.arange(200) % 3
    before = {many[index] for index in by_name(many, labels, CLASSES)[1]}
    for size in (150, 30):
        after = {many[index] for index in by_name(many[:size], labels[:size], CLASSES)[1]}
        assert after == before & set(many[:size])
    assert 20 <= len(before) <= 60


def test_the_order_of_the_files_and_accents_of_another_system_do_not_count():
    words = [f"\u00e9{number}" for number in range(40)]
    labels = np.zeros(40, int)
    chosen = by_name(words, labels, ("\u00f6", "b"))[1].tolist()
    assert sorted(39 - by_name(words[::-1], labels, ("\u00f6", "b"))[1]) == chosen
    apart = [f"e\u0301{number}" for number in range(40)]
    assert by_name(apart, labels, ("o\u0308", "b"))[1].tolist() == chosen


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_class_has_one_in_each_part(count):
    for attempt in range(30):
        labels = np.repeat([0, 1, 2], count)
        words = [f"{attempt} {number}" for number in range(len(labels))]
        train, test = by_name(words, labels, CLASSES)
        assert np.bincount(labels[train], minlength=3).min() >= 1
        assert np.bincount(labels[test], minlength=3).min() >= 1


@pytest.mark.parametrize("split", [lambda labels: stratified(labels, CLASSES, ""),
                                   lambda labels: by_name(names(len(labels)), labels, CLASSES)])  # fmt: skip
def test_a_class_with_one_recording_cannot_be_split(split):
    with pytest.raises(DataError, match="class 'b' has a single recording"):
        split(np.array([0, 0, 1, 2, 2]))
    assert sorted(np.concatenate(split(np.array([0, 0, 2, 2])))) == [0, 1, 2, 3]  # a class without any is none


def test_columns_become_events_one_by_one():
    t, x, y, p = [3, 5, 5], [1, 2, 65535], [0, 9, 1], [True, False, True]
    events = to_events(np.array(t, np.uint64), np.array(x, np.uint16), y, p, "here")
    assert events.dtype == EVENT
    assert events.tolist() == [(3, 1, 0, 1), (5, 2, 9, 0), (5, 65535, 1, 1)]


def test_numbers_stand_for_whole_columns_and_axes_are_flattened():
    assert to_events([[1], [2]], [[3], [4]], 5, 1, "here").tolist() == [(1, 3, 5, 1), (2, 4, 5, 1)]
    assert to_events([], [], 0, 0, "here").shape == (0,)


def test_times_are_rounded():
    assert to_events([0.4, 1.6, -0.6], [0, 0, 0], 0, 0, "here")["t"].tolist() == [0, 2, -1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([1, 2], [0], 0, 0), "2 times, but 1 values of x"),
        (([1, 2], [0, -1], 0, 0), "event 1 has x = -1, which no event can have"),
        (([1, 2], [0, 1], [0, 65536], 0), "event 1 has y = 65536"),
        (([1, 2], [0.0, 0.5], 0, 0), "event 1 has x = 0.5"),
        (([1, 2], [0, 1], 0, [0, 256]), "event 1 has p = 256"),
        (([1, np.nan], [0, 1], 0, 0), "event 1 has t = nan"),
        (([1, 2.0**63], [0, 1], 0, 0), "event 1 has t = 9.2"),
        ((np.array([1, 2**63], np.uint64), [0, 1], 0, 0), "event 1 has t = 9223372036854775808"),
        ((["1", "2"], [0, 1], 0, 0), "t must be numbers, got <U1"),
        (([1, 2], [0, 1], 70000, 0), "event 0 has y = 70000"),
    ],
)
def test_what_no_event_can_have_is_named(columns, message):
    with pytest.raises(DataError, match=f"^here: {message}"):
        to_events(*columns, "here")


def test_spikes_are_sorted_and_those_of_one_time_keep_their_order():
    seconds = np.array([0.5, 0.25, 0.5, 0.25], np.float16)
    assert spike_events(seconds, np.array([4, 3, 2, 9], np.uint16), "here").tolist() == [
        (250_000, 3, 0, 0),
        (250_000, 9, 0, 0),
        (500_000, 4, 0, 0),
        (500_000, 2, 0, 0),
    ]


@pytest.mark.filterwarnings("error")
def test_infinite_times_in_half_precision_are_named():
    times = np.array([1.0, np.inf], np.float16)
    file = io.BytesIO()
    np.savez(file, t=times, x=np.zeros(2))
    with pytest.raises(DataError, match="event 1 has t = inf, expected a whole number"):
        read_bytes(file.getvalue(), ".npz", "here")
    with pytest.raises(DataError, match="event 1 has t = inf, which no event can have"):
        spike_events(times, [0, 0], "here")
    assert to_events(np.array([4.0, 2000.0], np.float16), 0, 0, 0, "here")["t"].tolist() == [4, 2000]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("bits", "kind"), [(0x7FA00001, np.float32), (0x7D01, np.float16), (0x7FF4 << 48, np.float64)])
def test_signalling_nan_is_named(bits, kind):
    """Damaged files hold them; any sum with one is a warning of numpy."""
    times = np.array([bits], f"u{np.dtype(kind).itemsize}").view(kind)
    for make in (lambda: spike_events(times, [0], "here"), lambda: to_events(times, [0], [0], [0], "here")):
        with pytest.raises(DataError, match=r"^here: event 0 has t = nan"):
            make()
    file = io.BytesIO()
    np.savez(file, t=times, x=np.zeros(1))
    with pytest.raises(DataError, match=r"^here: event 0 has t = nan"):
        read_bytes(file.getvalue(), ".npz", "here")


def test_sorted_events_are_not_copied():
    events = to_events([1, 1, 2], [0, 1, 2], 0, 0, "here")
    assert by_time(events) is events
