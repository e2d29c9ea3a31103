"""Plain words for options, and a command line that means the same run."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest

from spikelfp import cli, rules
from spikelfp.command import run_app
from spikelfp.data import encodings
from spikelfp.methods import methods
from spikelfp.models import models
from spikelfp.report import wording
from spikelfp.rewards import rewards
from spikelfp.training import run as training_run
from spikelfp.training.config import RunConfig
from spikelfp.training.run import Interrupted

CONFIGS = {
    "default": RunConfig(),
    "layers": RunConfig(hidden=(300, 20), steps=8, epochs=2, lr=1e-3, reset="zero", beta=0.85),
    "relu": RunConfig(model="mlp", method="gradient", optimizer="sgd"),
    "flag": RunConfig(normalize_reward=True, encoding="latency", validation=0.25, seed=7, clip=0.01),
    "surrogate": RunConfig(method="surrogate", surrogate="atan", slope=2.5, schedule="constant"),
    "lenet": RunConfig(
        data="mnist",
        model="lif-lenet",
        pool="avg",
        reward="spike-sequence-v1",
        denominator="increment",
        floor=1.5,
        margin=0.6,
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_command_line_means_the_same_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIGS[name].resolved(1437), data_dir="/private/place", device="cpu", workers=3)
    parsed: list[tuple[RunConfig, Any]] = []

    def train(chosen: RunConfig, out: Any, **options: Any) -> None:
        parsed.append((chosen, out))
        raise Interrupted("enough")

    monkeypatch.setattr(training_run, "train", train)
    line = " ".join(wording.command(config, "my run"))
    assert "/private" not in line
    program, verb, *options = shlex.split(line)
    assert (program, verb) == ("spikelfp", "train")
    with pytest.raises(SystemExit):
        run_app(cli.app, program, [verb, *options])
    chosen, out = parsed[0]
    assert replace(chosen, data_dir="/private/place", device="cpu", workers=3) == config
    assert str(out) == "runs/my run"


def test_defaults_are_left_out() -> None:
    line = " ".join(wording.command(RunConfig(), "a"))
    assert line == "spikelfp train --data digits --model lif-mlp --method lfp --out runs/a"


def test_every_registered_name_has_words_or_itself() -> None:
    base = RunConfig().resolved(1000)
    for name in models:
        assert wording.title(RunConfig(model=name).resolved(1000)).startswith("A ")
    for method in methods:
        assert wording.title(RunConfig(method=method).resolved(1000))
    for field, names in (("rule", rules.rules), ("reward", rewards), ("encoding", encodings)):
        for name in names:
            text = " ".join(part for pair in wording.lead(replace(base, **{field: name}), True) for part in pair)
            known = getattr(wording, {"rule": "RULES", "reward": "REWARDS", "encoding": "ENCODINGS"}[field])
            assert known.get(name, name).format(steps=base.steps) in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5 s"), (9.94, "9.9 s"), (42.4, "42 s"), (150, "2.5 min"), (9000, "2.5 h")]
)
def test_seconds(value: float, text: str) -> None:
    assert wording.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00156, "0.0016"), (-6e-6, "0.0000"), (-0.0459, "−0.0459"), (0.1809, "0.181"), (12.34, "12.3")],
)
def test_small_numbers(value: float, text: str) -> None:
    assert wording.small(value) == text


def test_percent_and_plural() -> None:
    assert wording.percent(0.980555, 2) == "98.06 %"
    assert wording.percent(1.0) == "100.0 %"
    assert wording.plural(1, "epoch") == "1 epoch"
    assert wording.plural(2000, "epoch") == "2,000 epochs"


@pytest.mark.parametrize(
    ("options", "said"),
    [({"floor": 1.5, "margin": 0.6}, True), ({"floor": 0.0, "margin": 1.0}, False), ({"method": "surrogate"}, False)],
)
def test_floor_and_margin_are_told_where_they_are_used(options: dict[str, Any], said: bool) -> None:
    text = dict(wording.lead(RunConfig(**options).resolved(1437), True))["Neurons"]
    assert text.endswith("; rewards divided by 1.5 θ at least, earned above 0.6 θ.") == said
