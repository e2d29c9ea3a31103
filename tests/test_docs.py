"""The code of the documentation runs as it stands, prints what the pages say, and names what there is."""

import functools
import importlib
import importlib.util
import re
import sys

import pytest
import yaml
from pages import DOCS, ROOT, blocks, command_lines, matches, run_page

import spikelfp

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
BY_NAME = {page.name: page for page in PAGES}
NOT_RUN = 12
"""Blocks that need what the tests have not, at most."""


def site():
    """Return the module that makes pages of the site."""
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["hooks"] = module
    spec.loader.exec_module(module)
    return module


hooks = site()
api_pages, command_pages = functools.cache(hooks.api_pages), functools.cache(hooks.command_pages)
"""Pages that are made from the code, the same ones for all tests."""


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPIKELFP_DATA", raising=False)
    return tmp_path


@pytest.mark.parametrize("page", [name for name, page in BY_NAME.items() if blocks(page)])
def test_a_page_runs_from_top_to_bottom(page, in_empty_folder, registrations_end):
    names = run_page(BY_NAME[page])
    if page == "events.md":
        assert names["sequences"].values.shape == (5, 8, 2, 16, 16)
        assert names["classes"].tolist() == [0, 1] * 4
    if page == "README.md":
        assert names["trainer"].evaluate(names["digits"].test).accuracy > 0.95
    if page == "first_hour.md":
        assert (in_empty_folder / "digits.png").read_bytes().startswith(b"\x89PNG")
        assert (in_empty_folder / "runs" / "first" / "report.html").stat().st_size > 10_000


def test_few_blocks_are_not_run_and_each_says_why(capsys):
    left = [(name, block) for name, page in BY_NAME.items() for block in blocks(page) if block.reason is not None]
    with capsys.disabled():
        print(f"\n{len(left)} blocks of the documentation are not run:")
        for name, block in left:
            print(f"  {name}, line {block.line}: {block.reason}")
    assert len(left) <= NOT_RUN
    assert all(len(block.reason) > 10 for _, block in left)


def test_blocks_that_are_not_run_name_targets_of_the_makefile():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        words[1]
        for page in PAGES
        for block in blocks(page)
        if block.language == "bash"
        for words in command_lines(block.text)
        if words[0] == "make"
    }
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("page", BY_NAME)
def test_commands_and_python_stand_in_fences(page):
    """Indented blocks are not run: they hold formulas, layouts and messages."""
    text = re.sub(r"^ *```.*?^ *```$", "", BY_NAME[page].read_text(), flags=re.DOTALL | re.MULTILINE)
    command = r"(?:spikelfp|hw-export|make|pip|python|torchrun) [\w./-]"
    assert re.findall(rf"^ {{4,}}(?:\$ |>>> |{command}|from \w+ import |import \w)", text, re.M) == []
    plain = [block for block in blocks(BY_NAME[page]) if not block.language]
    assert [block.line for block in plain if re.search(r"^(?:spikelfp|hw-export|make) [\w-]", block.text, re.M)] == []


@pytest.mark.parametrize("page", BY_NAME)
def test_links_lead_somewhere(page):
    """Links between pages, to their headings, to pictures and to files of the repository."""
    made = {f"docs/{each}" for each in {**api_pages(), **command_pages(), **hooks.file_pages()}}
    for target, path in hooks.linked_files(BY_NAME[page]):
        assert (ROOT / path).exists() or (page == "index.md" and path in made), f"{page}: {target}"
    for target, mark in re.findall(r"\]\(([^)\s#:]*\.md|)#([^)\s]+)\)", BY_NAME[page].read_text()):
        linked = (BY_NAME[page].parent / target).read_text() if target else BY_NAME[page].read_text()
        headings = [re.sub(r"[^\w\- ]", "", each).strip().lower() for each in re.findall(r"^#+ (.*)", linked, re.M)]
        places = [each.replace(" ", "-") for each in headings] + re.findall(r'<a id="([^"]+)"></a>', linked)
        assert mark in places, f"{page}: {target}#{mark}"


def test_equations_stand_where_the_page_says():
    text = hooks.METHOD.read_text()
    assert hooks.with_places(text) == text, "the table of docs/method.md is stale: make format writes it anew"
    assert len(hooks.ROW.findall(text.partition(hooks.BEGIN)[2].partition(hooks.END)[0])) >= 20


def test_a_place_is_the_line_of_the_definition(tmp_path):
    file, line = hooks.place("spikelfp.propagate")
    assert (ROOT / file).read_text().splitlines()[line - 1].startswith("def propagate(")
    stale = f"{hooks.BEGIN}\n| eq. 6-7 | LFP-ε | `spikelfp.rules.Epsilon` | [gone.py:1](../gone.py#L1) |\n{hooks.END}"
    assert "class Epsilon" in _line(hooks.with_places(stale))


def _line(text):
    file, line = re.search(r"\[(\S+):(\d+)\]", text).groups()
    return (ROOT / file).read_text().splitlines()[int(line) - 1]


def test_names_in_the_glossary_exist():
    text = (DOCS / "glossary.md").read_text()
    names = re.findall(r"`((?:spikelfp|hw_export)\.[\w.]+)`", text)
    assert len(re.findall(r"^\* \*\*", text, re.M)) >= 20
    for name in names:
        package, _, attribute = name.rpartition(".")
        module = importlib.import_module(package)
        assert hasattr(module, attribute) or importlib.import_module(name), name


def test_every_exported_name_has_a_place_in_the_reference():
    pages = api_pages()
    for package in hooks.PACKAGES:
        text = pages[f"api/{package}.md"]
        for module in hooks.modules_of(package):
            for name in hooks.public_names(module):
                assert f"{module}.{name}" in text or f"`{name}`][" in text, f"{module}.{name}"


def test_commands_are_described_by_their_own_help():
    pages = command_pages()
    assert "--threshold" in pages["commands/spikelfp.md"]
    found = set(re.findall(r"^## ([\w -]+) \{", pages["commands/spikelfp.md"], re.M))
    assert {"spikelfp train", "spikelfp data show"} <= found
    assert "## hw-export updates record" in pages["commands/hw-export.md"]


def test_docstrings_become_markdown():
    text = "Rewards :class:`~spikelfp.nn.LIF` by::\n\n    r = a m\n\n>>> 1\n1\n\n"
    text += "===  =====\na    b | c\n     d\n===  =====\n"
    made = hooks.Docstrings.markdown(text)
    assert "Rewards `LIF` by:\n\n```text\nr = a m\n```" in made
    assert "```pycon\n>>> 1\n1\n```" in made
    assert r"| a | b \| c d |" in made


def test_a_dead_link_of_the_site_is_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#here">b</a><a href="c.html">c</a><img src="https://x.y/z.png">')
    (tmp_path / "b.html").write_text('<p id="there">')
    pages = {path: hooks._Page(path) for path in tmp_path.glob("*.html")}
    dead = list(pages[tmp_path / "a.html"].dead(pages))
    assert [each.split(" ")[0].rstrip(":") for each in dead] == ["loads", "b.html#here", "c.html"]


def test_pages_are_compared_with_what_is_printed():
    assert matches("a … c\n", "a b\nb c  \n")
    assert not matches("a … c", "a b")
    assert not matches("a.c", "abc")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "says\n2"),
        ("```bash\nspikelfp eval nowhere\n```\n", "ended with status 2"),
        ("```bash\nrm -r nowhere\n```\n", "is no command of the project"),
        ("```text\n1\n```\n", "output of no block"),
        ("```c\nint a;\n```\n", "neither runs nor says why not"),
    ],
)
def test_a_page_that_says_something_else_fails(text, wrong, in_empty_folder):
    (in_empty_folder / "page.md").write_text(text)
    with pytest.raises(AssertionError, match=re.escape(wrong)):
        run_page(in_empty_folder / "page.md")


def test_linters_before_a_commit_are_those_of_make_lint():
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    commands = re.findall(r"entry: \.venv/bin/(.*)", text)
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    for command in re.findall(r"\$\(BIN\)/(ruff \w+|\w+)", lint):
        assert any(each.startswith(command) for each in commands), command


def test_version_is_the_same_everywhere():
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version == spikelfp.__version__
