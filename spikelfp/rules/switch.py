"""Give a network another rule: for good, for a while, or where it has none of its own."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import nn

from spikelfp.errors import UserError
from spikelfp.rules.base import Rule
from spikelfp.rules.composite import Composite
from spikelfp.rules.epsilon import Epsilon
from spikelfp.rules.gradient import Gradient


class HasRule:
    """Mixin of layers that follow a rule: their own, else one that a trainer lends them, else ``fallback``.

    A layer that assigns ``self.rule`` in its constructor follows a rule, others have none. ``layer.rule = None`` takes
    the layer's own rule away again.
    """

    fallback: ClassVar[Rule] = Epsilon()
    """The rule of layers that nobody has given one."""

    @property
    def rule(self) -> Rule:
        """The rule that the next forward pass follows."""
        try:
            own = self.__dict__["_own_rule"]
        except KeyError:
            raise AttributeError("rule") from None  # torch's modules then say who has no such attribute
        if own is not None:
            return own
        lent = self.__dict__.get("_lent_rule")
        return self.fallback if lent is None else lent

    @rule.setter
    def rule(self, rule: Rule | None) -> None:
        if rule is not None and not isinstance(rule, Rule):
            raise UserError(
                f"a layer follows a rule of spikelfp.rules, such as rules.Epsilon(), got {rule!r}; a Composite goes to "
                "rules.attach(net, …)"
            )
        if "_own_rule" not in self.__dict__ and type(self).__module__.startswith("spikelfp."):
            taken = inspect.signature(type(self).__init__).parameters
            if "rule" not in taken:
                raise UserError(
                    f"{type(self).__name__} follows no rule itself: rules.attach(net, rule) is for the layers inside"
                )
        self.__dict__["_own_rule"] = rule


def attach(net: nn.Module, rule: Rule | Composite) -> None:
    """Make ``rule`` the own rule of every layer of ``net``, from now on, inside trainers too.

    Args:
        net: layers of :mod:`spikelfp.nn`, in a module of any kind.
        rule: a rule for all, or a :class:`Composite`, which says which layer follows which.
    """
    assigned = _assigned(net, rule)
    if not assigned:
        raise UserError(
            f"this {type(net).__name__} has no layer that follows a rule: build it of spikelfp.nn, or "
            "spikelfp.convert(net) it first"
        )
    for layer, own in assigned.items():
        setattr(layer, "rule", own)  # noqa: B010  (torch types attributes of modules as tensors)


@contextmanager
def using(net: nn.Module, rule: Rule | Composite) -> Iterator[None]:
    """Within the block every layer of ``net`` follows ``rule``, whatever its own; after it each has its own back.

    The rule of a forward pass decides its backward pass, wherever that is called.
    """
    assigned, before = _assigned(net, rule), rules_of(net.modules())
    if assigned:
        attach(net, rule)
    try:
        yield
    finally:
        restore(before)


@contextmanager
def lending(net: nn.Module, rule: Rule | Composite) -> Iterator[None]:
    """Within the block the layers of ``net`` that have no rule of their own follow ``rule``: trainers run in it.

    Raises:
        UserError: where rewards and losses would meet: a layer has an LFP rule of its own and ``rule`` is that of a
            gradient method, or the other way round.
    """
    before = rules_of(net.modules())
    for layer, lent in _assigned(net, rule).items():
        if isinstance(layer, HasRule):
            layer.__dict__["_lent_rule"] = lent
        if isinstance(layer.rule, Gradient) != isinstance(lent, Gradient):
            name = next(name for name, module in net.named_modules() if module is layer)
            restore(before)
            raise UserError(
                f"layer {name or '(the network itself)'} ({type(layer).__name__}) has a rule of its own, {layer.rule}, "
                f"and the training method brings {lent}: rewards and losses do not mix. Take the layer's own rule away "
                "(layer.rule = None) or train by the method of its kind"
            )
    try:
        yield
    finally:
        restore(before)


def rules_in(net: nn.Module) -> dict[nn.Module, Rule]:
    """Find the rule that each layer of ``net`` follows now; layers that follow none are left out."""
    found = {layer: getattr(layer, "rule", None) for layer in net.modules()}
    return {layer: rule for layer, rule in found.items() if isinstance(rule, Rule)}


def rules_of(layers: Iterable[nn.Module]) -> dict[nn.Module, Any]:
    """Find the rules of those of ``layers`` that follow one, own and lent, for :func:`restore`."""
    return {
        layer: (layer.__dict__["_own_rule"], layer.__dict__.get("_lent_rule"))
        if isinstance(layer, HasRule)
        else layer.rule
        for layer in layers
        if isinstance(getattr(layer, "rule", None), Rule)
    }


def restore(before: dict[nn.Module, Any]) -> None:
    """Give layers the rules back that :func:`rules_of` found."""
    for layer, own in before.items():
        if isinstance(layer, HasRule):
            layer.__dict__["_own_rule"], layer.__dict__["_lent_rule"] = own
        else:
            setattr(layer, "rule", own)  # noqa: B010


def _assigned(net: nn.Module, rule: Rule | Composite) -> dict[nn.Module, Rule]:
    if not isinstance(net, nn.Module):
        raise UserError(f"rules go to the layers of a network, attach(net, rule), got {type(net).__name__} for the net")
    if not isinstance(rule, (Rule, Composite)):
        given = rule if isinstance(rule, (str, type)) else type(rule)
        raise UserError(
            "a rule of spikelfp.rules or a Composite of them is needed, such as rules.Gamma(), got "
            f"{repr(given) if isinstance(given, str) else given.__name__}"
        )
    return rule.assign(net)
