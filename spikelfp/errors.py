"""Errors of this project. Each says what was wrong, with which value, and what to do about it.

``UserError`` and its children are a user's mistake: the commands print their text as one line and exit with 2. Failures
that are the machine's, not the program's, are told by :func:`failure`.
"""

from __future__ import annotations

import errno


class UserError(ValueError):
    """Something the user can put right: a value, a name, a file, a folder."""


class ShapeError(UserError):
    """A tensor whose shape or values do not fit the layer, the reward or the data set it was handed to."""


class UnknownNameError(UserError):
    """A name that no registry holds; the text suggests the nearest valid one."""


class KeywordError(UserError, TypeError):
    """A keyword that a function or class does not have; the text suggests the nearest one."""


class PluginError(UserError, ImportError):
    """A plug-in that is not there, cannot be imported, or is needed and was not named."""


class GraphError(UserError, RuntimeError):
    """A graph that was sent back before, or whose weights have changed since the network ran."""


class DataError(UserError):
    """A data file that is missing, truncated, foreign or inconsistent."""


class RunFolderError(UserError):
    """A run folder that exists already, is incomplete, or belongs to another configuration."""


class CheckpointError(UserError):
    """A checkpoint that cannot be read, or was written by another model."""


class SaveError(UserError, OSError):
    """A file that could not be written (disk full, read-only, no permission); what was there before is intact."""


class MachineError(RuntimeError):
    """A failure of the machine: no memory, or a process that was killed. The text says how to go on."""


class NonFiniteError(ArithmeticError):
    """The first NaN or infinity seen in training: which tensor of which layer, at which step."""


class LearningWarning(UserWarning):
    """A choice with which a network will hardly learn, or learn in part only; the text says what will happen."""


class DataWarning(UserWarning):
    """Data that is not what a run was trained on, where that may be what is wanted."""


class PluginWarning(UserWarning):
    """An installed plug-in that cannot be imported, and is left out."""


class SignWarning(UserWarning):
    """An activation breaks LFP's requirement that it keeps the sign (LFP v3, section 3.4)."""


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
