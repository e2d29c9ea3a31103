"""Published NIR graphs and recordings, where they are at hand."""

from __future__ import annotations

import os
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

STEPS = 300


def published(name: str) -> Path:
    """A file or folder below ``$SPIKELFP_DATA`` or beside the repository; else the test is skipped."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    for folder in (os.environ.get("SPIKELFP_DATA"), beside):
        if folder and (Path(folder) / name).exists():
            return Path(folder) / name
    pytest.skip(f"{name} is not at hand: set SPIKELFP_DATA to a folder that holds it")


@cache
def recordings() -> tuple[torch.Tensor, torch.Tensor]:
    """The N-MNIST test recordings as frames of 1 ms, ``[300, 100, 2, 34, 34]`` (channel 1 is ON), and their labels;
    digits take turns."""
    frames, labels, seen = [], [], [0] * 10
    with tarfile.open(published("nmnist/nmnist_subset.tar.xz")) as archive:
        for member in archive:
            if "/Test/" in member.name and member.name.endswith(".bin"):
                events = archive.extractfile(member)
                assert events is not None
                frames.append(as_frames(events.read()))
                label = int(member.name.split("/")[-2])
                labels.append((seen[label], label))
                seen[label] += 1
    order = sorted(range(len(labels)), key=lambda i: labels[i])
    stacked = torch.from_numpy(np.stack([frames[i] for i in order], axis=1))
    return stacked, torch.tensor([labels[i][1] for i in order])


def as_frames(content: bytes) -> np.ndarray:
    """Events of 5 bytes, x, y, polarity (1 bit) and time in µs (23 bits), counted per pixel and ms."""
    b = np.frombuffer(content, np.uint8).reshape(-1, 5).astype(np.int64)
    time = ((b[:, 2] & 127) << 16 | b[:, 3] << 8 | b[:, 4]) // 1000
    kept = time < STEPS
    frames = np.zeros((STEPS, 2, 34, 34), np.float32)
    np.add.at(frames, (time[kept], b[kept, 2] >> 7, b[kept, 1], b[kept, 0]), 1)
    return frames
