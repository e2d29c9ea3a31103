"""Starting weights, images and labels of every contender, made once and kept in ``benchmarks/.cache``.

The images are the 8×8 digits that come with scikit-learn, resized to 28×28 (bilinear). ``how`` chooses the weights:

* ``initial``: random ones, as the network is made;
* ``scaled``: the same, with the weights and biases before each hidden layer multiplied by a factor at which the layer
  fires at ``rate`` spikes per neuron and step;
* ``trained``: after ``epochs`` epochs of LFP on the digits at learning rate ``lr``; an error if a hidden layer then
  fires at more than ``at_most``.

Recurrent networks (``kind`` ``rnn``) take sequences of events (:func:`sequences`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

import spikelfp
from benchmarks.networks import PAPER, Network
from spikelfp import TemporalTrainer, data, models, nn
from spikelfp.analysis import spike_rates
from spikelfp.files import write_tensors

CACHE = Path(__file__).parent / ".cache"
VERSION = 1
"""Version of the files; those of another version are not used."""

_HALVINGS = 24
_WIDEST = 1e3  # largest factor tried, and one over the smallest

console = Console(stderr=True)


def with_start(network: Network, folder: Path = CACHE) -> Network:
    """Return ``network`` as contenders take it: with the path of a file as ``start``, and without goals."""
    plain = {key: network[key] for key in ("kind", "sizes", "steps", "batch") if key in network}
    return plain | {"start": str(start_file(network, folder))}


def start_file(network: Network, folder: Path = CACHE) -> Path:
    """Return the file of starting weights of ``network``; make it in ``folder`` if it does not exist."""
    parts = {key: network[key] for key in ("kind", "sizes", "steps", "batch", "start") if key in network}
    recipe = json.dumps([VERSION, spikelfp.__version__, torch.__version__, parts], sort_keys=True)
    path = folder / f"{network['start']['how']}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.pt"
    if not path.exists():
        write_tensors(path, make(network))
    return path


def digits() -> tuple[data.ArrayDataset, data.ArrayDataset]:
    """Load the digits for training and for testing, ``[N, 1, 28, 28]`` in [0, 1]."""
    splits = data.load("digits")
    return _resized(splits.train), _resized(splits.test)


def make(network: Network) -> dict[str, Any]:
    """Make the starting parameters, images and labels of ``network``."""
    start, recurrent = network["start"], network["kind"] == "rnn"
    if recurrent:
        train = sequences(network, network["batch"])
    else:
        train, _ = digits()
    images, labels = train.__getitems__([index % len(train) for index in range(network["batch"])])
    torch.manual_seed(0)
    made = {"lenet": lambda sizes, **o: models.lif_lenet(**o), "mlp": models.lif_mlp, "rnn": models.lif_rnn}
    net = made[network["kind"]](network.get("sizes", []), **PAPER)
    if recurrent:
        images = images.transpose(0, 1).contiguous()
    if start["how"] == "scaled":
        shown = images[:, :32] if recurrent else nn.constant(images[:32], network["steps"])
        scale_to(net, shown, start["rate"])
    elif start["how"] == "trained":
        _train(net, train, network)
    elif start["how"] != "initial":
        raise ValueError(f"a start is initial, scaled or trained, not {start['how']!r}")
    return {"parameters": [p.detach().contiguous() for p in net.parameters()], "images": images, "labels": labels}


def sequences(network: Network, count: int) -> data.ArrayDataset:
    """Make ``count`` sequences of events ``[N, T, channels]``, 0 and 1, and their classes.

    In each class, half of the channels fire around a time that is theirs, for a sixth of the steps. All channels also
    fire at random. About 3 % of 700 channels fire in a step, 10 % of 24.
    """
    channels, classes, steps = network["sizes"][0], network["sizes"][-1], network["steps"]
    generator = torch.Generator().manual_seed(0)
    times = torch.rand(classes, 1, channels, generator=generator) * steps
    takes_part = (torch.rand(classes, 1, channels, generator=generator) < 0.5).float()
    near = ((torch.arange(steps).view(1, -1, 1) - times).abs() < steps / 12).float()
    chance = (0.25 if channels > 100 else 0.9) * near * takes_part + (0.01 if channels > 100 else 0.03)
    labels = torch.arange(count) % classes
    events = torch.stack([torch.rand(steps, channels, generator=generator) < chance[label] for label in labels])
    return data.ArrayDataset(events.float(), labels, classes=classes)


@torch.no_grad()
def scale_to(net: nn.Sequential, x: Tensor, rate: float) -> list[float]:
    """Scale the weights before every hidden LIF layer of ``net`` so that it fires at ``rate`` on ``x``.

    The factors are found by bisection.

    Returns:
        The rates that were reached; they stay below ``rate`` where too few neurons get a current above 0.
    """
    reached: list[float] = []
    last = [layer for layer in net if isinstance(layer, nn.Neurons)][-1]
    weighted: torch.nn.Module | None = None
    for layer in net:
        if layer is last:
            break
        if isinstance(layer, nn.Neurons) and weighted is not None:
            low, high = 1 / _WIDEST, _WIDEST
            for _ in range(_HALVINGS):
                middle = (low * high) ** 0.5
                low, high = (low, middle) if layer(x * middle).mean() > rate else (middle, high)
            for parameter in weighted.parameters():
                parameter.mul_(low)
            x = layer(x * low)
            reached.append(x.mean().item())
        else:
            weighted = layer if getattr(layer, "weight", None) is not None else weighted
            x = layer(x)
    return reached


def _train(net: nn.Sequential, train: data.ArrayDataset, network: Network) -> None:
    start = network["start"]
    console.print(f"training the start of {network.get('sizes', network['kind'])}, once; it is kept in {CACHE}")
    trainer = TemporalTrainer(net, steps=network["steps"], lr=start["lr"], device="cpu")
    trainer.fit(train, start["epochs"])
    images, _ = train.__getitems__(range(network["batch"]))
    rates = list(spike_rates(net, nn.constant(images, network["steps"])).values())[:-1]
    if max(rates) > start["at_most"]:
        raise RuntimeError(f"training left hidden spike rates of {rates}, above {start['at_most']}")


def _resized(part: data.ArrayDataset) -> data.ArrayDataset:
    images = torch.nn.functional.interpolate(part.values(part.images), size=(28, 28), mode="bilinear")
    return data.ArrayDataset(images, part.labels, classes=10)
