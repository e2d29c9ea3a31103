"""``tonic:NAME``: every data set class of tonic whose targets are classes.

tonic (GPL, optional) looks for an archive of the right name and for a number of unpacked files beside it, and downloads
where either is missing, over what is there. Here unpacked files alone are enough, and a download is unpacked in another
folder, whose content is moved to its place when it is complete.

Tried with tonic 1.7.0, each class on a copy with the right layout and a few made-up recordings, because the data sets
themselves cannot be shipped:

============ ================================== ==========================================================
class        parts                              tried
============ ================================== ==========================================================
NMNIST       train, test                        also the real recordings of a subset: equal to ``nmnist``
SHD          train, test                        equal to ``shd`` but for times, which tonic cuts to whole µs
SSC          train + valid, test                read
DVSGesture   train, test                        equal to ``dvs-gesture`` on the same files
POKERDVS     train, test                        read; tonic 1.7.0 comes without the data and has no address
NTIDIGITS18  train, test (single digits)        read
SMNIST       train, test                        read
NCALTECH101  one, split by chance               read; recordings differ in size and are put on 240 x 180 pixels
ASLDVS       one, split by chance               read
DVSLip       train, test                        read
CIFAR10DVS   one, split by chance               read, by our reader of AEDAT 4: tonic needs another package for it
DAVISDATA, DSEC, EBSSA, MVSEC, NERDD,           refused: their targets are no classes
ThreeET_Eyetracking, TUMVIE, VPR
============ ================================== ==========================================================
"""

from __future__ import annotations

import contextlib
import inspect
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from spikelfp.data.download import data_dir as data_folder
from spikelfp.data.events.event import Events, Sensor, check_events
from spikelfp.data.events.readers import read
from spikelfp.data.events.recordings import EventSplits, Recordings, prefixes
from spikelfp.data.events.sources.base import Joined, Subset, by_time, check_labels, stratified, to_events
from spikelfp.data.events.sources.files import content_hashes, hash_of, walk
from spikelfp.data.events.usual import usual
from spikelfp.errors import DataError
from spikelfp.registry import check_name
from spikelfp.untrusted import check_dataset, member, open_hdf5

Options = Mapping[str, Any]

_ARCHIVES = (".zip", ".tar.gz", ".tar", ".tgz", ".tar.xz")

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
"""Classes whose targets stand for no class, and the kind of their targets."""

SENSORS = {"NCALTECH101": Sensor(240, 180, 2)}
"""Sensors of classes whose recordings differ in size: one that holds all of them."""

OPTIONS: dict[str, Options] = {"NTIDIGITS18": {"single_digits": True}}
"""Options of classes that have no classes without them."""


def class_of(name: str) -> type:
    """Import the data set class ``name`` of tonic.

    Raises:
        DataError: without tonic.
        UnknownNameError: for a class that it does not have.
    """
    try:
        from tonic import datasets
    except ImportError as error:
        raise DataError(f"tonic:{name} needs tonic ({error}): pip install 'spikelfp[events]'") from error
    return getattr(datasets, check_name("data set of tonic", name, datasets.__all__))


def targets_of(dataset: Any) -> tuple[list[int], list[str] | None]:
    """Find the label of each recording, and the names of the classes where they have any, without reading a recording.

    Raises:
        DataError: for targets that are no classes.
    """
    name = type(dataset).__name__
    if name in ("SHD", "SSC"):
        path = os.path.join(dataset.location_on_system, dataset.data_filename)
        with open_hdf5(path, whole=False) as file:
            labels = member(file, "labels", path)
            check_dataset(labels, os.path.getsize(path), path)
            targets = list(labels[()])
    elif name == "NTIDIGITS18":
        targets = [dataset.class_map[sample.split("-")[-1]] for sample in dataset._samples]
    else:
        targets = list(dataset.label_data if name == "SMNIST" else dataset.targets)
    if targets and all(isinstance(target, str) for target in targets):
        names = sorted(set(targets))
        return [names.index(target) for target in targets], names
    try:
        whole = [int(target) for target in targets]
    except (TypeError, ValueError) as error:
        raise DataError(f"tonic:{name}: its targets are no classes ({error})") from error
    classes = getattr(dataset, "classes", getattr(dataset, "class_map", None))
    if classes is None:
        return whole, None
    ordered = sorted(classes, key=classes.__getitem__) if isinstance(classes, Mapping) else classes
    return whole, [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in ordered]


def open_copy(kind: type, place: Path, options: Options) -> Any:
    """Make an object of a data set class of tonic for the files in ``place``, which holds the folder of the class.

    Raises:
        DataError: for files that are missing and cannot be downloaded, and for those that tonic cannot open; it says
            which are expected where.
    """
    import numpy.lib.recfunctions  # noqa: F401  (tonic uses it without importing it)

    name = kind.__name__
    # of the same name, because tonic calls its folder by the name of the class
    copy = type(name, (_Copy, kind), {"__module__": __name__})
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return copy(str(place), **options)
    except DataError:
        raise
    except (Exception, SystemExit) as error:  # what tonic raises differs from class to class
        lines = str(getattr(error, "reason", None) or error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        if isinstance(error, SystemExit):
            reason = "it must be downloaded by hand"
        raise DataError(f"tonic:{name}: cannot be opened ({reason}): {_expected(kind, place, options)}") from error


class _Copy:
    """Mixin of a data set class of tonic that decides when and where it downloads."""

    location_on_system: str

    def _check_exists(self) -> bool:
        data = getattr(self, "data_filename", None)
        if isinstance(data, str) and not data.endswith(_ARCHIVES):  # of the part asked for, which tonic does not check
            return os.path.isfile(os.path.join(self.location_on_system, data))
        return bool(super()._check_exists())  # type: ignore[misc]

    def _is_file_present(self) -> bool:
        """Accept unpacked files without their archive."""
        return str(getattr(self, "filename", "")).endswith(_ARCHIVES) or bool(super()._is_file_present())  # type: ignore[misc]

    def _folder_contains_at_least_n_files_of_type(self, n_files: int, file_type: str) -> bool:
        """Accept any number of files, because a part of a data set will do."""
        return bool(super()._folder_contains_at_least_n_files_of_type(1, file_type))  # type: ignore[misc]

    def download(self) -> None:
        with _staged(self):
            super().download()  # type: ignore[misc]


@contextlib.contextmanager
def _staged(dataset: Any) -> Iterator[None]:
    """Let ``dataset`` write into a folder beside its own, whose content is moved there in the end."""
    place = Path(dataset.location_on_system)
    archive, md5 = str(getattr(dataset, "filename", "")), getattr(dataset, "file_md5", None)
    present = bool(archive) and os.path.isfile(place / archive)
    if present and md5 is not None:
        from tonic.download_utils import check_integrity

        if not check_integrity(str(place / archive), md5):
            raise DataError(
                f"{place / archive}: damaged or not the original (its md5 is not {md5}): remove or replace it"
            )
    stage = place.with_name(f".{place.name}.{secrets.token_hex(8)}.part")
    missing = [folder for folder in stage.parents if not os.path.exists(folder)]
    try:
        stage.mkdir(parents=True)
        if present:
            os.symlink(place / archive, stage / archive)
        dataset.location_on_system = str(stage)
        yield
        place.mkdir(parents=True, exist_ok=True)
        for found in sorted(stage.iterdir()):  # without what is there already
            with contextlib.suppress(OSError):
                os.rmdir(place / found.name)  # an empty folder
            if not found.is_symlink() and not os.path.exists(place / found.name):
                os.replace(found, place / found.name)
    finally:
        dataset.location_on_system = str(place)
        shutil.rmtree(stage, ignore_errors=True)
        for folder in missing:  # those that were made for nothing
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _expected(kind: Any, place: Path, options: Options) -> str:
    part = "test" if options.get("train") is False else options.get("split", "train")
    names = [getattr(kind, key, None) for key in ("filename", f"{part}_filename", f"{part}_zip", f"{part}_images_file")]
    files = [name for name in names if isinstance(name, str)]
    folder = place / ("smnist" if kind.__name__ == "SMNIST" else kind.__name__)
    what = f"put {files[0]}, or what is in it," if files else "put its files"
    return f"{what} into {folder} or choose a folder with --data-dir"


class TonicRecordings(Recordings):
    """Recordings of one part of a data set class of tonic, sorted by path where each lies in a file.

    Every process opens the data set for itself, because some hold open files.

    Args:
        name: of the data set and the part.
        kind: class of tonic.
        place: folder that holds the folder of the class.
        options: of the class.

    Raises:
        DataError: for a copy that is missing or damaged, and targets that are no classes.
    """

    def __init__(self, name: str, kind: type, place: Path, options: Options) -> None:
        self.name, self._kind, self._place, self._options = name, kind.__name__, place, dict(options)
        dataset, order = self._opened()
        labels, names = targets_of(dataset)
        self.labels, self.class_names = check_labels(np.asarray(labels)[order], len(order), names, name)
        if dataset.sensor_size is None and self._kind not in SENSORS:
            raise DataError(f"tonic:{self._kind}: its recordings are of different sizes, but a network has one input")
        self.sensor = SENSORS.get(self._kind) or Sensor(*dataset.sensor_size)

    def read(self, index: int) -> Events:
        dataset, order = self._opened()
        index, where = range(len(self))[index], self.where(index)
        if len(order) != len(self):
            raise DataError(f"{self.name}: had {len(self)} recordings, now {len(order)}: load it again")
        if where.endswith(".aedat4"):  # tonic reads it by a package that few have
            return check_events(read(where, sensor=self.sensor).events, self.sensor, where)
        try:
            raw, _ = dataset[order[index]]
        except Exception as error:  # what tonic raises differs from class to class
            raise DataError(f"{where}: cannot be read by tonic ({type(error).__name__}: {error})") from error
        return check_events(self._converted(raw, where), self.sensor, where)

    def where(self, index: int) -> str:
        dataset, order = self._opened()
        data = _files(dataset)
        return data[order[index]] if data else f"{dataset.location_on_system}, {self.name} recording {index}"

    def fingerprint(self) -> str:
        dataset, order = self._opened()
        root, data = dataset.location_on_system, _files(dataset)
        if not data:
            inside = os.path.join(root, getattr(dataset, "folder_name", "") or "")
            data = [os.path.join(inside, file) for file in walk(inside).files]
            order = list(range(len(data)))
        paths = [data[number] for number in order]
        names = [os.path.relpath(path, root).replace(os.sep, "/") for path in paths]
        contents = [part for pair in zip(names, content_hashes(paths), strict=True) for part in pair]
        how = ("tonic 1", version("tonic"), self._kind, repr(sorted(self._options.items())), str(self.sensor))
        return hash_of(*how, *self.class_names, self.labels.tobytes(), *contents)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_open"}

    def _opened(self) -> tuple[Any, list[int]]:
        """Data set, opened in this process, and the number that each recording has in it."""
        process, *opened = vars(self).get("_open", (None,))
        if process != os.getpid():
            dataset = open_copy(class_of(self._kind), self._place, self._options)
            data = _files(dataset)
            order = sorted(range(len(dataset)), key=lambda number: data[number]) if data else list(range(len(dataset)))
            opened = [dataset, order]
            self._open = (os.getpid(), dataset, order)
        return opened[0], opened[1]

    def _converted(self, raw: Any, where: str) -> Events:
        names = getattr(getattr(raw, "dtype", None), "names", None) or ()
        if not {"t", "x"} <= set(names):
            raise DataError(f"{where}: tonic gives no events with t and x but {type(raw).__name__}")
        y = raw["y"] if "y" in names else 0
        p = raw["p"] if "p" in names and self.sensor.polarities == 2 else 0
        events = to_events(raw["t"], raw["x"], y, p, where)
        return by_time(events) if self.sensor.is_line else events


@prefixes.register("tonic")
def tonic(rest: str, data_dir: Path | None = None, *, skip_bad: bool = False) -> EventSplits:
    """List the recordings of a data set class of tonic.

    Its files are in ``<data_dir>/<rest>/`` or ``<data_dir>/tonic/<rest>/``; if they are in neither, they are downloaded
    to the latter. The parts are those of the class (``valid`` is added to the training part). If it has one part, a
    fifth of each class is the test part, by chance, but always the same.

    Args:
        rest: name of the class, such as ``NMNIST``.
        data_dir: folder of the data sets.
        skip_bad: of all sources; tonic does not skip.

    Raises:
        DataError: for a missing tonic or copy, and a class whose targets are no classes.
        UnknownNameError: for a class that tonic does not have.
    """
    kind, root, name = class_of(rest), data_folder(data_dir), f"tonic:{rest}"
    if rest in NO_CLASSES:
        raise DataError(f"{name}: its targets are no classes but {NO_CLASSES[rest]}, so it cannot be learnt here")
    place = root if os.path.isdir(root / rest) else root / "tonic"
    extra, arguments = OPTIONS.get(rest, {}), inspect.signature(kind).parameters
    train: list[Options] = [extra]
    test: Options | None = None
    if "train" in arguments:
        train, test = [{"train": True, **extra}], {"train": False, **extra}
    elif "split" in arguments:
        train, test = [{"split": "train", **extra}, {"split": "valid", **extra}], {"split": "test", **extra}
    learnt = [TonicRecordings(f"{name} train", kind, place, options) for options in train]
    if test is not None:
        joined: Recordings = learnt[0] if len(learnt) == 1 else Joined(learnt, f"{name} train")
        return EventSplits(name, joined, TonicRecordings(f"{name} test", kind, place, test), usual(joined.sensor))
    (everything,) = learnt
    everything.name = name
    first, second = stratified(everything.labels, everything.class_names, "tonic")
    parts = (Subset(everything, first, f"{name} train"), Subset(everything, second, f"{name} test"))
    return EventSplits(name, *parts, usual(everything.sensor))


def _files(dataset: Any) -> list[str]:
    """File of each recording; empty if they do not lie in files of their own."""
    data: Sequence[Any] = getattr(dataset, "data", ())
    return list(data) if isinstance(data, list) and all(isinstance(path, str) for path in data) else []
