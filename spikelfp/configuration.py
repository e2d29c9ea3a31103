"""Configurations: nested dataclasses of options, read from flat or nested values, checked and written.

A configuration is a frozen dataclass of sections (:func:`~spikelfp.options.section`). A thing that is chosen by name
(:func:`~spikelfp.options.choice`) brings its own options along. :class:`Schema` reads a configuration from flat values,
``{"rule": "mine", "kappa": 0.3}``, as on a command line, or from nested ones,
``{"method": {"rule": {"name": "mine", "kappa": 0.3}}}``, as in a file, and writes it as either. An option has one name
everywhere; an option that two things have under one name belongs to both.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, TypeVar

from spikelfp.errors import KeywordError, UserError
from spikelfp.options import (
    KINDS,
    Choice,
    Option,
    Owner,
    View,
    flag,
    given_facts,
    one_of,
    options_in,
    options_of,
    written,
)
from spikelfp.registry import Registry, check_keywords, unknown_name
from spikelfp.terminal import brief

Place = tuple[str, ...]
"""Path of an option in a configuration: ``("method", "rule", "gamma")``; a choice has the path of its options."""


@dataclass(frozen=True)
class Slot:
    """An option at its place in a configuration.

    Attributes:
        path: of the option.
        option: with its owner; an option of a chosen thing belongs to that choice.
        group: section of the help text.
        registry: of the things that a choice names.
        is_choice: whether the option is a choice.
        chooser: path of the choice that brings the option along.
        owners: for such an option, that of each of the names that have it.
    """

    path: Place
    option: Option
    group: str
    registry: Registry[Any] | None = None
    is_choice: bool = False
    chooser: Place | None = None
    owners: Mapping[str, Option] = field(default_factory=dict)


Config = TypeVar("Config")


def by_name(values: Mapping[Any, Any], source: str) -> dict[str, Any]:
    """Spell the keys of a mapping as options are named, with ``_`` for ``-``.

    Args:
        values: to be read.
        source: file that they come from, for the error.

    Raises:
        UserError: for an option with both spellings.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name in found:
            raise UserError(f"{brief(name)} stands in {source} twice, with - and with _: leave one of them out")
        found[name] = value
    return found


class Schema(Generic[Config]):
    """All options of a configuration, including those of things that are registered later.

    Args:
        kind: frozen dataclass whose fields are made by :func:`~spikelfp.options.section`.
        also: further owners of options in this configuration, by the names of the options.
    """

    known: ClassVar[list[Schema[Any]]] = []
    """All schemas; the options of a plug-in must fit into each."""

    def __init__(self, kind: type[Config], also: Mapping[str, Owner] | None = None) -> None:
        self.kind, self._also = kind, also or {}
        self.taken: set[str] = set()
        """Names that no option of a chosen thing may have: those of a command's own flags."""
        Schema.known.append(self)
        self._static: list[Slot] = []
        self.sections: dict[str, type] = {}
        for f in fields(kind):  # type: ignore[arg-type]
            inner, title = f.metadata["section"]
            self.sections[f.name] = inner
            self._static += _slots((f.name,), inner, title)
        registries = {id(slot.registry): slot.registry for slot in self._static if slot.registry is not None}
        self._registries = tuple(registries.values())
        self._registered: object = None
        self._slots: dict[Place, Slot] = {}
        self._named: dict[str, list[Slot]] = {}

    # --- finding

    def slots(self) -> dict[Place, Slot]:
        """Find every option by its place, including those of things that are not chosen.

        Raises:
            UserError: for a registered thing whose options conflict with others.
        """
        state = [tuple(map(id, registry.entries())) for registry in self._registries]
        if state != self._registered:
            slots: dict[Place, Slot] = {}
            named: dict[str, list[Slot]] = {}
            for slot in self._static:
                slots[slot.path] = slot
                if slot.registry is not None:
                    slots.update({each.path: each for each in _brought(slot, slot.registry, self._also)})
            for slot in slots.values():
                named.setdefault(slot.option.name, []).append(slot)
            for name, places in named.items():
                self._check_name(name, places, named)
            self._slots, self._named, self._registered = slots, named, state
        return self._slots

    def _check_name(self, name: str, places: list[Slot], named: Mapping[str, list[Slot]]) -> None:
        """Refuse an option of a registered thing whose name or flag has another meaning."""
        for slot in places:
            if slot.chooser is None:
                continue
            whose = f"the option {name} of {' and '.join(slot.owners)}"
            negated = name.removeprefix("no_") if name.startswith("no_") else None
            switches = {each for each, own in named.items() if own[0].option.kind == "bool"}
            if name in {"name", "options", *self.sections} or any(each.is_choice for each in places):
                raise UserError(f"{whose} has a name with another meaning in a file of options: give it another name")
            if name in self.taken or negated in self.taken | switches:
                raise UserError(f"{whose} would be {flag(name)}, a flag with another meaning: give it another name")
            texts = {"str", "path"}
            kinds = texts if slot.option.kind in texts else {slot.option.kind}
            other = next((each for each in places if each.option.kind not in kinds), None)
            if other is not None:
                there = f"of {' and '.join(other.owners)}" if other.owners else f"in {'.'.join(other.path[:-1])}"
                raise UserError(
                    f"{whose} takes {KINDS[slot.option.kind]}, and that {there} {KINDS[other.option.kind]}: give one "
                    "of them another name"
                )

    def named(self) -> dict[str, list[Slot]]:
        """Find the places of every option by its name; an option that two things have has several."""
        self.slots()
        return self._named

    def options(self) -> list[tuple[Option, str]]:
        """List each option once, in order, with the section of the help text; several owners are joined by *or*."""
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

    # --- reading

    def stated(self, values: Mapping[str, Any], source: str) -> dict[Place, Any]:
        """Find the places of values that are given by name, or nested as in a file.

        Args:
            values: ``{"rule": "gamma"}``, ``{"method": {"rule": {"name": "gamma"}}}``, or a mixture; a value of a
                section may be the dataclass of that section.
            source: for errors: a file, or the class that is called with the values.

        Returns:
            The values, read, by their places. A value that is given by name is at every place of that name.

        Raises:
            UserError: for an unknown name, with the nearest one, and for invalid values.
        """
        whole: dict[Place, Any] = {}
        nested: dict[Place, Any] = {}
        found: dict[Place, Any] = {}
        named = self.named()
        for name, value in values.items():
            if name in self.sections and isinstance(value, self.sections[name]):
                whole |= self._of_section((name,), value)
            elif name in self.sections and isinstance(value, Mapping):
                self._descend(nested, (name,), value, source)
            elif isinstance(value, Mapping) and any(slot.is_choice for slot in named.get(name, ())):
                self._descend(nested, named[name][0].path, value, source)
            elif name not in named:
                if name in self.sections:
                    raise UserError(f"{name} in {source} is a section of options, got {brief(value)}")
                raise self._unknown(name, source)
            else:
                read = [(slot.path, slot.option.read(value)) for slot in named[name]]
                found.update(read)
        return self.over(whole, {**nested, **found})

    def _unknown(self, name: str, source: str) -> UserError:
        if source != self.kind.__name__:
            return unknown_name(f"option in {source}", name, {*self.named(), *self.sections})
        try:
            check_keywords(source, [name], self.named())
        except KeywordError as error:
            return error
        raise AssertionError(name)

    def over(self, before: Mapping[Place, Any], now: Mapping[Place, Any]) -> dict[Place, Any]:
        """Merge two sets of values, without the former defaults of things that are no longer chosen.

        Args:
            before: values by their places.
            now: values that replace them.
        """
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
        """Return the options of an entry of a choice.

        Args:
            chooser: path of the choice.
            name: of the entry.
        """
        registry = self.slots()[chooser].registry
        return {} if registry is None else options_in(registry, name)

    def _descend(self, found: dict[Place, Any], path: Place, values: Mapping[str, Any], source: str) -> None:
        slots = self.slots()
        for name, value in by_name(values, source).items():
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
                raise unknown_name(f"option of {'.'.join(path)} in {source}", name, here)

    def settled(self, stated: Mapping[Place, Any], given: Collection[Place] = ()) -> dict[Place, Any]:
        """Fill in defaults, and refuse options that would do nothing.

        Args:
            stated: values by their places, read.
            given: places of the values that the user gave now, which are refused even at their default.

        Raises:
            UserError: for the first option that would do nothing; the text names what it belongs to and what was
                chosen instead.
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
        """Leave out the values of a run's record that did nothing.

        Args:
            stated: values by their places, read.
            keep: places whose values stay.
        """
        values = dict(stated)
        slots = self.slots()
        while True:
            view = self.view(values)
            forgotten = [
                path for path, value in values.items()
                if path not in keep and value != (slot := slots[path]).option.default
                and not self._used(slot, view)
            ]  # fmt: skip
            if not forgotten:
                return values
            for path in forgotten:
                del values[path]

    def view(self, stated: Mapping[Place, Any]) -> View:
        """View values, unchecked, as attributes with the names of their options; defaults are filled in."""
        return _View(self, stated)

    def _used(self, slot: Slot, view: View) -> bool:
        return slot.option.owner is None or slot.option.owner.holds(view)

    def _chosen(self, slot: Slot, view: View) -> Any:
        """Return the name of the thing that brings an option along."""
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

    # --- writing

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
        """List the values of a configuration by their places."""
        found: dict[Place, Any] = {}
        for name in self.sections:
            found |= self._of_section((name,), getattr(config, name))
        return found

    def _of_section(self, path: Place, own: Any) -> dict[Place, Any]:
        found: dict[Place, Any] = {}
        for f in fields(own):
            value, place = getattr(own, f.name), path if f.name == "name" else (*path, f.name)
            if f.name == "options":
                found |= {(*path, name): each for name, each in value.items()}
            elif isinstance(value, Choice):
                found[place] = value.name
                found |= {(*place, name): each for name, each in value.options.items()}
            else:
                found[place] = value
        return {place: found[place] for place in self.slots() if place in found}

    def used(self, config: Config) -> dict[Place, Any]:
        """List the values that a configuration uses, by their places."""
        values = self.values(config)
        view = self.view(values)
        slots = self.slots()
        return {path: value for path, value in values.items() if self._used(slots[path], view)}

    def default(self, path: Place, config: Config) -> Any:
        """Return the default of an option with the choices of a configuration."""
        slot = self.slots()[path]
        own = (
            slot.option if slot.chooser is None else slot.owners.get(self._chosen(slot, self.view(self.values(config))))
        )
        return (slot.option if own is None else own).default

    def nested(self, config: Config) -> dict[str, Any]:
        """Write the values that a configuration uses as nested plain data, for a file."""
        tree: dict[str, Any] = {}
        values = self.used(config)
        for path, value in values.items():
            plain = list(value) if isinstance(value, tuple) else value
            brings = any(self._slots[place].chooser == path for place in values)
            whole = (*path, "name") if len(path) == 1 or brings else path
            outer, last = whole[:-1], whole[-1]
            inner = tree
            for step in outer:
                inner = inner.setdefault(step, {})
            inner[last] = plain
        return tree


class _View:
    """Values as attributes with the names of their options."""

    def __init__(self, schema: Schema[Any], stated: Mapping[Place, Any]) -> None:
        self._named, self._stated = schema.named(), stated  # a view is short-lived: nothing is registered meanwhile

    def __getattr__(self, name: str) -> Any:
        slots = self._named.get(name)
        if slots is None:
            raise AttributeError(name)
        own = next((slot for slot in slots if slot.chooser is None), None)
        if own is not None:
            return self._stated.get(own.path, own.option.default)
        return next((self._stated[slot.path] for slot in slots if slot.path in self._stated), slots[0].option.default)


def _either(first: Owner, second: Owner) -> Owner:
    return first | second


def _slots(path: Place, kind: type, title: str) -> list[Slot]:
    """List the options of a section."""
    types_, found = options_of(kind), list[Slot]()
    for f in fields(kind):
        if f.name == "options":
            continue
        about, registry = f.metadata["option"], f.metadata.get("registry")
        chooses = "registry" in f.metadata
        place = path if f.name == "name" and chooses else (*path, f.name)
        if chooses:
            own = Option(
                **{
                    "name": place[-1],
                    "kind": "str",
                    "default": f.default,
                    "optional": f.default is None,
                    **given_facts(about),
                }
            )
        else:
            own = types_[f.name]
        found.append(Slot(place, own, title, registry, is_choice=chooses))
    return found


def _own(registry: Registry[Any], name: str) -> dict[str, Option]:
    """Find the options of a registered thing.

    Raises:
        UserError: for a thing that cannot be made from options.
    """
    thing = f"the {registry.kind} {name}"
    try:
        parameters = inspect.signature(registry[name]).parameters
    except (TypeError, ValueError):
        raise UserError(f"{thing} is no class or function with parameters, got {brief(registry[name])}") from None
    for each in parameters.values():
        if each.kind is each.KEYWORD_ONLY and each.default is each.empty and each.name not in registry.takes:
            raise UserError(f"{thing} takes {each.name}, which has no default: give it one")
    found = options_in(registry, name)
    for option in found.values():
        if not option.optional or option.default is not None:
            try:
                option.read(option.default)
            except UserError as error:
                raise UserError(f"{thing} does not take its own default of {option.name}: {error}") from None
    return found


def _brought(slot: Slot, registry: Registry[Any], also: Mapping[str, Owner]) -> Iterator[Slot]:
    """Yield the options that the entries of a registry bring along to a choice."""
    found: dict[str, dict[str, Option]] = {}
    for name in registry:
        for each in _own(registry, name).values():
            found.setdefault(each.name, {})[name] = each
    for option_name, owners in found.items():
        first = next(iter(owners.values()))
        others = [name for name, each in owners.items() if each.kind != first.kind]
        if others:
            raise UserError(
                f"the option {option_name} takes {KINDS[first.kind]} with the {registry.kind} "
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
