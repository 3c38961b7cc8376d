"""What quantizing cost: the divergence of a model's predictions from those of the model it came from.

Both models are open side by side and read the same chunks of a text; at each position that counts, the
core compares the two distributions and drops the logits again, so that nothing of the size
context x vocabulary is held or stored. Positions, statistics and standard errors are those of
``llama-perplexity --kl-divergence`` (tools/perplexity/perplexity.cpp of llama.cpp), which stores the
reference's log-probabilities in 16 bits; here they are exact.

llama.cpp multiplies types with blocks of 256 (Q4_K, Q6_K, ...) with activations that it rounds in such
blocks; we run them in blocks of 32, which is finer. So that a model's figures can be compared with those
that others publish, it is measured in llama.cpp's way unless ``activations`` says otherwise.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from reprlib import repr as brief
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pyqwen._native import KVType, SessionHandle, read_config
from pyqwen.interruptible import run_interruptibly
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.loading.weights import Weights, open_weights
from pyqwen.os_errors import raising_file_errors
from pyqwen.text.text_chunks import TextChunks
from pyqwen.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the predictions of a model differ from its reference's, over ``tokens`` positions.

    Divergences (``kld``) are in nats: mean, quantiles (median, 90 % ... 99.9 %) and largest.
    ``same_top_p`` is the share of positions, 0 to 1, at which both find the same token likeliest.
    ``ppl`` and ``ppl_reference`` are the perplexities, ``ppl_ratio`` is the first over the second.
    ``rms_delta_p`` is the root mean square of the change in the probability of the token that
    follows. What ends in ``_error`` is one standard error. ``chunks`` chunks of ``context`` tokens
    were read.
    """

    mean_kld: float
    mean_kld_error: float
    kld_median: float
    kld_90: float
    kld_95: float
    kld_99: float
    kld_99_9: float
    kld_max: float
    same_top_p: float
    same_top_p_error: float
    ppl: float
    ppl_error: float
    ppl_reference: float
    ppl_reference_error: float
    ppl_ratio: float
    ppl_ratio_error: float
    rms_delta_p: float
    rms_delta_p_error: float
    tokens: int
    chunks: int
    context: int


Progress = Callable[[Comparison, int], None]
"""Called after each chunk with the comparison so far and the number of chunks in all."""
Loading = Callable[[int, int], bool | None]
"""Called with bytes done and bytes in all while a model is loaded; returning ``False`` cancels."""


@raising_file_errors
def compare(
    reference: str | os.PathLike[str],
    model: str | os.PathLike[str],
    text: str,
    *,
    context: int = 512,
    chunks: int | None = None,
    threads: int | None = None,
    kv_type: KVType | None = None,
    activations: Literal["coarse", "fine"] = "coarse",
    loading: Loading | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Comparison:
    """Compare the predictions of ``model`` on a text with those of ``reference``.

    Both are files, or names in the catalog or the cache, of any tensor types; the reference usually is
    the unquantized model. The text is cut into chunks of ``context`` tokens, of which the first
    ``chunks`` are read (None: all whole ones), and the second half of each is compared. Both are in
    memory at once. ``activations`` is how K types multiply: ``"coarse"`` as llama.cpp does, so that
    the result is that of its tools; ``"fine"`` as they are run here, which loses less.

    ``ValueError`` for a text of fewer than two chunks, and for models whose vocabularies differ;
    ``CancelledError`` after ``cancel`` was set by another thread; otherwise as opening a model.
    """
    from pyqwen import catalog

    if activations not in ("coarse", "fine"):
        raise ValueError(f"activations must be 'coarse' or 'fine', not {brief(activations)}")
    paths = [catalog.resolve(os.fspath(name)) for name in (reference, model)]
    # What is wrong with the pair or the text is told before weights are loaded.
    with GGUFFile(paths[0]) as first, GGUFFile(paths[1]) as second:
        _check_vocabularies(paths, [first, second])
        tokenizer = Tokenizer.from_metadata(first.metadata, source=str(paths[0]))
    bos = tokenizer.bos_id if tokenizer.add_bos else None
    cut = TextChunks(tokenizer.encode(text), context, chunks, bos=bos)
    settings: dict[str, Any] = {
        "threads": threads,
        "kv_type": kv_type,
        "coarse": activations == "coarse",
        "progress": loading,
        "cancel": cancel,
    }
    with open_weights(paths[0], **settings) as base, open_weights(paths[1], **settings) as other:
        return _compare(base, other, cut, progress, cancel)


def _check_vocabularies(paths: list[Path], files: list[GGUFFile]) -> None:
    """Refuse models that do not mean the same by a token id; names of padding may differ."""
    advice = "only models of one vocabulary can be compared"
    counts = [read_config(file.handle)["real_tokens"] for file in files]
    if counts[0] != counts[1]:
        raise ValueError(
            f"{paths[1]} has {counts[1]:,} tokens and {paths[0]} has {counts[0]:,}; {advice}"
        )
    theirs, ours = (file.metadata["tokenizer.ggml.tokens"][: counts[0]] for file in files)
    for i, (a, b) in enumerate(zip(theirs, ours, strict=True)):
        if a != b:
            raise ValueError(
                f"token {i:,} is {b!r:.60} in {paths[1]} and {a!r:.60} in {paths[0]}; {advice}"
            )


def _compare(
    base: Weights,
    other: Weights,
    text: TextChunks,
    progress: Progress | None,
    cancel: threading.Event | None,
) -> Comparison:
    positions: list[NDArray[Any]] = []
    with (
        closing(base.session(text.context)) as reference,
        closing(other.session(text.context)) as session,
    ):
        both = _Both(reference, session)
        for chunk in range(text.count):
            work = partial(_compare_chunk, reference, session, text, chunk)
            positions += run_interruptibly(both, work, cancel=cancel)
            if progress is not None:
                progress(_summarize(positions, chunk + 1, text.context), text.count)
    return _summarize(positions, text.count, text.context)


class _Both:
    """Two sessions that one piece of work uses."""

    def __init__(self, *sessions: SessionHandle) -> None:
        self._sessions = sessions

    def cancel(self, on: bool = True) -> None:
        for session in self._sessions:
            session.cancel(on)


def _compare_chunk(
    reference: SessionHandle, session: SessionHandle, text: TextChunks, chunk: int
) -> list[NDArray[Any]]:
    parts: list[NDArray[Any]] = []
    text.read(
        chunk,
        [reference, session],
        lambda targets: parts.append(session.compare(reference, 0, targets)),
    )
    return parts


# ------------------------------------------------------------------------------------------- statistics


def _summarize(parts: list[NDArray[Any]], chunks: int, context: int) -> Comparison:
    positions = np.concatenate(parts)
    n = len(positions)
    kld = positions["kld"]
    median, kld_90, kld_95, kld_99, kld_99_9, largest = (
        float(value) for value in np.quantile(kld, (0.5, 0.9, 0.95, 0.99, 0.999, 1.0))
    )
    nll, nll_reference = -positions["logprob"], -positions["reference_logprob"]
    mean_kld, mean_kld_error = _mean(kld)
    log_ppl, log_ppl_error = _mean(nll)
    log_reference, log_reference_error = _mean(nll_reference)
    # Its mean is the logarithm of the ratio. The two are correlated, so that its error is smaller than
    # that of either.
    log_ratio, log_ratio_error = _mean(nll - nll_reference)
    change = np.exp(positions["logprob"]) - np.exp(positions["reference_logprob"])
    square, square_error = _mean(change * change)
    rms = math.sqrt(square)
    same = float(positions["same_top"].mean())
    return Comparison(
        mean_kld=mean_kld,
        mean_kld_error=mean_kld_error,
        kld_median=median,
        kld_90=kld_90,
        kld_95=kld_95,
        kld_99=kld_99,
        kld_99_9=kld_99_9,
        kld_max=largest,
        same_top_p=same,
        same_top_p_error=math.sqrt(same * (1 - same) / (n - 1)) if n > 1 else math.inf,
        ppl=math.exp(log_ppl),
        ppl_error=math.exp(log_ppl) * log_ppl_error,
        ppl_reference=math.exp(log_reference),
        ppl_reference_error=math.exp(log_reference) * log_reference_error,
        ppl_ratio=math.exp(log_ratio),
        ppl_ratio_error=math.exp(log_ratio) * log_ratio_error,
        rms_delta_p=rms,
        rms_delta_p_error=0.5 / rms * square_error if rms > 0 else 0.0,
        tokens=n,
        chunks=chunks,
        context=context,
    )


def _mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean and its standard error, which one value does not tell."""
    n = len(values)
    return float(values.mean()), float(values.std() / math.sqrt(n - 1)) if n > 1 else math.inf
