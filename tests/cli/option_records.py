"""Record the options of all commands in the two packages: ``python -m tests.cli.option_records``, or ``make options``.

``options.json`` of a package lets its commands answer ``--help`` and mistakes without torch. It holds the options as
the configurations tell them, and digests of the files that they are written in: those of the configurations, of the
things that they choose by name, and the files from which these take what stands outside of their functions, such as
the type of an argument with its help text. While all digests hold, the record is used. A change inside of a function
does not matter, but in the files that make options of what is written in the others.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hw_export import cli as hw_export_cli
from spikelfp import cli, command
from spikelfp.command import RECORD, OptionedCommand, digest, option_row, outline_of
from spikelfp.configuration import Schema
from spikelfp.options import Option
from spikelfp.registry import Registry, Selected

PACKAGES = ("spikelfp", "hw_export")
MAKERS = (Schema, Registry, Option, OptionedCommand)
"""Classes that make options of what is written elsewhere."""
APPS = {"spikelfp": cli.app, "hw-export": hw_export_cli.app}


def records() -> dict[Path, str]:
    """The text of the record of each package, by its path."""
    texts = {}
    for package in {each.package for each in command.optioned}:
        own = [each for each in command.optioned if each.package == package]
        files = sorted({file for each in own for file in _files(each.schema())})
        digests = {file.relative_to(package.parent).as_posix(): _digests(file) for file in files}
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in digests.items())
        rows = {each.name: [option_row(*option) for option in each.schema().options()] for each in own}
        commands = ",\n".join(
            f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in each) + "\n]"
            for name, each in rows.items()
        )
        texts[package / RECORD] = f'{{"files": {{\n{lines}\n}},\n"commands": {{\n{commands}\n}}}}\n'
    return texts


def _digests(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    whole_matters = file in {Path(inspect.getfile(each)) for each in MAKERS}
    return [digest(text)] if whole_matters else [digest(text), digest(outline_of(text))]


def _files(schema: Schema[Any]) -> set[Path]:
    """The files of our packages in which the options of a configuration, and the names that they take, are written."""
    things: list[Any] = [schema.kind, *schema.sections.values(), *MAKERS]
    for slot in schema.slots().values():
        things += [entry for each in (slot.registry, slot.option.names) for entry in _named_by(each)]
    homes = {home for thing in things for home in _homes(thing)}
    homes |= {taken for home in homes for taken in _taken_from(home)}
    homes |= {home.rpartition(".")[0] or home for home in homes}  # an __init__ says what is registered
    return {Path(str(sys.modules[home].__file__)) for home in homes}


def _named_by(names: Any) -> list[Any]:
    """The things that have the names that an option takes."""
    if isinstance(names, Selected):
        names = names._registry
    if isinstance(names, Registry):
        return [names, *names.entries()]
    if hasattr(type(names), "__module__") and _is_ours(type(names).__module__):  # names of several registries
        around = vars(sys.modules[type(names).__module__]).values()
        return [names, *(thing for each in around if isinstance(each, Registry) for thing in _named_by(each))]
    return []


def _homes(thing: Any) -> Iterator[str]:
    """The modules of ours in which a class, with what it derives from, or a function is written."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    kinds = thing.__mro__ if isinstance(thing, type) else (thing if inspect.isfunction(thing) else type(thing),)
    yield from (each.__module__ for each in kinds if _is_ours(each.__module__))


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def _taken_from(home: str) -> Iterator[str]:
    """The modules of ours from which a module takes names that it uses outside of its functions."""
    tree = ast.parse(Path(str(sys.modules[home].__file__)).read_text(encoding="utf-8"))
    used = {node.id for node in _outside_of_bodies(tree) if isinstance(node, ast.Name)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and _is_ours(node.module):
            for alias in node.names:
                if (alias.asname or alias.name) in used:
                    yield from _sources(node.module, alias.name)


def _outside_of_bodies(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.FunctionDef) and child in node.body):
            yield child
            yield from _outside_of_bodies(child)


def _sources(module: str, name: str) -> Iterator[str]:
    """The module that a name is imported from, and those that hand it on to that one."""
    if f"{module}.{name}" in sys.modules:
        yield f"{module}.{name}"
        return
    yield module
    tree = ast.parse(Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and _is_ours(node.module):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    yield from _sources(node.module, alias.name)


def main() -> None:
    """Write the records."""
    for path, text in records().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path}")


if __name__ == "__main__":
    main()
