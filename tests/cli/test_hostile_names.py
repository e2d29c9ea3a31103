r"""Names of users are text in every command, table, figure and page: ``[red]``, ``$x_{``, ``\x1b[m``, ``<script>``."""

import csv
import io
import json
import os
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser

import numpy as np
import pytest
from cli.bars import bar
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from rich.table import Table

from hw_export import UpdateRecorder, to_nir
from hw_export.cli import app as export_app
from hw_export.updates import inspect
from hw_export.updates.plot import draw
from spikelfp import nn
from spikelfp.cli import app
from spikelfp.command import run_app
from spikelfp.errors import UserError
from spikelfp.report import figures, rasters
from spikelfp.report.page import Footer, Headline, MovingPicture, Picture, Section, render
from spikelfp.report.theme import png
from spikelfp.terminal import Terminal, bar_text, forgive_encoding, plain, progress, say
from spikelfp.training import TemporalTrainer

HOSTILE = [
    "$x_{", "$\\frac$", "[red]", "[bold]x", "\x1b[31mred\x1b[0m", "\x9b31m", "a\nb", "t\tb\r", "\u202eabc\u2066",
    "<script>alert(1)<b>", "\"' onerror='x", "\udcff\udcfe", "😀👨\u200d👩\u200d👧", "_under", "{steps} %s %d",
    "=cmd|calc", "\x07\x7f", "long" * 40, "\u2028",
]  # fmt: skip
"""Names that a folder can have; those that it cannot are added where there are no folders."""
WORSE = [*HOSTILE, "[/red]", "</td></script><script>", "nul\0", ":smile:"]
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "div", "p", "span", "h1", "h2", "b", "dl", "dt",
    "dd", "section", "figure", "figcaption", "picture", "source", "img", "table", "thead", "tbody", "tr", "th", "td",
    "footer", "pre", "details", "summary",
}  # fmt: skip
ATTRIBUTES = {"lang", "charset", "name", "content", "class", "media", "srcset", "src", "width", "height", "alt"}


def assert_harmless(text: str) -> None:
    """Nothing but line breaks steers the terminal that shows it, and all of it can be encoded."""
    assert {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")} <= {"\n", "\u200d"}
    text.encode()


def assert_no_markup_of_others(page: str) -> None:
    found: list[tuple[str, set[str]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append((tag, {name for name, _ in attrs}))

    Reader().feed(page)
    assert {tag for tag, _ in found} <= TAGS
    assert set().union(*(names for _, names in found)) <= ATTRIBUTES
    assert_harmless(page)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A folder of recordings with all of these names, in a folder with one."""
    root = tmp_path_factory.mktemp("own") / "\x1b[31m[red]$x<b>\udcff\n"
    random = np.random.default_rng(0)
    for number, name in enumerate(HOSTILE):
        (root / name).mkdir(parents=True)
        for each in range(3):
            np.save(root / name / f"{each} $[b]\x1b[1m\n<i>.npy", bar(number % 2 == 0, random))
    return root


@pytest.fixture
def command(capfd, monkeypatch):
    """Run a command line in this process, whose outputs must be harmless; returns exit code, stdout and stderr."""

    def call(program, *arguments):
        with pytest.raises(SystemExit) as stop:
            run_app({"spikelfp": app, "hw-export": export_app}[program], program, [str(a) for a in arguments])
        out, err = capfd.readouterr()
        assert_harmless(out)
        assert_harmless(err)
        assert "Traceback" not in err
        return stop.value.code, out, err

    return call


def test_every_command_shows_names_as_they_are_written(hostile, tmp_path, command, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    source = f"folder:{hostile}"
    code, out, _ = command("spikelfp", "data", "info", source, "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["class_names"] == sorted(HOSTILE)
    for name in HOSTILE:
        assert any(line.startswith(f"{plain(name)} ") for line in out.splitlines())
    for ending in ("png", "html"):
        picture = tmp_path / f"[/b]$x\x1b[1m\n.{ending}".replace("/", "")
        code, out, err = command("spikelfp", "data", "show", source, "--class", HOSTILE[1], "--out", picture)
        assert (code, out) == (0, f"{plain(picture)}\n"), err
    assert_no_markup_of_others(picture.read_text())
    code, _, err = command("spikelfp", "data", "show", source, "--class", "[/x]\x1b[2J")
    assert code == 2
    assert r"[/x]\x1b[2J" in err

    # new folders are named without controls; those of others may have any name
    code, _, err = command("spikelfp", "train", "--data", source, "--out", tmp_path / "\x1b[31m[run]\n")
    assert code == 2
    assert "control characters" in err
    run = tmp_path / "\x9b31m[run]$y<i>\udcfe\u202e"
    code, out, err = command(
        "spikelfp", "train", "--data", source, "--model", "lif-mlp", "--hidden", 12, "--epochs", 1, "--batch-size", 8,
        "--out", run, "--no-report", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["run"] == str(run)
    assert json.loads((run / "summary.json").read_text())["data"] == source
    assert len(list(csv.DictReader(io.StringIO((run / "metrics.csv").read_text())))) == 1
    code, _, err = command("spikelfp", "eval", run)
    assert code == 0, err
    # the class names in config.yaml are those of the data
    assert command("spikelfp", "train", "--out", run, "--resume", "--epochs", 2, "--no-report")[0] == 0
    code, out, _ = command("spikelfp", "report", run)
    assert (code, out) == (0, f"{plain(run / 'report.html')}\n")
    assert_no_markup_of_others((run / "report.html").read_text())
    assert "&lt;script&gt;alert(1)&lt;b&gt;" in (run / "report.html").read_text()
    assert command("spikelfp", "data", "cache")[0] == 0
    code, _, err = command("spikelfp", "train", "--data", source, "--out", run)
    assert code == 2
    assert plain(run) in " ".join(err.split()) or plain(" ".join(str(run).split())) in err

    export = run / "\x9b4m[g]$<i>"
    code, out, err = command("hw-export", "build", run, "--target", "generic", "--out", export)
    assert code == 0, err
    assert out.endswith(f"export: {plain(export)}\n")
    assert command("hw-export", "verify", export, "--samples", 2)[0] == 0
    stream = run / "\x1b[4m[s]"
    code, _, err = command("hw-export", "updates", "record", run, "--out", stream, "--steps", 2)
    assert code == 0, err
    assert command("hw-export", "updates", "inspect", stream, "--plot", run / "[p]\n.png")[0] == 0
    assert command("hw-export", "updates", "replay", stream, "--out", run / "\x1b[5m")[0] == 0
    for wrong in ("[/red]", "\x1b[31m$x\n", "\udcff<b>"):
        for program, *arguments in (
            ("spikelfp", "train", "--data", wrong), ("spikelfp", "train", "--model", wrong),
            ("spikelfp", "eval", wrong), ("spikelfp", wrong), ("spikelfp", "train", f"--{wrong}", "1"),
            ("hw-export", "build", wrong), ("hw-export", "verify", wrong), ("hw-export", "targets", wrong),
        ):  # fmt: skip
            assert command(program, *arguments)[0] == 2


def test_an_encoding_that_lacks_characters_is_no_error():
    """In a process of its own: names in arguments are bytes there."""
    name = os.fsencode("θ [/red] \x1b[31m 😀 ü") + b"\xff"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", "spikelfp", "eval", name], capture_output=True, env=environment, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(rb"spikelfp: \u03b8 [/red] \x1b[31m \U0001f600 \xfc\udcff")
    assert b"\x1b[" not in done.stderr
    assert b"Traceback" not in done.stderr


class Ascii(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "ascii")

    def shown(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode("ascii")


def test_tables_and_bars_take_no_markup(monkeypatch):
    stream = Ascii()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", Ascii())
    forgive_encoding()
    table = Table("[bold]head[/bold]", box=None)
    for name in WORSE:
        table.add_row(name)
    console = Terminal()
    console.width = 300
    console.print(table)
    console.print("[/red] :smile: \x1b[31m", soft_wrap=True)
    for name in WORSE:
        say(name)
    with progress(bar_text("{task.description}"), stays=True) as bars:
        for name in WORSE:
            bars.add_task(plain(name), total=1)
    for shown in (stream.shown(), sys.stderr.shown()):
        assert_harmless(shown)
        assert "[/red]" in shown
        assert ":smile:" in shown
    assert "[bold]head[/bold]" in stream.shown()
    assert stream.shown().count(r"\x1b[31mred\x1b[0m") == 2


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_plain_text_is_one_line_that_can_be_seen(text):
    shown = plain(text)
    assert_harmless(shown.replace("\u200c", ""))
    assert "\n" not in shown
    assert plain(shown) == shown
    if text.isprintable():
        assert shown == text


def stands_in(text, name):
    """Whether a text shows a name, or begins with its beginning and, behind the mark of a cut, goes on with its end."""
    begin, _, rest = text.partition("…")
    end = rest.partition(" → ")[0]
    return name[:7] in text or (len(begin) + len(end) >= 4 and name.startswith(begin) and name.endswith(end))


@pytest.mark.parametrize("name", ["$x_{", "$\\frac$", "\x1b[31m\n", "_under", "\udcff😀\u202e", "nul\0"])
def test_figures_draw_names_and_no_formulas(name):
    names = (name, "b")
    spikes = (np.random.default_rng(0).random((5, 2)) < 0.5).astype(np.float32)
    image = np.zeros((1, 4, 4), np.float32)
    for figure in (
        figures.confusion(np.array([[3, 1], [0, 2]]), names),
        rasters.misread([(image, 0, 1, 1.0)], names),
        rasters.outputs(image, np.array([0.2, 0.1]), 0, names),
        figures.class_rates(np.array([0.1, 0.2]), np.array([0.3, 0.1]), names),
    ):
        png(figure, sharpness=0.5)
        texts = figure.findobj(Text)
        assert not any(text.get_parse_math() for text in texts)
        shown = [text.get_text() for text in texts]
        assert any(stands_in(text, plain(name)) for text in shown)
        assert_harmless("".join(shown))
    raster = rasters.raster(image, [("A", spikes)], 0, names)
    png(raster, sharpness=0.5)
    assert_harmless("".join(text.get_text() for text in raster.findobj(Text)))


def test_powers_of_ten_are_drawn_without_formulas():
    figure = figures.weights(None, np.random.default_rng(0).normal(size=5000))
    png(figure, sharpness=0.5)
    assert {"10⁰", "10¹", "10²"} <= {text.get_text() for text in figure.findobj(Text)}


@pytest.mark.parametrize("name", WORSE, ids=range(len(WORSE)))
def test_pages_hold_names_and_no_markup(name):
    dot = png(figures.weights(None, np.ones(2)), sharpness=0.1)
    page = render(
        name,
        Headline(name, name, name, name, name),
        terms=[(name, name)],
        facts=[(name, name)],
        notes=[name],
        sections=[
            Section(name, name, [MovingPicture(name, name, name, b"", b"", 1, 1), Picture(name, name, name, dot, dot)]),
            Section(name, name, [Picture(name, name, name, dot, dot, wide=True)]),
            Section(name, name, head=[name], rows=[[(name, "good"), (name, "")]]),
        ],
        footer=Footer([name, name], f"{name}\n{name}", name),
    )
    assert_no_markup_of_others(page)


@pytest.mark.parametrize("name", ["[/x]", "$a$", "\x1b[1m", "_a/b", "\n", "é😀"])
def test_layers_by_any_name_are_trained_recorded_and_exported(name, tmp_path):
    net = nn.Sequential()
    net.add_module(name, nn.Linear(6, 4))
    net.add_module("out", nn.LIF())
    trainer = TemporalTrainer(net, steps=3, device="cpu", batch_size=8)
    x, y = np.random.default_rng(0).random((24, 6), np.float32), np.arange(24) % 4
    with UpdateRecorder(trainer.net, tmp_path / "stream", bits=8) as recorder:
        trainer.fit((x, y), 1, after_step=recorder.after_step)
    summary = inspect(tmp_path / "stream")
    assert summary.parameters[0].name == f"{name}.weight"
    figure = draw(summary)
    png(figure, sharpness=0.5)
    shown = [text.get_text() for text in figure.findobj(Text)]
    assert any(text.startswith(plain(name)) for text in shown)
    assert_harmless("".join(shown))
    trainer.save(tmp_path / "last.pt")
    TemporalTrainer(net, steps=3, device="cpu", batch_size=8).load(tmp_path / "last.pt")
    to_nir(net, tmp_path / "net.nir")


def test_a_parameter_whose_name_is_no_text_is_refused_by_a_stream(tmp_path):
    net = nn.Sequential()
    net.add_module("\udcff", nn.Linear(6, 4))
    net.add_module("out", nn.LIF())
    with (
        pytest.raises(UserError, match=r"'\\udcff.weight' is no text: rename it"),
        UpdateRecorder(net, tmp_path / "stream", bits=8),
    ):
        pass
