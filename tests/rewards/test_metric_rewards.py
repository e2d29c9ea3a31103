"""Difference rewards against loops over every prediction and class, with scikit-learn's metrics."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

from spikelfp import methods, rewards
from spikelfp.errors import ShapeError, UnknownNameError, UserError
from spikelfp.rewards.metric import F1Score, counterfactuals, difference_reward


def slow_difference(metric, predictions, labels, classes, reference):
    """The formulas of spikelfp/rewards/metric.py for a list of predictions ``[B]``: ``[B][C]``."""
    rows = []
    for b in range(len(predictions)):
        values = []
        for c in range(classes):
            changed = list(predictions)
            changed[b] = c
            values.append(len(predictions) * metric(changed, labels))
        row = []
        for c in range(classes):
            if reference == "mean":
                others = [v for k, v in enumerate(values) if k != c]
                row.append(values[c] - sum(others) / len(others))
                continue
            close = [math.isclose(v, max(values), abs_tol=1e-9) for v in values]
            regrets = [max(values) - v for v, same in zip(values, close, strict=True) if not same]
            if close[c]:
                row.append(sum(regrets) / len(regrets) / sum(close) if regrets else 0.0)
            else:
                row.append(values[c] - max(values))
        rows.append(row)
    return rows


def macro(classes):
    return lambda p, y: f1_score(y, p, labels=range(classes), average="macro", zero_division=0)


def weird(predictions, labels):
    """Depends on the order and on pairs of samples."""
    return sum((i + 1) * (p - y) ** 2 for i, (p, y) in enumerate(zip(predictions, labels, strict=True))) % 7


BATCHES = st.integers(2, 5).flatmap(
    lambda c: st.tuples(
        st.just(c), st.lists(st.tuples(st.integers(0, c - 1), st.integers(0, c - 1)), min_size=1, max_size=8)
    )
)


@pytest.mark.parametrize("reference", ["best", "mean"])
@given(BATCHES)
@settings(deadline=None, max_examples=15)
def test_f1_equals_scikit_learn_on_every_changed_prediction(reference, case):
    classes, pairs = case
    predictions, labels = [list(column) for column in zip(*pairs, strict=True)]
    scores = (
        (F1Score(), macro(classes)),
        (F1Score(1), lambda p, y: f1_score(y, p, labels=[1], average="macro", zero_division=0)),
    )
    for score, metric in scores:
        now = float(score(torch.tensor(predictions), torch.tensor(labels), classes))
        assert now == pytest.approx(metric(predictions, labels))
        values = counterfactuals(score, torch.tensor(predictions), torch.tensor(labels), classes)
        expected = torch.tensor(slow_difference(metric, predictions, labels, classes, reference), dtype=torch.float64)
        torch.testing.assert_close(difference_reward(values, reference), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("reference", ["best", "mean"])
@given(BATCHES)
@settings(deadline=None, max_examples=30)
def test_any_metric_is_asked_about_every_changed_prediction(reference, case):
    classes, pairs = case
    predictions, labels = [list(column) for column in zip(*pairs, strict=True)]
    expected = torch.tensor(slow_difference(weird, predictions, labels, classes, reference), dtype=torch.float64)
    values = counterfactuals(
        lambda p, y: weird(p.tolist(), y.tolist()), torch.tensor(predictions), torch.tensor(labels), classes
    )
    torch.testing.assert_close(difference_reward(values, reference), expected)


def test_scores_of_samples_give_what_their_mean_gives_with_fewer_calls():
    predictions, labels = torch.randint(4, (3, 6)), torch.randint(4, (3, 6))
    calls = []

    def each(p, y):
        calls.append(1)
        return ((p == y).double() * torch.tensor([[1.0], [2], [4]]) + p / 10).sum(0)

    by_scores = difference_reward(counterfactuals(each, predictions, labels, 4))
    assert len(calls) == 1 + 3 * 4
    by_mean = difference_reward(counterfactuals(lambda p, y: each(p, y).mean(), predictions, labels, 4))
    torch.testing.assert_close(by_scores, by_mean)


def right(predictions, labels):
    return (predictions == labels).double()


class TestAccuracy:
    """The metric whose reward is known: the rewards of the paper."""

    labels = torch.randint(4, (9,), generator=torch.Generator().manual_seed(1))

    def test_is_row_3_for_real_outputs(self):
        outputs = torch.randn(1, 9, 4)
        for metric in (right, lambda p, y: accuracy_score(y, p)):
            reward = rewards.FromMetric(metric)(outputs, self.labels)
            torch.testing.assert_close(reward, rewards.Softmax()(outputs, self.labels))

    def test_is_row_4_with_the_sigmoid(self):
        outputs = torch.randn(9, 4)
        reward = rewards.FromMetric(right, convergence="sigmoid")(outputs, self.labels)
        torch.testing.assert_close(reward, rewards.Sigmoid()(outputs, self.labels))

    def test_is_the_sequence_reward_for_spikes(self):
        spikes = (torch.rand(7, 9, 4) < 0.5).float()
        torch.testing.assert_close(
            rewards.FromMetric(right)(spikes, self.labels), rewards.SpikeSequence()(spikes, self.labels)
        )

    def test_does_not_depend_on_the_batch(self):
        outputs = torch.randn(1, 9, 4)
        reward = rewards.FromMetric(lambda p, y: accuracy_score(y, p))
        torch.testing.assert_close(reward(outputs[:, :2], self.labels[:2]), reward(outputs, self.labels)[:, :2])

    def test_compared_with_the_mean(self):
        values = counterfactuals(right, torch.zeros(9, dtype=torch.int64), self.labels, 4)
        expected = torch.where(torch.nn.functional.one_hot(self.labels, 4).bool(), 1.0, -1 / 3).double()
        torch.testing.assert_close(difference_reward(values, "mean"), expected)


def test_outcomes_that_tie_share_and_a_metric_that_does_not_care_gives_nothing():
    values = torch.tensor([[2.0, 2, 0, 1], [5, 5, 5, 5]])
    expected = torch.tensor([[0.75, 0.75, -2, -1], [0, 0, 0, 0]])
    assert torch.equal(difference_reward(values), expected)


def test_windows_of_steps_are_outcomes_of_their_own():
    spikes, labels = (torch.rand(6, 5, 4) < 0.5).float(), torch.randint(4, (2, 5))
    reward = rewards.FromMetric(lambda p, y: (p == y).double().sum(0), window=3)
    assert reward.predictions(spikes).shape == (2, 5)
    with pytest.raises(ShapeError, match="labels for 5 samples, got 2"):
        reward(spikes, labels)
    by_hand = [rewards.SpikeSequence()(part, y) for part, y in zip(spikes.split(3), labels, strict=True)]
    reward = rewards.FromMetric(lambda p, y: (p == y.T).double().sum(0), window=3)
    torch.testing.assert_close(reward(spikes, labels.T), torch.cat(by_hand))


def test_a_metric_of_scikit_learn_that_nothing_was_written_for():
    outputs, labels = torch.randn(1, 12, 3), torch.randint(3, (12,))
    reward = rewards.FromMetric(lambda p, y: cohen_kappa_score(y, p))(outputs, labels)
    slow = slow_difference(
        lambda p, y: cohen_kappa_score(y, p), outputs[0].argmax(-1).tolist(), labels.tolist(), 3, "best"
    )
    expected = rewards.initial_reward(outputs, torch.tensor(slow), "softmax", True)
    torch.testing.assert_close(reward, expected)


def test_rare_classes_weigh_more():
    labels = torch.tensor([0] * 30 + [1] * 2)
    outputs = torch.zeros(1, 32, 2)
    outputs[..., 0] = 1.0  # everything is said to be class 0
    reward = rewards.F1()(outputs, labels).abs().sum(-1)[0]
    assert reward[-1] > 5 * reward[0]


@pytest.mark.parametrize(
    ("metric", "error", "text"),
    [
        (lambda p, y: math.nan, UserError, "returned nan"),
        (lambda p, y: torch.ones(3), ShapeError, r"each of 6 samples, got shape \(3,\)"),
        (lambda p, y: "good", UserError, r"are real numbers, .* got str"),
        (lambda p, y: [][0], IndexError, "out of range"),
    ],
)
def test_bad_metrics_are_named(metric, error, text):
    for reward in (rewards.FromMetric(metric), rewards.Perturbation(metric)):
        with pytest.raises(error, match=text):
            reward(torch.randn(1, 6, 4), torch.zeros(6, dtype=torch.int64))


def test_bad_shapes_and_options_are_named():
    labels = torch.zeros(6, dtype=torch.int64)
    with pytest.raises(ShapeError, match="two or more classes"):
        rewards.FromMetric(right)(torch.randn(1, 6, 1), labels)
    with pytest.raises(ShapeError, match="windows of 4 steps"):
        rewards.FromMetric(right, window=4)(torch.randn(6, 6, 2), labels)
    with pytest.raises(UserError, match="at least one step, got 0"):
        rewards.FromMetric(right, window=0)
    with pytest.raises(UnknownNameError, match="reference"):
        rewards.FromMetric(right, reference="worst")
    with pytest.raises(ShapeError, match=r"positive class 4 is outside the classes 0\.\.3"):
        rewards.F1(4)(torch.randn(1, 6, 4), labels)
    with pytest.raises(UserError, match="-1"):
        rewards.F1(-1)


class TestPerturbation:
    def test_equals_the_formula_written_out(self):
        outputs, labels = torch.randn(2, 3, 4), torch.randint(4, (3,))
        reward = rewards.Perturbation(
            lambda o, y: float((o.sum(0).argmax(-1) == y).double().mean()),
            sigma=0.7,
            pairs=3,
            generator=torch.Generator().manual_seed(5),
        )(outputs, labels)
        generator = torch.Generator().manual_seed(5)
        estimate = torch.zeros(2, 3, 4)
        for _ in range(3):
            noise = torch.randn(2, 3, 4, generator=generator)
            right = [
                sum(int((outputs + s * 0.7 * noise).sum(0)[b].argmax() == labels[b]) for b in range(3)) / 3
                for s in (1, -1)
            ]
            estimate += 3 * (right[0] - right[1]) * noise / (2 * 3 * 0.7)
        torch.testing.assert_close(reward, outputs * estimate)

    def test_tends_to_the_step_of_a_smooth_metric(self):
        """For minus the squared error the estimate is unbiased: E[ĝ] is the gradient."""
        outputs, targets = torch.randn(1, 2, 3), torch.randn(2, 3)
        reward = rewards.Perturbation(
            lambda o, y: -((o[0] - y) ** 2).sum(-1) / 2, 0.5, 4000, generator=torch.Generator().manual_seed(0)
        )
        torch.testing.assert_close(
            reward(outputs, targets), rewards.SquaredError()(outputs, targets), rtol=0, atol=0.15
        )

    def test_scores_keep_samples_apart(self):
        reward = rewards.Perturbation(lambda o, y: o.sum((0, 2)) * torch.tensor([1.0, 0, 0]))
        r = reward(torch.ones(2, 3, 4) * 2, torch.zeros(3))
        assert r[:, 1:].abs().max() == 0
        assert r[:, 0].abs().min() > 0

    def test_silent_outputs_are_told_too(self):
        r = rewards.Perturbation(lambda o, y: o.sum((0, 2)), pairs=64)(torch.zeros(4, 2, 3), torch.zeros(2))
        assert (r > 0).all()

    def test_repeats_with_its_generator_or_torchs_own(self):
        outputs, metric = torch.randn(1, 3, 4), lambda o, y: o.amax(-1)[0]
        own = [rewards.Perturbation(metric, generator=torch.Generator().manual_seed(2)) for _ in range(2)]
        assert torch.equal(own[0](outputs, [0, 0, 0]), own[1](outputs, [0, 0, 0]))
        shared = rewards.Perturbation(metric)
        torch.manual_seed(3)
        first = shared(outputs, [0, 0, 0])
        assert not torch.equal(first, shared(outputs, [0, 0, 0]))
        torch.manual_seed(3)
        assert torch.equal(first, shared(outputs, [0, 0, 0]))

    @pytest.mark.parametrize("options", [{"sigma": 0}, {"sigma": math.inf}, {"pairs": 0}])
    def test_bad_options_are_named(self, options):
        with pytest.raises(UserError, match=str(next(iter(options.values())))):
            rewards.Perturbation(right, **options)

    def test_bad_shapes_are_named(self):
        with pytest.raises(ShapeError, match="labels for 3 samples, got 2"):
            rewards.Perturbation(right)(torch.zeros(1, 3, 4), [0, 0])


@pytest.mark.parametrize("answer", [None, "x", 1j, torch.ones(4, dtype=torch.complex64)])
def test_answers_that_are_no_real_numbers(answer):
    """Torch would drop an imaginary part."""
    spikes, labels = torch.zeros(3, 4, 2), torch.zeros(4, dtype=torch.int64)
    own = (lambda *given: answer,)
    for reward in (rewards.FromMetric(*own), rewards.FromCallback(*own), rewards.Perturbation(*own)):
        with pytest.raises(UserError, match="are real numbers, in a tensor, an array or a list, got"):
            reward(spikes, labels)
    with pytest.raises(UserError, match="convergence factors are real numbers"):
        rewards.CorrectClass(*own)(spikes, labels)


def test_labels_and_functions_that_are_none():
    with pytest.raises(ShapeError, match="FromMetric takes labels for 4 samples, got NoneType"):
        rewards.FromMetric(lambda predictions, labels: 1.0)(torch.zeros(3, 4, 2), None)
    with pytest.raises(UserError, match=r"FromCallback takes a function .*, got 'x'"):
        rewards.FromCallback("x")
    for make in (
        lambda: rewards.Perturbation(float, pairs="2"),
        lambda: rewards.Huber("1"),
        lambda: rewards.Huber(True),
    ):
        with pytest.raises(UserError, match="number"):
            make()


def test_methods_take_objects():
    for make in (
        lambda: methods.LFP("softmax"),
        lambda: methods.LFP(rewards.Softmax(), "epsilon"),
        lambda: methods.LFP(rewards.Softmax(), rate=0.1),
        lambda: methods.SurrogateGradient(rate=0.1),
        lambda: methods.SurrogateGradient(loss="count"),
    ):
        with pytest.raises(UserError, match=r"of a method is .*, such as .*names go to trainers"):
            make()
