"""Hostile names, and odd things to type."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from .attack import Attack
from .inputs import EVAL, bodies_of
from .scenarios import TRAIN
from .traps import READERS

HOSTILE = {
    "ANSI codes": "\x1b[2J\x1b]0;owned\x07x",
    "markup": "[red]x[/red][/x]",
    "a line break": "x\nspikelfp: all is well",
    "mathematics": r"$\frac{1}{0}$ \input{x}",
    "HTML": "<script>alert(1)</script>",
    "turned around": "\u202etxt.exe",
    "a lone surrogate": "\udc80\udcff",
    "nothing": "",
    "a dot": ".",
    "300 letters": "x" * 300,
}


def texts() -> list[Attack]:
    found = []
    for name, text in HOSTILE.items():

        def class_folder(folder: Path, outside: Path, text: str = text) -> None:
            with suppress(OSError):  # some are no names of folders
                (folder / "recordings" / "a").rename(folder / "recordings" / (text or " "))

        def class_names(folder: Path, outside: Path, text: str = text) -> None:
            path = folder / "run" / "config.yaml"
            lines = path.read_text().split("class_names:")[0]
            names = [text, *map(str, range(7))]
            path.write_text(f"{lines}class_names: {json.dumps(names)}\n", encoding="utf-8", errors="surrogatepass")

        def layer(folder: Path, outside: Path, text: str = text) -> None:
            content = torch.load(folder / "run/checkpoints/last.pt", weights_only=True)
            content["weights"] = {f"{text}{key}": value for key, value in content["weights"].items()}
            torch.save(content, folder / "run/checkpoints/last.pt")

        def about(folder: Path, outside: Path, text: str = text) -> None:
            import cbor2

            from hw_export.updates.format import Link, write_record

            made, link = b"", Link()
            for body in bodies_of((folder / "stream.cbor").read_bytes()):
                with suppress(UnicodeEncodeError, cbor2.CBOREncodeError):
                    body = cbor2.dumps(_renamed(cbor2.loads(body), text))
                record, link = write_record(body, link)
                made += record
            (folder / "stream.cbor").write_bytes(made)

        info = ["spikelfp", "data", "info", "recordings"]
        found += [
            Attack(f"{name}: a class", "events.npy0", class_folder, info),
            Attack(f"{name}: a class of a run", "run", class_names, ["spikelfp", "report", "run"]),
            Attack(f"{name}: a parameter of a checkpoint", "run", layer, EVAL, "refused" if text else "any"),
            Attack(f"{name}: a parameter of a stream", "stream", about, READERS["stream"][2]),
            Attack(f"{name}: --out", "run", no_trap, [*TRAIN[:-1], text]),
            Attack(f"{name}: --data", "run", no_trap, ["spikelfp", "train", "--data", text, "--out", "new"], "refused"),
            Attack(f"{name}: the run to evaluate", "run", no_trap, ["spikelfp", "eval", text], "refused"),
        ]
    return found


def _renamed(value: Any, text: str) -> Any:
    """Every text in plain data, replaced."""
    if isinstance(value, dict):
        return {key: _renamed(inner, text) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(each, text) for each in value]
    return text if isinstance(value, str) and "weight" in value else value


def no_trap(folder: Path, outside: Path) -> None:
    pass


def options() -> list[Attack]:
    typed = [
        ["--hidden", "0"],
        ["--hidden", "-3"],
        ["--hidden", "300000,300000"],
        ["--hidden", "9" * 400],
        ["--hidden", "1e3"],
        ["--hidden", ""],
        ["--steps", "0"],
        ["--steps", "9" * 30],
        ["--steps", "nan"],
        ["--batch-size", "0"],
        ["--batch-size", "-1"],
        ["--lr", "nan"],
        ["--lr", "inf"],
        ["--lr", "-1"],
        ["--lr", "1e-400"],
        ["--seed", "-1"],
        ["--seed", str(2**64)],
        ["--workers", "-1"],
        ["--accumulate", "0"],
        ["--epochs", "0"],
        ["--validation", "1"],
        ["--validation", "nan"],
        ["--threshold", "nan"],
        ["--beta", "inf"],
        ["--device", "cuda:99"],
        ["--device", "x"],
        ["--data", "folder:"],
        ["--data", "folder:/dev/null"],
        ["--data", "folder:run"],
        ["--data", "../run"],
        ["--data-dir", "/dev/null"],
        ["--data-dir", "nowhere"],
        ["--config", "nowhere.yaml"],
        ["--config", "run"],
        ["--config", "/dev/zero"],
        ["--out", "/"],
        ["--out", ".."],
        ["--out", "run/config.yaml"],
        ["--out", "run/config.yaml/x"],
        ["--out", "/proc/x"],
        ["--out", "/dev/null"],
        ["--out", "/dev/null/x"],
        ["--cache-dir", "x"],
        ["--clip", "-1"],
        ["--eps", "0"],
        ["--gamma", "1"],
        ["--weight-bits", "1"],
        ["--checkpoint-every", "-1"],
    ]
    start = [
        "spikelfp",
        "train",
        "--data",
        "few-digits",
        "--hidden",
        "4",
        "--steps",
        "2",
        "--epochs",
        "1",
        "--no-report",
    ]
    found = []
    for given in typed:
        command = [each for each in start]
        if given[0] in command:
            at = command.index(given[0])
            del command[at : at + 2]
        more = [] if given[0] == "--out" else ["--out", "new"]
        found.append(
            Attack(
                f"train {' '.join(given)[:40]}",
                "run",
                no_trap,
                [*command, *given, *more],
                "refused",
                reads=given == ["--out", ".."],
            )
        )
    found += [
        Attack(
            "train --out . inside a run, --overwrite",
            "run",
            no_trap,
            [*start, "--out", ".", "--overwrite"],
            "refused",
            keeps=("run", "options.yaml"),
        ),
        Attack(
            "train --out .. inside a run, --overwrite",
            "run",
            no_trap,
            [*start, "--out", "run/..", "--overwrite"],
            "refused",
            keeps=("run", "options.yaml"),
        ),
        Attack(
            "build --out run --overwrite",
            "run",
            no_trap,
            ["hw-export", "build", "run", "--out", "run", "--overwrite"],
            "refused",
            keeps=("run",),
        ),
        Attack(
            "build --out . --overwrite",
            "run",
            no_trap,
            ["hw-export", "build", "run", "--out", ".", "--overwrite"],
            "refused",
            keeps=("run",),
        ),
        Attack(
            "build --samples 10^18",
            "run",
            no_trap,
            ["hw-export", "build", "run", "--out", "new", "--samples", "1" + "0" * 18],
        ),
        Attack(
            "build --bits -1", "run", no_trap, ["hw-export", "build", "run", "--out", "new", "--bits", "-1"], "refused"
        ),
        Attack(
            "record over the run",
            "run",
            no_trap,
            ["hw-export", "updates", "record", "run", "--steps", "1", "--out", "run", "--overwrite"],
            "refused",
            keeps=("run",),
        ),
        Attack(
            "record over a checkpoint",
            "run",
            no_trap,
            [
                "hw-export",
                "updates",
                "record",
                "run",
                "--steps",
                "1",
                "--out",
                "run/checkpoints/last.pt",
                "--overwrite",
            ],
            "refused",
            keeps=("run",),
        ),
        Attack(
            "replay over its own stream",
            "stream",
            no_trap,
            ["hw-export", "updates", "replay", "stream.cbor", "--out", "stream.cbor", "--overwrite"],
            "refused",
            keeps=("stream.cbor",),
        ),
        Attack(
            "plot over the stream",
            "stream",
            no_trap,
            ["hw-export", "updates", "inspect", "stream.cbor", "--plot", "stream.cbor"],
            "refused",
            keeps=("stream.cbor",),
        ),
        Attack(
            "show over a recording",
            "events.npy0",
            no_trap,
            ["spikelfp", "data", "show", "recordings", "--out", "recordings/a/0.npy"],
            "refused",
            keeps=("recordings",),
        ),
        Attack(
            "clear a cache by a pattern",
            "cache",
            no_trap,
            ["spikelfp", "data", "cache", "--cache-dir", "cache", "--clear", "*"],
            "refused",
            keeps=("cache",),
        ),
        Attack(
            "clear a cache by a path",
            "cache",
            no_trap,
            ["spikelfp", "data", "cache", "--cache-dir", "cache", "--clear", "../run"],
            "refused",
            keeps=("cache", "run"),
        ),
        Attack(
            "clear a folder that is no cache",
            "cache",
            no_trap,
            ["spikelfp", "data", "cache", "--cache-dir", ".", "--clear"],
            "any",
            keeps=("run", "cache", "events"),
        ),
    ]
    return found
