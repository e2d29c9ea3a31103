r"""Long sequences a chunk at a time: the state is carried on, credit is not.

Truncated backpropagation through time without overlap (Williams & Peng 1990), for LFP as for gradients: chunk ``i`` of
``k`` steps starts from the state that chunk ``i − 1`` left, through which nothing passes back. Each chunk is rewarded
for its own steps as if it were a sequence of its own, so the ``T`` of a sequence reward is the number of its steps that
count. The updates of the chunks add up as those of steps do: LFP sums rewards over steps, and a loss, the mean over all
steps of a sequence, weighs each chunk by its steps that count. Memory is that of one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.methods.base import Batch
from spikelfp.nn import Layer
from spikelfp.nn.layer import State, has_run, remembers
from spikelfp.nn.recompute import filled, tensors_of


class Carried(torch.nn.Module):
    """A network that goes on from chunk to chunk: called with a chunk, it starts from the states behind the last one.

    :meth:`advance` ends a chunk; until then every call starts from the same states. :meth:`rest` begins a sequence.
    """

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        check_carries(net)
        self.net = net
        self._state: State = None
        self._next: State = None

    def forward(self, x: Tensor) -> Tensor:
        outputs, state = self.net.run(x, self._state)  # type: ignore[operator]
        self._next = alone(state)
        result: Tensor = outputs
        return result

    def advance(self) -> None:
        """Let the next chunk start from the states that this one has left."""
        self._state, self._next = self._next, None

    def rest(self) -> None:
        """Let the next chunk start from rest."""
        self._state, self._next = None, None


def outputs_of(net: torch.nn.Module, batch: Batch, chunk: int | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Outputs ``[k, B, C]`` of a batch from rest, ``chunk`` steps at a time (``None``: all), each with its mask.

    They are those of the whole sequence, of which only ``chunk`` steps are held at a time.
    """
    if chunk is None:
        yield net(batch.sequence), batch.mask
        return
    carried = Carried(net)
    for piece in batch.chunks(chunk):
        yield carried(piece.batch.sequence), piece.batch.mask
        carried.advance()


def alone(state: State) -> State:
    """A state without a graph, in memory of its own: a view would keep the steps that led to it."""
    return filled(state, (t.detach().clone() for t in tensors_of(state)))


def check_carries(net: torch.nn.Module) -> None:
    """Raise :class:`~spikelfp.errors.UserError` for a network that would forget the states of its layers at a chunk's
    end: one that has no ``run``, or a module with layers that keep a state inside, but no ``run`` of its own."""
    if not isinstance(net, Layer):
        raise UserError(
            f"only layers of this package carry their state from chunk to chunk, got {type(net).__name__}: put "
            "nn.Sequential around torch's own layers, spikelfp.convert the network, or derive your own module from "
            "nn.Layer and give it a run(x, state) that returns (outputs, next state)"
        )
    for name, module in net.named_modules():
        inside = [own for own in module.modules() if own is not module and remembers(own)]
        if inside and _is_called(module) and not has_run(module):
            raise UserError(
                f"layer {name or '(the network itself)'} ({type(module).__name__}) has a {type(inside[0]).__name__} "
                "inside, whose state it cannot carry from chunk to chunk: give it a run(x, state), or train without "
                "chunks"
            )


def _is_called(module: torch.nn.Module) -> bool:
    """Whether it can be called at all; lists of layers and the like only hold them."""
    return type(module).forward is not torch.nn.Module.forward
