"""Table of delayed errors: what the outputs of each sample were off by when it was last seen.

F³ teaches hidden blocks with the error of the epoch before (Flügel et al. 2024, Algorithm 1). The table holds one row
for each *key*::

    sample    the number of the sample in the original data set: exact, N rows
    class     its class: an exponential average over the samples of a class, C rows
    hash      a hash of its inputs: an average over the samples of a bucket, a fixed number of rows

``class`` and ``hash`` are approximations for data whose samples have no numbers, such as streams. A row that has not
been written yet stands for the target, ``e⁰ = y*``. New errors wait until the update is made; then those of all workers
are written, so that every worker has the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spikelfp.data.loader import generator
from spikelfp.errors import UserError
from spikelfp.functional.sequence import is_constant
from spikelfp.methods.base import Batch
from spikelfp.registry import check_name
from spikelfp.scalars import as_number, as_whole

if TYPE_CHECKING:
    from spikelfp.training.parallel import World

MEMORIES = ("sample", "class", "hash")
"""Kinds of keys under which errors are kept."""

_LARGEST = 2**31
"""Rows of a table at most; a number of a sample beyond it is a mistake."""


class ErrorTable:
    """Table of the errors ``e`` ``[C]`` of the epoch before, by key.

    Args:
        memory: kind of key, one of :data:`MEMORIES`.
        rate: weight of a new error in the average of ``class`` and ``hash``, in (0, 1].
        buckets: number of rows of ``hash``.

    Raises:
        UserError: for a value out of range.
    """

    def __init__(self, memory: str = "sample", rate: float = 0.1, buckets: int = 65536) -> None:
        self.memory = check_name("memory of errors", memory, MEMORIES)
        weight, rows = as_number(rate), as_whole(buckets)
        if weight is None or not 0 < weight <= 1:
            raise UserError(f"the rate of an average lies in (0, 1], got {rate!r}")
        if rows is None or not 1 <= rows < _LARGEST:
            raise UserError(f"buckets is a whole number from 1 to {_LARGEST - 1}, got {buckets!r}")
        self.rate, self.buckets = 1.0 if memory == "sample" else weight, rows
        self.errors = torch.zeros(0, 0)
        self.seen = torch.zeros(0, dtype=torch.bool)
        self.targets = torch.zeros(0, dtype=torch.float64)
        self._waiting: dict[str, list[Tensor]] = {name: [] for name in ("keys", "errors", "shares", "targets")}
        self._known: tuple[Batch, Tensor, Tensor, Tensor] | None = None
        self._mixers = torch.zeros(0, dtype=torch.int64)
        self._samples = ""  # fingerprint of those that the errors are of

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.errors)

    def begin_training(self, samples: str, drawn: bool) -> None:
        """Refuse data with other samples than the ones whose errors are kept.

        Args:
            samples: fingerprint of the data set; empty where it has none.
            drawn: whether chance draws the inputs of a sample anew in every epoch.

        Raises:
            UserError: for other samples than before, and inputs that no hash would find again.
        """
        if self.memory == "hash" and drawn:
            raise UserError(
                'error_memory="hash" finds the error of a sample by its inputs, and chance draws these anew in every '
                "epoch (an encoding by rate, or an augmentation), so that no error would be found again: keep errors "
                'by "sample" or "class"'
            )
        if self.memory == "sample" and len(self) and self._samples and samples and samples != self._samples:
            raise UserError(
                "the errors of the epoch before are of other samples than these (their contents, labels or order "
                "differ), so that they would go to the wrong ones: train on the data of before, with a new method, or "
                'with averages, error_memory="class" or "hash"'
            )
        self._samples = samples

    def keys(self, batch: Batch) -> Tensor:
        """Find the rows of the samples of a batch, int64 ``[B]``.

        Raises:
            UserError: for samples without the number or the class that stands for them.
        """
        if self.memory == "sample":
            if batch.indices is None:
                raise UserError(
                    "F3 keeps the error of every sample, and a DataLoader does not tell which samples it hands out: "
                    'hand in the data set itself, or keep averages, error_memory="class" or "hash" (--error-memory)'
                )
            return batch.indices.to(batch.targets.device)
        if self.memory == "class":
            if batch.targets.dim() != 1 or batch.targets.is_floating_point():
                raise UserError(
                    f'error_memory="class" is for class numbers [B], got targets of {batch.targets.dtype} and shape '
                    f'{list(batch.targets.shape)}: say "hash", or "sample" with a data set'
                )
            return batch.targets.long()
        return self._hashed(batch.sequence)

    def of(self, batch: Batch, expected: Tensor) -> Tensor:
        """Return the errors ``[B, C]`` of the samples; where there is none yet, the target.

        Args:
            batch: the batch.
            expected: targets of the samples in the form of outputs, ``y*`` ``[B, C]``.

        Raises:
            UserError: for a sample whose target is not that of the sample of the same number before.
        """
        keys, told = self._key_and_target(batch, expected)
        self._fit(keys, expected)
        known = self.seen[keys]
        if self.memory == "sample":
            self._check_same(keys, known, told)
        return torch.where(known.unsqueeze(-1), self.errors[keys].to(expected), expected)

    def keep(self, batch: Batch, errors: Tensor, expected: Tensor) -> None:
        """Keep the errors ``[B, C]`` until :meth:`write`; those of several chunks of a sample add up.

        Args:
            batch: the batch.
            errors: of its outputs; of a chunk, its share.
            expected: targets of the samples in the form of outputs, ``y*`` ``[B, C]``.
        """
        keys, told = self._key_and_target(batch, expected)
        whole = batch.steps is None
        share = torch.ones(1, device=errors.device) if whole else batch.counted / torch.as_tensor(batch.steps)
        kept = {"keys": keys, "errors": errors, "shares": share.expand(len(errors)), "targets": told}
        for name, value in kept.items():
            self._waiting[name].append(value.detach().cpu())

    def forget(self) -> None:
        """Drop the errors that wait, for instance after an update was refused."""
        self._known = None
        for values in self._waiting.values():
            values.clear()

    def write(self, world: World) -> None:
        """Write the errors that wait on all workers; a key with several errors gets their mean.

        Args:
            world: the workers, all of which call it.
        """
        own = {name: torch.cat(values) for name, values in self._waiting.items() if values}
        self.forget()
        if own and self.memory == "sample" and world.size == 1 and len(set(own["keys"].tolist())) == len(own["keys"]):
            self._put(own["keys"], own["errors"] / own["shares"].to(own["errors"]).unsqueeze(-1), own["targets"])
            return
        found = [each for each in world.gather(own) if each]
        if not found:
            return
        keys, errors, shares, targets = (torch.cat([each[name] for each in found]) for name in self._waiting)
        rows, place = keys.unique(return_inverse=True)
        sums = torch.zeros(len(rows), errors.shape[1], dtype=errors.dtype).index_add_(0, place, errors)
        count = torch.zeros(len(rows), dtype=errors.dtype).index_add_(0, place, shares.to(errors))
        self._grow(int(rows.max()) + 1, errors.shape[1], self.errors)
        rows, new = rows.to(self.errors.device), (sums / count.unsqueeze(-1)).to(self.errors)
        rate = torch.where(self.seen[rows], self.rate, 1.0).to(new).unsqueeze(-1)
        self.errors[rows] = torch.lerp(self.errors[rows], new, rate)
        self.seen[rows] = True
        self.targets[keys] = targets

    def _put(self, keys: Tensor, errors: Tensor, targets: Tensor) -> None:
        """Write one error for each of some samples, in place of those before."""
        self._grow(int(keys.max()) + 1 if len(keys) else 0, errors.shape[1], self.errors)
        rows = keys.to(self.errors.device)
        self.errors[rows] = errors.to(self.errors)
        self.seen[rows] = True
        self.targets[keys] = targets

    def state_dict(self) -> dict[str, Tensor]:
        """Copy the table."""
        return {name: getattr(self, name).clone() for name in ("errors", "seen", "targets")}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | None = None) -> None:
        """Load a table that :meth:`state_dict` returned.

        Raises:
            UserError: for anything else.
        """
        kinds = {"errors": torch.float32, "seen": torch.bool, "targets": torch.float64}
        for name, kind in kinds.items():
            value = state.get(name)
            if not isinstance(value, Tensor) or (name != "errors" and value.dtype != kind):
                raise UserError(f"the table of errors has no {name}")
        errors, seen, targets = (state[name] for name in kinds)
        if (
            errors.dim() != 2
            or not errors.is_floating_point()
            or seen.shape != errors.shape[:1]
            or targets.shape != seen.shape
        ):
            raise UserError(f"the table of errors does not fit together: {list(errors.shape)}, {list(seen.shape)}")
        self.errors, self.seen = errors.to(device, copy=True), seen.to(device, copy=True)
        self.targets = targets.to("cpu", copy=True)
        self.forget()

    def _key_and_target(self, batch: Batch, expected: Tensor) -> tuple[Tensor, Tensor]:
        """Find the rows of a batch and the numbers that stand for its targets, once for an update."""
        known = self._known
        if known is None or known[0] is not batch or known[1] is not expected:
            known = self._known = batch, expected, self.keys(batch), _told(expected)
        return known[2:]

    def _fit(self, keys: Tensor, expected: Tensor) -> None:
        """Give the table a row for every key.

        Raises:
            UserError: for errors of another number of outputs, and numbers that are none of samples.
        """
        if len(self.errors) and self.errors.shape[1] != expected.shape[1]:
            raise UserError(
                f"the table of errors is of {self.errors.shape[1]} outputs, and the network has {expected.shape[1]}"
            )
        low, high = (int(end) for end in torch.aminmax(keys)) if len(keys) else (0, -1)
        rows = {"sample": high + 1, "class": expected.shape[1]}.get(self.memory, self.buckets)
        if low < 0 or rows >= _LARGEST:
            raise UserError(f"the samples have numbers from {low} to {high}: they count from 0")
        self._grow(rows, expected.shape[1], expected)

    def _grow(self, rows: int, outputs: int, like: Tensor) -> None:
        have = len(self.errors)
        if rows <= have:
            return
        errors, seen, targets = self.errors, self.seen, self.targets
        self.errors = torch.zeros(rows, outputs, dtype=torch.float32, device=like.device)
        self.seen = torch.zeros(rows, dtype=torch.bool, device=like.device)
        self.targets = torch.zeros(rows, dtype=torch.float64)
        if have:
            self.errors[:have], self.seen[:have], self.targets[:have] = errors, seen, targets

    def _check_same(self, keys: Tensor, known: Tensor, told: Tensor) -> None:
        """Refuse a sample whose target has changed since it was last seen."""
        before, told = self.targets[keys.cpu()], told.cpu()
        changed = known.cpu() & (before != told)
        if changed.any():
            number = int(keys[int(changed.nonzero()[0])])
            raise UserError(
                f"sample {number} had another target when it was last seen: the numbers of the samples stand for other "
                "samples now, so that errors of the epoch before would go to the wrong ones. Train on a data set whose "
                'samples keep their places, or keep averages, error_memory="class" or "hash"'
            )

    def _hashed(self, sequence: Tensor) -> Tensor:
        """Hash the inputs ``[T, B, …]`` of each sample to a bucket."""
        x = sequence.to_dense() if sequence.is_sparse else sequence
        x = x[:1] if is_constant(x) else x
        flat = x.detach().transpose(0, 1).flatten(1).float().cpu().contiguous()
        if len(self._mixers) < flat.shape[1]:
            draw = torch.randint(-(2**62), 2**62, (flat.shape[1],), generator=generator("hash of samples"))
            self._mixers = draw * 2 + 1
        mixed = (flat.view(torch.int32).long() * self._mixers[: flat.shape[1]]).sum(1)  # wraps around, as it should
        mixed = (mixed ^ (mixed >> 29)) * 0x5851F42D4C957F2D
        return ((mixed >> 32) % self.buckets).to(sequence.device)


def _told(expected: Tensor) -> Tensor:
    """Condense targets ``[B, C]`` to a number each, by which a change is noticed: float64 ``[B]``."""
    places = torch.arange(1, expected.shape[1] + 1, dtype=torch.float64, device=expected.device)
    return (expected.double() * places.sqrt()).sum(1)
