"""Binned recordings on disk, made once: sparse, mapped into memory, named by a hash of all that they depend on."""

from spikelfp.data.events.cache.binned import binned
from spikelfp.data.events.cache.entries import Cleared, Entry, clear_caches, list_caches, recorded_cache
from spikelfp.data.events.cache.limit import limit_bytes
from spikelfp.data.events.cache.place import cache_dir
from spikelfp.data.events.cache.store import Store

__all__ = [
    "Cleared",
    "Entry",
    "Store",
    "binned",
    "cache_dir",
    "clear_caches",
    "limit_bytes",
    "list_caches",
    "recorded_cache",
]
