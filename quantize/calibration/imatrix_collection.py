"""Importance matrices from our own runtime: a model reads a text, and the core adds up what it sees.

As llama-imatrix does it, each chunk is read from an empty cache, and a matrix's importances are the mean
squares of what it is multiplied with. Beyond that the output matrix is covered too; in a tied model
that is the embedding.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyqwen._native import SessionHandle
from pyqwen.errors import NumericError
from pyqwen.interruptible import run_interruptibly
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.loading.weights import Weights, open_weights
from pyqwen.os_errors import raising_file_errors
from pyqwen.output_file import OutputFile
from pyqwen.quantize.calibration.imatrix_file import ImportanceMatrix, write_entries
from pyqwen.quantize.source.gguf_source import shard_paths
from pyqwen.quantize.tensor_names import tensor_names
from pyqwen.text.text_chunks import TextChunks
from pyqwen.text.tokenizer import Tokenizer

Progress = Callable[[int, int], None]
"""Called after each chunk with the number of chunks read, and of those in all."""
Loading = Callable[[int, int], bool | None]
"""Called with bytes done and bytes in all while a model is loaded; returning ``False`` cancels."""


@raising_file_errors
def imatrix(
    model: str | os.PathLike[str],
    text: str,
    out: str | os.PathLike[str],
    *,
    context: int = 512,
    chunks: int | None = None,
    dataset: str = "",
    threads: int | None = None,
    loading: Loading | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> ImportanceMatrix:
    """Let ``model`` read ``text`` and write its importance matrix to ``out``, as llama-imatrix does.

    The text is cut into chunks of ``context`` tokens, of which the first ``chunks`` are read (None:
    all whole ones). ``model`` is a file, or a name in the catalog or the cache; the unquantized model
    gives the best matrix. ``dataset`` is written down as the name of the text.

    ``ValueError`` for a text of less than one chunk and an ``out`` that is the model; ``NumericError``
    where activations are not finite; ``CancelledError`` after ``cancel`` was set by another thread;
    otherwise as opening a model. An existing ``out`` is replaced at the end, in one step.
    """
    from pyqwen import catalog

    path = catalog.resolve(os.fspath(model))
    with GGUFFile(path) as file:
        inputs = shard_paths(path, file.shards)
        tokenizer = Tokenizer.from_metadata(file.metadata, source=str(path))
    with OutputFile(Path(out), inputs=inputs, n_bytes=0) as output:
        # What is wrong with the text is told before weights are loaded.
        bos = tokenizer.bos_id if tokenizer.add_bos else None
        cut = TextChunks(tokenizer.encode(text), context, chunks, bos=bos, at_least=1)
        with open_weights(path, threads=threads, progress=loading, cancel=cancel) as weights:
            matrix = collect_importances(weights, cut, dataset, progress=progress, cancel=cancel)
        write_entries(output, matrix)
        output.commit()
    return matrix


def collect_importances(
    weights: Weights,
    text: TextChunks,
    dataset: str = "",
    *,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> ImportanceMatrix:
    """Return the importance matrix of a loaded model over a text; see ``imatrix``."""
    with closing(weights.session(text.context)) as session:
        session.collect_imatrix()
        for chunk in range(text.count):
            run_interruptibly(session, partial(_read, session, text.inputs(chunk)), cancel=cancel)
            if progress is not None:
                progress(chunk + 1, text.count)
        values, counts = _entries(weights, session)
    datasets = (dataset,) if dataset else ()
    return ImportanceMatrix(values, counts, text.count, text.context, datasets)


def _read(session: SessionHandle, tokens: list[int]) -> None:
    session.rewind(0, 0)
    for begin in range(0, len(tokens), session.batch):
        part = tokens[begin : begin + session.batch]
        # With an output for each row the output matrix's inputs are those of all tokens; no logits are
        # made.
        session.eval(part, [0] * len(part), [1] * len(part))


def _entries(
    weights: Weights, session: SessionHandle
) -> tuple[dict[str, NDArray[np.float32]], dict[str, int]]:
    values: dict[str, NDArray[np.float32]] = {}
    counts: dict[str, int] = {}
    columns = {tensor.name: tensor.shape[0] for tensor in weights.file.tensors}

    def add(what: str, layer: int, names: list[str]) -> None:
        sums, rows = session.imatrix(what, layer, columns[names[0]])
        with np.errstate(over="ignore"):
            means = (sums / rows).astype(np.float32)
        if not np.isfinite(means).all():
            raise NumericError(
                f"{weights.path}: the activations that meet '{names[0]}' are not finite; its weights "
                "are damaged, or the model overflows"
            )
        for name in names:
            values[name], counts[name] = means, rows

    names = tensor_names(weights.model.config["architecture"])
    for layer in range(weights.model.config["layers"]):
        for what in dict.fromkeys(names.inputs.values()):
            readers = [role for role, read in names.inputs.items() if read == what]
            add(what, layer, [names.name(role, layer) for role in readers])
    add("output", 0, [names.output(columns)])
    return values, counts
