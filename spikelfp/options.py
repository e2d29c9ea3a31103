"""Options: how they are declared, found, read and written, and the text of objects that are made from them.

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

An option of something that was not chosen would do nothing: it is refused with an error that names its **owner**.
:mod:`spikelfp.configuration` puts options together.
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
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from spikelfp.errors import UserError
from spikelfp.registry import Registry, check_name, parameters_of, takes_any
from spikelfp.scalars import as_number, as_whole
from spikelfp.terminal import brief

View = Any
"""Values of options as attributes: ``view.rule``, ``view.gamma``."""

# --- declaring ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """A value that the user may choose.

    Attributes:
        name: with ``_``; the flag has ``-`` instead.
        kind: ``bool``, ``int``, ``float``, ``str``, ``path`` or ``tuple[int, ...]``.
        default: its value where none is given.
        help: what it does, in a line.
        optional: whether it may be ``None``.
        names: names that it may take.
        automatic: text for the meaning of ``None``.
        within: interval of a number, such as ``[0, 1)`` or ``(0, ∞)``.
        owner: condition under which it is used, in addition to that of its constructor.
        check: raises :class:`~spikelfp.errors.UserError` for invalid values.
        parameter: name of the constructor's parameter.
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
        """Read a value, or its text: YAML reads ``1e-3`` as text, and a command line has text alone.

        Raises:
            UserError: for a value of another kind, a number that is not finite, and a value outside of the range or
                the names.
        """
        value = _plain(self, value)
        if value is None:
            return None
        name = self.name.replace("_", "-")
        if self.kind == "path":
            check_named(name, value)
        if self.check is not None:
            self.check(value)
        elif self.names is not None:
            check_name(name, value, self.names)
        if self.within is not None:
            for number in value if isinstance(value, tuple) else (value,):
                check_within(name, number, self.within)
        return value


class _About(dict[str, Any]):
    """Facts about an option in addition to its name, type and default."""


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
    """Describe a parameter: ``Annotated[float, option("how much stays", within="[0, 1)")]``.

    Args:
        text: help, in a line; empty for that of the docstring.
        names, automatic, within, owner, check: as in :class:`Option`.
        name: of the option, where it differs from that of the parameter.
        kind: of the option, where the type of the parameter does not tell it.
    """
    return _About(
        help=text, names=names, automatic=automatic, within=within, owner=owner, check=check, name=name, kind=kind
    )


NOT_AN_OPTION = _About(left_out=True)
"""Annotation, or metadata (``field(metadata={"option": NOT_AN_OPTION})``), of a parameter that is no option."""


def setting(default: Any, text: str = "", *, kw_only: bool = False, **more: Any) -> Any:
    """Make the field of a dataclass that is an option.

    Args:
        default: of the option.
        text: help, in a line.
        kw_only: as for :func:`dataclasses.field`.
        **more: as for :func:`option`.
    """
    return field(default=default, metadata={"option": option(text, **more)}, kw_only=kw_only)


@dataclass(frozen=True)
class Choice:
    """A registered thing that is chosen by name, with its options.

    Attributes:
        name: in its registry; ``None`` for an automatic choice.
        options: by their names.
    """

    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self, registry: Registry[Any]) -> dict[str, Any]:
        """Return the options as arguments of the constructor."""
        known = options_in(registry, self.name)
        return {known[name].parameter: value for name, value in self.options.items()}

    def maker(self, registry: Registry[Any]) -> Callable[..., Any]:
        """Return the registered thing with its options bound, to be called with its other arguments."""
        own = self.arguments(registry)
        return functools.partial(registry[self.name], **own) if own else registry[self.name]


def choice(
    default: str | None,
    text: str,
    registry: Registry[Any] | None = None,
    *,
    names: Iterable[str] | None = None,
    **more: Any,
) -> Any:
    """Make a field that chooses an entry of a registry, whose options it brings along.

    It is the field ``name`` of a section that is a :class:`Choice` itself, or a field of the type :class:`Choice`.

    Args:
        default: name, or ``None``.
        text: help.
        registry: of things by name.
        names: names that it takes, where they are not those of the registry.
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
    for name, (annotation, default, field_facts) in _parameters(called).items():
        kind, optional, names, about = _kind(annotation)
        own = given_facts(field_facts or about or _About())
        chosen = default is not inspect.Parameter.empty and "left_out" not in own and not name.startswith("_")
        if (kind or "kind" in own) and chosen:
            optional = optional or default is None  # ``kappa: float = None``
            about = {"name": name, "kind": kind, "help": texts.get(name, ""), "optional": optional, "names": names}
            made = Option(default=default, parameter=name, **{**about, **own})
            found[made.name] = made
    return found


def options_in(registry: Registry[Any], name: str) -> dict[str, Option]:
    """Find the options of a registered thing, without the arguments that all entries are called with."""
    found = options_of(registry[name])
    return {each.name: each for each in found.values() if each.parameter not in registry.takes}


def given_facts(about: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the facts about an option that are given: neither ``None`` nor empty."""
    return {key: value for key, value in about.items() if value is not None and value != ""}


_Parameter = tuple[Any, Any, Any]
"""Annotation, default, and facts of a dataclass field."""


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
        for p in parameters_of(called).values()
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
    """Return the kind of a type (``""`` for others), whether it takes ``None``, its names, and facts about it."""
    about = None
    if get_origin(annotation) is Annotated:
        annotation, *rest = get_args(annotation)
        about = next((each for each in rest if isinstance(each, _About)), None)
    optional = False
    if get_origin(annotation) in (Union, types.UnionType):
        others = [each for each in get_args(annotation) if each is not types.NoneType]
        optional = len(others) < len(get_args(annotation))
        annotation = others[0] if len(others) == 1 else None
    if get_origin(annotation) is Annotated:
        kind, _, names, about = _kind(annotation)
        return kind, optional, names, about
    if get_origin(annotation) is Literal and all(isinstance(each, str) for each in get_args(annotation)):
        return "str", optional, get_args(annotation), about
    known = {bool: "bool", int: "int", float: "float", str: "str", tuple[int, ...]: "tuple[int, ...]"}
    try:
        return known.get(annotation, ""), optional, None, about
    except TypeError:
        return "", optional, None, about


def _argument_texts(called: Callable[..., Any]) -> dict[str, str]:
    """Read the first sentence about each argument in the docstrings of a class or function and its base classes."""
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

KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a finite number",
    "str": "text",
    "path": "a path",
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
        if about.kind in ("str", "path"):
            if not isinstance(value, str):
                raise TypeError
            return value
        return _number(int if about.kind == "int" else float, value)
    except (TypeError, ValueError, OverflowError) as error:
        most = " of at most 64 bits" if isinstance(error, OverflowError) else ""
        raise UserError(f"{name} takes {KINDS[about.kind]}{most}, got {brief(value)}") from None


def _number(kind: type[int] | type[float], value: Any) -> int | float:
    number: int | float | None
    if isinstance(value, str):
        number = kind(value)
    elif kind is int and (whole := as_whole(value)) is not None:
        number = whole
    else:
        number = as_number(value)
        if number is None or (kind is int and int(number) != number):
            raise TypeError
        number = kind(number)
    if not math.isfinite(number):
        raise ValueError
    if isinstance(number, int) and abs(number) >> 63:  # files are read with numbers of 64 bits
        raise OverflowError
    return number


def check_within(name: str, value: float, interval: str) -> None:
    """Refuse a value outside of an interval.

    Args:
        name: of the value, for the error.
        value: to check.
        interval: such as ``[0, 1)`` or ``(0, ∞)``.

    Raises:
        UserError: with the name, the interval and the value.
    """
    # whole ends are kept as int: as floats 2**63 - 1 and 2**63 are equal
    low, high = (
        float(end.replace("∞", "inf")) if re.search(r"[.e∞]", end) else int(end)
        for end in (part.strip(" ()[]") for part in interval.split(","))
    )
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


def check_named(name: str, path: str | None) -> None:
    """Refuse an empty path, which a script hands over where its variable is not set.

    Args:
        name: of the option or argument, for the error.
        path: what was given, or ``None`` for nothing.

    Raises:
        UserError: for a path without visible characters.
    """
    if path is not None and not path.strip():
        raise UserError(f"{name} is empty: name a path{', or leave the option out' if name.startswith('--') else ''}")


# --- owners ------------------------------------------------------------------------------------------------------


class Owner(ABC):
    """A condition on the values of options, under which the options that belong to it are used.

    Owners are joined by ``&`` and ``|``. Help texts, errors and tests are all made from this one statement.
    """

    @abstractmethod
    def holds(self, view: View) -> bool:
        """Whether the values fulfil the condition."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the owner, such as ``--rule gamma``."""

    @abstractmethod
    def missing(self, view: View) -> Condition:
        """Find the part of the condition that the values do not fulfil."""

    @abstractmethod
    def looks_at(self) -> Iterator[str]:
        """Yield the options that the condition looks at."""

    def __and__(self, other: Owner) -> Owner:
        return _Both(self, other)

    def __or__(self, other: Owner) -> Owner:
        return _Either(self, other)


@dataclass(frozen=True)
class Condition(Owner):
    """A condition with a name of its own.

    Attributes:
        label: name of what the option belongs to; a function where it depends on what is registered.
        test: whether the values fulfil the condition.
        decides: options that an error names with their values.
    """

    label: str | Callable[[], str]
    test: Callable[[View], bool]
    decides: tuple[str, ...]

    def holds(self, view: View) -> bool:
        return self.test(view)

    @property
    def name(self) -> str:
        return self.label if isinstance(self.label, str) else self.label()

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
    """Make the owner of options that are used with certain values of the option ``name``.

    Args:
        name: the option.
        names: its values; a function where they depend on what is registered.
        of: all names that it takes, for a shorter label where at most one is left out.
        key: turns a value of the option into the name that it means.
    """

    def owners() -> Collection[str]:
        return names() if callable(names) else names

    def label() -> str:
        left_out = [each for each in of or () if each not in owners()]
        if of is not None and len(left_out) < 2:
            return f"any {flag(name)}" + (f" but {left_out[0]}" if left_out else "")
        *most, last = owners() or ["(none)"]
        return f"{flag(name)} {', '.join(most)}{' or ' if most else ''}{last}"

    return Condition(label, lambda view: key(str(getattr(view, name))) in owners(), (name,))


def other_than(name: str, default: Any, label: str | None = None) -> Condition:
    """Make the owner of options that belong to the option ``name`` where it is not ``default``.

    Args:
        name: the option.
        default: its value with which the others do nothing.
        label: name of the owner; ``None`` for the flag.
    """
    return Condition(label or flag(name), lambda view: getattr(view, name) != default, (name,))


def flag(name: str) -> str:
    """Write the name of an option as it is on the command line."""
    return "--" + name.replace("_", "-")


def written(name: str, value: Any) -> str:
    """Write an option and its value as they are on the command line."""
    if isinstance(value, bool):
        return flag(name) if value else f"--no-{flag(name)[2:]}"
    return f"{flag(name)} {','.join(map(str, value)) if isinstance(value, tuple) else value}"


# --- objects as text ---------------------------------------------------------------------------------------------


def described(value: Any) -> str:
    """Write a value as Python code: objects by the arguments of their constructor, functions by their name.

    Two values that are made alike give the same text in any process, so that checkpoints can compare them. Arguments
    with their default value are left out, so that an argument added later changes no text. A class that replaces
    another one keeps its text with the name of that one as its attribute ``described_as``.

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
    torch = sys.modules.get("torch")  # where it is not loaded, no value is of one of its types
    if torch is not None and isinstance(value, torch.Tensor):
        return f"tensor({value.tolist()})" if value.numel() <= 8 else f"tensor of shape {list(value.shape)}"
    if torch is not None and isinstance(value, torch.nn.Module):
        return f"{type(value).__name__}({value.extra_repr()})"
    if torch is not None and isinstance(value, torch.Generator):
        return "Generator"  # its state changes
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _written_call(value, {f.name: _field_default(f) for f in dataclasses.fields(value) if f.init})
    if inspect.isfunction(type(value).__init__):
        return call_of(value)
    return _repr_on_one_line(value)


def call_of(value: Any) -> str:
    """Write an object as the call that makes it, from attributes with the names of its constructor's arguments.

    A class that keeps arguments under other names has a method ``arguments``, which returns them by their own names.
    Other arguments that are not kept as attributes are left out.
    """
    parameters = inspect.signature(type(value).__init__).parameters.values()
    named = [p for p in list(parameters)[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    arguments = getattr(value, "arguments", None)
    kept: dict[str, Any] = arguments() if inspect.ismethod(arguments) else {}
    return _written_call(value, {p.name: p.default for p in named if p.name in kept or is_kept(value, p.name)}, kept)


def is_kept(value: Any, name: str) -> bool:
    """Whether an object has an attribute of a name, beside a ``None`` that its class says for all."""
    own = name in getattr(value, "__dict__", ())
    return own or (hasattr(value, name) and getattr(type(value), name, ()) is not None)


def _written_call(value: Any, defaults: Mapping[str, Any], kept: Mapping[str, Any] = types.MappingProxyType({})) -> str:
    values = {name: kept[name] if name in kept else getattr(value, name) for name in defaults}
    own = {name: (described(values[name]), default) for name, default in defaults.items()}
    given = [f"{name}={text}" for name, (text, default) in own.items() if not _is_default(default, text)]
    return f"{getattr(value, 'described_as', type(value).__name__)}({', '.join(given)})"


def _is_default(default: Any, text: str) -> bool:
    return default is not inspect.Parameter.empty and described(default) == text


def _field_default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return inspect.Parameter.empty if field.default_factory is dataclasses.MISSING else field.default_factory()


def _repr_on_one_line(value: Any) -> str:
    """Write the ``repr`` of a value in one line and without addresses in memory."""
    return " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)).split())
