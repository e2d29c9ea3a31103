"""Layer-wise feedback propagation: a reward at the outputs, split over neurons and connections."""

from __future__ import annotations

from typing import Annotated, cast

from torch import Tensor
from torch.nn import Module

from spikelfp.errors import UserError
from spikelfp.functional.propagation import send_rewards
from spikelfp.methods.base import REDUCTIONS, Batch, Method, Reduction, check_object, mean_over_steps, methods
from spikelfp.methods.lfp_forward import check_forward, learn_forward
from spikelfp.methods.spike_rate import RateTarget
from spikelfp.options import NOT_AN_OPTION, option
from spikelfp.registry import check_name
from spikelfp.rewards import Reward
from spikelfp.rules import Composite, Epsilon, Gradient, Rule
from spikelfp.tasks import Classification, Task

CREDITS = ("scan", "step", "online")
"""Ways in which the credit of LFP runs through time."""


@methods.register("lfp")
class LFP(Method):
    """Training by a reward that is split over neurons and connections by a rule (LFP v3, section 3).

    The rewards of all steps add up. A chunk of a sequence is rewarded for its own steps.

    Args:
        reward: function of outputs and labels to a reward for each output (:mod:`spikelfp.rewards`).
        rule: rule of the layers without their own rule (:mod:`spikelfp.rules`); by default LFP-ε. Where it leaves
            ``constant_statistics`` open, messages pass through the statistics of normalisation layers: networks with
            BatchNorm need that to learn from scratch (docs/rules.md). ``propagate`` without a method holds mean and
            variance constant (eq. 8-10).
        reduction: whether the updates of a batch are averaged, ``"mean"``, or added up, ``"sum"``, as in the paper and
            its published code, where learning rates are smaller by the size of the batch.
        cap_rewards: whether rewards above 0 are cut to 0, so that only punishments remain, which stabilises rewards
            that do not converge (v3, footnote 5).
        credit: how credit runs through time. ``None``: as ``rule`` has it. ``"scan"``, back over all steps, or
            ``"step"``, each step by itself: those of the rule. ``"online"``: forward in time by eligibilities, in
            memory that does not depend on the number of steps, for chains of dense layers and LIF, RecurrentLIF,
            Synaptic or RecurrentSynaptic neurons (:mod:`spikelfp.methods.lfp_forward`, which says what it drops).
        rate: target for the spike rates of hidden neurons, a reward of its own beside that of the outputs
            (:class:`~spikelfp.methods.RateTarget`); ``cap_rewards`` leaves it as it is.

    Raises:
        UserError: for an unknown reduction or credit, a rule of gradients, a credit other than that of the rule, and a
            rate target with ``credit="online"``; in training, for a reward of whole sequences with chunks, and for what
            ``credit="online"`` or a rate target cannot train.
    """

    name = "lfp"
    words = "layer-wise feedback propagation"

    def __init__(
        self,
        reward: Reward,
        rule: Rule | Composite | None = None,
        *,
        reduction: Reduction = "mean",
        cap_rewards: Annotated[bool, option("cut positive rewards to 0 (v3, footnote 5)")] = False,
        credit: Annotated[str | None, NOT_AN_OPTION] = None,
        rate: RateTarget | None = None,
    ) -> None:
        check_object("the reward", reward, Reward, "rewards.SpikeSequence()")
        check_object("the rule", rule, (Rule, Composite), "rules.Epsilon()")
        check_object("the rate target", rate, RateTarget, "methods.RateTarget(0.1)")
        self.reward = reward
        self.credit = None if credit is None else check_name("credit", credit, CREDITS)
        of_rule = "step" if credit == "step" else "scan"
        self.rule: Rule | Composite = (Epsilon(credit=of_rule) if rule is None else rule).for_method()
        self.reduction = check_name("reduction", reduction, REDUCTIONS)
        self.cap_rewards = cap_rewards
        last = self.rule.default if isinstance(self.rule, Composite) else self.rule
        if isinstance(last, Gradient):
            raise UserError(f'{last} is no rule of LFP, which has rewards: say method="surrogate" or "gradient"')
        self.eps: float = getattr(last, "eps", Epsilon.eps)  # used where the last layer does not state its own
        if credit is not None and getattr(last, "credit", of_rule) != of_rule:
            raise UserError(f"credit={credit!r} and rule={rule!r} exclude each other: say one of them")
        if rate is not None and credit == "online":
            raise UserError(
                'credit="online" rewards each step before the sequence has ended, when the spike rates are not known: '
                "leave out the rate target, or take credit scan or step"
            )
        self.rate = rate
        self._task: Task | None = None

    @property
    def by_steps(self) -> bool:
        return self.credit == "online"

    @property
    def runs_network(self) -> bool:
        return self.credit == "online" or type(self).learn is not LFP.learn

    def suit(self, net: Module, task: Task) -> None:
        if self.credit == "online":
            check_forward(net, self.rule, self.reward, task)
            self._task = task
        if self.rate is not None:
            self.rate.suit(net)

    def learn(self, net: Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        if self.credit != "online":
            return super().learn(net if self.rate is None else cast(Module, self.rate.watched(net)), batch)
        if batch.steps is not None:
            raise UserError('credit="online" runs forward in time by itself: train without chunks')
        return learn_forward(net, batch, self.reward, self._task or Classification(), self.cap_rewards)

    def backward(
        self,
        outputs: Tensor,
        labels: Tensor,
        share: float = 1.0,
        mask: Tensor | None = None,
        steps: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        if steps is not None and not self.reward.of_parts:
            raise UserError(
                f"{type(self.reward).__name__} rewards whole sequences, and a chunk is a part of one: train without "
                "chunks"
            )
        reward = self.reward(outputs, labels) if mask is None else self.reward(outputs, labels, mask)
        if steps is not None and self.reward.of_shares:  # a mean over the steps of the chunk
            counted: Tensor | float = len(outputs) if mask is None else mask.sum(0).unsqueeze(-1)
            whole = steps.unsqueeze(-1) if isinstance(steps, Tensor) else steps
            reward = reward * (counted / whole)
        if self.cap_rewards:
            reward = reward.clamp(max=0)
        ends, given, watched = [outputs], [reward], dict[str, Tensor]()
        if self.rate is not None:
            found = self.rate.credit(mask, steps)
            learning = [number for number, spikes in enumerate(found.spikes) if spikes.requires_grad]
            ends += [found.spikes[number] for number in learning]
            given += [found.errors[number] for number in learning]
            watched = {"spike_rate": found.rate}
        send_rewards(ends, given, weight=share / len(labels), default_eps=self.eps)
        return {
            "reward": mean_over_steps(reward, mask, steps),
            "reward_magnitude": mean_over_steps(reward.abs(), mask, steps),
            **watched,
        }
