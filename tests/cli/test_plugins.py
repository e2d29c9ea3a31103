"""Modules of users: named, installed, recorded, and never imported because a file says so."""

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

from spikelfp import plugins, rules
from spikelfp.errors import PluginError
from spikelfp.registry import Registry
from spikelfp.training.config import RunConfig, settled
from spikelfp.training.run import load_run

RULE = '''
from dataclasses import dataclass
from pathlib import Path

from helper_of_mine import NAME
from spikelfp import rules

Path(__file__).with_name("imported").touch()


@rules.rules.register(NAME)
@dataclass(frozen=True)
class Mine(rules.Feedback):
    """A rule of one's own.

    Args:
        kappa: how much of the reward stays.
    """

    kappa: float = 0.5
'''

QUICK = ["--hidden", "4", "--steps", "2", "--epochs", "1", "--device", "cpu", "--no-report", "--quiet"]


def forget():
    for source in list(plugins._loaded):
        plugins._remove_entries(source)
        del plugins._loaded[source]
    plugins._tried.clear()


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The file of a plug-in, with another module beside it; everything is forgotten behind the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    (tmp_path / "helper_of_mine.py").write_text('NAME = "mine"\n')
    path = tmp_path / "mine.py"
    path.write_text(RULE)
    yield path
    forget()
    sys.modules.pop("helper_of_mine", None)
    assert "mine" not in rules.rules


@pytest.fixture
def command(spikelfp):
    return spikelfp


def test_a_rule_of_ones_own_on_the_command_line(mine, command, tmp_path):
    """Its option is shown, kept and resumed; a later command needs the plug-in to be named, and imports nothing."""
    code, out, _ = command("train", "--plugin", "mine.py", "--rule", "mine", "--help")
    assert code == 0
    assert "--kappa FLOAT" in out
    owner = "rules of LFP (--method lfp, or --credit scan, step or online) and --rule mine"
    assert f"how much of the reward stays; belongs to {owner}" in " ".join(out.split())
    assert "--plugin MODULE" in out
    code, _, err = command("train", "--plugin=mine.py", "--rule", "mine", "--kappa", "0.25", "--out", "r", *QUICK)
    assert code == 0, err
    written = yaml.safe_load(Path("r/config.yaml").read_text())
    assert written["method"]["rule"] == {"name": "mine", "eps": 1e-6, "kappa": 0.25}
    assert written["plugins"] == {str(mine): ["rule mine"]}
    assert command("train", "--kappa", "0.25", "--out", "s", *QUICK)[2] == (
        "spikelfp: --kappa 0.25 belongs to --rule mine, but this run has --rule epsilon: leave it out, or choose what "
        "it belongs to\n"
    )
    forget()
    (tmp_path / "imported").unlink()
    needed = (
        f"r/config.yaml needs the rule mine of the plug-in {mine}: if you trust its code, say --plugin {mine} "
        "(in Python spikelfp.plugins.load)\n"
    )
    for words, program in (
        (["eval", "r"], "spikelfp"),
        (["report", "r"], "spikelfp"),
        (["train", "--out", "r", "--resume", "--epochs", "2"], "spikelfp"),
        (["train", "--config", "r/config.yaml", "--out", "t"], "spikelfp"),
        (["build", "r", "--out", "e"], "hw-export"),
    ):
        assert command(*words, program=program) == (2, "", f"{program}: {needed}")
    with pytest.raises(PluginError, match=r"spikelfp\.plugins\.load"):
        load_run("r")
    assert not (tmp_path / "imported").exists()
    code, _, err = command(
        "train", "--out", "r", "--resume", "--epochs", "2", "--plugin", mine, "--no-report", "--quiet"
    )
    assert code == 0, err
    assert load_run("r").config.method.rule.options["kappa"] == 0.25
    assert command("eval", "r", "--plugin", "mine.py")[0] == 0  # once is enough
    assert command("build", "r", "--out", "e", "--samples", "2", program="hw-export")[0] == 0
    assert command("train", "--out", "r", "--resume", "--epochs", "3", "--kappa", "0.75")[2].startswith(
        "spikelfp: r was started with other options: kappa 0.25 → 0.75"
    )


def test_plug_ins_of_the_environment_and_of_packages(mine, command, monkeypatch, tmp_path):
    monkeypatch.setenv(plugins.VARIABLE, str(mine))
    assert "mine" in json.loads(command("info", "--json")[1].splitlines()[-1])["rules"]
    monkeypatch.delenv(plugins.VARIABLE)
    forget()
    (tmp_path / "package_of_mine.py").write_text("import mine")
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        EntryPoint("mine", "package_of_mine", plugins.GROUP),
        EntryPoint("broken", "no_such_module", plugins.GROUP),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == plugins.GROUP else [])
    with pytest.warns(plugins.PluginWarning, match="installed plug-in broken .no_such_module. cannot be imported"):
        plugins.load_all([])
    assert "mine" in rules.rules
    assert plugins.used(["mine"]) == {"package_of_mine": ["rule mine"]}
    plugins.load_all([])  # says it once
    for name in ("mine", "package_of_mine"):
        sys.modules.pop(name)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("nowhere.py", None, "the plug-in nowhere.py is not there: --plugin takes a module or the path of a .py file"),
        ("no_such_module", None, "there is no module no_such_module to be a plug-in: install it, or name a .py file"),
        ("half", "1 +", "to be a plug-in: install it, or name a .py file; did you mean half.py?"),
        ("wrong.py", "\n1 +", "wrong.py cannot be imported: SyntaxError: invalid syntax (line 2 of "),
        ("lacks.py", "import no_such", "lacks.py cannot be imported: ModuleNotFoundError: No module named 'no_such' ("),
        ("ends.py", "raise SystemExit(3)", "ends.py cannot be imported: SystemExit: 3 (line 1 of "),
        ("twice.py", "from spikelfp.rules import *\nrules.register('twice')(Zero)\nrules.register('zero')(Zero)",
         "twice.py cannot be imported: ValueError: rule 'zero' is registered already (line "),
    ],
)  # fmt: skip
def test_one_that_cannot_be_imported_is_one_line(mine, command, name, text, told):
    if text is not None:
        Path(name if name.endswith(".py") else f"{name}.py").write_text(text)
    for program, words in (("spikelfp", ["info"]), ("hw-export", ["targets"])):
        code, out, err = command(*words, "--plugin", name, program=program)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert told in err
    assert "twice" not in rules.rules  # nothing of it stays


@pytest.mark.parametrize("recorded", [3, {"mine.py": 3, 4: []}, [["mine.py"]]])
def test_a_record_that_is_none_is_refused(mine, command, recorded):
    Path("c.yaml").write_text(yaml.safe_dump({"plugins": recorded}))
    code, _, err = command("train", "--config", "c.yaml")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "plugins are names of modules or .py files" in err


@pytest.mark.parametrize("name", ["\0.py", "~nobody_of_that_name/x.py", "a\nb.py", "\x1b[31m", "x" * 5000])
def test_names_of_strangers_are_text(mine, command, name):
    Path("c.yaml").write_text(yaml.safe_dump({"plugins": {name: ["rule stranger"]}}))
    code, _, err = command("train", "--config", "c.yaml")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "needs the rule stranger of the plug-in" in err
    assert err.strip().isprintable()


def test_a_file_of_options_names_plug_ins_but_does_not_import_them(mine, command, tmp_path):
    Path("c.yaml").write_text("plugins: [mine.py]\nrule: mine\nkappa: 0.125\n")
    assert command("train", "--config", "c.yaml")[2] == (
        "spikelfp: c.yaml needs the plug-in mine.py: if you trust its code, say --plugin mine.py (in Python "
        "spikelfp.plugins.load)\n"
    )
    assert not (tmp_path / "imported").exists()
    code, _, err = command("train", "--config", "c.yaml", "--plugin", "mine.py", "--out", "r", *QUICK)
    assert code == 0, err


def test_everything_knows_where_it_comes_from(mine):
    plugins.load(str(mine))
    plugins.load("mine.py")  # the same file
    assert rules.rules.source("mine") == str(mine)
    assert rules.rules.source("gamma") is None
    assert RunConfig(rule="mine", kappa=0.125).method.rule.options["kappa"] == 0.125
    assert all(registry.source(name) in (None, str(mine)) for registry in Registry.known for name in registry)


RULE_WITH = """
from dataclasses import dataclass
from spikelfp import rewards, rules

@rules.rules.register({name!r})
@dataclass(frozen=True, kw_only=True)
class Own(rules.Feedback):
    {option}
"""


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("out: str = 'x'", "the option out of own would be --out, a flag with another meaning"),
        ("as_json: bool = False", "would be --as-json"),
        ("json: bool = False", "would be --json"),
        ("no_report: int = 3", "would be --no-report"),
        ("no_wake: int = 3", "would be --no-wake"),
        ("help: str = 'x'", "would be --help"),
        ("plugin: str = 'x'", "would be --plugin"),
        ("name: str = 'x'", "the option name of own has a name with another meaning in a file of options"),
        ("options: int = 3", "has a name with another meaning"),
        ("data: float = 0.5", "has a name with another meaning"),
        ("reward: str = 'x'", "has a name with another meaning"),
        ("events: int = 3", "has a name with another meaning"),
        ("seed: str = 'x'", "the option seed of own takes text, and that in run a whole number"),
        ("momentum: int = 3", "the option momentum of own takes a whole number, and that of momentum and sgd a finite"),
        ("gamma: int = 3", "the option gamma takes a finite number with the rule gamma and something else with own"),
        ("kappa: float", "the rule own takes kappa, which has no default: give it one"),
        (
            "kappa: int = 0.5",
            "rule own does not take its own default of kappa: kappa takes a whole number, got 0.5",
        ),
        ("kappa: float = float('nan')", "does not take its own default of kappa"),
        ("kappa: int = 2**63", "kappa takes a whole number of at most 64 bits"),
    ],
)
def test_options_that_do_not_fit_beside_the_others_are_refused_with_their_plug_in(mine, command, option, told):
    """By name it is an error; one that is installed is left out, with a warning, and the command goes on."""
    mine.write_text(RULE_WITH.format(name="own", option=option))
    code, out, err = command("train", "--plugin", "mine.py", "--help")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("spikelfp: the plug-in mine.py cannot be used: ")
    assert told in err
    assert "own" not in rules.rules
    assert "--gamma" in command("train", "--help")[1]  # nothing of it stays


def test_an_installed_plug_in_that_does_not_fit_is_left_out(mine, command, monkeypatch, tmp_path):
    (tmp_path / "misfit_of_mine.py").write_text(RULE_WITH.format(name="own", option="out: str = 'x'"))
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        EntryPoint("a", "mine:Mine", plugins.GROUP),
        EntryPoint("b", "mine:nothing", plugins.GROUP),
        EntryPoint("c", "misfit_of_mine", plugins.GROUP),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == plugins.GROUP else [])
    with pytest.warns(plugins.PluginWarning) as told:
        plugins.load_all([])
    first, second = (str(each.message) for each in told)
    assert first.startswith("the installed plug-in b (mine:nothing) cannot be imported: AttributeError: ")
    assert second.startswith("the installed plug-in c (misfit_of_mine) cannot be used: the option out of own would be ")
    assert "mine" in json.loads(command("info", "--json")[1].splitlines()[-1])["rules"]
    assert rules.rules.source("mine") == "mine"  # which is what --plugin takes where it is not installed
    sys.modules.pop("mine")


@pytest.mark.parametrize("name", ["", " ", "a b", "a:b", "a,b", "a=b", "a\n", 3, None])
def test_names_that_no_command_line_can_say_are_not_registered(name):
    with pytest.raises(ValueError, match="is registered under a word without spaces"):
        rules.rules.register(name)


def test_an_option_of_ones_own_keeps_its_value_where_the_run_has_one_of_that_name(mine):
    """A value that a run settles by itself is the run's, not that of a rule whose option has the same name."""
    own = "steps: int = 3; lr: float = 0.25; epochs: int = 4; device: str = 'own'; data_dir: str = 'own'"
    mine.write_text(RULE_WITH.format(name="own", option=own))
    plugins.load(str(mine))
    config = settled(RunConfig(rule="own", weight_bits=4).resolved(1000)).in_floats()
    assert (config.data.steps, config.training.lr) == (25, 3e-3)
    assert dict(config.method.rule.options) == {
        "eps": 1e-6, "steps": 3, "lr": 0.25, "epochs": 4, "device": "own", "data_dir": "own"
    }  # fmt: skip


def test_none_as_a_default_and_private_parameters(mine):
    mine.write_text(RULE_WITH.format(name="own", option="kappa: float = None; _hidden: int = 3"))
    plugins.load(str(mine))
    assert RunConfig(rule="own").method.rule.options == {"eps": 1e-6, "kappa": None}
    assert RunConfig(rule="own", kappa=0.5).method.rule.options["kappa"] == 0.5


def test_plug_ins_that_are_named_by_nothing(mine, command):
    for words in (["--plugin", ""], ["--plugin="]):
        assert command("info", *words)[2].startswith("spikelfp: --plugin is empty: name a module")
