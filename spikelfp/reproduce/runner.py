"""Run of an experiment in a folder: parts side by side, kept as they finish; then results, figure and page.

::

    experiment.json   what the folder holds: name, quick or full, seeds, versions, command
    parts/NAME.json   rows of a finished part; NAME.npz its arrays
    runs/             training runs of the parts, which go on where they were stopped
    results.csv       rows of all parts
    verdicts.json     claims with their verdicts
    figure.png, README.md
"""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import re
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn

from spikelfp import checks, plugins
from spikelfp.errors import DataError, MachineError, PluginError, RunFolderError, UserError
from spikelfp.files import Kind, content_of, owned, write_text, write_whole
from spikelfp.machine import Stop, process_context, stop_on_interrupt
from spikelfp.reproduce.base import VERDICTS, Desk, Experiment, Part, Results, Row, Verdict, cell, experiments
from spikelfp.terminal import bar_text, plain, progress
from spikelfp.training.run import Interrupted, own_random_numbers
from spikelfp.training.weights import GivenWeights, read_weights

RECORD, VERDICT = "experiment.json", "verdicts.json"
FOLDER = Kind("experiment", RECORD, lambda path, trusted: [])
"""Folders of experiments; they are never replaced."""

LEAST_WAIT = 0.2
"""Seconds between two looks at whether Ctrl-C was pressed."""

GRACE = 30.0
"""Seconds in which a training run that is asked to stop writes its checkpoint."""

MOST_SEEDS = 10_000
"""Seeds of an experiment at most: each has parts of its own, which are listed before anything runs."""


_FILE_NAME = re.compile(r"[^\W_.-][\w.,=+-]{0,199}")
"""Names of parts: those of files, on every system."""


def experiment_of(name: str) -> type[Experiment]:
    """Return the experiment of a name, and see that it says what it is.

    Args:
        name: one of :data:`experiments`.

    Raises:
        UnknownNameError: for another name.
        UserError: for one of a plug-in that leaves something out.
    """
    found = experiments[name]
    if not isinstance(found, type) or not issubclass(found, Experiment):
        raise UserError(f"experiment {name} is faulty: it is a class of Experiment, got {found!r:.80}")
    for attribute in ("title", "source", "claims", "setting", "minutes"):
        if not hasattr(found, attribute):
            raise UserError(f"experiment {name} is faulty: its class does not state its {attribute}")
    if isinstance(found.claims, str) or not found.claims:
        raise UserError(f"experiment {name} is faulty: claims is a tuple of sentences, got {found.claims!r:.80}")
    if left := sorted(getattr(found, "__abstractmethods__", ())):
        raise UserError(f"experiment {name} is faulty: its class does not define {', '.join(left)}")
    return found


def _kept(part: Part) -> Any:
    """Settings of a part as they are read back from its file."""
    return json.loads(json.dumps(dict(part.settings), allow_nan=False))


class Plan(NamedTuple):
    """Choice of what is run.

    Attributes:
        name: of the experiment.
        quick: whether in its short form.
        seeds: number of seeds.
        data_dir: folder of the data sets.
        weights_dir: folder of weights to start from; ``None`` for none.
    """

    name: str
    quick: bool
    seeds: int
    data_dir: str | None
    weights_dir: str | None = None

    @property
    def experiment(self) -> Experiment:
        """The experiment."""
        return experiment_of(self.name)()

    def parts(self) -> list[Part]:
        """List its parts.

        Raises:
            UserError: where there are none, two parts have one name, a name is none of a file, and where settings
                cannot be kept in a file.
        """
        found = self.experiment.parts(self.quick, self.seeds)
        if not isinstance(found, (list, tuple)) or not found or not all(isinstance(part, Part) for part in found):
            raise UserError(f"experiment {self.name} is faulty: parts() returns a list of Part, got {found!r:.80}")
        found = list(found)
        if self.weights_dir is not None:
            found += self.experiment.fine_tunings(self.quick, self.seeds, self.given())
        seen = set[str]()
        for part in found:
            if not isinstance(part.name, str) or not _FILE_NAME.fullmatch(part.name):
                raise UserError(
                    f"experiment {self.name} is faulty: a part has the name {part.name!r:.80}, and a name is of "
                    "letters, digits, dots and dashes, as it becomes that of a file"
                )
            if part.name.casefold() in seen:
                raise UserError(f"experiment {self.name} is faulty: two parts have the name {part.name}")
            seen.add(part.name.casefold())
            try:
                _kept(part)
            except (TypeError, ValueError):
                raise UserError(
                    f"experiment {self.name} is faulty: the settings of part {part.name} are finite numbers, words and "
                    f"truth values, got {part.settings!r:.200}"
                ) from None
        return found

    def given(self) -> dict[str, GivenWeights]:
        """Read hashes and shapes of the weights in :attr:`weights_dir`, by the names of their files.

        Raises:
            UserError: for an experiment without such weights, and a folder without any of them.
        """
        names = self.experiment.weights
        if self.weights_dir is None:
            return {}
        if not names:
            takers = ", ".join(name for name in experiments if experiments[name].weights)
            raise UserError(f"--weights-dir belongs to the experiment {takers}, but this is {self.name}: leave it out")
        folder = Path(self.weights_dir).expanduser()
        found = {name: folder / name for name in names if (folder / name).is_file()}
        if not found:
            raise UserError(f"{folder} holds no weights: put {' or '.join(names)} there, as torchvision saves them")
        return {name: _read_weights(str(path), path.stat().st_mtime_ns) for name, path in found.items()}

    def record(self) -> dict[str, Any]:
        """Write what decides about the numbers."""
        return {"experiment": self.name, "quick": self.quick, "seeds": self.seeds}

    def command(self, out: str | Path = "DIR", weights_dir: str = "WEIGHTS") -> str:
        """Write the command that runs it.

        Args:
            out: folder of the results.
            weights_dir: folder of the weights, if it has one: where it lies is no fact about the numbers.
        """
        quick = " --quick" if self.quick else ""
        weights = "" if self.weights_dir is None else f" --weights-dir {weights_dir}"
        return f"spikelfp reproduce {self.name}{quick} --seeds {self.seeds}{weights} --out {out}"


@functools.lru_cache(maxsize=4)
def _read_weights(path: str, changed: int) -> GivenWeights:
    """Read the hash and the shapes of weights once: they are asked for whenever parts are listed."""
    found = read_weights(path)
    return replace(found, tensors={name: value.to("meta") for name, value in found.tensors.items()})


def reproduce(
    name: str,
    out: str | Path,
    *,
    quick: bool = False,
    seeds: int | None = None,
    data_dir: str | None = None,
    weights_dir: str | None = None,
    jobs: int = 1,
    shown: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> list[Verdict]:
    """Run an experiment of the papers into a folder, or go on with it.

    Args:
        name: one of :data:`experiments`.
        out: folder of its results.
        quick: whether to run the short form, on data that every installation has.
        seeds: number of seeds; ``None``: those of the experiment, and 1 in the short form.
        data_dir: folder of the data sets.
        weights_dir: folder of weights that networks of the experiment start from; ``None``: parts that need them are
            left out.
        jobs: processes at once, one thread each; 1: this process alone. With more, a script needs the line
            ``if __name__ == "__main__":``, as for :mod:`multiprocessing`.
        shown: whether to show progress.
        echo: called with a line about each finished part.

    Returns:
        One verdict for each claim of the experiment.

    Raises:
        UnknownNameError: for another name.
        UserError: for seeds or jobs that are no numbers of such, and an experiment of a plug-in that is faulty.
        DataError: for data that are not there, before anything runs.
        UserError: for weights of another experiment, or a folder without them.
        RunFolderError: for a folder that holds something else, another experiment, or this one with other options.
        Interrupted: after Ctrl-C or SIGTERM; finished parts and checkpoints of training runs are kept.
    """
    experiment = experiment_of(name)
    own = 1 if quick else experiment.seeds
    plan = Plan(name, quick, _seeds(own if seeds is None else seeds), data_dir, weights_dir)
    jobs = checks.whole("jobs", jobs, 1)
    folder = Path(out)
    _check_folder(folder, plan)
    check_data(experiment.data if not quick else (), data_dir)
    parts = plan.parts()
    check_data(experiment.weights_data if weights_dir is not None else (), data_dir)
    with owned(folder, FOLDER), stop_on_interrupt() as stop:
        _check_folder(folder, plan)
        (folder / "parts").mkdir(exist_ok=True)
        record = plan.record() | {"command": plan.command(), "versions": _versions()}
        if weights_dir is not None:
            record |= {"weights": {name: each.digest for name, each in plan.given().items()}}
        write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
        missing = [part for part in parts if _read(folder, part) is None]
        try:
            _run_all(plan, missing, folder, jobs, stop, shown, echo, len(parts))
        except (KeyboardInterrupt, Interrupted) as ended:
            left = sum(_read(folder, part) is None for part in parts)
            stopped = Interrupted(
                f"stopped with {left} of {len(parts)} parts left; the same command goes on: "
                f"{plan.command(folder, str(weights_dir))}"
            )
            stopped.number = getattr(ended, "number", None) or signal.SIGINT
            raise stopped from None
        return write(plan, folder)


def _seeds(value: int) -> int:
    found = checks.whole("seeds", value, 1)
    if found > MOST_SEEDS:
        raise UserError(f"seeds is a number of seeds, {MOST_SEEDS:,} at most, got {found}")
    return found


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def check_data(names: Sequence[str], data_dir: str | None) -> None:
    """Refuse an experiment whose data are not at hand.

    Args:
        names: names of the data sets.
        data_dir: folder of the data sets.

    Raises:
        DataError: with the file that is missing, and where it belongs.
    """
    from spikelfp import data

    for name in names:
        try:
            data.load(name, data_dir)
        except DataError as error:
            raise DataError(f"this experiment needs the data set {name}: {error}") from error


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("spikelfp", "torch", "numpy")}


def _check_folder(folder: Path, plan: Plan) -> None:
    """Refuse a folder that holds anything but this experiment with these options."""
    path = folder / RECORD
    if not path.is_file():
        held = content_of(folder)
        if held:
            raise RunFolderError(f"{folder} holds {plain(held[0])} and no experiment: name another --out")
        return
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError
    except (ValueError, OSError):
        raise RunFolderError(f"{path} cannot be read: move the folder away, or name another --out") from None
    for name, value in plan.record().items():
        if found.get(name) != value:
            shown = {"quick": ("the full form", "the quick form")}.get(name)
            is_, want = ((shown[bool(v)] if shown else f"{name} {v}") for v in (found.get(name), value))
            raise RunFolderError(
                f"{folder} holds {plain(is_)}, and {want} is asked for: move it away, or name another --out"
            )
    before = found.get("weights")
    for name, each in plan.given().items():
        if isinstance(before, dict) and before.get(name, each.digest) != each.digest:
            raise RunFolderError(f"{folder} was begun with other weights than this {name}: name another --out")
    begun, now = found.get("versions"), _versions()
    if begun != now:
        written = "; ".join(_in_words(each) for each in (begun, now) if isinstance(each, dict))
        raise RunFolderError(f"{folder} was begun with other versions ({plain(written)}): name another --out")


def _in_words(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _read(folder: Path, part: Part) -> list[Row] | None:
    """Read the rows of a finished part; ``None`` for one that is not finished, or was of other settings."""
    try:
        found = json.loads((folder / "parts" / f"{part.name}.json").read_text())
    except (OSError, ValueError):
        return None
    settings = _kept(part)
    if not isinstance(found, dict) or found.get("settings") != settings:
        return None
    rows = found.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and settings.keys() <= row.keys() for row in rows):
        return None  # damaged
    return rows


# --- running ---------------------------------------------------------------------------------------------------------


def _run_all(
    plan: Plan,
    parts: Sequence[Part],
    folder: Path,
    jobs: int,
    stop: Stop,
    shown: bool,
    echo: Callable[[str], None],
    all_parts: int,
) -> None:
    columns = (bar_text("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    done = all_parts - len(parts)
    with progress(*columns, shown=shown) as bar:
        task = bar.add_task(plan.name, total=all_parts, completed=done)

        def tell(part: Part, seconds: float) -> None:
            nonlocal done
            done += 1
            bar.update(task, completed=done)
            echo(f"{done}/{all_parts}  {part.name}  {seconds:.0f} s")

        if min(jobs, len(parts)) <= 1:
            for part in parts:
                begun = time.monotonic()
                with _one_thread():
                    run_part(plan, part, folder)
                tell(part, time.monotonic() - begun)
        else:
            _side_by_side(plan, parts, folder, jobs, stop, tell)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread within the block, so that numbers do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_part(plan: Plan, part: Part, folder: Path) -> None:
    """Compute a part and write its rows and arrays.

    Args:
        plan: of the experiment.
        part: to compute.
        folder: of the experiment.
    """
    desk = Desk(folder, part.name, plan.data_dir, plan.weights_dir)
    with own_random_numbers():
        torch.manual_seed(int(part.settings.get("seed", 0)))
        np.random.seed(int(part.settings.get("seed", 0)))  # noqa: NPY002  (for libraries that use it)
        rows = _cells(plan, part, plan.experiment.run(part, desk))
    path = folder / "parts" / part.name
    if desk.arrays:
        write_whole(f"{path}.npz", lambda file: np.savez_compressed(file, allow_pickle=False, **desk.arrays))
    held = {"settings": dict(part.settings), "rows": [{**part.settings, **row} for row in rows]}
    write_text(f"{path}.json", json.dumps(held) + "\n")


def _cells(plan: Plan, part: Part, rows: Any) -> list[Row]:
    """Write the rows of a part as they are kept.

    Raises:
        UserError: for what no table can hold.
    """
    where = f"experiment {plan.name} is faulty: in part {part.name}"
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, Mapping) for row in rows):
        raise UserError(f"{where} run() returns a list of rows, each a dict, got {rows!r:.80}")
    found = list[Row]()
    for row in rows:
        found.append({})
        for name, value in row.items():
            try:
                found[-1][name] = cell(value)
            except (TypeError, ValueError, RuntimeError):
                raise UserError(
                    f"{where} the column {name!r:.80} is one number, word or truth value in each row, got "
                    f"{type(value).__name__}: arrays are kept by desk.keep"
                ) from None
    return found


def _work(plan: Plan, part: Part, folder: Path, names: Sequence[str]) -> None:
    """Compute a part in a process of its own; an error is left in a file, the first line for users."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the server of processes may have ignored
    torch.set_num_threads(1)
    error = folder / "parts" / f"{part.name}.error"
    try:
        for name in names:
            plugins.load(name)
        run_part(plan, part, folder)
    except (KeyboardInterrupt, Interrupted):
        raise SystemExit(128 + signal.SIGINT) from None
    except UserError as mistake:
        write_text(error, str(mistake))
        raise SystemExit(2) from None
    except BaseException as failure:
        blamed = plugins.blamed(failure)
        write_text(error, blamed or traceback.format_exc())
        raise SystemExit(3 if blamed else 1) from None


def _side_by_side(
    plan: Plan, parts: Sequence[Part], folder: Path, jobs: int, stop: Stop, tell: Callable[[Part, float], None]
) -> None:
    context = process_context("spikelfp.reproduce.runner", "spikelfp.training.run")
    waiting = list(parts)
    names = plugins.loaded()
    running: dict[Any, tuple[Part, float]] = {}
    stop.begin()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                part = waiting.pop(0)
                (folder / "parts" / f"{part.name}.error").unlink(missing_ok=True)
                process = context.Process(target=_work, args=(plan, part, folder, names), daemon=False)
                process.start()
                running[process] = part, time.monotonic()
            wait([process.sentinel for process in running], timeout=LEAST_WAIT)
            if stop():
                raise _stopped(stop)
            for process in [each for each in running if each.exitcode is not None]:
                part, begun = running.pop(process)
                _check_exit(folder, part, process.exitcode)
                tell(part, time.monotonic() - begun)
    finally:
        _end(running)


def _stopped(stop: Stop) -> Interrupted:
    stopped = Interrupted("stopped")
    stopped.number = stop.number or signal.SIGINT
    return stopped


def _check_exit(folder: Path, part: Part, status: int) -> None:
    """Raise the error that a part has left.

    Raises:
        UserError: for a mistake of the user.
        PluginError: for an error in the code of a plug-in.
        MachineError: for a process that was killed, as for want of memory.
        RuntimeError: for any other failure, with where it was.
    """
    if status == 0:
        return
    path = folder / "parts" / f"{part.name}.error"
    text = path.read_text() if path.exists() else ""
    if status in (2, 3) and text:
        path.unlink()
        raise UserError(text) if status == 2 else PluginError(text)
    if text:
        raise RuntimeError(f"part {part.name} failed:\n{text}")
    raise MachineError(f"the process of part {part.name} ended with status {status}; the same command goes on")


def _end(running: Sequence[Any] | dict[Any, Any]) -> None:
    """Ask the processes to stop, which saves training runs, and end those that do not."""
    for process in running:
        with suppress(ProcessLookupError, ValueError):
            os.kill(process.pid, signal.SIGINT)
    until = time.monotonic() + GRACE
    for process in running:
        process.join(max(0.0, until - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            process.join()


# --- results ---------------------------------------------------------------------------------------------------------


def results(plan: Plan, folder: Path) -> Results:
    """Read the rows of all parts.

    Args:
        plan: of the experiment.
        folder: of the experiment.

    Raises:
        RunFolderError: while a part is missing.
    """
    rows, parts = list[Row](), plan.parts()
    for part in parts:
        found = _read(folder, part)
        if found is None:
            raise RunFolderError(f"{folder} is not finished: part {part.name} is missing; {plan.command(folder)}")
        rows += found
    return Results(rows, folder, [part.name for part in parts])


def write(plan: Plan, folder: Path) -> list[Verdict]:
    """Write the results, the figure, the verdicts and the page of a finished experiment.

    Args:
        plan: of the experiment.
        folder: of the experiment.

    Returns:
        The verdicts.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found, experiment = results(plan, folder), plan.experiment
    verdicts = experiment.judge(found)
    if not isinstance(verdicts, (list, tuple)) or not all(isinstance(each, Verdict) for each in verdicts):
        raise UserError(f"experiment {plan.name} is faulty: judge() returns a list of Verdict, got {verdicts!r:.80}")
    if len(verdicts) != len(experiment.claims):
        raise UserError(
            f"experiment {plan.name} is faulty: it has {len(experiment.claims)} claims and {len(verdicts)} verdicts"
        )
    write_text(folder / "results.csv", _csv(found.rows))
    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    experiment.draw(found, figure)
    write_whole(folder / "figure.png", lambda file: figure.savefig(file, format="png", dpi=110))
    listed = [
        {"claim": claim, "holds": verdict.holds, "verdict": VERDICTS[verdict.holds], "text": verdict.text}
        for claim, verdict in zip(experiment.claims, verdicts, strict=True)
    ]
    about = plan.record() | {"title": experiment.title, "source": experiment.source, "setting": experiment.setting}
    write_text(folder / VERDICT, json.dumps(about | {"command": plan.command(), "claims": listed}, indent=1) + "\n")
    write_text(folder / "README.md", page(plan, experiment, verdicts))
    return verdicts


def _csv(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows({name: _short(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def page(plan: Plan, experiment: Experiment, verdicts: Sequence[Verdict]) -> str:
    """Write ``README.md`` of an experiment.

    Args:
        plan: of the experiment.
        experiment: that was run.
        verdicts: on its claims.
    """
    lines = [f"# {experiment.title} ({experiment.source})", ""]
    if plan.quick:
        lines += ["A quick run: it shows that the experiment runs, and says little about the claims.", ""]
    lines += [experiment.setting, "", "![Results](figure.png)", "", "| claim | verdict | here |", "|---|---|---|"]
    lines += [
        f"| {claim} | **{VERDICTS[verdict.holds]}** | {verdict.text} |"
        for claim, verdict in zip(experiment.claims, verdicts, strict=True)
    ]
    seeds = "one seed" if plan.seeds == 1 else f"mean ± standard deviation over {plan.seeds} seeds"
    lines += ["", f"Numbers: {seeds}. All of them are in [results.csv](results.csv). {_in_words(_versions())}.", ""]
    return "\n".join([*lines, f"    {plan.command()}", ""])
