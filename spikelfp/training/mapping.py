"""A configuration from plain values: those of a YAML file, or of the command line."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from spikelfp.errors import UserError
from spikelfp.registry import unknown_name
from spikelfp.training.config import RunConfig


def from_mapping(values: dict[str, Any], source: str) -> RunConfig:
    """A configuration from plain values, such as a YAML file's; ``source`` is named in errors."""
    known = {f.name: f for f in fields(RunConfig)}
    clean = {str(key).replace("-", "_"): value for key, value in values.items()}
    for key in clean:
        if key not in known:
            raise unknown_name(f"option in {source}", key, known)
    try:
        return RunConfig(**{key: _typed(known[key], value) for key, value in clean.items()})
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{source}: {error}") from None


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The plain values of a YAML file, or an error that names it."""
    try:
        values = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} should hold 'option: value' lines, found {type(values).__name__}")
    return values


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "tuple[int, ...]": "whole numbers, such as 1000,1000",
}


def _typed(f: Any, value: Any) -> Any:
    """``value`` as the type of field ``f``; YAML reads ``1e-3`` as text."""
    if value is None:
        return None
    kind = f.type.split(" | ")[0]
    if kind == "bool":
        if not isinstance(value, bool):
            raise UserError(f"{f.name} is true or false, got {value!r}")
        return value
    try:
        if kind == "tuple[int, ...]":
            return tuple(int(part) for part in (value.split(",") if isinstance(value, str) else value))
        if kind == "int" and int(value) != float(value):
            raise ValueError
        return {"int": int, "float": float, "str": str}[kind](value)
    except (TypeError, ValueError):
        raise UserError(f"{f.name.replace('_', '-')} takes {_KINDS[kind]}, got {value!r}") from None
