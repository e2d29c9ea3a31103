"""Owners of options: the choice that an option belongs to, and without which it would do nothing.

A field of :class:`~spikelfp.training.config.RunConfig` names its owner beside its help text. An owner is a condition on
the other fields, in words and as a test, so that help texts, errors and tests all come from the one statement::

    gamma: float = option(0.25, "γ of the rule", owner=one_of("rule", ("gamma",)) & LFP)

Owners are joined by ``&`` and ``|``. Models and rules say by themselves which fields they use, so those of one's own
are known too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import Field, dataclass, fields
from types import SimpleNamespace
from typing import Any

from spikelfp.errors import UserError

Config = Any
"""A :class:`~spikelfp.training.config.RunConfig`, or plain values with the same attributes."""


class Owner(ABC):
    """A condition on a configuration under which the options that belong to it are used."""

    @abstractmethod
    def holds(self, config: Config) -> bool:
        """Whether ``config`` has what the option belongs to."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Owner of the option in words: ``--rule gamma``."""

    @abstractmethod
    def missing(self, config: Config) -> Condition:
        """The part that ``config`` lacks, where the owner does not hold."""

    @abstractmethod
    def looks_at(self) -> Iterator[str]:
        """The fields that decide."""

    def __and__(self, other: Owner) -> Owner:
        return _Both(self, other)

    def __or__(self, other: Owner) -> Owner:
        return _Either(self, other)


@dataclass(frozen=True)
class Condition(Owner):
    """A condition that is told in one go.

    Attributes:
        words: what the option belongs to; a function where that depends on what is registered.
        test: whether a configuration has it.
        decides: the fields that are named in an error, with what they are.
    """

    words: str | Callable[[], str]
    test: Callable[[Config], bool]
    decides: tuple[str, ...]

    def holds(self, config: Config) -> bool:
        return self.test(config)

    @property
    def name(self) -> str:
        return self.words if isinstance(self.words, str) else self.words()

    def missing(self, config: Config) -> Condition:
        return self

    def looks_at(self) -> Iterator[str]:
        yield from self.decides


@dataclass(frozen=True)
class _Both(Owner):
    first: Owner
    second: Owner

    def holds(self, config: Config) -> bool:
        return self.first.holds(config) and self.second.holds(config)

    @property
    def name(self) -> str:
        return f"{self.first.name} and {self.second.name}"

    def missing(self, config: Config) -> Condition:
        return (self.second if self.first.holds(config) else self.first).missing(config)

    def looks_at(self) -> Iterator[str]:
        yield from self.first.looks_at()
        yield from self.second.looks_at()


@dataclass(frozen=True)
class _Either(Owner):
    first: Owner
    second: Owner

    def holds(self, config: Config) -> bool:
        return self.first.holds(config) or self.second.holds(config)

    @property
    def name(self) -> str:
        return f"{self.first.name} or {self.second.name}"

    def missing(self, config: Config) -> Condition:
        return Condition(self.name, self.holds, tuple(dict.fromkeys(self.looks_at())))

    def looks_at(self) -> Iterator[str]:
        yield from self.first.looks_at()
        yield from self.second.looks_at()


def one_of(
    field: str, names: Collection[str] | Callable[[], Collection[str]], of: Iterable[str] | None = None
) -> Condition:
    """The owner of options that belong to some of the names that the option ``field`` takes.

    Args:
        field: the option.
        names: those names; a function where they depend on what is registered.
        of: all names it takes, for shorter words where only a few are left out.
    """

    def those() -> Collection[str]:
        return names() if callable(names) else names

    def words() -> str:
        left_out = [name for name in of or () if name not in those()]
        if of is not None and len(left_out) < 2:
            return f"any {flag(field)}" + (f" but {left_out[0]}" if left_out else "")
        *most, last = those() or ["(none)"]
        return f"{flag(field)} {', '.join(most)}{' or ' if most else ''}{last}"

    return Condition(words, lambda config: getattr(config, field) in those(), (field,))


def other_than(field: str, default: Any, words: str | None = None) -> Condition:
    """The owner of options that belong to the option ``field``, once it is not ``default``."""
    return Condition(words or flag(field), lambda config: getattr(config, field) != default, (field,))


def flag(field: str) -> str:
    """An option as it is written on the command line."""
    return "--" + field.replace("_", "-")


def written(f: Field[Any], value: Any) -> str:
    """An option and its value as they are written on the command line."""
    if isinstance(value, bool):
        return flag(f.name) if value else f"--no-{flag(f.name)[2:]}"
    return f"{flag(f.name)} {','.join(map(str, value)) if isinstance(value, tuple) else value}"


def owner_of(f: Field[Any]) -> Owner | None:
    """The owner of a field; ``None`` for one that every run uses."""
    return f.metadata.get("owner")


def unowned(config: Config, options: Iterable[Field[Any]], given: Collection[str] = ()) -> Iterator[Field[Any]]:
    """The options that do nothing in ``config`` although they were chosen.

    Args:
        config: all choices.
        options: the fields to look at.
        given: names of those that were chosen whatever their value; others are if it is not their default.
    """
    for f in options:
        owner, value = owner_of(f), getattr(config, f.name)
        if owner is not None and (f.name in given or value != f.default) and not owner.holds(config):
            yield f


def check_owned(config: Config, given: Collection[str] = ()) -> None:
    """Refuse the first option that does nothing in ``config`` although it was chosen.

    Args:
        config: all choices.
        given: as in :func:`unowned`.

    Raises:
        UserError: naming the option, what it belongs to, and what was chosen there.
    """
    known = {f.name: f for f in fields(config)}
    for f in unowned(config, known.values(), given):
        owner = owner_of(f)
        assert owner is not None
        missing = owner.missing(config)
        chosen = [
            f"no {flag(name)}" if value is None or value is False else written(known[name], value)
            for name in missing.decides
            for value in [getattr(config, name)]
        ]
        raise UserError(
            f"{written(f, getattr(config, f.name))} belongs to {missing.name}, but this run has "
            f"{' and '.join(chosen)}: leave it out, or choose what it belongs to"
        )


def without_unowned(values: dict[str, Any], options: Collection[Field[Any]], keep: Collection[str]) -> dict[str, Any]:
    """The ``values`` of a run's record without those that did nothing in it.

    Args:
        values: by the names of ``options``; those that are not there have their default.
        options: the fields of a configuration.
        keep: names that are left for :func:`check_owned` to judge.
    """
    values = dict(values)
    while True:
        config = SimpleNamespace(**{f.name: values.get(f.name, f.default) for f in options})
        forgotten = [f.name for f in unowned(config, options) if f.name not in keep]
        if not forgotten:
            return values
        for name in forgotten:
            del values[name]
