"""The checkpoint of the best epoch, and the end of training when no better one comes."""

import pytest
import torch

from spikelfp import nn, rewards
from spikelfp.training import TemporalTrainer


def trainer(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 12), nn.LIF(), nn.Linear(12, 3), nn.LIF())
    return TemporalTrainer(
        net, reward=rewards.SpikeSequence(), steps=5, batch_size=8, lr=0.2, schedule=None, wake=False
    )


def data():
    torch.manual_seed(5)
    x = torch.rand(48, 6)
    y = torch.arange(48) % 3
    return (x[:32], y[:32]), (x[32:], y[32:])


@pytest.mark.parametrize("patience", [None, 2])
def test_the_best_epoch_is_kept(patience, tmp_path):
    train, validation = data()
    one = trainer()
    weights = []

    def keep(row):
        weights.append([p.detach().clone() for p in one.net.parameters()])

    path = tmp_path / "best.pt"
    one.fit(train, 8, validation=validation, patience=patience, best=path, after_epoch=keep)
    scores = [row["validation_accuracy"] for row in one.history]
    assert one.stopped_early == (len(scores) < 8)
    best = max(number for number, score in enumerate(scores) if score == max(scores))
    other = trainer(1)
    other.load(path)
    assert other.position.epoch == best + 1
    for mine, kept in zip(other.net.parameters(), weights[best], strict=True):
        assert torch.equal(mine, kept)
    if patience is not None and one.stopped_early:
        assert len(scores) - 1 - scores.index(max(scores)) == patience


def test_without_validation_it_is_the_epoch_of_the_best_training_score(tmp_path):
    train, _ = data()
    one = trainer()
    one.fit(train, 3, best=tmp_path / "best.pt")
    scores = [row["train_accuracy"] for row in one.history]
    other = trainer(1)
    other.load(tmp_path / "best.pt")
    assert scores[other.position.epoch - 1] == max(scores)
