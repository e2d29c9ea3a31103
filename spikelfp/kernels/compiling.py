"""Says so when kernels are compiled, which takes seconds: on the first use after an installation, never silently."""

from __future__ import annotations

from typing import Any

from numba.core import event

from spikelfp.terminal import say

_PACKAGES = ("spikelfp.", "hw_export.")


class Announcer(event.Listener):
    """One line on stderr before the first kernel of these packages that is not found compiled on disk."""

    def __init__(self) -> None:
        self.told = False

    def on_start(self, event: Any) -> None:
        """Numba begins to compile."""
        function = event.data["dispatcher"].py_func
        if not self.told and (function.__module__ or "").startswith(_PACKAGES):
            self.told = True
            say(
                "spikelfp: compiling kernels for this machine (seconds each, once; later runs find them on disk)",
                error=True,
            )

    def on_end(self, event: Any) -> None:
        """Numba is done."""


def announce() -> None:
    """Have compilations of these packages announced, once per process."""
    event.register("numba:compile", Announcer())
