"""How much memory a model will take, known before it is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from pyqwen import _native
from pyqwen.loading import packed_cache
from pyqwen.loading.adapters.open_adapter import AdapterPaths, checked_adapters, plan_adapters
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.loading.settings import (
    AUTO_KV_TYPE,
    DEFAULT_BATCH,
    DEFAULT_MAX_SEQUENCES,
    Settings,
    checked_bytes,
    resolve_settings,
)

# Resident bytes measured on 64-bit Linux with Python 3.11 and numpy 2: the interpreter with everything that
# Model and chat templates import (at most 42 MiB), and what the vocabulary adds per token, in the file's
# directory and in the tokenizer (148 for Qwen2.5's 151,936, 153 for SmolLM2's 49,152).
INTERPRETER_BYTES = 42 * 2**20
TOKENIZER_BYTES_PER_TOKEN = 160

# The vocabulary for grammars, measured as above: 67 MiB for Qwen2.5.
GRAMMAR_BYTES_PER_TOKEN = 470

# Types of the cache that a plan recommends and "auto" takes, best first. Keys have at least 8 bits: what
# fewer do to answers is in benchmarks/results/kv-types.md.
KV_TYPES_BY_QUALITY: tuple[_native.KVType, ...] = ("f16", "q8_0", ("q8_0", "q5_1"))

LOOK_UP = "ngram"
"""The draft that is looked up, not a model's."""
LOOKED_UP_BYTES_PER_TOKEN = 140  # measured as above
MOST_LOOKED_UP = 65_536  # tokens of a request: MOST_INDEXED of pyqwen/engine/ngrams.py
DRAFT_CONTEXT = 2048
"""Tokens that a drafting model holds of each request; then it begins anew with the end of the text."""
DRAFT_BATCH = 64
"""Rows that it evaluates together."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes a model will take, by what takes them.

    ``weights`` once loaded; ``kv`` the key/value cache; ``compute`` activations and logits;
    ``interpreter`` Python with its libraries; ``tokenizer``. ``available`` is what this machine has
    free now. On disk are ``file``, and ``cache`` of packed weights after the first time.

    ``kv`` is what ``max_sequences`` requests take that run at once and are all as long as
    ``context``; the cache grows up to that as it is used, by ``kv_per_token``. Requests that come
    one after the other take a ``max_sequences``-th of it, however many a model could run: what is
    kept of earlier requests and the one that runs take no more than one context together. Where
    ``prefix_cache_bytes`` is given, that much may be kept beside ``kv``: ``prefix_cache``.

    ``kv_type_that_fits`` is the best type of the cache with which the same would fit, if it does not
    with ``kv_type``; None where none helps.

    ``draft`` is what a model that drafts adds: its weights, cache and activations. The index of what
    is looked up for drafts counts as ``compute``. ``constraints`` is what the first answer with a
    ``response_format`` adds to ``total``, for it takes that only then. ``adapters`` is what they take, all
    of them in one request.
    """

    context: int
    trained_context: int
    max_sequences: int
    kv_type: _native.KVType
    file: int
    weights: int
    kv: int
    kv_per_token: int
    compute: int
    interpreter: int
    tokenizer: int
    available: int
    cache: int
    draft: int = 0
    constraints: int = 0
    prefix_cache: int = 0
    adapters: int = 0
    kv_type_that_fits: _native.KVType | None = None

    @property
    def total(self) -> int:
        """Peak resident bytes of the process with all sequences full."""
        model = self.weights + self.kv + self.prefix_cache + self.compute
        return model + self.interpreter + self.tokenizer + self.draft + self.adapters

    @property
    def fits(self) -> bool:
        """Whether the machine has that much free memory now."""
        return self.total <= self.available

    @property
    def longest_context(self) -> int:
        """The longest context with which ``max_sequences`` full ones would fit now; 0 if none."""
        room = self.available - (self.total - self.kv)
        return min(self.trained_context, max(0, room // (self.kv_per_token * self.max_sequences)))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary for JSON."""
        names = (*self.__slots__, "total", "fits", "longest_context")
        return {name: getattr(self, name) for name in names}


def plan(
    path_or_name: str | os.PathLike[str],
    *,
    context: int | None = None,
    kv_type: _native.KVType | None = None,
    max_sequences: int = DEFAULT_MAX_SEQUENCES,
    threads: int | None = None,
    isa: str | None = None,
    exact: bool | None = None,
    batch: int = DEFAULT_BATCH,
    cache: bool = True,
    draft: str | os.PathLike[str] | None = None,
    prefix_cache_bytes: int | None = None,
    adapters: AdapterPaths | None = None,
) -> MemoryPlan:
    """Return what opening this model with these settings will take; no weights are read.

    The arguments and their defaults are those of ``pyqwen.Model``, so this is the most that
    it will take. With ``max_sequences=1`` it is what any model takes whose requests come one after
    the other. Where it does not fit, ``kv_type_that_fits`` recommends another type. Raises as
    ``Model`` does for files and arguments that cannot be.
    """
    from pyqwen import catalog

    settings = resolve_settings(
        context=context,
        kv_type=kv_type,
        max_sequences=max_sequences,
        threads=threads,
        isa=isa,
        exact=exact,
        batch=batch,
        cache=cache,
    )
    prefix_cache = checked_bytes("prefix_cache_bytes", prefix_cache_bytes) or 0
    paths = checked_adapters(adapters)
    path = catalog.resolve(os.fspath(path_or_name))
    with GGUFFile(path) as file:
        settings = with_kv_type(file, settings)
        config = _native.read_config(file.handle)
        sizes = _sizes(file, settings)
        context_tokens = settings.context or config["context"]
        indexed = 0 if draft is None else min(context_tokens, MOST_LOOKED_UP)
        looked_up = indexed * LOOKED_UP_BYTES_PER_TOKEN * settings.max_sequences
        packed = None
        if settings.cache:
            packed = packed_cache.locate(file, path, isa=settings.isa, exact=settings.exact)
        result = MemoryPlan(
            context=context_tokens,
            trained_context=config["context"],
            max_sequences=settings.max_sequences,
            kv_type=settings.kv_type,
            file=file.file_bytes,
            weights=sizes["weights"],
            kv=sizes["kv"],
            kv_per_token=sizes["kv_per_token"],
            compute=sizes["compute"] + looked_up,
            interpreter=INTERPRETER_BYTES,
            tokenizer=config["vocab"] * TOKENIZER_BYTES_PER_TOKEN,
            available=_native.machine()["available_bytes"],
            cache=packed.size if packed is not None else 0,
            constraints=config["vocab"] * GRAMMAR_BYTES_PER_TOKEN,
            adapters=plan_adapters(
                paths, file, isa=settings.isa, exact=settings.exact, batch=settings.batch
            ),
            draft=0 if draft is None or draft == LOOK_UP else _draft_bytes(draft, settings),
            prefix_cache=prefix_cache,
        )
        if result.fits:
            return result
        return replace(result, kv_type_that_fits=_smaller_that_fits(file, settings, result))


def _sizes(file: GGUFFile, settings: Settings) -> dict[str, int]:
    return _native.plan(
        file.handle,
        context=settings.context or 0,
        sequences=settings.max_sequences,
        threads=settings.threads,
        batch=settings.batch,
        kv_type=settings.kv_type,
        isa=settings.isa,
        exact=settings.exact,
    )


def _smaller_that_fits(
    file: GGUFFile, settings: Settings, result: MemoryPlan
) -> _native.KVType | None:
    now = _sizes(file, settings)
    for kv_type in KV_TYPES_BY_QUALITY:
        sizes = _sizes(file, replace(settings, kv_type=kv_type))
        saved = now["kv"] + now["compute"] - sizes["kv"] - sizes["compute"]
        if saved > 0 and result.total - saved <= result.available:
            return kv_type
    return None


def with_kv_type(file: GGUFFile, settings: Settings) -> Settings:
    """Return the settings with a type of the cache in place of ``AUTO_KV_TYPE``.

    The first of ``KV_TYPES_BY_QUALITY`` with which all sequences at full context fit what is free now,
    before weights are loaded; the last one if none does.
    """
    if settings.kv_type != AUTO_KV_TYPE:
        return settings
    vocab = _native.read_config(file.handle)["vocab"]
    rest = INTERPRETER_BYTES + vocab * TOKENIZER_BYTES_PER_TOKEN
    available = _native.machine()["available_bytes"]
    for kv_type in KV_TYPES_BY_QUALITY:
        chosen = replace(settings, kv_type=kv_type)
        sizes = _sizes(file, chosen)
        if sizes["weights"] + sizes["kv"] + sizes["compute"] + rest <= available:
            break
    return chosen


def _draft_bytes(draft: str | os.PathLike[str], settings: Settings) -> int:
    from pyqwen import catalog

    with GGUFFile(catalog.resolve(os.fspath(draft))) as file:
        sizes = _native.plan(
            file.handle,
            context=min(DRAFT_CONTEXT, _native.read_config(file.handle)["context"]),
            sequences=settings.max_sequences,
            threads=settings.threads,
            batch=max(DRAFT_BATCH, settings.max_sequences),
            kv_type=settings.kv_type,
            isa=settings.isa,
            exact=settings.exact,
        )
        return sizes["weights"] + sizes["kv"] + sizes["compute"]
