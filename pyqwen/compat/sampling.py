"""llama-cpp-python's sampling arguments as ``pyqwen.SamplingOptions``: the same filters in the same order."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from operator import index
from typing import TYPE_CHECKING, Any

from pyqwen.compat.llama_cpp import LLAMA_DEFAULT_SEED
from pyqwen.compat.notices import warn_once

if TYPE_CHECKING:
    from pyqwen.sampling import SamplingOptions

# llama-cpp-python draws after all filters with the temperature; pyqwen's own order begins with it.
_ORDER = ("penalties", "top_k", "typical_p", "top_p", "min_p", "temperature")


def sampling_options(
    *,
    temperature: float = 0.2,
    top_p: float = 0.95,
    min_p: float = 0.05,
    typical_p: float = 1.0,
    top_k: int = 40,
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    repeat_penalty: float = 1.0,
    tfs_z: float = 1.0,
    mirostat_mode: int = 0,
    mirostat_tau: float = 5.0,
    mirostat_eta: float = 0.1,
    stop: Any = None,
    logit_bias: Any = None,
) -> SamplingOptions:
    """The options of one call. What is out of range is refused by ``SamplingParams``.

    A temperature below 0 draws from the whole distribution, as there.
    """
    if tfs_z != 1.0:
        warn_once("tfs_z", "tail-free sampling is not done, by llama.cpp no more either")
    if mirostat_mode:
        warn_once("mirostat_mode", "there is no Mirostat here; top_k, top_p and min_p count")
    options: SamplingOptions = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical_p,
        "frequency_penalty": frequency_penalty,
        "presence_penalty": presence_penalty,
        "repetition_penalty": repeat_penalty,
        "samplers": _ORDER,
        "stop": stop or None,
    }
    if isinstance(top_k, int) and top_k < 0:
        options["top_k"] = 0
    if isinstance(temperature, int | float) and temperature < 0:
        options["temperature"] = 1.0
        options["samplers"] = ("penalties", "temperature")
    if logit_bias:
        options["logit_bias"] = _biases(logit_bias)
    return options


def _biases(given: Any) -> dict[int, float]:
    """The biases by token; JSON has ids as text."""
    if not isinstance(given, Mapping):
        raise TypeError(f"logit_bias must map token ids to numbers, not be {type(given).__name__}")
    return {int(token) if isinstance(token, str) else token: bias for token, bias in given.items()}


class Seeds:
    """The seed of a ``Llama``: every call that is given none takes the next of a chain."""

    def __init__(self, seed: int | None) -> None:
        self.seed = LLAMA_DEFAULT_SEED if not seed else checked_seed(seed)

    def take(self, seed: int | None) -> int | None:
        """The seed of a call; None is a random one."""
        if seed is not None:
            self.seed = checked_seed(seed)
        elif not is_random(self.seed):
            self.seed = random.Random(self.seed).getrandbits(31)
        return self.current()

    def current(self) -> int | None:
        """The seed itself; None is a random one."""
        return None if is_random(self.seed) else self.seed

    def at(self, place: int) -> int:
        """A seed for the token at a place of the context."""
        base = self.current()
        if base is None:
            return secrets.randbits(63)
        return random.Random(base * 2**32 + place).getrandbits(63)


def checked_seed(seed: Any) -> int:
    """Return a seed as llama.cpp takes it, where -1 is 2**32 - 1, a random one."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"seed must be an integer, not {type(seed).__name__}")
    number = index(seed)
    if not -(2**31) <= number < 2**64:
        raise ValueError("seed must be from 0 to 2**64 - 1, or -1 for a random one")
    return number % 2**32 if number < 0 else number


def is_random(seed: int) -> bool:
    """Whether a seed stands for a random one."""
    return seed == LLAMA_DEFAULT_SEED
