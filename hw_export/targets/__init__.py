"""What a network can be exported to, one module each; found by name in :data:`TARGETS`."""

from hw_export.targets import generic, loihi, nir_file, speck, spinnaker2, tinyodin, xylo  # noqa: F401  (register)
from hw_export.targets.base import TARGETS, Chip, Target, make_target
from hw_export.targets.files import differences
from hw_export.targets.limits import Violation

__all__ = ["TARGETS", "Chip", "Target", "Violation", "differences", "make_target"]
