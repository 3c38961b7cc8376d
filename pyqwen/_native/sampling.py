"""A sampler and what it draws."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

from pyqwen import errors
from pyqwen._ffi import ffi, lib
from pyqwen._native.ownership import borrowed, keeping, new_cell, writable
from pyqwen._native.status import check, new_error

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Mask: TypeAlias = "npt.NDArray[np.uint32]"
"""One bit per token, in words of 32 as llguidance writes them; 0 for a token that must not be drawn."""


@runtime_checkable
class ComingMask(Protocol):
    """A mask that is still computed, while the model runs."""

    def get(self) -> Mask:
        """Wait for it."""


FILTERS = (
    *("penalties", "dry", "top_n_sigma", "temperature", "top_k", "top_p", "min_p"),
    *("typical_p", "xtc"),
)
"""What ``samplers`` names, in the default order: ``pq_filter``."""


class Sample(NamedTuple):
    """A drawn token, and of the model's own distribution its log-probability and the likeliest ones."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


class Draw(NamedTuple):
    """How one token of a run is found: a ``pq_draw``.

    It is drawn from ``output``, by ``mask`` if there is one; what is drawn after it is sampled only if
    it is ``next``. A ``forced`` one is ``next``, and of the output its log-probability.
    """

    output: int
    next: int = -1
    forced: bool = False
    mask: Mask | ComingMask | None = None


class Run(NamedTuple):
    """Tokens of one sequence to be sampled one after the other: a ``pq_run``.

    The outputs of its draws are counted from ``first`` on.
    """

    sampler: SamplerHandle
    draws: Sequence[Draw]
    first: int = 0

    def with_masks(self) -> Run:
        """Return the run with all its masks there; raises what became of one that failed."""
        for draw in self.draws:
            if draw.mask is not None:
                return self._replace(draws=[_with_mask(draw) for draw in self.draws])
        return self


def _with_mask(draw: Draw) -> Draw:
    if isinstance(draw.mask, ComingMask):
        return draw._replace(mask=draw.mask.get())
    return draw


class Sampled(NamedTuple):
    """What became of a run: its samples, and why there are no more if a draw failed."""

    samples: list[Sample]
    failure: Exception | None


def to_sample(sample: Any) -> Sample:
    n = sample.n_top
    top = [(sample.top_tokens[i], sample.top_logprobs[i]) for i in range(n)] if n else []
    return Sample(sample.token, sample.logprob, top)


def to_exception(status: int, error: Any) -> Exception:
    try:
        check(status, error)
    except (errors.PyQwenError, ValueError) as failure:
        return failure
    raise AssertionError("no failure")


class BreakersHandle:
    """A ``pq_breakers``: immutable, for any number of samplers and threads."""

    def __init__(
        self, text: bytes, lengths: npt.NDArray[np.uint32], breakers: Sequence[bytes]
    ) -> None:
        """``text`` has the bytes of all tokens, ``lengths`` how many each has; ``breakers`` is what to
        find in them."""
        import numpy as np

        out, error = new_cell("pq_breakers **", lib.pq_breakers_close), new_error()
        ends = [np.cumsum(lengths, dtype=np.uint64), np.cumsum([len(b) for b in breakers])]
        structs = ffi.new("pq_strings[2]")
        with ExitStack() as lent:
            for struct, data, last in zip(structs, (text, b"".join(breakers)), ends, strict=True):
                bounds = np.concatenate([[0], last]).astype(np.uint64)
                struct.text = lent.enter_context(borrowed("char[]", data))
                struct.bounds = lent.enter_context(borrowed("uint64_t[]", bounds))
                struct.count = len(bounds) - 1
            check(lib.pq_breakers_open(out, structs, structs + 1, error), error)
        self.pointer = keeping(out[0], out)


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
        dry_multiplier: float = 0.0,
        dry_base: float = 1.75,
        dry_allowed_length: int = 2,
        breakers: BreakersHandle | None = None,
        xtc_probability: float = 0.0,
        xtc_threshold: float = 0.1,
        top_n_sigma: float = 0.0,
        samplers: Sequence[str] | None = None,
        want_logprob: bool = False,
        top: int = 0,
        unpenalized: Mask | None = None,
    ) -> None:
        """The settings are those of ``SamplingParams``; ``samplers`` None is the default order.
        ``unpenalized`` has a bit for each token that no penalty is for."""
        self.want_logprob, self.top = want_logprob, top
        self.real_tokens = real_tokens
        self._mask_words = (real_tokens + 31) // 32
        options = ffi.new("pq_sampler_options *")
        options.temperature, options.top_k, options.top_p = temperature, top_k, top_p
        options.min_p, options.typical_p = min_p, typical_p
        options.repetition_penalty = repetition_penalty
        options.presence_penalty = presence_penalty
        options.frequency_penalty = frequency_penalty
        options.dry_multiplier, options.dry_base = dry_multiplier, dry_base
        options.dry_allowed_length = dry_allowed_length
        options.xtc_probability, options.xtc_threshold = xtc_probability, xtc_threshold
        options.top_n_sigma = top_n_sigma
        if breakers is not None:
            options.dry_breakers = breakers.pointer
        order = ffi.new("uint8_t[]", [FILTERS.index(name) for name in samplers or ()])
        if samplers is not None:
            options.order, options.n_order = order, len(order)
        options.seed = seed
        tokens = ffi.new("int32_t[]", list(logit_bias))
        values = ffi.new("float[]", list(logit_bias.values()))
        options.bias_tokens, options.bias_values = tokens, values
        options.n_bias = len(logit_bias)
        spared = None
        if unpenalized is not None:
            if len(unpenalized) < self._mask_words:
                raise ValueError(f"unpenalized has {len(unpenalized)} of {self._mask_words} words")
            spared = ffi.new("uint32_t[]", len(unpenalized))
            ffi.memmove(spared, unpenalized, 4 * len(unpenalized))
            options.unpenalized = spared
        out, error = (
            new_cell("pq_sampler **", lib.pq_sampler_close, breakers and breakers.pointer),
            new_error(),
        )
        check(lib.pq_sampler_open(out, real_tokens, options, error), error)
        self.pointer = keeping(out[0], out, spared)

    def accept(self, tokens: Sequence[int], *, generated: bool) -> None:
        """Tell the penalties what stands in the text already."""
        ids = array("i", tokens)
        error = new_error()
        known = 1 if generated else 0
        with borrowed("int32_t[]", ids) as data:
            check(lib.pq_sampler_accept(self.pointer, data, len(ids), known, error), error)

    def sample(self, logits: npt.NDArray[np.float32], mask: Mask | None = None) -> Sample:
        """Draw from raw logits, which are overwritten."""
        out, error = ffi.new("pq_sample *"), new_error()
        with writable("float[]", logits) as data, self.lend(mask) as bits:
            status = lib.pq_sampler_sample(
                self.pointer, data, logits.size, bits, self.want_logprob, self.top, out, error
            )
        check(status, error)
        return to_sample(out)

    def mark(self, on: bool = True) -> None:
        """Remember this state for :meth:`rewind`, or forget it."""
        lib.pq_sampler_mark(self.pointer, on)

    def rewind(self, accepted: int = 0) -> None:
        """Take back all tokens accepted after the mark but the first ``accepted``."""
        error = new_error()
        check(lib.pq_sampler_rewind(self.pointer, accepted, error), error)

    def lend(self, mask: Mask | ComingMask | None) -> AbstractContextManager[Any]:
        """Lend a mask to C: ``with sampler.lend(mask) as words``."""
        if mask is None:
            return nullcontext(ffi.NULL)
        if isinstance(mask, ComingMask):
            mask = mask.get()
        if mask.dtype.name != "uint32" or mask.ndim != 1 or len(mask) < self._mask_words:
            raise ValueError(
                f"a mask is a row of {self._mask_words} or more uint32 words, not {mask.dtype} "
                f"{mask.shape}"
            )
        return cast("AbstractContextManager[Any]", borrowed("uint32_t[]", mask))
