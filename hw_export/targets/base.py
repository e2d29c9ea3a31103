"""The base of targets: to write a network, and for a chip to say first whether it can hold it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from hw_export.integer.arithmetic import Arithmetic, code_of
from hw_export.integer.energy import EnergyModel
from hw_export.integer.network import IntegerLIF, IntegerNetwork
from hw_export.integer.simulator import IntegerRun
from hw_export.quantize import QuantizedNetwork
from hw_export.quantize.report import span
from hw_export.targets.files import check_outline, outline, read_facts, write_facts
from hw_export.targets.limits import Decays, Limit, Resets, Violation, notes_of
from spikelfp.errors import DataError, UserError
from spikelfp.options import flag, options_of
from spikelfp.registry import Registry
from spikelfp.untrusted.tensors import brief
from spikelfp.untrusted.text import Field


def adapted(network: IntegerNetwork, arithmetic: Arithmetic) -> IntegerNetwork:
    """Brings a network into the chip's terms.

    A threshold ``k`` that sums must exceed is ``k + 1`` where the chip fires at ``>=``, which is the same for whole
    numbers. Without leak (β = 1) θ taken off at the spike and one step later are the same: whichever the chip has.
    """
    return replace(
        network,
        layers=tuple(
            _neurons(layer, arithmetic) if isinstance(layer, IntegerLIF) else layer for layer in network.layers
        ),
    )


def _neurons(layer: IntegerLIF, arithmetic: Arithmetic) -> IntegerLIF:
    reset = layer.reset
    if not layer.leaks and reset not in arithmetic.resets:
        other = {"subtract": "immediate", "immediate": "subtract"}.get(reset, reset)
        reset = other if other in arithmetic.resets else reset
    return replace(layer, reset=reset, threshold=layer.threshold + (1 if arithmetic.fires == ">=" else 0))


OUTLINE = "network.yaml"
FORMAT = 1


class Target(ABC):
    """Writes a network in the form of one chip or tool.

    A target of your own is a class derived from this one, or from :class:`Chip`, that is registered in
    :data:`TARGETS`. The parameters of its constructor are its options, kept as attributes of the same names.

    Attributes:
        name: the one it is registered by.
        summary: one line for ``hw-export targets``.
        bits: widths of weights it takes, 32 standing for floats.
        default_bits: what is taken where none is asked for.
        nir_file: name of the NIR file among those it writes, by which simulators check the export; ``None``: none.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    bits: ClassVar[tuple[int, ...]]
    default_bits: ClassVar[int] = 8
    nir_file: ClassVar[str | None] = None

    @property
    def options(self) -> dict[str, Any]:
        """Values of the parameters of its constructor, by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @abstractmethod
    def write(self, net: torch.nn.Module, folder: Path, input_shape: tuple[int, ...]) -> dict[str, Any]:
        """Write the files of ``net`` into ``folder``; returns what the manifest should say of them."""

    def check_bits(self, bits: int | None) -> int:
        """``bits``, 32 for ``None``, or :class:`~spikelfp.errors.UserError` for a width it does not take."""
        width = 32 if bits is None else bits
        if width not in self.bits:
            whole = [one for one in self.bits if one < 32]
            floats = ", or 32 for floats" if 32 in self.bits else ""
            span = f"{whole[0]} to {whole[-1]}" if len(whole) > 1 else f"{whole[0]}"
            raise UserError(f"{self.name} takes {span} bits{floats}, got {bits}")
        return width

    def describe(self) -> dict[str, Any]:
        """Describe what it can hold, for ``hw-export targets``."""
        return {
            "summary": self.summary,
            "bits": list(self.bits),
            "default_bits": self.default_bits,
            "options": {
                flag(each.name): f"{each.help} [{each.shown_default}]" for each in options_of(type(self)).values()
            },
        }


class Chip(Target):
    """A chip of spiking neurons in whole numbers.

    Attributes:
        arithmetic: of its neurons.
        limits: its own; those of its resets and decays come with the arithmetic.
        per_neuron: whether the neurons of a layer may have thresholds and decays of their own.
        sources: where the numbers are from.
        energy: published energy of its operations; ``None``: nothing is published.
    """

    arithmetic: Arithmetic
    limits: tuple[Limit, ...]
    per_neuron: ClassVar[bool] = False
    sources: ClassVar[tuple[str, ...]] = ()
    energy: ClassVar[EnergyModel | None] = None

    @abstractmethod
    def prepare(self, network: IntegerNetwork) -> dict[str, Any]:
        """The chip's own integer codes of an adapted network, as they go into its files."""

    @abstractmethod
    def write_network(self, network: IntegerNetwork, folder: Path) -> None:
        """Write the chip's own files of an adapted network."""

    @abstractmethod
    def read_network(self, facts: Mapping[str, Any], folder: Path) -> IntegerNetwork:
        """The network of the chip's own files, and of the facts that they do not hold."""

    def integers(self, net: torch.nn.Module, input_shape: tuple[int, ...]) -> IntegerNetwork:
        """The whole numbers of a quantised network, not adapted yet.

        Raises :class:`~spikelfp.errors.UserError` for float weights, and for inputs that are not whole numbers.
        """
        if not isinstance(net, QuantizedNetwork) or net.bits is None:
            raise UserError(f"{self.name} takes whole numbers: quantise the network first")
        if net.input_scale is None:
            raise UserError(
                f"{self.name} takes inputs of whole numbers: give spikes or inputs of a known scale, "
                "or round them to few levels with --input-scale" + "".join(f"; {note}" for note in net.notes)
            )
        return IntegerNetwork.of(net, input_shape)

    def adapt(self, network: IntegerNetwork) -> IntegerNetwork:
        """The network in the chip's terms: what it runs, and what its files hold."""
        return adapted(network, self.arithmetic)

    def check(self, network: IntegerNetwork) -> list[Violation]:
        """All limits that a network, not adapted yet, breaks."""
        chip = self.adapt(network)
        return [violation for limit in self.every_limit for violation in limit.check(chip)]

    @property
    def every_limit(self) -> tuple[Limit, ...]:
        """Its own limits, and those that come with its arithmetic."""
        return (*self.limits, Resets(self.arithmetic), Decays(self.arithmetic, self.per_neuron))

    def refuse(self, network: IntegerNetwork) -> None:
        """:class:`~spikelfp.errors.UserError` with every violation, where there is any."""
        found = self.check(network)
        if found:
            raise UserError(f"{self.name} cannot hold this network: " + "; ".join(str(one) for one in found))

    def notes(self, network: IntegerNetwork) -> list[str]:
        """What a network, not adapted yet, does differently on the chip."""
        return notes_of(self.adapt(network), self.arithmetic)

    def addresses(self, network: IntegerNetwork) -> dict[str, range]:
        """The addresses of each layer's neurons on the chip's output bus; empty where neurons have no such number."""
        return {}

    def outdated(self, folder: Path) -> str:
        """Why the files in ``folder``, though their numbers are right, should be written again; empty: no reason."""
        return ""

    def write_samples(
        self, network: IntegerNetwork, inputs: torch.Tensor, run: IntegerRun, folder: Path
    ) -> dict[str, Any]:
        """Write what a board needs, beyond the chip's files in ``folder``, to be sent samples; by default nothing.

        Args:
            network: as it was read from the chip's files.
            inputs: whole numbers ``[T, B, …]``.
            run: what the chip makes of them.
            folder: of the export.

        Returns:
            More for what the manifest says of the chip.
        """
        return {}

    def words(self, facts: Mapping[str, Any]) -> list[str]:
        """Tell in lines, when an export was built, what :meth:`write_samples` has added to the chip's ``facts``."""
        return []

    def write(self, net: torch.nn.Module, folder: Path, input_shape: tuple[int, ...]) -> dict[str, Any]:
        """Write the chip's files and ``network.yaml``; refused, before anything is written, what does not fit."""
        network = self.integers(net, input_shape)
        self.refuse(network)
        chip = self.adapt(network)
        self.write_network(chip, folder)
        facts = {"format": FORMAT, "target": self.name, **outline(chip, self.arithmetic)}
        chosen = self._chosen()
        write_facts(folder / OUTLINE, facts | ({"options": chosen} if chosen else {}))
        return {
            "arithmetic": {**asdict(self.arithmetic), "resets": sorted(self.arithmetic.resets)},
            "neurons": [
                {
                    "layer": layer.name,
                    "shape": list(chip.shape_of(layer)),
                    "beta": span(layer.betas),
                    "decay": span(code_of(layer, self.arithmetic, chip.shape_of(layer))),
                    "threshold": span(layer.threshold),
                    "reset": layer.reset,
                }
                for layer in chip.neurons
            ],
        }

    def read(self, folder: Path) -> IntegerNetwork:
        """The adapted network of an export, from the chip's own files.

        Raises :class:`~spikelfp.errors.DataError` for files that are missing, damaged, another chip's, or do not fit
        together.
        """
        folder = Path(folder)
        facts = read_facts(folder / OUTLINE)
        if facts.get("format") != FORMAT or facts.get("target") != self.name:
            raise DataError(f"{folder / OUTLINE} is not of {self.name} in format {FORMAT}")
        if facts.get("options", {}) != self._chosen():
            raise DataError(
                f"{folder / OUTLINE} is of {self.name} with the options {_said(facts.get('options', {}))}, not "
                f"{_said(self._chosen())}: read it by a target made with them"
            )
        check_outline(Field(folder / OUTLINE, "", facts, DataError))
        try:
            return self.read_network(facts, folder)
        except DataError:
            raise
        except Exception as error:  # a damaged file fails in many ways
            text = f"it has no {error}" if isinstance(error, KeyError) else (str(error) or type(error).__name__)
            text = text.splitlines()[0]
            raise DataError(f"{folder} holds no readable network of {self.name}: {text}") from None

    def _chosen(self) -> dict[str, Any]:
        """The options that are not as by default, as YAML holds them."""
        known = inspect.signature(type(self)).parameters
        return {name: value for name, value in self.options.items() if value != known[name].default}

    def describe(self) -> dict[str, Any]:
        return {
            **super().describe(),
            "constants": "per neuron" if self.per_neuron else "per layer",
            "state_bits": self.arithmetic.state_bits,
            "limits": [str(limit) for limit in self.every_limit],
            "sources": list(self.sources),
            "energy": None if self.energy is None else asdict(self.energy),
        }


def _said(options: Any) -> str:
    if not isinstance(options, Mapping):
        return brief(options)
    return ", ".join(f"{name} {brief(value)}" for name, value in options.items()) or "by default"


class _Targets(Registry[type[Target]]):
    """Target classes by name, which becomes the ``name`` of the class."""

    def register(self, name: str, **facts: Any) -> Callable[[type[Target]], type[Target]]:
        file = super().register(name, **facts)

        def add(entry: type[Target]) -> type[Target]:
            if not (isinstance(entry, type) and issubclass(entry, Target)):
                raise UserError(f"target {name!r} must be a class derived from Target or Chip, got {entry!r}")
            if vars(entry).get("name", name) != name:
                raise UserError(f"{entry.__name__} is target {entry.name!r} already: register a class derived from it")
            file(entry)
            entry.name = name
            return entry

        return add


TARGETS: Registry[type[Target]] = _Targets("target")
"""Classes of targets by name. Without arguments one is made with the options that ``hw-export`` takes by default."""


def make_target(name: str, options: Mapping[str, Any] | None = None) -> Target:
    """Make a registered target.

    Args:
        name: of the target.
        options: of its constructor, by name.

    Raises:
        UserError: for an unknown target, an option that it does not have, a value that it does not take, and a class
            that leaves out what a target must state.
    """
    kind, given = TARGETS[name], dict(options or {})
    known = inspect.signature(kind).parameters
    for option in given:
        if option not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise UserError(f"target {name!r} has no option {brief(option)}: {has}")
    if inspect.isabstract(kind):
        raise UserError(
            f"target {name!r} is not whole: {kind.__name__} lacks {', '.join(sorted(kind.__abstractmethods__))}"
        )
    made = kind(**given)
    _check_stated(made)
    return made


def _check_stated(made: Target) -> None:
    """Refuse a target whose class leaves out what is asked of it, or states it as something else."""
    for option, parameter in inspect.signature(type(made)).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UserError(f"target {made.name!r}: options have names, so {type(made).__name__} takes no {parameter}")
        _stated(made, option, lambda _: True, "kept by __init__, for it is an option")
    _stated(made, "summary", lambda each: isinstance(each, str), "a line of text")
    _stated(
        made,
        "bits",
        lambda each: bool(each) and _all_are(each, _is_width),
        "a tuple of widths, 2 to 16, and 32 for floats",
    )
    _stated(made, "default_bits", lambda each: each in made.bits, f"one of its bits, {made.bits}")
    _stated(made, "nir_file", lambda each: isinstance(each, (str, type(None))), "the name of a file, or None")
    if not isinstance(made, Chip):
        return
    _stated(made, "arithmetic", lambda each: isinstance(each, Arithmetic), "a hw_export.integer.Arithmetic")
    _stated(made, "limits", lambda each: _all_are(each, lambda one: isinstance(one, Limit)), "a tuple of limits")
    _stated(made, "sources", lambda each: _all_are(each, lambda one: isinstance(one, str)), "a tuple of texts")
    _stated(made, "energy", lambda each: isinstance(each, (EnergyModel, type(None))), "an EnergyModel, or None")


def _stated(made: Target, name: str, fits: Callable[[Any], bool], wanted: str) -> None:
    if not hasattr(made, name):
        raise UserError(f"target {made.name!r}: {type(made).__name__} has no {name}, which must be {wanted}")
    value = getattr(made, name)
    if not fits(value):
        got = str(value) if isinstance(value, tuple) and len(value) < 20 else brief(value)
        raise UserError(f"target {made.name!r}: {name} of {type(made).__name__} must be {wanted}, got {got}")


def _all_are(values: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(values, (tuple, list, range)) and all(map(fits, values))


def _is_width(bits: Any) -> bool:
    return isinstance(bits, int) and (2 <= bits <= 16 or bits == 32)
