"""DECOLLE: a local loss at every layer and step, through fixed random readouts."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from spikelfp.methods.base import Reduction, methods
from spikelfp.methods.eligibility import Credit, ForwardLayer, WindowRun
from spikelfp.methods.feedback_weights import Feedback, feedback_inits
from spikelfp.methods.gradient import Loss
from spikelfp.methods.step_loss import StepLossMethod, check_surrogate, slope_of_spikes
from spikelfp.nn import LIF, Synaptic
from spikelfp.rules import Surrogate


@methods.register("decolle")
class DECOLLE(StepLossMethod):
    r"""Deep continuous local learning (Kaiser et al. 2020, Frontiers in Neuroscience 14:424)::

        Y^l[t] = G^l S^l[t]                                     readout of a hidden layer, G^l fixed and random (eq. 5)
        dL^l/dW^l_ij ≈ Σ_t (Σ_k ∂L^l[t]/∂Y^l_k G^l_ki) σ'(U^l_i[t] − θ) P_j[t]                            (eq. 8-10)
        P_j[t] = β P_j[t−1] + S_j[t]                            trace of the input spikes, of LIF neurons
        Q_j[t] = α Q_j[t−1] + S_j[t],   P_j[t] = β P_j[t−1] + Q_j[t]      of neurons with a synapse (eq. 1-2)

    ``L^l`` is the loss of every step, of each layer by its own readout: nothing goes from layer to layer. ``P`` is what
    one input spike does to the membrane, without the factors ``1 − α`` and ``1 − β`` of the paper's neurons, and the
    refractory state is the reset. The output layer learns from the loss of its own outputs, for which no random
    readout is needed.

    The paper's regularisation of membranes and spike rates is left out. Recurrent connections are not in the paper.

    Args:
        feedback_init: name of the random weights ``G`` in :data:`~spikelfp.methods.feedback_weights.feedback_inits`.
        rule: the derivative of a spike; by default that of a fast sigmoid with slope 25.
        loss: loss of the classes at every step; ``None``: that of the task.
        reduction: ``mean`` or ``sum``.

    Raises:
        UserError: for an unknown name and a rule that is no surrogate; when a trainer is made, for a network, a task or
            a loss that it cannot train.
    """

    name = "decolle"
    words = "deep continuous local learning"
    feedback_weights = "local readouts"
    surrogate = True
    kinds = (LIF, Synaptic)

    def __init__(
        self,
        *,
        feedback_init: Feedback = "kaiming",
        rule: Surrogate | None = None,
        loss: Loss | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(loss, reduction)
        self.feedback_init = feedback_init
        feedback_inits[feedback_init]
        self.rule = check_surrogate(type(self).__name__, rule)

    def teach(self, layers: list[ForwardLayer], runs: list[WindowRun], slope: Tensor, last: bool) -> None:
        rule, outputs = cast(Surrogate, self.rule), slope.shape[-1]
        for number, (layer, run) in enumerate(zip(layers, runs, strict=True)):
            if not layer.kept:
                continue
            error = slope
            if number < len(layers) - 1:
                readout = self.drawn(layer, self.feedback_init, outputs, run.outputs)
                error = self.slope_here(run.outputs @ readout.t()) @ readout
            if layer.fires:
                error = error * slope_of_spikes(layer, run, rule)
            self.take(layer, run, Credit(error, [], []), last)
