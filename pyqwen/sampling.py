"""How tokens are chosen: the settings of one request, checked when they are made.

Owns names, ranges and merging of the settings. Knows nothing of models: what a model recommends is
``generation_defaults``, what the settings do to logits is csrc/model/sampler.c.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import index
from typing import Any, NoReturn, Self, TypedDict, Unpack

MAX_TOP_LOGPROBS = 20
MAX_BREAKER_BYTES = 1000
SAMPLERS = (
    *("penalties", "dry", "top_n_sigma", "temperature", "top_k", "top_p", "min_p"),
    *("typical_p", "xtc"),
)
"""What ``SamplingParams.samplers`` may name, in the default order."""
DRY_BREAKERS = ("\n", ":", '"', "*")
"""``SamplingParams.dry_breakers`` if there are no others: those of llama.cpp."""
_MAX_FLOAT32 = 3.4028234e38


class SamplingOptions(TypedDict, total=False):
    """The settings as keywords of a call: see ``SamplingParams``."""

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    dry_multiplier: float | None
    dry_base: float | None
    dry_allowed_length: int | None
    dry_breakers: str | Sequence[str] | None
    xtc_probability: float | None
    xtc_threshold: float | None
    top_n_sigma: float | None
    samplers: Sequence[str] | None
    logit_bias: Mapping[int, float] | None
    seed: int | None
    stop: str | Sequence[str] | None
    stop_token_ids: Sequence[int] | None
    ignore_eos: bool | None
    logprobs: bool | None
    top_logprobs: int | None


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """The settings of one request. Immutable; ``ValueError`` or ``TypeError`` for what cannot be.

    ``None`` means: the model's own default (``Model.defaults``), and where that is ``None`` too:

    - ``max_tokens``: as many as fit the context (``chat``: but at most 8,192).
    - ``temperature`` (0: greedy), ``top_k`` (0 or -1: off), ``top_p`` (1: off), ``min_p`` (0: off),
      ``typical_p`` (1: off): which tokens may be drawn: after each of these one or more, and the
      likeliest among them unless ``typical_p`` is below 1, which may leave it out.
    - ``repetition_penalty`` (1: off): Hugging Face's, over prompt and answer. ``presence_penalty``
      and ``frequency_penalty`` (0: off): OpenAI's, over the answer.
    - ``dry_multiplier`` (0: off): DRY penalizes tokens that would repeat a run of tokens of the text
      so far, by ``dry_multiplier * dry_base ** (run - dry_allowed_length)`` (``dry_base`` 1.75) for
      runs of ``dry_allowed_length`` (2) tokens and more. Runs do not reach back behind a text in
      ``dry_breakers`` (line break, colon, quotation mark, asterisk).
    - ``xtc_probability`` (0: off): XTC leaves out, with this probability, all but the least likely of
      the tokens that have a probability of ``xtc_threshold`` (0.1) or more, if there are several. It
      takes a random number of its own for each token.
    - ``top_n_sigma`` (0 or -1: off): only tokens whose logits are at most so many standard deviations
      below the largest.
    - ``samplers``: the order of all these, by name: "penalties", "dry", "top_n_sigma", "temperature",
      "top_k", "top_p", "min_p", "typical_p", "xtc", which is the default. What is not named is off,
      but for a temperature of 0, with which only penalties and DRY count. A text has them with
      semicolons between, as on llama.cpp's command line.
    - ``logit_bias``: token id to what is added to its logit; ``-inf`` forbids the token. Kept as a
      copy that cannot change.
    - ``seed``: a random one, which the result reports. 0 to 2**64 - 1.
    - ``stop``: a string or several that end the answer and are not shown in its text; the tokens
      that wrote them were generated, so ``token_ids`` and ``usage`` have them. ``stop_token_ids``:
      the same for tokens, besides the model's own end tokens, which ``ignore_eos`` turns off; these
      are in neither.
    - ``logprobs``: report the log-probability of each token, and with ``top_logprobs`` (0 to 20)
      also the likeliest tokens in its place: of the model's own distribution, before penalties.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_breakers: str | Sequence[str] | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    top_n_sigma: float | None = None
    samplers: Sequence[str] | None = None
    logit_bias: Mapping[int, float] | None = field(default=None, hash=False)
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    ignore_eos: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        self._whole("max_tokens", 0, None)
        self._whole("top_k", -1, 2**31 - 1)
        self._set("top_k", 0 if self.top_k == -1 else self.top_k)
        self._whole("seed", 0, 2**64 - 1)
        self._whole("top_logprobs", 0, MAX_TOP_LOGPROBS)
        self._real("temperature", low=0.0)
        self._real("top_p", low=0.0, high=1.0)
        self._real("min_p", low=0.0, high=1.0)
        self._real("typical_p", low=0.0, high=1.0, above=True)
        self._real("repetition_penalty", low=0.0, above=True)
        self._real("presence_penalty")
        self._real("frequency_penalty")
        self._real("dry_multiplier", low=0.0)
        self._real("dry_base", low=1.0)
        self._whole("dry_allowed_length", 1, 2**31 - 1)
        self._real("xtc_probability", low=0.0, high=1.0)
        self._real("xtc_threshold", low=0.0, high=1.0)
        self._real("top_n_sigma", low=-1.0)
        self._set("top_n_sigma", 0.0 if self.top_n_sigma == -1 else self.top_n_sigma)
        self._real("top_n_sigma", low=0.0)
        self._set("dry_breakers", _checked_breakers(self.dry_breakers))
        self._set("samplers", _checked_samplers(self.samplers))
        self._flag("ignore_eos")
        self._flag("logprobs")
        self._set("logit_bias", _checked_bias(self.logit_bias))
        self._set("stop", _checked_stop(self.stop))
        self._set("stop_token_ids", _checked_ids(self.stop_token_ids))

    def replace(self, **overrides: Unpack[SamplingOptions]) -> Self:
        """Return a copy with some settings changed; ``TypeError`` for a name that does not exist."""
        unknown = overrides.keys() - _NAMES
        if unknown:
            raise TypeError(
                f"unknown sampling setting {', '.join(sorted(unknown))}; "
                f"the settings are {', '.join(_NAMES)}"
            )
        return replace(self, **overrides) if overrides else self

    def over(self, defaults: SamplingParams) -> SamplingParams:
        """Return these settings with every ``None`` taken from ``defaults``."""
        missing = {name: getattr(defaults, name) for name in _NAMES if getattr(self, name) is None}
        return self.replace(**missing)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the way to normalize a field of a frozen dataclass

    def _whole(self, name: str, low: int, high: int | None) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
        number = index(value)
        if number < low or (high is not None and number > high):
            limits = f"from {low} to {high}" if high is not None else f"{low} or more"
            raise ValueError(f"{name} must be {limits}, not {number}")
        self._set(name, number)

    def _real(
        self, name: str, low: float = -math.inf, high: float = math.inf, *, above: bool = False
    ) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if isinstance(value, bool | str) or not hasattr(value, "__float__"):
            raise TypeError(f"{name} must be a number, not {type(value).__name__}")
        number = _float(value)
        finite = abs(number) <= _MAX_FLOAT32  # False for NaN
        if not finite or not low <= number <= high or (above and number == low):
            raise ValueError(f"{name} must be {_range_text(low, high, above)}, not {number}")
        self._set(name, number)

    def _flag(self, name: str) -> None:
        value = getattr(self, name)
        if value is not None and not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {type(value).__name__}")


def _float(value: Any) -> float:
    """``float``, but an integer too large for one is infinite: out of every range."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


_NAMES = tuple(f.name for f in fields(SamplingParams))


def _range_text(low: float, high: float, above: bool) -> str:
    if math.isinf(low):
        return "a finite number"
    if math.isinf(high):
        return f"a finite number {'above' if above else 'not below'} {low:g}"
    return f"above {low:g}, at most {high:g}" if above else f"from {low:g} to {high:g}"


class _FrozenDict(dict[int, float]):
    """A dict that cannot change. It can be pickled and copied, as ``MappingProxyType`` cannot."""

    def _refuse(self, *_arguments: object, **_keywords: object) -> NoReturn:
        raise TypeError("the settings of a request cannot change; make others with replace()")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[Self], tuple[dict[int, float]]]:
        return type(self), (dict(self),)


def _checked_bias(bias: object) -> _FrozenDict | None:
    if bias is None:
        return None
    if not isinstance(bias, Mapping):
        raise TypeError(f"logit_bias must map token ids to numbers, not be a {type(bias).__name__}")
    checked = {}
    for token, value in bias.items():
        (number,) = _checked_ids([token], "logit_bias") or (0,)
        if isinstance(value, bool | str) or not hasattr(value, "__float__"):
            kind = type(value).__name__
            raise TypeError(f"logit_bias of token {number} must be a number, not {kind}")
        amount = _float(value)
        if math.isnan(amount) or (amount != -math.inf and abs(amount) > _MAX_FLOAT32):
            raise ValueError(
                f"logit_bias of token {number} must be a finite number or -inf, not {amount}"
            )
        checked[number] = amount
    return _FrozenDict(checked)


def _checked_stop(stop: object) -> tuple[str, ...] | None:
    texts = _checked_texts("stop", stop)
    if texts and "" in texts:
        raise ValueError("stop holds an empty string, which would end every answer at once")
    return texts


def _checked_breakers(breakers: object) -> tuple[str, ...] | None:
    texts = _checked_texts("dry_breakers", breakers)
    if texts and "" in texts:
        raise ValueError("dry_breakers holds an empty string, which would break every run")
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts or ())
    if size > MAX_BREAKER_BYTES:
        raise ValueError(f"dry_breakers has {size:,} bytes; the most is {MAX_BREAKER_BYTES:,}")
    return texts


def _checked_samplers(samplers: object) -> tuple[str, ...] | None:
    if isinstance(samplers, str):
        samplers = samplers.split(";")
    names = _checked_texts("samplers", samplers)
    for i, name in enumerate(names or ()):
        if name not in SAMPLERS:
            raise ValueError(f"samplers has no {name!r:.60}; there are {', '.join(SAMPLERS)}")
        if name in (names or ())[:i]:
            raise ValueError(f"samplers has {name!r} more than once")
    return names


def _checked_texts(name: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Sequence):
        kind = type(value).__name__
        raise TypeError(f"{name} must be a string or a list of strings, not {kind}")
    for text in value:
        if not isinstance(text, str):
            raise TypeError(f"{name} must hold strings, not {type(text).__name__}")
    return tuple(value)


def _checked_ids(ids: Any, name: str = "stop_token_ids") -> tuple[int, ...] | None:
    if ids is None:
        return None
    checked = []
    for token in ids:
        if isinstance(token, bool) or not hasattr(token, "__index__"):
            raise TypeError(f"{name} must name tokens by integer ids, not {type(token).__name__}")
        if not 0 <= index(token) < 2**31:
            raise ValueError(f"{name} names token {token}; ids are not negative and below 2**31")
        checked.append(index(token))
    return tuple(checked)


NEUTRAL = SamplingParams(
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    typical_p=1.0,
    repetition_penalty=1.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
    ignore_eos=False,
    logprobs=False,
    top_logprobs=0,
)
"""Settings that leave the model's distribution as it is."""
