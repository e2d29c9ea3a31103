r"""Recurrent LIF neurons as one differentiable operation over all steps::

    I[t] = X[t] + V S[t−1] + c                      current
    Y[t] = α Y[t−1] + I[t]                          synaptic current; without a synapse Y = I
    U[t], S[t]                                      of Y[t], as in :mod:`spikelfp.functional.lif`

Backward under LFP-ε and LFP-0, with the message ``m[t]`` to the spikes, their reward ``r[t]`` at an output::

    R[t] = S[t] (m[t] + Vᵀ M[t+1]) + r[t] + r_int[t+1]      reward of the membrane; with a margin μ < 1
                                                            [U[t] > μ θ] stands for S[t]
    n[t] = R[t] / D[t]         r_int[t] = β U[t−1] n[t]     split over what flowed in
    M[t] = n[t] + α M[t+1]                                  message to I[t]; without a synapse M = n
    dV   = |V| Σ_t M[t] S[t−1]ᵀ                             eq. 7

With ``credit="step"`` nothing crosses from a step to the one before: ``M[t] = n[t] = (S[t] m[t] + r[t]) / D[t]``. The
recurrent weights get their local share of it by the same eq. 7, and the spikes ``S[t−1]`` no message.

A silent neuron earns nothing of a message, so the products with ``V`` are needed for spikes alone, or for the neurons
above the margin (:mod:`spikelfp.kernels.recurrent_numba`). Gradients need them for every neuron: their backward pass
is dense.

Where no kernel fits (:func:`kernel_for`), layers run step by step; that loop is the reference for tests of the kernels.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spikelfp import kernels
from spikelfp.functional.credit import MagnitudeStep, NeuronNode, keep_node
from spikelfp.functional.lif import PAPER_MARGIN, Constant, LIFParameters, carried
from spikelfp.functional.once import no_second_derivative
from spikelfp.functional.sequence import is_constant
from spikelfp.kernels import numba_scan
from spikelfp.kernels.events.linear import cache_events
from spikelfp.kernels.recurrent_numba import RecurrentConstants, RecurrentCredit, Wanted
from spikelfp.machine import empty
from spikelfp.rules import Epsilon, Gradient, Rule, Surrogate, Zero, surrogates

_LFP, _GRADIENTS = (Epsilon, Zero), (Gradient, Surrogate)


def kernel_for(
    current: Tensor, recurrent: Any, rule: Rule, fired: Tensor | None, *constants: Constant
) -> ModuleType | None:
    """Find the module whose kernels run recurrent neurons over all steps at once, or ``None`` for a loop over steps.

    Args:
        current: ``[T, B, …]``.
        recurrent: layer of the recurrent connections. Kernels run a plain dense one, with weights in the dtype of the
            current, without hooks, under LFP-ε, LFP-0 (both without normalisation) or a rule of gradients.
        rule: rule of the neurons, which must be of the same family.
        fired: spikes of the step before the first, ``[B, …]``, if there are any.
        *constants: constants of the neurons, the same along every axis but the last.
    """
    from spikelfp.nn.linear import Linear  # here, because layers import this module

    if type(recurrent) is not Linear or recurrent.quantization is not None or "forward" in vars(recurrent):
        return None
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(recurrent, name) for name in hooks) or torch.nn.modules.module._has_any_global_hook():
        return None
    kind, own = type(rule), recurrent.rule
    if kind in _LFP:
        if type(own) not in _LFP or rule.normalize or own.normalize:  # type: ignore[attr-defined]
            return None
    elif kind not in _GRADIENTS or type(own) not in _GRADIENTS:
        return None
    if any(isinstance(value, Tensor) and value.numel() != value.shape[-1] for value in constants):
        return None
    weight, width = recurrent.weight, current.shape[-1]
    tensors = [weight, *([] if recurrent.bias is None else [recurrent.bias]), *([] if fired is None else [fired])]
    if current.dim() < 3 or 0 in current.shape or weight.shape != (width, width):
        return None
    if any(not isinstance(t, Tensor) or t.dtype != current.dtype or t.device != current.device for t in tensors):
        return None
    if fired is not None and fired.shape != current.shape[1:]:
        return None
    if torch.is_autocast_enabled(current.device.type) or torch.compiler.is_compiling():
        return None
    scan = kernels.scan_for(current)
    if scan is numba_scan:
        return import_module("spikelfp.kernels.recurrent_numba")
    if scan.__name__.endswith("triton_scan"):
        triton = import_module("spikelfp.kernels.recurrent_triton")
        return triton if width <= triton.WIDEST else None
    return None


def run(
    kernel: ModuleType,
    recurrent: Any,
    rule: Any,
    current: Tensor,
    fired: Tensor | None,
    start: Tensor,
    synapse: Tensor | None,
    p: LIFParameters,
    alpha: Constant | None,
    decay: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run neurons by a kernel that :func:`kernel_for` found.

    Args:
        kernel: module of the kernels.
        recurrent: layer of the recurrent connections.
        rule: rule of the neurons.
        current: ``X``, ``[T, B, …, N]``, float32 or float64.
        fired: spikes before the first step, ``[B, …, N]``; ``None`` where none fired.
        start: membrane before the first step, ``[B, …, N]``.
        synapse: synaptic current before the first step, ``[B, …, N]``; ``None`` without a synapse.
        p: constants of the neurons.
        alpha: decay of the synapses; ``None`` without.
        decay: β as a parameter, where it learns.

    Returns:
        Spikes ``[T, B, …, N]``, and membrane and synaptic current after the last step.
    """
    shape = current.shape
    local = rule.forward_in_time
    flat = [None if t is None else (t.detach() if local else t).reshape(-1, shape[-1]) for t in (fired, start, synapse)]
    sequence = current[0].reshape(1, -1, shape[-1]).expand(len(current), -1, -1) if is_constant(current) else None
    if sequence is None:
        sequence = current.reshape(len(current), -1, shape[-1])
    constants, listed = _constants(p, alpha, flat[1]), list[Any]()
    if isinstance(rule, Gradient):
        spikes, membrane, current_after = _GradientRun.apply(
            sequence, recurrent.weight, recurrent.bias, *flat, decay, kernel, constants, listed, rule
        )
    else:
        own = recurrent.rule
        weight, bias = (
            None if w is None else MagnitudeStep.apply(w, own.eps) for w in (recurrent.weight, recurrent.bias)
        )
        spikes, membrane, current_after = RecurrentScan.apply(
            sequence, weight, bias, *flat, decay, kernel, constants, listed, p, rule.eps, rule.forward_in_time
        )
    after = None if synapse is None else current_after.view(shape[1:])
    spikes = rule.neurons(spikes.view(shape))
    cache_events(spikes, listed[0])
    return spikes, membrane.view(shape[1:]), after


def _constants(p: LIFParameters, alpha: Constant | None, start: Tensor | None) -> RecurrentConstants:
    """Spread the constants to one for each neuron, ``[N]``."""
    assert start is not None

    def each(value: Constant) -> Tensor:
        width = start.shape[-1]
        if isinstance(value, Tensor):
            return value.detach().to(start).reshape(-1).expand(width).contiguous()
        return torch.full((width,), value, dtype=start.dtype, device=start.device)

    threshold = each(p.threshold)
    return RecurrentConstants(
        None if alpha is None else each(alpha), each(p.beta), threshold, p.reset, p.denominator,
        threshold if p.margin == PAPER_MARGIN else p.margin * threshold, p.floor * threshold,
    )  # fmt: skip


def _forward(
    ctx: Any, current: Tensor, weight: Tensor, bias: Tensor | None, state: Any, kernel: Any, p: Any, listed: list[Any]
) -> Any:
    """Run the forward pass of both functions below: spikes, last membrane, last synaptic current."""
    fired, start, synapse = state
    if fired is not None:
        first = F.linear(fired, weight, bias)
    else:
        first = current.new_zeros(1, len(weight)) if bias is None else bias.unsqueeze(0)
    trace = kernel.forward(current, first, weight, bias, start, synapse, p)
    ctx.kernel, ctx.constants, ctx.constant = kernel, p, is_constant(current)
    ctx.events = trace.events
    listed.append(trace.events)
    ctx.save_for_backward(trace.membrane, weight, fired, start)
    ctx.set_materialize_grads(False)
    return trace.spikes, trace.membrane[-1].clone(), trace.synapse


def _gradients(
    ctx: Any, credit: RecurrentCredit, weight: Tensor, fired: Tensor | None, signed: float | Tensor, rest: int
) -> tuple[Tensor | None, ...]:
    """Return the messages to current, weight, bias, spikes, membrane and synaptic current of the start, and decay.

    ``signed`` is the factor of ``Σ_t V[t] n[t]`` in the message to the decay; ``rest`` counts the other arguments.
    """
    needs = ctx.needs_input_grad
    first, steps = credit.to_current[0], len(credit.to_current)
    to_weight = credit.to_weight
    if fired is not None and to_weight is not None:
        to_weight = to_weight.addmm_(first.t(), fired)
    to_fired = torch.mm(first, weight) if needs[3] else None
    to_current = credit.to_current
    if ctx.constant and credit.sums is not None:  # the mean: a sum over the steps is then that of the messages
        to_current = (credit.sums / steps).expand(to_current.shape)
    to_decay = None
    if needs[6] and credit.to_decay is not None:
        to_decay = signed * credit.to_decay.sum(0)
        to_decay = to_decay.sum().reshape(ctx.decay_shape) if ctx.decay_shape.numel() == 1 else to_decay
        to_decay = to_decay.reshape(ctx.decay_shape)
    to_bias = credit.sums.sum(0) if needs[2] and credit.sums is not None else None
    found = (to_current, to_weight, to_bias, to_fired, credit.to_start, credit.to_synapse, to_decay)
    return (*(own if need else None for own, need in zip(found, needs, strict=False)), *(None,) * rest)


class RecurrentScan(Function, NeuronNode):
    """Recurrent neurons and the reward back through them; see the top of this module.

    ``weight`` and ``bias`` come through :class:`~spikelfp.functional.credit.MagnitudeStep`, which multiplies their
    products by ``−|w|``.
    """

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, weight: Tensor, bias: Tensor | None, fired: Tensor | None, start: Tensor,
        synapse: Tensor | None, decay: Tensor | None, kernel: Any, constants: RecurrentConstants, listed: list[Any],
        p: LIFParameters, eps: float, local: bool,
    ) -> Any:  # fmt: skip
        keep_node()
        ctx.local, ctx.margin = local, p.margin != PAPER_MARGIN
        ctx.parameters, ctx.eps, ctx.decay_shape = p, eps, None if decay is None else decay.shape
        return _forward(ctx, current, weight, bias, (fired, start, synapse), kernel, constants, listed)

    @staticmethod
    def heard(ctx: Any) -> Tensor:
        heard: Tensor = ctx.saved_tensors[0] > ctx.constants.bar
        return heard

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor | None, final: Tensor | None, synapse: Tensor | None = None) -> Any:
        membrane, weight, fired, start = ctx.saved_tensors
        p = ctx.constants
        message, reward = NeuronNode.received(ctx, message)
        if all(t is None for t in (message, reward, final, synapse)):
            return (None,) * 13
        needs = ctx.needs_input_grad
        wanted = Wanted(update=needs[1], decay=needs[6], sums=needs[2] or ctx.constant)
        if ctx.local:
            credit = _of_each_step(ctx, message, reward, final, synapse, membrane, start, wanted)
        else:
            credit = ctx.kernel.reverse(
                message, reward, final, synapse, membrane, ctx.events, weight, start, p, ctx.eps, wanted
            )
        return _gradients(ctx, credit, weight, fired, -p.beta, 6)


def _of_each_step(
    ctx: Any,
    message: Tensor | None,
    reward: Tensor | None,
    final: Tensor | None,
    synapse: Tensor | None,
    membrane: Tensor,
    start: Tensor,
    wanted: Wanted,
) -> RecurrentCredit:
    """Credit each step with its own reward; the arguments are those of a kernel's ``reverse``."""
    constants = ctx.constants
    p = ctx.parameters.unchecked(constants.beta, constants.threshold)
    out, to_start = kernels.scan_for(membrane).reverse(
        message, reward, final, membrane, start, p, ctx.eps, False, None, True
    )
    to_decay = None
    if wanted.decay:
        to_decay = (carried(torch.cat([start.unsqueeze(0), membrane[:-1]]), p) * out).sum(0)
    if synapse is not None:
        out[-1] += synapse
    sums = out.sum(0) if wanted.sums else None
    update = ctx.kernel.to_weight(out, membrane, ctx.events, constants) if wanted.update else None
    return RecurrentCredit(out, to_start, None, to_decay, sums, update)


class _GradientRun(Function):
    """Recurrent neurons under a rule of gradients: backpropagation through time, the reset detached (as in snnTorch).

    A spike has the derivative of the rule's smooth function, or none.
    """

    of_gradients = True

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, weight: Tensor, bias: Tensor | None, fired: Tensor | None, start: Tensor,
        synapse: Tensor | None, decay: Tensor | None, kernel: Any, constants: RecurrentConstants, listed: list[Any],
        rule: Gradient,
    ) -> Any:  # fmt: skip
        ctx.rule, ctx.decay_shape = rule, None if decay is None else decay.shape
        return _forward(ctx, current, weight, bias, (fired, start, synapse), kernel, constants, listed)

    @staticmethod
    @no_second_derivative
    def backward(ctx: Any, grad: Tensor | None, final: Tensor | None, synapse: Tensor | None = None) -> Any:
        membrane, weight, fired, start = ctx.saved_tensors
        if grad is None and final is None and synapse is None:
            return (None,) * 11
        smooth = isinstance(ctx.rule, Surrogate)
        credit = _back(grad, final, synapse, membrane, weight, start, ctx.constants, ctx.rule if smooth else None)
        if ctx.needs_input_grad[1]:
            update = ctx.kernel.to_weight(credit.to_current, membrane, ctx.events, ctx.constants)
            credit = credit._replace(to_weight=update)
        return _gradients(ctx, credit, weight, fired, 1.0, 4)


def _back(
    grad: Tensor | None,
    final: Tensor | None,
    synapse: Tensor | None,
    membrane: Tensor,
    weight: Tensor,
    start: Tensor,
    p: RecurrentConstants,
    rule: Surrogate | None,
) -> RecurrentCredit:
    """Compute the gradients step by step; every neuron gets one, so the products are dense."""
    out = empty(membrane.shape, membrane)
    to_decay, sums, carry, later = *start.new_zeros(3, *start.shape), None
    for t in reversed(range(len(membrane))):
        before, total = membrane[t - 1] if t else start, carry
        if rule is not None:
            given = None if grad is None else grad[t]
            if later is not None:
                given = torch.mm(later, weight) if given is None else torch.addmm(given, later, weight)
            if given is not None:
                total = given.mul(surrogates[rule.shape](membrane[t] - p.threshold, rule.slope)).add_(carry)
        if later is None and final is not None:
            total = total + final
        kept = before
        carry = p.beta * total
        if p.reset == "zero":
            carry, kept = carry * (before <= p.threshold), before * (before <= p.threshold)
        elif p.reset == "immediate":
            kept = before - p.threshold * (before > p.threshold).to(before.dtype)
        to_decay.addcmul_(kept, total)
        if p.alpha is not None and later is not None:
            total = total + p.alpha * later
        elif later is None and synapse is not None:
            total = total + synapse
        later = out[t].copy_(total)
        sums.add_(later)
    return RecurrentCredit(out, carry, None if p.alpha is None else p.alpha * out[0], to_decay, sums, None)
