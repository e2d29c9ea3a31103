from pathlib import Path

import pytest

from spikelfp import data
from spikelfp.errors import DataError, UnknownNameError


def test_the_explicit_folder_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_DATA", "/elsewhere")
    assert data.data_dir(tmp_path) == tmp_path
    assert data.data_dir(str(tmp_path)) == tmp_path


def test_then_the_environment_then_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SPIKELFP_DATA", "~/mine")
    assert data.data_dir() == tmp_path / "mine"
    monkeypatch.setenv("SPIKELFP_DATA", "")
    assert data.data_dir() == tmp_path / ".cache" / "spikelfp"
    monkeypatch.delenv("SPIKELFP_DATA")
    assert data.data_dir() == tmp_path / ".cache" / "spikelfp"
    assert not (tmp_path / ".cache").exists()


def test_a_relative_folder_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert data.data_dir("x") == tmp_path / "x"


def test_a_file_in_place_of_the_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(DataError, match=f"the data folder {file} is a file"):
        data.data_dir(file)


def test_data_sets_are_found_by_name():
    assert {"digits", "mnist", "fashion-mnist"} <= set(data.datasets)
    with pytest.raises(UnknownNameError, match="unknown data set 'fashion_mnist': did you mean 'fashion-mnist'"):
        data.load("fashion_mnist")


def test_a_registered_loader_gets_the_folder(monkeypatch):
    digits = data.load("digits")
    monkeypatch.setitem(data.datasets._entries, "mine", lambda folder: (folder, digits))
    assert data.load("mine") == (None, digits)
    assert data.load("mine", "some/where") == (Path("some/where"), digits)
