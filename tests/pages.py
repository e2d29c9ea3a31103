"""Runs the pages of the documentation: their Python and commands, and compares what they say is printed.

The blocks of a page run from top to bottom in one set of names, in an empty folder::

    ```python    runs; an error fails the page
    ```bash      runs, a command a line: spikelfp and hw-export
    ```text      must be what the block before it has printed, where `…` stands for anything

Other blocks are left alone.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from hw_export import cli as export_cli
from spikelfp import cli

DOCS = Path(__file__).parents[1] / "docs"
COMMANDS = {"spikelfp": cli.main, "hw-export": export_cli.main}


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line of the page on which the text begins."""

    language: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """Find the fenced blocks of ``docs/<page>``, in order."""
    text = (DOCS / page).read_text()
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(match[1], match[2], text.count("\n", 0, match.start(2)) + 1) for match in found]


def run_page(page: str) -> dict:
    """Run ``docs/<page>`` in the current folder; returns the names that its Python has left."""
    names: dict = {"__name__": "__main__"}
    printed, before = "", None
    for block in blocks(page):
        where = f"{page}, line {block.line}"
        if block.language == "python":
            printed = _printed_by(lambda: _execute(block, where, names))  # noqa: B023  (called at once)
        elif block.language == "bash":
            printed = _printed_by(lambda: _command_lines(block, where))  # noqa: B023
        elif block.language == "text":
            assert getattr(before, "language", None) in ("python", "bash"), f"{where}: output of no block"
            assert matches(block.text, printed), f"{where} says\n{block.text}\nand printed was\n{printed}"
        before = block
    return names


def matches(expected: str, printed: str) -> bool:
    """Whether ``printed`` is the expected text, but for spaces at the ends of lines and what ``…`` stands for."""
    pattern = ".*?".join(map(re.escape, _stripped(expected).split("…")))
    return re.fullmatch(pattern, _stripped(printed), re.DOTALL) is not None


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _printed_by(run) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        run()
    return out.getvalue()


def _execute(block: Block, where: str, names: dict) -> None:
    exec(compile("\n" * (block.line - 1) + block.text, str(DOCS / where.partition(",")[0]), "exec"), names)


def _command_lines(block: Block, where: str) -> None:
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        argv, sys.argv, status = sys.argv, words, 0
        try:
            COMMANDS[words[0]]()
        except SystemExit as end:
            status = end.code or 0
        finally:
            sys.argv = argv
        assert status == 0, f"{where}: {line!r} ended with status {status}"
