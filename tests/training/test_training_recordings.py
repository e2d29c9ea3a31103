"""Evaluation and summary of recordings of events: without augmentation, over all that is asked for."""

import numpy as np
import pytest
import torch

from spikelfp import analysis, models
from spikelfp.data import DataSplits
from spikelfp.data.events import EVENT, Binning, Pipeline, Sensor
from spikelfp.data.events.augmentation import parse_augmentations
from spikelfp.data.events.cache import binned
from spikelfp.data.events.dataset import EventDataset
from spikelfp.data.events.sources.base import from_arrays
from spikelfp.data.samples import unaugmented
from spikelfp.training import TemporalTrainer, early_readout
from spikelfp.training.run_folder import spike_rates

SAMPLES, CHANNELS = 40, 8


@pytest.fixture(scope="module")
def noisy():
    """Recordings of 3 to 20 steps, of which noise makes something else in every epoch."""
    random, arrays = np.random.default_rng(0), []
    for _ in range(SAMPLES):
        events = np.zeros(60, EVENT)
        events["t"] = np.sort(random.integers(0, random.integers(30, 200), 60))
        events["x"] = random.integers(0, CHANNELS, 60)
        arrays.append(events)
    recordings = from_arrays(arrays, np.arange(SAMPLES) % 2, Sensor(CHANNELS))
    store = binned(recordings, Pipeline(Binning(window=10)), in_memory=True)
    return EventDataset(store, 2, augmentations=parse_augmentations("noise=0.5"))


def trainer(**options):
    torch.manual_seed(0)
    return TemporalTrainer(
        models.lif_mlp([CHANNELS, 12, 2], threshold=0.3), device="cpu", **{"batch_size": 16, **options}
    )


def test_evaluation_leaves_out_augmentations(noisy):
    own = trainer()
    plain = own.evaluate(noisy.plain())
    assert own.evaluate(noisy) == plain
    assert early_readout(own, noisy) == early_readout(own, noisy.plain())
    x, _ = noisy.at_epoch(0, 0).__getitems__(range(SAMPLES))
    assert own.net(x.values).mean() > 1.1 * plain.mean_output  # noise would have shown
    pairs = [(torch.zeros(2), 0)]
    assert unaugmented(pairs) is pairs


@pytest.mark.parametrize("batch_size", [7, 128])
def test_rates_of_a_summary_are_those_of_all_its_samples(noisy, batch_size):
    part = noisy.plain()
    own = trainer(batch_size=batch_size)
    x, _ = part.__getitems__(range(SAMPLES))
    expected = {
        name: torch.cat([spikes[: int(length), b] for b, length in enumerate(x.lengths)]).mean().item()
        for name, spikes in analysis.record(own.net, x.values).items()
    }
    splits = DataSplits("noisy", part, part, 2, part.shape, ("0", "1"))
    assert spike_rates(own, splits, 0) == pytest.approx(expected, rel=1e-5)
    assert min(expected.values()) > 0
