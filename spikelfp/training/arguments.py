"""Arguments of a trainer: the task and the method that they name, and refusals of what cannot train."""

from __future__ import annotations

import inspect
import math
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor

from spikelfp import checks, rules
from spikelfp.data import encodings
from spikelfp.data.loader import check_workers, generator
from spikelfp.errors import LearningWarning, UserError
from spikelfp.functional.lif import FLOOR, MARGIN, Denominator
from spikelfp.methods import BlockMethod, Method, methods
from spikelfp.methods.gradient import as_scalar, no_graph
from spikelfp.nn import Neurons, graph
from spikelfp.options import described, is_kept
from spikelfp.registry import nearest, parameters_of, unknown_name
from spikelfp.rewards import Reward, rewards
from spikelfp.rules import Gradient, lending
from spikelfp.scalars import as_number
from spikelfp.tasks.base import Task, TaskReward, tasks
from spikelfp.tasks.classification import DEFAULT_LOSS, Classification, adds_up, losses, without_smoothing
from spikelfp.terminal import first_line
from spikelfp.training.memory import check_training_memory


def resolve_task(task: Any, method: Any = None, reward: Any = None, loss: Any = None) -> Task:
    """Find the task that a trainer was asked for, before its method is made.

    Args:
        task: a name of :data:`spikelfp.tasks.tasks`, a class or an object; ``None``: that of the reward or the loss,
            else classification.
        method: as a trainer takes it; an object has its own reward or loss.
        reward: as a trainer takes it.
        loss: as a trainer takes it; a name is that of a loss of the task.

    Raises:
        UnknownNameError: for an unknown name.
        UserError: for anything else, and for two losses that differ.
    """
    name = loss if isinstance(loss, str) else None
    if isinstance(task, Task):
        if name is not None and task.arguments().get("loss", name) != name:
            raise UserError(f"the task {task!r} and loss={name!r} differ: say the loss once")
        return task
    if task is None:
        return _inferred(method, reward, loss)
    kind = tasks[task] if isinstance(task, str) else task
    if not isinstance(kind, type) or not issubclass(kind, Task):
        raise UserError(f"a task is a name ({', '.join(tasks)}) or an object of spikelfp.tasks, got {task!r}")
    if inspect.isabstract(kind):
        missing = ", ".join(sorted(kind.__abstractmethods__))
        raise UserError(
            f"{kind.__name__} is no task that can be trained: it lacks {missing}; derive from a task, or take one of "
            f"{', '.join(tasks)}"
        )
    return _made(kind, name)


def check_task(task: Task, method: Method) -> None:
    """Refuse a method whose reward or loss is for another task.

    Args:
        task: task of the trainer.
        method: the finished method.

    Raises:
        UserError: with what to do.
    """
    for part in method.parts():
        _check_part(task, part)


def _check_part(task: Task, method: Method) -> None:
    """Refuse a method of a single part (:func:`check_task`)."""
    reward, loss = method.reward, method.loss
    if isinstance(reward, Reward):
        own = target_task(reward)
        if own not in (None, task.name):
            raise UserError(
                f"the reward {described(reward)} is for {own}, and the task is {task.name}: leave the reward out, or "
                f'say task="{own}"'
            )
        if isinstance(reward, TaskReward) and described(reward.own) != described(task):
            raise UserError(f"the reward is that of the task {reward.own!r}, and the trainer has {task!r}: say one")
    bound = getattr(loss, "__self__", None)
    if isinstance(bound, Task) and described(bound) != described(task):
        raise UserError(f"the loss is that of the task {bound!r}, and the trainer has {task!r}: say one of them")
    if is_built_in(loss) and not isinstance(task, Classification):
        raise UserError(
            f"{method!r} descends {described(loss)}, a loss of classification, and the task is {task.name}: say "
            f"{type(method).__name__}(loss=spikelfp.tasks.{type(task).__name__}().loss), or the method by its name"
        )


def target_task(reward: Reward) -> str | None:
    """Return the name of the task whose targets a reward takes; ``None`` if it has its own ``target`` and no name."""
    if type(reward).task is Reward.task and type(reward).target is not Reward.target:
        return None
    return reward.task


def is_built_in(loss: Any) -> bool:
    """Whether a loss is one of :data:`~spikelfp.tasks.classification.losses`."""
    plain = without_smoothing(loss)
    return any(losses[name] is plain for name in losses)


def _made(kind: type[Task], loss: str | None) -> Task:
    """Make a task with a loss by name."""
    if loss is None:
        return kind()
    if "loss" not in inspect.signature(kind).parameters:
        raise UserError(f"the task {kind.name} has one loss alone: leave out loss={loss!r}")
    return kind(loss=loss)  # type: ignore[call-arg]


def _inferred(method: Any, reward: Any, loss: Any) -> Task:
    """Return the task that the reward or the loss is for."""
    if isinstance(method, Method):
        method = method.last_part()
    reward = getattr(method, "reward", None) if reward is None else reward
    loss = getattr(method, "loss", None) if loss is None else loss
    if isinstance(getattr(loss, "__self__", None), Task):
        return loss.__self__
    if isinstance(reward, TaskReward):
        return reward.own
    if isinstance(reward, str) and reward in rewards:
        reward = rewards[reward]
    name = getattr(reward, "task", None)
    if isinstance(name, str) and name in tasks and name != Classification.name:
        return tasks[name]()
    if isinstance(loss, str):
        return Classification(loss)
    plain = without_smoothing(loss)
    return Classification(*[name for name in losses if losses[name] is plain])


if TYPE_CHECKING:
    from spikelfp.training.trainer import Trainer


def ends_in_spikes(net: torch.nn.Module) -> bool:
    """Whether the last layer of a network spikes."""
    last = graph.last_layer(net) or list(graph.leaves(net).values())[-1]
    return graph.has_trait(last, "fires")


def check_choices(**given: Any) -> None:
    """Raise :class:`~spikelfp.errors.UserError` for the first option of a trainer that is neither true nor false."""
    for name, value in given.items():
        checks.truth(name, value)


def _real(name: str, value: Any) -> float:
    """Return a number as a float; infinite ones are refused by messages of their own."""
    number = as_number(value)
    if number is None:
        raise UserError(f"{name} is a number, got {value!r:.80}")
    return number


def check_numbers(
    batch_size: int,
    accumulate: int,
    clip: float,
    clip_norm: float,
    max_weight: float | None = None,
    workers: int = 0,
    seed: int = 0,
) -> tuple[int, int, int, int, float, float, float | None]:
    """Return these options of a trainer, whole numbers first, as numbers of Python.

    Raises:
        UserError: for the first that is none, or out of range.
    """
    wholes = {"batch_size": batch_size, "accumulate": accumulate, "workers": workers, "seed": seed}
    batch_size, accumulate, workers, seed = (checks.whole(name, value, None) for name, value in wholes.items())
    clip, clip_norm = _real("clip", clip), _real("clip_norm", clip_norm)
    max_weight = None if max_weight is None else _real("max_weight", max_weight)
    if batch_size < 1:
        raise UserError(f"the batch size must be at least 1, got {batch_size}")
    if accumulate < 1:
        raise UserError(f"a batch has at least one part, got accumulate={accumulate}")
    check_workers(workers)
    if not clip >= 0:
        raise UserError(f"the clipping factor must be 0 (none) or more, got {clip}")
    if not clip_norm >= 0:
        raise UserError(f"the norm to clip to must be 0 (no clipping) or more, got {clip_norm}")
    if max_weight is not None and not 0 < max_weight < math.inf:
        raise UserError(f"max_weight must be a finite number above 0 (or None for no limit), got {max_weight}")
    return batch_size, accumulate, workers, seed, clip, clip_norm, max_weight


MEANT = {
    "learning_rate": "lr", "eta": "lr", "scheduler": "schedule", "lr_scheduler": "schedule", "optim": "optimizer",
    "optimiser": "optimizer", "criterion": "loss", "loss_fn": "loss", "loss_function": "loss", "bs": "batch_size",
    "num_workers": "workers", "num_steps": "steps", "timesteps": "steps", "time_steps": "steps", "T": "steps",
    "model": "net", "network": "net",
}  # fmt: skip
"""Options of other packages, and those that mean the same here."""

WEIGHTS = ("class_weight", "class_weights", "weight", "weights", "pos_weight", "sample_weight", "sample_weights")
"""Options of other packages that weigh classes or samples."""


def check_options(trainer: type, unknown: dict[str, Any]) -> None:
    """Raise :class:`~spikelfp.errors.UserError` for the first option that a class of trainers does not have."""
    for name in unknown:
        valid = [
            own for kind in trainer.__mro__[:-1] for own, p in inspect.signature(kind.__init__).parameters.items()  # type: ignore[misc]
            if p.kind is p.KEYWORD_ONLY
        ]  # fmt: skip
        if name in ("steps", "encoding", "recompute", "chunk", "readout_steps"):
            raise UserError(
                f"{name} is an option of TemporalTrainer, which trains on sequences; {trainer.__name__} is not"
            )
        if name in ("epochs", "validation", "patience"):
            raise UserError(
                f"{name} is an argument of fit: trainer.fit(train, epochs=…, {name}=…)".replace(
                    "epochs=…, epochs=…", "epochs=…"
                )
            )
        if name in WEIGHTS:
            raise UserError(
                f"{trainer.__name__} has no {name}: weigh classes or samples in a loss of your own, such as "
                'loss=lambda o, y: cross_entropy(o.sum(0), y, weight=w), with method="surrogate" or "gradient"'
            )
        meant = MEANT.get(name)
        if meant in valid:
            raise UserError(f"unknown option of {trainer.__name__} {name!r}: it is called {meant} here")
        raise unknown_name(f"option of {trainer.__name__}", name, valid)


def check_setting(trainer: Any, name: str) -> None:
    """Refuse to change an attribute that a trainer reads only when it is made, or never.

    Raises:
        UserError: naming the option.
    """
    kind = type(trainer)
    if name[:1] == "_":
        return
    options = [own for each in kind.__mro__[:-1] for own in parameters_of(each.__init__)]  # type: ignore[misc]
    if name == "lr":
        raise UserError(
            'the learning rate is that of the optimizer, for group in trainer.optimizer.param_groups: group["lr"] = …, '
            "with schedule=None; or make a new trainer"
        )
    if name in _MADE_WITH or (name in options and name not in trainer.__dict__):
        raise UserError(f"{name} is chosen where a trainer is made: make a new {kind.__name__}(net, {name}=…)")
    if name in trainer.__dict__ or hasattr(kind, name):
        return
    meant = MEANT.get(name) or nearest(name, [*options, *trainer.__dict__], cutoff=0.75)
    if meant is not None:
        raise UserError(f"{kind.__name__} has no attribute {name!r}, and would not look at it: did you mean {meant!r}?")


_MADE_WITH = frozenset(("net", "optimizer", "schedule", "device", "encoding", "world", "grids", "max_weight"))
"""Attributes from which a trainer has made others."""


def resolve_method(net: torch.nn.Module, method: Any, reward: Any, rule: Any, loss: Any, task: Task) -> Method:
    """Find the method that a trainer was asked for.

    Args:
        net: the network, whose outputs decide on a reward where none is given.
        method: a name of :data:`spikelfp.methods.methods` (``None``: ``"lfp"``), a method, or its class.
        reward: a name of :data:`spikelfp.rewards.rewards`, or a reward; for methods that take one.
        rule: a name of :data:`spikelfp.rules.rules`, a rule or a :class:`~spikelfp.rules.Composite`; for methods that
            take one.
        loss: a name of a loss of the task, or a function; for methods that take one.
        task: the task, which gives reward or loss where none is given. It has a loss by name already.

    Raises:
        UnknownNameError: for an unknown name.
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
    asked = f'method="{method or "lfp"}"' if named else f"method={kind.__name__}"
    takes = inspect.signature(kind).parameters
    if isinstance(loss, str) and not isinstance(task, Classification):
        loss = None  # the task has it
    if loss is not None and "loss" not in takes:
        hint = ' has a reward, and a loss is of gradient methods: say method="surrogate" or reward=…'
        raise UserError(asked + (hint if "reward" in takes else " takes no loss: leave it out"))
    if reward is not None and "reward" not in takes:
        hint = " but a loss: say loss=… or leave out the method" if "loss" in takes else ": leave it out"
        raise UserError(f"{asked} takes no reward{hint}")
    if rule is not None and "rule" not in takes:
        raise UserError(f"{asked} has a rule of its own: leave the rule out")
    decides = issubclass(kind, BlockMethod)  # between a reward and the loss of the task, later
    options: dict[str, Any] = {} if rule is None else {"rule": _rule(rule, kind, asked)}
    if "loss" in takes and callable(loss):
        options["loss"] = loss
    elif (
        "loss" in takes
        and not decides
        and (isinstance(loss, str) or not isinstance(task, Classification) or task.loss_name != DEFAULT_LOSS)
    ):
        options["loss"] = losses[task.loss_name] if isinstance(task, Classification) else task.loss
    if loss is not None and not isinstance(loss, str) and not callable(loss):
        raise UserError(f"a loss is a name ({', '.join(losses)}) or a function (outputs, labels), got {loss!r}")
    open_ended = "reward" in takes and takes["reward"].default in (inspect.Parameter.empty, None)
    if reward is not None or (open_ended and not decides):
        options["reward"] = task.reward(ends_in_spikes(net)) if reward is None else _reward(reward)
    missing = [name for name, p in takes.items() if _is_needed(p) and name not in options]
    if missing:
        raise UserError(f"{asked} does not say its {' and '.join(missing)}: make it, {kind.__name__}({missing[0]}=…)")
    return kind(**options)


_prepared: list[tuple[weakref.ref[Method], weakref.ref[torch.nn.Module]]] = []
"""Methods with a state of their own, each with the network that it belongs to."""


def prepare(method: Method, net: torch.nn.Module, seed: int, device: torch.device) -> None:
    """Let a method make its state for a network, unless it has done so.

    Args:
        method: the method.
        net: the network.
        seed: random numbers of the state are a function of it.
        device: device of the random numbers.

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
    """Describe how a method was made, a line of text for each argument, for a checkpoint to compare."""
    parameters = list(inspect.signature(type(method).__init__).parameters)[1:]
    own = {name: described(getattr(method, name)) for name in parameters if name != "rule" and is_kept(method, name)}
    return {"method": method.name, **{f"{name} (of the method)": text for name, text in own.items()}}


def task_judged_by(task: Task, method: Method) -> Task:
    """Return the task as its method has it, with the classes that the reward chooses and the loss of the method."""
    if isinstance(task, Classification):
        task = task.of_loss(method.last_part().loss)
    return task.by(reward_of(method))


def reward_of(method: Method) -> Reward | None:
    """Return the reward of a method; a warm-up has the reward of its second method."""
    reward = method.last_part().reward
    return reward if isinstance(reward, Reward) else None


def own_loss(method: Method) -> Callable[..., Tensor] | None:
    """Return the loss that a method descends where no task knows it: a function of the user's."""
    loss = method.last_part().loss
    if loss is None or isinstance(getattr(loss, "__self__", None), Task):
        return None
    plain = without_smoothing(loss)
    return None if any(losses[name] is plain and adds_up(name) for name in losses) else plain


def check_targets(
    task: Task, method: Method, outputs: Tensor, labels: Tensor, whole: Tensor | None, spikes: bool = False
) -> None:
    """Refuse labels that the method cannot use, before training.

    Args:
        task: the task.
        method: the method.
        outputs: ``[T, B, C]`` of the network for a few samples.
        labels: labels of these samples, ``[B, …]``.
        whole: labels of the whole data set, ``[N, …]``, where they are known.
        spikes: whether the outputs are spikes.

    Raises:
        UserError: naming the first label outside the outputs, or with the text of the reward.
    """
    if not isinstance(task, Classification):
        task.check(labels, outputs, whole, spikes=spikes)
    if outputs.dim() < 2:
        return
    for part in method.parts():
        reward, loss = part.reward, part.loss
        of_task = loss is None and part.objective == "loss"  # the method descends the loss of its task
        if (isinstance(task, Classification) and (of_task or is_built_in(loss))) or (
            isinstance(reward, Reward) and type(reward).target is Reward.target
        ):
            task.check(labels, outputs, whole, of=part.name if reward is None else type(reward).__name__)
        elif isinstance(reward, Reward) and not isinstance(reward, TaskReward):
            reward.target(torch.zeros_like(outputs), labels)


def check_loss(method: Method, outputs: Tensor, labels: Tensor) -> None:
    """Refuse a loss of the user's that fails, and warn of one of real targets that is no mean over the samples.

    Outputs ``[B, 1]`` minus targets ``[B]`` are ``[B, B]`` in torch, without an error.

    Args:
        method: the method, which may descend such a loss.
        outputs: ``[T, B, C]`` of a few samples.
        labels: labels of these samples, ``[B, …]``.

    Raises:
        UserError: with the shapes that the loss was given, and for a result that is no real number with a graph.

    Warns:
        LearningWarning: for a loss that is no mean over the samples, and one with parameters of its own.
    """
    loss = own_loss(method)
    if loss is None or outputs.dim() < 2 or len(labels) < 2:
        return
    others = (labels != labels[:1]).flatten(1).any(1) if labels.dim() > 1 else labels != labels[0]
    labels = labels[[0, int(others.to(torch.uint8).argmax())]]  # two that differ, where there are any
    apart = torch.tensor([0.0, 0.5], device=outputs.device, dtype=outputs.dtype)
    pair = outputs[:, :1] + apart.view(1, 2, *[1] * (outputs.dim() - 2))
    shapes = f"outputs {list(pair.shape)} and targets {list(labels.shape)}"
    name = getattr(loss, "__name__", type(loss).__name__)
    learned = isinstance(loss, torch.nn.Module) and sum(p.requires_grad for p in loss.parameters())
    if learned:
        warnings.warn(
            f"the loss {name} has {learned} parameters that require grad, which are not of the network and are not "
            "trained: requires_grad_(False) says so",
            LearningWarning,
            stacklevel=4,
        )
    try:
        with torch.enable_grad():
            found = as_scalar(loss, loss(pair.detach().requires_grad_() * 1, labels))
        if not found.requires_grad:
            raise no_graph(loss)
        whole = float(found.detach())
    except UserError:
        raise
    except Exception as error:  # of somebody else's function
        reason = first_line(error).rstrip(".")
        raise UserError(
            f"the loss {name} fails for {shapes}, [T, B, …] and [B, …]: {reason}; read the outputs first, as in "
            "lambda o, y: loss(o.mean(0), y)"
        ) from None
    if not labels.is_floating_point():
        return
    try:
        mean = sum(float(loss(pair[:, [own]], labels[[own]]).detach()) for own in (0, 1)) / 2
    except Exception:  # one sample may be too few for it
        return
    if abs(whole - mean) > 1e-3 * max(abs(whole), abs(mean)):
        warnings.warn(
            f"the loss {name} is no mean over the samples: for {shapes} it is {whole:.4g}, and {mean:.4g} as the mean "
            "of both; are they of one shape after the steps?",
            LearningWarning,
            stacklevel=4,
        )


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


def _rule(rule: Any, method: type[Method], asked: str) -> rules.Rule | rules.Composite:
    if isinstance(rule, str):
        if method.gradient or method.surrogate:
            raise UserError(f"rules by name are of LFP, got rule={rule!r} with {asked}: hand in rules.Surrogate(…)")
        return rules.make_rule(rule).for_method()
    if isinstance(rule, type) and issubclass(rule, rules.Rule) and not _needs_arguments(rule):
        rule = rule()
    if not isinstance(rule, (rules.Rule, rules.Composite)):
        raise UserError(
            f"a rule is a name ({', '.join(rules.rules)}) or an object of spikelfp.rules, got {type(rule).__name__}"
        )
    if method.gradient and not isinstance(rule, rules.Gradient):
        raise UserError(f"{described(rule)} is no rule of {asked}: it takes rules.Surrogate(…)")
    if not method.gradient and isinstance(rule, rules.Gradient) and method.learn is Method.learn:
        raise UserError(f'{described(rule)} is no rule of {asked}: say method="surrogate" or "gradient"')
    if method.surrogate and not isinstance(rule, rules.Surrogate):
        raise UserError(f'{described(rule)} is no surrogate: say rules.Surrogate(…), or method="gradient"')
    return rule


_only_evaluates: ContextVar[bool] = ContextVar("only_evaluates", default=False)


def check_trainer(trainer: Trainer) -> None:
    """Refuse a trainer for want of memory, or because it would learn nothing.

    Args:
        trainer: the finished trainer.

    Raises:
        UserError: as :func:`check_learning` and :func:`~spikelfp.training.memory.check_training_memory` do.
    """
    if _only_evaluates.get():
        return
    check_training_memory(trainer.net, trainer.optimizer, trainer.device)
    steps, encode = getattr(trainer, "steps", None), getattr(trainer, "encode", None)
    check_learning(trainer.net, trainer.method, steps=steps, encode=encode)
    check_descends(trainer.optimizer, trainer.method)


def check_descends(optimizer: torch.optim.Optimizer, method: Method) -> None:
    """Refuse an optimiser that maximises, since ``p.grad`` holds what makes the loss smaller, or the reward larger.

    A loss of the user's own may be something to maximise.

    Raises:
        UserError: for ``maximize=True``.
    """
    if own_loss(method) is None and any(group.get("maximize") for group in optimizer.param_groups):
        what = "rewards smaller: p.grad is minus the update" if method.objective == "reward" else "the loss larger"
        raise UserError(f"maximize=True of {type(optimizer).__name__} would make {what}; leave it out")


@contextmanager
def only_evaluating() -> Iterator[None]:
    """Make trainers within the block for evaluation alone: nothing is refused or warned about."""
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
        method: the method.
        steps: steps of the sequences that static samples are shown as; ``None`` if that is not known.
        encode: function that makes these sequences, one of :data:`spikelfp.data.encodings`.

    Raises:
        UserError: for plain gradients through outputs that spike, and rewards of spikes at linear outputs.

    Warns:
        LearningWarning: for each of :func:`learning_complaints`.
    """
    outputs = output_kind(net)
    for each in method.parts():
        with lending(net, each.rule):
            flat = _flat_layers(net)
        if each.gradient and outputs == "spikes" and graph.last_layer(net) in flat:
            raise UserError(
                "the outputs of this network are spikes, whose derivative is 0: plain gradient descent changes no "
                "weight. Train it by LFP, or by GradientDescent(rules.Surrogate()), --method surrogate"
            )
        if outputs == "linear" and _suits(reward := each.reward) == "spikes":
            kind, last = type(reward).__name__, type(graph.last_layer(net)).__name__
            raise UserError(
                f"{kind} counts spikes, and the outputs of this network ({last}) are real values: choose a reward of "
                "linear outputs, such as Softmax (--reward softmax), or let the network end in neurons"
            )
    for complaint in learning_complaints(net, method, steps=steps, encode=encode):
        warnings.warn(complaint, LearningWarning, stacklevel=4)


def single_step_complaints(net: torch.nn.Module, method: Method) -> list[str]:
    """List reasons why ``net`` will hardly learn from single steps, beyond those that hold anyway."""
    anyway = learning_complaints(net, method)
    return [each for each in learning_complaints(net, method, steps=1) if each not in anyway]


def learning_complaints(
    net: torch.nn.Module, method: Method, *, steps: int | None = None, encode: Callable[..., Any] | None = None
) -> list[str]:
    """List reasons why ``net`` will hardly learn, or learn in part only, a line of text each.

    The arguments are those of :func:`check_learning`.
    """
    found = []
    outputs = output_kind(net)
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
    unused = _unused_credit(net, method)
    if unused:
        found.append(unused)
    for each in method.parts():
        if outputs == "spikes" and _multiplies(reward := each.reward):
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


_OF_CREDIT = {"floor": FLOOR, "margin": MARGIN, "denominator": get_args(Denominator)[0]}
"""Options of neurons that belong to rewards inside a layer, and their defaults."""


def _unused_credit(net: torch.nn.Module, method: Method) -> str:
    """Tell which options of neurons do nothing, because no method of the run sends rewards through these neurons."""
    sending: set[str] = set()
    for each in method.parts():
        with lending(net, each.rule):
            sending |= {
                name for name, layer in graph.leaves(net).items()
                if isinstance(layer, Neurons) and not layer.rule.of_gradients
            }  # fmt: skip
    idle: dict[str, list[str]] = {}
    for name, layer in graph.leaves(net).items():
        if isinstance(layer, Neurons) and name not in sending:
            for option, default in _OF_CREDIT.items():
                if getattr(layer, option) != default:
                    idle.setdefault(option, []).append(name or "(the network itself)")
    if not idle:
        return ""
    options = "; ".join(f"{option} of layer {', '.join(names)}" for option, names in idle.items())
    return (
        f"{options}: of rewards inside a layer, and {type(method).__name__} sends none through it, so this changes "
        "nothing; leave it out, or train by LFP"
    )


def output_kind(net: torch.nn.Module) -> str | None:
    """Return the kind of outputs of a network: ``spikes``, ``linear``, or ``None`` where its layers do not tell."""
    last = graph.last_layer(net)
    if last is None or not graph.tells(last):
        return None
    return "spikes" if graph.has_trait(last, "fires") else "linear"


def _suits(reward: Any) -> str:
    return getattr(reward, "suits", "any")  # a plain function says nothing


def _multiplies(reward: Any) -> bool:
    """Whether a reward is 0 at outputs that are 0."""
    return _suits(reward) == "linear" or getattr(reward, "magnitude", None) is True


def _flat_layers(net: torch.nn.Module) -> list[torch.nn.Module]:
    """List the layers whose spikes have the derivative 0 under their rule."""
    return [
        layer
        for layer in graph.leaves(net).values()
        if graph.has_trait(layer, "fires")
        and isinstance(rule := getattr(layer, "rule", None), Gradient)
        and type(rule).spike is Gradient.spike
    ]
