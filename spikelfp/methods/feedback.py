"""Methods that teach every block of a network directly, and the fixed feedback weights that they send errors through.

Direct feedback (Nøkland 2016; Frenkel et al. 2021; Flügel et al. 2024, "F³") replaces the backward pass between layers.
A hidden block ``i`` with outputs ``h_i`` gets an error ``e`` of the network's outputs through fixed weights ``B_i``::

    δh_i = B_iᵀ e                    F³, eq. 1,   B_i [C, n_i],   e [B, C]

Inside the block credit runs as usual, in one of these ways (``credit``):

============= =========================================================================================
``gradient``  ``δh_i`` is the gradient of the block's output, and the chain rule does the rest (the paper)
``surrogate`` the same with a surrogate derivative for spikes
``scan``      ``δh_i`` is the reward of each hidden neuron, which LFP's scan splits over steps and inputs
``step``      the same without credit from one step to an earlier one
``online``    ``step`` for a network that runs one step at a time and keeps none (:mod:`spikelfp.methods.online`)
============= =========================================================================================

With a gradient the last block descends a loss and ``e = y* − ŷ``. With LFP it ascends a reward, and ``e`` is the mean
of that reward over the steps, for outputs that spike. A block's graph is freed as soon as it has learned.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, cast

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.errors import UserError
from spikelfp.functional.credit import backward_pass
from spikelfp.functional.propagation import send_rewards
from spikelfp.functional.sequence import sample_slice, time_slice
from spikelfp.kernels.choice import choices
from spikelfp.methods.base import Batch, Method, Reduction, step_weights
from spikelfp.methods.blocks import Segment, cut, cutting
from spikelfp.methods.direct import learn_directly
from spikelfp.methods.feedback_weights import Feedback, FeedbackMethod, feedback_inits
from spikelfp.methods.gradient import GradientDescent, Loss
from spikelfp.methods.lfp import LFP
from spikelfp.methods.online import Lesson, check_online, learn_online
from spikelfp.nn import graph
from spikelfp.options import NOT_AN_OPTION, option
from spikelfp.registry import check_name
from spikelfp.rewards import Reward
from spikelfp.rules import Composite, Epsilon, Gradient, Rule, Surrogate
from spikelfp.tasks import Task
from spikelfp.tasks.classification import Classification, losses

CREDITS = ("gradient", "surrogate", "scan", "step", "online")
"""Ways in which credit runs inside a block."""

OF_LOSS = ("gradient", "surrogate")
"""Ways in which the last block descends a loss; with the others it ascends a reward."""

FEEDBACK_AS = ("reward", "message")
"""Forms in which a neuron of a hidden block gets its feedback from LFP."""


class BlockMethod(FeedbackMethod):
    """Base of the methods that teach each block of a network by itself (:mod:`spikelfp.methods.blocks`).

    A derived class says what the hidden blocks learn from: :meth:`error_before` for an error that is known before the
    network has run, so that a block learns as soon as it has, or :meth:`error_of` for that of the outputs.

    Args:
        credit: way in which credit runs inside a block; ``None``: ``scan`` for networks that spike, else ``gradient``.
        feedback_init: name in :data:`feedback_inits`.
        feedback_as: for the credit ``scan``, ``step`` and ``online``: whether a neuron gets its feedback as a
            ``reward``, spike or no spike, or as a ``message``, reward per spike, which leaves silent neurons without.
        reward: for ``scan``, ``step`` and ``online``, of the outputs; ``None``: that of the task.
        loss: for ``gradient`` and ``surrogate``, of the outputs; ``None``: that of the task.
        rule: rule of the layers; ``None``: the one that fits ``credit``.
        reduction: whether the updates of a batch are averaged, ``"mean"``, or added up, ``"sum"``.

    Raises:
        UserError: for an unknown name.
    """

    recomputes = False
    default_lr = 1e-3

    def __init__(
        self,
        *,
        credit: Annotated[str | None, NOT_AN_OPTION] = None,
        feedback_init: Feedback = "kaiming",
        feedback_as: Annotated[
            str, option("form of the feedback under LFP: of every neuron, or per spike", names=FEEDBACK_AS)
        ] = "reward",
        reward: Reward | None = None,
        loss: Loss | None = None,
        rule: Rule | Composite | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        if credit is not None:
            check_name("credit", credit, CREDITS)
        self.feedback_init = feedback_init
        feedback_inits[feedback_init]
        self.feedback_as = check_name("form of the feedback", feedback_as, FEEDBACK_AS)
        self.reduction = check_name("reduction", reduction, ("mean", "sum"))
        self._given = credit, reward, loss, rule
        self.credit, self.reward, self.loss = credit, reward, loss
        if rule is not None:
            self.rule = rule.for_method()
        self._task: Task | None = None
        self._segments: list[Segment] = []
        self._outputs: int | None = None
        self._last: Method | None = None
        self._earned: Tensor | None = None
        self._expected: tuple[Batch, Tensor] | None = None

    def suit(self, net: Module, task: Task) -> None:
        credit, reward, loss, rule = self._given
        spikes = any(graph.has_trait(layer, "fires") for layer in graph.leaves(net).values())
        self.credit = credit or _credit_of(rule) or ("scan" if spikes else "gradient")
        self.gradient, self.surrogate = self.credit in OF_LOSS, self.credit == "surrogate"
        self.objective = "loss" if self.gradient else "reward"
        name = type(self).__name__
        if self.gradient and reward is not None:
            raise UserError(f"{name} with credit={self.credit!r} descends a loss: leave out the reward {reward!r}")
        if not self.gradient and loss is not None:
            raise UserError(
                f'{name} with credit={self.credit!r} ascends a reward: leave out the loss, or say credit="gradient"'
            )
        self.rule = _rule_of(self.credit, rule)
        self._net, self._task, self._segments = net, task, cut(net)
        self._check_hidden()
        if self.gradient:
            known = getattr(loss, "func", loss) in losses.entries()
            options = getattr(loss, "keywords", None) if known else None
            if options and self.teaches and getattr(self, "error_information", "error") == "error":
                raise UserError(
                    f"{name} teaches hidden blocks by y* − ŷ, whatever the options of the loss, and it has "
                    f"{', '.join(f'{key}={value!r}' for key, value in options.items())}: leave them out"
                )
            if known and isinstance(task, Classification):
                self._task = task = task.of_loss(loss)
            self.loss = None if known or isinstance(getattr(loss, "__self__", None), Task) else loss
            self._last = GradientDescent(cast(Rule, self.rule), self.loss or task.loss, reduction=self.reduction)
        else:
            last = graph.last_layer(net)
            self.reward = task.reward(last is None or graph.has_trait(last, "fires")) if reward is None else reward
            self._last = LFP(self.reward, self.rule, reduction=self.reduction)
        if self.credit == "online":
            self._check_online(net, task)

    def _check_online(self, net: Module, task: Task) -> None:
        """Refuse what cannot learn one step at a time."""
        kind = type(self)
        if kind.learn is not BlockMethod.learn:
            raise UserError(f'{kind.__name__} runs whole sequences: credit="step" is its form next to "online"')
        before = kind.error_before is not BlockMethod.error_before
        if self.teaches and not before and kind.error_of_step is BlockMethod.error_of_step:
            raise UserError(
                f"{kind.__name__} learns from an error of whole sequences, which is not known at a step: give it "
                'error_of_step(outputs, reward, targets, mask), or take credit="step"'
            )
        check_online(net, cast(Any, self.rule), cast(Reward, self.reward), task)

    @property
    def by_steps(self) -> bool:
        return self.credit == "online"

    def _check_hidden(self) -> None:
        """Refuse a network whose output layer, or all of whose hidden blocks, cannot learn."""
        hidden, name = self._segments[:-1], type(self).__name__
        if not any(p.requires_grad for p in self._segments[-1].parameters()):
            raise UserError(
                f"the weights of the last block, which ends with {self._segments[-1].name}, are frozen "
                f"(requires_grad=False), and {name} trains them: thaw them"
            )
        if not self.teaches:
            return
        if not hidden:
            raise UserError(
                f"the network has one block alone, which ends with {self._segments[0].name}, and {name} teaches the "
                "blocks before the last one: add a hidden layer with its activation or neurons, or train the last "
                "layer alone (llo)"
            )
        if not any(p.requires_grad for segment in hidden for p in segment.parameters()):
            raise UserError(
                f"the weights of all hidden blocks are frozen (requires_grad=False), and {name} teaches these: thaw "
                "one, or train the last layer alone (llo)"
            )

    def hidden_names(self) -> list[str]:
        return [segment.name for segment in self._segments[:-1]]

    def prepare(self, net: Module) -> None:
        super().prepare(net)
        if self._net is not net:
            raise UserError(
                f"{type(self).__name__} is prepared for a network that it was not suited to: call suit first"
            )

    @abstractmethod
    def error_of(self, outputs: Tensor, batch: Batch) -> Tensor | None:
        """Compute the error of the outputs, for blocks that wait for it, or to be kept.

        Args:
            outputs: ``[T, B, C]``, without a graph.
            batch: the batch.

        Returns:
            Errors ``[B, C]``, from which the hidden blocks learn now; ``None`` if they have learned already.
        """

    def error_before(self, batch: Batch, like: Tensor) -> Tensor | None:
        """Return the errors ``[B, C]`` that are known before the network runs; ``None`` where blocks have to wait.

        Args:
            batch: the batch.
            like: zeros ``[1, B, C]`` in the dtype and on the device of the outputs.
        """
        return None

    def error_of_step(self, outputs: Tensor, reward: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the error of a step, for blocks that wait for it, with ``credit="online"``.

        Args:
            outputs: those up to this step, ``[t, B, C]``, without a graph.
            reward: of the outputs of this step, ``[B, C]``.
            targets: of the samples, ``[B, …]``.
            mask: of the steps up to this one that count, boolean ``[t, B]``; ``None`` for all.

        Returns:
            Errors ``[B, C]``.

        Raises:
            UserError: in a class that does not define it.
        """
        raise UserError(f"{type(self).__name__} does not state the error of a step")

    def learn(self, net: Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        if self._net is None or self._last is None:
            raise UserError(
                f"{type(self).__name__} has not seen its network yet: call suit(net, task) and prepare(net) first, as "
                "trainers do"
            )
        plain = self._net
        if self._outputs is None:
            shown = time_slice(batch.sequence, 0, 1) if self.by_steps else batch.sequence
            self._outputs = count_outputs(plain, shown)
        kind = next((p for p in plain.parameters() if p.is_floating_point()), batch.sequence)
        like = torch.zeros(1, len(batch.targets), self._outputs, dtype=kind.dtype, device=batch.sequence.device)
        error, waiting = self.error_before(batch, like), list[tuple[Segment, Tensor]]()
        if self.by_steps:
            return self._learn_online(batch, error)

        def hand_over(segment: Segment, hidden: Tensor) -> None:
            if not hidden.requires_grad or not self.teaches:
                return  # its weights are frozen
            if error is None:
                waiting.append((segment, hidden))
            else:
                self._teach(segment, hidden, error, batch)

        with cutting(plain, self._segments, hand_over):
            outputs = net(batch.sequence)
        now = self.error_of(outputs.detach(), batch)
        if now is not None:
            while waiting:  # each is freed when it has learned
                self._teach(*waiting.pop(0), now, batch)
        waiting.clear()
        self._expected = None
        options = {name: value for name, value in (("mask", batch.mask), ("steps", batch.steps)) if value is not None}
        watched = self._last.backward(outputs, batch.targets, batch.share, **options)  # type: ignore[arg-type]
        return outputs, watched

    def expected(self, batch: Batch, like: Tensor) -> Tensor:
        """Return ``y*`` ``[B, C]`` of a batch, which is made and checked once while the batch is learned from.

        Args:
            batch: the batch.
            like: outputs, or zeros in their dtype and on their device, ``[…, B, C]``.
        """
        if self._expected is None or self._expected[0] is not batch:
            self._expected = batch, cast(Task, self._task).expected(batch.targets, like)
        return self._expected[1]

    teaches = True
    """Whether hidden blocks learn."""

    def _learn_online(self, batch: Batch, error: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Learn from a batch one step at a time (:mod:`spikelfp.methods.online`)."""
        if batch.steps is not None:
            raise UserError('credit="online" runs one step at a time by itself: train without chunks')
        lesson = Lesson(
            net=cast(Module, self._net),
            segments=self._segments,
            task=cast(Task, self._task),
            reward=cast(Reward, self.reward),
            eps=cast(LFP, self._last).eps,
            as_reward=self.feedback_as == "reward",
            error=error,
            error_of_step=self.error_of_step,
            feedback=self.feedback,
            teaches=self.teaches,
        )
        outputs, watched, self._earned = learn_online(lesson, batch)
        try:
            self.error_of(outputs, batch)
        finally:
            self._earned = self._expected = None
        return outputs, watched

    def feedback(self, segment: Segment, hidden: Tensor, outputs: int) -> Tensor:
        """Return the feedback weights ``[C, n]`` of a block, drawn when it first learns.

        Args:
            segment: the block.
            hidden: its output ``[T, B, …]``.
            outputs: ``C``.

        Raises:
            UserError: for weights of another shape, such as those of a checkpoint of another network.
        """
        return self.random_weights(segment.name, self.feedback_init, outputs, math.prod(hidden.shape[2:]), hidden)

    def _teach(self, segment: Segment, hidden: Tensor, error: Tensor, batch: Batch) -> None:
        """Let a block learn from the error of each sample ``[B, C]``, and free its graph."""
        error, weight = error.to(hidden), batch.share / max(len(batch.targets), 1)
        weights = self.feedback(segment, hidden, error.shape[1])
        if self.gradient:
            gradient = _gradient(error, weights, weight, hidden, batch)
            if not learn_directly(segment.layers, hidden, gradient):
                torch.autograd.backward(hidden, gradient)
            return
        fed = (error @ weights).view(hidden.shape[1:])
        if self.feedback_as == "reward":
            send_rewards(hidden, _over_steps(fed, hidden, batch), weight=weight, default_eps=cast(LFP, self._last).eps)
        else:
            with backward_pass(weight):
                torch.autograd.backward(hidden, _over_steps(fed * weight, hidden, batch))

    def error_now(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Compute the error of outputs: ``y* − ŷ``, or the mean over the steps of the reward of outputs that spike.

        Args:
            outputs: ``[T, B, C]``, without a graph.
            batch: the batch.

        Returns:
            Errors ``[B, C]``; those of a chunk are its share of those of the whole sequence.
        """
        task = cast(Task, self._task)
        if self.loss is not None:
            raise UserError(
                "y* − ŷ is not known for a loss of your own, which does not tell what its prediction ŷ is: take a loss "
                'of the task by name, or F3(error_information="loss")'
            )
        if not self.gradient and getattr(self.reward, "suits", None) == "spikes":
            error = self._earned_by(outputs, batch) / _counted(batch, outputs)
        else:
            error = self.expected(batch, outputs) - task.predicted(outputs, batch.mask)
        return self.share_of(error, batch)

    def _earned_by(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the reward of outputs ``[T, B, C]``, summed over the steps: ``[B, C]``."""
        if self._earned is not None:  # one step at a time, as the reward was known then
            return self._earned
        reward = cast(Reward, self.reward)
        found = reward(outputs, batch.targets) if batch.mask is None else reward(outputs, batch.targets, batch.mask)
        return found.sum(0)

    @staticmethod
    def share_of(error: Tensor, batch: Batch) -> Tensor:
        """Scale the errors ``[B, C]`` of a chunk by the share of its steps; those of whole sequences stay."""
        if batch.steps is None:
            return error
        steps = batch.steps.to(error).unsqueeze(-1) if isinstance(batch.steps, Tensor) else batch.steps
        counted = batch.counted  # of some samples no step of a chunk counts
        return error * ((counted.to(error).unsqueeze(-1) if isinstance(counted, Tensor) else counted) / steps)


def _counted(batch: Batch, like: Tensor) -> Tensor | int:
    """Steps of the batch that count, ``[B, 1]`` or one number."""
    counted = batch.counted
    return counted.to(like).clamp(min=1).unsqueeze(-1) if isinstance(counted, Tensor) else counted


def _gradient(error: Tensor, weights: Tensor, weight: float, hidden: Tensor, batch: Batch) -> Tensor:
    """Make the gradient of a block's output ``[T, B, …]``, for a mean over the steps of each sample that count."""
    beyond = [1] * (hidden.dim() - 2)
    if batch.mask is not None:
        fed = (error * weight @ weights).view(hidden.shape[1:])
        shares = step_weights(batch.mask, batch.steps, hidden.dtype) * batch.mask.shape[1]
        return fed * shares.view(*shares.shape, *beyond)
    steps = len(hidden) if batch.steps is None else batch.steps
    share = weight / (steps.to(error).unsqueeze(-1) if isinstance(steps, Tensor) else steps)
    return (error * share @ weights).view(hidden.shape[1:]).expand_as(hidden)


def _over_steps(fed: Tensor, hidden: Tensor, batch: Batch) -> Tensor:
    """Hand ``fed`` ``[B, …]`` to every step that counts, ``[T, B, …]``."""
    fed = fed.expand_as(hidden)
    return fed if batch.mask is None else fed * batch.mask.view(*batch.mask.shape, *([1] * (fed.dim() - 2)))


def _credit_of(rule: Rule | Composite | None) -> str | None:
    """Return the credit that a rule stands for."""
    if rule is None:
        return None
    if isinstance(rule, Gradient):
        return "surrogate" if isinstance(rule, Surrogate) else "gradient"
    own = rule.default if isinstance(rule, Composite) else rule
    return cast(str, getattr(own, "credit", "scan"))


def _rule_of(credit: str, rule: Rule | Composite | None) -> Rule | Composite:
    """Return the rule of the layers for a credit.

    Raises:
        UserError: for a rule that stands for another credit.
    """
    of_rule = "step" if credit == "online" else credit
    if rule is not None:
        if _credit_of(rule) != of_rule:
            raise UserError(f"credit={credit!r} and rule={rule!r} exclude each other: say one of them")
        return rule.for_method()
    if credit in OF_LOSS:
        return Surrogate() if credit == "surrogate" else Gradient()
    return Epsilon(credit=of_rule).for_method()


def count_outputs(net: Module, sequence: Tensor) -> int:
    """Count the outputs of a network for one sample, and leave it and all random numbers as they were.

    Args:
        net: the network.
        sequence: inputs ``[T, B, …]``.

    Raises:
        UserError: for outputs other than ``[T, B, C]``.
    """
    known = choices(net)
    events = {name: choice.events for name, choice in known.items()}
    devices = [sequence.device] if sequence.is_cuda else []
    with torch.random.fork_rng(devices=devices), graph.evaluating(net):
        outputs = net(sample_slice(sequence, 0, 1))
    for name, choice in known.items():
        choice.events = events[name]
    if not isinstance(outputs, Tensor) or outputs.dim() != 3:
        found = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UserError(f"errors are those of outputs [T, B, C], and the network returns {found}")
    return int(outputs.shape[-1])
