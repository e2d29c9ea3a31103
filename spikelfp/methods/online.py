"""Learning one time step at a time: the form of F³, DRTP and LLO for a device (``credit="online"``).

Credit stays in its step (``credit="step"`` of the rules), so the update of a step needs only the membrane of a block,
its input of the step, and the feedback ``Bᵀ e``, which is constant over the sample. It is formed at once::

    n[t] = r[t] / D[t],    d_w = |w| Σ_t n[t] x[t]ᵀ             r[t] = Bᵀ e of hidden neurons,  e of the epoch before

No graph and no activation of an earlier step is kept: memory does not depend on the number of steps ``T``, but for the
outputs ``[T, B, C]``, which are returned. Networks of any layers run step by step with a graph of one step
(:func:`learn_online`). Chains of dense layers and LIF neurons run without a graph, a few steps (:data:`WINDOW`) at a
time, since weights are constant within a sample; they compute the same.

The reward of the outputs must be known at once, too. Rewards that count spikes are given the counts that the sequence
will have if it goes on as it has so far: ``n_c(t)`` spikes in ``t`` of ``T`` steps stand for ``T n_c(t) / t``. That of
LFP v3, eq. A.4, becomes::

    r_c[t] = 1 − σ(T n_c(t) / t − T/2)         for the right class
    r_c[t] = σ(T − T n_c(t) / t − T/2) − 1     for the others

At the last step it is the reward of the sequence. Of all steps only two numbers of each output are kept. Other rewards
are those of the sequence so far, as if it ended with step ``t``; one that sees its own step alone, such as
:class:`~spikelfp.rewards.Softmax`, stays what it is. The mean of ``r[t]`` over the steps is the new error ``e``.

Two simpler rewards learn worse. That of a single step never fades, since one spike of the right class earns
``1 − σ(1/2)`` for ever; counts that are not scaled to ``T`` have its fault in the first steps. (MNIST, 784-1000-10, 15
steps, 5,000 samples once, one at a time, accuracy on 2,000 others: 0.10 and 0.50, and 0.87 with the equations above.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules import module as torch_module

from spikelfp.errors import UserError
from spikelfp.functional.credit import backward_pass
from spikelfp.functional.grid import Grid, Represented
from spikelfp.functional.lif import LIFParameters
from spikelfp.functional.propagation import send_rewards
from spikelfp.functional.sequence import is_constant, time_slice
from spikelfp.kernels import scan_for
from spikelfp.machine import empty
from spikelfp.methods.base import Batch
from spikelfp.methods.blocks import Segment, cutting
from spikelfp.nn import LIF, Dropout, Flatten, Linear
from spikelfp.nn.layer import check_carries
from spikelfp.nn.recompute import detached_copy
from spikelfp.rewards import Reward
from spikelfp.rewards.sequence import CountReward
from spikelfp.rules import Composite, Epsilon, Rule
from spikelfp.tasks import Task


@dataclass(frozen=True, eq=False)
class Lesson:
    """Network, reward and feedback of a batch that is learned from one step at a time.

    Attributes:
        net: the network.
        segments: its blocks.
        task: the task.
        reward: of the outputs.
        eps: ε of the first division of linear outputs.
        as_reward: whether hidden neurons get their feedback as a reward, else as a message.
        error: errors ``[B, C]``, known before the network runs; ``None``: those of each step, ``error_of_step``.
        error_of_step: function of the outputs so far, the reward of the step, the targets and the mask so far.
        feedback: function of a block, its output and ``C`` to its feedback weights ``[C, n]``.
        teaches: whether hidden blocks learn.
    """

    net: Module
    segments: list[Segment]
    task: Task
    reward: Reward
    eps: float
    as_reward: bool
    error: Tensor | None
    error_of_step: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
    feedback: Callable[[Segment, Tensor, int], Tensor]
    teaches: bool


def check_online(net: Module, rule: Rule | Composite, reward: Reward, task: Task) -> None:
    """Refuse what cannot learn one step at a time.

    Args:
        net: the network.
        rule: rule of the layers that have none of their own.
        reward: of the outputs.
        task: the task.

    Raises:
        UserError: naming it, with what to do.
    """
    check_carries(net)
    for name, layer in net.named_modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"layer {name} ({type(layer).__name__}) normalises by the mean and variance of a batch over all of its "
                'steps, and credit="online" sees one step at a time: take it out, or choose nn.LayerNorm, which '
                'normalises every step by itself, or credit="step"'
            )
        if isinstance(layer, Dropout | torch.nn.Dropout) and layer.p:
            raise UserError(
                f'layer {name} ({type(layer).__name__}) draws masks in training, and credit="online" keeps none '
                'from step to step: take it out, or choose credit="step"'
            )
    used = [*rule.assign(net).values(), *(getattr(layer, "rule", None) for layer in net.modules())]
    if any(getattr(each, "normalize", False) == "sample" for each in used):
        raise UserError(
            'normalize="sample" divides rewards by the largest of all steps, and credit="online" sees one step at a '
            'time: normalize="step" (--normalize-by step)'
        )
    if not (reward.of_parts and task.of_parts) or getattr(reward, "window", None) not in (None, 1):
        raise UserError(
            f'{reward!r} is known when a sequence (or a window of it) has ended, and credit="online" rewards every '
            'step at once: choose another reward, or credit="step"'
        )


class RewardSoFar:
    """Reward of each step, from it and the steps before (equations in :mod:`spikelfp.methods.online`).

    Args:
        reward: of the outputs.
        task: the task.
        batch: the batch.
        cap: whether rewards above 0 are cut to 0 (v3, footnote 5).
    """

    def __init__(self, reward: Reward, task: Task, batch: Batch, cap: bool = False) -> None:
        self.reward, self.task, self.batch, self.cap = reward, task, batch, cap
        self.total: Tensor | None = None
        self.magnitude: Tensor | None = None
        self.outputs: Tensor | None = None
        self.done = 0
        self._counts: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the rewards of the next steps, and 0 at those that do not count.

        Args:
            outputs: of these steps, ``[k, B, C]``, without a graph.

        Returns:
            ``[k, B, C]``.
        """
        if self.outputs is None:
            self.outputs = outputs.new_empty(len(self.batch.sequence), *outputs.shape[1:])
        end = self.done + len(outputs)
        self.outputs[self.done : end] = outputs
        mask = None if self.batch.mask is None else self.batch.mask[self.done : end]
        if _counts_alone(self.reward):
            found = self._of_counts(outputs, mask)
        else:
            found = torch.stack([self._of_all(step) for step in range(self.done, end)])
        if self.cap:
            found = found.clamp(max=0)
        self.done = end
        total, magnitude = found.sum(0), found.abs().sum(0)
        self.total = total if self.total is None else self.total + total
        self.magnitude = magnitude if self.magnitude is None else self.magnitude + magnitude
        return found

    def _of_counts(self, outputs: Tensor, mask: Tensor | None) -> Tensor:
        reward = cast(CountReward, self.reward)
        target = reward.target(outputs, self.batch.targets)
        silent = (outputs - 1).abs()
        if mask is None:
            counts = torch.ones_like(outputs[..., :1])
        else:
            counts = mask.unsqueeze(-1).to(outputs)
            outputs, silent = outputs * counts, silent * counts
        each = [values.cumsum(0) for values in (counts, outputs, silent)]
        if self._counts is not None:
            each = [values + before for values, before in zip(each, self._counts, strict=True)]
        steps, spikes, quiet = each
        self._counts = steps[-1], spikes[-1], quiet[-1]
        whole = self.batch.counted
        whole = whole.unsqueeze(-1).to(outputs) if isinstance(whole, Tensor) else steps.new_full((), whole)
        longer = whole / steps.clamp(min=1)
        found = reward.of_counts(outputs, target, whole, spikes * longer, quiet * longer).expand_as(outputs)
        return found if mask is None else found * counts

    def _of_all(self, step: int) -> Tensor:
        assert self.outputs is not None
        shown, mask = self.outputs[: step + 1], None if self.batch.mask is None else self.batch.mask[: step + 1]
        targets = self.task.during(self.batch.targets, 0, step + 1)
        if mask is None:
            reward = self.reward(shown, targets)[step]
        elif mask[step].any():
            reward = torch.zeros_like(shown[step])
            here = mask[step]  # a reward that divides by the number of steps needs one
            reward[here] = self.reward(shown[:, here], targets[here], mask[:, here])[step]
        else:
            return torch.zeros_like(shown[step])
        if not self.reward.of_shares:
            return reward
        counted = self.batch.counted
        if mask is None:
            return reward * ((step + 1) / len(self.batch.sequence))
        return reward * (mask.sum(0) / torch.as_tensor(counted).clamp(min=1)).unsqueeze(-1).to(reward)

    def watched(self) -> dict[str, Tensor]:
        """Mean reward, and mean of its magnitude, over the steps and samples."""
        assert self.total is not None
        assert self.magnitude is not None
        counted = self.batch.counted
        if isinstance(counted, Tensor):
            counted = counted.clamp(min=1).to(self.total)
        return {
            "reward": (self.total.mean(-1) / counted).mean(),
            "reward_magnitude": (self.magnitude.mean(-1) / counted).mean(),
        }


def _counts_alone(reward: Reward) -> bool:
    """Whether a reward is that of :meth:`CountReward.of_counts`, and no derived class has changed it."""
    kind = type(reward)
    return isinstance(reward, CountReward) and kind.reward is CountReward.reward and kind.__call__ is Reward.__call__


def learn_online(lesson: Lesson, batch: Batch) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Add the update of a batch to ``p.grad``, step by step.

    Args:
        lesson: what is learned.
        batch: whole sequences.

    Returns:
        The outputs ``[T, B, C]`` without a graph, values to watch, and the rewards of all steps together ``[B, C]``.
    """
    so_far, chain = RewardSoFar(lesson.reward, lesson.task, batch), chain_of(lesson, batch)
    if chain is None:
        _step_by_step(lesson, batch, so_far)
    else:
        with torch.no_grad():
            _chained(lesson, batch, so_far, chain)
    assert so_far.outputs is not None
    assert so_far.total is not None
    return so_far.outputs, so_far.watched(), so_far.total


def _step_by_step(lesson: Lesson, batch: Batch, so_far: RewardSoFar) -> None:
    """Run a network of any layers, with a graph of one step and one block at a time."""
    weight = batch.share / max(len(batch.targets), 1)
    counts, state = _counting(batch), None
    waiting: list[tuple[Segment, Tensor]] = []
    now: list[Tensor | None] = [None]

    def hand_over(segment: Segment, hidden: Tensor) -> None:
        if not hidden.requires_grad or not lesson.teaches:
            return
        if lesson.error is None:
            waiting.append((segment, hidden))
        else:
            _teach(lesson, segment, hidden, lesson.error, now[0], weight)

    with cutting(lesson.net, lesson.segments, hand_over):
        for step in range(len(batch.sequence)):
            shown = time_slice(batch.sequence, step, step + 1)
            now[0] = None if batch.mask is None else batch.mask[step : step + 1]
            with torch.set_grad_enabled(counts[step]):
                outputs, state = lesson.net.run(shown, state)  # type: ignore[operator]
            state = detached_copy(state)
            reward = so_far(outputs.detach())
            if not counts[step]:
                continue
            if waiting:
                mask = None if batch.mask is None else batch.mask[: step + 1]
                assert so_far.outputs is not None
                error = lesson.error_of_step(so_far.outputs[: step + 1], reward[0], batch.targets, mask)
                for segment, hidden in waiting:
                    _teach(lesson, segment, hidden, error, now[0], weight)
                waiting.clear()
            if outputs.requires_grad:
                send_rewards(outputs, reward, weight=weight, default_eps=lesson.eps)


def _teach(lesson: Lesson, segment: Segment, hidden: Tensor, error: Tensor, mask: Tensor | None, weight: float) -> None:
    """Let a block learn from its output ``[1, B, …]`` of a step, and free the graph of it."""
    error = error.to(hidden)
    fed = (error @ lesson.feedback(segment, hidden, error.shape[1])).view_as(hidden)
    if mask is not None:
        fed = fed * mask.view(*mask.shape, *[1] * (hidden.dim() - 2))
    if lesson.as_reward:
        send_rewards(hidden, fed, weight=weight, default_eps=lesson.eps)
    else:
        with backward_pass(weight):
            torch.autograd.backward(hidden, fed * weight)


def _counting(batch: Batch) -> list[bool]:
    """Tell of each step whether it counts for any sample."""
    if batch.mask is None:
        return [True] * len(batch.sequence)
    found: list[bool] = batch.mask.any(1).tolist()
    return found


WINDOW = 16
"""Steps of a dense chain that are computed together; it bounds memory, and has no other effect."""


@dataclass(eq=False)
class Stage:
    """Dense layer and LIF neurons of a chain, with their state between two windows.

    Attributes:
        segment: the block.
        before: layers without weights in front.
        dense: the dense layer.
        neurons: the LIF neurons.
        membrane: after the last step, ``[B, n]``; ``None`` at rest.
        constant: inputs ``[B, in]`` and current ``[1, B, n]`` where the inputs are the same at every step.
        total: sum of the messages to the neurons, over steps and samples ``[n]``, or over steps ``[B, …, n]`` where
            the inputs are constant.
        products: sum of messages times inputs, ``[n, in]``.
    """

    segment: Segment
    before: tuple[Module, ...]
    dense: Linear
    neurons: LIF
    membrane: Tensor | None = None
    constant: tuple[Tensor, Tensor] | None = None
    total: Tensor | None = None
    products: Tensor | None = None


@dataclass(eq=False)
class Window:
    """Values of a stage for the steps of a window: inputs, spikes and membranes ``[k, B, …]``."""

    inputs: Tensor
    spikes: Tensor
    membrane: Tensor
    start: Tensor
    constants: LIFParameters


def chain_of(lesson: Lesson, batch: Batch) -> list[Stage] | None:
    """Return the stages of a network that is a chain of dense layers and LIF neurons; ``None`` for all others.

    Only plain layers under :class:`~spikelfp.rules.Epsilon` count, all of whose weights learn: no classes, hooks or
    rules of the user's own, no β that learns.

    Args:
        lesson: what is learned.
        batch: the batch.
    """
    if torch_module._has_any_global_hook() or torch.is_autocast_enabled(batch.sequence.device.type):
        return None
    stages = []
    for segment in lesson.segments:
        *before, dense, neurons = segment.layers if len(segment.layers) > 1 else (None, None)
        if not (is_plain(dense, Linear) and is_plain(neurons, LIF)):
            return None
        if not all(is_plain(layer, Flatten) for layer in before):
            return None
        assert isinstance(dense, Linear)
        assert isinstance(neurons, LIF)
        rules = dense.rule, neurons.rule
        if any(type(rule) is not Epsilon or rule.normalize for rule in rules) or neurons.decay is not None:
            return None
        if dense.weight.dtype not in (torch.float32, torch.float64) or not all(
            p is None or p.requires_grad for p in (dense.weight, dense.bias)
        ):
            return None
        stages.append(Stage(segment, cast("tuple[Module, ...]", tuple(before)), dense, neurons))
    return stages


def is_plain(layer: Module | None, kind: type[Module]) -> bool:
    """Whether a layer does what its class says, and nothing else.

    Args:
        layer: the layer.
        kind: its class.
    """
    if type(layer) is not kind:
        return False
    own = vars(layer)
    return not any((
        layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks,
        own.get("_compiled_call_impl"), own.get("forward"), own.get("run"),
    ))  # fmt: skip


def _chained(lesson: Lesson, batch: Batch, so_far: RewardSoFar, stages: list[Stage]) -> None:
    """Run a chain a window of steps at a time, and add its update to ``p.grad`` at the end."""
    weight = batch.share / max(len(batch.targets), 1)
    fed: dict[int, Tensor] = {}
    for first in range(0, len(batch.sequence), WINDOW):
        x = time_slice(batch.sequence, first, first + WINDOW)
        x = x.to_dense() if x.is_sparse else x
        mask = None if batch.mask is None else batch.mask[first : first + WINDOW]
        windows = []
        for stage in stages:
            windows.append(_forward(stage, x))
            x = windows[-1].spikes
        reward = so_far(x)
        _backward(stages[-1], windows[-1], None, reward * weight)
        if not lesson.teaches:
            continue
        error = lesson.error
        if error is None:
            error = _errors(lesson, batch, so_far, reward, first)
        for number, (stage, window) in enumerate(zip(stages[:-1], windows[:-1], strict=True)):
            own = fed.get(number)
            if own is None:
                given = error.to(window.spikes)
                own = given @ lesson.feedback(stage.segment, window.spikes, given.shape[-1]) * weight
                own = own.unflatten(-1, window.spikes.shape[2:])
                if lesson.error is not None:
                    fed[number] = own
            own = own.expand_as(window.spikes)
            own = own if mask is None else own * mask.view(*mask.shape, *[1] * (own.dim() - 2))
            _backward(stage, window, *((None, own) if lesson.as_reward else (own, None)))
    for stage in stages if lesson.teaches else stages[-1:]:
        _add_update(stage)


def _errors(lesson: Lesson, batch: Batch, so_far: RewardSoFar, reward: Tensor, first: int) -> Tensor:
    """Return the errors of each step of a window, ``[k, B, C]``."""
    assert so_far.outputs is not None
    found = []
    for step, own in enumerate(reward, first + 1):
        mask = None if batch.mask is None else batch.mask[:step]
        found.append(lesson.error_of_step(so_far.outputs[:step], own, batch.targets, mask))
    return torch.stack(found)


def _forward(stage: Stage, x: Tensor) -> Window:
    """Run a stage over the inputs ``[k, B, …]`` of a window."""
    for layer in stage.before:
        x = layer(x)
    if stage.constant is not None:
        current = stage.constant[1].expand(len(x), *stage.constant[1].shape[1:])
    elif is_constant(x):
        current = stage.dense(x)
        stage.constant = x[0], current[:1]
    else:
        current = stage.dense(x)
    start = current.new_zeros(current.shape[1:]) if stage.membrane is None else stage.membrane
    constants = stage.neurons.constants.fitted(start)
    spikes, membrane = scan_for(current).forward(current, start, constants, True)
    stage.membrane = membrane[-1].clone()
    return Window(x, spikes, membrane, start, constants)


def _backward(stage: Stage, window: Window, message: Tensor | None, reward: Tensor | None) -> None:
    """Add the messages of a window, ``n[t] = r[t] / D[t]``, and their products with the inputs."""
    rule = cast(Epsilon, stage.neurons.rule)
    messages, _ = scan_for(window.membrane).reverse(
        message, reward, None, window.membrane, window.start, window.constants, rule.eps, False, None, True
    )
    if stage.constant is not None:
        total = messages.sum(0)
    else:
        rows = messages.flatten(0, -2)
        total = rows.sum(0)
        inputs = window.inputs.flatten(0, -2)
        if stage.products is None:
            stage.products = torch.mm(rows.t(), inputs, out=empty(stage.dense.weight.shape, rows))
        else:
            stage.products.addmm_(rows.t(), inputs)
    stage.total = total if stage.total is None else stage.total.add_(total)


def _add_update(stage: Stage) -> None:
    """Add the update ``−|w| Σ n xᵀ`` of a stage to ``p.grad``, which an optimiser descends."""
    total, products, dense = stage.total, stage.products, stage.dense
    assert total is not None
    if stage.constant is not None:
        rows = total.flatten(0, -2)
        products = torch.mm(rows.t(), stage.constant[0].flatten(0, -2), out=empty(dense.weight.shape, rows))
        total = rows.sum(0)
    assert products is not None
    for p, found, grid in zip((dense.weight, dense.bias), (products, total), grids_of(dense), strict=True):
        if p is None:
            continue
        size = p if grid is None else Represented.apply(p, grid)
        step = torch.copysign(size, -1.0, out=empty(p.shape, p)).mul_(found)
        p.grad = step if p.grad is None else p.grad.add_(step)


def grids_of(dense: Linear) -> tuple[Grid | None, Grid | None]:
    """Return the grids that round by chance: there 0 may stand for a small weight.

    Args:
        dense: the layer.

    Returns:
        Grid of its weights and of its biases; ``None`` for floats, and for weights with masters in floats.
    """
    options = dense.quantization
    return (None, None) if options is None or options.update != "stochastic" else dense.live_grids()
