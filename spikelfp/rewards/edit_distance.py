"""Levenshtein distance of whole batches, of all sequences that differ in one symbol, and the reward made of it.

The distance of two sequences is the least number of insertions, deletions and substitutions between them. The dynamic
programme keeps a row over the positions of the target; one predicted symbol ``x`` turns a row into the next::

    row'[j] = min( row[j] + 1,  row[j−1] + 1(x ≠ target[j−1]),  row'[j−1] + 1 )

The last term, a run of insertions, is a cumulative minimum of ``row'[j] − j``, so no loop over the target is left.
Predictions are ``[S, B]`` and targets ``[B, L]``; −1 fills up shorter ones of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import ShapeError
from spikelfp.rewards.global_reward import Convergence
from spikelfp.rewards.metric import FromMetric, Reference

_FAR = 1 << 24
"""More than any distance; int32 holds it with room to add."""


@dataclass(frozen=True)
class Decoding:
    """Choice of the predicted symbols that are emitted.

    Attributes:
        collapse: emit one of equal neighbours, once.
        blank: symbol that is never emitted. It is dropped after collapsing, as in CTC: a blank between two equal
            symbols keeps both.
    """

    collapse: bool = False
    blank: int | None = None

    def emitted(self, symbol: Tensor, previous: Tensor) -> Tensor:
        """Whether ``symbol`` (−1 for none) is emitted after ``previous`` (−1 at the start)."""
        emitted = (symbol >= 0) & torch.ones_like(symbol == previous)
        if self.blank is not None:
            emitted &= symbol != self.blank
        if self.collapse:
            emitted &= symbol != previous
        return emitted

    def sequences(self, predictions: Tensor) -> list[list[int]]:
        """List the emitted symbols of each sample of predictions ``[S, B]``."""
        previous = torch.cat([torch.full_like(predictions[:1], -1), predictions[:-1]])
        keep = self.emitted(predictions, previous)
        return [symbols[mask].tolist() for symbols, mask in zip(predictions.T, keep.T, strict=True)]


def edit_distance(predictions: Tensor, targets: Tensor, decoding: Decoding | None = None) -> Tensor:
    """Compute the Levenshtein distance of each sample.

    Args:
        predictions: symbols ``[S, B]``.
        targets: symbols ``[B, L]``.
        decoding: choice of the emitted symbols; ``None``: all.

    Returns:
        int64 ``[B]``.
    """
    targets = targets.long()
    rows = _prefixes(predictions, targets, decoding or Decoding())
    return rows[-1].gather(-1, lengths(targets).unsqueeze(-1)).squeeze(-1).long()


def edit_distance_counterfactuals(
    predictions: Tensor, targets: Tensor, classes: int, decoding: Decoding | None = None
) -> Tensor:
    """Compute the distance with one predicted symbol changed, for every symbol and class.

    A change at ``s`` decides whether ``s`` and ``s+1`` are emitted, and nothing else. So each value comes from the row
    of the prefix before ``s``, advanced over those two symbols, and from the row of the suffix after them.

    Args:
        predictions: symbols ``[S, B]``.
        targets: symbols ``[B, L]``.
        classes: number of symbols, ``C``.
        decoding: choice of the emitted symbols; ``None``: all.

    Returns:
        int64 ``[S, B, C]``.
    """
    decoding, targets = decoding or Decoding(), targets.long()
    steps, batch = predictions.shape
    before = _prefixes(predictions, targets, decoding)  # [S+1, B, L+1]
    after = _suffixes(predictions, targets, decoding)  # [S+2, B, L+1]
    start = torch.full_like(predictions[:1], -1)
    previous = torch.cat([start, predictions[:-1]]).unsqueeze(-1)
    following = torch.cat([predictions[1:], start]).unsqueeze(-1).expand(steps, batch, classes)
    candidate = torch.arange(classes, device=predictions.device).expand(steps, batch, classes)
    is_last = torch.arange(steps, device=predictions.device).view(-1, 1, 1) == steps - 1
    targets = targets.unsqueeze(1)

    row = before[:-1].unsqueeze(2).expand(-1, -1, classes, -1)
    row = _advance(row, candidate, targets, decoding.emitted(candidate, previous))
    row = _advance(row, following, targets, decoding.emitted(following, candidate) & ~is_last)
    return (row + after[2:].unsqueeze(2)).amin(-1).long()


def lengths(targets: Tensor) -> Tensor:
    """Count the symbols of each target: ``[B]``."""
    return (targets >= 0).sum(-1)


def check_targets(name: str, outputs: Tensor, targets: Any, blank: int | None) -> Tensor:
    """Check targets, symbols ``[B, L]`` with −1 only at the end, and make them int64.

    Args:
        name: of the reward, for the error.
        outputs: ``[T, B, C]``.
        targets: integers of any kind.
        blank: symbol that no target may hold.

    Raises:
        ShapeError: for anything else.
    """
    if not isinstance(targets, Tensor):
        raise ShapeError(f"{name} takes targets as a tensor [B, L], got {type(targets).__name__}")
    classes = outputs.shape[-1]
    if targets.dim() != 2 or len(targets) != outputs.shape[-2] or targets.is_floating_point() or targets.is_complex():
        raise ShapeError(
            f"{name} takes targets [B, L], integers with -1 after the end, for outputs {tuple(outputs.shape)}; got "
            f"{targets.dtype} of shape {tuple(targets.shape)}"
        )
    targets = targets.long()
    wrong = (targets < -1) | (targets >= classes)
    if blank is not None:
        wrong |= targets == blank
    if wrong.any():
        b, j = wrong.nonzero()[0].tolist()
        own = "" if blank is None else f", without the blank {blank}"
        raise ShapeError(f"symbol {int(targets[b, j])} at {(b, j)} is not one of 0..{classes - 1}{own}")
    gaps = ((targets[:, :-1] < 0) & (targets[:, 1:] >= 0)).any(-1).nonzero()
    if len(gaps):
        raise ShapeError(f"target {int(gaps[0])} has a symbol after -1, which fills up the end")
    return targets


def _advance(row: Tensor, symbol: Tensor, targets: Tensor, emitted: Tensor) -> Tensor:
    """Rows after one more symbol where it is ``emitted``, and unchanged rows elsewhere: ``[…, L+1]``."""
    offset = torch.arange(row.shape[-1], dtype=row.dtype, device=row.device)
    substituted = row[..., :-1] + (symbol.unsqueeze(-1) != targets).to(row.dtype)
    best = torch.cat([row[..., :1] + 1, torch.minimum(row[..., 1:] + 1, substituted)], -1)
    return ((best - offset).cummin(-1).values + offset).where(emitted.unsqueeze(-1), row)


def _prefixes(predictions: Tensor, targets: Tensor, decoding: Decoding) -> Tensor:
    """Distances of every prefix of the predictions to every prefix of the targets, ``[S+1, B, L+1]``, int32."""
    length = targets.shape[-1] + 1
    row = torch.arange(length, dtype=torch.int32, device=targets.device).expand(len(targets), length)
    rows, previous = [row], torch.full_like(predictions[0], -1)
    for symbol in predictions:
        row = _advance(row, symbol, targets, decoding.emitted(symbol, previous))
        rows.append(row)
        previous = symbol
    return torch.stack(rows)


def _suffixes(predictions: Tensor, targets: Tensor, decoding: Decoding) -> Tensor:
    """Distances of every suffix to every suffix of the targets, ``[S+2, B, L+1]``; the last two rows are of nothing."""
    place = torch.arange(targets.shape[-1] + 1, dtype=torch.int32, device=targets.device)
    end = lengths(targets).unsqueeze(-1).to(torch.int32)
    row = (end - place).where(place <= end, torch.full_like(place, _FAR)).flip(-1)
    backwards = targets.flip(-1)
    rows, before = [row, row], torch.cat([torch.full_like(predictions[:1], -1), predictions[:-1]])
    for symbol, previous in zip(predictions.flip(0), before.flip(0), strict=True):
        row = _advance(row, symbol, backwards, decoding.emitted(symbol, previous))
        rows.append(row)
    return torch.stack(rows[::-1]).flip(-1)


class Levenshtein(FromMetric):
    """Reward from minus the edit distance (:class:`FromMetric`), for outputs ``[T, B, C]`` and targets ``[B, L]``.

    Targets are integers; −1 fills up shorter ones. They need no alignment with the steps. The network emits a symbol
    every ``window`` steps, so sequences have ``T / window`` symbols before ``collapse`` and ``blank`` take some away.

    The global reward of a symbol is minus the number of edits by which it is worse than the best one, everything else
    kept, and all of the best are rewarded. As long as hardly anything is emitted, the best are all symbols of the
    target, at every place; the inputs then decide which of them belongs where. Spiking outputs that stay silent emit
    class 0: make 0 the blank for those.

    Args:
        window: steps of a symbol.
        collapse: count equal neighbours as one symbol.
        blank: class that is never emitted; with ``collapse`` this is the decoding of CTC, where a blank between two
            equal symbols keeps both.
        reference: outcome that others are compared with: the ``best`` one, or the ``mean`` of the alternatives.
        convergence: factor that ends the reward, as in :func:`~spikelfp.rewards.initial_reward`; ``None`` chooses by
            the outputs.
        magnitude: multiply the reward by the magnitude of the output; ``None`` chooses by the outputs.

    Raises:
        UserError: for a window below 1.
        ShapeError: when it is called with targets of another form, a blank outside the classes, or ``T`` that is not a
            multiple of the window.
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
        """Decode the symbols of outputs.

        Args:
            outputs: ``[T, B, C]``.
            mask: of the steps that count, boolean ``[T, B]``.

        Returns:
            A list of symbols for each sample.
        """
        return self.decoding.sequences(self.predictions(outputs, mask))

    def distance(self, outputs: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the edit distance of each sample.

        Args:
            outputs: ``[T, B, C]``.
            targets: symbols ``[B, L]``.
            mask: of the steps that count, boolean ``[T, B]``.

        Returns:
            int64 ``[B]``.
        """
        return edit_distance(self.predictions(outputs, mask), self.target(outputs, targets), self.decoding)


class NegativeEditDistance:
    """Metric of :class:`Levenshtein`: minus the edit distance of each sample."""

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding

    def __call__(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Compute scores ``[B]`` of predictions ``[S, B]`` and targets ``[B, L]``."""
        return -edit_distance(predictions, labels, self.decoding).double()

    def counterfactuals(self, predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Compute the scores with one symbol changed, ``[S, B, classes]``."""
        return -edit_distance_counterfactuals(predictions, labels, classes, self.decoding).double()
