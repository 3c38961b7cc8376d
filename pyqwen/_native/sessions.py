"""A session: sequences in a KV cache, evaluation, logits and samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pyqwen._ffi import ffi, lib
from pyqwen._native.models import ModelHandle, session_options
from pyqwen._native.ownership import borrowed, keeping, new_cell, writable
from pyqwen._native.sampling import Sample, SamplerHandle, sample_or_error
from pyqwen._native.status import check, new_error
from pyqwen.errors import ClosedError

# The layout of pq_divergence: one entry per position.
DIVERGENCE = np.dtype(
    [
        ("kld", np.float64),
        ("reference_logprob", np.float64),
        ("logprob", np.float64),
        ("same_top", np.uint32),
    ],
    align=True,
)

# What matrices are multiplied with, by the matrices that share it.
IMATRIX_INPUTS = {
    "qkv": lib.PQ_IMATRIX_QKV,
    "attention_output": lib.PQ_IMATRIX_ATTENTION_OUTPUT,
    "gate_up": lib.PQ_IMATRIX_GATE_UP,
    "down": lib.PQ_IMATRIX_DOWN,
    "output": lib.PQ_IMATRIX_OUTPUT,
}


class SessionHandle:
    """A ``pq_session``: one thread at a time, but for :meth:`cancel`."""

    def __init__(
        self,
        model: ModelHandle,
        *,
        context: int = 0,
        sequences: int = 1,
        threads: int = 0,
        batch: int = 0,
        kv_type: str = "f16",
    ) -> None:
        options = session_options(context, sequences, threads, batch, kv_type)
        weights = model.pointer
        out, error = new_cell("pq_session **", lib.pq_session_close, weights), new_error()
        check(lib.pq_session_open(out, weights, options, error), error)
        session = keeping(out[0], out)
        self.sequences = sequences
        self.context = int(lib.pq_session_context(session))
        self.threads = int(lib.pq_session_threads(session))
        self.batch = int(lib.pq_session_batch(session))
        self._pointer = session
        # What the call for one token needs is kept: after each pass over the weights the processor's
        # caches are cold, and making objects costs many times of what it usually does.
        self._error = new_error()
        self._rows = ffi.new("pq_row[1]")
        self._row = self._rows[0]
        self._draws = _Draws(1)

    @property
    def pointer(self) -> Any:
        """The ``pq_session *``; whoever keeps it keeps the session, and that its model."""
        if self._pointer is None:
            raise ClosedError("the session was closed")
        return self._pointer

    def close(self) -> None:
        """Free the cache and the activations; idempotent."""
        self._pointer = None

    @property
    def kv_bytes(self) -> int:
        """Bytes the cache holds now."""
        return int(lib.pq_session_kv_bytes(self.pointer))

    def length(self, sequence: int) -> int:
        """Return how many positions a sequence holds."""
        return int(lib.pq_session_length(self.pointer, sequence))

    def rewind(self, sequence: int, length: int) -> None:
        """Forget the positions of a sequence from ``length`` on."""
        error = new_error()
        check(lib.pq_session_rewind(self.pointer, sequence, length, error), error)

    def fork(self, source: int, target: int, length: int) -> None:
        """Make ``target`` begin with the first ``length`` positions of ``source``."""
        error = new_error()
        check(lib.pq_session_fork(self.pointer, source, target, length, error), error)

    def eval(self, tokens: Sequence[int], sequences: Sequence[int], outputs: Sequence[int]) -> None:
        """Append one token per row to its sequence; rows with a true output keep their hidden state.

        Raises :class:`~pyqwen.errors.CancelledError` after :meth:`cancel`; the sequences are then as before.
        """
        error, n = self._error, len(tokens)
        if n == 1:
            row = self._row
            row.token, row.sequence, row.output = tokens[0], sequences[0], outputs[0]
            status = lib.pq_session_eval(self.pointer, self._rows, 1, error)
        else:
            rows = np.empty((n, 3), np.int32)  # the layout of pq_row
            rows[:, 0], rows[:, 1], rows[:, 2] = tokens, sequences, outputs
            with borrowed("pq_row[]", rows) as data:
                status = lib.pq_session_eval(self.pointer, data, n, error)
        if status:
            check(status, error)

    def logits(self, first: int, count: int, out: npt.NDArray[np.float32]) -> None:
        """Write the raw logits of ``count`` outputs into ``out`` (count, vocab_rows)."""
        error = new_error()
        with writable("float[]", out) as data:
            check(lib.pq_session_logits(self.pointer, first, count, data, error), error)

    def logprobs(self, first: int, targets: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the log-probability of each target after output ``first``, ``first + 1``, ..."""
        ids = np.asarray(targets, np.int32)
        out = np.empty(len(ids), np.float32)
        error = new_error()
        with borrowed("int32_t[]", ids) as wanted, writable("float[]", out) as data:
            check(
                lib.pq_session_logprobs(self.pointer, first, len(ids), wanted, data, error), error
            )
        return out

    def compare(
        self, reference: SessionHandle, first: int, targets: Sequence[int]
    ) -> npt.NDArray[Any]:
        """Return how this model's distributions differ from another's, which read the same tokens.

        One entry of ``DIVERGENCE`` for output ``first``, ``first + 1``, ... and the target after it.
        """
        ids = np.asarray(targets, np.int32)
        out = np.empty(len(ids), DIVERGENCE)
        error = new_error()
        pair = reference.pointer, self.pointer
        with borrowed("int32_t[]", ids) as wanted, writable("pq_divergence[]", out) as data:
            check(lib.pq_session_compare(*pair, first, len(ids), wanted, data, error), error)
        return out

    def collect_imatrix(self, on: bool = True) -> None:
        """Begin adding up the squares of what matrices are multiplied with, or stop and forget them."""
        error = new_error()
        check(lib.pq_session_collect_imatrix(self.pointer, 1 if on else 0, error), error)

    def imatrix(self, what: str, layer: int, columns: int) -> tuple[npt.NDArray[np.float64], int]:
        """Return the sums of one of the inputs in ``IMATRIX_INPUTS``, and over how many rows they go."""
        sums, rows, error = np.empty(columns, np.float64), ffi.new("uint64_t *"), new_error()
        place = IMATRIX_INPUTS[what], layer
        with writable("double[]", sums) as data:
            check(lib.pq_session_imatrix(self.pointer, *place, data, columns, rows, error), error)
        return sums, int(rows[0])

    def cancel(self, on: bool = True) -> None:
        """Set or clear the flag that stops an evaluation; any thread may call this."""
        pointer = self._pointer  # kept while C uses it: another thread may close the session
        if pointer is not None:
            lib.pq_session_cancel(pointer, 1 if on else 0)

    def sample(
        self, outputs: Sequence[int], samplers: Sequence[SamplerHandle]
    ) -> list[Sample | Exception]:
        """Draw one token per sampler from the given outputs; what failed is its exception."""
        n = len(samplers)
        if n > self._draws.room:
            self._draws = _Draws(n)
        draws = self._draws
        for i, sampler in enumerate(samplers):
            draws.outputs[i] = outputs[i]
            draws.samplers[i] = sampler.pointer
            draws.want_logprob[i] = sampler.want_logprob
            draws.n_top[i] = sampler.top
        status = lib.pq_session_sample(
            self.pointer,
            draws.outputs,
            draws.samplers,
            draws.want_logprob,
            draws.n_top,
            n,
            draws.samples,
            draws.statuses,
            draws.errors,
            self._error,
        )
        if status:
            check(status, self._error)
        return [
            sample_or_error(draws.samples[i], draws.statuses[i], draws.errors[i]) for i in range(n)
        ]


class _Draws:
    """The arrays of ``pq_session_sample``, for up to ``room`` samplers."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.outputs = ffi.new("uint32_t[]", room)
        self.samplers = ffi.new("pq_sampler *[]", room)
        self.want_logprob = ffi.new("uint8_t[]", room)
        self.n_top = ffi.new("uint8_t[]", room)
        self.samples = ffi.new("pq_sample[]", room)
        self.statuses = ffi.new("pq_status[]", room)
        self.errors = ffi.new("pq_error[]", room)
