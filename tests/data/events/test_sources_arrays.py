import pickle

import numpy as np
import pytest
from source_files import random_events

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.sources import Joined, Subset, from_arrays
from spikelfp.errors import DataError, UserError

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
