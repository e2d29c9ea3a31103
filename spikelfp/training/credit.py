"""The method of a trainer, from what it was given: objects, classes or names."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from spikelfp import rules
from spikelfp.described import described
from spikelfp.errors import ShapeError, UserError
from spikelfp.methods import Method, WarmUp, losses, methods
from spikelfp.rewards import Reward, rewards
from spikelfp.training.defaults import default_reward


def chosen_method(net: torch.nn.Module, method: Any, reward: Any, rule: Any, loss: Any) -> Method:
    """Find the method that a trainer was asked for.

    Args:
        net: the network, which decides on a reward where none is given.
        method: a name of :data:`spikelfp.methods.methods` (``None``: ``"lfp"``), or a method, or its class.
        reward: a name of :data:`spikelfp.rewards.rewards`, or a reward; of methods that take one.
        rule: a name of :data:`spikelfp.rules.rules`, a rule or a :class:`~spikelfp.rules.Composite`; likewise.
        loss: a name of :data:`spikelfp.methods.losses`, or a function; likewise.

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
    if loss is not None and "loss" not in takes:
        raise UserError(f'{said} has a reward, and a loss is of gradient methods: say method="surrogate" or reward=…' if "reward" in takes
                        else f"{said} takes no loss: leave it out")  # fmt: skip
    if reward is not None and "reward" not in takes:
        raise UserError(f"{said} takes no reward but a loss: say loss=… or leave out the method" if "loss" in takes
                        else f"{said} takes no reward: leave it out")  # fmt: skip
    if rule is not None and "rule" not in takes:
        raise UserError(f"{said} has a rule of its own: leave the rule out")
    options: dict[str, Any] = {} if rule is None else {"rule": _rule(rule, kind, said)}
    if loss is not None:
        options["loss"] = _loss(loss)
    if "reward" in takes and (reward is not None or _is_needed(takes["reward"])):
        options["reward"] = _reward(net, reward)
    missing = [name for name, p in takes.items() if _is_needed(p) and name not in options]
    if missing:
        raise UserError(f"{said} does not say its {' and '.join(missing)}: make it, {kind.__name__}({missing[0]}=…)")
    return kind(**options)


def settings_of(method: Method) -> dict[str, Any]:
    """Describe a method by what it was made with, a line of text for each: what a checkpoint compares."""
    parameters = list(inspect.signature(type(method).__init__).parameters)[1:]
    own = {name: described(getattr(method, name)) for name in parameters if hasattr(method, name) and name != "rule"}
    return {"method": method.name, **{f"{name} (of the method)": text for name, text in own.items()}}


def classes_by(method: Method | None, scores: Tensor) -> Tensor:
    """Choose the class ``[B]`` of samples by their summed outputs ``[B, C]``, as the reward of the method has it.

    Without a method, the largest output.

    Raises:
        UserError: where outputs are no classes.
    """
    reward = None if method is None else getattr(_last(method), "reward", None)
    if isinstance(reward, Reward):
        return reward.classes(scores)
    if scores.shape[-1] < 2:
        raise UserError(
            "a network with a single output has no largest one to name a class: rewards.Binary decides by its sign; "
            "predict(X, scores=True) gives the output"
        )
    return scores.argmax(-1)


def are_classes(labels: Tensor) -> bool:
    """Whether labels are class numbers, so that samples can be right or wrong: integers ``[B]``."""
    return labels.dim() == 1 and not labels.is_floating_point() and not labels.is_complex()


def check_targets(method: Method, outputs: Tensor, labels: Tensor, whole: Tensor | None) -> None:
    """Refuse labels that the method cannot use, before training.

    Args:
        method: that is to be trained by.
        outputs: ``[T, B, C]`` of the network for some samples.
        labels: of these samples, ``[B, …]``.
        whole: labels of the whole data set, ``[N, …]``, where they are known.

    Raises:
        UserError: naming the first label outside the outputs, or what the reward says.
    """
    if outputs.dim() < 2:
        return
    count = outputs.shape[-1]
    for part in (method.first, method.then) if isinstance(method, WarmUp) else (method,):
        reward, built_in = (
            getattr(part, "reward", None),
            getattr(part, "loss", None) in [losses[name] for name in losses],
        )
        by_class = built_in or (isinstance(reward, Reward) and type(reward).target is Reward.target)
        if by_class and not are_classes(labels):
            hint = "y.argmax(1) for one-hot rows" if labels.dim() == 2 else "y.long() if they are classes"
            wanted = type(reward).__name__ if reward is not None else part.name
            raise ShapeError(
                f"{wanted} takes class numbers (integers, [B]) as labels, got {labels.dtype} of shape "
                f"{list(labels.shape)}: {hint}"
            )
        known = labels if whole is None else whole
        known = known.long() if by_class else known  # in few bits every label is below 256
        if by_class and ((known < 0) | (known >= count)).any():
            first = int(((known < 0) | (known >= count)).nonzero()[0])
            raise ShapeError(
                f"label {int(known[first])} of sample {first} is outside 0 to {count - 1}: the network has {count} "
                "outputs"
            )
        if isinstance(reward, Reward) and not by_class:
            reward.target(torch.zeros_like(outputs), labels)


def _last(method: Method) -> Method:
    return _last(method.then) if isinstance(method, WarmUp) else method


def _needs_arguments(kind: type) -> bool:
    return any(_is_needed(p) for p in inspect.signature(kind).parameters.values())


def _is_needed(p: inspect.Parameter) -> bool:
    return p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)


def _reward(net: torch.nn.Module, reward: Any) -> Reward:
    if reward is None:
        return default_reward(net)
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
    if method.gradient is not isinstance(rule, rules.Gradient):
        raise UserError(
            f"{described(rule)} is no rule of {said}: "
            + ("it takes rules.Surrogate(…)" if method.gradient else 'say method="surrogate" or "gradient"')
        )
    if method.surrogate and not isinstance(rule, rules.Surrogate):
        raise UserError(f'{described(rule)} is no surrogate: say rules.Surrogate(…), or method="gradient"')
    return rule


def _loss(loss: Any) -> Any:
    if isinstance(loss, str):
        return losses[loss]
    if not callable(loss):
        raise UserError(f"a loss is a name ({', '.join(losses)}) or a function (outputs, labels), got {loss!r}")
    return loss
