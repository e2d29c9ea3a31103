"""When an option of a run does anything: its owner, a condition on the other options.

Words of a condition are those of messages and of help texts (:class:`~spikelfp.options.Condition`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from spikelfp import methods, rules
from spikelfp.data import encodings
from spikelfp.data.load import is_event_data
from spikelfp.methods.feedback import CREDITS, OF_LOSS
from spikelfp.models import (
    activations,
    is_spiking,
    models,
    normalizes,
    takes_neuron,
)
from spikelfp.nn import graph
from spikelfp.options import Condition, View, one_of, options_in, other_than
from spikelfp.registry import Registry, parameters_of
from spikelfp.rewards import rewards
from spikelfp.tasks import tasks

FLOAT = 32
"""Bits that stand for weights that are not quantised."""

DRAWN_BETWEEN = ("uniform", "log-uniform")
"""Starts of decays that do not depend on --beta."""


def _fires(view: View) -> bool:
    """Whether the network has neurons or activations that spike."""
    if is_spiking(view.model):
        return True
    own = options_in(models, view.model).get("activation")
    if own is None:
        return False
    chosen = own.default if view.activation is None else view.activation  # models differ in their defaults
    return graph.has_trait(activations[chosen](), "fires")


def warm_up_of(view: View) -> str | None:
    """Return the method of the first updates, or ``None``."""
    if not view.warm_up_steps:
        return None
    return view.warm_up or ("surrogate" if is_spiking(view.model) else "gradient")


def _delays(view: View) -> tuple[int, ...]:
    """Return the delays of a connection, ``(0,)`` for models without the option."""
    return view.delays if "delays" in options_in(models, view.model) else (0,)


def output_of(view: View) -> str | None:
    """Return the kind of last layer, where the model has a choice: as chosen, else as the task or method needs it."""
    chosen: str | None = view.output if "output" in options_in(models, view.model) else None
    integrators = not tasks[view.task].has_classes or methods.methods.fact(view.method, "by_integrators")
    return chosen or ("li" if integrators else None)


def _has_steps(view: View) -> bool:
    """Whether the network sees sequences whose steps differ, or keeps a state from one to the next."""
    shown = view.encoding != "constant" and (view.steps or 1) > 1
    return is_event_data(view.data) or is_spiking(view.model) or shown


def _warms_up_otherwise(view: View) -> bool:
    """Whether a warm-up would train by another method than the rest of the run."""
    first = view.warm_up or ("surrogate" if is_spiking(view.model) else "gradient")
    return first != view.method and (_fires(view) or not {first, view.method} <= set(WARM_UPS))


def taking(argument: str, objective: str | None = None) -> list[str]:
    """List the methods whose constructor takes an argument."""
    return [
        name for name in methods.methods
        if argument in parameters_of(methods.methods[name])
        and (objective is None or methods.methods.fact(name, "objective") == objective)
    ]  # fmt: skip


def _in_blocks() -> list[str]:
    """List the methods that teach each block of a network by itself, in a way that may be chosen."""
    return [name for name in taking("credit") if not issubclass(methods.methods[name], methods.LFP)]


def with_rates() -> list[str]:
    """List the methods that take a target for the spike rates of hidden neurons, and train neurons that spike."""
    return [name for name in taking("rate") if name not in WARM_UPS or methods.methods.fact(name, "surrogate")]


def smooths(registry: Registry[Any], name: str | None) -> bool:
    """Whether a reward or a loss of classes has a target that can be smoothed."""
    return name is not None and name in registry and "label_smoothing" in parameters_of(registry[name])


def _with_targets(argument: str) -> list[str]:
    """List the methods that take a reward or a loss of classes, and send no errors of their own to hidden layers."""
    return [
        name for name in taking(argument)
        if name not in _in_blocks() and not issubclass(methods.methods[name], methods.PEPITA)
    ]  # fmt: skip


def _is_smoothed(view: View) -> bool:
    """Whether the reward or the loss of a run has a target that can be smoothed."""
    if view.method in _with_targets("loss"):
        return smooths(methods.losses, view.loss)
    return view.method in _with_targets("reward") and (view.reward is None or smooths(rewards, view.reward))


def credit_of(view: View) -> str | None:
    """Return the way in which credit runs inside a block, of methods that teach blocks; ``None`` for others."""
    if view.method not in _in_blocks():
        return None
    return view.credit or ("scan" if _fires(view) else "gradient")


def descends(view: View) -> bool:
    """Whether the outputs descend a loss, in place of ascending a reward."""
    credit = credit_of(view)
    return methods.methods.fact(view.method, "objective") == "loss" if credit is None else credit in OF_LOSS


def _by(by_loss: bool, argument: str, what: str) -> Condition:
    """Make the owner of options of methods that take an argument and descend a loss, or ascend a reward.

    Args:
        by_loss: whether outputs descend a loss.
        argument: of the constructors of the methods.
        what: the options in a word, such as ``rewards``.
    """
    objective = "loss" if by_loss else "reward"
    credits = [name for name in CREDITS if (name in OF_LOSS) is by_loss]

    def label() -> str:
        fixed = [name for name in taking(argument, objective) if name not in _in_blocks()]
        return f"{what} (--method {either(fixed)}, or --credit {either(credits)})"

    return Condition(
        label, lambda view: descends(view) is by_loss and view.method in taking(argument), ("method", "credit")
    )


def either(names: Collection[str]) -> str:
    """Write names as a choice: ``a, b or c``."""
    *most, last = names or ["(none)"]
    return f"{', '.join(most)}{' or ' if most else ''}{last}"


WARM_UPS = methods.methods.where(gradient=True)
"""Methods that may come before another one."""
REWARDED = _by(False, "reward", "rewards")
RULED = _by(False, "rule", "rules of LFP")
CREDITED = one_of("method", lambda: sorted({*taking("credit"), *taking("rule", "reward")}))
FED_BY_LFP = Condition(
    "--credit scan, step or online (without --credit: of networks that spike)",
    lambda c: not descends(c),
    ("credit", "model"),
)
CLASSES = one_of("task", lambda: [name for name in tasks if tasks[name].has_classes], tasks)
LOSS = CLASSES & (_by(True, "loss", "losses") | other_than("warm_up_steps", 0))
EVENTS = Condition("event data (--data nmnist, folder:PATH, …)", lambda c: is_event_data(c.data), ("data",))
OWN_FILES = Condition(
    "recordings of one's own (--data folder:PATH)", lambda c: c.data.partition(":")[0] == "folder", ("data",)
)
OWN_SENSOR = Condition(
    "recordings of one's own (--data folder:PATH, hdf5:PATH)",
    lambda c: c.data.partition(":")[0] in ("folder", "hdf5"),
    ("data",),
)
STATIC = Condition("static samples", lambda c: not is_event_data(c.data), ("data",))
IMAGES = Condition("images (--augmentations is that of events)", lambda c: not is_event_data(c.data), ("data",))
VALUES = one_of("encoding", lambda: [name for name in encodings if name not in ("rate", "latency")])
NEURONS = Condition(
    "models of spiking neurons (--model lif-…)",
    lambda c: is_spiking(c.model) and takes_neuron(c.model),
    ("model",),
)
ONE_BETA = Condition(
    "--beta-start shared, equal or gamma, or --output li",
    lambda c: c.beta_start not in DRAWN_BETWEEN or output_of(c) == "li",
    ("beta_start", "output", "task", "method"),
)
TAPS = Condition("--delays of two or more, of which one is kept", lambda c: len(_delays(c)) > 1, ("model", "delays"))
SPIKES = Condition("networks with spikes (--model lif-…, --activation heaviside)", _fires, ("model", "activation"))
SURROGATE = SPIKES & Condition(
    lambda: f"--method {either(methods.methods.where(surrogate=True))}, a warm-up by it, or --credit surrogate",
    lambda c: credit_of(c) == "surrogate" or bool({c.method, warm_up_of(c)} & {*methods.methods.where(surrogate=True)}),
    ("method", "credit"),
)
STEPS = Condition(
    "sequences of more than one step (a spiking --model, event data, or --encoding rate, latency or delta with "
    "--steps)",
    _has_steps,
    ("model", "steps", "encoding"),
)
SHOWN_STEPS = Condition(
    "sequences whose steps differ or are remembered (a spiking --model, event data, or another --encoding than "
    "constant)",
    lambda c: c.steps in (None, 1) or _has_steps(c),
    ("model", "encoding"),
)
NORMALIZES = one_of("model", lambda: [name for name in models if normalizes(name)])
FEW_BITS = other_than("weight_bits", FLOAT, "--weight-bits")
SENT_BACK = Condition(
    "rewards inside a layer (--method lfp, or --credit scan, step or online)",
    lambda c: not descends(c),
    ("method", "credit"),
)
SENDS_BACK = one_of("method", methods.methods.where(recomputes=True))
OTHER_WARM_UP = Condition("a --method other than its warm-up's", _warms_up_otherwise, ("method",))
RATED = SPIKES & Condition(
    lambda: f"--method {either(with_rates())} (--credit scan or step)",
    lambda c: c.method in with_rates() and c.credit != "online",
    ("method", "credit"),
)
RATED &= Condition(
    "rewards as they are, without --normalize-reward", lambda c: not c.normalize_reward, ("normalize_reward",)
)
RATED &= Condition("sequences that are kept, without --recompute", lambda c: not c.recompute, ("recompute",))
SMOOTHED = CLASSES & Condition(
    lambda: (
        "rewards and losses with a target for each class (--reward "
        f"{either([name for name in rewards if smooths(rewards, name)])}, or --loss "
        f"{either([name for name in methods.losses if smooths(methods.losses, name)])}, of --method "
        f"{either([*_with_targets('reward'), *_with_targets('loss')])})"
    ),
    _is_smoothed,
    ("method", "reward", "loss"),
)
OWN_MOMENTUM = Condition(
    "another --schedule than one-cycle, which moves the momentum of sgd by itself",
    lambda c: not (c.optimizer == "sgd" and c.schedule == "one-cycle" and c.momentum != 0),
    ("optimizer", "schedule"),
)
NORMALIZED = RULED & one_of("rule", lambda: rules.rules_taking("normalize"), rules.rules)
STATISTICS = RULED & one_of("rule", lambda: rules.rules_taking("constant_statistics"), rules.rules) & NORMALIZES
