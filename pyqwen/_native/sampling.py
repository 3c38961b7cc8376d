"""A sampler and what it draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyqwen import errors
from pyqwen._ffi import ffi, lib
from pyqwen._native.ownership import borrowed, keeping, new_cell, writable
from pyqwen._native.status import check, new_error


class Sample(NamedTuple):
    """A drawn token, and of the model's own distribution its log-probability and the likeliest ones."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


def sample_or_error(sample: Any, status: int, error: Any) -> Sample | Exception:
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
        out, error = new_cell("pq_sampler **", lib.pq_sampler_close), new_error()
        check(lib.pq_sampler_open(out, real_tokens, options, error), error)
        self.pointer = keeping(out[0], out)

    def accept(self, tokens: Sequence[int], *, generated: bool) -> None:
        """Tell the penalties what stands in the text already."""
        ids = np.asarray(tokens, np.int32)
        error = new_error()
        known = 1 if generated else 0
        with borrowed("int32_t[]", ids) as data:
            check(lib.pq_sampler_accept(self.pointer, data, len(ids), known, error), error)

    def sample(self, logits: npt.NDArray[np.float32]) -> Sample:
        """Draw from raw logits, which are overwritten."""
        out, error = ffi.new("pq_sample *"), new_error()
        with writable("float[]", logits) as data:
            status = lib.pq_sampler_sample(
                self.pointer, data, logits.size, self.want_logprob, self.top, out, error
            )
        result = sample_or_error(out[0], status, error)
        if isinstance(result, Exception):
            raise result
        return result
