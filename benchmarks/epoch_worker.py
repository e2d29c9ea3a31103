"""Worker process for whole epochs of a contender: ``epoch_worker.py FILE SETTINGS``, the settings as JSON.

Each line of input starts an epoch; the answer has its seconds of training, the accuracy after it and the memory. The
contender's file has ``train(splits, settings, turn)``, which calls ``turn(accuracy)`` after every epoch. ``samples`` in
the settings limits the samples of training and test part.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import worker

from spikelfp import data


def main() -> None:
    """Answer until the epochs are over."""
    file, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    sys.path[0] = str(file.parent)  # contenders share a module there
    module = importlib.import_module(file.stem)
    splits = data.load(settings["data"], settings["data_dir"])
    if "samples" in settings:
        parts = {"train": splits.train, "test": splits.test}
        first = {name: torch.arange(min(settings["samples"], len(part))) for name, part in parts.items()}
        splits = replace(splits, **{name: part.subset(first[name]) for name, part in parts.items()})
    print(json.dumps(worker.about(module)), flush=True)
    sys.stdin.readline()
    start = time.perf_counter()

    def turn(accuracy: Callable[[], float]) -> None:
        nonlocal start
        seconds = time.perf_counter() - start
        answer = {"seconds": seconds, "accuracy": accuracy(), "peak_mb": worker.peak_mb()}
        print(json.dumps(answer), flush=True)
        sys.stdin.readline()
        start = time.perf_counter()

    module.train(splits, settings, turn)


if __name__ == "__main__":
    main()
