import torch
from sklearn.datasets import load_digits

from spikelfp import data


def test_the_split_is_fixed_stratified_and_complete():
    splits = data.load("digits")
    assert (splits.name, splits.classes, splits.shape) == ("digits", 10, (1, 8, 8))
    assert splits.class_names == tuple("0123456789")
    assert (len(splits.train), len(splits.test)) == (1437, 360)
    assert splits.validation is None

    source = load_digits()
    share = splits.test.labels.bincount() / torch.from_numpy(source.target).bincount()
    assert (share - 0.2).abs().max() < 0.01

    ours = torch.cat([splits.train.images, splits.test.images]).reshape(-1, 64)
    ours = torch.cat([ours, torch.cat([splits.train.labels, splits.test.labels])[:, None]], dim=1)
    theirs = torch.from_numpy(source.images.reshape(-1, 64)).long()
    theirs = torch.cat([theirs, torch.from_numpy(source.target)[:, None]], dim=1)
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))

    again = data.load("digits")
    assert torch.equal(again.train.images, splits.train.images)
    assert torch.equal(again.test.labels, splits.test.labels)


def test_pixels_lie_in_the_unit_interval():
    x, y = data.load("digits").train.__getitems__(range(1437))
    assert x.shape == (1437, 1, 8, 8)
    assert (x.min(), x.max()) == (0, 1)
    assert torch.equal(x * 16, (x * 16).round())
    assert sorted(y.unique().tolist()) == list(range(10))


def test_no_folder_is_needed(tmp_path, offline):
    assert len(data.load("digits", tmp_path / "missing").train) == 1437
    assert not (tmp_path / "missing").exists()


def test_the_levels_of_the_pixels_are_known():
    splits = data.load("digits")
    assert splits.train.levels == splits.test.levels == 16
    assert splits.standardized(data.Standardization((0.5,), (0.2,))).train.levels is None
    floats = data.ArrayDataset(torch.rand(3, 4), torch.zeros(3, dtype=torch.int64))
    assert floats.levels is None
    bytes_ = torch.zeros(3, 4, dtype=torch.uint8)
    for scale, levels in ((1 / 255, 255), (1.0, 1), (0.3, None), (3.0, None)):
        assert data.ArrayDataset(bytes_, floats.labels, scale=scale).levels == levels
