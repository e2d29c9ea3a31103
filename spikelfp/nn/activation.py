"""Activation functions without memory.

LFP asks of an activation that it maps positive values to ``[0, ∞]`` and negative ones to ``[−∞, 0]`` (v3,
section 3.4): the reward of its output is then the reward of its input. All here do, but :class:`Sigmoid`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from spikelfp.errors import SignWarning, UserError
from spikelfp.nn.layer import Layer, check_dense
from spikelfp.rules import Rule


class Activation(Layer):
    """Base of the activation functions: ``φ(z)``, element-wise, of any shape.

    Args:
        rule: rule of this layer alone.

    Attributes:
        phi: the function ``φ``.
        keeps_sign: whether ``φ(z)`` never has the sign opposite to ``z``. For an activation of a user's own the first
            pass under an LFP rule checks this, and gives a :class:`~spikelfp.errors.SignWarning` where it fails.
        opposite_sign: whether the reward changes its sign where ``z`` and ``φ(z)`` differ in theirs.

    Raises:
        UserError: for parameters of ``φ`` that require gradients; LFP has no rule for them.
    """

    fires = False
    arguments: ClassVar[tuple[str, ...] | None] = ()

    phi: Callable[[Tensor], Tensor]
    keeps_sign: ClassVar[bool] = True
    opposite_sign: bool = False

    def __init__(self, *, rule: Rule | None = None) -> None:
        super().__init__()
        self.rule = rule
        self._looked_at = type(self).__module__.startswith("spikelfp.")

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        if self.rule.needs_sign and torch.is_grad_enabled():
            self._check_own(x)
        return self.rule.activation(self.phi, x, self.opposite_sign)

    def _check_own(self, x: Tensor) -> None:
        """Check a function of a user's own: its parameters, and once the signs of the values it returns."""
        learning = [name for name, p in self._parameters.items() if p is not None and p.requires_grad]
        if learning:
            raise UserError(
                f"{type(self).__name__} has a parameter, {learning[0]}, inside of its activation function, for which "
                "LFP has no rule: freeze it (requires_grad_(False)), or train by gradients"
            )
        if self._looked_at or torch.compiler.is_compiling():
            return
        self._looked_at = True
        with torch.no_grad():
            against = self.keeps_sign and bool((self.phi(x) * x < 0).any())
        if (against or not self.keeps_sign) and not self.opposite_sign:
            warnings.warn(sign_complaint(type(self).__name__), SignWarning, stacklevel=3)


class ReLU(Activation):
    """``max(z, 0)``."""

    passes_scale = True
    passes_spikes = True

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        return self.rule.relu(x)


class LeakyReLU(Activation):
    """``z`` where ``z > 0``, else ``negative_slope · z``. Theorem 1 (v3) holds for it as for ReLU.

    Args:
        negative_slope: slope for ``z < 0``.
        rule: rule of this layer alone.
    """

    passes_scale = True
    passes_spikes = True
    arguments = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, *, rule: Rule | None = None) -> None:
        super().__init__(rule=rule)
        self.negative_slope = float(negative_slope)

    def phi(self, z: Tensor) -> Tensor:
        return F.leaky_relu(z, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class SiLU(Activation):
    """``z σ(z)`` (Elfwing et al. 2018)."""

    phi = staticmethod(F.silu)


class GELU(Activation):
    """``z Φ(z)``, Φ the standard normal distribution (arXiv:1606.08415)."""

    phi = staticmethod(F.gelu)


class ELU(Activation):
    """``z`` where ``z > 0``, else ``α (exp(z) − 1)`` (Clevert et al. 2016).

    Args:
        alpha: the constant α.
        rule: rule of this layer alone.
    """

    arguments = ("alpha",)

    def __init__(self, alpha: float = 1.0, *, rule: Rule | None = None) -> None:
        super().__init__(rule=rule)
        self.alpha = float(alpha)

    def phi(self, z: Tensor) -> Tensor:
        return F.elu(z, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Tanh(Activation):
    """``tanh(z)``."""

    phi = staticmethod(torch.tanh)


class Sigmoid(Activation):
    """``1 / (1 + exp(−z))``: positive also where ``z < 0``, so LFP does not train through it (v3, Table 3).

    Without ``opposite_sign`` the first pass under an LFP rule gives a :class:`~spikelfp.errors.SignWarning`.

    Args:
        opposite_sign: change the sign of the reward where ``z`` and ``σ(z)`` differ in theirs, the heuristic of v3,
            footnote 12.
        rule: rule of this layer alone.
    """

    phi = staticmethod(torch.sigmoid)
    keeps_sign = False
    arguments = ("opposite_sign",)

    def __init__(self, opposite_sign: bool = False, *, rule: Rule | None = None) -> None:
        super().__init__(rule=rule)
        self.opposite_sign = opposite_sign
        self._warned = False

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        if self.rule.needs_sign and not (self.opposite_sign or self._warned) and torch.is_grad_enabled():
            self._warned = True
            warnings.warn(sign_complaint("Sigmoid"), SignWarning, stacklevel=2)
        return self.rule.activation(self.phi, x, self.opposite_sign)

    def extra_repr(self) -> str:
        return f"opposite_sign={self.opposite_sign}"


class Heaviside(Activation):
    """1 where ``z > 0``, else 0 (A.2): a neuron that fires without memory."""

    fires = True

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        return self.rule.spike(x)


def sign_complaints(net: torch.nn.Module) -> list[str]:
    """List the kinds of activations in a network through which LFP will hardly learn.

    Args:
        net: the network.

    Returns:
        one line for each kind, with what to do; an empty list if all is well.
    """
    kinds = {
        type(layer).__name__: None
        for layer in net.modules()
        if isinstance(layer, Activation) and not layer.keeps_sign and not layer.opposite_sign
    }
    return [sign_complaint(kind) for kind in kinds]


def sign_complaint(name: str) -> str:
    """Tell that an activation does not keep the sign, and what to do."""
    return (
        f"{name} is positive where its input is negative, or the reverse, so LFP rewards the wrong direction and "
        "will hardly learn (LFP v3, section 3.4): use Tanh, or opposite_sign=True"
    )
