"""Help and mistakes are answered without torch, and as the whole command line would answer them."""

import json
import os
import subprocess
import sys

import pytest
import typer

import hw_export
import spikelfp
from spikelfp import command, plugins
from spikelfp.command import OptionedCommand, run_app
from spikelfp.registry import Registry
from tests.cli.option_records import APPS, records

RENEW = "the options of a command have changed: renew their record with `make options`"
LINES = [
    ("spikelfp", "train", "--hiden", "100"),
    ("spikelfp", "train", "--hidden"),
    ("spikelfp", "train", "--hidden", "many"),
    ("spikelfp", "train", "--method", "foo"),
    ("spikelfp", "train", "--loss", "mae"),
    ("spikelfp", "train", "--validation", "2"),
    ("spikelfp", "train", "--no-report", "left over"),
    ("spikelfp", "train", "--reset", "zero", "--wak"),
    ("spikelfp", "trian"),
    ("spikelfp", "quux"),
    ("spikelfp", "eval"),
    ("spikelfp", "data", "shwo"),
    ("spikelfp", "data", "show", "nmnist", "--index", "first"),
    ("spikelfp", "--version"),
    ("spikelfp", "train", "-h"),
    ("hw-export", "--version"),
    ("hw-export", "build"),
    ("hw-export", "build", "r", "--bots", "8"),
    ("hw-export", "build", "r", "--clip", "mox"),
    ("hw-export", "build", "r", "--target", "xilo"),
    ("hw-export", "updates", "record", "r", "--every", "0.5", "--out", "u"),
    ("hw-export", "updates", "record", "r"),
]


def paths(group, before=()):
    """The words of every command and group of a command line."""
    yield before
    for name, each in getattr(group, "commands", {}).items():
        yield from paths(each, (*before, name))


HELP = [(name, *path, "--help") for name, app in APPS.items() for path in paths(typer.main.get_command(app))]
GROUPS = [("spikelfp",), ("spikelfp", "data"), ("hw-export",), ("hw-export", "updates")]


@pytest.fixture
def answer(capsys, monkeypatch):
    """Status and output of a command line, answered by the whole one or from the record alone."""

    def refuse(self):
        raise AssertionError("the configuration is imported")

    def call(line, recorded):
        with monkeypatch.context() as patch:
            if recorded:
                patch.setattr(Registry, "known", [])
                patch.setattr(OptionedCommand, "schema", refuse)
            with pytest.raises(SystemExit) as stop:
                run_app(APPS[line[0]], line[0], list(line[1:]))
        told = capsys.readouterr()
        return stop.value.code, told.out, told.err

    return call


@pytest.mark.parametrize("line", HELP, ids=" ".join)
def test_a_short_option_asks_for_help(line, answer):
    assert answer((*line[:-1], "-h"), recorded=True) == answer(line, recorded=True)
    assert answer(line, recorded=True)[0] == 0


def test_the_record_is_true():
    for path, text in records().items():
        kept, made = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
        assert kept["commands"] == made["commands"], RENEW
        assert kept["files"].keys() == made["files"].keys(), RENEW
        assert command._record(path.parent) == made["commands"], RENEW


@pytest.mark.parametrize("line", [*HELP, *GROUPS, *LINES], ids=" ".join)
def test_the_record_answers_as_the_configuration(line, answer, monkeypatch):
    for width in (40, 80, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        assert answer(line, recorded=True) == answer(line, recorded=False)


@pytest.mark.parametrize(
    "line",
    [
        ("spikelfp", "info"),
        ("spikelfp", "train", "--data", "digits"),
        ("spikelfp", "train", "--data", "no-such"),
        ("hw-export", "targets"),
    ],
)
def test_what_runs_is_not_answered(line, monkeypatch, capsys):
    monkeypatch.setattr(Registry, "known", [])
    command._answer_at_once(APPS[line[0]], line[0], list(line[1:]))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "line", [HELP[0], ("spikelfp", "train", "--help"), *LINES[:4], HELP[-1], LINES[-1]], ids=" ".join
)
def test_neither_torch_nor_numba_is_imported(line):
    module = {"spikelfp": "spikelfp.cli", "hw-export": "hw_export.cli"}[line[0]]
    code = (
        f"import sys, runpy; sys.argv = {list(line)!r}\n"
        f"try: runpy.run_module({module!r}, run_name='__main__')\n"
        "except SystemExit: print(*sorted({'torch', 'numba'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "", RENEW


def test_a_record_that_is_out_of_date_is_not_used(tmp_path, answer, monkeypatch):
    """A comment or a line inside of a function changes no option; a default, a new name and a lost file may."""
    module = tmp_path / "rules.py"
    module.write_text('@register("mine")\ndef mine(kappa: float = 0.5):\n    """Mine."""\n    return 1\n')
    text = module.read_text()
    recorded = (command.digest(text), command.digest(command.outline_of(text)))
    assert command._holds(module, *recorded)
    module.write_text(text.replace("return 1", "return 2  # more"))
    assert command._holds(module, *recorded)
    assert not command._holds(module, recorded[0])
    for changed in ("0.25", '0.5, more: str = "a"'):
        module.write_text(text.replace("0.5", changed))
        assert not command._holds(module, *recorded)
    (tmp_path / command.RECORD).write_text('{"files": {"no-such.py": ["0"]}, "commands": {"train_command": []}}')
    assert command._record(tmp_path) == {}
    (tmp_path / command.RECORD).write_text('{"files"')
    assert command._record(tmp_path) == {}
    monkeypatch.setattr(command, "RECORD", "no-such.json")
    monkeypatch.setattr(command.Registry, "known", [])
    assert answer(("spikelfp", "train", "--help"), recorded=False)[1].count("--hidden INT") == 1


def test_plug_ins_are_asked_first(monkeypatch):
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    assert not plugins.any_named(["train", "--help"])
    assert plugins.any_named(["train", "--plugin", "mine.py", "--help"])
    monkeypatch.setenv(plugins.VARIABLE, "mine.py")
    assert plugins.any_named(["train", "--help"])
    monkeypatch.delenv(plugins.VARIABLE)
    monkeypatch.setattr(plugins, "entry_points", lambda group: ["mine"])
    assert plugins.any_named(["train", "--help"])


@pytest.mark.parametrize("package", [spikelfp, hw_export])
def test_names_of_a_package_are_loaded_when_they_are_asked_for(package):
    name = package.__name__
    code = (
        f"import os, sys, {name}\nassert 'torch' not in sys.modules\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'\n"
        f"from {name} import *\nprint({name}.__all__ == [each for each in {name}.__all__ if each in globals()])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert dir(package) == sorted(package.__all__)


def test_a_function_is_not_hidden_by_the_module_of_its_name():
    code = (
        "import hw_export.build, hw_export.verify, hw_export.quantize, spikelfp.kernels\n"
        "print(*map(callable, (hw_export.build, hw_export.verify, hw_export.quantize)), spikelfp.kernels.__name__)\n"
        "import hw_export.build as build; from hw_export.build import VERIFIED; print(callable(build))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True", "True", "spikelfp.kernels", "True"], done.stderr
    with pytest.raises(AttributeError, match="no attribute 'modles': did you mean 'models'"):
        spikelfp.modles  # noqa: B018
