"""Memory that is left on a device."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import torch

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]


def available(device: torch.device) -> int | None:
    """Bytes that can still be had on a device: free, or kept for files or torch's own use; ``None`` if not known.

    On the CPU it is the least of the machine's memory with its swap space and of what the control groups of this
    process and its limit of addresses (``ulimit -v``) leave.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    found = [bytes_ for bytes_ in (_of_machine(), _of_process(), *_of_groups()) if bytes_ is not None]
    return min(found, default=None)


def gigabytes(size: int) -> str:
    """Return a size in a unit that suits it."""
    if size >= 2**70:
        return "more than 10¹² GiB"
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20)} MiB"


def _of_machine() -> int | None:
    lines = _text(Path("/proc/meminfo")).splitlines()
    values = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value}
    if "MemAvailable" not in values:
        return None
    return 1024 * (int(values["MemAvailable"]) + int(values.get("SwapFree", 0)))


def _of_process() -> int | None:
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _text(Path("/proc/self/statm")).split()
    if limit == resource.RLIM_INFINITY or not pages:
        return None
    return max(0, limit - int(pages[0]) * resource.getpagesize())


def _of_groups() -> Iterable[int]:
    """Find the memory left to this process in each of its control groups that has a limit."""
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        number, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if number == "0":
            root, limit, usage, cache = Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"
        elif "memory" in kinds.split(","):
            root, cache = Path("/sys/fs/cgroup/memory"), "total_inactive_file"
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            most, used = _text(folder / limit).strip(), _text(folder / usage).strip()
            if most.isdigit() and used.isdigit():
                stat = dict(line.split()[:2] for line in _text(folder / "memory.stat").splitlines() if " " in line)
                yield int(most) - int(used) + int(stat.get(cache, 0))
            if folder == root:
                break


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
