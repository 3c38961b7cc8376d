"""A session: sequences in a KV cache, evaluation, logits and samples."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pyqwen._ffi import ffi, lib
from pyqwen._native.adapters import AdapterHandle
from pyqwen._native.models import KVType, ModelHandle, session_options
from pyqwen._native.ownership import borrowed, keeping, new_cell, writable
from pyqwen._native.sampling import Run, Sampled, to_exception, to_sample
from pyqwen._native.status import check, new_error
from pyqwen.errors import ClosedError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Adapters = tuple[tuple[str, float], ...]
"""Names and scales of the adapters that a sequence is run with, in this order."""

# The layout of pq_divergence, one entry per position, for numpy, which plain answers do without.
DIVERGENCE = [
    ("kld", "float64"),
    ("reference_logprob", "float64"),
    ("logprob", "float64"),
    ("same_top", "uint32"),
]

# What matrices are multiplied with, by the matrices that share it.
IMATRIX_INPUTS = {
    "qkv": lib.PQ_IMATRIX_QKV,
    "attention_output": lib.PQ_IMATRIX_ATTENTION_OUTPUT,
    "gate_up": lib.PQ_IMATRIX_GATE_UP,
    "down": lib.PQ_IMATRIX_DOWN,
    "output": lib.PQ_IMATRIX_OUTPUT,
}


def checksum(seed: int, data: bytes | bytearray) -> int:
    """A number that another seed or other data would not have, but for one chance in 2^64."""
    with borrowed("char[]", data) as source:
        return int(lib.pq_packed_checksum(seed, source, len(data)))


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
        kv_type: KVType = "f16",
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
        self.block_positions = int(lib.pq_session_block_positions())
        self.block_bytes = int(lib.pq_session_block_bytes(session))
        self._pointer = session
        # What the call for one token needs is kept: after each pass over the weights the processor's
        # caches are cold, and making objects costs many times of what it usually does.
        self._error = new_error()
        self._rows = ffi.new("pq_row[1]")
        self._row = self._rows[0]
        self._one_run, self._runs = _Runs(1, 1), _Runs(1, 1)
        self._adapters: Mapping[str, AdapterHandle] = {}
        self._chosen: dict[int, Adapters] = {}

    @property
    def pointer(self) -> Any:
        """The ``pq_session *``; whoever keeps it keeps the session, and that its model."""
        if self._pointer is None:
            raise ClosedError("the session was closed")
        return self._pointer

    def close(self) -> None:
        """Free the cache and the activations; idempotent."""
        self._pointer, self._adapters = None, {}

    @property
    def kv_format(self) -> str:
        """What stored keys and values mean: two sessions' blocks can be exchanged if theirs are equal."""
        return str(ffi.string(lib.pq_session_kv_format(self.pointer)).decode())

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

    def keep(self, sequence: int, block: int) -> int:
        """Keep a block of a sequence, whatever becomes of that; return its number."""
        out, error = ffi.new("uint32_t *"), new_error()
        check(lib.pq_session_keep(self.pointer, sequence, block, out, error), error)
        return int(out[0])

    def drop(self, kept: int) -> None:
        """Give up a kept block."""
        lib.pq_session_drop(self.pointer, kept)

    def adopt(self, sequence: int, kept: Sequence[int], length: int) -> None:
        """Make a sequence hold ``length`` positions, those of kept blocks in their order."""
        error, numbers = new_error(), array("I", kept)
        with borrowed("uint32_t[]", numbers) as data:
            check(
                lib.pq_session_adopt(self.pointer, sequence, data, len(kept), length, error), error
            )

    def read_block(self, kept: int, positions: int, out: bytearray) -> None:
        """Copy the first ``positions`` of a kept block to ``out`` (``block_bytes``), zeros behind them."""
        error = new_error()
        with writable("char[]", out) as data:
            check(lib.pq_session_read_block(self.pointer, kept, positions, data, error), error)

    def write_block(self, data: bytes | bytearray | memoryview) -> int:
        """Keep a block of these bytes (``block_bytes``); return its number."""
        if len(data) != self.block_bytes:
            raise ValueError(f"{len(data)} bytes of a block of {self.block_bytes}")
        out, error = ffi.new("uint32_t *"), new_error()
        with borrowed("char[]", data) as source:
            check(lib.pq_session_write_block(self.pointer, source, out, error), error)
        return int(out[0])

    def identity(self) -> tuple[int, int, int]:
        """What the bytes of a block depend on besides tokens: the model's file (two numbers), and how it
        is computed and laid out."""
        out, error = ffi.new("uint64_t[3]"), new_error()
        check(lib.pq_session_identity(self.pointer, out, error), error)
        return int(out[0]), int(out[1]), int(out[2])

    def give_adapters(self, adapters: Mapping[str, AdapterHandle]) -> None:
        """Name the adapters that sequences may be run with; they are kept as long as the session."""
        pointer = self.pointer
        self._pointer = keeping(pointer, pointer, *(a.pointer for a in adapters.values()))
        self._adapters = adapters

    def use_adapters(self, sequence: int, adapters: Adapters | None) -> None:
        """Run a sequence with ``adapters`` from now on; what it holds stays as it was computed."""
        chosen = adapters or ()
        if chosen == self._chosen.get(sequence, ()):
            return
        handles = ffi.new(
            "pq_adapter *[]", [self._adapters[name].pointer for name, _ in chosen] or 1
        )
        scales = ffi.new("float[]", [scale for _, scale in chosen] or 1)
        given, error = ffi.cast("pq_adapter **", handles), new_error()
        check(
            lib.pq_session_set_adapters(self.pointer, sequence, given, scales, len(chosen), error),
            error,
        )
        self._chosen[sequence] = chosen

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
            rows = array("i", bytes(12 * n))  # the layout of pq_row
            rows[0::3], rows[1::3] = array("i", tokens), array("i", sequences)
            rows[2::3] = array("i", outputs)
            with borrowed("pq_row[]", rows) as data:
                status = lib.pq_session_eval(self.pointer, data, n, error)
        if status:
            check(status, error)

    def logits(self, first: int, count: int, out: npt.NDArray[np.float32]) -> None:
        """Write the raw logits of ``count`` outputs into ``out`` (count, vocab_rows)."""
        error = new_error()
        with writable("float[]", out) as data:
            check(lib.pq_session_logits(self.pointer, first, count, data, error), error)

    def hidden(self, first: int, count: int, out: npt.NDArray[np.float32]) -> None:
        """Write the final hidden states of ``count`` outputs into ``out`` (count, hidden)."""
        error = new_error()
        with writable("float[]", out) as data:
            check(lib.pq_session_hidden(self.pointer, first, count, data, error), error)

    def add_hidden(self, first: int, count: int, total: npt.NDArray[np.float64]) -> None:
        """Add the final hidden states of ``count`` outputs to ``total`` (hidden), one after the other."""
        error = new_error()
        with writable("double[]", total) as data:
            check(lib.pq_session_add_hidden(self.pointer, first, count, data, error), error)

    def logprobs(self, first: int, targets: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the log-probability of each target after output ``first``, ``first + 1``, ..."""
        import numpy as np

        ids = array("i", targets)
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
        import numpy as np

        ids = array("i", targets)
        out = np.empty(len(ids), np.dtype(DIVERGENCE, align=True))
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
        import numpy as np

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

    def sample(self, runs: Sequence[Run]) -> list[Sampled]:
        """Draw the tokens of each run in order, ending with the first that is not its draw's ``next``."""
        one, n = self._one_run, len(runs)
        if n == 1 and one.fill_plain(runs[0]):
            self._sample(one, 1)
            return [one.result(0)]
        room = self._runs
        n_draws = sum([len(run.draws) for run in runs])
        if n > len(room.runs) or n_draws > len(room.draws):
            room = self._runs = _Runs(n, n_draws)
        with ExitStack() as lent:
            room.fill(runs, lent)
            self._sample(room, n)
        return [room.result(i) for i in range(n)]

    def _sample(self, room: _Runs, n: int) -> None:
        status = lib.pq_session_sample(self.pointer, room.first_run, n, self._error)
        if status:
            check(status, self._error)


class _Runs:
    """Memory for ``pq_session_sample``: up to ``n`` runs that have up to ``n_draws`` draws together.

    It is kept, and references to all its structs, as making them takes longer than filling them.
    """

    def __init__(self, n: int, n_draws: int) -> None:
        self.first_run = ffi.new("pq_run[]", n)
        self._first_draw = ffi.new("pq_draw[]", n_draws)
        self._first_sample = ffi.new("pq_sample[]", n_draws)
        self.runs = [self.first_run[i] for i in range(n)]
        self.draws = [self._first_draw[i] for i in range(n_draws)]
        self.runs[0].n, self.runs[0].draws = 1, self._first_draw
        self.runs[0].samples = self._first_sample

    def fill_plain(self, run: Run) -> bool:
        """Fill in a run of one token that is just drawn; False for another, which changes nothing.

        For memory that is used for nothing else, where only what can differ is written.
        """
        sampler, draws, first = run
        output, _, forced, mask = draws[0]
        if len(draws) > 1 or forced or mask is not None:
            return False
        struct = self.runs[0]
        struct.sampler = sampler.pointer
        struct.want_logprob, struct.n_top = sampler.want_logprob, sampler.top
        self.draws[0].output = first + output
        return True

    def fill(self, runs: Sequence[Run], lent: ExitStack) -> None:
        """Fill in any runs, lending their masks to C until ``lent`` is closed."""
        at = 0
        for struct, (sampler, draws, first) in zip(self.runs, runs, strict=False):
            struct.sampler, struct.n = sampler.pointer, len(draws)
            struct.want_logprob, struct.n_top = sampler.want_logprob, sampler.top
            struct.draws, struct.samples = self._first_draw + at, self._first_sample + at
            for output, following, forced, mask in draws:
                draw = self.draws[at]
                draw.output, draw.next, draw.forced = first + output, following, forced
                draw.mask = lent.enter_context(sampler.lend(mask))
                at += 1

    def result(self, i: int) -> Sampled:
        """Return what became of run ``i``."""
        run = self.runs[i]
        samples = [to_sample(run.samples[j]) for j in range(run.sampled)]
        return Sampled(samples, to_exception(run.status, run.error) if run.status else None)
