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
from spikelfp.registry import Registry, check_name
from spikelfp.terminal import brief

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
    """Facts about an option beside its name, type and default."""


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
        own = said(told or about or _About())
        chosen = default is not inspect.Parameter.empty and "left_out" not in own and not name.startswith("_")
        if (kind or "kind" in own) and chosen:
            optional = optional or default is None  # ``kappa: float = None``
            about = {"name": name, "kind": kind, "help": texts.get(name, ""), "optional": optional, "names": names}
            made = Option(default=default, parameter=name, **{**about, **own})
            found[made.name] = made
    return found


def options_in(registry: Registry[Any], name: str) -> dict[str, Option]:
    """Find the options of a registered thing, without the arguments that it is called with anyway."""
    found = options_of(registry[name])
    return {each.name: each for each in found.values() if each.parameter not in registry.takes}


def said(about: Mapping[str, Any]) -> dict[str, Any]:
    """Facts about an option, without what was left open."""
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

KINDS = {
    "bool": "true or false",
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
    except (TypeError, ValueError, OverflowError) as error:
        most = " of at most 64 bits" if isinstance(error, OverflowError) else ""
        raise UserError(f"{name} takes {KINDS[about.kind]}{most}, got {brief(value)}") from None


def _number(kind: type[int] | type[float], value: Any) -> int | float:
    if isinstance(value, bool) or (kind is int and not isinstance(value, str) and int(value) != value):
        raise TypeError
    number = kind(value)
    if not math.isfinite(number):
        raise ValueError
    if isinstance(number, int) and abs(number) >> 63:  # files are read with numbers of 64 bits
        raise OverflowError
    return number


def check_within(name: str, value: float, interval: str) -> None:
    """Refuse a ``value`` outside of an ``interval`` such as ``[0, 1)`` or ``(0, ∞)``.

    Raises:
        UserError: naming the value's ``name`` and the interval.
    """
    # whole numbers are compared as such: as floats 2**63 - 1 and 2**63 are one
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


# --- objects as text ---------------------------------------------------------------------------------------------


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
    """Write an object as the call that makes it, from attributes named as the arguments of its constructor.

    An object that keeps arguments under other names has a method ``arguments`` that tells them by their own; others
    that it does not keep under their name are left out.
    """
    parameters = inspect.signature(type(value).__init__).parameters.values()
    named = [p for p in list(parameters)[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    told = getattr(value, "arguments", None)
    kept: dict[str, Any] = told() if inspect.ismethod(told) else {}
    return _written_call(value, {p.name: p.default for p in named if p.name in kept or hasattr(value, p.name)}, kept)


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
    """The text of ``repr``, on one line and without addresses in memory."""
    return " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)).split())
