"""Attacks made by hand: files that a stranger hands over, folders with traps in them, and odd things to type.

Each runs in a folder of its own. Beside it lies ``outside``, which no command is told of: whatever happens, it stays as
it is and is not opened. A payload that runs would leave the folder ``pwned`` there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.slowness import slowness

from .attack import MOST_MEMORY, MOST_SECONDS, Attack, Watch, fill_outside, state
from .bombs import bombs
from .escapes import escapes
from .inputs import bases
from .kills import Found
from .payloads import payloads
from .process import environment, lines_of, most_memory, run, warm
from .scenarios import copy
from .texts import options, texts
from .traps import READERS, reading, writing


def attacks() -> list[Attack]:
    """All of them."""
    families = {
        "traps where something is written": writing,
        "traps where something is read": reading,
        "code in files": payloads,
        "files that fill the memory": bombs,
        "ways out of a folder": escapes,
        "hostile text": texts,
        "odd options": options,
    }
    return [replace(attack, family=family) for family, made in families.items() for attack in made()]


def set_up(where: Path, wanted: Sequence[Attack]) -> dict[str, Path]:
    """Fill the folders that the attacks start from."""
    fill = bases()
    made = {}
    for name in sorted({attack.base for attack in wanted}):
        made[name] = where / "bases" / name.strip(".")
        made[name].mkdir(parents=True)
        fill[name](made[name])
    for base, _, command in READERS.values():
        if base in made:
            warm(command, copy(made[base], where / "warm" / f"{len(list(where.rglob('*')))}"))
    return made


def attempt(made: dict[str, Path], where: Path, attack: Attack) -> Found:
    """Carry out an attack, and say what it achieved; an empty problem for nothing."""
    place = where / f"{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    outside, folder = place / "outside", copy(made[attack.base], place / "work")
    fill_outside(outside)
    tell = partial(Found, "attack", attack.name, "attack", 1)
    try:
        attack.make(folder, outside)
    except OSError as error:
        return tell(f"the trap cannot be laid here: {error}")
    before = state(outside)
    kept = {path: _kept(folder / path) for path in attack.keeps}
    (folder / "home").mkdir()
    watch = Watch(outside)

    def limited() -> None:
        most_memory(MOST_MEMORY)

    variables = {
        "SPIKELFP_CACHE": str(folder / "home/cache"),
        "SPIKELFP_DATA": str(folder),
        "HOME": str(folder / "home"),
    }
    with environment(**variables):
        ended = run(attack.command, folder, before=limited, timeout=2 * MOST_SECONDS)
    opened, changed = watch.seen()
    watch.close()
    if changed or state(outside) != before:
        return tell(f"changed outside: {', '.join(sorted(changed)) or 'content'}: {ended}")
    if opened and not attack.reads:
        return tell(f"read outside: {', '.join(sorted(opened))}: {ended}")
    if any(_kept(folder / path) != content for path, content in kept.items()):
        return tell(f"{', '.join(kept)} was changed: {ended}")
    return tell(_wrong(attack, ended))


def _wrong(attack: Attack, ended: Any) -> str:
    """What is wrong with how the command ended."""
    if ended.raw:
        return f"raw: {ended} {ended.err[-500:] if ended.code is not None else ''}"
    if "MemoryError" in ended.err:
        return f"the memory was full: {ended}"
    if ended.cpu > MOST_SECONDS and ended.cpu > MOST_SECONDS * slowness():
        return f"{ended.cpu:.0f} s: {ended}"
    if attack.expect == "refused" and ended.code == 0:
        return f"accepted: {ended.out[-200:]!r}"
    if attack.expect == "fine" and ended.code != 0:
        return f"refused: {ended}"
    lines = lines_of(ended.err)
    checked = attack.command[:2] == ["hw-export", "verify"]
    if ended.code and len(lines) != 1 and not (checked and ended.code == 1):
        return f"{len(lines)} lines: {ended.err[:300]!r}"
    for text in (ended.out, ended.err):
        if "\x1b" in text or "\x07" in text:
            return f"control characters reach the terminal: {text[:200]!r}"
    return ""


def _kept(path: Path) -> Any:
    if path.is_symlink():
        return os.readlink(path)
    if path.is_file():
        return path.read_bytes()
    return state(path) if path.is_dir() else None
