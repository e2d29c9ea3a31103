"""The LIF scans on CUDA, fused: one kernel each, which goes through all of time for a block of neurons.

Every array is read or written once. The arithmetic keeps the order of :mod:`spikelfp.functional.lif`, without fused
multiply-add and with divisions rounded to nearest, so the spikes are the same to the last one. The launches are torch
operators, ``torch.ops.spikelfp.lif_forward``, ``lif_reverse`` and ``leaky_integrate``, whose shapes torch knows.

``TRITON_INTERPRET=1``, set before this module is imported, runs the kernels as Python, slowly, on any device.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor, library
from triton.runtime.interpreter import InterpretedFunction

from spikelfp.functional.lif import Constant, LIFParameters
from spikelfp.functional.sequence import Trace, is_constant
from spikelfp.kernels import triton_programs as programs

INTERPRETED = isinstance(programs.forward, InterpretedFunction)
"""Whether the kernels of this process run in Triton's interpreter."""

ROWS = 8
"""Steps read at once. Where membranes are computed again, one of this many is kept meanwhile."""
_MANY = 1 << 20  # neurons from which on a thread takes four of them, 16 bytes at a time


def launch_sizes(count: int) -> dict[str, int]:
    """Return neurons of a program, steps it reads at once, and its warps, for ``count`` neurons."""
    block = 512 if count >= _MANY else 128
    if INTERPRETED:  # every program is a loop in Python: few and wide
        block = triton.next_power_of_2(min(max(count, 1), _MANY))
    return {"BLOCK": block, "ROWS": ROWS, "num_warps": 4}


def _launch(
    program: Any, shape: tuple[int, ...], device: torch.device, *arguments: Any, **constants: bool | str
) -> None:
    """Run ``program`` over the neurons of ``shape`` ``[T, …]``; T and their number are its last arguments."""
    count = 1
    for size in shape[1:]:
        count *= size
    sizes = launch_sizes(count)
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        program[(triton.cdiv(count, sizes["BLOCK"]),)](
            *arguments, shape[0], count, **constants, **sizes, enable_fp_fusion=False
        )


def _source(current: Tensor) -> tuple[Tensor, bool]:
    """Return the rows of a current to be read, of a constant one only the first, and whether it varies."""
    varying = not is_constant(current)
    return (current if varying else current[:1]).contiguous(), varying


@library.custom_op(
    "spikelfp::lif_forward",
    mutates_args=(),
    schema="(Tensor current, Tensor start, float beta, float threshold, Tensor? betas, Tensor? thresholds, str reset, "
    "bool keep) -> (Tensor, Tensor)",
)
def _lif_forward(
    current: Tensor, start: Tensor, beta: float, threshold: float, betas: Tensor | None, thresholds: Tensor | None,
    reset: str, keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    spikes, membrane = _traces(current, start, keep)
    source, varying = _source(current)
    constants = (beta, threshold, betas, thresholds, start[0].numel())
    arguments = (source, start.contiguous(), spikes, membrane, *constants)
    _launch(programs.forward, spikes.shape, spikes.device, *arguments, VARYING=varying, KEEP=keep, RESET=reset)
    return spikes, membrane


@_lif_forward.register_fake
def _(
    current: Tensor, start: Tensor, beta: float, threshold: float, betas: Tensor | None, thresholds: Tensor | None,
    reset: str, keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return _traces(current, start, keep)


def _traces(current: Tensor, start: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """Allocate spikes of all steps, and membranes of all steps or the last."""
    return current.new_empty(current.shape), current.new_empty((len(current) if keep else 1, *start.shape))


@library.custom_op(
    "spikelfp::lif_reverse",
    mutates_args=(),
    schema="(Tensor? message, Tensor? reward, Tensor? final, Tensor? membrane, Tensor? current, Tensor start, "
    "float beta, float threshold, float bar, float least, Tensor? betas, Tensor? thresholds, Tensor? bars, "
    "Tensor? leasts, float eps, str reset, bool increment, bool constant, bool local) -> (Tensor, Tensor)",
)
def _lif_reverse(
    message: Tensor | None, reward: Tensor | None, final: Tensor | None,
    membrane: Tensor | None, current: Tensor | None, start: Tensor,
    beta: float, threshold: float, bar: float, least: float,
    betas: Tensor | None, thresholds: Tensor | None, bars: Tensor | None, leasts: Tensor | None,
    eps: float, reset: str, increment: bool, constant: bool, local: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    out, to_start = _messages(membrane, current, start, constant)
    given = [tensor if tensor is None else tensor.contiguous() for tensor in (message, reward, final)]
    numbers, tensors = (beta, threshold, bar, least), (betas, thresholds, bars, leasts)
    written = (out, to_start, *numbers, *tensors, start[0].numel(), eps)
    constants: dict[str, bool | str] = {"RESET": reset, "INCREMENT": increment, "CONSTANT": constant, "LOCAL": local}
    shape, device = (_steps(membrane, current), *start.shape), start.device
    start = start.contiguous()
    if membrane is not None:
        _launch(programs.reverse, shape, device, *given, membrane.contiguous(), start, *written, **constants)
    else:
        assert current is not None
        source, varying = _source(current)
        scratch = start.new_empty((triton.cdiv(shape[0], ROWS), *start.shape))
        again = (*given, source, start, scratch, *written)
        _launch(programs.reverse_again, shape, device, *again, VARYING=varying, **constants)
    return out, to_start


@_lif_reverse.register_fake
def _(
    message: Tensor | None, reward: Tensor | None, final: Tensor | None,
    membrane: Tensor | None, current: Tensor | None, start: Tensor,
    beta: float, threshold: float, bar: float, least: float,
    betas: Tensor | None, thresholds: Tensor | None, bars: Tensor | None, leasts: Tensor | None,
    eps: float, reset: str, increment: bool, constant: bool, local: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return _messages(membrane, current, start, constant)


def _messages(membrane: Tensor | None, current: Tensor | None, start: Tensor, constant: bool) -> tuple[Tensor, Tensor]:
    """Allocate the messages to the current, of all steps or their mean, and to the start."""
    steps = 1 if constant else _steps(membrane, current)
    return start.new_empty((steps, *start.shape)), start.new_empty(start.shape)


def _steps(membrane: Tensor | None, current: Tensor | None) -> int:
    trace = current if membrane is None else membrane
    assert trace is not None, "either the membranes or the current they are computed from"
    return len(trace)


@library.custom_op(
    "spikelfp::leaky_integrate",
    mutates_args=(),
    schema="(Tensor current, Tensor start, float beta, Tensor? betas, bool backwards) -> Tensor",
)
def _leaky_integrate(current: Tensor, start: Tensor, beta: float, betas: Tensor | None, backwards: bool) -> Tensor:
    out = current.new_empty(current.shape)
    source, varying = _source(current)
    arguments = (source, start.contiguous(), out, beta, betas, start[0].numel())
    _launch(programs.integrate, out.shape, out.device, *arguments, VARYING=varying, BACKWARDS=backwards)
    return out


@_leaky_integrate.register_fake
def _(current: Tensor, start: Tensor, beta: float, betas: Tensor | None, backwards: bool) -> Tensor:
    return current.new_empty(current.shape)


def _constants(start: Tensor, *values: Constant) -> tuple[Any, ...]:
    """Return each constant as a number, then each as a tensor with one for each neuron of a sample, or ``None``."""
    vectors = [isinstance(value, Tensor) for value in values]
    numbers = (1.0 if vector else value for vector, value in zip(vectors, values, strict=True))
    tensors = (value.expand(start.shape[1:]).contiguous() if isinstance(value, Tensor) else None for value in values)
    return *numbers, *tensors


def forward(current: Tensor, start: Tensor, p: LIFParameters, keep: bool = True) -> Trace:
    """Run :func:`spikelfp.kernels.torch_scan.forward` in float32 or float64.

    A current that is the same at every step (stride 0 in time) is read from one row, once.
    """
    constants = _constants(start, p.beta, p.threshold)
    spikes, membrane = torch.ops.spikelfp.lif_forward(current, start, *constants, p.reset, keep)
    return Trace(spikes=spikes, membrane=membrane)


def reverse(
    message: Tensor | None,
    reward: Tensor | None,
    final: Tensor | None,
    membrane: Tensor | None,
    start: Tensor,
    p: LIFParameters,
    eps: float,
    constant: bool,
    current: Tensor | None = None,
    local: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the messages to the current and to ``start``; see :func:`spikelfp.kernels.torch_scan.reverse`."""
    source = current if membrane is None else None
    constants = _constants(start, p.beta, p.threshold, p.bar, p.least)
    options = (eps, p.reset, p.denominator == "increment", constant, local)
    return torch.ops.spikelfp.lif_reverse(message, reward, final, membrane, source, start, *constants, *options)


def integrate(current: Tensor, start: Tensor, beta: Constant, backwards: bool) -> Tensor:
    """Integrate with a leak; see :func:`spikelfp.kernels.torch_scan.integrate`."""
    return torch.ops.spikelfp.leaky_integrate(current, start, *_constants(start, beta), backwards)
