"""What is known about the data set classes of tonic besides what they say themselves."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from spikelfp.data.events.event import Sensor
from spikelfp.errors import DataError
from spikelfp.registry import check_name
from spikelfp.untrusted import check_dataset, member, open_hdf5

Options = Mapping[str, Any]

NO_CLASSES: dict[str, str] = {
    "DAVISDATA": "poses of a moving camera",
    "DSEC": "disparity and optical flow",
    "EBSSA": "boxes around satellites",
    "MVSEC": "depth and poses of a vehicle",
    "NERDD": "boxes around drones",
    "ThreeET_Eyetracking": "places of a pupil",
    "TUMVIE": "poses of a moving camera",
    "VPR": "places on a road",
}
"""Classes whose targets stand for no class, and what they are instead."""

SENSORS = {"NCALTECH101": Sensor(240, 180, 2)}
"""Of classes whose recordings differ in size: one that holds all of them."""

OPTIONS: dict[str, Options] = {"NTIDIGITS18": {"single_digits": True}}
"""Options of classes that have no classes without them."""


class Parts(NamedTuple):
    """Options of a class of tonic for the training part, which may be several, and for the test part; ``None``: it has
    a single part."""

    train: tuple[Options, ...]
    test: Options | None


def class_of(name: str) -> type:
    """The data set class ``name``.

    Raises:
        DataError: without tonic.
        UnknownNameError: for a class that it does not have.
    """
    try:
        from tonic import datasets
    except ImportError as error:
        raise DataError(f"tonic:{name} needs tonic ({error}): pip install 'spikelfp[events]'") from error
    return getattr(datasets, check_name("data set of tonic", name, datasets.__all__))


def parts_of(kind: type) -> Parts:
    """The parts of the data set class ``kind``: its argument ``train``, or ``split`` (whose part ``valid`` is added to
    the training), or one part.

    Raises:
        DataError: for a class whose targets are no classes.
    """
    name = kind.__name__
    if name in NO_CLASSES:
        raise DataError(f"tonic:{name}: its targets are no classes but {NO_CLASSES[name]}, so it cannot be learnt here")
    extra = OPTIONS.get(name, {})
    arguments = inspect.signature(kind).parameters
    if "train" in arguments:
        return Parts(({"train": True, **extra},), {"train": False, **extra})
    if "split" in arguments:
        return Parts(({"split": "train", **extra}, {"split": "valid", **extra}), {"split": "test", **extra})
    return Parts((extra,), None)


def sensor_of(dataset: Any) -> Sensor:
    """The sensor of all recordings of ``dataset``.

    Raises:
        DataError: where they differ in size.
    """
    name, size = type(dataset).__name__, dataset.sensor_size
    if name in SENSORS:
        return SENSORS[name]
    if size is None:
        raise DataError(f"tonic:{name}: its recordings are of different sizes, but a network has one input")
    return Sensor(*size)


def targets_of(dataset: Any) -> tuple[list[int], list[str] | None]:
    """The label of each recording and the names of the classes, ``None`` where they have none; no recording is read.

    Raises:
        DataError: for targets that are no classes.
    """
    targets = _targets(dataset)
    if targets and all(isinstance(target, str) for target in targets):
        names = sorted(set(targets))
        return [names.index(target) for target in targets], names
    try:
        return [int(target) for target in targets], _class_names(dataset)
    except (TypeError, ValueError) as error:
        raise DataError(f"tonic:{type(dataset).__name__}: its targets are no classes ({error})") from error


def _targets(dataset: Any) -> list[Any]:
    name = type(dataset).__name__
    if name in ("SHD", "SSC"):
        path = os.path.join(dataset.location_on_system, dataset.data_filename)
        with open_hdf5(path, whole=False) as file:
            labels = member(file, "labels", path)
            check_dataset(labels, os.path.getsize(path), path)
            return list(labels[()])
    if name == "NTIDIGITS18":
        return [dataset.class_map[sample.split("-")[-1]] for sample in dataset._samples]
    if name == "SMNIST":
        return list(dataset.label_data)
    return list(dataset.targets)


def _class_names(dataset: Any) -> list[str] | None:
    classes = getattr(dataset, "classes", getattr(dataset, "class_map", None))
    if classes is None:
        return None
    names = sorted(classes, key=classes.__getitem__) if isinstance(classes, Mapping) else classes
    return [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in names]
