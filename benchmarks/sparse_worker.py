"""Worker process for steps on a batch of events: ``sparse_worker.py FILE SETTINGS``, the settings as JSON.

As ``worker.py``, but the input, a sparse tensor in the file ``input``, counts as memory of a step.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import torch
import worker


def contender(module, settings: dict, sequences: torch.Tensor):
    """Make the contender with its batch, dense or sparse as the settings state."""
    torch.manual_seed(0)
    labels = torch.randint(10, (sequences.shape[1],))
    return module.Contender(settings, sequences if settings["sparse"] else sequences.to_dense(), labels)


def main() -> None:
    """Answer until the input ends."""
    file, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    sys.path[0] = str(file.parent)  # contenders share a module there
    module = importlib.import_module(file.stem)
    # A step of a tiny batch first: what packages load at first use is not memory of a step.
    contender(module, settings, (torch.rand(4, 2, 2, 34, 34) < 0.05).float().to_sparse()).step()
    highest = worker.peak_mb()
    exact = worker.forget_peak()
    before = worker.peak_mb()
    runs = contender(module, settings, torch.load(settings["input"], weights_only=True))
    print(json.dumps(worker.about(module)), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked == "rates":
            answer: dict = {"rates": runs.rates()}
        else:
            seconds = []
            for _ in range(asked):
                start = time.perf_counter()
                runs.step()
                seconds.append(time.perf_counter() - start)
            peak = worker.peak_mb()
            answer = {"seconds": seconds, "peak_mb": max(highest, peak), "grown_mb": peak - before}
            answer["grown_exact"] = exact
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
