"""Words of users and of files in characters that can be seen, and words on a terminal.

Names of users are text: nothing in them steers the terminal, the layout or the encoding. A class, a file or a parameter
may be called ``[red]``, hold an escape sequence, a line break, a mark that turns the direction of writing, or bytes
that are no text at all. :func:`plain` shows all of that as it is written in Python; everything that a command prints
goes through it, by :func:`say`, by the :class:`Terminal` that draws tables, or by the words of a bar (:func:`words`).
Pages, figures and errors use :func:`plain` too.
"""

from __future__ import annotations

import sys
import unicodedata
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TextColumn
from rich.text import Text

_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
"""Categories of Unicode that are not seen: controls, marks of direction, halves of pairs, what is not assigned."""
_JOINERS = "\u200c\u200d"
"""Parts of words in Persian and Indian scripts, and of emoji."""


_MOST_BITS = 4096  # of a whole number that is written out


def plain(text: object) -> str:
    r"""Write ``text`` in characters that can be seen, in one line: others as in Python, such as ``\x1b`` or ``\n``."""
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(char) if unicodedata.category(char) in _HIDDEN and char not in _JOINERS else char for char in text
    )


def one_line(text: object) -> str:
    """Write ``text``, whose lines are joined by spaces, as :func:`plain` does: for messages of libraries."""
    return plain(" ".join(str(text).split()))


def first_line(error: BaseException, longest: int = 200) -> str:
    """Write what an error of a library says as :func:`one_line` does, or its class where it says nothing."""
    return one_line(str(error)[:longest]) or type(error).__name__


def brief(value: Any) -> str:
    """Describe a value of a file in a few printable characters, on one line."""
    torch = sys.modules.get("torch")  # where it is not loaded, nothing is a tensor of it
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
