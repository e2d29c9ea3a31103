"""The folders of this machine that a run keeps in its configuration."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from spikelfp.data.folder import data_dir as data_folder
from spikelfp.data.names import PATHS
from spikelfp.training.config import RunConfig


def settled(config: RunConfig) -> RunConfig:
    """``config`` with absolute folders, so that the run finds its data and its cache from whatever folder one is in.

    Recordings named by a path from the folder one is in, such as ``folder:recordings``, keep that name, and that folder
    becomes the data folder, unless they lie in the data folder that was named. So both can be moved together, and the
    recordings found again by naming the folder they lie in then.
    """
    kind, _, text = config.data.partition(":")
    data_dir = config.data_dir
    if kind in PATHS and text and not Path(text).expanduser().is_absolute() and os.path.exists(text):
        there = data_dir is not None and os.path.exists(data_folder(data_dir) / text)
        data_dir = data_dir if there else os.getcwd()
    return replace(config, data_dir=_absolute(data_dir), cache_dir=_absolute(config.cache_dir))


def _absolute(folder: str | None) -> str | None:
    return None if folder is None else os.path.abspath(os.path.expanduser(folder))
