"""Runs the pages of the documentation: their Python and commands, and compares what they say is printed.

The blocks of a page run from top to bottom in one set of names, in an empty folder::

    ```python    runs; an error fails the page
    ```bash      runs, a command a line: spikelfp and hw-export
    ```yaml      is written to the file that it names; so is any block with ``title="file"``
    ```text      must be what the block before it has printed, where `…` stands for anything

Blocks without a language are formulas, layouts and messages. A block that cannot run says why, in a comment before it::

    <!-- not run: needs a board -->

"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from hw_export import cli as export_cli
from spikelfp import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
COMMANDS = {"spikelfp": cli.main, "hw-export": export_cli.main}

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]*) -->\n+)?"
    r'(?P<pad> *)```(?P<language>\w*)(?: title="(?P<title>[^"]*)")?\n(?P<text>.*?)^(?P=pad)```$',
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A fenced block of a page.

    Attributes:
        language: the word behind the fence.
        text: between the fences.
        line: of the page, on which the text begins.
        title: the file that the block is the content of.
        reason: why it is not run.
    """

    language: str
    text: str
    line: int
    title: str | None
    reason: str | None


def blocks(page: Path) -> list[Block]:
    """Find the fenced blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(
            found["language"],
            found["text"],
            text.count("\n", 0, found.start("text")) + 1,
            found["title"],
            found["reason"],
        )
        for found in _BLOCK.finditer(text)
    ]


def run_page(page: Path) -> dict:
    """Run a page in the current folder; returns the names that its Python has left."""
    names: dict = {"__name__": "__main__"}
    printed, before = "", None
    for block in blocks(page):
        where = f"{page.name}, line {block.line}"
        if block.title is not None:
            Path(block.title).write_text(block.text)
        elif block.reason is None and block.language == "python":
            printed = _printed_by(lambda: _execute(block, page, names))  # noqa: B023  (called at once)
        elif block.reason is None and block.language == "bash":
            printed = _printed_by(lambda: _command_lines(block, where))  # noqa: B023
        elif block.reason is None and block.language == "text":
            assert getattr(before, "language", None) in ("python", "bash"), f"{where}: output of no block"
            if before.reason is None:
                assert matches(block.text, printed), f"{where} says\n{block.text}\nand printed was\n{printed}"
        elif block.reason is None and block.language:
            raise AssertionError(f"{where}: a block of {block.language} neither runs nor says why not")
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


def _execute(block: Block, page: Path, names: dict) -> None:
    exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)


def command_lines(text: str) -> list[list[str]]:
    """Return the words of each command of a bash block, of chains by ``&&`` one by one."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [shlex.split(part, comments=True) for line in lines for part in re.split(r"\s&&\s", line)]
    return [words for words in found if words]


def _command_lines(block: Block, where: str) -> None:
    for words in command_lines(block.text):
        here = words[0] in COMMANDS and "--plugin" not in words  # what a plug-in registers stays
        status = _in_process(words) if here else _in_a_process(words)
        assert status == 0, f"{where}: {shlex.join(words)!r} ended with status {status}"


def _in_process(words: list[str]) -> int:
    argv, sys.argv = sys.argv, words
    try:
        COMMANDS[words[0]]()
    except SystemExit as end:
        return end.code or 0
    finally:
        sys.argv = argv
    return 0


def _in_a_process(words: list[str]) -> int:
    """Run a command of the project in a process of its own; others do not run in the tests."""
    assert words[0] in COMMANDS, f"{shlex.join(words)!r} is no command of the project: mark its block as not run"
    start = f"from {COMMANDS[words[0]].__module__} import main; main()"
    words = [sys.executable, "-c", start, *words[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    print(done.stdout, done.stderr)
    return done.returncode
