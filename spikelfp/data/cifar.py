"""CIFAR-10 in its binary distribution, and a smaller cut of it for quick experiments.

A batch file holds records of 3073 bytes: a label 0..9, then the 32 x 32 pixels row by row, first all red, then all
green, then all blue (https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spikelfp.data.dataset import ArrayDataset, DataSplits, Standardization, check_labels, datasets
from spikelfp.data.download import Original, fetch
from spikelfp.data.download import data_dir as data_folder
from spikelfp.errors import DataError
from spikelfp.untrusted import most, open_regular, unpack_stream

URLS = ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)
ARCHIVE = "cifar-10-binary.tar.gz"
ORIGINAL = Original("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170_052_171)
UNPACKED = "cifar-10-batches-bin"
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
SUBSET = "cifar10_subset"
SUBSET_TEST = "test_batch_first1000.bin"
SUBSET_TEST_IMAGES = 1000

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STATISTICS = Standardization(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
"""Of the 50,000 training images, as published."""

_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
_CHUNK = 1 << 20
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError)


class _Batch(NamedTuple):
    """Records of one file: uint8 ``[N, 3072]`` and int64 ``[N]``."""

    pixels: np.ndarray
    labels: Tensor


@datasets.register("cifar10")
def cifar10(data_dir: Path | None = None) -> DataSplits:
    """Load CIFAR-10: 50,000 + 10,000 colour photographs in 10 classes, uint8 ``[N, 3, 32, 32]`` (scale 1/255).

    The files are ``data_batch_{1..5}.bin`` and ``test_batch.bin`` in ``<data_dir>/cifar10/cifar-10-batches-bin/`` or in
    ``<data_dir>/cifar10/``, each also compressed as ``.bin.xz`` or ``.bin.gz``; without them, all are read out of
    ``<data_dir>/cifar10/cifar-10-binary.tar.gz``, which stays packed. Files that are there are read without a network
    and need the right structure, not the original content or number of images. When they are missing the archive (170
    MB) is downloaded and must match the original checksum.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.

    Args:
        data_dir: the data folder; ``None``: that of :func:`spikelfp.data.data_dir`.

    Raises:
        DataError: for files that are damaged, or are missing with no network.
        SaveError: when the downloaded archive cannot be written.
    """
    folder = data_folder(data_dir) / "cifar10"
    names = (*TRAIN, TEST)
    found = _read_full(folder, names)
    if found is None:
        missing = ", ".join(name for name in names if _find(folder, name) is None)
        try:
            archive = fetch(URLS, folder / ARCHIVE, ORIGINAL)
        except DataError as error:
            raise DataError(f"{error} (missing there: {missing}; the unpacked files do as well)") from error
        found = _read_archive(archive, names)
    return _splits("cifar10", [found[name] for name in TRAIN], found[TEST])


@datasets.register("cifar10-subset")
def cifar10_subset(data_dir: Path | None = None) -> DataSplits:
    """Load the first 10,000 training and the first 1000 test images of :func:`cifar10`, for quick experiments.

    The files are ``<data_dir>/cifar10_subset/data_batch_1.bin`` and ``test_batch_first1000.bin``, each also as
    ``.bin.xz`` or ``.bin.gz``. Where one of them is missing, both parts are cut from the full data set in
    ``<data_dir>/cifar10/``, if it is there; nothing is written or downloaded.

    Args:
        data_dir: the data folder; ``None``: that of :func:`spikelfp.data.data_dir`.

    Raises:
        DataError: for files that are damaged, or when neither data set is there.
    """
    root = data_folder(data_dir)
    folder, full = root / SUBSET, root / "cifar10"
    paths = {name: _find(folder, name) for name in (TRAIN[0], SUBSET_TEST)}
    present = [path for path in paths.values() if path is not None]
    if len(present) == len(paths):
        train, test = map(_read_file, present)
    else:
        found = _read_full(full, (TRAIN[0], TEST))
        if found is None:
            missing = ", ".join(f"{name}.xz" for name, path in paths.items() if path is None)
            raise DataError(
                f"cifar10-subset is not there: put {missing} into the folder {folder}, or {ARCHIVE}, "
                f"from which it is cut, into {full} (loading cifar10 downloads it)"
            )
        train, test = found[TRAIN[0]], _first(found[TEST], SUBSET_TEST_IMAGES)
    return _splits("cifar10-subset", [train], test)


def _first(batch: _Batch, count: int) -> _Batch:
    return _Batch(batch.pixels[:count], batch.labels[:count])


def _splits(name: str, train: Iterable[_Batch], test: _Batch) -> DataSplits:
    parts = (_dataset(train), _dataset([test]))
    return DataSplits(name, *parts, len(CLASS_NAMES), _SHAPE, CLASS_NAMES, statistics=STATISTICS)


def _dataset(batches: Iterable[_Batch]) -> ArrayDataset:
    pixels, labels = zip(*batches, strict=True)
    images = torch.from_numpy(np.concatenate(pixels).reshape(-1, *_SHAPE))
    return ArrayDataset(images, torch.cat(labels), scale=1 / 255, classes=len(CLASS_NAMES))


def _read_full(folder: Path, names: Collection[str]) -> dict[str, _Batch] | None:
    """The batches ``names`` from single files, else from the archive; ``None`` when ``folder`` lacks both."""
    paths = {name: path for name in names if (path := _find(folder, name)) is not None}
    if len(paths) == len(names):
        return {name: _read_file(path) for name, path in paths.items()}
    archive = folder / ARCHIVE
    return _read_archive(archive, names) if os.path.exists(archive) else None


def _find(folder: Path, name: str) -> Path | None:
    """Where the batch file ``name`` lies, unpacked or packed, in ``folder`` or below it."""
    places = (place / f"{name}{ending}" for place in (folder / UNPACKED, folder) for ending in ("", ".xz", ".gz"))
    return next((path for path in places if os.path.exists(path)), None)


def _read_file(path: Path) -> _Batch:
    """One batch file; its compression is recognised by the content, not by the name."""
    with open_regular(path) as raw:
        return _parse(unpack_stream(raw, os.fstat(raw.fileno()).st_size, str(path)), str(path))


def _read_archive(path: Path, names: Collection[str]) -> dict[str, _Batch]:
    """The batch files ``names`` of the original archive, in one pass; nothing is unpacked to the disk."""
    found: dict[str, _Batch] = {}
    with _readable(path, "a gzip-compressed tar archive"), open_regular(path) as raw, gzip.open(raw) as stream:
        limit = most(os.fstat(raw.fileno()).st_size)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if member.offset_data + member.size > limit or member.sparse is not None:
                    raise DataError(f"{path}: {member.name[:60]!r} claims more than {limit} bytes: damaged")
                content = archive.extractfile(member) if name in names and member.isfile() else None
                if content is not None:
                    found[name] = _parse(content.read(), f"{path}: {name}")
        while stream.read(_CHUNK):  # gzip's checksum stands at the end
            if stream.tell() > limit:
                raise DataError(f"{path}: holds more than {limit} bytes: damaged, or made to fill the memory")
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{path}: expected the files of CIFAR-10 in it, found no {', '.join(missing)}")
    return found


def _parse(content: bytes | bytearray, source: str) -> _Batch:
    if len(content) == 0 or len(content) % _RECORD:
        whole, rest = divmod(len(content), _RECORD)
        found = f"{len(content)} bytes: {whole} records and {rest} bytes more" if content else "none"
        raise DataError(f"{source}: expected records of {_RECORD} bytes (a label, 3 x 32 x 32 pixels), found {found}")
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    labels = torch.from_numpy(records[:, 0].astype(np.int64))
    check_labels(labels, len(CLASS_NAMES), source)
    return _Batch(records[:, 1:], labels)


@contextmanager
def _readable(path: Path, expected: str) -> Generator[None, None, None]:
    """Whatever reading ``path`` may raise, as a DataError that names it."""
    try:
        yield
    except _DAMAGE as error:  # before OSError, of which gzip's is a kind
        raise _damaged(path, expected, error) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _damaged(path: Path, expected: str, error: Exception) -> DataError:
    return DataError(f"{path}: expected {expected}, found it truncated or damaged ({error})")
