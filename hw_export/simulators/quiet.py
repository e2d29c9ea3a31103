"""Simulators talk a lot while they import a network, and look for more than they need; the user asked us, not
them."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block nothing is printed to stdout, warned or logged below an error; all is put back
    after, and so is ``sys.excepthook``, which brian2 replaces when it is imported."""
    before, hook = logging.root.manager.disable, sys.excepthook
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        sys.excepthook = hook


@contextlib.contextmanager
def without(module: str) -> Iterator[None]:
    """Within the block ``module`` cannot be imported (``ModuleNotFoundError``), unless it was before."""
    absent = module not in sys.modules
    if absent:
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            sys.modules.pop(module, None)
