"""The folders that a run remembers, and what it refuses to take for its data."""

import os
from pathlib import Path

import pytest
import yaml
from cli.bars import write_bars

from spikelfp.data.load import without_folder
from spikelfp.errors import DataError, RunFolderError
from spikelfp.training.config import RunConfig, settled
from spikelfp.training.run import load_run, train
from spikelfp.training.run_folder import RunFolder, read_options


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with recordings of two classes in it, which one is in."""
    write_bars(tmp_path / "home" / "bars", each=6)
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SPIKELFP_DATA", raising=False)
    return tmp_path / "home"


def test_folders_become_absolute(here):
    config = settled(RunConfig(data="nmnist", data_dir="data", cache_dir="~/cache"))
    assert config.data_dir == str(here / "data")
    assert config.cache_dir == str(Path.home() / "cache")
    assert settled(RunConfig()) == RunConfig()


def test_recordings_keep_the_folder_that_they_were_found_from(here, tmp_path):
    assert settled(RunConfig(data="folder:bars")).data_dir == str(here)
    assert settled(RunConfig(data="folder:bars", data_dir=str(tmp_path))).data_dir == str(here)
    assert settled(RunConfig(data="folder:home/bars", data_dir="..")).data_dir == str(tmp_path)
    assert settled(RunConfig(data=f"folder:{here}/bars")).data_dir is None
    assert settled(RunConfig(data="folder:elsewhere")).data_dir is None
    write_bars(tmp_path / "other" / "bars", each=2)
    named = RunConfig(data="folder:bars", data_dir=str(tmp_path / "other"))
    assert settled(named) == named


def short(config: RunConfig, out: Path) -> Path:
    train(config, out, progress=False)
    return out


def options(**more) -> RunConfig:
    return settled(RunConfig(data="folder:bars", hidden=(8,), steps=3, epochs=1, device="cpu", **more))


def test_a_run_finds_its_recordings_from_elsewhere_and_where_they_were_moved(here, tmp_path, monkeypatch):
    run = short(options(), tmp_path / "run")
    write_bars(tmp_path / "away" / "bars", each=2)  # others of the same name
    monkeypatch.chdir(tmp_path / "away")
    assert len(load_run(run).splits().train) + len(load_run(run).splits().test) == 12
    os.rename(here, tmp_path / "moved")
    with pytest.raises(RunFolderError, match="does not exist; name another with --data-dir"):
        load_run(run).splits()
    splits = load_run(run, data_dir=str(tmp_path / "moved"), cache_dir=str(tmp_path / "new")).splits()
    assert len(splits.train) + len(splits.test) == 12
    assert list((tmp_path / "new").iterdir())


def test_other_classes_are_not_taken_for_those_of_the_run(here, tmp_path):
    run = short(options(), tmp_path / "run")
    assert yaml.safe_load(RunFolder(run).config.read_text())["class_names"] == ["left", "right"]
    os.rename(here / "bars" / "right", here / "bars" / "down")
    with pytest.raises(
        DataError, match=r"it has the class 'down' in the place of 'left'; name the folder .*--data-dir$"
    ):
        load_run(run).splits()
    with pytest.raises(DataError, match="it has the class 'down'"):
        train(load_run(run).config, run, resume=True, progress=False)
    write_bars(tmp_path / "more")
    os.rename(tmp_path / "more" / "left", here / "bars" / "up")
    with pytest.raises(DataError, match="it has 3 classes, expected 2"):
        load_run(run).splits()


def test_config_yaml_of_a_run_is_read_back(here, tmp_path):
    run = short(options(lr=0.01), tmp_path / "run")
    again = RunConfig(**{**read_options(RunFolder(run).config), "hidden": (8,)})
    assert again == load_run(run).config
    assert again.lr == 0.01


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("folder:/home/someone/hands", "folder:hands"),
        ("hdf5:../someone/braille.h5", "hdf5:braille.h5"),
        ("tonic:NMNIST", "tonic:NMNIST"),
        ("mnist", "mnist"),
    ],
)
def test_names_without_folders(name, short):
    assert without_folder(name) == short
