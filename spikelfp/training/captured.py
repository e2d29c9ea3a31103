"""Training step as a CUDA graph: recorded once, then replayed with new inputs without work for the CPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from spikelfp import nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import is_constant
from spikelfp.methods import Batch, Method
from spikelfp.nn import graph
from spikelfp.nn.layer import Quantizable
from spikelfp.rules import lending
from spikelfp.tasks import Classification, Task
from spikelfp.training.arguments import prepare
from spikelfp.training.update import BatchResult

WARM_UP = 3
"""Number of steps before the recording; kernels are compiled in them, and the optimiser makes its state."""


class BatchLayout(NamedTuple):
    """Properties of a batch that must not change between steps: a graph has its addresses and sizes built in."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    constant: bool
    labels: tuple[int, ...]
    labels_dtype: torch.dtype

    @staticmethod
    def of(sequence: Tensor, labels: Tensor) -> BatchLayout:
        """Describe a batch."""
        return BatchLayout(
            tuple(sequence.shape), sequence.dtype, is_constant(sequence), tuple(labels.shape), labels.dtype
        )

    def check(self, other: BatchLayout) -> None:
        """Refuse another batch.

        Raises:
            ShapeError: naming the first property that differs.
        """
        for name, own, there in zip(self._fields, self, other, strict=True):
            if own != there:
                raise ShapeError(
                    f"a captured step was recorded with {name.replace('_', ' of ')} {own}, now it is {there}: drop a "
                    "last batch that is not full, or make another CapturedStep for it"
                )


class CapturedStep:
    """Forward pass, reward, backward pass and optimiser step of batches of one shape, as one CUDA graph.

    ``step(sequence, labels)`` with ``sequence`` ``[T, B, …]`` and the classes ``labels`` ``[B]``, both on the GPU, is
    one update; it returns the results of the batch (scalar tensors in new memory). The first :data:`WARM_UP` calls run
    as usual, the next one records, and every call after that only copies its inputs and replays. All of them train: no
    batch is spent on recording. Nothing waits for the GPU. Gradients stay in ``p.grad`` until the next step.

    Args:
        net: the network, on one GPU, in the mode (train, eval) that it is to stay in. Layers whose β learns are
            refused, since the host reads it.
        method: the method; a warm-up counts as its later method.
        optimizer: an optimiser made with ``capturable=True``, if it has that option. A learning rate that is a number
            stays as it was at the recording, so a schedule needs one that is a tensor (``lr=torch.tensor(…)``).
        task: task that judges the outputs; ``None``: classification.

    Raises:
        UserError: for a network or inputs on the CPU, a recomputed or quantised network, a β that learns, an optimiser
            that cannot be captured, and a learning rate that has changed.
        ShapeError: for inputs of another shape, dtype or kind than the first ones.
    """

    def __init__(self, net: Module, method: Method, optimizer: Optimizer, task: Task | None = None) -> None:
        for layer in net.modules():
            if isinstance(layer, nn.Recomputed):
                raise UserError("a recomputed network makes parts of its graph in the backward pass: hand in layer.net")
            if isinstance(layer, Quantizable) and layer.grid is not None:
                raise UserError("the grids of quantised weights are chosen anew between steps, which is not captured")
        check_device("the network", *net.parameters())
        if graph.decays(net):
            raise UserError("a β that learns is read by the host at every step, which a CUDA graph cannot do")
        if not all(group.get("capturable", True) for group in optimizer.param_groups):
            raise UserError(f"make {type(optimizer).__name__} with capturable=True, so that its steps can be captured")
        self.net, self.method, self.optimizer, self.task = net, method, optimizer, task
        prepare(method, net, 0, next(net.parameters()).device)
        self._layout: BatchLayout | None = None
        self._steps = 0
        self._stream = torch.cuda.Stream(next(net.parameters()).device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._rates: list[Any] = []

    def __call__(self, sequence: Tensor, labels: Tensor) -> BatchResult:
        check_device("the input", sequence, labels)
        layout = BatchLayout.of(sequence, labels)
        self._layout = self._layout or layout
        self._layout.check(layout)
        self._steps += 1
        if self._steps <= WARM_UP:
            return self._beside(sequence, labels)
        if self._graph is None:
            self._record(sequence, labels)
        elif self._rates != fixed_rates(self.optimizer):
            raise UserError(
                "the learning rate has changed since the step was captured, which keeps the number it saw: make the "
                "optimiser with lr=torch.tensor(…, device='cuda')"
            )
        assert self._graph is not None
        self._shown.copy_(sequence[0] if layout.constant else sequence)
        self._labels.copy_(labels)
        self._graph.replay()
        seen = self._seen
        own = [{name: value.clone() for name, value in each.items()} for each in (seen.watched, seen.score)]
        return BatchResult(seen.samples, own[0], own[1])

    def _beside(self, sequence: Tensor, labels: Tensor) -> BatchResult:
        """Make a step as usual, on the stream of the recording."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self.optimizer.zero_grad(set_to_none=True)
            seen = train_once(self.net, self.method, self.optimizer, sequence, labels, self.task)
        torch.cuda.current_stream().wait_stream(self._stream)
        return seen

    def _record(self, sequence: Tensor, labels: Tensor) -> None:
        """Record a step in its own memory; nothing is computed."""
        constant = is_constant(sequence)
        self._shown, self._labels = (sequence[0] if constant else sequence).clone(), labels.clone()
        static = nn.constant(self._shown, len(sequence)) if constant else self._shown
        self._rates = fixed_rates(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)  # the graph has gradients of its own
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as one that pins the memory of the next batch, may go on meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._seen = train_once(self.net, self.method, self.optimizer, static, self._labels, self.task)
        self._graph = graph


def train_once(
    net: Module,
    method: Method,
    optimizer: Optimizer,
    sequence: Tensor,
    labels: Tensor,
    task: Task | None = None,
) -> BatchResult:
    """Make one update, added to the gradients that are there.

    Args:
        net: the network.
        method: the method.
        optimizer: the optimiser.
        sequence: ``[T, B, …]``.
        labels: ``[B, …]``.
        task: task that judges the outputs; ``None``: classification.

    Returns:
        Results of the batch.
    """
    share = len(labels) if method.reduction == "sum" else 1.0
    with lending(net, method.rule):
        outputs, watched = method.learn(net, Batch(sequence, labels, share=share))
    optimizer.step()
    judge = (task or Classification()).judge(labels, None, *outputs.shape[:2])
    judge.add(outputs.detach(), 0)
    return BatchResult(len(labels), {name: value.detach() for name, value in watched.items()}, judge.sums())


def fixed_rates(optimizer: Optimizer) -> list[Any]:
    """List the learning rates that are numbers, which a recording keeps."""
    return [group["lr"] for group in optimizer.param_groups if not isinstance(group["lr"], Tensor)]


def check_device(what: str, *tensors: Tensor) -> None:
    """Refuse tensors that are not on CUDA, by :class:`~spikelfp.errors.UserError`; ``what`` names them."""
    for tensor in tensors:
        if not tensor.is_cuda:
            raise UserError(f"a captured step runs on CUDA, and {what} is on {tensor.device}: move it with .to('cuda')")
