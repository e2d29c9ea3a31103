"""Values as one line of text that says how they are made, the same in every process."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch


def described(value: Any) -> str:
    """Write ``value`` as it would be typed: objects by the arguments of their constructor, functions by their name.

    Two values that are made alike give the same text in any process, so that checkpoints can compare them. Arguments
    that have their default value are left out, so that one added later changes no text. A class that makes what another
    one made before names that, ``described_as``.

    >>> described(partial(step, gamma=0.5))
    'step(gamma=0.5)'
    """
    if isinstance(value, functools.partial):
        given = [*map(described, value.args), *(f"{name}={described(own)}" for name, own in value.keywords.items())]
        return f"{described(value.func)}({', '.join(given)})"
    if isinstance(value, type) or inspect.isroutine(value):
        return str(getattr(value, "__name__", type(value).__name__))
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        inside = ", ".join(map(described, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {described(own)}" for key, own in value.items()) + "}"
    if isinstance(value, torch.Tensor):
        return f"tensor({value.tolist()})" if value.numel() <= 8 else f"tensor of shape {list(value.shape)}"
    if isinstance(value, torch.nn.Module):
        return f"{type(value).__name__}({value.extra_repr()})"
    if isinstance(value, torch.Generator):
        return "Generator"  # its state changes
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _call(value, {f.name: _default(f) for f in dataclasses.fields(value) if f.init})
    if inspect.isfunction(type(value).__init__):
        return call_of(value)
    return _plain(value)


def call_of(value: Any) -> str:
    """Write an object as the call that makes it, from attributes named as the arguments of its constructor.

    An object that keeps arguments under other names has a method ``arguments`` that tells them by their own; others
    that it does not keep under their name are left out.
    """
    parameters = inspect.signature(type(value).__init__).parameters.values()
    named = [p for p in list(parameters)[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    told = getattr(value, "arguments", None)
    kept: dict[str, Any] = told() if inspect.ismethod(told) else {}
    return _call(value, {p.name: p.default for p in named if p.name in kept or hasattr(value, p.name)}, kept)


def _call(value: Any, defaults: Mapping[str, Any], kept: Mapping[str, Any] = MappingProxyType({})) -> str:
    values = {name: kept[name] if name in kept else getattr(value, name) for name in defaults}
    own = {name: (described(values[name]), default) for name, default in defaults.items()}
    given = [f"{name}={text}" for name, (text, default) in own.items() if not _is(default, text)]
    return f"{getattr(value, 'described_as', type(value).__name__)}({', '.join(given)})"


def _is(default: Any, text: str) -> bool:
    return default is not inspect.Parameter.empty and described(default) == text


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return inspect.Parameter.empty if field.default_factory is dataclasses.MISSING else field.default_factory()


def _plain(value: Any) -> str:
    """The text of ``repr``, on one line and without addresses in memory."""
    return " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)).split())
