"""Files made to fill the memory, to reach outside, or to mean two things are refused in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from attacks import ATTACKS, strike

from spikelfp.files import yaml_text
from spikelfp.untrusted import read_yaml
from tests.slowness import slowness


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_one_line(tmp_path, name):
    text, seconds = strike(name, tmp_path)
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) < 600
    assert seconds < 10 or seconds < 10 * slowness()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
def test_all_of_them_in_two_gigabytes():
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("attacks.py"))], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-800:]


def test_a_list_that_stands_twice_is_written_twice_and_read(tmp_path):
    sizes = [3, 4]
    (tmp_path / "a.yaml").write_text(yaml_text({"a": sizes, "b": sizes, "θ": ["\udcff", 1.0]}), encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {"a": [3, 4], "b": [3, 4], "θ": ["\udcff", 1.0]}
