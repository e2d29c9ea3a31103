"""Counts of what readers and steps move or leave out, gathered while recordings are read, so that they can be told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

COUNTED = {
    "disordered": "{} came after a later event in the file and {} sorted in",
    "before_clock": "{} before the first word of time {} left out",
    "no_pixel": "{} with an address that is no pixel of the camera {} left out",
    "invalid": "{} that the file marks as invalid {} left out",
    "overflows": "{} that only {} a new turn of the clock, and left out",
    "late": "{} after the last step {} left out (--steps is the most)",
    "streams": "{} further stream of events in a file {} left out",
    "other_tables": "{} further table of events in a file {} left out (--table chooses)",
    "found_order": "{} in columns of another order than t, x, y, p {} read by their content (--columns states it)",
    "from_one": "{} whose columns and rows count from 1 {} moved by one (--first-pixel states it)",
}
"""Wording of each count, by the name of the fact of a reader (:class:`~.readers.base.Recording`)."""

Tally = dict[str, dict[str, int]]
"""Counts by recording and by name of :data:`COUNTED`; recordings of which nothing is told are left out."""

_open: ContextVar[Tally | None] = ContextVar("tally", default=None)


@contextmanager
def tallied() -> Iterator[Tally]:
    """Gather the counts of all recordings that this thread reads within the block, also for a block around it."""
    own: Tally = {}
    around = _open.get()
    before = _open.set(own)
    try:
        yield own
    finally:
        _open.reset(before)
    for where, counts in own.items():
        if around is not None:
            around.setdefault(where, {}).update(counts)


def counts_of(facts: Mapping[str, Any]) -> dict[str, int]:
    """Counts among the facts of a recording: of :data:`COUNTED`, those above 0."""
    found = {name: int(facts[name]) for name in COUNTED if isinstance(facts.get(name), int) and facts[name] > 0}
    streams = facts.get("streams")
    if isinstance(streams, Mapping):  # of AEDAT 4: kinds by number
        more = sum(kind == "EVTS" for kind in streams.values()) - 1
        if more > 0:
            found["streams"] = more
    others = facts.get("other_tables")
    if isinstance(others, tuple) and others:
        found["other_tables"] = len(others)
    return found


_THINGS = {"streams": "stream", "other_tables": "table"}
"""Nouns of counts that are of other things than events."""


def count(where: str, facts: Mapping[str, Any]) -> None:
    """Add the counts of a recording, named by its place, to the tally that is open in this thread, if one is."""
    tally = _open.get()
    found = counts_of(facts)
    if tally is not None and found:
        tally.setdefault(where, {}).update(found)


def told(tally: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Write a tally as lines: how many events of how many recordings, and one of them.

    >>> told({"a.raw": {"before_clock": 3}})
    ['3 events before the first word of time were left out: a.raw']
    """
    lines = []
    for name, text in COUNTED.items():
        own = {where: counts[name] for where, counts in tally.items() if name in counts}
        if not own:
            continue
        total, most = sum(own.values()), short_place(max(own, key=lambda where: own[where]))
        noun, verb = ("event", "was") if total == 1 else ("events", "were")
        if name in _THINGS:
            noun = ""
        elif name == "overflows":
            verb = "marks" if total == 1 else "mark"
        line = text.format(f"{total:,} {noun}".strip(), verb)
        if total > 1 and (thing := _THINGS.get(name)):
            line = line.replace(f"{thing} of", f"{thing}s of")
        lines.append(f"{line}: {most}" if len(own) == 1 else f"{line}, in {len(own):,} recordings, such as {most}")
    return lines


def short_place(where: str) -> str:
    """Shorten the place of a recording to its file and the folder of that, which tell nothing of the machine."""
    return "/".join(where.replace(os.sep, "/").split("/")[-2:])
