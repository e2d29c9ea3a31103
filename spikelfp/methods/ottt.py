"""Online training through time (OTTT): traces of the presynaptic spikes, and a spatial gradient of each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, cast

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.methods.base import Reduction, methods
from spikelfp.methods.eligibility import Credit, ForwardLayer, WindowRun
from spikelfp.methods.gradient import Loss
from spikelfp.methods.step_loss import StepLossMethod, check_surrogate, slope_of_spikes
from spikelfp.nn import LI, LIF, RecurrentLIF
from spikelfp.options import option
from spikelfp.registry import check_name
from spikelfp.rules import Surrogate

UPDATES = ("sequence", "step")
"""Times of an update: at the end of the sequences, or at every step."""


@methods.register("ottt")
class OTTT(StepLossMethod):
    r"""Online training through time (Xiao et al. 2022, NeurIPS, arXiv:2210.04195), of dense and recurrent LIF neurons::

        â_i[t] = λ â_i[t−1] + s_i[t]                            trace of the presynaptic spikes, λ = β of the neuron
        dL[t]/dW ≈ g_U[t] â[t]ᵀ                                 instantaneous gradient
        g_U^l[t] = σ'(U^l[t] − θ) · (W^{l+1}ᵀ g_U^{l+1}[t])     spatial, within the step; σ' is that of ``rule``

    ``OTTT_A`` adds the gradients of all steps up and updates once (``update="sequence"``). ``OTTT_O`` updates the
    weights after every step (``update="step"``), by the trainer's optimiser, and the membranes go on. For recurrent
    connections ``s_i[t]`` is the spike of the step before.

    Outputs are leaky integrators, a dense layer alone (as in the paper), or LIF neurons. The trace of an integrator
    decays by its own β, which is its exact gradient; without neurons ``λ = 0``. The loss is that of the task; the
    paper mixes in a twentieth of squared error.

    Args:
        update: time of an update, of :data:`UPDATES`.
        rule: the derivative of a spike; by default that of a fast sigmoid with slope 25.
        loss: loss of the classes at every step; ``None``: that of the task.
        reduction: ``mean`` or ``sum``.

    Raises:
        UserError: for an unknown name and a rule that is no surrogate; when a trainer is made, for a network, a task or
            a loss that it cannot train.
    """

    name = "ottt"
    words = "online training through time"
    surrogate = True
    kinds = (LIF, RecurrentLIF)
    outputs = (LI,)

    def __init__(
        self,
        *,
        update: Annotated[
            str, option("whether weights change after each sequence (OTTT_A) or each step (OTTT_O)", names=UPDATES)
        ] = "sequence",
        rule: Surrogate | None = None,
        loss: Loss | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(loss, reduction)
        self.rule = check_surrogate(type(self).__name__, rule)
        self.update = check_name("update", update, UPDATES)
        self.within_batch = update == "step"
        self._update: Callable[[], None] | None = None

    def update_by(self, update: Callable[[], None] | None) -> None:
        self._update = update

    @property
    def window(self) -> int:
        return 1 if self.update == "step" else super().window

    def learn_in_slices(self) -> bool:
        return self.update != "step"

    def after_window(self, layers: list[ForwardLayer]) -> None:
        if self.update != "step":
            return
        if self._update is None:
            raise UserError(
                'OTTT(update="step") changes the weights while a sequence runs, by the optimiser of a trainer: train '
                'by TemporalTrainer, or take update="sequence"'
            )
        self.hand_over(layers)
        with torch.enable_grad():
            self._update()

    def teach(self, layers: list[ForwardLayer], runs: list[WindowRun], slope: Tensor, last: bool) -> None:
        rule = cast(Surrogate, self.rule)
        for number in reversed(range(len(layers))):
            layer, run = layers[number], runs[number]
            error = slope * slope_of_spikes(layer, run, rule) if layer.fires else slope
            self.take(layer, run, Credit(error, [], []), last)
            if number:
                slope = layer.to_inputs(error)
