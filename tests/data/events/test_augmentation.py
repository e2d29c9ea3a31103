"""Augmented sequences: as the slow version has them, by (seed, epoch, sample) alone, as often as they should."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import slow_events
from toy_recordings import pack

from spikelfp.data.events import Sensor, SparseFrames
from spikelfp.data.events import augmentation as a
from spikelfp.data.events.augmentation.apply import changed, draw_changes
from spikelfp.data.events.augmentation.base import mix
from spikelfp.data.events.batching import PackedFrames
from spikelfp.errors import DataError, UserError

SENSORS = [Sensor(4, 3, 2), Sensor(6, 5, 1), Sensor(7), Sensor(70, 66, 2), Sensor(1, 1, 2), Sensor(5, 1, 2)]


def sequence(random: np.random.Generator, sensor: Sensor, steps: int, levels: int, share: float) -> SparseFrames:
    places = np.flatnonzero(random.random(steps * sensor.size) < share)
    counts = random.integers(1, levels + 1, len(places))
    return SparseFrames(places.astype(np.uint32), counts.astype(np.uint16), steps)


def held(packed: PackedFrames, row: int) -> dict[int, int]:
    part = slice(packed.offsets[row], packed.offsets[row + 1])
    places, counts = packed.places[part].tolist(), packed.counts[part].tolist()
    assert places == sorted(set(places))
    return dict(zip(places, counts, strict=True))


@given(
    st.sampled_from(SENSORS),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.sampled_from([1, 3]),
    st.fixed_dictionaries(
        {
            "drop": st.sampled_from([0.0, 0.3, 0.99]),
            "jitter": st.sampled_from([0, 0, 1, 3]),
            "mirror": st.integers(0, 1),
            "upside_down": st.integers(0, 1),
            "dx": st.integers(-3, 3),
            "dy": st.integers(-3, 3),
            "dt": st.integers(-6, 6),
            "wrap": st.integers(0, 1),
            "noise": st.sampled_from([0.0, 0.0, 0.05, 0.9]),
        }
    ),
    st.integers(0, 1),
    st.integers(0, 2**64 - 1),
    st.sampled_from([0.0, 0.1, 0.8]),
)
@settings(max_examples=60, deadline=None)
def test_equals_slow(sensor, lengths, levels, settings_of, swap, seed, share):
    random = np.random.default_rng(seed)
    if sensor.size > 1000:
        share, settings_of["noise"] = share / 50, settings_of["noise"] / 50
    packed = pack([sequence(random, sensor, steps, levels, share) for steps in lengths])
    rows = random.integers(0, len(lengths), 3)
    changes = np.zeros(3, a.CHANGE)
    for name, value in settings_of.items():
        changes[name][:2] = value
    changes["swap"] = swap if sensor.polarities == 2 else 0
    keys = random.integers(0, 2**64, 3, np.uint64, endpoint=False)
    made = changed(packed, rows, sensor, levels, changes, keys)
    assert made.steps.tolist() == [lengths[row] for row in rows]
    for b, row in enumerate(rows):
        expected = slow_events.change_slow(
            held(packed, row), lengths[row], sensor, levels, changes[b], int(keys[b])
        )  # fmt: skip
        assert held(made, b) == expected


def toy(samples: int = 60, steps: int = 12, sensor: Sensor = SENSORS[0], levels: int = 2) -> PackedFrames:
    random = np.random.default_rng(1)
    return pack([sequence(random, sensor, steps, levels, 0.3) for _ in range(samples)])


ALL = a.parse_augmentations("shift=1,flip-x,flip-y,polarity,roll-time=2,drop=0.2,noise=0.02,jitter=1")


def augment(packed: PackedFrames, rows: np.ndarray, seed: int = 0, epoch: int = 3, chosen=ALL) -> list[dict[int, int]]:
    made = a.augmented(
        *packed, rows, sensor=SENSORS[0], levels=2, augmentations=chosen, seed=seed, epoch=epoch, indices=rows
    )
    return [held(made, b) for b in range(len(rows))]


def test_depends_on_seed_epoch_and_sample_alone():
    packed = toy()
    whole = augment(packed, np.arange(60))
    assert augment(packed, np.arange(60)) == whole
    backwards = np.arange(59, -1, -1)
    assert augment(packed, backwards) == [whole[row] for row in backwards]
    assert [augment(packed, np.array([row]))[0] for row in range(60)] == whole
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert augment(packed, np.tile(np.arange(60), 40))[60 * 39 :] == whole
    finally:
        torch.set_num_threads(before)
    for other in (augment(packed, np.arange(60), seed=1), augment(packed, np.arange(60), epoch=4)):
        assert sum(one == two for one, two in zip(whole, other, strict=True)) < 3
    assert augment(packed, np.arange(60), chosen=ALL[::-1]) == whole
    assert (packed.places == toy().places).all()


def test_large_batch_on_threads_equals_one():
    sensor = Sensor(34, 34, 2)
    packed = toy(64, 10, sensor)
    options = {"sensor": sensor, "levels": 2, "augmentations": ALL, "seed": 0, "epoch": 0, "indices": np.arange(64)}
    before, made = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            made.append(a.augmented(*packed, np.arange(64), **options))
        finally:
            torch.set_num_threads(before)
    for one, two in zip(*made, strict=True):
        assert np.array_equal(one, two)


def test_another_index_is_drawn_otherwise():
    packed, same = toy(), np.zeros(60, np.int64)
    made = a.augmented(
        *packed, same, sensor=SENSORS[0], levels=2, augmentations=ALL, seed=0, epoch=0, indices=np.arange(60)
    )
    assert len({tuple(held(made, b).items()) for b in range(60)}) > 55


def test_none_changes_nothing():
    packed = toy()
    rows = np.array([5, 0, 5])
    assert augment(packed, rows, chosen=()) == [held(packed, row) for row in rows]
    assert augment(packed, np.empty(0, np.int64)) == []


def test_draws_of_each_kind():
    changes, keys = draw_changes(ALL, 0, 0, np.arange(20_000))
    for name, low, high in (("dx", -1, 1), ("dy", -1, 1), ("dt", -2, 2), ("mirror", 0, 1), ("upside_down", 0, 1),
                            ("swap", 0, 1)):  # fmt: skip
        values, counts = np.unique(changes[name], return_counts=True)
        assert values.tolist() == list(range(low, high + 1))
        share = 1 / len(values)
        assert np.abs(counts / 20_000 - share).max() < 5 * np.sqrt(share / 20_000)
    assert len(np.unique(keys)) == 20_000
    together = np.corrcoef([changes[name] for name in ("dx", "dy", "dt", "mirror", "upside_down", "swap")])
    assert np.abs(together - np.eye(6)).max() < 5 / np.sqrt(20_000)
    assert set(changes["drop"]) == {0.2}
    assert set(changes["noise"]) == {0.02}
    assert set(changes["jitter"]) == {1}
    assert set(changes["wrap"]) == {1}
    assert set(draw_changes((a.ShiftTime(2),), 0, 0, [0, 1])[0]["wrap"]) == {0}


def _full(sensor: Sensor, steps: int, count: int) -> PackedFrames:
    places = np.arange(steps * sensor.size, dtype=np.uint32)
    return pack([SparseFrames(places, np.full(len(places), count, np.uint16), steps)])


def test_drop_is_binomial():
    sensor, rows = Sensor(100), np.zeros(20, np.int64)
    made = a.augmented(
        *_full(sensor, 50, 5), rows, sensor=sensor, levels=5, augmentations=(a.Drop(0.3),), seed=0, epoch=0,
        indices=np.arange(20),
    )  # fmt: skip
    total = 20 * 50 * 100
    shares = np.bincount(made.counts, minlength=6) / total
    shares[0] = 1 - len(made.counts) / total
    expected = [10**0 * _choose(5, kept) * 0.7**kept * 0.3 ** (5 - kept) for kept in range(6)]
    assert np.abs(shares - expected).max() < 0.006
    assert made.counts.min() == 1


def _choose(of: int, some: int) -> int:
    return int(np.prod([of - each for each in range(some)]) / np.prod([each + 1 for each in range(some)]))


def test_noise_has_its_rate_everywhere():
    sensor, rows = Sensor(10, 10, 2), np.zeros(40, np.int64)
    empty = pack([SparseFrames(np.empty(0, np.uint32), np.empty(0, np.uint16), 50)])
    made = a.augmented(
        *empty,
        rows,
        sensor=sensor,
        levels=3,
        augmentations=(a.EventNoise(0.01),),
        seed=0,
        epoch=0,
        indices=np.arange(40),
    )
    assert set(made.counts.tolist()) == {1}
    assert abs(len(made.places) / (40 * 50 * 200) - 0.01) < 0.0008
    for part, parts in ((made.places // 200, 50), (made.places % 200, 200)):
        counts = np.bincount(part, minlength=parts)
        assert abs(counts - len(part) / parts).max() < 5.5 * np.sqrt(len(part) / parts)


def test_jitter_reaches_all_nine_places():
    sensor = Sensor(5, 5, 1)
    middle = pack([SparseFrames(np.array([12], np.uint32), np.array([9000], np.uint16), 1)])
    made = a.augmented(
        *middle, np.zeros(1, np.int64), sensor=sensor, levels=9000, augmentations=(a.Jitter(1),), seed=0, epoch=0,
        indices=[0],
    )  # fmt: skip
    assert made.places.tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]
    assert abs(made.counts.astype(int) - 1000).max() < 170
    assert made.counts.sum() == 9000


@pytest.mark.parametrize("sensor", [Sensor(9), Sensor(9, 1, 2)])
def test_shift_of_a_line_moves_channels(sensor):
    middle = pack([SparseFrames(np.array([4], np.uint32), np.ones(1, np.uint16), 1)])
    chosen = a.check_augmentations((a.Shift(2),), sensor)
    made = a.augmented(
        *middle, np.zeros(300, np.int64), sensor=sensor, levels=1, augmentations=chosen, seed=0, epoch=0,
        indices=np.arange(300),
    )  # fmt: skip
    assert len(made.places) == 300
    assert set(made.places.tolist()) == {2, 3, 4, 5, 6}


def test_random_numbers_are_splitmix():
    numbers = np.array([0, 1, 12345, 2**64 - 1], np.uint64)
    assert [int(each) for each in mix(numbers)] == [slow_events.mix(int(each)) for each in numbers]
    # the first outputs of SplitMix64 from state 1234567, as published with its reference implementation
    states = np.array([(1234567 + n * 0x9E3779B97F4A7C15) % 2**64 for n in (1, 2, 3)], np.uint64)
    assert mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_pickles():
    assert pickle.loads(pickle.dumps(ALL)) == ALL


@pytest.mark.parametrize(
    ("text", "sensor", "message"),
    [
        ("shift=3", Sensor(9, 3, 2), "shift must be less than 3 on a sensor of 9 x 3"),
        ("shift=9", Sensor(9), "shift must be less than 9 on a sensor of 9 channels"),
        ("polarity", Sensor(9, 3, 1), "polarity needs a sensor of two polarities"),
        ("flip-y", Sensor(9), "flip-y needs the rows of a camera"),
        ("shift=1,shift=2", Sensor(9, 9), "both draw the place of a sample"),
        ("roll-time=1,drop=0.1,shift-time=2", Sensor(9, 9), "both draw the time of a sample"),
    ],
)
def test_refused(text, sensor, message):
    with pytest.raises(UserError, match=message):
        a.check_augmentations(a.parse_augmentations(text), sensor)
    assert a.check_augmentations(a.parse_augmentations("shift=1,flip-x"), sensor) == (a.Shift(1), a.RandomFlipX())


@pytest.mark.parametrize("places", [[30, 2], [2, 9999]])
def test_damaged(places):
    packed = pack([SparseFrames(np.array(places, np.uint32), np.ones(2, np.uint16), 3)])
    with pytest.raises(DataError, match="do not rise, or lie after the last step"):
        augment(packed, np.zeros(1, np.int64), chosen=())
