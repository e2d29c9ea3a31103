"""Binned recordings on disk, made once: sparse, mapped into memory, named by a hash of all that they depend on."""

from spikelfp.data.events.cache.builder import binned
from spikelfp.data.events.cache.store import (
    CacheEntry,
    Cleared,
    Store,
    cache_folder,
    clear_caches,
    limit_bytes,
    list_caches,
    recorded_cache,
)

__all__ = [
    "CacheEntry",
    "Cleared",
    "Store",
    "binned",
    "cache_folder",
    "clear_caches",
    "limit_bytes",
    "list_caches",
    "recorded_cache",
]
