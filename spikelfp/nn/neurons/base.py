"""Bases of the layers of neurons: constants (one number, or one for each neuron), states, steps, decays that learn."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable
from keyword import iskeyword
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.lif import (
    FLOOR,
    MARGIN,
    Constant,
    Denominator,
    LIFParameters,
    Reset,
    Trace,
    brief_constant,
    check_decay,
    check_threshold,
    described_credit,
    fit_constant,
    least_denominator,
)  # fmt: skip
from spikelfp.functional.neuron import Carry, Enter
from spikelfp.nn.layer import Layer, as_given, check_called, check_current, plain_attributes
from spikelfp.rules import Rule

LEAST_DECAY = 1e-3
"""Smallest value that a decay that learns may take."""


class NeuronConstant:
    """Attribute of a layer that holds a constant of its neurons, checked whenever it is set.

    A number stays a Python float. A tensor with one for each neuron becomes a buffer of the layer, named after the
    constant with an "s" added, so that it is saved, moved and resumed with the weights.

    Args:
        check: ``(name, value)`` to the constant that is kept; raises :class:`~spikelfp.errors.UserError`.
        learned: name of the layer's parameter that holds the constant where it learns.
    """

    def __init__(self, check: Callable[[str, Any], Constant], learned: str | None = None) -> None:
        self.check, self.learned = check, learned

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.buffer = name, f"{name}s"

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None:
            return self
        parameter = self.parameter(layer)
        if parameter is not None:
            layer.project()
            return parameter.detach() if parameter.dim() else _learned_number(parameter)
        if self.buffer in layer._buffers:
            return layer._buffers[self.buffer]
        try:
            return layer.__dict__[self.name]
        except KeyError:
            raise AttributeError(self.name) from None

    def __set__(self, layer: Any, value: Any) -> None:
        value, parameter = self.check(self.name, value), self.parameter(layer)
        if parameter is not None:
            if isinstance(value, Tensor) and value.shape != parameter.shape:
                raise UserError(
                    f"{self.name} learns here with the shape {list(parameter.shape)}, got one of shape "
                    f"{list(value.shape)}: the shape is chosen where the layer is made"
                )
            with torch.no_grad():
                parameter.copy_(torch.as_tensor(value, dtype=parameter.dtype, device=parameter.device))
        elif isinstance(value, Tensor):
            layer.__dict__.pop(self.name, None)
            layer.register_buffer(self.buffer, value)
        else:
            layer._buffers.pop(self.buffer, None)
            layer.__dict__[self.name] = value

    def parameter(self, layer: Any) -> torch.nn.Parameter | None:
        """Return the layer's parameter that holds the constant, where it learns."""
        return layer.__dict__["_parameters"].get(self.learned) if self.learned else None

    def checked(self, layer: Any) -> Constant:
        """Return the constant as it is now, for a run; a tensor as a copy, made and checked anew after each change."""
        value = getattr(layer, self.name)
        if not isinstance(value, Tensor):
            return value
        version = None if value.is_inference() else value._version
        kept = layer.__dict__.setdefault("_copies", {})
        source, before, copy = kept.get(self.name, (None, None, None))
        same = source is value and version is not None and version == before
        if same and value.device.type == "cpu":  # writing through .data does not raise the version
            same = copy.dtype == value.dtype and torch.equal(copy, value)
        if not same:
            copy = self.check(self.name, value)
            kept[self.name] = (value, version, copy)
        return cast(Tensor, copy)


class Decay(NeuronConstant):
    """Decay per step, in (0, 1], of each neuron or of all.

    Args:
        learned: name of the layer's parameter that holds the decay where it learns.
    """

    def __init__(self, learned: str | None = None) -> None:
        super().__init__(check_decay, learned)


class Threshold(NeuronConstant):
    """Threshold above 0 of each neuron or of all."""

    def __init__(self) -> None:
        super().__init__(lambda name, value: check_threshold(value))


_STEP = ("step", "states", "integrate", "fire", "values")
"""Members that a run over time is made of: a class that defines one of them is run step by step."""
_TAKEN = ("cast", "reset", "denominator", "floor", "margin")
"""Names among the constants of a step that no :class:`NeuronConstant` may have."""


class Values(SimpleNamespace):
    """Constants of a step by name."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        known = ", ".join(f"p.{each}" for each in vars(self) if each[:1] != "_")
        raise AttributeError(
            f"a step of {vars(self).get('_kind')} has {known}, and no p.{name}: state {name} = nn.Decay() or "
            f"{name} = nn.NeuronConstant(check) in the class, or take self.{name}"
        )


def _check_names(kind: str, states: Any, constants: Iterable[str]) -> None:
    """Refuse names of states and constants that are no names, stand twice, or are taken."""
    if not isinstance(states, tuple | list) or not all(isinstance(name, str) for name in states):
        raise UserError(f'{kind}.states is a tuple of names, such as ("membrane",), got {states!r}')
    for number, name in enumerate(states):
        if not name.isidentifier() or iskeyword(name) or name[0] == "_":
            raise UserError(f"{kind}.states has a name that Python cannot take for an attribute: {name!r}")
        if name in states[:number]:
            raise UserError(f"{kind}.states has {name!r} twice")
    for name in constants:
        if name in _TAKEN:
            raise UserError(f"{kind} has a constant {name!r}, but p.{name} is taken: choose another name")


class ConstantLayer(Layer):
    """Base of layers with a memory: constants of neurons, states by name, and a ``step`` written once.

    Each constant is an attribute that is a :class:`NeuronConstant` of the class.

    Attributes:
        states: names of the state variables, each ``[B, …]``, 0 at rest.
        State: named tuple of the states.
        fires: whether the outputs are spikes, made by ``self.fire``.
    """

    states: ClassVar[tuple[str, ...]] = ("membrane",)
    State: ClassVar[Any]
    _constants_of_kind: ClassVar[dict[str, NeuronConstant]] = {}
    has_membrane = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        constants: dict[str, NeuronConstant] = {}
        for base in cls.__mro__:
            for name, each in vars(base).items():
                if isinstance(each, NeuronConstant):
                    constants.setdefault(name, each)
        cls._constants_of_kind = constants
        _check_names(cls.__qualname__, cls.states, constants)
        made: Any = namedtuple
        kind = made("State", cls.states, module=cls.__module__)
        kind.__qualname__ = f"{cls.__qualname__}.State"  # where pickle finds it
        cls.State = kind
        own = vars(cls)
        if "run" not in own and any(name in own for name in _STEP):
            cls.run = ConstantLayer.run  # type: ignore[method-assign]  # an inherited scan would ignore them

    def step(self, current: Tensor, state: Any, p: Any) -> tuple[Tensor, Any]:
        """Run one step of the neurons.

        Args:
            current: ``I[t]``, ``[B, …]``, in at least float32.
            state: state after the step before, a named tuple of :attr:`states`, each ``[B, …]``.
            p: the constants by name (``p.beta``), numbers or tensors that broadcast against a step.

        Returns:
            Outputs ``[B, …]`` and the next state, a tuple in the order of :attr:`states`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step(current, state, p)")

    def run(self, x: Tensor, state: Any = None, trace: bool = False) -> tuple[Any, Any]:
        """Run a sequence.

        Args:
            x: current ``[T, B, …]``.
            state: state to start from, as a run returned it; ``None`` for rest.
            trace: return a :class:`~spikelfp.nn.Trace` of outputs and states in place of the outputs.

        Returns:
            Outputs ``[T, B, …]`` or their trace, and the state after the last step.
        """
        return self.by_steps(x, state, trace)

    # A reward finds the neurons by their autograd node, which torch's compiler would remove. torch.compiler.disable
    # sets the same attribute, but imports the compiler, which takes a second.
    run._torchdynamo_disable = True  # type: ignore[attr-defined]

    def by_steps(self, x: Tensor, state: Any = None, trace: bool = False) -> tuple[Any, Any]:
        """Run a sequence by :meth:`step`, one step after the other; arguments and results are those of :meth:`run`."""
        current, _ = check_current(self, x, None)
        state, p = self._start(current, state), self.values(current[0], x)
        outputs, states, local = [], [], self.rule.forward_in_time
        for now in current.unbind():
            if local:  # no message to the step before, nor to the start
                state = self.State(*(each.detach() for each in state))
            before = _versions(now, *state)
            out, after = self._checked(now, self.step(now, state, p))
            if before != _versions(now, *state):
                raise UserError(
                    f"{type(self).__name__}.step changes its current or its state in place, but the caller still needs "
                    "them: write membrane = membrane * x in place of membrane *= x"
                )
            state = self.State(*after)
            outputs.append(out)
            if trace:
                states.append([each.detach() for each in state])
        sequence = self.rule.steps(outputs) if self.fires else self.rule.outgoing(torch.stack(outputs))
        sequence = as_given(sequence, x)
        if current.requires_grad and torch.is_grad_enabled() and not sequence.requires_grad:
            raise UserError(
                f"the outputs of {type(self).__name__}.step have no graph, so no credit would reach the layers before: "
                "make spikes by self.fire(membrane, threshold)"
            )
        if not trace:
            return sequence, state
        first = "spikes" if self.fires else "outputs"
        rows = {name: torch.stack(row) for name, row in zip(self.states, zip(*states, strict=True), strict=True)}
        if first in rows and not torch.equal(rows[first], sequence.detach().to(rows[first].dtype)):
            raise UserError(
                f"a trace names the outputs of {type(self).__name__} {first!r}, but its state of that name holds other "
                "values: choose another name for the state"
            )
        return Trace(**{first: sequence} | rows | {first: sequence}), state

    def unfused(self, x: Tensor, state: Any, trace: bool = False) -> tuple[Any, Any]:
        """Run by :meth:`by_steps` a layer whose other runs are fused; arguments and results are those of :meth:`run`.

        The first and the last membrane get messages, as in fused runs, so that runs of both kinds may follow each
        other.
        """
        local = self.rule.forward_in_time
        if isinstance(state, tuple | list) and len(state) == len(self.states):
            state = self.State(*state)
            start = state.membrane
            if isinstance(start, Tensor) and start.requires_grad and torch.is_grad_enabled() and not local:
                state = state._replace(membrane=Enter.apply(start))
        whole, after = self.by_steps(x, state, trace)
        membrane = Carry.apply(after.membrane) if local else self.rule.carry(after.membrane)
        return whole, after._replace(membrane=membrane)

    def values(self, step: Tensor, x: Tensor) -> SimpleNamespace:
        """Return the constants of a step by name; those that learn are part of the graph.

        Args:
            step: current of one step, ``[B, …]``.
            x: the input; ``p.cast(spikes)`` converts spikes to its dtype, which layers inside expect.
        """
        found = Values(type(self).__name__)
        found.cast = lambda spikes: as_given(spikes, x)
        for name, each in self.neuron_constants().items():
            value, parameter = self.constant(name, step), each.parameter(self)
            if parameter is not None and parameter.requires_grad and torch.is_grad_enabled():
                value = self.rule.parameter(parameter).to(step.dtype)
            setattr(found, name, value)
        return found

    def _start(self, current: Tensor, state: Any) -> Any:
        if state is None:
            return self.State(*(current.new_zeros(current.shape[1:]) for _ in self.states))
        return self.State(*(check_current(self, current, each)[1] for each in self.parts_of(state)))

    def parts_of(self, state: Any) -> Any:
        """Return the state that a run starts from as a named tuple, each part ``None`` at rest.

        Raises:
            ShapeError: for anything but a tuple of :attr:`states`.
        """
        if state is None:
            return self.State(*(None for _ in self.states))
        if not isinstance(state, tuple | list) or len(state) != len(self.states):
            raise ShapeError(
                f"{type(self).__name__} starts from the state that run returned, a tuple of {', '.join(self.states)}, "
                f"or None for rest, got {type(state).__name__}"
                + (f" of {len(state)}" if isinstance(state, tuple | list) else "")
            )
        return self.State(*state)

    def _checked(self, now: Tensor, result: Any) -> tuple[Tensor, Any]:
        out, after = result if isinstance(result, tuple) and len(result) == 2 else (None, None)
        values = [out, *after] if isinstance(after, tuple) else []
        names = ["outputs", *self.states]
        if len(values) != len(names):
            raise UserError(
                f"{type(self).__name__}.step returns (outputs, ({', '.join(self.states)},)), got "
                f"{type(result).__name__}" + (f" with a state of {len(values) - 1}" if values else "")
            )
        for name, each in zip(names, values, strict=True):
            if not isinstance(each, Tensor) or each.shape != now.shape or each.dtype != now.dtype:
                got = f"{list(each.shape)}, {each.dtype}" if isinstance(each, Tensor) else type(each).__name__
                raise UserError(
                    f"{type(self).__name__}.step returns {name} of the shape of its current, {list(now.shape)}, "
                    f"{now.dtype}, got {got}"
                )
        assert out is not None
        return out, after

    @classmethod
    def neuron_constants(cls) -> dict[str, NeuronConstant]:
        """Return the constants of this class by name, its own before inherited ones."""
        return cls._constants_of_kind

    def constant(self, name: str, step: Tensor) -> Constant:
        """Return a constant as it is now, in the dtype and on the device of ``step`` ``[B, …]``.

        Raises:
            ShapeError: for a tensor that does not have the axes of a step of one sample, with what to write.
            UserError: for values that have left their range.
        """
        return fit_constant(name, self.neuron_constants()[name].checked(self), step)

    def __setattr__(self, name: str, value: Any) -> None:
        for constant, each in self.neuron_constants().items():
            if name in (constant, each.buffer):  # also a Parameter, which torch would register in its place
                each.__set__(self, value)
                return
            if name == each.learned:
                if value is None and each.parameter(self) is not None:  # stops learning: the learned value stays
                    value = getattr(self, constant)
                    super().__setattr__(name, None)
                    each.__set__(self, value)
                    return
                if isinstance(value, torch.nn.Parameter):
                    self._buffers.pop(each.buffer, None)
                    self.__dict__.pop(constant, None)
        super().__setattr__(name, value)

    def forward(self, x: Tensor, *state: Any) -> Tensor:
        check_called(self, state)
        out: Tensor = self.run(x)[0]
        return out

    def extra_repr(self) -> str:
        constants = {name: brief_constant(getattr(self, name)) for name in self.neuron_constants()}
        others = {
            name: text for name, text in plain_attributes(self).items() if name in vars(self) and name not in constants
        }
        return ", ".join(f"{name}={text}" for name, text in {**others, **constants}.items())

    def saved_repr(self) -> str:
        texts = []
        for name, each in self.neuron_constants().items():
            value = getattr(self, name)
            shape = list(value.shape) if isinstance(value, Tensor) else None
            learned = each.parameter(self) is not None
            texts.append(f"{name}={(f'learned {shape}' if shape else 'learned') if learned else shape or value}")
        return ", ".join(texts)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Keep constants in at least float32, as membranes are: β = 0.999 in bfloat16 is 1."""
        names = [each.buffer for each in self.neuron_constants().values() if each.buffer in self._buffers]
        before = {name: self._buffers[name] for name in names}
        super()._apply(fn, recurse)
        for name, wide in before.items():
            now = self._buffers[name]
            if wide is not None and now is not None and now.dtype in (torch.float16, torch.bfloat16):
                self._buffers[name] = wide.to(now.device)
        return self


_OPTIONS = ("reset", "denominator", "floor", "margin")
"""Options of neurons beside their constants, in the order of :class:`~spikelfp.functional.lif.LIFParameters`."""


class Neurons(ConstantLayer):
    """Base of layers of neurons that fire: constants, a decay that may learn, and the operations of a step.

    Neurons of your own derive from it, name their ``states`` and constants and write one ``step``; forward pass, credit
    under LFP, gradients and surrogate gradients follow (:mod:`spikelfp.functional.neuron`)::

        class Adaptive(nn.Neurons):
            states = ("membrane", "fatigue")
            slow = nn.Decay()

            def __init__(self, slow=0.95, **options):
                super().__init__(**options)
                self.slow = slow

            def step(self, current, state, p):
                membrane = self.integrate(state.membrane, p, current, -0.1 * state.fatigue)
                spikes = self.fire(membrane, p.threshold)
                return spikes, (membrane, p.slow * state.fatigue + spikes)

    A state other than the membrane is a linear sum: ``+``, ``-`` and products with constants pass messages on;
    ``.detach()`` cuts them.

    Args:
        beta: decay of the membrane per step, (0, 1]; one number, or a tensor with one for each neuron, of the axes of a
            step of one sample, each of its size or 1: ``[features]``, or ``[C, 1, 1]`` or ``[C, H, W]`` after a
            convolution.
        threshold: membrane above which a neuron fires, above 0; likewise.
        reset: effect of a spike on the membrane, "subtract", "immediate" or "zero" (:class:`~spikelfp.nn.LIF`).
        denominator: normalisation of the reward on a membrane, "inflow" or "increment"
            (:mod:`spikelfp.functional.lif`).
        floor: least denominator of that reward, in units of θ, 0 or more; 0 is the paper's rule.
        margin: share of θ above which a membrane earns the message to a spike, in (0, 1]; 1, the paper's rule, is for
            spikes alone. Floor and margin belong to the credit of LFP rules: outputs, and gradients, do not depend on
            them.
        learn_beta: whether β learns, within [0.001, 1]: one number, or one for each neuron where ``beta`` is a tensor.
        learn_threshold: refused: no LFP rule can be justified for θ.
        rule: rule of this layer alone; by default the one that trains the network.

    Raises:
        UserError: for values out of range.
    """

    fires = True
    has_membrane = True
    has_threshold = True
    arguments: ClassVar[tuple[str, ...] | None] = (
        "beta", "threshold", "reset", "denominator", "floor", "margin", "learn_beta",
    )  # fmt: skip

    decay: torch.nn.Parameter | None
    beta: Any = Decay(learned="decay")
    threshold: Any = Threshold()

    def __init__(
        self,
        beta: Constant = 0.9,
        threshold: Constant = 1.0,
        reset: Reset = "subtract",
        denominator: Denominator = "inflow",
        *,
        floor: float = FLOOR,
        margin: float = MARGIN,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        rule: Rule | None = None,
    ) -> None:
        super().__init__()
        if learn_threshold:
            raise UserError(
                "the threshold cannot learn under LFP: it is compared with the membrane but flows into it only at a "
                "reset, which earns no credit, so no reward tells whether θ helped. Scaling the weights before the "
                "neurons has the same effect and is learned"
            )
        self.register_parameter("decay", None)
        self.constants = LIFParameters(beta, threshold, reset, denominator, floor, margin)
        if learn_beta:
            start = self._buffers.pop("betas", None)
            self.decay = torch.nn.Parameter(torch.tensor(self.__dict__.pop("beta")) if start is None else start)
        self.rule = rule

    @property
    def constants(self) -> LIFParameters:
        """The constants of the neurons, with β as learned so far."""
        found = self.neuron_constants()
        options = self.__dict__["_options"]
        values = (found["beta"].checked(self), found["threshold"].checked(self), *options)
        kept = self.__dict__.get("_constants")
        if kept is not None and all(value is before for value, before in zip(values, kept[0], strict=True)):
            return kept[1]
        made = LIFParameters(1.0, 1.0, *options).unchecked(*values[:2])
        self.__dict__["_constants"] = (values, made)
        return made

    @constants.setter
    def constants(self, constants: LIFParameters) -> None:
        if not isinstance(constants, LIFParameters):
            raise UserError(f"the constants of neurons are LIFParameters, got {type(constants).__name__}")
        self.beta, self.threshold = constants.beta, constants.threshold
        self.__dict__["_options"] = tuple(getattr(constants, name) for name in _OPTIONS)

    @property
    def reset(self) -> Reset:
        """Reset of the membrane at a spike: subtract, immediate or zero."""
        return self.__dict__["_options"][0]

    @reset.setter
    def reset(self, reset: Reset) -> None:
        self._choose(reset=reset)

    @property
    def denominator(self) -> Denominator:
        """Normalisation of the reward on a membrane: inflow or increment."""
        return self.__dict__["_options"][1]

    @denominator.setter
    def denominator(self, denominator: Denominator) -> None:
        self._choose(denominator=denominator)

    @property
    def floor(self) -> float:
        """Least denominator of the reward on a membrane, in units of θ; 0 is the paper's rule."""
        return self.__dict__["_options"][2]

    @floor.setter
    def floor(self, floor: float) -> None:
        self._choose(floor=floor)

    @property
    def margin(self) -> float:
        """Share of θ above which a membrane earns the message to a spike; 1 is the paper's rule."""
        return self.__dict__["_options"][3]

    @margin.setter
    def margin(self, margin: float) -> None:
        self._choose(margin=margin)

    def _choose(self, **option: Any) -> None:
        known = dict(zip(_OPTIONS, self.__dict__["_options"], strict=True))
        checked = LIFParameters(1.0, 1.0, **{**known, **option})
        self.__dict__["_options"] = tuple(getattr(checked, name) for name in _OPTIONS)

    def values(self, step: Tensor, x: Tensor) -> SimpleNamespace:
        found = super().values(step, x)
        for name, value in zip(_OPTIONS, self.__dict__["_options"], strict=True):
            setattr(found, name, value)
        return found

    def step(self, current: Tensor, state: Any, p: Any) -> tuple[Tensor, Any]:
        membrane = self.integrate(state.membrane, p, current)
        return self.fire(membrane, p.threshold), (membrane,)

    def integrate(self, membrane: Tensor, p: Any, *currents: Tensor, fired: Tensor | None = None) -> Tensor:
        """Return the membrane one step later, ``β V + Σ currents``, reset by ``p.reset``.

        Its reward is split over ``β V`` and the currents.

        Args:
            membrane: ``U[t−1]``, ``[B, …]``, before its reset.
            p: the constants of the step, with ``beta``, ``threshold``, ``reset``, ``denominator`` and ``floor``.
            *currents: each ``[B, …]``; each is a term of the denominator.
            fired: spikes of the step before, 0 or 1; by default those of a membrane above ``p.threshold``.
        """
        rule = self.rule
        over = membrane.detach() > p.threshold if fired is None else fired.detach() > 0
        taken = p.threshold * over.to(membrane.dtype)
        before = rule.carry(membrane)
        if p.reset == "zero":
            before = rule.survive(before, before.masked_fill(over, 0))
        elif p.reset == "immediate":
            before = rule.survive(before, before - taken)
        with torch.no_grad():
            flows = [p.beta * membrane, *currents]
            if p.denominator == "increment":
                flows = [membrane, sum(flows[1:], flows[0]) - membrane]
        updated = rule.inflow([p.beta * before, *currents], flows, least_denominator(p.floor, p.threshold))
        return updated - taken if p.reset == "subtract" else updated

    def fire(self, membrane: Tensor, threshold: float | Tensor) -> Tensor:
        """Return the spikes ``[B, …]`` of a step: 1 where ``membrane > threshold``, else 0. θ earns no credit.

        The message to a spike is earned above ``margin`` times this threshold.
        """
        return self.rule.fire(membrane, threshold, self.margin)

    @property
    def learn_beta(self) -> bool:
        """Whether β learns; chosen when the layer is made."""
        return self.decay is not None

    @learn_beta.setter
    def learn_beta(self, learn_beta: bool) -> None:
        raise UserError(f"learn_beta is chosen where the layer is made, nn.{type(self).__name__}(learn_beta=True)")

    @torch.no_grad()
    def project(self) -> None:
        """Bring a β that learns back into [0.001, 1], as trainers do after each update and every forward pass does."""
        if self.decay is not None:
            self.decay.data.clamp_(LEAST_DECAY, 1.0)

    def extra_repr(self) -> str:
        return super().extra_repr() + self._options_text()

    def saved_repr(self) -> str:
        return super().saved_repr() + self._options_text()

    def _options_text(self) -> str:
        credit = described_credit(self.floor, self.margin)
        learns = ", learn_beta=True" if self.decay is not None else ""
        return f", reset={self.reset!r}, denominator={self.denominator!r}{credit}{learns}"


def _versions(*tensors: Tensor) -> list[int | None]:
    """Return how often tensors were changed in place; ``None`` where torch does not count."""
    return [None if each.is_inference() else each._version for each in tensors]


def _learned_number(parameter: torch.nn.Parameter) -> float:
    learned, least = float(parameter.detach()), float(torch.tensor(LEAST_DECAY, dtype=parameter.dtype))
    return cast(float, check_decay("beta", LEAST_DECAY if learned <= least else learned))  # the border is rounded
