"""Things found by name: one registry per kind of thing, with a suggestion when a name is misspelt."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar

from spikelfp.errors import UnknownNameError
from spikelfp.suggest import nearest

T = TypeVar("T")


_LONGEST = 100  # characters of a name that is shown


def _shown(name: object) -> str:
    text = repr(name)
    return text if len(text) < _LONGEST else f"{text[:_LONGEST]}…"


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> UnknownNameError:
    """The error for ``name``, with the nearest of the ``valid`` names suggested."""
    names = sorted(valid)
    near = nearest(name, names) if len(str(name)) < _LONGEST else None
    hint = "" if near is None else f"did you mean {near!r}? "
    return UnknownNameError(f"unknown {kind} {_shown(name)}: {hint}choose from {', '.join(names)}")


def check_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """``name`` itself when it is one of ``valid``, else :class:`~spikelfp.errors.UnknownNameError`."""
    valid = tuple(valid)
    if name not in valid:
        raise unknown_name(kind, name, valid)
    return name


_source: list[str] = []
"""The plug-in that is being imported, last."""


@contextmanager
def registering(source: str) -> Iterator[None]:
    """Within the block everything that is registered is known to come from a plug-in (:mod:`spikelfp.plugins`)."""
    _source.append(source)
    try:
        yield
    finally:
        _source.pop()


class Registry(Generic[T]):
    """Named entries of one kind.

    Args:
        kind: word for an entry.
        takes: arguments that every entry is called with; its others, with their defaults, are its options
            (:mod:`spikelfp.options`).

    >>> colours = Registry("colour")
    >>> @colours.register("red")
    ... def red(): return "#f00"
    >>> colours["red"]()
    '#f00'
    """

    known: ClassVar[list[Registry[Any]]] = []
    """All registries."""

    def __init__(self, kind: str, takes: Iterable[str] = ()) -> None:
        self.kind, self.takes = kind, frozenset(takes)
        self._sources: dict[str, str] = {}
        Registry.known.append(self)
        self._entries: dict[str, T] = {}
        self._facts: dict[str, dict[str, Any]] = {}

    def register(self, name: str, **facts: Any) -> Callable[[T], T]:
        """Decorator that files its object under ``name``; a name is given once.

        Args:
            name: the entry's name.
            **facts: anything that is to be known about the entry without making it (:meth:`fact`).
        """

        if not isinstance(name, str) or not re.fullmatch(r"[^\s:,=]+", name) or not name.isprintable():
            raise ValueError(f"a {self.kind} is registered under a word without spaces and :,=, got {_shown(name)}")

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered already")
            self._entries[name], self._facts[name] = entry, facts
            if _source:
                self._sources[name] = _source[-1]
            return entry

        return add

    def remove(self, name: str) -> None:
        """Take out an entry, for another one to be registered under its name."""
        self[name]
        del self._entries[name], self._facts[name]
        self._sources.pop(name, None)

    def source(self, name: str) -> str | None:
        """The plug-in that registered the entry ``name``, or ``None``."""
        return self._sources.get(name)

    def fact(self, name: str, fact: str) -> Any:
        """The ``fact`` that the entry ``name`` was registered with, else its attribute of that name, else ``None``."""
        entry = self[name]
        return self._facts.get(self.key(name), {}).get(fact, getattr(entry, fact, None))

    def key(self, name: str) -> str:
        """Name of the entry that ``name`` means: here itself; where names carry more, the part that is registered."""
        return name

    def where(self, **facts: Any) -> Selected:
        """Names of the entries that have all of these facts, those registered later included."""
        return Selected(self, facts)

    def entries(self) -> tuple[T, ...]:
        """All entries, in the order in which they were registered."""
        return tuple(self._entries.values())

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            raise unknown_name(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join(self)})"


class Selected:
    """Names of a registry whose entries have certain facts: a view, which follows what is registered."""

    def __init__(self, registry: Registry[Any], facts: dict[str, Any]) -> None:
        self._registry, self._facts = registry, facts

    def __contains__(self, name: object) -> bool:
        return any(name == own for own in self)

    def __iter__(self) -> Iterator[str]:
        has = self._registry.fact
        return (name for name in self._registry if all(has(name, fact) == value for fact, value in self._facts.items()))

    def __len__(self) -> int:
        return sum(1 for _ in self)
