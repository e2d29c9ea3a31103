"""The table of simulators, from a ``verify.json`` of any completeness."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from report_pages import Page

from spikelfp.report import write_report

pytestmark = pytest.mark.usefixtures("undrawn")

TITLE = "Same spikes in other simulators"
FULL = [
    {
        "simulator": "snntorch",
        "version": "1.0.0",
        "status": "identical",
        "layers": [{"name": "2", "compared": 4000, "different": 0}, {"name": "4", "compared": 1000, "different": 0}],
        "seconds": 0.5,
    },
    {
        "simulator": "brian2",
        "version": "2.9.0",
        "status": "different",
        "layers": [{"name": "2", "compared": 4000, "different": 7}, {"name": "4", "compared": 1000, "different": 5}],
    },
    {"simulator": "norse", "version": None, "status": "not installed", "reason": "pip install norse", "layers": []},
]


@pytest.fixture
def page(run: Callable[..., Path]) -> Callable[[object], Page]:
    folder = run("relu-mlp")

    def get(content: object) -> Page:
        (folder / "verify.json").write_text(json.dumps(content))
        return Page(write_report(folder).read_text())

    return get


def _classes(page: Page) -> list[str | None]:
    return [attributes["class"] for tag, attributes in page.tags if tag == "td" and "class" in attributes]


def test_shows_sums_over_the_layers(page: Callable[[object], Page]) -> None:
    shown = page(FULL)
    assert TITLE in shown.headings
    assert "snntorchidentical05,00021.0.0" in shown.text
    assert "brian2different125,00022.9.0" in shown.text
    assert "norsenot installedpip install norse" in shown.text
    assert _classes(shown).count("good") == 1
    assert _classes(shown).count("warn") == 2


def test_absent_or_empty_results_have_no_table(run: Callable[..., Path], page: Callable[[object], Page]) -> None:
    assert TITLE not in page([]).headings


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"simulator": None, "status": None, "layers": None},
        {"simulator": "x", "layers": [None, 3, {}, {"compared": None, "different": "many"}], "new": {"a": [1]}},
        {"simulator": "x", "layers": [{"layer": "2", "compared": 10, "differences": 0}]},
    ],
)
def test_tolerates_missing_and_unknown_keys(page: Callable[[object], Page], entry: dict[str, object]) -> None:
    assert TITLE in page([entry, "not an entry"]).headings


def test_text_from_files_is_escaped(page: Callable[[object], Page]) -> None:
    shown = page([{"simulator": "<script>alert(1)</script>", "status": '"><img src=x>', "version": "&amp;"}])
    assert "script" not in {tag for tag, _ in shown.tags}
    assert "<script>alert(1)</script>" in shown.text
    assert "&amp;" in shown.text
