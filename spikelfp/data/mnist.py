"""MNIST and Fashion-MNIST, and any data of one's own in the same four files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spikelfp.data.dataset import ArrayDataset, check_labels
from spikelfp.data.download import fetch
from spikelfp.data.folder import data_dir as data_folder
from spikelfp.data.idx import read_idx
from spikelfp.data.registry import datasets
from spikelfp.data.splits import DataSplits
from spikelfp.errors import DataError

_CLASSES = 10


@dataclass(frozen=True)
class _Source:
    """Where the four files of one data set come from."""

    name: str
    mirrors: tuple[str, ...]
    md5: dict[str, str]
    class_names: tuple[str, ...]


MNIST = _Source(
    name="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    md5={
        "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    class_names=tuple(str(digit) for digit in range(_CLASSES)),
)

FASHION_MNIST = _Source(
    name="fashion-mnist",
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    md5={
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)


@datasets.register("mnist")
def mnist(data_dir: Path | None = None) -> DataSplits:
    """60,000 + 10,000 handwritten digits, uint8 ``[N, 1, 28, 28]`` (scale 1/255), 10 classes.

    Reads ``<data_dir>/mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]``. Files that are there are
    read without a network and need the right structure, not the original content: images of any height and
    width with labels 0..9. Missing files are downloaded and must match the original checksums.

    Source: Y. LeCun, C. Cortes, C. Burges, http://yann.lecun.com/exdb/mnist/

    Raises:
        DataError: for files that are damaged, do not fit together, or are missing with no network.
        SaveError: when downloaded files cannot be written.
    """
    return _load(MNIST, data_folder(data_dir) / MNIST.name)


@datasets.register("fashion-mnist")
def fashion_mnist(data_dir: Path | None = None) -> DataSplits:
    """60,000 + 10,000 pictures of clothes in the format of :func:`mnist`, from ``<data_dir>/fashion-mnist/``.

    Source: H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747.
    """
    return _load(FASHION_MNIST, data_folder(data_dir) / FASHION_MNIST.name)


def _load(source: _Source, folder: Path) -> DataSplits:
    files = _locate(source, folder)
    train = _read_part(files["train-images-idx3-ubyte"], files["train-labels-idx1-ubyte"])
    test = _read_part(files["t10k-images-idx3-ubyte"], files["t10k-labels-idx1-ubyte"])
    shape = tuple(train.images.shape[1:])
    if test.images.shape[1:] != train.images.shape[1:]:
        raise DataError(
            f"{files['t10k-images-idx3-ubyte']}: images of {_size(test.images)} pixels, "
            f"but those of {files['train-images-idx3-ubyte'].name} have {_size(train.images)}"
        )
    return DataSplits(source.name, train, test, _CLASSES, shape, source.class_names)


def _locate(source: _Source, folder: Path) -> dict[str, Path]:
    """The path of each file, downloaded first when neither it nor its compressed form is there."""
    files: dict[str, Path] = {}
    for stem in source.md5:
        found = [path for path in (folder / f"{stem}.gz", folder / stem) if os.path.exists(path)]
        if found:
            files[stem] = found[0]
    missing = [stem for stem in source.md5 if stem not in files]
    for stem in missing:
        name = f"{stem}.gz"
        try:
            files[stem] = fetch([mirror + name for mirror in source.mirrors], folder / name, source.md5[stem])
        except DataError as error:
            lacking = ", ".join(f"{stem}.gz" for stem in missing if stem not in files)
            raise DataError(f"{error} (missing there: {lacking}; unpacked files without .gz do as well)") from error
    return files


def _read_part(images_path: Path, labels_path: Path) -> ArrayDataset:
    images = read_idx(images_path, ndim=3)
    labels = read_idx(labels_path, ndim=1).to(torch.int64)
    if len(images) != len(labels):
        raise DataError(f"{images_path} holds {len(images)} images, but {labels_path} holds {len(labels)} labels")
    check_labels(labels, _CLASSES, str(labels_path))
    return ArrayDataset(images.unsqueeze(1), labels, scale=1 / 255, classes=_CLASSES)


def _size(images: Tensor) -> str:
    return f"{images.shape[-2]} x {images.shape[-1]}"
