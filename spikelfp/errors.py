"""Errors of this project. Each says what was wrong, with which value, and what to do about it.

``UserError`` and its children are a user's mistake: the commands print their text as one line and exit with 2.
"""

from __future__ import annotations


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
