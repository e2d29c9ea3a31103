"""Rewards against the formulas, element by element."""

import pytest
import reference
import torch

from spikelfp import rewards
from spikelfp.errors import ShapeError, UnknownNameError


@pytest.mark.parametrize("steps", [1, 6, 15])
@pytest.mark.parametrize(
    ("reward", "slow"),
    [
        (rewards.SpikeSequence(), reference.sequence_reward),
        (rewards.SpikeSequenceV1(), reference.sequence_reward_v1),
    ],
)
def test_sequence_rewards_equal_the_scalar_formula(reward, slow, steps):
    spikes = (torch.rand(steps, 9, 5, dtype=torch.float64) < 0.5).double()
    labels = torch.randint(5, (9,))
    fast = reward(spikes, labels)
    for b in range(9):
        expected = torch.tensor(slow(spikes[:, b].tolist(), int(labels[b])), dtype=torch.float64)
        torch.testing.assert_close(fast[:, b], expected, rtol=1e-12, atol=1e-14)


def test_published_code_takes_whole_half_steps():
    spikes = (torch.rand(15, 4, 3) < 0.5).float()
    labels = torch.randint(3, (4,))
    count = spikes.sum(0)
    expected = -spikes * (1 - torch.sigmoid(15 - count - 7))
    right = (1 - torch.sigmoid(count - 7)).expand_as(spikes)
    expected = torch.where(torch.nn.functional.one_hot(labels, 3).bool(), right, expected)
    torch.testing.assert_close(rewards.SpikeSequenceV1(whole_steps=True)(spikes, labels), expected)


def test_softmax_and_sigmoid_of_table_2():
    outputs, labels = torch.randn(1, 6, 4), torch.randint(4, (6,))
    y = torch.nn.functional.one_hot(labels, 4).float()
    torch.testing.assert_close(rewards.Softmax()(outputs, labels), outputs * (y - outputs.softmax(-1)))
    torch.testing.assert_close(rewards.Sigmoid()(outputs, labels), outputs * (y - outputs.sigmoid()))


@pytest.mark.parametrize("reward", [rewards.SpikeSequence(), rewards.Softmax()])
def test_bad_labels_are_named(reward):
    spikes = torch.zeros(5, 3, 4)
    with pytest.raises(ShapeError, match=r"label 4 at position 1 .* 0\.\.3"):
        reward(spikes, torch.tensor([0, 4, 1]))
    with pytest.raises(ShapeError, match="label -1 at position 2"):
        reward(spikes, torch.tensor([0, 3, -1]))
    with pytest.raises(ShapeError, match="integers"):
        reward(spikes, torch.tensor([0.0, 1.0, 2.0]))
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        reward(spikes, torch.tensor([0, 1]))
    with pytest.raises(ShapeError):
        rewards.SpikeSequence()(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64))


def test_rewards_are_found_by_name():
    assert isinstance(rewards.rewards["spike-sequence"](), rewards.SpikeSequence)
    with pytest.raises(UnknownNameError, match="did you mean 'softmax'"):
        rewards.rewards["soft-max"]
