"""What Ctrl-C and SIGTERM do to training."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GRACE = 2.0
"""Seconds in which a process that was told to end may still do so by itself."""


@contextmanager
def stop_on_interrupt(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Within the block, Ctrl-C asks training to stop after the step at hand; a second one stops at once.

    patient: only ever ask. (torchrun may hand one Ctrl-C to its workers twice, and has its own way to end them.)
    """
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        if asked and not patient:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():  # whose owner handles signals
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


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
