"""Rewards on a GPU are those on the CPU."""

import pytest
import torch

from spikelfp import rewards

CLASSES, STRINGS = torch.tensor([0, 3, 1, 1, 2]), torch.tensor([[1, 2], [3, -1], [-1, -1], [2, 2], [1, 3]])
CASES = [(make(), CLASSES) for make in (rewards.rewards[name] for name in rewards.rewards)] + [
    (rewards.FromMetric(lambda p, y: float((p == y).double().mean())), CLASSES),
    (rewards.FromCallback(lambda o, y: [1, -1, 1, 1, -1]), CLASSES),
    (rewards.SquaredError(), torch.rand(5, 4)),
    (rewards.SpikeRate(), torch.rand(5, 4)),
    (rewards.Levenshtein(blank=0, collapse=True), STRINGS),
]


@pytest.mark.gpu
@pytest.mark.parametrize(("reward", "labels"), CASES, ids=lambda value: type(value).__name__)
def test_the_same_reward_on_both(reward, labels):
    for outputs in ((torch.rand(6, 5, 4) < 0.4).float(), torch.randn(6, 5, 4)):
        on_gpu = reward(outputs.cuda(), labels.cuda())
        assert on_gpu.is_cuda
        torch.testing.assert_close(on_gpu.cpu(), reward(outputs, labels))


@pytest.mark.gpu
def test_noise_may_come_from_either_device():
    def metric(outputs, labels):
        return outputs.amax((0, 2))

    for device in ("cpu", "cuda"):
        reward = rewards.Perturbation(metric, generator=torch.Generator(device).manual_seed(0))
        assert reward(torch.randn(2, 3, 4, device="cuda"), [0, 0, 0]).is_cuda
