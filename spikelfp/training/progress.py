"""A progress bar per epoch, on stderr."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from spikelfp.tasks import Task
from spikelfp.terminal import plain, progress, words
from spikelfp.training.update import Position, Seen, Tally

REFRESH_EVERY = 20
"""Steps between two updates of the text: reading a metric waits for the device."""


class EpochBar:
    """Progress through one epoch; silent unless ``shown``, and transient: a finished epoch leaves its own line."""

    def __init__(self, position: Position, total: int, epochs: int, shown: bool, judge: Task) -> None:
        self._progress = progress(
            words("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            MofNCompleteColumn(),
            words("{task.fields[text]}"),
            TimeRemainingColumn(),
            shown=shown,
        )
        self._task = self._progress.add_task(
            "", total=total, completed=position.batch, epoch=position.epoch + 1, epochs=epochs, text=""
        )
        self._count, self._judge = 0, judge

    def __enter__(self) -> EpochBar:
        with suppress(OSError):  # the terminal is gone: training goes on without it
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._progress.stop()

    def advance(self, tally: Tally, seen: Seen) -> None:
        """One step further, of which this was seen."""
        if self._progress.disable:
            return
        if self._count % REFRESH_EVERY == 0:
            shown = {n: float(v) for n, v in seen.watched.items()}
            shown = {name.removeprefix("train_"): v for name, v in tally.judgement(self._judge).items()} | shown
            line = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
            self._progress.update(self._task, text=plain(line))
        self._count += 1
        with suppress(OSError):
            self._progress.advance(self._task)
