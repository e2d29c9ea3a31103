"""Plug-in with the first images of MNIST: ``spikelfp train --plugin …/mnist_part.py --data mnist-part:5000,2000``.

The numbers are those of training and of test images. For experiments whose question needs no more of them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from spikelfp.data import DataSplits, datasets
from spikelfp.data.mnist import mnist
from spikelfp.errors import UserError


@datasets.register("mnist-part", by_path=True)
def mnist_part(data_dir: Path | None = None, *, path: str) -> DataSplits:
    """Load the first images of MNIST, in the order of its files.

    Args:
        data_dir: the data folder.
        path: ``TRAIN,TEST``, the numbers of training and of test images.

    Raises:
        UserError: for numbers that are none, or more than there are.
    """
    whole = mnist(data_dir)
    parts = {"train": whole.train, "test": whole.test}
    words = path.split(",")
    if len(words) != len(parts) or not all(word.isdecimal() for word in words):
        raise UserError(f"mnist-part takes two numbers of images, such as mnist-part:5000,2000, got {path!r}")
    for name, word in zip(parts, words, strict=True):
        if not 1 <= int(word) <= len(parts[name]):
            raise UserError(f"MNIST has {len(parts[name])} {name} images, and {word} were asked for")
        parts[name] = parts[name].subset(torch.arange(int(word)))
    return replace(whole, name=f"mnist-part:{path}", **parts)
