"""Small data sets of events on disk, written independently of what reads them."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikelfp.data.events.event import EVENT, Events


def shared_data(name: str) -> Path:
    """The folder that holds ``name``: ``$SPIKELFP_DATA`` or the one beside the repository; else the test is skipped."""
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    for folder in (os.environ.get("SPIKELFP_DATA"), beside):
        if folder and (Path(folder) / name).exists():
            return Path(folder)
    pytest.skip(f"{name} is not at hand: set SPIKELFP_DATA to a folder that holds it")


def random_events(seed: int, count: int = 50, width: int = 34, height: int = 34, polarities: int = 2) -> Events:
    """Events of a sensor, sorted, with times below 300,000 µs."""
    random = np.random.default_rng(seed)
    events = np.zeros(count, EVENT)
    events["t"] = np.sort(random.integers(0, 300_000, count))
    events["x"] = random.integers(0, width, count)
    events["y"] = random.integers(0, height, count)
    events["p"] = random.integers(0, polarities, count)
    return events


def bin_bytes(events: Events) -> bytes:
    """The 40 bits an event of N-MNIST, from its description: x, y, polarity and 23 bits of time."""
    content = bytearray()
    for t, x, y, p in events.tolist():
        content += bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255])
    return bytes(content)


def digits(train: int = 3, test: int = 2) -> dict[str, Events]:
    """Recordings ``Train/<digit>/<id>.bin`` and ``Test/…`` of a few digits."""
    counts = {"Train": train, "Test": test}
    return {
        f"{part}/{digit}/{number:05}.bin": random_events((digit * 100 + number) * 2 + (part == "Test"))
        for part, count in counts.items()
        for digit in (0, 1, 7)
        for number in range(count)
    }


def write_files(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_tar(path: Path, contents: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, f"w:{path.suffix[1:]}") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, contents: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def write_spike_lists(path: Path, recordings: list[tuple[list[float], list[int]]], labels: list[int],
                      keys: list[str] | None, times: str = "f4", **extra: list[int]) -> Path:  # fmt: skip
    """A file in the layout of the Spiking Heidelberg Digits; times in s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, column, kind in (("times", 0, times), ("units", 1, "u2")):
            values = file.create_dataset(f"spikes/{name}", (len(recordings),), h5py.vlen_dtype(np.dtype(kind)))
            for number, recording in enumerate(recordings):
                values[number] = np.array(recording[column], kind)
        file["labels"] = np.array(labels, "u2")
        if keys is not None:
            file["extra/keys"] = np.array([key.encode() for key in keys], dtype="S20")
        for name, numbers in extra.items():
            file[f"extra/{name}"] = np.array(numbers)
    return path
