"""The task of a trainer: a name, a class, an object, or what the reward and the loss are for."""

from __future__ import annotations

import inspect
from typing import Any

from spikelfp.described import described
from spikelfp.errors import UserError
from spikelfp.rewards import Reward, rewards
from spikelfp.tasks.base import Task, TaskReward, tasks
from spikelfp.tasks.classification import Classification, losses


def chosen_task(task: Any, method: Any = None, reward: Any = None, loss: Any = None) -> Task:
    """Find the task that a trainer was asked for, before its method is made.

    Args:
        task: a name of :data:`spikelfp.tasks.tasks`, a class or an object; ``None``: what the reward or the loss is
            for, else classification.
        method: as a trainer takes it; an object has a reward or a loss of its own.
        reward: as a trainer takes it.
        loss: as a trainer takes it; a name is that of a loss of the task.

    Raises:
        UnknownNameError: for a name that is none.
        UserError: for what is no task, and a loss that is said twice.
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


def check_task(task: Task, method: Any) -> None:
    """Refuse a method whose reward or loss is for another task.

    Args:
        task: of the trainer.
        method: made in full.

    Raises:
        UserError: with what to do.
    """
    if hasattr(method, "first") and hasattr(method, "then"):
        check_task(task, method.first)
        check_task(task, method.then)
        return
    reward, loss = getattr(method, "reward", None), getattr(method, "loss", None)
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
    """Name of the task whose targets a reward takes; ``None`` where it does not say, as one with a ``target`` of its
    own."""
    if type(reward).task is Reward.task and type(reward).target is not Reward.target:
        return None
    return reward.task


def is_built_in(loss: Any) -> bool:
    """Whether a loss is one of :data:`~spikelfp.tasks.classification.losses`."""
    return any(losses[name] is loss for name in losses)


def _made(kind: type[Task], loss: str | None) -> Task:
    """Make a task with a loss by name."""
    if loss is None:
        return kind()
    if "loss" not in inspect.signature(kind).parameters:
        raise UserError(f"the task {kind.name} has one loss alone: leave out loss={loss!r}")
    return kind(loss=loss)  # type: ignore[call-arg]


def _inferred(method: Any, reward: Any, loss: Any) -> Task:
    """The task that the reward or the loss is for."""
    while hasattr(method, "then"):
        method = method.then
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
    return Classification(*[name for name in losses if losses[name] is loss])
