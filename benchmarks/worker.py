"""One contender in a process of its own: reads a number of steps from each line, makes them, prints the times.

Runs under any interpreter that has the contender's packages; it needs nothing of this project unless the
contender does.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import sys
import time

import torch


def main() -> None:
    """``worker.py FILE NETWORK``, the network as JSON."""
    file, network = sys.argv[1], json.loads(sys.argv[2])
    spec = importlib.util.spec_from_file_location("contender", file)
    contender = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(contender)
    torch.manual_seed(0)
    # As sparse as MNIST: a fifth of the pixels is not black.
    images = torch.rand(network["batch"], 1, 28, 28) * (torch.rand(network["batch"], 1, 28, 28) < 0.2)
    step = contender.build(network, images, torch.randint(10, (network["batch"],)))
    print("ready", flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mb": peak}), flush=True)


if __name__ == "__main__":
    main()
