"""The numbers behind the pictures, each found a second time by the plainest means."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from spikelfp import analysis
from spikelfp.report import facts as module
from spikelfp.report.facts import collect_facts
from spikelfp.training.run import load_run

Trained = Callable[[str], Path]


@pytest.mark.parametrize("kind", ["spiking-mlp", "spiking-lenet", "one-epoch"])
def test_activity(trained: Trained, kind: str) -> None:
    facts, loaded = collect_facts(trained(kind)), load_run(trained(kind))
    summary = json.loads((trained(kind) / "summary.json").read_text())
    test, trainer = loaded.splits().test, loaded.trainer()
    images, labels = test.__getitems__(range(min(256, len(test))))
    recorded = analysis.record(loaded.net, trainer.present(images))
    assert facts.rate_samples == len(images)
    assert [layer.name for layer in facts.activity] == list(recorded) == list(summary["spike_rates"])
    for layer, spikes in zip(facts.activity, recorded.values(), strict=True):
        flat = spikes.flatten(2).numpy()
        assert layer.shape == tuple(spikes.shape[2:])
        np.testing.assert_array_equal(layer.spikes, flat[:, 0])
        expected = [sum(flat[t, b, n] for t in range(len(flat)) for b in range(len(images))) for n in (0, 3, 7)]
        np.testing.assert_allclose(layer.rates[[0, 3, 7]], np.array(expected) / (len(flat) * len(images)), atol=1e-6)
        assert layer.rates.mean() == pytest.approx(summary["spike_rates"][layer.name], abs=1e-5)
        assert layer.silent == sum(rate == 0 for rate in layer.rates) / len(layer.rates)
    output = facts.activity[-1]
    assert [layer.own is None for layer in facts.activity] == [True] * (len(recorded) - 1) + [False]
    assert output.own is not None
    assert output.other is not None
    for c in range(10):
        mine = [float(flat[:, b, c].mean()) for b in range(len(images)) if labels[b] == c]
        others = [float(flat[:, b, c].mean()) for b in range(len(images)) if labels[b] != c]
        assert output.own[c] == pytest.approx(sum(mine) / len(mine), abs=1e-5)
        assert output.other[c] == pytest.approx(sum(others) / len(others), abs=1e-5)


@pytest.mark.parametrize("kind", ["spiking-mlp", "spiking-lenet", "relu-mlp", "relu-lenet", "one-epoch"])
def test_errors(trained: Trained, kind: str) -> None:
    facts, loaded = collect_facts(trained(kind)), load_run(trained(kind))
    errors = facts.errors
    assert errors is not None
    test, trainer = loaded.splits().test, loaded.trainer()
    images, labels = test.__getitems__(range(len(test)))
    loaded.net.eval()
    with torch.no_grad():
        scores = loaded.net(trainer.present(images)).sum(0)
    expected, gaps = np.zeros((10, 10), dtype=int), []
    for score, label in zip(scores.tolist(), labels.tolist(), strict=True):
        guess = score.index(max(score))
        expected[label, guess] += 1
        if guess != label:
            gaps.append(score[guess] - score[label])
    np.testing.assert_array_equal(errors.confusion, expected)
    summary = json.loads((trained(kind) / "summary.json").read_text())
    assert errors.confusion.trace() / errors.samples == pytest.approx(summary["test_accuracy"])
    assert errors.samples == errors.total == len(test)
    assert [gap for *_, gap in errors.wrong] == pytest.approx(sorted(gaps, reverse=True)[:9], abs=1e-4)
    for image, label, predicted, _ in errors.wrong:
        index = next(i for i in range(len(test)) if np.array_equal(images[i].numpy(), image))
        assert int(labels[index]) == label != predicted


def test_sample_is_the_first_of_the_test_set(trained: Trained) -> None:
    for kind in ("relu-lenet", "one-epoch", "spiking-lenet"):
        sample, test = collect_facts(trained(kind)).sample, load_run(trained(kind)).splits().test
        assert sample is not None
        np.testing.assert_array_equal(sample.image, test[0][0].numpy())
        assert sample.label == int(test[0][1])
        assert (sample.inputs is not None) is (kind == "one-epoch")
        if sample.inputs is not None:
            assert sample.inputs.shape == (6, 64)
            assert set(np.unique(sample.inputs)) == {0, 1}


def test_weights_are_those_of_the_checkpoints(trained: Trained) -> None:
    folder = trained("spiking-lenet")
    before, after = (
        torch.load(folder / "checkpoints" / name, weights_only=True)["weights"] for name in ("initial.pt", "last.pt")
    )
    found = collect_facts(folder).weights
    names = [name for name in after if name.endswith("weight")]
    assert len(found) == len(names) == 4
    for layer, name in zip(found, names, strict=True):
        assert layer.before is not None
        np.testing.assert_array_equal(layer.before, before[name].flatten().numpy())
        np.testing.assert_array_equal(layer.after, after[name].flatten().numpy())
    assert [layer.kind for layer in found] == [
        "1 → 12 channels, 5 × 5",
        "12 → 64 channels, 5 × 5",
        "64 → 1,024 neurons",
        "1,024 → 10 neurons",
    ]


def test_slow_networks_are_looked_at_for_a_while_only(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_FOR_ERRORS", 0.0)
    monkeypatch.setattr(module, "SECONDS_FOR_RATES", 0.0)
    facts = collect_facts(trained("spiking-mlp"))
    assert facts.errors is not None
    assert (facts.errors.samples, facts.errors.total) == (128, 360)
    assert facts.errors.confusion.sum() == 128
    assert facts.rate_samples == module.RATE_BATCH


def test_random_numbers_are_left_alone(trained: Trained) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    collect_facts(trained("spiking-mlp"))
    assert torch.equal(torch.get_rng_state(), before)
