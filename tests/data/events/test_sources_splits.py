import numpy as np
import pytest

from spikelfp.data.events.sources.base import stratified
from spikelfp.data.events.sources.folder import by_name
from spikelfp.errors import DataError

CLASSES = ("a", "b", "c")


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
