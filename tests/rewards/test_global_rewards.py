"""From global to initial rewards (v3, eq. 12-13, Table 2; v1, eq. 6 and A.1), element by element in plain Python."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp import rewards
from spikelfp.errors import NonFiniteError, ShapeError, UnknownNameError, UserError

VALUES = st.one_of(st.just(0.0), st.floats(-5, 5, width=32))
SAMPLES = st.integers(2, 5).flatmap(
    lambda c: st.lists(
        st.tuples(st.lists(VALUES, min_size=c, max_size=c), st.integers(0, c - 1)), min_size=1, max_size=6
    )
)


def sign(o):
    return 1.0 if o >= 0 else -1.0


def sigma(o):
    return 1 / (1 + math.exp(-o))


def share(row, c):
    return math.exp(row[c]) / sum(math.exp(o) for o in row)


def one(condition):
    return 1.0 if condition else 0.0


FORMULAS = {
    "correct-class": lambda row, c, y: sign(row[c]) * one(c == y),
    "false-positive": lambda row, c, y: -one(any(k == y and row[c] > row[k] for k in range(len(row)))) * sign(row[c]),
    "softmax": lambda row, c, y: row[c] * (one(c == y) - share(row, c)),
    "sigmoid": lambda row, c, y: row[c] * (one(c == y) - sigma(row[c])),
    "sign": lambda row, c, y: one(c == y) * (1.0 if row.index(max(row)) == y else -1.0),
}


def apply(formula, samples):
    return torch.tensor([[formula(row, c, y) for c in range(len(row))] for row, y in samples], dtype=torch.float64)


def tensors(samples):
    return torch.tensor([row for row, _ in samples], dtype=torch.float64), torch.tensor([y for _, y in samples])


@pytest.mark.parametrize("name", FORMULAS)
@given(samples=SAMPLES)
@settings(deadline=None, max_examples=50)
def test_named_rewards_equal_their_formulas(name, samples):
    outputs, labels = tensors(samples)
    expected = apply(FORMULAS[name], samples)
    torch.testing.assert_close(rewards.rewards[name]()(outputs, labels), expected)
    torch.testing.assert_close(rewards.rewards[name]()(outputs.unsqueeze(0), labels), expected.unsqueeze(0))


@given(samples=SAMPLES)
@settings(deadline=None, max_examples=50)
def test_rows_3_and_4_of_table_2_are_eq_13(samples):
    outputs, labels = tensors(samples)
    right_or_wrong = torch.nn.functional.one_hot(labels, outputs.shape[-1]) * 2 - 1
    printed = right_or_wrong * outputs.abs()  # the column R_c of the table
    for name, reward in (("softmax", rewards.Softmax()), ("sigmoid", rewards.Sigmoid())):
        torch.testing.assert_close(rewards.initial_reward(outputs, printed, name), reward(outputs, labels))
        by_option = rewards.initial_reward(outputs, right_or_wrong, name, magnitude=True)
        torch.testing.assert_close(by_option, reward(outputs, labels))


@pytest.mark.parametrize("steps", [1, 4, 15])
def test_the_sequence_reward_is_eq_13_with_its_own_factor(steps):
    spikes, labels = (torch.rand(steps, 9, 5) < 0.5).float(), torch.randint(5, (9,))
    right_or_wrong = torch.nn.functional.one_hot(labels, 5) * 2 - 1
    expected = rewards.SpikeSequence()(spikes, labels)
    torch.testing.assert_close(rewards.initial_reward(spikes, right_or_wrong, "spike-count"), expected)
    torch.testing.assert_close(rewards.initial_reward(spikes, right_or_wrong, None, None), expected)


def test_the_first_version_of_the_paper_uses_the_sigmoid_reward():
    """v1, eq. 6, case by case."""
    outputs, labels = torch.randn(8, 4), torch.randint(4, (8,))
    reward = rewards.Sigmoid()(outputs, labels)
    for b in range(8):
        for c in range(4):
            o = float(outputs[b, c])
            expected = o * (1 - sigma(o)) if labels[b] == c else -o * sigma(o)
            assert float(reward[b, c]) == pytest.approx(expected, abs=1e-6)


def test_the_simple_reward_goes_by_the_prediction_of_the_whole_sequence():
    spikes = torch.tensor([[[1.0, 0, 0], [0, 1, 0]], [[1, 0, 1], [0, 1, 1]], [[0, 0, 1], [0, 0, 0]]])  # [3, 2, 3]
    reward = rewards.Sign()(spikes, torch.tensor([0, 2]))
    expected = torch.tensor([[1.0, 0, 0], [0, 0, -1]]).expand(3, 2, 3)
    assert torch.equal(reward, expected)


def test_defaults_go_by_the_outputs():
    outcome = torch.randn(6, 4)
    real, spikes = torch.randn(3, 6, 4), (torch.rand(3, 6, 4) < 0.5).float()
    torch.testing.assert_close(
        rewards.initial_reward(real, outcome, None, None), rewards.initial_reward(real, outcome, "softmax", True)
    )
    torch.testing.assert_close(
        rewards.initial_reward(spikes, outcome, None, None),
        rewards.initial_reward(spikes, outcome, "spike-count", False),
    )


def test_zero_counts_as_positive_and_silence_is_rewarded():
    outputs = torch.tensor([[0.0, -0.0, 1.0, -1.0]])
    assert rewards.initial_reward(outputs, torch.ones(4)).tolist() == [[1, 1, 1, -1]]
    assert rewards.initial_reward(outputs, torch.ones(4), magnitude=True).tolist() == [[0, 0, 1, -1]]


class TestOneNeuron:
    """Binary classification with a single output: r = R (v3, section 3.2)."""

    outputs = torch.tensor([[2.0], [-2.0], [0.5], [-0.5], [0.0]])
    labels = torch.tensor([1, 1, 0, 0, 1])

    def test_bare(self):
        reward = rewards.Binary("none", magnitude=False)(self.outputs, self.labels)
        assert reward.flatten().tolist() == [1, -1, -1, 1, 1]

    @given(st.lists(st.tuples(VALUES, st.integers(0, 1)), min_size=1, max_size=5))
    @settings(deadline=None)
    def test_default_is_the_step_of_logistic_regression(self, samples):
        outputs = torch.tensor([[o] for o, _ in samples], dtype=torch.float64)
        expected = torch.tensor([[o * (y - sigma(o))] for o, y in samples], dtype=torch.float64)
        torch.testing.assert_close(rewards.Binary()(outputs, torch.tensor([y for _, y in samples])), expected)

    def test_any_global_reward_belongs_to_the_chosen_outcome(self):
        assert rewards.initial_reward(self.outputs, torch.full((1,), 3.0)).flatten().tolist() == [3, 3, 3, 3, 3]

    def test_errors(self):
        with pytest.raises(ShapeError, match=r"one output, \[..., B, 1\], got \(5, 2\)"):
            rewards.Binary()(torch.zeros(5, 2), self.labels)
        with pytest.raises(ShapeError, match="label 2 at position 0"):
            rewards.Binary()(self.outputs[:1], torch.tensor([2]))


def test_a_convergence_factor_of_ones_own():
    outputs, labels = torch.randn(5, 6, 4), torch.randint(4, (6,))
    seen = []

    def margin(outputs, wanted):
        seen.append(wanted)
        return (1 - outputs.abs().amax(-1, keepdim=True)).clamp(min=0)

    reward = rewards.CorrectClass(margin)(outputs, labels)
    factor = (1 - outputs.abs().amax(-1, keepdim=True)).clamp(min=0)
    torch.testing.assert_close(reward, factor * rewards.CorrectClass()(outputs, labels))
    assert torch.equal(seen[0], torch.nn.functional.one_hot(labels, 4).bool().expand(5, 6, 4))


@pytest.mark.parametrize(
    ("factor", "error", "text"),
    [
        (lambda o, w: torch.full_like(o, 1.5), UserError, r"\[0, 1\] \(eq. 13\), got 1.5"),
        (lambda o, w: torch.full_like(o, math.nan), UserError, "got nan"),
        (lambda o, w: torch.ones(7), ShapeError, r"\(7,\).*\(6, 4\)"),
    ],
)
def test_a_bad_convergence_factor_is_refused(factor, error, text):
    with pytest.raises(error, match=text):
        rewards.initial_reward(torch.randn(6, 4), torch.ones(4), factor)


def test_bad_global_rewards_are_refused():
    with pytest.raises(ShapeError, match=r"\(3,\).*\(6, 4\)"):
        rewards.initial_reward(torch.randn(6, 4), torch.ones(3))
    with pytest.raises(NonFiniteError):
        rewards.initial_reward(torch.randn(6, 4), torch.full((4,), math.inf))
    with pytest.raises(UnknownNameError, match="did you mean 'softmax'"):
        rewards.CorrectClass("soft-max")


class TestCallback:
    def test_a_number_for_each_sample_is_the_reward_of_its_choice(self):
        outputs = torch.tensor([[[1.0, -2, 0], [0, 3, 1]], [[-4, 2, 1], [0, 0, 0]]])  # sums: class 2, class 1
        reward = rewards.FromCallback(lambda o, y: [2.0, -1.0], convergence="none", magnitude=False)(outputs, None)
        expected = torch.tensor([[[0.0, 0, 2], [0, -1, 0]], [[0, 0, 2], [0, -1, 0]]])
        assert torch.equal(reward, expected)

    @pytest.mark.parametrize("shape", [(6, 4), (5, 6, 4)])
    def test_a_number_for_each_outcome(self, shape):
        outputs, given = torch.randn(5, 6, 4), torch.randn(shape)
        expected = rewards.initial_reward(outputs, given, "softmax", True)
        torch.testing.assert_close(rewards.FromCallback(lambda o, y: given)(outputs, None), expected)

    def test_it_sees_outputs_without_a_graph_and_the_context_as_it_is(self):
        seen = []
        outputs = torch.randn(1, 3, 2, requires_grad=True) * 1
        rewards.FromCallback(lambda o, context: seen.append((o, context)) or [1, 1, 1])(outputs, "anything")
        assert not seen[0][0].requires_grad
        assert seen[0][1] == "anything"

    def test_spikes_are_rewarded_spike_or_no_spike(self):
        spikes = torch.zeros(4, 2, 3)
        reward = rewards.FromCallback(lambda o, y: torch.eye(3)[:2])(spikes, None)
        expected = torch.eye(3)[:2] / (1 + math.exp(-2))  # 1 − σ(0 − 4/2)
        torch.testing.assert_close(reward, expected.expand(4, 2, 3))

    def test_errors(self):
        outputs = torch.randn(5, 6, 4)
        with pytest.raises(ShapeError, match=r"\[6\] or \[6, 4\], got shape \(4,\)"):
            rewards.FromCallback(lambda o, y: torch.ones(4))(outputs, None)
        with pytest.raises(NonFiniteError):
            rewards.FromCallback(lambda o, y: torch.full((6,), math.nan))(outputs, None)
        with pytest.raises(ShapeError, match=r"\(4,\)"):
            rewards.FromCallback(lambda o, y: 1.0)(torch.zeros(4), None)


@pytest.mark.parametrize("name", list(rewards.rewards))
def test_every_name_makes_a_reward_for_sequences_and_single_steps(name):
    reward = rewards.rewards[name]()
    assert isinstance(reward, rewards.Reward)
    spikes, labels = (torch.rand(6, 8, 3) < 0.5).float(), torch.randint(3, (8,))
    assert reward(spikes, labels).shape == spikes.shape
    with pytest.raises(ShapeError, match=r"label 3 at position 1 .* 0\.\.2"):
        reward(spikes, labels.index_fill(0, torch.tensor([1]), 3))
    with pytest.raises(ShapeError, match=rf"{type(reward).__name__} takes outputs .*\(6, 8, 3\) and \(7,\)"):
        reward(spikes, labels[:7])
