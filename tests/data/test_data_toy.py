"""Blobs, circles and swirls: sizes, geometry, draws."""

import math

import numpy as np
import pytest
import torch

from spikelfp import data
from spikelfp.errors import UserError

COUNTS = {"blobs": (1000, 100, 2), "circles": (10_000, 500, 2), "swirls": (10_000, 500, 3)}


@pytest.mark.parametrize("name", COUNTS)
def test_sizes_are_those_of_the_paper(name, tmp_path):
    splits = data.load(name, tmp_path / "missing")
    assert (len(splits.train), len(splits.test), splits.classes) == COUNTS[name]
    assert splits.shape == (2,)
    assert len(set(splits.class_names)) == splits.classes
    share = splits.train.labels.bincount() / len(splits.train)
    assert (share - 1 / splits.classes).abs().max() < 0.05
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("name", COUNTS)
def test_a_draw_is_always_the_same_and_no_two_are(name):
    first, again, other = (data.load(name, **options) for options in ({}, {"draw": 0}, {"draw": 1}))
    assert first.train.fingerprint() == again.train.fingerprint()
    assert first.train.fingerprint() != other.train.fingerprint()
    together = torch.cat([first.train.images, first.test.images])
    assert len(together.unique(dim=0)) == len(together)


def test_blobs_lie_where_they_should():
    splits = data.load("blobs")
    for label, centre in ((0, 1.0), (1, 2.0)):
        cloud = splits.train.images[splits.train.labels == label]
        assert (cloud.mean(0) - centre).abs().max() < 0.03
        assert (cloud.std(0) - 0.2).abs().max() < 0.02


def test_circles_have_their_radii():
    splits = data.load("circles")
    for label, radius in ((0, 1.0), (1, 0.05)):
        cloud = splits.train.images[splits.train.labels == label]
        assert cloud.mean(0).abs().max() < 0.02
        # the mean of the squares is that of the ring and of the noise of two coordinates
        assert float(cloud.square().sum(1).mean()) == pytest.approx(radius**2 + 2 * 0.2**2, rel=0.06)


def test_arms_of_the_swirl_turn_as_their_formula_says():
    splits = data.load("swirls")
    x, y = splits.train.images.double().numpy(), splits.train.labels.numpy()
    radius = np.hypot(*x.T)
    assert radius.max() <= 1
    assert radius.mean() == pytest.approx(0.5, abs=0.01)
    off = np.arctan2(x[:, 1], x[:, 0]) - 2 * math.pi / 3 * y - 4 * radius
    off = (off + math.pi) % (2 * math.pi) - math.pi
    assert off.mean() == pytest.approx(0, abs=0.01)
    assert off.std() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("draw", [-1, 1.5, True, 2**32, "first"])
def test_a_draw_is_a_whole_number(name, draw):
    with pytest.raises(UserError, match="draw"):
        data.load(name, draw=draw)
