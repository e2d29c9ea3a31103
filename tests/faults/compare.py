"""What two folders hold, in a form that can be compared: everything but times, process numbers and packings."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import yaml

TIMES = {
    "seconds",
    "seconds_per_epoch",
    "seconds_training",
    "seconds_recording",
    "peak_memory_mb",
    "made",
    "used",
    "checksum",
}
"""Names of values that differ between two runs of the same; a checkpoint's checksum is over its seconds too."""

PLACES = {"data_dir", "cache_dir"}
"""Options that are absolute paths, of a folder that each copy has elsewhere."""

OWN = {"used", "filling", ".lock", "known-files.sqlite3"}
"""Files by which processes keep each other out, and what is remembered of files by their times."""

IN_PROGRESS = (".part", ".old", ".new", ".tmp")
"""Endings of what a write in progress makes; told apart from other differences."""


def content(path: Path, ignore: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The files below ``path``, by name within it, each as plain values; empty where there is nothing.

    Args:
        path: a folder, or a file.
        ignore: names of files that are left out.
    """
    if path.is_file():
        return {"": _values(path)}
    if not path.is_dir():
        return {}
    files = sorted(each for each in path.rglob("*") if not each.is_dir() or each.is_symlink())
    return {
        each.relative_to(path).as_posix(): _values(each)
        for each in files
        if each.name not in OWN
        and each.name not in ignore
        and not any(part.endswith(IN_PROGRESS) for part in each.relative_to(path).parts)
    }


def difference(one: Any, other: Any, where: str = "") -> str:
    """Where two contents differ first, in words; empty when they do not."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}, key=str):
            if key not in one or key not in other:
                return f"{where}/{key} is only in the {'first' if key in one else 'second'}"
            if found := difference(one[key], other[key], f"{where}/{key}"):
                return found
        return ""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        if len(one) != len(other):
            return f"{where} has {len(one)} entries against {len(other)}"
        return next(
            (
                found
                for i, pair in enumerate(zip(one, other, strict=True))
                if (found := difference(*pair, f"{where}/{i}"))
            ),
            "",
        )
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        if same and torch.equal(_bits(one), _bits(other)):
            return ""
        return f"{where} is another tensor"
    if type(one) is type(other) and (one == other or (one != one and other != other)):
        return ""
    return f"{where} is {_short(one)} against {_short(other)}"


def left_over(path: Path) -> list[str]:
    """Files and folders below ``path`` that a write in progress has left."""
    return sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.name.endswith(IN_PROGRESS))


def _values(path: Path) -> Any:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if not path.is_file():
        return "no file"
    if path.suffix == ".pt":
        return _timeless(torch.load(path, weights_only=True, map_location="cpu"))
    if path.name == "metrics.csv":
        with open(path, newline="") as file:
            return [_timeless(row) for row in csv.DictReader(file)]
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text()))
    if path.suffix == ".html":
        return "a page"  # it tells seconds
    if path.name == "config.yaml":
        return _without(yaml.safe_load(path.read_text()), PLACES)
    if path.name == "manifest.yaml":
        return _timeless(yaml.safe_load(path.read_text()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _timeless(value: Any) -> Any:
    return _without(value, TIMES)


def _without(value: Any, names: Collection[str]) -> Any:
    """A value without the entries of those names, at whatever depth."""
    if isinstance(value, dict):
        return {key: _without(inner, names) for key, inner in value.items() if key not in names}
    if isinstance(value, (list, tuple)):
        return [_without(each, names) for each in value]
    return value


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else tensor.reshape(-1)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}…"
