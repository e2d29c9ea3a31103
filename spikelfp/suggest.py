"""Misspelt names are answered with the nearest one: keywords of functions and classes, attributes of modules."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from spikelfp.errors import KeywordError

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


def public_names(module: dict[str, Any]) -> None:
    """Let a misspelt attribute of a module name the nearest one, and ``dir`` show what is in its ``__all__``.

    Both are put into the module from here, so that type checkers still know which attributes there are.

    Args:
        module: its ``globals()``.
    """
    name, public = module["__name__"], sorted(module["__all__"])

    def get(attribute: str) -> Any:
        near = None if attribute.startswith("__") else nearest(attribute, public, cutoff=0.6)
        hint = "" if near is None else f": did you mean {near!r}?"
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}{hint}", name=attribute)

    module["__getattr__"], module["__dir__"] = get, lambda: public
