import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_recordings import BINS, Toy, frames_of

from spikelfp import data
from spikelfp.data import Augmented, DataSplits, Samples, Standardization, batches, load_events
from spikelfp.data.events import Binning, EventSplits, Pipeline, recordings
from spikelfp.data.events.augmentation import parse_augmentations
from spikelfp.data.events.cache import list_caches
from spikelfp.data.events.dataset import EventDataset
from spikelfp.errors import DataError, SaveError, UnknownNameError, UserError


def toy_parts(bad: tuple[int, ...] = (), skipped: tuple[str, ...] = ()) -> EventSplits:
    return EventSplits("toy", Toy(30, bad), Toy(9, seed=1, name="toy test"), BINS, skipped)


@pytest.fixture
def toy(monkeypatch):
    """A registered data set, whose last recording but one cannot be read when the data folder is called ``bad``."""

    def load(folder, *, skip_bad=False):
        bad = folder is not None and folder.name == "bad"
        return toy_parts((28,) if bad else (), ("toy/x.bin: no recording",) if bad and skip_bad else ())

    monkeypatch.setitem(recordings._entries, "toy", load)


@pytest.fixture
def event_folder() -> Path:
    """A folder with the event data sets, from $SPIKELFP_DATA or beside the repository; else the test is skipped."""
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    for folder in (os.environ.get("SPIKELFP_DATA"), beside):
        if folder and (Path(folder) / "nmnist" / "nmnist_subset.tar.xz").is_file():
            return Path(folder)
    pytest.skip("no event data is at hand: set SPIKELFP_DATA to a folder that holds nmnist/nmnist_subset.tar.xz")


def values(part: EventDataset) -> torch.Tensor:
    return part.__getitems__(range(len(part)))[0].values


def expected(source: Toy, pipeline: Pipeline = BINS) -> torch.Tensor:
    return torch.from_numpy(np.stack([frames_of(source, i, pipeline.binning) for i in range(len(source))], axis=1))


def test_a_data_set_by_name(toy, tmp_path):
    splits = load_events("toy", cache_dir=tmp_path)
    assert (splits.name, splits.classes, splits.class_names) == ("toy", 3, ("a", "b", "c"))
    assert (splits.shape, splits.skipped, splits.validation) == ((2, 4, 5), (), None)
    assert torch.equal(values(splits.train), expected(Toy(30)))
    assert torch.equal(values(splits.test), expected(Toy(9, seed=1)))
    assert {entry.about["name"] for entry in list_caches(tmp_path)} == {"toy train", "toy test"}


def test_another_pipeline(toy, tmp_path):
    other = Pipeline(Binning(bins=5, levels=2))
    for given in (other, lambda own: replace(own, binning=Binning(bins=own.binning.bins + 2, levels=2))):
        splits = load_events("toy", cache_dir=tmp_path, pipeline=given)
        assert torch.equal(values(splits.train), expected(Toy(30), other))
        assert splits.train.levels == 2
    assert len(list_caches(tmp_path)) == 2


def test_sparse_parts_and_augmented_training(toy, tmp_path):
    splits = load_events("toy", cache_dir=tmp_path, sparse=True, augmentations=parse_augmentations("flip-x"))
    assert splits.train.sparse
    assert splits.test.sparse
    assert splits.train.augmentations
    assert not splits.test.augmentations
    assert torch.equal(values(splits.test).to_dense(), expected(Toy(9, seed=1)))
    held_out = splits.with_validation(0.2, 0)
    assert held_out.train.augmentations
    assert not held_out.validation.augmentations


def test_augmentations_are_checked_before_anything_is_read(toy, tmp_path):
    with pytest.raises(UserError, match="shift must be less than 4"):
        load_events("toy", cache_dir=tmp_path, augmentations=parse_augmentations("shift=9"))
    assert list(tmp_path.iterdir()) == []


def test_recordings_that_cannot_be_read(toy, tmp_path):
    folder = tmp_path / "bad"
    with pytest.raises(DataError, match=r"^toy/28.bin: truncated at byte 128$"):
        load_events("toy", folder, cache_dir=tmp_path)
    for _ in range(2):
        splits = load_events("toy", folder, cache_dir=tmp_path, skip_bad=True)
        assert splits.skipped == ("toy/x.bin: no recording", "toy/28.bin: truncated at byte 128")
        assert (len(splits.train), len(splits.test)) == (29, 9)


def test_without_a_cache(toy, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match="choose another with --cache-dir"):
        load_events("toy", cache_dir=tmp_path / "file" / "cache")
    splits = load_events("toy", cache_dir=tmp_path / "file" / "cache", in_memory=True)
    assert torch.equal(values(splits.train), expected(Toy(30)))


def test_an_unknown_name(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown event data set 'nmist': did you mean 'nmnist'\?"):
        load_events("nmist", cache_dir=tmp_path)


def test_every_event_data_set_is_a_data_set():
    assert set(recordings) <= set(data.datasets)
    assert "nmnist" in set(recordings)


def test_validation_is_held_out_by_class(tmp_path):
    splits = load_events(toy_parts(), cache_dir=tmp_path).with_validation(0.2, seed=4)
    assert (len(splits.train), len(splits.validation)) == (24, 6)
    assert splits.validation.labels.bincount().tolist() == [2, 2, 2]
    rows = sorted([*splits.train.rows.tolist(), *splits.validation.rows.tolist()])
    assert rows == list(range(30))
    assert torch.equal(values(splits.validation), expected(Toy(30))[:, splits.validation.rows])


def test_events_are_not_standardised(tmp_path):
    splits = load_events(toy_parts(), cache_dir=tmp_path)
    for by in (None, Standardization((0.0, 0.0), (1.0, 1.0))):
        with pytest.raises(UserError, match=r"^toy is event data, whose values are counts and not to be standardised$"):
            splits.standardized(by)


def test_events_are_not_augmented_as_images(tmp_path):
    splits = load_events(toy_parts(), cache_dir=tmp_path)
    with pytest.raises(UserError, match="event data has augmentations of its own"):
        Augmented(splits.train)


def test_parts_that_do_not_fit(tmp_path):
    splits = load_events(toy_parts(), cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"toy test: samples of shape \(2, 4, 5\), expected \(7,\)"):
        replace(splits, shape=(7,), train=data.ArrayDataset(torch.zeros(2, 7), torch.tensor([0, 1])))
    with pytest.raises(DataError, match="toy train: label 2 at index 2 is outside 0 to 1"):
        DataSplits("toy", splits.train, splits.test, 2, (2, 4, 5), ("a", "b"))


def test_both_kinds_of_parts_are_samples(tmp_path):
    splits = load_events(toy_parts(), cache_dir=tmp_path)
    images = data.load("digits").train
    assert isinstance(splits.train, Samples)
    assert isinstance(images, Samples)
    assert (images.shape, images.plain()) == ((1, 8, 8), images)


def test_lengths_survive_the_loader(tmp_path):
    splits = load_events(toy_parts(), pipeline=Pipeline(Binning(count=4)), cache_dir=tmp_path)
    steps = splits.train.store.steps
    assert len(set(steps.tolist())) > 3
    for workers in (0, 1):
        [(sequences, labels)] = batches(splits.train, 30, seed=0, epoch=0, shuffle=False, workers=workers)
        assert sequences.lengths.tolist() == steps.tolist()
        assert len(sequences.values) == steps.max()
        assert (len(sequences), len(labels)) == (30, 30)
        assert not sequences.values[~sequences.mask].any()


def test_real_recordings(event_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path))
    splits = data.load("nmnist", event_folder)
    assert (len(splits.train), len(splits.test), splits.shape) == (1000, 100, (2, 34, 34))
    assert splits.test.labels.bincount().tolist() == [8, 14, 8, 11, 14, 7, 10, 15, 2, 11]
    source = recordings["nmnist"](event_folder)
    index = 41
    slow = frames_of(source.test, index, source.pipeline.binning)
    frames, label = splits.test[index]
    assert torch.equal(frames, torch.from_numpy(slow))
    assert int(label) == source.test.labels[index]
    again = load_events("nmnist", event_folder)
    assert again.train.store.folder == splits.train.store.folder
