"""Things found by name: one registry per kind of thing; misspelt names are answered with the nearest one.

That holds for entries of registries, for keywords of functions and classes, and for attributes of modules.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

from spikelfp.errors import KeywordError, UnknownNameError

Called = TypeVar("Called", bound=Callable[..., Any])
Kind = TypeVar("Kind", bound=type)


def nearest(name: object, valid: Iterable[str], cutoff: float = 0.4) -> str | None:
    """The one of the ``valid`` names that looks most like ``name``, letters of another case first; ``None`` if none
    does.

    Args:
        name: what was written.
        valid: the names there are.
        cutoff: how alike they must be, between 0 and 1.
    """
    names = list(valid)
    same = [known for known in names if known.casefold() == str(name).casefold()]
    return next(iter(same or difflib.get_close_matches(str(name), names, n=1, cutoff=cutoff)), None)


def keywords_of(called: Callable[..., Any], *more: Callable[..., Any]) -> set[str] | None:
    """Keywords that ``called`` takes, and those of ``more``, which it hands its others on to.

    Returns:
        The names, or ``None`` if the last of these takes any keyword.
    """
    names, open_end = set[str](), False
    for each in (called, *more):
        names |= set(inspect.signature(each).parameters) - {"self"}
        open_end = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(each).parameters.values())
    return None if open_end else names


def checked_keywords(*more: Callable[..., Any]) -> Callable[[Called], Called]:
    """Decorator: a function that is called with a keyword it does not have names the nearest one it has.

    Args:
        *more: what the function hands its ``**keywords`` on to, if it takes any.

    Raises:
        KeywordError: when the decorated function is called with such a keyword.
    """

    def decorate(function: Called) -> Called:
        valid = keywords_of(function, *more)

        @functools.wraps(function)
        def checked(*args: Any, **keywords: Any) -> Any:
            if keywords and valid is not None:
                check_keywords(function.__name__, keywords, valid)
            return function(*args, **keywords)

        return checked  # type: ignore[return-value]

    return decorate


def check_constructors(*classes: type) -> None:
    """Let classes name the nearest keyword when they are made with one that they do not have.

    What a constructor hands on as ``**keywords`` is looked up in the constructors of its base classes. A constructor
    that takes any keyword to its end is left alone, and so are those that a base class outside of ``classes`` has.

    Args:
        *classes: whose own ``__init__`` is wrapped, once.
    """
    for kind in classes:
        own = vars(kind).get("__init__")
        if own is None or hasattr(own, "checks_keywords"):
            continue
        setattr(kind, "__init__", _checked_init(kind, own))  # noqa: B010  (mypy takes methods for constants)


def _checked_init(kind: type, own: Callable[..., None]) -> Callable[..., None]:
    chain = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base) and base is not object]
    needed = next((n for n, each in enumerate(chain) if not _takes_any(each)), len(chain) - 1)
    valid = keywords_of(*chain[: needed + 1])
    places = _places(own)

    @functools.wraps(own)
    def checked(self: Any, *args: Any, **keywords: Any) -> None:
        if keywords and valid is not None:
            check_keywords(type(self).__name__, keywords, valid)
        if places is not None and len(args) > places and valid:
            by_name = ", ".join(f"{name}=…" for name in inspect.signature(own).parameters if name in valid)
            raise KeywordError(
                f"{type(self).__name__} takes {places or 'no'} arguments by their place, got {len(args)}: name them, "
                f"{type(self).__name__}({by_name})"
            )
        own(self, *args, **keywords)

    checked.checks_keywords = True  # type: ignore[attr-defined]
    return checked


def _places(called: Callable[..., Any]) -> int | None:
    """How many arguments a constructor takes by their place, ``None`` for any number."""
    kinds = [p.kind for p in list(inspect.signature(called).parameters.values())[1:]]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    return sum(
        kind is not inspect.Parameter.KEYWORD_ONLY and kind is not inspect.Parameter.VAR_KEYWORD for kind in kinds
    )


def _takes_any(called: Callable[..., Any]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(called).parameters.values())


def check_keywords(name: str, given: Iterable[str], valid: Iterable[str]) -> None:
    """Raise :class:`~spikelfp.errors.KeywordError` for the first of the ``given`` keywords that is not ``valid``."""
    known = set(valid)
    for keyword in given:
        if keyword not in known:
            near = nearest(keyword, sorted(known), cutoff=0.5)
            hint = f"did you mean {near!r}?" if near else f"it takes {', '.join(sorted(known)) or 'none'}"
            raise KeywordError(f"{name} has no argument {keyword!r}: {hint}")


def public_names(module: dict[str, Any], homes: Mapping[str, str] | None = None) -> None:
    """Let ``dir`` of a package tell its public names, and a wrong one be answered with the nearest of them.

    A package with ``homes`` loads its names when they are asked for (PEP 562).

    Args:
        module: its ``globals()``, ``__all__`` included.
        homes: for a package that loads lazily, the modules that define its names; a name that has none is that of a
            submodule.
    """
    name, public = module["__name__"], sorted(module["__all__"])

    def get(attribute: str) -> Any:
        if homes is not None and not attribute.startswith("__"):
            home = homes.get(attribute, f"{name}.{attribute}")
            if attribute in homes or importlib.util.find_spec(home) is not None:
                found = importlib.import_module(home)
                module[attribute] = getattr(found, attribute) if attribute in homes else found
                return module[attribute]
        near = None if attribute.startswith("__") else nearest(attribute, public, cutoff=0.6)
        hint = "" if near is None else f": did you mean {near!r}?"
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}{hint}", name=attribute)

    module["__getattr__"], module["__dir__"] = get, lambda: public
    if homes:
        sys.modules[name].__class__ = type("Package", (_Package,), {"homes": homes})


class _Package(ModuleType):
    """A package in which a function may have the name of the submodule that defines it."""

    homes: Mapping[str, str]

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system files each submodule that it loads in its package, over a function of that name.
        if not (name in self.homes and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


T = TypeVar("T")


_MOST = 50  # names that are listed
_LONGEST = 100  # characters of a name that is shown


def _shown(name: object) -> str:
    text = repr(name)
    return text if len(text) < _LONGEST else f"{text[:_LONGEST]}…"


def unknown_name(kind: str, name: object, valid: Iterable[str], meant: str | None = None) -> UnknownNameError:
    """Make the error for a name that is not there, with a suggestion.

    Args:
        kind: of thing that is named.
        name: what was given.
        valid: the names there are.
        meant: the suggestion; ``None`` for the nearest of the valid names.
    """
    names = sorted(valid)
    if meant is None:
        near = nearest(name, names) if len(str(name)) < _LONGEST else None
        meant = None if near is None else repr(near)
    hint = "" if meant is None else f"did you mean {meant}? "
    if len(names) > _MOST:  # more than anybody reads
        names = [*names[:_MOST], f"… ({len(names)} in all)"]
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
