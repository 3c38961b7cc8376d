"""How an answer went, in words: what was read and written, how fast, and why it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyqwen.cli.console import counted

if TYPE_CHECKING:
    from pyqwen.results import Completion

CUT_OFF = "cut off: -n or the context (-c) was reached"


def describe_speed(done: Completion) -> str:
    """One line: what was read and written, how fast, and why it ended."""
    usage, timings = done.usage, done.timings
    cached = f", {usage.cached_tokens} of them cached" if usage.cached_tokens else ""
    speed = f"{timings.prompt_tokens_per_second:.1f} tokens/s"
    parts = [f"prompt {counted(usage.prompt_tokens, 'token')}{cached} ({speed})"]
    if timings.first_token_seconds is not None:
        parts.append(f"first token after {timings.first_token_seconds:.2f} s")
    answer = counted(usage.completion_tokens, "token")
    parts.append(f"answer {answer} ({timings.decode_tokens_per_second:.1f} tokens/s)")
    if timings.drafted:
        parts.append(f"{timings.accepted} of {timings.drafted} drafted tokens right")
    if done.finish_reason == "length":
        parts.append(CUT_OFF)
    elif done.finish_reason == "cancelled":
        parts.append("stopped")
    return ", ".join(parts)
