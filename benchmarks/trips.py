"""Count the files of the two packages that a piece of work enters: ``python -m benchmarks.trips``.

A trip is what a reader follows to understand one thing, such as one training step. A file counts once a function that
is written in it runs; what ran while modules were imported does not count.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    import hw_export

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (str(ROOT / "spikelfp"), str(ROOT / "hw_export"))


@contextmanager
def entered() -> Iterator[set[str]]:
    """Collect the files, relative to the repository, in which functions are called within the block."""
    found: set[str] = set()

    def look(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name != "<module>" and code.co_filename.startswith(PACKAGES):
            caller = frame.f_back
            while caller is not None and caller.f_code.co_name != "<module>":
                caller = caller.f_back
            if caller is None or not caller.f_code.co_filename.startswith(PACKAGES):  # not by an import
                found.add(str(Path(code.co_filename).relative_to(ROOT)))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(before)


class _FirstStepDone(BaseException):
    """Ends a run right after its first update; no ``Exception``, whose handling by the command would count."""


def train_step() -> set[str]:
    """Run one update of a dense spiking network by LFP, after a warm-up."""
    import torch

    import spikelfp

    net = spikelfp.models.lif_mlp([64, 32, 10])
    trainer = spikelfp.TemporalTrainer(net, steps=5)
    x, labels = torch.rand(16, 64), torch.arange(16) % 10
    trainer.train_step(x, labels)
    with entered() as found:
        trainer.train_step(x, labels)
    return found


def first_step() -> set[str]:
    """Run ``spikelfp train`` to the end of its first update."""
    import torch

    from spikelfp.cli import app
    from spikelfp.command import run_app

    def stop(*_: Any, **__: Any) -> None:
        raise _FirstStepDone

    step = torch.optim.Adam.step
    torch.optim.Adam.step = stop  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder, entered() as found:
        try:
            run_app(app, "spikelfp", ["train", "--quiet", "--hidden", "32", "--out", f"{folder}/run"])
        except _FirstStepDone:
            pass
        finally:
            torch.optim.Adam.step = step  # type: ignore[method-assign]
    return found


def from_nir() -> set[str]:
    """Read a dense spiking network from a NIR file."""
    import hw_export
    import spikelfp

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.nir"
        hw_export.to_nir(spikelfp.models.lif_mlp([16, 8, 4]), path)
        with entered() as found:
            hw_export.from_nir(path)
    return found


def _recorded(path: Path) -> tuple[torch.nn.Module, hw_export.UpdateRecorder]:
    """Make a dense network, and a recorder that has written its header to ``path``."""
    import hw_export
    import spikelfp

    net = spikelfp.models.lif_mlp([16, 8, 4])
    return net, hw_export.UpdateRecorder(net, path, bits=8)


def _change(net: torch.nn.Module) -> None:
    """Move the first weights by many steps of their grids."""
    for parameter in net.parameters():
        parameter.data.flatten()[0].neg_().add_(0.1)


def recorder_poll() -> set[str]:
    """Poll a stream that holds a new frame, and write it into an image."""
    from hw_export.updates import Follower

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "updates.cbor"
        net, recorder = _recorded(path)
        with recorder:
            follower = Follower(path, recorder.image())
            list(follower.poll())
            _change(net)
            recorder.step()
            with entered() as found:
                frames = list(follower.poll())
    assert len(frames) == 1, "the stream holds no new frame"
    return found


def record_update() -> set[str]:
    """Run one step of a recorder that finds changed integers and writes a frame."""
    with tempfile.TemporaryDirectory() as folder:
        net, recorder = _recorded(Path(folder) / "updates.cbor")
        with recorder:
            _change(net)
            with entered() as found:
                frame = recorder.step()
    assert frame is not None, "the recorder wrote no frame"
    return found


def recordings_cold() -> set[str]:
    """Load a folder of recordings as sequences without a cache; kernels are compiled before."""
    import numpy as np

    from spikelfp import data
    from spikelfp.data.events import EVENT

    before = os.environ.get("SPIKELFP_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        try:
            for kind in ("left", "right"):
                (Path(folder) / "recordings" / kind).mkdir(parents=True)
                for number in range(4):
                    events = np.zeros(50, EVENT)
                    events["t"], events["x"] = np.arange(50) * 100 + number, np.arange(50) % 8
                    events["y"], events["p"] = number, np.arange(50) % 2
                    np.save(Path(folder) / "recordings" / kind / f"{number}.npy", events)
            for cache in ("warm", "cold"):
                os.environ["SPIKELFP_CACHE"] = f"{folder}/{cache}"
                with entered() as found:
                    splits = data.load(f"folder:{folder}/recordings")
        finally:
            os.environ.pop("SPIKELFP_CACHE")
            if before is not None:
                os.environ["SPIKELFP_CACHE"] = before
    assert (len(splits.train), len(splits.test)) == (6, 2), "not all recordings were loaded"
    return found


TRIPS: dict[str, Callable[[], set[str]]] = {
    "one train_step": train_step,
    "command line to first step": first_step,
    "from_nir": from_nir,
    "folder of recordings cold": recordings_cold,
    "recorder poll": recorder_poll,
    "record one update": record_update,
}


def main() -> None:
    """Print the files of each trip, or with ``--json`` their names."""
    trips = {name: sorted(trip()) for name, trip in TRIPS.items()}
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps(trips, indent=2) + "\n")
        return
    for name, files in trips.items():
        sys.stdout.write(f"{name}: {len(files)} files\n" + "".join(f"  {file}\n" for file in files))


if __name__ == "__main__":
    main()
