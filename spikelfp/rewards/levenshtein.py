"""The Levenshtein distance as a reward: sequences of symbols without an alignment."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spikelfp.errors import ShapeError
from spikelfp.rewards.convergence import Convergence
from spikelfp.rewards.difference import Reference
from spikelfp.rewards.edit_distance import Decoding, check_targets, edit_distance, edit_distance_counterfactuals
from spikelfp.rewards.metric import FromMetric


class Levenshtein(FromMetric):
    """Minus the edit distance as a reward (:class:`FromMetric`), for outputs ``[T, B, C]`` and targets ``[B, L]``.

    Targets are integers; −1 fills up shorter ones. The network emits a symbol every ``window`` steps, so sequences
    have ``T / window`` symbols before ``collapse`` and ``blank`` take some away.

    collapse: equal neighbours count as one symbol. blank: this class is never emitted (with ``collapse`` the decoding
    of CTC: a blank between two equal symbols keeps both).

    The global reward of a symbol is by how many edits it is worse than the best one, everything else kept, and all of
    the best are rewarded: as long as hardly anything is emitted, that is every symbol of the target, at every place;
    which of them belongs where is left to the inputs. Spiking outputs that stay silent say class 0: make 0 the blank
    there. The other options are those of :class:`FromMetric`.
    """

    of_parts = False  # the targets are those of the whole sequence

    def __init__(
        self,
        *,
        window: int = 1,
        collapse: bool = False,
        blank: int | None = None,
        reference: Reference = "best",
        convergence: str | Convergence | None = None,
        magnitude: bool | None = None,
    ) -> None:
        self.collapse, self.blank = collapse, blank
        self.decoding = Decoding(collapse, blank)
        super().__init__(
            NegativeEditDistance(self.decoding),
            window=window,
            reference=reference,
            convergence=convergence,
            magnitude=magnitude,
        )

    def target(self, outputs: Tensor, labels: Any) -> Tensor:
        labels = super().target(outputs, labels)
        blank = self.decoding.blank
        if blank is not None and not 0 <= blank < outputs.shape[-1]:
            raise ShapeError(f"the blank {blank} is outside the classes 0..{outputs.shape[-1] - 1}")
        return check_targets("Levenshtein", outputs, labels, blank)

    def decode(self, outputs: Tensor, mask: Tensor | None = None) -> list[list[int]]:
        """The symbols that the outputs ``[T, B, C]`` say, a list for each sample; mask: of the steps that count."""
        return self.decoding.sequences(self.predictions(outputs, mask))

    def distance(self, outputs: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """The edit distance of each sample, int64 ``[B]``; mask: of the steps that count."""
        return edit_distance(self.predictions(outputs, mask), self.target(outputs, targets), self.decoding)


class NegativeEditDistance:
    """The metric behind :class:`Levenshtein`: minus the edit distance of each sample."""

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding

    def __call__(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Scores ``[B]`` of predictions ``[S, B]`` and targets ``[B, L]``."""
        return -edit_distance(predictions, labels, self.decoding).double()

    def counterfactuals(self, predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
        """The scores with one symbol changed, ``[S, B, classes]``."""
        return -edit_distance_counterfactuals(predictions, labels, classes, self.decoding).double()
