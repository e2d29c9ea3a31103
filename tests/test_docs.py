"""The code of the documentation runs as it stands, and prints what the pages say."""

import re

import pytest
from pages import DOCS, blocks, matches, run_page

WHOLE = ["first_hour.md", "own_layers.md", "events.md"]
"""Pages that run from top to bottom; blocks of the others are parts of programs."""


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPIKELFP_DATA", raising=False)
    return tmp_path


@pytest.mark.parametrize("page", WHOLE)
def test_a_page_runs_from_top_to_bottom(page, in_empty_folder):
    names = run_page(page)
    if page == "events.md":
        assert names["sequences"].values.shape == (5, 8, 2, 16, 16)
        assert names["classes"].tolist() == [0, 1] * 4
    if page == "first_hour.md":
        assert (in_empty_folder / "digits.png").read_bytes().startswith(b"\x89PNG")
        assert (in_empty_folder / "runs" / "first" / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_the_python_of_a_page_can_be_compiled(page):
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, f"{page}, line {block.line}", "exec")


def test_pages_are_compared_with_what_is_printed():
    assert matches("a … c\n", "a b\nb c  \n")
    assert not matches("a … c", "a b")
    assert not matches("a.c", "abc")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "says\n2"),
        ("```bash\nspikelfp eval nowhere\n```\n", "ended with status 2"),
        ("```text\n1\n```\n", "output of no block"),
    ],
)
def test_a_page_that_says_something_else_fails(text, wrong, in_empty_folder, monkeypatch):
    (in_empty_folder / "page.md").write_text(text)
    monkeypatch.setattr("pages.DOCS", in_empty_folder)
    with pytest.raises(AssertionError, match=re.escape(wrong)):
        run_page("page.md")
