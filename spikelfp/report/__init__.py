"""Pictures of a run: ``report.html``, one file without references to anything else."""

from __future__ import annotations

from pathlib import Path


def write_report(run: str | Path, data_dir: str | None = None) -> Path:
    """Write ``report.html`` into the run folder ``run`` and return its path.

    The page shows what is there: a stopped run has no summary, and a run whose data or checkpoint is missing
    keeps its curves and says what is lacking. ``data_dir`` overrides the folder of data sets that the run was
    trained from.

    Raises:
        RunFolderError: for a folder that is no run, has no finished epoch, or holds a file that cannot be read.
        UserError: for a ``data_dir`` without the data set.
        SaveError: when the page cannot be written; what was there before is unchanged.
    """
    from spikelfp.report.write import write_report as write  # matplotlib takes long to import

    return write(run, data_dir)


__all__ = ["write_report"]
