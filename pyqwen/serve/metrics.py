"""Counters of a server, in Prometheus' text format and under the names that llama.cpp's dashboards know."""

from __future__ import annotations

import time
from collections.abc import Iterable

from pyqwen.results import Completion


class Metrics:
    """Counts what was read and written since the start."""

    def __init__(self) -> None:
        self.started = time.time()
        self.processing = 0
        self.requests = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.prompt_seconds = 0.0
        self.written_tokens = 0
        self.written_seconds = 0.0
        self.cancelled = 0
        self.longest = 0
        self.drafted = 0
        self.accepted = 0

    def note(self, completions: Iterable[Completion]) -> None:
        """Count answers that have ended."""
        for done in completions:
            self.requests += 1
            self.prompt_tokens += done.usage.prompt_tokens - done.usage.cached_tokens
            self.cached_tokens += done.usage.cached_tokens
            self.prompt_seconds += done.timings.prompt_seconds
            self.written_tokens += done.usage.completion_tokens
            self.written_seconds += done.timings.decode_seconds
            self.cancelled += done.finish_reason == "cancelled"
            self.longest = max(self.longest, done.usage.total_tokens)
            self.drafted += done.timings.drafted
            self.accepted += done.timings.accepted

    def text(self, *, waiting: int) -> str:
        """All of it for Prometheus."""
        rows = (
            ("prompt_tokens_total", "counter", "Prompt tokens computed.", self.prompt_tokens),
            (
                "prompt_tokens_cached_total",
                "counter",
                "Prompt tokens taken from the cache.",
                self.cached_tokens,
            ),
            ("prompt_seconds_total", "counter", "Time spent on prompts.", self.prompt_seconds),
            ("tokens_predicted_total", "counter", "Tokens written.", self.written_tokens),
            (
                "tokens_predicted_seconds_total",
                "counter",
                "Time spent writing.",
                self.written_seconds,
            ),
            (
                "n_tokens_max",
                "counter",
                "Tokens of the longest prompt with its answer.",
                self.longest,
            ),
            (
                "spec_decode_num_draft_tokens_total",
                "counter",
                "Tokens that drafts guessed and that were checked.",
                self.drafted,
            ),
            (
                "spec_decode_num_accepted_tokens_total",
                "counter",
                "Tokens of drafts that were right.",
                self.accepted,
            ),
            ("requests_total", "counter", "Answers that have ended.", self.requests),
            ("requests_cancelled_total", "counter", "Answers cut off.", self.cancelled),
            (
                "prompt_tokens_seconds",
                "gauge",
                "Average speed of reading prompts, tokens per second.",
                _rate(self.prompt_tokens, self.prompt_seconds),
            ),
            (
                "predicted_tokens_seconds",
                "gauge",
                "Average speed of writing, tokens per second.",
                _rate(self.written_tokens, self.written_seconds),
            ),
            ("requests_processing", "gauge", "Requests in progress.", self.processing),
            ("requests_deferred", "gauge", "Requests that wait for a place.", waiting),
        )
        lines = []
        for name, kind, text, value in rows:
            full = f"llamacpp:{name}"
            lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}", f"{full} {value:g}"]
        return "\n".join(lines) + "\n"


def _rate(tokens: int, seconds: float) -> float:
    return tokens / seconds if seconds > 0 else 0.0
