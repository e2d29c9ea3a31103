"""The reward and the loss of spike counts: one is the step of the other, and padding counts for neither."""

import pytest
import torch

from spikelfp.errors import ShapeError
from spikelfp.methods import GradientDescent, count_cross_entropy, losses, rate_cross_entropy
from spikelfp.rewards import CountSoftmax, rewards
from spikelfp.rules import Surrogate

T, B, C = 7, 4, 3


@pytest.fixture
def spikes():
    return (torch.rand(T, B, C, dtype=torch.float64) < 0.4).double()


LABELS = torch.tensor([0, 2, 1, 1])
LENGTHS = torch.tensor([7, 3, 5, 1])
MASK = torch.arange(T).unsqueeze(1) < LENGTHS


def test_the_reward_is_the_formula(spikes):
    reward = CountSoftmax()(spikes, LABELS)
    for b in range(B):
        counts = spikes[:, b].sum(0)
        share = counts.exp() / counts.exp().sum()
        for c in range(C):
            torch.testing.assert_close(reward[:, b, c], ((LABELS[b] == c).double() - share[c]).expand(T))


def test_the_reward_is_the_step_of_the_loss(spikes):
    outputs = spikes.clone().requires_grad_()
    count_cross_entropy(outputs, LABELS).backward()
    torch.testing.assert_close(CountSoftmax()(spikes, LABELS) / B, -outputs.grad)


def test_padding_counts_for_neither(spikes):
    reward = CountSoftmax()(spikes, LABELS, MASK)
    outputs = spikes.clone().requires_grad_()
    GradientDescent(Surrogate(), count_cross_entropy).backward(outputs, LABELS, mask=MASK)
    for b, length in enumerate(LENGTHS.tolist()):
        alone = CountSoftmax()(spikes[:length, b : b + 1], LABELS[b : b + 1])
        torch.testing.assert_close(reward[:length, b : b + 1], alone)
        assert not reward[length:, b].any()
    torch.testing.assert_close(reward / B, -outputs.grad)


def test_both_have_names():
    assert isinstance(rewards["count-softmax"](), CountSoftmax)
    assert (losses["count"], losses["rate"]) == (count_cross_entropy, rate_cross_entropy)


def test_wrong_outputs_and_labels_are_named(spikes):
    with pytest.raises(ShapeError, match=r"spikes \[T, B, C\]"):
        CountSoftmax()(spikes[0], LABELS)
    with pytest.raises(ShapeError, match="label 3 at position 0"):
        count_cross_entropy(spikes, torch.tensor([3, 0, 0, 0]))
