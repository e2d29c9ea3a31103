"""Base classes of targets, their registry, and the making of a target from its options.

A target writes a network in the form of one tool; a chip also says whether it can hold the network.
"""

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
from hw_export.integer.network import IntegerLayer, IntegerLIF, IntegerNetwork
from hw_export.integer.simulator import IntegerRun
from hw_export.quantize import QuantizedNetwork
from hw_export.quantize.report import span
from hw_export.targets.limits import Decays, Delays, Limit, Resets, Violation, notes_of
from hw_export.targets.outline import check_outline, outline, read_facts, write_facts
from spikelfp import checks
from spikelfp.errors import DataError, UserError
from spikelfp.options import flag, options_of
from spikelfp.registry import Registry
from spikelfp.untrusted.tensors import brief
from spikelfp.untrusted.text import Field


def adapted(network: IntegerNetwork, arithmetic: Arithmetic) -> IntegerNetwork:
    """Express the neurons of a network in the chip's terms.

    A threshold ``k`` that sums must exceed becomes ``k + 1`` on a chip that fires at ``>=``, which is the same for
    whole numbers. Without a leak (β = 1), taking θ off at the spike or one step later is the same: the reset becomes
    the one that the chip has.

    Args:
        network: in the terms of ``nn.LIF``.
        arithmetic: of the chip.
    """
    layers: list[IntegerLayer] = []
    for layer in network.layers:
        if isinstance(layer, IntegerLIF):
            reset = layer.reset
            if not layer.leaks and reset not in arithmetic.resets:
                other = {"subtract": "immediate", "immediate": "subtract"}.get(reset, reset)
                reset = other if other in arithmetic.resets else reset
            layer = replace(layer, reset=reset, threshold=layer.threshold + (1 if arithmetic.fires == ">=" else 0))
        layers.append(layer)
    return replace(network, layers=tuple(layers))


OUTLINE = "network.yaml"
"""File of the facts of a network that the chip's own files do not hold."""
FORMAT = 1
"""Version of that file."""


class Target(ABC):
    """Writer of a network in the form of one chip or tool.

    To add a target, derive a class from this one or from :class:`Chip` and register it in :data:`TARGETS`. The
    parameters of its constructor are its options, kept as attributes of the same names.

    Attributes:
        name: name by which the target is registered.
        summary: one line for ``hw-export targets``.
        bits: bits of a weight that the target takes; 32 stands for floats.
        default_bits: bits of a weight by default.
        nir_file: name of the NIR file among those it writes, by which simulators check the export; ``None`` where it
            writes none.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    bits: ClassVar[tuple[int, ...]]
    default_bits: ClassVar[int] = 8
    nir_file: ClassVar[str | None] = None

    @property
    def options(self) -> dict[str, Any]:
        """Options: the values of the parameters of the constructor, by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @abstractmethod
    def write(self, net: torch.nn.Module, folder: Path, input_shape: tuple[int, ...]) -> dict[str, Any]:
        """Write the files of a network.

        Args:
            net: the network, quantised unless 32 bits are asked for.
            folder: where to write; it exists.
            input_shape: shape of one sample at one step.

        Returns:
            Facts for the manifest of the export, plain data.
        """

    def check_bits(self, bits: int | None) -> int:
        """Check the bits of a weight.

        Args:
            bits: of a weight; ``None`` stands for floats.

        Returns:
            ``bits``, 32 for floats.

        Raises:
            UserError: for bits that the target does not take.
        """
        width = 32 if bits is None else bits
        if width not in self.bits:
            whole = [each for each in self.bits if each < 32]
            floats = ", or 32 for floats" if 32 in self.bits else ""
            span = f"{whole[0]} to {whole[-1]}" if len(whole) > 1 else f"{whole[0]}"
            raise UserError(f"{self.name} takes {span} bits{floats}, got {bits}")
        return width

    def describe(self) -> dict[str, Any]:
        """Describe the target for ``hw-export targets``, as plain data."""
        return {
            "summary": self.summary,
            "bits": list(self.bits),
            "default_bits": self.default_bits,
            "options": {
                flag(each.name): f"{each.help} [{each.shown_default}]" for each in options_of(type(self)).values()
            },
        }


class Chip(Target):
    """Chip of spiking neurons that compute in whole numbers.

    Attributes:
        arithmetic: integer arithmetic of its neurons.
        limits: limits of the chip; those of its resets, decays and delays come with the arithmetic.
        per_neuron: whether the neurons of a layer may have decays of their own.
        sources: documents from which the numbers are taken.
        energy: published energy of its operations; ``None`` where nothing is published.
    """

    arithmetic: Arithmetic
    limits: tuple[Limit, ...]
    per_neuron: ClassVar[bool] = False
    sources: ClassVar[tuple[str, ...]] = ()
    energy: ClassVar[EnergyModel | None] = None

    @abstractmethod
    def prepare(self, network: IntegerNetwork) -> dict[str, Any]:
        """Compute the chip's integer codes of an adapted network, as they go into its files."""

    @abstractmethod
    def write_network(self, network: IntegerNetwork, folder: Path) -> None:
        """Write the chip's own files of an adapted network."""

    @abstractmethod
    def read_network(self, facts: Mapping[str, Any], folder: Path) -> IntegerNetwork:
        """Read an adapted network from the chip's own files.

        Args:
            facts: outline of the network, of :func:`~hw_export.targets.outline.outline`: names of layers, shapes, β.
            folder: of the export.

        Raises:
            DataError: for files that are damaged or do not fit the facts; other exceptions become one.
        """

    def integers(self, net: torch.nn.Module, input_shape: tuple[int, ...]) -> IntegerNetwork:
        """Take the integers of a quantised network, not adapted yet.

        Args:
            net: of :func:`hw_export.quantize`.
            input_shape: shape of one sample at one step.

        Raises:
            UserError: for float weights, and for inputs that are not whole numbers.
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
        """Express a network in the chip's terms, as the chip runs it and its files hold it."""
        return adapted(network, self.arithmetic)

    def check(self, network: IntegerNetwork) -> list[Violation]:
        """Find all limits that a network, not adapted yet, breaks."""
        late = [*Delays(self.arithmetic).check(network)]  # adapt may not know what to make of them
        chip = self.adapt(network) if not late else network
        return late or [violation for limit in self.every_limit for violation in limit.check(chip)]

    @property
    def every_limit(self) -> tuple[Limit, ...]:
        """Limits of the chip, and those that come with its arithmetic."""
        return (
            *self.limits,
            Resets(self.arithmetic),
            Decays(self.arithmetic, self.per_neuron),
            Delays(self.arithmetic),
        )

    def refuse(self, network: IntegerNetwork) -> None:
        """Refuse a network, not adapted yet, that the chip cannot hold.

        Raises:
            UserError: naming every violation.
        """
        found = self.check(network)
        if found:
            raise UserError(f"{self.name} cannot hold this network: " + "; ".join(map(str, found)))

    def notes(self, network: IntegerNetwork) -> list[str]:
        """Tell in lines what a network, not adapted yet, does differently on the chip."""
        return notes_of(self.adapt(network), self.arithmetic)

    def addresses(self, network: IntegerNetwork) -> dict[str, range]:
        """List the addresses of each layer's neurons on the chip's output bus; empty where there are no addresses."""
        return {}

    def outdated(self, folder: Path) -> str:
        """Tell why the files of an export should be written again although their numbers are right; empty if not."""
        return ""

    def write_samples(
        self, network: IntegerNetwork, inputs: torch.Tensor, run: IntegerRun, folder: Path
    ) -> dict[str, Any]:
        """Write the files by which samples are sent to a board; by default none.

        Args:
            network: as it was read from the chip's files.
            inputs: whole numbers ``[T, B, …]``.
            run: spikes of the chip for these inputs.
            folder: of the export, where the chip's files are.

        Returns:
            Further facts of the chip for the manifest.
        """
        return {}

    def describe_samples(self, facts: Mapping[str, Any]) -> list[str]:
        """Tell in lines, after an export was built, which ``facts`` :meth:`write_samples` has added."""
        return []

    def write(self, net: torch.nn.Module, folder: Path, input_shape: tuple[int, ...]) -> dict[str, Any]:
        """Write the chip's files and ``network.yaml``, after all limits were checked.

        Args:
            net: quantised network.
            folder: where to write; it exists.
            input_shape: shape of one sample at one step.

        Returns:
            Arithmetic and neurons for the manifest.

        Raises:
            UserError: for a network that the chip cannot hold.
        """
        folder = checks.path("folder", folder)
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
        """Read the adapted network of an export from the chip's own files.

        Args:
            folder: of the export.

        Raises:
            DataError: for files that are missing, damaged, of another chip, or do not fit together.
        """
        folder = checks.path("folder", folder)
        facts = read_facts(folder / OUTLINE)
        if facts.get("format") != FORMAT or facts.get("target") != self.name:
            raise DataError(f"{folder / OUTLINE} is not of {self.name} in format {FORMAT}")
        if facts.get("options", {}) != self._chosen():
            raise DataError(
                f"{folder / OUTLINE} is of {self.name} with the options {_options_text(facts.get('options', {}))}, not "
                f"{_options_text(self._chosen())}: read it by a target made with them"
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
        """Options that differ from their defaults, as YAML holds them."""
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


def _options_text(options: Any) -> str:
    if not isinstance(options, Mapping):
        return brief(options)
    return ", ".join(f"{name} {brief(value)}" for name, value in options.items()) or "by default"


class _Targets(Registry[type[Target]]):
    """Registry of target classes, whose name becomes the ``name`` of the class."""

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
"""Classes of targets by name. Called without arguments, a class makes a target with the default options."""


def make_target(name: str, options: Mapping[str, Any] | None = None) -> Target:
    """Make a registered target.

    Args:
        name: of the target.
        options: options of the target, by name.

    Raises:
        UserError: for an unknown target, an option that it does not have, a value that it does not take, and a class
            that leaves out an attribute of :class:`Target` or :class:`Chip`.
    """
    if not isinstance(options, Mapping | None):
        raise UserError(f"options of a target are values by name, in a dictionary, got {brief(options)}")
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
    """Refuse a target whose class leaves out an attribute, or states it with another type."""
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
    _stated(made, "limits", lambda each: _all_are(each, lambda entry: isinstance(entry, Limit)), "a tuple of limits")
    _stated(made, "sources", lambda each: _all_are(each, lambda entry: isinstance(entry, str)), "a tuple of texts")
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
