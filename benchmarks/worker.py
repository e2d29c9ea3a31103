"""Worker process of a contender: ``worker.py FILE NETWORK``, the network as JSON.

It writes a line of JSON when it is ready, then one for each line of input: a number of steps to make, or ``"rates"``
for the spike rates at the start and now. Rates come last, because they take memory that is no part of a step. The
worker runs under any interpreter that has the contender's packages, without this project unless the contender needs
it. Linux and macOS.
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
    """Return the peak of memory of this process so far, in MiB."""
    if STATUS.exists():  # Linux, where ru_maxrss would begin with that of the parent
        found = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(found.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def forget_peak() -> bool:
    """Reset the peak of memory, where the system can (Linux); return whether it was reset."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def about(module) -> dict:
    """Return versions and threads of a contender, its first answer."""
    versions = {name: metadata.version(name) for name in module.PACKAGES}
    return {"versions": versions, "threads": torch.get_num_threads()}


def batch(network: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Make images ``[B, 1, 28, 28]``, or sequences ``[T, B, channels]``, and labels ``[B]``.

    They come from the file of starting weights, or else are random, with a fifth of the pixels lit.
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
    """Describe a network of the same kind that needs hardly any memory."""
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
