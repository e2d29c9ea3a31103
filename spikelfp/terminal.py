"""Printing of text that users and files chose, without letting it control the terminal, the layout or the encoding.

A class, a file or a parameter may be called ``[red]``, or hold an escape sequence, a line break, a mark that reverses
the direction of writing, or bytes that are no text. :func:`plain` shows all of these as Python writes them. Everything
that a command prints goes through it: in :func:`say`, in tables (:class:`Terminal`) and in progress bars
(:func:`bar_text`). Pages, figures and errors use it too.
"""

from __future__ import annotations

import sys
import unicodedata
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TextColumn
from rich.text import Text

_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
"""Categories of Unicode that are invisible: controls, marks of direction, surrogates, unassigned characters."""
_JOINERS = "\u200c\u200d"
"""Parts of words in Persian and Indian scripts, and of emoji."""


_MOST_BITS = 4096  # of a whole number that is written with all its digits


def plain(text: object) -> str:
    r"""Write ``text`` in one line of visible characters, and others as Python does, such as ``\x1b`` or ``\n``."""
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(char) if unicodedata.category(char) in _HIDDEN and char not in _JOINERS else char for char in text
    )


def one_line(text: object) -> str:
    """Write a message of a library as :func:`plain` does, with its lines joined by spaces."""
    return plain(" ".join(str(text).split()))


def first_line(error: BaseException, longest: int = 200) -> str:
    """Write the text of a library's error as :func:`one_line` does, or its class where it has no text.

    Args:
        error: of a library.
        longest: number of characters that are kept.
    """
    return one_line(str(error)[:longest]) or type(error).__name__


def brief(value: Any) -> str:
    """Describe a value of a file in a few printable characters, on one line."""
    torch = sys.modules.get("torch")  # where it is not loaded, no value is a tensor
    if torch is not None and isinstance(value, torch.Tensor):
        text = f"a tensor of {value.dtype} and shape {list(value.shape)}"
    elif isinstance(value, dict | list | tuple):
        text = f"{type(value).__name__} of {len(value)}"
    elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
        text = f"a number of {value.bit_length()} bits"
    else:
        text = repr(value)
    return plain(text if len(text) <= 120 else f"{text[:117]}…")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def say(*lines: object, error: bool = False) -> None:
    r"""Print lines, each as :func:`plain` writes it: a line break within one is shown as ``\n``.

    Args:
        *lines: to print.
        error: on stderr instead of stdout.
    """
    print(*map(plain, lines), sep="\n", file=sys.stderr if error else sys.stdout, flush=error)


class Terminal(Console):
    """A console of rich that prints strings as they are, without markup, emoji names and highlighting.

    Args:
        error: print on stderr instead of stdout.
        quiet: print nothing.
    """

    def __init__(self, *, error: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=error, quiet=quiet, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make the text of a cell or a line; rich calls this for every string."""
        return super().render_str(plain(text), **{**options, "markup": False})


def bar_text(template: str) -> TextColumn:
    """Make a column of a progress bar, such as ``{task.description}``, for values that :func:`plain` has written."""
    return TextColumn(template, markup=False)


def progress(*columns: ProgressColumn, shown: bool = True, stays: bool = False) -> Progress:
    """Make a progress bar on stderr.

    Args:
        *columns: of the bar.
        shown: whether to show it; without ``stays``, only on a terminal.
        stays: leave the bar on the terminal when it ends; without a terminal, write it once at its end.
    """
    console = Terminal(error=True)
    shown = shown and (stays or console.is_terminal)
    return Progress(*columns, console=console, transient=not stays, disable=not shown)


def forgive_encoding() -> None:
    """Let stdout and stderr escape the characters that their encoding lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
