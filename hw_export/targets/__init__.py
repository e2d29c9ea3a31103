"""What a network can be exported to, one module each; found by name in :data:`TARGETS`."""

from hw_export.targets import nir_file  # noqa: F401  (registers itself)
from hw_export.targets.base import TARGETS, Target

__all__ = ["TARGETS", "Target"]
