"""Edit distances and their counterfactuals against the recursion, written out."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp import rewards
from spikelfp.errors import ShapeError
from spikelfp.rewards.edit_distance import Decoding, edit_distance, edit_distance_counterfactuals

DECODINGS = [Decoding(), Decoding(blank=0), Decoding(collapse=True), Decoding(collapse=True, blank=2)]


def slow_distance(a, b):
    """The definition: delete, insert, substitute."""

    @cache
    def distance(i, j):
        if i == 0 or j == 0:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return distance(len(a), len(b))


def slow_decode(symbols, decoding):
    kept = []
    for i, symbol in enumerate(symbols):
        if decoding.collapse and i and symbols[i - 1] == symbol:
            continue
        if symbol != decoding.blank:
            kept.append(symbol)
    return kept


def padded(targets):
    longest = max(len(t) for t in targets)
    return torch.tensor([list(t) + [-1] * (longest - len(t)) for t in targets], dtype=torch.int64).view(
        len(targets), longest
    )


CASES = st.tuples(st.integers(1, 6), st.integers(1, 3)).flatmap(
    lambda size: st.tuples(
        st.lists(st.lists(st.integers(0, 3), min_size=size[0], max_size=size[0]), min_size=size[1], max_size=size[1]),
        st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=size[1], max_size=size[1]),
    )
)


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
@given(CASES)
@settings(deadline=None, max_examples=50)
def test_distances_and_decoding(decoding, case):
    predictions, targets = case
    fast = torch.tensor(predictions).T
    assert decoding.sequences(fast) == [slow_decode(p, decoding) for p in predictions]
    expected = [slow_distance(slow_decode(p, decoding), t) for p, t in zip(predictions, targets, strict=True)]
    assert edit_distance(fast, padded(targets), decoding).tolist() == expected


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
@given(CASES)
@settings(deadline=None, max_examples=30)
def test_every_changed_symbol(decoding, case):
    predictions, targets = case
    fast = edit_distance_counterfactuals(torch.tensor(predictions).T, padded(targets), 4, decoding)
    for b, (symbols, target) in enumerate(zip(predictions, targets, strict=True)):
        for s in range(len(symbols)):
            for c in range(4):
                changed = [*symbols[:s], c, *symbols[s + 1 :]]
                assert fast[s, b, c] == slow_distance(slow_decode(changed, decoding), target)


@pytest.mark.parametrize("options", [{}, {"window": 2, "blank": 0}, {"collapse": True, "blank": 1}])
def test_the_reward_is_that_of_the_metric_asked_one_by_one(options):
    decoding = Decoding(options.get("collapse", False), options.get("blank"))
    targets = padded([[2, 3], [3, 2, 2], [], [2]])

    def metric(predictions, labels):
        pairs = zip(predictions.T.tolist(), labels.tolist(), strict=True)
        return [-slow_distance(slow_decode(p, decoding), [s for s in t if s >= 0]) for p, t in pairs]

    fast, slow = rewards.Levenshtein(**options), rewards.FromMetric(metric, window=options.get("window", 1))
    for outputs in (torch.randn(6, 4, 4), (torch.rand(6, 4, 4) < 0.3).float()):
        torch.testing.assert_close(fast(outputs, targets), slow(outputs, targets))
        expected = [-score for score in metric(fast.predictions(outputs), targets)]
        assert fast.distance(outputs, targets).tolist() == expected
        assert fast.decode(outputs) == [slow_decode(p, decoding) for p in fast.predictions(outputs).T.tolist()]


def test_a_saying_of_nothing_is_drawn_to_the_symbols_of_the_target():
    outputs = torch.zeros(3, 1, 4)
    outputs[..., 0] = 1.0  # blank everywhere
    judged = rewards.Levenshtein(blank=0).global_reward(outputs, torch.tensor([[1, 3]]))
    assert torch.equal(judged, torch.tensor([-1.0, 0.5, -1.0, 0.5], dtype=torch.float64).expand(3, 1, 4))


@pytest.mark.parametrize(
    ("targets", "text"),
    [
        (torch.zeros(3), r"targets \[B, L\]"),
        (torch.zeros(3, 2), "torch.float32"),
        (torch.tensor([[1, 2], [1, 4], [1, 1]]), r"symbol 4 at \(1, 1\)"),
        (torch.tensor([[1, 2], [1, 1], [-2, 1]]), r"symbol -2 at \(2, 0\)"),
        (torch.tensor([[1, 0], [1, 1], [1, 1]]), r"symbol 0 at \(0, 1\) is not one of 0..3, without the blank 0"),
        (torch.tensor([[1, 2], [-1, 1], [1, 1]]), "target 1 has a symbol after -1"),
    ],
)
def test_bad_targets_are_named(targets, text):
    with pytest.raises(ShapeError, match=text):
        rewards.Levenshtein(blank=0)(torch.randn(5, 3, 4), targets)


def test_a_blank_outside_the_classes_is_named():
    with pytest.raises(ShapeError, match=r"blank 4 is outside the classes 0\.\.3"):
        rewards.Levenshtein(blank=4)(torch.randn(5, 1, 4), torch.tensor([[1]]))
