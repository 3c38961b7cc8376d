"""What ``Model(draft=...)`` names: nothing, look-ups, or a smaller model whose vocabulary is the same."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from pyqwen import _native
from pyqwen.catalog.public import stoppable
from pyqwen.engine.draft_model import DraftModel
from pyqwen.engine.speculation import Speculator
from pyqwen.errors import ClosedError, ModelFileError
from pyqwen.loading.memory_plan import DRAFT_BATCH, DRAFT_CONTEXT, LOOK_UP
from pyqwen.loading.residence import Residence
from pyqwen.loading.settings import Settings, resolve_settings
from pyqwen.loading.weights import Weights, load_weights

if TYPE_CHECKING:
    from pyqwen.catalog.public import DownloadProgress


class OpenModel(Protocol):
    """A ``Model``, as far as it is needed here."""

    path: Path
    _residence: Residence

    @property
    def closed(self) -> bool:
        """Whether it was closed."""


Draft = str | os.PathLike[str] | OpenModel | None
"""``"ngram"``, the path or name of a model, an open model, or None."""


def checked_draft(draft: Draft) -> Draft:
    """Return ``draft`` if it can be one; ``TypeError`` or ``ClosedError`` otherwise."""
    if isinstance(getattr(draft, "_residence", None), Residence):
        if cast(OpenModel, draft).closed:
            raise ClosedError("draft: the model was closed")
    elif draft is not None and not isinstance(draft, str | os.PathLike):
        kind = type(draft).__name__
        raise TypeError(
            f'draft must be "{LOOK_UP}", a model, its path or name, or None, not {kind}'
        )
    return draft


def open_drafts(
    draft: Draft, target: Weights, download_progress: DownloadProgress | None = None
) -> Speculator | None:
    """Return what drafts for ``target``; unload it with the engine. None for no drafts.

    Raises as ``Model`` does for a file; ``ModelFileError`` where the vocabularies differ.
    """
    from pyqwen import catalog

    if draft is None or draft == LOOK_UP:
        return Speculator(looks_up=True) if draft is not None else None
    if isinstance(draft, str | os.PathLike):
        path = catalog.resolve(os.fspath(draft), progress=stoppable(download_progress))
        shared = None
    else:
        path, shared = draft.path, draft._residence.weights
    settings = target.settings
    with ExitStack() as undo:
        weights = shared or undo.enter_context(_load(path, settings))
        check_vocabulary(weights, target)
        first = _open(weights, settings, undo.pop_all())
    opened = [first]

    def open_model(progress: _native.Progress | None) -> DraftModel:
        if opened:
            return opened.pop()
        again = ExitStack()
        return _open(again.enter_context(_load(path, settings, progress)), settings, again)

    return Speculator(looks_up=True, open_model=open_model)


def _open(weights: Weights, settings: Settings, owned: ExitStack) -> DraftModel:
    """A session that drafts; ``owned`` is closed with it, or if that fails."""
    with ExitStack() as undo:
        undo.callback(owned.close)
        config = weights.model.config
        session = owned.enter_context(
            closing(
                _native.SessionHandle(
                    weights.model,
                    context=min(DRAFT_CONTEXT, config["context"]),
                    sequences=settings.max_sequences,
                    threads=settings.threads,
                    batch=max(DRAFT_BATCH, settings.max_sequences),
                    kv_type=settings.kv_type,
                )
            )
        )
        sampler = _greedy(config["real_tokens"])
        model = DraftModel(session, sampler, config["vocab_rows"], owned.close)
        undo.pop_all()
    return model


def _load(path: Path, settings: Settings, progress: _native.Progress | None = None) -> Weights:
    """The weights of a draft model, loaded as those for which it drafts."""
    return load_weights(
        path,
        resolve_settings(
            threads=settings.threads,
            kv_type=settings.kv_type,
            isa=settings.isa,
            exact=settings.exact,
            load=settings.load,
            cache=settings.cache,
            max_sequences=settings.max_sequences,
        ),
        progress=progress,
    )


def check_vocabulary(draft: Weights, target: Weights) -> None:
    """Raise ``ModelFileError`` unless ids mean the same in both files, but for padding at the end."""
    count = min(draft.model.config["real_tokens"], target.model.config["real_tokens"])
    most = max(draft.model.config["real_tokens"], target.model.config["real_tokens"])
    theirs, ours = (w.file.metadata.strings("tokenizer.ggml.tokens") for w in (draft, target))
    same = theirs is not None and ours is not None and most - count <= most // 100
    if theirs is not None and ours is not None and same:
        same = theirs.beginning(count) == ours.beginning(count)
    if not same:
        raise ModelFileError(
            f"{draft.path.name} cannot draft for {target.path.name}: its vocabulary is another one; "
            "take a smaller model of the same family"
        )


def _greedy(real_tokens: int) -> _native.SamplerHandle:
    return _native.SamplerHandle(
        real_tokens,
        temperature=0.0,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        typical_p=1.0,
        repetition_penalty=1.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        seed=0,
        logit_bias={},
        want_logprob=True,
    )
