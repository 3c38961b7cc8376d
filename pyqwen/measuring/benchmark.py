"""Speed of a model, measured with llama-bench's tests and reported under llama-bench's names.

A test either reads a prompt of random tokens ("pp") or generates tokens one by one ("tg"), behind a
given depth of context. Only the work of the model is timed: not loading, not the state at the
depth, not tokenization or sampling; logits are computed where llama-bench computes them.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from pyqwen import _native
from pyqwen.interruptible import run_interruptibly
from pyqwen.loading.weights import Weights

_SEED = 1  # every run measures the same tokens

Row = dict[str, Any]
"""One test's result by llama-bench's names: nanoseconds, and tokens per second."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One test: a prompt of ``n_prompt`` tokens or a generation of ``n_gen``, the other being 0."""

    n_prompt: int
    n_gen: int
    n_depth: int
    n_threads: int

    @property
    def name(self) -> str:
        """As llama-bench prints it: ``pp512``, ``tg128 @ d4096``."""
        name = f"pp{self.n_prompt}" if self.n_prompt else f"tg{self.n_gen}"
        return f"{name} @ d{self.n_depth}" if self.n_depth else name

    @property
    def tokens(self) -> int:
        return self.n_prompt + self.n_gen


def plan_workloads(
    prompts: Sequence[int],
    generations: Sequence[int],
    depths: Sequence[int],
    threads: Sequence[int],
) -> list[Workload]:
    """All combinations in llama-bench's order; a length of 0 stands for no test."""
    lengths = [(n, 0) for n in prompts if n] + [(0, n) for n in generations if n]
    return [Workload(p, g, d, t) for d in depths for t in threads for p, g in lengths]


def run_workloads(
    weights: Weights,
    workloads: Sequence[Workload],
    *,
    repetitions: int = 5,
    started: Callable[[Workload], None] | None = None,
) -> Iterator[tuple[Workload, Row]]:
    """Run the tests one after another; each is warmed up once and yields one row.

    ``Workload.n_threads`` 0 is the number of threads in the settings. ``started`` is called before each
    test.
    """
    if repetitions < 1:
        raise ValueError(f"repetitions must be 1 or more, not {repetitions}")
    timers: dict[int, Timer] = {}
    context = max((workload.n_depth + workload.tokens for workload in workloads), default=0)
    try:
        for workload in workloads:
            if started is not None:
                started(workload)
            threads = workload.n_threads
            if threads not in timers:
                timers[threads] = Timer(weights, context, threads)
            yield workload, timers[threads].measure(workload, repetitions)
    finally:
        for timer in timers.values():
            timer.close()


class Timer:
    """A session whose one sequence always begins with the same random tokens.

    ``context``: the most tokens of a test, its depth included. Close it after use.
    """

    def __init__(self, weights: Weights, context: int, threads: int) -> None:
        config = weights.model.config
        self.session = weights.session(context, threads=threads)
        self._vocab: int = config["real_tokens"]
        self._logits = np.empty((1, config["vocab_rows"]), np.float32)
        self._random = random.Random(_SEED)
        self._key_type, self._value_type = _native.key_value_types(weights.settings.kv_type)

    def close(self) -> None:
        """Free the session."""
        self.session.close()

    def prepare(self, workload: Workload) -> None:
        """Compute the state at the workload's depth, unless it is there, and warm up."""
        run_interruptibly(self.session, lambda: self._go_to(workload.n_depth))
        run_interruptibly(self.session, lambda: self._warm_up(workload))

    def time(self, workload: Workload) -> int:
        """Run a prepared workload once; return nanoseconds."""
        return run_interruptibly(self.session, lambda: self._time(workload))

    def measure(self, workload: Workload, repetitions: int) -> Row:
        """Prepare a workload and run it ``repetitions`` times."""
        self.prepare(workload)
        test_time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        times = [self.time(workload) for _ in range(repetitions)]
        speeds = [workload.tokens * 1e9 / ns for ns in times]
        return {
            "n_batch": self.session.batch,
            "n_ubatch": self.session.batch,
            "n_threads": self.session.threads,
            "type_k": self._key_type,
            "type_v": self._value_type,
            "n_prompt": workload.n_prompt,
            "n_gen": workload.n_gen,
            "n_depth": workload.n_depth,
            "test_time": test_time,
            "avg_ns": round(statistics.fmean(times)),
            "stddev_ns": round(_deviation(times)),
            "avg_ts": statistics.fmean(speeds),
            "stddev_ts": _deviation(speeds),
            "samples_ns": times,
            "samples_ts": speeds,
        }

    def _go_to(self, depth: int) -> None:
        """Have ``depth`` tokens in the cache, keeping those that are there."""
        length = self.session.length(0)
        if length > depth:
            self.session.rewind(0, depth)
        elif length < depth:
            self._read(self._tokens(depth - length))

    def _warm_up(self, workload: Workload) -> None:
        """As llama-bench does: the whole prompt, or one generated token."""
        if workload.n_prompt:
            self._read(self._tokens(workload.n_prompt))
        else:
            self._generate(self._tokens(1))
        self.session.rewind(0, workload.n_depth)

    def _time(self, workload: Workload) -> int:
        """Nanoseconds of one repetition."""
        tokens = self._tokens(workload.tokens)
        start = time.perf_counter_ns()
        if workload.n_prompt:
            self._read(tokens)
        else:
            self._generate(tokens)
        elapsed = time.perf_counter_ns() - start
        self.session.rewind(0, workload.n_depth)
        return elapsed

    def _tokens(self, count: int) -> list[int]:
        return [self._random.randrange(self._vocab) for _ in range(count)]

    def _read(self, tokens: list[int]) -> None:
        batch = self.session.batch
        for begin in range(0, len(tokens), batch):
            part = tokens[begin : begin + batch]
            is_last = begin + batch >= len(tokens)
            self.session.eval(part, [0] * len(part), [0] * (len(part) - 1) + [int(is_last)])
        self.session.logits(0, 1, self._logits)

    def _generate(self, tokens: list[int]) -> None:
        for token in tokens:
            self.session.eval([token], [0], [1])
            self.session.logits(0, 1, self._logits)


def _deviation(values: Sequence[float]) -> float:
    """The sample standard deviation; 0 for a single value, as llama-bench has it."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


# -------------------------------------------------------------------------------- what was measured

# llama.cpp's names of general.file_type.
_FILE_TYPES = {
    0: "all F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K - Medium",
    11: "Q3_K - Small",
    12: "Q3_K - Medium",
    13: "Q3_K - Large",
    14: "Q4_K - Small",
    15: "Q4_K - Medium",
    16: "Q5_K - Small",
    17: "Q5_K - Medium",
    18: "Q6_K",
    25: "IQ4_NL - 4.5 bpw",
    30: "IQ4_XS - 4.25 bpw",
    32: "BF16",
}

# llama-bench's settings that are what they are here: no accelerator, no pinning, flash attention.
_SETTINGS: Row = {
    "cpu_mask": "0x0",
    "cpu_strict": False,
    "poll": 50,
    "n_gpu_layers": 0,
    "n_cpu_moe": 0,
    "split_mode": "none",
    "main_gpu": 0,
    "no_kv_offload": True,
    "flash_attn": 1,
    "devices": "none",
    "tensor_split": "0.00",
    "tensor_buft_overrides": "none",
    "load_mode": "mmap",
    "lazy_mode": "off",
    "embeddings": False,
    "no_op_offload": 1,
    "no_host": False,
    "fit_target": 0,
    "fit_min_ctx": 0,
}

KEYS = (
    *("build_commit", "build_number", "cpu_info", "gpu_info", "backends"),
    *("model_filename", "model_type", "model_size", "model_n_params"),
    *("n_batch", "n_ubatch", "n_threads", "cpu_mask", "cpu_strict", "poll", "type_k", "type_v"),
    *("n_gpu_layers", "n_cpu_moe", "split_mode", "main_gpu", "no_kv_offload", "flash_attn"),
    *("devices", "tensor_split", "tensor_buft_overrides", "load_mode", "lazy_mode", "embeddings"),
    *("no_op_offload", "no_host", "repack", "fit_target", "fit_min_ctx"),
    *("n_prompt", "n_gen", "n_depth", "test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts"),
    *("samples_ns", "samples_ts", "isa"),
)
"""The keys of a row: llama-bench's (of build 0c1e570) in its order, and ``isa``."""


def complete(common: Row, row: Row) -> Row:
    """Return a row with all of ``KEYS``: what ``describe`` says, and one test's result."""
    merged = common | row
    return {key: merged[key] for key in KEYS}


def describe(weights: Weights) -> Row:
    """The columns that say what was measured, how, and on which machine."""
    file, model = weights.file, weights.model
    parameters = sum(int(np.prod(tensor.shape)) for tensor in file.tensors)
    file_type = _FILE_TYPES.get(file.metadata.get("general.file_type", -1), "mixed types")
    size = file.metadata.get("general.size_label") or f"{parameters / 1e9:.1f}B"
    return _SETTINGS | {
        "build_commit": f"pyqwen {version('pyqwen')}",
        "build_number": 0,
        "cpu_info": _native.machine()["cpu"],
        "gpu_info": "",
        "backends": "CPU",
        "isa": model.isa,
        "repack": not weights.settings.exact,  # whether weights were packed for the kernels
        "model_filename": str(weights.path),
        "model_type": f"{model.config['architecture']} {size} {file_type}",
        "model_size": file.tensor_bytes,
        "model_n_params": parameters,
    }
