"""What a chip changes against the trained network, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hw_export.integer.arithmetic import Arithmetic
from hw_export.integer.network import Conv, Dense, IntegerNetwork, Neurons, Pool
from hw_export.quantize.bounds import largest_sum
from hw_export.targets.files.outline import code_of


def notes_of(network: IntegerNetwork, arithmetic: Arithmetic) -> list[str]:
    """A line for each thing that an adapted ``network`` does differently in ``arithmetic``."""
    notes = [note for layer in network.neurons for note in _decay(layer, arithmetic)]
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
        notes.append(f"the first layer hears its inputs {_steps(arithmetic.input_latency)} later: run so many more")
    if arithmetic.latency:
        steps = _steps(arithmetic.latency)
        notes.append(f"the spikes of each further layer come {steps} later: run that many steps more for each")
    waits = arithmetic.latency or arithmetic.input_latency
    if waits and any(bool(layer.bias.any()) for layer in network.products):
        notes.append("biases move the membranes of a layer already in the steps before its first input arrives")
    return notes + list(_overflows(network, arithmetic))


def _steps(count: int) -> str:
    return f"{count} step" + ("s" if count > 1 else "")


def _decay(layer: Neurons, arithmetic: Arithmetic) -> Iterator[str]:
    code = code_of(layer, arithmetic)
    if arithmetic.decay == "linear":
        yield f"layer {layer.name!r}: a leak of {code} a step takes the place of beta {layer.beta:g}"
        return
    run = arithmetic.decay_as_run(code, layer.beta)
    if run is not None and not math.isclose(1 - run, 1 - layer.beta, rel_tol=0.01):
        yield f"layer {layer.name!r}: beta {layer.beta:g} runs as {run:g}"
    if arithmetic.decay == "shift":
        yield f"layer {layer.name!r}: a membrane below {2**code} falls by 1 a step"


def _overflows(network: IntegerNetwork, arithmetic: Arithmetic) -> Iterator[str]:
    """Layers whose sums could leave the registers of the chip in a single step."""
    if arithmetic.decay == "float":
        return
    state = arithmetic.high >> arithmetic.shift
    current = None if arithmetic.current_bits is None else (2 ** (arithmetic.current_bits - 1) - 1) >> arithmetic.shift
    peak = network.input_scale
    for layer in network.layers:
        if isinstance(layer, Pool):
            peak *= math.prod(layer.kernel) if layer.kind == "sum" else 1
        elif isinstance(layer, Neurons):
            peak = 1
        elif isinstance(layer, (Dense, Conv)):
            most = int(largest_sum(layer.weight, layer.bias, peak, signed=False))
            if current is not None and most > current:
                yield f"layer {layer.name!r}: a sum can reach {most:,}, and beyond {current:,} its current wraps around"
            elif most > state:
                what = "saturates" if arithmetic.overflow == "saturate" else "wraps around"
                yield f"layer {layer.name!r}: a sum can reach {most:,}, and beyond {state:,} its membrane {what}"
