"""Slices of long recordings: which events they hold, what is left out, and what stays on one side of a split."""

import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from source_files import random_events

from spikelfp.data import load_events
from spikelfp.data.events import (
    EVENT,
    Binning,
    EventSplits,
    Pipeline,
    Sensor,
    Slices,
    Slicing,
    from_arrays,
    sliced,
)
from spikelfp.data.events.recordings import Unlabelled
from spikelfp.data.events.sources.base import Joined, Subset
from spikelfp.errors import DataError, UserError

SENSOR = Sensor(34, 34, 2)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))


def slow_slices(events, slicing):
    """Slices one by one, event by event, as :class:`Slicing` says; each a list of events from its beginning."""
    first, last = int(events["t"][0]), int(events["t"][-1])
    found, used, number, empty = [], set(), 0, 0
    while True:
        begin = number * slicing.hop
        if slicing.count is not None:
            if begin + slicing.count > len(events):
                break
            inside = list(range(begin, begin + slicing.count))
            start = int(events["t"][begin])
        else:
            start = first + begin
            if start + slicing.window > last + 1:
                break
            inside = [i for i, t in enumerate(events["t"].tolist()) if start <= t < start + slicing.window]
        used.update(inside)
        if inside:
            found.append([(int(events["t"][i]) - start, *events[i].tolist()[1:]) for i in inside])
        else:
            empty += 1
        number += 1
    return found, len(events) - len(used), empty


@pytest.mark.parametrize(
    "slicing",
    [
        Slicing(window=70_000),
        Slicing(window=20_000, overlap=0.5),
        Slicing(window=1_000),
        Slicing(window=3_000, overlap=0.9),
        Slicing(count=7),
        Slicing(count=10, overlap=0.35),
        Slicing(count=50),
        Slicing(count=1),
    ],
)
@pytest.mark.parametrize("start", [0, 123_456, -5_000])
def test_slices_hold_what_the_slow_way_finds(slicing, start):
    for seed in range(4):
        events = random_events(seed)
        events["t"] += start
        wanted, left, empty = slow_slices(events, slicing)
        cuts = slicing.cut(events)
        assert (cuts.left, cuts.empty) == (left, empty)
        made = Slices(from_arrays([events, events], [0, 1], SENSOR), slicing)
        assert len(made) == 2 * len(wanted)
        assert [made.read(index).tolist() for index in range(len(wanted))] == wanted
        assert made.labels.tolist() == [0] * len(wanted) + [1] * len(wanted)
        assert made.groups.tolist() == made.labels.tolist()


def test_what_is_left_out_is_told():
    events = np.zeros(4, EVENT)
    events["t"] = 0, 900, 2_500, 3_100
    short = events[:1].copy()
    made = Slices(from_arrays([events, short], [0, 1], SENSOR, name="mine"), Slicing(window=1_000))
    assert made.notes == (
        "2 slices of 1 ms from 1 recording; left out: 1 event in no whole slice, 1 slice without events, "
        "1 recording shorter than a slice, such as mine, array 1",
    )
    whole = from_arrays([events[:2], events[2:]], [0, 1], SENSOR, name="mine")
    assert Slices(whole, Slicing(count=1)).notes == ("4 slices of 1 events from 2 recordings",)


def test_a_class_whose_recordings_are_too_short_is_named():
    events = random_events(1)
    splits = made_splits([events, events[:2]], [0, 1])
    with pytest.raises(DataError, match="no recording of class 'b' in the training part is as long as a slice of 20"):
        sliced(splits, Slicing(count=20))
    with pytest.raises(DataError, match="no recording is as long as a slice of 400 ms"):
        sliced(splits, Slicing(window=400_000))


PIPELINE = Pipeline(Binning(bins=4))


def made_splits(arrays, labels, pipeline=PIPELINE):
    part = from_arrays(arrays, labels, SENSOR, ("a", "b"), "mine")
    return EventSplits("mine", part, part, pipeline)


def test_steps_of_a_slice_of_time_begin_with_the_slice():
    events = np.zeros(3, EVENT)
    events["t"] = 0, 1_700, 1_999
    splits = made_splits([events, events], [0, 1], Pipeline(Binning(window=500)))
    loaded = load_events(splits, slicing=Slicing(window=1_000), in_memory=True)
    assert loaded.train.store.steps.tolist() == [1, 2, 1, 2]  # an event at 700 µs of the second slice is of its step 1
    values = loaded.train.__getitems__([1])[0].values
    assert values[:, 0].sum((1, 2, 3)).tolist() == [0, 1]
    assert loaded.notes == sliced(splits, Slicing(window=1_000)).notes
    by_events = sliced(splits, Slicing(count=2))
    assert by_events.pipeline.binning.origin is None


def test_a_fingerprint_knows_recordings_and_rule():
    arrays = [random_events(1), random_events(2)]

    def prints(arrays, slicing):
        return Slices(from_arrays(arrays, [0, 1], SENSOR), slicing).fingerprint()

    first = prints(arrays, Slicing(count=10))
    assert prints(arrays, Slicing(count=10)) == first
    assert len({first, prints(arrays, Slicing(count=11)), prints(arrays[::-1], Slicing(count=10))}) == 3


def test_slices_are_found_once_and_read_again_after_pickling(monkeypatch):
    source = from_arrays([random_events(1), random_events(2)], [0, 1], SENSOR)
    first = Slices(source, Slicing(count=10))
    monkeypatch.setattr(Slicing, "cut", lambda self, events: pytest.fail("cut again"))
    again = Slices(source, Slicing(count=10))
    assert np.array_equal(again.pieces, first.pieces)
    assert np.array_equal(pickle.loads(pickle.dumps(again)).read(3), first.read(3))


def test_what_is_held_is_bounded(monkeypatch):
    monkeypatch.setattr("spikelfp.data.events.slicing._HELD", 2_000)
    made = Slices(from_arrays([random_events(n) for n in range(6)], [0, 1] * 3, SENSOR), Slicing(count=25))
    for index in range(len(made)):
        made.read(index)
        assert len(made._held.recordings) <= 2
        assert made._held.size == sum(each.nbytes for each in made._held.recordings.values()) <= 2_000


def test_a_recording_without_a_class_can_be_sliced():
    part = from_arrays([random_events(1), random_events(2)], [0, 1], SENSOR)
    found = sliced(Unlabelled("mine", part, Pipeline(Binning(bins=4))), Slicing(count=10))
    assert len(found.recordings) == 10


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "by time or by events"),
        ({"window": 5, "count": 5}, "by time or by events"),
        ({"window": 0}, "at least 1, got 0"),
        ({"count": 2.5}, "got 2.5"),
        ({"window": 5, "overlap": 1.0}, r"lie in \[0, 1\), got 1.0"),
    ],
)
def test_settings_out_of_range(options, text):
    with pytest.raises(UserError, match=text):
        Slicing(**options)


def test_a_tiny_overlapping_slice_of_a_long_recording_is_refused():
    events = np.zeros(2, EVENT)
    events["t"] = 0, 1 << 40
    with pytest.raises(DataError, match=r"slices of 0\.001 ms, more than"):
        Slices(from_arrays([events, events], [0, 1], SENSOR), Slicing(window=1))


# Held out for validation


def long_recordings(each=6):
    """Recordings of unequal lengths: slices of each are of one class."""
    arrays = [random_events(seed, count=50 + 13 * (seed % 5)) for seed in range(2 * each)]
    return from_arrays(arrays, [0] * each + [1] * each, SENSOR)


@pytest.mark.parametrize("fraction", [0.2, 0.35, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_slices_of_one_recording_are_never_on_both_sides(fraction, seed):
    part = long_recordings()
    splits = load_events(
        EventSplits("mine", part, part, Pipeline(Binning(bins=4))), slicing=Slicing(count=10), in_memory=True
    )
    divided = splits.with_validation(fraction, seed)
    learnt, held = (set(part.groups.tolist()) for part in (divided.train, divided.validation))
    assert min(len(learnt), len(held)) > 0
    assert not learnt & held
    assert len(divided.train) + len(divided.validation) == len(splits.train)
    assert set(divided.train.labels.tolist()) == {0, 1}
    largest = max(Counter(splits.train.groups.tolist()).values())
    for label in (0, 1):
        share = (divided.validation.labels == label).sum() - fraction * (splits.train.labels == label).sum()
        assert abs(share) <= largest
    again = splits.with_validation(fraction, seed)
    assert torch.equal(again.validation.groups, divided.validation.groups)


def test_too_few_recordings_to_hold_any_out():
    part = long_recordings(each=1)
    splits = load_events(
        EventSplits("mine", part, part, Pipeline(Binning(bins=4))), slicing=Slicing(count=10), in_memory=True
    )
    with pytest.raises(UserError, match="consists of 2 recordings or sessions that stay whole, the smallest 4"):
        splits.with_validation(0.2, 0)


def test_groups_of_parts_and_choices():
    first = Slices(long_recordings(2), Slicing(count=25))
    second = Slices(long_recordings(1), Slicing(count=25))
    joined = Joined([first, second], "both")
    assert len(set(joined.groups.tolist())) == 6
    assert not set(joined.groups[: len(first)].tolist()) & set(joined.groups[len(first) :].tolist())
    chosen = Subset(joined, [0, len(first)])
    assert chosen.groups.tolist() == [joined.groups[0], joined.groups[len(first)]]
    assert Joined([long_recordings(1), long_recordings(1)], "plain").groups is None
