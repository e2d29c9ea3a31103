"""Words on a terminal. Names of users are text: nothing in them steers the terminal, the layout or the encoding.

A class, a file or a parameter may be called ``[red]``, hold an escape sequence, a line break, a mark that turns the
direction of writing, or bytes that are no text at all. :func:`plain` shows all of that as it is written in Python;
everything that a command prints goes through it, by :func:`say`, by the :class:`Terminal` that draws tables, or by the
words of a bar (:func:`words`). Pages and figures use :func:`plain` too.
"""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TextColumn
from rich.text import Text

from spikelfp.printable import plain


def say(*lines: object, error: bool = False) -> None:
    """Print lines on stdout, or on stderr for an ``error``; a line break inside of one is shown, not made."""
    print(*map(plain, lines), sep="\n", file=sys.stderr if error else sys.stdout, flush=error)


class Terminal(Console):
    """A console of rich that takes strings as they are: no markup, no emoji by name, no colours of its own choice.

    Args:
        error: on stderr instead of stdout.
        quiet: show nothing.
    """

    def __init__(self, *, error: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=error, quiet=quiet, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make the text of a cell or a line; rich asks for it wherever it is handed a string."""
        return super().render_str(plain(text), **{**options, "markup": False})


def words(template: str) -> TextColumn:
    """Make a column of a bar, such as ``{task.description}``; what is filled in has been through :func:`plain`."""
    return TextColumn(template, markup=False)


def progress(*columns: ProgressColumn, shown: bool = True, stays: bool = False) -> Progress:
    """Make a bar on stderr.

    Args:
        columns: of the bar.
        shown: whether to show it, on a terminal.
        stays: leave it there in the end, and write it in the end where there is no terminal.
    """
    console = Terminal(error=True)
    shown = shown and (stays or console.is_terminal)
    return Progress(*columns, console=console, transient=not stays, disable=not shown)


def forgive_encoding() -> None:
    """Let stdout and stderr write what their encoding lacks as in Python, where they would fail."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
