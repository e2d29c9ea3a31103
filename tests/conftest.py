"""What all tests share."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture
def registrations_end():
    """Everything that a page or an example registers within the test is gone after it.

    Other pages and examples of the same process may choose the same names.
    """
    from hw_export.neurons import base
    from spikelfp.registry import Registry

    before = {id(registry): set(registry._entries) for registry in Registry.known}
    yield
    for registry in Registry.known:
        for name in set(registry._entries) - before.get(id(registry), set()):
            if not _ours(registry._entries[name]):
                registry.remove(name)
    for kind in [kind for kind in base._KINDS if not _ours(kind)]:
        del base._KINDS[kind]


def _ours(entry) -> bool:
    """Whether the package defines it; such entries are registered when their modules are imported, once."""
    entry = getattr(entry, "func", entry)  # of a functools.partial
    module = getattr(entry, "__module__", None) or type(entry).__module__
    return module.partition(".")[0] in ("spikelfp", "hw_export")


@pytest.fixture(autouse=True, scope="module")
def light_reports():
    """Pictures of reports are drawn for light pages alone, which halves the time: a report is seconds of drawing.

    Those for dark pages are drawn by the same code in other colours, which the tests of reports look at: they have a
    fixture of this name that changes nothing.
    """
    from spikelfp.report import write

    def picture(title, caption, text, draw, *, wide=False):
        drawn = write.png(draw(theme=write.LIGHT))
        return write.Picture(title, caption, text, drawn, drawn, wide)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "_picture", picture)
        yield


@pytest.fixture
def command_line(capsys, monkeypatch):
    """Run a command line in this process: starting one takes longer than most of the runs."""
    from hw_export.cli import app as hw_export
    from spikelfp.cli import app as spikelfp
    from spikelfp.command import run_app

    def call(*arguments, program="spikelfp", columns=None, check=None):
        if columns is not None:
            monkeypatch.setenv("COLUMNS", str(columns))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run_app({"spikelfp": spikelfp, "hw-export": hw_export}[program], program, [str(a) for a in arguments])
        done = subprocess.CompletedProcess(arguments, stop.value.code or 0, *capsys.readouterr())
        assert check is None or done.returncode == check, done.stderr
        return done

    return call


@pytest.fixture
def here(command_line):
    """Run ``spikelfp`` in this process, in 200 columns; the exit code must be ``check``."""
    return lambda *arguments, check=0: command_line(*arguments, columns=200, check=check)


@pytest.fixture
def command(command_line):
    """Run a program by its name, in 300 columns; returns stdout, or stderr where it is to fail."""

    def call(program, *arguments, code=0):
        done = command_line(*arguments, program=program, columns=300, check=code)
        return done.stderr if code else done.stdout

    return call


@pytest.fixture
def spikelfp(command_line):
    """Run a command line; returns exit code, stdout and stderr."""

    def call(*arguments, program="spikelfp"):
        done = command_line(*arguments, program=program)
        return done.returncode, done.stdout, done.stderr

    return call


@pytest.fixture(scope="session")
def _event_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("events")


@pytest.fixture(autouse=True)
def _own_cache(_event_cache, monkeypatch):
    """Binned recordings go to a folder of this run of the tests, not to the user's."""
    monkeypatch.setenv("SPIKELFP_CACHE", str(_event_cache))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Keep collected tests until the end: the garbage collector does not look through it again and again.

    Thousands of tests and the libraries that they import are millions of objects: seconds for every full collection.
    What is alive after a full collection is kept, too, such as libraries that a test has imported.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.callbacks.append(_keep_what_is_alive)
        gc.enable()


def _keep_what_is_alive(phase, about):
    """Look at what has survived a full collection never again: without it, they take a tenth of the time of all tests.

    It is still freed once nothing refers to it; cycles alone stay, those of the test that was running.
    """
    if phase == "stop" and about["generation"] == 2:
        gc.freeze()


LONGEST = [
    "test_docs.py",
    "hw_export/test_simulators.py",
    "untrusted/test_commands.py",
    "cli/test_cli.py",
    "faults/test_faults.py",
    "training/test_parallel_run.py",
    "training/test_parallel.py",
    "test_examples.py",
    "test_demo.py",
    "test_folders.py",
    "cli/test_options_owned.py",
    "nn/test_nn_storage.py",
]
"""Files of tests that take longest, of a minute or so each. They begin, so that several workers end together."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The longest files come first; tests that need a GPU are skipped without one."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))  # a stable sort: others stay as they were
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs a CUDA device")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """A folder with MNIST, from $SPIKELFP_DATA or beside the repository; else the test is skipped."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    for folder in (os.environ.get("SPIKELFP_DATA"), beside):
        if folder and (Path(folder) / "mnist" / "train-images-idx3-ubyte.gz").is_file():
            return Path(folder)
    pytest.skip("MNIST is not at hand: set SPIKELFP_DATA to a folder that holds mnist/")
