"""e-prop: eligibility traces of the synapses, and learning signals that broadcast the error of each step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, cast

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.methods.base import Reduction, methods
from spikelfp.methods.eligibility import Credit, ForwardLayer, WindowRun, of_last_step, used_weight
from spikelfp.methods.feedback_weights import feedback_inits
from spikelfp.methods.gradient import Loss
from spikelfp.methods.step_loss import StepLossMethod, backwards
from spikelfp.nn import ALIF, LI, LIF, RecurrentALIF, RecurrentLIF
from spikelfp.nn.neurons.base import Neurons
from spikelfp.options import one_of, option
from spikelfp.registry import check_name
from spikelfp.scalars import as_number

if TYPE_CHECKING:
    from torch.nn import Module

    from spikelfp.tasks import Task
    from spikelfp.training.parallel import World

FEEDBACKS = ("symmetric", "random", "adaptive")
"""Kinds of the weights ``B`` that bring the error to the hidden neurons."""

_DECAY = 1e-3


@methods.register("e-prop")
class EProp(StepLossMethod):
    r"""e-prop (Bellec et al. 2020, Nature Communications 11:3625), for dense and recurrent LIF and ALIF neurons::

        dL/dW_ji ≈ Σ_t L_j[t] ē_ji[t],      ē_ji[t] = κ ē_ji[t−1] + e_ji[t]                       (eq. 1, 28)
        e_ji[t] = ψ_j[t] x̄_i[t],            x̄_i[t] = β x̄_i[t−1] + x_i[t]                           (eq. 22-23; LIF)
        e_ji[t] = ψ_j[t] (x̄_i[t] − φ a_ji[t])                                                     (eq. 24-25; ALIF)
        a_ji[t+1] = ψ_j[t] x̄_i[t] + (ρ − ψ_j[t] φ) a_ji[t]
        ψ_j[t] = γ/θ max(0, 1 − |U_j[t] − A_j[t]| / θ)                                            pseudo-derivative
        L_j[t] = Σ_k B_jk (π_k[t] − y*_k)                                                         (eq. 4, 30)
        dL/dW^out_kj = Σ_t (π_k[t] − y*_k) S̄_j[t],      S̄_j[t] = κ S̄_j[t−1] + S_j[t]

    ``π`` is the softmax of the readout, leaky integrators with the decay κ (``nn.LI``), or of a dense layer alone (κ =
    0). For recurrent connections ``x_i[t]`` is the spike ``S_i[t−1]``. ``A`` is the threshold of the step, θ without
    adaptation. With another loss of every step its slope stands for ``π − y*``.

    ``symmetric`` feedback is ``B = W^out``, transposed, ``random`` is drawn once. ``adaptive`` begins at random;
    every change of ``W^out`` is made to ``B``, too, and both shrink by ``feedback_decay`` at each update, so that they
    come to be alike. In a network of several hidden layers, which the paper does not have, each gets the error of the
    outputs by random weights of its own; the other kinds are for one hidden layer.

    Regularisation of the spike rates, a part of the paper's tasks, is left out.

    Args:
        feedback: kind of ``B``.
        feedback_init: name in :data:`~spikelfp.methods.feedback_weights.feedback_inits`.
        feedback_decay: part of ``B`` and ``W^out`` that is lost at each update.
        damping: ``γ`` of the pseudo-derivative.
        loss: loss of the classes at every step; ``None``: that of the task.
        reduction: ``mean`` or ``sum``.

    Raises:
        UserError: for an unknown name and a number out of range; when a trainer is made, for a network, a task or a
            loss that it cannot train.
    """

    name = "e-prop"
    words = "e-prop"
    feedback_weights = "symmetric"
    kinds = (LIF, RecurrentLIF, ALIF, RecurrentALIF)

    def __init__(
        self,
        *,
        feedback: Annotated[
            str,
            option(
                "weights that bring the error to hidden neurons: those of the readout, fixed random ones, or random "
                "ones that follow the readout's",
                names=FEEDBACKS,
            ),
        ] = "symmetric",
        feedback_init: Annotated[
            str,
            option(
                "fixed weights that bring the error to a hidden layer",
                names=feedback_inits,
                owner=one_of("feedback", ["random", "adaptive"]),
            ),
        ] = "kaiming",
        feedback_decay: Annotated[
            float,
            option(
                "part of the readout's and the feedback weights lost at an update",
                within="[0, 1)",
                owner=one_of("feedback", ["adaptive"]),
            ),
        ] = _DECAY,
        damping: Annotated[float, option("γ of the pseudo-derivative of a spike", within="(0, ∞)")] = 0.3,
        loss: Loss | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(loss, reduction)
        self.feedback = check_name("feedback", feedback, FEEDBACKS)
        self.feedback_init = feedback_init
        feedback_inits[feedback_init]
        for what, value, fits, range_ in (
            ("damping", damping, lambda v: 0 < v < math.inf, "above 0"),
            ("feedback_decay", feedback_decay, lambda v: 0 <= v < 1, "from 0 on and below 1"),
        ):
            number = as_number(value)
            if number is None or not fits(number):
                raise UserError(f"{what} is a finite number {range_}, got {value!r}")
        self.damping, self.feedback_decay = float(damping), float(feedback_decay)
        self._readout: Tensor | None = None
        self._before: Tensor | None = None

    def suit(self, net: Module, task: Task) -> None:
        super().suit(net, task)
        layers = self.layers(net)
        if len(layers) > 2 and self.feedback != "random":
            raise UserError(
                f"{self.feedback} feedback has the weights of the readout, which reach the last hidden layer alone, "
                f'and the network has {len(layers) - 1} hidden layers: choose feedback="random" (--feedback random), '
                "or one hidden layer"
            )
        dense = layers[-1].dense
        self._readout = dense.weight
        if self.feedback == "adaptive" and not dense.weight.requires_grad:
            raise UserError(
                "adaptive feedback shrinks the weights of the readout a little at each update, and these are frozen "
                '(requires_grad=False): thaw them, or choose feedback="symmetric" or "random"'
            )
        if self.feedback == "adaptive" and dense.quantization is not None and dense.quantization.update == "stochastic":
            raise UserError(
                "adaptive feedback shrinks the weights of the readout a little at each update, and these are rounded "
                'by chance: choose feedback="symmetric" or "random", or masters in floats (--weight-update masters)'
            )

    def check_layer(self, layer: ForwardLayer, last: bool) -> None:
        super().check_layer(layer, last)
        if last and layer.fires:
            raise UserError(
                f"EProp reads leaky integrators, and the output layer {layer.name} fires: let the network end in "
                'nn.LI() (models.lif_mlp(…, readout="li"), --output li)'
            )
        if last and isinstance(getattr(layer.neurons, "beta", None), Tensor):
            raise UserError(
                "EProp filters eligibility traces by the decay κ of the readout, and this one has a β for each "
                "output: give nn.LI one number"
            )

    def states_of(self, layer: ForwardLayer) -> int:
        own = 0 if not layer.fires else 2 if isinstance(layer.neurons, ALIF | RecurrentALIF) else 1
        return own + super().states_of(layer)

    def begin_update(self) -> None:
        if self.feedback == "adaptive" and self._readout is not None:
            self._before = self._readout.detach().clone()

    def end_update(self, world: World) -> None:
        if self._before is None or self._readout is None:
            return
        with torch.no_grad():
            for own in self.weights.values():  # [C, n], as those of the readout
                own.mul_(1 - self.feedback_decay).add_(self._readout.detach() - self._before)
            self._readout.sub_(self._before, alpha=self.feedback_decay)
        self._before = None

    def teach(self, layers: list[ForwardLayer], runs: list[WindowRun], slope: Tensor, last: bool) -> None:
        readout = layers[-1]
        kappa = 0.0 if readout.neurons is None else cast(float, cast(LI, readout.neurons).beta)
        self.take(readout, runs[-1], Credit(slope, [], []), last)
        for layer, run in zip(layers[:-1], runs[:-1], strict=True):
            if not layer.kept:
                continue
            if self.feedback == "symmetric":
                weights = used_weight(readout.dense)
            else:
                weights = self.drawn(layer, self.feedback_init, slope.shape[-1], run.outputs)
            self.take(layer, run, self._credit(layer, run, slope @ weights, kappa, last), last)

    def _credit(self, layer: ForwardLayer, run: WindowRun, signal: Tensor, kappa: float, last: bool) -> Credit:
        """Compute the credit for the traces ``x̄`` of a layer; its states are ``ē``, and ``a`` of ALIF."""
        neurons = cast(Any, layer.neurons)
        assert run.membrane is not None
        theta = cast(Neurons, neurons).constants.fitted(run.membrane[0]).threshold
        above = run.membrane - theta
        if run.adaptation is not None:
            phi, rho = (neurons.constant(name, run.membrane[0]) for name in ("phi", "rho"))
            above = above - phi * run.adaptation
        slopes = (1 - above.abs() / theta).clamp(min=0) * (self.damping / theta)
        ends: list[tuple[Tensor, list[Tensor | None]]] = []
        if run.adaptation is None:
            through = backwards(signal, kappa)
            if kappa == 0:
                return Credit(slopes * through, [], [])
            if not last:
                unit = backwards(of_last_step(signal), kappa)
                ends = [(slopes * unit, [kappa * unit[0]])]
            return Credit(slopes * through, [kappa * through[0]], ends)

        def back(signal: Tensor, trace: float, adapted: float) -> tuple[Tensor, list[Tensor]]:
            """Run back the parts in ``Σ L ē + trace · ē + adapted · a``, the latter two after the window."""
            of_trace, of_adapted = torch.full_like(signal[0], trace), torch.full_like(signal[0], adapted)
            found = torch.empty_like(signal)
            for t in reversed(range(len(signal))):
                error = signal[t] + of_trace
                found[t] = slopes[t] * (error + of_adapted)
                of_adapted = rho * of_adapted - slopes[t] * phi * (error + of_adapted)
                of_trace = kappa * error
            return found, [of_trace, of_adapted]

        messages, starts = back(signal, 0.0, 0.0)
        if not last:
            silent = torch.zeros_like(signal)
            for trace, adapted in ((1.0, 0.0), (0.0, 1.0)):
                fresh, factors = back(silent, trace, adapted)
                ends.append((fresh, list(factors)))
        return Credit(messages, starts, ends)
