"""Transforms and augmentations as one line of text."""

from __future__ import annotations

import pytest

from spikelfp.data.events import augmentation as a
from spikelfp.data.events import transforms as t
from spikelfp.errors import UnknownNameError, UserError


def test_transforms():
    text = "denoise=10000,downsample=2,crop=3:3:28:28"
    chosen = t.parse_transforms(text)
    assert chosen == (t.Denoise(10000), t.Downsample(2), t.Crop(3, 3, 28, 28))
    assert t.transforms_text(chosen) == text
    assert t.parse_transforms(" flip-x , hot-pixels = 2.5,") == (t.FlipX(), t.HotPixels(2.5))
    assert t.parse_transforms("") == ()
    assert t.transforms_text(()) == ""
    assert t.parse_transforms("time-crop=-5:300000") == (t.TimeCrop(-5, 300000),)


def test_augmentations():
    text = "shift=2,flip-x,drop=0.1,roll-time=1,polarity"
    chosen = a.parse_augmentations(text)
    assert chosen == (a.Shift(2), a.RandomFlipX(), a.Drop(0.1), a.RollTime(1), a.RandomPolarity())
    assert a.augmentations_text(chosen) == text
    assert a.parse_augmentations("jitter") == a.parse_augmentations("jitter=1") == (a.Jitter(1),)


def test_all_names_come_back():
    chosen = (
        t.AlignTime(), t.CenterCrop(3), t.Crop(1, 2, 3, 4), t.Decimate(2), t.Denoise(5), t.Downsample(2),
        t.DownsampleTime(9), t.FlipPolarity(), t.FlipX(), t.FlipY(), t.HotPixels(1e-7), t.MergePolarities(),
        t.Refractory(7), t.TimeCrop(1, 2),
    )  # fmt: skip
    assert t.parse_transforms(t.transforms_text(chosen)) == chosen
    assert {*t.transforms} == {part.partition("=")[0] for part in t.transforms_text(chosen).split(",")} | {"tonic"}
    drawn = (
        a.Shift(1), a.RandomFlipX(), a.RandomFlipY(), a.RandomPolarity(), a.ShiftTime(2), a.RollTime(3), a.Drop(0.25),
        a.EventNoise(1e-9), a.Jitter(4),
    )  # fmt: skip
    assert a.parse_augmentations(a.augmentations_text(drawn)) == drawn
    assert {*a.augmentations} == {part.partition("=")[0] for part in a.augmentations_text(drawn).split(",")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("denoise", "denoise takes 1 parameter, got 0: write denoise=window_us"),
        ("crop=1:2", "crop takes 4 parameters, got 2: write crop=x:y:width:height"),
        ("flip-x=1", "flip-x takes 0 parameters, got 1: write flip-x"),
        ("denoise=soon", "window_us of denoise=window_us is a whole number, got 'soon'"),
        ("denoise=1.5", "is a whole number, got '1.5'"),
        ("hot-pixels=often", "rate of hot-pixels=rate is a number, got 'often'"),
        ("crop=0:0:0:1", "width of crop must be a whole number of at least 1, got 0"),
        ("tonic", "tonic needs a class"),
        ("tonic=Denoise:5", "options of tonic=Denoise are written option=value, got '5'"),
    ],
)
def test_refused_transforms(text, message):
    with pytest.raises(UserError, match=message) as error:
        t.parse_transforms(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jitter=1:2", "jitter takes 0 to 1 parameters, got 2: write jitter=pixels"),
        ("drop=1", "probability of drop must be a probability above 0 and below 1, got 1.0"),
        ("noise=nan", "probability of noise must be"),
        ("shift=0", "pixels of shift must be a whole number of at least 1, got 0"),
        ("roll-time=-1", "steps of roll-time must be"),
    ],
)
def test_refused_augmentations(text, message):
    with pytest.raises(UserError, match=message):
        a.parse_augmentations(text)


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="did you mean 'denoise'"):
        t.parse_transforms("denoize=3")
    with pytest.raises(UnknownNameError, match="did you mean 'shift-time'"):
        a.parse_augmentations("shift-tme=3")


def test_a_class_without_a_name():
    class Own(t.Transform):
        def __call__(self, events, sensor):
            return events

    with pytest.raises(UserError, match="has no name: register Own as a transform of events"):
        t.transforms_text([Own()])
