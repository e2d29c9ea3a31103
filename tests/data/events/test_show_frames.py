"""Accumulated events, rates and numbers of a recording, each against a loop over its events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp.data.events import EVENT, Binning, Events, Pipeline, Sensor, bin_events
from spikelfp.data.events.show import (
    count,
    cut,
    dense_steps,
    elements,
    numbers_of,
    per_pixel,
    rates,
    shrink,
    step_edges,
    time_edges,
)
from spikelfp.errors import UserError

SENSORS = [Sensor(5, 3, 2), Sensor(7), Sensor(4, 6, 1), Sensor(9, 1, 2)]


def some_events(sensor: Sensor, number: int = 40, span: int = 1000, seed: int = 0) -> Events:
    """Random events of a sensor, sorted by time; the first is at 100 µs."""
    random = np.random.default_rng(seed)
    events = np.zeros(number, EVENT)
    events["t"] = np.sort(random.integers(0, span, number)) + 100
    events["t"][0] = 100
    for name, end in (("x", sensor.width), ("y", sensor.height), ("p", sensor.polarities)):
        events[name] = random.integers(0, end, number)
    return events


@pytest.mark.parametrize("sensor", SENSORS, ids=str)
def test_every_event_is_counted_in_its_window_and_element(sensor: Sensor) -> None:
    events = some_events(sensor)
    edges = time_edges(events, 7)
    expected = np.zeros((7, *sensor.shape), dtype=int)
    for t, x, y, p in events.tolist():
        window = (t - 100) * 7 // (int(events["t"][-1]) - 100 + 1)
        expected[(window, x) if sensor.is_line else (window, p, y, x)] += 1
    parts = cut(events, edges)
    np.testing.assert_array_equal([count(part, sensor) for part in parts], expected)
    flat = expected.reshape(7, sensor.polarities, -1).sum(2)
    np.testing.assert_allclose(rates(events, sensor, edges), (flat / (np.diff(edges)[:, None] * 1e-6)).T)
    for event, element in zip(events, elements(events, sensor), strict=True):
        assert np.unravel_index(element, sensor.shape)[-1] == event["x"]
    assert all(part.base is not None for part in parts), "windows are views"


@given(st.integers(1, 60), st.integers(0, 10**15), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_windows_are_of_equal_length_and_hold_everything(parts: int, start: int, span: int) -> None:
    events = np.zeros(2, EVENT)
    events["t"] = start, start + span - 1
    edges = time_edges(events, parts)
    assert len(edges) == min(parts, span) + 1
    assert (edges[0], edges[-1]) == (start, start + span)
    assert np.diff(edges).min() >= 1
    assert np.ptp(np.diff(edges)) <= 1


def test_cutting_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="0 parts"):
        time_edges(some_events(SENSORS[0]), 0)
    with pytest.raises(UserError, match="0 events"):
        time_edges(np.zeros(0, EVENT), 3)
    with pytest.raises(UserError, match="without events"):
        numbers_of(np.zeros(0, EVENT), SENSORS[0])


@pytest.mark.parametrize("sensor", SENSORS, ids=str)
def test_numbers(sensor: Sensor) -> None:
    events = some_events(sensor)
    found, places = numbers_of(events, sensor), [(x, y) for _, x, y, _ in events.tolist()]
    assert found.events == 40
    assert found.duration == events["t"][-1] - 100
    assert found.rate == pytest.approx(40 / (found.duration * 1e-6))
    on = [p for *_, p in events.tolist()]
    assert found.on_share == (None if sensor.polarities == 1 else pytest.approx(sum(on) / 40))
    assert found.active == pytest.approx(len(set(places)) / (sensor.width * sensor.height))
    assert found.hottest_events == max(map(places.count, places)) == places.count(found.hottest)
    assert per_pixel(events, sensor)[found.hottest[1], found.hottest[0]] == found.hottest_events


def test_a_recording_of_one_instant_has_no_rate() -> None:
    events = some_events(SENSORS[0])
    events["t"] = 5
    assert numbers_of(events, SENSORS[0]).rate is None


def test_shrinking_adds_up_blocks() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (2, 7, 10))
    small = shrink(counts, 4)
    assert small.shape == (2, 3, 4)
    for p, row, column in np.ndindex(small.shape):
        assert small[p, row, column] == counts[p, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3].sum()
    assert shrink(counts, 10) is counts


@pytest.mark.parametrize(
    "binning",
    [Binning(bins=6, levels=9), Binning(window=130, levels=9), Binning(count=7, levels=9), Binning(count=7, most=3)],
    ids=str,
)
@pytest.mark.parametrize("sensor", SENSORS[:2], ids=str)
def test_steps_are_those_of_the_binning(binning: Binning, sensor: Sensor) -> None:
    events = some_events(sensor, span=997)
    events["t"] = np.sort(np.random.default_rng(3).choice(900, 40, replace=False)) + 100  # no two at once
    sequence = bin_events(events, sensor, binning)
    edges = step_edges(events, binning, sequence.steps)
    assert len(edges) == sequence.steps + 1
    raw = np.array([count(part, sensor) for part in cut(events, edges)])
    chosen = list(range(sequence.steps))[::-1]
    values = dense_steps(sequence, sensor.shape, chosen, binning.levels)
    np.testing.assert_array_equal(values[::-1] * binning.levels, np.minimum(raw, binning.levels))
    assert values.dtype == np.float32


def test_more_bins_than_microseconds_have_an_end() -> None:
    events = some_events(SENSORS[0], 5, span=3)
    sequence = Pipeline(Binning(bins=10))(events, SENSORS[0])
    edges = step_edges(events, Binning(bins=10), sequence.steps)
    assert len(edges) == 11
    assert edges[0] == 100
    assert edges[-1] == events["t"][-1] + 1
    assert (np.diff(edges) >= 0).all()
