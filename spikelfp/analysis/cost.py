r"""Multiply-adds and memory of training a network, by backpropagation and block by block (F³, section 3.4).

Flügel et al. 2024 count for a network of ``K`` dense layers, ``w`` wide, with ``C`` outputs::

    δh by backpropagation   (K − 2) w² + C w     multiply-adds per sample
    δh by direct feedback   C (K − 1) w

Here the same is counted for any chain of layers, cut into blocks (:func:`spikelfp.methods.blocks.cut`). Errors inside
of a block flow back by the chain rule in both ways; between blocks direct feedback ``Bᵀe`` takes the place of ``Wᵀδz``.

**Memory.** Backpropagation keeps activations of all blocks until the backward pass, ``Σ n_i b`` in that network with
batches of ``b``. F³ keeps those of one block at a time, and has feedback weights ``Σ n_i C`` and errors ``C|X|`` of
``|X|`` samples. So it saves ``(b − C) Σ n_i − C|X|`` elements; the paper prints this with the opposite sign. With one
hidden layer of 500 on MNIST and ``b`` = 50 this is −580,000: F³ needs more. It needs less from 31 hidden layers on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils._pytree import tree_leaves

from spikelfp import checks, nn
from spikelfp.analysis.memory import storages
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import is_constant
from spikelfp.methods.blocks import Segment, cut
from spikelfp.nn import graph
from spikelfp.nn.recompute import Recomputed
from spikelfp.rules import Composite, Gradient, Rule, lending

ELEMENT = 4
"""Bytes of an element, a number of 32 bits."""


@dataclass(frozen=True)
class Products:
    """Multiply-adds of one layer for all steps and samples that went through it.

    Attributes:
        forward: of its outputs.
        inside: of errors of values between its own weights, which its updates need.
        back: of the errors of its inputs, where weights before it need them.
        update: of the updates of its weights.
    """

    forward: int = 0
    inside: int = 0
    back: int = 0
    update: int = 0


@singledispatch
def products(layer: Module, given: Tensor, out: Tensor) -> Products:
    """Count the multiply-adds of a layer: those of its products with weights, and of products of two signals.

    Sums, activations and what neurons do in themselves count nothing. For layers of one's own with products inside,
    register how many there are: ``@products.register`` above a function with the same arguments.

    Args:
        layer: the layer.
        given: its inputs, ``[T, B, …]``; constant sequences have one step.
        out: its outputs, likewise.

    Raises:
        UserError: for a layer with a weight matrix that is not known.
    """
    known = isinstance(layer, nn.Layer) and (graph.is_neuron(layer) or isinstance(layer, _ELEMENT_WISE))
    if not known and any(p.dim() > 1 for p in layer.parameters(recurse=False)):
        raise UserError(
            f"the multiply-adds of {type(layer).__name__} are not known: tell them by a function of (layer, given, "
            "out) that returns Products, registered with @spikelfp.analysis.products.register"
        )
    recurrent = getattr(layer, "recurrent", None)
    if isinstance(recurrent, Module):
        own = products.dispatch(graph.twin_of(recurrent) or type(recurrent))(recurrent, out, out)
        return Products(own.forward, own.back + own.inside, 0, own.update)
    return Products()


_ELEMENT_WISE = (nn.PositionEmbedding, nn.LayerNorm, nn.Scale)
"""Layers whose weights have several axes, and only scale values or are added to them."""


@products.register
def _(layer: nn.Linear, given: Tensor, out: Tensor) -> Products:
    count = out.numel() * layer.in_features
    return Products(count, 0, count, count)


@products.register
def _(layer: nn.Conv2d, given: Tensor, out: Tensor) -> Products:
    count = out.numel() * layer.weight[0].numel()
    return Products(count, 0, count, count)


@products.register(nn.SelfAttention)
@products.register(nn.SpikingSelfAttention)
def _(layer: Module, given: Tensor, out: Tensor) -> Products:
    """Four dense layers, three of them on the input; ``Q Kᵀ`` and ``A V`` with two errors each."""
    tokens, dim = given.numel() // given.shape[-1], given.shape[-1]
    inner = layer.out.in_features if isinstance(layer, nn.SelfAttention) else dim
    dense, mixed = tokens * dim * inner, 2 * tokens * given.shape[2] * inner
    return Products(4 * dense + mixed, dense + 2 * mixed, 3 * dense, 4 * dense)


@dataclass(frozen=True)
class BlockCost:
    """Cost of a block: multiply-adds for one sample with all its steps, and elements for a batch.

    Attributes:
        name: name of its last layer.
        width: its outputs in one step, ``n_i``.
        weights: its weights.
        forward: multiply-adds of its outputs.
        back: multiply-adds of errors by backpropagation, of its inputs and between its layers.
        feedback: multiply-adds of errors by direct feedback, of its outputs (``C n_i``) and between its layers.
        update: multiply-adds of the updates of its weights.
        kept: elements that this block adds to what backpropagation keeps until the backward pass.
        held: elements that it holds where it learns by itself, its input among them.
    """

    name: str
    width: int
    weights: int
    forward: int
    back: int
    feedback: int
    update: int
    kept: int
    held: int


@dataclass(frozen=True, repr=False)
class Cost:
    """Cost of training a network: by backpropagation, and block by block with direct feedback.

    Attributes:
        blocks: cost of each block; the last one holds the output layer.
        batch: samples of a batch, ``b``.
        steps: steps of a sequence, ``T``.
        outputs: outputs of the network, ``C``.
        samples: samples of the table of errors, ``|X|``; 0 for methods without one.
    """

    blocks: tuple[BlockCost, ...]
    batch: int
    steps: int
    outputs: int
    samples: int

    @property
    def forward(self) -> int:
        """Multiply-adds of the forward pass of a sample."""
        return sum(block.forward for block in self.blocks)

    @property
    def back(self) -> int:
        """Multiply-adds of all errors of a sample by backpropagation: ``(K − 2) w² + C w``."""
        return sum(block.back for block in self.blocks)

    @property
    def feedback(self) -> int:
        """Multiply-adds of all errors of a sample by direct feedback: ``C (K − 1) w``, and those inside of blocks."""
        return sum(block.feedback for block in self.blocks)

    @property
    def update(self) -> int:
        """Multiply-adds of the updates of all weights for a sample."""
        return sum(block.update for block in self.blocks)

    @property
    def kept(self) -> int:
        """Elements that backpropagation keeps until the backward pass: ``Σ n_i b``."""
        return sum(block.kept for block in self.blocks)

    @property
    def held(self) -> int:
        """Elements that are held at most at a time where each block learns by itself."""
        return max(block.held for block in self.blocks)

    @property
    def feedback_weights(self) -> int:
        """Elements of the feedback weights of all hidden blocks, ``C Σ n_i``."""
        return self.outputs * sum(block.width for block in self.blocks[:-1])

    @property
    def error_table(self) -> int:
        """Elements of the table of errors, ``C |X|``."""
        return self.outputs * self.samples

    @property
    def saved(self) -> int:
        """Elements that F³ saves by the count of section 3.4, ``(b − C) Σ n_i − C|X|``; negative if it needs more."""
        return self.kept - self.feedback_weights - self.error_table

    @property
    def saved_at_peak(self) -> int:
        """Elements that F³ saves when those that one block holds while it learns are counted too."""
        return self.saved - self.held

    def __repr__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("block", "width", "weights", "forward", "δh BP", "δh direct", "updates", "kept", "held")
        ]
        for block in self.blocks:
            counts = (block.width, block.weights, block.forward, block.back, block.feedback, block.update)
            rows.append((block.name or "(all)", *(f"{count:,}" for count in (*counts, block.kept, block.held))))
        weights = sum(block.weights for block in self.blocks)
        total = (weights, self.forward, self.back, self.feedback, self.update, self.kept, self.held)
        rows.append(("together", "", *(f"{count:,}" for count in total)))
        wide = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        lines = [
            "  ".join(text.ljust(wide[0]) if not place else text.rjust(wide[place]) for place, text in enumerate(row))
            for row in rows
        ]
        return "\n".join(
            [
                f"Multiply-adds of a sample ({self.steps} steps), 32-bit elements of a batch of {self.batch}",
                *lines,
                f"F³ needs {self.feedback_weights:,} feedback weights, {self.error_table:,} errors "
                f"({self.samples:,} samples), {self.held:,} activations at a time",
                f"F³ saves {self.saved:,} elements; {self.saved_at_peak:,} with the activations of one block",
            ]
        )


def cost(net: Module, x: Tensor, *, samples: int = 0, rule: Rule | Composite | None = None) -> Cost:
    """Count what it costs to train a network on batches such as ``x``.

    Multiply-adds are those of one product per layer, as with the chain rule and LFP-ε. Products with spikes count as
    dense ones. A sequence that is the same at every step is multiplied once, and counts once. Memory is what autograd
    keeps of a forward pass of ``x``, without the weights, ``x`` itself and the loss; kernels that store events keep
    less for sparser spikes.

    Args:
        net: a chain of layers, as :func:`spikelfp.methods.blocks.cut` cuts it. It is left as it was.
        x: a batch of inputs, ``[T, B, …]``.
        samples: number of training samples ``|X|`` in the table of errors; 0 for methods without one, such as DFA.
        rule: rule of the layers that have none of their own, on which the memory depends; ``None`` for
            :class:`~spikelfp.rules.Gradient` where nothing spikes, else LFP-ε.

    Raises:
        ShapeError: for inputs without samples, and outputs other than ``[T, B, C]``.
        UserError: for a network that cannot be cut, a negative ``samples``, and a layer or module that does not tell
            its multiply-adds (:func:`products`).
    """
    if not isinstance(x, Tensor):
        raise UserError(f"a batch is a tensor [T, B, …], got {type(x).__name__}: torch.as_tensor makes one")
    if x.dim() < 2 or not len(x) or not x.shape[1]:
        raise ShapeError(f"the batch is [T, B, …] with a step and a sample at least, got shape {list(x.shape)}")
    samples = checks.whole("samples", samples)
    net = copy.deepcopy(checks.network(net))
    segments = cut(net)
    if rule is None:
        spikes = any(graph.has_trait(layer, "fires") for layer in graph.leaves(net).values())
        rule = None if spikes else Gradient()
    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad(), _lent(net, rule):
        for segment in segments:
            for layer in segment.layers:
                _check_known(layer, segment.name)
        whole, apart = _Counts(net, x, segments), _Counts(net, x, segments, apart=True)
        for counts in (whole, apart):
            counts.count_products()
            counts.count_saved()
    shape = whole.outputs[-1]
    if len(shape) != 3:
        raise ShapeError(f"the network returns {list(shape)}, and errors are those of outputs [T, B, C]")
    of, outputs = x.shape[1], shape[-1]
    found = []
    for place, segment in enumerate(segments):
        own, inside = whole.products[place], apart.products[place]
        width = torch.Size(whole.outputs[place][2:]).numel()
        found.append(
            BlockCost(
                name=segment.name,
                width=width,
                weights=sum(p.numel() for p in segment.parameters()),
                forward=own.forward // of,
                back=(own.inside + own.back) // of,
                feedback=(inside.inside + inside.back) // of + (width * outputs if place < len(segments) - 1 else 0),
                update=own.update // of,
                kept=whole.saved[place],
                held=apart.saved[place],
            )
        )
    return Cost(tuple(found), of, len(x), outputs, samples)


@contextmanager
def _lent(net: Module, rule: Rule | Composite | None) -> Iterator[None]:
    if rule is None:
        yield
        return
    with lending(net, rule):
        yield


def _check_known(module: Module, block: str) -> None:
    """Refuse modules in which values flow in a way that nothing tells.

    Raises:
        UserError: naming the module.
    """
    if graph.is_neuron(module) or _registered(module) or not any(True for _ in module.children()):
        return
    if isinstance(module, torch.nn.ModuleList | torch.nn.ModuleDict):  # of a module that told
        for inner in module.children():
            _check_known(inner, block)
        return
    told = isinstance(module, nn.Layer) and type(module).flow_inside is not nn.Layer.flow_inside
    if isinstance(module, Recomputed):
        raise UserError(
            "Recomputed keeps other activations, and makes the rest again: count the cost of the network inside it"
        )
    if not (graph.in_order(module) or told):
        raise UserError(
            f"{type(module).__name__}, in the block that ends with {block}, has layers inside and does not tell what "
            "it does with them: give it a flow_inside, or register its multiply-adds with "
            "@spikelfp.analysis.products.register"
        )
    for inner in module.children():
        _check_known(inner, block)


def _registered(layer: Module) -> bool:
    return _counter(layer) is not products.dispatch(object)


def _counter(layer: Module) -> Callable[[Module, Tensor, Tensor], Products]:
    return products.dispatch(graph.twin_of(layer) or type(layer))


class _Counts:
    """Counts of the blocks of a network on a batch, with gradients across blocks, or (``apart``) inside of them only.

    Attributes:
        products: multiply-adds of each block.
        saved: elements that autograd keeps of each block; with gradients across blocks those that no block before
            keeps.
        outputs: shapes of the outputs of each block.
    """

    def __init__(self, net: Module, x: Tensor, segments: list[Segment], apart: bool = False) -> None:
        self._x, self._apart = x, apart
        self._given = {s._cdata for tensor in (x, *net.parameters(), *net.buffers()) for s in storages(tensor)}
        self._parts = [nn.Sequential(*segment.layers) for segment in segments]
        self.products: list[Products] = []
        self.saved: list[int] = []
        self.outputs: list[torch.Size] = []

    def count_products(self) -> None:
        """Run each block with all its layers watched."""
        x = self._x
        for part in self._parts:
            x = x.detach() if self._apart else x
            total = Products()
            inputs: list[Tensor] = []

            def before(name: str, given: Any, inputs: list[Tensor] = inputs) -> None:
                inputs.append(next(each for each in tree_leaves(given) if isinstance(each, Tensor)))

            def look(call: graph.Call, inputs: list[Tensor] = inputs) -> None:
                nonlocal total
                given = inputs.pop()
                one = _counter(call.layer)(call.layer, _once(given), _once(call.outputs))
                learns = any(p.requires_grad for p in call.layer.parameters())
                total = Products(
                    total.forward + one.forward,
                    total.inside + (one.inside if learns or given.requires_grad else 0),
                    total.back + (one.back if given.requires_grad else 0),
                    total.update + (one.update if learns else 0),
                )

            with graph.watching(part, look, before=before, whole=_is_whole):
                x = part(x)
            self.products.append(total)
            self.outputs.append(x.shape)

    def count_saved(self) -> None:
        """Run each block, and count what autograd keeps."""
        x, seen = self._x, dict[int, torch.UntypedStorage]()
        held: list[Tensor] = []
        for part in self._parts:
            if self._apart:
                x, seen = x.detach(), {}
            before = len(seen)

            def pack(tensor: Tensor, seen: dict[int, torch.UntypedStorage] = seen) -> Tensor:
                seen.update({storage._cdata: storage for storage in storages(tensor)})
                return tensor.detach()

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                x = part(x)
            held.append(x)
            new = list(seen.values())[before:]
            self.saved.append(sum(-(-s.nbytes() // ELEMENT) for s in new if s._cdata not in self._given))


def _is_whole(layer: Module) -> bool:
    return graph.is_neuron(layer) or _registered(layer)


def _once(x: Tensor) -> Tensor:
    return x[:1] if not x.is_sparse and is_constant(x) else x
