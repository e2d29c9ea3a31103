"""A progress bar over recordings, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from spikelfp.terminal import plain, progress, words


@contextmanager
def bar(text: str, total: int, shown: bool) -> Iterator[Callable[[], object]]:
    """Gives a function to be called once for each of ``total`` recordings; silent unless ``shown`` on a terminal."""
    columns = (words("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with progress(*columns, shown=shown) as bar:
        task = bar.add_task(plain(text), total=total)
        yield lambda: bar.advance(task)
