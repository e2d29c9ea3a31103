"""Limits of chips, and notes on what a chip does differently.

Each chip lists its limits as data. A limit finds the violations of a network and tells in a line what it allows. All of
them look at the network as the chip would run it (:meth:`hw_export.targets.Chip.adapt`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from hw_export.integer.arithmetic import Arithmetic, code_of
from hw_export.integer.network import (
    DELAYS,
    IntegerConv,
    IntegerDelay,
    IntegerDense,
    IntegerFlatten,
    IntegerLayer,
    IntegerLIF,
    IntegerNetwork,
    IntegerPool,
    IntegerTaps,
    spread,
)
from hw_export.quantize.scales import largest_sum


@dataclass(frozen=True)
class Violation:
    """Violation of a limit by a network.

    Attributes:
        layer: name of the layer; ``None`` for the whole network.
        what: name of the quantity.
        found: its value.
        allowed: description of the values that the chip takes.
        by: how far ``found`` lies beyond them; ``None`` where it is no number.
        advice: what the user can do.
    """

    layer: str | None
    what: str
    found: object
    allowed: str
    by: int | float | None = None
    advice: str = ""

    def __str__(self) -> str:
        where = "the network" if self.layer is None else f"layer {self.layer!r}"
        excess = "" if self.by is None else f" (by {_number(self.by)})"
        advice = f": {self.advice}" if self.advice else ""
        return f"{where}: {self.what} {_number(self.found)}, {self.allowed}{excess}{advice}"


def above(layer: str | None, what: str, found: int, most: int, advice: str = "") -> Iterator[Violation]:
    """Yield a violation, with the other arguments as its fields, where ``found`` is more than ``most``."""
    if found > most:
        yield Violation(layer, what, found, f"at most {_number(most)}", found - most, advice)


def below(layer: str | None, what: str, found: int, least: int, advice: str = "") -> Iterator[Violation]:
    """Yield a violation where ``found`` is less than ``least``; the other arguments are those of it."""
    if found < least:
        yield Violation(layer, what, found, f"at least {_number(least)}", least - found, advice)


def _number(value: object) -> str:
    """Format whole numbers with a comma every three digits, floats with six digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


KINDS: dict[type, str] = {
    IntegerDense: "dense",
    IntegerConv: "convolution",
    IntegerPool: "pooling",
    IntegerFlatten: "flatten",
    IntegerDelay: "delay",
    IntegerTaps: "delays",
    IntegerLIF: "neurons",
}


class Limit(ABC):
    """Limit of a chip; subclasses are data with a check."""

    @abstractmethod
    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        """Yield every violation by an adapted network."""

    @abstractmethod
    def __str__(self) -> str:
        """Tell in a line what is allowed."""


@dataclass(frozen=True)
class Kinds(Limit):
    """Kinds of layers that a chip has; flatten and neurons are always allowed, delays as far as :class:`Delays` says.

    Attributes:
        kinds: classes of :mod:`hw_export.integer.network`.
        advice: what the user can do about another layer.
        maximum: whether pooling may be max-pooling.
    """

    kinds: tuple[type, ...]
    advice: str = ""
    maximum: bool = False

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        for layer in network.layers:
            if not isinstance(layer, (*self.kinds, IntegerFlatten, IntegerLIF, *DELAYS)):
                kind = f"max-{KINDS[IntegerPool]}" if _is_max_pool(layer) else KINDS[type(layer)]
                yield Violation(layer.name, "it is", kind, f"{self} only", advice=self.advice)
            elif _is_max_pool(layer) and not self.maximum:
                yield Violation(layer.name, "it is", "max-pooling", "sums only", advice="train with --pool avg")

    def __str__(self) -> str:
        return "layers of " + ", ".join(KINDS[kind] for kind in self.kinds)


@dataclass(frozen=True)
class Blocks(Limit):
    """Order of layers: neurons directly after every layer of weights, and one layer of weights for every neurons.

    Attributes:
        pool: where pooling may stand: ``nowhere``, ``behind`` neurons, or ``anywhere``.
    """

    pool: Literal["nowhere", "behind", "anywhere"] = "nowhere"

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        before: IntegerLayer | None = None
        for layer in network.layers:
            if self.pool == "anywhere" and isinstance(layer, (IntegerPool, IntegerFlatten)):
                continue
            found = "the inputs" if before is None else f"{before.name!r}"
            if isinstance(layer, IntegerLIF) and not isinstance(before, (IntegerDense, IntegerConv)):
                yield Violation(layer.name, "its neurons follow", found, "directly after weights only")
            elif isinstance(before, (IntegerDense, IntegerConv)) and not isinstance(layer, IntegerLIF):
                yield Violation(before.name, "its weights are followed by", f"{layer.name!r}", "by neurons only")
            elif self.pool == "behind" and isinstance(layer, IntegerPool) and not isinstance(before, IntegerLIF):
                yield Violation(layer.name, "its pooling follows", found, "directly after neurons only")
            before = layer

    def __str__(self) -> str:
        pool = {"nowhere": "", "behind": ", pooling directly after neurons", "anywhere": ""}[self.pool]
        return f"neurons directly after every layer of weights{pool}"


@dataclass(frozen=True)
class WeightRange(Limit):
    """Range of whole weights.

    Attributes:
        low: lowest weight.
        high: highest weight.
    """

    low: int
    high: int

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        for layer in network.products:
            yield from above(layer.name, "largest weight", int(layer.weight.max()), self.high, "use fewer --bits")
            yield from below(layer.name, "lowest weight", int(layer.weight.min()), self.low, "use fewer --bits")

    def __str__(self) -> str:
        return f"weights of {self.low} to {self.high}"


@dataclass(frozen=True)
class BiasRange(Limit):
    """Range of whole biases, in the unit of sums.

    Attributes:
        low: lowest bias.
        high: highest bias; 0 and 0 stand for no biases.
    """

    low: int
    high: int

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        advice = "use layers without bias (train with --no-bias)"
        if self.low or self.high:
            advice = f"{_smaller(network)}, or no bias"
        for layer in network.products:
            yield from above(layer.name, "largest bias", int(layer.bias.max()), self.high, advice)
            yield from below(layer.name, "lowest bias", int(layer.bias.min()), self.low, advice)

    def __str__(self) -> str:
        return "no biases" if not self.low and not self.high else f"biases of {self.low:,} to {self.high:,}"


@dataclass(frozen=True)
class Thresholds(Limit):
    """Range of thresholds, from 1 on, in the unit of sums.

    Attributes:
        high: highest threshold.
        single: whether all neurons of a layer share one threshold.
    """

    high: int
    single: bool = False

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        for layer in network.neurons:
            low, high = int(layer.threshold.min()), int(layer.threshold.max())
            yield from above(layer.name, "largest threshold", high, self.high, _smaller(network))
            yield from below(layer.name, "lowest threshold", low, 1)
            if self.single and low != high:
                count = layer.threshold.unique().numel()
                yield from above(layer.name, "different thresholds", count, 1, "quantise per layer")

    def __str__(self) -> str:
        return f"thresholds of 1 to {self.high:,}" + (", one for each layer" if self.single else "")


@dataclass(frozen=True)
class Resets(Limit):
    """Resets that the neurons of a chip can do.

    Attributes:
        arithmetic: of the chip.
    """

    arithmetic: Arithmetic

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        for layer in network.neurons:
            if layer.reset not in self.arithmetic.resets:
                choose = " or ".join(sorted(self.arithmetic.resets))
                allowed = f"{choose} only"
                yield Violation(layer.name, "its reset is", layer.reset, allowed, advice=f"train with --reset {choose}")

    def __str__(self) -> str:
        return "reset " + " or ".join(sorted(self.arithmetic.resets))


@dataclass(frozen=True)
class Decays(Limit):
    """Decays for which a chip has a code.

    Attributes:
        arithmetic: of the chip.
        each: whether the neurons of a layer may have decays of their own.
    """

    arithmetic: Arithmetic
    each: bool = True

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        form, bits = self.arithmetic.decay, self.arithmetic.decay_bits
        for layer in network.neurons:
            count, lowest = layer.betas.unique().numel(), layer.betas.min().item()
            if not self.each:
                advice = "give all neurons of a layer one beta"
                yield from above(layer.name, "different decays beta", count, 1, advice)
            if form == "none" and layer.leaks:
                advice = "train with --beta 1, the neurons of this chip do not leak"
                yield Violation(layer.name, "its decay beta is", lowest, "1 only", 1.0 - lowest, advice)
            elif form == "multiply":
                code = self.arithmetic.decay_code(lowest)
                yield from above(layer.name, "code of its decay", code, 2**bits - 1, "use a larger --beta")

    def __str__(self) -> str:
        bits = self.arithmetic.decay_bits
        text = {
            "none": "no leak, beta 1",
            "multiply": f"beta in steps of 1/{2**bits:,}",
            "shift": f"beta of 1 - 2^-k, k up to {2**bits - 1}",
            "linear": f"linear leak of up to {2**bits - 1} a step",
            "float": "beta in float32",
        }[self.arithmetic.decay]
        return text if self.each else f"{text}, one for each layer"


@dataclass(frozen=True)
class Delays(Limit):
    """Delays that connections may have, beyond the steps that all of them take.

    Attributes:
        arithmetic: of the chip.
    """

    arithmetic: Arithmetic

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        most, total = self.arithmetic.delays, 0
        advice = (
            "train with shorter --delays" if most else "train without, or choose --target generic, spinnaker2 or nir"
        )
        before: IntegerLayer | None = None
        for layer in network.layers:
            if isinstance(layer, DELAYS):
                total += layer.longest
                yield from above(layer.name, "longest delay, in steps,", total, most, advice)
                if isinstance(before, (IntegerDense, IntegerConv, IntegerPool)):
                    yield Violation(layer.name, "its delay follows", f"{before.name!r}", "in front of weights only")
            elif isinstance(layer, IntegerLIF):
                total = 0
            before = before if isinstance(layer, (*DELAYS, IntegerFlatten)) else layer

    def __str__(self) -> str:
        return f"delays of up to {self.arithmetic.delays:,} steps" if self.arithmetic.delays else "no delays"


@dataclass(frozen=True)
class OneDecay(Limit):
    """One decay for all neurons."""

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        first = network.neurons[0]
        beta = first.betas.flatten()[0].item()
        allowed = f"{beta:g} only, that of {first.name!r}"
        for layer in network.neurons:
            off = (layer.betas - beta).abs().flatten()
            if bool(off.any()):
                worst = int(off.argmax())
                found = layer.betas.flatten()[worst].item()
                yield Violation(layer.name, "its decay beta is", found, allowed, off[worst].item())

    def __str__(self) -> str:
        return "one beta for all layers"


@dataclass(frozen=True)
class EventsPerStep(Limit):
    """Number of events of one input in one step, which is the largest value of an input in whole numbers.

    Attributes:
        most: highest number of events.
    """

    most: int

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        fewer = "" if self.most == 1 else "use inputs of fewer levels (--input-scale), or "
        advice = f"{fewer}encode the inputs as spikes (train with --encoding rate, event data with --levels 1)"
        yield from above(None, "largest input, in events a step,", network.input_scale, self.most, advice)

    def __str__(self) -> str:
        return "one event of an input in a step" if self.most == 1 else f"{self.most:,} events of an input in a step"


@dataclass(frozen=True)
class InputCount(Limit):
    """Number of inputs.

    Attributes:
        most: highest number of inputs.
    """

    most: int

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        yield from above(None, "inputs", math.prod(network.input_shape), self.most)

    def __str__(self) -> str:
        return f"{self.most:,} inputs"


def _smaller(network: IntegerNetwork) -> str:
    """Tell the user how to make sums smaller; inputs of many levels make those of the first layer large."""
    return "use fewer --bits" + (", or inputs of fewer levels (--input-scale)" if network.input_scale > 1 else "")


def _is_max_pool(layer: IntegerLayer) -> bool:
    return isinstance(layer, IntegerPool) and layer.kind == "max"


def notes_of(network: IntegerNetwork, arithmetic: Arithmetic) -> list[str]:
    """Tell in lines what an adapted network does differently in the arithmetic of a chip."""
    notes = [note for layer in network.neurons for note in _decay(layer, arithmetic, network.shape_of(layer))]
    if arithmetic.fires == ">=":
        more = ", and a spike takes that 1 more" if {layer.reset for layer in network.neurons} != {"zero"} else ""
        notes.append(f"neurons fire at their threshold, so it is 1 above what sums had to exceed{more}")
    if arithmetic.by_event:
        notes.append("events are taken one by one, so their order counts, and a neuron may fire again in a step")
    elif arithmetic.most_spikes > 1:
        notes.append(f"a neuron far above its threshold fires up to {arithmetic.most_spikes} times in a step")
    if arithmetic.synapse is not None:
        left = 2**-arithmetic.synapse
        notes.append(f"inputs pass a synapse: {1 - left:g} of one arrives in its step, the rest in the next ones")
    if arithmetic.input_latency:
        later = _steps(arithmetic.input_latency)
        notes.append(f"the first layer receives its inputs {later} later: run that many steps more")
    if arithmetic.latency:
        steps = _steps(arithmetic.latency)
        notes.append(f"the spikes of each further layer come {steps} later: run that many steps more for each")
    waits = arithmetic.latency or arithmetic.input_latency
    if waits and any(bool(layer.bias.any()) for layer in network.products):
        notes.append("biases move the membranes of a layer already in the steps before its first input arrives")
    return notes + list(_overflows(network, arithmetic))


def _steps(count: int) -> str:
    return f"{count} step" + ("s" if count > 1 else "")


def _decay(layer: IntegerLIF, arithmetic: Arithmetic, shape: tuple[int, ...]) -> Iterator[str]:
    codes = spread(code_of(layer, arithmetic, shape), shape)
    betas = spread(layer.betas, shape)
    if arithmetic.decay == "linear":
        yield f"layer {layer.name!r}: a leak of {_span(codes)} a step takes the place of beta {_span(betas)}"
        return
    run = [arithmetic.decay_as_run(code, beta) for code, beta in zip(codes.tolist(), betas.tolist(), strict=True)]
    off = [
        (own, beta)
        for own, beta in zip(run, betas.tolist(), strict=True)
        if own is not None and not math.isclose(1 - own, 1 - beta, rel_tol=0.01)
    ]
    if off:
        many = f" ({len(off)} of {len(run)} neurons)" if len(off) < len(run) else ""
        most, beta = max(off, key=lambda pair: abs(pair[0] - pair[1]))
        yield f"layer {layer.name!r}: beta {beta:g} runs as {most:g}{many}"
    if arithmetic.decay == "shift":
        below = f"2^k of its shift k, up to {2 ** int(codes.max())}," if codes.min() < codes.max() else ""
        yield f"layer {layer.name!r}: a membrane below {below or 2 ** int(codes.max())} falls by 1 a step"


def _span(values: Tensor) -> str:
    low, high = values.min().item(), values.max().item()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _overflows(network: IntegerNetwork, arithmetic: Arithmetic) -> Iterator[str]:
    """Name layers whose sums could leave the registers of the chip in a single step."""
    if arithmetic.decay == "float":
        return
    state = arithmetic.high >> arithmetic.shift
    current = None if arithmetic.current_bits is None else (2 ** (arithmetic.current_bits - 1) - 1) >> arithmetic.shift
    peak = network.input_scale
    for layer in network.layers:
        if isinstance(layer, IntegerPool):
            peak *= math.prod(layer.kernel) if layer.kind == "sum" else 1
        elif isinstance(layer, IntegerLIF):
            peak = 1
        elif isinstance(layer, (IntegerDense, IntegerConv)):
            most = int(largest_sum(layer.weight, layer.bias, peak, signed=False))
            if current is not None and most > current:
                yield f"layer {layer.name!r}: a sum can reach {most:,}, and beyond {current:,} its current wraps around"
            elif most > state:
                what = "saturates" if arithmetic.overflow == "saturate" else "wraps around"
                yield f"layer {layer.name!r}: a sum can reach {most:,}, and beyond {state:,} its membrane {what}"
