"""Targets of an export, chips and tools, one module each; found by name in :data:`TARGETS`."""

from hw_export.targets import generic, loihi, nir_file, speck, spinnaker2, tinyodin, xylo  # noqa: F401  (register)
from hw_export.targets.base import TARGETS, Chip, Target, make_target
from hw_export.targets.limits import Limit, Violation
from hw_export.targets.outline import check_codes, differences, rebuild

__all__ = [
    "TARGETS", "Chip", "Limit", "Target", "Violation", "check_codes", "differences", "make_target", "rebuild",
]  # fmt: skip
