import numpy as np
import pytest

from spikelfp.data.events.event import EVENT
from spikelfp.data.events.sources.base import by_time, spike_events, to_events
from spikelfp.errors import DataError


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


def test_sorted_events_are_not_copied():
    events = to_events([1, 1, 2], [0, 1, 2], 0, 0, "here")
    assert by_time(events) is events
