"""Ctrl-C and other signals: one line while a command is being imported, a checkpoint while it trains.

Importing torch and the kernels takes seconds, in which no command runs that could handle anything. The package imports
this first and calls :func:`begin`, which does nothing in a program that is not one of the commands; :func:`done` leaves
Ctrl-C to the command. :func:`stop_on_interrupt` lets training finish its step and save.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


GRACE = 2.0
"""Seconds in which a process that was told to end may still do so by itself."""


class Ended(KeyboardInterrupt):
    """A signal ends what is being done at once.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Stop:
    """Whether training was asked to stop, and by which signal.

    Before :meth:`begin` there is nothing to save, and a signal ends all at once; from then on the first one asks, and a
    second one ends. Under torchrun every signal only asks: it may hand one Ctrl-C to its workers twice, and has its own
    way to end them.

    Attributes:
        number: of the signal; ``None`` before there was one.
    """

    def __init__(self, patient: bool = False) -> None:
        self.number: int | None = None
        self._patient, self._begun = patient, False

    def __call__(self) -> bool:
        """Whether to stop after the step at hand."""
        return self.number is not None

    def begin(self) -> None:
        """Ask only, from now on."""
        self._begun = True
        if self.number is not None and not self._patient:  # a compiler may have lost the exception
            raise Ended(self.number)

    def ask(self, number: int, frame: object = None) -> None:
        """Handle a signal."""
        at_once = not self._patient and (self.number is not None or not self._begun)
        self.number = number
        if at_once:
            raise Ended(number)


@contextmanager
def stop_on_interrupt(patient: bool = False) -> Iterator[Stop]:
    """Within the block, Ctrl-C, SIGTERM and SIGHUP ask training to stop after the step at hand.

    Signals that the program handles itself, or ignores (``nohup``), stay as they are, Ctrl-C aside; and all of them in
    another thread than the main one, whose owner handles signals.

    Args:
        patient: only ever ask, and by Ctrl-C alone: torchrun has a meaning for SIGTERM.
    """
    stop = Stop(patient)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {signal.SIGINT: signal.signal(signal.SIGINT, stop.ask)}
    try:
        for number in () if patient else (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, stop.ask)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended_by_sigterm(say: Callable[[], object]) -> Iterator[None]:
    """Within the block SIGTERM ends the process with status 1 after :data:`GRACE` seconds, having called ``say``.

    torchrun sends it to the workers that are left when one has failed. They may be waiting for it deep in a library,
    where Python handles no signals, so a thread listens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    left = threading.Event()

    def listen() -> None:
        while heard := ear.recv(64):  # nothing once the other end is closed
            if signal.SIGTERM in heard and not left.wait(GRACE):
                say()
                os._exit(1)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    before_wakeup = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    failed = True
    try:
        yield
        failed = False
    finally:
        left.set()
        # Having failed, the process is about to end by itself: SIGTERM must not change its exit status.
        signal.signal(signal.SIGTERM, signal.SIG_IGN if failed else before)
        signal.set_wakeup_fd(before_wakeup)
        mouth.close()
        listener.join()
        ear.close()
