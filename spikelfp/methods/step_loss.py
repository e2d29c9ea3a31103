r"""Base of the methods that descend a loss of every step, forward in time: e-prop, OTTT and DECOLLE.

The network runs a window of steps without a graph (:mod:`spikelfp.methods.eligibility`). The loss of each step ``L[t]``
gives the slope of the outputs, and a method makes of it the error of each neuron, and of that, with the derivative of
its spikes, the credit of its connections::

    L = Σ_t w[t] L[t],    g_k[t] = ∂L/∂y_k[t],    ψ_j[t] in the place of ∂S_j[t]/∂U_j[t]

``w[t]`` is one over the number of steps of the sample that count, so that ``L`` is the mean over steps. ``p.grad`` is
the gradient, or what the method has in its place; the resets are constants, as in the papers.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.errors import UserError
from spikelfp.functional.lif import Constant
from spikelfp.kernels import scan_for
from spikelfp.methods import eligibility
from spikelfp.methods.base import REDUCTIONS, Batch
from spikelfp.methods.eligibility import Credit, ForwardLayer, WindowRun, layers_of, sliced, through_filter, windows
from spikelfp.methods.feedback_weights import FeedbackMethod
from spikelfp.methods.gradient import Loss
from spikelfp.methods.online import check_online
from spikelfp.nn import LI
from spikelfp.nn.neurons.base import Neurons
from spikelfp.registry import check_name
from spikelfp.rewards import Softmax
from spikelfp.rules import Gradient, Rule, Surrogate, surrogates
from spikelfp.tasks import Classification, Task
from spikelfp.tasks.classification import adds_up, losses


class StepLossMethod(FeedbackMethod):
    """Base of the methods that descend a loss of every step, forward in time (:mod:`spikelfp.methods.step_loss`).

    Args:
        loss: loss of the classes at every step; ``None``: that of the task.
        reduction: whether the updates of a batch are averaged, ``"mean"``, or added up, ``"sum"``.

    Attributes:
        kinds: classes of the neurons of hidden layers.
        outputs: further classes of the neurons at the output.

    Raises:
        UserError: for an unknown reduction; when a trainer is made, for a network, a task or a loss that it cannot
            train.
    """

    objective = "loss"
    recomputes = False
    watches_loss = True
    by_integrators = True
    default_lr = 3e-3
    rule: Any = Gradient()
    kinds: ClassVar[tuple[type[Module], ...]] = ()
    outputs: ClassVar[tuple[type[Module], ...]] = (LI,)

    def __init__(self, loss: Loss | None = None, reduction: str = "mean") -> None:
        super().__init__()
        self.loss = loss
        self.reduction = check_name("reduction", reduction, REDUCTIONS)
        self._task: Classification | None = None
        self._hidden: list[str] = []
        self._steps: tuple[Tensor, Tensor, float] | None = None

    # --- what a method states ---

    @abstractmethod
    def teach(self, layers: list[ForwardLayer], runs: list[WindowRun], slope: Tensor, last: bool) -> None:
        """Let all layers learn from a window.

        Args:
            layers: of the network, from input to output.
            runs: of these layers.
            slope: ``g`` of the outputs, ``[k, B, C]``.
            last: whether nothing follows the window.
        """

    def check_layer(self, layer: ForwardLayer, last: bool) -> None:
        """Refuse a layer that the method cannot train.

        Args:
            layer: dense layer and neurons.
            last: whether it is the output.

        Raises:
            UserError: with what to do.
        """
        neurons, name = layer.neurons, type(self).__name__
        self._check_rules(layer)
        own = getattr(neurons, "decay", None)
        if own is not None and own.requires_grad:
            raise UserError(f"{name} trains weights, and β of layer {layer.name} learns: make it without learn_beta")
        if layer.fires and cast(Neurons, neurons).reset == "zero":
            raise UserError(
                f"{name} is made for membranes from which a spike subtracts θ, and layer {layer.name} resets to zero: "
                'choose reset="subtract" or "immediate"'
            )

    def _check_rules(self, layer: ForwardLayer) -> None:
        """Refuse rules of single layers that the method does not follow."""
        name = type(self).__name__
        for each in (layer.dense, layer.neurons, layer.recurrent):
            own = None if each is None else each.__dict__.get("_own_rule")
            if own is None:
                continue
            if each is layer.neurons:
                if self.surrogate and isinstance(own, Surrogate):
                    continue
                takes = "takes a rules.Surrogate there" if self.surrogate else "has a pseudo-derivative of its own"
            elif isinstance(own, Gradient):
                continue
            else:
                takes = "descends a loss"
            raise UserError(
                f"layer {layer.name} ({type(each).__name__}) has the rule {own!r} of its own, and {name} {takes}: take "
                "it away (layer.rule = None)"
            )

    def after_window(self, layers: list[ForwardLayer]) -> None:
        """Do something after each window but the last; by default nothing.

        Args:
            layers: of the network.
        """

    @property
    def by_steps(self) -> bool:
        return True

    @property
    def window(self) -> int:
        """Steps that are computed together."""
        return eligibility.WINDOW

    def states_of(self, layer: ForwardLayer) -> int:
        """Count the states of a connection; by default a trace where each neuron has a decay of its own.

        Args:
            layer: the layer.
        """
        return sum(isinstance(each, Tensor) for each in self.decays(layer))

    def learn_in_slices(self) -> bool:
        """Tell whether samples may run one slice after the other."""
        return True

    def slope_here(self, outputs: Tensor) -> Tensor:
        """Compute the slope of the loss of the present window by other outputs than the network's.

        Args:
            outputs: ``[k, B, C]``.

        Returns:
            ``[k, B, C]``, with the share of the batch.
        """
        assert self._steps is not None
        labels, weights, share = self._steps
        return self.slope_of(outputs, labels, weights)[1] * share

    # --- the method ---

    def suit(self, net: Module, task: Task) -> None:
        name = type(self).__name__
        if not isinstance(task, Classification):
            raise UserError(
                f"{name} descends a loss of every step, which the task {task.name} does not state: it is for classes; "
                "lfp, surrogate and f3 train other tasks"
            )
        if self.loss is not None and getattr(self.loss, "func", self.loss) not in losses.entries():
            raise UserError(
                f"{name} takes a loss of classes by name, and {getattr(self.loss, '__name__', self.loss)} does not "
                "tell whether it is one of every step: rate or bce"
            )
        self._task = task.of_loss(self.loss)
        if adds_up(self._task.loss_name) != "steps":
            raise UserError(
                f"{name} descends a loss of every step, and {self._task.loss_name} is one of the outputs of all steps "
                "together: choose rate or bce"
            )
        layers = self.layers(net)
        check_online(net, cast(Rule, self.rule), Softmax(), task)
        for number, layer in enumerate(layers):
            self.check_layer(layer, number == len(layers) - 1)
        if len(layers) < 2:
            raise UserError(f"{name} trains hidden layers of neurons, and the network has none: add one")
        self._net, self._hidden = net, [layer.name for layer in layers[:-1]]

    def layers(self, net: Module) -> list[ForwardLayer]:
        """Take a network apart.

        Args:
            net: the network.
        """
        return cast("list[ForwardLayer]", layers_of(net, type(self).__name__, self.kinds, self.outputs))

    def hidden_names(self) -> list[str]:
        return self._hidden

    def drawn(self, layer: ForwardLayer, init: str, outputs: int, like: Tensor) -> Tensor:
        """Return the random weights ``[C, n]`` of a hidden layer (:meth:`random_weights`).

        Args:
            layer: the layer.
            init: name in :data:`~spikelfp.methods.feedback_weights.feedback_inits`.
            outputs: ``C``.
            like: spikes of the layer, ``[k, B, n]``.
        """
        return self.random_weights(layer.name, init, outputs, like.shape[-1], like)

    def learn(self, net: Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        name = type(self).__name__
        if self._task is None:
            raise UserError(f"{name} has not seen its network yet: call suit(net, task) first, as trainers do")
        if batch.steps is not None:
            raise UserError(f"{name} runs forward in time by itself: train without chunks")
        layers = self.layers(net)
        self.begin(layers)
        shown, total = list[Tensor](), None
        with torch.no_grad():
            parts = (
                sliced(batch, layers, [*map(self.states_of, layers)], self.window)
                if self.learn_in_slices()
                else iter((batch,))
            )
            for part in parts:
                for layer in layers:
                    layer.rest()
                found: list[Tensor] = []
                for first, x, last in windows(part, self.window):
                    runs = []
                    for layer in layers:
                        runs.append(layer.run(x))
                        x = runs[-1].outputs
                    found.append(x)
                    weights = step_weights_of(part, first, x, len(batch.targets))
                    self._steps = part.targets, weights, batch.share
                    loss, slope = self.slope_of(x, part.targets, weights)
                    total = loss if total is None else total + loss
                    self.teach(layers, runs, slope * batch.share, last)
                    if not last:
                        self.after_window(layers)
                shown.append(torch.cat(found))
            self.hand_over(layers)
        self._steps = None
        assert total is not None
        return torch.cat(shown, 1), {"loss": total}

    def begin(self, layers: list[ForwardLayer]) -> None:
        """Make the eligibilities of a batch.

        Args:
            layers: of the network, at rest.
        """
        for layer in layers:
            layer.keep(tuple(each for each in self.decays(layer) if isinstance(each, float)), learns_decay=False)

    def decays(self, layer: ForwardLayer) -> list[Constant]:
        """List the decays of the filters between the inputs of a layer and its membranes.

        Args:
            layer: the layer.
        """
        names = [name for name in ("alpha", "beta") if hasattr(layer.neurons, name)]
        return [getattr(layer.neurons, name) for name in names]

    def hand_over(self, layers: list[ForwardLayer]) -> None:
        """Add the sums of all layers to ``p.grad``.

        Args:
            layers: of the network.
        """
        for layer in layers:
            for _, each in layer.kept:
                each.descend()

    def take(self, layer: ForwardLayer, run: WindowRun, credit: Credit, last: bool) -> None:
        """Let a layer learn, through the filters of its neurons.

        Args:
            layer: the layer.
            run: of the window.
            credit: for the filtered inputs; filters with a decay for each neuron are added to it.
            last: whether nothing follows the window.
        """
        for decay in reversed(self.decays(layer)):
            if isinstance(decay, Tensor):
                credit = through_filter(credit, decay, last)
        layer.take(run, credit)

    def slope_of(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the loss of some steps, and its slope by their outputs.

        Args:
            outputs: ``[k, B, C]``.
            labels: ``[B]``.
            weights: of each step, ``[k, B]``.

        Returns:
            The loss, and ``g`` ``[k, B, C]``.
        """
        with torch.enable_grad():
            free = outputs.detach().requires_grad_()
            loss = cast(Classification, self._task).loss(free, labels, weights)
            (slope,) = torch.autograd.grad(loss, free)
        return loss.detach(), slope


def step_weights_of(part: Batch, first: int, outputs: Tensor, samples: int) -> Tensor:
    """Weigh the steps of a window, so that all of a batch have the sum 1.

    Args:
        part: some samples of the batch.
        first: number of the first step of the window.
        outputs: of the window, ``[k, B, C]``.
        samples: number of samples of the whole batch.

    Returns:
        ``[k, B]``.
    """
    counted = part.counted
    if part.mask is None or not isinstance(counted, Tensor):
        return outputs.new_full(outputs.shape[:2], 1 / (len(part.sequence) * max(samples, 1)))
    own = part.mask[first : first + len(outputs)].to(outputs)
    return own / (counted.clamp(min=1).to(outputs) * samples)


def backwards(values: Tensor, decay: Constant) -> Tensor:
    """Filter values ``[k, …]`` from the last step to the first: ``λ[t] = v[t] + decay λ[t+1]``.

    Args:
        values: ``v``.
        decay: the decay.
    """
    found: Tensor = scan_for(values).integrate(values, values.new_zeros(values.shape[1:]), decay, True)
    return found


def check_surrogate(method: str, rule: Any) -> Surrogate:
    """Return the derivative of a spike, by default that of a fast sigmoid with slope 25.

    Args:
        method: name of the method, for errors.
        rule: the derivative; ``None`` for the default.

    Raises:
        UserError: for any other rule.
    """
    if rule is not None and not isinstance(rule, Surrogate):
        raise UserError(f"{method} takes rules.Surrogate(…), the derivative of a spike, got rule={rule!r}")
    return Surrogate() if rule is None else rule


def slope_of_spikes(layer: ForwardLayer, run: WindowRun, rule: Surrogate) -> Tensor:
    """Compute the surrogate derivative of the spikes of a layer, ``[k, B, n]``.

    Args:
        layer: the layer, which fires.
        run: of a window.
        rule: the derivative, unless the neurons have one of their own.
    """
    assert run.membrane is not None
    rule = vars(layer.neurons).get("_own_rule") or rule
    threshold = cast(Neurons, layer.neurons).constants.fitted(run.membrane[0]).threshold
    return surrogates[rule.shape](run.membrane - threshold, rule.slope)
