"""The files of a folder of recordings, by part and class."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from spikelfp.data.events.readers import can_read
from spikelfp.data.events.sources.files import Entry
from spikelfp.data.events.sources.walk import walk
from spikelfp.errors import DataError

PARTS = {"train": "train", "val": "train", "valid": "train", "validation": "train", "test": "test"}
"""The part that a folder of this name, in lower case, belongs to."""


@dataclass
class Listing:
    """What lies in a folder.

    Attributes:
        parts: ``"train"`` and ``"test"``, or ``""`` alone where the folder is not divided; of each the recordings by
            class. Entries are named by their paths within the folder.
        ignored: files that are no recordings, each with the reason.
        broken: links that lead nowhere.
    """

    parts: dict[str, dict[str, list[Entry]]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def divided(self) -> bool:
        """Whether the folder says which recordings are for the test."""
        return "" not in self.parts

    def files(self) -> list[str]:
        """The paths of all recordings."""
        return [entry.path for part in self.parts.values() for entries in part.values() for entry in entries]

    def remove(self, bad: set[str]) -> None:
        """Take the recordings at these paths out."""
        for part in self.parts.values():
            for name, entries in part.items():
                part[name] = [entry for entry in entries if entry.path not in bad]


def list_recordings(root: Path) -> Listing:
    """The recordings in the folder ``root``, none of them opened.

    Raises:
        DataError: for a folder that is divided but lacks a part, or holds other folders beside the parts.
    """
    listing = Listing()
    for inside, part in _divisions(root).items():
        classes = listing.parts.setdefault(part, {})
        prefix = f"{inside}/" if inside else ""
        found = walk(root / inside)
        listing.broken += [f"{root / inside / name}: a link that leads nowhere" for name in found.broken]
        for name in found.folders:
            classes.setdefault(name, [])
        for name in found.files:
            path = root / inside / name
            if "/" not in name:
                listing.ignored.append(f"{path}: in no folder of a class")
            elif not can_read(path):
                listing.ignored.append(f"{path}: no reader for files that end in {path.suffix!r}")
            else:
                classes[name.split("/", 1)[0]].append(Entry(str(path), prefix + name))
    return listing


def _divisions(root: Path) -> dict[str, str]:
    """The folders that hold the folders of the classes, each with its part: ``root`` itself, or its parts."""
    folders = walk(root, deep=False).folders
    parts = {name: PARTS[name.lower()] for name in folders if name.lower() in PARTS}
    if not any(walk(root / name, deep=False).folders for name in parts):
        return {"": ""}  # no folders within: these are classes of such a name, or there are none
    others = [name for name in folders if name not in parts]
    if others:
        raise DataError(
            f"{root}: holds {', '.join(parts)} and beside that {others[0]}: neither parts nor classes alone"
        )
    missing = {"train", "test"} - {name.lower() for name in parts}
    if missing:
        raise DataError(f"{root}: holds {', '.join(parts)}, but no folder {missing.pop()}")
    return parts
