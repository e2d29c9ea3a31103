"""Texts of the report: names of options in plain words, numbers with units, and the command line of a run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable

from spikelfp import plugins
from spikelfp.data.load import is_event_data, without_folder
from spikelfp.functional.lif import PAPER_FLOOR, PAPER_MARGIN
from spikelfp.methods import methods
from spikelfp.options import written
from spikelfp.training.conditions import FLOAT, REWARDED, RULED, SENT_BACK, credit_of
from spikelfp.training.config import OPTIONS, RunConfig

DATA = {
    "digits": "handwritten digits",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar10-subset": "CIFAR-10, a subset",
    "cifar100": "CIFAR-100",
    "nmnist": "N-MNIST",
    "shd": "Spiking Heidelberg Digits",
    "ssc": "Spiking Speech Commands",
    "braille": "Braille letters",
    "dvs-gesture": "DVS128 Gesture",
    "fsdd-cochlea": "spoken digits",
    "wine-quality": "wine quality",
    "sgemm": "run times of matrix products",
    "blobs": "two blobs",
    "circles": "two circles",
    "swirls": "a swirl of three arms",
}

MODELS = {
    "lif-mlp": "spiking MLP",
    "lif-lenet": "spiking LeNet",
    "lif-conv": "spiking convolutional network",
    "lif-rnn": "recurrent spiking network",
    "lif-vgg-like": "spiking VGG-like network",
    "lif-resnet18": "spiking ResNet-18",
    "lif-vit": "spiking Vision Transformer",
    "mlp": "fully connected network",
    "lenet": "LeNet",
    "vgg-like": "VGG-like network",
    "vgg16": "VGG-16",
    "vgg16-bn": "VGG-16 with BatchNorm",
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "vit": "Vision Transformer",
}

RULES = {
    "epsilon": "LFP-ε: each neuron hands its reward to its inputs in proportion to what they contributed.",
    "zero": "LFP-0: each neuron hands its reward to its inputs in proportion to what they contributed.",
    "alphabeta": "LFP-αβ: exciting and inhibiting inputs share the reward separately.",
    "zplusminus": "LFP-z±: exciting and inhibiting inputs share the reward separately.",
    "gamma": "LFP-γ: exciting inputs get a larger share of the reward.",
}

REWARDS = {
    "spike-sequence": "the right class should spike in more than half of the steps, the others in less.",
    "spike-sequence-v1": "the right class should spike in more than half of the steps; spikes of others are punished.",
    "count-softmax": "the number of spikes of each output moves as softmax cross-entropy would move it.",
    "softmax": "each output moves towards the right class as softmax cross-entropy would move it.",
    "sigmoid": "each output moves towards its own yes or no as sigmoid cross-entropy would move it.",
}

ENCODINGS = {
    "constant": "each sample is a constant input for {steps} steps",
    "rate": "each input spikes at random, at the rate of its brightness, for {steps} steps",
    "latency": "each input spikes once in {steps} steps, the brighter the earlier",
    "delta": "inputs spike when they change, over {steps} steps",
}

RESETS = {
    "subtract": "subtracts the threshold one step later",
    "immediate": "subtracts the threshold at once",
    "zero": "resets to zero",
}

DECAYS = {
    "shared": "β = {beta:g}",
    "equal": "β of each neuron from {beta:g} on",
    "uniform": "β of each neuron drawn between {beta_low:g} and {beta_high:g}",
    "log-uniform": "β of each neuron drawn between {beta_low:g} and {beta_high:g} (log-uniform time constants)",
    "gamma": "β of each neuron drawn around {beta:g} (gamma-distributed time constants)",
}

CREDITS = {
    "gradient": "the chain rule inside each layer, none between layers.",
    "surrogate": "the chain rule inside each layer, with a surrogate derivative of spikes; none between layers.",
    "scan": "the rule inside each layer, through all steps; none between layers.",
    "step": "the rule inside each layer, in each step by itself; none between layers.",
    "online": "the rule inside each layer, at every step as it runs; none between layers or steps.",
}

THROUGH = {
    "step": "through all layers, in each step by itself.",
    "online": "forward in time: each connection remembers its part in the membrane, and learns at every step from the "
    "reward of that step, which goes through all layers.",
}

FEEDBACK = {
    "f3": "each hidden layer gets the error that the sample had an epoch before, through fixed weights",
    "dfa": "each hidden layer gets the error of the outputs, through fixed weights",
    "drtp": "each hidden layer gets the target, through fixed weights",
    "llo": "none: hidden layers keep their initial weights",
    "e-prop": "the error of the outputs at every step reaches all neurons, and synapses remember what they did",
    "ottt": "the gradient of each step, through all layers, meets a trace of the spikes so far",
    "decolle": "each layer descends the loss of its own outputs at every step, read through fixed random weights",
    "pepita": "the error of the outputs changes the inputs of a second pass, through a fixed random projection",
}

FEEDBACK_WEIGHTS = {
    "kaiming": "uniform random numbers",
    "trinomial": "−1, 0 and 1 by chance",
    "binomial": "0 and 1 by chance",
    "identity": "ones and minus ones on diagonals",
}

PLACES = ("data_dir", "cache_dir", "device", "workers", "checkpoint_every", "accumulate", "recompute")
"""Options that say where and how to run, not what comes out."""


def title(config: RunConfig) -> str:
    """Write the headline of a run: model, data and method."""
    model, data = MODELS.get(config.model.name, config.model.name), data_name(config.data.name)
    if config.model.weight_bits != FLOAT:
        model = f"{model} with {config.model.weight_bits}-bit weights"
    return f"A {model} on {data}, trained with {methods.fact(config.method.name, 'words') or config.method.name}"


def lead(config: RunConfig, spiking: bool) -> list[tuple[str, str]]:
    """Describe a run.

    Args:
        config: of the run.
        spiking: whether its network has neurons that fire.

    Returns:
        Pairs of a term and its explanation.
    """
    terms = [("Events", f"{events(config)}.")] if is_event_data(config.data.name) else []
    if spiking:
        reset = RESETS.get(config.neuron.reset, config.neuron.reset)
        decay = DECAYS.get(config.neuron.beta_start.name, config.neuron.beta_start.name + " decays")
        decay = decay.format(beta=config.neuron.beta, **config.neuron.beta_start.options)
        neuron = f"leaky integrate-and-fire, {decay}, θ = {config.neuron.threshold:g}, a spike {reset}"
        if config.neuron.adapt:
            neuron += f" and raises the threshold of its hidden neuron by {config.neuron.adapt:g}"
        if not is_event_data(config.data.name):
            shown = ENCODINGS.get(config.data.encoding, config.data.encoding + " code, {steps} steps")
            neuron += f"; {shown.format(steps=config.data.steps)}"
        own = config.neuron
        if SENT_BACK.holds(config.flat) and (own.floor, own.margin) != (PAPER_FLOOR, PAPER_MARGIN):
            neuron += f"; rewards divided by {own.floor:g} θ at least, earned above {own.margin:g} θ"
        terms += [("Neurons", f"{neuron}.")]
    if config.training.readout_steps is not None:
        terms += [("Answer", f"from the outputs of the last {plural(config.training.readout_steps, 'step')}.")]
    task = config.make_task()
    terms += _learning_apart(config)
    if RULED.holds(config.flat):
        terms += [("Rule", RULES.get(config.method.rule.name, config.method.rule.name))]
    if REWARDED.holds(config.flat):
        reward = config.method.reward.name
        if reward is None:
            text = f"each output moves so that the loss falls: the {task.loss_meaning}."
        else:
            text = f"{reward}: {REWARDS[reward]}" if reward in REWARDS else f"{reward}"
        terms += [("Reward", text)]
    elif methods.fact(config.method.name, "gradient"):
        spikes = f"; spikes have a {config.method.surrogate} derivative"
        terms += [("Gradient", task.loss_meaning + spikes * bool(methods.fact(config.method.name, "surrogate")) + ".")]
    elif methods.fact(config.method.name, "watches_loss") or credit_of(config.flat) is not None:
        terms += [("Loss", f"{task.loss_meaning}.")]
    return terms


def _learning_apart(config: RunConfig) -> list[tuple[str, str]]:
    """Describe how hidden layers learn that get no credit from the layers after them."""
    credit, name = credit_of(config.flat), config.method.name
    if credit is None:
        if name in FEEDBACK:
            return [("Feedback", f"{FEEDBACK[name]}.")]
        text = THROUGH.get(config.method.credit or "")
        return [] if text is None else [("Credit", text)]
    terms = [("Credit", CREDITS.get(credit, credit))]
    weights = config.method.options.get("feedback_init")
    feedback = FEEDBACK.get(name, f"fixed weights of {methods.fact(name, 'words') or name}")
    if weights is not None:
        feedback += f" ({weights}: {FEEDBACK_WEIGHTS[weights]})" if weights in FEEDBACK_WEIGHTS else f" ({weights})"
    memory = config.method.options.get("error_memory")
    if memory in ("class", "hash"):
        kept = "of each class" if memory == "class" else "of samples with equal inputs, found by a hash"
        feedback += f"; errors are averages {kept}"
    return [*terms, ("Feedback", f"{feedback}.")]


def data_name(name: str) -> str:
    """Write the name of a data set in plain words."""
    kind, colon, rest = without_folder(name).partition(":")
    if not colon:
        return DATA.get(name, name)
    return f"recordings in {rest}" if kind == "folder" else f"{rest} ({kind})"


def events(config: RunConfig) -> str:
    """Describe how recordings become sequences."""
    most = f", at most {config.data.steps} of them" if config.data.steps else ""
    if config.events.window is not None:
        parts = [f"a step holds the events of {config.events.window:g} ms{most}"]
    elif config.events.events_per_step is not None:
        parts = [f"a step holds {plural(config.events.events_per_step, 'event')}{most}"]
    elif config.data.steps is not None:
        parts = [f"each recording is cut into {plural(config.data.steps, 'step')} of equal length"]
    else:
        parts = ["each recording is a sequence of steps"]
    if config.events.levels == 1:
        parts.append("an input spikes where a step has events")
    elif config.events.levels is not None:
        parts.append(f"up to {config.events.levels} events of an input in a step count")
    if config.events.transforms not in (None, "", "none"):
        parts.append(f"before that: {config.events.transforms}")
    if config.events.augmentations:
        parts.append(f"in training at random: {config.events.augmentations}")
    return "; ".join(parts)


def step(config: RunConfig) -> str:
    """Name a step of a sample, for an axis."""
    if config.events.window is not None:
        return f"step of {config.events.window:g} ms"
    return (
        "step" if config.events.events_per_step is None else f"step of {plural(config.events.events_per_step, 'event')}"
    )


def command(config: RunConfig, name: str) -> list[str]:
    """Write the command line that trains the network again.

    Args:
        config: of the run.
        name: of the run folder.

    Returns:
        Parts of the line: ``spikelfp train``, then the options that it needs.
    """
    parts = dict.fromkeys(["spikelfp train"])
    for path, value in OPTIONS.used(config).items():
        option = path[-1]
        first = path in (("data",), ("model",), ("method",))
        if option in PLACES or value is None or (value == OPTIONS.default(path, config) and not first):
            continue
        if path == ("data",):
            value = without_folder(value)
        flag, *text = written(option, value).split(" ", 1)
        parts[shlex.join([flag, *text])] = None
    for plugin in plugins.used(OPTIONS.used(config).values()):
        parts[shlex.join(["--plugin", plugin.rpartition(os.sep)[2]])] = None
    return [*parts, shlex.join(["--out", f"runs/{name}"])]


def percent(share: float, digits: int = 1) -> str:
    """Write a share as a percentage."""
    return f"{100 * share:.{digits}f} %"


def small(value: float) -> str:
    """Write a number below 0.1 with four decimals, others with three digits."""
    text = f"{value:.3g}" if abs(value) >= 0.1 else f"{round(value, 4) + 0.0:.4f}"
    return text.replace("-", "−")


def seconds(value: float) -> str:
    """Write a duration in the unit that suits it."""
    if value < 120:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def plural(count: int, noun: str) -> str:
    """Write a number and a noun, ``1 epoch`` or ``2 epochs``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def joined(values: Iterable[int], separator: str = " × ") -> str:
    """Write sizes in one string."""
    return separator.join(f"{value:,}" for value in values)
