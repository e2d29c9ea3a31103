"""Results of finished runs, so that a long benchmark can be stopped and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikelfp.files import write_text

WHERE = ("data_dir", "cache_dir")
"""Settings that do not change a result."""


class Ledger:
    """Results by their settings, in a JSON file that is written after each result.

    Args:
        path: the file.
        resume: whether to begin with the results in the file.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if resume and path.exists() else {}

    def once(self, settings: dict[str, Any], find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the result of ``settings``; compute it by ``find()`` unless it is known."""
        key = json.dumps({k: v for k, v in settings.items() if k not in WHERE}, sort_keys=True)
        if key not in self.found:
            self.found[key] = find()
            write_text(self.path, json.dumps(self.found, indent=1) + "\n")
        return self.found[key]
