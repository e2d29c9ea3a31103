"""Ctrl-C while a command is being imported: one line, as later.

Importing torch and the kernels takes seconds, in which no command runs that could handle anything. The package imports
this first; it does nothing in a program that is not one of the commands.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

COMMANDS = {"spikelfp": "spikelfp", "hw_export": "hw-export"}
"""Names of the commands by the package that ``python -m`` runs."""


def command(words: list[str]) -> str | None:
    """Return the name of the command that a process was started as.

    Args:
        words: of the command line, with the interpreter (``sys.orig_argv``).
    """
    for number, word in enumerate(words[1:], start=1):
        if word == "-m":
            package = words[number + 1].removesuffix(".cli") if number + 1 < len(words) else ""
            return COMMANDS.get(package)
        if not word.startswith("-"):
            name = os.path.basename(word)
            return name if name in COMMANDS.values() else None
    return None


def leave(number: int, frame: Any) -> None:
    """Handle Ctrl-C: say so and end, whatever the modules that are being imported would make of an exception."""
    if os.environ.get("RANK", "0") == "0":
        os.write(2, f"{command(sys.orig_argv)}: interrupted\n".encode())
    os._exit(128 + number)


def begin() -> None:
    """Handle Ctrl-C until :func:`done`, in a process that was started as a command."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual and threading.current_thread() is threading.main_thread() and command(sys.orig_argv) is not None:
        signal.signal(signal.SIGINT, leave)


def done() -> None:
    """Leave Ctrl-C to the command, which runs now."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
