"""The border to the C core: the only module of the package that touches ``ffi`` and ``lib``.

It turns handles into objects that close themselves, numpy arrays into pointers, and a status into an
exception. It decides nothing.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyqwen import errors
from pyqwen._ffi import ffi, lib

_EXCEPTIONS: dict[int, type[Exception]] = {
    lib.PQ_ERR_ARGUMENT: ValueError,
    lib.PQ_ERR_NOT_FOUND: errors.ModelNotFoundError,
    lib.PQ_ERR_IO: errors.ModelFileError,
    lib.PQ_ERR_FORMAT: errors.ModelFormatError,
    lib.PQ_ERR_UNSUPPORTED: errors.UnsupportedModelError,
    lib.PQ_ERR_MEMORY: errors.OutOfMemoryError,
    lib.PQ_ERR_CONTEXT: errors.ContextOverflowError,
    lib.PQ_ERR_NUMERIC: errors.NumericError,
    lib.PQ_ERR_CANCELLED: errors.CancelledError,
    lib.PQ_ERR_CHANGED: errors.ModelChangedError,
    lib.PQ_ERR_FORKED: errors.PyQwenError,
}


def new_error() -> Any:
    """Return a ``pq_error`` for a call to fill; one per call, so that threads do not share it."""
    return ffi.new("pq_error *")


def check(status: int, error: Any) -> None:
    """Raise the exception for a status that is not ``PQ_OK``."""
    if status == lib.PQ_OK:
        return
    text = ffi.string(error.text).decode("utf-8", "replace")
    exception = _EXCEPTIONS[status]
    if issubclass(exception, errors.ModelFileError):
        field = ffi.string(error.field).decode("utf-8", "replace")
        offset = int(error.offset)
        raise exception(text, offset=offset if offset >= 0 else None, field=field or None)
    raise exception(text)


def _to_dict(struct: Any) -> dict[str, Any]:
    """Return what a pointer to a C struct of scalars and char arrays holds."""
    out: dict[str, Any] = {}
    for name, field in ffi.typeof(struct).item.fields:
        value = getattr(struct, name)
        is_text = field.type.kind == "array"
        out[name] = ffi.string(value).decode("utf-8", "replace") if is_text else value
    return out


# --------------------------------------------------------------------------------------- GGUF files

_STRUCT_CODES = {
    lib.PQ_VALUE_U8: "B",
    lib.PQ_VALUE_I8: "b",
    lib.PQ_VALUE_U16: "H",
    lib.PQ_VALUE_I16: "h",
    lib.PQ_VALUE_U32: "I",
    lib.PQ_VALUE_I32: "i",
    lib.PQ_VALUE_F32: "f",
    lib.PQ_VALUE_BOOL: "?",
    lib.PQ_VALUE_U64: "Q",
    lib.PQ_VALUE_I64: "q",
    lib.PQ_VALUE_F64: "d",
}


def _text(pointer: Any) -> str:
    return str(ffi.string(pointer).decode("utf-8", "replace"))


def _raw(key: Any) -> bytes:
    return bytes(ffi.buffer(key.data, key.bytes))


class FileInfo(NamedTuple):
    """``pq_file_info``: sizes in bytes, the rest counts."""

    version: int
    shards: int
    alignment: int
    keys: int
    tensors: int
    file_bytes: int
    tensor_bytes: int


class FileHandle:
    """An open GGUF file.

    It is closed when the last reference to its pointer is gone: `close` gives up this object's
    own, so that neither a model loaded from the file nor a call in another thread loses it.
    """

    def __init__(self, path: str | os.PathLike[str], *, copy: bool) -> None:
        raw_path = os.fsencode(path)
        if b"\0" in raw_path:
            raise ValueError("the path of a model file contains a NUL character")
        out = ffi.new("pq_file **")
        error = new_error()
        check(
            lib.pq_file_open(out, raw_path, lib.PQ_LOAD_COPY if copy else lib.PQ_LOAD_MMAP, error),
            error,
        )
        self._pointer = ffi.gc(out[0], lib.pq_file_close)

    @property
    def pointer(self) -> Any:
        """The ``pq_file *``; whoever keeps it keeps the file open."""
        if self._pointer is None:
            raise errors.ClosedError("the model file was closed")
        return self._pointer

    @property
    def closed(self) -> bool:
        return self._pointer is None

    def close(self) -> None:
        self._pointer = None

    def describe(self) -> FileInfo:
        info = ffi.new("pq_file_info *")
        lib.pq_file_describe(self.pointer, info)
        return FileInfo(*(int(getattr(info, name)) for name in FileInfo._fields))

    def key_names(self) -> list[str]:
        file = self.pointer
        return [_text(lib.pq_file_key(file, i).name) for i in range(self.describe().keys)]

    def value(self, index: int) -> Any:
        """The value of key `index`: str, int, float, bool, or a list of one of these."""
        file = self.pointer
        key = lib.pq_file_key(file, index)
        if key == ffi.NULL:
            raise IndexError(f"the file has no key {index}")
        if key.element == lib.PQ_VALUE_STRING:
            if key.type == lib.PQ_VALUE_ARRAY:
                return self._strings(file, key)
            return _raw(key).decode("utf-8", "replace")
        values = struct.unpack(f"<{key.count}{_STRUCT_CODES[key.element]}", _raw(key))
        return list(values) if key.type == lib.PQ_VALUE_ARRAY else values[0]

    def _strings(self, file: Any, key: Any) -> list[str]:
        text = bytearray(key.bytes)
        bounds = ffi.new("uint64_t[]", key.count + 1)
        error = new_error()
        check(lib.pq_file_strings(file, key, ffi.from_buffer(text), bounds, error), error)
        ends = ffi.unpack(bounds, key.count + 1)
        return [text[a:b].decode("utf-8", "replace") for a, b in pairwise(ends)]

    def tensors(self) -> list[tuple[str, str, tuple[int, ...], int, int, int]]:
        """Name, type, dimensions (fastest first), bytes, offset and shard of each tensor."""
        file = self.pointer
        table = (lib.pq_file_tensor(file, i) for i in range(self.describe().tensors))
        return [
            (
                _text(t.name),
                _text(lib.pq_type_known_name(t.type)),
                tuple(t.dims[0 : t.n_dims]),
                t.bytes,
                t.offset,
                t.shard,
            )
            for t in table
        ]

    def read(self, index: int, offset: int, n_bytes: int) -> bytearray:
        """Copy `n_bytes` bytes at `offset` inside the data of tensor `index`."""
        file = self.pointer
        tensor = lib.pq_file_tensor(file, index)
        if tensor == ffi.NULL or offset < 0 or not 0 <= n_bytes <= tensor.bytes - offset:
            raise IndexError(f"no {n_bytes} bytes at {offset} in tensor {index}")
        data = bytearray(n_bytes)
        error = new_error()
        check(lib.pq_file_read(file, tensor, offset, n_bytes, ffi.from_buffer(data), error), error)
        return data


# ---------------------------------------------------------------------------------------------- models

KV_TYPES = {"f16": lib.PQ_KV_F16, "q8_0": lib.PQ_KV_Q8_0, "f32": lib.PQ_KV_F32}

Progress = Callable[[int, int], bool | None]
"""Called with bytes done and bytes in all; returning ``False`` cancels."""


def _keep_error(kind: Any, error: BaseException, traceback: TracebackType) -> None:
    """Keep what was raised in ``_on_progress``, be it Ctrl-C on its first line."""
    ffi.from_handle(traceback.tb_frame.f_locals["arg"]).error = error


@ffi.def_extern(  # type: ignore[untyped-decorator]
    name="pq_on_progress", error=1, onerror=_keep_error
)
def _on_progress(arg: Any, done: int, total: int) -> int:
    """Stop loading when the caller's function says so or raises; that must not unwind through C."""
    return 1 if ffi.from_handle(arg).call(done, total) is False else 0


@dataclass
class _ProgressState:
    call: Progress
    error: BaseException | None = None


class ModelHandle:
    """A loaded ``pq_model``. Keeps its file alive; close sessions first."""

    def __init__(
        self,
        file: FileHandle,
        *,
        isa: str | None = None,
        threads: int = 0,
        exact: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._file = file.pointer  # the model reads from it: open until both are gone
        options, _keep, state = _model_options(isa, threads, exact, progress)
        out, error = ffi.new("pq_model **"), new_error()
        status = lib.pq_model_open(out, file.pointer, options, error)
        if state is not None and state.error is not None:
            raise state.error
        check(status, error)
        self.pointer = ffi.gc(out[0], lib.pq_model_close)
        self.config: dict[str, Any] = _to_dict(lib.pq_model_config(self.pointer))
        self.isa: str = ffi.string(lib.pq_model_isa(self.pointer)).decode()
        self.weight_bytes = int(lib.pq_model_weight_bytes(self.pointer))

    def close(self) -> None:
        """Free the weights; idempotent."""
        if self.pointer is not None:
            ffi.release(self.pointer)
            self.pointer = None


def _model_options(
    isa: str | None, threads: int, exact: bool, progress: Progress | None
) -> tuple[Any, list[Any], _ProgressState | None]:
    """Return the options struct and what must stay alive beside it."""
    options = ffi.new("pq_model_options *")
    keep: list[Any] = []
    options.threads = threads
    options.exact = 1 if exact else 0
    options.isa = ffi.NULL
    if isa is not None:
        keep.append(ffi.new("char[]", isa.encode()))
        options.isa = keep[-1]
    state = None
    if progress is not None:
        state = _ProgressState(progress)
        keep.append(ffi.new_handle(state))
        options.progress = lib.pq_on_progress
        options.progress_arg = keep[-1]
    return options, keep, state


def read_config(file: FileHandle) -> dict[str, Any]:
    """Return the hyperparameters of a file, every tensor checked against them."""
    config, error = ffi.new("pq_config *"), new_error()
    check(lib.pq_config_read(config, file.pointer, error), error)
    return _to_dict(config)


def _session_options(context: int, sequences: int, threads: int, batch: int, kv_type: str) -> Any:
    if kv_type not in KV_TYPES:
        raise ValueError(f"kv_type {kv_type!r}: choose one of {', '.join(KV_TYPES)}")
    options = ffi.new("pq_session_options *")
    options.context, options.sequences = context, sequences
    options.threads, options.batch = threads, batch
    options.kv_type = KV_TYPES[kv_type]
    return options


def plan(
    file: FileHandle,
    *,
    context: int = 0,
    sequences: int = 1,
    threads: int = 0,
    batch: int = 0,
    kv_type: str = "f16",
    isa: str | None = None,
    exact: bool = False,
) -> dict[str, int]:
    """Return the bytes a model and session would take: weights, kv_per_token, kv, compute."""
    model_options, _keep, _ = _model_options(isa, threads, exact, None)
    session_options = _session_options(context, sequences, threads, batch, kv_type)
    out, error = ffi.new("pq_memory_plan *"), new_error()
    check(lib.pq_plan(out, file.pointer, model_options, session_options, error), error)
    return _to_dict(out)


# -------------------------------------------------------------------------------------------- sessions


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
        self.model = model
        options = _session_options(context, sequences, threads, batch, kv_type)
        out, error = ffi.new("pq_session **"), new_error()
        check(lib.pq_session_open(out, model.pointer, options, error), error)
        self.pointer = ffi.gc(out[0], lib.pq_session_close)
        self.sequences = sequences
        self.context = int(lib.pq_session_context(self.pointer))
        self.threads = int(lib.pq_session_threads(self.pointer))
        self.batch = int(lib.pq_session_batch(self.pointer))
        # What the call for one token needs is kept: after each pass over the weights the processor's
        # caches are cold, and making objects costs many times of what it usually does.
        self._error = new_error()
        self._rows = ffi.new("pq_row[1]")
        self._row = self._rows[0]
        self._draws = _Draws(1)

    def close(self) -> None:
        """Free the cache and the activations; idempotent."""
        if self.pointer is not None:
            ffi.release(self.pointer)
            self.pointer = None

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
            row, data = self._row, self._rows
            row.token, row.sequence, row.output = tokens[0], sequences[0], outputs[0]
        else:
            rows = np.empty((n, 3), np.int32)  # the layout of pq_row
            rows[:, 0], rows[:, 1], rows[:, 2] = tokens, sequences, outputs
            data = ffi.from_buffer("pq_row[]", rows)
        status = lib.pq_session_eval(self.pointer, data, n, error)
        if status:
            check(status, error)

    def logits(self, first: int, count: int, out: npt.NDArray[np.float32]) -> None:
        """Write the raw logits of ``count`` outputs into ``out`` (count, vocab_rows)."""
        error = new_error()
        data = ffi.from_buffer("float[]", out, require_writable=True)
        check(lib.pq_session_logits(self.pointer, first, count, data, error), error)

    def logprobs(self, first: int, targets: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the log-probability of each target after output ``first``, ``first + 1``, ..."""
        ids = np.asarray(targets, np.int32)
        out = np.empty(len(ids), np.float32)
        error = new_error()
        check(
            lib.pq_session_logprobs(
                self.pointer,
                first,
                len(ids),
                ffi.from_buffer("int32_t[]", ids),
                ffi.from_buffer("float[]", out, require_writable=True),
                error,
            ),
            error,
        )
        return out

    def cancel(self, on: bool = True) -> None:
        """Set or clear the flag that stops an evaluation; any thread may call this."""
        if self.pointer is not None:
            lib.pq_session_cancel(self.pointer, 1 if on else 0)

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
            _sample_or_error(draws.samples[i], draws.statuses[i], draws.errors[i]) for i in range(n)
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


# -------------------------------------------------------------------------------------------- sampling


class Sample(NamedTuple):
    """A drawn token, and of the model's own distribution its log-probability and the likeliest ones."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


def _sample_or_error(sample: Any, status: int, error: Any) -> Sample | Exception:
    if status:
        try:
            check(status, error)
        except (errors.PyQwenError, ValueError) as failure:
            return failure
    top = [(sample.top_tokens[i], sample.top_logprobs[i]) for i in range(sample.n_top)]
    return Sample(sample.token, sample.logprob, top)


class SamplerHandle:
    """A ``pq_sampler``: the settings and the history of one request."""

    def __init__(
        self,
        real_tokens: int,
        *,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        typical_p: float,
        repetition_penalty: float,
        presence_penalty: float,
        frequency_penalty: float,
        seed: int,
        logit_bias: dict[int, float],
        want_logprob: bool = False,
        top: int = 0,
    ) -> None:
        self.want_logprob, self.top = want_logprob, top
        options = ffi.new("pq_sampler_options *")
        options.temperature, options.top_k, options.top_p = temperature, top_k, top_p
        options.min_p, options.typical_p = min_p, typical_p
        options.repetition_penalty = repetition_penalty
        options.presence_penalty = presence_penalty
        options.frequency_penalty = frequency_penalty
        options.seed = seed
        tokens = ffi.new("int32_t[]", list(logit_bias))
        values = ffi.new("float[]", list(logit_bias.values()))
        options.bias_tokens, options.bias_values = tokens, values
        options.n_bias = len(logit_bias)
        out, error = ffi.new("pq_sampler **"), new_error()
        check(lib.pq_sampler_open(out, real_tokens, options, error), error)
        self.pointer = ffi.gc(out[0], lib.pq_sampler_close)

    def accept(self, tokens: Sequence[int], *, generated: bool) -> None:
        """Tell the penalties what stands in the text already."""
        ids = np.asarray(tokens, np.int32)
        error = new_error()
        data = ffi.from_buffer("int32_t[]", ids)
        check(
            lib.pq_sampler_accept(self.pointer, data, len(ids), 1 if generated else 0, error), error
        )

    def sample(self, logits: npt.NDArray[np.float32]) -> Sample:
        """Draw from raw logits, which are overwritten."""
        out, error = ffi.new("pq_sample *"), new_error()
        data = ffi.from_buffer("float[]", logits, require_writable=True)
        status = lib.pq_sampler_sample(
            self.pointer, data, logits.size, self.want_logprob, self.top, out, error
        )
        result = _sample_or_error(out[0], status, error)
        if isinstance(result, Exception):
            raise result
        return result


# --------------------------------------------------------------------------------------------- machine


def machine() -> dict[str, Any]:
    """Describe the processor, the cores this process may use, and the memory."""
    out = ffi.new("pq_machine *")
    lib.pq_machine_describe(out)
    return _to_dict(out)


def default_threads() -> int:
    """Return how many threads a model uses unless told."""
    return int(lib.pq_default_threads())


def isas() -> dict[str, bool]:
    """Return the instruction sets compiled in, best first, and whether each can run here."""
    out: dict[str, bool] = {}
    while (name := lib.pq_isa_name(len(out))) != ffi.NULL:
        out[ffi.string(name).decode()] = bool(lib.pq_isa_available(name))
    return out


def measure_bandwidth(threads: int, n_bytes: int) -> float:
    """Return the rate in bytes per second at which ``threads`` threads read memory."""
    out, error = ffi.new("double *"), new_error()
    check(lib.pq_measure_bandwidth(threads, n_bytes, out, error), error)
    return float(out[0])
