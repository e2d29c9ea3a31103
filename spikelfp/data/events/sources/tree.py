"""Trees of files: which part, class, session and subject each recording in a folder belongs to, by names alone."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp import checks
from spikelfp.data.events.readers import can_read
from spikelfp.data.events.sources.base import FRACTION, FileEntry, Indices, members_of_classes
from spikelfp.data.events.sources.files import hash_of, walk
from spikelfp.data.events.sources.label_table import LabelLine, read_table
from spikelfp.errors import DataError, UserError
from spikelfp.terminal import brief

PARTS = {
    "train": "train", "training": "train", "val": "train", "valid": "train", "validation": "train",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Part that a folder of this name, in lower case, belongs to; also of names that begin or end with it: ``X_train``."""

SPLITS = ("file", "session", "subject")
"""Values of ``split_by``: units that a split keeps whole."""


class Member(NamedTuple):
    """A recording in a tree.

    Attributes:
        entry: its place, named by its path within the tree; with a label table also its time.
        part: ``"train"``, ``"test"``, or ``""`` where the tree is not divided.
        kind: name of its class.
        within: its path without folders of parts and classes.
    """

    entry: FileEntry
    part: str
    kind: str
    within: str

    @property
    def session(self) -> str:
        """Folders that are neither parts nor classes; without any, the name of the file without its ending."""
        folder, _, name = self.within.rpartition("/")
        return folder or Path(name).stem

    @property
    def subject(self) -> str:
        """First of these folders; without any, the name of the file up to its first ``_``, ``-`` or space."""
        first, slash, _ = self.within.partition("/")
        return first if slash else re.split(r"[_\- ]", Path(first).stem, maxsplit=1)[0]


@dataclass
class Tree:
    """Recordings in a folder.

    Attributes:
        members: the recordings, in the order of their paths.
        divided: whether folders are parts.
        empty: folders of classes that hold no recording.
        ignored: files that are no recordings, each with the reason.
        broken: links that lead nowhere, and recordings or lines that a label table lacks.
    """

    members: list[Member] = field(default_factory=list)
    divided: bool = False
    empty: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def paths(self) -> list[str]:
        """Files, each once."""
        return list(dict.fromkeys(member.entry.path for member in self.members))


class _File(NamedTuple):
    """A file that can be read: its path within the tree, its part, and the names below the part."""

    name: str
    part: str
    below: tuple[str, ...]


def list_tree(root: Path, class_level: int | None = None, label_table: str | None = None) -> Tree:
    """List the recordings in the folder ``root`` without opening any.

    The folder may be divided into parts, by folders directly in it (``train``, ``test``, ``X_train``, …) or by those in
    the folders of classes. Below the parts, the class is the name of the folder of level ``class_level``, 1 for the
    first. Without a level, it is the only one where the names make two classes or more; folders below that hold only
    some of the files are no level.

    Args:
        root: the folder.
        class_level: number of the level from 1 on, without that of parts.
        label_table: name of a table in ``root`` that says the classes, or the ending of tables beside recordings.

    Raises:
        DataError: for a folder that is divided but lacks a part, or holds other recordings beside the parts; for
            several levels that may be the classes, which it lists; for a label table that is missing or damaged.
        UserError: for a level below 1, or a level with a table.
    """
    if class_level is not None and checks.whole("class_level", class_level, None) < 1:
        raise UserError(f"the folders directly in a folder are level 1, got class level {class_level}")
    if not isinstance(label_table, str | None):
        raise UserError(f"label_table is the name of a table, a text, got {brief(label_table)}")
    if class_level is not None and label_table is not None:
        raise UserError("a label table says the classes, so that no level of folders does: leave out one of them")
    tree = Tree()
    parts = _parts(root, tree, deep=label_table is None)
    files, folders = _files(root, parts, tree, flat=label_table is not None)
    tree.divided = parts != {"": ""}
    if label_table is not None:
        _by_table(root, files, label_table, tree)
        return tree
    if not tree.divided and class_level is None and _divided_inside(files):
        tree.divided = True
        files = [
            each._replace(part=PARTS[each.below[1].lower()], below=(each.below[0], *each.below[2:])) for each in files
        ]
    level = _class_level(root, files) if class_level is None else class_level
    for name, part, below in files:
        if len(below) <= level:
            where = "in no folder of a class" if level == 1 else f"in no folder of level {level}, that of the classes"
            tree.ignored.append(f"{root / name}: {where}")
            continue
        kind, within = below[level - 1], "/".join((*below[: level - 1], *below[level:]))
        tree.members.append(Member(FileEntry(str(root / name), name), part, kind, within))
    if level == 1:
        depth = 1 if parts == {"": ""} else 2
        used = {str(root.joinpath(*member.entry.name.split("/")[:depth])) for member in tree.members}
        tree.empty = [folder for folder in folders if folder not in used]
    return tree


def _part_of(name: str) -> tuple[str, str] | None:
    """Part that a folder of this ``name`` belongs to, and what else is in the name; ``None`` of other names."""
    words = [word for word in re.split(r"[_\-. ]+|(?<=[a-z])(?=[A-Z])", name) if word]
    for place in (len(words) - 1, 0):
        if words and words[place].lower() in PARTS:
            rest = words[:place] + words[place + 1 :]
            return PARTS[words[place].lower()], "_".join(rest).lower()
    return None


def _parts(root: Path, tree: Tree, deep: bool) -> dict[str, str]:
    """Folders in ``root`` that are parts, each with its part; ``{"": ""}`` where none is.

    Args:
        root: the folder.
        tree: to which recordings beside the parts are added as ignored.
        deep: whether parts hold folders of classes.
    """
    folders = walk(root, deep=False).folders
    named = {name: found for name in folders if (found := _part_of(name)) is not None}
    parts = {name: part for name, (part, rest) in named.items() if not rest}
    if not parts:  # X_train and X_test, of one X
        several = {rest for part, rest in named.values() if part == "train"} & {
            rest for part, rest in named.values() if part == "test"
        }
        parts = {name: part for name, (part, rest) in named.items() if several == {rest}}
    if deep and not any(walk(root / name, deep=False).folders for name in parts):
        return {"": ""}  # no folders within: these are classes of such a name, or there are none
    if not parts:
        return {"": ""}
    others = [name for name in folders if name not in parts]
    for name in others:
        if any(can_read(file) for file in walk(root / name).files):
            raise DataError(f"{root}: holds {', '.join(parts)} and beside that {name}: neither parts nor classes alone")
        tree.ignored.append(f"{root / name}: a folder without recordings, beside {', '.join(parts)}")
    learnt = [name for name, part in parts.items() if part == "train" and "val" not in name.lower()]
    for part, there in (("train", learnt), ("test", "test" in parts.values())):
        if not there:
            raise DataError(f"{root}: holds {', '.join(parts)}, but no folder {part}")
    return parts


def _files(root: Path, parts: dict[str, str], tree: Tree, flat: bool) -> tuple[list[_File], list[str]]:
    """Files in the ``parts`` that can be read, and the folders directly in the parts.

    Args:
        root: the folder.
        parts: folders of parts.
        tree: to which all other files are added.
        flat: whether recordings may lie directly in the parts.
    """
    files, folders = list[_File](), list[str]()
    for inside, part in parts.items():
        prefix = f"{inside}/" if inside else ""
        content = walk(root / inside)
        tree.broken += [f"{root / inside / name}: a link that leads nowhere" for name in content.broken]
        folders += [str(root / inside / name) for name in content.folders]
        for name in content.files:
            path = root / inside / name
            if "/" not in name and not flat:
                tree.ignored.append(f"{path}: in no folder of a class")
            elif not can_read(path):
                tree.ignored.append(f"{path}: no reader for files that end in {path.suffix!r}")
            else:
                files.append(_File(prefix + name, part, tuple(name.split("/"))))
    return files, folders


def _divided_inside(files: Sequence[_File]) -> bool:
    """Whether the folders of the second level are the parts of each class: ``cup/train``, ``cup/test``."""
    names = {each.below[1].lower() if len(each.below) > 2 else "" for each in files}
    return bool(names) and names <= set(PARTS) and {PARTS[name] for name in names} == {"train", "test"}


def _class_level(root: Path, files: Sequence[_File]) -> int:
    """The level of folders that are the classes, which must be clear from their names."""
    depth = min((len(each.below) - 1 for each in files), default=1)
    readings = {}
    for level in range(1, depth + 1):
        names = sorted({each.below[level - 1] for each in files}, key=_order)
        if len(names) > 1:
            readings[level] = names
    if len(readings) < 2:
        return next(iter(readings), 1)
    told = [f"{_some(names)} (--class-level {level})" for level, names in readings.items()]
    raise DataError(
        f"{root}: holds folders in folders, and the classes may be {' or '.join(told)}: say which, and the other "
        "folders are sessions (--split-by session keeps each on one side)"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", … ({len(names)} of them)" if len(names) > 3 else "")


def _order(name: str) -> tuple[int, int, str]:
    """Key that sorts numbers by their value, before other names."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


# Classes from label tables


def _by_table(root: Path, files: Sequence[_File], label_table: str, tree: Tree) -> None:
    """Add the intervals of label tables to the members of ``tree``."""
    whole = root / label_table
    if whole.is_file():
        tables = _of_one_table(root, whole, [each for each in files if each.name != label_table], tree)
    else:
        tables = _beside(root, files, label_table, tree)
    for each, table, lines in tables:
        for line in lines:
            entry = FileEntry(str(root / each.name), each.name, f"{line.start} to {line.end} µs")
            tree.members.append(Member(entry, each.part, line.label, "/".join(each.below)))
        if not lines:
            tree.broken.append(f"{root / each.name}: in no line of {table}")
    tables_named = str(whole) if whole.is_file() else label_table
    tree.ignored = [each for each in tree.ignored if not each.split(": no reader")[0].endswith(tables_named)]


_Labelled = list[tuple[_File, Path, list[LabelLine]]]


def _of_one_table(root: Path, table: Path, files: Sequence[_File], tree: Tree) -> _Labelled:
    """Recordings with their lines of one table for all, which names them by path, by name, or without the ending."""
    known: dict[str, list[_File]] = {}
    for each in files:
        path = Path(each.name)
        for name in {each.name, str(path.with_suffix("")), path.name, path.stem}:
            known.setdefault(name, []).append(each)
    lines: dict[str, list[LabelLine]] = {each.name: [] for each in files}
    for line in read_table(table, of_several=True):
        found = known.get(os.path.normpath(line.file).replace(os.sep, "/"), [])
        if len(found) > 1:
            raise DataError(
                f"{table}: line {line.line} names {line.file}, which may be {found[0].name} or {found[1].name}: write "
                "the path"
            )
        if found:
            lines[found[0].name].append(line)
        else:
            tree.broken.append(f"{table}: line {line.line} names {line.file}, which is not in {root}")
    return [(each, table, lines[each.name]) for each in files]


def _beside(root: Path, files: Sequence[_File], ending: str, tree: Tree) -> _Labelled:
    """Recordings with the lines of the table beside each."""
    found = []
    for each in files:
        if each.name.endswith(ending):
            continue
        path = root / each.name
        table = path.with_name(path.stem + ending)
        if not table.is_file():
            tree.broken.append(f"{path}: no label table {table.name} beside it, and no table {ending} in {root}")
            continue
        found.append((each, table, read_table(table, of_several=False)))
    return found


# Parts of what is not divided


def by_name(names: Sequence[str], labels: NDArray[np.int64], class_names: Sequence[str]) -> tuple[Indices, Indices]:
    """Split recordings by their names, so that files that are added or removed move no other.

    A recording is for the test when the hash of its class and of its name is a multiple of 5. Every class has at least
    one recording in either part: if the hashes leave a part of a class empty, the recording of the smallest hash is for
    the test, or the one of the largest hash for the training.

    Args:
        names: of the recordings within their class.
        labels: int64 ``[N]``.
        class_names: one for each label.

    Returns:
        Numbers of the recordings for training and for the test, each rising.

    Raises:
        DataError: for a class with a single recording, which it names.
    """
    test = np.zeros(len(labels), bool)
    for name, members in members_of_classes(labels, class_names):
        hashes = [int(hash_of(_normal(name), _normal(names[member])), 16) for member in members]
        chosen = np.array([number % FRACTION == 0 for number in hashes])
        chosen[hashes.index(min(hashes))] |= not chosen.any()
        chosen[hashes.index(max(hashes))] &= not chosen.all()
        test[members[chosen]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


def by_group(
    groups: Sequence[str], labels: NDArray[np.int64], class_names: Sequence[str], what: str
) -> tuple[Indices, Indices]:
    """Split recordings so that all of a group, a session for example, are in one part.

    A group is for the test when the hash of its name is a multiple of 5; if none is, the one of the smallest hash. No
    group is taken that would leave a class without training recordings; the next one is then.

    Args:
        groups: name of the group of each recording.
        labels: int64 ``[N]``.
        class_names: one for each label.
        what: a group in a word, for messages.

    Returns:
        Numbers of the recordings for training and for the test, each rising.

    Raises:
        DataError: for a single group, or classes that no group can be spared of.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise DataError(
            f"all recordings are of one {what}, {names[0]!r}: choose another --split-by, or make train/ and test/"
        )
    owner = np.array([names.index(name) for name in groups])
    hashes = {number: int(hash_of(_normal(name)), 16) for number, name in enumerate(names)}
    counts = np.zeros((len(names), len(class_names)), np.int64)
    np.add.at(counts, (owner, labels), 1)
    left, test = counts.sum(0), list[int]()
    for number in sorted(hashes, key=lambda number: (hashes[number] % FRACTION != 0, hashes[number])):
        enough = hashes[number] % FRACTION != 0 and bool(test)
        if enough or ((left - counts[number] == 0) & (counts[number] > 0)).any():
            continue
        test.append(number)
        left = left - counts[number]
    if not test:
        few = int(np.argmin((counts > 0).sum(0)))
        raise DataError(
            f"class {class_names[few]!r} was recorded in one {what} alone, so that none can be kept for the test: "
            "record it in another, or choose another --split-by"
        )
    chosen = np.isin(owner, test)
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # file systems write accents in several ways
