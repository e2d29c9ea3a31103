"""Folders and streams of strangers through every command: one line and exit 2, or a right result, in bounded memory."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from attacks import ATTACKS

from hw_export.cli import app as export_app
from hw_export.updates.format import Link, write_record
from spikelfp.cli import app
from spikelfp.command import run_app
from tests.slowness import slowness

MOST_SECONDS = 10
MOST_BYTES = 2 << 30

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))

RUN_COMMANDS = {
    "eval": "spikelfp eval {run} --early",
    "eval best": "spikelfp eval {run} --weights best",
    "report": "spikelfp report {run}",
    "resume": "spikelfp train --out {run} --resume --epochs 2 --quiet --no-report",
    "config": "spikelfp train --config {run}/config.yaml --out {out} --quiet --no-report",
    "build": "hw-export build {run} --target nir --samples 4 --out {out}",
    "record": "hw-export updates record {run} --steps 2 --out {out}",
}


@pytest.fixture
def command(capsys):
    """Run a command line in this process: exit code, stdout, stderr, seconds and bytes that it took at its peak."""

    def call(line, **places):
        program, *words = line.split()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        before, start = _kilobytes("VmRSS"), time.process_time()
        words = [word.format(**places) for word in words]
        with pytest.raises(SystemExit) as stop:
            run_app({"spikelfp": app, "hw-export": export_app}[program], program, words)
        seconds, grown = time.process_time() - start, 1024 * (_kilobytes("VmHWM") - before)
        out, err = capsys.readouterr()
        assert seconds < MOST_SECONDS or seconds < MOST_SECONDS * slowness(), (line, err)
        assert grown < MOST_BYTES, (line, err)
        return stop.value.code, out, err

    if not sys.platform.startswith("linux"):
        pytest.skip("the peak of memory is read as Linux tells it")
    return call


def _kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def _quietly(line: str) -> None:
    program, *words = line.split()
    with pytest.raises(SystemExit) as stop:
        run_app({"spikelfp": app, "hw-export": export_app}[program], program, words)
    assert not stop.value.code


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a run, exports of it, and a stream."""
    folder = tmp_path_factory.mktemp("made")
    _quietly(
        f"spikelfp train --data digits --hidden 8 --steps 4 --epochs 1 --reset zero --no-bias --no-report "
        f"--device cpu --out {folder}/run --quiet"
    )
    # The first report of a process imports matplotlib, which looks for fonts: not part of the seconds that are bounded.
    _quietly(f"spikelfp report {folder}/run")
    (folder / "run" / "report.html").unlink()
    _quietly(f"hw-export build {folder}/run --samples 4 --out {folder}/nir")
    for target in ("tinyodin", "generic", "loihi"):
        _quietly(f"hw-export build {folder}/run --target {target} --input-scale 3 --samples 4 --out {folder}/{target}")
    _quietly(f"hw-export updates record {folder}/run --steps 3 --out {folder}/stream")
    return folder


def _fails_well(code: int, err: str, *, may_succeed: bool = False) -> None:
    if may_succeed and code in (0, 1):  # 1: compared, and different
        return
    assert code == 2, err
    assert len(err.splitlines()) == 1, err
    assert err.rstrip("\n").isprintable()
    assert len(err) < 1000, err


CONFIGS: dict[str, Any] = {
    "wide": {"hidden": [30000, 30000]},
    "steps": {"steps": 10**9},
    "shape": {"shape": [10**6, 10**6]},
    "negative shape": {"shape": [-1, 8, 8]},
    "long shape": {"shape": [1] * 1000},
    "no shape": {"shape": [0]},
    "shape of text": {"shape": "188"},
    "shape of infinity": {"shape": [float("inf")]},
    "shape of parts": {"shape": [1.5, 8, 8]},
    "shape beyond 64 bits": {"shape": [2**62, 8]},
    "classes": {"classes": 10**9},
    "classes of text": {"classes": "ten"},
    "classes infinite": {"classes": float("inf")},
    "classes nan": {"classes": float("nan")},
    "no classes": {"classes": 0},
    "classes below 0": {"classes": -3},
    "names": {"class_names": 7},
    "names few": {"class_names": ["a"]},
    "names deep": {"class_names": {"a": {"b": []}}},
    "batch": {"batch_size": 10**9},
    "batch beyond 64 bits": {"batch_size": 2**63},
    "layers": {"hidden": [1] * 5000},
    "hidden of text": {"hidden": "x" * 100_000},
    "hidden of lists": {"hidden": [[1], [2]]},
    "hidden mapping": {"hidden": {"a": 1}},
    "width": {"model": "lif-vgg", "hidden": [], "width": 10**6},
    "types": {"lr": [1], "steps": "a"},
    "samples": {"samples": 3},
    "samples deep": {"samples": {"train": [1], "test": {}}},
    "epochs": {"epochs": "1e400"},
    "data folder": {"data": "folder:/dev"},
    "data pipe": {"data_dir": "{pipe}"},
    "woken": {"woken": 3},
    "keys": {7: 1, True: 2},
    "workers": {"workers": 10**9},
    "seed": {"seed": 2**64 - 1},
    "standardize": {"standardize": "yes"},
    "seconds": {"lr": float("nan")},
}


def _pairs(names, ways):
    """Every name with every way; all but one way of each are left to the long run of the tests."""
    found = []
    for index, name in enumerate(names):
        those = ways(name) if callable(ways) else list(ways)
        for place, way in enumerate(those):
            quick = place == index % len(those)
            found.append(pytest.param(name, way, id=f"{name}, {way}", marks=() if quick else pytest.mark.slow))
    return found


@pytest.mark.parametrize(("name", "way"), _pairs(CONFIGS, RUN_COMMANDS))
def test_the_configuration_of_a_run(made, tmp_path, command, name, way):
    run = shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / "pipe").mkdir()
    values = yaml.safe_load((run / "config.yaml").read_text())
    for key, value in CONFIGS[name].items():
        values[key] = str(tmp_path / "pipe") if value == "{pipe}" else value
    (run / "config.yaml").write_text(_yaml(values))
    code, _, err = command(RUN_COMMANDS[way], run=run, out=tmp_path / "out")
    _fails_well(code, err, may_succeed=True)
    if name in ("shape", "classes", "layers", "types") and way not in ("config", "report"):
        assert code == 2


def _text(content: str | bytes):
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


ENDLESS = b"1," * (20 << 20)

FILES: dict[str, tuple[str, Any]] = {
    "yaml of laughs": ("config.yaml", _text(LAUGHS)),
    "yaml deep": ("config.yaml", _text("[" * 50_000)),
    "yaml binary": ("config.yaml", _text(bytes(range(256)))),
    "yaml list": ("config.yaml", _text("[1, 2]")),
    "yaml pipe": ("config.yaml", "pipe"),
    "yaml device": ("config.yaml", "/dev/zero"),
    "metrics endless": ("metrics.csv", _text(b"epoch\n" + ENDLESS)),
    "metrics wide": ("metrics.csv", _text(b"epoch" + b",a" * 10**7 + b"\n1\n")),
    "metrics wide rows": ("metrics.csv", _text(b"epoch\n" + (b"1," * 50_000 + b"\n") * 100)),
    "metrics many": ("metrics.csv", _text(b"epoch\n" + b"1\n" * 10**7)),
    "metrics nan": ("metrics.csv", _text("epoch,train_accuracy,train_loss,seconds\nnan,nan,nan,nan\n")),
    "metrics inf": ("metrics.csv", _text("epoch,train_accuracy,train_loss,seconds\ninf,1e308,-inf,inf\n")),
    "metrics huge": ("metrics.csv", _text("epoch,train_accuracy,seconds\n1,1" + "0" * 300 + ",1e308\n2,1,1e308\n")),
    "metrics quote": ("metrics.csv", _text('epoch,"' + "a\n" * 10**6)),
    "metrics nul": ("metrics.csv", _text(b"epoch\n1\x002\n")),
    "metrics latin": ("metrics.csv", _text(b"epoch,\xff\xfe\n1,2\n")),
    "metrics pipe": ("metrics.csv", "pipe"),
    "metrics device": ("metrics.csv", "/dev/zero"),
    "summary deep": ("summary.json", _text("[" * 10**6)),
    "summary huge": ("summary.json", _text('{"a": "' + "x" * (30 << 20) + '"}')),
    "summary list": ("summary.json", _text("[]")),
    "summary text": ("summary.json", _text('{"spike_rates": 7, "test_accuracy": "x", "parameters": "a"}')),
    "summary types": ("summary.json", _text('{"spike_rates": {"2": "x"}, "test_accuracy": [1]}')),
    "summary numbers": ("summary.json", _text('{"test_accuracy": 1e999, "seconds_per_epoch": NaN}')),
    "summary rates": ("summary.json", _text('{"spike_rates": {"2": 1e308, "4": 1e308}, "test_loss": "a"}')),
    "summary number": ("summary.json", _text('{"parameters": ' + "9" * 100_000 + "}")),
    "summary pipe": ("summary.json", "pipe"),
    "verify types": ("verify.json", _text('[{"layers": 7, "status": []}, {"layers": [{"compared": 1e999}]}]')),
    "verify nan": ("verify.json", _text('[{"layers": [{"compared": NaN, "differences": -1}]}]')),
    "verify many": ("verify.json", _text("[" + ",".join(['{"layers": []}'] * 300_000) + "]")),
    "verify pipe": ("verify.json", "pipe"),
    **{
        f"{name} {kind}": (f"checkpoints/{kind}.pt", make)
        for kind in ("best", "last", "initial")
        for name, (make, _) in ATTACKS.items()
        if name.startswith("torch ")
    },
    "last pipe": ("checkpoints/last.pt", "pipe"),
    "last device": ("checkpoints/last.pt", "/dev/zero"),
    "last socket": ("checkpoints/last.pt", "socket"),
}  # fmt: skip

READ_BY = {
    "config.yaml": list(RUN_COMMANDS),
    "metrics.csv": ["report", "resume"],
    "summary.json": ["report", "resume"],
    "verify.json": ["report"],
    "checkpoints/best.pt": ["eval best"],
    "checkpoints/last.pt": ["eval", "report", "resume", "build", "record"],
    "checkpoints/initial.pt": ["report"],
}


def _put(path: Path, what: Any) -> None:
    import os
    import socket

    path.unlink(missing_ok=True)
    if what == "pipe":
        os.mkfifo(path)
    elif what == "socket":
        place = Path.cwd()
        os.chdir(path.parent)  # names of sockets are short
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name)
        finally:
            os.chdir(place)
    elif isinstance(what, str):
        path.symlink_to(what)
    else:
        what(path)


@pytest.mark.parametrize(("name", "way"), _pairs(FILES, lambda name: READ_BY[FILES[name][0]]))
def test_the_files_of_a_run(made, tmp_path, command, name, way):
    run = shutil.copytree(made / "run", tmp_path / "run")
    file, what = FILES[name]
    _put(run / file, what)
    code, _, err = command(RUN_COMMANDS[way], run=run, out=tmp_path / "out")
    _fails_well(code, err, may_succeed=way in ("report", "resume"))
    if file == "config.yaml":
        assert code == 2


def _yaml(values: Any) -> str:
    """Write YAML by libyaml, where it is there: some of these files are long."""
    return yaml.dump(values, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))


def _manifest(**changed: Any):
    def write(path: Path) -> None:
        values = yaml.safe_load(path.with_name("manifest.yaml").read_text()) if path.exists() else {}
        path.write_text(_yaml({**values, **changed}))

    return write


def _changed(**changed: Any):
    """The facts of a YAML file, some of them others."""

    def write(path: Path) -> None:
        path.write_text(_yaml({**KEPT[path.name], **changed}))

    return write


KEPT: dict[str, Any] = {}


def _network(layers: Any):
    return lambda path: torch.save({"format": 1, "layers": layers, "weights": {}}, path)


def _arrays(**arrays: Any):
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    return write


def _attack(name: str):
    return ATTACKS[name][0]


def _samples(**changed: Any):
    whole = {"inputs": np.zeros((4, 1, 8, 8), np.uint8), "labels": np.zeros(4, np.int64), "steps": 4, "static": True}
    return _arrays(**{**whole, **changed})


_LINEAR = [("0", "Flatten", {}), ("1", "Linear", {"in_features": 10**6, "out_features": 10**6, "bias": True})]

EXPORTS: dict[str, tuple[str, str, Any]] = {
    "manifest laughs": ("nir", "manifest.yaml", _text(LAUGHS)),
    "manifest target": ("nir", "manifest.yaml", _changed(target="x" * 10**5)),
    "manifest checksums": ("nir", "manifest.yaml", _changed(sha256={"../../../../dev/zero": "0", "/dev/zero": "1"})),
    "manifest checksum types": ("nir", "manifest.yaml", _changed(sha256={7: [1]})),
    "manifest checksum pipe": ("nir", "pipe", "pipe"),
    "manifest versions": ("tinyodin", "manifest.yaml", _changed(versions={})),
    "manifest version types": ("tinyodin", "manifest.yaml", _changed(versions={"spikelfp": [[]]})),
    "manifest pipe": ("nir", "manifest.yaml", "pipe"),
    "model wide": ("nir", "model.pt", _network(_LINEAR)),
    "model deep": ("nir", "model.pt", _attack("torch depth")),
    "model storage": ("nir", "model.pt", _attack("torch storage beyond its end")),
    "model code": ("tinyodin", "model.pt", _attack("torch code")),
    "model pipe": ("nir", "model.pt", "pipe"),
    **{f"samples {name}": ("nir", "samples.npz", _attack(name)) for name in ATTACKS if name.startswith("npz")},
    "samples steps": ("nir", "samples.npz", _samples(steps=1 << 20)),
    "samples steps of chips": ("tinyodin", "samples.npz", _samples(steps=1 << 20)),
    "samples most steps": ("nir", "samples.npz", _samples(steps=np.int64(2**62))),
    "samples zeros": ("nir", "samples.npz", _arrays(inputs=np.zeros((4, 1, 8, 8, 60_000), "u1"), labels=[0] * 4,
                                                   steps=4, static=True)),
    "samples other": ("nir", "samples.npz", _samples(inputs=np.zeros((4, 7), "u1"))),
    "samples other of chips": ("generic", "samples.npz", _samples(inputs=np.zeros((4, 7), "u1"))),
    "samples nan": ("nir", "samples.npz", _samples(inputs=np.full((4, 1, 8, 8), np.nan))),
    "samples large": ("generic", "samples.npz", _samples(inputs=np.full((4, 1, 8, 8), 1e38))),
    "samples pipe": ("generic", "samples.npz", "pipe"),
    "spikes declared": ("generic", "spikes.npz", _attack("npz declared")),
    "spikes lying": ("generic", "spikes.npz", _attack("npz lying")),
    "spikes zeros": ("generic", "spikes.npz", _arrays(**{"2": np.zeros((4, 4, 1 << 23), "u1")})),
    "spikes pipe": ("tinyodin", "spikes.npz", "pipe"),
    **{f"network {name}": ("nir", "network.nir", _attack(name)) for name in ATTACKS if name.startswith("hdf5")},
    "network pipe": ("nir", "network.nir", "pipe"),
    **{
        f"{target} {name}": (target, "network.yaml", _changed(**facts))
        for target in ("tinyodin", "generic", "loihi")
        for name, facts in {
            "shape": {"input_shape": [10**6, 10**6]},
            "shape below": {"input_shape": [-1, -64]},
            "shape text": {"input_shape": "aaa"},
            "shape infinite": {"input_shape": [float("inf")]},
            "no layers": {"layers": []},
            "layers": {"layers": 7},
            "layers of text": {"layers": ["a"] * 1000},
            "layer unknown": {"layers": [{"name": "0", "kind": "quux", "shape": [3]}]},
            "many layers": {"layers": [{"name": str(i), "kind": "flatten", "shape": [64]} for i in range(30_000)]},
            "shape of a layer": {"layers": [{"name": "0", "kind": "dense", "shape": [10**9]}]},
            "bits": {"bits": 10**9},
            "bits types": {"bits": [1]},
            "scale": {"input_scale": 0},
        }.items()
    },
    "spi endless": ("tinyodin", "tinyodin.spi", _text(b"0 " * (40 << 20))),
    "spi lines": ("tinyodin", "tinyodin.spi", _text(b"00000 00001\n" * 5_000_000)),
    "spi digits": ("tinyodin", "tinyodin.spi", _text(b"1" * 10**6 + b" " + b"2" * 10**6)),
    "spi signs": ("tinyodin", "tinyodin.spi", _text(b"-1 -1\n")),
    "spi binary": ("tinyodin", "tinyodin.spi", _text(b"\xff\xfe\0" * 1000)),
    "spi pipe": ("tinyodin", "tinyodin.spi", "pipe"),
    "netx": ("loihi", "network.net", _attack("hdf5 fill value")),
    "netx link": ("loihi", "network.net", _attack("hdf5 external link")),
    "netx pipe": ("loihi", "network.net", "pipe"),
    "arrays": ("generic", "network.npz", _attack("npz declared")),
    "arrays pipe": ("generic", "network.npz", "pipe"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_the_files_of_an_export(made, tmp_path, command, name):
    target, file, what = EXPORTS[name]
    folder = shutil.copytree(made / target, tmp_path / "export")
    if (folder / file).suffix == ".yaml":
        KEPT[file] = yaml.safe_load((folder / file).read_text())
    if file == "pipe":
        KEPT["manifest.yaml"] = yaml.safe_load((folder / "manifest.yaml").read_text())
        _changed(sha256={"pipe": "0" * 64})(folder / "manifest.yaml")
    _put(folder / file, what)
    which = " --in norse" if target == "nir" else ""
    code, _, err = command(f"hw-export verify {{folder}}{which}", folder=folder)
    _fails_well(code, err, may_succeed=True)
    assert code, "it was verified"


LOGS = {
    "endless": b"1" * (40 << 20),
    "endless lines": b"# " + b"x" * 10_000 + b"\n",
    "many": b"input 1\n" * 300_000,
    "blank": b"\n" * (1 << 20),
    "digits": b"sample " + b"1" * 900 + b"\n",
    "samples": b"sample 999999999\n",
    "steps": b"sample 0\nstep 999999999\n",
    "spikes": b"sample 0\nstep 0\nspike 999999999\n",
    "binary": bytes(range(256)),
    "nul": b"sample\0 0\n",
}


@pytest.mark.parametrize("name", [*LOGS, "pipe", "/dev/zero", "socket"])
def test_the_log_of_a_chip(made, tmp_path, command, name):
    _put(tmp_path / "log", _text(LOGS[name]) if name in LOGS else name)
    code, _, err = command("hw-export verify {folder} --log {log}", folder=made / "tinyodin", log=tmp_path / "log")
    _fails_well(code, err)


def _stream(*bodies: bytes):
    def write(path: Path) -> None:
        link, out = Link(), []
        for body in bodies:
            data, link = write_record(body, link)
            out.append(data)
        path.write_bytes(b"".join(out))

    return write


def _header(parameters: list[Any], **changed: Any) -> bytes:
    import cbor2

    content = {
        "format": "sparse-updates", "version": 1, "step": 0, "every": 1, "parameters": parameters,
        "digest": bytes(32), "base": None, "about": {}, **changed,
    }  # fmt: skip
    return cbor2.dumps([0, content])


def _many_frames(parameters: int, frames: int):
    import cbor2

    table = [[str(index), [1], 2, -1, 1, 0.5] for index in range(parameters)]
    return _stream(_header(table), *(cbor2.dumps([1, step]) for step in range(1, frames + 1)))


STREAMS: dict[str, Any] = {
    "array of 2⁶⁰": _stream(b"\x9b\x10" + bytes(7)),
    "text of 2⁶⁰": _stream(b"\x82\x00\x7b\x10" + bytes(7)),
    "deep": _stream(b"\x81" * 100_000 + b"\x00"),
    "shared": _stream(b"\xd8\x1c\x81\xd8\x1d\x00"),
    "fraction": _stream(b"\xc4\x82\x1b" + b"\x7f" * 8 + b"\x01"),
    "great number": _stream(b"\xc2\x5a\x00\x10\x00\x00" + b"\xff" * (1 << 20)),
    "many items": _stream(b"\x9a\x00\x20\x00\x00" + bytes(1 << 21)),
    "great shape": _stream(_header([["a", [2**20, 2**10], 8, -127, 127, 0.5]])),
    "greater shape": _stream(_header([["a", [2**40, 2**40], 8, -127, 127, 0.5]])),
    "many axes": _stream(_header([["a", [1] * 100_000, 8, -127, 127, 0.5]])),
    "grid": _stream(_header([["a", [1], 8, -(2**63), 2**63, 0.5]])),
    "many parameters": _stream(_header([[str(index), [1], 2, -1, 1, 0.5] for index in range(100_000)])),
    "parameters and frames": _many_frames(20_000, 20_000),
    "empty shape": _stream(_header([["a", [0], 2, -1, 1, 0.5]])),
    "claims": lambda path: path.write_bytes(b"\xd9\xd9\xf7\x83\xd8\x46\x50" + b"\xff" * 16),
    "zeros": _text(bytes(10 << 20)),
    "gzip": _text(gzip.compress(bytes(1 << 20))),
    "pipe": "pipe",
    "/dev/zero": "/dev/zero",
    "socket": "socket",
}

STREAM_COMMANDS = {
    "inspect": "hw-export updates inspect {stream}",
    "replay": "hw-export updates replay {stream} --out {out}",
    "spi": "hw-export updates spi {stream} --frames --out {out}",
    "inspect base": "hw-export updates inspect {good} --base {stream}",
    "replay base": "hw-export updates replay {good} --base {stream} --out {out}",
    "replay over": "hw-export updates replay {good} --overwrite --out {stream}",
}


@pytest.mark.parametrize(("name", "way"), _pairs(STREAMS, STREAM_COMMANDS))
def test_a_stream(made, tmp_path, command, name, way):
    _put(tmp_path / "stream", STREAMS[name])
    places = {"stream": tmp_path / "stream", "good": made / "stream", "out": tmp_path / "out"}
    code, _, err = command(STREAM_COMMANDS[way], **places)
    _fails_well(code, err, may_succeed=way in ("inspect", "replay over"))


@pytest.mark.parametrize("way", ["replay {stream}", "spi {stream}"])
@pytest.mark.parametrize("upto", [10**30, 2**63, -1, 99])
def test_a_step_that_a_stream_does_not_have(made, tmp_path, command, way, upto):
    line = f"hw-export updates {way} --out {{out}} --upto {upto}"
    code, _, err = command(line, stream=made / "stream", out=tmp_path / "out")
    _fails_well(code, err)


@pytest.mark.parametrize("config", ["pipe", "/dev/zero", "socket", "/dev/stdin"])
def test_options_from_what_is_no_file(tmp_path, command, config):
    _put(tmp_path / "config", config)
    code, _, err = command(
        "spikelfp train --config {config} --out {out}", config=tmp_path / "config", out=tmp_path / "o"
    )
    _fails_well(code, err)


def test_what_is_attacked_is_sound(made, tmp_path, command):
    """The commands succeed on the folders as they are: what is refused above is the attack."""
    for line in RUN_COMMANDS.values():
        run = shutil.copytree(made / "run", tmp_path / "run", dirs_exist_ok=True)
        code, _, err = command(line, run=run, out=tmp_path / "out")
        assert code == 0, err
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        (tmp_path / "out").unlink(missing_ok=True)
        shutil.rmtree(run)
    for target in ("tinyodin", "generic", "loihi"):
        assert command("hw-export verify {folder}", folder=made / target)[0] == 0
    assert json.loads(command("hw-export updates inspect {stream} --json", stream=made / "stream")[1].splitlines()[-1])
