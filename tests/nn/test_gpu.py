"""The same network on a GPU."""

import pytest
import torch
from reference import DENOMINATORS, RESETS

from spikelfp import data, models, nn, propagate, rewards
from spikelfp.training import TemporalTrainer

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_updates_equal_those_of_the_cpu(reset, denominator):
    net = models.lif_mlp([30, 50, 5], reset=reset, denominator=denominator).double()
    images, labels = torch.rand(9, 30, dtype=torch.float64) * 2, torch.randint(5, (9,))
    found = []
    for device in ("cpu", "cuda"):
        net.to(device).zero_grad()
        spikes = net(nn.constant(images.to(device), 12))
        propagate(spikes, rewards.SpikeSequence()(spikes, labels.to(device)))
        found.append((spikes.detach().cpu(), [p.grad.cpu().clone() for p in net.parameters()]))
    assert torch.equal(found[0][0], found[1][0])
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_training_runs_and_goes_on_from_a_checkpoint(tmp_path):
    train = data.load("digits").train.subset(range(300))
    trainer = TemporalTrainer(models.lif_mlp([64, 32, 10]), steps=8, device="cuda")
    trainer.fit(train, 1)
    trainer.save(tmp_path / "c.pt")
    other = TemporalTrainer(models.lif_mlp([64, 32, 10]), steps=8, device="cpu")
    other.load(tmp_path / "c.pt")
    for a, b in zip(trainer.net.parameters(), other.net.parameters(), strict=True):
        assert torch.equal(a.cpu(), b)
