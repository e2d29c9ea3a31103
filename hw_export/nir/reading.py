"""What a file leaves open, and how it is decided: the time step, the reset, the kind of neuron."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import nir
import numpy as np
import torch

from hw_export.nir.dialects import DIALECTS, DT, Dialect, Scheme
from hw_export.nir.metadata import check_dt, short
from hw_export.nir.neurons import Constants, Step
from spikelfp import nn
from spikelfp.errors import DataError, UserError
from spikelfp.functional.lif import Reset
from spikelfp.registry import check_name

Spikes = Literal["single", "multiple"]
Integrators = Literal["step", "dt"]

LONGEST = 1e4
"""Time constants of more steps than this, with a time step that nobody named, are taken for a mistake of units."""


@dataclass
class Reading:
    """The choices of :func:`~hw_export.nir.read.from_nir`, and the notes they lead to. dialect: of a file of ours."""

    dialect: Dialect | None
    metadata: dict[str, Any]
    dt: float | None = None
    chosen_reset: Reset | None = None
    scheme: Scheme | None = None
    spikes: Spikes = "single"
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
        check_name("spikes", self.spikes, get_args(Spikes))
        if self.integrators is not None:
            check_name("integrators", self.integrators, get_args(Integrators))
        named = self.metadata.get("dialect")
        if named is not None and self.dialect is None and self.scheme is None:
            raise DataError(
                f"the graph is of dialect {short(named)}, which is not known here ({', '.join(sorted(DIALECTS))}): "
                "pass scheme='euler' or 'exact', by which its time constants are meant"
            )

    @property
    def used_scheme(self) -> Scheme:
        """How time constants become decays."""
        return self.scheme or ("euler" if self.dialect is None else self.dialect.scheme)

    def step_length(self, metadata: dict[str, Any]) -> float:
        """``dt``: of the node, of the graph, the argument, or 1e-4."""
        stated = metadata.get("dt", self.metadata.get("dt"))
        if stated is None:
            return DT if self.dt is None else self.dt
        if self.dt is not None and not math.isclose(self.dt, stated, rel_tol=1e-9):
            raise UserError(f"dt={self.dt:g} was asked for, but the file states dt = {stated:g}: leave dt out")
        return float(stated)

    def step(self, name: str, metadata: dict[str, Any], node: nir.NIRNode) -> Step:
        """How time is cut for the neurons ``name``."""
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
        return Step(dt, self.used_scheme, 1.0 if taus else self._integrated(name, node, dt))

    def _integrated(self, name: str, node: nir.NIRNode, dt: float) -> float:
        """Find the gain of ``v' = r I`` in a step, in units of ``r I``: 1, or ``dt``."""
        if self.dialect is not None:
            return 1.0
        how, r = self.integrators, np.asarray(node.r, np.float64)
        if how is None:  # one of the two makes r I the current itself, and that one is meant
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
        """``reset`` of the node, of the graph, the argument, or ``zero``, which is NIR's own."""
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

    def neurons(self, name: str, p: Constants, reset: Reset, feedback: nn.Layer | None) -> torch.nn.Module:
        """The layer of neurons with these constants."""
        if self.spikes == "multiple":
            if feedback is not None or p.alpha:
                raise UserError(f"spikes='multiple' is for LIF and IF neurons without feedback, {name!r} are others")
            if reset != "immediate" and not (reset == "subtract" and p.beta == 1.0):
                raise UserError(
                    f"neurons that fire several times in a step subtract at once, {name!r} reset by {reset!r}: pass "
                    "reset='immediate' with spikes='multiple'"
                )
            return nn.MultiSpikeLIF(p.beta, p.threshold)
        if feedback is not None:
            if p.alpha:
                return nn.RecurrentSynaptic(feedback, p.alpha, p.beta, p.threshold, reset)
            return nn.RecurrentLIF(feedback, p.beta, p.threshold, reset)
        if p.alpha:
            return nn.Synaptic(p.alpha, p.beta, p.threshold, reset)
        return nn.LIF(p.beta, p.threshold, reset)

    def note(self, line: str) -> None:
        """Keep ``line``, once."""
        if line not in self.notes:
            self.notes.append(line)
