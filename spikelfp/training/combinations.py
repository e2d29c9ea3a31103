"""Networks, methods and steps that do not go together: refused, or warned about, where a trainer is made."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch

from spikelfp.data import encodings
from spikelfp.errors import LearningWarning, UserError
from spikelfp.methods import Method, WarmUp
from spikelfp.nn import graph
from spikelfp.rules import Gradient, lending
from spikelfp.training.footprint import check_room_to_train

if TYPE_CHECKING:
    from spikelfp.training.trainer import Trainer

_only_evaluates: ContextVar[bool] = ContextVar("only_evaluates", default=False)


def check_trainer(trainer: Trainer) -> None:
    """Refuse what a trainer cannot train: for want of memory, or because nothing would be learned.

    Args:
        trainer: made in full.

    Raises:
        UserError: as :func:`check_learning` and :func:`~spikelfp.training.footprint.check_room_to_train` do.
    """
    if _only_evaluates.get():
        return
    check_room_to_train(trainer.net, trainer.optimizer, trainer.device)
    steps, encode = getattr(trainer, "steps", None), getattr(trainer, "encode", None)
    check_learning(trainer.net, trainer.method, steps=steps, encode=encode)


@contextmanager
def only_evaluating() -> Iterator[None]:
    """Within the block trainers are made to evaluate what was trained before: nothing is refused or warned about."""
    token = _only_evaluates.set(True)
    try:
        yield
    finally:
        _only_evaluates.reset(token)


def check_learning(
    net: torch.nn.Module, method: Method, *, steps: int | None = None, encode: Callable[..., Any] | None = None
) -> None:
    """Refuse a network that cannot learn by a method, and warn of one that hardly will.

    Args:
        net: the network.
        method: what trains it.
        steps: of the sequences that static samples are shown as; ``None`` if that is not known.
        encode: how these are made, one of :data:`spikelfp.data.encodings`.

    Raises:
        UserError: for plain gradients through outputs that spike, and rewards of spikes at linear outputs.

    Warns:
        LearningWarning: for each of :func:`learning_complaints`.
    """
    outputs = outputs_of(net)
    for each in _methods(method):
        with lending(net, each.rule):
            flat = _flat_layers(net)
        if each.gradient and outputs == "spikes" and graph.last_layer(net) in flat:
            raise UserError(
                "the outputs of this network are spikes, whose derivative is 0: plain gradient descent changes no "
                "weight. Train it by LFP, or by GradientDescent(rules.Surrogate()), --method surrogate"
            )
        if outputs == "linear" and _suits(reward := getattr(each, "reward", None)) == "spikes":
            kind, last = type(reward).__name__, type(graph.last_layer(net)).__name__
            raise UserError(
                f"{kind} counts spikes, and the outputs of this network ({last}) are real values: choose a reward of "
                "linear outputs, such as Softmax (--reward softmax), or let the network end in neurons"
            )
    for complaint in learning_complaints(net, method, steps=steps, encode=encode):
        warnings.warn(complaint, LearningWarning, stacklevel=4)


def single_step_complaints(net: torch.nn.Module, method: Method) -> list[str]:
    """A line for each reason why ``net`` will hardly learn from single steps, beyond those that hold anyway."""
    anyway = learning_complaints(net, method)
    return [each for each in learning_complaints(net, method, steps=1) if each not in anyway]


def learning_complaints(
    net: torch.nn.Module, method: Method, *, steps: int | None = None, encode: Callable[..., Any] | None = None
) -> list[str]:
    """A line for each reason why ``net`` will hardly learn, or learn in part only; none if all is well.

    The arguments are those of :func:`check_learning`.
    """
    found = []
    outputs = outputs_of(net)
    neurons = [layer for layer in graph.leaves(net).values() if graph.has_trait(layer, "has_membrane")]
    if steps == 1 and neurons:
        found.append(
            f"the network has neurons with a memory ({type(neurons[0]).__name__}) and sees a single step: membranes "
            "start from rest, and each output is one spike or none, so many samples will tie; take more steps, 25 say"
        )
    if steps == 1 and encode is not None and encode in (encodings["latency"], encodings["delta"]):
        found.append(
            "the encoding tells values by the step in which they spike, and there is a single step: all of them look "
            "alike; take more steps, 25 say"
        )
    for each in _methods(method):
        if outputs == "spikes" and _multiplies(reward := getattr(each, "reward", None)):
            found.append(
                f"{type(reward).__name__} multiplies the reward with the output, so an output neuron that does "
                "not fire earns nothing and will hardly begin to; SpikeSequence and CountSoftmax are made for spikes"
            )
        if each.gradient:
            with lending(net, each.rule):
                flat = _flat_layers(net)
            if flat:
                found.append(
                    f"spikes have the derivative 0, so under plain gradient descent nothing in front of the last "
                    f"{type(flat[-1]).__name__} learns; rules.Surrogate() gives spikes another derivative"
                )
    return found


def outputs_of(net: torch.nn.Module) -> str | None:
    """Tell the kind of outputs of a network: ``spikes``, ``linear``, or ``None`` where its layers do not tell."""
    last = graph.last_layer(net)
    if last is None or not graph.tells(last):
        return None
    return "spikes" if graph.has_trait(last, "fires") else "linear"


def _methods(method: Method) -> Iterator[Method]:
    """The methods that train in the course of a run."""
    if isinstance(method, WarmUp):
        yield from _methods(method.first)
        yield from _methods(method.then)
    else:
        yield method


def _suits(reward: Any) -> str:
    return getattr(reward, "suits", "any")  # a plain function says nothing


def _multiplies(reward: Any) -> bool:
    """Whether a reward is 0 at outputs that are."""
    return _suits(reward) == "linear" or getattr(reward, "magnitude", None) is True


def _flat_layers(net: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers whose spikes have the derivative 0 under their rule."""
    return [
        layer
        for layer in graph.leaves(net).values()
        if graph.has_trait(layer, "fires")
        and isinstance(rule := getattr(layer, "rule", None), Gradient)
        and type(rule).spike is Gradient.spike
    ]
