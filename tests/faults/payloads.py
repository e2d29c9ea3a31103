"""Files that run code where they are trusted: pickles of torch and numpy, tags of YAML."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch

from .attack import Attack, Payload
from .inputs import EVAL
from .scenarios import TRAIN
from .traps import READERS, put


def torch_pickle(outside: Path) -> bytes:
    """A file of torch whose pickle runs code."""
    buffer = io.BytesIO()
    torch.save({"format": 1, "weights": Payload(outside)}, buffer)
    return buffer.getvalue()


def torch_legacy(outside: Path) -> bytes:
    """The same in torch's old format."""
    buffer = io.BytesIO()
    torch.save({"format": 1, "weights": Payload(outside)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def numpy_pickle(outside: Path) -> bytes:
    """An array of objects that run code."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(outside)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def npz_pickle(outside: Path) -> bytes:
    """An archive of such arrays, under every name that is read."""
    buffer = io.BytesIO()
    names = ("inputs", "labels", "steps", "static", "mask", "events", "t", "x", "y", "p", "weight", "spikes")
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", numpy_pickle(outside))
    return buffer.getvalue()


def yaml_tags(outside: Path) -> dict[str, bytes]:
    """YAML that runs code where tags are obeyed."""
    place = json.dumps(str(outside / "pwned"))
    return {
        "!!python/object/apply": f"a: !!python/object/apply:os.mkdir [{place}]\n".encode(),
        "!!python/object/new": f"a: !!python/object/new:os.mkdir [{place}]\n".encode(),
        "!!python/name": b"a: !!python/name:os.system\n",
        "!!python/module": b"a: !!python/module:antigravity\n",
    }


def payloads() -> list[Attack]:
    found = []
    for name, make in (("torch pickle", torch_pickle), ("torch pickle of old", torch_legacy)):
        for base, path, command in (
            ("run", "run/checkpoints/last.pt", EVAL),
            ("run", "run/checkpoints/last.pt", [*TRAIN[:-3], "3", "--out", "run", "--resume"]),
            ("run", "run/checkpoints/best.pt", [*EVAL, "--weights", "best"]),
            ("run", "run/checkpoints/last.pt", ["hw-export", "build", "run", "--out", "new"]),
            (
                "run",
                "run/checkpoints/initial.pt",
                ["hw-export", "updates", "record", "run", "--weights", "initial", "--steps", "1", "--out", "new"],
            ),
            ("nir", "export/model.pt", ["hw-export", "verify", "export", "--in", "snntorch"]),
        ):
            found.append(
                Attack(
                    f"{name} in {Path(path).name}: {' '.join(command[:3])}", base, put(path, make), command, "refused"
                )
            )
    for name, make in (("pickled array", numpy_pickle), ("archive of pickled arrays", npz_pickle)):
        for base, path, command in (
            ("nir", "export/samples.npz", READERS["samples.npz"][2]),
            ("tinyodin", "export/spikes.npz", READERS["spikes.npz"][2]),
            ("generic", "export/network.npz", ["hw-export", "verify", "export"]),
            ("events.npz0", "recordings/a/0.npz", ["spikelfp", "data", "info", "recordings"]),
            ("events.npy0", "recordings/a/0.npy", ["spikelfp", "data", "info", "recordings"]),
            ("run", "run/checkpoints/last.pt", EVAL),
        ):
            found.append(Attack(f"{name} in {Path(path).name}", base, put(path, make), command, "refused"))
    for tag in yaml_tags(Path("/")):
        for base, path, command in (
            ("run", "run/config.yaml", EVAL),
            ("run", "options.yaml", READERS["--config"][2]),
            ("nir", "export/manifest.yaml", READERS["manifest.yaml"][2]),
            ("tinyodin", "export/network.yaml", READERS["tinyodin.spi"][2]),
        ):
            make = put(path, lambda outside, tag=tag: yaml_tags(outside)[tag])
            found.append(Attack(f"{tag} in {Path(path).name}", base, make, command, "refused"))
    return found
