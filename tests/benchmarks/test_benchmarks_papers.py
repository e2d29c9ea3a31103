"""The page of the papers' experiments says what the kept verdicts say."""

import csv
import json

from benchmarks import papers
from spikelfp.reproduce import experiments


def test_the_page_is_that_of_the_kept_results():
    assert papers.PAGE.read_text() == papers.page()


def test_kept_results_are_of_the_experiments_as_they_are():
    kept = papers.held()
    assert kept
    assert {path.name for path in papers.KEPT.iterdir()} == set(kept)
    for name, about in kept.items():
        experiment = experiments[name]
        assert not about["quick"]
        assert about["experiment"] == name
        assert [each["claim"] for each in about["claims"]] == list(experiment.claims)
        assert (about["title"], about["source"], about["setting"]) == (
            experiment.title, experiment.source, experiment.setting,
        )  # fmt: skip
        assert {path.name for path in (papers.KEPT / name).iterdir()} == set(papers.FILES)
        assert list(csv.DictReader((papers.KEPT / name / "results.csv").open()))


def test_only_finished_full_runs_are_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(papers, "KEPT", tmp_path / "kept")
    source = papers.DOCS / "results" / "two-weights"
    for name, quick in (("two-weights", False), ("toy", True)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        for file in papers.FILES:
            (tmp_path / "runs" / name / file).write_bytes((source / file).read_bytes())
        about = json.loads((source / "verdicts.json").read_text()) | {"quick": quick}
        (tmp_path / "runs" / name / "verdicts.json").write_text(json.dumps(about))
    assert papers.collect(tmp_path / "runs") == ["two-weights"]
    assert list(papers.held()) == ["two-weights"]
