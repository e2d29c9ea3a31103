"""Base of the rules: the decisions of a rule, the part that all LFP rules share, and which layer follows which rule.

A :class:`Rule` says how each kind of layer sends credit back. :class:`Feedback` is the part that all LFP rules share:
everything but how a linear layer splits the reward of its neurons, which is the rule's file.

========================  ====================================================================================
output neuron             ``m_c = r_c / (o_c + sign(o_c) ε)``                      (:func:`spikelfp.propagate`)
activation                ``m_z = φ(z) m_a / (z + sign(z) ε)``                     v3, eq. 6
normalisation             an affine map of fixed mean and variance                 v3, eq. 8-10
sum, concatenation        autograd's own backward                                  v3, eq. 11
product of two signals    half of the message to each factor                       AttnLRP (arXiv:2402.05602)
softmax                   autograd's own backward                                  AttnLRP
LIF through time          :mod:`spikelfp.functional.lif`                           v3, eq. A.2-A.3
========================  ====================================================================================

A neuron ends in an activation or at the output, and its ε enters once, there. Linear maps in a row, such as
convolution, BatchNorm and pooling, pass the message on. The rules αβ, z⁺z⁻ and γ divide by sums of their own. They
take the reward of the neuron before that division, so that ε enters once with them too
(:func:`spikelfp.functional.split.divided_by`).

A layer follows its own rule, else the one that a trainer lends it (:func:`lending`), else the default
(:class:`HasRule`).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spikelfp import kernels
from spikelfp.errors import UserError
from spikelfp.functional.credit import (
    HalfCredit,
    LayerOutput,
    MagnitudeStep,
    NeuronNode,
    NormalisedReward,
    SecantActivation,
    SecantReLU,
    check_range,
    earners,
    forward_class,
    keep_node,
)  # fmt: skip
from spikelfp.functional.lif import PAPER_MARGIN, Constant, LIFParameters, at_least, carried, total_like
from spikelfp.functional.neuron import Carry, Enter, Fire, Inflow, StackedSteps, Survive
from spikelfp.functional.sequence import is_constant
from spikelfp.functional.split import LinearMap, divided_by
from spikelfp.options import NOT_AN_OPTION, setting
from spikelfp.registry import check_name, parameters_of
from spikelfp.scalars import as_number, keep_plain

if TYPE_CHECKING:
    from typing_extensions import Self

CREDITS = ("scan", "step")
"""Values of ``credit`` of the LFP rules (:class:`Feedback`)."""

Activation = Callable[[Tensor], Tensor]
"""Element-wise function ``z → φ(z)``."""


class Assigning(ABC):
    """Base of rules and composites: says which layer of a network follows which rule."""

    @abstractmethod
    def assign(self, net: nn.Module) -> dict[nn.Module, Rule]:
        """Choose the rule of each layer of ``net`` that follows one."""

    def for_method(self) -> Self:
        """Return the rules as a method lends them, with a choice for what they leave open; these stay as they are."""
        return self


class Rule(Assigning):
    """Backward pass of each kind of layer; the forward pass is the same under every rule.

    A layer calls the method of its kind in ``forward``. Rules hold options only, never tensors of a pass, so one rule
    serves many layers.
    """

    constant_statistics: bool | None
    """Whether means and variances of a batch are constants of the backward pass (v3, section 3.1.3).

    ``None`` leaves it open: no where a method lends the rule (:meth:`for_method`), yes elsewhere."""
    needs_sign: bool
    """Whether activations must not change the sign of what they are given (v3, section 3.4)."""
    one_product: bool = False
    """Whether ``linear`` calls ``op`` once and leaves the backward pass to it: pooling may then be part of ``op``."""
    silent_earn_nothing: bool = False
    """Whether neurons that do not fire pass over the messages they get: those need not be computed then.

    With a margin, some neurons that do not fire earn theirs (:func:`spikelfp.functional.credit.earners`)."""
    of_gradients: bool = False
    """Whether derivatives of a loss come back, and not rewards."""

    @property
    def forward_in_time(self) -> bool:
        """Whether credit stays in its step; a layer with a memory then detaches what a step takes from the one before.

        Layers that carry their states by :meth:`lif` or :meth:`carry`, and :class:`~spikelfp.nn.Neurons`, need not ask.
        """
        return False

    @abstractmethod
    def linear(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the output of a linear layer, ``op(x, weight, bias)``.

        Args:
            op: the linear map, such as a matrix product or a convolution.
            x: its input ``[T, B, …]``.
            weight: its weights.
            bias: its bias, or ``None``.
        """

    @abstractmethod
    def affine(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return an element-wise affine map, ``γ ã + β`` of a normalisation layer: ``op(x, weight, bias)``.

        Args:
            op: the map.
            x: normalised input ``ã``.
            weight: γ.
            bias: β, or ``None``.
        """

    @abstractmethod
    def parameter(self, weight: Tensor) -> Tensor:
        """Return a parameter that is itself a contribution (an embedding, a class token), to be added to a signal."""

    @abstractmethod
    def factor(self, x: Tensor) -> Tensor:
        """Return one factor of a product of two signals (attention), to be multiplied with the other."""

    @abstractmethod
    def activation(self, phi: Activation, z: Tensor, opposite_sign: bool = False) -> Tensor:
        """Return the output of an activation function, ``phi(z)``.

        Args:
            phi: element-wise function.
            z: pre-activations.
            opposite_sign: whether ``phi`` has the sign opposite to ``z`` (v3, footnote 12).
        """

    @abstractmethod
    def relu(self, z: Tensor) -> Tensor:
        """Return ``max(z, 0)``."""

    @abstractmethod
    def spike(self, z: Tensor) -> Tensor:
        """Return the Heaviside step: 1 where ``z > 0``, else 0."""

    @abstractmethod
    def lif(
        self, current: Tensor, start: Tensor, p: LIFParameters, decay: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run LIF neurons over time (v3, eq. A.2-A.3).

        Args:
            current: ``I``, ``[T, …]``.
            start: membrane before the first step, ``[…]``.
            p: constants of the neurons.
            decay: β as a scalar tensor that learns, of the value ``p.beta``; ``None`` if it does not.

        Returns:
            Spikes ``[T, …]`` and the last membrane ``[…]``.
        """

    @abstractmethod
    def inflow(self, parts: Sequence[Tensor], sizes: Sequence[Tensor], least: Constant = 0.0) -> Tensor:
        """Return the sum of all that flows into a membrane in a step.

        Args:
            parts: the terms, ``[B, …]`` each.
            sizes: magnitudes in proportion to which the terms share the credit, ``[B, …]`` each.
            least: least sum of these magnitudes, ``floor · θ`` (:mod:`spikelfp.functional.lif`); 0 without a floor.
        """

    @abstractmethod
    def carry(self, membrane: Tensor) -> Tensor:
        """Return a membrane ``[B, …]`` as the next step reads it."""

    @abstractmethod
    def survive(self, before: Tensor, after: Tensor) -> Tensor:
        """Return ``after``, the membrane that a reset has left of ``before``, both ``[B, …]``."""

    @abstractmethod
    def fire(self, membrane: Tensor, threshold: float | Tensor, margin: float = PAPER_MARGIN) -> Tensor:
        """Return the spikes ``[B, …]`` of a step: 1 where ``membrane > threshold``, else 0.

        Args:
            membrane: ``[B, …]``, before its reset.
            threshold: of the step.
            margin: share of the threshold above which a membrane earns the message to a spike.
        """

    @abstractmethod
    def steps(self, spikes: Sequence[Tensor]) -> Tensor:
        """Stack the spikes ``[B, …]`` of consecutive steps, each from :meth:`fire`, into one sequence ``[T, B, …]``."""

    def incoming(self, x: Tensor) -> Tensor:
        """Return the input ``[T, B, …]`` of a layer with weights; a rule may see its reward here."""
        return x

    def outgoing(self, z: Tensor) -> Tensor:
        """Return the output ``[T, B, …]`` of a layer with weights; a rule may see its reward here."""
        return z

    def neurons(self, outputs: Tensor) -> Tensor:
        """Return outputs ``[T, B, …]`` of neurons; a rule may mark their autograd node, at which a reward may start."""
        return outputs

    def assign(self, net: nn.Module) -> dict[nn.Module, Rule]:
        """Give this rule to all layers that follow one."""
        return dict.fromkeys(layers_with_rules(net), self)


def layers_with_rules(net: nn.Module) -> list[nn.Module]:
    """List the layers of ``net`` that follow a rule, in the order of ``net.modules()``."""
    return [layer for layer in net.modules() if isinstance(getattr(layer, "rule", None), Rule)]


def heaviside(z: Tensor) -> Tensor:
    """Return 1 where ``z > 0``, else 0, in the dtype of ``z`` (v3, A.2)."""
    return (z > 0).to(z.dtype)


def check_real(name: str, value: object) -> float:
    """Return an option of a rule that is a number.

    Raises:
        UserError: for what is none.
    """
    number = as_number(value)
    if number is None:
        raise UserError(f"{name} is a number, got {value!r}")
    return number


@dataclass(frozen=True)
class Feedback(Rule):
    """Base of the LFP rules: all but how a linear layer splits the reward of its neurons (:meth:`split`).

    Args:
        eps: stabiliser ε, in units of the pre-activation.
        normalize: divides the reward of each layer, the output included, by its largest magnitude on its way back
            (A.6.4): by that of each sample over all steps (``"sample"``, or ``True``) or of each sample and step
            (``"step"``). Updates of the samples add up afterwards, so they do not depend on the batch size or the
            number of workers.
        constant_statistics: whether rewards pass normalisation layers by eq. 8-10, with mean and variance constant.
            ``False`` lets messages pass through the statistics too, as gradients do; deep networks learn better that
            way. ``None``: through them where a method or trainer lends the rule, by name, class or object; constant
            where ``propagate`` is called without one, and as the own rule of a layer.
        credit: how the reward of neurons runs through time. ``"scan"``: back over all steps (v3, eq. A.2-A.3).
            ``"step"``: not at all; each step is credited with its own reward alone, ``n[t] = r_S[t] / D[t]``, so that
            learning goes strictly forward in time.

    Raises:
        UserError: for an ``eps`` that is no finite number above 0, and an unknown ``normalize`` or ``credit``.
    """

    eps: float = setting(1e-6, "stabiliser ε of the rule", within="(0, ∞)")
    normalize: bool | str = False
    constant_statistics: bool | None = field(default=None, kw_only=True, metadata={"option": NOT_AN_OPTION})
    credit: str = field(default="scan", kw_only=True, metadata={"option": NOT_AN_OPTION})

    needs_sign = True
    silent_earn_nothing = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):
            cls.__repr__ = Feedback.__repr__  # type: ignore[method-assign]  # which dataclass then leaves as it is

    def __post_init__(self) -> None:
        keep_plain(self)
        self._check_eps()
        if self.credit == "online":
            raise UserError(
                'credit="online" is no credit of a rule but of the method, which keeps eligibilities through time: '
                'methods.LFP(reward, credit="online"), or --credit online'
            )
        check_name("credit", self.credit, CREDITS)
        if not isinstance(self.normalize, bool) and self.normalize not in ("sample", "step"):
            raise UserError(f"normalize is False, 'sample' or 'step', got {self.normalize!r}")
        object.__setattr__(self, "normalize", "sample" if self.normalize is True else self.normalize)

    def __repr__(self) -> str:
        names = [each.name for each in fields(self) if each.repr and (each.name, self.credit) != ("credit", "scan")]
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def for_method(self) -> Self:
        if self.constant_statistics is not None:
            return self
        lent = copy.copy(self)
        object.__setattr__(lent, "constant_statistics", False)  # rules are frozen
        return lent

    @property
    def forward_in_time(self) -> bool:
        return self.credit == "step"

    def _check_eps(self) -> None:
        if not 0 < check_real("eps", self.eps) < float("inf"):
            raise UserError(f"eps must be a finite number above 0, got {self.eps}")

    def incoming(self, x: Tensor) -> Tensor:
        return NormalisedReward.apply(x, self.normalize, earners(x)) if self.normalize and x.requires_grad else x

    def outgoing(self, z: Tensor) -> Tensor:
        return LayerOutput.apply(z, self.eps, self.normalize) if self.normalize and z.requires_grad else z

    def linear(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        z = self.split(op, x, weight, bias)
        check_range(z)
        frozen = z.requires_grad and not weight.requires_grad and (bias is None or not bias.requires_grad)
        return LayerOutput.apply(z, self.eps, None) if frozen else z

    def split(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``op(x, weight, bias)``, whose reward is split in proportion to contribution (v3, eq. 2-4, 6-7).

        This is where LFP rules differ; the arguments are those of :meth:`linear`.
        """
        return self.affine(op, x, weight, bias)

    def affine(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return op(
            x, MagnitudeStep.apply(weight, self.eps), None if bias is None else MagnitudeStep.apply(bias, self.eps)
        )

    def parameter(self, weight: Tensor) -> Tensor:
        return MagnitudeStep.apply(weight, self.eps)

    def factor(self, x: Tensor) -> Tensor:
        return HalfCredit.apply(x)

    def activation(self, phi: Activation, z: Tensor, opposite_sign: bool = False) -> Tensor:
        divided_by(z, self.eps)
        return self.neurons(SecantActivation.apply(z, phi, self.eps, opposite_sign))

    def relu(self, z: Tensor) -> Tensor:
        divided_by(z, self.eps)
        return self.neurons(SecantReLU.apply(z, self.eps))

    def spike(self, z: Tensor) -> Tensor:
        return self.activation(heaviside, z)

    def lif(
        self, current: Tensor, start: Tensor, p: LIFParameters, decay: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        p, local = p.fitted(start) if p.vectors else p, self.forward_in_time
        spikes, last = LIFScan.apply(current, start.detach() if local else start, decay, p, self.eps, local)
        return self.neurons(spikes), last

    def inflow(self, parts: Sequence[Tensor], sizes: Sequence[Tensor], least: Constant = 0.0) -> Tensor:
        with torch.no_grad():
            total = sizes[0].abs()
            for size in sizes[1:]:
                total = total + size.abs()
            total = at_least(total + self.eps, least)
        return Inflow.apply(total, *parts)

    def carry(self, membrane: Tensor) -> Tensor:
        if self.forward_in_time:
            return membrane.detach()
        node = membrane.grad_fn
        return membrane if node is not None and forward_class(node) is Enter else Carry.apply(membrane)

    def survive(self, before: Tensor, after: Tensor) -> Tensor:
        return Survive.apply(before, after.detach())

    def fire(self, membrane: Tensor, threshold: float | Tensor, margin: float = PAPER_MARGIN) -> Tensor:
        return Fire.apply(membrane, threshold.detach() if isinstance(threshold, Tensor) else threshold, margin)

    def steps(self, spikes: Sequence[Tensor]) -> Tensor:
        nodes = [step.grad_fn for step in spikes]
        if any(node is not None and not issubclass(forward_class(node), NeuronNode) for node in nodes):
            raise UserError(
                "a step returned spikes that are not as self.fire(membrane, threshold) gave them: their reward could "
                "not be handed to the membranes; a neuron that does not fire says so by fires = False"
            )
        return self.neurons(StackedSteps.apply(nodes, *spikes))

    def neurons(self, outputs: Tensor) -> Tensor:
        if self.normalize and outputs.grad_fn is not None:
            outputs.grad_fn.normalise = self.normalize  # type: ignore[attr-defined]
        return outputs


class LIFScan(Function, NeuronNode):
    """LIF neurons over time, and the reward back through them; the arithmetic is in :mod:`spikelfp.kernels`.

    A decay that learns is a weight on the connection of a membrane to itself, so eq. 7 is its rule::

        d_β = |β| Σ V[t] n[t]

    ``V[t]`` is the membrane that β multiplied and ``n[t]`` the message to the membrane. The sum is over steps, samples
    and the neurons that share the β. Where credit is ``local``, ``n[t]`` is that of the step's own reward, and the
    membrane before the first step gets no message.

    Which neurons are heard with a margin is read from the membranes, so nothing is kept for it. Those of a constant
    current are then computed before the backward pass, which takes them.
    """

    again: Tensor | None = None

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, start: Tensor, decay: Tensor | None, p: LIFParameters, eps: float, local: bool
    ) -> tuple[Tensor, Tensor]:
        keep_node()
        ctx.local = local
        scan, constant = kernels.scan_for(current), is_constant(current)
        # The membranes of a constant current are computed again from one row of it; those of others are kept.
        again = constant and not ctx.needs_input_grad[2]
        spikes, membrane = scan.forward(current, start, p, not again)
        last = membrane[-1].clone()
        ctx.save_for_backward(None if again else membrane, current if again else None, start)
        ctx.scan, ctx.parameters, ctx.eps, ctx.constant = scan, p, eps, again
        ctx.margin = p.margin != PAPER_MARGIN
        ctx.set_materialize_grads(False)
        return spikes, last

    @staticmethod
    def heard(ctx: Any) -> Tensor:
        membrane, current, start = ctx.saved_tensors
        if membrane is None:
            if getattr(ctx, "again", None) is None:
                ctx.again = ctx.scan.forward(current, start, ctx.parameters, True).membrane
            membrane = ctx.again
        heard: Tensor = membrane > ctx.parameters.bar
        return heard

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor | None, final: Tensor | None) -> tuple[Tensor | None, ...]:
        membrane, current, start = ctx.saved_tensors
        p = ctx.parameters
        message, reward = NeuronNode.received(ctx, message)
        if membrane is None:
            membrane, ctx.again = getattr(ctx, "again", None), None
        if message is None and reward is None and final is None:
            return None, None, None, None, None, None
        to_current, to_start = ctx.scan.reverse(
            message, reward, final, membrane, start, p, ctx.eps, ctx.constant, current, ctx.local
        )
        to_decay = None
        if ctx.needs_input_grad[2]:
            kept = carried(torch.cat([start.unsqueeze(0), membrane[:-1]]), p)
            to_decay = -p.beta * total_like(p.beta, kept * to_current)
        if ctx.constant:
            to_current = to_current.expand_as(current)
        return to_current, None if ctx.local else to_start, to_decay, None, None, None


class HasRule:
    """Mixin of layers that follow a rule: their own, else one that a trainer lends them, else ``fallback``.

    A layer that assigns ``self.rule`` in its constructor follows a rule, others have none. ``layer.rule = None`` takes
    the layer's own rule away again.
    """

    fallback: ClassVar[Rule]
    """Rule of layers that nobody has given one: :class:`~spikelfp.rules.Epsilon`."""

    @property
    def rule(self) -> Rule:
        """Rule that the next forward pass follows."""
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
            taken = parameters_of(type(self).__init__)
            if "rule" not in taken:
                raise UserError(
                    f"{type(self).__name__} follows no rule itself: rules.attach(net, rule) is for the layers inside"
                )
        self.__dict__["_own_rule"] = rule


def attach(net: nn.Module, rule: Assigning) -> None:
    """Make ``rule`` the own rule of every layer of ``net``, from now on, inside trainers too.

    Args:
        net: layers of :mod:`spikelfp.nn`, in a module of any kind.
        rule: a rule for all, or a :class:`~spikelfp.rules.Composite`, which says which layer follows which.

    Raises:
        UserError: for a network without layers that follow a rule, and what is no rule.
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
def using(net: nn.Module, rule: Assigning) -> Iterator[None]:
    """Let every layer of ``net`` follow ``rule`` within the block; afterwards each has its own rule back.

    The rule of a forward pass decides its backward pass, wherever that is called.

    Args:
        net: layers of :mod:`spikelfp.nn`, in a module of any kind.
        rule: a rule for all, or a :class:`~spikelfp.rules.Composite`.

    Raises:
        UserError: for what is no network and what is no rule.
    """
    assigned, before = _assigned(net, rule), rules_of(net.modules())
    if assigned:
        attach(net, rule)
    try:
        yield
    finally:
        restore(before)


@contextmanager
def lending(net: nn.Module, rule: Assigning) -> Iterator[None]:
    """Let the layers of ``net`` that have no rule of their own follow ``rule`` within the block: trainers run in it.

    Args:
        net: layers of :mod:`spikelfp.nn`, in a module of any kind.
        rule: a rule for all, or a :class:`~spikelfp.rules.Composite`.

    Raises:
        UserError: where rewards and losses would meet: a layer has an LFP rule of its own and ``rule`` is that of a
            gradient method, or the other way round.
    """
    before = rules_of(net.modules())
    for layer, lent in _assigned(net, rule).items():
        if isinstance(layer, HasRule):
            layer.__dict__["_lent_rule"] = lent
        own: Any = layer.rule
        if own.of_gradients != lent.of_gradients:
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
    """Return the rule that each layer follows now; layers that follow none are left out.

    Args:
        net: the network.
    """
    found = {layer: getattr(layer, "rule", None) for layer in net.modules()}
    return {layer: rule for layer, rule in found.items() if isinstance(rule, Rule)}


def rules_of(layers: Iterable[nn.Module]) -> dict[nn.Module, Any]:
    """Return the own and the lent rule of each layer that follows one, for :func:`restore`.

    Args:
        layers: of any kind.
    """
    return {
        layer: (layer.__dict__["_own_rule"], layer.__dict__.get("_lent_rule"))
        if isinstance(layer, HasRule)
        else layer.rule
        for layer in layers
        if isinstance(getattr(layer, "rule", None), Rule)
    }


def restore(before: dict[nn.Module, Any]) -> None:
    """Give layers back the rules that :func:`rules_of` found.

    Args:
        before: layers and their rules.
    """
    for layer, own in before.items():
        if isinstance(layer, HasRule):
            layer.__dict__["_own_rule"], layer.__dict__["_lent_rule"] = own
        else:
            setattr(layer, "rule", own)  # noqa: B010


def _assigned(net: nn.Module, rule: Assigning) -> dict[nn.Module, Rule]:
    if not isinstance(net, nn.Module):
        raise UserError(f"rules go to the layers of a network, attach(net, rule), got {type(net).__name__} for the net")
    if not isinstance(rule, Assigning):
        given = rule if isinstance(rule, (str, type)) else type(rule)
        raise UserError(
            "a rule of spikelfp.rules or a Composite of them is needed, such as rules.Gamma(), got "
            f"{repr(given) if isinstance(given, str) else given.__name__}"
        )
    return rule.assign(net)
