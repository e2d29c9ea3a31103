"""The command ``spikelfp``: training, evaluation and reports of runs, and recordings of events.

Each command imports what it runs inside its function: torch takes seconds to import, and ``--help`` does not need it.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from spikelfp.command import (
    FAILED,
    OK,
    SIGNALLED,
    USER_MISTAKE,
    GroupedCommand,
    Voice,
    new_app,
    options_from,
    path_given,
    print_json,
    run_app,
)
from spikelfp.errors import DataError, MachineError, NonFiniteError, UserError
from spikelfp.terminal import Terminal, say

if TYPE_CHECKING:
    from spikelfp.configuration import Schema
    from spikelfp.data.events import EventSplits
    from spikelfp.data.events.cache import CacheEntry
    from spikelfp.data.events.recordings import Unlabelled
    from spikelfp.training.config import RunConfig
    from spikelfp.training.evaluation import EarlyReadout
    from spikelfp.training.run_folder import RunFolder

app = new_app("Train spiking neural networks without surrogate gradients.", "spikelfp")
data_app = new_app("Look at recordings of events, and at the cache of binned ones.")
app.add_typer(data_app, name="data")

Json = Annotated[bool, typer.Option("--json", help="print one JSON object as the last line")]


def _check_weights(weights: str) -> str:
    if weights not in ("last", "best"):
        raise UserError(f"--weights is last or best, got {weights!r}")
    return weights


Weights = Annotated[str, typer.Option(callback=_check_weights, help="last or best")]
DataDir = Annotated[
    str | None,
    typer.Option("--data-dir", callback=path_given, help="folder of the data sets", show_default="the run's"),
]
CacheDir = Annotated[
    str | None,
    typer.Option("--cache-dir", callback=path_given, help="folder of binned recordings", show_default="the run's"),
]


EXAMPLES = """\b
Examples:
  spikelfp train --data mnist --model lif-mlp --hidden 1000 --steps 15 --epochs 3 --out runs/mnist
  spikelfp train --out runs/mnist --resume
  spikelfp train --data mnist --method surrogate --surrogate atan --slope 2 --out runs/surrogate
  spikelfp train --data mnist --method f3 --credit step --out runs/f3
"""


def _options() -> Schema[Any]:
    from spikelfp.training.config import OPTIONS

    return OPTIONS


@app.command("train", cls=GroupedCommand, epilog=EXAMPLES)
@options_from(_options)
def train_command(
    options: dict[str, Any],
    out: Annotated[
        str | None, typer.Option(callback=path_given, help="run folder", show_default="runs/<data>-<model>-<method>")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the run folder's last checkpoint")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the run folder")] = False,
    config: Annotated[
        str | None, typer.Option(callback=path_given, help="YAML file of options; those given here come first")
    ] = None,
    report: Annotated[bool, typer.Option(help="write report.html at the end")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress, no table")] = False,
    as_json: Json = False,
) -> int:
    """Train a network into a run folder, which keeps all about it; under torchrun, several workers train together."""
    from spikelfp.data.load import without_folder
    from spikelfp.files import settle
    from spikelfp.report import write_report
    from spikelfp.training.config import OPTIONS, from_mapping, is_record, read_mapping, settled
    from spikelfp.training.parallel import WorkerLost, World
    from spikelfp.training.run import Interrupted, train
    from spikelfp.training.run_folder import RUN, RunFolder, read_config, read_options

    world = World.of_environment()
    values, recorded = (read_options(config), is_record(read_mapping(config))) if config else ({}, False)
    if resume and out and not config:
        settle(Path(out), RUN)  # a killed process may have left two runs; this decides which one goes on
        if RunFolder(Path(out)).config.is_file():
            # Options that are not given again keep the values that the run was started with.
            values, recorded = OPTIONS.nested(read_config(RunFolder(Path(out)))[0]), True
    given = () if recorded else values.keys()
    chosen = settled(from_mapping(values, config or "the command line", options, given=given, recorded=recorded))
    name = without_folder(chosen.data.name).replace(":", "-")
    folder = RunFolder(Path(out or f"runs/{name}-{chosen.model.name}-{chosen.method.name}"))
    echo = Voice(silent=quiet or not world.leads)
    try:
        summary = train(
            chosen,
            folder.path,
            resume=resume,
            overwrite=overwrite,
            progress=not quiet,
            echo=echo,
        )
    except Interrupted as stop:
        echo(str(stop))
        return SIGNALLED + stop.number
    except WorkerLost as lost:
        say(f"spikelfp: {lost}; go on from the last checkpoint with --out {folder.path} --resume", error=True)
        return FAILED
    except (UserError, NonFiniteError, MachineError) as error:
        if world.leads:
            raise
        say(f"spikelfp: worker {world.rank}: {error}", error=True)  # the other workers have no such error
        return USER_MISTAKE if isinstance(error, UserError) else FAILED
    if not world.leads:
        return OK
    if report:
        try:
            write_report(folder.path)
        except UserError as error:  # the trained run is kept all the same
            echo(f"no report: {error}")
    if not quiet:
        _show(summary, folder)
    if as_json:
        print_json({**summary, "run": str(folder.path)})
    return OK


@app.command("eval")
def eval_command(
    run: Annotated[str, typer.Argument(callback=path_given, help="run folder")],
    weights: Weights = "last",
    early: Annotated[bool, typer.Option("--early", help="also before the end of a sequence, and by margins")] = False,
    data_dir: DataDir = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> int:
    """Compute the test score of a trained run: for classes the accuracy."""
    from spikelfp.training.evaluation import early_readout
    from spikelfp.training.run import load_run

    loaded = load_run(run, weights, data_dir, cache_dir)
    splits = loaded.splits()
    trainer = loaded.trainer(splits.test)
    task = trainer.task
    if early and not task.has_classes:
        raise UserError(f"early readout is of classes, and the task of this run is {task.name}: leave out --early")
    evaluation = trainer.evaluate(splits.test)
    result: dict[str, Any] = {"run": run, "weights": weights, "data": splits.name, "task": task.name}
    result |= {"test_accuracy": evaluation.accuracy} if task.has_classes else evaluation.metrics
    result |= {"score": {"name": task.score, "value": evaluation.score}, "test_loss": evaluation.loss}
    others = [f"{name} {value:.4f}" for name, value in evaluation.metrics.items() if name != task.score]
    scores = ", ".join([f"test {task.title} {evaluation.score:.4f}", *others])
    say(f"{run} ({weights} weights): {scores} on {len(splits.test)} samples")
    if early:
        found = early_readout(trainer, splits.test)
        _show_early(found)
        result |= {"accuracy_after": found.accuracy, "decisions": [asdict(each) for each in found.decisions]}
    if as_json:
        print_json(result)
    return OK


@app.command("explain")
def explain_command(
    run: Annotated[str, typer.Argument(callback=path_given, help="run folder")],
    samples: Annotated[int, typer.Option(min=1, help="test samples that are explained")] = 200,
    weights: Weights = "last",
    out: Annotated[
        str | None, typer.Option(callback=path_given, help="picture", show_default="RUN/explain.png")
    ] = None,
    data_dir: DataDir = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> int:
    """Show which inputs the predicted classes rest on, and what deleting them costs."""
    from spikelfp.report.explained import explain_run

    path = Path(out) if out is not None else Path(run) / "explain.png"
    if path.suffix.lower() != ".png":
        raise UserError(f"--out is the name of a picture, NAME.png, got {out!r}")
    found = explain_run(run, path, samples, weights, data_dir, cache_dir)
    table = Table(box=None, pad_edge=False)
    for name in ("inputs deleted", "by relevance", "at random"):
        table.add_column(name, justify="right")
    for share, accuracy, chance in zip(found.shares, found.accuracy, found.random, strict=True):
        table.add_row(f"{100 * share:g} %", f"{accuracy:.4f}", f"{chance:.4f}")
    Terminal().print(table)
    say(path)
    if as_json:
        print_json({"run": run, "weights": weights, "picture": str(path), **asdict(found), "gap": found.gap})
    return OK


@app.command("report")
def report_command(
    run: Annotated[str, typer.Argument(callback=path_given, help="run folder")],
    data_dir: DataDir = None,
    cache_dir: CacheDir = None,
) -> int:
    """Write report.html of a run again."""
    from spikelfp.report import write_report

    say(write_report(run, data_dir, cache_dir))
    return OK


@app.command("reproduce")
def reproduce_command(
    name: Annotated[str | None, typer.Argument(help="experiment; --list shows them", show_default=False)] = None,
    listed: Annotated[bool, typer.Option("--list", help="list the experiments and what they cost")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="a short form, under two minutes, on data that need no files")
    ] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="seeds", show_default="the experiment's; 1 if quick")] = None,
    out: Annotated[
        str | None, typer.Option(callback=path_given, help="folder of the results", show_default="runs/reproduce-NAME")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="processes at once", show_default="one for each core")] = None,
    data_dir: Annotated[
        str | None,
        typer.Option("--data-dir", callback=path_given, help="folder of the data sets", show_default="$SPIKELFP_DATA"),
    ] = None,
    weights_dir: Annotated[
        str | None,
        typer.Option(
            "--weights-dir",
            callback=path_given,
            help="of activations: folder of vgg16.pth, resnet18.pth or both, as torchvision saves them",
            show_default="none",
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Run an experiment of the papers: results, figure, and what holds. A run that was stopped goes on."""
    from spikelfp.reproduce import experiments, reproduce
    from spikelfp.reproduce.base import VERDICTS
    from spikelfp.reproduce.runner import cores, experiment_of
    from spikelfp.training.run import Interrupted

    if listed or name is None:
        if name is not None:
            raise UserError(f"--list lists all experiments: leave out {name}, or --list")
        if not listed:
            raise UserError("name an experiment; --list shows them")
        _show_experiments()
        if as_json:
            print_json({"experiments": list(experiments)})
        return OK
    experiment = experiment_of(name)
    folder = out or f"runs/reproduce-{name}" + ("-quick" if quick else "")
    try:
        verdicts = reproduce(
            name,
            folder,
            quick=quick,
            seeds=seeds,
            data_dir=data_dir,
            weights_dir=weights_dir,
            jobs=jobs or cores(),
            shown=True,
            echo=say,
        )
    except Interrupted as stop:
        say(str(stop))
        return SIGNALLED + stop.number
    for claim, verdict in zip(experiment.claims, verdicts, strict=True):
        say(f"{VERDICTS[verdict.holds]}: {claim} Here: {verdict.text}")
    say(Path(folder) / "README.md")
    if as_json:
        found = [
            {"claim": claim, "holds": verdict.holds, "text": verdict.text}
            for claim, verdict in zip(experiment.claims, verdicts, strict=True)
        ]
        print_json({"experiment": name, "quick": quick, "folder": folder, "claims": found})
    return OK


def _show_experiments() -> None:
    from spikelfp.reproduce import experiments
    from spikelfp.reproduce.runner import experiment_of

    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("experiment, and where it is from")
    table.add_column("data")
    table.add_column("CPU min", justify="right", no_wrap=True)
    for name in experiments:
        each = experiment_of(name)
        data = ", ".join(kind.partition(":")[0] for kind in each.data)
        table.add_row(name, f"{each.title} ({each.source})", data or "none", f"{each.minutes * each.seeds:.3g}")
    Terminal().print(table)


@app.command("info")
def info_command(as_json: Json = False) -> int:
    """List versions, devices, kernels, and the names that options take."""
    import torch

    from spikelfp import kernels, methods, models, rewards, rules
    from spikelfp.data import data_dir as data_folder
    from spikelfp.data import datasets
    from spikelfp.tasks import tasks
    from spikelfp.training.run_folder import PACKAGES

    facts = {
        "versions": {name: version(name) for name in PACKAGES},
        "devices": ["cpu", *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))],
        "threads": torch.get_num_threads(),
        "kernels": kernels.chosen_kernels(),
        "data folder": str(data_folder(None)),
        "data": list(datasets),
        "models": list(models.models),
        "methods": list(methods.methods),
        "rules": list(rules.rules),
        "rewards": list(rewards.rewards),
        "tasks": list(tasks),
    }
    if as_json:
        print_json(facts)
        return OK
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        table.add_row(name, ", ".join(map(str, text)) if isinstance(text, list) else str(text))
    Terminal().print(table)
    return OK


def _show(summary: dict[str, Any], folder: RunFolder) -> None:
    from spikelfp.tasks import tasks

    table = Table(show_header=False, box=None, pad_edge=False)
    task, score = tasks[summary["task"]], summary["score"]["value"]
    table.add_row("network", f"{summary['model']}, {summary['parameters']:,} parameters")
    table.add_row(f"test {task.title}", f"{score:.4f}")
    best = summary.get("best") or {}
    if f"test_{task.score}" in best:
        table.add_row(f"test {task.title}, best epoch ({best['epoch']:.0f})", f"{best[f'test_{task.score}']:.4f}")
    table.add_row(f"train {task.title}", f"{summary[f'train_{task.score}']:.4f}")
    if summary.get("r2") is not None:
        table.add_row("test R²", f"{summary['r2']:.4f}")
    if summary["spike_rates"]:
        rates = "  ".join(f"layer {name}: {rate:.3f}" for name, rate in summary["spike_rates"].items())
        table.add_row("spikes per neuron and step", rates)
    if summary["seconds_per_epoch"] is not None:
        table.add_row("seconds per epoch", f"{summary['seconds_per_epoch']:.1f}")
    table.add_row("report", str(folder.report) if folder.report.exists() else "none")
    Terminal().print(table)


def _show_early(found: EarlyReadout) -> None:
    """Print the accuracy after every eighth of the steps, and that of decisions by margin."""
    last = len(found.steps)
    shown = sorted({max(1, round(last * eighth / 8)) for eighth in range(1, 9)})
    table = Table(box=None, pad_edge=False)
    for column in ("", "accuracy", "steps, on average", "decided before the end"):
        table.add_column(column, justify="right" if column else "left")
    for step in shown:
        table.add_row(f"after step {step}", f"{found.accuracy[step - 1]:.4f}")
    for each in found.decisions:
        table.add_row(
            f"ahead by {each.margin:g}", f"{each.accuracy:.4f}", f"{each.mean_step:.1f}", f"{each.decided:.1%}"
        )
    Terminal().print(table)


# --- recordings of events: spikelfp data ---------------------------------------------------------------------------

OwnDataDir = Annotated[
    str | None,
    typer.Option("--data-dir", callback=path_given, help="folder of the data sets", show_default="$SPIKELFP_DATA"),
]
OwnCacheDir = Annotated[
    str | None,
    typer.Option(
        "--cache-dir", callback=path_given, help="folder of binned recordings", show_default="$SPIKELFP_CACHE"
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="leave out files that cannot be read, and list them")]
OwnSensor = Annotated[
    str | None,
    typer.Option("--sensor", help="sensor of files that do not state theirs, such as 346x260", show_default="found"),
]
OwnTable = Annotated[
    str | None, typer.Option("--table", help="table that holds the events of a file", show_default="found")
]
OwnColumns = Annotated[
    str | None,
    typer.Option("--columns", help="columns of files that do not name theirs, such as x,y,t,p", show_default="found"),
]
FirstPixel = Annotated[
    int | None,
    typer.Option("--first-pixel", help="number of the first column and row, 0 or 1", show_default="found"),
]
Steps = Annotated[int | None, typer.Option(help="steps of the sequence", show_default="the data set's")]
Window = Annotated[float | None, typer.Option(help="ms of a step", show_default="the data set's")]
Transforms = Annotated[
    str | None, typer.Option(help="changes to the events, such as denoise=10000", show_default="the data set's")
]

Slice = Annotated[float | None, typer.Option("--slice", help="ms of a slice of a recording", show_default="whole")]
SliceEvents = Annotated[int | None, typer.Option("--slice-events", help="events of a slice instead")]
SliceOverlap = Annotated[float, typer.Option("--slice-overlap", help="share of a slice that the next one repeats")]
LabelTable = Annotated[
    str | None, typer.Option(help="table of a folder, or ending of the tables beside its recordings (see train)")
]
ClassLevel = Annotated[int | None, typer.Option(help="level of the folders that are the classes (see train)")]
SplitBy = Annotated[str | None, typer.Option(help="file, session or subject (see train)")]


@data_app.command("show")
def show_command(
    what: Annotated[
        str, typer.Argument(callback=path_given, help="data set of events, folder:PATH, or the file of a recording")
    ],
    out: Annotated[
        str, typer.Option(callback=path_given, help="picture to write: .png, .gif (cameras) or .html")
    ] = "recording.png",
    part: Annotated[str | None, typer.Option(help="train or test", show_default="train")] = None,
    index: Annotated[int | None, typer.Option(help="number of the recording", show_default="the first")] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="first recording of that class", show_default="any")
    ] = None,
    steps: Steps = None,
    window: Window = None,
    transforms: Transforms = None,
    slice_: Slice = None,
    slice_events: SliceEvents = None,
    slice_overlap: SliceOverlap = 0.0,
    label_table: LabelTable = None,
    class_level: ClassLevel = None,
    split_by: SplitBy = None,
    data_dir: OwnDataDir = None,
    skip_bad: SkipBad = False,
    sensor: OwnSensor = None,
    table: OwnTable = None,
    columns: OwnColumns = None,
    first_pixel: FirstPixel = None,
    as_json: Json = False,
) -> int:
    """Draw a recording: its events, their rate over time, and the input that a network gets."""
    from spikelfp.data.events.tally import tallied, told
    from spikelfp.report import show_file, show_recording
    from spikelfp.training.run import pipeline_of, stated

    wanted = _looking(
        what, slice_, slice_events, slice_overlap, label_table, class_level, split_by, sensor=sensor, table=table,
        columns=columns, first_pixel=first_pixel, steps=steps, window=window, transforms=transforms,
    )  # fmt: skip
    with tallied() as tally:
        if Path(what).is_file() and wanted.events.slice is None and wanted.events.slice_events is None:
            if index is not None or label is not None:
                raise UserError(f"{what} is one recording: --index and --class choose among those of a data set")
            show_file(what, out, pipeline=lambda own: pipeline_of(wanted, own), **stated(wanted))
        else:
            found = _recordings(what, data_dir, skip_bad, wanted)
            pipeline = pipeline_of(wanted, found.pipeline)
            tally.clear()  # of the recordings that were only listed
            show_recording(found, out, part=part, index=index, label=label, pipeline=pipeline)
    notes = told(tally)
    say(out, *notes)
    if as_json:
        print_json({"picture": out, "of": what, "notes": notes})
    return OK


@data_app.command("info")
def data_info_command(
    what: Annotated[str, typer.Argument(callback=path_given, help="data set of events, or folder:PATH")],
    most: Annotated[int, typer.Option(help="largest number of recordings to read")] = 200,
    slice_: Slice = None,
    slice_events: SliceEvents = None,
    slice_overlap: SliceOverlap = 0.0,
    label_table: LabelTable = None,
    class_level: ClassLevel = None,
    split_by: SplitBy = None,
    data_dir: OwnDataDir = None,
    skip_bad: SkipBad = False,
    sensor: OwnSensor = None,
    table: OwnTable = None,
    columns: OwnColumns = None,
    first_pixel: FirstPixel = None,
    as_json: Json = False,
) -> int:
    """Describe a data set of events: its sensor, parts and classes, and the lengths of its recordings."""
    from spikelfp.data.events.show import overview, overview_text

    wanted = _looking(
        what, slice_, slice_events, slice_overlap, label_table, class_level, split_by, sensor=sensor, table=table,
        columns=columns, first_pixel=first_pixel,
    )  # fmt: skip
    found = overview(_recordings(what, data_dir, skip_bad, wanted), most, skip_bad)
    say(*overview_text(found).split("\n"))
    if as_json:
        print_json(asdict(found))
    return OK


@data_app.command("cache")
def cache_command(
    entries: Annotated[
        list[str] | None, typer.Argument(help="with --clear: names of data sets, or keys", show_default="all")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="remove them")] = False,
    listed: Annotated[bool, typer.Option("--list", help="list them (also the default)")] = False,
    cache_dir: OwnCacheDir = None,
    as_json: Json = False,
) -> int:
    """List or remove the binned recordings that are kept on disk.

    Their largest total size is $SPIKELFP_CACHE_LIMIT (20GB); those used longest ago are removed first.
    """
    from spikelfp.data.events.cache import cache_folder, clear_caches, limit_bytes, list_caches

    if clear and listed:
        raise UserError("--list and --clear exclude each other")
    if entries and not clear:
        raise UserError(f"the list is of all entries: leave out {', '.join(entries)}, or remove them with --clear")
    folder, limit = cache_folder(cache_dir), limit_bytes()
    if clear:
        done = clear_caches(entries or None, folder)
        say(f"removed {len(done.removed)} from {folder}: {_size(done.bytes)}")
        for entry in done.in_use:
            say(f"in use, left there: {entry.name} {entry.key[:12]}")
        if as_json:
            print_json({"removed": len(done.removed), "bytes": done.bytes, "in_use": len(done.in_use)})
        return OK
    found = list_caches(folder)
    _show_entries(found, folder, limit)
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "limit": limit,
                "entries": [
                    {"name": each.name, "key": each.key, "bytes": each.bytes, "used": each.used, **each.about}
                    for each in found
                ],
            }
        )
    return OK


def _looking(
    what: str,
    slice_: float | None,
    slice_events: int | None,
    slice_overlap: float,
    label_table: str | None,
    class_level: int | None,
    split_by: str | None,
    **others: Any,
) -> RunConfig:
    """Make the configuration of a data set that is looked at, which checks the options as ``train`` does."""
    from spikelfp.data.events.readers import can_read
    from spikelfp.training.config import RunConfig

    path = Path(what).expanduser()
    if ":" not in what and not path.exists() and (can_read(what) or os.sep in what):
        raise DataError(f"there is no file or folder {what}")
    of_folders = {"--label-table": label_table, "--class-level": class_level, "--split-by": split_by}
    for flag, value in of_folders.items():
        if value is not None and path.is_file():
            raise UserError(f"{what} is one recording, and {flag} is of a folder of them")
    name = f"folder:{what}" if path.exists() else what
    return RunConfig(
        data=name, slice=slice_, slice_events=slice_events, slice_overlap=slice_overlap, label_table=label_table,
        class_level=class_level, split_by=split_by, **others,
    )  # fmt: skip


def _recordings(what: str, data_dir: str | None, skip_bad: bool, wanted: RunConfig) -> EventSplits | Unlabelled:
    """List the recordings of a data set, in a folder, or in a file, or their slices, as ``wanted`` says."""
    from spikelfp.data.events import sliced
    from spikelfp.data.events.sources.folder import without_classes
    from spikelfp.data.load import check_data_name, is_event_data
    from spikelfp.training.run import recordings_of, slicing_of, stated

    name = f"folder:{what}" if Path(what).is_dir() else what
    if Path(what).is_file():
        loose = without_classes(what, **stated(wanted))
        assert loose is not None  # of a file
        return sliced(loose, slicing_of(wanted))
    check_data_name(name)
    if not is_event_data(name):
        raise UserError(f"{name} holds no recordings of events")
    kind, _, path = name.partition(":")
    chosen = wanted.events
    if kind == "folder" and chosen.label_table is chosen.class_level is chosen.split_by is None:
        folder = None if data_dir is None else Path(data_dir)
        found = without_classes(path, folder, skip_bad=skip_bad, **stated(wanted))
        if found is not None:
            return sliced(found, slicing_of(wanted), skip_bad=skip_bad)
    return recordings_of(wanted.changed(data=name, data_dir=data_dir, skip_bad=skip_bad))


def _show_entries(entries: list[CacheEntry], folder: Path, limit: int) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("part", "key", "recordings", "steps", "size", "last used"):
        table.add_column(column, justify="right" if column in ("recordings", "steps", "size") else "left")
    for entry in entries:
        about = entry.about
        steps = " to ".join(map(str, dict.fromkeys(about["steps"]))) if about else "damaged, or of another version"
        count = f"{about['recordings']:,}" if about else ""
        used = entry.used.astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(entry.name, entry.key[:12], count, steps, _size(entry.bytes), used)
    if entries:
        Terminal().print(table)
    total = sum(entry.bytes for entry in entries)
    say(f"{len(entries)} in {folder}: {_size(total)} of at most {_size(limit)}")


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"


def main() -> None:
    """Run the command; of several workers, only the first one prints a mistake in their command line."""
    run_app(app, "spikelfp", quiet=os.environ.get("RANK", "0") != "0")


if __name__ == "__main__":
    main()
