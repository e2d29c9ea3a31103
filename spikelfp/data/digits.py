"""The 8 x 8 handwritten digits that come with scikit-learn: no files, no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from spikelfp.data.dataset import ArrayDataset, DataSplits, datasets


@datasets.register("digits")
def digits(data_dir: Path | None = None) -> DataSplits:
    """Load 1437 training and 360 test digits, uint8 ``[N, 1, 8, 8]`` with pixels 0 to 16 (scale 1/16), 10 classes.

    The split is fixed: 80 % to 20 %, stratified, ``random_state=0``. Source: E. Alpaydin and C. Kaynak, Optical
    Recognition of Handwritten Digits, UCI 80 (its test part).

    Args:
        data_dir: not used.
    """
    # scikit-learn takes longer to import than everything else here together
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    train, test = train_test_split(np.arange(len(source.target)), test_size=0.2, random_state=0, stratify=source.target)
    images = torch.from_numpy(source.images.astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(source.target.astype(np.int64))
    train, test = (ArrayDataset(images[part], labels[part], scale=1 / 16, classes=10) for part in (train, test))
    return DataSplits(
        name="digits",
        train=train,
        test=test,
        outputs=10,
        shape=(1, 8, 8),
        names=tuple(str(digit) for digit in range(10)),
    )
