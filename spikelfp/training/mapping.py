"""A configuration from plain values: those of a YAML file, or of the command line."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any

from spikelfp.errors import UserError
from spikelfp.registry import unknown_name
from spikelfp.training.config import RunConfig
from spikelfp.training.owners import check_owned, without_unowned
from spikelfp.training.values import plain_value
from spikelfp.untrusted import read_yaml


def from_mapping(
    values: dict[str, Any], source: str, *, given: Collection[str] = (), recorded: bool = False
) -> RunConfig:
    """A configuration from plain values, such as a YAML file's.

    Args:
        values: by the names of options, with ``-`` or ``_``.
        source: named in errors.
        given: names of the values that somebody chose now: they are refused if they would do nothing, even at their
            default.
        recorded: the other values are a run's record, which lists all options: those that did nothing in it are left
            out.

    Raises:
        UserError: for options that there are not, values they do not take, and options that would do nothing.
    """
    known = {f.name: f for f in fields(RunConfig)}
    clean = {str(key).replace("-", "_"): value for key, value in values.items()}
    chosen = {name.replace("-", "_") for name in given}
    for key in clean:
        if key not in known:
            raise unknown_name(f"option in {source}", key, known)
    clean = {key: plain_value(known[key], value) for key, value in clean.items()}
    if recorded:
        clean = without_unowned(clean, known.values(), chosen)
    config = RunConfig(**clean)
    check_owned(config, chosen)
    return config


def is_record(values: dict[str, Any]) -> bool:
    """Whether the values of a YAML file are a run's ``config.yaml``, which lists all options, chosen or not."""
    return {"shape", "classes"} <= values.keys()


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The plain values of a YAML file, or an error that names it."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(
            f"{path} should hold 'option: value' lines, found "
            + ("nothing" if values is None else type(values).__name__)
        )
    return values
