"""Errors and warnings of this project; each says what was wrong, with which value, and what to do about it.

:class:`UserError` and its subclasses are a user's mistakes: the commands print their text in one line and exit with
status 2. :func:`failure` describes failures of the machine, such as a lack of memory.
"""

from __future__ import annotations

import errno


class UserError(ValueError):
    """A mistake that the user can correct: in a value, a name, a file or a folder."""


class ShapeError(UserError):
    """A tensor whose shape or values do not fit the layer, the reward or the data set that takes it."""


class UnknownNameError(UserError):
    """A name that is not registered; the text suggests the nearest valid one."""


class KeywordError(UserError, TypeError):
    """A keyword that a function or class does not have; the text suggests the nearest one."""


class PluginError(UserError, ImportError):
    """A plug-in that does not exist, cannot be imported, or is needed and was not named."""


class GraphError(UserError, RuntimeError):
    """A graph through which a reward was propagated before, or whose weights have changed since the network ran."""


class DataError(UserError):
    """A data file that is missing, truncated, inconsistent or of another format."""


class RunFolderError(UserError):
    """A run folder that exists already, is incomplete, or belongs to another configuration."""


class CheckpointError(UserError):
    """A checkpoint that cannot be read, or was written by another model."""


class SaveError(UserError, OSError):
    """A file that could not be written (disk full, read-only, no permission); the file before it is intact."""


class MachineError(RuntimeError):
    """A failure of the machine, such as a lack of memory or a killed process; the text says how to go on."""


class NonFiniteError(ArithmeticError):
    """The first NaN or infinity in training; the text names the tensor, its layer and the step."""


class LearningWarning(UserWarning):
    """A choice with which a network learns hardly or only in part; the text says what will happen."""


class DataWarning(UserWarning):
    """Data other than that of the training, where this may be intended."""


class PluginWarning(UserWarning):
    """An installed plug-in that cannot be imported and is left out."""


class SignWarning(UserWarning):
    """An activation that does not keep the sign, as LFP requires (LFP v3, section 3.4)."""


_MEMORY = ("can't allocate memory", "out of memory", "not enough memory", "cannot allocate memory", "alloc failed")
"""Parts of the messages of torch, numpy and CUDA for a lack of memory."""

_LESS = "use less: a smaller --batch-size, --accumulate, --recompute, fewer --workers, or another machine"


def failure(error: BaseException) -> str | None:
    """Describe a failure of the machine in one line, or return ``None`` for any other error.

    Failures are a lack of memory on the CPU or a GPU, a killed process that loaded data, too many open files, and
    errors of disks and devices.
    """
    text = " ".join(str(error).split())
    lower = text.lower()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory{_asked(text)}: {_LESS}"
    if isinstance(error, RuntimeError):
        if "dataloader worker" in lower:
            return f"a process that loads data was killed, often for want of memory: {_shortened(text)}: {_LESS}"
        if any(each in lower for each in _MEMORY):
            return f"out of memory{_asked(text)}: {_LESS}"
        if "unable to open shared memory" in lower or "too many open files" in lower:
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
    """Put the text of an error, which may name the amount of memory, in brackets."""
    return f" ({_shortened(text)})" if text else ""


def _shortened(text: str, most: int = 160) -> str:
    """Cut a long text after a word."""
    return text if len(text) <= most else text[:most].rsplit(" ", 1)[0] + " …"
