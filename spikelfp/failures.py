"""Failures that are the machine's, not the program's, as one line that says what to do."""

from __future__ import annotations

import errno

_MEMORY = ("can't allocate memory", "out of memory", "not enough memory", "cannot allocate memory", "alloc failed")
"""Words by which torch, numpy and CUDA say that memory has run out."""

_LESS = "use less: a smaller --batch-size, --accumulate, --recompute, fewer --workers, or another machine"


def failure(error: BaseException) -> str | None:
    """Describe what the machine did not give, or return ``None`` for an error of any other kind.

    Known are memory that has run out, on the CPU and on a GPU, a process that loads data and was killed, too many open
    files, and errors of disks and devices.
    """
    text = " ".join(str(error).split())
    words = text.lower()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory{_asked(text)}: {_LESS}"
    if isinstance(error, RuntimeError):
        if "dataloader worker" in words:
            return f"a process that loads data was killed, often for want of memory: {_shortened(text)}: {_LESS}"
        if any(each in words for each in _MEMORY):
            return f"out of memory{_asked(text)}: {_LESS}"
        if "unable to open shared memory" in words or "too many open files" in words:
            return f"out of shared memory or open files ({_shortened(text)}): use fewer --workers"
    if isinstance(error, OSError) and error.errno is not None:
        if isinstance(error, ConnectionError) and not isinstance(error, BrokenPipeError):
            return f"another process has ended ({_shortened(text)}), often for want of memory: {_LESS}"
        if error.errno == errno.ENOMEM:
            return f"out of memory: {_LESS}"
        where = f" at {error.filename}" if error.filename else ""
        return f"the system says: {error.strerror or text}{where}"
    return None


def _asked(text: str) -> str:
    """Put the amount that was asked for in brackets, where the error says it."""
    return f" ({_shortened(text)})" if text else ""


def _shortened(text: str, most: int = 160) -> str:
    """The first sentences of a long text."""
    return text if len(text) <= most else text[:most].rsplit(" ", 1)[0] + " …"
