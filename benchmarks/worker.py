"""One contender in a process of its own: ``worker.py FILE NETWORK``, the network as JSON.

A line of JSON is written when it is ready, then one for each line read: a number of steps to make, or ``"rates"``,
for the spike rates at the start and now; asked last, since it takes memory that is no part of a step.
Runs under any interpreter that has the contender's packages; it needs nothing of this project unless the
contender does. Linux and macOS.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from importlib import metadata
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


def peak_mb() -> float:
    """The most memory this process has held so far, in MiB."""
    if STATUS.exists():  # Linux, where ru_maxrss would begin with that of the parent
        found = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(found.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def forget_peak() -> bool:
    """Let the peak start again from what is held now, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def about(module) -> dict:
    """What a contender says when it is ready."""
    versions = {name: metadata.version(name) for name in module.PACKAGES}
    return {"versions": versions, "threads": torch.get_num_threads()}


def batch(network: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Images ``[B, 1, 28, 28]``, or sequences ``[T, B, channels]``, and labels ``[B]``: those of the start, else random
    ones, a fifth of the pixels lit.
    """
    torch.manual_seed(0)
    if network["kind"] == "rnn" and "start" not in network:
        events = (torch.rand(network["steps"], network["batch"], network["sizes"][0]) < 0.05).float()
        return events, torch.randint(network["sizes"][-1], (network["batch"],))
    if "start" in network:
        saved = torch.load(network["start"], weights_only=True)
        return saved["images"], saved["labels"]
    images = torch.rand(network["batch"], 1, 28, 28) * (torch.rand(network["batch"], 1, 28, 28) < 0.2)
    return images, torch.randint(10, (network["batch"],))


def tiny(network: dict) -> dict:
    """A network of the same kind that needs hardly any memory."""
    small = {key: value for key, value in network.items() if key != "start"} | {"steps": 2, "batch": 2}
    sizes = small.get("sizes", [])
    return small | ({"sizes": [sizes[0], *(8 for _ in sizes[1:-1]), sizes[-1]]} if sizes else {})


def main() -> None:
    """Answer until the input ends."""
    file, network = Path(sys.argv[1]), json.loads(sys.argv[2])
    sys.path[0] = str(file.parent)  # contenders share a module there
    module = importlib.import_module(file.stem)
    # A step of a tiny network first: what packages load at first use is not memory of a step.
    module.Contender(tiny(network), *batch(tiny(network))).step()
    images, labels = batch(network)
    highest = peak_mb()
    exact = forget_peak()  # else a peak of the imports may hide a part of what follows
    before = peak_mb()
    contender = module.Contender(network, images, labels)
    print(json.dumps(about(module)), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked == "rates":
            answer: object = None
            if hasattr(contender, "rates"):
                answer = {"rates": module.Contender(network, images, labels).rates(), "rates_after": contender.rates()}
        else:
            seconds = []
            for _ in range(asked):
                start = time.perf_counter()
                contender.step()
                seconds.append(time.perf_counter() - start)
            peak = peak_mb()
            memory = {"peak_mb": max(highest, peak), "grown_mb": peak - before, "grown_exact": exact}
            answer = {"seconds": seconds, **memory}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
