"""Data sets, their batches, and their encoding as spike sequences."""

from spikelfp.data import cifar, digits, mnist, tabular, toy  # noqa: F401  (their loaders register themselves)
from spikelfp.data.arrays import SequenceArrays, arrays
from spikelfp.data.dataset import ArrayDataset, Augmented, DataSplits, Standardization, datasets
from spikelfp.data.download import data_dir
from spikelfp.data.encoding import constant, delta, delta_series, encode, encodings, latency, rate
from spikelfp.data.events.dataset import load_events  # registers the data sets of events, too
from spikelfp.data.load import load
from spikelfp.data.loader import EpochDataset, EpochSampler, Sequences, batches, collate
from spikelfp.data.samples import Samples, TargetScale
from spikelfp.registry import public_names

__all__ = [
    "ArrayDataset",
    "Augmented",
    "DataSplits",
    "EpochDataset",
    "EpochSampler",
    "Samples",
    "SequenceArrays",
    "Sequences",
    "Standardization",
    "TargetScale",
    "arrays",
    "batches",
    "collate",
    "constant",
    "data_dir",
    "datasets",
    "delta",
    "delta_series",
    "encode",
    "encodings",
    "latency",
    "load",
    "load_events",
    "rate",
]

public_names(globals())
