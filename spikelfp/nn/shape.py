"""Layers that change the shape of a sample: flattening, pooling, dropout."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spikelfp.checks import whole
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import compact, is_constant, is_sparse, over_time, repeat, replaced
from spikelfp.kernels.choice import can_run, chosen_events
from spikelfp.kernels.events.sparse import merge, sparse_average
from spikelfp.nn.layer import Layer, check_dense, check_kind, check_tensor, check_windows, sparse_input
from spikelfp.registry import check_name
from spikelfp.scalars import as_python


class MaxPool2d(torch.nn.MaxPool2d, Layer):
    """Max-pooling of every step, ``[T, B, C, H, W]``: sends each message to the input that won its window.

    Right after a convolution in a :class:`~spikelfp.nn.Sequential` both run as one operation, with the same results.
    """

    passes_scale = True
    passes_spikes = True
    arguments = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        self._expect(x, 5, "[T, B, channels, height, width]")
        if self.return_indices:
            raise UserError("MaxPool2d returns its outputs alone here: leave out return_indices")
        if not self.ceil_mode:
            check_windows(self, x, self.kernel_size, self.padding, self.dilation)
        return over_time(super().forward, x)

    @property
    def side(self) -> int | None:
        """Side of the windows where they are squares that touch without padding; else ``None``."""
        sizes, strides = (v if isinstance(v, tuple) else (v, v) for v in (self.kernel_size, self.stride))
        plain = self.padding in (0, (0, 0)) and self.dilation in (1, (1, 1))
        if not plain or self.ceil_mode or self.return_indices or {*sizes, *strides} != {sizes[0]}:
            return None
        return int(sizes[0])


class AvgPool2d(torch.nn.AvgPool2d, Layer):
    """Average-pooling of every step, ``[T, B, C, H, W]``: reward in proportion to contribution.

    A sparse sequence (:mod:`spikelfp.functional.sequence`) is pooled event by event, by windows that touch, and stays
    sparse; other windows raise :class:`~spikelfp.errors.ShapeError`. Where event-driven kernels do not run (as for
    :class:`~spikelfp.nn.Linear`) it is made dense.
    """

    passes_scale = True
    arguments = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")

    def forward(self, x: Tensor) -> Tensor:
        check_kind(self, x)
        self._expect(x, 5, "[T, B, channels, height, width]")
        if not self.ceil_mode:
            check_windows(self, x, self.kernel_size, self.padding)
        return self._of_events(x) if is_sparse(x) else over_time(super().forward, x)

    def _of_events(self, x: Tensor) -> Tensor:
        x = sparse_input(self, x)
        sizes, strides = (v if isinstance(v, tuple) else (v, v) for v in (self.kernel_size, self.stride))
        if sizes != strides or self.padding not in (0, (0, 0)) or self.ceil_mode:
            raise ShapeError(
                "AvgPool2d pools sparse sequences by windows that touch (stride the kernel size, no padding, no "
                f"ceil_mode), this one has {self.extra_repr()}; hand it x.to_dense()"
            )
        if not can_run(x, x) or chosen_events() == "never":
            return over_time(super().forward, x.to_dense())
        return sparse_average(x, sizes, self.divisor_override or sizes[0] * sizes[1])


class AdaptiveAvgPool2d(torch.nn.AdaptiveAvgPool2d, Layer):
    """Average-pooling of every step to a given size, ``[T, B, C, H, W]``: reward in proportion to contribution."""

    passes_scale = True
    arguments = ("output_size",)

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        self._expect(x, 5, "[T, B, channels, height, width]")
        return over_time(super().forward, x)


class Flatten(Layer):
    """``[T, B, …]`` to ``[T, B, features]``; a sparse sequence stays sparse."""

    passes_scale = True
    passes_spikes = True
    arguments = ()

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(self, x)
        if is_sparse(x):
            if x.dim() < 3:
                self._expect(x, 3, "[T, B, …]")
            return merge(sparse_input(self, x), 2, x.dim() - 1)
        if x.dim() < 3:
            self._expect(x, 3, "[T, B, …]")
        return over_time(lambda step: step.flatten(1), x)


DROPS_OVER = ("sequence", "step")
"""Times for which dropout draws a mask: once for a sequence, or anew at every step."""
DROPS = ("elements", "channels")
"""Units that dropout silences: single elements, or whole channels of images."""


class Dropout(Layer):
    """Silences each element with probability ``p`` in training, and scales up the others (Hinton et al. 2012)::

        y[t] = x[t] · k / (1 − p)             k: 1 with probability 1 − p, else 0; one for each sample and element
        message to x[t] = k / (1 − p) · (message to y[t])

    With ``over="sequence"`` the mask ``k`` of a sample is drawn once and kept for all of its steps: a neuron is there
    or it is not (Gal & Ghahramani 2016, arXiv:1512.05287; spikingjelly's ``layer.Dropout``). It is the state of the
    layer, so that chunks and parts that are recomputed go on with it. With ``over="step"`` it is drawn anew at every
    step, as where torch's ``Dropout`` stands in a loop over the steps (snnTorch): a neuron loses some of its spikes.

    In evaluation inputs pass unchanged, and an exported network is without it. A sparse sequence stays sparse; with
    ``over="sequence"`` it loses the same elements as a dense one.

    Args:
        p: probability, from 0 to 1.
        over: whether a mask is drawn for a ``sequence``, or for every ``step``.
        of: whether ``elements`` are silenced, or whole ``channels`` of ``[T, B, C, H, W]`` (torch's ``Dropout2d``),
            whose neighbouring pixels say nearly the same.

    Raises:
        UserError: for a ``p`` that is no probability.
        UnknownNameError: for another ``over`` or ``of``.
        ShapeError: for channels of an input that has no axis after them, and for a state of another shape.
    """

    passes_scale = True
    passes_spikes = True
    arguments = ("p",)
    only_draws = True

    def __init__(self, p: float = 0.5, over: str = "sequence", of: str = "elements") -> None:
        super().__init__()
        self.p, self.over, self.of = p, over, of

    @property
    def p(self) -> float:
        """Probability, from 0 to 1; another may be set."""
        return self._p

    @p.setter
    def p(self, p: float) -> None:
        number = as_python(p)
        if number is None or not 0 <= number <= 1:
            raise UserError(f"Dropout silences elements with a probability p from 0 to 1, got {p!r}")
        self._p = number

    @property
    def over(self) -> str:
        """Time for which a mask is kept, ``sequence`` or ``step``; another may be set."""
        return self._over

    @over.setter
    def over(self, over: str) -> None:
        self._over = check_name("over", over, DROPS_OVER)

    @property
    def of(self) -> str:
        """Parts that are silenced at a time, ``elements`` or ``channels``; others may be set."""
        return self._of

    @of.setter
    def of(self, of: str) -> None:
        self._of = check_name("of", of, DROPS)

    @property
    def draws_once(self) -> bool:
        """Whether a mask is drawn once for a sequence, so that it is to be kept from part to part."""
        return self.p > 0 and self.over == "sequence"

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)[0]

    def run(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the output, and the mask to go on with.

        Args:
            x: input ``[T, B, …]``, dense or sparse.
            state: mask of the sequence, boolean ``[B, …]``, as ``run`` returned it; ``None`` to draw one.
        """
        if not self.training or self.p == 0:
            return x, None
        check_tensor(self, x)
        if is_sparse(x):
            x = sparse_input(self, x)
        else:
            check_kind(self, x)
        if x.dim() < 2:
            self._expect(x, 2, "[T, B, …]")
        shape = list(x.shape[1:])
        if self.of == "channels":
            if x.dim() < 4:
                raise ShapeError(
                    f"Dropout of channels takes [T, B, channels, …, …], got {tuple(x.shape)}: choose of='elements'"
                )
            shape[2:] = [1] * (len(shape) - 2)
        if self.over == "step":
            return self._at_every_step(x, shape), None
        if state is None:
            state = self._drawn(shape, x)
        elif list(state.shape) != shape or state.dtype != torch.bool:
            raise ShapeError(
                f"Dropout goes on with a mask of booleans {shape}, as run returned it, got {state.dtype} of shape "
                f"{list(state.shape)}"
            )
        if x.is_sparse:
            return self._of_events(x, self._factor(state, x)), state
        factor = self._factor(state, x)
        return (repeat(x[0] * factor, len(x)) if is_constant(x) else x * factor), state

    def _at_every_step(self, x: Tensor, shape: list[int]) -> Tensor:
        if x.is_sparse and self.of == "elements":  # each event has a mask of its own
            values = x.values()
            return compact(replaced(x, values=values * self._factor(self._drawn([len(values)], x), x)))
        factor = self._factor(self._drawn([len(x), *shape], x), x)
        return self._of_events(x, factor) if x.is_sparse else x * factor

    def _drawn(self, shape: list[int], x: Tensor) -> Tensor:
        """Draw a mask, true for what stays."""
        return F.dropout(torch.ones(shape, dtype=x.dtype, device=x.device), self.p) != 0

    def _factor(self, kept: Tensor, x: Tensor) -> Tensor:
        return kept.to(x.dtype) if self.p == 1 else kept.to(x.dtype).div_(1 - self.p)

    def _of_events(self, x: Tensor, factor: Tensor) -> Tensor:
        """Multiply a sparse sequence with factors ``[B, …]``, or ``[T, B, …]``, of its shape or 1."""
        places = x.indices()[x.dim() - factor.dim() :]
        at = tuple(place if size > 1 else place * 0 for place, size in zip(places, factor.shape, strict=True))
        return compact(replaced(x, values=x.values() * factor[at]))

    def extra_repr(self) -> str:
        more = "" if self.over == "sequence" else f", over={self.over!r}"
        return f"p={self.p}{more}" + ("" if self.of == "elements" else f", of={self.of!r}")


class FlattenAxes(Layer):
    """Joins axes ``start`` to ``end`` of every step into one; time and batch are not counted.

    ``FlattenAxes(1, 2)`` makes ``[T, B, C, H·W]`` of ``[T, B, C, H, W]``; :class:`~spikelfp.nn.Flatten` joins all axes.
    A sparse sequence stays sparse.

    Args:
        start: first axis to join, 0 for the one after the batch.
        end: last axis to join.

    Raises:
        UserError: for negative axes or ``end < start``.
    """

    passes_scale = True
    passes_spikes = True
    arguments = ("start", "end")

    def __init__(self, start: int, end: int) -> None:
        super().__init__()
        start, end = whole("start", start, None), whole("end", end, None)
        if not 0 <= start <= end:
            raise UserError(f"axes to flatten run from 0 upwards, got {start} to {end}")
        self.start, self.end = start, end

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(self, x)
        if x.dim() - 2 <= self.end:
            raise ShapeError(f"FlattenAxes({self.start}, {self.end}) does not fit a sequence of shape {tuple(x.shape)}")
        if is_sparse(x):
            return merge(sparse_input(self, x), self.start + 2, self.end + 2)
        return over_time(lambda step: step.flatten(self.start + 1, self.end + 1), x)

    def extra_repr(self) -> str:
        return f"{self.start}, {self.end}"
