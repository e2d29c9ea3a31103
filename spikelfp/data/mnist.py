"""MNIST and Fashion-MNIST, any other data in four such files, and a strict reader of the IDX format.

An IDX file has two zero bytes, the element type (0x08 is unsigned byte), the number of dimensions, then each size as a
big-endian 32-bit integer, then the elements (http://yann.lecun.com/exdb/mnist/). It may be compressed with gzip.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from spikelfp.data.dataset import ArrayDataset, DataSplits, check_labels, datasets
from spikelfp.data.download import Original, fetch
from spikelfp.data.download import data_dir as data_folder
from spikelfp.data.samples import Samples
from spikelfp.errors import DataError, UserError
from spikelfp.untrusted import open_regular

_UBYTE = 0x08
_GZIP_MAGIC = b"\x1f\x8b"
_DEFLATE_MAX_RATIO = 1032  # zlib manual, "Maximum Expansion Factor"
_CHUNK = 1 << 20


def read_idx(path: str | Path, ndim: int) -> Tensor:
    """Read an IDX file of unsigned bytes.

    gzip is recognised by the content, not by the file's name. Memory stays bounded by what the file really holds:
    nothing of the declared size is allocated in advance, and at most one byte more than declared is asked of the
    decompressor.

    Args:
        path: of the file.
        ndim: number of dimensions that it must have.

    Returns:
        uint8 ``[size_0, …, size_{ndim−1}]``.

    Raises:
        DataError: for a file that is missing, unreadable, empty, foreign, truncated, damaged or too long; it names the
            file, what was expected and what was found.
    """
    path = Path(path)
    try:
        with open_regular(path) as raw:
            size = os.fstat(raw.fileno()).st_size
            if size == 0:
                raise DataError(f"{path}: expected an idx-ubyte file, found an empty file")
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not packed:
                return _read(path, raw, ndim, size)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _read(path, cast(BinaryIO, stream), ndim, size, packed=True)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: expected gzip data, found it truncated or damaged ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read(path: Path, stream: BinaryIO, ndim: int, size: int, packed: bool = False) -> Tensor:
    """Parse ``stream``, which comes from ``size`` bytes on the disk."""
    sizes = _read_header(path, stream, ndim)
    count = math.prod(sizes)
    expected = f"{path}: expected {' x '.join(map(str, sizes))} = {count} bytes of data as its header says"
    limit = (size * _DEFLATE_MAX_RATIO if packed else size) - 4 - 4 * ndim
    if count > limit:
        found = f"{size} bytes of gzip, which cannot hold them" if packed else f"{limit}: truncated"
        raise DataError(f"{expected}, found {found}")
    content = _read_at_most(stream, count + 1)
    if len(content) < count:
        raise DataError(f"{expected}, found {len(content)}: truncated")
    if len(content) > count:
        raise DataError(f"{expected}, found trailing bytes after them")
    # a bytearray is writable, so torch can use its memory as it is
    return torch.frombuffer(content, dtype=torch.uint8).reshape(sizes)


def _read_header(path: Path, stream: BinaryIO, ndim: int) -> list[int]:
    expected = f"an idx-ubyte file of {ndim} dimensions (magic 0000{_UBYTE:02x}{ndim:02x})"
    magic = bytes(_read_at_most(stream, 4))
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{path}: expected {expected}, found a file that starts with {magic!r}")
    if magic[2] != _UBYTE:
        raise DataError(f"{path}: expected {expected}, found element type 0x{magic[2]:02x} (magic {magic.hex()})")
    if magic[3] != ndim:
        raise DataError(f"{path}: expected {expected}, found {magic[3]} dimensions (magic {magic.hex()})")
    header = bytes(_read_at_most(stream, 4 * ndim))
    if len(header) < 4 * ndim:
        raise DataError(f"{path}: expected {4 + 4 * ndim} bytes of header, found {4 + len(header)}: truncated")
    sizes = [int.from_bytes(header[i : i + 4], "big") for i in range(0, 4 * ndim, 4)]
    if 0 in sizes:
        raise DataError(f"{path}: expected at least one element, found sizes {sizes} in its header")
    return sizes


def _read_at_most(stream: BinaryIO, limit: int) -> bytearray:
    """Next ``limit`` bytes, fewer at the end; memory grows with the content, not with the limit."""
    content = bytearray()
    while len(content) < limit and (chunk := stream.read(min(_CHUNK, limit - len(content)))):
        content += chunk
    return content


_CLASSES = 10


@dataclass(frozen=True)
class _Source:
    """Names, addresses and checksums of the four files of one data set."""

    name: str
    mirrors: tuple[str, ...]
    originals: dict[str, Original]
    class_names: tuple[str, ...]


MNIST = _Source(
    name="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    originals={
        "train-images-idx3-ubyte": Original(
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422
        ),
        "train-labels-idx1-ubyte": Original("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        "t10k-images-idx3-ubyte": Original(
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877
        ),
        "t10k-labels-idx1-ubyte": Original("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
    },
    class_names=tuple(str(digit) for digit in range(_CLASSES)),
)

FASHION_MNIST = _Source(
    name="fashion-mnist",
    mirrors=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    originals={
        "train-images-idx3-ubyte": Original(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880
        ),
        "train-labels-idx1-ubyte": Original("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
        "t10k-images-idx3-ubyte": Original(
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102
        ),
        "t10k-labels-idx1-ubyte": Original("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
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
    """Load MNIST: 60,000 + 10,000 handwritten digits, uint8 ``[N, 1, 28, 28]`` (scale 1/255), 10 classes.

    The files are ``<data_dir>/mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]``. Files that are there are read
    without a network and need the right structure, not the original content: images of any height and width with labels
    0 to 9. Missing files are downloaded and must match the original checksums.

    Source: Y. LeCun, C. Cortes, C. Burges, http://yann.lecun.com/exdb/mnist/

    Args:
        data_dir: the data folder; ``None``: that of :func:`spikelfp.data.data_dir`.

    Raises:
        DataError: for files that are damaged, do not fit together, or are missing with no network.
        SaveError: when downloaded files cannot be written.
    """
    return _load(MNIST, data_folder(data_dir) / MNIST.name)


@datasets.register("mnist-part", by_path=True)
def mnist_part(data_dir: Path | None = None, *, path: str) -> DataSplits:
    """Load the first images of MNIST, in the order of its files: ``mnist-part:5000,2000``.

    For questions that need no more of them. The files are those of :func:`mnist`.

    Args:
        data_dir: the data folder; ``None``: that of :func:`spikelfp.data.data_dir`.
        path: ``TRAIN,TEST``, the numbers of training and of test images.

    Raises:
        UserError: for numbers that are none, or more than there are.
        DataError: as :func:`mnist`.
        SaveError: as :func:`mnist`.
    """
    words = path.split(",")
    if len(words) != 2 or not all(word.isascii() and word.isdecimal() for word in words):
        raise UserError(f"mnist-part takes two numbers of images, such as mnist-part:5000,2000, got {path!r}")
    whole, parts = mnist(data_dir), list[Samples]()
    for name, word, part in zip(("training", "test"), words, (whole.train, whole.test), strict=True):
        if not 1 <= int(word) <= len(part):
            raise UserError(f"MNIST has {len(part)} {name} images, and mnist-part:{path} asks for {word} of them")
        parts.append(part.subset(torch.arange(int(word))))
    return replace(whole, name=f"mnist-part:{path}", train=parts[0], test=parts[1])


@datasets.register("fashion-mnist")
def fashion_mnist(data_dir: Path | None = None) -> DataSplits:
    """Load Fashion-MNIST: 60,000 + 10,000 pictures of clothes in the format of :func:`mnist`.

    The files are in ``<data_dir>/fashion-mnist/``. Source: H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747.

    Args:
        data_dir: the data folder; ``None``: that of :func:`spikelfp.data.data_dir`.

    Raises:
        DataError: for files that are damaged, do not fit together, or are missing with no network.
        SaveError: when downloaded files cannot be written.
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
    for stem in source.originals:
        found = [path for path in (folder / f"{stem}.gz", folder / stem) if os.path.exists(path)]
        if found:
            files[stem] = found[0]
    missing = [stem for stem in source.originals if stem not in files]
    for stem in missing:
        name = f"{stem}.gz"
        try:
            files[stem] = fetch([mirror + name for mirror in source.mirrors], folder / name, source.originals[stem])
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
