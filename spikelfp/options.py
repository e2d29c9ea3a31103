"""Options: how they are stated, read, shown, checked and written.

**An option is a parameter of the constructor of what it configures**, with a type, a default and a line of help::

    @rules.register("mine")
    @dataclass(frozen=True)
    class Mine(Feedback):
        \"""A rule of one's own.

        Args:
            kappa: how much of the reward stays.
        \"""

        kappa: float = 0.5

:func:`options_of` finds them: parameters that have a default and a plain type (``bool``, ``int``, ``float``, ``str``,
``tuple[int, ...]``, ``Literal`` of texts, or one of these or ``None``). More is said with the type,
``kappa: Annotated[float, option("how much stays", within="[0, 1)")] = 0.5``, or with the field of a dataclass,
``kappa: float = setting(0.5, "how much stays", within="[0, 1)")``.

A **configuration** is a frozen dataclass of sections (:func:`section`); what it chooses by name (:func:`choice`) brings
its own options along. :class:`Schema` reads one from flat values, ``{"rule": "mine", "kappa": 0.3}``, as the command line
has them, or from nested ones, ``{"method": {"rule": {"name": "mine", "kappa": 0.3}}}``, as a file has them, and writes
it as either. An option has one name everywhere. Where two things have an option of one name it belongs to both.

An option of something that was not chosen would do nothing: it is refused with an error that names its **owner**.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
import sys
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from spikelfp.errors import KeywordError, UserError
from spikelfp.printable import brief
from spikelfp.registry import Registry, check_name, unknown_name
from spikelfp.suggest import check_keywords

View = Any
"""Values of options as attributes: ``view.rule``, ``view.gamma``."""

# --- stating -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """A value that somebody may choose.

    Attributes:
        name: with ``-`` for ``_`` that of the flag.
        kind: ``bool``, ``int``, ``float``, ``str`` or ``tuple[int, ...]``.
        default: its value if nothing is said.
        help: what it does, in a line.
        optional: whether it may be ``None``.
        names: names that it may take.
        automatic: words for what ``None`` stands for.
        within: interval of a number, such as ``[0, 1)`` or ``(0, ∞)``.
        owner: what it belongs to, beside what its constructor belongs to.
        check: raises :class:`~spikelfp.errors.UserError` for values that are not taken.
        parameter: of the constructor, where its name is another one.
    """

    name: str
    kind: str
    default: Any
    help: str = ""
    optional: bool = False
    names: Iterable[str] | None = None
    automatic: str = ""
    within: str | None = None
    owner: Owner | None = None
    check: Callable[[Any], object] | None = None
    parameter: str = ""

    @property
    def shown_default(self) -> str:
        """The default as help texts show it."""
        if self.automatic:
            return self.automatic
        if isinstance(self.default, tuple):
            return ",".join(map(str, self.default))
        if self.default is None:
            return "none"
        return str(self.default).lower() if self.kind == "bool" else str(self.default)

    def read(self, value: Any) -> Any:
        """Read a value, also from text, which YAML makes of ``1e-3`` and a command line of everything.

        Raises:
            UserError: for what is none of the option's kind, numbers that are not finite, and what lies outside of its
                range or names.
        """
        value = _plain(self, value)
        if value is None:
            return None
        name = self.name.replace("_", "-")
        if self.check is not None:
            self.check(value)
        elif self.names is not None:
            check_name(name, value, self.names)
        if self.within is not None:
            for number in value if isinstance(value, tuple) else (value,):
                check_within(name, number, self.within)
        return value


class _About(dict[str, Any]):
    """What is said about an option beside its name, type and default."""


def option(
    text: str = "",
    *,
    names: Iterable[str] | None = None,
    automatic: str = "",
    within: str | None = None,
    owner: Owner | None = None,
    check: Callable[[Any], object] | None = None,
    name: str = "",
    kind: str = "",
) -> Any:
    """Say more about a parameter, ``Annotated[float, option("how much stays", within="[0, 1)")]``.

    Args:
        text: help, in a line; empty: that of the docstring.
        names, automatic, within, owner, check: as in :class:`Option`.
        name: of the option, where that of the parameter would not tell what it is.
        kind: of the option, where the parameter takes more than can be written.
    """
    return _About(
        help=text, names=names, automatic=automatic, within=within, owner=owner, check=check, name=name, kind=kind
    )


NOT_AN_OPTION = _About(left_out=True)
"""Annotation, or metadata (``field(metadata={"option": NOT_AN_OPTION})``), of a parameter that nobody chooses."""


def setting(default: Any, text: str = "", *, kw_only: bool = False, **more: Any) -> Any:
    """Make the field of a dataclass that is an option; ``text`` and further arguments are those of :func:`option`."""
    return field(default=default, metadata={"option": option(text, **more)}, kw_only=kw_only)


@dataclass(frozen=True)
class Choice:
    """Something chosen by name, with the options that it has.

    Attributes:
        name: in its registry; ``None``: chosen automatically.
        options: by their names.
    """

    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self, registry: Registry[Any]) -> dict[str, Any]:
        """The options as arguments of the constructor."""
        known = options_in(registry, self.name)
        return {known[name].parameter: value for name, value in self.options.items()}

    def maker(self, registry: Registry[Any]) -> Callable[..., Any]:
        """The thing of the ``registry`` with its options, to be called with its other arguments."""
        return functools.partial(registry[self.name], **self.arguments(registry))


def choice(
    default: str | None,
    text: str,
    registry: Registry[Any] | None = None,
    *,
    names: Iterable[str] | None = None,
    **more: Any,
) -> Any:
    """Make a field that names something of a ``registry``, whose options come along.

    It is the field ``name`` of a section that is a :class:`Choice` itself, or a field of the type :class:`Choice`.

    Args:
        default: name, or ``None``.
        text: help.
        registry: of things by name.
        names: names that it takes, where there are more than those of the registry.
        **more: as in :func:`option`.
    """
    about = option(text, names=registry if names is None else names, **more)
    return field(default=default, metadata={"option": about, "registry": registry})


def section(kind: type, title: str) -> Any:
    """Make the field of a configuration that holds a dataclass of options; ``title`` heads them in help texts."""
    return field(metadata={"section": (kind, title)})


# --- finding -----------------------------------------------------------------------------------------------------


@functools.cache
def options_of(called: Callable[..., Any]) -> dict[str, Option]:
    """Find the options of a class or a function: its parameters that have a default and a plain type.

    What a constructor takes as ``**keywords`` is looked up in the constructors of its base classes.

    Args:
        called: the class or function.

    Returns:
        The options by name, in their order.
    """
    found: dict[str, Option] = {}
    texts = _argument_texts(called)
    for name, (annotation, default, told) in _parameters(called).items():
        kind, optional, names, about = _kind(annotation)
        said = _said(told or about or _About())
        if (kind or "kind" in said) and default is not inspect.Parameter.empty and "left_out" not in said:
            about = {"name": name, "kind": kind, "help": texts.get(name, ""), "optional": optional, "names": names}
            own = Option(default=default, parameter=name, **{**about, **said})
            found[own.name] = own
    return found


def options_in(registry: Registry[Any], name: str) -> dict[str, Option]:
    """Find the options of a registered thing, without the arguments that it is called with anyway."""
    found = options_of(registry[name])
    return {each.name: each for each in found.values() if each.parameter not in registry.takes}


def _said(about: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in about.items() if value is not None and value != ""}


def takes_any(called: Callable[..., Any]) -> bool:
    """Whether a function hands further keywords on."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(called).parameters.values())


_Parameter = tuple[Any, Any, Any]
"""Annotation, default and what was said about it as a field."""


def _parameters(called: Callable[..., Any]) -> dict[str, _Parameter]:
    if isinstance(called, functools.partial):
        rest = dict(list(_parameters(called.func).items())[len(called.args) :])
        return {name: each for name, each in rest.items() if name not in called.keywords}
    if isinstance(called, type) and dataclasses.is_dataclass(called):
        return {f.name: _of_field(called, f) for f in fields(called) if f.init}
    if not isinstance(called, type):
        return _of_function(called if inspect.isroutine(called) else type(called).__call__)
    found: dict[str, _Parameter] = {}
    for kind in called.__mro__:
        if "__init__" in vars(kind) and kind is not object:
            found = {**_of_function(vars(kind)["__init__"]), **found}
            if not takes_any(vars(kind)["__init__"]):
                break
    return found


def _of_field(called: type, f: dataclasses.Field[Any]) -> _Parameter:
    home = next(kind for kind in called.__mro__ if f.name in vars(kind).get("__annotations__", {}))
    annotation = _evaluated(f.type, vars(sys.modules[home.__module__]))
    empty = inspect.Parameter.empty
    made = f.default_factory() if f.default_factory is not dataclasses.MISSING else empty
    return annotation, made if f.default is dataclasses.MISSING else f.default, f.metadata.get("option")


def _of_function(called: Callable[..., Any]) -> dict[str, _Parameter]:
    inner = inspect.unwrap(called)
    names = getattr(inner, "__globals__", {})
    return {
        p.name: (_evaluated(p.annotation, names), p.default, None)
        for p in inspect.signature(called).parameters.values()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names)
    except Exception:  # a name that only type checkers know is no plain type
        return None


def _kind(annotation: Any) -> tuple[str, bool, Iterable[str] | None, Any]:
    """The kind of a type, whether it takes ``None``, its names, and what was said about it; ``""`` for other types."""
    about = None
    if get_origin(annotation) is Annotated:
        annotation, *rest = get_args(annotation)
        about = next((each for each in rest if isinstance(each, _About)), None)
    optional = False
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [each for each in get_args(annotation) if each is not types.NoneType]
        optional = len(parts) < len(get_args(annotation))
        annotation = parts[0] if len(parts) == 1 else None
    if get_origin(annotation) is Annotated:
        return (*_kind(annotation)[:1], optional, *_kind(annotation)[2:])  # type: ignore[return-value]
    if get_origin(annotation) is Literal and all(isinstance(each, str) for each in get_args(annotation)):
        return "str", optional, get_args(annotation), about
    known = {bool: "bool", int: "int", float: "float", str: "str", tuple[int, ...]: "tuple[int, ...]"}
    try:
        return known.get(annotation, ""), optional, None, about
    except TypeError:
        return "", optional, None, about


def _argument_texts(called: Callable[..., Any]) -> dict[str, str]:
    """The lines about arguments in a docstring, the first sentence of each; base classes tell what is not said."""
    texts: dict[str, str] = {}
    kinds = called.__mro__[:-1] if isinstance(called, type) else (called,)
    for kind in kinds:
        init = vars(kind).get("__init__") if isinstance(kind, type) else None
        for docstring in (kind.__doc__, getattr(init, "__doc__", None)):
            for names, text in re.findall(
                r"^[ \t]*(\w+(?:, \w+)*): (.+(?:\n[ \t]*(?!\w+(?:, \w+)*: )\S.*)*)", docstring or "", re.MULTILINE
            ):
                line = " ".join(text.split())
                sentence = re.split(r"(?<=\S)\. |\.$", re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`|``", r"\1", line))[0]
                for name in names.split(", "):
                    texts.setdefault(name, sentence)
    return texts


# --- reading -----------------------------------------------------------------------------------------------------

_KINDS = {
    "int": "a whole number",
    "float": "a finite number",
    "str": "text",
    "tuple[int, ...]": "whole numbers, such as 1000,1000",
}


def _plain(about: Option, value: Any) -> Any:
    name = about.name.replace("_", "-")
    if value is None and about.optional:
        return None
    if about.kind == "bool":
        if not isinstance(value, bool):
            raise UserError(f"{name} is true or false, got {brief(value)}")
        return value
    try:
        if about.kind == "tuple[int, ...]":
            if isinstance(value, list | tuple):
                return tuple(_number(int, part) for part in value)
            return tuple(_number(int, part) for part in (value.split(",") if isinstance(value, str) else [value]))
        if about.kind == "str":
            if not isinstance(value, str):
                raise TypeError
            return value
        return _number(int if about.kind == "int" else float, value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{name} takes {_KINDS[about.kind]}, got {brief(value)}") from None


def _number(kind: type[int] | type[float], value: Any) -> int | float:
    if isinstance(value, bool) or (kind is int and not isinstance(value, str) and int(value) != value):
        raise TypeError
    number = kind(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def check_within(name: str, value: float, interval: str) -> None:
    """Refuse a ``value`` outside of an ``interval`` such as ``[0, 1)`` or ``(0, ∞)``.

    Raises:
        UserError: naming the value's ``name`` and the interval.
    """
    low, high = (float(end.strip(" ()[]").replace("∞", "inf")) for end in interval.split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    if above and below:
        return
    if high < math.inf:
        wanted = f"lie in {interval}"
    elif interval[0] == "(":
        wanted = f"be above {low:g}"
    else:
        wanted = "be 0 or more" if low == 0 else f"be at least {low:g}"
    raise UserError(f"{name} must {wanted}, got {value}")


# --- owners ------------------------------------------------------------------------------------------------------


class Owner(ABC):
    """A condition on the values of options under which those that belong to it are used.

    Owners are joined by ``&`` and ``|``. Help texts, errors and tests all come from the one statement.
    """

    @abstractmethod
    def holds(self, view: View) -> bool:
        """Whether the values have what the option belongs to."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Owner of the option in words: ``--rule gamma``."""

    @abstractmethod
    def missing(self, view: View) -> Condition:
        """The part that the values lack, where the owner does not hold."""

    @abstractmethod
    def looks_at(self) -> Iterator[str]:
        """The options that decide."""

    def __and__(self, other: Owner) -> Owner:
        return _Both(self, other)

    def __or__(self, other: Owner) -> Owner:
        return _Either(self, other)


@dataclass(frozen=True)
class Condition(Owner):
    """A condition that is told in one go.

    Attributes:
        words: what the option belongs to; a function where that depends on what is registered.
        test: whether the values have it.
        decides: the options that are named in an error, with what they are.
    """

    words: str | Callable[[], str]
    test: Callable[[View], bool]
    decides: tuple[str, ...]

    def holds(self, view: View) -> bool:
        return self.test(view)

    @property
    def name(self) -> str:
        return self.words if isinstance(self.words, str) else self.words()

    def missing(self, view: View) -> Condition:
        return self

    def looks_at(self) -> Iterator[str]:
        yield from self.decides


@dataclass(frozen=True)
class _Both(Owner):
    first: Owner
    second: Owner

    def holds(self, view: View) -> bool:
        return self.first.holds(view) and self.second.holds(view)

    @property
    def name(self) -> str:
        return f"{self.first.name} and {self.second.name}"

    def missing(self, view: View) -> Condition:
        return (self.second if self.first.holds(view) else self.first).missing(view)

    def looks_at(self) -> Iterator[str]:
        yield from self.first.looks_at()
        yield from self.second.looks_at()


@dataclass(frozen=True)
class _Either(Owner):
    first: Owner
    second: Owner

    def holds(self, view: View) -> bool:
        return self.first.holds(view) or self.second.holds(view)

    @property
    def name(self) -> str:
        return f"{self.first.name} or {self.second.name}"

    def missing(self, view: View) -> Condition:
        return Condition(self.name, self.holds, tuple(dict.fromkeys(self.looks_at())))

    def looks_at(self) -> Iterator[str]:
        yield from self.first.looks_at()
        yield from self.second.looks_at()


def one_of(
    name: str,
    names: Collection[str] | Callable[[], Collection[str]],
    of: Iterable[str] | None = None,
    key: Callable[[str], str] = str,
) -> Condition:
    """Make the owner of options that belong to some of the names that the option ``name`` takes.

    Args:
        name: the option.
        names: those names; a function where they depend on what is registered.
        of: all names it takes, for shorter words where only a few are left out.
        key: from the value of the option to the name that it means.
    """

    def those() -> Collection[str]:
        return names() if callable(names) else names

    def words() -> str:
        left_out = [each for each in of or () if each not in those()]
        if of is not None and len(left_out) < 2:
            return f"any {flag(name)}" + (f" but {left_out[0]}" if left_out else "")
        *most, last = those() or ["(none)"]
        return f"{flag(name)} {', '.join(most)}{' or ' if most else ''}{last}"

    return Condition(words, lambda view: key(str(getattr(view, name))) in those(), (name,))


def other_than(name: str, default: Any, words: str | None = None) -> Condition:
    """Make the owner of options that belong to the option ``name``, once it is not ``default``."""
    return Condition(words or flag(name), lambda view: getattr(view, name) != default, (name,))


def flag(name: str) -> str:
    """Write the name of an option as it is on the command line."""
    return "--" + name.replace("_", "-")


def written(name: str, value: Any) -> str:
    """Write an option and its value as they are on the command line."""
    if isinstance(value, bool):
        return flag(name) if value else f"--no-{flag(name)[2:]}"
    return f"{flag(name)} {','.join(map(str, value)) if isinstance(value, tuple) else value}"


# --- configurations ----------------------------------------------------------------------------------------------

Place = tuple[str, ...]
"""Where an option stands in a configuration: ``("method", "rule", "gamma")``; a choice stands at its own path."""


@dataclass(frozen=True)
class Slot:
    """A place in a configuration that an option fills.

    Attributes:
        path: where it stands.
        option: what fills it, its owner included; an option of something chosen belongs to that choice.
        group: section of the help text.
        registry: of what a choice names.
        chooser: path of the choice that the option comes with.
        owners: for that, the option of each of the names that have it.
    """

    path: Place
    option: Option
    group: str
    registry: Registry[Any] | None = None
    is_choice: bool = False
    chooser: Place | None = None
    owners: Mapping[str, Option] = field(default_factory=dict)


Config = TypeVar("Config")


class Schema(Generic[Config]):
    """All options of a configuration, found anew as things are registered.

    Args:
        kind: a frozen dataclass whose fields are made by :func:`section`.
        also: owners that options have in this configuration beside their own, by their names.
    """

    def __init__(self, kind: type[Config], also: Mapping[str, Owner] | None = None) -> None:
        self.kind, self._also = kind, also or {}
        self._static: list[Slot] = []
        self.sections: dict[str, type] = {}
        for f in fields(kind):  # type: ignore[arg-type]
            inner, title = f.metadata["section"]
            self.sections[f.name] = inner
            self._static += _slots((f.name,), inner, title)
        self._registered: object = None
        self._slots: dict[Place, Slot] = {}
        self._named: dict[str, list[Slot]] = {}

    # what there is

    def slots(self) -> dict[Place, Slot]:
        """Every option, also those of what is not chosen, by its place."""
        registries = {id(slot.registry): slot.registry for slot in self._static if slot.registry is not None}
        state = [tuple(map(id, registry.entries())) for registry in registries.values()]
        if state != self._registered:
            self._slots, self._named = {}, {}
            for slot in self._static:
                self._slots[slot.path] = slot
                if slot.registry is not None:
                    self._slots.update({each.path: each for each in _brought(slot, slot.registry, self._also)})
            for slot in self._slots.values():
                self._named.setdefault(slot.option.name, []).append(slot)
            self._registered = state
        return self._slots

    def named(self) -> dict[str, list[Slot]]:
        """The places of every option by its name: more than one where two things have an option of one name."""
        self.slots()
        return self._named

    def options(self) -> list[tuple[Option, str]]:
        """Each option once, in order, with the section of the help text; several owners joined by *or*."""
        found = []
        for slots in self.named().values():
            first = slots[0].option
            if len(slots) > 1:
                owners = [slot.option.owner for slot in slots]
                owner = None if None in owners else functools.reduce(_either, owners)  # type: ignore[arg-type]
                defaults = {slot.option.shown_default for slot in slots}
                automatic = first.automatic if len(defaults) == 1 else "each one's own"
                first = dataclasses.replace(first, owner=owner, automatic=automatic)
            found.append((first, slots[0].group))
        return found

    # reading

    def stated(self, values: Mapping[str, Any], source: str) -> dict[Place, Any]:
        """Find the places of values that are given by name, or nested as a file has them.

        Args:
            values: ``{"rule": "gamma"}``, ``{"method": {"rule": {"name": "gamma"}}}``, or a mixture; a value of a
                section may be the dataclass of that section.
            source: named in errors: a file, or what is called with the values.

        Returns:
            The values, read, by their places. One that is given by name stands at every place of that name.

        Raises:
            UserError: for a name that no option has, with the nearest one, and for values that are not taken.
        """
        whole: dict[Place, Any] = {}
        found: dict[Place, Any] = {}
        for name, value in values.items():
            if name in self.sections and isinstance(value, self.sections[name]):
                whole |= self._of_section((name,), value)
            elif name in self.sections and isinstance(value, Mapping):
                self._descend(found, (name,), value, source)
            elif name not in self.named():
                if name in self.sections:
                    raise UserError(f"{name} in {source} is a section of options, got {brief(value)}")
                raise self._unknown(name, source)
            else:
                read = [(slot.path, slot.option.read(value)) for slot in self.named()[name]]
                found.update(read)
        return self.over(whole, found)

    def _unknown(self, name: str, source: str) -> UserError:
        if source != self.kind.__name__:
            return unknown_name(f"option in {source}", name, {*self.named(), *self.sections})
        try:
            check_keywords(source, [name], self.named())
        except KeywordError as error:
            return error
        raise AssertionError(name)

    def over(self, before: Mapping[Place, Any], now: Mapping[Place, Any]) -> dict[Place, Any]:
        """Put the values ``now`` over those ``before``, without the defaults of what was chosen then and is not now."""
        kept = dict(before)
        for path, value in before.items():
            slot = self.slots()[path]
            if slot.chooser is not None and slot.chooser in now:
                name = before.get(slot.chooser, self._slots[slot.chooser].option.default)
                registry = self._slots[slot.chooser].registry
                own = slot.owners.get(name if registry is None or name is None else registry.key(name))
                if name != now[slot.chooser] and own is not None and value == own.default:
                    del kept[path]
        return {**kept, **now}

    def brought_by(self, chooser: Place, name: str) -> dict[str, Option]:
        """The options that something chosen brings along."""
        registry = self.slots()[chooser].registry
        return {} if registry is None else options_in(registry, name)

    def _descend(self, found: dict[Place, Any], path: Place, values: Mapping[str, Any], source: str) -> None:
        slots = self.slots()
        for key, value in values.items():
            name = str(key).replace("-", "_")
            place = path if name == "name" and path in slots else (*path, name)
            if isinstance(value, Mapping) and place != path and place in slots and slots[place].is_choice:
                self._descend(found, place, value, source)
            elif place in slots:
                found[place] = slots[place].option.read(value)
            else:
                here = [each[-1] for each in slots if each[:-1] == path] + ["name"] * (path in slots)
                homes = sorted({".".join(slot.path[:-1]) for slot in self.named().get(name, ())})
                if homes and homes != [""]:
                    raise UserError(f"{name} stands in {' and in '.join(homes)}, not in {'.'.join(path)} (in {source})")
                raise unknown_name(f"option of {'.'.join(path)} in {source}", key, here)

    def settled(self, stated: Mapping[Place, Any], given: Collection[Place] = ()) -> dict[Place, Any]:
        """Fill in what is not stated, and refuse what would do nothing.

        Args:
            stated: values by their places, read.
            given: places of those that somebody chose now: refused if they would do nothing, even at their default.

        Raises:
            UserError: for the first option that does nothing although it was chosen, naming what it belongs to and
                what was chosen there.
        """
        view = self.view(stated)
        refused: dict[str, Slot] = {}
        used: set[str] = set()
        for path, slot in self.slots().items():
            if path not in stated:
                continue
            if self._used(slot, view):
                used.add(slot.option.name)
            elif path in given or stated[path] != slot.option.default:
                refused.setdefault(slot.option.name, slot)
        for name, slot in refused.items():
            if name not in used or len(self.named()[name]) == 1:
                raise self._refusal(slot, stated[slot.path], view)
        settled: dict[Place, Any] = {}
        for path, slot in self.slots().items():
            own = slot.option if slot.chooser is None else slot.owners.get(self._chosen(slot, view))
            if own is not None:
                value = stated.get(path, own.default) if self._used(slot, view) else own.default
                settled[path] = own.default if value is None and not own.optional else own.read(value)
        return settled

    def without_unused(self, stated: Mapping[Place, Any], keep: Collection[Place] = ()) -> dict[Place, Any]:
        """Leave out what did nothing in a run's record, but for the places ``keep``, which are judged as chosen now."""
        values = dict(stated)
        while True:
            view = self.view(values)
            forgotten = [
                path for path, value in values.items()
                if path not in keep and value != (slot := self.slots()[path]).option.default
                and not self._used(slot, view)
            ]  # fmt: skip
            if not forgotten:
                return values
            for path in forgotten:
                del values[path]

    def view(self, stated: Mapping[Place, Any]) -> View:
        """The values by the names of their options, unchecked, defaults filled in."""
        return _View(self, stated)

    def _used(self, slot: Slot, view: View) -> bool:
        return slot.option.owner is None or slot.option.owner.holds(view)

    def _chosen(self, slot: Slot, view: View) -> Any:
        """The name of the thing that an option comes with."""
        assert slot.chooser is not None
        chooser = self._slots[slot.chooser]
        name = getattr(view, chooser.option.name)
        return name if chooser.registry is None or name is None else chooser.registry.key(name)

    def _refusal(self, slot: Slot, value: Any, view: View) -> UserError:
        owners = [each.option.owner for each in self.named()[slot.option.name] if each.option.owner is not None]
        missing = functools.reduce(_either, owners).missing(view)
        chosen = [
            f"no {flag(name)}" if decided is None or decided is False else written(name, decided)
            for name in missing.decides
            for decided in [getattr(view, name)]
        ]
        return UserError(
            f"{written(slot.option.name, value)} belongs to {missing.name}, but this run has {' and '.join(chosen)}: "
            "leave it out, or choose what it belongs to"
        )

    # writing

    def made(self, values: Mapping[Place, Any]) -> dict[str, Any]:
        """Make the sections of a configuration from settled values."""
        return {name: self._made((name,), kind, values) for name, kind in self.sections.items()}

    def _made(self, path: Place, kind: type, values: Mapping[Place, Any]) -> Any:
        own: dict[str, Any] = {}
        for f in fields(kind):
            place = (*path, f.name)
            if f.name == "options":
                own["options"] = self._brought_values(path, values)
            elif f.name == "name" and path in values:
                own["name"] = values[path]
            elif self._slots[place].is_choice:
                own[f.name] = Choice(values[place], self._brought_values(place, values))
            else:
                own[f.name] = values[place]
        return kind(**own)

    def _brought_values(self, path: Place, values: Mapping[Place, Any]) -> dict[str, Any]:
        return {place[-1]: value for place, value in values.items() if self._slots[place].chooser == path}

    def values(self, config: Config) -> dict[Place, Any]:
        """The values of a configuration by their places."""
        found: dict[Place, Any] = {}
        for name in self.sections:
            found |= self._of_section((name,), getattr(config, name))
        return found

    def _of_section(self, path: Place, own: Any) -> dict[Place, Any]:
        found: dict[Place, Any] = {}
        for f in fields(own):
            value = getattr(own, f.name)
            if f.name == "options":
                found |= {(*path, name): each for name, each in value.items()}
            elif isinstance(value, Choice):
                found[(*path, f.name)] = value.name
                found |= {(*path, f.name, name): each for name, each in value.options.items()}
            else:
                found[path if f.name == "name" else (*path, f.name)] = value
        return {place: found[place] for place in self.slots() if place in found}

    def used(self, config: Config) -> dict[Place, Any]:
        """The values of a configuration that it uses, by their places."""
        values = self.values(config)
        view = self.view(values)
        return {path: value for path, value in values.items() if self._used(self.slots()[path], view)}

    def default(self, path: Place, config: Config) -> Any:
        """The default of an option with what a configuration has chosen."""
        slot = self.slots()[path]
        own = slot.option if slot.chooser is None else slot.owners.get(self._chosen(slot, self.view(self.values(config))))
        return (slot.option if own is None else own).default

    def nested(self, config: Config) -> dict[str, Any]:
        """The values that a configuration uses as plain nested ones, for a file to hold."""
        tree: dict[str, Any] = {}
        values = self.used(config)
        for path, value in values.items():
            plain = list(value) if isinstance(value, tuple) else value
            brings = any(self._slots[place].chooser == path for place in values)
            place = (*path, "name") if len(path) == 1 or brings else path
            inner = tree
            for step in place[:-1]:
                inner = inner.setdefault(step, {})
            inner[place[-1]] = plain
        return tree


class _View:
    """Values of options by their names, looked up among the places of a schema."""

    def __init__(self, schema: Schema[Any], stated: Mapping[Place, Any]) -> None:
        self._schema, self._stated = schema, stated

    def __getattr__(self, name: str) -> Any:
        slots = self._schema.named().get(name)
        if slots is None:
            raise AttributeError(name)
        own = next((slot for slot in slots if slot.chooser is None), None)
        if own is not None:
            return self._stated.get(own.path, own.option.default)
        return next((self._stated[slot.path] for slot in slots if slot.path in self._stated), slots[0].option.default)


def _either(first: Owner, second: Owner) -> Owner:
    return first | second


def _slots(path: Place, kind: type, title: str) -> list[Slot]:
    """The places of a dataclass of options."""
    types_, found = options_of(kind), list[Slot]()
    for f in fields(kind):
        if f.name == "options":
            continue
        about, registry = f.metadata["option"], f.metadata.get("registry")
        chooses = "registry" in f.metadata
        place = path if f.name == "name" and chooses else (*path, f.name)
        if chooses:
            said = {"name": place[-1], "optional": f.default is None, **_said(about)}
            own = Option(kind="str", default=f.default, **said)
        else:
            own = types_[f.name]
        found.append(Slot(place, own, title, registry, is_choice=chooses))
    return found


def _brought(slot: Slot, registry: Registry[Any], also: Mapping[str, Owner]) -> Iterator[Slot]:
    """The places of the options that the things of a registry bring along."""
    found: dict[str, dict[str, Option]] = {}
    for name in registry:
        for each in options_in(registry, name).values():
            found.setdefault(each.name, {})[name] = each
    for option_name, owners in found.items():
        first = next(iter(owners.values()))
        others = [name for name, each in owners.items() if each.kind != first.kind]
        if others:
            raise UserError(
                f"the option {option_name} takes {_KINDS.get(first.kind, 'true or false')} with the {registry.kind} "
                f"{next(iter(owners))} and something else with {others[0]}: give one of them another name"
            )
        owner = slot.option.owner
        if len(owners) < len(registry):
            those = one_of(slot.option.name, tuple(owners), tuple(registry), registry.key)
            owner = those if owner is None else owner & those
        for more in (first.owner, also.get(option_name)):
            if more is not None:
                owner = more if owner is None else owner & more
        same = all(each.default == first.default for each in owners.values())
        merged = dataclasses.replace(
            first,
            names=first.names if all(each.names is first.names for each in owners.values()) else None,
            within=first.within if all(each.within == first.within for each in owners.values()) else None,
            owner=owner,
            default=first.default if same else None,
            optional=first.optional or not same,
            automatic=first.automatic or ("" if same else f"the {registry.kind}'s own"),
        )
        yield Slot((*slot.path, option_name), merged, slot.group, chooser=slot.path, owners=owners)
