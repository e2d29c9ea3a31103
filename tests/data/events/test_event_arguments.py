"""Arguments of the functions of event data that are none, each refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spikelfp import data
from spikelfp.data.events import EVENT, FileLayout, Sensor, from_arrays, load_recordings
from spikelfp.data.events.readers import can_read, read
from spikelfp.errors import UserError

ARRAYS = [np.zeros(3, EVENT) for _ in range(4)]
LABELS = [0, 1, 0, 1]
SENSOR = Sensor(4, 4, 2)
IMAGES = torch.rand(3, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("recordings")
    for name in "ab":
        (place / name).mkdir()
        for number in range(3):
            np.save(place / name / f"{number}.npy", np.array([[0, 1, 2, 1], [9, 3, 1, 0]]))
    return f"folder:{place}"


@pytest.mark.parametrize("load", [data.load, load_recordings])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sensor": (30, 20)}, r"sensor is a Sensor, such as Sensor\(346, 260, 2\), got tuple of 2"),
        ({"sensor": "30x20"}, "sensor is a Sensor"),
        ({"layout": "x,y,t,p"}, "layout is a FileLayout"),
        ({"skip_bad": "no"}, "skip_bad is true or false"),
        ({"class_level": "1"}, "class_level is a whole number, got '1'"),
        ({"class_level": 1.5}, "class_level is a whole number"),
        ({"label_table": 5}, "label_table is the name of a table, a text, got 5"),
    ],
)
def test_options_of_a_folder(folder, load, options, text):
    with pytest.raises(UserError, match=text):
        load(folder, **options)


@pytest.mark.parametrize("load", [data.load, load_recordings])
def test_names_of_data_and_folders(load):
    with pytest.raises(UserError, match="a data set is named by text, got 5"):
        load(5)
    with pytest.raises(UserError, match="write 'folder:mine'"):
        load(Path("mine"))
    with pytest.raises(UserError, match=r"data_dir is a path, .* got 5"):
        load("nmnist", 5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"pipeline": 5}, "pipeline is a Pipeline, or a function that gives one, got 5"),
        ({"pipeline": lambda pipeline: None}, "pipeline is a Pipeline"),
        ({"augmentations": "flip"}, "augmentations are a list of Augmentation objects, got 'flip'"),
        ({"augmentations": ["flip"]}, "augmentations are Augmentation objects, got 'flip'"),
        ({"cache_dir": 5}, "cache_dir is a path"),
    ],
)
def test_options_of_sequences(folder, options, text):
    with pytest.raises(UserError, match=text):
        data.load_events(folder, **options)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Sensor(5.5), "the width of a sensor is a whole number, got 5.5"),
        (lambda: Sensor(5, True), "the height of a sensor"),
        (lambda: Sensor("a"), "the width of a sensor"),
        (lambda: FileLayout(columns=5), "columns are a tuple of names"),
        (lambda: FileLayout(columns="txyp"), "columns are a tuple of names"),
        (lambda: FileLayout(table=5), "named by text, got 5"),
        (lambda: FileLayout(first_pixel=True), "the first pixel has the number 0 or 1, got True"),
        (lambda: read(5), "a recording is a path"),
        (lambda: can_read(None), "a recording is a path"),
        (lambda: read("a.npy", sensor=(4, 4)), "sensor is a Sensor"),
        (lambda: from_arrays(None, LABELS, SENSOR), "recordings are a list of arrays of events, got None"),
        (lambda: from_arrays(ARRAYS, LABELS, None), "from_arrays needs the sensor"),
        (lambda: from_arrays(ARRAYS, LABELS, (4, 4)), "sensor is a Sensor"),
        (lambda: from_arrays(ARRAYS, LABELS, SENSOR, "ab"), "class names are a list of texts, got 'ab'"),
        (lambda: from_arrays(ARRAYS, LABELS, SENSOR, 5), "class names are a list of texts"),
        (lambda: data.encode("rate", IMAGES.numpy(), 5), "images to encode are a dense tensor .*, got ndarray"),
        (lambda: data.encode("rate", IMAGES, "5"), "steps must be a whole number of at least 1, got '5'"),
        (lambda: data.encode("constant", IMAGES, True), "steps must be a whole number"),
        (lambda: data.encode("latency", IMAGES, float("inf")), "steps must be a whole number"),
    ],
)
def test_values_and_calls(call, text):
    with pytest.raises(UserError, match=text):
        call()
