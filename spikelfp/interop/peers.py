"""The packages a network is exchanged with, imported when they are first needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from spikelfp.errors import UserError


def peer(module: str) -> ModuleType:
    """The module of that name, ``snntorch`` or ``norse.torch``; a ``UserError`` that says how to get it."""
    package = module.split(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{package} cannot be imported ({error}); it comes with pip install 'spikelfp[interop]', "
            f"or alone with pip install {package}"
        ) from error
