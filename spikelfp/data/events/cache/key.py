"""The name of a cache entry: a hash of everything its content depends on, so that it is never stale."""

from __future__ import annotations

import hashlib
import json
import re

from spikelfp.data.events.pipeline import Pipeline
from spikelfp.data.events.recordings import Recordings

FORMAT = 1
"""Of the files of an entry; raised whenever they change, so that entries of other versions are never opened."""

_DIGEST = 16  # bytes
_NAME = re.compile(rf"[a-z0-9][a-z0-9_.+-]*-[0-9a-f]{{{2 * _DIGEST}}}")


def entry_name(recordings: Recordings, pipeline: Pipeline, content: str | None = None) -> str:
    """``<data set>-<key>``: the key is the BLAKE2b hash of the recordings' content, of what is done to them and of
    :data:`FORMAT`, and decides alone; the name is for people.

    content: the fingerprint of the recordings; ``None``: it is taken now.
    """
    depends_on = [
        FORMAT,
        recordings.fingerprint() if content is None else content,
        str(recordings.sensor),
        list(recordings.class_names),
        pipeline.describe(),
    ]
    key = hashlib.blake2b(json.dumps(depends_on).encode(), digest_size=_DIGEST).hexdigest()
    return f"{slug(recordings.name) or 'recordings'}-{key}"


def slug(name: str) -> str:
    """``name`` as a part of a file name."""
    return re.sub(r"[^a-z0-9_.+]+", "-", name.lower()).strip("-.+_")[:80]


def split_name(folder: str) -> tuple[str, str] | None:
    """The name for people and the key of an entry's folder; ``None`` if it is no entry of this cache."""
    return None if _NAME.fullmatch(folder) is None else (folder[: -2 * _DIGEST - 1], folder[-2 * _DIGEST :])
