"""spikelfp: train spiking neural networks without surrogate gradients.

>>> import spikelfp
>>> from spikelfp import nn, rules, rewards, models, data

``docs/glossary.md`` explains the words used here; ``docs/method.md`` says where each equation stands.
"""

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from spikelfp.registry import public_names


def command_name(arguments: list[str]) -> str | None:
    """Return the name of the command that a process was started as, or ``None`` for any other program.

    Args:
        arguments: of the process, with the interpreter first (``sys.orig_argv``).
    """
    names = {"spikelfp": "spikelfp", "hw_export": "hw-export"}  # by the package that ``python -m`` runs
    for number, argument in enumerate(arguments[1:], start=1):
        if argument == "-m":
            package = arguments[number + 1].removesuffix(".cli") if number + 1 < len(arguments) else ""
            return names.get(package)
        if not argument.startswith("-"):
            name = os.path.basename(argument)
            return name if name in names.values() else None
    return None


def end_import(number: int, frame: object) -> None:
    """Handle Ctrl-C: say so and end, whatever the modules that are being imported would make of an exception."""
    if os.environ.get("RANK", "0") == "0":
        os.write(2, f"{command_name(sys.orig_argv)}: interrupted\n".encode())
    os._exit(128 + number)


# Importing torch and the kernels takes seconds, in which no command runs yet that could handle Ctrl-C.
# The command takes it over when it starts (spikelfp.command.run_app).
if (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
    and threading.current_thread() is threading.main_thread()
    and command_name(sys.orig_argv) is not None
):
    signal.signal(signal.SIGINT, end_import)

# Threads that wait by spinning slow training down several times as soon as another process uses the cores
# (docs/performance.md). OpenMP reads this once, when torch is loaded; a value of the user's own stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from spikelfp import (
        analysis,
        data,
        errors,
        explain,
        fold,
        interop,
        methods,
        models,
        nn,
        plot,
        pruning,
        quantized,
        rewards,
        rules,
        tasks,
    )
    from spikelfp.functional.propagation import propagate
    from spikelfp.interop import convert
    from spikelfp.training import TemporalTrainer, Trainer

__version__ = "0.1.0"

__all__ = [
    "TemporalTrainer",
    "Trainer",
    "__version__",
    "analysis",
    "convert",
    "data",
    "errors",
    "explain",
    "fold",
    "interop",
    "methods",
    "models",
    "nn",
    "plot",
    "propagate",
    "pruning",
    "quantized",
    "rewards",
    "rules",
    "tasks",
]  # fmt: skip

# Names are loaded when they are asked for, so that a command answers --help without torch.
public_names(
    globals(),
    homes={
        "TemporalTrainer": "spikelfp.training",
        "Trainer": "spikelfp.training",
        "convert": "spikelfp.interop",
        "propagate": "spikelfp.functional.propagation",
    },
)
