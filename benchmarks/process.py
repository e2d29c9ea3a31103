"""Process of a contender, which reads and writes lines of JSON."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from typing import Any

from benchmarks.contenders import FOLDER, VARIABLES, interpreter
from benchmarks.settings import Setting

PAUSE = 0.1
"""Seconds to wait before a process is asked, until the threads of the last process stop spinning."""


class Absent(Exception):
    """Raised for a contender that cannot run; the text is the reason."""


class Process:
    """``SCRIPT CONTENDER SETTINGS`` under the contender's own interpreter, threads as ``setting`` says, until closed.

    Everything raises :class:`Absent`, with the last line it wrote to stderr, once the process has ended.
    """

    def __init__(self, script: str, module: str, settings: dict[str, Any], setting: Setting) -> None:
        self._about: dict[str, Any] | None = None
        self._module, self._errors = module, tempfile.TemporaryFile("w+")  # noqa: SIM115 (open until close)
        python = interpreter(module)
        try:
            self._process = subprocess.Popen(
                [python, str(FOLDER.parent / script), str(FOLDER / f"{module}.py"), json.dumps(settings)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
                env=setting.environment(),
            )  # fmt: skip
        except OSError as error:
            raise Absent(f"{python}: {error.strerror} (from ${VARIABLES.get(module, 'PATH')})") from None

    def ready(self) -> dict[str, Any]:
        """Wait until the process is ready, and return its first answer; further calls return the same."""
        if self._about is None:
            self._about = self._read()
        return self._about

    def ask(self, what: object) -> Any:
        """Send one line when other processes are idle, and return the answer."""
        assert self._process.stdin is not None
        time.sleep(PAUSE)
        with contextlib.suppress(BrokenPipeError):  # it has ended: reading says why
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not read any more
                    pipe.close()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        self.close()
        why = said[-1] if said else f"it ended with status {status} and without a word"
        variable = VARIABLES.get(self._module)
        hint = f" (${variable} names the Python to use)" if variable and "ModuleNotFoundError" in why else ""
        raise Absent(why + hint)
