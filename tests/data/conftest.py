"""Small files in the formats under test, and a network that is not there."""

from __future__ import annotations

import gzip
import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

IdxBytes = Callable[[np.ndarray], bytes]


@pytest.fixture
def idx_bytes() -> IdxBytes:
    """An independent writer of idx-ubyte content."""

    def build(array: np.ndarray) -> bytes:
        sizes = struct.pack(f">{array.ndim}I", *array.shape)
        return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()

    return build


@pytest.fixture
def write_mnist(tmp_path: Path, idx_bytes: IdxBytes) -> Callable[..., Path]:
    """Writes the four files of a tiny MNIST (20 + 10 images of 4 x 5 pixels), with parts replaced on request.

    ``changes`` gives other arrays as ``train_images=``, ``t10k_labels=`` and so on; ``packed=False`` writes
    files without gzip. Returns the data folder.
    """

    def write(name: str = "mnist", packed: bool = True, **changes: np.ndarray) -> Path:
        random = np.random.default_rng(0)
        arrays = {
            "train_images": random.integers(0, 256, (20, 4, 5)),
            "train_labels": np.arange(20) % 10,
            "t10k_images": random.integers(0, 256, (10, 4, 5)),
            "t10k_labels": np.arange(10) % 10,
        } | changes
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for key, array in arrays.items():
            part, kind = key.split("_")
            stem = f"{part}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
            content = idx_bytes(array)
            if packed:
                (folder / f"{stem}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / stem).write_bytes(content)
        return tmp_path

    return write


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection fails, as it does without a network."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)  # of urlopen too
