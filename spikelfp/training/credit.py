"""The method of a trainer, from what it was given: objects, classes or names."""

from __future__ import annotations

import inspect
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikelfp import rules
from spikelfp.data.seeding import generator
from spikelfp.described import described
from spikelfp.errors import LearningWarning, UserError
from spikelfp.methods import Method, WarmUp, losses, methods
from spikelfp.printable import first_line
from spikelfp.rewards import Reward, rewards
from spikelfp.tasks import Classification, Task, TaskReward
from spikelfp.tasks.chosen import is_built_in
from spikelfp.training.defaults import ends_in_spikes


def chosen_method(net: torch.nn.Module, method: Any, reward: Any, rule: Any, loss: Any, task: Task) -> Method:
    """Find the method that a trainer was asked for.

    Args:
        net: the network, whose outputs decide on a reward where none is given.
        method: a name of :data:`spikelfp.methods.methods` (``None``: ``"lfp"``), or a method, or its class.
        reward: a name of :data:`spikelfp.rewards.rewards`, or a reward; of methods that take one.
        rule: a name of :data:`spikelfp.rules.rules`, a rule or a :class:`~spikelfp.rules.Composite`; likewise.
        loss: a name of a loss of the task, or a function; likewise.
        task: whose reward or loss it has where none is given; it knows a ``loss`` by name already.

    Raises:
        UnknownNameError: for a name that is none.
        UserError: for choices that exclude each other, and for anything else.
    """
    if isinstance(method, Method):
        for name, value in (("reward", reward), ("rule", rule), ("loss", loss)):
            if value is not None:
                raise UserError(f"hand in a {name} or a method that has its own, not both")
        return method
    named = method is None or isinstance(method, str)
    kind: Any = methods[method or "lfp"] if named else method
    if not isinstance(kind, type) or not issubclass(kind, Method):
        raise UserError(f"a method is a name ({', '.join(methods)}) or an object of spikelfp.methods, got {method!r}")
    said = f'method="{method or "lfp"}"' if named else f"method={kind.__name__}"
    takes = inspect.signature(kind).parameters
    if isinstance(loss, str) and not isinstance(task, Classification):
        loss = None  # the task has it
    if loss is not None and "loss" not in takes:
        hint = ' has a reward, and a loss is of gradient methods: say method="surrogate" or reward=…'
        raise UserError(said + (hint if "reward" in takes else " takes no loss: leave it out"))
    if reward is not None and "reward" not in takes:
        hint = " but a loss: say loss=… or leave out the method" if "loss" in takes else ": leave it out"
        raise UserError(f"{said} takes no reward{hint}")
    if rule is not None and "rule" not in takes:
        raise UserError(f"{said} has a rule of its own: leave the rule out")
    options: dict[str, Any] = {} if rule is None else {"rule": _rule(rule, kind, said)}
    if "loss" in takes and callable(loss):
        options["loss"] = loss
    elif "loss" in takes and (not isinstance(task, Classification) or task.loss_name != "rate"):
        options["loss"] = losses[task.loss_name] if isinstance(task, Classification) else task.loss
    if loss is not None and not isinstance(loss, str) and not callable(loss):
        raise UserError(f"a loss is a name ({', '.join(losses)}) or a function (outputs, labels), got {loss!r}")
    if "reward" in takes and (reward is not None or takes["reward"].default in (inspect.Parameter.empty, None)):
        options["reward"] = task.reward(ends_in_spikes(net)) if reward is None else _reward(reward)
    missing = [name for name, p in takes.items() if _is_needed(p) and name not in options]
    if missing:
        raise UserError(f"{said} does not say its {' and '.join(missing)}: make it, {kind.__name__}({missing[0]}=…)")
    return kind(**options)


_prepared: list[tuple[weakref.ref[Method], weakref.ref[torch.nn.Module]]] = []
"""Methods with a state of their own, each with the network that it belongs to."""


def prepare(method: Method, net: torch.nn.Module, seed: int, device: torch.device) -> None:
    """Let a method make its state for a network, unless it has done so; random numbers are a function of ``seed``.

    Raises:
        UserError: for a method whose state belongs to another network.
    """
    _prepared[:] = [each for each in _prepared if each[0]() is not None]
    known = next((its for own, its in _prepared if own() is method), None)
    if known is not None:
        if known() is not net:
            raise UserError(
                f"this {type(method).__name__} has the state of another training: make one for each network"
            )
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(generator("method", seed).initial_seed())
        method.prepare(net)
    if method.state_dict():
        _prepared.append((weakref.ref(method), weakref.ref(net)))


def settings_of(method: Method) -> dict[str, Any]:
    """Describe a method by what it was made with, a line of text for each: what a checkpoint compares."""
    parameters = list(inspect.signature(type(method).__init__).parameters)[1:]
    own = {name: described(getattr(method, name)) for name in parameters if hasattr(method, name) and name != "rule"}
    return {"method": method.name, **{f"{name} (of the method)": text for name, text in own.items()}}


def judged_by(task: Task, method: Method) -> Task:
    """The task as a method has it: its reward may choose classes, its loss is that which is told."""
    loss = getattr(last_of(method), "loss", None)
    if type(task) is Classification:
        task = Classification(next((name for name in losses if losses[name] is loss), task.loss_name))
    return task.by(reward_of(method))


def reward_of(method: Method) -> Reward | None:
    """Find the reward of a method; that of the later one of a warm-up."""
    reward = getattr(last_of(method), "reward", None)
    return reward if isinstance(reward, Reward) else None


def own_loss(method: Method) -> Callable[..., Tensor] | None:
    """Find the loss that a method descends where no task knows it: a function of somebody's own."""
    loss = getattr(last_of(method), "loss", None)
    known = (
        loss is None or loss in (losses["rate"], losses["count"]) or isinstance(getattr(loss, "__self__", None), Task)
    )
    return None if known else loss


def check_targets(
    task: Task, method: Method, outputs: Tensor, labels: Tensor, whole: Tensor | None, spikes: bool = False
) -> None:
    """Refuse labels that the method cannot use, before training.

    Args:
        task: of the trainer.
        method: that is to be trained by.
        outputs: ``[T, B, C]`` of the network for some samples.
        labels: of these samples, ``[B, …]``.
        whole: labels of the whole data set, ``[N, …]``, where they are known.
        spikes: whether the outputs are spikes.

    Raises:
        UserError: naming the first label outside the outputs, or what the reward says.
    """
    if not isinstance(task, Classification):
        task.check(labels, outputs, whole, spikes=spikes)
    if outputs.dim() < 2:
        return
    for part in (method.first, method.then) if isinstance(method, WarmUp) else (method,):
        reward = getattr(part, "reward", None)
        built_in = isinstance(task, Classification) and is_built_in(getattr(part, "loss", None))
        if built_in or (isinstance(reward, Reward) and type(reward).target is Reward.target):
            task.check(labels, outputs, whole, of=part.name if reward is None else type(reward).__name__)
        elif isinstance(reward, Reward) and not isinstance(reward, TaskReward):
            reward.target(torch.zeros_like(outputs), labels)


def check_loss(method: Method, outputs: Tensor, labels: Tensor) -> None:
    """Refuse a loss of one's own that fails, and warn of one of real targets that is no mean over the samples.

    Outputs ``[B, 1]`` less targets ``[B]`` are ``[B, B]`` in torch, which no error tells of.

    Args:
        method: that descends it.
        outputs: ``[T, B, C]`` of some samples.
        labels: of these samples, ``[B, …]``.

    Raises:
        UserError: with the shapes that it was given.
    """
    loss = own_loss(method)
    if loss is None or outputs.dim() < 2 or len(labels) < 2:
        return
    others = (labels != labels[:1]).flatten(1).any(1) if labels.dim() > 1 else labels != labels[0]
    labels = labels[[0, int(others.to(torch.uint8).argmax())]]  # two that differ, where there are any
    apart = torch.tensor([0.0, 0.5], device=outputs.device, dtype=outputs.dtype)
    some = outputs[:, :1] + apart.view(1, 2, *[1] * (outputs.dim() - 2))
    shapes = f"outputs {list(some.shape)} and targets {list(labels.shape)}"
    name = getattr(loss, "__name__", type(loss).__name__)
    try:
        whole = float(loss(some, labels))
    except UserError:
        raise
    except Exception as error:  # of somebody else's function
        said = first_line(error).rstrip(".")
        raise UserError(
            f"the loss {name} fails for {shapes}, [T, B, …] and [B, …]: {said}; read the outputs first, as in "
            "lambda o, y: loss(o.mean(0), y)"
        ) from None
    if not labels.is_floating_point():
        return
    try:
        mean = sum(float(loss(some[:, [own]], labels[[own]])) for own in (0, 1)) / 2
    except Exception:  # one sample may be too few for it
        return
    if abs(whole - mean) > 1e-3 * max(abs(whole), abs(mean)):
        warnings.warn(
            f"the loss {name} is no mean over the samples: for {shapes} it is {whole:.4g}, and {mean:.4g} as the mean "
            "of both; are they of one shape behind the steps?",
            LearningWarning,
            stacklevel=4,
        )


def last_of(method: Method) -> Method:
    """The method that trains after all warm-ups."""
    return last_of(method.then) if isinstance(method, WarmUp) else method


def _needs_arguments(kind: type) -> bool:
    return any(_is_needed(p) for p in inspect.signature(kind).parameters.values())


def _is_needed(p: inspect.Parameter) -> bool:
    return p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)


def _reward(reward: Any) -> Reward:
    if isinstance(reward, str):
        return rewards[reward]()
    if isinstance(reward, type) and issubclass(reward, Reward):
        if _needs_arguments(reward):
            raise UserError(f"a reward is an object, got the class {reward.__name__}: make it, {reward.__name__}(…)")
        return reward()
    if not isinstance(reward, Reward):
        raise UserError(
            f"a reward is a name ({', '.join(rewards)}) or an object of spikelfp.rewards, got {type(reward).__name__}: "
            "FromMetric and FromCallback make one of a function"
        )
    return reward


def _rule(rule: Any, method: type[Method], said: str) -> rules.Rule | rules.Composite:
    if isinstance(rule, str):
        if method.gradient:
            raise UserError(f"rules by name are of LFP, got rule={rule!r} with {said}: hand in rules.Surrogate(…)")
        return rules.make_rule(rule, constant_statistics=False)
    if isinstance(rule, type) and issubclass(rule, rules.Rule) and not _needs_arguments(rule):
        rule = rule()
    if not isinstance(rule, (rules.Rule, rules.Composite)):
        raise UserError(
            f"a rule is a name ({', '.join(rules.rules)}) or an object of spikelfp.rules, got {type(rule).__name__}"
        )
    if method.gradient is not isinstance(rule, rules.Gradient) and method.learn is Method.learn:
        raise UserError(
            f"{described(rule)} is no rule of {said}: "
            + ("it takes rules.Surrogate(…)" if method.gradient else 'say method="surrogate" or "gradient"')
        )
    if method.surrogate and not isinstance(rule, rules.Surrogate):
        raise UserError(f'{described(rule)} is no surrogate: say rules.Surrogate(…), or method="gradient"')
    return rule
