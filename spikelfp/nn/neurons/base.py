"""The base of layers of neurons: their constants, and decays that learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.functional.lif import Denominator, LIFParameters, Reset, check_decay
from spikelfp.nn.layer import Layer
from spikelfp.rules import Rule

LEAST_DECAY = 1e-3
"""Smallest value that a decay that learns may take."""


class Neurons(Layer):
    """What layers of LIF neurons share: their constants, and a decay that may learn.

    ``constants`` holds β, θ, reset and denominator (:class:`~spikelfp.functional.lif.LIFParameters`).
    """

    fires = True
    has_membrane = True
    has_threshold = True
    arguments: ClassVar[tuple[str, ...] | None] = ("beta", "threshold", "reset", "denominator", "learn_beta")

    decay: torch.nn.Parameter | None

    def __init__(
        self,
        beta: float = 0.9,
        threshold: float = 1.0,
        reset: Reset = "subtract",
        denominator: Denominator = "inflow",
        *,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        rule: Rule | None = None,
    ) -> None:
        super().__init__()
        if learn_threshold:
            raise UserError(
                "the threshold cannot learn under LFP: it is compared with the membrane but flows into it only at a "
                "reset, which earns no credit, so no reward tells whether θ helped. Scaling the weights in front of "
                "the neurons does the same and is learned"
            )
        self._constants = LIFParameters(beta, threshold, reset, denominator)
        decay = torch.nn.Parameter(torch.tensor(self._constants.beta)) if learn_beta else None
        self.register_parameter("decay", decay)
        self.rule = rule

    @property
    def constants(self) -> LIFParameters:
        """The constants of the neurons, with β as learned so far."""
        if self.decay is None:
            return self._constants
        self.project()
        learned, least = float(self.decay.detach()), float(torch.tensor(LEAST_DECAY, dtype=self.decay.dtype))
        return replace(self._constants, beta=LEAST_DECAY if learned <= least else learned)  # the border is rounded

    @constants.setter
    def constants(self, constants: LIFParameters) -> None:
        if not isinstance(constants, LIFParameters):
            raise UserError(f"the constants of neurons are LIFParameters, got {type(constants).__name__}")
        self._constants = constants
        if self.decay is not None:
            self.decay.data.fill_(constants.beta)

    @property
    def beta(self) -> float:
        """Decay of the membrane per step."""
        return self.constants.beta

    @beta.setter
    def beta(self, beta: float) -> None:
        self.constants = replace(self.constants, beta=beta)

    @property
    def threshold(self) -> float:
        """Membrane above which a neuron fires."""
        return self._constants.threshold

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        self.constants = replace(self.constants, threshold=threshold)

    @property
    def reset(self) -> Reset:
        """What a spike does to the membrane."""
        return self._constants.reset

    @reset.setter
    def reset(self, reset: Reset) -> None:
        self.constants = replace(self.constants, reset=reset)

    @property
    def denominator(self) -> Denominator:
        """How the reward on a membrane is normalised."""
        return self._constants.denominator

    @denominator.setter
    def denominator(self, denominator: Denominator) -> None:
        self.constants = replace(self.constants, denominator=denominator)

    @property
    def learn_beta(self) -> bool:
        """Whether β learns: chosen where the layer is made."""
        return self.decay is not None

    @learn_beta.setter
    def learn_beta(self, learn_beta: bool) -> None:
        raise UserError(f"learn_beta is chosen where the layer is made, nn.{type(self).__name__}(learn_beta=True)")

    @torch.no_grad()
    def project(self) -> None:
        """Bring a β that learns back into [0.001, 1]; trainers do so after each update, and each forward pass does."""
        if self.decay is not None:
            self.decay.data.clamp_(LEAST_DECAY, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)[0]

    def extra_repr(self) -> str:
        p = self.constants
        learns = ", learn_beta=True" if self.decay is not None else ""
        return f"beta={p.beta}, threshold={p.threshold}, reset={p.reset!r}, denominator={p.denominator!r}{learns}"


class Decay:
    """Attribute of a layer that holds a decay per step, in (0, 1], checked whenever it is set."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None:
            return self
        try:
            return layer.__dict__[self.name]
        except KeyError:
            raise AttributeError(self.name) from None

    def __set__(self, layer: Any, value: float) -> None:
        layer.__dict__[self.name] = check_decay(self.name, value)
