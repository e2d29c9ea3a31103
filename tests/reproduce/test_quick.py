"""Every experiment runs in its quick form, judges each of its claims, and draws."""

import csv
import json

import pytest

from spikelfp.reproduce import experiments, reproduce
from spikelfp.reproduce.base import VERDICTS


@pytest.mark.parametrize("name", experiments)
def test_quick(name, tmp_path):
    experiment = experiments[name]
    verdicts = reproduce(name, tmp_path / "out", quick=True)
    assert len(verdicts) == len(experiment.claims)
    for verdict in verdicts:
        assert verdict.holds in VERDICTS
        assert verdict.text
        assert "nan" not in verdict.text.split()
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    assert rows
    assert all(any(cell for cell in row.values()) for row in rows)
    assert (tmp_path / "out" / "figure.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out" / "README.md").read_text()
    assert f"spikelfp reproduce {name} --quick --seeds 1" in page
    assert all(claim in page for claim in experiment.claims)
    kept = json.loads((tmp_path / "out" / "verdicts.json").read_text())
    assert [each["holds"] for each in kept["claims"]] == [verdict.holds for verdict in verdicts]


@pytest.mark.parametrize("name", experiments)
def test_full_form_is_described(name):
    experiment = experiments[name]
    assert experiment.minutes > 0
    assert experiment.seeds >= 1
    assert experiment.title
    assert experiment.setting.endswith(".")
    assert all(c.endswith(".") for c in experiment.claims)
    assert any(experiment.source.startswith(paper) for paper in ("LFP v3, ", "LFP v1, ", "F³, "))
    full = experiment().parts(quick=False, seeds=experiment.seeds)
    assert len({part.name for part in full}) == len(full) >= len(experiment().parts(quick=True, seeds=1))
