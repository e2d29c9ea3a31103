"""Which layers make their products event by event is part of a checkpoint: it decides the order of summation."""

import torch

import spikelfp
from spikelfp import models
from spikelfp.kernels.choice import choices


def trainer():
    torch.manual_seed(0)
    return spikelfp.TemporalTrainer(models.lif_mlp([20, 30, 30, 10]), steps=5)


def test_choices_go_on_from_a_checkpoint(tmp_path):
    first = trainer()
    assert list(choices(first.net)) == ["1", "3", "5"]
    choices(first.net)["3"].events = True
    first.save(tmp_path / "last.pt")
    second = trainer()
    second.load(tmp_path / "last.pt")
    assert [choice.events for choice in choices(second.net).values()] == [False, True, False]


def test_a_checkpoint_without_choices_still_loads(tmp_path):
    first = trainer()
    first.save(tmp_path / "last.pt")
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    del content["events"]
    torch.save(content, tmp_path / "last.pt")
    trainer().load(tmp_path / "last.pt")
