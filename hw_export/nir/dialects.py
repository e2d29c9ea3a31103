"""Conversion between NIR's neurons, which are differential equations, and neurons that step.

NIR has ``τ v' = (v_leak − v) + r I``, a spike at ``v > v_threshold``, then ``v := v_reset``; it stores no time step.
Over one step of ``dt`` in which ``I`` is constant this is::

    v[t] = β v[t−1] + g (r I[t] + v_leak)      g = 1 − β;   β = 1 − dt/τ ("euler")  or  exp(−dt/τ) ("exact")

Writing: with ``v_leak = v_reset = 0`` that is ``U[t] = β U[t−1] + I[t]`` of :class:`spikelfp.nn.LIF` in units of
``g r``, and the spikes are the same if ``v_threshold = g r θ``. Every ``r`` is therefore right; dialects differ in what
importers make of it. Weights are left as they are. Scaling them by ``1 / g`` instead, with ``r = 1`` and
``v_threshold = θ``, is the same equation too, but not the same float32 numbers: integer weights would be rounded on
import.

Reading: with ``w = v − v_reset`` a spike (``w > v_threshold − v_reset``) resets to 0, and in units of ``g r`` this is
``U[t] = β U[t−1] + I[t] + c``, ``c = (v_leak − v_reset) / r``, ``θ = (v_threshold − v_reset) / (g r)``, each of them a
number, or a vector where neurons of the layer differ; weights stay as they are. Only where that θ is no positive number
that float32 holds (``r ≤ 0``, or extreme units) ``w`` is measured in units of each neuron's own threshold instead,
which scales its current. NIR does not say where a membrane starts: here at ``v_reset``, a readout at 0.

``CubaLIF``: ``τ_syn i' = −i + w_in S`` becomes ``i[t] = α i[t−1] + (1 − α) w_in S[t]`` the same way, and the membrane
of a step gets the current of that step, as in snnTorch, where such files come from. ``IF``: ``v' = r I`` becomes
``v[t] = v[t−1] + k r I[t]``, ``k = 1`` or ``dt``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import nir
import numpy as np
from torch import Tensor

from hw_export.neurons.base import LIFConstants, Numbers, compact, numbers
from hw_export.nir.document import check_dt, plain, short
from spikelfp.errors import DataError, UserError
from spikelfp.functional.lif import LIFParameters, Reset
from spikelfp.nn.delay import LONGEST as LONGEST_DELAY
from spikelfp.registry import Registry, check_name

DT = 1e-4
"""Length of a step in seconds, the only value that snnTorch's importer supports."""

Scheme = Literal["euler", "exact"]
"""Conversion of a time constant to a decay per step."""

Integrators = Literal["step", "dt"]
"""Gain of an integrator ``v' = r I`` in a step: ``r I`` or ``dt · r I``."""


def leak(tau: Any, dt: float, scheme: str) -> np.ndarray:
    """Compute ``1 − β``, the fraction of a membrane that is lost in a step, float64.

    Args:
        tau: time constants, in the unit of ``dt``.
        dt: length of a step.
        scheme: ``euler``, ``dt / τ``, or ``exact``, ``1 − exp(−dt / τ)``.
    """
    check_name("scheme", scheme, get_args(Scheme))
    ratio = dt / np.asarray(tau, np.float64)
    return ratio if scheme == "euler" else -np.expm1(-ratio)


@dataclass(frozen=True)
class Dialect:
    """One way of writing neurons as NIR nodes, made for certain importers.

    Attributes:
        summary: purpose of the dialect, one line.
        resistance: ``r`` as a function of β.
        own_units: whether ``v_threshold = θ``, else ``(1 − β) r θ``.
        scheme: how an importer turns ``τ`` into β.
        dt: length of a step in the unit of ``τ``.
        heeds_r: whether its importers multiply currents by ``(1 − β) r``.
        synapses: whether it can hold neurons with synaptic currents.
        offsets: whether it can hold a constant current, which is a ``v_leak``.
    """

    summary: str
    resistance: Callable[[Any], Any]
    own_units: bool = True
    scheme: Scheme = "euler"
    dt: float = DT
    heeds_r: bool = True
    synapses: bool = True
    offsets: bool = True

    def tau(self, decay: Numbers) -> Any:
        """Compute the time constants of decays per step below 1."""
        return self.dt / (1.0 - decay) if self.scheme == "euler" else -self.dt / np.log(decay)

    def lif(
        self, p: LIFParameters, shape: tuple[int, ...], gain: float, metadata: dict[str, Any], offset: Any = 0.0
    ) -> nir.LIF:
        """Make the LIF node of a layer of neurons.

        Parameters are full float64 arrays: a float32 ``τ`` would already shift β.

        Args:
            p: constants of the neurons.
            shape: of the layer.
            gain: how many times too large currents arrive.
            metadata: of the node.
            offset: constant current that the neurons add.
        """
        ones = np.ones(shape, np.float64)
        beta, threshold = numbers(p.beta), numbers(p.threshold)
        resistance = self.resistance(beta)
        unit = 1.0 if self.own_units else (1.0 - beta) * resistance
        return nir.LIF(
            tau=ones * self.tau(beta),
            r=ones * resistance,
            v_leak=ones * (resistance * gain) * offset,
            v_threshold=ones * (unit * threshold * gain),
            v_reset=ones * 0,
            metadata=metadata,
        )

    def cuba(
        self,
        p: LIFParameters,
        alpha: float | Tensor,
        shape: tuple[int, ...],
        gain: float,
        metadata: dict[str, Any],
    ) -> nir.CubaLIF:
        """Make the CubaLIF node of a layer of neurons, in the form that snnTorch writes and reads.

        Membrane and current stand in the units of :class:`spikelfp.nn.Synaptic`: ``w_in = 1 / (1 − α)``, ``r = 1 / (1 −
        β)``.

        Args:
            p: constants of the neurons.
            alpha: decay of the synaptic current per step.
            shape: of the layer.
            gain: how many times too large currents arrive.
            metadata: of the node.
        """
        ones = np.ones(shape, np.float64)
        synapse, beta = numbers(alpha), numbers(p.beta)
        return nir.CubaLIF(
            tau_syn=ones * self.tau(synapse),
            tau_mem=ones * self.tau(beta),
            r=ones / (1.0 - beta),
            v_leak=ones * 0,
            v_threshold=ones * numbers(p.threshold) * gain,
            v_reset=ones * 0,
            w_in=ones / (1.0 - synapse),
            metadata=metadata,
        )

    def constants(self, node: nir.LIF, dt: float) -> tuple[np.ndarray, np.ndarray]:
        """Compute ``(β, θ)`` of a LIF node as importers of the dialect do, float64 of the node's shape."""
        lost = leak(node.tau, dt, self.scheme)
        threshold = np.asarray(node.v_threshold, np.float64)
        return 1.0 - lost, threshold / (node.r * lost) if self.heeds_r else threshold


DIALECTS: Registry[Dialect] = Registry("NIR dialect")
DIALECTS.register("default")(
    Dialect(
        "r = 1, v_threshold = (1 − β) θ: read alike by importers that use r and by those that ignore it",
        lambda beta: 1.0,
        own_units=False,
    )
)
DIALECTS.register("std")(
    Dialect(
        "r = 1 / (1 − β), v_threshold = θ: membranes in our units; norse ignores r and cannot read it",
        lambda beta: 1.0 / (1.0 - beta),
    )
)
DIALECTS.register("sinabs")(
    Dialect(
        "τ = −1 / ln β in steps, v_threshold = θ: sinabs takes exp(−1/τ) and ignores r",
        lambda beta: 1.0 / (1.0 - beta),
        scheme="exact",
        dt=1.0,
        synapses=False,
        offsets=False,
    )
)
DIALECTS.register("rockpool")(
    Dialect(
        "τ = −dt / ln β, r = −1 / ln β − 1, v_threshold = θ: rockpool takes min(τ / (1 + r)) for the time step",
        lambda beta: -1.0 / np.log(beta) - 1.0,
        scheme="exact",
        heeds_r=False,
        synapses=False,
        offsets=False,
    )
)


def dialect_of(metadata: Mapping[str, Any]) -> Dialect | None:
    """Find the dialect that the metadata of a graph name; ``None`` for the file of another program."""
    name = plain(metadata.get("dialect"))
    return DIALECTS[name] if isinstance(name, str) and name in DIALECTS else None


TINY, HUGE = 1e-30, 1e30
"""Thresholds outside these bounds are measured in units of themselves: float32 ends at 1e±38."""


@dataclass(frozen=True)
class TimeStep:
    """Time step of a layer of neurons.

    Attributes:
        dt: in the unit of the file's time constants.
        scheme: of :func:`leak`.
        integrator_gain: gain of an integrator in a step, in units of ``r I``: 1 or ``dt``.
    """

    dt: float
    scheme: str = "euler"
    integrator_gain: float = 1.0


@dataclass(frozen=True)
class Readout:
    """A leaky integrator, ``v[t] = β v[t−1] + scale ⊙ I[t] + shift``.

    Attributes:
        beta: decay per step.
        scale: of the current.
        shift: constant current.
    """

    beta: Numbers
    scale: Any = 1.0
    shift: Any = 0.0


@dataclass(frozen=True)
class Parameters:
    """Parameters of one node as float64 arrays, by name.

    Attributes:
        name: of the node, for errors.
        node: with its parameters.
    """

    name: str
    node: nir.NIRNode

    def __getitem__(self, key: str) -> np.ndarray:
        return np.asarray(getattr(self.node, key), np.float64)

    def decay(self, key: str, step: TimeStep, *, may_vanish: bool = False) -> Numbers:
        """Convert the time constants ``key`` to decays per step.

        Args:
            key: name of the parameter.
            step: length of a step.
            may_vanish: whether all decays may be 0.

        Raises:
            DataError: for time constants so short that a decay is 0 or below, or so long that it is 1 in float32.
        """
        tau = self[key]
        beta = 1.0 - leak(tau, step.dt, step.scheme)
        beta = np.where(np.abs(beta) < 1e-9, 0.0, beta)  # τ = dt, but for rounding
        shortest, longest = float(tau.min()), float(tau.max())
        if beta.min() < 0 or (beta.min() == 0 and not may_vanish):
            raise DataError(
                f"the neurons {self.name!r} have {key} = {shortest:g}, too short for a step of dt = {step.dt:g}: one "
                "Euler step would leave no membrane. Take a smaller dt, or scheme='exact'"
            )
        if beta.min() == 0 < beta.max():
            raise DataError(
                f"some of the neurons {self.name!r} have {key} = {shortest:g}, which a step of dt = {step.dt:g} "
                f"forgets, and others up to {longest:g}, which it does not: give the two layers of their own"
            )
        if (beta.astype(np.float32) == 1).any():
            raise DataError(
                f"the neurons {self.name!r} have {key} = {longest:g}, {longest / step.dt:g} steps of dt = "
                f"{step.dt:g}: in float32 they would not leak at all. Pass a larger dt, or write them as neurons "
                "without leak"
            )
        return compact(beta)


def constants(name: str, node: nir.NIRNode, step: TimeStep, dialect: Dialect | None = None) -> LIFConstants:
    """Read a spiking node (LIF, IF, CubaLIF) in the units of :class:`spikelfp.nn.LIF`.

    Args:
        name: of the node.
        node: with its parameters.
        step: length of a step.
        dialect: of a file of this package. Its currents have the unit of the membranes of ``nn.LIF``, however small or
            large thresholds are, and some dialects ignore ``r``.

    Raises:
        DataError: naming node, parameter and value, for what no layer here can hold: thresholds at or below
            ``v_reset``, and a CubaLIF that rests elsewhere than it resets.
    """
    p, ours = Parameters(name, node), dialect is not None
    with np.errstate(over="ignore"):
        height = p["v_threshold"] - p["v_reset"]
    if not np.isfinite(height).all():
        raise DataError(f"the neurons {name!r} have a v_threshold too far above v_reset for any float")
    if height.min() <= 0:
        where = np.unravel_index(height.argmin(), height.shape)
        raise DataError(
            f"the neurons {name!r} have v_threshold = {p['v_threshold'][where]:g} and v_reset = "
            f"{p['v_reset'][where]:g}: a threshold must lie above the reset"
        )
    if isinstance(node, nir.IF):
        return _in_own_units(1.0, 0.0, step.integrator_gain * p["r"], height, np.zeros(()), ours)
    rest = p["v_leak"] - p["v_reset"]
    if isinstance(node, nir.LIF):
        beta = p.decay("tau", step)
        gain = (1.0 - beta) * p["r"] if dialect is None or dialect.heeds_r else np.ones(())
        return _in_own_units(beta, 0.0, gain, height, (1.0 - beta) * rest, ours)
    if rest.any():
        raise DataError(
            f"the neurons {name!r} rest at another membrane (v_leak from {p['v_leak'].min():g} to "
            f"{p['v_leak'].max():g}) than they reset to (v_reset from {p['v_reset'].min():g}): with synaptic currents "
            "both must be the same here"
        )
    alpha, beta = p.decay("tau_syn", step, may_vanish=True), p.decay("tau_mem", step)
    return _in_own_units(beta, alpha, (1.0 - alpha) * p["w_in"] * (1.0 - beta) * p["r"], height, rest, ours)


def _in_own_units(
    beta: Numbers, alpha: Numbers, gain: np.ndarray, height: np.ndarray, drift: np.ndarray, ours: bool
) -> LIFConstants:
    """Scales ``w[t] = β w[t−1] + gain I[t] + drift``, which fires above ``height``, to a gain of 1 where possible.

    Values that overflow are refused later, when they are rounded to float32.
    """
    least, most = (0.0, math.inf) if ours else (TINY, HUGE)
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        threshold = height / gain
        if bool(((gain > 0) & (threshold > least) & (threshold < most)).all()):
            return LIFConstants(beta, compact(threshold), alpha, 1.0, drift / gain if drift.any() else 0.0)
        return LIFConstants(beta, 1.0, alpha, gain / height, drift / height if drift.any() else 0.0)


def readouts(name: str, node: nir.NIRNode, step: TimeStep) -> list[Readout]:
    """Read a node that never fires (LI, I, CubaLI) as leaky integrators in a row, membranes in the file's units.

    A decay is 0 where a time constant is as short as a step.
    """
    p = Parameters(name, node)
    if isinstance(node, nir.I):
        return [Readout(1.0, step.integrator_gain * p["r"])]
    if isinstance(node, nir.LI):
        return [_leaky(p, "tau", p["r"], p["v_leak"], step)]
    synapse = _leaky(p, "tau_syn", p["w_in"], np.zeros(()), step)
    return [synapse, _leaky(p, "tau_mem", p["r"], p["v_leak"], step)]


def _leaky(p: Parameters, tau: str, factor: np.ndarray, rest: np.ndarray, step: TimeStep) -> Readout:
    beta = p.decay(tau, step, may_vanish=True)
    return Readout(beta, (1.0 - beta) * factor, (1.0 - beta) * rest)


LONGEST = 1e4
"""Steps of a time constant above which, if no time step is named, a mistake of units is assumed."""


@dataclass
class NeuronReading:
    """Choices that a file leaves open, and how they are decided: the time step, the reset, the gain of integrators.

    Attributes:
        dialect: of a file of this package, else ``None``.
        metadata: of the graph.
        dt: as in :func:`~hw_export.nir.from_nir`.
        chosen_reset: its ``reset``.
        scheme: as there.
        integrators: as there.
        notes: assumptions made so far, a line each.
    """

    dialect: Dialect | None
    metadata: dict[str, Any]
    dt: float | None = None
    chosen_reset: Reset | None = None
    scheme: Scheme | None = None
    integrators: Integrators | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.dt is not None:
            self.dt = check_dt(self.dt)
        if self.chosen_reset is not None:
            check_name("reset", self.chosen_reset, get_args(Reset))
        if self.scheme is not None:
            check_name("scheme", self.scheme, get_args(Scheme))
            if self.dialect is not None and self.scheme != self.dialect.scheme:
                raise UserError(
                    f"the file is of dialect {self.metadata['dialect']!r}, whose time constants are read by "
                    f"scheme={self.dialect.scheme!r}, not {self.scheme!r}"
                )
        if self.integrators is not None:
            check_name("integrators", self.integrators, get_args(Integrators))
        named = self.metadata.get("dialect")
        if named is not None and self.dialect is None and self.scheme is None:
            raise DataError(
                f"the graph is of dialect {short(named)}, which is not known here ({', '.join(sorted(DIALECTS))}): "
                "pass scheme='euler' or 'exact', which says how its time constants are meant"
            )

    @property
    def used_scheme(self) -> Scheme:
        """Scheme by which time constants become decays."""
        return self.scheme or ("euler" if self.dialect is None else self.dialect.scheme)

    def step_length(self, metadata: dict[str, Any]) -> float:
        """Find ``dt``: of the node, of the graph, the argument, or 1e-4."""
        stated = metadata.get("dt", self.metadata.get("dt"))
        if stated is None:
            return DT if self.dt is None else self.dt
        if self.dt is not None and not math.isclose(self.dt, stated, rel_tol=1e-9):
            raise UserError(f"dt={self.dt:g} was asked for, but the file states dt = {stated:g}: leave dt out")
        return float(stated)

    def step(self, name: str, metadata: dict[str, Any], node: nir.NIRNode) -> TimeStep:
        """Decides the time step of the neurons ``name``."""
        dt = self.step_length(metadata)
        taus = [np.asarray(getattr(node, key)) for key in ("tau", "tau_syn", "tau_mem") if hasattr(node, key)]
        unnamed = self.dt is None and "dt" not in metadata and "dt" not in self.metadata
        if taus and unnamed:
            longest = max(float(tau.max()) for tau in taus)
            if longest > LONGEST * dt:
                raise DataError(
                    f"the neurons {name!r} have time constants up to {longest:g}, {longest / dt:.0f} steps of {dt:g}, "
                    "and the file names no time step: pass dt (dt=1 if they count steps)"
                )
            self.note(f"the file names no time step: dt = {dt:g} s, as most NIR files are made for (argument dt)")
        return TimeStep(dt, self.used_scheme, 1.0 if taus else self._integrated(name, node, dt))

    def delay(self, name: str, node: nir.Delay) -> np.ndarray:
        """Convert the times of a delay to whole steps, int64 of the shape of the node.

        Raises:
            DataError: for times that are negative, no whole steps, or longer than :data:`~spikelfp.nn.delay.LONGEST`.
        """
        metadata = plain(node.metadata)
        dt, times = self.step_length(metadata), np.asarray(node.delay, np.float64)
        if self.dt is None and "dt" not in metadata and "dt" not in self.metadata:
            self.note(f"the file names no time step: dt = {dt:g} s, as most NIR files are made for (argument dt)")
        steps = np.rint(times / dt)
        wrong = np.abs(times / dt - steps) > 1e-6 * np.maximum(1.0, steps)
        for bad, text in (
            (times < 0, "expected 0 or more"),
            (
                steps > LONGEST_DELAY,
                f"more than {LONGEST_DELAY} steps of dt = {dt:g}: pass dt, the time step of the file",
            ),
            (wrong, f"no whole number of steps of dt = {dt:g}: pass dt, of which delays are multiples"),
        ):
            if bad.any():
                raise DataError(f"the Delay {name!r} delays by {times[bad][0]:g}, {text}")
        return steps.astype(np.int64)

    def _integrated(self, name: str, node: nir.NIRNode, dt: float) -> float:
        """Find the gain of ``v' = r I`` in a step, in units of ``r I``: 1, or ``dt``."""
        if self.dialect is not None:
            return 1.0
        how, r = self.integrators, np.asarray(node.r, np.float64)
        if how is None:  # the choice that makes r I the current itself is meant
            if np.allclose(r, 1.0, rtol=1e-6, atol=0):
                how = "step"
            elif np.allclose(r * dt, 1.0, rtol=1e-6, atol=0):
                how = "dt"
            else:
                raise DataError(
                    f"the neurons {name!r} have r = {r.flat[0]:g} and no leak, and the file does not say whether a "
                    f"step of dt = {dt:g} gains r I or dt r I: pass integrators='step' or integrators='dt'"
                )
        self.note(
            "neurons without leak gain r I in a step, as in the simulators that write them (integrators='step')"
            if how == "step"
            else f"neurons without leak gain dt r I in a step of dt = {dt:g} (integrators='dt')"
        )
        return 1.0 if how == "step" else dt

    def reset(self, name: str, node: nir.NIRNode, metadata: dict[str, Any]) -> Reset:
        """Decides the reset: of the node, of the graph, the argument, or ``zero``, which is NIR's own."""
        stated = metadata.get("reset", self.metadata.get("reset"))
        if isinstance(stated, str) and stated in get_args(Reset):
            if self.chosen_reset not in (None, stated):
                raise UserError(
                    f"reset={self.chosen_reset!r} was asked for, but the file states reset = {stated!r} for the "
                    f"neurons {name!r}: leave reset out"
                )
            reset: Reset = stated  # type: ignore[assignment]
        elif stated is not None and self.chosen_reset is None:
            raise DataError(
                f"the metadata of {name!r} say reset = {short(stated)}, which is not known here: pass reset"
            )
        elif self.chosen_reset is None:
            self.note("the file names no way of reset: spikes reset to v_reset, NIR's own equation (argument reset)")
            reset = "zero"
        else:
            reset = self.chosen_reset
        if np.any(node.v_reset != 0):
            if reset != "zero":
                raise DataError(
                    f"the neurons {name!r} reset to v_reset from {np.min(node.v_reset):g} to {np.max(node.v_reset):g}, "
                    f"which reset={reset!r} contradicts"
                )
            self.note(f"the membranes of {name!r} start at v_reset; NIR does not say where they do")
        return reset

    def note(self, line: str) -> None:
        """Add ``line`` to the notes, unless it is there."""
        if line not in self.notes:
            self.notes.append(line)
