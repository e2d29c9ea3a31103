"""One small run of each kind, trained once."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_pages import KINDS

from spikelfp.report import write
from spikelfp.report.page import Picture
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train


@pytest.fixture(autouse=True, scope="module")
def light_reports() -> None:
    """Reports are drawn whole here, for light and for dark pages."""


@pytest.fixture(scope="session")
def tiny_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose MNIST is 64 + 40 images of 16 x 16 random pixels."""
    folder = tmp_path_factory.mktemp("private-data")
    (folder / "mnist").mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", 64), ("t10k", 40)):
        images, labels = random.integers(0, 256, (count, 16, 16)), np.arange(count) % 10
        for array, name in ((images, "images-idx3"), (labels, "labels-idx1")):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            path = folder / "mnist" / f"{part}-{name}-ubyte.gz"
            path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_mnist: Path) -> Callable[[str], Path]:
    """``trained(kind)``: the run folder of that kind of :data:`report_pages.KINDS`; shared, so not to be changed."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp("runs") / kind
            config = RunConfig(device="cpu", data_dir=str(tiny_mnist), **KINDS[kind])  # type: ignore[arg-type]
            train(config, folder, progress=False)
            made[kind] = folder
        return made[kind]

    return get


@pytest.fixture
def run(trained: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """``run(kind, without=[...])``: a copy of a run folder of one's own, some of its files left out."""

    def get(kind: str, without: tuple[str, ...] = ()) -> Path:
        folder = tmp_path / kind
        shutil.copytree(trained(kind), folder)
        for name in without:
            (folder / name).unlink()
        return folder

    return get


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages whose pictures are a dot each, for tests that read the words only."""
    out = io.BytesIO()
    Image.new("RGBA", (1, 1)).save(out, "png")
    dot = out.getvalue()
    monkeypatch.setattr(
        write,
        "_picture",
        lambda title, caption, text, draw, wide=False: Picture(title, caption, text, dot, dot, wide),
    )
