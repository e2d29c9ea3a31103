"""What a rule decides: how each kind of layer sends credit back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from spikelfp.functional.lif import LIFParameters
from spikelfp.functional.split import LinearMap

Activation = Callable[[Tensor], Tensor]
"""An element-wise function ``z → φ(z)``."""


class Rule(ABC):
    """Forward passes are the same under every rule; the backward pass is the rule's.

    A layer calls the method of its kind in ``forward``. Rules hold options only, never tensors of a pass, so
    one rule serves many layers.
    """

    constant_statistics: bool
    """Whether means and variances of a batch are constants of the backward pass (v3, section 3.1.3)."""
    needs_sign: bool
    """Whether activations must not change the sign of what they are given (v3, section 3.4)."""
    one_product: bool = False
    """Whether ``linear`` calls ``op`` once and leaves the backward pass to it: pooling may then be part of ``op``."""
    silent_earn_nothing: bool = False
    """Whether neurons that do not fire pass over the messages they get: those need not be computed then."""

    @abstractmethod
    def linear(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Output of a linear layer: ``op(x, weight, bias)``."""

    @abstractmethod
    def affine(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Output of an element-wise affine map, ``γ ã + β`` of a normalisation layer: ``op(x, weight, bias)``."""

    @abstractmethod
    def parameter(self, weight: Tensor) -> Tensor:
        """A parameter that is itself a contribution (an embedding, a class token), to be added to a signal."""

    @abstractmethod
    def factor(self, x: Tensor) -> Tensor:
        """A factor of a product of two signals (attention), to be multiplied with the other one."""

    @abstractmethod
    def activation(self, phi: Activation, z: Tensor, opposite_sign: bool = False) -> Tensor:
        """Output of an activation function: ``phi(z)``. opposite_sign: v3, footnote 12."""

    @abstractmethod
    def relu(self, z: Tensor) -> Tensor:
        """``max(z, 0)``."""

    @abstractmethod
    def spike(self, z: Tensor) -> Tensor:
        """Heaviside step: 1 where ``z > 0``, else 0."""

    @abstractmethod
    def lif(
        self, current: Tensor, start: Tensor, p: LIFParameters, decay: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """LIF neurons: ``current`` ``[T, …]`` from membrane ``start`` ``[…]`` to spikes and last membrane.

        decay: β as a scalar tensor that learns, of the value ``p.beta``.
        """

    @abstractmethod
    def inflow(self, parts: Sequence[Tensor], sizes: Sequence[Tensor]) -> Tensor:
        """Sum of ``parts`` ``[B, …]``, all that flows into a membrane in a step; its credit is shared by ``sizes``."""

    @abstractmethod
    def carry(self, membrane: Tensor) -> Tensor:
        """A membrane ``[B, …]`` as the next step reads it."""

    @abstractmethod
    def survive(self, before: Tensor, after: Tensor) -> Tensor:
        """``after``, which a reset has left of ``before``, both ``[B, …]``."""

    @abstractmethod
    def fire(self, membrane: Tensor, threshold: float | Tensor) -> Tensor:
        """Spikes ``[B, …]`` of a step: 1 where ``membrane > threshold``, else 0."""

    @abstractmethod
    def steps(self, spikes: Sequence[Tensor]) -> Tensor:
        """Spikes ``[B, …]`` of consecutive steps, each from :meth:`fire`, as one sequence ``[T, B, …]``."""

    def incoming(self, x: Tensor) -> Tensor:
        """``x`` ``[T, B, …]`` on its way into a layer with weights; a rule may see the reward of ``x`` here."""
        return x

    def outgoing(self, z: Tensor) -> Tensor:
        """``z`` ``[T, B, …]`` as a layer with weights returns it; a rule may see the reward of ``z`` here."""
        return z

    def neurons(self, outputs: Tensor) -> Tensor:
        """``outputs`` ``[T, B, …]`` of neurons, whose autograd node a rule may tell how to treat an initial reward."""
        return outputs

    def assign(self, net: nn.Module) -> dict[nn.Module, Rule]:
        """The rule of each layer of ``net`` that has one: here this one for all."""
        return dict.fromkeys(layers_with_rules(net), self)


def layers_with_rules(net: nn.Module) -> list[nn.Module]:
    """The layers of ``net`` that follow a rule, in the order of ``net.modules()``."""
    return [layer for layer in net.modules() if isinstance(getattr(layer, "rule", None), Rule)]


def heaviside(z: Tensor) -> Tensor:
    """1 where ``z > 0``, else 0, in the dtype of ``z`` (A.2)."""
    return (z > 0).to(z.dtype)
