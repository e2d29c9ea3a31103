"""Text of users and of files in characters that can be seen, for terminals, pages, figures and errors."""

from __future__ import annotations

import unicodedata
from typing import Any

from torch import Tensor

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
    if isinstance(value, Tensor):
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
