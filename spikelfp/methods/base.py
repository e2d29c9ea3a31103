"""What a method of training is: where the credit of a batch comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor

from spikelfp.described import call_of
from spikelfp.options import option
from spikelfp.registry import Registry
from spikelfp.rules import Composite, Epsilon, Rule

REDUCTIONS = ("mean", "sum")
"""How updates of the samples of a batch become one."""

Reduction = Annotated[str, option("updates of the samples of a batch: their mean, or their sum", names=REDUCTIONS)]


class Method(ABC):
    """Fills ``p.grad`` of every parameter from one batch, for an optimiser that descends it.

    What is said here about a class can also be said where it is registered, ``@methods.register(name, …)``.

    Attributes:
        name: of the method, in checkpoints and tables; by default that of its class.
        rule: how the layers without a rule of their own send credit back while this method trains them; by default
            LFP-ε with messages that pass through the statistics of normalisation layers.
        reduction: updates of the samples of a batch are averaged, ``"mean"``, or added up, ``"sum"``.
        objective: whether the method ascends a ``"reward"`` or descends a ``"loss"`` of the outputs.
        gradient: whether the update is the derivative of a loss, sent back through the whole network.
        surrogate: whether spikes have a surrogate derivative in it.
        default_lr: learning rate on the command line, with an optimiser that adapts its steps.
        words: the method in plain words, for reports.
    """

    name: str
    rule: Rule | Composite = Epsilon(constant_statistics=False)
    reduction: str = "mean"
    objective: ClassVar[Literal["reward", "loss"]] = "reward"
    gradient: ClassVar[bool] = False
    surrogate: bool = False
    default_lr: ClassVar[float] = 3e-3
    words: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not hasattr(cls, "name"):
            cls.name = cls.__name__

    def __repr__(self) -> str:
        """Write the call that makes it, such as ``LFP(reward=Softmax(), rule=Epsilon())``."""
        return call_of(self)

    @abstractmethod
    def backward(
        self,
        outputs: Tensor,
        labels: Tensor,
        share: float = 1.0,
        mask: Tensor | None = None,
        steps: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """Backward pass from the outputs ``[T, B, C]``: adds ``share`` times the mean over the batch to ``p.grad``.

        share: part of a larger batch that these samples are, whose updates then add up to that of the whole. Trainers
        multiply it by the size of the batch for ``reduction="sum"``.
        mask: boolean ``[T, B]``, the steps that count; by default all. The others change nothing, as if they were not
        there: means are over a sample's own steps, then over the batch.
        steps: of sequences that come in parts (chunks), the steps of the whole that count, ``[B]`` or one number for
        all. Updates of the parts add up, and so do the means that are returned.
        Both are handed in only where they are needed.

        Returns what to watch, as scalar tensors: means over these samples, whatever their share.
        """

    def at(self, step: int) -> Method:
        """The method of step ``step`` of a run, counted from 0; the same one unless a method says otherwise."""
        return self


methods: Registry[type[Method]] = Registry("method")
"""Methods by name; the parameters of their constructors are their options."""
