"""Plug-ins: modules of users that register models, methods, rules, rewards, tasks, data sets, chips and more.

A plug-in is a module (``my_package.rules``) or a file (``mine.py``). It is imported

* if the user names it: with ``--plugin MODULE``, which can be given more than once; in the environment variable
  ``SPIKELFP_PLUGINS``, separated by ``:`` or, on Windows, ``;``; or with :func:`load` in Python;
* if it is installed: with an entry point of the group ``spikelfp.plugins``.

``config.yaml`` of a run lists the plug-ins that the run uses. **They are never imported because a file names them**:
a run folder may come from a stranger, and importing a module runs its code. A command that needs a plug-in says so, and
how to name it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from spikelfp.configuration import Schema
from spikelfp.errors import PluginError, PluginWarning, UserError
from spikelfp.registry import Registry, registering
from spikelfp.terminal import brief, first_line, plain

GROUP = "spikelfp.plugins"
"""Group of the entry points of installed plug-ins."""

VARIABLE = "SPIKELFP_PLUGINS"
"""Environment variable that names plug-ins."""

_LIBRARIES = (
    *(f"{Path(__file__).parents[1] / package}{os.sep}" for package in ("spikelfp", "hw_export")),
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
)
"""Folders of libraries: for an error that a plug-in causes in one of them, its own line that led there is named."""

_tried: set[str] = set()
"""Entry points that were imported, or of which a warning said that they cannot be."""

_loaded: dict[str, str] = {}
"""Names of the plug-ins that were imported, by their modules or files."""


def load(name: str) -> None:
    """Import a plug-in, once.

    Args:
        name: of a module, or path of a ``.py`` file, which may import other files of its folder.

    Raises:
        PluginError: for one that does not exist or cannot be imported; the text says where it fails.
    """
    is_file = name.endswith(".py") or os.sep in name
    known = _place(name) if is_file else name
    path = Path(known)
    if known in _loaded:
        return
    if is_file and not os.path.isfile(known):
        raise PluginError(f"the plug-in {plain(name)} is not there: --plugin takes a module or the path of a .py file")
    if not is_file and not _is_module(name):
        there = f"; did you mean {name}.py?" if os.path.isfile(f"{name}.py") else ""
        raise PluginError(f"there is no module {plain(name)} to be a plug-in: install it, or name a .py file{there}")
    with registering(known):
        try:
            _import_file(path) if is_file else importlib.import_module(name)
        except (Exception, SystemExit) as error:
            _remove_entries(known)
            raise PluginError(f"the plug-in {plain(name)} cannot be imported: {_import_failure(error)}") from error
    misfit = _misfit(known)
    if misfit:
        raise PluginError(f"the plug-in {plain(name)} cannot be used: {misfit}")
    _loaded[known] = known


def load_all(arguments: Sequence[str]) -> None:
    """Import the plug-ins that are installed, named by the environment, or named on the command line.

    An installed plug-in that cannot be imported is left out with a :class:`~spikelfp.errors.PluginWarning`.

    Args:
        arguments: of the command line, with ``--plugin MODULE`` or ``--plugin=MODULE`` among them.

    Raises:
        PluginError: as :func:`load`.
    """
    for point in entry_points(group=GROUP):
        source = point.module  # what --plugin takes where it is not installed
        if point.value in _tried:
            continue
        _tried.add(point.value)
        try:
            with registering(source):
                point.load()
        except (Exception, SystemExit) as error:
            if source not in _loaded:
                _remove_entries(source)
            text = f"the installed plug-in {point.name} ({point.value}) cannot be imported: {_import_failure(error)}"
            warnings.warn(text, PluginWarning, stacklevel=2)
            continue
        misfit = _misfit(source)
        if misfit:
            text = f"the installed plug-in {point.name} ({point.value}) cannot be used: {misfit}"
            warnings.warn(text, PluginWarning, stacklevel=2)
        else:
            _loaded[source] = source
    named = named_in(arguments)
    if "" in named:
        raise PluginError("--plugin is empty: name a module or the path of a .py file, or leave the option out")
    for name in [*filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)), *named]:
        load(name)


def loaded() -> list[str]:
    """List the plug-ins that were imported, as :func:`load` takes them."""
    return list(_loaded)


def any_named(arguments: Sequence[str]) -> bool:
    """Whether a plug-in is installed, named by the environment, or named on the command line."""
    return bool(entry_points(group=GROUP) or os.environ.get(VARIABLE) or named_in(arguments))


def blamed(error: BaseException) -> str | None:
    """Describe in one line an error that comes from the code of a plug-in; ``None`` for any other error."""
    files = {str(path): name for name in _loaded if (path := _file_of(name)) is not None}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    if not frames:
        return None
    frame = frames[-1]
    where = f"line {frame.lineno} of {plain(frame.filename)}, in {frame.name}"
    return f"the plug-in {plain(files[frame.filename])} fails: {type(error).__name__}: {first_line(error)} ({where})"


def _file_of(name: str) -> str | None:
    """Find the file of a loaded plug-in, as it stands in tracebacks."""
    module = sys.modules.get(name.partition(":")[0])
    return name if name.endswith(".py") else getattr(module, "__file__", None)


def named_in(arguments: Sequence[str]) -> list[str]:
    """Find the plug-ins that are named on a command line."""
    found = []
    for number, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument.startswith("--plugin="):
            found.append(argument.partition("=")[2])
        elif argument == "--plugin" and number + 1 < len(arguments):
            found.append(arguments[number + 1])
    return found


def used(names: Iterable[Any]) -> dict[str, list[str]]:
    """Find the plug-ins that registered any of some names.

    Args:
        names: values of options; those that are no text are ignored.

    Returns:
        For each plug-in the entries that it registered under these names, such as ``rule mine``.
    """
    chosen = {name.partition(":")[0] for name in names if isinstance(name, str)}
    found: dict[str, list[str]] = {}
    for registry in Registry.known:
        for name in registry:
            source = registry.source(name)
            if source is not None and name in chosen:
                found.setdefault(source, []).append(f"{registry.kind} {name}")
    return found


def check(recorded: Any, source: str) -> None:
    """Refuse a file whose plug-ins are not loaded.

    Args:
        recorded: the ``plugins`` of the file: names, or a mapping from names to what each registered.
        source: the file, for the error.

    Raises:
        PluginError: for the first missing one; the text says how to name it.
    """
    needed = (
        dict.fromkeys(map(str, recorded))
        if isinstance(recorded, list) and all(isinstance(name, str) for name in recorded)
        else recorded
    )
    if not isinstance(needed, Mapping) or not all(isinstance(name, str) for name in needed):
        raise PluginError(f"{source}: plugins are names of modules or .py files, got {brief(recorded)}")
    for name, things in needed.items():
        lacking = [each for each in things if not _is_known(each)] if isinstance(things, list) else [""]
        at_hand = name in _loaded or _place(name) in _loaded
        if lacking and not at_hand:
            what = f"{plain(lacking[0])} of the plug-in" if lacking[0] else "plug-in"
            raise PluginError(
                f"{source} needs the {what} {plain(name)}: if you trust its code, say --plugin {plain(name)} "
                "(in Python spikelfp.plugins.load)"
            )


def _place(name: str) -> str:
    """Write the absolute path of a file; a name that is no path stays as it is."""
    try:
        return str(Path(name).expanduser().resolve())
    except (OSError, RuntimeError, ValueError):
        return name


def _is_known(thing: Any) -> bool:
    """Whether something such as ``rule mine`` is registered."""
    kind, _, name = str(thing).rpartition(" ")
    return any(registry.kind == kind and name in registry for registry in Registry.known)


def _misfit(source: str) -> str:
    """Find the conflict of a plug-in's options with the others, and remove its entries; empty without a conflict."""
    try:
        for schema in Schema.known:
            schema.slots()
    except UserError as error:
        _remove_entries(source)
        return str(error)
    return ""


def _remove_entries(source: str) -> None:
    """Remove the entries that a plug-in registered before it failed."""
    for registry in Registry.known:
        for name in registry:
            if registry.source(name) == source:
                registry.remove(name)
    sys.modules.pop(source, None)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _import_file(path: Path) -> None:
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))


def _import_failure(error: BaseException) -> str:
    """Describe an error of an import in one line, with the line of the plug-in that caused it."""
    frames = traceback.extract_tb(error.__traceback__)
    here = [each for each in frames if not each.filename.startswith((*_LIBRARIES, "<frozen"))]
    last = (here or frames)[-1:]
    where = f" (line {last[0].lineno} of {plain(last[0].filename)})" if last else ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f" (line {error.lineno} of {plain(error.filename)})"
        return f"SyntaxError: {plain(error.msg)}{where}"
    return f"{type(error).__name__}: {first_line(error)}{where}"
