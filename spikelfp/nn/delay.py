r"""Delays: signals that arrive some steps later, and dense layers that choose among several delays for a connection.

A delay only moves values in time, so credit goes back as it came: the message of ``y[t]`` is the message of
``x[t − d]``, under every rule. What learns is the choice of a delay. :class:`DelayLinear` offers each connection
several delays, its *taps*, and a weight for each. To a rule every tap is a connection of its own, with its own reward,
so the taps whose spikes come at the right time grow. Delays as taps that are chosen from are those of Hammouamri et al.
2024 (ICLR, arXiv:2306.17670), there with a convolution over time and surrogate gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import is_sparse, replaced, time_slice
from spikelfp.kernels.events import linear as products
from spikelfp.nn.container import Sequential
from spikelfp.nn.layer import Layer, check_kind, sparse_input
from spikelfp.nn.linear import Linear
from spikelfp.rules import Rule
from spikelfp.scalars import as_whole

LONGEST = 2**16 - 1
"""Longest delay in steps: as many inputs of a layer are kept from one part of a sequence to the next."""


class DelayLine(Layer):
    """Base of layers that keep the last steps of their inputs, as many as their longest delay."""

    passes_scale = True
    passes_spikes = True

    @property
    def longest(self) -> int:
        """Longest delay in steps, ``D``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        longest = self.longest
        before = min(longest, len(x)) if isinstance(x, Tensor) and x.dim() else 0
        line = self._line(x, None, before)
        return x if line is None else self.read(line, len(x))

    def run(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the output, and the last inputs to go on from.

        Args:
            x: inputs ``[T, B, …]``.
            state: the last ``D`` inputs ``[D, B, …]``, as ``run`` returned them; ``None`` for zeros.

        Raises:
            ShapeError: for inputs or a state of another shape, dtype or device.
        """
        line = self._line(x, state, self.longest)
        if line is None:
            return x, None
        return self.read(line, len(x)), time_slice(line, len(x), None).to_dense()

    def read(self, line: Tensor, steps: int) -> Tensor:
        """Read the outputs of the last ``steps`` steps of a sequence.

        Args:
            line: inputs of these steps and of ``k`` before, ``[k + T, B, …]``, dense or sparse; ``k`` is the longest
                delay, or ``T`` where all before is 0.
            steps: ``T``.
        """
        raise NotImplementedError

    def _line(self, x: Tensor, state: Tensor | None, before: int) -> Tensor | None:
        """Prepend the last ``before`` inputs of the previous part; ``None`` where nothing is delayed."""
        check_kind(self, x)
        self.check(x)
        self._check_state(x, state)
        if not self.longest:
            return None
        if is_sparse(x):
            x = sparse_input(self, x)
            if state is None or not state.requires_grad:
                return _joined(state, x, before)
            x = x.to_dense()  # sparse sequences send no messages, and those before wait for one
        if state is None:
            state = x.new_zeros(before, *x.shape[1:])
        elif state.dtype != x.dtype:
            state = state.to(x.dtype)
        return torch.cat([state, x])

    def check(self, x: Tensor) -> None:
        """Refuse inputs of a shape that this layer does not take.

        Raises:
            ShapeError: with the shape that it takes.
        """
        if x.dim() < 3 or not len(x):
            raise ShapeError(
                f"{type(self).__name__} takes [T, B, features, …], time first, with at least one step, got shape "
                f"{tuple(x.shape)}; nn.constant(x, steps) turns a static batch into a sequence"
            )

    def _check_state(self, x: Tensor, state: Any) -> None:
        if state is None:
            return
        kind, wanted = type(self).__name__, (self.longest, *x.shape[1:])
        if not isinstance(state, Tensor) or is_sparse(state) or not self.longest:
            took = f"a tensor {list(wanted)} or None for zeros" if self.longest else "None, as it delays nothing"
            raise ShapeError(f"{kind} starts from the state that run returned, {took}, got {type(state).__name__}")
        if tuple(state.shape) != wanted:
            raise ShapeError(f"{kind} keeps its last inputs, {list(wanted)} here, and was handed {list(state.shape)}")
        cast = torch.is_autocast_enabled(x.device.type)
        if state.device != x.device or (state.dtype != x.dtype and not cast):
            raise ShapeError(
                f"{kind} keeps its last inputs in {x.dtype} on {x.device} here, and was handed {state.dtype} on "
                f"{state.device}: state.to(x)"
            )


def _joined(state: Tensor | None, x: Tensor, before: int) -> Tensor:
    """Put a sparse sequence after the dense steps ``before``, as one coalesced sequence."""
    later = x.indices().clone()
    later[0] += before
    shape = (before + len(x), *x.shape[1:])
    if state is None:
        return replaced(x, indices=later, shape=shape)
    earlier = state.to_sparse()
    return replaced(
        x,
        indices=torch.cat([earlier.indices(), later], 1),
        values=torch.cat([earlier.values(), x.values()]),
        shape=shape,
    )


class Delay(DelayLine):
    """Delay of each channel by a whole number of steps, with zeros before the sequence begins::

        y[t, b, i] = x[t − d_i, b, i]

    A spike of the last ``d_i`` steps of a sequence leaves only in the next part of it: ``run`` takes and returns the
    last ``D = max d`` inputs ``[D, B, …]``. Values are moved only, so under every rule the message to ``x[t − d_i]`` is
    that of ``y[t]``. Takes and returns ``[T, B, features]`` or images ``[T, B, C, H, W]``; sparse sequences stay
    sparse, constant ones do not stay constant.

    Args:
        delays: steps ``d``, 0 to 65535: one whole number, or a tensor of them, one a feature or channel ``[C]``, or
            with the axes of one sample at one step, each of its size or 1. Kept as a buffer of int64.

    Raises:
        UserError: for delays that are not whole numbers from 0 to 65535.
        ShapeError: where they do not fit the input.
    """

    arguments = ("delays",)

    delays: Tensor

    def __init__(self, delays: Tensor | int = 1) -> None:
        super().__init__()
        self.register_buffer("delays", _whole_steps(delays))
        self._measured: tuple[Tensor, int | None] | None = None
        self._measure()

    @property
    def longest(self) -> int:
        """Longest of the present delays in steps, ``D``."""
        if not torch.compiler.is_compiling():  # a graph keeps those that it was made with
            self._measure()
        return self._longest

    def _measure(self) -> None:
        """Find the longest delay, and whether all are the same, if the delays changed since the last call."""
        delays = self.delays
        version = None if delays.is_inference() else delays._version
        if self._measured is not None and self._measured[0] is delays and self._measured[1] == version is not None:
            return
        self._longest, self._all_same = 0, True
        if delays.device.type != "meta":
            _whole_steps(delays)
            low, high = (int(bound) for bound in delays.aminmax())
            if low < 0 or high > LONGEST:
                raise UserError(f"a delay is a number of steps from 0 to {LONGEST}, got {low if low < 0 else high}")
            self._longest, self._all_same = high, low == high
        self._measured = delays, version

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was measured, which holds a tensor."""
        return {**self.__dict__, "_measured": None}

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self._measure()

    def check(self, x: Tensor) -> None:
        super().check(x)
        self.for_shape(tuple(x.shape[2:]))

    def for_shape(self, sample: tuple[int, ...]) -> Tensor:
        """Return the delays with the axes of a sample at one step, each of its size or 1.

        Raises:
            ShapeError: where they do not fit.
        """
        delays = self.delays
        if delays.dim() == 1:
            delays = delays.view(-1, *[1] * (len(sample) - 1))
        elif not delays.dim():
            delays = delays.view([1] * len(sample))
        if delays.dim() != len(sample) or any(a not in (1, b) for a, b in zip(delays.shape, sample, strict=True)):
            raise ShapeError(f"Delay was built for steps of {list(self.delays.shape)}, got {list(sample)}")
        return delays

    def read(self, line: Tensor, steps: int) -> Tensor:
        delays, before = self.for_shape(tuple(line.shape[2:])), len(line) - steps
        if is_sparse(line):
            places = line.indices().clone()
            places[0] += delays.expand(line.shape[2:])[tuple(places[2:])] - before
            return _within(places, line.values(), (steps, *line.shape[1:]))
        if self._all_same:
            return line[:steps]
        first = torch.arange(steps, device=line.device).view(-1, *[1] * (line.dim() - 1))
        return line.gather(0, (first + (before - delays).clamp(min=0)).expand(steps, *line.shape[1:]))

    def extra_repr(self) -> str:
        return f"delays={tuple(self.delays.shape) if self.delays.dim() else int(self.delays)}"

    def saved_repr(self) -> str:
        """Leave out the delays, which are saved with the weights."""
        return f"delays={tuple(self.delays.shape)}"


def _whole_steps(delays: Any) -> Tensor:
    if isinstance(delays, Tensor):
        kind = delays.dtype
        whole = not (kind.is_floating_point or kind.is_complex or kind == torch.bool)
    else:
        given, delays = delays, as_whole(delays)
        whole = delays is not None
    if not whole or (isinstance(delays, Tensor) and not delays.numel()):
        shown = f"a tensor of {delays.dtype} {list(delays.shape)}" if isinstance(delays, Tensor) else repr(given)
        raise UserError(f"a delay is a whole number of steps, or an integer tensor with one a channel, got {shown}")
    if not isinstance(delays, Tensor) and abs(delays) > LONGEST:  # int64 may not hold it
        raise UserError(f"a delay is a number of steps from 0 to {LONGEST}, got {delays}")
    return torch.as_tensor(delays).detach().to(torch.int64).clone()


def _within(places: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the sparse sequence of entries at new places, without those before its first step and after its last."""
    kept = (places[0] >= 0) & (places[0] < shape[0])
    return torch.sparse_coo_tensor(places[:, kept], values[kept], shape, check_invariants=False).coalesce()


def check_delays(delays: Sequence[int]) -> tuple[int, ...]:
    """Return the delays of taps as a tuple.

    Args:
        delays: steps, 0 to 65535, each once.

    Raises:
        UserError: for no delays, the same one twice, and what is no whole number from 0 to 65535.
    """
    if isinstance(delays, str) or not isinstance(delays, Iterable):
        raise UserError(f"taps are delays in steps, such as (0, 1, 2, 4), got {delays!r}")
    given = tuple(delays)
    steps = tuple(number for number in map(as_whole, given) if number is not None and 0 <= number <= LONGEST)
    if len(steps) < len(given):
        each = next(each for each in given if as_whole(each) not in steps)
        raise UserError(f"a delay is a whole number of steps from 0 to {LONGEST}, got {each!r}")
    if not steps or len(set(steps)) < len(steps):
        again = "none" if not steps else f"{next(d for d in steps if steps.count(d) > 1)} twice in {steps}"
        raise UserError(f"taps are delays in steps, at least one and each once, got {again}")
    return steps


class Taps(DelayLine):
    """Copies of the inputs side by side, each with a delay of its own, ``y[t] = [x[t − d_1], x[t − d_2], …]``.

    Takes ``[T, B, …, features]`` and returns ``[T, B, …, taps · features]``, with zeros before the sequence begins. It
    is the first half of a :class:`DelayLinear`. ``run`` takes and returns the last inputs, as that of :class:`Delay`.

    Args:
        delays: steps ``d_k``, 0 to 65535, each once.

    Raises:
        UserError: for other delays.
    """

    arguments = ("delays",)

    def __init__(self, delays: Sequence[int] = (0, 1, 2, 4, 8)) -> None:
        super().__init__()
        self.delays = delays

    @property
    def delays(self) -> tuple[int, ...]:
        """Steps ``d_k`` of the copies; others may be set."""
        return self._delays

    @delays.setter
    def delays(self, delays: Sequence[int]) -> None:
        self._delays = check_delays(delays)

    @property
    def longest(self) -> int:
        """Longest delay in steps, ``D``."""
        return max(self._delays)

    def read(self, line: Tensor, steps: int) -> Tensor:
        before = len(line) - steps
        if not is_sparse(line):
            first = [max(before - delay, 0) for delay in self.delays]
            return torch.cat([line[start : start + steps] for start in first], -1)
        count, features = line.indices().shape[1], line.shape[-1]
        number = torch.arange(len(self.delays), device=line.device).repeat_interleave(count)
        places = line.indices().repeat(1, len(self.delays))
        places[0] += torch.tensor(self.delays, device=line.device)[number] - before
        places[-1] += number * features
        shape = (steps, *line.shape[1:-1], len(self.delays) * features)
        return _within(places, line.values().repeat(len(self.delays)), shape)

    def extra_repr(self) -> str:
        return f"delays={self.delays}"


class TapLinear(Linear):
    """Dense layer on the copies that :class:`Taps` makes, ``W [out, taps · in]``, which may keep one tap a connection.

    Args:
        features: features of each copy.
        out_features: features of the output.
        taps: number of copies.
        bias: whether there is a bias.
        rule: rule of this layer alone.
        **options: keyword arguments of ``torch.nn.Linear``, such as ``device`` and ``dtype``.

    Attributes:
        mask: whether a weight takes part, bool ``[out, taps · in]``; ``None`` for all.
    """

    arguments = ("features", "out_features", "taps", "bias")  # type: ignore[assignment]

    mask: Tensor | None

    def __init__(
        self,
        features: int,
        out_features: int,
        taps: int,
        bias: bool = True,
        *,
        rule: Rule | None = None,
        **options: Any,
    ) -> None:
        super().__init__(taps * features, out_features, bias, rule=rule, **options)
        self.features, self.taps = features, taps
        self.register_buffer("mask", None)

    @property
    def by_tap(self) -> Tensor:
        """Weights ``[taps, out, in]``, a view; 0 where they take no part."""
        self.settle()
        return self.weight.unflatten(1, (self.taps, -1)).movedim(1, 0)

    def settle(self) -> None:
        """Set the weights that take no part to 0, whatever an optimiser has made of them."""
        if self.mask is not None and not torch.compiler.is_compiling():
            self.weight.data.mul_(self.mask)  # the graph reads products with the mask, which stay as they are

    def choose(self) -> Tensor:
        """Keep the tap of the largest ``|w|`` of each connection, the first of equal ones, and mask all others.

        Returns:
            The number of the tap of each connection, int64 ``[out, in]``.
        """
        with torch.no_grad():
            best = self.by_tap.abs().argmax(0)
            kept = torch.zeros_like(self.by_tap, dtype=torch.bool).scatter_(0, best.unsqueeze(0), True)
            self.mask = kept.movedim(0, 1).flatten(1)
            self.settle()
        return best

    def forward(self, x: Tensor) -> Tensor:
        found, wanted = divmod(x.shape[-1], self.taps), self.features
        if found != (wanted, 0):
            text = f"{found[0]} (shape {(*x.shape[:-1], found[0])})" if not found[1] else f"copies {tuple(x.shape)}"
            raise ShapeError(f"DelayLinear was built for {wanted} input features, got {text}")
        return super().forward(x)

    def _product(self, x: Tensor, active_only: bool, heard: products.Heard | None = None) -> Tensor:
        if self.mask is None:
            return super()._product(x, active_only, heard)
        self.settle()
        mask, op = self.mask, partial(products.linear, choice=self.choice, active_only=active_only, heard=heard)
        return self.product(lambda x, weight, bias: op(x, weight * mask, bias), x)

    def _load_from_state_dict(self, state: Any, prefix: str, *more: Any) -> None:
        given = state.get(f"{prefix}mask")  # fresh networks have none
        self.mask = None if given is None else torch.ones_like(self.weight, dtype=torch.bool)
        super()._load_from_state_dict(state, prefix, *more)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, taps={self.taps}"


class DelayLinear(Sequential):
    """Dense layer whose connections have one weight for each of several delays, their taps::

        z_j[t] = Σ_k Σ_i W_k[j, i] x_i[t − d_k] + b_j

    Under an LFP rule each tap is a connection with a reward of its own, so this is a :class:`~spikelfp.nn.Linear` on
    delayed copies of the inputs, ``Sequential(Taps, TapLinear)``, and every rule applies: eq. 7 of LFP v3 becomes
    ``d_{W_k[j, i]} = |W_k[j, i]| Σ_t m_j[t] x_i[t − d_k]``. Trained long enough, or with :meth:`choose`, a connection
    has one delay. Memory and products are those of ``len(delays)`` dense layers.

    Takes ``[T, B, …, in]`` and returns ``[T, B, …, out]``, with ``x = 0`` before the sequence begins. A sparse sequence
    stays one, and is multiplied entry by entry.

    Args:
        in_features: features of the input.
        out_features: features of the output.
        delays: steps ``d_k``, 0 to 65535, each once.
        bias: whether there is a bias ``b``.
        rule: rule of its weights alone.
        **options: keyword arguments of ``torch.nn.Linear``, such as ``device`` and ``dtype``.

    Raises:
        UserError: for other delays.
        ShapeError: for inputs of another shape or dtype.
    """

    taps: Taps
    dense: TapLinear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        delays: Sequence[int] = (0, 1, 2, 4, 8),
        bias: bool = True,
        *,
        rule: Rule | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.taps = Taps(delays)
        self.dense = TapLinear(in_features, out_features, len(self.taps.delays), bias, rule=rule, **options)

    @property
    def in_features(self) -> int:
        """Features of the input."""
        return self.dense.features

    @property
    def out_features(self) -> int:
        """Features of the output."""
        return self.dense.out_features

    @property
    def delays(self) -> tuple[int, ...]:
        """Delays of the taps in steps."""
        return self.taps.delays

    @property
    def by_tap(self) -> Tensor:
        """Weights ``W_k [taps, out, in]``, a view."""
        return self.dense.by_tap

    def choose(self) -> Tensor:
        """Keep the tap of the largest ``|W_k[j, i]|`` of each connection, and set all others to 0 for good.

        Training goes on with the taps that were kept. Make a new optimiser, so that no momentum is left of the others.

        Returns:
            The delay of each connection in steps, int64 ``[out, in]``, as :attr:`chosen`.
        """
        best = self.dense.choose()
        return torch.tensor(self.delays, device=best.device)[best]

    @property
    def chosen(self) -> Tensor | None:
        """Delay of each connection in steps, int64 ``[out, in]``; ``None`` before :meth:`choose`."""
        mask = self.dense.mask
        if mask is None:
            return None
        kept = mask.unflatten(1, (self.dense.taps, -1)).int().argmax(1)
        return torch.tensor(self.delays, device=mask.device)[kept]


def choose_delays(net: torch.nn.Module) -> tuple[int, int]:
    """Let every connection of all :class:`DelayLinear` of a network keep one delay (:meth:`DelayLinear.choose`).

    Args:
        net: the network, changed in place.

    Returns:
        The numbers of weights that are kept and that there were.

    Raises:
        UserError: for a network without connections that have several delays.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, TapLinear)]
    if not layers:
        raise UserError(
            f"{type(net).__name__} has no connections with delays to choose from: train with --delays, or make "
            "layers of nn.DelayLinear"
        )
    return sum(layer.choose().numel() for layer in layers), sum(layer.weight.numel() for layer in layers)
