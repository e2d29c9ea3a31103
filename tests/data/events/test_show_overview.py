"""The overview of a data set: what is in it, found again from its recordings."""

from __future__ import annotations

import statistics
from dataclasses import asdict, replace

import numpy as np
import pytest

from spikelfp.data.events import EVENT, Binning, Events, EventSplits, Pipeline, Recordings, Sensor
from spikelfp.data.events.show import overview, overview_text
from spikelfp.errors import DataError, UserError


class Made(Recordings):
    """Recordings of a few events, which keep the numbers of those that were read."""

    def __init__(self, name: str, labels: list[int], classes: int = 3) -> None:
        self.name, self.sensor = name, Sensor(6, 5, 2)
        self.labels = np.array(labels, dtype=np.int64)
        self.class_names = tuple(f"class {label}" for label in range(classes))
        self.reads: list[int] = []

    def read(self, index: int) -> Events:
        self.reads.append(index)
        events = np.zeros(4 + index, EVENT)
        events["t"] = np.arange(4 + index) * 1500
        return events

    def where(self, index: int) -> str:
        return f"{self.name}/{index}"

    def fingerprint(self) -> str:
        return self.name


def made(train: list[int], test: list[int], **options: int) -> EventSplits:
    return EventSplits(
        "made", Made("made train", train, **options), Made("made test", test, **options), Pipeline(Binning(window=3000))
    )


class Damaged(Made):
    """The second recording cannot be read, the third not be binned."""

    def read(self, index: int) -> Events:
        if index == 1:
            raise DataError(f"{self.where(index)}: truncated")
        events = super().read(index)
        events["t"] *= 2**40 if index == 2 else 1
        return events


def test_bad_recordings_are_named_or_left_out() -> None:
    splits = replace(made([0], [2, 0]), train=Damaged("made train", [0, 1, 1, 2, 1]))
    with pytest.raises(DataError, match=r"^made train/1: truncated$"):
        overview(splits)
    found = overview(splits, skip_bad=True)
    assert (found.parts[0].recordings, found.parts[0].read, found.parts[0].events) == (5, 3, (4, 7, 8))
    assert found.skipped[0] == "made train/1: truncated"
    assert found.skipped[1].startswith("made train/2: a sequence of ")
    assert len(found.skipped) == 2
    with pytest.raises(DataError, match=r"made train: none of 1 recordings can be read: .*train/1: truncated"):
        overview(replace(splits, train=OnlyBad("made train", [0, 1])), most=2, skip_bad=True)


class OnlyBad(Damaged):
    def read(self, index: int) -> Events:
        return super().read(1)


def test_small_data_sets_are_read_whole() -> None:
    splits = made([0, 1, 1, 2, 1], [2, 0])
    found = overview(splits)
    assert [part.name for part in found.parts] == ["train", "test"]
    train, test = found.parts
    assert (train.recordings, train.per_class, train.read) == (5, (1, 3, 1), 5)
    assert (test.recordings, test.per_class, test.read) == (2, (1, 0, 1), 2)
    sizes = [4 + index for index in range(5)]
    assert train.events == (min(sizes), statistics.median(sizes), max(sizes))
    milliseconds = [1.5 * (size - 1) for size in sizes]
    assert train.milliseconds == (min(milliseconds), statistics.median(milliseconds), max(milliseconds))
    steps = [-(-size // 2) for size in sizes]
    assert train.steps == (min(steps), statistics.median(steps), max(steps))
    assert found.shape == (2, 5, 6)
    assert asdict(found)["parts"][0]["per_class"] == (1, 3, 1)


def test_large_ones_in_part_and_evenly() -> None:
    splits = made([index % 3 for index in range(1001)], [0, 1, 2])
    found = overview(splits, most=21)
    assert [part.read for part in found.parts] == [10, 3]
    reads = splits.train.reads  # type: ignore[attr-defined]
    assert (reads[0], reads[-1]) == (0, 1000)
    assert len(set(reads)) == 10
    assert np.ptp(np.diff(reads)) <= 1
    assert found.parts[0].recordings == 1001
    assert "13 of 1,004 recordings, evenly chosen" in overview_text(found)


def test_text_has_a_line_for_each_part_and_class() -> None:
    text = overview_text(overview(replace(made([0, 1, 1, 2, 1], [2, 0]), skipped=("a.bin: is empty",))))
    lines = text.splitlines()
    assert lines[0] == "made: 6 x 5 pixels, 2 polarities; a step is 2 × 5 × 6; 3 classes"
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert " ".join(rows["train"]) == "train 5 4 / 6 / 8 4.5 / 7.5 / 10.5 2 / 3 / 4"
    classes = [line.split() for line in lines if line.startswith("class")]
    assert classes[0] == ["class", "train", "test"]
    assert [row[1:] for row in classes[1:]] == [["0", "1", "1"], ["1", "3", "0"], ["2", "1", "1"]]
    assert "all 7 recordings" in text
    assert lines[-2:] == ["left out, cannot be read (1):", "  a.bin: is empty"]
    widths = {len(line) for line in lines if line.startswith(("part", "train", "test"))}
    assert len(widths) == 1, "columns are aligned"


def test_many_classes_are_summed_up() -> None:
    text = overview_text(overview(made([*range(60), 0, 0], [1], classes=60)))
    assert "class 5" not in text
    assert "recordings of a class: 1 to 3 in train, 0 to 1 in test" in text


def test_equal_values_are_said_once() -> None:
    text = overview_text(overview(made([0], [0])))
    assert [line.split() for line in text.splitlines() if line.startswith("train")] == [["train", "1", "4", "4.5", "2"]]


def test_damage_is_passed_on() -> None:
    splits = made([0, 1], [2])

    def read(index: int) -> Events:
        raise DataError("x.bin: is empty")

    splits.train.read = read  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"x\.bin"):
        overview(splits)


def test_a_part_without_recordings_is_named() -> None:
    with pytest.raises(DataError, match="made test: holds no recordings"):
        overview(made([0], []))


def test_reading_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="each of the 2 parts"):
        overview(made([0], [0]), most=1)
