"""What a call asks of a model, checked: from this requests are made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pyqwen._native import Adapters
from pyqwen.engine.adapters import adapters_of
from pyqwen.engine.session_use import checked_session
from pyqwen.options import LogitsProcessor, RequestOptions
from pyqwen.sampling import SamplingParams

if TYPE_CHECKING:
    from pyqwen.constraints.response_format import ResponseFormat
    from pyqwen.engine.session import Session
    from pyqwen.tools.offer import Offer


class Extras(NamedTuple):
    """Options of a call that are no settings of sampling, checked."""

    format: ResponseFormat | None
    timeout: float | None
    prompt_logprobs: bool
    logits_processor: LogitsProcessor | None
    session: Session | Path | None
    adapters: Adapters | None


class Task(NamedTuple):
    """What is asked of the model, from which any number of requests can be made."""

    tokens: list[int]
    settings: SamplingParams
    extras: Extras
    is_chat: bool = False
    reasons: bool = False  # the model thinks before it answers
    in_reasoning: bool = False  # and the prompt has begun that
    begun: Mapping[str, Any] | None = None  # the message that the answer goes on with
    end_ids: frozenset[int] = frozenset()  # besides the model's own
    may_think: bool = False  # the prompt has not closed the reasoning
    offer: Offer | None = None
    messages: Sequence[Mapping[str, Any]] | None = None  # what a chat answers


def extras_of(options: RequestOptions) -> Extras:
    """The extras among a call's options; ``ValueError`` or ``TypeError`` for what cannot be."""
    seconds = options.get("timeout")
    if seconds is not None:
        if isinstance(seconds, bool | str) or not hasattr(seconds, "__float__"):
            raise TypeError(f"timeout must be a number of seconds, not {type(seconds).__name__}")
        try:
            seconds = float(seconds)
        except OverflowError:
            seconds = math.inf
        if not 0 < seconds < math.inf:
            raise ValueError(f"timeout must be a finite number above 0, not {seconds} seconds")
    process = options.get("logits_processor")
    if process is not None and not callable(process):
        kind = type(process).__name__
        raise TypeError(f"logits_processor must be a function of ids and logits, not {kind}")
    scores = flag_of(options, "prompt_logprobs")
    adapters = adapters_of(options.get("adapter"))
    session = checked_session(options)
    return Extras(_format(options), seconds, scores, process, session, adapters)


def _format(options: RequestOptions) -> ResponseFormat | None:
    if options.get("response_format") is None:
        return None
    from pyqwen.constraints.response_format import response_format

    return response_format(options["response_format"], strict=options.get("strict", False))


def flag_of(options: Mapping[str, Any], name: str) -> bool:
    """An option that is True, False or not given."""
    value = options.get(name)
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
    return bool(value)
