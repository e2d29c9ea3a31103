"""What a network does on recordings of unequal lengths, found again one recording at a time without any padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from report_events import CAMERA, LINE, Kept, kept

from spikelfp import TemporalTrainer, analysis, models, nn
from spikelfp.data.events import Sensor
from spikelfp.data.samples import representative
from spikelfp.report import facts as module
from spikelfp.training import early_readout

LENGTHS = [6, 9, 4, 9, 7, 5, 8, 3]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a slow machine, and the first call of a compiled kernel, take all samples."""
    monkeypatch.setattr(module, "SECONDS_FOR_RATES", 600.0)
    monkeypatch.setattr(module, "SECONDS_FOR_ERRORS", 600.0)


SENSORS = pytest.mark.parametrize("sensor", [CAMERA, LINE], ids=str)


def trainer_for(sensor: Sensor, spiking: bool = True, **options: object) -> TemporalTrainer:
    torch.manual_seed(3)
    if spiking:
        net: torch.nn.Module = nn.Sequential(nn.Flatten(), models.lif_mlp([sensor.size, 20, 3], beta=0.9))
    else:
        net = nn.Sequential(nn.Flatten(), nn.Linear(sensor.size, 20), nn.LIF(0.9), nn.Linear(20, 3), nn.LI(0.8))
    return TemporalTrainer(net, batch_size=3, device="cpu", **options)  # type: ignore[arg-type]


def outputs_alone(trainer: TemporalTrainer, data: Kept) -> list[torch.Tensor]:
    """Outputs ``[T, C]`` of each recording by itself."""
    trainer.net.eval()
    with torch.no_grad():
        return [trainer.net(sequence.unsqueeze(1))[:, 0] for sequence in data.sequences]


@SENSORS
@pytest.mark.parametrize("spiking", [True, False])
@pytest.mark.parametrize("sparse", [True, False])
def test_answers_at_the_end_and_after_every_step(sensor: Sensor, spiking: bool, sparse: bool) -> None:
    data, trainer = kept(sensor, LENGTHS, 3, sparse=sparse), trainer_for(sensor, spiking)
    with torch.no_grad():
        errors = module._errors(trainer, data, 3)
    confusion, right = np.zeros((3, 3), dtype=int), np.zeros(max(LENGTHS))
    for outputs, label in zip(outputs_alone(trainer, data), data.labels.tolist(), strict=True):
        confusion[label, int(outputs.sum(0).argmax())] += 1
        for step in range(max(LENGTHS)):
            right[step] += int(outputs[: step + 1].sum(0).argmax()) == label  # behind its end the last answer stays
    np.testing.assert_array_equal(errors.confusion, confusion)
    assert errors.early is not None
    np.testing.assert_allclose(errors.early, right / len(LENGTHS))
    assert errors.early[-1] == pytest.approx(confusion.trace() / len(LENGTHS))


@SENSORS
def test_misread_recordings_are_shown_without_their_padding(sensor: Sensor) -> None:
    data, trainer = kept(sensor, LENGTHS, 3, longer=2), trainer_for(sensor)
    with torch.no_grad():
        wrong = module._errors(trainer, data, 3).wrong
    assert wrong
    for image, label, predicted, _ in wrong:
        assert label != predicted
        if sensor.is_line:
            assert any(np.array_equal(image, sequence.T) for sequence in data.sequences)
        else:
            assert any(np.array_equal(image, module.busiest(sequence.numpy())) for sequence in data.sequences)


@pytest.mark.parametrize("chunk", [None, 2])
def test_with_a_late_read_out_there_is_no_answer_before(chunk: int | None) -> None:
    data, trainer = kept(LINE, LENGTHS, 3), trainer_for(LINE, readout_steps=2, chunk=chunk)
    with torch.no_grad():
        errors = module._errors(trainer, data, 3)
    assert errors.early is not None
    first = min(LENGTHS) - 2  # where the shortest recording begins to be read
    assert np.isnan(errors.early[:first]).all()
    assert not np.isnan(errors.early[first:]).any()
    found = early_readout(trainer, data)
    np.testing.assert_allclose(errors.early[first:], found.accuracy[first:])
    guesses = [int(outputs[-2:].sum(0).argmax()) for outputs in outputs_alone(trainer, data)]
    assert errors.early[-1] == pytest.approx(np.mean(np.array(guesses) == data.labels.numpy()))


def test_one_step_has_no_early_answer() -> None:
    data, trainer = kept(LINE, [1] * 4, 2), trainer_for(LINE)
    with torch.no_grad():
        assert module._errors(trainer, data, 3).early is None


@SENSORS
@pytest.mark.parametrize("sparse", [True, False])
def test_rates_leave_out_the_padding(sensor: Sensor, sparse: bool) -> None:
    data, trainer = kept(sensor, LENGTHS, 3, sparse=sparse), trainer_for(sensor)
    with torch.no_grad():
        _, spikes, is_output = module._sample(trainer, data)
        layers, seen = module._activity(trainer, data, spikes, is_output)
    assert is_output
    assert seen == len(LENGTHS)
    alone = [analysis.record(trainer.net, sequence.unsqueeze(1)) for sequence in data.sequences]
    for layer in layers:
        fired = sum(each[layer.name][:, 0].flatten(1).sum(0) for each in alone)
        np.testing.assert_allclose(layer.rates, fired / sum(LENGTHS), rtol=1e-6)
    output = layers[-1]
    assert output.own is not None
    assert output.other is not None
    means = np.array([each[output.name][:, 0].mean(0).numpy() for each in alone])
    for label in range(3):
        mine = data.labels.numpy() == label
        assert output.own[label] == pytest.approx(means[mine, label].mean())
        assert output.other[label] == pytest.approx(means[~mine, label].mean())


@SENSORS
@pytest.mark.parametrize("sparse", [True, False])
def test_first_sample_ends_with_its_last_step(sensor: Sensor, sparse: bool) -> None:
    data, trainer = kept(sensor, LENGTHS, 3, sparse=sparse, longer=4), trainer_for(sensor)
    with torch.no_grad():
        sample, spikes, _ = module._sample(trainer, data)
    assert sample.sequence is not None
    np.testing.assert_array_equal(sample.sequence, data.sequences[0].numpy())
    np.testing.assert_array_equal(sample.outputs, outputs_alone(trainer, data)[0].numpy())
    np.testing.assert_array_equal(sample.scores, sample.outputs.sum(0))
    assert {len(each) for each in spikes.values()} == {LENGTHS[0]}
    assert sample.inputs is None


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 21])
def test_busiest_quarter(steps: int) -> None:
    sequence = (np.random.default_rng(steps).random((steps, 2, 3, 4)) < 0.4).astype(np.float32)
    size = max(1, round(steps / 4))
    sums = [sequence[begin : begin + size].sum(0) for begin in range(steps - size + 1)]
    np.testing.assert_array_equal(module.busiest(sequence), max(sums, key=lambda image: image.sum()))


def test_samples_of_sorted_data_are_evenly_chosen() -> None:
    mixed, ordered = kept(LINE, [3] * 30, 3), kept(LINE, [3] * 30, 3)
    ordered.labels = ordered.labels.sort().values
    assert representative(mixed, 12).tolist() == list(range(12))
    chosen = representative(ordered, 12)
    assert len(set(chosen.tolist())) == 12
    assert (int(chosen[0]), int(chosen[-1])) == (0, 29)
    assert set(ordered.labels[chosen].tolist()) == {0, 1, 2}


def test_long_sequences_are_looked_at_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    data, trainer = kept(LINE, [40] * 6, 3), trainer_for(LINE)
    monkeypatch.setattr(module, "RATE_STEPS", 80)
    widths: list[int] = []
    record = analysis.record

    def watch(net: torch.nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
        widths.append(x.shape[1])
        return record(net, x)

    monkeypatch.setattr(analysis, "record", watch)
    with torch.no_grad():
        _, spikes, is_output = module._sample(trainer, data)
        module._activity(trainer, data, spikes, is_output)
    assert widths == [1, 2, 2, 2]
