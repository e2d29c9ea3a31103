"""Data sets, their batches, and their encoding as spike sequences."""

from spikelfp.data import digits, mnist  # noqa: F401  (their loaders register themselves)
from spikelfp.data.dataset import ArrayDataset
from spikelfp.data.encoding import constant, delta, delta_series, encode, encodings, latency, rate
from spikelfp.data.folder import data_dir
from spikelfp.data.loader import EpochSampler, batches
from spikelfp.data.registry import datasets, load
from spikelfp.data.splits import DataSplits

__all__ = [
    "ArrayDataset",
    "DataSplits",
    "EpochSampler",
    "batches",
    "constant",
    "data_dir",
    "datasets",
    "delta",
    "delta_series",
    "encode",
    "encodings",
    "latency",
    "load",
    "rate",
]
