"""Base of the experiments of the papers: what one has to say, and what it gets to work with.

An experiment is split into parts that depend on nothing but their settings, so that they run side by side and are kept
when a run is stopped. It is one small class::

    @experiments.register("two-weights")
    class TwoWeights(Experiment):
        title, source = "Paths of two weights", "LFP v3, Fig. 4"
        claims = ("LFP moves weights towards sparse solutions.",)

        def parts(self, quick, seeds):
            return [Part(rule, {"rule": rule}) for rule in ("lfp", "gradient")]

        def run(self, part, desk): ...            # → rows of numbers and words
        def judge(self, results): ...             # → one verdict for each claim
        def draw(self, results, figure): ...
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from spikelfp.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spikelfp.data import DataSplits
    from spikelfp.training.weights import GivenWeights

experiments: Registry[type[Experiment]] = Registry("experiment")
"""Experiments by the names that ``spikelfp reproduce`` takes."""

Row = dict[str, Any]
"""A line of ``results.csv``: numbers, words and truth values by the names of their columns."""

VERDICTS = {True: "holds", False: "does not hold", None: "not testable here"}
"""Verdicts in words."""


@dataclass(frozen=True)
class Part:
    """A computation that needs nothing from the others.

    Attributes:
        name: its own, good for a file.
        settings: what it is computed with; numbers, words and truth values, which its rows repeat.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Finding about a claim.

    Attributes:
        holds: whether the claim holds; ``None`` where these data cannot tell.
        text: our numbers, in one or two sentences.
    """

    holds: bool | None
    text: str

    def __post_init__(self) -> None:
        if self.holds is not None:  # truth values of numpy and torch are none of JSON
            object.__setattr__(self, "holds", bool(self.holds))


class Results:
    """Rows and arrays of all parts of an experiment.

    Args:
        rows: of all parts, each with the settings of its part.
        folder: of the experiment.
        parts: names of the parts, in order.
    """

    def __init__(self, rows: Sequence[Row], folder: Path, parts: Sequence[str]) -> None:
        self.rows, self.folder, self.parts = list(rows), folder, list(parts)

    def select(self, **wanted: Any) -> list[Row]:
        """List the rows with these values.

        Args:
            **wanted: values by column. A row without the column is not among them.
        """
        missing = object()
        return [row for row in self.rows if all(row.get(name, missing) == value for name, value in wanted.items())]

    def values(self, column: str, **wanted: Any) -> NDArray[np.float64]:
        """Return a column of the rows with these values, as numbers; rows without it are left out."""
        return np.array([row[column] for row in self.select(**wanted) if row.get(column) is not None], dtype=np.float64)

    def each(self, column: str, **wanted: Any) -> list[Any]:
        """List the different values of a column in the rows with these values, in their order."""
        return list(dict.fromkeys(row[column] for row in self.select(**wanted) if column in row))

    def arrays(self, part: str) -> dict[str, NDArray[Any]]:
        """Read the arrays that a part kept."""
        path = self.folder / "parts" / f"{part}.npz"
        if not path.exists():
            return {}
        with np.load(path, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}


class Desk:
    """Desk of a part: the data, a folder for its training runs, and room for arrays.

    Args:
        folder: of the experiment.
        part: name of the part.
        data_dir: folder of the data sets.
        weights_dir: folder of weights to start from.
    """

    def __init__(self, folder: Path, part: str, data_dir: str | None, weights_dir: str | None = None) -> None:
        self.folder, self.part, self.data_dir, self.weights_dir = folder, part, data_dir, weights_dir
        self.arrays: dict[str, NDArray[Any]] = {}

    def load(self, name: str) -> DataSplits:
        """Load a data set by name (:func:`spikelfp.data.load`)."""
        from spikelfp import data

        return data.load(name, self.data_dir)

    def keep(self, **arrays: Any) -> None:
        """Keep arrays for the figure, by name."""
        self.arrays |= {name: np.asarray(value) for name, value in arrays.items()}

    def run_folder(self, name: str = "") -> Path:
        """Return the folder of a training run of this part."""
        return self.folder / "runs" / (f"{self.part}-{name}" if name else self.part)

    def train(self, name: str = "", **options: Any) -> dict[str, Any]:
        """Train a network as ``spikelfp train`` does, or go on with a run that was stopped.

        Args:
            name: of the run, where the part has more than one.
            **options: those of the command, by their names in Python: ``batch_size=128``.

        Returns:
            Content of ``summary.json``, and as ``"epochs"`` the rows of ``metrics.csv``.

        Raises:
            UserError: for options that are not there or do not go together.
        """
        from spikelfp.training.config import RunConfig
        from spikelfp.training.run import train
        from spikelfp.training.run_folder import RunFolder, read_metrics

        folder = self.run_folder(name)
        begun = (folder / "checkpoints" / "last.pt").exists()
        config = RunConfig(**{"data_dir": self.data_dir, "device": "cpu"} | options)
        summary = train(config, folder, resume=begun, overwrite=folder.exists() and not begun, progress=False)
        return summary | {"epochs": read_metrics(RunFolder(folder))}


class Experiment(ABC):
    """Experiment of a paper.

    Attributes:
        title: what is looked at, in a few words.
        source: where it comes from: paper, figure or table.
        claims: what the paper claims, a sentence each.
        setting: what is done here, and where that differs from the paper.
        data: names of the data sets that the full run reads.
        minutes: CPU minutes of the full run for one seed, about.
        seeds: seeds of the full run, unless the user says otherwise.
        weights: names of the files with weights that ``--weights-dir`` may hold; empty for none.
        weights_data: names of the data sets that parts with such weights read, in the quick form too.
    """

    title: ClassVar[str]
    source: ClassVar[str]
    claims: ClassVar[tuple[str, ...]]
    setting: ClassVar[str]
    data: ClassVar[tuple[str, ...]] = ()
    minutes: ClassVar[float]
    seeds: ClassVar[int] = 3
    weights: ClassVar[tuple[str, ...]] = ()
    weights_data: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def parts(self, quick: bool, seeds: int) -> list[Part]:
        """List the parts.

        Args:
            quick: whether a minute must do, on data that every installation has.
            seeds: number of seeds, counted from 0.
        """

    def fine_tunings(self, quick: bool, seeds: int, given: Mapping[str, GivenWeights]) -> list[Part]:
        """List further parts, which start from given weights.

        Args:
            quick: as for :meth:`parts`.
            seeds: as for :meth:`parts`.
            given: hashes and shapes of weights by the name of their file, those of :attr:`weights` that were found.
        """
        return []

    @abstractmethod
    def run(self, part: Part, desk: Desk) -> list[Row]:
        """Compute a part, with one thread and the seed of its settings.

        Args:
            part: one of :meth:`parts`.
            desk: what it works with.

        Returns:
            Rows, without the settings.
        """

    @abstractmethod
    def judge(self, results: Results) -> list[Verdict]:
        """Compare the results with the claims.

        Args:
            results: of all parts.

        Returns:
            One verdict for each claim, in their order.
        """

    @abstractmethod
    def draw(self, results: Results, figure: Figure) -> None:
        """Draw the results into an empty figure, laid out as in the paper.

        Args:
            results: of all parts.
            figure: of 10 x 6 inches; a drawing may change its size.
        """


def spread(values: Sequence[float] | NDArray[np.float64], digits: int = 3) -> str:
    """Write numbers as mean ± standard deviation; of one, the number alone.

    Args:
        values: of the seeds.
        digits: behind the point.
    """
    found = np.asarray(values, dtype=np.float64)
    if not len(found):
        return "–"
    text = f"{found.mean():.{digits}f}"
    return text if len(found) == 1 else f"{text} ± {found.std(ddof=1):.{digits}f}"


def grid(**axes: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Go through all combinations of settings, the last one fastest.

    Args:
        **axes: values of each setting.
    """
    for values in product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def named(**settings: Any) -> Part:
    """Make a part with the name that its settings spell: ``lr=0.1, seed=0`` → ``lr0.1-seed0``.

    Args:
        **settings: of the part.
    """
    return Part("-".join(str(v) if isinstance(v, str) else f"{k}{v}" for k, v in settings.items()), settings)


def cell(value: Any) -> Any:
    """Write a value for ``results.csv`` and the files of parts: numbers of numpy and torch as those of Python."""
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    json.dumps(value)  # raises TypeError for what no file can hold
    return value
