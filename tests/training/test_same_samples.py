"""A trainer that goes on from a checkpoint knows the samples that it was trained on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from spikelfp import models
from spikelfp.data import Augmented
from spikelfp.data.dataset import ArrayDataset
from spikelfp.data.samples import fingerprint_of
from spikelfp.errors import CheckpointError
from spikelfp.training import TemporalTrainer, checkpoint


def data(count=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return ArrayDataset(torch.randint(0, 255, (count, 1, 12, 12), generator=generator).to(torch.uint8), labels, 1 / 255)


def trainer():
    torch.manual_seed(0)
    return TemporalTrainer(models.lif_mlp([144, 8, 3]), steps=2, batch_size=20, schedule=None)


def flat(known):
    return replace(known, images=known.images.flatten(1))


def test_other_samples_after_load_are_refused(tmp_path):
    own = flat(data())
    first = trainer()
    first.fit(own, 1)
    first.save(tmp_path / "a.pt")
    changed = own.images.clone()
    changed[7, 3] += 1
    for other in (
        replace(own, images=changed),
        replace(own, labels=own.labels.roll(1)),
        own.subset(torch.arange(60).flip(0)),
        Subset(own, list(range(60))[::-1]),
        (own.values(own.images), own.labels),  # of another type
    ):
        second = trainer()
        second.load(tmp_path / "a.pt")
        with pytest.raises(CheckpointError, match="samples are not those"):
            second.fit(other, 2)
        second.save(tmp_path / "b.pt")  # which still knows them
        third = trainer()
        third.load(tmp_path / "b.pt")
        with pytest.raises(CheckpointError, match="samples are not those"):
            third.fit(other, 2)
        assert len(second.fit(own, 2)) == 2
        second.fit(other, 3)  # one's own choice: nothing was loaded since
    fresh = trainer()
    checkpoint.load_weights(tmp_path / "a.pt", fresh.net)
    fresh.fit(replace(own, images=changed), 1)


def test_samples_that_are_not_known_are_not_refused(tmp_path):
    own = flat(data())
    first = trainer()
    first.fit(own, 1)
    first.save(tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    second = trainer()
    second.load(tmp_path / "a.pt")
    second.fit(DataLoader(own, 20), 2)
    del content["samples"]  # as an older version wrote it
    torch.save(content, tmp_path / "old.pt")
    third = trainer()
    third.load(tmp_path / "old.pt")
    third.fit(flat(data(seed=1)), 2)


def test_fingerprints_tell_contents_and_order():
    own = data()
    same = replace(own, images=own.images.clone())
    pairs = TensorDataset(own.values(own.images), own.labels)
    known = [
        own,
        own.subset(torch.arange(59)),
        Subset(own, range(60)),
        replace(own, scale=1.0),
        replace(own, labels=own.labels.flip(0)),
        pairs,
        Subset(pairs, range(60)),
    ]
    found = [fingerprint_of(each) for each in known]
    assert len(set(found)) == len(found)
    assert "" not in found
    assert fingerprint_of(same) == fingerprint_of(Augmented(own)) == found[0]
    same.images[0, 0, 0, 0] += 1  # in place: it is taken anew
    assert fingerprint_of(same) != found[0]
    assert fingerprint_of([1, 2]) == ""
