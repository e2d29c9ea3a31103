"""What all tests share."""

from __future__ import annotations

import gc
import os
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


@pytest.fixture
def light_reports(monkeypatch):
    """Pictures of reports are drawn for light pages alone, which halves the time: a report is seconds of drawing.

    Those for dark pages are drawn by the same code in other colours, which the tests of reports look at.
    """
    from spikelfp.report import write

    def picture(title, caption, text, draw, *, wide=False):
        drawn = write.png(draw(theme=write.LIGHT))
        return write.Picture(title, caption, text, drawn, drawn, wide)

    monkeypatch.setattr(write, "_picture", picture)


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
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


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
