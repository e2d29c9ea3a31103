"""The names that ``--data`` takes."""

from __future__ import annotations

from collections.abc import Iterator

from spikelfp.data.events.recordings import prefixes, recordings
from spikelfp.data.registry import datasets
from spikelfp.registry import check_name, unknown_name


class _DataNames:
    """All of them, prefixes last; looked up anew each time, so that data sets of one's own are among them."""

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*datasets, *recordings])
        yield from (f"{prefix}:…" for prefix in prefixes)


data_names = _DataNames()


def is_event_data(name: str) -> bool:
    """Whether the data set of that name is made of recordings of events."""
    return ":" in name or name in set(recordings)


def check_data_name(name: str) -> str:
    """``name`` if there is a data set, or a kind of data sets, of that name.

    Raises:
        UnknownNameError: if not, with the nearest one suggested.
    """
    prefix, colon, rest = name.partition(":")
    if colon:
        check_name("kind of event data", prefix, prefixes)
        if not rest:
            raise unknown_name("data set", name, data_names)
        return name
    return check_name("data", name, [*datasets, *recordings])
