"""Registries, which hold things of one kind by name, and errors for misspelt names that suggest the nearest one.

Such errors come for entries of registries, keywords of functions and classes, and attributes of modules.
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

from spikelfp.errors import KeywordError, UnknownNameError, UserError

Called = TypeVar("Called", bound=Callable[..., Any])
Kind = TypeVar("Kind", bound=type)


def nearest(name: object, valid: Iterable[str], cutoff: float = 0.4) -> str | None:
    """Find the valid name that is most like ``name``; one that differs in upper and lower case only comes first.

    Args:
        name: as given.
        valid: names to choose from.
        cutoff: least likeness, between 0 and 1.

    Returns:
        That name, or ``None`` if none is alike.
    """
    names = list(valid)
    same = [known for known in names if known.casefold() == str(name).casefold()]
    return next(iter(same or difflib.get_close_matches(str(name), names, n=1, cutoff=cutoff)), None)


def parameters_of(called: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Read the parameters of a function or class; a second time from memory, as networks and runs ask again and again.

    Args:
        called: the function or class.

    Raises:
        ValueError: if it tells none, like some functions in C.
    """
    return _parameters_of(called) if getattr(called, "__hash__", None) else inspect.signature(called).parameters


@functools.lru_cache(maxsize=4096)
def _parameters_of(called: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(called).parameters


def takes_any(called: Callable[..., Any]) -> bool:
    """Whether a function hands further keywords on."""
    return any(p.kind is p.VAR_KEYWORD for p in parameters_of(called).values())


def keywords_of(called: Callable[..., Any], *more: Callable[..., Any]) -> set[str] | None:
    """List the keywords that a function takes.

    Args:
        called: the function.
        *more: functions to which it passes its other keywords.

    Returns:
        The names, or ``None`` if the last function takes any keyword.
    """
    names, open_end = set[str](), False
    for each in (called, *more):
        names |= set(parameters_of(each)) - {"self"}
        open_end = takes_any(each)
    return None if open_end else names


def checked_keywords(*more: Callable[..., Any]) -> Callable[[Called], Called]:
    """Decorate a function to suggest the nearest keyword where it is called with an unknown one.

    Args:
        *more: functions to which it passes its ``**keywords``, if it takes any.

    Raises:
        KeywordError: when the decorated function is called with an unknown keyword.
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
    """Let classes check the keywords and truth values that they are made with.

    An unknown keyword is answered with the nearest one. The keywords that a constructor passes on as ``**keywords`` are
    those of the constructors of its base classes. A constructor whose last base class takes any keyword is left alone,
    and so are those that are inherited from a class outside of ``classes``. What is annotated as ``bool`` is true or
    false: ``learn_beta="no"`` would be true.

    Args:
        *classes: classes whose own ``__init__`` is wrapped, once.
    """
    for kind in classes:
        own = vars(kind).get("__init__")
        if own is None or hasattr(own, "checks_keywords"):
            continue
        setattr(kind, "__init__", _checked_init(kind, own))  # noqa: B010  (mypy takes methods for constants)


def _checked_init(kind: type, own: Callable[..., None]) -> Callable[..., None]:
    chain = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base) and base is not object]
    needed = next((n for n, each in enumerate(chain) if not takes_any(each)), len(chain) - 1)
    valid = keywords_of(*chain[: needed + 1])
    places = _places(own)
    names = list(parameters_of(own))[1:]
    taken = [item for each in chain[: needed + 1] for item in parameters_of(each).items()]
    truths = {name: _is_open(p.annotation) for name, p in taken if _is_truth(p.annotation)}

    @functools.wraps(own)
    def checked(self: Any, *args: Any, **keywords: Any) -> None:
        if keywords and valid is not None:
            check_keywords(type(self).__name__, keywords, valid)
        if places is not None and len(args) > places and valid:
            by_name = ", ".join(f"{name}=…" for name in parameters_of(own) if name in valid)
            raise KeywordError(
                f"{type(self).__name__} takes {places or 'no'} arguments by their place, got {len(args)}: name them, "
                f"{type(self).__name__}({by_name})"
            )
        if truths:
            place = {name: number for number, name in enumerate(names[: len(args)])} if places is not None else {}
            given = list(args)
            for name, is_open in truths.items():
                value = given[place[name]] if name in place else keywords.get(name)
                if value is None:  # the constructor chooses, or says what is wrong
                    continue
                if type(value).__name__ not in ("bool", "bool_"):  # Python's and numpy's
                    wanted = "true or false, or None" if is_open else "true or false"
                    raise UserError(f"{name} of {type(self).__name__} is {wanted}, got {_shown(value)}")
                if name in place:
                    given[place[name]] = bool(value)
                else:
                    keywords[name] = bool(value)
            args = tuple(given)
        own(self, *args, **keywords)

    checked.checks_keywords = True  # type: ignore[attr-defined]
    return checked


def _is_truth(annotation: Any) -> bool:
    """Whether an annotation, which may be a text, says ``bool``, or ``bool | None``."""
    text = annotation if isinstance(annotation, str) else ""
    return annotation is bool or re.fullmatch(r"bool( \| None)?|Annotated\[bool,.*", text, re.DOTALL) is not None


def _is_open(annotation: Any) -> bool:
    """Whether an annotation takes ``None``, too."""
    return isinstance(annotation, str) and annotation.endswith("| None")


def _places(called: Callable[..., Any]) -> int | None:
    """Count the positional arguments of a constructor; ``None`` for any number."""
    kinds = [p.kind for p in list(parameters_of(called).values())[1:]]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    return sum(
        kind is not inspect.Parameter.KEYWORD_ONLY and kind is not inspect.Parameter.VAR_KEYWORD for kind in kinds
    )


def check_keywords(name: str, given: Iterable[str], valid: Iterable[str]) -> None:
    """Refuse unknown keywords.

    Args:
        name: of the function or class that is called.
        given: keywords of the call.
        valid: keywords that it takes.

    Raises:
        KeywordError: for the first unknown one, with the nearest valid one.
    """
    known = set(valid)
    for keyword in given:
        if keyword not in known:
            near = nearest(keyword, sorted(known), cutoff=0.5)
            hint = f"did you mean {near!r}?" if near else f"it takes {', '.join(sorted(known)) or 'none'}"
            raise KeywordError(f"{name} has no argument {keyword!r}: {hint}")


def public_names(module: dict[str, Any], homes: Mapping[str, str] | None = None) -> None:
    """Let ``dir`` of a package list its public names, and the error for an unknown name suggest the nearest one.

    A package with ``homes`` loads its names when they are first used (PEP 562).

    Args:
        module: the package's ``globals()``, with ``__all__``.
        homes: for a package that loads lazily, the modules that define its names; a name without one is that of a
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
    """A package in which a function may have the name of its submodule."""

    homes: Mapping[str, str]

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system sets each loaded submodule as an attribute of its package, over a function of that name.
        if not (name in self.homes and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


T = TypeVar("T")


_MOST = 50  # names listed in an error
_LONGEST = 100  # characters of a name shown in an error


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
    if len(names) > _MOST:
        names = [*names[:_MOST], f"… ({len(names)} in all)"]
    return UnknownNameError(f"unknown {kind} {_shown(name)}: {hint}choose from {', '.join(names)}")


def check_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """Return ``name`` if it is valid.

    Args:
        kind: of thing that is named, for the error.
        name: as given.
        valid: names to choose from.

    Raises:
        UnknownNameError: for any other name, with the nearest valid one.
    """
    valid = tuple(valid)
    if name not in valid:
        raise unknown_name(kind, name, valid)
    return name


_source: list[str] = []
"""The plug-ins that are being imported, the current one last."""


@contextmanager
def registering(source: str) -> Iterator[None]:
    """Record that everything registered within the block is of one plug-in (:mod:`spikelfp.plugins`).

    Args:
        source: name of the plug-in.
    """
    _source.append(source)
    try:
        yield
    finally:
        _source.pop()


class Registry(Generic[T]):
    """A mapping from names to entries of one kind.

    Args:
        kind: noun for an entry, such as ``rule``.
        takes: arguments that every entry is called with; its other arguments that have a default are its options
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
        """Decorate a class or function to register it.

        Args:
            name: of the entry; not one that is taken.
            **facts: about the entry, to be known before it is made (:meth:`fact`).

        Raises:
            ValueError: for a name that is taken or has spaces or one of ``:,=``.
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
        """Remove an entry, so that another one can be registered under its name."""
        self[name]
        del self._entries[name], self._facts[name]
        self._sources.pop(name, None)

    def source(self, name: str) -> str | None:
        """Return the plug-in that registered the entry ``name``, or ``None``."""
        return self._sources.get(name)

    def fact(self, name: str, fact: str) -> Any:
        """Return a fact that the entry ``name`` was registered with, else its attribute of that name, else ``None``."""
        entry = self[name]
        return self._facts.get(self.key(name), {}).get(fact, getattr(entry, fact, None))

    def key(self, name: str) -> str:
        """Return the registered part of ``name``: here all of it; subclasses whose names carry options cut them off."""
        return name

    def where(self, **facts: Any) -> Selected:
        """Select the names of the entries with all of these facts, including entries that are registered later."""
        return Selected(self, facts)

    def entries(self) -> tuple[T, ...]:
        """All entries, in the order in which they were registered."""
        return tuple(self._entries.values())

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except (KeyError, TypeError):  # TypeError: a list or another value without a hash
            raise unknown_name(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join(self)})"


class Selected:
    """A view of the names in a registry whose entries have certain facts."""

    def __init__(self, registry: Registry[Any], facts: dict[str, Any]) -> None:
        self._registry, self._facts = registry, facts

    def __contains__(self, name: object) -> bool:
        return any(name == own for own in self)

    def __iter__(self) -> Iterator[str]:
        has = self._registry.fact
        return (name for name in self._registry if all(has(name, fact) == value for fact, value in self._facts.items()))

    def __len__(self) -> int:
        return sum(1 for _ in self)
