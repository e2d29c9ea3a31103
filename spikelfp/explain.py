"""Explain a prediction: the rules that train a network say which of its inputs a class rests on.

The activation of an output is handed back as a reward, and each layer splits it by its rule, down to the inputs. That
is layer-wise relevance propagation (LRP, Bach et al. 2015), of which LFP is the form that trains::

    R_c = o_c                        at the outputs that are explained, 0 at all others
    R_i = x_i m_i                    at the inputs; m_i is the message that arrives there

Relevance is conserved, ``Σ_i R_i = Σ_c R_c``, where every layer hands on all that it gets: networks of ReLU without
biases under LFP-0, LFP-ε and LFP-γ, up to their ε. A bias keeps its share. The membrane of a spiking neuron does not
conserve: its rule divides by the magnitudes of what flows in (v3, eq. A.2-A.3), and a reset takes relevance away.
Neurons follow the paper's rule here, whatever their floor and margin are: what did not fire has no relevance.

>>> from spikelfp import explain
>>> found = explain.relevance(net, x)                        # [T, B, …], like x
>>> curve = explain.deletion(net, x, labels, found)          # accuracy when the most relevant inputs are deleted
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp import checks
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.lif import PAPER_FLOOR, PAPER_MARGIN
from spikelfp.functional.propagation import send_rewards
from spikelfp.nn.neurons.base import Neurons
from spikelfp.rules.base import Assigning, lending, rules_in
from spikelfp.training.evaluation import evaluating

__all__ = ["Deletion", "InputEvents", "deletion", "events", "predicted", "relevance", "weight_relevance"]


@torch.inference_mode(False)
def relevance(
    net: Module,
    x: Tensor,
    target: int | Tensor | None = None,
    *,
    rule: Assigning | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Split the outputs of a class over the inputs (LRP; the rules of LFP v3, eq. 2-6).

    Spikes are explained at the steps at which the class fires. The network runs in evaluation mode, and its weights,
    their gradients, its mode and the random state of torch are left as they were.

    Args:
        net: layers of :mod:`spikelfp.nn`; a trained network.
        x: inputs ``[T, B, …]``; ``nn.constant(x, steps)`` makes them of static samples ``[B, …]``.
        target: class that is explained, one for all samples or ``[B]``; ``None`` explains the predicted ones, those of
            the largest sum over the steps.
        rule: rule of the layers that have none of their own, or a :class:`~spikelfp.rules.Composite`. ``None``: LFP-ε.
            Under a rule of gradients the relevance is ``x_i ∂o_c/∂x_i`` (gradient times input).
        mask: boolean ``[T, B]``, the steps whose outputs count; ``None`` for all.

    Returns:
        ``R_i``, of the shape and the device of ``x``, in the dtype of the weights. A positive value speaks for the
        class, a negative one against it. It is 0 for a sample whose class has no output.

    Raises:
        UserError: for inputs that are not dense numbers, a class that is none, and outputs that are no classes.
    """
    given = _checked(net, x)
    with _explaining(net, given, target, rule, mask) as leaf:
        found = leaf.grad
    return torch.zeros_like(given) if found is None else given * found


@torch.inference_mode(False)
def weight_relevance(
    net: Module,
    x: Tensor,
    target: int | Tensor | None = None,
    *,
    rule: Assigning | None = None,
    mask: Tensor | None = None,
    batch_size: int = 256,
) -> dict[str, Tensor]:
    """Split the outputs of a class over the weights, summed over all steps and samples.

    ``R_ij = Σ z_ij / z_j R_j`` is ``w_ij Σ x_i m_j`` under LFP-0 and LFP-ε. Pruning takes its magnitude as the worth of
    a connection (v3, appendix A.6.3, after Yeom et al. 2021). Under every rule it is the update that the rule gives the
    weight for that reward, with the sign of the weight in place of ``|w|``.

    Args:
        net: layers of :mod:`spikelfp.nn`; a trained network.
        x: inputs ``[T, B, …]``.
        target: class that is explained, one for all samples or ``[B]``; ``None`` for the predicted ones.
        rule: rule of the layers that have none of their own, or a composite; ``None``: LFP-ε.
        mask: boolean ``[T, B]``, the steps whose outputs count; ``None`` for all.
        batch_size: samples that run at once.

    Returns:
        Relevance of each parameter by its name, of its shape, in float64; 0 where none arrives.

    Raises:
        UserError: for what :func:`relevance` refuses.
    """
    given, batch_size = _checked(net, x), checks.whole("batch_size", batch_size, 1)
    if not given.shape[1]:
        raise ShapeError(f"the relevance of weights is that for a sample at least, got inputs {list(given.shape)}")
    mask, wanted = checks.step_mask(mask, given), _wanted(target, given)
    found = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in net.named_parameters()}
    for first in range(0, given.shape[1], batch_size):
        part = slice(first, first + batch_size)
        own = None if wanted is None else wanted[part]
        part_mask = None if mask is None else mask[:, part]
        with _all_learning(net), _explaining(net, given[:, part], own, rule, part_mask):
            gradients = any(each.of_gradients for each in rules_in(net).values())
            for name, p in net.named_parameters():
                if p.grad is not None:
                    weight = p.detach().double()  # rewards are ascended, so that their updates stand in grad as −d
                    found[name] += p.grad.double() * (weight if gradients else -weight.sign())
    return found


@contextmanager
def _all_learning(net: Module) -> Iterator[None]:
    """Let frozen parameters get their relevance, too."""
    frozen = [p for p in net.parameters() if not p.requires_grad and p.is_floating_point()]
    try:
        for p in frozen:
            p.requires_grad_()
        yield
    finally:
        for p in frozen:
            p.requires_grad_(False)


@contextmanager
def _explaining(
    net: Module,
    given: Tensor,
    target: int | Tensor | None,
    rule: Assigning | None,
    mask: Tensor | None,
) -> Iterator[Tensor]:
    """Hand the outputs of a class back; within the block the inputs and the parameters hold what arrived there."""
    checks.graph_of(net)
    lent = nullcontext() if rule is None else lending(net, rule)
    with evaluating(net, 0, given.device), untouched(net), _spikes_alone(net), lent, torch.enable_grad():
        # Steps of a constant input are one tensor seen T times; here each of them has a relevance of its own.
        leaf = given.clone(memory_format=torch.contiguous_format).requires_grad_()
        outputs = _outputs(net, leaf)
        if not outputs.requires_grad:
            raise UserError("nothing is handed back to the inputs: build the network of layers of spikelfp.nn")
        counted = torch.ones_like(outputs[..., :1]) if mask is None else _counted(mask, outputs)
        chosen = _chosen(outputs.detach() * counted, _wanted(target, outputs)) * counted
        if any(each.of_gradients for each in rules_in(net).values()):
            torch.autograd.backward(outputs, chosen)
        else:
            send_rewards(outputs, outputs.detach() * chosen)
        yield leaf


def predicted(net: Module, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Find the classes of the largest sums over the steps, ``[B]``.

    Args:
        net: the network.
        x: inputs ``[T, B, …]``.
        mask: boolean ``[T, B]``, the steps whose outputs count; ``None`` for all.

    Raises:
        UserError: for what :func:`relevance` refuses.
    """
    return outputs_of(net, x, mask=mask).argmax(1)


def outputs_of(net: Module, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Sum the outputs over the steps, ``[B, C]``; the largest is the class that is predicted.

    Args:
        net: the network.
        x: inputs ``[T, B, …]``.
        mask: boolean ``[T, B]``, the steps whose outputs count; ``None`` for all.

    Raises:
        UserError: for what :func:`relevance` refuses.
    """
    given = _checked(net, x)
    with evaluating(net, 0, given.device):
        outputs = _outputs(net, given)
        return (outputs if mask is None else outputs * _counted(mask, outputs)).sum(0)


@dataclass(frozen=True)
class Deletion:
    """Accuracy while inputs are deleted.

    Attributes:
        shares: of the inputs that are not 0, deleted in each sample, ``[F]``.
        accuracy: with the most relevant inputs deleted, ``[F]``.
        random: with as many deleted at random, ``[F]``.
    """

    shares: tuple[float, ...]
    accuracy: tuple[float, ...]
    random: tuple[float, ...]

    @property
    def gap(self) -> float:
        """Mean difference of the two accuracies, ``random − accuracy``; the larger, the better the explanation."""
        return sum(self.random) / len(self.random) - sum(self.accuracy) / len(self.accuracy)


def deletion(
    net: Module,
    x: Tensor,
    labels: Tensor,
    relevance: Tensor,
    *,
    shares: Sequence[float] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7),
    over_time: bool = False,
    mask: Tensor | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> Deletion:
    """Measure the accuracy with the most relevant inputs set to 0, beside random ones (Samek et al. 2017).

    Args:
        net: the network.
        x: inputs, as for :func:`relevance`.
        labels: classes ``[B]``.
        relevance: of the inputs, of their shape.
        shares: of the inputs that are not 0, deleted in each sample; rounded up to whole inputs.
        over_time: delete an input at all steps, by its relevance summed over them: a pixel of a picture that is shown
            for T steps. Otherwise each step of each input stands for itself, as events do.
        mask: boolean ``[T, B]``, the steps whose outputs count; ``None`` for all.
        batch_size: samples that run at once.
        seed: of the random deletions.

    Raises:
        ShapeError: for labels, a mask or a relevance that do not fit the inputs.
        UserError: for shares outside [0, 1], a relevance with NaN, labels of classes that the network does not have,
            and what :func:`relevance` refuses.
    """
    given, shares = _checked(net, x), checks.shares("each of the shares", shares)
    batch_size, seed = checks.whole("batch_size", batch_size, 1), checks.whole("seed", seed)
    relevance = checks.finite("the relevance", relevance)
    if relevance.shape != x.shape:
        raise ShapeError(f"the relevance has shape {list(relevance.shape)}, and the inputs {list(x.shape)}")
    labels, mask = checks.class_labels(labels, given), checks.step_mask(mask, given)
    generator = torch.Generator().manual_seed(seed)
    by_sample = given.transpose(0, 1)
    held, worth = (by_sample != 0).cpu(), relevance.detach().to("cpu", torch.float64).transpose(0, 1)
    if over_time:
        held, worth = held.any(1, keepdim=True), worth.sum(1, keepdim=True)
    chance = torch.rand(held.shape, generator=generator, dtype=torch.float64)
    curves = []
    for order in (worth, chance):
        places = _ranks(order.masked_fill(~held, -torch.inf).flatten(1)).view_as(held)
        count = held.flatten(1).sum(1).view(-1, *[1] * (held.ndim - 1))
        curve = []
        for share in shares:
            kept = (places >= torch.ceil(share * count - 1e-9)).to(given.device)
            curve.append(_accuracy(net, (by_sample * kept).transpose(0, 1), labels, mask, batch_size))
        curves.append(tuple(curve))
    return Deletion(shares, *curves)


@dataclass(frozen=True)
class InputEvents:
    """Inputs of one sample that are not 0, with their relevance, the most relevant first.

    Attributes:
        places: step and coordinates of each, such as ``(t, polarity, y, x)``, ``[M, D]``.
        values: the inputs there, numbers of events in binned recordings, ``[M]``.
        relevance: of each, ``[M]``; that of a single event is ``relevance / values``.
    """

    places: Tensor
    values: Tensor
    relevance: Tensor


def events(x: Tensor, relevance: Tensor, sample: int = 0) -> InputEvents:
    """List the events of a sample in space and time with their relevance.

    Args:
        x: inputs ``[T, B, …]``.
        relevance: of the inputs, of their shape (:func:`relevance`).
        sample: in the batch.

    Raises:
        ShapeError: for a relevance of another shape, and for inputs without steps and a batch.
        UserError: for a sample that is not in the batch, a relevance with NaN, and what is no dense tensor.
    """
    x, relevance, sample = (
        checks.tensor("x", x).detach(),
        checks.finite("the relevance", relevance),
        checks.whole("sample", sample),
    )
    if relevance.shape != x.shape or x.ndim < 3:
        raise ShapeError(
            f"inputs [T, B, …] and their relevance have one shape, got {list(x.shape)} and {list(relevance.shape)}"
        )
    if sample >= x.shape[1]:
        raise UserError(f"there is no sample {sample} in a batch of {x.shape[1]}")
    own, worth = x[:, sample], relevance[:, sample].detach()
    places = own.nonzero()
    found = worth[tuple(places.T)]
    order = found.argsort(descending=True, stable=True)
    return InputEvents(places[order], own[tuple(places.T)][order], found[order])


# --- parts


def _checked(net: Module, x: Any) -> Tensor:
    """Return inputs in the dtype of the weights, or refuse them."""
    checks.network(net)
    if not isinstance(x, Tensor) or x.layout is not torch.strided:
        kind = f"a {x.layout} tensor" if isinstance(x, Tensor) else type(x).__name__
        raise UserError(f"inputs are a dense tensor [T, B, …], got {kind}: hand over its dense values")
    if x.is_complex() or x.dtype == torch.bool:
        raise UserError(f"inputs are real numbers, got {x.dtype}: x.float() makes such numbers")
    if not torch.isfinite(x).all():
        raise UserError("the inputs hold NaN or infinity: look for them with torch.isfinite")
    if x.ndim < 2 or not len(x):
        raise ShapeError(
            f"inputs have shape [T, B, …], with a step at least, got {list(x.shape)}; nn.constant(x, steps) turns a "
            "static batch into a sequence"
        )
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.get_default_dtype())
    return x.detach().to(dtype)


@contextmanager
def untouched(net: Module) -> Iterator[None]:
    """Leave the gradients of the parameters as they are."""
    before = [(p, p.grad) for p in net.parameters()]
    for p, _ in before:
        p.grad = None
    try:
        yield
    finally:
        for p, grad in before:
            p.grad = grad


@contextmanager
def _spikes_alone(net: Module) -> Iterator[None]:
    """Give neurons the paper's rule: with a margin, those that did not fire would take relevance too."""
    neurons = [layer for layer in net.modules() if isinstance(layer, Neurons)]
    before = [(layer, layer.floor, layer.margin) for layer in neurons]
    try:
        for layer in neurons:
            layer.floor, layer.margin = PAPER_FLOOR, PAPER_MARGIN
        yield
    finally:
        for layer, floor, margin in before:
            layer.floor, layer.margin = floor, margin


def _outputs(net: Module, x: Tensor) -> Tensor:
    """Return outputs ``[T, B, C]``, or refuse others."""
    outputs = net(x)
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    if not isinstance(outputs, Tensor) or outputs.ndim != 3:
        shape = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UserError(f"explanations are of classes, outputs [T, B, C], got {shape}")
    return outputs


def _wanted(target: Any, x: Tensor) -> Tensor | None:
    """Return the classes ``[B]`` that are explained in a batch ``[T, B, …]``; ``None`` for the predicted ones."""
    if target is None:
        return None
    try:
        wanted = torch.as_tensor(target, device=x.device)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"target is a class, a whole number, or one of each sample, got {target!r:.80}") from None
    if wanted.is_floating_point() or wanted.is_complex() or wanted.dtype == torch.bool:
        raise UserError(f"target is a class, a whole number, or one of each sample, got {wanted.dtype}")
    if wanted.shape not in ((), (x.shape[1],)):
        raise ShapeError(f"target has shape {list(wanted.shape)}, and the batch {x.shape[1]} samples")
    return wanted.expand(x.shape[1]).long()


def _chosen(outputs: Tensor, wanted: Tensor | None) -> Tensor:
    """Make the mask ``[B, C]`` of the outputs that are explained."""
    classes = outputs.shape[-1]
    if wanted is None:
        wanted = outputs.sum(0).argmax(1)
    wrong = wanted[(wanted < 0) | (wanted >= classes)]
    if len(wrong):
        raise UserError(f"there is no class {int(wrong[0])}: the network has {classes} outputs")
    return torch.nn.functional.one_hot(wanted, classes).to(outputs.dtype)


def _ranks(values: Tensor) -> Tensor:
    """Rank each value of a row from the largest, 0, on; equal ones in their order."""
    order = values.argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(1, order, torch.arange(values.shape[1]).expand_as(order))


def _counted(mask: Tensor, outputs: Tensor) -> Tensor:
    """Return the mask of the steps that count as ``[T, B, 1]`` in the dtype of the outputs, or refuse it."""
    checks.step_mask(mask, outputs)
    return mask.to(outputs.device, outputs.dtype).unsqueeze(-1)


def _accuracy(net: Module, x: Tensor, labels: Tensor, mask: Tensor | None, batch_size: int) -> float:
    right = 0
    with evaluating(net, 0, x.device):
        for first in range(0, len(labels), batch_size):
            outputs = _outputs(net, x[:, first : first + batch_size])
            if mask is not None:
                outputs = outputs * _counted(mask[:, first : first + batch_size], outputs)
            checks.labels_within(labels, outputs.shape[-1])
            right += int((outputs.sum(0).argmax(1) == labels[first : first + batch_size].to(x.device)).sum())
    return right / len(labels)
